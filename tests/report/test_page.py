"""The report as a reader has it: in a browser, on a phone and on a screen, in the light and in the dark."""

import contextlib
import functools
import re
from pathlib import Path

import pytest

from tests.support import browser
from tests.support.commands import ROOT

pytestmark = [browser.needs_chromium, pytest.mark.slow]
PAGE = ROOT / "report/index.html"
LOOKS = [(width, scheme) for width in (390, 1280) for scheme in ("light", "dark")]


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page(chromium):
    """Opens the report once for each width and scheme."""

    @functools.cache
    def open_it(width: int, scheme: str):
        return stack.enter_context(browser.opened(chromium, PAGE, width, scheme))

    with contextlib.ExitStack() as stack:
        yield lambda width, scheme="light": open_it(width, scheme)


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """Change the report, of which the beginning is enough: up to the end of its first figure."""
    text = PAGE.read_text(encoding="utf-8")
    text = text[: text.index("</svg>") + len("</svg>")]
    assert old in text
    path = tmp_path / "page.html"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_page_has_no_faults(page, width, scheme):
    seen = page(width, scheme)
    seen.unfold()
    assert seen.complaints == []
    assert seen.requests == []
    assert seen.broken_images() == []
    assert seen.overlaps() == []
    assert seen.wider_than_the_window() == []
    assert seen.faint_texts() == []
    assert seen.small_letters() == []
    assert len(seen.page.query_selector_all("svg[role=img][aria-label]")) == len(seen.page.query_selector_all("svg"))


def test_the_pages_of_the_sample_are_as_good(chromium, finished):
    """Other numbers, names and curves than the committed ones."""
    for width in (390, 1280):
        with browser.opened(chromium, finished / "report/index.html", width) as seen:
            seen.unfold()
            assert (seen.complaints, seen.requests, seen.broken_images()) == ([], [], [])
            assert (seen.overlaps(), seen.wider_than_the_window(), seen.small_letters()) == ([], [], [])


def test_dark_is_dark(page):
    background = "getComputedStyle(document.body).backgroundColor"
    colours = {}
    for scheme in ("light", "dark"):
        colours[scheme] = [int(value) for value in re.findall(r"\d+", page(390, scheme).page.evaluate(background))]
    assert min(colours["light"]) > 200
    assert max(colours["dark"]) < 50


def test_the_contents_lead_to_their_chapters(page):
    report = page(390).page
    targets = [link.get_attribute("href") for link in report.query_selector_all("nav a")]
    assert len(targets) >= 2
    assert [target for target in targets if len(report.query_selector_all(target)) != 1] == []


def test_no_id_is_there_twice(page):
    ids = page(390).page.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))


def test_an_overlap_is_found(chromium, tmp_path):
    planted = '<p style="position: absolute; top: 1rem">Planted</p><h1>'
    with browser.opened(chromium, edited(tmp_path, "<h1>", planted), 390) as seen:
        assert any("'Planted'" in pair for pair in seen.overlaps())


def test_an_overlap_within_a_figure_is_found(chromium, tmp_path):
    planted = '<text transform="translate(30 20)">Planted</text><text transform="translate(40 24)">over</text></svg>'
    with browser.opened(chromium, edited(tmp_path, "</svg>", planted), 390) as seen:
        assert "'Planted' and 'over'" in seen.overlaps() or "'over' and 'Planted'" in seen.overlaps()


def test_what_is_too_wide_is_found(chromium, tmp_path):
    with browser.opened(chromium, edited(tmp_path, "<h1>", '<p style="width: 500px">Planted</p><h1>'), 390) as seen:
        assert len(seen.wider_than_the_window()) == 1


def test_what_is_too_wide_for_a_box_that_scrolls_is_no_fault(chromium, tmp_path):
    planted = '<div style="overflow-x: auto"><p style="width: 500px">Planted</p></div><h1>'
    with browser.opened(chromium, edited(tmp_path, "<h1>", planted), 390) as seen:
        assert seen.wider_than_the_window() == []


def test_small_letters_are_found(chromium, tmp_path):
    """Eight units of a figure of 100, which is as wide as the text, 358 pixels, but for the scale of its group."""
    text = '<g transform="scale(0.3)"><text y="9" style="font-size: 8px">Planted</text></g>'
    planted = f'<svg viewBox="0 0 100 9" style="width: 100%">{text}</svg><h1>'
    with browser.opened(chromium, edited(tmp_path, "<h1>", planted), 390) as seen:
        assert seen.small_letters() == ["'Planted': 8.6"]


def test_the_page_is_short_on_a_phone(chromium):
    """Tables are folded: without them it is some 24 screens of 844 pixels."""
    with browser.opened(chromium, PAGE, 390) as seen:
        folded = seen.page.evaluate("document.documentElement.scrollHeight")
        seen.unfold()
        assert folded < 26 * 844
        assert folded < 0.8 * seen.page.evaluate("document.documentElement.scrollHeight")


def test_a_request_is_refused_and_found(chromium, tmp_path):
    """By the page's own policy; without it, by the lack of a network."""
    image = '<img src="https://images.example/a.png" alt=""><h1>'
    path = edited(tmp_path, "<h1>", image)
    with browser.opened(chromium, path, 390) as seen:
        assert any("Content Security Policy" in complaint for complaint in seen.complaints)
        assert seen.broken_images() != []
    path.write_text(re.sub(r"<meta http-equiv=[^>]*>", "", path.read_text(encoding="utf-8")), encoding="utf-8")
    with browser.opened(chromium, path, 390) as seen:
        assert "https://images.example/a.png" in seen.requests


def test_a_broken_image_is_found(chromium, tmp_path):
    with browser.opened(
        chromium, edited(tmp_path, "<h1>", '<img src="data:image/png;base64,AA" alt=""><h1>'), 390
    ) as seen:
        assert seen.broken_images() == ["data:image/png;base64,AA"]


def test_a_faint_text_is_found(chromium, tmp_path):
    with browser.opened(chromium, edited(tmp_path, "<h1>", '<p style="color: #aaa">Planted</p><h1>'), 390) as seen:
        assert [text for text in seen.faint_texts() if "Planted" in text] == ["'Planted': 2.3"]


def test_a_complaint_is_found(chromium, tmp_path):
    with browser.opened(chromium, edited(tmp_path, "<h1>", "<script>nosuch()</script><h1>"), 390) as seen:
        assert seen.complaints
