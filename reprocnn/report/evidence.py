"""Sentences about what benchmarks/ measured, to stand beside the choices that they support or refute."""

import math
from typing import Any

from reprocnn.report.cells import baseline
from reprocnn.report.experiments import INSIGHTS_EPOCH
from reprocnn.report.tables import read


class Evidence:
    """What was measured of the choices for the data set `dataset`; a sentence is None where nothing was.

    The search was for MNIST's recipe, so it says nothing of another data set.
    """

    def __init__(self, dataset: str) -> None:
        self.search = read("search") if dataset == "mnist" else None
        self.flaws, self.insights = read("grudges"), read("insights")

    def change_effect(self, **values: Any) -> str | None:
        """Say what the search found for other values than these, by key of params.yaml; `lr` is the peak."""
        if self.search is None:
            return None
        found = []
        for change, changed in self.search.groupby("change", sort=False):
            settings = dict(setting.split("=") for setting in str(change).split())
            if any(key in values and not _same(value, values[key]) for key, value in settings.items()):
                unchanged = baseline(self.search, changed)
                found.append(
                    f"`{change}` the validation error was {1 - changed['val_accuracy'].mean():.2%}, without the change "
                    f"{1 - unchanged['val_accuracy'].mean():.2%} ({_seeds(len(changed))})"
                )
        return f"With {'; with '.join(found)}." if found else None

    def fix_effect(self, fix: str) -> str | None:
        """Say what one fix of the warm-up network changed, those before it kept."""
        if self.flaws is None or fix not in set(self.flaws["fix"]):
            return None
        after = self.flaws[self.flaws["fix"] == fix]
        before = self.flaws[self.flaws["step"] == after["step"].iloc[0] - 1]
        if before.empty:
            return None
        old, new = f"{before['val_accuracy'].mean():.1%}", f"{after['val_accuracy'].mean():.1%}"
        if old == new:
            effect = f"left the validation accuracy at {old}"
        else:
            effect = f"took the validation accuracy from {old} to {new}"
        return f'In the warm-up network, fixed step by step, "{fix}" {effect} ({_seeds(len(after))}).'

    def variant_effect(self, before: str, after: str) -> str | None:
        """Compare two variants of the exercise's network after `INSIGHTS_EPOCH` epochs."""
        if self.insights is None or not {before, after} <= set(self.insights["variant"]):
            return None
        rows = self.insights[self.insights["epoch"] == INSIGHTS_EPOCH]
        accuracy = rows.groupby("variant")["test_accuracy"].mean()
        n = int((rows["variant"] == after).sum())
        return (
            f"In the exercise's network, test accuracy after {INSIGHTS_EPOCH} epochs: {before}, "
            f"{accuracy[before]:.2%}; {after}, {accuracy[after]:.2%} ({_seeds(n)})."
        )


def _same(text: str, value: Any) -> bool:
    """Compare a value as it stands in a change, like lr=0.005, with one of params.yaml."""
    try:
        return math.isclose(float(text), float(str(value)))
    except ValueError:
        return text == str(value).lower()


def _seeds(n: int) -> str:
    return f"mean of {n} seeds" if n > 1 else "one seed"
