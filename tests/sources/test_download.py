import io
from pathlib import Path

import pytest

from reprocnn.core.errors import UserError
from stages import download
from tests.support import mirror
from tests.support.mirror import raw

ROOT = Path(__file__).parent.parent.parent


pytestmark = pytest.mark.usefixtures("small_files")


def test_from_a_folder(tmp_path, monkeypatch):
    folder = mirror.fill(tmp_path / "a mirror")
    monkeypatch.setenv("DATASETS_MIRROR", folder.as_uri())  # a space as %20
    download.main()
    assert raw() == {**mirror.CONTENT, **mirror.MEMBERS}
    assert [path.name for path in Path("data").iterdir()] == ["raw"]


def test_from_a_folder_whose_name_looks_like_an_address(tmp_path, monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", str(mirror.fill(tmp_path / "a%20b#c?d")))
    download.main()
    assert raw() == {**mirror.CONTENT, **mirror.MEMBERS}


def test_over_http_and_then_nothing_again(tmp_path, monkeypatch):
    with mirror.serve(mirror.fill(tmp_path / "mirror")) as (address, asked):
        monkeypatch.setenv("DATASETS_MIRROR", address)
        download.main()
        assert raw() == {**mirror.CONTENT, **mirror.MEMBERS}
        assert sorted(asked) == ["/archive.tar.gz", "/images.gz", "/labels.gz"]
        asked.clear()
        download.main()
        assert asked == []


def test_only_what_is_missing_or_wrong_is_fetched(tmp_path, monkeypatch):
    mirror.fill(tmp_path / "mirror/data")
    with mirror.serve(tmp_path / "mirror") as (address, asked):
        monkeypatch.setenv("DATASETS_MIRROR", f"{address}/data/")
        download.main()
        asked.clear()
        Path("data/raw/labels.gz").write_bytes(b"label bytez")
        download.main()
        assert asked == ["/data/labels.gz"]
        assert raw()["labels.gz"] == mirror.CONTENT["labels.gz"]


def test_what_a_killed_download_left_is_not_taken(good, monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    Path("data/raw/images.gz").unlink()
    Path("data/.incoming").mkdir()
    Path("data/.incoming/labels.gz").write_bytes(b"half")
    download.main()
    assert raw() == {**mirror.CONTENT, **mirror.MEMBERS}


def test_what_does_not_belong_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", str(mirror.fill(tmp_path / "mirror")))
    Path("data/raw/old/older").mkdir(parents=True)
    Path("data/raw/old/older/file").write_text("left behind")
    Path("data/raw/images.gz.part").write_text("half")
    Path("data/raw/batch").mkdir()  # as the folder `batches` begins
    download.main()
    assert raw() == {**mirror.CONTENT, **mirror.MEMBERS}
    assert not Path("data/raw/old").exists()
    assert not Path("data/raw/batch").exists()


def test_invalid_params_leave_everything_as_it_was(good, monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    Path("data").mkdir()
    Path("data/raw").symlink_to(good)
    Path("params.yaml").write_text("source: other")
    with pytest.raises(UserError, match=r"params\.yaml"):
        download.main()
    assert Path("data/raw").is_symlink()


def test_one_flipped_byte_is_refused_and_the_next_source_asked(tmp_path, monkeypatch, capsys):
    flipped = bytearray(mirror.MEMBERS["batches/two"])
    flipped[100] ^= 1
    bad = mirror.fill(tmp_path / "bad", members={**mirror.MEMBERS, "batches/two": bytes(flipped)})
    monkeypatch.setenv("DATASETS_MIRROR", str(bad))
    with pytest.raises(
        UserError, match=r"batches/two: not the published file: expected 18,000 bytes, sha256 \w+.*found"
    ):
        download.main()
    assert set(raw()) == set(mirror.CONTENT)
    good = mirror.fill(tmp_path / "good")
    monkeypatch.setenv("DATASETS_MIRROR", f"{bad} {good}")
    download.main()
    assert raw() == {**mirror.CONTENT, **mirror.MEMBERS}


@pytest.mark.parametrize(
    ("change", "message"),
    [(b"", "found 0 bytes"), (b"label bytes and more", "found 20 bytes"), (b"long" * 9, "found at least 36 bytes$")],
)
def test_a_file_of_another_length_is_refused(tmp_path, monkeypatch, change, message):
    bad = mirror.fill(tmp_path / "bad", content={**mirror.CONTENT, "labels.gz": change})
    monkeypatch.setenv("DATASETS_MIRROR", str(bad))
    with pytest.raises(UserError, match=message):
        download.main()
    assert list(raw()) == ["images.gz"]  # what was checked before it stays


def test_without_a_source_it_says_what_it_asked(monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", "/nowhere http://127.0.0.1:9")
    monkeypatch.setattr("reprocnn.sources.fetch.TRIES", 1)
    with pytest.raises(UserError) as error:
        download.main()
    assert "DATASETS_MIRROR" in str(error.value)
    assert "/nowhere/images.gz: No such file" in str(error.value)
    assert "http://127.0.0.1:9/images.gz: ConnectionRefusedError" in str(error.value)
    assert not Path("data/raw").exists()


def test_on_a_terminal_there_is_a_progress_bar(good, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    for name, total in (("images.gz", 5500), ("labels.gz", 11), ("archive.tar.gz", 500)):
        assert f"{name}:   0%" in terminal.getvalue()
        assert f"0/{total} " in terminal.getvalue()
