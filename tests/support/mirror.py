"""Small published files of a test's own, and a web server that has them."""

import contextlib
import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reprocnn import datasets
from reprocnn.core.errors import UserError
from stages import download

CONTENT = {"images.gz": b"image bytes" * 500, "labels.gz": b"label bytes"}
MEMBERS = {"batches/one": b"first" * 3000, "batches/two": b"second" * 3000}
EVERYTHING = {**CONTENT, **MEMBERS}


def declare(monkeypatch) -> None:
    """Make the download stage take CONTENT for MNIST and MEMBERS for CIFAR-10, and know no public address."""
    mnist = tuple(_file(name, content) for name, content in CONTENT.items())
    cifar = tuple(_file(name, content) for name, content in MEMBERS.items())
    archive = datasets.Archive("archive.tar.gz", 500, 1_000_000)
    small = (
        replace(datasets.MNIST, files=mnist, addresses=()),
        replace(datasets.CIFAR, files=cifar, addresses=(), archive=archive),
    )
    monkeypatch.setattr("reprocnn.sources.raw_files.DATASETS", small)


def fill(folder: Path, content: dict[str, bytes] = CONTENT, members: dict[str, bytes] = MEMBERS) -> Path:
    """Write the files and the archive, which holds a member too many, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    with tarfile.open(folder / "archive.tar.gz", "w:gz") as tar:
        for name, data in {"batches/readme.html": b"<html>", **members}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return folder


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve `folder` on 127.0.0.1; give the address and the list of paths asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_: object) -> None:
            asked.append(self.path)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def raw() -> dict[str, bytes]:
    """Read all files of data/raw."""
    return {p.relative_to("data/raw").as_posix(): p.read_bytes() for p in Path("data/raw").rglob("*") if p.is_file()}


def refused(monkeypatch, *sources: str) -> str:
    """The lines that the download ends with, after looking that it left nothing half-written."""
    monkeypatch.setenv("DATASETS_MIRROR", " ".join(sources))
    with pytest.raises(UserError) as error:
        download.main()
    assert all(content == EVERYTHING[name] for name, content in raw().items())
    assert not Path("data/.incoming").exists()
    assert len(str(error.value).splitlines()) <= 5
    assert "DATASETS_MIRROR" in str(error.value)
    return str(error.value)


def _file(name: str, content: bytes) -> datasets.File:
    return datasets.File(name, len(content), hashlib.sha256(content).hexdigest())
