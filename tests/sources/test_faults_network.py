"""A bad network under the real download code: the right bytes or a clear line, and nothing half-written."""

import gzip
import re
import socket
import tarfile
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from reprocnn.sources import fetch, raw_files, web
from stages import download
from tests.support import faultserver, mirror
from tests.support.mirror import EVERYTHING, raw, refused

pytestmark = pytest.mark.usefixtures("small_files")


ONCE, THRICE = 1, 3
OK, CHUNKED = b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n"
# What an answer begins with, and what it then repeats for ever.
ENDLESS = {
    "status line": (b"HTTP/1.1 200 ", b"O"),
    "header": (OK + b"X: ", b"x"),
    "headers": (OK, b"X: x\r\n"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "headers of continue": (b"HTTP/1.1 100 Continue\r\n", b"X: x\r\n"),
    "chunk size": (CHUNKED, b"0"),
    "chunk extension": (CHUNKED + b"1;", b"x"),
    "chunks": (CHUNKED, b"1;xxxxxxxxx\r\nx\r\n"),
    "trailer": (CHUNKED + b"0\r\nX: ", b"x"),
    "trailers": (CHUNKED + b"0\r\n", b"X: x\r\n"),
    "content": (OK + b"\r\n", b"x"),
    "other status": (b"HTTP/1.1 404 Not Found\r\n\r\n", b"x"),
    "redirect": (REDIRECT + b"\r\n", b"x"),
    "chunks of a redirect": (REDIRECT + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "compressed redirect": (REDIRECT + b"Content-Encoding: gzip\r\n\r\n", faultserver.BOMB),
}
FAULTS = [
    (faultserver.status(404), ONCE, "HTTP status 404"),
    (faultserver.status(403), ONCE, "HTTP status 403"),
    (faultserver.status(500), THRICE, "HTTP status 500, after 3 tries"),
    (faultserver.hang, THRICE, "timed out"),
    (faultserver.drip, ONCE, "fewer than 300,000 bytes in 0.5 s"),
    (faultserver.reset, THRICE, "after 3 tries"),
    (faultserver.ends_early, THRICE, " bytes early, after 3 tries"),
    (faultserver.escapes, THRICE, "BadStatusLine: [2J [31mALL GOOD, after 3 tries"),
    (
        faultserver.too_short,
        ONCE,
        "not the published file: expected 5,500 bytes, sha256 b25d1a93684e97f8..., found 5,490 bytes, sha256 ",
    ),
    (faultserver.too_long, ONCE, "found 5,504 bytes"),
    (faultserver.other_bytes, ONCE, "not the published file: expected 5,500 bytes"),
    (faultserver.senseless_length, ONCE, "found 5,490 bytes"),
    (faultserver.page, ONCE, "found 42 bytes"),
    (faultserver.endless, ONCE, "found at least "),
    (faultserver.bomb, ONCE, "found at least "),
    (faultserver.encoded_bomb, ONCE, "found at least "),
    (faultserver.redirect(""), ONCE, "more than 10 redirects"),
    (faultserver.redirect("file:///etc/passwd"), ONCE, "expected http:// or https:// and a host"),
    (faultserver.redirect("http://["), ONCE, "Invalid IPv6 URL"),
]
NAMES = [
    "404", "403", "500", "hang", "drip", "reset", "ends early", "escapes", "short", "long", "other bytes",
    "senseless length", "page", "endless", "bomb", "encoded bomb", "redirect loop", "redirect to a file",
    "redirect to nowhere",
]  # fmt: skip


@pytest.mark.parametrize(("fault", "asks", "message"), FAULTS, ids=NAMES)
def test_a_faulty_source_is_reported_and_the_next_one_asked(good, monkeypatch, fault, asks, message):
    with faultserver.serve(good, fault) as (address, asked):
        lines = refused(monkeypatch, address)
        assert message in lines
        assert f"{address}/images.gz" in lines
        assert raw() == {}
        assert len([path for path in asked if path == "/images.gz"]) == (11 if "redirects" in message else asks)
        monkeypatch.setenv("DATASETS_MIRROR", f"{address} {good}")
        download.main()
    assert raw() == EVERYTHING


@pytest.mark.parametrize(
    "fault",
    [
        faultserver.status(500), faultserver.status(503), faultserver.reset, faultserver.ends_early, faultserver.hang,
        faultserver.falls_silent(0), faultserver.falls_silent(2000),
    ],
)  # fmt: skip
def test_what_passes_is_tried_again(good, monkeypatch, fault):
    with faultserver.serve(good, fault, faultserver.good) as (address, asked):
        monkeypatch.setenv("DATASETS_MIRROR", address)
        download.main()
        assert asked == ["/images.gz", "/images.gz", "/labels.gz", "/archive.tar.gz"]
    assert raw() == EVERYTHING


@pytest.mark.parametrize("fault", [faultserver.reset, faultserver.ends_early, faultserver.drip, faultserver.bomb])
def test_a_fault_in_the_archive(good, monkeypatch, fault):
    answers = [faultserver.good, faultserver.good, fault]
    with faultserver.serve(good, *answers) as (address, _):
        assert f"{address}/archive.tar.gz" in refused(monkeypatch, address)
    assert raw() == mirror.CONTENT  # what was whole is kept, and not fetched again
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    assert raw() == EVERYTHING


@pytest.mark.parametrize(
    ("kind", "said"),
    [(tarfile.REGTYPE, "batches/readme.html: claims 200,000,000 bytes"), (tarfile.XHDTYPE, "over 100,000 bytes")],
)
def test_a_bomb_costs_no_memory(good, monkeypatch, kind, said):
    bomb = faultserver.tar_bomb(kind)
    with faultserver.serve(good, faultserver.good, faultserver.good, bomb) as (address, _):
        tracemalloc.start()
        message = refused(monkeypatch, address)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert f"archive.tar.gz: {said}" in message
    assert peak < 20_000_000


def test_a_header_is_bounded_from_where_it_begins(good, monkeypatch):
    monkeypatch.setattr("reprocnn.sources.fetch.BUFFER", 512)
    monkeypatch.setattr("reprocnn.sources.fetch.CHUNK", 512)
    monkeypatch.setattr("reprocnn.sources.fetch.HEADER_BYTES", 10_000)  # a member has 15,000
    archive = good / "archive.tar.gz"
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()), 0))  # as long as its members
    monkeypatch.setenv("DATASETS_MIRROR", str(good))
    download.main()
    assert raw() == EVERYTHING


@pytest.mark.timeout(60)
@pytest.mark.parametrize("send", [faultserver.trickle, faultserver.flood])
@pytest.mark.parametrize("part", ENDLESS)
def test_no_part_of_an_answer_takes_forever_or_fills_memory(good, monkeypatch, part, send):
    with faultserver.serve(good, send(*ENDLESS[part])) as (address, asked):
        tracemalloc.start()
        lines = refused(monkeypatch, address)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert f"{address}/images.gz: " in lines
        assert len(asked) <= 11
    assert raw() == {}
    assert peak < 20_000_000


def test_what_a_redirect_says_is_not_read(good, monkeypatch):
    """Two of them, one to a path that needs quoting, with contents that never end."""
    hops = [
        b"HTTP/1.1 302 Found\r\nLocation: /a b\xc3\xbc.gz\r\n\r\n",
        b"HTTP/1.1 308 X\r\nLocation: images.gz\r\n\r\n",
    ]
    with faultserver.serve(good, *(faultserver.trickle(hop, b"x") for hop in hops), faultserver.good) as (
        address,
        asked,
    ):
        monkeypatch.setenv("DATASETS_MIRROR", address)
        download.main()
        assert asked == ["/images.gz", "/a%20b%C3%BC.gz", "/images.gz", "/labels.gz", "/archive.tar.gz"]
    assert raw() == EVERYTHING


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_with_its_query(good, monkeypatch, status):
    """As to a signed address of an object store."""
    signed = "images.gz?expires=1&signature=a%2Bb/c"
    (good / signed).parent.mkdir()
    (good / signed).write_bytes(mirror.CONTENT["images.gz"])

    def elsewhere(handler: faultserver.Handler, body: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Location", f"/{signed}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with faultserver.serve(good, elsewhere, faultserver.good) as (address, asked):
        monkeypatch.setenv("DATASETS_MIRROR", address)
        download.main()
        assert asked[:2] == ["/images.gz", f"/{signed}"]
    assert raw() == EVERYTHING


def test_a_chunked_answer_is_read(good, monkeypatch):
    def chunked(handler: faultserver.Handler, body: bytes) -> None:
        handler.wfile.write(CHUNKED)
        for start in range(0, len(body), 100):
            part = body[start : start + 100]
            handler.wfile.write(b"%x;why=not\r\n%b\r\n" % (len(part), part))
        handler.wfile.write(b"0\r\nX: x\r\n\r\n")

    with faultserver.serve(good, chunked) as (address, _):
        monkeypatch.setenv("DATASETS_MIRROR", address)
        download.main()
    assert raw() == EVERYTHING


@pytest.mark.parametrize(("user", "sent"), [("me:p%40ss", "bWU6cEBzcw=="), ("token", "dG9rZW46")])
def test_credentials_in_an_address_are_sent_as_such(good, monkeypatch, user, sent):
    seen = []

    def private(handler: faultserver.Handler, body: bytes) -> None:
        seen.append((handler.headers["Authorization"], handler.headers["Accept-Encoding"]))
        faultserver.good(handler, body)

    with faultserver.serve(good, private) as (address, _):
        monkeypatch.setenv("DATASETS_MIRROR", address.replace("//", f"//{user}@"))
        download.main()
    assert set(seen) == {(f"Basic {sent}", "identity")}
    assert raw() == EVERYTHING


@pytest.mark.parametrize("other", [False, True])
def test_credentials_follow_a_redirect_to_the_same_host_alone(good, monkeypatch, other):
    """Which names itself in full, as nginx does."""
    (good / "real").mkdir()
    for name, content in mirror.CONTENT.items():
        (good / "real" / name).write_bytes(content)
    seen = []

    def private(handler: faultserver.Handler, body: bytes) -> None:
        seen.append(handler.headers["Authorization"])
        faultserver.good(handler, body)

    with faultserver.serve(good, private) as (away, _):

        def to_real(handler: faultserver.Handler, body: bytes) -> None:
            if handler.path.startswith("/real"):
                return private(handler, body)
            return faultserver.redirect(f"{away if other else address}/real{handler.path}")(handler, body)

        with faultserver.serve(good, to_real) as (address, _):
            fetch.fetch_file(raw_files.DATASETS[0].files[0], [address.replace("//", "//me:p%40ss@")], good / "to")
    assert seen == [None if other else "Basic bWU6cEBzcw=="]


@pytest.mark.parametrize("password", ["secret", "p@ss:secret", "%2Fsecret"])
def test_no_message_has_a_password(good, monkeypatch, capsys, password):
    """Whether the source is asked, refuses, redirects to another such address, or is none."""
    to = f"http://you:{password}@127.0.0.1:x/"
    for fault in (faultserver.status(404), faultserver.ends_early, faultserver.redirect(to)):
        with faultserver.serve(good, fault) as (address, _):
            hidden = address.replace("//", "//***@")
            secret = address.replace("//", f"//me:{password}@")
            text = refused(monkeypatch, secret, secret.replace("http", "s3"))
        text += capsys.readouterr().out
        assert raw_files.unreachable_sources() == [hidden, hidden.replace("http", "s3")]
        assert f"{hidden}/images.gz: " in text
        assert f"; next: {hidden.replace('http', 's3')}\n" in text
        assert "secret" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pass@host/a, https://b@c", "http://***@host/a, https://***@c"),
        ("http://me:p/a?s#s@host:80/x", "http://***@host:80/x"),
        ("http://me:1/2@host", "http://me:1/2@host"),  # a port, for all that can be known
        ("http://host/a@b http://host:80/a@b /a/b@c ~/a@b", "http://host/a@b http://host:80/a@b /a/b@c ~/a@b"),
    ],
)
def test_credentials_are_what_is_before_the_host(text, shown):
    assert web.without_password(text) == shown


def test_a_password_that_ends_the_address_is_explained(monkeypatch):
    text = refused(monkeypatch, "http://me:sec/ret@127.0.0.1")
    assert "http://***@127.0.0.1/images.gz: InvalidURL: expected a port up to 65535; write / ? # in a password" in text
    assert "sec" not in text.replace("secure", "")


def test_a_proxy_is_asked(good, monkeypatch):
    mirror.fill(good / "http:/mirror.example/x")  # a proxy is asked for an address instead of a path
    with faultserver.serve(good, faultserver.good) as (address, asked):
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.setenv("DATASETS_MIRROR", "http://mirror.example/x")
        download.main()
        assert asked == [f"http://mirror.example/x/{name}" for name in ("images.gz", "labels.gz", "archive.tar.gz")]
    assert raw() == EVERYTHING


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_of_another_kind_is_refused_unless_it_is_bypassed(good, monkeypatch, scheme):
    with faultserver.serve(good, faultserver.good) as (address, asked):
        host = address.removeprefix("http://")
        monkeypatch.setenv(f"{scheme}_proxy", f"SOCKS5h://me:secret@{host}")
        monkeypatch.delenv("no_proxy", raising=False)
        text = refused(monkeypatch, f"{scheme}://mirror.example")
        assert f"images.gz: InvalidURL: {scheme}_proxy: found socks5h://, expected the address of an HTTP" in text
        assert "secret" not in text
        assert asked == []
        monkeypatch.setenv("no_proxy", host)  # with its port
        monkeypatch.setenv("DATASETS_MIRROR", address)
        download.main()
    assert raw() == EVERYTHING


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["status line", "header", "headers"])
def test_a_proxy_that_never_ends_its_answer(good, monkeypatch, part):
    (good / "mirror.example:443").touch()
    with faultserver.serve(good, faultserver.trickle(*ENDLESS[part])) as (address, asked):
        monkeypatch.setenv("https_proxy", address)
        assert "https://mirror.example/images.gz: " in refused(monkeypatch, "https://mirror.example")
        assert set(asked) == {"mirror.example:443"}


@pytest.mark.timeout(60)
def test_a_server_that_never_shakes_hands(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "timed out" in refused(monkeypatch, f"https://127.0.0.1:{server.getsockname()[1]}")


def malformed() -> dict[str, bytes]:
    """Archives that tarfile or gzip cannot read, each in its own way."""

    def tar(*headers: bytes) -> bytes:
        return gzip.compress(b"".join(headers) + bytes(1024))

    def header(name: str, kind: bytes, size: int, content: bytes = b"") -> bytes:
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, size
        return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)

    def checked(block: bytes, at: int, new: bytes) -> bytes:
        changed = block[:at] + new + block[at + len(new) :]
        total = sum(changed[:148]) + sum(changed[156:512]) + 8 * 32
        return changed[:148] + b"%06o\0 " % total + changed[156:]

    plain = header("batches/one", tarfile.REGTYPE, 5, b"first")
    pax = [b"11 size=-5\n", b"12 size=abc\n", b"0 a=b\n", b"99999 a=b\n", b"x" * 512, b"13 mtime=1e9\xff\n",
           b"25 GNU.sparse.map=a,b,c,d\n", b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"]  # fmt: skip
    broken = {
        f"pax {number}": tar(header("p", tarfile.XHDTYPE, len(one), one), plain) for number, one in enumerate(pax)
    }
    return broken | {
        "empty": b"",
        "no gzip": b"a" * 2000,
        "cut": tar(plain)[:-20],
        "wrong sum": tar(plain)[:-8] + bytes(8),
        "negative size": tar(checked(plain, 124, b"\xff" * 12)),
        "huge size": tar(checked(plain, 124, b"\x80" + b"\x7f" * 11)),
        "size of letters": tar(checked(plain, 124, b"zzzzzzzzzzz\0")),
        "sparse without a map": tar(header("batches/one", tarfile.GNUTYPE_SPARSE, 5, b"first")),
        "long name without end": tar(header("x", tarfile.GNUTYPE_LONGNAME, 10**9)),
        "long name of nothing": tar(header("x", tarfile.GNUTYPE_LONGNAME, 0)),
        "thousands of headers": tar(header("p", tarfile.XHDTYPE, 6, b"6 a=b\n") * 3000, plain),
        "a link": tar(header("batches/one", tarfile.SYMTYPE, 0), header("batches/two", tarfile.DIRTYPE, 0)),
        "two headers": tar(plain * 2),
    }


@pytest.mark.parametrize(("what", "archive"), malformed().items(), ids=list(malformed()))
def test_a_malformed_archive_is_refused_in_a_line(good, monkeypatch, what, archive):
    (good / "archive.tar.gz").write_bytes(archive)
    assert f"{good}/archive.tar.gz: " in refused(monkeypatch, str(good))
    assert raw() == mirror.CONTENT


@pytest.mark.parametrize("before", [b"", tarfile.TarInfo("batches/readme.html").tobuf()], ids=["first", "second"])
def test_a_header_that_fills_memory_is_refused(good, monkeypatch, before):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 10**9
    (good / "archive.tar.gz").write_bytes(gzip.compress(before + info.tobuf(tarfile.GNU_FORMAT)) + faultserver.BOMB)
    monkeypatch.setattr(
        "reprocnn.sources.raw_files.DATASETS",
        tuple(replace(one, archive=one.archive and replace(one.archive, max_size=10**9)) for one in raw_files.DATASETS),
    )
    tracemalloc.start()
    assert re.search(r"over 10\d,\d+ bytes", refused(monkeypatch, str(good)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_headers_of_all_members_are_not_kept_with_each(good, monkeypatch):
    """As tarfile does: a small archive would take gigabytes, and hours."""
    names = b"".join(b"9 %x=1\n" % number for number in range(4096, 10_000))
    headers = [(tarfile.XGLTYPE, names), *[(tarfile.XHDTYPE, b"6 a=b\n")] * 500]
    archive = b""
    for kind, content in headers:
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, len(content)
        archive += info.tobuf() + content + bytes(-len(content) % 512) + tarfile.TarInfo("x").tobuf()
    (good / "archive.tar.gz").write_bytes(gzip.compress(archive, 1))
    kept, step = [], tarfile.TarFile.next

    def count(tar: Any) -> tarfile.TarInfo | None:
        kept.append((len(tar.members), len(tar.pax_headers)))
        return step(tar)

    monkeypatch.setattr(tarfile.TarFile, "next", count)
    assert "expected regular files batches/one, batches/two, found none" in refused(monkeypatch, str(good))
    assert len(kept) > 500
    assert set(kept[2:]) == {(0, 0)}  # before, the archive is opened, with its first member


def test_a_name_in_gzips_header_ends(good, monkeypatch):
    """It is read byte by byte: one as long as an archive may be takes half an hour."""
    (good / "archive.tar.gz").write_bytes(b"\x1f\x8b\x08\x08" + b"x" * 900_000)
    assert re.search(r"archive\.tar\.gz: over 36\d,\d+ bytes", refused(monkeypatch, str(good)))


@pytest.mark.parametrize("fault", [faultserver.status(404), faultserver.ends_early, faultserver.drip])
def test_who_failed_behind_a_redirect_is_named(good, monkeypatch, fault):
    with faultserver.serve(good, fault) as (away, _):
        to = away.replace("//", "//me:secret@")
        with faultserver.serve(good, faultserver.redirect(f"{to}/images.gz")) as (address, _):
            text = refused(monkeypatch, address)
    assert f"{address}/images.gz: " in text
    assert f", at {away.replace('//', '//***@')}/images.gz" in text


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("proxy", ["http://me:secret@127.0.0.1:9", "127.0.0.1:9"])
def test_a_proxy_that_does_not_answer_is_named(monkeypatch, scheme, proxy):
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    text = refused(monkeypatch, f"{scheme}://mirror.example")
    assert f"Connection refused, through {scheme}_proxy 127.0.0.1:9, after 3 tries" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    "proxy", ["http:/me:secret@h", "/me:secret@h", "http://", "http://h:99999", "h:" + "9" * 30, "h:x"]
)
def test_a_proxy_that_is_no_address_is_refused(monkeypatch, proxy):
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("no_proxy", raising=False)
    text = refused(monkeypatch, "http://mirror.example")
    assert "InvalidURL: http_proxy: expected the address of an HTTP proxy, http://host:port" in text
    assert "secret" not in text


def test_a_certificate_that_no_one_vouches_for(good, tmp_path, monkeypatch):
    certificate = faultserver.self_signed(tmp_path / "certificate.pem")
    with faultserver.serve(good, faultserver.good, certificate=certificate) as (address, asked):
        assert "CERTIFICATE_VERIFY_FAILED" in refused(monkeypatch, address)
        assert asked == []
        monkeypatch.setattr("certifi.where", lambda: str(certificate))  # where the system has none of its own
        download.main()
    assert raw() == EVERYTHING


@pytest.mark.parametrize(
    "source",
    [
        "http://[",
        "https://:",
        "ftp://127.0.0.1/x",
        "no/such/folder",
        "file:///no%20such",
        "file:///%00",
        "file://[",
        "~nosuchuser/x",
        "http://a\x01b",
        "http://\udcff",
        "https://127.0.0.1:99999",
        "http://127.0.0.1:x",
    ],
)
def test_a_source_that_is_none(monkeypatch, source):
    assert source in refused(monkeypatch, source)


def test_no_connection(monkeypatch):
    assert "ConnectionRefusedError" in refused(monkeypatch, "http://127.0.0.1:9")
