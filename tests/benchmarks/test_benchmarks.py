"""What the benchmarks measure with."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from benchmarks import __main__ as command_line
from benchmarks.run import figures, growth, insights, overhead, results, settings
from reprocnn.backend import layers
from reprocnn.images import arrays
from reprocnn.report.figures import STYLE, save
from tests.conftest import ROOT, call


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
    output = call(copy, "python", "-m", "benchmarks", "seeds", "mnist-fast", "1")
    seeds = pd.read_csv(copy / "benchmarks/results/seeds.csv").query("setting == 'mnist-fast' and seed == 0")
    mistakes = pd.read_csv(copy / "benchmarks/results/mistakes.csv").query("setting == 'mnist-fast' and seed == 0")
    row = seeds.iloc[0]
    assert len(seeds) == 1, output
    assert row["epochs"] == 1
    assert row["errors"] == len(mistakes) > 0
    n = json.loads((copy / "metrics/mnist.json").read_text())["mnist"]["test"]["n"]
    assert row["test_accuracy"] == pytest.approx(1 - len(mistakes) / n)
    table = call(copy, "python", "-c", "from benchmarks.run import tables; print(tables.over_seeds())")
    # The rows that are in git are of the real data.
    assert [line.split("|")[3].strip() for line in table.splitlines() if re.match(r"\| mnist-fast +\|", line)] == ["1"]
    assert "mnist (older code)" in table


@pytest.mark.slow
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


@pytest.mark.slow
def test_growth_trains_on_repeated_images(copy):
    measure = "from benchmarks.run import growth; print(growth.measure('mnist', {}, 4))"
    for images in (500, 3000):  # the sample has some 1,400
        output = call(copy, "python", "-c", measure.format(images))
        assert f"{images:,} images" in output
        assert "'peak_memory_mib'" in output


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
        "mnist": 0.01, "mnist-fast": 0.02, "cifar": 0.2, "cifar-quick": 0.2, "cifar-94": 0.2, "cifar-plain": 0.24,
    }  # fmt: skip


def test_every_script_is_listed_and_has_help():
    modules = {path.stem for path in (ROOT / "benchmarks/run").glob("*.py")}
    assert set(command_line.SCRIPTS) == modules - {"command", "copies", "results", "settings"}
    listed = call(ROOT, "python", "-m", "benchmarks", "--help")
    for name in command_line.SCRIPTS:
        assert re.search(rf"^  {name} +\S", listed, re.MULTILINE), name
    assert "usage: python -m benchmarks tables" in call(ROOT, "python", "-m", "benchmarks", "tables", "--help")
    assert "invalid choice: 'bensh'" in call(ROOT, "python", "-m", "benchmarks", "bensh", check=False)


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
        output = call(ROOT, "python", "-c", block, peer, "--help", check=False)
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


@pytest.mark.slow
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
    for command in (["stages.train_mnist"], ["benchmarks", "watched", "mnist"]):
        call(project, "python", "-m", *command, PYTHONPATH=str(ROOT))
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
