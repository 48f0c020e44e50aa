"""What the benchmarks measure with."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from keras import layers
from matplotlib import pyplot as plt

from benchmarks import figures, growth, insights, overhead
from stages.lib.figures import STYLE, save
from tests.conftest import call


@pytest.mark.parametrize(
    ("variant", "convolutions", "norms", "parameters"),
    [
        # 3*3*1*8 + 8; 13*13*8*100 + 100; 100*10 + 10
        ("one convolution", 1, 0, 80 + 135_300 + 1_010),
        ("one convolution, batch norm", 1, 2, 80 + 4 * 8 + 135_300 + 4 * 100 + 1_010),
        # 3*3*1*8 + 8; 5*5*8*16 + 16; 11*11*16*100 + 100
        ("two convolutions", 2, 0, 80 + 3_216 + 193_700 + 1_010),
        ("two convolutions, batch norm", 2, 2, 198_470),
    ],
)
def test_the_insights_networks(variant, convolutions, norms, parameters):
    chosen = next(known for known in insights.VARIANTS if known.name == variant)
    model = insights.build(chosen, (28, 28, 1))
    assert sum(isinstance(layer, layers.Conv2D) for layer in model.layers) == convolutions
    assert sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers) == norms
    assert model.count_params() == parameters


@pytest.mark.slow
def test_seeds_measures_a_named_setting(copy):
    output = call(copy, "python", "-m", "benchmarks.seeds", "mnist-fast", "1")
    seeds = pd.read_csv(copy / "benchmarks/seeds.csv").query("setting == 'mnist-fast' and seed == 0")
    mistakes = pd.read_csv(copy / "benchmarks/mistakes.csv").query("setting == 'mnist-fast' and seed == 0")
    row = seeds.iloc[0]
    assert len(seeds) == 1, output
    assert row["epochs"] == 1
    assert row["errors"] == len(mistakes) > 0
    n = json.loads((copy / "metrics.json").read_text())["mnist"]["test"]["n"]
    assert row["test_accuracy"] == pytest.approx(1 - len(mistakes) / n)
    table = call(copy, "python", "-c", "from benchmarks import tables; print(tables.over_seeds())")
    # The rows that are in git are of the real data.
    assert [line.split("|")[3].strip() for line in table.splitlines() if re.match(r"\| mnist-fast +\|", line)] == ["1"]
    assert "mnist (older code)" in table


@pytest.mark.slow
def test_bench_trains_what_is_missing(copy):
    (copy / "benchmarks/bench.csv").unlink()
    bench = """
import sys
from benchmarks import bench, seeds
bench.SEEDS = {"Keras' example": (1, 1), "mnist": (1, 1)}
sys.argv = ["bench", "no PyTorch", "quick"]
bench.main()
"""
    call(copy, "python", "-c", bench)
    rows = pd.read_csv(copy / "benchmarks/bench.csv")
    assert rows.groupby("side")["epoch"].max().to_dict() == {"Keras' example": 15, "mnist": 3}
    assert (rows.groupby("side")["seconds"].diff().dropna() > 0).all()
    assert rows[["first_step_seconds", "tflop", "peak_memory_mib", "matrix_peak_gflops"]].gt(0).all(axis=None)
    images = rows[rows["side"] == "mnist"]["images"].tolist()
    assert images == [images[0], 2 * images[0], 3 * images[0]]
    own = rows[rows["side"] == "mnist"].iloc[-1]
    # A training that is watched is the one that is not: the same accuracy, and the row over seeds with it.
    expected = json.loads((copy / "metrics.json").read_text())["mnist"]["test"]["accuracy"]
    assert own["test_accuracy"] == pytest.approx(expected, abs=1e-6)  # the table has six digits
    seeds = pd.read_csv(copy / "benchmarks/seeds.csv").query("setting == 'mnist' and seed == 0")
    assert seeds["test_accuracy"].tolist() == [expected]
    before = (copy / "benchmarks/bench.csv").read_bytes()
    assert "seconds" not in call(copy, "python", "-c", bench)
    assert (copy / "benchmarks/bench.csv").read_bytes() == before


@pytest.mark.slow
def test_growth_trains_on_repeated_images(copy):
    measure = "from benchmarks import growth; print(growth.measure('mnist', {}, 4))"
    for images in (500, 3000):  # the sample has some 1,400
        told = call(copy, "python", "-c", measure.format(images))
        assert f"{images:,} images" in told
        assert "'peak_memory_mib'" in told


def test_images_are_repeated_from_the_start():
    assert growth.repeated(np.arange(3), 8).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert growth.repeated(np.arange(3), 2).tolist() == [0, 1]


def test_the_bare_stages_have_nothing_to_do(tmp_path):
    overhead.make_bare(tmp_path / "bare")
    call(tmp_path / "bare", "git", "restore", ".")
    call(tmp_path / "bare", "dvc", "checkout")
    assert "up to date" in call(tmp_path / "bare", "dvc", "repro")
    assert "seed: 1" not in (tmp_path / "bare/plot.txt").read_text()
    assert "is cached" in call(tmp_path / "bare", "dvc", "exp", "run", "-S", "seed=1")


def test_the_figures_name_all_sides(tmp_path):
    rows = [("mnist", "one", 1, 2.0, 0.98), ("mnist", "one", 2, 4.0, 0.99), ("cifar", "other", 1, 9.0, 0.9)]
    runs = pd.DataFrame(rows, columns=["data_set", "side", "epoch", "seconds", "test_accuracy"])
    with plt.rc_context(STYLE):
        save(figures.draw_bench(runs), tmp_path / "bench.svg")
    drawn = (tmp_path / "bench.svg").read_text()
    assert all(text in drawn for text in ("one", "other", "MNIST", "CIFAR-10", "seconds of training"))
    sizes = [("mnist", 100, 8), ("mnist", 200, 8), ("mnist", 100, 16), ("cifar", 10, 8), ("cifar", 20, 8),
             ("cifar", 10, 16)]  # fmt: skip
    costs = pd.DataFrame(sizes, columns=["data_set", "images", "filters"])
    costs = costs.assign(seconds=costs["images"] * costs["filters"] ** 2, peak_memory_mib=costs["images"])
    with plt.rc_context(STYLE):
        save(figures.draw_growth(costs), tmp_path / "growth.svg")
    drawn = (tmp_path / "growth.svg").read_text()
    assert "MNIST, 8 filters: power 1.00" in drawn
    assert "MNIST, 100 images: power 2.00" in drawn


@pytest.mark.slow
def test_search_trains_with_the_change(copy):
    before = (copy / "metrics.json").read_bytes()
    measure = "from pathlib import Path; from benchmarks import search; search._add(search.measure(Path(), '{}', 1))"
    for change in ("epochs=2 filters=4", "epochs=1"):
        call(copy, "python", "-c", measure.format(change))
    rows = pd.read_csv(copy / "benchmarks/search.csv").tail(2)
    assert rows["change"].tolist() == ["epochs=2 filters=4", "epochs=1"]
    assert len(pd.read_csv(copy / "plots/mnist/history.csv")) == 1
    assert '"filters": 8' in (copy / "models/mnist/model.json").read_text()  # the first change is gone
    assert (copy / "metrics.json").read_bytes() == before
