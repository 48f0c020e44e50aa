"""The charts of what benchmarks/ measured; tests/benchmarks has those with two columns."""

from pathlib import Path

import pandas as pd
import pytest

from reprocnn.core.errors import UserError
from reprocnn.report import chapters, charts, tables
from reprocnn.report.figures import style
from tests.support.commands import ROOT


def drawn(axes) -> dict[str, tuple[list[float], float]]:
    """Give, by name from top to bottom, the dots of a row and its stroke."""
    dots, strokes = axes.lines[::2], axes.lines[1::2]
    assert [stroke.get_marker() for stroke in strokes] == ["|"] * len(dots)
    rows = [row for line in dots for row in set(line.get_ydata())]
    assert rows == [row for line in strokes for row in line.get_ydata()] == list(range(len(dots)))
    low, high = axes.get_ylim()
    assert low > high
    return {
        text.get_text(): (pytest.approx(list(dot.get_xdata())), pytest.approx(float(stroke.get_xdata()[0])))
        for text, dot, stroke in zip(axes.texts, dots, strokes, strict=True)
    }


def test_insights_after_ten_epochs_by_hand():
    rows = [("b", 10, 0.9), ("b", 10, 0.92), ("b", 10, 0.97), ("b", 11, 0.1), ("a", 10, 0.5)]
    axes = charts.draw_insights(pd.DataFrame(rows, columns=["variant", "epoch", "test_accuracy"])).axes[0]
    assert list(drawn(axes).items()) == [("b", ([90, 92, 97], 93)), ("a", ([50], 50))]
    assert axes.get_xlabel() == "test accuracy after 10 epochs, %"


def test_fixes_in_their_order_by_hand():
    rows = [(1, "later", 0.3), (0, "first", 0.1), (1, "later", 0.5)]
    axes = charts.draw_flaws(pd.DataFrame(rows, columns=["step", "fix", "val_accuracy"])).axes[0]
    assert list(drawn(axes).items()) == [("first", ([10], 10)), ("later", ([30, 50], 40))]
    assert axes.get_xlabel() == "validation accuracy, %"


def test_one_column_is_as_wide_as_a_phone_and_has_a_panel_below_the_other():
    with style():
        bench = charts.draw_bench(pd.read_csv(ROOT / "benchmarks/results/bench.csv"))
        growth = charts.draw_growth(pd.read_csv(ROOT / "benchmarks/results/growth.csv"))
    assert [axes.get_title() for axes in bench.axes] == ["MNIST", "CIFAR-10"]
    assert [axes.get_ylabel() for axes in growth.axes] == ["seconds of an epoch"] * 2
    assert [axes.get_xlabel() for axes in growth.axes] == ["thousand images", "filters of the first group"]
    for figure in (bench, growth):
        upper, lower = (axes.get_position() for axes in figure.axes)
        assert upper.y0 > lower.y1
        assert upper.x0 < lower.x1
        assert figure.get_figwidth() == 3.7


@pytest.mark.parametrize(
    ("images", "ticks"),
    [
        # An axis ends a twentieth of its length, on its scale, beyond the first and the last point.
        ([1_000_000, 2_000_000], [1000, 1500, 2000]),  # from 966 to 2,071: the end is 2 times the start
        ([1_000, 40_000], [1, 2, 5, 10, 20]),  # from 0.8 to 48: 58 times
        ([1_000, 1_000_000], [1, 10, 100, 1000]),  # from 0.7 to 1,413: 1,995 times
    ],
)
def test_an_axis_that_spans_more_has_fewer_ticks_per_power_of_ten(images, ticks):
    rows = [(name, n, filters, n) for name in ("mnist", "cifar") for n in images for filters in (8, 8)]
    rows += [(name, images[0], 16, 1) for name in ("mnist", "cifar")]
    runs = pd.DataFrame(rows, columns=["data_set", "images", "filters", "seconds"]).assign(peak_memory_mib=1)
    over_images, _ = charts.draw_growth(runs).axes
    assert list(over_images.get_xticks()) == ticks


def test_a_table_that_cannot_be_drawn_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    (tmp_path / "insights.csv").write_text("variant,seed,val_accuracy,test_accuracy\na,0,0.5,0.6\n")  # no epoch
    with pytest.raises(UserError, match=r"insights\.csv: expected a table as its benchmark writes it, got .*epoch"):
        chapters.draw_experiments(tmp_path)


def test_what_is_measured_has_its_chart(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    chapters.draw_experiments(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "insights.csv").write_text("variant,seed,epoch,val_accuracy,test_accuracy\na,0,10,0.5,0.6\n")
    (tmp_path / "growth.csv").write_text("data_set,images,filters,seconds,peak_memory_mib\n")
    chapters.draw_experiments(tmp_path)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["experiments_insights.svg"]
    (chapter,) = chapters.write_experiments([])
    (section,) = chapter.sections
    assert [figure.file for figure in section.figures] == ["figures/experiments_insights.svg"]
    assert section.summary == "The numbers"


def test_each_chart_is_of_a_table():
    names = {path.stem for path in Path(ROOT / "benchmarks/results").glob("*.csv")}
    assert chapters.CHARTS.keys() <= names
