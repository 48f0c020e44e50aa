"""What the benchmarks measure with."""

import json
import re
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from benchmarks import __main__ as command_line
from benchmarks.run import (
    airbench,
    bench,
    command,
    copies,
    end_to_end,
    figures,
    flaws,
    growth,
    insights,
    keras_mnist,
    overhead,
    pruning,
    results,
    search,
    settings,
    step,
    tried,
    waits,
    watched,
)
from reprocnn.backend import Device, layers
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import write_json
from reprocnn.images import arrays
from reprocnn.networks.build import build
from reprocnn.report import charts
from reprocnn.report.figures import STYLE
from tests.support.commands import ROOT, call

COUNTS = {"train": 12, "val": 5, "test": 7}


def write_images(folder: Path, label: int = 0, **parts: np.ndarray) -> None:
    """Write the images of `parts`, all of the class `label`."""
    for part, x in parts.items():
        (folder / part).mkdir(parents=True)
        np.save(folder / part / "x.npy", x)
        np.save(folder / part / "y.npy", np.eye(10, dtype=np.float32)[np.full(len(x), label)])


class Recorder:
    """A model that keeps what it is trained and judged on."""

    def __init__(self):
        self.trained, self.judged = [], []

    def compile(self, *_, **__):
        pass

    def fit(self, data, *_, callbacks=(), **__):
        self.trained.append(data)
        for callback in callbacks:
            callback.on_train_batch_end(0, {})

    def evaluate(self, data, verbose):
        self.judged.append(data)
        return 1.0, 0.5


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


@pytest.mark.nightly
def test_seeds_measures_a_named_setting(copy):
    output = call(copy, "python", "-m", "benchmarks", "seeds", "mnist-fast", "1")
    seeds = pd.read_csv(copy / "benchmarks/results/seeds.csv").query("setting == 'mnist-fast' and seed == 0")
    mistakes = pd.read_csv(copy / "benchmarks/results/mistakes.csv").query("setting == 'mnist-fast' and seed == 0")
    row = seeds.iloc[0]
    assert len(seeds) == 1, output
    assert row["epochs"] == 1
    assert row["errors"] == len(mistakes) > 0
    n = json.loads((copy / "evaluation/mnist.json").read_text())["test"]["n"]
    assert row["test_accuracy"] == pytest.approx(1 - len(mistakes) / n)
    table = call(copy, "python", "-c", "from benchmarks.run import tables; print(tables.markdown(tables.over_seeds()))")
    # The rows that are in git are of the real data.
    assert [line.split("|")[3].strip() for line in table.splitlines() if re.match(r"\| mnist-fast +\|", line)] == ["1"]
    assert "mnist (outdated)" in table


@pytest.mark.nightly
def test_bench_trains_what_is_missing(copy):
    (copy / "benchmarks/results/bench.csv").unlink()
    bench = """
from benchmarks.run import bench
bench.SEEDS = {"Keras' example": (1, 1), "mnist": (1, 1)}
bench.main(["no PyTorch", "--quick"])
"""
    call(copy, "python", "-c", bench)
    rows = pd.read_csv(copy / "benchmarks/results/bench.csv")
    assert rows.groupby("side")["epoch"].max().to_dict() == {"Keras' example": 15, "mnist": 3}
    assert (rows.groupby("side")["seconds"].diff().dropna() > 0).all()
    assert rows[["first_step_seconds", "tflop", "peak_memory_mib", "matrix_peak_gflops"]].gt(0).all(axis=None)
    images = rows[rows["side"] == "mnist"]["images"].tolist()
    assert images == [images[0], 2 * images[0], 3 * images[0]]
    own = rows[rows["side"] == "mnist"].iloc[-1]
    # A training that is watched is the one that is not: the same accuracy, and the row over seeds with it.
    expected = json.loads((copy / "metrics/mnist.json").read_text())["mnist"]["test"]["accuracy"]
    assert own["test_accuracy"] == pytest.approx(expected, abs=1e-6)  # the table has six digits
    seeds = pd.read_csv(copy / "benchmarks/results/seeds.csv").query("setting == 'mnist' and seed == 0")
    assert seeds["test_accuracy"].tolist() == [expected]
    before = (copy / "benchmarks/results/bench.csv").read_bytes()
    assert "seconds" not in call(copy, "python", "-c", bench)
    assert (copy / "benchmarks/results/bench.csv").read_bytes() == before


@pytest.mark.nightly
def test_growth_trains_on_repeated_images(copy):
    measure = "from benchmarks.run import growth; print(growth.measure('mnist', {}, 4))"
    for images in (500, 3000):  # the sample has some 1,400
        output = call(copy, "python", "-c", measure.format(images))
        assert f"{images:,} images" in output
        assert "'peak_memory_mib'" in output


def test_images_are_repeated_from_the_start():
    assert growth.repeated(np.arange(3), 8).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert growth.repeated(np.arange(3), 2).tolist() == [0, 1]


@pytest.mark.nightly
def test_the_bare_stages_have_nothing_to_do(tmp_path):
    overhead.make_bare(tmp_path / "bare")
    call(tmp_path / "bare", "git", "restore", ".")
    call(tmp_path / "bare", "dvc", "checkout")
    assert "up to date" in call(tmp_path / "bare", "dvc", "repro")
    assert "seed: 1" not in (tmp_path / "bare/plot.txt").read_text()
    assert "is cached" in call(tmp_path / "bare", "dvc", "exp", "run", "-S", "seed=1")


def points(line) -> list[tuple[float, float]]:
    return [(round(float(x), 6), round(float(y), 6)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_the_error_over_the_time_by_hand():
    rows = [("mnist", "one", epoch, seconds, accuracy) for epoch, measured in
            ((1, ((2.0, 0.98), (3.0, 0.97), (7.0, 0.9))), (2, ((4.0, 0.99), (6.0, 0.98), (20.0, 0.97))))
            for seconds, accuracy in measured]  # fmt: skip
    rows += [("cifar", "other", 1, 9.0, 0.9), ("mnist", "two", 1, 5.0, 0.96)]
    runs = pd.DataFrame(rows, columns=["data_set", "side", "epoch", "seconds", "test_accuracy"])
    with plt.rc_context(STYLE):
        mnist, cifar = charts.draw_bench(runs, columns=2).axes
    one, two, target = mnist.lines
    assert (one.get_label(), points(one)) == ("one", [(3.0, 5.0), (6.0, 2.0)])  # medians; means in per cent
    assert (two.get_label(), points(two)) == ("two", [(5.0, 4.0)])
    assert list(target.get_ydata()) == pytest.approx([1, 1])
    assert (cifar.lines[0].get_label(), points(cifar.lines[0])) == ("other", [(9.0, 10.0)])
    assert list(cifar.lines[1].get_ydata()) == pytest.approx([6, 6])
    assert [axes.get_title() for axes in (mnist, cifar)] == ["MNIST", "CIFAR-10"]
    assert (mnist.get_xlabel(), mnist.get_ylabel()) == ("seconds of training", "test error, %")
    assert (mnist.get_xscale(), mnist.get_yscale()) == ("log", "log")


def test_the_growth_of_the_cost_by_hand():
    sizes = [("mnist", 2000, 8), ("mnist", 1000, 8), ("mnist", 1000, 16), ("cifar", 10, 8), ("cifar", 20, 8),
             ("cifar", 10, 32)]  # fmt: skip
    costs = pd.DataFrame(sizes, columns=["data_set", "images", "filters"])
    costs = costs.assign(seconds=costs["images"] * costs["filters"] ** 2 / 1000, peak_memory_mib=1024 * costs["images"])
    with plt.rc_context(STYLE):
        over_images, over_filters, memory, _ = charts.draw_growth(costs, columns=2).axes
    assert [line.get_label() for line in over_images.lines] == [
        "MNIST, 8 filters: power 1.00", "CIFAR-10, 8 filters: power 1.00",
    ]  # fmt: skip
    assert [line.get_label() for line in over_filters.lines] == [
        "MNIST, 1,000 images: power 2.00", "CIFAR-10, 10 images: power 2.00",
    ]  # fmt: skip
    assert points(over_images.lines[0]) == [(1.0, 64.0), (2.0, 128.0)]
    assert points(over_filters.lines[1]) == [(8.0, 0.64), (32.0, 10.24)]
    assert points(memory.lines[0]) == [(1.0, 1000.0), (2.0, 2000.0)]
    assert [axes.get_ylabel() for axes in (over_images, memory)] == ["seconds of an epoch", "peak memory, GiB"]


def test_figures_are_of_the_tables_that_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"data_set": "cifar", "side": "an odd name", "epoch": 1, "seconds": 2.0, "test_accuracy": 0.9}
    results.write(results.FOLDER / "bench.csv", [row])
    figures.main([])
    assert [path.name for path in figures.FOLDER.iterdir()] == ["bench.svg"]
    assert "an odd name" in (figures.FOLDER / "bench.svg").read_text()


@pytest.mark.nightly
def test_search_trains_with_the_change(copy):
    before = (copy / "metrics/mnist.json").read_bytes()
    for change in ("epochs=2 filters=4", "epochs=1 lr=0.005"):
        script = f"""
from pathlib import Path
from benchmarks.run import results, search
results.add(search.TABLE, [search.measure(Path(), '{change}', 1)])
"""
        call(copy, "python", "-c", script)
    rows = pd.read_csv(copy / "benchmarks/results/search.csv").tail(2)
    assert rows["change"].tolist() == ["epochs=2 filters=4", "epochs=1 lr=0.005"]
    assert len(pd.read_csv(copy / "plots/mnist/history.csv")) == 1
    assert '"filters": 8' in (copy / "models/mnist/model.json").read_text()  # the first change is gone
    assert re.search(r"^lr: 0.005$", (copy / "params.yaml").read_text(), re.MULTILINE)
    assert (copy / "metrics/mnist.json").read_bytes() == before


def test_the_peak_learning_rates_are_exact():
    peaks = {name: settings.peak_lr(settings.params_of(name)) for name in settings.SETTINGS}
    assert peaks == {
        "mnist": 0.01, "mnist-fast": 0.02, "mnist-tiny": 0.01,
        "cifar": 0.2, "cifar-quick": 0.2, "cifar-94": 0.2, "cifar-95": 0.2, "cifar-plain": 0.24,
    }  # fmt: skip


def test_the_tiny_network_has_the_parameters_that_the_docs_say():
    values = settings.params_of("mnist-tiny")
    sizes = {key: values[key] for key in ("filters", "depth", "kernel_size", "dropout")}
    model = build(values["network"], (28, 28, 1), 10, layers.Rescaling(1.0), **sizes)
    assert f"{model.count_params():,} parameters" in (ROOT / "docs/results/mnist.md").read_text()


def test_every_script_is_listed_and_has_help():
    modules = {path.stem for path in (ROOT / "benchmarks/run").glob("*.py")}
    assert set(command_line.SCRIPTS) == modules - {"command", "copies", "digests", "results", "settings"}
    listed = call(ROOT, "python", "-m", "benchmarks", "--help")
    for name in command_line.SCRIPTS:
        assert re.search(rf"^  {name} +\S", listed, re.MULTILINE), name
    assert "usage: python -m benchmarks tables" in call(ROOT, "python", "-m", "benchmarks", "tables", "--help")
    assert "invalid choice: 'bensh'" in call(ROOT, "python", "-m", "benchmarks", "bensh", code=2)


def test_the_readme_lists_every_script_and_table():
    text = (ROOT / "benchmarks/README.md").read_text()
    assert [name for name in command_line.SCRIPTS if f"`{name}" not in text and name not in ("tables", "figures")] == []
    assert [path.stem for path in (ROOT / "benchmarks/results").glob("*.csv") if f"`{path.stem}`" not in text] == []


def test_the_peers_in_pytorch_need_few_libraries():
    """Without PyTorch they stop there, not at a library that their environment has not got."""
    block = (
        "import sys; sys.modules |= dict.fromkeys(['keras', 'tensorflow', 'pandas', 'yaml', 'ruamel', 'jsonschema', "
        "'scipy', 'dvc', 'torch']); sys.argv[0] = 'benchmarks'; from benchmarks.__main__ import main; main()"
    )
    for peer in ("pytorch_mnist", "pytorch_cifar"):
        output = call(ROOT, "python", "-c", block, peer, "--help", code=1)
        assert output.strip().endswith("ModuleNotFoundError: import of torch halted; None in sys.modules")


def test_rows_that_stay_keep_their_bytes(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('name,seed,value,note\n"a, b",10,0.9958333373069763,\n"a, b",2,1e-05,x\n')
    results.add(
        path, [{"name": "a, b", "seed": 2, "value": 0.123456789, "note": None}], keys=("name", "seed"), digits=3
    )
    assert path.read_text() == 'name,seed,value,note\n"a, b",10,0.9958333373069763,\n"a, b",2,0.123,\n'
    results.add(path, [{"name": "c", "seed": 1, "value": 1 / 3, "more": 7}], order=lambda row: int(row["seed"]))
    assert path.read_text().splitlines() == [
        "name,seed,value,note,more", "c,1,0.3333333333333333,,7", '"a, b",2,0.123,,', '"a, b",10,0.9958333373069763,,',
    ]  # fmt: skip
    assert results.known(path, "name", "seed") == {("c", "1"), ("a, b", "2"), ("a, b", "10")}
    assert results.known(tmp_path / "none.csv", "seed") == set()


def test_cells_of_a_file_by_hand(tmp_path):
    row = {"a": 1 / 3, "b": 123456.7, "c": None, "d": float("nan"), "e": 7, "f": "x, y"}
    results.write(tmp_path / "table.csv", [row], digits=4)
    assert (tmp_path / "table.csv").read_text() == 'a,b,c,d,e,f\n0.3333,1.235e+05,,,7,"x, y"\n'


def test_the_conditions_of_a_measurement():
    assert results.processor(Device("cpu", "a processor", 2)) == "a processor, 2 threads"
    assert results.processor(Device("cpu", "a processor", 2, "float32", "avx2")) == "a processor, avx2, 2 threads"
    assert results.processor(Device("gpu", "a card", 2, "float32", "avx2")) == "a card, 2 threads"
    assert results.conditions("a machine") == {"hardware": "a machine", "date": results.today()}


class Fake:
    """Gives the next of some values at each call, and keeps the arguments."""

    def __init__(self, *values):
        self.values, self.calls = list(values), []

    def __call__(self, *arguments, **options):
        self.calls.append(arguments)
        return self.values.pop(0)


def test_a_step_measured_again_keeps_the_rows_of_other_processors(monkeypatch, tmp_path):
    monkeypatch.setattr(step, "TABLE", tmp_path / "step.csv")
    monkeypatch.setattr(step, "STEPS", {"mnist": 1})
    for name, milliseconds in (("A", 1.0), ("B", 2.0), ("A", 3.23456)):
        device, row = Device("cpu", name, 2, "float32"), {"setting": "mnist", "milliseconds": milliseconds}
        monkeypatch.setattr(step, "configure_device", lambda kind, threads, device=device: device)
        monkeypatch.setattr(step, "measure", lambda *a, row=row: row | {"precision": a[1].precision})
        step.main(["python"])
    found = [(row["hardware"], row["precision"], row["milliseconds"]) for row in results.read(tmp_path / "step.csv")]
    assert found == [
        (f"{name}, 2 threads", precision, milliseconds)
        for name, milliseconds in (("B", "2"), ("A", "3.235"))
        for precision in ("float32", "mixed_bfloat16")
    ]


def test_the_sides_of_a_step_by_hand(monkeypatch):
    ours, plain = Fake(10.0, 20.0, 12.0, 40.0, 14.0), Fake(20.0, 30.0, 30.0, 40.0, 70.0)
    monkeypatch.setattr(step, "training_step", Fake((ours, 6e9), (plain, 6e9)))
    monkeypatch.setattr(step, "matrix_peak", Fake(1e12, 2e12, 1.5e12, 4e12, 2.5e12))
    asked = Fake(*({"milliseconds": value} for value in (15.0, 50.0, 24.0, 44.0, 56.0)))
    monkeypatch.setattr(command, "ask", asked)
    monkeypatch.setattr(step, "params_of", lambda setting: {"filters": 4, "depth": 2, "batch_size": 128})
    row = step.measure("mnist-fast", Device("cpu", "a processor", 2, "float32"), "python")
    assert asked.calls[0] == ("python", "pytorch_mnist", "step", "float32", 4, 2, 128, step.STEPS["mnist-fast"])
    assert row == {
        "setting": "mnist-fast", "precision": "float32", "images": 128, "gflop_per_step": 6.0,
        "milliseconds": 14.0, "keras_milliseconds": 30.0, "pytorch_milliseconds": 44.0,
        "keras_over_ours": 2.0,  # of 2, 1.5, 2.5, 1 and 5
        "pytorch_over_ours": 2.0,  # of 1.5, 2.5, 2, 1.1 and 4
        "matrix_peak_gflops": 2000.0,
        "share_of_peak": pytest.approx(6 / 14 / 2.5),  # of 0.6, 0.15, 0.333, 0.0375 and 0.171
        "rounds": 5,
    }  # fmt: skip


def test_the_overhead_by_hand(monkeypatch):
    own = [99.0, 3.0, 2.0, 4.0, 9.0, 1.0, 5.0, 6.0]
    bare = [1.0, 2.0, 4.0, 1.0, 3.0, 2.0, 5.0, 4.0]
    seconds = Fake(*(value for pair in zip(own, bare, strict=True) for value in pair))
    monkeypatch.setattr(overhead, "seconds", seconds)
    case = overhead.Case("ours", ["a"], Path("x"), "theirs", ["b"], Path("y"))
    row = overhead.measure(case)
    assert seconds.calls[:2] == [(["a"], Path("x")), (["b"], Path("y"))]
    # Ratios of 1.5, 0.5, 4, 3, 0.5, 1 and 1.5; the first round does not count.
    kept = ("what", "seconds", "against", "bare_seconds", "ratio", "rounds")
    assert [row[key] for key in kept] == ["ours", 4.0, "theirs", 3.0, 1.5, 7]


def test_the_search_notes_the_last_epoch(tmp_path, monkeypatch):
    (tmp_path / "plots/mnist").mkdir(parents=True)
    history = "epoch,val_loss,val_accuracy,accuracy\n1,0.1,0.99,0.5\n2,0.2,0.98,0.6\n"
    (tmp_path / "plots/mnist/history.csv").write_text(history)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    ran = []
    monkeypatch.setattr(search, "git", lambda *arguments, cwd: ran.append(("git", *arguments, cwd)))
    monkeypatch.setattr(search, "dvc", lambda *arguments, cwd: ran.append(("dvc", *arguments, cwd)))
    row = search.measure(tmp_path, "lr=0.5 depth=1", 3)
    recipe = row.pop("recipe").split()
    assert {"depth=2", "network=mnist_cnn", "flip=False", "lr=0.01"} <= set(recipe)  # before the change
    assert ran == [
        ("git", "checkout", "--quiet", "params.yaml", tmp_path),
        ("dvc", "exp", "run", "--single-item", "-S", "seed=3", "-S", "lr=0.5", "-S", "mnist.depth=1", "train_mnist",
         tmp_path),
    ]  # fmt: skip
    assert row == {
        "change": "lr=0.5 depth=1",
        "seed": 3,
        "val_accuracy": 0.98,
        "val_loss": 0.2,
        "date": results.today(),
    }


def test_the_search_trains_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "copy_with_data", lambda changes: nullcontext(tmp_path))
    monkeypatch.setattr(search, "measure", lambda folder, change, seed: {"change": change, "seed": seed, "by": "new"})
    monkeypatch.setattr(search, "CHANGES", {"": 2, "depth=1": 1})
    results.write(search.TABLE, [{"change": "", "seed": 0, "by": "old"}])
    search.main([])
    assert [tuple(row.values()) for row in results.read(search.TABLE)] == [
        ("", "0", "old"), ("", "1", "new"), ("depth=1", "0", "new"),
    ]  # fmt: skip


def test_the_cases_of_the_growth():
    cases = list(growth.cases())
    assert len(cases) == len(set(cases)) == 7 + 3 + 4 + 2
    for dataset, (images, filters) in {"mnist": (54_000, 32), "cifar": (10_000, 32)}.items():
        own = [case[1:] for case in cases if case[0] == dataset]
        assert all(n == images or width == filters for n, width in own)
        assert (images, filters) in own
    assert ("mnist", 540_000, 32) in cases
    assert ("cifar", 10_000, 64) in cases


def test_growth_times_the_second_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    device = {"kind": "cpu", "name": "a", "instructions": "avx2", "threads": 2, "precision": "float32"}
    training = {"epoch_seconds": [9.5, 4.25], "peak_memory_bytes": 5 * 2**20 + 9, "device": device}
    copies, ran, written = Fake(None), [], Fake(None)

    def train(arguments, cwd, check):
        ran.append((arguments[1:], check))
        write_json(cwd / "runs/train_cifar.json", training)

    monkeypatch.setattr(growth, "make_copy", copies)
    monkeypatch.setattr(growth, "write_data", written)
    monkeypatch.setattr(growth.subprocess, "run", train)
    row = growth.measure("cifar", 1000, 16)
    assert ran == [(["-m", "stages.train_cifar"], True)]
    assert written.calls[0][1:] == (Path("data/prepared/cifar"), 1000)
    assert copies.calls[0][2] == {
        "cifar.epochs": 2, "cifar.filters": 16, "cifar.batch_size": 250, "cifar.first_size": 1.0,
    }  # fmt: skip
    assert (row["seconds"], row["peak_memory_mib"], row["hardware"]) == (4.25, 5, "a, avx2, 2 threads, float32")


def test_a_setting_beside_its_peers(monkeypatch):
    row = {"test_accuracy": 0.9, "test_accuracy_tta": 0.95, "tflop": 3.0, "peak_memory_mib": 7, "seconds": 1}
    watched = {"first_step_seconds": 4.0, "epochs": [{"epoch": 1, "test_accuracy": 0.5},
                                                     {"epoch": 2, "test_accuracy": 0.8}]}  # fmt: skip
    monkeypatch.setattr(bench.seeds, "measure", lambda setting, seed: (row, watched))
    measured = bench.train("cifar", 1, "python", "float32")
    assert measured == {
        "test_accuracy_tta": 0.95, "tflop": 3.0, "peak_memory_mib": 7, "first_step_seconds": 4.0,
        "epochs": [{"epoch": 1, "test_accuracy": 0.5}, {"epoch": 2, "test_accuracy": 0.9}],
    }  # fmt: skip
    asked = Fake("keras", "torch")
    monkeypatch.setattr(command, "ask", asked)
    sides = ("Keras' example", "airbench, PyTorch")
    assert [bench.train(side, 3, "other", "mixed_bfloat16") for side in sides] == ["keras", "torch"]
    assert asked.calls == [
        (sys.executable, "keras_mnist", "example", "3"),
        ("other", "pytorch_cifar", "train", "64", "8", "3", "mixed_bfloat16"),
    ]


def test_bench_adds_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench.backend, "configure_device", lambda *asked: Device("cpu", "a processor", 2))
    monkeypatch.setattr(bench, "matrix_peak", lambda precision: 2.5e11)
    monkeypatch.setattr(bench, "SEEDS", {"Keras' example": (2, 1), "airbench, PyTorch": (1, 0)})
    trained = []

    def train(side, seed, python, precision):
        trained.append((side, seed))
        epochs = [{"epoch": 1, "seconds": 1.5}, {"epoch": 2, "seconds": 2.5}]
        return {"tflop": 1.23456789, "first_step_seconds": 3.0, "peak_memory_mib": 9, "epochs": epochs}

    monkeypatch.setattr(bench, "train", train)
    bench.main(["python", "--quick"])
    assert trained == [("Keras' example", 0)]
    bench.main(["python"])
    assert trained == [("Keras' example", 0), ("airbench, PyTorch", 0), ("Keras' example", 1)]
    rows = results.read(bench.TABLE)
    assert [(row["side"], row["seed"], row["epoch"], row["seconds"], row["data_set"]) for row in rows] == [
        ("Keras' example", "0", "1", "1.5", "mnist"), ("Keras' example", "0", "2", "2.5", "mnist"),
        ("airbench, PyTorch", "0", "1", "1.5", "cifar"), ("airbench, PyTorch", "0", "2", "2.5", "cifar"),
        ("Keras' example", "1", "1", "1.5", "mnist"), ("Keras' example", "1", "2", "2.5", "mnist"),
    ]  # fmt: skip
    assert [rows[0][key] for key in ("tflop", "matrix_peak_gflops", "test_accuracy_tta")] == ["1.23457", "250", ""]


def test_a_peer_keeps_its_memory_and_the_variables_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("MINE", "kept")
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "[\\"$*\\", \\"$MALLOC_MMAP_MAX_\\", \\"$MINE\\"]"\n')
    python.chmod(0o755)
    assert command.ask(str(python), "step", 3) == ["-m benchmarks step 3", "0", "kept"]


def test_what_a_peer_has_printed_before_it_failed_does_not_count(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 1\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        command.ask(str(python), "step")


def test_the_sides_of_a_sweep_by_hand(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the sweep extra is not installed")
    from benchmarks.run import sweep

    monkeypatch.chdir(tmp_path)
    waits_of: list[int] = []
    monkeypatch.setattr(sweep, "make_repository", lambda folder, wait: waits_of.append(wait))
    monkeypatch.setattr(sweep, "one_by_one", lambda folder, n: 100.0 + n)
    monkeypatch.setattr(sweep, "sweep", lambda folder, nodes, n: (10.0 * nodes, 7 << 20))
    sweep.main([])
    rows = [
        [row[key] for key in ("side", "trials", "waited", "seconds", "driver_mib")] for row in results.read(sweep.TABLE)
    ]
    assert rows[0] == ["dvc exp run", "16", "5", "116", "0"]
    assert rows[2] == ["sweep, 2 nodes of one core", "16", "5", "20", "7"]
    assert rows[-1] == ["sweep of 1,000, 2 nodes of one core", "1000", "0", "20", "7"]
    sweep.main([])
    assert waits_of == [5, 5, 5, 0, 0, 0]  # the table has them


def test_both_sides_end_to_end(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(end_to_end.backend, "configure_device", lambda *asked: Device("cpu", "a processor", 2))
    monkeypatch.setattr(end_to_end, "copy_with_data", copies := Fake(nullcontext(copy := tmp_path / "copy")))
    trained: list[Any] = []

    def train(accuracy, *asked):
        trained.append(asked)
        last = {"process_seconds": 10.0 + len(trained), "seconds": 1.5, "cpu_seconds": 20, "test_accuracy": accuracy}
        first = {"process_seconds": 3.0, "seconds": 1.0, "cpu_seconds": 7.0, "test_accuracy": 0.5}
        return {"epochs": [first, last]}

    monkeypatch.setattr(end_to_end, "train", partial(train, 0.99))
    monkeypatch.setattr(command, "ask", partial(train, 0.98))
    end_to_end.main(["other", "2"])
    [(changes,)] = copies.calls
    assert changes["mnist.epochs"] == 1
    peer = ("other", "pytorch_mnist", "recipe")
    assert trained == [(copy, 0), (*peer, 0), (copy, 0), (*peer, 0), (copy, 1), (*peer, 1)]
    rows = results.read(end_to_end.TABLE)
    columns = ("side", "seed", "seconds", "training_seconds", "cpu_seconds", "test_accuracy")
    assert [[row[key] for key in columns] for row in rows] == [
        ["mnist-fast", "0", "13", "1.5", "20", "0.99"], ["one-epoch recipe, PyTorch", "0", "14", "1.5", "20", "0.98"],
        ["mnist-fast", "1", "15", "1.5", "20", "0.99"], ["one-epoch recipe, PyTorch", "1", "16", "1.5", "20", "0.98"],
    ]  # fmt: skip
    copies.values.append(nullcontext(copy))
    monkeypatch.setattr(end_to_end.backend, "configure_device", lambda *asked: Device("cpu", "another", 2))
    end_to_end.main(["other", "1"])
    both = results.read(end_to_end.TABLE)
    assert (both[:4], [row["hardware"] for row in both[4:]]) == (rows, 2 * ["another, 2 threads"])


def test_a_cache_without_the_images_is_a_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet")
    call(tmp_path, "dvc", "init", "--quiet")
    out = {"md5": "0123456789abcdef0123456789abcdef", "hash": "md5", "size": 1}
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    (tmp_path / "dvc.yaml").write_text(
        json.dumps({"stages": {name: {"cmd": name, "outs": [f"{name}.npy"]} for name in ("download", "prepare")}})
    )
    locked = {name: {"cmd": name, "outs": [out | {"path": f"{name}.npy"}]} for name in ("download", "prepare")}
    (tmp_path / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": locked}))
    said = "cache lacks the images of dvc.lock; run `dvc repro prepare`"
    with pytest.raises(UserError, match=said), copies.copy_with_data({"seed": 2}):
        pytest.fail("a copy without images")


def test_a_seed_is_trained_as_watched_in_the_copy(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("seed: 0\nlr: 0.5\n")

    def run(arguments, cwd, **named):
        assert arguments[1:] == ["-m", "benchmarks", "watched", "mnist"]
        assert params.load(cwd / "params.yaml") == {"seed": 3, "lr": 0.5}
        write_json(cwd / results.WATCHED, {"epochs": []})

    monkeypatch.setattr(end_to_end.subprocess, "run", run)
    assert end_to_end.train(tmp_path, 3) == {"epochs": []}


def test_the_seconds_since_the_process_started():
    """Beside those that its parent measures; starting Python takes a few hundredths."""
    code = "import time; from benchmarks.run import command; time.sleep(0.3); print(command.since_start())"
    start = time.perf_counter()
    seconds = float(call(ROOT, "python", "-c", code))
    assert 0.3 <= seconds <= time.perf_counter() - start + 0.02


def test_airbench_alone_trains_the_seeds_that_are_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(airbench.backend, "configure_device", lambda *asked: Device("cpu", "a processor", 2))
    trained = []

    def train(side, seed, python, precision):
        trained.append((side, seed, python, precision))
        epochs = [{"epoch": 1, "test_accuracy": 0.5}, {"epoch": 2, "test_accuracy": 0.93}]
        return {"test_accuracy_tta": 0.94, "tflop": 2.0, "peak_memory_mib": 9, "epochs": epochs}

    monkeypatch.setattr(bench, "train", train)
    airbench.main(["other", "1"])
    airbench.main(["other", "2"])
    assert trained == [(airbench.SIDE, 0, "other", "float32"), (airbench.SIDE, 1, "other", "float32")]
    rows = results.read(airbench.TABLE)
    assert [(row["seed"], row["epochs"], row["test_accuracy"], row["test_accuracy_tta"]) for row in rows] == [
        ("0", "2", "0.93", "0.94"), ("1", "2", "0.93", "0.94"),
    ]  # fmt: skip
    assert {row["hardware"] for row in rows} == {"a processor, 2 threads"}


def test_what_does_not_count_is_left_out(tmp_path, monkeypatch):
    """The round of mnist-fast before the others; the name of the change and the seed stay with their numbers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tried, "configure_device", lambda *arguments: Device("cpu", "a processor", 2))
    monkeypatch.setattr(tried, "CHANGES", {"none": {}, "XLA": {"jit_compile": True}})
    calls = []

    def train(seed, values, device):
        calls.append((seed, values))
        return {"seconds": float(len(calls)), "val_accuracy": 0.9}

    monkeypatch.setattr(tried, "train", train)
    tried.main([])
    assert calls[:3] == [(0, {}), (0, {"jit_compile": True}), (0, {})]
    assert [(row["change"], row["seed"], row["seconds"]) for row in results.read(tried.TABLE)] == [
        ("none", "0", "3"), ("XLA", "0", "4"), ("none", "1", "5"), ("XLA", "1", "6"), ("none", "2", "7"),
        ("XLA", "2", "8"),
    ]  # fmt: skip


def test_the_insights_pixels_and_loss():
    """Two slips of the exercise: pixels that are not scaled, and a loss that expects logits."""
    chosen = {known.name: known for known in insights.VARIANTS}
    right = [name for name, variant in chosen.items() if variant.scale == 1 / 255 and not variant.from_logits]
    assert [name for name in chosen if name not in right] == [
        "as written: raw pixels, from_logits=True", "raw pixels, from_logits=False",
    ]  # fmt: skip
    assert [(variant.scale, variant.from_logits, variant.epochs) for variant in chosen.values()][-2:] == [
        (1.0, True, 20), (1.0, False, 10),
    ]  # fmt: skip
    for variant in (chosen["two convolutions"], chosen["raw pixels, from_logits=False"]):
        model = insights.build(variant, (28, 28, 1))
        (scaled,) = [layer for layer in model.layers if isinstance(layer, layers.Rescaling)]
        assert scaled.scale == variant.scale
    assert insights._order({"variant": "two convolutions", "seed": "10", "epoch": "9"}) == (2, 10, 9)


def test_the_insights_judge_on_both_splits(tmp_path, monkeypatch):
    """What is always class 3, also of the validation images, and 4 of the test images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reprocnn.backend.configure_device", lambda kind, threads: None)
    x = np.random.default_rng(0).integers(0, 256, (1500, 28, 28, 1), dtype=np.uint8)
    write_images(insights.DATA, train=x, val=x[:20], label=3)
    write_images(insights.DATA, test=x[:12], label=4)
    variant = insights.Variant("a name", second_convolution=False, batch_norm=False, epochs=2)
    assert insights.train(variant, 6) == [
        {"variant": "a name", "seed": 6, "epoch": epoch, "val_accuracy": 1.0, "test_accuracy": 0.0} for epoch in (1, 2)
    ]


def test_the_accuracies_of_an_insight_are_to_the_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reprocnn.backend.configure_device", lambda kind, threads: None)
    write_images(insights.DATA, **{part: np.zeros((3, 28, 28, 1), np.uint8) for part in ("train", "val", "test")})
    model = Recorder()
    monkeypatch.setattr(model, "evaluate", lambda data, verbose: (1.0, 1 / 3))
    monkeypatch.setattr(insights, "build", lambda variant, shape: model)
    [row] = insights.train(insights.Variant("a name", epochs=1), 0)
    assert (row["val_accuracy"], row["test_accuracy"]) == (0.333333, 0.333333)


def test_the_seed_of_an_insight_orders_its_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("reprocnn.backend.configure_device", lambda kind, threads: None)
    x = np.broadcast_to(np.arange(50, dtype=np.uint8)[:, None, None, None], (50, 28, 28, 1))
    write_images(insights.DATA, train=x, val=x, test=x)
    orders = []
    monkeypatch.setattr("reprocnn.images.batches.batches", lambda arrays, size: orders.append(arrays[0][:, 0, 0, 0]))
    monkeypatch.setattr(insights, "build", lambda variant, shape: Recorder())
    for seed in (1, 2):
        insights.train(insights.Variant("a name", epochs=1), seed)
    first, _, _, second, *_ = orders  # each before validation and test images
    assert sorted(first) == sorted(second) == list(range(50))
    assert first.tolist() != second.tolist()


def test_the_peers_in_keras_are_judged_on_the_test_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(keras_mnist.DATA, **{part: np.zeros((n, 28, 28, 1), np.uint8) for part, n in COUNTS.items()})
    monkeypatch.setattr(keras_mnist, "configure_device", lambda *_: None)
    monkeypatch.setattr(keras_mnist, "training_flops", lambda model: 1)
    monkeypatch.setattr(keras_mnist, "batches", lambda arrays, size: len(arrays[0]))
    model = Recorder()
    monkeypatch.setattr(keras_mnist, "example", lambda: model)
    keras_mnist.train("example", 0)
    assert (set(model.trained), set(model.judged)) == ({COUNTS["train"] + COUNTS["val"]}, {COUNTS["test"]})


def test_a_flaw_is_judged_on_the_validation_images_with_weights_of_its_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(flaws.DATA, **{part: np.zeros((n, 32, 32, 3), np.uint8) for part, n in COUNTS.items()})
    (flaws.DATA / "normalization.json").write_text('{"scale": [0.1, 0.1, 0.1], "offset": [0, 0, 0]}')
    starts = []
    monkeypatch.setattr(flaws, "_train", lambda model, *_: starts.append(model.get_weights()) or (0.5, 1.0))
    design = flaws.Design(initializer="glorot_uniform", filters=(2, 2, 2, 2, 2))
    rows = [flaws.measure(design, seed, Device("cpu", "a processor", 2)) for seed in (3, 3, 4)]
    assert {row["val_images"] for row in rows} == {COUNTS["val"]}
    one, again, other = starts
    assert all(map(np.array_equal, one, again))
    assert not all(map(np.array_equal, one, other))


def test_each_fix_of_a_flaw_keeps_those_before_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flaws, "configure_device", lambda *_, **__: None)
    designs = []
    monkeypatch.setattr(flaws, "measure", lambda design, seed, device: designs.append((seed, design)) or {})
    flaws.main([])
    assert [seed for seed, _ in designs] == sorted([0, 1, 2] * 8)
    assert designs[8][1] == designs[0][1] == flaws.Design()
    assert designs[2][1] == flaws.Design(initializer="glorot_uniform", filters=(16, 16, 4, 8, 8))
    assert designs[7][1] == flaws.Design("glorot_uniform", (16, 24, 32, 48, 64), 3, "relu", False, "softmax")
    flaws.main([])
    assert len(designs) == 24  # the table has them


def test_the_best_of_a_search_is_of_last_epochs(tmp_path, monkeypatch):
    columns = "epoch,val_accuracy,lr"
    histories = {"a": f"{columns}\n1,0.9,1\n2,0.5,1", "b": f"{columns}\n1,0.1,1\n2,0.6,1"}

    def git(command, argument, *_, cwd):
        return "a b" if command == "for-each-ref" else histories[argument.partition(":")[0]]

    monkeypatch.setattr(pruning, "git", git)
    assert pruning.best(tmp_path) == 0.6


def test_the_first_epoch_of_the_waits_does_not_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(waits, "EPOCHS", 2)
    monkeypatch.setattr(waits, "configure_device", lambda *_: Device("cpu", "a processor", 2))
    write_images(waits.DATA, train=np.zeros((20, 28, 28, 1), np.uint8))
    (waits.DATA / "normalization.json").write_text('{"scale": [1], "offset": [0]}')
    monkeypatch.setattr(waits, "build", lambda *_, **__: Recorder())
    waits.main([])
    assert [(row["fed"], row["epoch"]) for row in results.read(waits.TABLE)] == [
        (fed, epoch) for epoch in "12" for fed in ("arrays", "batches.py")
    ]


def test_watched_epochs_by_hand(monkeypatch):
    """The model predicts the class that the first pixel names; three of four are right."""
    labels = np.eye(10, dtype=np.float32)[[3, 1, 2, 9]]
    x = np.array([3, 1, 2, 5], np.uint8).reshape(4, 1, 1, 1)
    monkeypatch.setattr(watched.tta, "predict", lambda model, x: np.eye(10)[x[:, 0, 0, 0]])
    watch = watched.Watch(arrays.Split(x, labels), batch_size=50)
    watch.set_model(SimpleNamespace(optimizer=SimpleNamespace(iterations=7)))
    watch.on_train_batch_end(0)
    first = watch.first_step_seconds
    watch.on_train_batch_end(1)
    assert first is not None
    assert watch.first_step_seconds == first > 0
    monkeypatch.setattr(watched.command, "since_start", lambda: 12.5)
    clock = iter([20.5, 23.0, 30.0, 31.0, 40.0, 42.0])  # before and after the images are predicted
    monkeypatch.setattr(watched.time, "process_time", lambda: next(clock))
    for epoch in range(3):
        watch.on_epoch_end(epoch)
    same = {"process_seconds": 12.5, "images": 350, "test_accuracy": 0.75}
    assert watch.epochs == [
        {"epoch": epoch, **same, "cpu_seconds": seconds} for epoch, seconds in ((1, 20.5), (2, 27.5), (3, 36.5))
    ]


@pytest.mark.nightly
def test_watching_changes_no_bit(project):
    """A watched training gives the weights of the stage; the accuracies are of its test images."""
    rng = np.random.default_rng(0)
    data = project / "data/prepared/mnist"
    for part, n in {"train": 130, "val": 40, "test": 30}.items():
        (data / part).mkdir(parents=True)
        np.save(data / part / "x.npy", rng.integers(0, 256, size=(n, 28, 28, 1), dtype=np.uint8))
        np.save(data / part / "y.npy", np.eye(10, dtype=np.float32)[np.arange(n) % 10])
    (data / "normalization.json").write_text('{"scale": [0.004], "offset": [-0.5]}')
    small = {"epochs": 2, "filters": 4, "batch_size": 20}
    text = Path("params.yaml").read_text()
    for key, value in small.items():
        text = re.sub(rf"^  {key}: \S+", f"  {key}: {value}", text, count=1, flags=re.MULTILINE)
    Path("params.yaml").write_text(text)
    Path("dvc.yaml").write_text("stages: {train_mnist: {deps: [], params: [seed]}}")
    weights = []
    for module in (["stages.train_mnist"], ["benchmarks", "watched", "mnist"]):
        call(project, "python", "-m", *module, PYTHONPATH=str(ROOT))
        training = json.loads(Path("runs/train_mnist.json").read_text())
        weights.append((training["weights"], Path("models/mnist/model.weights.h5").read_bytes()))
    assert weights[0] == weights[1]
    watched = json.loads((project / results.WATCHED).read_text())
    assert watched["first_step_seconds"] > 0
    assert [(epoch["epoch"], epoch["images"]) for epoch in watched["epochs"]] == [(1, 120), (2, 240)]
    assert [epoch["seconds"] for epoch in watched["epochs"]] == pytest.approx(np.cumsum(training["epoch_seconds"]))
    assert watched["epochs"][1]["seconds"] == pytest.approx(training["seconds"])
    assert all(
        30 * epoch["test_accuracy"] == pytest.approx(round(30 * epoch["test_accuracy"])) for epoch in watched["epochs"]
    )


def test_growth_writes_as_many_images_as_asked(tmp_path):
    for part, n in {"train": 4, "val": 3}.items():
        (tmp_path / "source" / part).mkdir(parents=True)
        np.save(tmp_path / "source" / part / "x.npy", np.full((n, 2, 2, 1), n, np.uint8))
        np.save(tmp_path / "source" / part / "y.npy", np.full((n, 10), n, np.float32))
    (tmp_path / "source/normalization.json").write_text('{"scale": [1], "offset": [0]}')
    growth.write_data(tmp_path / "target", tmp_path / "source", 9)
    train, val = (arrays.load(tmp_path / "target" / part) for part in ("train", "val"))
    assert train.x[:, 0, 0, 0].tolist() == train.y[:, 0].tolist() == [4, 4, 4, 4, 3, 3, 3, 4, 4]
    assert val.x.shape == (3, 2, 2, 1)
    assert arrays.load_normalization(tmp_path / "target") == ([1], [0])


def test_overhead_imports_what_a_stage_imports(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert {path.stem for path in Path("stages").glob("*.py")} == set(overhead.BARE)
    assert "from reprocnn.training.loop import train" in overhead.imports("train_mnist")
