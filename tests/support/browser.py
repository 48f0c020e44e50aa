"""What a browser makes of a page: Debian's Chromium, headless, without a network."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# Skipped where there is none, but not on CI, where it would go unnoticed.
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="needs Chromium (apt-get install chromium)"
)

# Each line of each text, as a rectangle in pixels, in HTML and in SVG alike; what is not shown has none.
LINES = """() => {
  const lines = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.data.trim()) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const {left, top, right, bottom} of range.getClientRects())
      if (right > left && bottom > top) lines.push({text: node.data.trim().slice(0, 40), left, top, right, bottom});
  }
  return lines;
}"""
# Elements that reach beyond the right or the left edge of the window, but for those in a box that scrolls.
WIDER = """() => [...document.querySelectorAll("body *")].filter(element => {
  const {left, right, width} = element.getBoundingClientRect();
  for (let box = element.parentElement; box; box = box.parentElement)
    if (getComputedStyle(box).overflowX === "auto") return false;
  return width && (right > innerWidth + 1 || left < -1);
}).map(element => element.outerHTML.slice(0, 80))"""
# Images that did not load; an SVG's are asked to decode again.
BROKEN = """async () => {
  const broken = [];
  for (const image of document.querySelectorAll("img, image")) {
    const copy = new Image();
    copy.src = image.src || image.href.baseVal;
    await copy.decode().catch(() => broken.push(copy.src.slice(0, 60)));
  }
  return broken;
}"""
# The contrast (WCAG 2.2, relative luminance) of each text with the page, the least of them first.
CONTRASTS = """() => {
  const parse = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const luminance = colour => parse(colour).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const page = luminance(getComputedStyle(document.body).backgroundColor), found = [];
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const style = getComputedStyle(element);
    const own = luminance(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const [low, high] = [own, page].sort((a, b) => a - b);
    found.push({text: element.textContent.trim().slice(0, 40), contrast: (high + 0.05) / (low + 0.05)});
  }
  return found.sort((a, b) => a.contrast - b.contrast);
}"""
# The height in pixels of the letters of each text of a figure, as they are drawn.
LETTERS = """() => [...document.querySelectorAll("svg text")].map(element => {
  const {a, b} = element.getScreenCTM();
  return {text: element.textContent, size: parseFloat(getComputedStyle(element).fontSize) * Math.hypot(a, b)};
})"""
SLACK = 1.5  # pixels by which two boxes may touch: a line's box is higher than its letters


@dataclass(frozen=True)
class Seen:
    page: Any
    complaints: list[str]  # of the console
    requests: list[str]  # of anything but files and data

    def overlaps(self) -> list[str]:
        """Pairs of texts that lie on one another."""
        lines = sorted(self.page.evaluate(LINES), key=lambda line: line["top"])
        found = []
        for i, one in enumerate(lines):
            for other in lines[i + 1 :]:
                if other["top"] >= one["bottom"] - SLACK:
                    break
                if min(one["right"], other["right"]) - max(one["left"], other["left"]) > SLACK:
                    found.append(f"{one['text']!r} and {other['text']!r}")
        return found

    def wider_than_the_window(self) -> list[str]:
        return self.page.evaluate(WIDER)

    def unfold(self) -> None:
        """Open all details."""
        self.page.evaluate("document.querySelectorAll('details').forEach(element => element.open = true)")

    def small_letters(self) -> list[str]:
        """Texts of figures with letters below 11 pixels."""
        found = self.page.evaluate(LETTERS)
        return [f"{one['text']!r}: {one['size']:.1f}" for one in found if one["size"] < 10.99]

    def broken_images(self) -> list[str]:
        return self.page.evaluate(BROKEN)

    def faint_texts(self) -> list[str]:
        """Those below the contrast of 4.5 that WCAG asks for."""
        found = self.page.evaluate(CONTRASTS)
        assert found
        return [f"{one['text']!r}: {one['contrast']:.1f}" for one in found if one["contrast"] < 4.5]


@contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "needs Chromium (apt-get install chromium)"
    with sync_playwright() as playwright:
        # Without a sandbox, since root may have none; the page is our own.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, width: int, scheme: str = "light") -> Iterator[Seen]:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    seen = Seen(page, [], [])
    page.on("console", lambda message: seen.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: seen.complaints.append(f"error: {error}"))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:")) else seen.requests.append(request.url),
    )
    page.goto(path.resolve().as_uri(), wait_until="load")
    yield seen
    context.close()
