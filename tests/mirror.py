"""Small published files of a test's own, and a web server that has them."""

import contextlib
import functools
import hashlib
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

from stages.lib import published

CONTENT = {"images.gz": b"image bytes" * 500, "labels.gz": b"label bytes"}
MEMBERS = {"batches/one": b"first" * 3000, "batches/two": b"second" * 3000}


def declare(monkeypatch) -> None:
    """Lets the download stage take CONTENT for MNIST and MEMBERS for CIFAR-10, and no public address."""
    mnist = tuple(_file(name, content) for name, content in CONTENT.items())
    cifar = published.Archive("archive.tar.gz", 500, 1_000_000, tuple(_file(name, c) for name, c in MEMBERS.items()))
    monkeypatch.setattr(published, "MNIST", mnist)
    monkeypatch.setattr(published, "CIFAR", cifar)
    monkeypatch.setattr(published, "NAMES", [*CONTENT, *MEMBERS])
    monkeypatch.setattr(published, "MNIST_ADDRESSES", ())
    monkeypatch.setattr(published, "CIFAR_ADDRESSES", ())


def fill(folder: Path, content: dict[str, bytes] = CONTENT, members: dict[str, bytes] = MEMBERS) -> Path:
    """Writes the files and the archive, which holds a member too many, into `folder`."""
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
    """The address of a server of `folder` on 127.0.0.1, and the paths that were asked for."""
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


def _file(name: str, content: bytes) -> published.File:
    return published.File(name, len(content), hashlib.sha256(content).hexdigest())
