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
        "epoch": [1, 2, 3],
        "loss": [1.0, 0.5, 0.4],
        "accuracy": [0.6, 0.8, 0.85],
        "val_loss": [1.1, 0.7, 0.6],
        "val_accuracy": [0.5, 0.7, 0.65],
        "lr": [0.1, 0.05, 0.02],
    }
)
PREDICTIONS = pd.DataFrame({"y_true": [0, 0, 1, 1], "y_pred": [0, 1, 1, 1], "confidence": [0.9, 0.8, 0.7, 0.6]})


def points(line: Any) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_curves_show_train_and_validation_and_the_target():
    figure = figures.draw_curves(HISTORY, 0.75)
    loss, accuracy, rate = figure.axes
    assert {line.get_label(): points(line) for line in loss.lines} == {
        "train": [(1, 1.0), (2, 0.5), (3, 0.4)], "validation": [(1, 1.1), (2, 0.7), (3, 0.6)],
    }  # fmt: skip
    assert {line.get_label(): points(line) for line in accuracy.lines} == {
        "train": [(1, 0.6), (2, 0.8), (3, 0.85)], "validation": [(1, 0.5), (2, 0.7), (3, 0.65)],
        "best, epoch 2": [(2, 0.7)], "target 0.75": [(0, 0.75), (1, 0.75)],
    }  # fmt: skip
    assert points(rate.lines[0]) == [(1, 0.1), (2, 0.05), (3, 0.02)]
    assert [axes.get_ylabel() for axes in (loss, accuracy, rate)] == [
        "loss (cross-entropy)", "accuracy", "learning rate",
    ]  # fmt: skip
    assert rate.get_xlabel() == "epoch"
    assert rate.get_ylim()[0] == 0
    # The legend stands for both charts.
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["train", "validation", "best, epoch 2", "target 0.75"]
    assert [line.get_color() for line in loss.lines] == [line.get_color() for line in accuracy.lines[:2]]


def test_curves_without_validation():
    history = HISTORY.assign(val_loss=np.nan, val_accuracy=np.nan)
    loss, accuracy, _ = figures.draw_curves(history, 0.75).axes
    assert [line.get_label() for line in loss.lines] == ["train"]
    assert [line.get_label() for line in accuracy.lines] == ["train", "target 0.75"]


def test_reliability_shows_each_bin():
    bins = [{"n": 30, "confidence": 0.6, "accuracy": 0.5}, {"n": 10, "confidence": 0.9, "accuracy": 0.8}]
    axes = figures.draw_reliability(bins).axes[0]
    dots: Any = axes.collections[0]
    assert np.asarray(dots.get_offsets()).tolist() == [[0.6, 0.5], [0.9, 0.8]]
    # Areas grow by the share of the images: by 200 for all of them.
    assert dots.get_sizes().tolist() == pytest.approx([158, 58])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("confidence", "accuracy")
    assert points(axes.lines[0]) == [(0, 0), (1, 1)]
    for low, high in (axes.get_xlim(), axes.get_ylim()):
        assert low == 0
        assert high > 1


def test_confusion_counts_by_hand():
    pairs = [("cat", "dog")] * 6 + [("dog", "cat")] * 2 + [("owl", "cat")] * 3 + [("dog", "owl")] * 1
    pairs += [("cat", "cat")] * 9 + [("dog", "dog")] * 8
    names = ["cat", "dog", "owl"]
    y_true, y_pred = ([names.index(name) for name in part] for part in zip(*pairs, strict=True))
    axes = figures.draw_confusion(pd.DataFrame({"y_true": y_true, "y_pred": y_pred}), names).axes[0]
    rows, columns = (
        [label.get_text() for label in labels] for labels in (axes.get_yticklabels(), axes.get_xticklabels())
    )
    assert rows == columns == names
    assert [list(ticks) for ticks in (axes.get_xticks(), axes.get_yticks())] == [[0, 1, 2]] * 2
    written = {}
    for text in axes.texts:
        column, row = map(int, text.get_position())
        written[rows[row], columns[column]] = int(text.get_text())
        assert (text.get_fontweight() == "bold") == (row == column)
    assert written == {pair: pairs.count(pair) for pair in pairs}  # true, predicted
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert axes.get_ylim() == (2.5, -0.5)  # the first row is at the top
    shades = {}
    for patch in axes.patches:
        column, row = (round(edge + 0.5) for edge in patch.get_xy())
        shades[rows[row], columns[column]] = patch.get_alpha()
    # In proportion to the errors; the most of them, cats for dogs, is 0.7 of the colour.
    assert shades == {
        pair: pytest.approx(0.7 * pairs.count(pair) / 6) for pair in dict.fromkeys(pairs) if pair[0] != pair[1]
    }


def test_without_errors_nothing_is_shaded():
    predictions = pd.DataFrame({"y_true": [0, 1, 1], "y_pred": [0, 1, 1]})
    axes = figures.draw_confusion(predictions, ["cat", "dog", "owl"]).axes[0]  # no owl among the images
    assert sorted(label.get_text() for label in axes.get_yticklabels()) == ["cat", "dog", "owl"]
    assert list(axes.patches) == []
    assert sorted(text.get_text() for text in axes.texts) == ["1", "2"]


def drawn(axes: Any) -> dict[tuple[int, int], np.ndarray]:
    """Return each image of a sheet by column and row of its middle, upright as it is seen."""
    found = {}
    for image in axes.images:
        left, right, bottom, top = image.get_extent()
        assert right - left == pytest.approx(0.92)
        assert bottom - top == pytest.approx(0.92)  # downwards, as the axis is
        assert image.get_clim() == (0, 255)
        found[int(left), int(top)] = np.asarray(image.get_array())
    low, high = axes.get_ylim()
    assert low > high
    return found


def test_mistakes_name_both_classes_and_the_confidence():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (7, 4, 3, 3), np.uint8)
    predictions = pd.DataFrame({"y_true": [0, 1, 2] * 4, "y_pred": [1, 2, 0] * 4, "confidence": np.arange(12) / 16})
    index = np.array([11, 3, 7, 1, 5, 0, 2])
    axes = figures.draw_mistakes(index, x, predictions, ["cat", "dog", "owl"]).axes[0]
    true, said = ["cat", "dog", "owl"], ["dog", "owl", "cat"]
    expected = [f"is {true[i % 3]}\nsaid {said[i % 3]}\n{i / 16:.1%}" for i in index.tolist()]
    assert [text.get_text() for text in axes.texts] == expected
    assert expected[0] == "is owl\nsaid cat\n68.8%"
    # Five in a row; each image below its text, in rows of 1.62.
    for place, (text, image) in enumerate(zip(axes.texts, axes.images, strict=True)):
        left, _, _, top = image.get_extent()
        assert np.array_equal(np.asarray(image.get_array()), x[place])
        assert (left, top) == pytest.approx((place % 5 + 0.04, 1.62 * (place // 5) + 0.66))
        assert text.get_position() == pytest.approx((place % 5 + 0.5, top - 0.08))
    assert axes.get_ylim() == pytest.approx((3.24, 0))


def test_images_of_a_grid_are_in_rows():
    x = np.random.default_rng(0).integers(0, 256, (7, 2, 3, 1), np.uint8)
    axes = figures.draw_grid(x, 3).axes[0]
    found = drawn(axes)
    assert set(found) == {(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2)}
    assert all(np.array_equal(image, x[column + 3 * row, ..., 0]) for (column, row), image in found.items())
    assert axes.get_ylim() == (3, 0)
    assert {image.get_interpolation() for image in axes.images} == {"none"}  # pixels as they were measured


def test_no_mistakes_at_all():
    axes = figures.draw_mistakes(np.array([], int), np.zeros((0, 4, 4, 1), np.uint8), PREDICTIONS, ["a", "b"]).axes[0]
    assert axes.texts[0].get_text() == "no mistakes"
    assert axes.get_ylim() == (1.62, 0)  # a row of room for it


def test_the_same_figure_is_the_same_file(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), np.uint8)
    with figures.style():
        for name in ("a", "b"):
            figures.save(figures.draw_curves(HISTORY, 0.75), tmp_path / f"{name}_curves.svg")
            figures.save(figures.draw_grid(x, 2), tmp_path / f"{name}_grid.svg")
    for kind in ("curves", "grid"):
        assert (tmp_path / f"a_{kind}.svg").read_bytes() == (tmp_path / f"b_{kind}.svg").read_bytes()
        assert "<metadata" not in (tmp_path / f"a_{kind}.svg").read_text()  # written without what is invisible


def test_rows_of_images_have_their_labels():
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 256, (2, 4, 3, channels), np.uint8) for channels in (3, 1, 3)]
    axes = figures.draw_rows(rows, ["raw", "grey", "varied"], ["cat", "dog"]).axes[0]
    found = drawn(axes)
    assert set(found) == {(column, row) for column in range(2) for row in range(3)}
    for (column, row), image in found.items():
        assert np.array_equal(image, rows[row][column].squeeze())
    places = {text.get_text(): text.get_position() for text in axes.texts}
    assert {name: places[name][0] for name in ("cat", "dog")} == {"cat": 0.5, "dog": 1.5}
    assert {name: places[name][1] for name in ("raw", "grey", "varied")} == {"raw": 0.5, "grey": 1.5, "varied": 2.5}
    assert {text.get_rotation() for text in axes.texts if text.get_text() in ("cat", "dog")} == {90}


def test_small_pngs_keep_their_pixels(tmp_path):
    """Grey stays exact; 48 colours are enough for a picture of fewer."""
    grey = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1) * 16
    colour = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    yellow = np.where(np.arange(3) == 2, 0, grey).astype(np.uint8)  # its red is its green
    shades = np.random.default_rng(0).integers(0, 256, (1, 6, 6, 3), np.uint8)
    with figures.style():
        for x in (grey, colour, yellow, shades):
            figures.save(figures.draw_grid(x, 1), tmp_path / "grid.svg")
            (encoded,) = re.findall(r"base64,([^\"]+)", (tmp_path / "grid.svg").read_text())
            read = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
            assert read.tolist() == np.broadcast_to(x[0], (*x.shape[1:3], 3)).tolist()


def test_a_lighter_svg_keeps_what_is_visible():
    svg = (
        '<svg ><!-- a comment --><metadata>when</metadata><defs><path id="m1"/></defs><g id="axes_1">\n'
        '  <g/></g>\n   <use xlink:href="#m1" x="145.933782"/><g>\n</g></svg>'
    )
    assert figures.lighten(svg) == (
        f'<svg font-family="{figures.FONT}" ><defs><path id="i0"/></defs>\n<use xlink:href="#i0" x="145.93"/>\n</svg>'
    )


def test_groups_with_an_attribute_stay():
    svg = '<svg ><g><g clip-path="url(#p1)"><g><path/></g></g></g><defs><clipPath id="p1"/></defs><defs> </defs></svg>'
    assert figures.simplify(svg) == ('<svg ><g clip-path="url(#i0)"><path/></g><defs><clipPath id="i0"/></defs></svg>')


def test_rotations_by_zero_go():
    svg = '<text transform="rotate(-0 1 2)">a</text><text transform="rotate(-90 1 2)">b</text>'
    assert figures.simplify(svg) == '<text>a</text><text transform="rotate(-90 1 2)">b</text>'


def test_a_style_is_said_once_if_all_have_it():
    same = '<path id="m1" d="M" style="stroke: red"/>' + '<use xlink:href="#m1" x="1" style="fill: red"/>' * 2
    assert figures.simplify(same) == (
        '<path id="i0" d="M" style="fill: red; stroke: red"/>' + '<use xlink:href="#i0" x="1"/>' * 2
    )
    unlike = f'{same}<use xlink:href="#m1" x="1" style="fill: blue"/>'
    assert figures.simplify(unlike) == unlike.replace("m1", "i0")


def test_the_usual_size_of_letters_is_said_once():
    texts = "".join(f'<text style="font-size: {size}px; fill: red">a</text>' for size in (7, 8, 8))
    assert figures.simplify(f"<svg >{texts}</svg>") == (
        '<svg font-size="8px" ><text style="font-size: 7px; fill: red">a</text>'
        + '<text style="fill: red">a</text>' * 2
        + "</svg>"
    )


def test_ids_are_short_and_not_mixed_up():
    svg = '<a id="m1"/><a id="m12"/><use href="#m12"/><use href="#m1"/><g clip-path="url(#m1)"></g>'
    assert figures.simplify(svg) == (
        '<a id="i0"/><a id="i1"/><use href="#i1"/><use href="#i0"/><g clip-path="url(#i0)"></g>'
    )
