"""The tables of what benchmarks/ measured, built from benchmarks/results/*.csv and written as Markdown."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from reprocnn.core.errors import UserError
from reprocnn.report.experiments import Table, specifications

FOLDER = Path("benchmarks/results")


def tables(n_val: int | None) -> dict[str, pd.DataFrame]:
    """Build the tables of all that is measured, by name; `n_val` as in `experiments.specifications`."""
    built = {name: load(table) for name, table in specifications(n_val).items()}
    return {name: table for name, table in built.items() if not table.empty}


def load(table: Table) -> pd.DataFrame:
    """Build a table from its file, empty if that is missing. Raises UserError for a file with other columns."""
    runs = read(table.file)
    with naming(table.file):
        return build(table, runs)


def build(table: Table, runs: pd.DataFrame) -> pd.DataFrame:
    """Compute every cell, groups in the order in which `runs` has them."""
    if runs.empty:
        return pd.DataFrame()
    prepared = table.prepare(runs)
    keys = list(table.by) or np.arange(len(prepared))
    groups = prepared.groupby(keys, sort=False)
    return pd.DataFrame({heading: cell(own) for heading, cell in table.columns.items()} for _, own in groups)


def read(name: str) -> pd.DataFrame:
    """Read FOLDER / NAME.csv, no rows if it is missing; an empty cell is an empty string.

    Raises UserError if it is not a table.
    """
    path = FOLDER / f"{name}.csv"
    if not path.exists():
        return pd.DataFrame()
    with naming(name):
        return pd.read_csv(path, keep_default_na=False)


def markdown(table: pd.DataFrame) -> str:
    """Write a table as Markdown, its cells as they are but for spaces that would part a number from its spread."""
    text: str = table.to_markdown(index=False, disable_numparse=True, tablefmt="github")
    return text.replace(" ± ", "\u00a0±\u00a0") + "\n"


def circumstances(file: str) -> str:
    """Say where and when FOLDER / FILE.csv was measured, as far as it has that."""
    runs = read(file)
    parts = [f"`{FOLDER / file}.csv`"]
    for column in ("hardware", "date"):
        if column in runs:
            parts.append(" and ".join(map(str, sorted(runs[column].unique()))))
    return ", ".join(parts)


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Turn what pandas raises for missing columns, or for words instead of numbers, into a UserError with the file."""
    try:
        yield
    except Exception as error:  # pandas and matplotlib have a dozen kinds
        reason = " ".join(str(error).split())[:150]
        path = FOLDER / f"{file}.csv"
        raise UserError(
            f"{path}: expected a table as its benchmark writes it, got {reason}; restore it with git checkout"
        ) from None
