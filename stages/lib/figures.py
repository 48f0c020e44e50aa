"""The report's figures, but for the sketch of the network.

Each is as wide as a phone's screen, so that its letters are legible there; a larger screen has several side by side.
"""

import base64
import io
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws to files, on machines without a screen too

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image
from scipy.cluster.hierarchy import leaves_list, linkage
from sklearn.metrics import confusion_matrix

from stages.lib.files import write_text
from stages.lib.palette import BLUE, FAINT, GREY, INK, PAPER, VERMILION

WIDTH = 3.7  # inches, 355 pixels of a browser
SMALL = 6.5  # points
COLOURS = 48  # of a small picture: a quarter of its bytes
FONT = "'DejaVu Sans', sans-serif"  # as matplotlib writes it
STYLE: Any = {
    "svg.hashsalt": "report",  # with no date below: the same figure is the same file
    "svg.fonttype": "none",  # letters as letters: to be found, read aloud, and a third of the bytes
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib; wider than what a browser has in its place
    "font.size": 7.5,
    "image.composite_image": False,  # each image with its own pixels
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 7.5,
    "axes.linewidth": 0.6,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


def draw_curves(history: pd.DataFrame, target: float) -> Figure:
    """Loss and accuracy against epoch, train and validation together, and the learning rate below."""
    figure, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(WIDTH, 4.8), height_ratios=[3, 3, 1], sharex=True, layout="constrained"
    )
    validated = bool(history["val_accuracy"].notna().any())
    for axes, column, label in ((top, "loss", "loss (cross-entropy)"), (middle, "accuracy", "accuracy")):
        axes.plot(history["epoch"], history[column], color=BLUE, marker="o", markersize=2.5, label="train")
        if validated:
            axes.plot(
                history["epoch"], history[f"val_{column}"], color=VERMILION, marker="s", markersize=2.5,
                label="validation",
            )  # fmt: skip
        axes.set(ylabel=label)
        axes.grid(visible=False, axis="x")
    if validated:
        best = history.iloc[int(history["val_accuracy"].to_numpy().argmax())]
        middle.plot(
            best["epoch"], best["val_accuracy"], marker="o", markersize=8, color=VERMILION, fillstyle="none",
            linestyle="", label=f"best, epoch {int(best['epoch'])}",
        )  # fmt: skip
    middle.axhline(target, color=GREY, linestyle="--", linewidth=1, label=f"target {target:g}")
    bottom.plot(history["epoch"], history["lr"], color=INK, marker=".", markersize=3)
    bottom.grid(visible=False, axis="x")
    bottom.set(xlabel="epoch", ylabel="rate", ylim=(0, None))
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.align_ylabels()
    figure.legend(*middle.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def order_classes(counts: np.ndarray) -> np.ndarray:
    """The classes of a confusion matrix in an order that puts those next to each other that are mixed up most."""
    mixed_up = counts + counts.T
    distance = 1 / (1 + mixed_up[np.triu_indices(len(counts), k=1)])
    return leaves_list(linkage(distance, "average", optimal_ordering=True))


def draw_confusion(predictions: pd.DataFrame, class_names: list[str]) -> Figure:
    """How many images of each true class (row) were taken for which (column); the shade shows the errors alone."""
    counts = confusion_matrix(predictions["y_true"], predictions["y_pred"], labels=range(len(class_names)))
    order = order_classes(counts)
    counts, class_names = counts[np.ix_(order, order)], [class_names[i] for i in order]
    errors = np.where(np.eye(len(class_names), dtype=bool), 0, counts)
    figure, axes = plt.subplots(figsize=(WIDTH, WIDTH), layout="constrained")
    axes.set(xlim=(-0.5, len(counts) - 0.5), ylim=(len(counts) - 0.5, -0.5), aspect="equal")
    for row, column in np.ndindex(*counts.shape):
        if not counts[row, column]:
            continue
        # Shades of a colour let the paper through, light or dark; up to 0.7 of it, ink is legible on both.
        shade = 0.7 * errors[row, column] / max(errors.max(), 1)
        if shade:
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=VERMILION, alpha=shade, linewidth=0))
        weight = "bold" if row == column else "normal"
        number = str(counts[row, column])
        axes.text(column, row, number, ha="center", va="center", fontsize=SMALL, fontweight=weight)
    upright: Any = {"rotation": 90} if max(map(len, class_names)) > 2 else {}
    axes.set_xticks(range(len(class_names)), class_names, **upright)
    axes.set_yticks(range(len(class_names)), class_names)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    return figure


def draw_reliability(bins: list[dict[str, float]]) -> Figure:
    """Accuracy against confidence, with the diagonal on which both are the same; a dot's area goes with its images."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.3), layout="constrained")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as accurate as confident")
    total = sum(row["n"] for row in bins)
    axes.scatter(
        [row["confidence"] for row in bins],
        [row["accuracy"] for row in bins],
        s=[8 + 200 * row["n"] / total for row in bins],
        color=BLUE,
        alpha=0.8,
        linewidth=0,
        label="test images, by confidence",
    )
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.05), ylim=(0, 1.05))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def draw_mistakes(index: np.ndarray, x: np.ndarray, predictions: pd.DataFrame, class_names: list[str]) -> Figure:
    """The wrongly classified images `x` (n, height, width, channels), numbered `index`, the most confident first."""
    labels = []
    for number in index:
        y_true, y_pred, confidence = predictions.loc[number, ["y_true", "y_pred", "confidence"]]
        labels.append(f"is {class_names[int(y_true)]}\nsaid {class_names[int(y_pred)]}\n{confidence:.1%}")
    figure, axes = _sheet(columns=5, rows=max(1, -(-len(index) // 5)), above=0.62)
    for place, (image, label) in enumerate(zip(x, labels, strict=True)):
        _put(axes, image, place // 5, place % 5, 0.62)
        row = 1.62 * (place // 5)
        axes.text(place % 5 + 0.5, row + 0.58, label, ha="center", va="bottom", fontsize=SMALL, linespacing=1.15)
    if not len(index):
        axes.text(0.1, 0.5, "no mistakes")
    return figure


def draw_rows(rows: list[np.ndarray], labels: list[str], column_labels: list[str]) -> Figure:
    """A row of small images, uint8 (n, height, width, channels), for each label, under the labels of the columns."""
    figure, axes = _sheet(
        columns=len(column_labels), rows=len(rows), left=1.9, top=0.3 + 0.22 * _longest(column_labels)
    )
    for column, label in enumerate(column_labels):
        upright: Any = {"rotation": 90} if _longest(column_labels) > 2 else {}
        axes.text(column + 0.5, -0.12, label, ha="center", va="bottom", fontsize=SMALL, **upright)
    for row, (images, label) in enumerate(zip(rows, labels, strict=True)):
        axes.text(-0.15, row + 0.5, label, ha="right", va="center", fontsize=SMALL, linespacing=1.1)
        for column, image in enumerate(images):
            _put(axes, image, row, column)
    return figure


def draw_grid(x: np.ndarray, columns: int) -> Figure:
    """Small images, uint8 (n, height, width, channels), side by side."""
    figure, axes = _sheet(columns, rows=-(-len(x) // columns))
    for place, image in enumerate(x):
        _put(axes, image, place // columns, place % columns)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes the figure as an SVG without the date and the program's version, which would change the bytes."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    write_text(path, lighten(drawn.getvalue()))


def lighten(svg: str) -> str:
    """The same picture in half the bytes: nothing that is not seen, the font named once, five digits, small PNGs."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"(?<=base64,)[^\"]+", lambda found: _small_png(found[0]), svg)
    svg = svg.replace(f" font-family: {FONT};", "").replace("<svg ", f'<svg font-family="{FONT}" ', 1)
    svg = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.5g}", svg)
    while svg != (svg := re.sub(r"<g>\s*</g>|<defs>\s*</defs>", "", svg)):
        pass
    return re.sub(r"\s*\n\s*", "\n", svg)


def _small_png(encoded: str) -> str:
    """In grey where it is grey, else in `COLOURS` of its own: at 32 pixels a side the eye sees no difference."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    red, green, blue = (np.asarray(channel) for channel in image.split())
    grey = bool((red == green).all() and (green == blue).all())
    image = image.convert("L") if grey else image.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def _sheet(columns: int, rows: int, left: float = 0, top: float = 0, above: float = 0) -> tuple[Figure, Axes]:
    """A figure of square places, of width 1: `left` and `top` of them leave room for labels, so does `above` each."""
    unit = WIDTH / (columns + left)
    figure = plt.figure(figsize=(WIDTH, unit * (top + rows * (1 + above))))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-left, columns), ylim=(rows * (1 + above), -top))
    axes.set_axis_off()
    return figure, axes


def _put(axes: Axes, image: np.ndarray, row: int, column: int, above: float = 0) -> None:
    top = row * (1 + above) + above
    shown = image[..., 0] if image.shape[-1] == 1 else image
    axes.imshow(
        shown, cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="auto",
        extent=(column + 0.04, column + 0.96, top + 0.96, top + 0.04),
    )  # fmt: skip


def _longest(labels: list[str]) -> int:
    return max(map(len, labels))
