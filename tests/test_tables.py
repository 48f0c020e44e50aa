"""The README's tables against what was measured."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmarks import tables
from tests.conftest import ROOT, call


def test_the_tables_of_the_readme_are_compared(tmp_path):
    for name in ("README.md", "metrics.json", "params.yaml", "dvc.lock", "evaluation", "benchmarks"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    check = ["python", "-m", "benchmarks.tables", "--check"]
    call(tmp_path, "python", "-m", "benchmarks.tables", PYTHONPATH=str(ROOT))
    assert "the tables of README.md are those of the results" in call(tmp_path, *check, PYTHONPATH=str(ROOT))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    metrics["mnist"]["test"]["accuracy"] = 0.1234
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    output = call(tmp_path, *check, check=False, PYTHONPATH=str(ROOT))
    assert "error: README.md: its tables are not those of the results" in output
    assert "12.34%" in output
    assert "make readme" in output


def test_rows_of_another_training_code_are_marked(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    locked = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    rows = Path("benchmarks/seeds.csv").read_text().splitlines()
    seeds = tmp_path / "seeds.csv"
    monkeypatch.setattr(tables, "SEEDS", seeds)
    current = tables.training_digest(locked["train_mnist"])
    row = next(row for row in rows if row.startswith("mnist,"))
    fields = row.rpartition(",")[0]
    seeds.write_text(f"{rows[0]}\n{fields},{current}\n")
    assert "older code" not in tables.over_seeds()
    seeds.write_text(f"{rows[0]}\n{fields},0123456789ab\n")
    assert "mnist (older code)" in tables.over_seeds()


def test_pairs_of_seeds_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("metrics.json").write_text('{"mnist": {"test": {"n": 100}}}')
    # Seed 0 is wrong on 0 to 9, seed 1 on 5 to 19: it lost 10 and won 5. Seed 2 is not asked for.
    rows = [("mnist", 0, i) for i in range(10)] + [("mnist", 1, i) for i in range(5, 20)] + [("mnist", 2, 0)]
    rows += [("cifar", 0, i) for i in range(50)]
    Path("mistakes.csv").write_text("setting,seed,index\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
    monkeypatch.setattr(tables, "MISTAKES", Path("mistakes.csv"))
    drops, p, z = tables.compare_seeds("mnist", [0, 1])
    assert drops == [pytest.approx(0.05), pytest.approx(-0.05)]
    assert z == [pytest.approx(5 / 15**0.5), pytest.approx(-5 / 15**0.5)]
    assert p[0] == pytest.approx(4944 / 2**15)  # 10 or more of 15 by even chance: 3003 + 1365 + 455 + 105 + 15 + 1
    assert p[1] == pytest.approx(30827 / 2**15)  # 5 or more: all but 1 + 15 + 105 + 455 + 1365


def test_peers_by_hand(tmp_path, monkeypatch):
    rows = [("slow", 0, 1, 10, 0.97), ("slow", 0, 2, 20, 0.989), ("slow", 0, 3, 30, 0.994)]
    rows += [("slow", 1, 1, 12, 0.98), ("slow", 1, 2, 24, 0.993), ("slow", 1, 3, 36, 0.992)]
    rows += [("mnist-fast", seed, 1, seconds, 0.991) for seed, seconds in enumerate((3, 4, 100))]
    rows += [("never", 0, 1, 1, 0.98), ("its last epoch only", 0, 9, 90, 0.996)]
    table = pd.DataFrame(rows, columns=["side", "seed", "epoch", "seconds", "test_accuracy"])
    table.to_csv(tmp_path / "peers.csv", index=False)
    monkeypatch.setattr(tables, "PEERS", tmp_path / "peers.csv")
    slow, fast, never, last = ([cell.strip() for cell in row.split("|")] for row in tables.peers().splitlines()[2:])
    # The second epoch's mean is (0.989 + 0.993) / 2 = 99.1 %; its median time 22 s, that of mnist-fast 4 s.
    assert slow[1:8] == ["slow", "3", "99.30% ± 0.14", "2", "33.0", "22.0 s, epoch 2", "5.5"]
    assert fast[6:8] == ["4.0 s, epoch 1", "1.0"]
    assert never[6:8] == ["never", ""]
    assert [last[2], *last[6:8]] == ["9", "not measured", ""]


def test_waits_by_hand(tmp_path, monkeypatch):
    rows = [("arrays", 1, 5.0, 10.0), ("arrays", 2, 5.2, 5.3), ("arrays", 3, 6.0, 9.0), ("batches.py", 1, 5.1, 5.1)]
    pd.DataFrame(rows, columns=["fed", "epoch", "steps", "whole"]).to_csv(tmp_path / "waits.csv", index=False)
    monkeypatch.setattr(tables, "WAITS", tmp_path / "waits.csv")
    arrays, batches = ([cell.strip() for cell in row.split("|")[1:-1]] for row in tables.waits().splitlines()[2:])
    assert arrays == ["arrays", "3", "5.2 s", "9.0 s", "10.0 s"]
    assert batches == ["batches.py", "1", "5.1 s", "5.1 s", "5.1 s"]


def test_search_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("evaluation").mkdir()
    Path("evaluation/mnist.json").write_text('{"validation_images": 6000}')
    rows = [("", 0, 0.995, 0.02, 100), ("", 1, 0.996, 0.03, 120), ("depth=1", 1, 0.99, 0.04, 60)]
    columns = ["change", "seed", "val_accuracy", "val_loss", "seconds"]
    pd.DataFrame(rows, columns=columns).to_csv("search.csv", index=False)
    monkeypatch.setattr(tables, "SEARCH", Path("search.csv"))
    none, depth = ([cell.strip() for cell in row.split("|")[1:-1]] for row in tables.search().splitlines()[2:])
    assert none == ["none", "2", "27", "27", "0.0250", "0.0250", "1.00"]
    assert depth == ["`depth=1`", "1", "60", "24", "0.0400", "0.0300", "0.50"]


def test_grudges_by_hand(tmp_path, monkeypatch):
    rows = [(0, "as it is", 0, 0.1, 2.5, 1234), (1, "mended", 0, 0.5, 2.0, 99), (1, "mended", 1, 0.6, 1.0, 99)]
    columns = ["step", "mend", "seed", "val_accuracy", "val_loss", "parameters"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "grudges.csv", index=False)
    monkeypatch.setattr(tables, "GRUDGES", tmp_path / "grudges.csv")
    _, mended = ([cell.strip() for cell in row.split("|")[1:-1]] for row in tables.grudges().splitlines()[2:])
    assert mended == ["mended", "99", "55.0% ± 7.1", "1.50", "2"]


def test_the_chosen_epoch_by_hand():
    columns = ["seed", "epoch", "val_accuracy", "test_accuracy"]
    runs = pd.DataFrame([(0, 1, 0.9, 0.8), (0, 2, 0.7, 0.95), (1, 1, 0.5, 0.6), (1, 2, 0.5, 0.7)], columns=columns)
    assert tables.chosen(runs, "val_accuracy").tolist() == [0.8, 0.6]  # the earlier one of two equal
    assert tables.chosen(runs, "test_accuracy").tolist() == [0.95, 0.7]


def test_each_seed_of_the_table_has_its_mistakes():
    """The accuracies of seeds.csv, counted again from the list of wrong images."""
    seeds = pd.read_csv(ROOT / tables.SEEDS)
    mistakes = pd.read_csv(ROOT / tables.MISTAKES)
    for row in seeds.to_dict("records"):
        wrong = mistakes[(mistakes["setting"] == row["setting"]) & (mistakes["seed"] == row["seed"])]["index"]
        assert len(wrong) == wrong.nunique() == row["errors"]
        assert row["test_accuracy"] == pytest.approx(1 - row["errors"] / 10_000)
