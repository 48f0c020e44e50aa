import errno
import importlib
import os

import pytest

from reprocnn.core.errors import UserError
from reprocnn.core.files import atomic_write, read_json, sha256, write_json
from reprocnn.core.startup import run


def ending(main) -> str:
    with pytest.raises(SystemExit) as exit_:
        run(main)
    assert isinstance(exit_.value.code, str)  # printed to stderr, exit code 1
    return exit_.value.code


def importing(module: str):
    def main() -> None:
        importlib.import_module(module)

    return main


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
    assert "resumes after the last finished epoch" in ending(failing(KeyboardInterrupt()))


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(failing(ZeroDivisionError()))


def test_a_file_is_complete_or_as_it_was(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with atomic_write(path) as partial:
        partial.write_text("first")
        assert not path.exists()
    with pytest.raises(KeyError), atomic_write(path) as partial:  # noqa: PT012, it is the block that fails
        partial.write_text("sec")
        raise KeyError
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_an_error_without_a_file_gets_its_name(tmp_path):
    with pytest.raises(OSError, match="No space") as error, atomic_write(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "file")


def test_json_without_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_a_line():
    assert "lacks numpi; run `. .venv/bin/activate`" in ending(importing("numpi"))


def test_a_missing_module_of_the_project_keeps_its_traceback():
    with pytest.raises(ModuleNotFoundError):
        run(importing("reprocnn.nowhere"))


@pytest.mark.parametrize(
    ("content", "message"), [(None, "missing; run"), (b"{", "invalid JSON"), (b"[" * 9999, "invalid JSON")]
)
def test_json_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_json(path)


def test_a_folders_digest_is_of_its_names_and_bytes_but_not_of_bytecode(tmp_path):
    def digest(files: dict[str, bytes]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return sha256(folder)

    base = digest({"a.py": b"1", "b/c.py": b"2"})
    assert digest({"b/c.py": b"2", "a.py": b"1", "b/__pycache__/c.pyc": b"3"}) == base
    assert (
        len(
            {
                base,
                digest({"a.py": b"1"}),
                digest({"a.py": b"1", "b/d.py": b"2"}),
                digest({"a.py": b"2", "b/c.py": b"1"}),
            }
        )
        == 4
    )


def test_sha256_of_nothing(tmp_path):
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
