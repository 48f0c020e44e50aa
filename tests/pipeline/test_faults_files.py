"""Hostile files: nothing they hold is run, believed or put anywhere but where it belongs."""

import gzip
import io
import os
import pickle
import tarfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from reprocnn.core.errors import UserError
from reprocnn.images import arrays
from reprocnn.splits import decode
from stages import download
from tests.support import mirror
from tests.support.mirror import EVERYTHING, raw, refused

pytestmark = pytest.mark.usefixtures("small_files")


def pack(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for info, content in entries:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


RIGHT = [(entry(name), content) for name, content in mirror.MEMBERS.items()]
UNEXPECTED = [
    (entry("../outside"), b"x"),
    (entry("batches/../../outside"), b"x"),
    (entry("/tmp/outside-of-everything"), b"x"),
    (entry("batches/link", tarfile.SYMTYPE, "/etc/passwd"), b""),
    (entry("batches/hard", tarfile.LNKTYPE, "../outside"), b""),
    (entry("batches/device", tarfile.CHRTYPE), b""),
    (entry("batches/pipe", tarfile.FIFOTYPE), b""),
    (entry("batches/extra"), b"x"),
]


@pytest.mark.parametrize("unexpected", UNEXPECTED, ids=[info.name for info, _ in UNEXPECTED])
def test_other_members_are_ignored(project, good, monkeypatch, unexpected):
    before = {path for path in project.parent.rglob("*") if "project" not in path.parts[len(project.parent.parts) :]}
    pack(good / "archive.tar.gz", unexpected, *RIGHT)
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    assert raw() == EVERYTHING
    assert sorted(path.name for path in Path("data").iterdir()) == ["raw"]
    assert {p for p in project.parent.rglob("*") if "project" not in p.parts[len(project.parent.parts) :]} == before
    assert not Path("/tmp/outside-of-everything").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_a_wanted_name_has_to_be_a_regular_file(good, monkeypatch, kind):
    pack(good / "archive.tar.gz", RIGHT[0], (entry("batches/two", kind, "/etc/passwd"), b""))
    assert "expected regular files batches/two, found none" in refused(monkeypatch, str(good))


def test_of_a_name_that_is_there_twice_the_first_has_to_be_right(good, monkeypatch):
    wrong = (entry("batches/two"), b"x" * len(mirror.MEMBERS["batches/two"]))
    pack(good / "archive.tar.gz", RIGHT[0], wrong, RIGHT[1])
    assert "batches/two: not the published file" in refused(monkeypatch, str(good))
    pack(good / "archive.tar.gz", RIGHT[0], RIGHT[1], wrong)
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    assert raw() == EVERYTHING


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b broken"])
def test_what_is_no_archive(good, monkeypatch, content):
    (good / "archive.tar.gz").write_bytes(content)
    assert "archive.tar.gz: invalid or incomplete tar.gz archive" in refused(monkeypatch, str(good))


def test_a_member_that_claims_terabytes(good, monkeypatch):
    info = entry("batches/one")
    info.size = 1 << 42
    (good / "archive.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(5000)))
    assert "archive.tar.gz" in refused(monkeypatch, str(good))


def test_a_member_to_skip_that_claims_more_than_an_archive_may_have(good, monkeypatch):
    """tarfile would read towards its end, block by block, long after the end of the file."""
    info = entry("batches/\x1b[2J\nre\udcffadme")
    info.pax_headers = {"size": "9" * 19}
    (good / "archive.tar.gz").write_bytes(gzip.compress(info.tobuf(tarfile.PAX_FORMAT) + bytes(5000)))
    said = refused(monkeypatch, str(good))
    assert "batches/ [2J re adme: claims 9,999,999,999,999,999,999 bytes, expected an archive of at most 1,0" in said


def test_digests_are_verified_before_anything_is_decoded(good, monkeypatch):
    """The download decodes nothing at all, and gives prepare only bytes that it has verified, each time again."""

    def decoded(*_: object) -> None:
        raise AssertionError("decoded")

    for name in ("idx", "cifar_batch", "cifar_class_names", "_unpickle"):
        monkeypatch.setattr(decode, name, decoded)
    monkeypatch.setattr(pickle, "Unpickler", decoded)
    bad = mirror.fill(good.parent / "bad", members={**mirror.MEMBERS, "batches/one": pickle.dumps(os.getcwd)})
    refused(monkeypatch, str(bad))
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    # Changed behind the stage's back: dvc runs it again before prepare, since its out is not what the lock says.
    Path("data/raw/batches/one").write_bytes(pickle.dumps(os.getcwd))
    download.main()
    assert raw() == EVERYTHING


def test_an_array_of_objects(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}, os.getcwd], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"x\.npy: invalid NumPy array of numbers.*dvc repro -f prepare"):
        arrays.load(tmp_path)


def test_an_array_whose_header_claims_terabytes(tmp_path):
    header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 42, 1, 1, 1)}
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        file.write(bytes(100))
    with pytest.raises(UserError, match=r"x\.npy: invalid NumPy array of numbers"):
        arrays.load(tmp_path)


def test_any_byte_of_an_arrays_header_may_be_wrong(tmp_path):
    for name, array in (("x.npy", np.zeros((1, 4, 4, 1), np.uint8)), ("y.npy", np.zeros((1, 10), np.float32))):
        np.save(tmp_path / name, array)
    good = (tmp_path / "x.npy").read_bytes()
    for place in range(80):
        for byte in {good[place] ^ 1, 0, ord(" "), ord("(")} - {good[place]}:
            (tmp_path / "x.npy").write_bytes(good[:place] + bytes([byte]) + good[place + 1 :])
            with suppress(UserError):
                arrays.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"no array at all", b"PK\3\4 no archive"])
def test_no_array(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npy: invalid NumPy array"):
        arrays.load(tmp_path)
