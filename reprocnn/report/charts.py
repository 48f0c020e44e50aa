"""Charts of what benchmarks/ measured. `columns` says how many panels stand side by side."""

from itertools import product

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from reprocnn.datasets import DATASETS
from reprocnn.report.cells import exponent
from reprocnn.report.experiments import CIFAR_TARGET, INSIGHTS_EPOCH, MNIST_TARGET, growing
from reprocnn.report.figures import WIDTH
from reprocnn.report.palette import BLUE, GREY, INK, ORANGE, SKY, VERMILION

TITLES = {dataset.name: dataset.title for dataset in DATASETS}
TARGETS = {"mnist": MNIST_TARGET, "cifar": CIFAR_TARGET}  # drawn as a dashed line
COLOURS = [GREY, INK, ORANGE, VERMILION, BLUE, SKY]
MARKERS = "osD^v*"


def draw_bench(runs: pd.DataFrame, columns: int = 1) -> Figure:
    """Draw the test error over the seconds of training so far: means and medians over seeds."""
    sets = [name for name in TITLES if name in set(runs["data_set"])]
    figure, panels = _panels(len(sets), min(columns, len(sets)), height=3.4)
    for name, panel in zip(sets, panels, strict=True):
        sides = runs[runs["data_set"] == name].groupby("side", sort=False)
        for (side, own), colour, marker in zip(sides, COLOURS, MARKERS, strict=False):
            epochs = own.groupby("epoch").agg(accuracy=("test_accuracy", "mean"), seconds=("seconds", "median"))
            panel.plot(
                epochs["seconds"], 100 * (1 - epochs["accuracy"]), color=colour, marker=marker, markersize=3, label=side
            )
        if name in TARGETS:
            panel.axhline(100 * (1 - TARGETS[name]), color=GREY, linestyle="--", linewidth=1)
        panel.set(title=TITLES[name], xlabel="seconds of training", ylabel="test error, %")
        low, high = panel.get_ylim()
        panel.set_ylim(low * (low / high) ** 0.3, high)  # room for the legend
        _logarithmic(panel)
        panel.legend(loc="lower left")
    return figure


def draw_growth(runs: pd.DataFrame, columns: int = 1) -> Figure:
    """Draw seconds of an epoch over images and over width, with the exponents; in two columns, peak memory below."""
    figure, panels = _panels(2 * columns, columns, height=2.5)
    runs = growing(runs.assign(thousands=runs["images"] / 1000, peak_memory_gib=runs["peak_memory_mib"] / 1024))
    across = {"images": ("thousands", "thousand images"), "filters": ("filters", "filters of the first group")}
    costs = {"seconds": "seconds of an epoch", "peak_memory_gib": "peak memory, GiB"}
    for panel, ((column, label), grown) in zip(panels, product(costs.items(), across), strict=False):
        fixed = "filters" if grown == "images" else "images"
        for (name, title), colour, marker in zip(TITLES.items(), (BLUE, VERMILION), "os", strict=False):
            own = runs[(runs["data_set"] == name) & (runs["growing"] == grown)]
            power = exponent(own[grown], own[column])
            text = f"{title}, {own[fixed].iloc[0]:,} {fixed}: power {power:.2f}"
            panel.plot(own[across[grown][0]], own[column], color=colour, marker=marker, markersize=3, label=text)
        panel.set(ylabel=label, xlabel=across[grown][1])
        _logarithmic(panel)
        panel.legend(loc="upper left")
        low, high = panel.get_ylim()
        panel.set_ylim(low, high * (high / low) ** 0.4)  # room for the legend
    return figure


def draw_insights(runs: pd.DataFrame) -> Figure:
    """Draw the test accuracy of each variant of the exercise's network after `INSIGHTS_EPOCH` epochs."""
    runs = runs[runs["epoch"] == INSIGHTS_EPOCH]
    return _draw_runs(runs, "variant", "test_accuracy", f"test accuracy after {INSIGHTS_EPOCH} epochs, %")


def draw_flaws(runs: pd.DataFrame) -> Figure:
    """Draw the validation accuracy after each fix of the exercise's flawed network."""
    return _draw_runs(runs.sort_values("step", kind="stable"), "fix", "val_accuracy", "validation accuracy, %")


def _draw_runs(runs: pd.DataFrame, by: str, column: str, label: str) -> Figure:
    """Draw a row of dots for each group, a dot for each run, with their mean as a stroke."""
    groups = runs.groupby(by, sort=False)[column]
    figure = Figure(figsize=(WIDTH, 0.5 + 0.37 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for row, (name, values) in enumerate(groups):
        axes.plot(100 * values, [row] * len(values), color=BLUE, marker="o", markersize=4, alpha=0.6, linestyle="")
        axes.plot(100 * values.mean(), row, color=INK, marker="|", markersize=11)
        axes.annotate(str(name), (0, row - 0.3), xycoords=("axes fraction", "data"), va="bottom")
    axes.set(xlabel=label, ylim=(len(groups) - 0.5, -0.9), yticks=[])
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    return figure


def _panels(n: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    rows = -(-n // columns)
    figure = Figure(figsize=(WIDTH * columns, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _logarithmic(panel: Axes) -> None:
    panel.set(xscale="log", yscale="log")
    for axis in (panel.xaxis, panel.yaxis):
        low, high = axis.get_view_interval()
        ticks = [base * 10**power for power in range(-2, 7) for base in _tick_bases(high / low)]
        axis.set_ticks([tick for tick in ticks if low <= tick <= high])
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_locator(NullLocator())


def _tick_bases(span: float) -> tuple[float, ...]:
    """Choose the ticks per power of ten, fewer on a wider axis; `span` is its end over its start."""
    if span < 10:
        return (1, 1.5, 2, 3, 4, 5, 7)
    if span < 300:
        return (1, 2, 5)
    return (1,)
