"""What the pipeline measured, read for people: by the plots and by the table at the end of a run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.lib.errors import UserError

TITLES = {"mnist": "MNIST", "cifar": "CIFAR-10"}
SAMPLE_TITLES = {"mnist": "sample: digits", "cifar": "sample: shapes"}


@dataclass(frozen=True)
class Limit:
    at_least: float


@dataclass(frozen=True)
class Metrics:
    accuracy: Limit


@dataclass(frozen=True)
class Split:
    test: Metrics


@dataclass(frozen=True)
class Targets:
    mnist: Split
    cifar: Split

    def accuracy(self, name: str) -> float:
        split: Split = getattr(self, name)
        return split.test.accuracy.at_least


def load_json(path: Path) -> Any:
    """The content of a file that a stage wrote; raises UserError if it is not there or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not there; run `dvc repro`") from None
    except ValueError as error:
        raise UserError(f"{path}: no JSON ({error}); restore it with git checkout, or run `dvc repro`") from None


def title(metrics: dict[str, Any], name: str) -> str:
    """What to call a data set, so that a result of the sample is never taken for a real one."""
    return (SAMPLE_TITLES if metrics["source"] == "sample" else TITLES)[name]
