import errno
import os

import pytest

from stages.lib.errors import UserError, run
from stages.lib.files import sha256, whole, write_json


def ending(main) -> str:
    with pytest.raises(SystemExit) as exit_:
        run(main)
    assert isinstance(exit_.value.code, str)  # printed to stderr, exit code 1
    return exit_.value.code


def failing(error: BaseException):
    def main() -> None:
        raise error

    return main


def test_a_users_mistake_is_a_line_each_without_traceback():
    assert (
        ending(failing(UserError("params.yaml: a\nparams.yaml: b"))) == "error: params.yaml: a\nerror: params.yaml: b"
    )


def test_a_failed_write_names_the_file():
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "models/x")
    assert ending(failing(error)).startswith("error: models/x: No space left on device; ")


def test_an_interruption_is_a_line():
    assert "goes on from the last finished epoch" in ending(failing(KeyboardInterrupt()))


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(failing(ZeroDivisionError()))


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with whole(path) as partial:
        partial.write_text("first")
        assert not path.exists()
    with pytest.raises(KeyError), whole(path) as partial:  # noqa: PT012, it is the block that fails
        partial.write_text("sec")
        raise KeyError
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_an_error_without_a_file_gets_its_name(tmp_path):
    with pytest.raises(OSError, match="No space") as error, whole(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "file")


def test_json_without_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_sha256_of_nothing(tmp_path):
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
