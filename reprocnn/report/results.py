"""What the pipeline measured of a data set, loaded for people: for the report and for the table that ends a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.params import Recipe
from reprocnn.datasets import Dataset
from reprocnn.report import readers

if TYPE_CHECKING:  # slow to import, and the table that ends a run does without them
    import numpy as np
    import pandas as pd

SAMPLE = "sample"


@dataclass(frozen=True)
class Result:
    """Everything that the report says of one data set."""

    dataset: Dataset
    source: str  # of the images: public | sample
    test: dict[str, Any]  # metrics, with n and the interval of the accuracy
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
        """Return the target, or None for the sample, which none is meant for."""
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
    """Read what params.yaml, the training and the evaluation say of a data set.

    Raises UserError for a file that is missing, or not as the stage wrote it.
    """
    name = dataset.name
    run, recipe = params.read(_Run), params.read(Recipe, name)
    metrics, details = readers.read_test(name)
    n, classes = details["test"]["n"], len(details["classes"])
    return Result(
        dataset=dataset,
        source=details["source"],
        test=details["test"] | metrics["test"],
        target=target(name),
        recipe=recipe,
        seed=run.seed,
        peak_lr=run.lr * recipe.lr_factor,
        history=readers.read_history(name, recipe.epochs),
        predictions=readers.read_predictions(name, n, classes),
        details=details,
        images=readers.read_images(name, n, classes, details["block_shapes"]),
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
