"""plots/NAME/predictions.csv, image by image: what McNemar's test counts."""

import csv
import io
import math
import re
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from reprocnn.core.errors import UserError

COLUMNS = ("y_true", "y_pred")
REMEDY = "run `dvc repro`"
NUMBER = re.compile(r"\s*[+-]?\d+(\.\d*)?\s*|nan", re.IGNORECASE | re.ASCII)
SAME_IMAGES = "test on the same images, or name another revision with --against"


@dataclass(frozen=True)
class Predictions:
    """True and predicted classes (n,), as text; if all are numbers, 3 and 3.0 have the same text."""

    y_true: np.ndarray
    y_pred: np.ndarray
    index: tuple[str, ...] | None = None  # of the images, where the table says it

    @property
    def correct(self) -> np.ndarray:
        """Return for each image whether it is classified correctly."""
        return np.asarray(self.y_true == self.y_pred)


def read_predictions(where: str, accuracy: float, text: str | None, remedy: str = REMEDY) -> Predictions | None:
    """Parse a table, None where there is no such file; messages name it by `where` and end with `remedy`.

    Raises UserError for a table without predictions, and for one whose accuracy is not the metric `accuracy`.
    """
    if text is None:
        return None
    predictions = parse_predictions(where, text, remedy)
    share = float(predictions.correct.mean())
    if not math.isclose(share, accuracy, abs_tol=1e-9):
        rounded = ", which looks rounded: write it unrounded" if _is_rounded(accuracy, share) else ""
        raise UserError(f"{where}: gives an accuracy of {share:.6f}, but the metric is {accuracy}{rounded}; {remedy}")
    return predictions


def parse_predictions(where: str, text: str, remedy: str) -> Predictions:
    """Parse a table, which messages name by `where`; they end with `remedy`.

    Raises UserError for one without predictions.
    """
    try:
        return _parse(text)
    except (ValueError, csv.Error) as error:
        raise UserError(f"{where}: expected a table with y_true and y_pred ({error}); {remedy}") from None


def match_images(
    path: str, rev: str, before: Predictions, after: Predictions, remedy: str = SAME_IMAGES
) -> Predictions:
    """Return `after` in the order of `before`, by their `index`. Raises UserError unless both list the same images."""
    others = f"not the same test images; {remedy}"
    if before.index is not None and len(before.y_true) == len(after.y_true):
        if after.index is None or set(before.index) != set(after.index):
            raise UserError(f"{path}: its index lists other images than at {rev}: {others}")
        place = {name: i for i, name in enumerate(after.index)}
        order = [place[name] for name in before.index]
        after = Predictions(after.y_true[order], after.y_pred[order], before.index)
    n_before, n_after = len(before.y_true), len(after.y_true)
    if n_before != n_after:
        raise UserError(f"{path}: {n_before:,} predictions at {rev}, {n_after:,} here: {others}")
    if not np.array_equal(before.y_true, after.y_true):
        raise UserError(f"{path}: other true classes here than at {rev}: {others}")
    return after


def _is_rounded(value: float, exact: float) -> bool:
    """Return whether `value` is `exact` to as many places as it is written with."""
    return round(exact, len(repr(float(value)).partition(".")[2])) == value


def _parse(text: str) -> Predictions:
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    header = list(reader.fieldnames or ())
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise ValueError(f"{', '.join(missing)} missing")
    if len(set(header)) < len(header):
        raise ValueError("two columns of one name")
    columns = [*COLUMNS, *(["index"] if "index" in header else [])]
    records = list(reader)
    if not records:
        raise ValueError("no rows")
    longer = next((i for i, record in enumerate(records) if None in record), None)
    if longer is not None:
        raise ValueError(f"more values than columns in row {longer}")
    rows = [[record[column] for column in columns] for record in records]
    empty = next((i for i, row in enumerate(rows) if not all(row)), None)
    if empty is not None:
        raise ValueError(f"an empty value in row {empty}")
    texts = {text for row in rows for text in row[:2]}
    if all(map(NUMBER.fullmatch, texts)):  # classes may be names
        # Exactly: as floats, long whole numbers that differ would be one class.
        same = {text: f"{Decimal(text.strip()):f}" for text in texts}
        same = {text: one.rstrip("0").rstrip(".") if "." in one else one for text, one in same.items()}
        rows = [[*(same[text] for text in row[:2]), *row[2:]] for row in rows]
    classes = np.array([row[:2] for row in rows])
    index = tuple(row[2] for row in rows) if len(columns) > 2 else None
    if index is not None and len(set(index)) < len(index):
        raise ValueError(f"the index {next(one for one, n in Counter(index).items() if n > 1)} twice")
    return Predictions(classes[:, 0], classes[:, 1], index)
