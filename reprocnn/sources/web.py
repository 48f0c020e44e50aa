"""GET over HTTP in bounded time and memory, whatever the server sends."""

import http.client
import io
import re
import socket
import ssl
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, unquote, urljoin, urlsplit

import certifi

CONNECT_SECONDS, READ_SECONDS = 10, 30  # of one connection, of one receive
ANSWER_SECONDS = 60  # from the first connection to the last header, redirects included
STALL_SECONDS, STALL_BYTES = 30, 300_000  # content that comes slower than that: the next source
REDIRECTS = 10
# The second kind is a password with characters that end the host's name: no port is such.
CREDENTIALS = re.compile(r"(?<=//)(?:[^/?#\s]*@|[^/?#\s]*:(?!\d*(?:[/?#\s]|$))\S*@)")
KEPT = "%/:=&?~#+!$,;'@()*[]"  # not to be quoted in an address


class SourceError(Exception):
    """One source did not give the right bytes; the message says which and why, without its password."""

    def __init__(self, message: str) -> None:
        super().__init__(without_password(message))


class TransientError(SourceError):
    """A failure that a retry may fix."""


def without_password(text: str) -> str:
    """Put *** in the place of what comes before the host of each address in `text`: a user and a password."""
    return CREDENTIALS.sub("***@", text)


def printable(text: str) -> str:
    """Put a space in the place of what could end a line, steer a terminal, or not be written at all."""
    return "".join(one if one.isprintable() else " " for one in text)


@contextmanager
def get(address: str) -> Iterator["Content"]:
    """Give the content of `address`, or of the one that it redirects to.

    Raises SourceError, also while the content is read.
    """
    clock = _Clock(address)
    with _errors(clock):
        response = _final_response(address, clock)
    with closing(response):
        if response.status >= 500 or response.status == 429:
            raise TransientError(f"{address}: HTTP status {response.status}{clock.via}")
        if response.status != 200:
            raise SourceError(f"{address}: HTTP status {response.status}{clock.via}")
        yield Content(response, clock)


class Content(io.RawIOBase):
    """A response's content; reading raises SourceError where it breaks off, hangs or drips."""

    def __init__(self, response: http.client.HTTPResponse, clock: "_Clock") -> None:
        self.response, self.clock = response, clock
        clock.allow_stall()

    def read(self, size: int = -1) -> bytes:
        """Return what has arrived, at most `size` bytes: a full read would wait for each drop of a slow drip."""
        self.clock.resume()
        with _errors(self.clock):
            chunk = self.response.read1(size)
            if not chunk and self.response.length:
                raise TransientError(
                    f"{self.clock.address}: ended {self.response.length:,} bytes early{self.clock.via}"
                )
        self.clock.count(len(chunk))
        self.clock.pause()
        return chunk


class _Clock:
    """When to give up on an answer."""

    def __init__(self, address: str) -> None:
        self.address, self.bytes = address, 0
        self.via = ""  # who was asked in place of the address: for messages
        self.paused: float | None = None
        self.until, self.reason = time.monotonic() + ANSWER_SECONDS, f"no answer in {ANSWER_SECONDS} s"

    def allow_stall(self) -> None:
        self.bytes, self.until = 0, time.monotonic() + STALL_SECONDS
        self.reason = f"fewer than {STALL_BYTES:,} bytes in {STALL_SECONDS} s"

    def count(self, new: int) -> None:
        self.bytes += new
        if self.bytes >= STALL_BYTES:
            self.allow_stall()

    def pause(self) -> None:
        """Let what is done with the content take its time: a slow disk is no fault of the source."""
        self.paused = time.monotonic()

    def resume(self) -> None:
        if self.paused is not None:
            self.until += time.monotonic() - self.paused
        self.paused = None

    def connect(self, address: tuple[str, int], timeout: float, source: Any = None) -> socket.socket:
        """Connect to the first of the host's addresses that answers, as socket.create_connection does, in time."""
        failure = OSError("the name has no address")
        found: Any = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        for *_, (host, port, *_) in found:
            try:
                return socket.create_connection((host, port), min(timeout, self.seconds_left()), source)
            except OSError as error:
                failure = error
        raise failure

    def seconds_left(self) -> float:
        left = self.until - time.monotonic()
        if left <= 0:
            raise SourceError(f"{self.address}: {self.reason}{self.via}")
        return left


class _Receiver(io.RawIOBase):
    """What a socket receives, until the clock has run out."""

    def __init__(self, sock: socket.socket, clock: _Clock) -> None:
        self.sock, self.clock = sock, clock
        self.stream = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self.clock.seconds_left()
        # In full, past the clock's end: silence is tried again, a drip is not.
        self.sock.settimeout(READ_SECONDS)
        return self.stream.readinto(buffer)

    def close(self) -> None:
        self.stream.close()
        super().close()


class _Socket:
    """A connected socket from which http.client, line by line and chunk by chunk, reads what the clock allows."""

    def __init__(self, sock: socket.socket, clock: _Clock) -> None:
        self.sock, self.clock = sock, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def makefile(self, *_: Any, **__: Any) -> io.BufferedReader:
        return io.BufferedReader(_Receiver(self.sock, self.clock))


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens http and https with sockets of the clock's."""

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def __init__(self, clock: _Clock) -> None:
        super().__init__()
        self.clock = clock

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self._open(http.client.HTTPConnection, request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())  # some systems have no certificates of their own
        return self._open(http.client.HTTPSConnection, request, context=context)

    def _open(self, kind: Any, request: urllib.request.Request, **options: Any) -> http.client.HTTPResponse:
        clock = self.clock

        class Connection(kind):
            def connect(self) -> None:
                self._create_connection = clock.connect
                super().connect()
                self.sock: Any = _Socket(self.sock, clock)

            def _tunnel(self) -> None:  # reads a proxy's answer, before TLS, which needs the plain socket
                plain, self.sock = self.sock, _Socket(self.sock, clock)
                super()._tunnel()
                self.sock = plain
                plain.settimeout(self.timeout)

        return self.do_open(Connection, request, **options)


def _final_response(address: str, clock: _Clock) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()  # bare, since the usual one reads the content of redirects
    opener.add_handler(urllib.request.ProxyHandler())
    opener.add_handler(_Handler(clock))
    for _ in range(REDIRECTS + 1):
        request, proxy = _request(address), _proxy(address)
        clock.via = f", at {printable(without_password(address))[:100]}" if address != clock.address else ""
        clock.via += f", through {urlsplit(address).scheme}_proxy {proxy}" if proxy else ""
        response = opener.open(request, timeout=min(CONNECT_SECONDS, clock.seconds_left()))
        to = response.headers["Location"]
        if response.status not in (301, 302, 303, 307, 308) or to is None:
            return response
        response.close()
        address = _redirected(address, quote(to, KEPT, "latin-1"))  # as http.client decodes headers
    raise http.client.InvalidURL(f"more than {REDIRECTS} redirects")


def _redirected(address: str, to: str) -> str:
    """Resolve `to`; user and password of `address` are for the same scheme, host and port alone."""
    before, after = urlsplit(address), urlsplit(urljoin(address, to))
    if (after.scheme, after.netloc) == (before.scheme, before.netloc.rpartition("@")[2]):
        after = after._replace(netloc=before.netloc)
    return after.geturl()


def _proxy(address: str) -> str:
    """Return the host and port of the proxy that is asked in place of `address`; empty if there is none."""
    parts = urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme, "")
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    kind, has_kind, host = proxy.rpartition("://")
    if has_kind and kind.lower() not in ("http", "https"):
        raise http.client.InvalidURL(
            f"{parts.scheme}_proxy: found {kind.lower()}://, expected the address of an HTTP proxy"
        )
    with suppress(ValueError):  # a port that is none
        found = urlsplit(f"//{host}")
        if found.hostname and found.path in ("", "/") and found.port != 0:
            return found.netloc.rpartition("@")[2]
    # Without the address: urllib would show it with its password, or take another port.
    raise http.client.InvalidURL(f"{parts.scheme}_proxy: expected the address of an HTTP proxy, http://host:port")


def _request(address: str) -> urllib.request.Request:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise http.client.InvalidURL(f"{address}: expected http:// or https:// and a host")
    try:
        _ = parts.port
    except ValueError:  # whose text has the start of such a password
        raise http.client.InvalidURL("expected a port up to 65535; write / ? # in a password as %2F %3F %23") from None
    user, _, host = parts.netloc.rpartition("@")
    parts = parts._replace(netloc=host, path=quote(parts.path, KEPT), query=quote(parts.query, KEPT), fragment="")
    headers = {"Accept-Encoding": "identity", "User-Agent": "reprocnn"}  # .gz files are wanted as they are
    if user:
        user += "" if ":" in user else ":"  # RFC 7617 wants it without a password too
        headers["Authorization"] = f"Basic {b64encode(unquote(user).encode()).decode()}"
    return urllib.request.Request(parts.geturl(), headers=headers)


@contextmanager
def _errors(clock: _Clock) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        cause = error.reason if isinstance(error, URLError) else error
        final = isinstance(cause, ssl.SSLCertVerificationError | http.client.InvalidURL | ValueError)
        kind = SourceError if final else TransientError
        text = without_password(f"{type(cause).__name__}: {cause}")  # before it is cut
        raise kind(f"{clock.address}: {' '.join(printable(text).split())[:160]}{clock.via}") from None
