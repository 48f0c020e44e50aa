"""Judges metrics.json against the targets of params.yaml and against another revision; made to fail.

`python -m stages.gate [--against REV] [--format text|json|markdown]`, REV the merge base with the main branch unless
told. Exit code 0: passed. 1: a target is missed, or a metric with a target got worse. 2: nothing can be said, because
a metric is missing or no number, the test images differ, or the results are stale or of the sample; stderr says why.

The metric NAME.test.accuracy is judged image by image, by McNemar's exact test, where both revisions have
plots/NAME/predictions.csv (y_true, y_pred); another accuracy by its count NAME.test.n, by Fisher's exact test of two
proportions; anything else by `gate.tolerance` alone.
"""

import argparse
import dataclasses
import io
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dvc.api
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException
from dvc.scm import RevError
from scipy.stats import binomtest, fisher_exact
from tabulate import tabulate

from stages.lib import lock, params
from stages.lib.commands import git
from stages.lib.errors import UserError
from stages.lib.scores import wilson_interval

MAIN = ["main", "master", "origin/main", "origin/master"]
DIRECTIONS = {"at_least": "≥", "at_most": "≤"}
Value = float | str | bool | None


@dataclass(frozen=True)
class Limits:
    """`targets` by metric, as (direction, limit), and the two keys of `gate`."""

    targets: dict[str, tuple[str, float]]
    alpha: float
    tolerance: float


@dataclass
class Row:
    """What is said of one metric; without a target it is listed and not judged."""

    metric: str
    then: Value
    now: Value
    change: float | None = None
    interval: tuple[float, float] | None = None  # 95 %, of a share of counted images
    target: str | None = None
    test: str | None = None
    p: float | None = None
    verdict: str = "not judged"
    failed: bool = False


@dataclass
class Judgement:
    against: str
    exit_code: int = 0
    verdict: str = "passed"
    reasons: list[str] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    params: list[dict[str, Value]] = field(default_factory=list)  # changed ones: key, then, now


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.gate", description="Judges metrics.json. Exit codes: 0, 1, 2."
    )
    parser.add_argument("--against", metavar="REV", help="any revision that git or DVC knows; default: the merge base")
    parser.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    arguments = parser.parse_args()
    judgement = judge(arguments.against)
    print({"text": text, "json": as_json, "markdown": markdown}[arguments.format](judgement))
    if judgement.exit_code == 2:
        print(*[f"error: {reason}" for reason in judgement.reasons], sep="\n", file=sys.stderr)
    sys.exit(judgement.exit_code)


def judge(rev: str | None) -> Judgement:
    """Compares the workspace with `rev`, None for the merge base with the main branch; never raises UserError."""
    judgement = Judgement(against=rev or "the merge base with the main branch")
    try:
        _judge(rev, judgement)
    except (UserError, OSError, DvcException) as error:
        judgement.exit_code, judgement.verdict = 2, "cannot judge"
        judgement.reasons = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    else:
        judgement.reasons = [f"{row.metric}: {row.verdict}" for row in judgement.metrics if row.failed]
        if judgement.reasons:
            judgement.exit_code, judgement.verdict = 1, "failed"
    return judgement


def _judge(rev: str | None, judgement: Judgement) -> None:
    limits = read_limits()
    _raise(lock.faults())
    now = flatten(dvc.api.metrics_show())
    _raise(_unfit(now, limits, "here"))
    _raise(f"{key}: missing or null, but params.yaml has a target for it" for key in limits.targets if key not in now)

    rev = rev or default_revision()
    if rev is None:
        judgement.against = "nothing, since there is no commit yet"
        then: dict[str, Value] = {}
    else:
        judgement.against = describe(rev)
        then = _metrics_at(rev)
        judgement.params = _changed_params(rev)
        if not then:
            judgement.against += ", which has no metrics"
    if rev is not None and then:
        _raise(_unfit(then, limits, f"at {rev}"))
        if not _numbers(then) & _numbers(now):
            raise UserError(f"no metric in common with {rev}: there {_some(then)}, here {_some(now)}")
        _raise(
            f"{line.partition(';')[0]} at {rev}; name another revision with --against"
            for line in lock.changed_results(rev)
        )

    for metric in limits.targets:
        judgement.metrics.append(_judge_metric(metric, then, now, rev, limits))
    for metric in sorted(_numbers(then) | _numbers(now), key=list({**now, **then}).index):
        before, after = then.get(metric), now.get(metric)
        if metric not in limits.targets and then and before != after:
            row = Row(metric, _finite(before), _finite(after))
            if _is_number(before) and _is_number(after):
                row.change = float(after) - float(before)  # type: ignore[arg-type]
            else:
                row.verdict = "gone, not judged" if metric not in now else "new, not judged"
            judgement.metrics.append(row)


def _judge_metric(metric: str, then: dict[str, Value], now: dict[str, Value], rev: str | None, limits: Limits) -> Row:
    direction, limit = limits.targets[metric]
    value = float(now[metric])  # type: ignore[arg-type]
    row = Row(metric, then.get(metric), value, target=f"{DIRECTIONS[direction]} {limit:g}")
    n = _count(metric, now)
    if n is not None:
        row.interval = wilson_interval(round(value * n), n)
    met = value >= limit if direction == "at_least" else value <= limit
    row.failed = not met
    row.verdict = "target met" if met else "BELOW TARGET" if direction == "at_least" else "ABOVE TARGET"
    if rev is None or row.then is None:
        row.verdict += ", new"
        return row
    before = float(row.then)
    row.change = value - before
    worse = -row.change if direction == "at_least" else row.change
    row.test, row.p = _test(metric, then, now, rev, direction)
    if worse > 0 and row.p is not None and row.p < limits.alpha:
        row.verdict, row.failed = f"{row.verdict}, WORSE (p < {limits.alpha:g})", True
    elif worse > limits.tolerance + 1e-12:  # as 0.99 - 0.98 is not quite 0.01
        row.verdict, row.failed = f"{row.verdict}, WORSE (by more than {limits.tolerance:g})", True
    elif worse > 0:
        row.verdict += ", worse within noise" if row.p is not None else f", worse within {limits.tolerance:g}"
    else:
        row.verdict += ", better" if worse < 0 else ", same"
    return row


def _test(
    metric: str, then: dict[str, Value], now: dict[str, Value], rev: str, direction: str
) -> tuple[str, float | None]:
    """What the change was tested with, in words, and the one-sided p of getting worse this much by chance alone."""
    section = metric.rpartition(".")[0]
    digests = then.get(f"{section}.digest"), now.get(f"{section}.digest")
    if digests[0] != digests[1]:
        raise UserError(
            f"{section}.digest: {digests[0]} at {rev}, {digests[1]} here: other test images; not comparable"
        )
    n_then, n_now = _count(metric, then), _count(metric, now)
    if n_then is None or n_now is None or direction != "at_least":
        return "tolerance alone", None
    name, _, rest = metric.partition(".")
    if rest == "test.accuracy":
        right = _right(Path("plots") / name / "predictions.csv", metric, then, now, rev)
        if right is not None:
            lost, won = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
            return f"McNemar, {lost:,} lost, {won:,} won", mcnemar(lost, won)
    hits_then, hits_now = round(float(then[metric]) * n_then), round(float(now[metric]) * n_now)  # type: ignore[arg-type]
    counts = [[hits_then, n_then - hits_then], [hits_now, n_now - hits_now]]
    p = float(fisher_exact(counts, alternative="greater").pvalue)
    return "two proportions, no predictions of both", p


def _right(
    path: Path, metric: str, then: dict[str, Value], now: dict[str, Value], rev: str
) -> tuple[pd.Series, pd.Series] | None:
    """Which of the same test images each side's predictions have right; None if a side has no predictions."""
    before = _predictions(path, f"at {rev}", then[metric], lambda: dvc.api.read(str(path), rev=rev))
    after = _predictions(path, "here", now[metric], lambda: path.read_text(encoding="utf-8"))
    if before is None or after is None:
        return None
    if len(before) != len(after):
        raise UserError(f"{path}: {len(before):,} predictions at {rev}, {len(after):,} here: not the same test images")
    if not np.array_equal(before["y_true"], after["y_true"]):
        raise UserError(f"{path}: other true classes here than at {rev}: not the same test images")
    return before["y_true"] == before["y_pred"], after["y_true"] == after["y_pred"]


def _predictions(path: Path, side: str, accuracy: Value, read: Callable[[], str]) -> pd.DataFrame | None:
    try:
        table = pd.read_csv(io.StringIO(read()), usecols=["y_true", "y_pred"])
    except (FileNotFoundError, DvcException):
        return None
    except ValueError as error:
        raise UserError(f"{path} {side}: no table with y_true and y_pred ({error}); run `dvc repro`") from None
    share = float((table["y_true"] == table["y_pred"]).mean())
    if not math.isclose(share, float(accuracy), abs_tol=1e-9):  # type: ignore[arg-type]
        raise UserError(f"{path} {side}: {share:.6f} of it is right, but the metric is {accuracy}; run `dvc repro`")
    return table


def mcnemar(lost: int, won: int) -> float:
    """McNemar's exact test, one-sided: the probability of at least so many `lost` among all changes by even chance."""
    return float(binomtest(lost, lost + won, 0.5, alternative="greater").pvalue) if lost + won else 1.0


def read_limits() -> Limits:
    """`targets` and `gate` of params.yaml; raises UserError with a line for each fault."""
    values = params.load(params.FILE)
    faults = params.check(values) if params.SCHEMA.exists() else []
    targets: dict[str, tuple[str, float]] = {}
    for key, limit in flatten(values.get("targets") or {}).items():
        metric, _, direction = key.rpartition(".")
        if direction not in DIRECTIONS or not metric or not _is_number(limit):
            faults.append(f"targets.{key}: found {limit!r}, expected METRIC.at_least or METRIC.at_most with a number")
        else:
            targets[metric] = direction, float(limit)  # type: ignore[arg-type]
    if not targets:
        faults.append("targets: found none, expected at least one, as targets.NAME.test.accuracy.at_least: 0.99")
    gate = values.get("gate") if isinstance(values.get("gate"), dict) else {}
    for key, top in (("alpha", 0.5), ("tolerance", math.inf)):
        value = gate.get(key)  # type: ignore[union-attr]
        if not _is_number(value) or not 0 <= value <= top:  # type: ignore[operator]
            faults.append(f"gate.{key}: found {value!r}, expected a number from 0 to {top:g}; add it")
    _raise(f"{params.FILE}: {fault}" for fault in dict.fromkeys(faults))
    return Limits(targets, float(gate["alpha"]), float(gate["tolerance"]))  # type: ignore[index]


def default_revision() -> str | None:
    """The merge base of HEAD and the main branch; HEAD where there is no such branch, None where there is no commit."""
    if not _known("HEAD"):
        return None
    main = next((branch for branch in MAIN if _known(branch)), None)
    if main is None:
        return "HEAD"
    try:
        return git("merge-base", "HEAD", main).strip()
    except UserError:
        raise UserError(
            f"HEAD and {main} have no commit in common here; fetch the whole history (`fetch-depth: 0`), or name "
            f"another revision with --against"
        ) from None


def describe(rev: str) -> str:
    """The revision with its short commit; one that git does not know may be an experiment of DVC."""
    if not _known(rev):
        return rev
    commit = git("rev-parse", "--short", f"{rev}^{{commit}}").strip()
    return commit if rev.startswith(commit) else f"{rev} ({commit})"


def flatten(values: Any, prefix: str = "") -> dict[str, Value]:
    """Nested keys joined by dots."""
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        key: leaf
        for name, value in values.items()
        for key, leaf in flatten(value, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def _metrics_at(rev: str) -> dict[str, Value]:
    try:
        return flatten(dvc.api.metrics_show(rev=rev))
    except RevError:
        raise UserError(f"{rev}: no such revision; `git fetch` it, or name another with --against") from None
    except FileNotFoundError:
        return {}  # before there was a metrics file


def _changed_params(rev: str) -> list[dict[str, Value]]:
    try:
        then, now = flatten(dvc.api.params_show(rev=rev)), flatten(dvc.api.params_show())
    except FileNotFoundError:
        return []
    keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    return [{"key": key, "then": then.get(key), "now": now.get(key)} for key in keys]


def _unfit(metrics: dict[str, Value], limits: Limits, side: str) -> Iterator[str]:
    if metrics.get("source") == "sample":
        yield f"metrics.json {side}: results of the sample, which says nothing of the real data; set source: public"
    for key in limits.targets:
        if key in metrics and not _is_number(metrics[key]):
            yield f"{key}: found {metrics[key]!r} {side}, expected a number"


def _count(metric: str, metrics: dict[str, Value]) -> int | None:
    """Of how many images `metric` is a share: the `n` beside an accuracy."""
    section, _, last = metric.rpartition(".")
    n, value = metrics.get(f"{section}.n" if section else "n"), metrics.get(metric)
    counted = "accuracy" in last and isinstance(n, int) and 0 < n < 2**31 and _is_number(value)
    return int(n) if counted and 0 <= float(value) <= 1 else None  # type: ignore[arg-type]


def _numbers(metrics: dict[str, Value]) -> set[str]:
    return {key for key, value in metrics.items() if _is_number(value)}


def _is_number(value: Value) -> bool:
    """Finite, and small enough to be a float: JSON has whole numbers of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _finite(value: Value) -> Value:
    """For JSON, which has no NaN."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _known(rev: str) -> bool:
    try:
        git("rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
    except UserError:
        return False
    return True


def _some(metrics: dict[str, Value]) -> str:
    return ", ".join(sorted(metrics)[:3]) or "none"


def _raise(faults: Any) -> None:
    lines = list(faults)
    if lines:
        raise UserError("\n".join(lines))


def text(judgement: Judgement) -> str:
    """For the terminal."""
    lines = [f"gate: against {judgement.against}"]
    if judgement.metrics:
        lines += ["", tabulate(_table(judgement), headers="keys", disable_numparse=True)]
    if judgement.params:
        lines += [
            "",
            *(f"changed: {one['key']}: {_plain(one['then'])} -> {_plain(one['now'])}" for one in judgement.params),
        ]
    return "\n".join([*lines, "", _conclusion(judgement)])


def markdown(judgement: Judgement) -> str:
    """For the summary of a CI job and a comment on a pull request."""
    lines = [f"### {_conclusion(judgement)}", "", f"Against {judgement.against}."]
    if judgement.exit_code == 2:
        lines += ["", *(f"- {reason}" for reason in judgement.reasons)]
    if judgement.metrics:
        lines += ["", tabulate(_table(judgement), headers="keys", disable_numparse=True, tablefmt="github")]
    if judgement.params:
        rows = [
            {"changed param": c["key"], "then": _plain(c["then"]), "now": _plain(c["now"])} for c in judgement.params
        ]
        lines += ["", tabulate(rows, headers="keys", disable_numparse=True, tablefmt="github")]
    return "\n".join(lines)


def as_json(judgement: Judgement) -> str:
    return json.dumps(dataclasses.asdict(judgement), indent=2, default=str, allow_nan=False, ensure_ascii=False)


def _conclusion(judgement: Judgement) -> str:
    reasons = f": {'; '.join(judgement.reasons)}" if judgement.exit_code == 1 else ""
    return f"gate: {judgement.verdict}{reasons}"


def _table(judgement: Judgement) -> list[dict[str, str]]:
    return [
        {
            "metric": row.metric,
            "then": _show(row.then),
            "now": _show(row.now),
            "change": "-" if row.change is None else f"{row.change:+.4f}",
            "95 % interval": "-" if row.interval is None else f"{row.interval[0]:.4f} to {row.interval[1]:.4f}",
            "target": row.target or "-",
            "test": (row.test or "-") + ("" if row.p is None else f", p = {row.p:.2g}"),
            "verdict": row.verdict,
        }
        for row in judgement.metrics
    ]


def _plain(value: Value) -> str:
    return "-" if value is None else str(value)


def _show(value: Value) -> str:
    return f"{value:.4f}" if isinstance(value, float) else _plain(value)


if __name__ == "__main__":
    main()
