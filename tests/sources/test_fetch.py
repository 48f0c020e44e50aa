"""The waits, limits and orders of a download, with the network and the clock replaced."""

import gzip
import hashlib
import io
import socket
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reprocnn.core.errors import UserError
from reprocnn.datasets import Archive, File
from reprocnn.sources import fetch, raw_files, web
from stages import download
from tests.support import faultserver, mirror
from tests.support.mirror import raw

NOTHING = File("a/images.gz", 3, "0" * 64)


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(("status", "tries"), [(500, 3), (599, 3), (429, 3), (499, 1), (404, 1), (204, 1), (301, 1)])
def test_what_may_pass_is_tried_three_times_after_longer_waits(monkeypatch, tmp_path, good, status, tries):
    waits: list[float] = []
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 2)
    monkeypatch.setattr(fetch.time, "sleep", waits.append)
    with faultserver.serve(good, lambda handler, body: handler.send_error(status)) as (address, asked):
        with pytest.raises(UserError) as error:
            fetch.fetch_file(NOTHING, [address], tmp_path)
        assert asked == ["/images.gz"] * tries
        assert waits == [2, 4][: tries - 1]
        assert ("after 3 tries" in str(error.value)) is (tries == 3)
        assert str(fetch.why_unavailable("images.gz", address)).startswith(f"{address}/images.gz: ")
        assert len(asked) == tries + 1


def test_the_waits_are_those_that_are_promised():
    assert (web.CONNECT_SECONDS, web.READ_SECONDS, web.ANSWER_SECONDS) == (10, 30, 60)
    assert (web.STALL_SECONDS, web.STALL_BYTES, fetch.TRIES, fetch.PAUSE_SECONDS) == (30, 300_000, 3, 2)


def test_content_may_stall_for_thirty_seconds_after_each_300_000_bytes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(web.time, "monotonic", lambda: now[0])
    clock = web._Clock("http://a/b")
    now[0] = 159.9
    clock.seconds_left()  # sixty for the answer
    clock.allow_stall()
    now[0] = 189.8
    clock.count(300_000)
    now[0] = 219.7
    clock.count(299_999)
    assert clock.seconds_left() == pytest.approx(0.1)
    now[0] = 219.8
    with pytest.raises(web.SourceError, match="http://a/b: fewer than 300,000 bytes in 30 s"):
        clock.seconds_left()


def test_a_download_lasts_as_long_as_its_content_keeps_coming(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(web.time, "monotonic", lambda: now[0])
    clock = web._Clock("http://a/b")
    now[0] = 150.0

    def arrive(size: int) -> bytes:
        clock.seconds_left()  # as the socket's reader does
        now[0] += waits.pop() if waits else 0
        return bytes(size)

    waits: list[float] = []
    response: Any = SimpleNamespace(read1=arrive, length=1)
    content = web.Content(response, clock)
    assert clock.seconds_left() == 30
    for _ in range(9):
        waits.append(20)
        assert len(content.read(150_000)) == len(content.read(150_000)) == 150_000
        assert clock.seconds_left() == 30
        now[0] += 100  # of the disk
    waits.append(20)
    content.read(1)
    assert clock.seconds_left() == 10


def test_all_addresses_of_a_host_share_the_time_of_one_answer(monkeypatch):
    now, asked = [100.0], []
    monkeypatch.setattr(web.time, "monotonic", lambda: now[0])
    places = [(0, 0, 0, "", (f"10.0.0.{number}", 80)) for number in range(20)]
    monkeypatch.setattr(web.socket, "getaddrinfo", lambda host, port, type: places)

    def hang(place: tuple[str, int], timeout: float, source: Any) -> None:
        asked.append((place[0], timeout))
        now[0] += timeout
        raise TimeoutError("timed out")

    monkeypatch.setattr(web.socket, "create_connection", hang)
    message = fetch.why_unavailable("images.gz", "http://many.example")
    assert message == "http://many.example/images.gz: no answer in 60 s"
    assert asked == [(f"10.0.0.{number}", 10) for number in range(6)]


def test_the_first_address_that_answers_is_taken(monkeypatch, good):
    with faultserver.serve(good, faultserver.good) as (address, _):
        port = int(address.rpartition(":")[2])
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        places = {host: (*kind, (host, port)) for host in ("127.0.0.2", "127.0.0.1")}  # the first refuses

        def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
            return [places[host]] if host in places else list(places.values())

        monkeypatch.setattr(web.socket, "getaddrinfo", look_up)
        assert fetch.why_unavailable("images.gz", f"http://two.example:{port}") is None


def test_a_bound_is_the_last_byte_that_is_let_through():
    stream = fetch._Bounded(io.BytesIO(bytes(9)), 5, "x")
    assert len(stream.read(3)) + len(stream.read(2)) == 5
    with pytest.raises(fetch.SourceError, match="x: over 5 bytes"):
        stream.read(1)


def test_an_archive_that_is_packed_to_too_much_is_refused(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(b"", mtime=0) * 100)  # 2,000 bytes that hold none
    with pytest.raises(UserError, match=r"a\.tar\.gz: over 1,999 bytes"):
        fetch.fetch_members(Archive("a.tar.gz", 1, 1999), (NOTHING,), [str(tmp_path)], tmp_path)
    with pytest.raises(UserError, match="invalid or incomplete"):
        fetch.fetch_members(Archive("a.tar.gz", 1, 2000), (NOTHING,), [str(tmp_path)], tmp_path)


def archive(folder: Path, name: str = "a.tar.gz", member: str = "wanted") -> tuple[Archive, File]:
    """Write an archive of `wanted` and, after it, a megabyte that nobody wants; describe both."""
    with tarfile.open(folder / name, "w:gz") as tar:
        for entry, content in ((member, b"abc"), ("unwanted", np.random.default_rng(0).bytes(1_000_000))):
            info = tarfile.TarInfo(entry)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return Archive(name, 1, 2_000_000), File("wanted", 3, hashlib.sha256(b"abc").hexdigest())


def test_names_in_an_archive_may_begin_with_the_folder(tmp_path):
    """As `tar czf a.tar.gz -C FOLDER .` writes them."""
    described, wanted = archive(tmp_path, member="./wanted")
    fetch.fetch_members(described, (wanted,), [str(tmp_path)], tmp_path / "here")
    assert (tmp_path / "here/wanted").read_bytes() == b"abc"


def test_what_follows_the_wanted_files_of_an_archive_is_not_read(tmp_path):
    described, wanted = archive(tmp_path)
    path = tmp_path / described.name
    path.write_bytes(path.read_bytes()[:600_000])
    fetch.fetch_members(described, (wanted,), [str(tmp_path)], tmp_path / "here")
    assert (tmp_path / "here/wanted").read_bytes() == b"abc"


def test_a_failure_of_the_disk_is_not_that_of_the_archive(tmp_path, capsys):
    described, wanted = archive(tmp_path)
    (tmp_path / "here/wanted").mkdir(parents=True)
    with pytest.raises(IsADirectoryError):
        fetch.fetch_members(described, (wanted,), [str(tmp_path)] * 2, tmp_path / "here")
    assert "next: " not in capsys.readouterr().out


@pytest.mark.usefixtures("small_files")
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_a_mirror_that_cannot_be_read_gives_way_to_the_next(good, tmp_path, monkeypatch, capsys):
    worn = tmp_path / "worn"
    worn.mkdir()
    for path in good.iterdir():
        (worn / path.name).symlink_to("/proc/self/mem")
    monkeypatch.setenv("DATASETS_MIRROR", f"{worn} {good}")
    download.main()
    assert raw() == mirror.EVERYTHING
    said = capsys.readouterr().out
    for name in ("images.gz", "archive.tar.gz"):
        assert f"download: {worn}/{name}: Input/output error; next: {good}\n" in said


def test_a_scheme_may_have_capitals(good, tmp_path):
    content = (good / "images.gz").read_bytes()
    file = File("images.gz", len(content), hashlib.sha256(content).hexdigest())
    with faultserver.serve(good, faultserver.good) as (address, _):
        for n, source in enumerate((f"FILE://{good}", address.replace("http", "HTTP"))):
            fetch.fetch_file(file, [source], tmp_path / str(n))
            assert (tmp_path / str(n) / "images.gz").read_bytes() == content


def test_named_mirrors_come_before_public_addresses(monkeypatch, tmp_path):
    monkeypatch.setenv("DATASETS_MIRROR", " one  two ")
    assert fetch.mirrors(("three",)) == ["one", "two", "three"]
    monkeypatch.delenv("DATASETS_MIRROR")
    assert fetch.mirrors(("three",)) == ["three"]
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images.gz").touch()
    assert fetch.why_unavailable("images.gz", "~") is None


def test_each_sources_failure_is_reported(tmp_path, capsys):
    sources = [str(tmp_path / name) for name in "abcd"]
    with pytest.raises(UserError) as error:
        fetch.fetch_file(NOTHING, sources, tmp_path)
    reported = [f"{source}/images.gz: No such file or directory" for source in sources]
    lines = str(error.value).splitlines()
    assert lines[0].startswith("images.gz: not found; set DATASETS_MIRROR to a folder or URL")
    assert lines[1:] == reported
    expected = [f"download: {line}; next: {source}" for line, source in zip(reported, sources[1:], strict=False)]
    assert capsys.readouterr().out.splitlines() == expected


def test_an_address_of_another_kind_is_no_folder(tmp_path):
    with pytest.raises(
        UserError, match=r"s3://images/images\.gz: s3:// is not supported, expected a folder, http:// or"
    ):
        fetch.fetch_file(NOTHING, ["s3://images"], tmp_path)


@pytest.mark.usefixtures("small_files")
def test_the_download_counts_its_files(good, monkeypatch, capsys):
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/images.gz").write_bytes(mirror.CONTENT["images.gz"])
    assert raw_files.missing() == ["labels.gz", "batches/one", "batches/two"]
    download.main()
    download.main()
    assert capsys.readouterr().out.splitlines() == [
        "download: 1 of 4 files were in place, 3 fetched",
        "download: 4 of 4 files were in place, 0 fetched",
    ]
    assert raw_files.missing() == []


@pytest.mark.usefixtures("small_files")
def test_a_run_can_start_where_every_missing_data_set_has_a_source(good, monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", f"/nowhere {good}")
    assert raw_files.unreachable_sources() == []
    (good / "archive.tar.gz").rename(good / "elsewhere")
    assert raw_files.unreachable_sources() == ["/nowhere", str(good)]
    (good / "elsewhere").rename(good / "archive.tar.gz")
    (good / "images.gz").unlink()
    assert raw_files.unreachable_sources() == ["/nowhere", str(good)]
    Path("data/raw").mkdir(parents=True)
    for name, content in mirror.CONTENT.items():
        (Path("data/raw") / name).write_bytes(content)
    assert raw_files.unreachable_sources() == []  # the other data set has one


@pytest.mark.usefixtures("small_files")
def test_links_are_removed_and_what_they_point_to_stays(good, monkeypatch, tmp_path):
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/folder").symlink_to(outside)
    Path("data/raw/dangling").symlink_to(tmp_path / "nowhere")
    download.main()
    assert {path.name for path in Path("data/raw").iterdir()} == {"images.gz", "labels.gz", "batches"}
    assert [path.name for path in outside.iterdir()] == ["kept"]


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("place", ["data/raw", "data/raw/batches"])
@pytest.mark.parametrize("source", ["public", "sample"])
def test_a_link_becomes_a_folder_and_its_target_stays(good, monkeypatch, tmp_path, place, source):
    """Even if the target has all files."""
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    outside = tmp_path / "outside"
    Path(place).rename(outside)
    (outside / "other").touch()
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    Path(place).symlink_to(outside)
    written = stand_in(monkeypatch) if source == "sample" else mirror.EVERYTHING
    download.main()
    assert not Path(place).is_symlink()
    assert raw() == written
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("small_files")
def test_what_is_in_the_way_of_a_published_file_is_replaced(good, monkeypatch, tmp_path):
    """As anything else that does not belong there, but only by a file that was fetched and checked."""
    Path("data/raw/labels.gz/more").mkdir(parents=True)
    Path("data/raw/labels.gz/more/file").touch()
    Path("data/raw/images.gz").symlink_to(tmp_path)
    Path("data/raw/batches").touch()
    monkeypatch.setenv("DATASETS_MIRROR", "/nowhere")
    with pytest.raises(UserError, match="not found"):
        download.main()
    assert Path("data/raw/labels.gz/more/file").exists()
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    assert raw() == mirror.EVERYTHING
    assert tmp_path.is_dir()


@pytest.mark.usefixtures("small_files")
def test_a_download_that_lacks_a_file_at_its_end_fails(good, monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    monkeypatch.setattr(raw_files, "remove_unexpected", lambda: Path("data/raw/batches/two").unlink())
    with pytest.raises(UserError, match=r"^data/raw/batches/two: expected a file .* run `dvc repro -f download`$"):
        download.main()


def stand_in(monkeypatch) -> dict[str, bytes]:
    """Make the embedded sample a few bytes, and the stage take it; give them."""
    written = {name: name.encode() for name in mirror.EVERYTHING}
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("source: public", "source: sample"))

    def write(dataset: Any, folder: Path) -> None:
        for name, content in written.items():
            if name in {file.name for file in dataset.files}:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)

    monkeypatch.setattr("reprocnn.sources.sample.write", write)
    return written


@pytest.mark.usefixtures("small_files")
def test_the_sample_replaces_what_is_there(monkeypatch):
    written = stand_in(monkeypatch)
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/images.gz").write_bytes(b"published")
    Path("data/raw/old").touch()
    Path("data/.incoming").mkdir()
    Path("data/.incoming/labels.gz").touch()  # of a download that was killed
    download.main()
    assert raw() == written
    assert not Path("data/.incoming").exists()


@pytest.mark.usefixtures("small_files")
def test_what_another_process_has_not_finished_is_not_moved_in(monkeypatch, good):
    """As a download that still runs after its dvc was killed."""
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    store = fetch._store

    def store_beside(file: File, *rest: Any) -> None:
        store(file, *rest)
        (other / file.name).parent.mkdir(parents=True, exist_ok=True)
        (other / file.name).write_bytes(b"half")

    monkeypatch.setattr(fetch, "_store", store_beside)
    with raw_files._incoming() as other:
        download.main()
    assert raw() == mirror.EVERYTHING


@pytest.mark.usefixtures("small_files")
def test_a_download_that_fails_leaves_another_ones_files():
    """As one whose dvc was killed and whose source hangs, while the next one is at work."""
    orphan = raw_files._incoming()
    orphan.__enter__()
    with raw_files._incoming() as folder:
        (folder / "images.gz").write_bytes(b"whole")
        orphan.__exit__(UserError, UserError("no source"), None)
        assert (folder / "images.gz").exists()
    assert not Path("data/.incoming").exists()


@pytest.mark.usefixtures("small_files")
def test_a_download_does_not_take_away_what_another_one_works_on(good, monkeypatch):
    """And removes what a killed one left, whose lock is gone with it."""
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    Path("data/.incoming/left").mkdir(parents=True)
    with raw_files._incoming() as folder:
        (folder / "images.gz").write_bytes(b"whole")
        download.main()
        assert [path.name for path in Path("data/.incoming").rglob("*")] == [folder.name, "images.gz"]
    assert not Path("data/.incoming").exists()


@pytest.mark.usefixtures("small_files")
def test_a_file_that_cannot_be_read_is_missing(good, monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    digest = raw_files.sha256

    def worn(path: Path) -> str:
        if path.name == "two":
            raise OSError(5, "Input/output error")
        return digest(path)

    monkeypatch.setattr(raw_files, "sha256", worn)
    assert raw_files.missing() == ["batches/two"]


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "third"}, "third: files: found images.gz, which is in the way of images.gz of mnist; write another"),
        ({"files": (File("labels.gz/x", 1, ""),)}, "found labels.gz/x, which is in the way of labels.gz of mnist"),
        ({"files": (File("batches", 1, ""),)}, "found batches, which is in the way of batches/one of cifar"),
        ({"files": (File("../x", 1, ""),)}, "found '../x', expected a name below data/raw"),
        ({"files": (File("/x", 1, ""),)}, "found '/x', expected a name below data/raw"),
        ({"files": (File("", 1, ""),)}, "found '', expected a name below data/raw"),
        ({"files": (File("x/", 1, ""),)}, "found 'x/', expected a name below data/raw"),
        ({"files": File("x", 1, "")}, r"expected a tuple; write \(File\(...\),\)"),
        ({"files": (File("x", 1, "AB" * 32),)}, "x: sha256: found 'ABAB[AB]*', expected 64 digits of 0-9 and a-f"),
        ({"addresses": "https://a/"}, r"addresses: found text, expected a tuple; write \('https://a/',\)"),
    ],
)
def test_a_data_set_that_cannot_be_fetched_as_declared(good, monkeypatch, change, message):
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    third = replace(raw_files.DATASETS[0], **{"name": "third", **change})
    monkeypatch.setattr(raw_files, "DATASETS", (*raw_files.DATASETS, third))
    with pytest.raises(UserError, match=f"^reprocnn/datasets.py: third: .*{message.removeprefix('third: ')}"):
        download.main()
    assert not Path("data").exists()


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_is_reported_with_the_folder(monkeypatch, good):
    monkeypatch.setenv("DATASETS_MIRROR", str(good))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch, "_store", full)
    with pytest.raises(OSError, match="No space") as error:
        download.main()
    assert error.value.filename == "data/.incoming"
    assert not Path("data/.incoming").exists()


@pytest.mark.usefixtures("small_files")
def test_a_folder_that_takes_no_file_is_named(monkeypatch, good):
    monkeypatch.setenv("DATASETS_MIRROR", str(good))

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path), None, str(target))

    monkeypatch.setattr(raw_files.os, "replace", refuse)
    with pytest.raises(PermissionError) as error:
        download.main()
    assert error.value.filename == "data/raw/images.gz"


@pytest.mark.usefixtures("small_files")
def test_a_file_without_its_digest_is_missing(good, monkeypatch):
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    path = Path("data/raw/batches/two")
    path.write_bytes(path.read_bytes()[::-1].replace(b"d", b"D", 1))
    assert raw_files.missing() == ["batches/two"]
    path.write_bytes(b"")
    assert raw_files.missing() == ["batches/two"]
