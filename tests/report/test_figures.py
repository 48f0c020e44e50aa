"""The report's figures: what is drawn, by hand."""

import base64
import io
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reprocnn.report import figures

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


def test_curves_show_train_and_validation_and_the_target():
    loss, accuracy, rate = figures.draw_curves(HISTORY, 0.75).axes
    assert [line.get_label() for line in loss.lines] == ["train", "validation"]
    assert [line.get_label() for line in accuracy.lines] == ["train", "validation", "best, epoch 2", "target 0.75"]
    assert np.asarray(loss.lines[0].get_ydata()).tolist() == [1.0, 0.5]
    assert np.asarray(accuracy.lines[1].get_ydata()).tolist() == [0.5, 0.7]
    assert np.asarray(rate.lines[0].get_ydata()).tolist() == [0.1, 0.05]
    assert [axes.get_ylabel() for axes in (loss, accuracy, rate)] == [
        "loss (cross-entropy)",
        "accuracy",
        "learning rate",
    ]
    assert rate.get_xlabel() == "epoch"


def test_curves_without_validation():
    history = HISTORY.assign(val_loss=np.nan, val_accuracy=np.nan)
    loss, accuracy, _ = figures.draw_curves(history, 0.75).axes
    assert [line.get_label() for line in loss.lines] == ["train"]
    assert [line.get_label() for line in accuracy.lines] == ["train", "target 0.75"]


def test_classes_that_are_confused_are_neighbours():
    counts = np.diag([50, 50, 50, 50])
    counts[0, 2] = counts[3, 1] = 9  # cats for dogs, ships for cars
    order = figures.order_classes(counts).tolist()
    assert sorted(order) == [0, 1, 2, 3]
    assert abs(order.index(0) - order.index(2)) == 1
    assert abs(order.index(1) - order.index(3)) == 1


def test_reliability_shows_each_bin():
    bins = [{"n": 30, "confidence": 0.6, "accuracy": 0.5}, {"n": 10, "confidence": 0.9, "accuracy": 0.8}]
    axes = figures.draw_reliability(bins).axes[0]
    dots: Any = axes.collections[0]
    assert np.asarray(dots.get_offsets()).tolist() == [[0.6, 0.5], [0.9, 0.8]]
    assert dots.get_sizes()[0] > dots.get_sizes()[1]


def test_confusion_counts_by_hand():
    axes = figures.draw_confusion(PREDICTIONS, ["cat", "dog"]).axes[0]
    written = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "1", (1, 0): "1", (1, 1): "2"}  # column, row
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]


def test_mistakes_name_both_classes_and_the_confidence():
    x = np.zeros((1, 4, 4, 3), np.uint8)
    axes = figures.draw_mistakes(np.array([1]), x, PREDICTIONS, ["cat", "dog"]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["is cat\nsaid dog\n80.0%"]
    assert len(axes.images) == 1


def test_no_mistakes_at_all():
    axes = figures.draw_mistakes(np.array([], int), np.zeros((0, 4, 4, 1), np.uint8), PREDICTIONS, ["a", "b"]).axes[0]
    assert axes.texts[0].get_text() == "no mistakes"


def test_the_same_figure_is_the_same_file(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    with figures.style():
        for name in ("a", "b"):
            figures.save(figures.draw_curves(HISTORY, 0.75), tmp_path / f"{name}_curves.svg")
            figures.save(figures.draw_grid(x, 2), tmp_path / f"{name}_grid.svg")
    for kind in ("curves", "grid"):
        assert (tmp_path / f"a_{kind}.svg").read_bytes() == (tmp_path / f"b_{kind}.svg").read_bytes()


def test_errors_are_shaded_and_hits_are_not():
    predictions = pd.DataFrame({"y_true": [0, 0, 0, 1, 1, 1], "y_pred": [1, 1, 0, 0, 1, 1], "confidence": 0.5})
    axes = figures.draw_confusion(predictions, ["cat", "dog"]).axes[0]
    shades: Any = {(patch.get_x() + 0.5, patch.get_y() + 0.5): patch.get_alpha() for patch in axes.patches}  # type: ignore[attr-defined]
    assert shades == {(1, 0): pytest.approx(0.7), (0, 1): pytest.approx(0.35)}  # column, row; two errors and one


def test_rows_of_images_have_their_labels():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    axes = figures.draw_rows([images, images, images], ["raw", "varied", "varied"], ["cat", "dog"]).axes[0]
    assert len(axes.images) == 6
    assert sorted(text.get_text() for text in axes.texts) == ["cat", "dog", "raw", "varied", "varied"]


def test_small_pngs_keep_their_pixels(tmp_path):
    """Grey stays exact; 48 colours are enough for a picture of fewer."""
    grey = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1) * 16
    colour = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    with figures.style():
        for x in (grey, colour):
            figures.save(figures.draw_grid(x, 1), tmp_path / "grid.svg")
            (encoded,) = re.findall(r"base64,([^\"]+)", (tmp_path / "grid.svg").read_text())
            read = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
            assert read.tolist() == np.broadcast_to(x[0], (4, 4, 3)).tolist()


def test_a_lighter_svg_keeps_what_is_visible():
    svg = (
        '<svg ><!-- a comment --><metadata>when</metadata><defs><path id="m1"/></defs><g id="axes_1">\n'
        '  <g/></g>\n   <use xlink:href="#m1" x="145.933782"/><g>\n</g></svg>'
    )
    assert figures.lighten(svg) == (
        f'<svg font-family="{figures.FONT}" ><defs><path id="m1"/></defs><g>\n'
        '<g/></g>\n<use xlink:href="#m1" x="145.93"/></svg>'
    )
