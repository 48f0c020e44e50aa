"""The two forms of one document."""

import re
from pathlib import Path

from reprocnn.report import palette
from reprocnn.report.document import Chapter, Figure, Section, inline, to_markdown, to_page

SVG = (
    '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="10"><defs><style>*{}</style><path id="m1" '
    'style="fill: #1f2328"/></defs>'
    '<use xlink:href="#m1" clip-path="url(#m1)"/></svg>\n'
)
TABLE = "| a | b |\n|---|---|\n| 1 | 2 |"
WIDE = "| a | b | c | d | e |\n|---|---|---|---|---|\n| 1 | 2 | 3 | 4 | 5 |"
CHAPTERS = [
    Chapter("First & last", "Its text.", (Section("A part", "- **An** item.", (Figure("a.svg", 'a "figure"'),)),)),
    Chapter("Second", "", (Section("Tables", f"{TABLE}\n\n{WIDE}"),)),
]


def page(tmp_path: Path) -> str:
    (tmp_path / "a.svg").write_text(SVG)
    return to_page("The <title>", "Summary.", CHAPTERS, tmp_path)


def test_markdown_has_it_all_in_its_order():
    assert to_markdown("The title", "Summary.", CHAPTERS) == (
        "# The title\n\nSummary.\n\n## First & last\n\nIts text.\n\n### A part\n\n"
        '![a "figure"](a.svg)\n\n- **An** item.\n\n'
        f"## Second\n\n### Tables\n\n{TABLE}\n\n{WIDE}\n"
    )


def test_the_page_has_it_all_in_its_order(tmp_path):
    text = page(tmp_path)
    parts = [
        "<title>The &lt;title&gt;</title>", "<h1>The &lt;title&gt;</h1>", "<p>Summary.</p>", '<a href="#first-last">',
        '<h2>First &amp; last</h2><p>Its text.</p>', "<h3>A part</h3>", "<svg", "<strong>An</strong> item",
        '<section class="chapter" id="second">', "<h3>Tables</h3>",
    ]  # fmt: skip
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


def test_the_page_needs_nothing_else(tmp_path):
    text = page(tmp_path)
    assert "default-src 'none'" in text
    assert "<script" not in text
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text


def test_a_figure_within_the_page(tmp_path):
    (tmp_path / "a.svg").write_text(SVG)
    assert inline(tmp_path / "a.svg", 'a "figure"') == (
        '<svg role="img" aria-label="a &quot;figure&quot;" width="10"><defs><path id="a-m1" style="fill: var(--ink)"/>'
        '</defs><use xlink:href="#a-m1" clip-path="url(#a-m1)"/></svg>'
    )


def test_cells_of_a_wide_table_know_their_column(tmp_path):
    text = page(tmp_path)
    assert text.count('<table class="wide">') == 1
    assert [f'<td data-label="{name}">{n}</td>' in text for n, name in enumerate("abcde", start=1)] == [True] * 5
    four = "| a | b | c | d |\n|---|---|---|---|\n| 1 | 2 | 3 | 4 |\n| 5 | 6 | 7 | 8 |"
    text = to_page("T", four, [], tmp_path)
    assert "wide" not in text.partition("<body>")[2]
    assert '<td data-label="a">5</td>' in text


def test_a_single_figure_stands_beside_the_text(tmp_path):
    (tmp_path / "a.svg").write_text(SVG)
    figure = Figure("a.svg", "alt & more")
    sections = tuple(Section(f"{n} figures", "Text.", (figure,) * n) for n in range(3))
    parts = to_page("T", "", [Chapter("C", "", sections)], tmp_path).split("<section class=")[2:]
    assert [part.partition(">")[0] for part in parts] == ['"below"', '"beside"', '"below"']
    assert [part.count("<svg role=") for part in parts] == [0, 1, 2]
    assert parts[1].count('<figcaption aria-hidden="true">alt &amp; more</figcaption>') == 1


def test_html_in_a_text_stays_text(tmp_path):
    assert "&lt;script&gt;" in to_page("T", "<script>", [], tmp_path)


def test_each_colour_has_one_for_the_dark():
    light, dark = palette.variables()
    assert f"--ink: {palette.INK};" in light
    assert light.count("--") == dark.count("--") == len(palette.THEME)
    assert [re.findall(r"--(\w+): (#\w{6});", theme) for theme in (light, dark)] == [
        [(name, colour) for colour, (name, _) in palette.THEME.items()], list(palette.THEME.values()),
    ]  # fmt: skip
