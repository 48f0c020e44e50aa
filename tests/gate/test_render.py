"""A judgement, written out in each format to the letter."""

import json
import re
from dataclasses import replace
from html import unescape
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from reprocnn.gate import render
from reprocnn.gate.compare import Judgement, Row
from reprocnn.gate.limits import Loosening

ROWS = [
    Row(
        "a.test.accuracy", 0.96, 0.94503, change=-0.01497, interval=(0.92913, 0.95751), target="≥ 0.9",
        test="McNemar, 20 lost, 5 won", p=0.0020387, verdict="target met, WORSE (p < 0.01)", failed=True,
    ),
    Row("a.loss", 0.25, None, verdict="gone, not judged"),
    Row("n", 3, 12, change=9.0),
]  # fmt: skip
PARAMS = [{"key": "seed", "then": 0, "now": 1}, {"key": "lr", "then": None, "now": 1e-05}]
FAILED = Judgement("v1 (0a1b2c3)", 1, "failed", ["a.test.accuracy: target met, WORSE (p < 0.01)"], ROWS, params=PARAMS)


def cells(text: str, separator: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split(separator) if cell.strip()] for line in text.splitlines()]


HEAD = ["metric", "then", "now", "change", "95 % interval", "target", "test", "verdict"]
BODY = [
    ["a.test.accuracy", "0.9600", "0.9450", "-0.0150", "0.9291 to 0.9575", "≥ 0.9",
     "McNemar, 20 lost, 5 won, p = 0.002", "target met, WORSE (p < 0.01)"],
    ["a.loss", "0.2500", "-", "-", "-", "-", "-", "gone, not judged"],
    ["n", "3", "12", "+9.0000", "-", "-", "-", "not judged"],
]  # fmt: skip


def test_text_has_a_table_the_changed_params_and_the_verdict():
    first, _, header, rule, *rows, _, seed, lr, _, last = render.text(FAILED).splitlines()
    assert first == "gate: baseline: v1 (0a1b2c3)"
    assert cells("\n".join([header, *rows]), "  ") == [HEAD, *BODY]
    assert set(rule) == {"-", " "}
    assert (seed, lr) == ("changed: seed: 0 -> 1", "changed: lr: - -> 1e-05")
    assert last == "gate: failed: a.test.accuracy: target met, WORSE (p < 0.01)"


def test_markdown_has_the_same_in_two_tables():
    lines = render.markdown(FAILED).splitlines()
    assert lines[0] == "### gate: failed: a.test.accuracy: target met, WORSE (p < 0.01)"
    assert lines[2] == "Baseline: v1 (0a1b2c3)."
    assert cells("\n".join([lines[4], *lines[6:9]]), "|") == [HEAD, *BODY]
    assert cells("\n".join([lines[10], *lines[12:]]), "|") == [
        ["changed param", "then", "now"], ["seed", "0", "1"], ["lr", "-", "1e-05"],
    ]  # fmt: skip


def test_json_has_all_fields():
    read = json.loads(render.as_json(FAILED))
    assert list(read) == ["against", "exit_code", "verdict", "reasons", "metrics", "loosened", "warnings", "params"]
    assert (read["against"], read["exit_code"], read["verdict"]) == ("v1 (0a1b2c3)", 1, "failed")
    assert read["reasons"] == FAILED.reasons
    assert read["params"] == PARAMS
    assert read["metrics"][0] == {**vars(ROWS[0]), "interval": [0.92913, 0.95751]}
    assert read["metrics"][1:] == [vars(row) for row in ROWS[1:]]
    assert "≥ 0.9" in render.as_json(FAILED)


def test_junit_has_a_case_for_what_is_judged():
    loosened = [Loosening("gate.alpha", "0.01 -> 0", accepted=True), Loosening("b", "≥ 0.9 -> removed")]
    read = ElementTree.fromstring(render.junit(replace(FAILED, loosened=loosened, warnings=["add model.py"])))
    assert read.attrib == {"name": "reprocnn gate", "tests": "4", "failures": "2", "errors": "0"}
    cases = {case.get("name"): case for case in read.iter("testcase")}
    assert list(cases) == ["a.test.accuracy", "limit of gate.alpha", "limit of b", "warning"]
    assert {name: case.find("failure") is not None for name, case in cases.items()} == {
        "a.test.accuracy": True, "limit of gate.alpha": False, "limit of b": True, "warning": False,
    }  # fmt: skip
    [failure] = cases["a.test.accuracy"]
    assert (failure.tag, failure.get("message")) == ("failure", "target met, WORSE (p < 0.01)")


def test_junit_of_no_judgement_is_an_error_with_its_reasons():
    judgement = Judgement("v1", 2, "cannot judge", ['a: "missing" <\x1b', "b"], [Row("a", 1, 1, target="≥ 0")])
    read = ElementTree.fromstring(render.junit(judgement))
    assert (read.get("tests"), read.get("failures"), read.get("errors")) == ("2", "0", "1")
    [message] = [error.get("message") for error in read.iter("error")]
    assert message == 'a: "missing" < ; b'


def test_what_cannot_be_judged_lists_its_reasons_in_markdown_and_no_empty_table():
    judgement = Judgement("v1", 2, "cannot judge", ["a: missing", "b: missing"])
    assert render.markdown(judgement) == "### gate: cannot judge\n\nBaseline: v1.\n\n- a: missing\n- b: missing"
    assert render.text(judgement) == "gate: baseline: v1\n\ngate: cannot judge"


def test_a_passed_judgement_names_no_reasons():
    judgement = Judgement("v1", metrics=[Row("n", 3, 3)])
    assert render.text(judgement).endswith("\n\ngate: passed")
    assert render.markdown(judgement).splitlines()[:3] == ["### gate: passed", "", "Baseline: v1."]


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>", "</table><h1>passed</h1>", "<!-- ", "[passed](http://evil.example)",
        "![x](//y)", "> quote", "- item", "    code", "## gate: passed",
        "@maintainer", "a@b.example", "#12", "`code`", "a|b|c", "line\nbreak", "# gate: passed", "**bold**",
        "_slanted_",
        "~~gone~~", "$x$", "http://evil.example", "www.evil.example", "&lt;b&gt;", "\\|", "\u202egnp", "\r\n\r\n- item",
    ],
)  # fmt: skip
def test_names_stay_text_in_markdown(name):
    """As a parser of Markdown reads them: every cell is the name itself, or the name with odd characters as spaces."""
    rows = [Row(name, 0.5, 0.5, verdict=name)]
    judgement = Judgement(name, 2, "cannot judge", [name], rows, [Loosening(name, name)])
    judgement.params = [{"key": name, "then": name, "now": 1}]
    written = render.markdown(judgement)
    html = MarkdownIt("gfm-like", {"html": True}).disable("linkify").render(written)
    for tag in ("<img", "<a ", "<h1", "<em", "<code", "<s>", "<!--"):
        assert tag not in html
    assert html.count("<strong>") == 1
    assert html.count("<li>") == 2
    assert [line.count("<td>") for line in html.split("</tr>")] == [0, 8, 0, 3, 0]
    for hidden in ("@maintainer", "a@b", "#12", "http://", "www.evil"):
        assert hidden not in unescape(html)
    shown = unescape(html).replace("\u200b", "")
    clean = "".join(character if character.isprintable() else " " for character in name).strip()
    assert f"<td>{clean}</td>" in shown


@pytest.mark.parametrize("write", [render.text, render.markdown])
def test_no_line_is_a_command_to_the_runner(write):
    name = "::stop-commands::x\n::error::y ##[error]z"
    judgement = Judgement(name, 1, "failed", [name], [Row(name, name, name)], [Loosening(name, name)])
    judgement.params = [{"key": name, "then": name, "now": name}]
    assert not re.search(r"::\w|##\[", write(judgement))


def test_what_was_loosened_and_what_was_accepted_is_loud_in_every_format():
    loosened = [Loosening("gate.alpha", "0.01 -> 0", accepted=True), Loosening("a", "≥ 0.9 -> removed")]
    judgement = Judgement("v1", 1, "failed", ["a: LOOSENED"], [], loosened)
    for written in (render.text(judgement), render.markdown(judgement)):
        assert "ACCEPTED: gate.alpha: 0.01 -> 0" in written
        assert "LOOSENED: a: ≥ 0.9 -> removed; the baseline's limit counts; --accept a accepts it" in written
        assert "gate: failed: a: LOOSENED; ACCEPTED: gate.alpha" in written
    assert json.loads(render.as_json(judgement))["loosened"] == [vars(one) for one in loosened]


def test_a_warning_is_in_every_format():
    judgement = Judgement("v1", metrics=[Row("n", 3, 3)], warnings=["add model.py"])
    for write in (render.text, render.markdown, render.as_json, render.junit):
        assert "add model.py" in write(judgement)


def many(n: int) -> Judgement:
    """Two metrics that failed, one with a target, and `n` of everything else."""
    others = [Row(f"house.{i}", 0.5, 0.25, change=-0.25) for i in range(n)]
    rows = [*others[: n // 2], ROWS[0], Row("met", 1, 1, target="≥ 0"), *others[n // 2 :], replace(ROWS[0], metric="z")]
    params = [{"key": f"param{i}", "then": 0, "now": 1} for i in range(n)]
    loosened = [*(Loosening(f"limit{i}", "x", accepted=True) for i in range(n // 100)), Loosening("refused", "x")]
    reasons = ["a.test.accuracy: WORSE", "z: WORSE", "refused: LOOSENED (x)"]
    return Judgement("v1", 1, "failed", reasons, rows, loosened, [f"add {i}.py" for i in range(n // 100)], params)


@pytest.mark.parametrize("n", [500, 5_000])
def test_a_comment_of_many_metrics_keeps_what_failed(n):
    written = render.markdown(many(n))
    assert 30_000 < len(written) <= 65_536
    assert written.startswith("### gate: failed: a.test.accuracy: WORSE; z: WORSE; refused: LOOSENED (x); ACCEPTED: ")
    table = [line for line in written.splitlines() if line.startswith("|")][2:]
    assert [row.split("|")[1].strip() for row in table[:4]] == ["a.test.accuracy", "z", "met", "house.0"]
    assert "- **LOOSENED: refused: x; " in written
    left = re.search(
        r"^Left out, since a comment has a limit: ([\d,]+) metrics, .*([\d,]+) params\.", written, re.MULTILINE
    )
    assert left
    shown = written.count("| house.")
    assert int(left[1].replace(",", "")) == n - shown
    assert "Left out" not in render.text(many(n))


def test_long_values_are_shortened_before_anything_is_left_out():
    params = [{"key": "lr", "then": [0.5] * 30_000, "now": None}]
    written = render.markdown(replace(FAILED, params=params))
    assert len(written) < 5_000
    assert "limit: the ends of long values. `--format text` shows them." in written
    assert all(row.metric in written for row in ROWS)


def test_of_thousands_of_reasons_the_first_are_kept():
    judgement = Judgement("v1", 2, "cannot judge", [f"stage{i}: out of date" for i in range(5_000)])
    written = render.markdown(judgement)
    assert "stage0: out of date" in written
    assert re.search(r"limit: 2,500 reasons\.", written)
    failed = Judgement("v1", 1, "failed", [f"a.{'b' * 50}.{i}: WORSE" for i in range(5_000)])
    assert len(render.markdown(failed)) < 65_536
    assert render.markdown(failed).endswith(" ...\n\nThe rest is in `--format text`.")


def test_a_comment_that_fits_is_complete():
    assert "Left out" not in render.markdown(many(50))


def test_a_comment_that_is_cut_keeps_what_was_refused_before_what_was_accepted():
    loosened = [*(Loosening(f"limit{i}", "x" * 100, accepted=True) for i in range(2_000)), Loosening("refused", "x")]
    written = render.markdown(Judgement("v1", 1, "failed", ["refused: LOOSENED (x)"], [], loosened))
    assert "- **LOOSENED: refused: x; " in written


def test_a_small_loss_is_not_rounded_away_and_none_is_written_as_such():
    rows = [Row("loss", 0.5, 0.49998, change=-0.00002), Row("same", 0.5, 0.5, change=0.0)]
    text = render.text(Judgement("v1", metrics=rows))
    assert [line.split()[3] for line in text.splitlines() if line.startswith(("loss", "same"))] == ["-2e-05", "+0.0000"]


def test_a_p_that_no_float_is_small_enough_for_is_written():
    row = Row("a.test.accuracy", 0.9, 0.5, target="≥ 0.9", test="McNemar", p=0.0)
    assert "McNemar, p = 0 " in render.text(Judgement("v1", metrics=[row]))
