"""The two forms of one document."""

import re
from pathlib import Path

import pytest

from reprocnn.report import palette
from reprocnn.report.document import NUMBER, Chapter, Figure, Section, inline, to_markdown, to_page

SVG = (
    '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="10"><defs><style>*{\n}</style><path id="m1" '
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


def test_each_place_of_a_colour_follows_the_page(tmp_path):
    (tmp_path / "a.svg").write_text(f'<svg><path fill="{palette.INK}" stroke="{palette.INK}"/></svg>')
    assert '<path fill="var(--ink)" stroke="var(--ink)"/>' in inline(tmp_path / "a.svg", "alt")


def test_columns_of_numbers_are_aligned_at_the_right(tmp_path):
    rows = ["| name | share | time | note |", "|---|---|---|---|", "| 1 | 5% | 2 s | 3 |", "| b | -4.5% | | of 4 |"]
    text = to_page("T", "\n".join(rows), [], tmp_path).partition("<table>")[2]
    assert re.findall(r"<th(.*?)>(.*?)</th>", text) == [
        ("", "name"), (' class="n"', "share"), (' class="n"', "time"), ("", "note"),
    ]  # fmt: skip
    assert re.findall(r"<td(.*?)>(.*?)</td>", text) == [
        ("", "1"), (' class="n"', "5%"), (' class="n"', "2 s"), ("", "3"),
        ("", "b"), (' class="n"', "-4.5%"), (' class="n"', ""), ("", "of 4"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "is_number"),
    [
        ("1,234", True), ("99.04%\u00a0±\u00a00.08", True), ("98.99% (+0.02)", True), ("-", True), ("+4.5%", True),
        ("1.1 to 95.1", True),
        ("2,752 ms", True), ("512 MiB", True), ("1.3 GiB", True), ("1077 GFLOP/s", True), ("3.3 s, epoch 1", False),
        ("", True),
        ("a 1", False), ("30 of 10,000", False), ("2026-11-26", False), ("3x3 instead of 10x10", False),
    ],
)  # fmt: skip
def test_what_is_a_number(cell, is_number):
    assert bool(NUMBER.fullmatch(cell)) == is_number


def test_tables_of_words_alone_are_left_as_they_are(tmp_path):
    text = to_page("T", "| a | b |\n|---|---|\n| | c |", [], tmp_path)
    assert 'class="n"' not in text
    assert text.count('<div class="scroll"><table>') == text.count("</table></div>") == 1


def test_a_single_figure_stands_beside_the_text(tmp_path):
    (tmp_path / "a.svg").write_text(SVG)
    figure = Figure("a.svg", "alt & more")
    sections = tuple(Section(f"{n} figures", "Text.", (figure,) * n) for n in range(3))
    parts = to_page("T", "", [Chapter("C", "", sections)], tmp_path).split("<section class=")[2:]
    assert [part.partition(" id")[0] for part in parts] == ['"below"', '"beside"', '"below"']
    assert [part.count("<svg role=") for part in parts] == [0, 1, 2]
    assert parts[1].count('<figcaption aria-hidden="true">alt &amp; more</figcaption>') == 1


@pytest.mark.parametrize(
    ("letters", "figure"),
    [
        # 300 units wide: letters of 10 are 11 pixels high at a width of 330, those of 6.5 at 508.
        ('<text style="font-size: 10px">a</text>', '<figure><div class="scroll"><svg style="min-width: 330px"'),
        ('<text style="font-size: 6.5px">a</text><text style="font-size: 10px">a</text>',
         '<figure class="wide"><div class="scroll"><svg style="min-width: 508px"'),
        ('<g font-size="6.5px"><text>a</text></g>',
         '<figure class="wide"><div class="scroll"><svg style="min-width: 508px"'),
        # A phone is 360 pixels wide: 300 * 11 / 9.17 = 359.9, of 9.16 it is 360.3.
        ('<text font-size="9.17px">a</text>', '<figure><div class="scroll"><svg style="min-width: 360px"'),
        ('<text font-size="9.16px">a</text>', '<figure class="wide"><div class="scroll"><svg style="min-width: 361px"'),
        ("", '<figure><div class="scroll"><svg role'),
    ],
)  # fmt: skip
def test_letters_are_legible(tmp_path, letters, figure):
    (tmp_path / "a.svg").write_text(f'<svg viewBox="0 0 300 9">{letters}</svg>')
    assert figure in to_page("T", "", [Chapter("C", "", (Section("S", "", (Figure("a.svg", "alt"),)),))], tmp_path)


def test_details_are_folded_in_the_page_and_not_in_markdown(tmp_path):
    chapters = [Chapter("C", "", (Section("S", "Text.", (), "More & more", "Details."), Section("None", "Text.")))]
    text = to_page("T", "", chapters, tmp_path)
    assert text.count("<details>") == 1
    assert "<p>Text.</p>\n<details><summary>More &amp; more</summary><p>Details.</p>\n</details>" in text
    assert to_markdown("T", "", chapters) == "# T\n\n## C\n\n### S\n\nText.\n\nDetails.\n\n### None\n\nText.\n"


def test_the_contents_name_chapters_and_sections(tmp_path):
    text = page(tmp_path)
    contents = text[text.index("<nav") : text.index("</nav>")]
    links = re.findall(r'<a href="#(.*?)">(.*?)</a>', contents)
    assert links == [
        ("first-last", "First &amp; last"), ("first-last-a-part", "A part"), ("second", "Second"),
        ("second-tables", "Tables"),
    ]  # fmt: skip
    assert [text.count(f' id="{name}"') for name, _ in links] == [1] * 4


def test_html_in_a_text_stays_text(tmp_path):
    text = to_page("T", "<script>", [Chapter("C", "", (Section("Why <b>?", "Text."),))], tmp_path)
    assert "&lt;script&gt;" in text
    assert '<section class="below" id="c-why-b"><h3>Why &lt;b&gt;?</h3>' in text


def test_each_colour_has_one_for_the_dark():
    light, dark = palette.variables()
    assert f"--ink: {palette.INK};" in light
    assert light.count("--") == dark.count("--") == len(palette.THEME)
    assert [re.findall(r"--(\w+): (#\w{6});", theme) for theme in (light, dark)] == [
        [(name, colour) for colour, (name, _) in palette.THEME.items()], list(palette.THEME.values()),
    ]  # fmt: skip
