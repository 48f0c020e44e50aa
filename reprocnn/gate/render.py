"""A judgement as text, as JSON and as Markdown."""

import dataclasses
import json

from tabulate import tabulate

from reprocnn.gate.compare import Judgement, Row
from reprocnn.gate.values import Value


def text(judgement: Judgement) -> str:
    """Write it for a terminal."""
    lines = [f"gate: baseline: {judgement.against}"]
    if judgement.metrics:
        lines += ["", _table(judgement, "simple")]
    if judgement.params:
        lines.append("")
        for param in judgement.params:
            lines.append(f"changed: {param['key']}: {_plain(param['then'])} -> {_plain(param['now'])}")
    return "\n".join([*lines, "", _conclusion(judgement)])


def markdown(judgement: Judgement) -> str:
    """Write it for the summary of a CI job and for a comment on a pull request."""
    lines = [f"### {_conclusion(judgement)}", "", f"Baseline: {judgement.against}."]
    if judgement.exit_code == 2:
        lines += ["", *(f"- {reason}" for reason in judgement.reasons)]
    if judgement.metrics:
        lines += ["", _table(judgement, "github")]
    if judgement.params:
        rows = [
            {"changed param": param["key"], "then": _plain(param["then"]), "now": _plain(param["now"])}
            for param in judgement.params
        ]
        lines += ["", tabulate(rows, headers="keys", disable_numparse=True, tablefmt="github")]
    return "\n".join(lines)


def as_json(judgement: Judgement) -> str:
    """Write all of its fields as indented JSON."""
    return json.dumps(dataclasses.asdict(judgement), indent=2, default=str, allow_nan=False, ensure_ascii=False)


def _conclusion(judgement: Judgement) -> str:
    reasons = f": {'; '.join(judgement.reasons)}" if judgement.exit_code == 1 else ""
    return f"gate: {judgement.verdict}{reasons}"


def _table(judgement: Judgement, style: str) -> str:
    rows = [_cells(row) for row in judgement.metrics]
    return tabulate(rows, headers="keys", disable_numparse=True, tablefmt=style)


def _cells(row: Row) -> dict[str, str]:
    return {
        "metric": row.metric,
        "then": _show(row.then),
        "now": _show(row.now),
        "change": "-" if row.change is None else f"{row.change:+.4f}",
        "95 % interval": "-" if row.interval is None else f"{row.interval[0]:.4f} to {row.interval[1]:.4f}",
        "target": row.target or "-",
        "test": (row.test or "-") + ("" if row.p is None else f", p = {row.p:.2g}"),
        "verdict": row.verdict,
    }


def _plain(value: Value) -> str:
    return "-" if value is None else str(value)


def _show(value: Value) -> str:
    return f"{value:.4f}" if isinstance(value, float) else _plain(value)
