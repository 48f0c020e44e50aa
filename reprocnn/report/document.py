"""One document of text and figures, written twice: as Markdown beside its figures, and as a page that holds them."""

import html
import math
import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from reprocnn.report import palette

CSS = Path(__file__).with_name("document.css")
LEGIBLE = 11  # pixels of the smallest letters of a figure in the page; a figure too wide for its place scrolls
NARROW = 360  # pixels beside the margins of a phone
# With a sign, a unit, a spread or a change: a cell of a column that is aligned at the right.
NUMBER = re.compile(r"([-+]?[\d.,]+ ?(%|s|ms|MiB|GiB|GFLOP/s)?(\u00a0±\u00a0[\d.]+| \([-+][\d.]+\)| to [\d.,]+)?|-|)")


@dataclass(frozen=True)
class Figure:
    """A picture with its alternative text."""

    file: str  # an SVG
    alt: str


@dataclass(frozen=True)
class Section:
    """Text with its figures, and details that the page shows on demand."""

    title: str
    text: str  # Markdown
    figures: tuple[Figure, ...] = ()
    summary: str = ""  # of the details
    details: str = ""  # Markdown


@dataclass(frozen=True)
class Chapter:
    """Sections with a text before them."""

    title: str
    text: str
    sections: tuple[Section, ...] = ()


def to_markdown(title: str, text: str, chapters: list[Chapter]) -> str:
    """Write Markdown that names its figures by file."""
    parts = [f"# {title}", text]
    for chapter in chapters:
        parts += [f"## {chapter.title}", chapter.text]
        for section in chapter.sections:
            images = "\n".join(f"![{figure.alt}]({figure.file})" for figure in section.figures)
            parts += [f"### {section.title}", images, section.text, section.details]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def to_page(title: str, text: str, chapters: list[Chapter], folder: Path) -> str:
    """Write HTML that needs no other file, and may not fetch any; `folder` has the figures."""
    contents = "".join(_contents(chapter) for chapter in chapters)
    body = "".join(_chapter(chapter, folder) for chapter in chapters)
    light, dark = palette.variables()
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n:root {{ {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f"{CSS.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"<header><h1>{html.escape(title)}</h1>{_html(text)}"
        f'<nav aria-label="Contents"><ul>{contents}</ul></nav></header>\n'
        f"<main>{body}</main>\n</body>\n</html>\n"
    )


def _contents(chapter: Chapter) -> str:
    links = [_link(chapter.title), *(_link(chapter.title, section.title) for section in chapter.sections)]
    sections = "".join(f"<li>{link}</li>" for link in links[1:])
    return f"<li>{links[0]}<ul>{sections}</ul></li>"


def _link(*titles: str) -> str:
    return f'<a href="#{_slug(*titles)}">{html.escape(titles[-1])}</a>'


def _chapter(chapter: Chapter, folder: Path) -> str:
    sections = "".join(_section(chapter, section, folder) for section in chapter.sections)
    return (
        f'<section class="chapter" id="{_slug(chapter.title)}"><h2>{html.escape(chapter.title)}</h2>'
        f"{_html(chapter.text)}{sections}</section>"
    )


def _section(chapter: Chapter, section: Section, folder: Path) -> str:
    layout = "beside" if len(section.figures) == 1 else "below"
    figures = "".join(_figure(figure, folder) for figure in section.figures)
    details = ""
    if section.details:
        details = f"<details><summary>{html.escape(section.summary)}</summary>{_html(section.details)}</details>"
    return (
        f'<section class="{layout}" id="{_slug(chapter.title, section.title)}"><h3>{html.escape(section.title)}</h3>'
        + (f'<div class="figures">{figures}</div>' if figures else "")
        + f'<div class="text">{_html(section.text)}{details}</div></section>\n'
    )


def _figure(figure: Figure, folder: Path) -> str:
    svg = inline(folder / figure.file, figure.alt)
    width = _least_width(svg)
    kind = ' class="wide"' if width > NARROW else ""
    least = f' style="min-width: {width}px"' if width else ""
    return (
        f'<figure{kind}><div class="scroll">{svg.replace("<svg", f"<svg{least}", 1)}</div>'
        f'<figcaption aria-hidden="true">{html.escape(figure.alt)}</figcaption></figure>'
    )


def _least_width(svg: str) -> int:
    """Compute the width at which no letter is smaller than `LEGIBLE`, 0 without letters; both in pixels."""
    sizes = [float(size) for size in re.findall(r'font-size(?:: |=")([\d.]+)px', svg)]
    width = re.search(r'viewBox="0 0 ([\d.]+) ', svg)
    return math.ceil(float(width[1]) * LEGIBLE / min(sizes)) if sizes and width else 0


def inline(path: Path, alt: str) -> str:
    """Read the SVG element of a file, give it an alternative text, ids of its own and the colours of the page."""
    svg = path.read_text(encoding="utf-8")
    # A style would apply to the whole page, which has the same rule in its own.
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{path.stem}-", svg)
    for colour, (name, _) in palette.THEME.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1).strip()


def _html(text: str) -> str:
    """Render Markdown; a table is in a box that scrolls, its columns of numbers aligned at the right."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    for i, token in enumerate(tokens):
        if token.type == "table_open":
            end = next(j for j in range(i, len(tokens)) if tokens[j].type == "table_close")
            _align_numbers(tokens[i:end])
    page: str = parser.renderer.render(tokens, parser.options, {})
    return page.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")


def _align_numbers(table: list[Token]) -> None:
    cells = [i for i, token in enumerate(table) if token.type in ("th_open", "td_open")]
    n = sum(table[i].type == "th_open" for i in cells)
    for column in range(n):
        own = cells[column::n]
        values = [table[i + 1].content for i in own[1:]]
        if any(values) and all(NUMBER.fullmatch(value) for value in values):
            for i in own:
                table[i].attrSet("class", "n")


def _slug(*titles: str) -> str:
    return "-".join(re.sub(r"\W+", "-", title.lower()).strip("-") for title in titles)
