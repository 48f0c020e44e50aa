"""A web server on 127.0.0.1 whose answers go wrong in a chosen way."""

import contextlib
import datetime
import gzip
import http.server
import ipaddress
import socket
import ssl
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Handler = http.server.BaseHTTPRequestHandler
BOMB = gzip.compress(bytes(200_000_000), 1)  # 200 MB of zeros in less than 1 MB


def begin(handler: Handler, length: object, encoding: str = "identity") -> None:
    """Send the headers of an answer that has content."""
    handler.send_response(200)
    handler.send_header("Content-Encoding", encoding)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()


def good(handler: Handler, body: bytes) -> None:
    begin(handler, len(body))
    handler.wfile.write(body)


def status(code: int) -> Callable[[Handler, bytes], None]:
    return lambda handler, body: handler.send_error(code)


def hang(handler: Handler, body: bytes) -> None:
    handler.rfile.read(1)  # until the other side hangs up


def falls_silent(after: int) -> Callable[[Handler, bytes], None]:
    """Send the headers and the first bytes, then nothing until the other side hangs up."""

    def answer(handler: Handler, body: bytes) -> None:
        begin(handler, len(body))
        handler.wfile.write(body[:after])
        handler.rfile.read(1)

    return answer


def drip(handler: Handler, body: bytes) -> None:
    begin(handler, len(body))
    with contextlib.suppress(OSError):
        for byte in body[:200]:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)


def reset(handler: Handler, body: bytes) -> None:
    begin(handler, len(body))
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    # Closing with a linger time of 0 sends a reset instead of an end.
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def ends_early(handler: Handler, body: bytes) -> None:
    begin(handler, len(body))
    handler.wfile.write(body[:-10])


def escapes(handler: Handler, body: bytes) -> None:
    """Answer with a status line that would clear a terminal."""
    handler.wfile.write(b"\x1b[2J\x1b[31mALL GOOD\r\n\r\n")


def too_short(handler: Handler, body: bytes) -> None:
    good(handler, body[:-10])


def too_long(handler: Handler, body: bytes) -> None:
    good(handler, body + b"more")


def other_bytes(handler: Handler, body: bytes) -> None:
    good(handler, bytes([body[0] ^ 1]) + body[1:])


def endless(handler: Handler, body: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:  # until the other side hangs up
        handler.wfile.write(bytes(1_000_000))


def page(handler: Handler, body: bytes) -> None:
    good(handler, b"<html>Please log in to this network</html>")


def bomb(handler: Handler, body: bytes) -> None:
    good(handler, BOMB)


def tar_bomb(kind: bytes) -> Callable[[Handler, bytes], None]:
    """An archive whose only member, of this kind, is 200 MB of zeros."""
    info = tarfile.TarInfo("batches/readme.html")
    info.size, info.type = 200_000_000, kind
    return lambda handler, body: good(handler, gzip.compress(info.tobuf()) + BOMB)  # gzip files joined are one


def encoded_bomb(handler: Handler, body: bytes) -> None:
    begin(handler, len(BOMB), encoding="gzip")
    handler.wfile.write(BOMB)


def senseless_length(handler: Handler, body: bytes) -> None:
    begin(handler, "many")
    handler.wfile.write(body[:-10])


def redirect(to: str) -> Callable[[Handler, bytes], None]:
    def answer(handler: Handler, body: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", to or handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def trickle(start: bytes, drop: bytes) -> Callable[[Handler, bytes], None]:
    """Send `start`, then a drop now and then, until the other side hangs up: no single wait is long."""

    def answer(handler: Handler, body: bytes) -> None:
        handler.wfile.write(start)
        while True:
            handler.wfile.write(drop)
            time.sleep(0.02)

    return answer


def flood(start: bytes, drop: bytes) -> Callable[[Handler, bytes], None]:
    """Send `start`, then as many drops as the other side takes."""

    def answer(handler: Handler, body: bytes) -> None:
        handler.wfile.write(start)
        while True:
            handler.wfile.write(drop * (1 + 500_000 // len(drop)))

    return answer


@contextlib.contextmanager
def serve(
    folder: Path, *answers: Callable[[Handler, bytes], None], certificate: Path | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Its address and the paths asked for; the n-th request gets the n-th answer, later ones the last."""
    asked: list[str] = []

    class Faulty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.path)
            with contextlib.suppress(OSError):
                answer(self, (folder / self.path.lstrip("/")).read_bytes())

        def do_CONNECT(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Faulty)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def self_signed(path: Path) -> Path:
    """A certificate that no one vouches for, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return path
