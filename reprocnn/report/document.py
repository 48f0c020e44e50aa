"""One document of text and figures, written twice: as Markdown beside its figures, and as a page that holds them."""

import html
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from reprocnn.report import palette

CSS = Path(__file__).with_name("document.css")
WIDE = 4  # columns: a table of more is shown row by row on a phone


@dataclass(frozen=True)
class Figure:
    """A picture with its alternative text."""

    file: str  # an SVG
    alt: str


@dataclass(frozen=True)
class Section:
    """Text with its figures."""

    title: str
    text: str  # Markdown
    figures: tuple[Figure, ...] = ()


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
            parts += [f"### {section.title}", images, section.text]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def to_page(title: str, text: str, chapters: list[Chapter], folder: Path) -> str:
    """Write HTML that needs no other file, and may not fetch any; `folder` has the figures."""
    contents = "".join(f'<a href="#{_slug(chapter.title)}">{html.escape(chapter.title)}</a>' for chapter in chapters)
    body = "".join(
        f'<section class="chapter" id="{_slug(chapter.title)}"><h2>{html.escape(chapter.title)}</h2>'
        f"{_html(chapter.text)}{''.join(_section(section, folder) for section in chapter.sections)}</section>"
        for chapter in chapters
    )
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
        f"<header><h1>{html.escape(title)}</h1>{_html(text)}<nav>{contents}</nav></header>\n"
        f"<main>{body}</main>\n</body>\n</html>\n"
    )


def _section(section: Section, folder: Path) -> str:
    layout = "beside" if len(section.figures) == 1 else "below"
    figures = "".join(
        f"<figure>{inline(folder / figure.file, figure.alt)}"
        f'<figcaption aria-hidden="true">{html.escape(figure.alt)}</figcaption></figure>'
        for figure in section.figures
    )
    return (
        f'<section class="{layout}"><h3>{html.escape(section.title)}</h3>'
        + (f'<div class="figures">{figures}</div>' if figures else "")
        + (f'<div class="text">{_html(section.text)}</div>' if section.text.strip() else "")
        + "</section>\n"
    )


def inline(path: Path, alt: str) -> str:
    """Read the SVG element of a file, and give it an alternative text, ids of its own and the colours of the page."""
    svg = path.read_text(encoding="utf-8")
    # A style would apply to the whole page, which has the same rule in its own.
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{path.stem}-", svg)
    for colour, (name, _) in palette.THEME.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1).strip()


def _html(text: str) -> str:
    """Render Markdown; a cell of a wide table knows the heading of its column."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(text)
    table, column = Token("", "", 0), 0
    headings: list[str] = []
    for token, following in pairwise(tokens):
        if token.type == "table_open":
            table, headings = token, []
        elif token.type == "th_open":
            headings.append(following.content)
        elif token.type == "thead_close" and len(headings) > WIDE:
            table.attrSet("class", "wide")
        elif token.type == "tr_open":
            column = 0
        elif token.type == "td_open":
            token.attrSet("data-label", headings[column])
            column += 1
    return parser.renderer.render(tokens, parser.options, {})


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower()).strip("-")
