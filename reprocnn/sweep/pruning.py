"""Stop trials that fall behind: workers send the metric of each epoch, the driver decides."""

from dataclasses import replace

import ray
from dvc.repo import Repo

from reprocnn.core.errors import UserError
from reprocnn.sweep.trial import Watched


class Progress:
    """The metric of the epochs of running trials, by the name of the trial, and which of them are to stop."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self.stopped: set[str] = set()

    def report(self, name: str, values: list[float]) -> bool:
        """Take the values of a trial so far; return whether it is to stop."""
        self.values[name] = values
        return name in self.stopped

    def take(self) -> dict[str, list[float]]:
        """Return what was reported since the last call."""
        values, self.values = self.values, {}
        return values

    def stop(self, name: str) -> None:
        """Let a trial stop when it reports again."""
        self.stopped.add(name)


def find(repo: Repo, text: str, metric: str) -> Watched:
    """Read FILE:COLUMN; by default they follow from the metric's name. Raises UserError if no stage writes FILE."""
    dataset, _, rest = metric.partition(".")
    file, _, column = (text or f"plots/{dataset}/history.csv:{rest.replace('.', '_')}").rpartition(":")
    outputs = [str(out) for out in repo.index.outs]
    if file not in outputs:
        known = ", ".join(path for path in outputs if path.endswith(".csv")) or "none"
        raise UserError(
            f"sweep: --prune: found {file or text}, expected FILE:COLUMN of a CSV output in dvc.yaml (known: {known})"
        )
    return Watched(file, column)


def start(watched: Watched) -> Watched:
    """Start the actor to which the workers report."""
    actor = ray.remote(num_cpus=0, max_restarts=-1)(Progress)
    return replace(watched, progress=actor.remote())
