"""What the search of benchmarks/ measured of changes of a recipe, for the recipe that it was made with and no other."""

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass

import pandas as pd

from reprocnn.core.params import Recipe
from reprocnn.datasets import MNIST
from reprocnn.report.cells import baseline
from reprocnn.report.results import Result
from reprocnn.report.tables import read

CHANCE = 2  # standard errors of a difference


@dataclass(frozen=True)
class Evidence:
    """The runs of the search, with the number of validation images; empty where it says nothing."""

    search: pd.DataFrame | None = None
    n: int = 0

    def change_effect(self, keys: Collection[str]) -> str | None:
        """Say what changes of these params, and of no others, did to the validation errors; `lr` is the peak."""
        if self.search is None:
            return None
        tried = [
            self._compare(str(change), changed)
            for change, changed in self.search.groupby("change", sort=False)
            if change and {setting.partition("=")[0] for setting in str(change).split()} <= set(keys)
        ]
        return " ".join(tried) or None

    def _compare(self, change: str, changed: pd.DataFrame) -> str:
        assert self.search is not None
        with_change, without = (
            self.n * (1 - float(runs["val_accuracy"].mean())) for runs in (changed, baseline(self.search, changed))
        )
        # The number of errors has about a Poisson distribution; the mean of k seeds has a k-th of its variance.
        noise = CHANCE * math.sqrt((with_change + without) / len(changed))
        if with_change - without > noise:
            verdict = "more than chance explains: this supports the choice"
        elif without - with_change > noise:
            verdict = "fewer than chance explains: this refutes the choice"
        else:
            verdict = "a difference that chance explains" if round(with_change) != round(without) else "no difference"
        seeds = f"mean of {len(changed)} seeds" if len(changed) > 1 else "one seed"
        return (
            f"`{change}` made {with_change:.0f} errors instead of {without:.0f} on {self.n:,} validation images "
            f"({seeds}), {verdict}."
        )


def find(result: Result) -> Evidence:
    """Find what bears on this result: the search was for MNIST, with the recipe that each of its rows names."""
    search = read("search")
    if "recipe" not in search or result.dataset != MNIST or result.judged_by is None:
        return Evidence()
    own = search[search["recipe"] == describe(result.recipe, result.peak_lr)]
    return Evidence() if own.empty else Evidence(own, result.details["validation_images"])


def describe(recipe: Recipe, peak_lr: float) -> str:
    """Write a recipe as a cell of a table, with the peak learning rate as `lr` in place of its factor."""
    values = asdict(recipe)
    del values["lr_factor"]
    return " ".join(f"{key}={value}" for key, value in sorted(values.items())) + f" lr={peak_lr:g}"
