"""Draw the figures of README.md and docs/, docs/figures/*.svg, from benchmarks/results/."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.run import command, results
from reprocnn.report.charts import draw_bench, draw_growth
from reprocnn.report.figures import STYLE, save
from reprocnn.report.palette import BLUE, GREY, INK, ORANGE, VERMILION

FOLDER = Path("docs/figures")


def main(arguments: list[str]) -> None:
    """Draw each figure whose table exists."""
    command.parser("figures", __doc__).parse_args(arguments)
    with plt.rc_context(STYLE):
        for name, draw in (("bench", draw_bench), ("growth", draw_growth)):
            table = results.FOLDER / f"{name}.csv"
            if table.exists():
                save(draw(pd.read_csv(table), columns=2), FOLDER / f"{name}.svg")
        measured = [results.FOLDER / f"calibration_{name}.csv" for name in ("false_alarms", "power")]
        if all(path.exists() for path in measured):
            save(draw_calibration(*map(pd.read_csv, measured)), FOLDER / "calibration.svg")


def draw_calibration(alarms: pd.DataFrame, power: pd.DataFrame) -> Figure:
    """Draw observed against nominal false alarms, and the share of losses that is found."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.4), layout="constrained")
    simulation = alarms[alarms["seeds of"] == "simulated"]
    groups = zip(simulation.groupby("seeds"), (INK, ORANGE, BLUE, VERMILION), "osD^", strict=False)
    for (k, own), colour, marker in groups:
        left.plot(
            own["dispersion"], 100 * own["calibrated"], color=colour, marker=marker, markersize=4, label=f"by {k} seeds"
        )
    raw = simulation[simulation["seeds"] == 10]
    left.plot(raw["dispersion"], 100 * raw["alpha 0.01"], color=GREY, linestyle=":", label="McNemar, alpha 0.01")
    left.axhline(1, color=GREY, linestyle="--", linewidth=0.8, label="asked for: 1 %")
    left.set(xlabel="dispersion of seeds", ylabel="false alarms, %", ylim=(0, None), title="false alarms of the gate")
    left.legend(title="calibrated", title_fontsize=7, fontsize=7)
    own = power[power["seeds of"] == "simulated"]
    lines = {"one seed": (BLUE, "o", "1 seed"), "three seeds": (VERMILION, "^", "3 seeds")}
    for column, (colour, marker, label) in lines.items():
        right.plot(100 * own["loss"], 100 * own[column], color=colour, marker=marker, markersize=4, label=label)
    promised = 100 * own["promised at"].iloc[0]
    right.axvline(promised, color=BLUE, linestyle="--", linewidth=0.8)
    right.text(promised - 0.01, 3, f"promised for 1 seed: {promised:.2f}", color=BLUE, fontsize=7, ha="right")
    right.set(xlabel="loss of accuracy, points", ylabel="found, %", title="dispersion 2, 10,000 images")
    right.legend(fontsize=7, title="on each side", title_fontsize=7)
    return figure
