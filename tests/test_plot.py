from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from stages import plot

HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "loss": [1.0, 0.5],
        "accuracy": [0.6, 0.8],
        "val_loss": [1.1, 0.7],
        "val_accuracy": [0.5, 0.7],
        "lr": [0.1, 0.05],
    }
)
PREDICTIONS = pd.DataFrame({"y_true": [0, 0, 1, 1], "y_pred": [0, 1, 1, 1], "confidence": [0.9, 0.8, 0.7, 0.6]})


@pytest.fixture(autouse=True)
def no_figure_left_open():
    yield
    plt.close("all")


def test_curves_show_train_and_validation_and_the_target():
    loss, accuracy, rate = plot.draw_curves(HISTORY, 0.75).axes
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    assert [line.get_label() for line in accuracy.lines] == ["train", "validation", "best, epoch 2", "target 0.75"]
    assert np.asarray(loss.lines[0].get_ydata()).tolist() == [1.0, 0.5]
    assert np.asarray(accuracy.lines[1].get_ydata()).tolist() == [0.5, 0.7]
    assert np.asarray(rate.lines[0].get_ydata()).tolist() == [0.1, 0.05]
    assert [axes.get_ylabel() for axes in (loss, accuracy, rate)] == ["loss (cross-entropy)", "accuracy", "rate"]
    assert rate.get_xlabel() == "epoch"


def test_curves_without_validation():
    history = HISTORY.assign(val_loss=np.nan, val_accuracy=np.nan)
    loss, accuracy, _ = plot.draw_curves(history, 0.75).axes
    assert [line.get_label() for line in loss.lines] == ["train"]
    assert [line.get_label() for line in accuracy.lines] == ["train", "target 0.75"]


def test_classes_that_are_mixed_up_stand_together():
    counts = np.diag([50, 50, 50, 50])
    counts[0, 2] = counts[3, 1] = 9  # cats for dogs, ships for cars
    order = plot.order_classes(counts).tolist()
    assert sorted(order) == [0, 1, 2, 3]
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1


@pytest.mark.parametrize(
    ("accuracies", "error", "told"),
    [
        ((0.5, 0.8), 0.1, "off by 10.0 points on average (expected calibration error 0.1000): it is too sure."),
        ((0.7, 1.0), 0.1, "it is not sure enough."),
        ((0.5, 1.0), 0.1, ", to both sides."),
    ],
)
def test_the_calibration_error_in_words(accuracies, error, told):
    bins = [{"n": 10, "confidence": c, "accuracy": a} for c, a in zip((0.6, 0.9), accuracies, strict=True)]
    assert told in plot.explain_reliability(bins, error)


def test_reliability_shows_each_bin():
    bins = [{"n": 30, "confidence": 0.6, "accuracy": 0.5}, {"n": 10, "confidence": 0.9, "accuracy": 0.8}]
    axes = plot.draw_reliability(bins).axes[0]
    dots: Any = axes.collections[0]
    assert np.asarray(dots.get_offsets()).tolist() == [[0.6, 0.5], [0.9, 0.8]]
    assert dots.get_sizes()[0] > dots.get_sizes()[1]


def test_confusion_counts_by_hand():
    axes = plot.draw_confusion(PREDICTIONS, ["cat", "dog"]).axes[0]
    written = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "1", (1, 0): "1", (1, 1): "2"}  # column, row
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


def test_mistakes_name_both_classes_and_the_confidence():
    x = np.zeros((1, 4, 4, 3), np.uint8)
    axes = plot.draw_mistakes(np.array([1]), x, PREDICTIONS, ["cat", "dog"]).axes[0]
    assert axes.get_title() == "is cat\nsaid dog\n80.0%"


def test_no_mistakes_at_all():
    axes = plot.draw_mistakes(np.array([], int), np.zeros((0, 4, 4, 1), np.uint8), PREDICTIONS, ["a", "b"]).axes[0]
    assert axes.texts[0].get_text() == "no mistakes"


def test_the_same_figure_is_the_same_file(tmp_path):
    with plt.rc_context(plot.STYLE):
        for name in ("a", "b"):
            plot.save(plot.draw_curves(HISTORY, 0.75), tmp_path / f"{name}.svg")
            plot.save(plot.draw_confusion(PREDICTIONS, ["cat", "dog"]), tmp_path / f"{name}.png")
    for kind in ("svg", "png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize(
    ("target", "said"),
    [(0.7, ", at or above the target of 70.0%."), (0.9, ", below the target of 90.0%."), (None, ").\n")],
)
def test_a_section_is_computed_from_its_figures(target, said):
    test = {
        "n": 4, "errors": 1, "accuracy": 0.75, "accuracy_low": 0.3, "accuracy_high": 0.95, "top2_accuracy": 1.0,
        "loss": 0.5, "calibration_error": 0.1,
    }  # fmt: skip
    bins = [{"n": 4, "confidence": 0.85, "accuracy": 0.75}]
    details = {
        "parameters": 1234,
        "reliability": bins,
        "validation_images": 100,
        "classes": [{"class": "cat", "precision": None, "recall": 0.5, "n": 2}],
    }
    text = plot.write_section("mnist", "MNIST", test, target, HISTORY, details)
    assert "1 of 4 test images are classified wrongly: an accuracy of 75.00%\n(95 % interval 30.00% to 95.00%)" in text
    assert said in text
    assert "1,234 parameters" in text
    assert "| cat | - | 50.00% | 2 |" in text
    assert ("The validation accuracy" in text) == (target is not None)
    assert "it is too sure" in text
