import errno
import hashlib
import importlib
import os

import pytest

from reprocnn.core.errors import UserError
from reprocnn.core.files import atomic_write, read_json, sha256, write_json, write_text
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


def test_an_interruption_is_a_line(capsys):
    with pytest.raises(SystemExit) as ended:
        run(failing(KeyboardInterrupt()))
    assert ended.value.code == 130
    assert capsys.readouterr().err == (
        "interrupted; run the same command again: training resumes after its last epoch\n"
    )


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
    with pytest.raises(FileNotFoundError), atomic_write(path):
        pass  # nothing was written
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_of_two_writers_at_once_none_publishes_what_the_other_has_written_so_far(tmp_path, monkeypatch):
    """As when dvc was killed, and not the stage that it had started."""
    path = tmp_path / "file.txt"
    with pytest.raises(FileNotFoundError), atomic_write(path) as first:  # noqa: PT012, it ends with an error
        first.write_text("fir")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        with atomic_write(path) as second:
            second.write_text("second")
            assert not first.exists()
    assert path.read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".partial-1-file.txt").write_text("fir")
    (tmp_path / ".partial-1-other.txt").write_text("oth")
    with atomic_write(tmp_path / "file.txt") as partial:
        partial.write_text("second")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".partial-1-other.txt", "file.txt"]


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    synced: list[int] = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(os, "replace", lambda *given: replace(*given) if synced else None)
    write_json(tmp_path / "a.json", 1)
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_an_error_without_a_file_gets_its_name(tmp_path):
    with pytest.raises(OSError, match="No space") as error, atomic_write(tmp_path / "file"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "file")


def test_what_is_in_the_way_of_a_file_is_named(tmp_path):
    path = tmp_path / "file"
    path.mkdir()
    with pytest.raises(IsADirectoryError) as error:
        write_text(path, "text")
    assert error.value.filename == str(path)


def test_json_is_indented_and_in_utf_8(tmp_path):
    write_json(tmp_path / "metrics.json", {"name": "ünï", "rows": [1, 0.1]})
    expected = '{\n  "name": "ünï",\n  "rows": [\n    1,\n    0.1\n  ]\n}\n'
    assert (tmp_path / "metrics.json").read_bytes() == expected.encode()
    assert read_json(tmp_path / "metrics.json") == {"name": "ünï", "rows": [1, 0.1]}


def test_json_without_nan(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "metrics.json", {"accuracy": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_a_line():
    assert "lacks numpi; run `. .venv/bin/activate`" in ending(importing("numpi"))


@pytest.mark.parametrize("name", ["reprocnn.nowhere", "stages.nowhere"])
def test_a_missing_module_of_the_project_keeps_its_traceback(name):
    with pytest.raises(ModuleNotFoundError):
        run(importing(name))


@pytest.mark.parametrize(
    ("content", "message"), [(None, "missing; run"), (b"{", "invalid JSON"), (b"[" * 9999, "invalid JSON")]
)
def test_json_that_cannot_be_read(tmp_path, content, message):
    path = tmp_path / "metrics.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_json(path)


def test_a_folders_digest_is_of_its_names_and_bytes_but_not_of_bytecode(tmp_path, monkeypatch):
    files = {"b/c.py": b"2", "a.py": b"1", "b/__pycache__/c.pyc": b"3"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    one, two = (hashlib.sha256(digit).hexdigest() for digit in (b"1", b"2"))
    listed = f'[["a.py", "{one}"], ["b/c.py", "{two}"]]'
    found = list(tmp_path.rglob("*"))
    for order in (found, found[::-1]):  # file systems list in any order
        monkeypatch.setattr(type(tmp_path), "rglob", lambda path, pattern, order=order: iter(order))
        assert sha256(tmp_path) == hashlib.sha256(listed.encode()).hexdigest()


def test_sha256_is_of_every_byte(tmp_path):
    content = bytearray(3 << 20)
    for last in (0, 1):
        content[-1] = last
        (tmp_path / "weights").write_bytes(content)
        assert sha256(tmp_path / "weights") == hashlib.sha256(content).hexdigest()


def test_sha256_of_nothing(tmp_path):
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_hidden_files_and_links_count_in_a_folders_digest(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to(tmp_path / "target")
    digests = []
    for path in (tmp_path / "folder/.hidden", tmp_path / "target"):
        for content in ("1", "2"):
            path.write_text(content)
            digests.append(sha256(tmp_path / "folder"))
    assert len(set(digests)) == 4
