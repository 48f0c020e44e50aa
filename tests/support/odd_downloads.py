"""Answers of web servers and archives that nobody would write, and what a download has to make of them."""

import contextlib
import functools
import gzip
import io
import shutil
import socket
import tarfile
import threading
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from reprocnn.core.errors import UserError
from reprocnn.datasets import Archive
from reprocnn.sources import fetch, web
from tests.support import mirror

STATUS = [
    "HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/2 200", "ICY 200 OK", "HTTP/1.1 204 None",
    "HTTP/1.1 206 Part", "HTTP/1.1 301 Moved", "HTTP/1.1 302 Found", "HTTP/1.1 308 Moved", "HTTP/1.1 304 Same",
    "HTTP/1.1 429 Slow", "HTTP/1.1 500 Broken", "HTTP/1.1 99999 Many", "HTTP/1.1 -1 Less", "HTTP/1.1 abc", "", "\0",
]  # fmt: skip
NAMES = [
    "Content-Length", "Transfer-Encoding", "Content-Encoding", "Location", "Connection", "Content-Range", "Trailer", "",
    " ", "Content-Length ", "X" * 300,
]  # fmt: skip
VALUES = [
    "5", "0", "-1", "+5", "5, 5", "1e3", "0x5", "9" * 30, "chunked", "gzip", "identity", "gzip, chunked", "close",
    "/again", "//", "http://[", "http://127.0.0.1:0/", "file:///etc/passwd", "ftp://a", "?", "http://a b/", "\x80",
]  # fmt: skip
SIZES = ["0", "1", "5", "-1", "+5", "0x5", "fffffffffffffffff", "5;a=b", "5 ", "", "g", ";"]
MEMBERS = tuple(mirror._file(name, content) for name, content in mirror.MEMBERS.items())
ARCHIVE = Archive("archive.tar.gz", 500, 1_000_000)


@st.composite
def answers(draw: Any) -> bytes:
    """All bytes of an answer, after which the server hangs up."""
    end = draw(st.sampled_from(["\r\n", "\n", "\r"]))
    value = st.one_of(st.sampled_from(VALUES), st.text(st.characters(codec="latin-1"), max_size=8))
    headers = draw(st.lists(st.tuples(st.sampled_from(NAMES), value), max_size=4))
    lines = ["HTTP/1.1 100 Continue", ""] * draw(st.integers(0, 2))
    lines += [draw(st.sampled_from(STATUS)), *(f"{name}: {value}" for name, value in headers), "", ""]
    chunks = draw(st.lists(st.tuples(st.sampled_from(SIZES), st.binary(max_size=6)), max_size=4))
    body = b"".join(size.encode() + b"\r\n" + content + b"\r\n" for size, content in chunks)
    whole = end.join(lines).encode("latin-1") + draw(st.sampled_from([body, b"hello", gzip.compress(b"hello")]))
    return draw(changed(whole))


@st.composite
def changed(draw: Any, content: bytes) -> bytes:
    """The bytes as they are, or with some of them replaced, or cut."""
    if draw(st.booleans()):
        return content
    start = draw(st.integers(0, len(content)))
    return content[:start] + draw(st.binary(max_size=4)) + content[start + draw(st.integers(0, 40)) :]


@functools.cache
def _server() -> tuple[str, dict[str, bytes]]:
    """A server that gives each request the bytes of "answer", and its address."""
    listening, current = socket.create_server(("127.0.0.1", 0)), {"answer": b""}

    def serve() -> None:
        while True:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(current["answer"])
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)  # until the client hangs up too

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}/file", current


def check_answer(answer: bytes) -> None:
    """Either content, no more than came, or a line."""
    address, current = _server()
    current["answer"] = answer
    try:
        with web.get(address) as content:
            total = 0
            while chunk := content.read(65536):
                total += len(chunk)
        assert total <= len(answer)
    except (web.SourceError, web.TransientError) as error:
        [line] = str(error).splitlines()
        assert line.startswith(address.removesuffix("file"))
        assert len(line) < 400


@st.composite
def archives(draw: Any) -> bytes:
    """A tar.gz with the members that are wanted, more or less."""
    packed = io.BytesIO()
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from([*mirror.MEMBERS, "../out", "/out", "batches", "batches/../one", "a" * 300, ""]))
        content = draw(st.sampled_from([mirror.MEMBERS.get(name, b""), b"", b"other"]))
        info = tarfile.TarInfo(name)
        info.type = draw(st.sampled_from([tarfile.REGTYPE] * 5 + [*b"1234567SLKxgX\0"]).map(_as_byte))
        info.size = draw(st.sampled_from([len(content)] * 5 + [0, 1, 10**6, 10**12, -1]))
        info.linkname = draw(st.sampled_from(["", "batches/one", "/etc/passwd", "../x"]))
        keys = st.sampled_from(["size", "path", "linkpath", "GNU.sparse.map", "GNU.sparse.size", "mtime", "hdrcharset"])
        info.pax_headers = draw(st.dictionaries(keys, st.sampled_from(["5", "-1", "x", "1,2", "9" * 20]), max_size=2))
        with contextlib.suppress(ValueError):  # which no header can say
            form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
            packed.write(info.tobuf(form) + content + b"\0" * (-len(content) % 512))
    whole = draw(changed(packed.getvalue() + b"\0" * 1024))
    return draw(changed(gzip.compress(whole, 1)))


def _as_byte(kind: bytes | int) -> bytes:
    return kind if isinstance(kind, bytes) else bytes([kind])


def check_archive(content: bytes) -> None:
    """Either all members as they should be, or at most four lines; nothing else is written, here or elsewhere."""
    source, target = Path("source"), Path("target")
    for folder in (source, target):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    (source / ARCHIVE.name).write_bytes(content)
    around = set(Path().iterdir())
    try:
        with mock.patch.object(fetch, "PAUSE_SECONDS", 0):
            fetch.fetch_members(ARCHIVE, MEMBERS, [str(source)], target)
    except UserError as error:
        lines = str(error).splitlines()
        if not 1 <= len(lines) <= 4 or ARCHIVE.name not in lines[0]:
            raise
    else:
        assert {name: (target / name).read_bytes() for name in mirror.MEMBERS} == mirror.MEMBERS
    assert set(Path().iterdir()) == around
    expected = {target / name for name in (*mirror.MEMBERS, "batches")}
    assert {path for path in target.rglob("*") if not path.name.startswith(".")} <= expected
