"""What a table of predictions may look like."""

import re

import numpy as np
import pytest

from reprocnn.core.errors import UserError
from reprocnn.gate.predictions import SAME_IMAGES, Predictions, match_images, read_predictions


@pytest.mark.parametrize(
    ("table", "correct"),
    [
        ("y_true,y_pred\n1,1\n2,1\n", [True, False]),
        ("index,y_pred,y_true,confidence\r\n0,1,1.0,0.9\r\n1,2,1.0,0.5\r\n", [True, False]),
        ("y_true,y_pred\ncat,cat\n1,dog\n", [True, False]),
        ('y_true,y_pred\n"a, b","a, b"\n"a\nb",ab\n', [True, False]),
        ("\ufeffy_true,y_pred\n1,1\n2,1\n", [True, False]),
        (f"y_true,y_pred\n{2**60},{2**60}.0\n{2**60},{2**60 + 1}\n", [True, False]),
        ("y_true,y_pred\n1e5,1e5\n1e5,100000\n", [True, False]),
        ("y_true,y_pred\nnan,nan\n3,nan\n", [True, False]),
    ],
    ids=["numbers", "other columns", "names", "quoted", "BOM", "long numbers", "names like numbers", "a class nan"],
)
def test_classes_are_numbers_or_names(table, correct):
    predictions = read_predictions("table", 0.5, table)
    assert predictions is not None
    assert predictions.correct.tolist() == correct


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("", "y_true, y_pred missing"),
        ("y_true,label\n1,1\n", "y_pred missing"),
        ("y_true,y_pred,y_pred\n1,1,2\n", "two columns of one name"),
        ("y_true,y_pred\n", "no rows"),
        ("y_true,y_pred\n1,1\n1,\n", "an empty value in row 1"),
        ("y_true,y_pred\n,1\n1,1\n", "an empty value in row 0"),
        ("y_true,y_pred\n1,1\n1\n", "an empty value in row 1"),
        ("y_true,y_pred\n1,1\n1,1,2\n", "more values than columns in row 1"),
        (f"y_true,y_pred\n1,{'1' * 200_000}\n", "field larger than field limit"),
        ("y_true,y_pred\n1,nan\n1,1\n1,0\n", "gives an accuracy of 0.333333, but the metric is 0.5"),
    ],
)
def test_a_table_without_predictions_is_refused_in_a_line(table, reason):
    with pytest.raises(UserError, match=f"^table: .*{reason}"):
        read_predictions("table", 0.5, table)


def test_an_index_twice_is_found_among_many():
    """Which would take minutes if each image were compared with all others."""
    rows = "".join(f"{i},1,1\n" for i in [*range(200_000), 199_999])
    with pytest.raises(UserError, match="the index 199999 twice"):
        read_predictions("table", 1, f"index,y_true,y_pred\n{rows}")


@pytest.mark.parametrize("table", ["y_true,label\n1,1\n", "y_true,y_pred\n1,1\n"])
def test_what_to_do_depends_on_the_side(table):
    with pytest.raises(UserError, match=r"; run `dvc repro`$"):
        read_predictions("table", 0.5, table)
    with pytest.raises(UserError, match=r"; name another$"):
        read_predictions("table", 0.5, table, "name another")


def test_no_table_is_none():
    assert read_predictions("table", 0.5, None) is None


@pytest.mark.parametrize("accuracy", [0.25 + 1e-12, 0.25 - 1e-12])
def test_the_metric_may_differ_by_rounding_alone(accuracy):
    table = "y_true,y_pred\n1,1\n2,1\n3,1\n4,1\n"
    assert read_predictions("table", accuracy, table) is not None
    for other in (accuracy + 1e-6, accuracy - 1e-6):
        with pytest.raises(UserError, match=r"^table: gives an accuracy of 0\.250000, but the metric is 0\.2"):
            read_predictions("table", other, table)


@pytest.mark.parametrize(
    ("accuracy", "looks"), [(0.7, True), (0.67, True), (1, False), (0.6667, True), (0.66, False), (0.65, False)]
)
def test_a_metric_that_looks_rounded_is_called_so(accuracy, looks):
    with pytest.raises(UserError, match=r"gives an accuracy of .*, but the metric is ") as error:
        read_predictions("table", accuracy, "y_true,y_pred\n1,1\n2,1\n1,1\n")
    assert ("which looks rounded: write it unrounded; run `dvc repro`" in str(error.value)) is looks


def predictions(*pairs: tuple[int, int]) -> Predictions:
    classes = np.array(pairs)
    return Predictions(classes[:, 0], classes[:, 1])


def test_the_same_images_have_the_same_true_classes_in_order():
    two = predictions((1, 1), (2, 3))
    match_images("p.csv", "v1", two, predictions((1, 2), (2, 2)))
    others = f": not the same test images; {re.escape(SAME_IMAGES)}$"
    with pytest.raises(UserError, match=rf"^p\.csv: other true classes here than at v1{others}"):
        match_images("p.csv", "v1", two, predictions((2, 1), (1, 3)))
    more = predictions(*[(1, 1)] * 1200)
    with pytest.raises(UserError, match=rf"^p\.csv: 2 predictions at v1, 1,200 here{others}"):
        match_images("p.csv", "v1", two, more)
    with pytest.raises(UserError, match=r"^p\.csv: 1,200 predictions at v1, 2 here: .*; run it again$"):
        match_images("p.csv", "v1", more, two, "run it again")
