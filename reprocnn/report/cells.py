"""How a cell of a table is computed from measurements: functions that make one from a group of rows."""

from collections.abc import Callable

import numpy as np
import pandas as pd

Cell = Callable[[pd.DataFrame], object]


def first(column: str, template: str = "{}") -> Cell:
    """Format the group's first value."""
    return lambda own: template.format(own[column].iloc[0])


def median(column: str, template: str) -> Cell:
    """Format the group's median."""
    return lambda own: template.format(own[column].median())


def mean(column: str, template: str) -> Cell:
    """Format the group's mean."""
    return lambda own: template.format(own[column].mean())


def highest(column: str, template: str = "{}") -> Cell:
    """Format the group's maximum."""
    return lambda own: template.format(own[column].max())


def ends(column: str, template: str) -> Cell:
    """Format the group's first and last value as a range."""
    return lambda own: f"{template.format(own[column].iloc[0])} to {template.format(own[column].iloc[-1])}"


def accuracy(column: str) -> Cell:
    """Return mean and standard deviation of accuracies; nothing where one of them was not measured."""
    return lambda own: "" if (own[column] == "").any() else spread(own[column].astype(float))


def last_epoch(cell: Cell) -> Cell:
    """Compute a cell from the last epoch's rows alone."""
    return lambda own: cell(last_rows(own))


def gib(mebibytes: float) -> str:
    """Format an amount of memory."""
    return f"{mebibytes / 1024:.1f} GiB"


def last_rows(own: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the last epoch."""
    return own[own["epoch"] == own["epoch"].max()]


def spread(accuracies: pd.Series) -> str:
    """Write mean ± standard deviation, the latter in percentage points; a single value as it is."""
    mean = f"{accuracies.mean():.2%}"
    return f"{mean} ± {100 * accuracies.std():.2f}" if len(accuracies) > 1 else mean


def exponent(sizes: pd.Series, costs: pd.Series) -> float:
    """Fit a power law: the slope of log(costs) over log(sizes), by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def chosen(runs: pd.DataFrame, by: str) -> pd.Series:
    """Return the test accuracy of each seed at its first epoch with the highest value of the column `by`."""
    return runs.loc[runs.groupby("seed")[by].idxmax()].set_index("seed")["test_accuracy"]


def of_one_processor(own: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the processor and precision that most of them have, since others' times cannot be compared."""
    return own[own["hardware"] == own["hardware"].value_counts().index[0]]


def baseline(runs: pd.DataFrame, changed: pd.DataFrame) -> pd.DataFrame:
    """Return the search's runs of the unchanged recipe with the seeds of `changed`."""
    return runs[runs["change"] == ""].set_index("seed").loc[changed["seed"]]
