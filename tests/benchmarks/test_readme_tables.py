"""The README's tables against what was measured."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.run import results, seeds, tables
from benchmarks.run.settings import SETTINGS
from reprocnn.core.errors import UserError
from reprocnn.core.files import write_json
from tests.conftest import ROOT, call


def test_the_tables_of_the_readme_are_compared(tmp_path):
    for name in ("README.md", "docs", "metrics", "params.yaml", "dvc.lock", "evaluation", "benchmarks"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    check = ["python", "-m", "benchmarks", "tables", "--check"]
    call(tmp_path, "python", "-m", "benchmarks", "tables", PYTHONPATH=str(ROOT))
    assert "the tables of README.md and docs/guide.md are those of the results" in call(
        tmp_path, *check, PYTHONPATH=str(ROOT)
    )
    metrics = json.loads((tmp_path / "metrics/mnist.json").read_text())
    metrics["mnist"]["test"]["accuracy"] = 0.1234
    (tmp_path / "metrics/mnist.json").write_text(json.dumps(metrics))
    output = call(tmp_path, *check, check=False, PYTHONPATH=str(ROOT))
    assert "error: README.md and docs/guide.md: not the tables of the results" in output
    assert "12.34%" in output
    assert "make readme" in output


def test_rows_of_another_training_code_are_marked(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    row = next(row for row in results.read(tables.SEEDS) if row["setting"] == "mnist")
    monkeypatch.setattr(tables, "SEEDS", tmp_path / "seeds.csv")
    current = tables.training_digest(tables.LOCK, "mnist")
    assert current == tables.current_digest("mnist")
    results.write(tables.SEEDS, [row | {"training": current}])
    assert "older code" not in tables.over_seeds()
    results.write(tables.SEEDS, [row | {"training": "0123456789ab"}])
    assert "mnist (older code)" in tables.over_seeds()


def test_the_digest_is_of_code_data_and_params(tmp_path):
    def lock(**changes):
        values = {"seed": 0, "threads": 0, "lr": 0.01, "precision": "auto", "mnist": {"filters": 32, "lr_factor": 1.0}}
        deps = [{"path": "data/prepared/mnist/train", "md5": "1.dir"}, {"path": "reprocnn/training", "md5": "2.dir"}]
        stage = {"cmd": "python", "deps": deps, "params": {"params.yaml": values}} | changes.pop("stage", {})
        stage["params"]["params.yaml"] |= changes
        write_json(tmp_path / "dvc.lock", {"stages": {"train_mnist": stage}})
        return tmp_path / "dvc.lock"

    digest = tables.training_digest(lock(), "mnist")
    assert tables.training_digest(lock(seed=3, threads=1, stage={"cmd": "another"}), "mnist") == digest
    assert tables.training_digest(lock(lr=0.02), "mnist") != digest
    assert (
        tables.training_digest(lock(stage={"deps": [{"path": "reprocnn/training", "md5": "3.dir"}]}), "mnist") != digest
    )
    wide = tables.training_digest(lock(mnist={"filters": 64, "lr_factor": 1.0}), "mnist")
    assert wide != digest
    # What a training of a setting gets is what is computed for it from the lock of the default.
    assert tables.training_digest(lock(), "mnist", {"mnist.filters": 64}) == wide
    changed = tables.training_digest(lock(precision="float32", mnist={"filters": 32, "lr_factor": 2.0}), "mnist")
    assert tables.training_digest(lock(), "mnist", {"precision": "float32", "mnist.lr_factor": 2.0}) == changed


def test_each_setting_has_a_digest_of_its_own(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert len({tables.current_digest(setting) for setting in SETTINGS}) == len(SETTINGS)


def test_rows_are_carried_over_only_for_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = {"weights": "a" * 64}
    write_json(Path("evaluation/mnist.json"), weights)
    monkeypatch.setattr(seeds, "git", lambda *arguments: json.dumps(weights))
    monkeypatch.setattr(seeds, "current_digest", lambda setting: f"new of {setting}")
    rows = [
        {"setting": setting, "seed": str(seed), "training": training}
        for setting, seed, training in (
            ("mnist", 0, "old"), ("mnist", 1, "older"), ("mnist-fast", 0, "old"), ("mnist", 2, "old"),
        )
    ]  # fmt: skip
    results.write(tables.SEEDS, rows)
    seeds.main(["mnist", "--carry-over", "old", "--before", "HEAD~1"])
    assert [row["training"] for row in results.read(tables.SEEDS)] == ["new of mnist", "older", "old", "new of mnist"]
    with pytest.raises(UserError, match="found no row of mnist with old"):
        seeds.main(["mnist", "--carry-over", "old"])
    before = tables.SEEDS.read_bytes()
    write_json(Path("evaluation/mnist.json"), {"weights": "b" * 64})
    with pytest.raises(UserError, match="the weights are bbbbbbbbbbbb, those of HEAD aaaaaaaaaaaa"):
        seeds.main(["mnist", "--carry-over", "older"])
    assert tables.SEEDS.read_bytes() == before


def test_pairs_of_seeds_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json(Path("metrics/mnist.json"), {"mnist": {"test": {"n": 100}}})
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


def test_each_seed_of_the_table_has_its_mistakes():
    """The accuracies of seeds.csv, counted again from the list of wrong images."""
    mistakes = pd.read_csv(ROOT / tables.MISTAKES)
    for row in pd.read_csv(ROOT / tables.SEEDS).to_dict("records"):
        wrong = mistakes[(mistakes["setting"] == row["setting"]) & (mistakes["seed"] == row["seed"])]["index"]
        assert len(wrong) == wrong.nunique() == row["errors"]
        assert row["test_accuracy"] == pytest.approx(1 - row["errors"] / 10_000)
