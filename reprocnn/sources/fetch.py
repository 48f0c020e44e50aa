"""Bytes from a folder or a web address, in bounded time and memory, kept only if they are the expected ones."""

import gzip
import hashlib
import io
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from reprocnn.core.errors import UserError
from reprocnn.datasets import Archive, File
from reprocnn.sources import web
from reprocnn.sources.web import SourceError, TransientError, printable, without_password

TRIES = 3  # of one source, for what may pass: a time-out, a reset, a server's 5xx
PAUSE_SECONDS = 2  # before the second try, twice that before the third
CHUNK = 1 << 18
BUFFER = 1 << 14  # what tarfile reads at once; a header may be longer
HEADER_BYTES = 100_000  # of a member, its name and other fields


def mirrors(public: tuple[str, ...]) -> list[str]:
    """List the sources in the order they are asked: those of DATASETS_MIRROR, then the public addresses."""
    return [*os.environ.get("DATASETS_MIRROR", "").split(), *public]


def fetch_file(file: File, sources: list[str], folder: Path) -> None:
    """Put `file` below `folder` from the first source that has exactly its bytes.

    Raises UserError if none has; what is below `folder` then is not to be used.
    """
    name = PurePosixPath(file.name).name  # the folder it gets here is not the server's

    def store(source: str, stream: BinaryIO) -> None:
        _store(file, stream, folder / file.name, _join(source, name))

    _first(name, sources, store, file.size)


def fetch_members(archive: Archive, members: tuple[File, ...], sources: list[str], folder: Path) -> None:
    """Put the archive's `members` below `folder`, each checked, from the first source that has all of them.

    Raises UserError if none has; what is below `folder` then is not to be used.
    """

    def store(source: str, stream: BinaryIO) -> None:
        address = _join(source, archive.name)
        wanted = {member.name: member for member in members}
        # Unpacked front to back with a bound on both sides of gzip: what an archive claims of itself costs nothing.
        packed = _Bounded(stream, min(archive.max_size, CHUNK + HEADER_BYTES), address)
        unpacked = _Bounded(gzip.GzipFile(fileobj=packed), HEADER_BYTES, address)
        try:
            with tarfile.open(fileobj=unpacked, mode="r|", bufsize=BUFFER) as tar:
                while info := tar.next():
                    if tar.offset > archive.max_size:  # tarfile would look for the next header beyond the end
                        raise SourceError(
                            f"{address}: {printable(info.name[:80])}: claims {info.size:,} bytes, expected an "
                            f"archive of at most {archive.max_size:,}"
                        )
                    unpacked.limit = tar.offset + HEADER_BYTES  # to the end of the next header
                    # Gzip makes nothing much longer and reads little ahead. More can only be a header of its own, as a
                    # name without end, which it reads byte by byte.
                    packed.limit = min(archive.max_size, unpacked.limit * 101 // 100 + CHUNK)
                    # tarfile keeps each member, with a copy of what headers say of all members.
                    kept = cast(Any, tar)
                    kept.members.clear()
                    kept.pax_headers.clear()
                    member = wanted.get(info.name.removeprefix("./"))  # as `tar -C FOLDER .` writes names
                    if member and info.isreg():
                        content = cast(BinaryIO, tar.extractfile(info))
                        _store(member, content, folder / member.name, f"{address}: {member.name}")
                        del wanted[member.name]
                    if not wanted:
                        return
        except SourceError:
            raise
        except Exception as error:  # tarfile and gzip raise a dozen kinds
            if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
                raise  # of the disk
            reason = str(error) or type(error).__name__
            raise SourceError(f"{address}: invalid or incomplete tar.gz archive ({reason})") from None
        raise SourceError(f"{address}: expected regular files {', '.join(sorted(wanted))}, found none")

    _first(archive.name, sources, store, archive.size)


def why_unavailable(name: str, source: str) -> str | None:
    """Say why `source` has no file called `name`, None if it has; asks once and reads no content."""
    try:
        with _open(_join(source, name)):
            return None
    except SourceError as error:
        return str(error)


def _first(name: str, sources: list[str], store: Callable[[str, BinaryIO], None], size: int) -> None:
    failures: list[str] = []
    for source in sources:
        if failures:
            print(f"download: {failures[-1]}; next: {without_password(source)}", flush=True)
        try:
            return _try(_join(source, name), lambda stream, source=source: store(source, stream), size)  # type: ignore[misc]
        except SourceError as error:
            failures.append(str(error))
    raise UserError("\n".join([f"{name}: not found; set DATASETS_MIRROR to a folder or URL that has it", *failures]))


def _try(address: str, store: Callable[[BinaryIO], None], size: int) -> None:
    for attempt in range(1, TRIES + 1):
        try:
            with _open(address) as stream:
                bar = tqdm.wrapattr(stream, "read", total=size, desc=Path(address).name, disable=None, leave=False)
                with bar as counted:
                    store(cast(BinaryIO, counted))
            return
        except TransientError as error:
            if attempt == TRIES:
                raise SourceError(f"{error}, after {TRIES} tries") from None
            time.sleep(PAUSE_SECONDS * attempt)


@contextmanager
def _open(address: str) -> Iterator[BinaryIO]:
    scheme, colon, _ = address.partition("://")
    if scheme.lower() in ("http", "https"):
        with web.get(address) as content:
            yield cast(BinaryIO, content)
        return
    if colon and scheme.lower() != "file":
        raise SourceError(f"{address}: {scheme}:// is not supported, expected a folder, http:// or https://")
    try:
        path = _local(address)
        if path.exists() and not path.is_file():
            raise SourceError(f"{address}: expected a file")
        file = path.open("rb")
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: no path, RuntimeError: nobody's home
        raise SourceError(f"{address}: {getattr(error, 'strerror', None) or error}") from None
    with file:
        yield cast(BinaryIO, _LocalFile(file, address))


def _store(file: File, stream: BinaryIO, path: Path, what: str) -> None:
    """Writes `path` from `stream` if that gives the published bytes to the last one, or raises SourceError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as out:
        # What is too long is not kept, but read a little further, for the message.
        while size <= 2 * file.size and (chunk := stream.read(CHUNK)):
            digest.update(chunk)
            size += len(chunk)
            if size <= file.size:
                out.write(chunk)
    if size != file.size or digest.hexdigest() != file.sha256:
        whole = size <= 2 * file.size
        found = f"{size:,} bytes, sha256 {digest.hexdigest()[:16]}..." if whole else f"at least {size:,} bytes"
        raise SourceError(
            f"{what}: not the published file: expected {file.size:,} bytes, sha256 {file.sha256[:16]}..., found {found}"
        )


class _LocalFile(io.RawIOBase):
    """A mirror's file, as of a worn disc: that it cannot be read is no fault of the disk that is written to."""

    def __init__(self, file: BinaryIO, address: str) -> None:
        self.file, self.address = file, address

    def read(self, size: int = -1) -> bytes:
        try:
            return self.file.read(size)
        except OSError as error:
            raise SourceError(f"{self.address}: {error.strerror or error}") from None


class _Bounded(io.RawIOBase):
    """A stream that ends in SourceError after `limit` bytes."""

    def __init__(self, stream: Any, limit: int, address: str) -> None:
        self.stream, self.limit, self.address = stream, limit, address
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        chunk: bytes = self.stream.read(size)
        self.bytes += len(chunk)
        if self.bytes > self.limit:
            raise SourceError(f"{self.address}: over {self.limit:,} bytes")
        return chunk


def _join(source: str, name: str) -> str:
    return f"{source.rstrip('/')}/{name}"


def _local(address: str) -> Path:
    return Path(unquote(urlsplit(address).path)) if address.lower().startswith("file:") else Path(address).expanduser()
