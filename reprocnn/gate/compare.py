"""The judgement: the metrics of the workspace against their targets and against those of another revision."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException

from reprocnn.core.errors import UserError
from reprocnn.gate import lock
from reprocnn.gate.limits import DIRECTIONS, Limits, raise_faults, read_limits
from reprocnn.gate.predictions import check_same_images, read_predictions
from reprocnn.gate.revisions import changed_params, default_revision, describe, metrics_at
from reprocnn.gate.statistics import mcnemar, two_proportions, wilson_interval
from reprocnn.gate.values import Value, count, finite, flatten, is_number, numbers

ROUNDING = 1e-12  # 0.99 - 0.98 is not quite 0.01


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
    """The whole answer; its fields are the keys of `--format json`."""

    against: str
    exit_code: int = 0
    verdict: str = "passed"
    reasons: list[str] = field(default_factory=list)
    metrics: list[Row] = field(default_factory=list)
    params: list[dict[str, Any]] = field(default_factory=list)  # changed ones: key, then, now


def judge(rev: str | None) -> Judgement:
    """Compare the workspace with `rev`, None for the merge base with the main branch. Never raises UserError."""
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
    raise_faults(lock.faults())
    now = flatten(dvc.api.metrics_show())
    raise_faults(_unfit(now, limits, "here"))
    raise_faults(
        f"{key}: missing or null, but params.yaml has a target for it" for key in limits.targets if key not in now
    )

    rev = rev or default_revision()
    then: dict[str, Value] = {}
    if rev is None:
        judgement.against = "nothing, since there is no commit yet"
    else:
        judgement.against = describe(rev)
        then = metrics_at(rev)
        judgement.params = changed_params(rev)
        if then:
            _check_baseline(rev, then, now, limits)
        else:
            judgement.against += ", which has no metrics"

    comparison = Comparison(limits, rev, then, now)
    for metric in limits.targets:
        judgement.metrics.append(comparison.judge_metric(metric))
    judgement.metrics += comparison.list_others()


def _check_baseline(rev: str, then: dict[str, Value], now: dict[str, Value], limits: Limits) -> None:
    """Raise UserError if the revision's metrics cannot be compared with or believed."""
    raise_faults(_unfit(then, limits, f"at {rev}"))
    if not numbers(then).keys() & numbers(now).keys():
        raise UserError(f"no metric in common with {rev}: there {_examples(then)}, here {_examples(now)}")
    changed = [line.partition(";")[0] for line in lock.changed_results(rev)]
    raise_faults(f"{fault} at {rev}; name another revision with --against" for fault in changed)


def _unfit(metrics: dict[str, Value], limits: Limits, side: str) -> Iterator[str]:
    """Give a line for each reason not to judge these metrics."""
    for key, value in metrics.items():
        if key.rpartition(".")[2] == "source" and value == "sample":
            yield (
                f"metrics {side}: results of the sample ({key}), which say nothing about the real data; "
                f"set source: public"
            )
    for key in limits.targets:
        if key in metrics and not is_number(metrics[key]):
            yield f"{key}: found {metrics[key]!r} {side}, expected a number"


def _examples(metrics: dict[str, Value]) -> str:
    return ", ".join(sorted(metrics)[:3]) or "none"


@dataclass(frozen=True)
class Comparison:
    """Metrics `then`, at the revision, and `now`, in the workspace; `then` is empty where there are none."""

    limits: Limits
    rev: str | None
    then: dict[str, Value]
    now: dict[str, Value]

    def judge_metric(self, metric: str) -> Row:
        """Judge a metric with a target. Raises UserError if the two sides were measured on different images."""
        direction, limit = self.limits.targets[metric]
        value = float(self.now[metric])  # type: ignore[arg-type]
        row = Row(metric, self.then.get(metric), value, target=f"{DIRECTIONS[direction]} {limit:g}")
        n = count(metric, self.now)
        if n is not None:
            row.interval = wilson_interval(round(value * n), n)
        row.failed = value < limit if direction == "at_least" else value > limit
        if not row.failed:
            row.verdict = "target met"
        else:
            row.verdict = "BELOW TARGET" if direction == "at_least" else "ABOVE TARGET"
        if self.rev is None or row.then is None:
            row.verdict += ", new"
            return row
        row.change = value - float(row.then)
        row.test, row.p = self._test(metric, self.rev, direction)
        self._judge_change(row, -row.change if direction == "at_least" else row.change)
        return row

    def _judge_change(self, row: Row, loss: float) -> None:
        """Add to the verdict what a metric that got worse by `loss` deserves."""
        if loss > 0 and row.p is not None and row.p < self.limits.alpha:
            row.verdict += f", WORSE (p < {self.limits.alpha:g})"
            row.failed = True
        elif loss > self.limits.tolerance + ROUNDING:
            row.verdict += f", WORSE (by more than {self.limits.tolerance:g})"
            row.failed = True
        elif loss > 0 and row.p is not None:
            row.verdict += ", worse within noise"
        elif loss > 0:
            row.verdict += f", worse within {self.limits.tolerance:g}"
        else:
            row.verdict += ", better" if loss < 0 else ", same"

    def _test(self, metric: str, rev: str, direction: str) -> tuple[str, float | None]:
        """Give the name of the test of the change, and the one-sided p that chance alone loses this much."""
        digest = f"{metric.rpartition('.')[0]}.digest"
        if self.then.get(digest) != self.now.get(digest):
            raise UserError(
                f"{digest}: {self.then.get(digest)} at {rev}, {self.now.get(digest)} here: other test images; "
                f"not comparable"
            )
        n_then, n_now = count(metric, self.then), count(metric, self.now)
        if n_then is None or n_now is None or direction != "at_least":
            return "tolerance alone", None
        lost_and_won = self._lost_and_won(metric, rev)
        if lost_and_won is not None:
            lost, won = lost_and_won
            return f"McNemar, {lost:,} lost, {won:,} won", mcnemar(lost, won)
        hits_then = round(float(self.then[metric]) * n_then)  # type: ignore[arg-type]
        hits_now = round(float(self.now[metric]) * n_now)  # type: ignore[arg-type]
        p = two_proportions(hits_then, n_then, hits_now, n_now)
        return "two proportions, predictions missing", p

    def _lost_and_won(self, metric: str, rev: str) -> tuple[int, int] | None:
        """Count the test images that only `then`, and only `now`, classifies correctly; None without predictions."""
        name, _, rest = metric.partition(".")
        if rest != "test.accuracy":
            return None
        path = Path("plots") / name / "predictions.csv"
        then, now = float(self.then[metric]), float(self.now[metric])  # type: ignore[arg-type]
        before = read_predictions(f"{path} at {rev}", then, lambda: dvc.api.read(str(path), rev=rev))
        after = read_predictions(f"{path} here", now, lambda: path.read_text(encoding="utf-8"))
        if before is None or after is None:
            return None
        check_same_images(str(path), rev, before, after)
        return int((before.correct & ~after.correct).sum()), int((~before.correct & after.correct).sum())

    def list_others(self) -> list[Row]:
        """List the metrics without a target that changed, in the order of the metrics files."""
        if not self.then:
            return []
        known = numbers(self.then) | numbers(self.now)
        rows = []
        for metric in self.now | self.then:
            before, after = self.then.get(metric), self.now.get(metric)
            if metric not in known or metric in self.limits.targets or before == after:
                continue
            row = Row(metric, finite(before), finite(after))
            if is_number(before) and is_number(after):
                row.change = float(after) - float(before)  # type: ignore[arg-type]
            else:
                row.verdict = "gone, not judged" if metric not in self.now else "new, not judged"
            rows.append(row)
        return rows
