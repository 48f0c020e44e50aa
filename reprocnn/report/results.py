"""What the pipeline measured of a data set, loaded for people: for the report and for the table that ends a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json
from reprocnn.core.params import Recipe
from reprocnn.datasets import Dataset

if TYPE_CHECKING:  # slow to import, and the table that ends a run does without them
    import numpy as np
    import pandas as pd

SAMPLE = "sample"


@dataclass(frozen=True)
class Result:
    """Everything that the report says of one data set."""

    dataset: Dataset
    source: str  # of the images: public | sample
    test: dict[str, Any]  # metrics
    target: float  # test accuracy
    recipe: Recipe
    seed: int
    peak_lr: float
    history: pd.DataFrame
    predictions: pd.DataFrame
    details: dict[str, Any]  # evaluation/NAME.json
    images: dict[str, np.ndarray]  # evaluation/NAME.npz

    @property
    def title(self) -> str:
        """Name the data set for people."""
        return title(self.dataset, self.source)

    @property
    def judged_by(self) -> float | None:
        """Give the target, or None for the sample, which none is meant for."""
        return None if self.source == SAMPLE else self.target

    @property
    def class_names(self) -> list[str]:
        """Name the classes in the order of their numbers."""
        return [row["class"] for row in self.details["classes"]]


@dataclass(frozen=True)
class _Run:
    seed: int
    lr: float


@dataclass(frozen=True)
class _Targets:
    targets: dict[str, Any]


def load(dataset: Dataset) -> Result:
    """Read what params.yaml, the training and the evaluation say of a data set. Raises UserError for a missing file."""
    import numpy as np
    import pandas as pd

    name = dataset.name
    run, recipe = params.read(_Run), params.read(Recipe, name)
    metrics = read_json(Path("metrics") / f"{name}.json")[name]
    with np.load(_existing(Path("evaluation") / f"{name}.npz"), allow_pickle=False) as images:
        return Result(
            dataset=dataset,
            source=metrics["source"],
            test=metrics["test"],
            target=target(name),
            recipe=recipe,
            seed=run.seed,
            peak_lr=run.lr * recipe.lr_factor,
            history=pd.read_csv(_existing(Path("plots") / name / "history.csv")),
            predictions=pd.read_csv(_existing(Path("plots") / name / "predictions.csv")),
            details=read_json(Path("evaluation") / f"{name}.json"),
            images=dict(images),
        )


def title(dataset: Dataset, source: str) -> str:
    """Name a data set for people, so that a result of the sample is never taken for a real one."""
    return dataset.sample_title if source == SAMPLE else dataset.title


def target(dataset: str) -> float:
    """Read the test accuracy that params.yaml asks of the data set `dataset`. Raises UserError if it asks for none."""
    key = f"{dataset}.test.accuracy.at_least"
    try:
        return float(params.at(params.read(_Targets).targets, key))
    except (KeyError, TypeError):
        raise UserError(f"{params.FILE}: targets.{key}: missing; add it") from None


def _existing(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path}: missing; run `dvc repro`")
    return path
