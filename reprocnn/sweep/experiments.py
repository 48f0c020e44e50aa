"""List, receive and read the sweep's results, which are DVC experiments of this repository."""

import fcntl
import math
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import PARSERS

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json, write_json
from reprocnn.repository import git
from reprocnn.sweep.overrides import Overrides, experiment_name
from reprocnn.sweep.trial import Outcome, Watched

RECORDS = Path("runs/sweep")  # runs/train_*.json of the trials, by experiment


def metric_files(repo: Repo) -> list[str]:
    """List the metric files that dvc.yaml declares, of stages and at top level. Raises UserError if there are none."""
    files = [Path(path).as_posix() for path in repo.metrics.show()[""].get("data", {})]
    if not files:
        raise UserError("sweep: dvc.yaml: found no metrics; declare a file of them with `cache: false`")
    return files


class Experiments:
    """Experiments on the commit `revision`, judged by the number `metric` in one of the metric `files`.

    With `watched`, the metric of each epoch in a history file, trials that were pruned by it count too.
    """

    def __init__(self, revision: str, metric: str, files: list[str], watched: Watched | None = None) -> None:
        self.revision, self.metric, self.files, self.watched = revision, metric, files, watched
        self.prefix = f"refs/exps/{revision[:2]}/{revision[2:]}"
        by = [revision, watched.file, watched.column] if watched else None
        # By name, the records of trials on this commit that were pruned by the same metric.
        self.pruned = {name: record for name, record in _records() if by and record.get("pruned_by") == by}

    def names(self) -> set[str]:
        """List the experiments that exist now."""
        return set(git("for-each-ref", "--format=%(refname:lstrip=4)", self.prefix).split())

    def exists(self, name: str) -> bool:
        """Check whether an experiment of that name exists now."""
        return bool(git("for-each-ref", f"{self.prefix}/{name}"))

    def params(self, name: str) -> dict[str, Any]:
        """Read the params.yaml of an experiment."""
        return params.parse(git("show", f"{self.prefix}/{name}:params.yaml"))

    def value(self, name: str) -> float | None:
        """Read the metric of an experiment, None if that does not exist.

        Raises UserError if its metric files hold no such number, or several.
        """
        return self._value(f"{self.prefix}/{name}") if self.exists(name) else None

    def check_metric(self, repo: Repo) -> None:
        """Raise UserError if the commit has metrics, but no such number: before the first training, not after it.

        Results of older code than the commit's may lack it.
        """
        if self._metrics(self.revision) and not repo.status():
            self._value(self.revision)

    def _value(self, ref: str) -> float:
        metrics = self._metrics(ref)
        found = {
            path: number for path, values in metrics.items() if (number := _number(values, self.metric)) is not None
        }
        if len(found) > 1:
            raise UserError(f"sweep: --metric {self.metric}: found in {' and '.join(found)}, expected in one file")
        if not found:
            known = ", ".join(key for values in metrics.values() for key in _keys(values))
            raise UserError(
                f"sweep: --metric {self.metric}: found no such number in {', '.join(self.files)}; known: {known}"
            )
        return next(iter(found.values()))

    def _metrics(self, ref: str) -> dict[str, Any]:
        """Read those metric files of an experiment, or of the commit, that git keeps, by path."""
        metrics = {}
        for path in git("ls-tree", "-z", "--name-only", ref, "--", *self.files).split("\0"):
            if path:
                try:
                    metrics[path] = PARSERS[Path(path).suffix.lower()](git("show", f"{ref}:{path}"), path)
                except DvcException as error:
                    raise UserError(f"sweep: {ref.rpartition('/')[2]}: {error}") from None
        return metrics

    def history(self, name: str) -> list[float]:
        """Read the watched metric of each epoch of an experiment."""
        if not self.watched:
            return []
        return self.watched.column_of(git("show", f"{self.prefix}/{name}:{self.watched.file}"))

    def receive(self, overrides: Overrides, outcome: Outcome) -> None:
        """Make an outcome an experiment of this repository, with its outputs in the cache; record a pruned trial."""
        name = experiment_name(overrides)
        ref = f"{self.prefix}/{name}"
        record: dict[str, Any] = {"overrides": overrides, "records": outcome.records}
        record |= {"node": outcome.node, "gpus": outcome.gpus, "seconds": outcome.seconds}
        RECORDS.mkdir(parents=True, exist_ok=True)
        (RECORDS / ".gitignore").write_text("*\n")  # where git does not ignore runs/, the next sweep would refuse
        if outcome.pruned is not None and self.watched:
            by = [self.revision, self.watched.file, self.watched.column]
            self.pruned[name] = record | {"pruned": [finite(one) for one in outcome.pruned], "pruned_by": by}
            write_json(RECORDS / f"{name}.json", self.pruned[name])
            return
        with tempfile.NamedTemporaryFile() as bundle, (RECORDS / ".lock").open("w") as lock:
            bundle.write(outcome.bundle)
            bundle.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)  # git refuses a ref that another sweep is writing
            git("fetch", "--quiet", bundle.name, f"+{ref}:{ref}")
            write_json(RECORDS / f"{name}.json", record)
        if outcome.pushed:
            _fetch_outputs(name, ref)


def _fetch_outputs(name: str, ref: str) -> None:
    """Fetch an experiment's outputs from the default remote into the cache."""
    repo = Repo()
    remotes = {"remote": repo.config["remote"]}  # DVC would resolve relative paths of the committed config otherwise
    try:
        repo.fetch(revs=[git("rev-parse", ref).strip()], workspace=False, config=remotes)
    except Exception as error:  # of DVC, or of the many libraries behind its remotes
        raise UserError(
            f"outputs not fetched: {error}; run `dvc exp apply {name}` and `dvc pull` to get them"
        ) from None


def _records() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the records that can be read, by the names of their trials; without its record, a trial runs again."""
    for path in RECORDS.glob("*.json"):
        with suppress(UserError):
            record = read_json(path)
            if isinstance(record, dict):
                yield path.stem, record


def finite(value: float | None) -> float | None:
    """Return a number that JSON has, None for NaN and infinity."""
    return value if value is not None and math.isfinite(value) else None


def _number(metrics: Any, key: str) -> float | None:
    try:
        value = params.at(metrics, key)
        return float(value) if not isinstance(value, bool) and math.isfinite(value) else None
    except (KeyError, TypeError, OverflowError):
        return None


def _keys(values: Any, prefix: str = "") -> list[str]:
    """List the dotted keys of nested mappings."""
    if not isinstance(values, dict):
        return [prefix.rstrip(".")]
    return [key for name, value in values.items() for key in _keys(value, f"{prefix}{name}.")]
