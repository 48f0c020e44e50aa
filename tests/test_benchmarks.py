"""What the benchmarks measure with."""

import json
import re

import pandas as pd
import pytest
from keras import layers

from benchmarks import insights
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
