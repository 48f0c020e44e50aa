"""Draws what the trainings and the evaluation wrote, and the report around it.

Reads metrics.json, plots/NAME/ and evaluation/NAME.*; never the images themselves. Writes report/: report.md and for
each data set its learning curves, confusion matrix and most confident mistakes.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # draws to files, on machines without a screen too

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster.hierarchy import leaves_list, linkage
from sklearn.metrics import confusion_matrix

from stages.lib.curves import explain
from stages.lib.errors import UserError, run
from stages.lib.files import whole, write_text
from stages.lib.params import read
from stages.lib.results import Targets, load_json, title
from stages.lib.sketch import draw_sketch

REPORT = Path("report")
# Okabe and Ito's palette, told apart by colour-blind eyes too.
TRAIN, VAL, TARGET = "#0072b2", "#d55e00", "#5a5a5a"
STYLE: Any = {
    "svg.hashsalt": "report",  # with no date below: the same figure is the same file
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "figure.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.1,  # inches
    "figure.constrained_layout.h_pad": 0.1,
}


@dataclass(frozen=True)
class Params:
    targets: Targets


def main() -> None:
    params = read(Params)
    metrics = load_json(Path("metrics.json"))
    sections = []
    with plt.rc_context(STYLE):
        for name in ("mnist", "cifar"):
            history = _read_csv(Path("plots") / name / "history.csv")
            predictions = _read_csv(Path("plots") / name / "predictions.csv")
            details = load_json(Path("evaluation") / f"{name}.json")
            class_names = [row["class"] for row in details["classes"]]
            target = params.targets.accuracy(name)
            save(draw_sketch(details["layers"]), REPORT / f"{name}_network.svg")
            save(draw_curves(history, target), REPORT / f"{name}_curves.svg")
            save(draw_reliability(details["reliability"]), REPORT / f"{name}_reliability.svg")
            save(draw_confusion(predictions, class_names), REPORT / f"{name}_confusion.svg")
            with np.load(Path("evaluation") / f"{name}.npz", allow_pickle=False) as images:
                mistakes = draw_mistakes(images["index"], images["x"], predictions, class_names)
            save(mistakes, REPORT / f"{name}_mistakes.png")
            heading = title(metrics, name)
            # The targets are for the real data.
            against = None if metrics["source"] == "sample" else target
            sections.append(write_section(name, heading, metrics[name]["test"], against, history, details))
    write_text(REPORT / "report.md", "\n".join(["# Report", "", *sections]))
    print(f"plot: {REPORT / 'report.md'}", flush=True)


def draw_curves(history: pd.DataFrame, target: float) -> Figure:
    """Loss and accuracy against epoch, train and validation together, and the learning rate below."""
    figure, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(6.2, 6.6), height_ratios=[3, 3, 1], sharex=True, layout="constrained"
    )
    validated = bool(history["val_accuracy"].notna().any())
    for axes, column, label in ((top, "loss", "loss (cross-entropy)"), (middle, "accuracy", "accuracy")):
        axes.plot(history["epoch"], history[column], color=TRAIN, marker="o", markersize=3, label="train")
        if validated:
            axes.plot(
                history["epoch"], history[f"val_{column}"], color=VAL, marker="s", markersize=3, label="validation"
            )
        axes.set(ylabel=label)
    if validated:
        best = history.iloc[int(history["val_accuracy"].to_numpy().argmax())]
        middle.plot(
            best["epoch"], best["val_accuracy"], marker="o", markersize=10, color=VAL, fillstyle="none", linestyle="",
            label=f"best, epoch {int(best['epoch'])}",
        )  # fmt: skip
    middle.axhline(target, color=TARGET, linestyle="--", linewidth=1, label=f"target {target:g}")
    bottom.plot(history["epoch"], history["lr"], color="black", marker=".", markersize=4)
    bottom.set(xlabel="epoch", ylabel="rate", ylim=(0, None))
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    top.legend()
    middle.legend(loc="lower right")
    return figure


def order_classes(counts: np.ndarray) -> np.ndarray:
    """The classes of a confusion matrix in an order that puts those next to each other that are mixed up most."""
    mixed_up = counts + counts.T
    distance = 1 / (1 + mixed_up[np.triu_indices(len(counts), k=1)])
    return leaves_list(linkage(distance, "average", optimal_ordering=True))


def draw_reliability(bins: list[dict[str, float]]) -> Figure:
    """Accuracy against confidence, with the diagonal on which both are the same; a dot's area goes with its images."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
    axes.plot([0, 1], [0, 1], color=TARGET, linestyle="--", linewidth=1, label="as accurate as confident")
    total = sum(row["n"] for row in bins)
    axes.scatter(
        [row["confidence"] for row in bins],
        [row["accuracy"] for row in bins],
        s=[15 + 400 * row["n"] / total for row in bins],
        color=TRAIN,
        alpha=0.8,
        label="test images, by confidence",
    )
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.03), ylim=(0, 1.03))
    axes.legend(loc="lower right")
    return figure


def explain_reliability(bins: list[dict[str, float]], error: float) -> str:
    """What the calibration error means: too sure, not sure enough, or neither on the whole."""
    total = sum(row["n"] for row in bins)
    gap = sum(row["n"] * (row["confidence"] - row["accuracy"]) for row in bins) / total
    told = f"Its confidence is off by {100 * error:.1f} points on average (expected calibration error {error:.4f})"
    if abs(gap) < error / 2:
        return f"{told}, to both sides."
    return f"{told}: it is {'too sure' if gap > 0 else 'not sure enough'}."


def draw_confusion(predictions: pd.DataFrame, class_names: list[str]) -> Figure:
    """How many images of each true class (row) were taken for which (column); the shade shows the errors alone."""
    counts = confusion_matrix(predictions["y_true"], predictions["y_pred"], labels=range(len(class_names)))
    order = order_classes(counts)
    counts, class_names = counts[np.ix_(order, order)], [class_names[i] for i in order]
    errors = np.where(np.eye(len(class_names), dtype=bool), 0, counts)
    figure, axes = plt.subplots(figsize=(6.2, 5.4), layout="constrained")
    image = axes.imshow(errors, cmap="Oranges", vmin=0, vmax=max(errors.max(), 1))
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            dark = errors[row, column] > 0.6 * max(errors.max(), 1)
            weight = "bold" if row == column else "normal"
            axes.text(
                column, row, str(counts[row, column]), ha="center", va="center", fontsize=8, fontweight=weight,
                color="white" if dark else "black",
            )  # fmt: skip
    slanted: Any = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, class_names)) > 2 else {}
    axes.set_xticks(range(len(class_names)), class_names, **slanted)
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.grid(visible=False)
    ticks = MaxNLocator(integer=True)
    figure.colorbar(image, label="wrong predictions (images)", shrink=0.8, ticks=ticks)
    return figure


def draw_mistakes(index: np.ndarray, x: np.ndarray, predictions: pd.DataFrame, class_names: list[str]) -> Figure:
    """The wrongly classified images `x` (n, height, width, channels), numbered `index`, the most confident first."""
    columns = 10
    rows = max(1, math.ceil(len(index) / columns))
    figure, grid = plt.subplots(
        rows, columns, figsize=(columns * 1.12, rows * 1.6), layout="constrained", squeeze=False
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, number, image in zip(grid.flat, index, x, strict=False):
        y_true, y_pred, confidence = predictions.loc[number, ["y_true", "y_pred", "confidence"]]
        shown = image[..., 0] if image.shape[-1] == 1 else image
        axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(f"is {class_names[int(y_true)]}\nsaid {class_names[int(y_pred)]}\n{confidence:.1%}", fontsize=7)
    if not len(index):
        grid[0, 0].text(0, 0.5, "no mistakes")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Writes the figure without the date and the program's version, which would change the bytes."""
    metadata: dict[str, Any] = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with whole(path) as partial:
        figure.savefig(partial, metadata=metadata, dpi=110)
    plt.close(figure)


def write_section(
    name: str, heading: str, test: dict[str, Any], target: float | None, history: pd.DataFrame, details: dict[str, Any]
) -> str:
    """The report's part on one data set, in Markdown; without a `target` it is judged by none."""
    rows = "\n".join(
        f"| {row['class']} | {_percent(row['precision'])} | {_percent(row['recall'])} | {row['n']:,} |"
        for row in details["classes"]
    )
    # The sample is judged by no target, so none is crossed.
    told = explain(history, target, details["validation_images"])
    curve = "\n".join(told) or "Nothing stands out in the curves."
    verdict = ""
    if target is not None:
        verdict = f", {'at or above' if test['accuracy'] >= target else 'below'} the target of {target:.1%}"
    return f"""## {heading}

{test["errors"]:,} of {test["n"]:,} test images are classified wrongly: an accuracy of {test["accuracy"]:.2%}
(95 % interval {test["accuracy_low"]:.2%} to {test["accuracy_high"]:.2%}){verdict}.
Trained for {len(history)} epochs; {details["parameters"]:,} parameters. The right class is among the two most probable
for {test["top2_accuracy"]:.2%} of the images; loss {test["loss"]:.4f}.

![{heading}: the network's layers as blocks, with their shapes, parameters and operations]({name}_network.svg)

![{heading}: loss, accuracy and learning rate against epoch, training and validation]({name}_curves.svg)

{curve}

![{heading}: confusion matrix, true class by predicted class]({name}_confusion.svg)

![{heading}: accuracy against confidence]({name}_reliability.svg)

{explain_reliability(details["reliability"], test["calibration_error"])}

![{heading}: the most confident mistakes, with true class, predicted class and confidence]({name}_mistakes.png)

| class | precision | recall | test images |
|---|---|---|---|
{rows}
"""


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _read_csv(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise UserError(f"{path}: not there; run `dvc repro`")
    return pd.read_csv(path)


if __name__ == "__main__":
    run(main)
