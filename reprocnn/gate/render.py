"""A judgement as text, as JSON, as Markdown and as JUnit XML."""

import dataclasses
import json
import re
from xml.etree import ElementTree

from tabulate import tabulate

from reprocnn.gate.compare import Judgement, Row
from reprocnn.gate.values import Value

MAX_CHARACTERS = 65_000  # GitHub takes 65,536 in a comment
MAX_VALUE = 200  # characters of a param in a comment that is too long
# What a judgement has many of, and how the line that counts them names it.
LISTS = {"metrics": "metrics", "loosened": "limits", "warnings": "warnings", "params": "params", "reasons": "reasons"}


def text(judgement: Judgement) -> str:
    """Write it for a terminal."""
    lines = [f"gate: baseline: {clean(judgement.against)}", *_loosened(judgement), *_warnings(judgement)]
    if judgement.metrics:
        rows = [_cells(row) for row in judgement.metrics]
        lines += ["", tabulate(rows, headers="keys", disable_numparse=True)]
    if judgement.params:
        lines.append("")
        for param in judgement.params:
            lines.append(f"changed: {clean(param['key'])}: {_plain(param['then'])} -> {_plain(param['now'])}")
    return "\n".join([*lines, "", _conclusion(judgement)])


def markdown(judgement: Judgement) -> str:
    """Write it for the summary of a CI job and for a comment on a pull request; names in it are only text.

    What is too long for a comment is shortened; the first line still names all that failed.
    """
    text = _markdown(judgement)
    keep = 2 * max(len(getattr(judgement, kind)) for kind in LISTS)
    while len(text) > MAX_CHARACTERS and keep:
        keep //= 2
        text = _markdown(*_shorten(judgement, keep))
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]} ...\n\nThe rest is in `--format text`."


def _shorten(judgement: Judgement, keep: int) -> tuple[Judgement, str]:
    """Keep the first `keep` of each list, those that failed or have a target first, and say what was left out."""
    shorter = dataclasses.replace(
        judgement,
        reasons=judgement.reasons[:keep] if judgement.exit_code == 2 else judgement.reasons,
        metrics=sorted(judgement.metrics, key=lambda row: (not row.failed, row.target is None))[:keep],
        loosened=sorted(judgement.loosened, key=lambda one: one.accepted)[:keep],
        warnings=judgement.warnings[:keep],
        params=[{key: _clip(_plain(value)) for key, value in param.items()} for param in judgement.params[:keep]],
    )
    left = {name: len(getattr(judgement, kind)) - len(getattr(shorter, kind)) for kind, name in LISTS.items()}
    counts = ", ".join(f"{count:,} {name}" for name, count in left.items() if count) or "the ends of long values"
    return shorter, f"Left out, since a comment has a limit: {counts}. `--format text` shows them."


def _markdown(judgement: Judgement, note: str = "") -> str:
    lines = [f"### {escape(_conclusion(judgement))}", "", f"Baseline: {escape(judgement.against)}."]
    if judgement.loosened or judgement.warnings:
        lines += ["", *(f"- **{escape(line)}**" for line in [*_loosened(judgement), *_warnings(judgement)])]
    if judgement.exit_code == 2:
        lines += ["", *(f"- {escape(reason)}" for reason in judgement.reasons)]
    if judgement.metrics:
        lines += ["", _markdown_table([_cells(row) for row in judgement.metrics])]
    if judgement.params:
        rows = [
            {"changed param": param["key"], "then": _plain(param["then"]), "now": _plain(param["now"])}
            for param in judgement.params
        ]
        lines += ["", _markdown_table(rows)]
    return "\n".join([*lines, *(["", note] if note else [])])


def clean(text: str) -> str:
    """Keep a name or a value in its line, and from being a command to GitHub's runner, which reads what is printed."""
    line = "".join(character if character.isprintable() else " " for character in text)
    return line.replace("::", ": :").replace("##[", "# #[")


def escape(text: str) -> str:
    """Make plain text of what Markdown would take for a tag, a link, a mention, emphasis or the end of a cell."""
    text = re.sub(r"&(?=[#\w])", "&amp;", clean(text).strip())
    text = re.sub(r"^(?:>|[#+-](?=[#\s]))", lambda found: f"&#{ord(found[0])};", text)  # a heading, a quote, a list
    text = re.sub(r"<(?=\S)", "&lt;", text)
    text = re.sub(r"[\\`*\[\]|!~$]|(?<![^\W_])_|_(?![^\W_])", lambda found: f"&#{ord(found[0])};", text)
    # GitHub looks for mentions and addresses in the text that it has rendered: entities alone do not hide them.
    return re.sub(r"@|(?<!&)#(?=\w)|:(?=//)|(?<=www)\.", r"\g<0>&#8203;", text, flags=re.IGNORECASE)


def as_json(judgement: Judgement) -> str:
    """Write all of its fields as indented JSON."""
    return json.dumps(dataclasses.asdict(judgement), indent=2, default=str, allow_nan=False, ensure_ascii=False)


def junit(judgement: Judgement) -> str:
    """Write it as a test report: a case for each metric that is judged and for each limit that was loosened."""
    cases = [(row.metric, row.verdict, row.failed) for row in judgement.metrics if row.target or row.failed]
    cases += [(f"limit of {one.name}", one.what, not one.accepted) for one in judgement.loosened]
    cases += [("warning", line, False) for line in judgement.warnings]
    undecided = judgement.exit_code == 2
    counts = {"tests": len(cases) + undecided, "failures": sum(failed for *_, failed in cases), "errors": +undecided}
    suite = ElementTree.Element("testsuite", {"name": "reprocnn gate"} | {key: str(n) for key, n in counts.items()})
    for name, verdict, failed in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="gate", name=clean(name))
        if failed:
            ElementTree.SubElement(case, "failure", message=clean(verdict))
        else:
            ElementTree.SubElement(case, "system-out").text = clean(verdict)
    if undecided:
        case = ElementTree.SubElement(suite, "testcase", classname="gate", name="cannot judge")
        ElementTree.SubElement(case, "error", message=clean("; ".join(judgement.reasons)))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode")


def _conclusion(judgement: Judgement) -> str:
    reasons = f": {'; '.join(judgement.reasons)}" if judgement.exit_code == 1 else ""
    accepted = [one.name for one in judgement.loosened if one.accepted]
    return clean(f"gate: {judgement.verdict}{reasons}" + (f"; ACCEPTED: {', '.join(accepted)}" if accepted else ""))


def _loosened(judgement: Judgement) -> list[str]:
    return [
        clean(
            f"ACCEPTED: {one.name}: {one.what}"
            if one.accepted
            else f"LOOSENED: {one.name}: {one.what}; the baseline's limit counts; --accept {one.name} accepts it"
        )
        for one in judgement.loosened
    ]


def _warnings(judgement: Judgement) -> list[str]:
    return [f"warning: {clean(line)}" for line in judgement.warnings]


def _markdown_table(rows: list[dict[str, str]]) -> str:
    escaped = [{head: escape(cell) for head, cell in row.items()} for row in rows]
    return tabulate(escaped, headers="keys", disable_numparse=True, tablefmt="github")


def _cells(row: Row) -> dict[str, str]:
    return {
        "metric": clean(row.metric),
        "then": _show(row.then),
        "now": _show(row.now),
        "change": "-" if row.change is None else _digits(row.change, "+"),
        "95 % interval": "-" if row.interval is None else f"{row.interval[0]:.4f} to {row.interval[1]:.4f}",
        "target": row.target or "-",
        "test": (row.test or "-") + ("" if row.p is None else f", p = {row.p:.2g}"),
        "verdict": row.verdict,
    }


def _digits(value: float, sign: str = "") -> str:
    """Write four decimals, of a small number four digits."""
    return format(value, f"{sign}.4{'g' if 0 < abs(value) < 0.001 else 'f'}")


def _clip(text: str) -> str:
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."


def _plain(value: Value) -> str:
    return "-" if value is None else clean(str(value))


def _show(value: Value) -> str:
    return _digits(value) if isinstance(value, float) else _plain(value)
