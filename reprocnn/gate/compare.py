"""The judgement: the metrics of the workspace against their targets and against those of another revision."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.gate import lock
from reprocnn.gate.limits import DIRECTIONS, Limits, Loosening, judge_by, limits_at, raise_faults, read_limits
from reprocnn.gate.metric_files import MetricFiles, evaluation_of, read_files
from reprocnn.gate.named_files import NamedFiles
from reprocnn.gate.parts import judge_parts
from reprocnn.gate.predictions import REMEDY, SAME_IMAGES, match_images, parse_predictions, read_predictions
from reprocnn.gate.revisions import changed_params, choose_base, describe, new_folder
from reprocnn.gate.stage_files import Files, forgotten, makes, replaced, writes
from reprocnn.gate.statistics import further_seeds, mcnemar, two_proportions, two_seeds, wilson_interval
from reprocnn.gate.values import ANOTHER, Value, count, decode, finite, first_key, is_number, is_share, numbers, split

ROUNDING = 1e-12  # relative: 0.99 - 0.98 is not quite 0.01
FROM_PARAMS = ("train", "val", "valid", "validation")  # splits whose size follows from params, which are listed
NO_FILES = MetricFiles()


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
    loosened: list[Loosening] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # what passes but should be looked at
    params: list[dict[str, Any]] = field(default_factory=list)  # changed ones: key, then, now


def judge(rev: str | None, accept: Iterable[str] = (), metrics: Sequence[str] = ()) -> Judgement:
    """Compare the workspace with `rev`, None for the merge base with the main branch. Never raises an Exception.

    `accept` names what may be loosened: a metric, or a key of the gate. `metrics` names files to judge instead of those
    that DVC knows.
    """
    judgement = Judgement(against=rev or "the merge base with the main branch")
    try:
        source = NamedFiles(list(metrics)) if metrics else lock
        with source.one_repository():
            _judge(rev, {name.removeprefix("targets.") for name in accept}, judgement, source, list(metrics))
    except (UserError, OSError, DvcException) as error:
        _give_up(judgement, str(error))
    except Exception as error:  # whatever it is, it is no verdict
        _give_up(judgement, f"unexpected {type(error).__name__}: {error}; report it")
    else:
        judgement.reasons = [f"{row.metric}: {row.verdict}" for row in judgement.metrics if row.failed]
        judgement.reasons += [f"{one.name}: LOOSENED ({one.what})" for one in judgement.loosened if not one.accepted]
        if judgement.reasons:
            judgement.exit_code, judgement.verdict = 1, "failed"
    return judgement


def _give_up(judgement: Judgement, why: str) -> None:
    judgement.exit_code, judgement.verdict = 2, "cannot judge"
    printable = why.encode("utf-8", "backslashreplace").decode("utf-8")
    judgement.reasons = [" ".join(line.split()) for line in printable.splitlines() if line.strip()]


def _judge(rev: str | None, accept: set[str], judgement: Judgement, source: Any, named: list[str]) -> None:
    read = source.read_files if named else read_files
    limits, files, now = _read_here(source, read)
    rev = choose_base(rev, files.metrics_files())
    judgement.against = "nothing: HEAD is the first commit" if rev is None else describe(rev)
    if rev is not None and not named and (folder := new_folder(rev)):
        judgement.against += ", which does not have this folder"
        judgement.loosened.append(Loosening(folder, "not at the baseline", accepted=folder in accept))
        rev = None
    judgement.warnings = _undeclared_code(source, rev)
    judgement.warnings += [
        f"{path}: a dep on a server, which the gate does not contact: only dvc.lock says that it is unchanged; check it"
        for path in sorted(set().union(*(stage.deps for stage in files.stages.values())))
        if "://" in path
    ]
    then: dict[str, Value] = {}
    before = NO_FILES
    if rev is not None:
        base = limits_at(rev, source.text("params.yaml", rev))
        before = read(rev)
        then = _with_images(source.metrics(rev), before) if before.contents else {}
        then, before, base = _named_as_here(then, before, base, files)
        if base is not None:
            limits, judgement.loosened = judge_by(base, limits, accept)
            raise_faults(_unfit(now, limits, "here"))
        judgement.params = changed_params(rev, source)
        judgement.warnings += [
            f"params: {one['key']}: {one['then']!r} -> {one['now']!r}, equal to DVC, which does not run again; if they "
            f"differ to the code, run `dvc repro --force`"
            for one in judgement.params
            if one["then"] == one["now"]
        ]
        if then:
            _check_baseline(source, rev, then, limits)
            pipeline = before.stages or files.stages
            raise_faults(_changed_by_hand(before, files) if pipeline else [])
        else:
            judgement.against += ", which has no metrics"

    comparison = Comparison(limits, rev, then, now, before, files, source)
    for metric in limits.targets:
        if then:
            judgement.loosened += [replace(one, accepted=metric in accept) for one in comparison.removed(metric)]
        judgement.metrics.append(comparison.judge_metric(metric))
    judgement.metrics += comparison.list_others()
    read_of = Files(before.metrics_files(), files.metrics_files(), files.tracked)
    lost = [*comparison.other_sources(), *forgotten(before.stages, files.stages, read_of)]
    judgement.warnings += replaced(before.stages, files.stages, read_of)
    if rev is not None:
        hidden = source.hidden_files()
        newly = sorted(set(hidden) - source.hidden_at(rev, hidden))
        faults, unsure, warnings = judge_parts(source.parts(unknown=True), source.parts(rev))
        raise_faults(faults)
        judgement.warnings += warnings
        lost += [*unsure, *(Loosening(path, "hidden by .dvcignore") for path in newly)]
    judgement.loosened += [replace(one, accepted=one.name in accept) for one in lost]
    unused = accept - {one.name for one in judgement.loosened}
    judgement.loosened += [Loosening(name, "nothing to accept", accepted=True) for name in sorted(unused)]


def _read_here(source: Any, read: Callable[[str | None], MetricFiles]) -> tuple[Limits, MetricFiles, dict[str, Value]]:
    """Read limits, metrics files and metrics of the workspace. Raises UserError for what cannot be judged."""
    limits = read_limits()
    raise_faults(source.faults())
    files = read(None)
    read_here = dict.fromkeys(
        [str(params.FILE), *files.contents, *filter(None, map(_predictions_beside, files.file_of))]
    )
    raise_faults(
        f"{path}: a symbolic link, or inside a linked folder; git stores only the link; put the file in its place"
        for path in source.linked(read_here)
    )
    raise_faults(line for path in read_here for line in source.damaged(path))
    now = _with_images(source.metrics(), files)
    raise_faults(_unfit(now, limits, "here"))
    raise_faults(
        f"{key}: missing or null, but params.yaml has a target for it; found {_examples(_alike(key, now))}; run what "
        f"writes it, or correct the target"
        for key in limits.targets
        if key not in now
    )
    raise_faults(
        f"{path}: git ignores it or leaves it to a submodule, so no revision has it; move it, or `git add --force` it"
        for path in source.unkept(read_here)
    )
    raise_faults(
        f"{path}: found a working-tree-encoding in .gitattributes, so git keeps other text than this; remove it"
        for path in source.reencoded(read_here)
    )
    raise_faults(_other_than_predicted(now, files))
    return limits, files, now


def _with_images(metrics: dict[str, Value], files: MetricFiles) -> dict[str, Value]:
    """Add what is said of the images beside the metrics. Raises UserError where the metrics say something else."""
    raise_faults(
        f"{key}: {metrics[key]} in {files.file_of.get(key, 'the metrics')}, {value} in {evaluation_of(key)}; run "
        f"`dvc repro`"
        for key, value in files.of_images.items()
        if key in metrics and metrics[key] != value
    )
    return metrics | files.of_images


def _named_as_here(
    then: dict[str, Value], before: MetricFiles, base: Limits | None, here: MetricFiles
) -> tuple[dict[str, Value], MetricFiles, Limits | None]:
    """Rename the metrics of the base that have their file in the name on one side alone.

    A second file with the same first key came or went.
    """
    was, now = before.first_keys(), here.first_keys()
    names = {was[one]: now[one] for one in was.keys() & now.keys()}

    def rename(values: dict[str, Any]) -> dict[str, Any]:
        firsts = {key: first_key(key) for key in values}
        return {
            names.get(firsts[key], firsts[key]) + key.removeprefix(firsts[key]): value for key, value in values.items()
        }

    if base is not None:
        base = replace(base, targets=rename(base.targets), own=rename(base.own))
    return rename(then), replace(before, file_of=rename(before.file_of)), base


def _undeclared_code(source: Any, rev: str | None) -> list[str]:
    """Return a line for code that no dep shows DVC here and at the revision.

    Raises UserError for what is so here alone: results may have become stale without a word.
    """
    here = source.undeclared_code()
    before: list[str] = []
    if here and rev is not None:
        with suppress(UserError):  # code that cannot be read there
            before = source.undeclared_code(rev)
    raise_faults(line for line in here if line not in before)
    unseen = "(so it is at the baseline, and what changes there goes unseen)"
    return [line.replace(";", f" {unseen};", 1) for line in here]


def _check_baseline(source: Any, rev: str, then: dict[str, Value], limits: Limits) -> None:
    """Raise UserError if the revision's metrics cannot be compared with or believed."""
    raise_faults(_unfit({key: then[key] for key in then if key in limits.targets or _names_source(key)}, limits, rev))
    changed = [line.partition(";")[0] for line in source.changed_results(rev)]
    raise_faults(f"{fault} at {rev}; name another revision with --against" for fault in changed)


def _changed_by_hand(before: MetricFiles, here: MetricFiles) -> Iterator[str]:
    for path, content in here.contents.items():
        if not makes(here.stages, path) and before.contents.get(path) != content:
            yield f"{path}: changed, and no stage makes it; declare it as a metric of the stage that writes it"


def _other_than_predicted(now: dict[str, Value], here: MetricFiles) -> Iterator[str]:
    """Yield a line for each metric that is not what its predictions give, whether it has a target or not."""
    for metric, value in numbers(now).items():
        path = _predictions_of(metric)
        if path is None:
            continue
        predictions = read_predictions(f"{path} here", value, _text_here(path))
        n = now.get(f"{metric.rpartition('.')[0]}.n")
        if predictions is None and writes(here.stages, path):
            yield f"{path}: missing, but a stage makes it; run `dvc pull`"
        elif predictions is not None and n is not None and n != len(predictions.y_true):
            yield f"{path}: {len(predictions.y_true):,} predictions, but {metric.rpartition('.')[0]}.n is {n!r}"


def _unfit(metrics: dict[str, Value], limits: Limits, side: str) -> Iterator[str]:
    """Yield a line for each reason not to judge these metrics."""
    where = side if side == "here" else f"at {side}"
    for key, value in metrics.items():
        if _names_source(key) and value == "sample":
            yield (
                f"metrics {where}: results of the sample ({key}), which say nothing about the real data; "
                f"set source: public"
            )
        if key in limits.targets and not is_number(value):
            yield f"{key}: found {value!r} {where}, expected a number"
        elif key in limits.targets and is_share(key, metrics) and is_number(value) and not 0 <= value <= 1:
            percent = f"; write {value / 100:.6g}, not percent" if 2 <= value <= 100 else ""
            yield f"{key}: found {value} {where}, expected a share from 0 to 1{percent}"


def _names_source(key: str) -> bool:
    return key.rpartition(".")[2] == "source"


def _alike(key: str, metrics: dict[str, Value]) -> Iterable[str]:
    """Return the names that a metric has where several files share its first key, or else all names."""
    return [metric for metric in metrics if metric.endswith(f":{key}")] or metrics


def _examples(metrics: Iterable[str]) -> str:
    return ", ".join(sorted(metrics)[:3]) or "none"


@dataclass(frozen=True)
class Comparison:
    """Metrics `then`, at the revision, and `now`, in the workspace; `then` is empty where there are none."""

    limits: Limits
    rev: str | None
    then: dict[str, Value]
    now: dict[str, Value]
    before: MetricFiles = NO_FILES
    here: MetricFiles = NO_FILES
    source: Any = lock  # or NamedFiles

    def removed(self, metric: str) -> Iterator[Loosening]:
        """Yield what makes this metric believable at the base and is no longer here."""
        places = {self.before.file_of.get(metric): self.here.file_of.get(metric)}
        beside = evaluation_of(metric)
        if beside in self.before.contents:
            places[beside] = beside if beside in self.here.contents else None
        path = _predictions_beside(metric)
        if path and metric in self.then and self.source.text(path, str(self.rev)) is not None:
            places[path] = path if Path(path).exists() else None
        for then, now in places.items():
            if then is not None and now != then:
                yield Loosening(metric, f"{then} -> {now or 'removed'}")
            elif makes(self.before.stages, then) and not makes(self.here.stages, now):
                yield Loosening(metric, f"{then} is made by a stage -> by none")

    def other_sources(self) -> Iterator[Loosening]:
        """Yield what is said of where the images come from, if it is not what the base says: it might be the sample."""
        for key, then in self.then.items():
            judged = any(metric.startswith(key.removesuffix("source")) for metric in self.limits.targets)
            if _names_source(key) and judged and isinstance(then, str) and self.now.get(key) != then:
                yield Loosening(key, f"{then} -> {self.now.get(key) or 'removed'}")

    def judge_metric(self, metric: str) -> Row:
        """Judge a metric with a target. Raises UserError if the two sides were measured on different images."""
        direction, limit = self.limits.targets[metric]
        row = Row(metric, self.then.get(metric), self.now.get(metric), target=f"{DIRECTIONS[direction]} {limit:g}")
        if metric not in self.now:  # nor has params.yaml a target for it
            row.verdict, row.failed = "GONE", True
            return row
        row.now = value = float(self.now[metric])  # type: ignore[arg-type]
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
        loss = -row.change if direction == "at_least" else row.change
        row.test, row.p = self._test(metric, self.rev, direction, loss)
        self._judge_change(row, loss)
        return row

    def _judge_change(self, row: Row, loss: float) -> None:
        """Add to the verdict what a metric that got worse by `loss` deserves."""
        tolerated = self.limits.of(row.metric)
        tolerance = tolerated.loss(float(row.then))  # type: ignore[arg-type]
        if loss > 0 and row.p is not None and row.p < tolerated.alpha:
            row.verdict += f", WORSE (p < {tolerated.alpha:g})"
            row.failed = True
        elif loss > tolerance + ROUNDING * abs(float(row.then)):  # type: ignore[arg-type]
            row.verdict += f", WORSE (by more than {tolerance:g})"
            row.failed = True
        elif loss > 0 and row.p is not None:
            row.verdict += ", worse within noise"
        elif loss > 0:
            row.verdict += f", worse within {tolerance:g}"
        else:
            row.verdict += ", better" if loss < 0 else ", same"
        if tolerated.noise and "WORSE" not in row.verdict:
            more = further_seeds(tolerance - loss, tolerated.noise)
            if more is None:
                row.verdict += ", inconclusive: the loss uses up the tolerance"
            elif more:
                row.verdict += f", inconclusive: {more:,} more seed{'s' * (more > 1)} on each side would decide"

    def _test(self, metric: str, rev: str, direction: str, loss: float) -> tuple[str, float | None]:
        """Return the name of the test of the change, and the one-sided p that chance alone loses this much."""
        sections = _sections(metric)
        for digest in (f"{section}digest" for section in sections):
            if digest != metric and self.then.get(digest) not in (None, self.now.get(digest)):
                raise UserError(
                    f"{digest}: {self.then.get(digest)} at {rev}, {self.now.get(digest)} here: other test images; "
                    f"{SAME_IMAGES}"
                )
        counts = {images: (self.then[images], self.now.get(images)) for images in self._counts(metric, sections)}
        for images, (before, after) in counts.items():
            if not is_number(after):
                raise UserError(f"{images}: {before:,} at {rev}, no count of images here; restore it")
        lost_and_won = self._lost_and_won(metric, rev) if direction == "at_least" else None
        if lost_and_won is not None:
            lost, won = lost_and_won
            return f"McNemar, {lost:,} lost, {won:,} won", mcnemar(lost, won)
        for images, (before, after) in counts.items():
            if before != after and split(images)[1].rpartition(".")[0].rpartition(".")[2] not in FROM_PARAMS:
                raise UserError(f"{images}: {before:,} at {rev}, {after:,} here: other test images; {SAME_IMAGES}")
        self._check_labels(metric, rev)
        n_then, n_now = count(metric, self.then), count(metric, self.now)
        noise = self.limits.of(metric).noise
        if noise is not None:
            return f"two seeds, noise {noise:g}", two_seeds(loss, noise)
        if n_then is None or n_now is None or direction != "at_least":
            return "tolerance alone", None
        hits_then = round(float(self.then[metric]) * n_then)  # type: ignore[arg-type]
        hits_now = round(float(self.now[metric]) * n_now)  # type: ignore[arg-type]
        p = two_proportions(hits_then, n_then, hits_now, n_now)
        return "two proportions, predictions missing", p

    def _counts(self, metric: str, sections: list[str]) -> list[str]:
        """Return the names of the counts of a metric's images that the revision has."""
        names = [f"{section}n" for section in sections]
        return [name for name in names if name != metric and is_number(self.then.get(name))]

    def _check_labels(self, metric: str, rev: str) -> None:
        """Raise UserError if the predictions beside a metric have other true classes than at the revision."""
        path = _predictions_beside(metric)
        text = path and self.source.text(path, rev)
        if not path or not text:
            return
        try:
            before = parse_predictions(f"{path} at {rev}", text, ANOTHER)
        except UserError:
            return  # another kind of table
        here = _text_here(path)
        if here is not None:
            match_images(path, rev, before, parse_predictions(f"{path} here", here, REMEDY))

    def _lost_and_won(self, metric: str, rev: str) -> tuple[int, int] | None:
        """Count the test images that only `then`, and only `now`, classifies correctly; None without predictions."""
        path = _predictions_of(metric)
        if path is None:
            return None
        then, now = float(self.then[metric]), float(self.now[metric])  # type: ignore[arg-type]
        before = read_predictions(f"{path} at {rev}", then, self.source.text(path, rev), ANOTHER)
        after = read_predictions(f"{path} here", now, _text_here(path))
        if before is None or after is None:
            return None
        after = match_images(path, rev, before, after)
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
                row.change = float(after) - float(before)
            else:
                row.verdict = "gone, not judged" if metric not in self.now else "new, not judged"
            rows.append(row)
        return rows


def _text_here(path: str) -> str | None:
    return decode(Path(path).read_bytes(), f"{path} here", REMEDY) if Path(path).exists() else None


def _sections(metric: str) -> list[str]:
    """Return the prefixes of the count and digest of a metric's images: its own section, and NAME.test around that."""
    file, key = split(metric)
    own, dot, _ = key.rpartition(".")
    name, _, rest = own.partition(".")
    around = [f"{file}{name}.test."] if rest.startswith("test.") else []
    return [f"{file}{own}{dot}", *around]


def _predictions_beside(metric: str) -> str | None:
    """Return the path of the predictions for a metric's images, None if they are no test images."""
    name, _, rest = split(metric)[1].partition(".")
    return f"plots/{name}/predictions.csv" if rest.startswith("test.") else None


def _predictions_of(metric: str) -> str | None:
    """Return the place of the predictions that a metric is computed from, None if it is another kind of metric."""
    name, _, rest = split(metric)[1].partition(".")
    return f"plots/{name}/predictions.csv" if rest == "test.accuracy" else None
