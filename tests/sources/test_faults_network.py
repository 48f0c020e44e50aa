"""A bad network under the real download code: the right bytes or a clear line, and nothing half-written."""

import tracemalloc

import pytest

from stages import download
from tests.support import faultserver, mirror
from tests.support.mirror import EVERYTHING, raw, refused

pytestmark = pytest.mark.usefixtures("small_files")


ONCE, THRICE = 1, 3
FAULTS = [
    (faultserver.status(404), ONCE, "HTTP status 404"),
    (faultserver.status(403), ONCE, "HTTP status 403"),
    (faultserver.status(500), THRICE, "HTTP status 500, after 3 tries"),
    (faultserver.hang, THRICE, "timed out"),
    (faultserver.drip, ONCE, "bytes in 1 s"),
    (faultserver.reset, THRICE, "after 3 tries"),
    (faultserver.ends_early, THRICE, "after 3 tries"),
    (
        faultserver.too_short,
        ONCE,
        "not the published file: expected 5,500 bytes, sha256 b25d1a93684e97f8..., found 5,490 bytes, sha256 ",
    ),
    (faultserver.too_long, ONCE, "found 5,504 bytes"),
    (faultserver.other_bytes, ONCE, "not the published file: expected 5,500 bytes"),
    (faultserver.senseless_length, ONCE, "found 5,490 bytes"),
    (faultserver.page, ONCE, "found 42 bytes"),
    (faultserver.endless, ONCE, "found more than "),
    (faultserver.bomb, ONCE, "found more than "),
    (faultserver.encoded_bomb, ONCE, "found more than "),
    (faultserver.redirect(""), ONCE, "Exceeded 30 redirects"),
    (faultserver.redirect("file:///etc/passwd"), ONCE, "No connection adapters were found for 'file:///etc/passwd'"),
]
NAMES = [
    "404", "403", "500", "hang", "drip", "reset", "ends early", "short", "long", "other bytes", "senseless length",
    "page", "endless", "bomb", "encoded bomb", "redirect loop", "redirect to a file",
]  # fmt: skip


@pytest.mark.parametrize(("fault", "asks", "message"), FAULTS, ids=NAMES)
def test_a_faulty_source_is_reported_and_the_next_one_asked(good, monkeypatch, fault, asks, message):
    with faultserver.serve(good, fault) as (address, asked):
        lines = refused(monkeypatch, address)
        assert message in lines
        assert f"{address}/images.gz" in lines
        assert raw() == {}
        assert len([path for path in asked if path == "/images.gz"]) == (31 if "redirects" in message else asks)
        monkeypatch.setenv("DATASETS_MIRROR", f"{address} {good}")
        download.main()
    assert raw() == EVERYTHING


@pytest.mark.parametrize(
    "fault",
    [faultserver.status(500), faultserver.status(503), faultserver.reset, faultserver.ends_early, faultserver.hang],
)
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


def test_a_bomb_costs_no_memory(good, monkeypatch):
    with faultserver.serve(good, faultserver.good, faultserver.good, faultserver.tar_bomb) as (address, _):
        tracemalloc.start()
        message = refused(monkeypatch, address)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert "archive.tar.gz: over 1,000,000 bytes" in message
    assert peak < 20_000_000


def test_a_certificate_that_no_one_vouches_for(good, tmp_path, monkeypatch):
    certificate = faultserver.self_signed(tmp_path / "certificate.pem")
    with faultserver.serve(good, faultserver.good, certificate=certificate) as (address, asked):
        assert "CERTIFICATE_VERIFY_FAILED" in refused(monkeypatch, address)
        assert asked == []


@pytest.mark.parametrize(
    "source", ["http://[", "https://:", "ftp://127.0.0.1/x", "no/such/folder", "file:///no%20such"]
)
def test_a_source_that_is_none(monkeypatch, source):
    assert source in refused(monkeypatch, source)


def test_no_connection(monkeypatch):
    assert "ConnectionRefusedError" in refused(monkeypatch, "http://127.0.0.1:9")
