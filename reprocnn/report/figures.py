"""The report's figures, except the sketch of the network.

Each is as wide as a phone's screen; a larger screen shows several side by side. They are made without pyplot, which
would look for a screen.
"""

import base64
import io
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image
from sklearn.metrics import confusion_matrix

from reprocnn.core.files import write_text
from reprocnn.report.palette import BLUE, FAINT, GREY, INK, PAPER, VERMILION

WIDTH = 3.7  # inches, 355 pixels of a browser
SMALL = 6.5  # points, beside small pictures: the page shows these figures wider than a phone
COLOURS = 48  # of a small picture: a quarter of its bytes
FONT = "'DejaVu Sans', sans-serif"  # as matplotlib writes it
STYLE: Any = {
    "svg.hashsalt": "report",  # with no date below: the same figure is the same file
    "svg.fonttype": "none",  # letters as letters: to be found, read aloud, and a third of the bytes
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib; wider than what a browser has in its place
    "font.size": 8.25,  # points, 11 pixels of a browser
    "image.composite_image": False,  # each image with its own pixels
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": "medium",
    "legend.fontsize": "medium",
    "axes.linewidth": 0.6,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


def style() -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws and saves as the report does."""
    return matplotlib.rc_context(STYLE)


def draw_curves(history: pd.DataFrame, target: float) -> Figure:
    """Draw loss and accuracy over the epochs, training and validation together, and the learning rate below."""
    figure = Figure(figsize=(WIDTH, 4.8), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, height_ratios=[3, 3, 1], sharex=True)
    _draw_course(top, history, "loss", "loss (cross-entropy)")
    _draw_course(middle, history, "accuracy", "accuracy")
    if _validated(history):
        best = history.iloc[int(history["val_accuracy"].to_numpy().argmax())]
        middle.plot(
            best["epoch"], best["val_accuracy"], marker="o", markersize=8, color=VERMILION, fillstyle="none",
            linestyle="", label=f"best, epoch {int(best['epoch'])}",
        )  # fmt: skip
    middle.axhline(target, color=GREY, linestyle="--", linewidth=1, label=f"target {target:g}")
    bottom.plot(history["epoch"], history["lr"], color=INK, marker=".", markersize=3)
    bottom.grid(visible=False, axis="x")
    bottom.set(xlabel="epoch", ylabel="learning rate", ylim=(0, None))
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.align_ylabels()
    figure.legend(*middle.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _validated(history: pd.DataFrame) -> bool:
    return bool(history["val_accuracy"].notna().any())


def _draw_course(axes: Axes, history: pd.DataFrame, column: str, label: str) -> None:
    axes.plot(history["epoch"], history[column], color=BLUE, marker="o", markersize=2.5, label="train")
    if _validated(history):
        validation = history[f"val_{column}"]
        axes.plot(history["epoch"], validation, color=VERMILION, marker="s", markersize=2.5, label="validation")
    axes.set(ylabel=label)
    axes.grid(visible=False, axis="x")


def draw_confusion(predictions: pd.DataFrame, names: list[str]) -> Figure:
    """Draw how many images of each true class (row) got which prediction (column); only errors are shaded.

    The classes are in the order of their numbers, so that two revisions can be compared.
    """
    counts = confusion_matrix(predictions["y_true"], predictions["y_pred"], labels=range(len(names)))
    most = max(np.where(np.eye(len(names), dtype=bool), 0, counts).max(), 1)  # errors in one cell
    figure = Figure(figsize=(WIDTH, WIDTH), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.5, len(counts) - 0.5), ylim=(len(counts) - 0.5, -0.5), aspect="equal")
    for row, column in np.ndindex(*counts.shape):
        n = counts[row, column]
        if n == 0:
            continue
        if row != column:
            # Shades of a colour let the paper through, light or dark; up to 0.7 of it, ink is legible on both.
            square = Rectangle((column - 0.5, row - 0.5), 1, 1, color=VERMILION, alpha=0.7 * n / most, linewidth=0)
            axes.add_patch(square)
        weight = "bold" if row == column else "normal"
        axes.text(column, row, str(n), ha="center", va="center", fontweight=weight)
    axes.set_xticks(range(len(names)), names, **_upright(names))
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    return figure


def draw_reliability(bins: list[dict[str, float]]) -> Figure:
    """Draw accuracy over confidence, with the diagonal where both are equal; a dot's area grows with its images."""
    figure = Figure(figsize=(WIDTH, 3.3), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as accurate as confident")
    total = sum(row["n"] for row in bins)
    axes.scatter(
        [row["confidence"] for row in bins],
        [row["accuracy"] for row in bins],
        s=[8 + 200 * row["n"] / total for row in bins],
        color=BLUE,
        alpha=0.8,
        linewidth=0,
        label="test images",
    )
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.05), ylim=(0, 1.05))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def draw_mistakes(index: np.ndarray, x: np.ndarray, predictions: pd.DataFrame, class_names: list[str]) -> Figure:
    """Draw misclassified images `x`, uint8 (n, height, width, channels), in their order; `index` numbers them."""
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
    """Draw a row of small images, uint8 (n, height, width, channels), for each label, under labels of the columns."""
    top = 0.3 + 0.22 * max(map(len, column_labels))
    figure, axes = _sheet(columns=len(column_labels), rows=len(rows), left=1.9, top=top)
    for column, label in enumerate(column_labels):
        upright = _upright(column_labels)
        axes.text(column + 0.5, -0.12, label, ha="center", va="bottom", fontsize=SMALL, **upright)
    for row, (images, label) in enumerate(zip(rows, labels, strict=True)):
        axes.text(-0.15, row + 0.5, label, ha="right", va="center", fontsize=SMALL, linespacing=1.1)
        for column, image in enumerate(images):
            _put(axes, image, row, column)
    return figure


def draw_grid(x: np.ndarray, columns: int) -> Figure:
    """Draw small images, uint8 (n, height, width, channels), in rows of `columns`."""
    figure, axes = _sheet(columns, rows=-(-len(x) // columns))
    for place, image in enumerate(x):
        _put(axes, image, place // columns, place % columns)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write the figure as an SVG without the date and the program's version, which would change the bytes."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    write_text(path, lighten(drawn.getvalue()))


def lighten(svg: str) -> str:
    """Halve an SVG's bytes and keep the picture: nothing invisible, the font named once, five digits, small PNGs."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"(?<=base64,)[^\"]+", lambda found: _small_png(found[0]), svg)
    svg = svg.replace(f" font-family: {FONT};", "").replace("<svg ", f'<svg font-family="{FONT}" ', 1)
    svg = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.5g}", svg)
    return simplify(svg)


def simplify(svg: str) -> str:
    """Drop what changes nothing: groups without an attribute, rotations by zero, repeated styles, long ids."""
    kept: list[bool] = []  # of the open groups

    def filter_group(found: re.Match[str]) -> str:
        if found[0] == "</g>":
            return found[0] if kept.pop() else ""
        if found[0].endswith("/>"):
            return ""
        kept.append(found[0] != "<g>")
        return found[0] if kept[-1] else ""

    svg = re.sub(r' transform="rotate\(-?0 [^"]*"', "", svg)
    svg = re.sub(r"</?g\b[^>]*>", filter_group, svg)
    svg = re.sub(r"<defs>\s*</defs>|<!DOCTYPE[^>]*>", "", svg)
    for marker in re.findall(r'<path id="(\w+)"[^>]* style=', svg):
        styles = set(re.findall(rf'<use xlink:href="#{marker}"[^>]* style="([^"]*)"/>', svg))
        if len(styles) == 1:
            (style,) = styles
            svg = re.sub(rf'(<use xlink:href="#{marker}"[^>]*) style="[^"]*"/>', r"\1/>", svg)
            svg = re.sub(rf'(<path id="{marker}"[^>]* style=")', rf"\g<1>{style}; ", svg)  # the path's own come last
    sizes = re.findall(r'<text style="font-size: ([\d.]+px); ', svg)
    if sizes:
        usual = max(sorted(set(sizes)), key=sizes.count)
        svg = svg.replace(f'<text style="font-size: {usual}; ', '<text style="')
        svg = svg.replace("<svg ", f'<svg font-size="{usual}" ', 1)
    for number, name in enumerate(dict.fromkeys(re.findall(r' id="(\w+)"', svg))):
        svg = re.sub(rf'( id="|href="#|url\(#){name}\b', rf"\g<1>i{number}", svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


def _small_png(encoded: str) -> str:
    """Encode a PNG again, in grey if it is grey, else in `COLOURS` of its own: at 32x32 the eye sees no difference."""
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    red, green, blue = (np.asarray(channel) for channel in image.split())
    grey = bool((red == green).all() and (green == blue).all())
    image = image.convert("L") if grey else image.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def _sheet(columns: int, rows: int, left: float = 0, top: float = 0, above: float = 0) -> tuple[Figure, Axes]:
    """Make a figure of squares of width 1, with room for labels at its `left`, its `top` and `above` each square."""
    unit = WIDTH / (columns + left)
    figure = Figure(figsize=(WIDTH, unit * (top + rows * (1 + above))))
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


def _upright(labels: list[str]) -> Any:
    """Turn the labels of columns that are too narrow for them."""
    return {"rotation": 90} if max(map(len, labels)) > 2 else {}
