"""Draw the figures of README.md and docs/, docs/figures/*.svg, from benchmarks/results/."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.run import command, results
from reprocnn.datasets import DATASETS
from reprocnn.report.cells import exponent
from reprocnn.report.figures import STYLE, save
from reprocnn.report.palette import BLUE, GREY, INK, ORANGE, SKY, VERMILION

FOLDER = Path("docs/figures")
CALIBRATION = Path("benchmarks/calibration")
TITLES = {dataset.name: dataset.title for dataset in DATASETS}
TARGETS = {"mnist": 1, "cifar": 6}  # errors in %, drawn as a dashed line
COLOURS = [GREY, INK, ORANGE, VERMILION, BLUE, SKY]
MARKERS = "osD^v*"


def main(arguments: list[str]) -> None:
    """Draw each figure whose table exists."""
    command.parser("figures", __doc__).parse_args(arguments)
    with plt.rc_context(STYLE):
        for name, draw in (("bench", draw_bench), ("growth", draw_growth)):
            table = results.FOLDER / f"{name}.csv"
            if table.exists():
                save(draw(pd.read_csv(table)), FOLDER / f"{name}.svg")
        measured = [CALIBRATION / name for name in ("false_alarms.csv", "power.csv")]
        if all(path.exists() for path in measured):
            save(draw_calibration(*map(pd.read_csv, measured)), FOLDER / "calibration.svg")


def draw_bench(runs: pd.DataFrame) -> Figure:
    """Draw the test error over the seconds of training so far: means and medians over seeds."""
    sets = [name for name in TITLES if name in set(runs["data_set"])]
    figure, axes = plt.subplots(1, len(sets), figsize=(3.7 * len(sets), 3.4), layout="constrained", squeeze=False)
    for name, panel in zip(sets, axes[0], strict=True):
        sides = runs[runs["data_set"] == name].groupby("side", sort=False)
        for (side, own), colour, marker in zip(sides, COLOURS, MARKERS, strict=False):
            epochs = own.groupby("epoch").agg(accuracy=("test_accuracy", "mean"), seconds=("seconds", "median"))
            panel.plot(
                epochs["seconds"], 100 * (1 - epochs["accuracy"]), color=colour, marker=marker, markersize=3, label=side
            )
        if name in TARGETS:
            panel.axhline(TARGETS[name], color=GREY, linestyle="--", linewidth=1)
        panel.set(title=TITLES[name], xlabel="seconds of training", ylabel="test error, %")
        low, high = panel.get_ylim()
        panel.set_ylim(low * (low / high) ** 0.2, high)  # room for the legend
        _logarithmic(panel)
        panel.legend(loc="lower left")
    return figure


def draw_calibration(alarms: pd.DataFrame, power: pd.DataFrame) -> Figure:
    """Draw observed against nominal false alarms, and the share of losses that is found."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.4), layout="constrained")
    simulation = alarms[alarms["seeds of"] == "simulated"]
    for (k, own), colour in zip(simulation.groupby("seeds"), (INK, ORANGE, BLUE, VERMILION), strict=False):
        left.plot(own["dispersion"], 100 * own["calibrated"], color=colour, marker="o", label=f"by {k} seeds")
    raw = simulation[simulation["seeds"] == 10]
    left.plot(raw["dispersion"], 100 * raw["alpha 0.01"], color=GREY, linestyle=":", label="McNemar, alpha 0.01")
    left.axhline(1, color=GREY, linestyle="--", linewidth=0.8)
    left.set(xlabel="dispersion of seeds", ylabel="false alarms, %", ylim=(0, None), title="asked for: 1 %")
    left.legend(title="calibrated", title_fontsize=7, fontsize=7)
    own = power[power["seeds of"] == "simulated"]
    lines = {"one seed": (BLUE, "1 seed"), "three seeds": (VERMILION, "3 seeds")}
    for column, (colour, label) in (lines | {"sign-flip, three seeds": (GREY, "3, sign-flip")}).items():
        right.plot(100 * own["loss"], 100 * own[column], color=colour, marker="o", label=label)
    right.axvline(100 * own["promised at"].iloc[0], color=BLUE, linestyle="--", linewidth=0.8)
    right.set(xlabel="loss of accuracy, points", ylabel="found, %", title="dispersion 2, 10,000 images")
    right.legend(fontsize=7, title="on each side", title_fontsize=7)
    return figure


def draw_growth(runs: pd.DataFrame) -> Figure:
    """Draw seconds of an epoch and peak memory over images and over width, with the exponents of their growth."""
    figure, axes = plt.subplots(2, 2, figsize=(7.4, 5), layout="constrained", sharex="col")
    runs = runs.assign(thousands=runs["images"] / 1000, peak_memory_gib=runs["peak_memory_mib"] / 1024)
    across = {"images": ("thousands", "thousand images"), "filters": ("filters", "filters of the first group")}
    for row, (column, label) in enumerate(
        {"seconds": "seconds of an epoch", "peak_memory_gib": "peak memory, GiB"}.items()
    ):
        for panel, grown, fixed in ((axes[row, 0], "images", "filters"), (axes[row, 1], "filters", "images")):
            for (name, title), colour, marker in zip(TITLES.items(), (BLUE, VERMILION), "os", strict=False):
                own = runs[runs["data_set"] == name]
                own = own[own[fixed] == own[fixed].mode()[0]].sort_values(grown)
                power = exponent(own[grown], own[column])
                text = f"{title}, {own[fixed].iloc[0]:,} {fixed}: power {power:.2f}"
                panel.plot(own[across[grown][0]], own[column], color=colour, marker=marker, markersize=3, label=text)
            panel.set(ylabel=label, xlabel=across[grown][1])
            _logarithmic(panel)
            panel.legend(loc="upper left")
            low, high = panel.get_ylim()
            panel.set_ylim(low, high * (high / low) ** 0.3)  # room for the legend
    return figure


def _logarithmic(panel: Axes) -> None:
    panel.set(xscale="log", yscale="log")
    for axis in (panel.xaxis, panel.yaxis):
        low, high = axis.get_view_interval()
        ticks = [base * 10**power for power in range(-2, 7) for base in _tick_bases(high / low)]
        axis.set_ticks([tick for tick in ticks if low <= tick <= high])
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())


def _tick_bases(span: float) -> tuple[float, ...]:
    """Choose the ticks per power of ten, fewer on a wider axis; `span` is its end over its start."""
    if span < 10:
        return (1, 1.5, 2, 3, 4, 5, 7)
    if span < 300:
        return (1, 2, 5)
    return (1,)
