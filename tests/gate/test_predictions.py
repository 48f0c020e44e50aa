"""What a table of predictions may look like."""

import pytest

from reprocnn.core.errors import UserError
from reprocnn.gate.predictions import read_predictions


@pytest.mark.parametrize(
    ("table", "correct"),
    [
        ("y_true,y_pred\n1,1\n2,1\n", [True, False]),
        ("index,y_pred,y_true,confidence\r\n0,1,1.0,0.9\r\n1,2,1.0,0.5\r\n", [True, False]),
        ("y_true,y_pred\ncat,cat\n1,dog\n", [True, False]),
        ('y_true,y_pred\n"a, b","a, b"\n"a\nb",ab\n', [True, False]),
    ],
    ids=["numbers", "other columns", "names", "quoted"],
)
def test_classes_are_numbers_or_names(table, correct):
    predictions = read_predictions("table", 0.5, lambda: table)
    assert predictions is not None
    assert predictions.correct.tolist() == correct


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("", "y_true, y_pred missing"),
        ("y_true,label\n1,1\n", "y_pred missing"),
        ("y_true,y_pred\n", "no rows"),
        ("y_true,y_pred\n1,1\n1,\n", "an empty value in row 1"),
        ("y_true,y_pred\n1,1\n1\n", "an empty value in row 1"),
        ("y_true,y_pred\n1,nan\n1,1\n1,0\n", "0.333333 of it is correct, but the metric is 0.5"),
    ],
)
def test_a_table_without_predictions_is_refused_in_a_line(table, reason):
    with pytest.raises(UserError, match=f"^table: .*{reason}"):
        read_predictions("table", 0.5, lambda: table)


def test_bytes_that_are_not_text_are_refused(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_bytes(b"y_true,y_pred\n\xff,\xff\n")
    with pytest.raises(UserError, match=r"^table: expected a table"):
        read_predictions("table", 0.5, lambda: path.read_text(encoding="utf-8"))
