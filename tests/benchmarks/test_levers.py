"""Single changes to the CIFAR-10 recipe: what each one changes, and what is measured of it."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from benchmarks.run import levers, results, tables
from reprocnn.backend import layers
from reprocnn.core.errors import UserError
from reprocnn.core.files import write_json
from tests.support.commands import ROOT, call

# 3 x 3 kernels, batch norm's offset and two moving statistics after each, the whitening with its bias, and the head.
SIZES = {
    "none": (24, 32, 32, 128, 128, 128, 128),
    "widths 1 1 2 4 4 4, filters=40 epochs=7": (24, 40, 40, 80, 160, 160, 160),
    "widths 1 1 2 4 8 8, epochs=7": (24, 32, 32, 64, 128, 256, 256),
    "pooled earlier, filters=36": (24, 36, 36, 144, 144, 144, 144),
}


def parameters(sizes: tuple[int, ...]) -> int:
    pairs = itertools.pairwise(sizes)
    return 13 * 24 + sum(9 * before * after + 3 * after for before, after in pairs) + 10 * sizes[-1]


@pytest.fixture
def trained(tmp_path, monkeypatch) -> list[tuple[str, int]]:
    """The changes that were trained, in a working folder without rows, by a stand-in for the training."""
    calls: list[tuple[str, int]] = []

    def train(lever, seed):
        calls.append((next(name for name, known in levers.LEVERS.items() if known is lever), seed))
        return {"val_accuracy": 0.9, "val_accuracy_tta": 0.91, "tflop": 39.5, "parameters": 10}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(levers, "train", train)
    monkeypatch.setattr(levers, "current_digest", lambda setting: f"now of {setting}")
    monkeypatch.setattr(levers, "LEVERS", {name: levers.Lever({"epochs": n}) for n, name in enumerate("ab")})
    return calls


@pytest.mark.parametrize("change", [change for change, lever in levers.LEVERS.items() if lever.code])
def test_every_change_finds_its_text(change):
    for name, old, _ in levers.LEVERS[change].code:
        assert (ROOT / name).read_text().count(old) == 1


@pytest.mark.parametrize("change", SIZES)
def test_the_changed_networks(change):
    lever, sizes = levers.LEVERS[change], SIZES[change]
    code = (ROOT / levers.BUILD).read_text()
    for name, old, new in lever.code:
        code = code.replace(old, new) if name == levers.BUILD else code
    changed = ModuleType("changed")
    exec(code, vars(changed))
    model = changed.build(
        "cifar_cnn", (32, 32, 3), 10, layers.Rescaling(1.0, name="normalization"),
        filters=lever.params.get("filters", 32), depth=2, kernel_size=3, dropout=0.0,
    )  # fmt: skip
    after = (1, 2, 5) if "pooled" in change else (1, 3, 5)  # which convolutions are pooled
    pooled = [layer.output.shape[2:] for layer in model.layers if isinstance(layer, layers.MaxPooling2D)]
    assert pooled == [(positions, sizes[index]) for positions, index in zip((15, 7, 3), after, strict=True)]
    assert model.count_params() == parameters(sizes)


def test_a_change_is_made_in_a_copy(tmp_path, monkeypatch):
    copies: dict[Path, dict[str, object]] = {}
    prepared: list[tuple[object, ...]] = []

    @contextmanager
    def prepare(changes: dict[str, object]) -> Iterator[Path]:
        folder = tmp_path / str(len(copies))
        (folder / "reprocnn").mkdir(parents=True)
        (folder / "reprocnn/x.py").write_text("a = 1\nb = 2\n")
        copies[folder] = changes
        yield folder

    def run(arguments: list[str], cwd: Path, check: bool) -> None:
        assert (cwd / "reprocnn/x.py").read_text() == "a = 3\nb = 2\n"
        assert prepared == [("repro", "prepare", cwd)]  # which normalizes as the changed params say
        assert arguments[1:] == ["-m", "benchmarks", "levers", "--here"]
        write_json(cwd / levers.MEASURED, {"val_accuracy": 0.9})

    monkeypatch.setattr(levers, "copy_with_data", prepare)
    monkeypatch.setattr(levers, "dvc", lambda *arguments, cwd: prepared.append((*arguments, cwd)))
    monkeypatch.setattr(levers.subprocess, "run", run)
    lever = levers.Lever({"epochs": 7, "lr_factor": 2.0}, (("reprocnn/x.py", "a = 1", "a = 3"),))
    assert levers.train(lever, 5) == {"val_accuracy": 0.9}
    assert list(copies.values()) == [{"seed": 5, "cifar.filters": 32, "cifar.epochs": 7, "cifar.lr_factor": 2.0}]
    with pytest.raises(UserError, match=r"reprocnn/x\.py: expected ' = ' once, found it 2 times"):
        levers.train(levers.Lever({}, (("reprocnn/x.py", " = ", "="),)), 0)


def test_what_is_missing_is_trained(trained):
    levers.main([])
    assert trained == [("a", 0), ("b", 0)]
    levers.main(["2"])
    assert trained[2:] == [("a", 1), ("b", 1)]
    rows = results.read(levers.TABLE)
    assert [(row["change"], row["seed"]) for row in rows] == [("a", "0"), ("a", "1"), ("b", "0"), ("b", "1")]
    assert {row["training"] for row in rows} == {"now of cifar"}


def test_rows_of_other_code_are_measured_again(trained, monkeypatch):
    levers.main([])
    monkeypatch.setattr(levers, "current_digest", lambda setting: "later")
    levers.main([])
    assert trained == 2 * [("a", 0), ("b", 0)]
    assert [row["training"] for row in results.read(levers.TABLE)] == ["later", "later"]


def test_rows_of_a_change_that_is_gone_stay(trained, monkeypatch):
    levers.main([])
    monkeypatch.setattr(levers, "LEVERS", {"c": levers.Lever({}), "a": levers.LEVERS["a"]})
    levers.main([])
    assert [row["change"] for row in results.read(levers.TABLE)] == ["c", "a", "b"]


def test_the_table_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tables, "current_digest", lambda setting: "now")
    levers.TABLE.parent.mkdir(parents=True)
    columns = ["change", "seed", "val_accuracy", "val_accuracy_tta", "tflop", "parameters", "training"]
    rows = [
        ("none", 0, 0.90, 0.91, 39.52, 498_656, "now"), ("none", 1, 0.92, 0.91, 39.52, 498_656, "now"),
        ("wider", 0, 0.91, 0.92, 61.0, 9, "then"),
    ]  # fmt: skip
    pd.DataFrame(rows, columns=columns).to_csv(levers.TABLE, index=False)
    none, wider = tables.levers().to_numpy().tolist()
    assert none == ["none", 2, "39.5", "91.00% ± 1.41", "91.00% ± 0.00"]
    assert wider == ["wider (outdated)", 1, "61.0", "91.00%", "92.00%"]


@pytest.mark.nightly
def test_a_change_is_trained_and_judged_on_the_validation_images(copy):
    script = """
from benchmarks.run import levers
levers.LEVERS = {"small": levers.Lever({"filters": 4, "epochs": 1, "batch_size": 50})}
levers.main([])
"""
    call(copy, "python", "-c", script)
    (row,) = [row for row in results.read(copy / levers.TABLE) if row["change"] == "small"]
    assert int(row["parameters"]) == parameters((24, 4, 4, 16, 16, 16, 16))
    assert 0 < float(row["val_accuracy"]) < 1
    assert 0 < float(row["val_accuracy_tta"]) < 1
