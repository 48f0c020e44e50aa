"""Which unfinished training is resumed, which is ignored, and what stays on disk."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprocnn.backend import Device, keras, record
from reprocnn.core.errors import UserError
from reprocnn.core.files import sha256
from reprocnn.training import checkpoint, loop
from tests.support.commands import ROOT, call, column
from tests.support.training import ONE, replace_fit, run

PLACES = Path("runs/checkpoints")
CODE, DATA = Path("code/module.py"), Path("data/train/x.npy")


@pytest.fixture
def declared(project):
    """A stage that depends on code, data and a param."""
    for path in (CODE, DATA):
        path.parent.mkdir(parents=True)
        path.write_text("1")
    Path("dvc.yaml").write_text("stages: {train_mnist: {deps: [code, data/train], params: [seed, mnist]}}")


def folder(environment: Any = None) -> Path:
    return checkpoint.folder("train_mnist", environment or record(ONE)["device"])


def other_params() -> None:
    text = Path("params.yaml").read_text()
    assert "\nseed: 0" in text
    Path("params.yaml").write_text(text.replace("\nseed: 0", "\nseed: 1"))


def other_params_in_a_section() -> None:
    text = Path("params.yaml").read_text()
    assert "  epochs: 16" in text
    Path("params.yaml").write_text(text.replace("  epochs: 16", "  epochs: 15"))


CHANGES = pytest.mark.parametrize(
    ("change", "what"),
    [
        (other_params, "params (seed)"),
        (other_params_in_a_section, "params (mnist)"),
        (lambda: other_params() or other_params_in_a_section(), "params (seed, mnist)"),
        (lambda: CODE.write_text("2"), "deps (code)"),
        (lambda: DATA.write_text("2"), "deps (data/train)"),
        (lambda: CODE.write_text("2") and other_params(), "deps (code), params (seed)"),
    ],
)


@CHANGES
def test_what_changed_meanwhile_is_no_origin_of_the_weights(declared, change, what):
    """DVC records deps and params as they are when the stage ends."""
    place, environment = folder({"n": 1}), {"n": 1}
    checkpoint.check_unchanged("train_mnist", place, environment)
    change()
    message = f"^train_mnist: {re.escape(what)} changed while it trained, .* to keep this training"
    with pytest.raises(UserError, match=message):
        checkpoint.check_unchanged("train_mnist", place, environment)


@CHANGES
def test_another_training_starts_from_scratch(declared, capsys, change, what):
    first = folder()
    assert folder() == first
    assert capsys.readouterr().out == ""
    change()
    assert folder() != first
    assert capsys.readouterr().out == f"{first}: unfinished, but has other {what}; training starts from scratch\n"


@pytest.mark.parametrize("key", ["device", "settings", "python", "versions"])
def test_another_device_setting_or_version_starts_from_scratch(declared, capsys, key):
    environment = {**record(ONE), "peak_memory_bytes": 0}
    first = folder(environment)
    assert folder({**environment, key: "another"}) != first
    assert f"but has other environment ({key})" in capsys.readouterr().out


def test_a_finished_training_is_not_called_unfinished(declared, capsys, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train_mnist")
    first, result = folder(), Path("history.csv")
    result.write_text("epoch\n1\n")
    checkpoint.finish("train_mnist", first, result)
    other_params()
    assert folder() != first
    assert capsys.readouterr().out == ""


def test_what_an_older_version_left_is_ignored(declared, capsys):
    """Of a version that kept no record of what a training is made from."""
    old = PLACES / "train_mnist-0123456789abcdef"
    old.mkdir(parents=True)
    (old / "epoch-0001.weights.h5").write_bytes(b"of an older version")
    folder()
    assert f"{old}: unfinished, but has other deps, params or environment" in capsys.readouterr().out


def test_the_three_newest_unfinished_trainings_stay(declared, capsys):
    other_stage = PLACES / "train_cifar-0123456789abcdef"
    other_stage.mkdir(parents=True)
    places = [folder({"n": n}) for n in range(4)]
    for age, place in enumerate(places):
        os.utime(place, (1000 - age, 1000 - age))  # the last one is the oldest
    capsys.readouterr()
    new = folder({"n": 4})
    assert set(PLACES.iterdir()) == {other_stage, new, *places[:3]}
    reported = [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert reported == [str(place) for place in reversed(places)]
    # Of one that is resumed there is nothing to report.
    folder({"n": 4})
    assert capsys.readouterr().out == ""


def test_a_training_is_known_by_what_it_is_made_from(declared):
    place = folder({"n": 1})
    made_from = json.loads((place / "made_from.json").read_text())
    assert list(made_from) == ["deps", "params", "environment"]
    assert made_from["deps"]["data/train"] == sha256(Path("data/train"))
    assert made_from["params"]["seed"] == 0
    assert made_from["params"]["mnist"]["epochs"] == 16
    assert made_from["environment"] == {"n": 1}
    assert place.parent == PLACES
    assert re.fullmatch(r"train_mnist-[0-9a-f]{16}", place.name)
    Path("dvc.yaml").write_text("stages: {train_mnist: {deps: [data/train, code], params: [mnist, seed]}}")
    assert folder({"n": 1}) == place  # in whatever order


def test_a_params_file_of_its_own_counts_as_a_whole(declared):
    stage = "deps: [code, {data/train: {}}], params: [seed, {other.yaml: [x], more.json: }]"
    Path("dvc.yaml").write_text(f"stages: {{train_mnist: {{{stage}}}}}")
    Path("other.yaml").write_text("x: 1")
    Path("more.json").write_text("{}")
    first = folder()
    made_from = json.loads((first / "made_from.json").read_text())
    assert [*made_from["deps"]] == ["code", "data/train", "other.yaml", "more.json"]
    assert made_from["params"] == {"seed": 0}
    assert folder() == first
    Path("more.json").write_text("{ }")
    assert folder() != first


@pytest.mark.parametrize(
    ("dvc_yaml", "message"),
    [
        ("stages: {train: {deps: [code]}}", r"^dvc.yaml: found no stage train_mnist; restore it with git checkout"),
        ("stages: [train_mnist]", "found no stage train_mnist"),
        ("stages: {train_mnist: }", "found no stage train_mnist"),
        ("", "found no stage train_mnist"),
        ("stages: {", "found no stage train_mnist"),
        (
            "stages: {train_mnist: {params: [width]}}",
            r"^params.yaml: width: missing, a param of train_mnist in dvc.yaml",
        ),
        ("stages: {train_mnist: {params: [seed.x]}}", r"^params.yaml: seed.x: missing"),
    ],
)
def test_a_stage_or_param_that_is_not_there_is_a_line(declared, dvc_yaml, message):
    Path("dvc.yaml").write_text(dvc_yaml)
    with pytest.raises(UserError, match=message):
        folder()


def test_settings_that_change_the_bits_are_on_record(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert record(ONE)["settings"] == {"ONEDNN_MAX_CPU_ISA": "AVX2"}


def small(value: float, steps: int) -> keras.Model:
    """A compiled model whose weights and momenta are `value`, after some steps."""
    model = keras.Sequential([keras.Input((3,), name="inputs"), keras.layers.Dense(2, name="dense")])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    for variable in (*model.variables, *model.optimizer.variables[2:]):
        variable.assign(np.full(variable.shape, value))
    model.optimizer.iterations.assign(steps)
    return model


def state(model: keras.Model) -> list[float]:
    return [np.unique(variable.numpy()).item() for variable in (*model.variables, *model.optimizer.variables[2:])]


def rows(n: int) -> list[dict[str, Any]]:
    return [{"epoch": epoch + 1, "loss": 1 / (epoch + 1)} for epoch in range(n)]


def test_the_newest_checkpoint_is_restored_with_its_optimizer(tmp_path):
    checkpoint.save(tmp_path, small(1.0, 90), rows(9))
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(kept) == {"epoch-0009.json", "epoch-0009.weights.h5"}
    checkpoint.save(tmp_path, small(2.0, 100), rows(10))
    assert {path.name for path in tmp_path.iterdir()} == {"epoch-0010.json", "epoch-0010.weights.h5"}
    for name, content in kept.items():  # as after a kill before the older one was removed
        (tmp_path / name).write_bytes(content)
    model = small(0.0, 0)
    assert checkpoint.restore(tmp_path, model) == rows(10)
    assert state(model) == [2.0] * 6
    assert int(model.optimizer.iterations) == 100


@pytest.mark.parametrize("step", ["save_weights", "write_json"])
def test_a_kill_while_one_is_written_leaves_the_one_before(tmp_path, monkeypatch, step):
    checkpoint.save(tmp_path, small(1.0, 90), rows(9))

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, step, kill)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, small(2.0, 100), rows(10))
    model = small(0.0, 0)
    assert checkpoint.restore(tmp_path, model) == rows(9)
    assert state(model) == [1.0] * 6


def test_an_optimizer_that_has_no_variables_yet_gets_them(tmp_path):
    checkpoint.save(tmp_path, small(1.0, 90), rows(9))
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
    model.compile("adam", "mse")
    checkpoint.restore(tmp_path, model)
    assert state(model) == [1.0] * 6


def edited(record: Path, key: str, value: Any) -> bytes:
    return json.dumps(json.loads(record.read_text()) | {key: value}).encode()


RECORDS = {
    "cut": lambda record: record.read_bytes()[:-9],
    "empty": lambda record: b"",
    "nothing": lambda record: b"{}",
    "a list": lambda record: b"[" + record.read_bytes() + b"]",
    "a number": lambda record: b"7",
    "null": lambda record: b"null",
    "nested too deep": lambda record: b"[" * 100_000,
    "not UTF-8": lambda record: record.read_bytes() + b"\xff",
    "a better loss": lambda record: edited(record, "rows", [*rows(9), {"epoch": 10, "loss": 0.0}]),
    "rows that are no list": lambda record: edited(record, "rows", 10),
    "fewer rows": lambda record: edited(record, "rows", rows(3)),
    "other weights": lambda record: edited(record, "weights", 7),
    "digest of another kind": lambda record: edited(record, "digest", ["a"]),
    "without rows": lambda record: b'{"weights": "' + json.loads(record.read_text())["weights"].encode() + b'"}',
}


@pytest.mark.parametrize("damage", ["no weights", "other weights", *RECORDS])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, capsys, damage):
    checkpoint.save(tmp_path, small(1.0, 90), rows(9))
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    checkpoint.save(tmp_path, small(2.0, 100), rows(10))
    for path, content in kept.items():
        path.write_bytes(content)
    record, weights = tmp_path / "epoch-0010.json", tmp_path / "epoch-0010.weights.h5"
    if damage == "no weights":
        weights.unlink()
    elif damage == "other weights":
        weights.write_bytes((tmp_path / "epoch-0009.weights.h5").read_bytes())
    else:
        record.write_bytes(RECORDS[damage](record))
    model = small(0.0, 0)
    assert checkpoint.restore(tmp_path, model) == rows(9)
    assert state(model) == [1.0] * 6
    line = f"{weights}: it or its record is damaged; ignored, the record is now epoch-0010.json.damaged\n"
    assert capsys.readouterr().out == line
    assert not record.exists()
    assert (tmp_path / "epoch-0010.json.damaged").exists()


@pytest.mark.parametrize("content", [b"", b"a", b"\xff" * 32])
def test_a_note_of_a_result_that_says_nothing_removes_nothing(declared, content):
    place = folder({"n": 1})
    (place / "result").write_bytes(content)
    Path("dvc.lock").write_text("a: b\n")
    checkpoint.remove_finished()
    assert place.exists()


def test_weights_are_written_where_space_is_reserved(tmp_path):
    """HDF5 crashes on a full disk."""
    model, reserved = small(1.0, 90), []
    save = model.save_weights

    def note_and_save(path):
        reserved.append(path.stat().st_size)
        save(path)

    model.save_weights = note_and_save
    checkpoint.save_weights(model, tmp_path / "it.weights.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["it.weights.h5"]
    values = 8 + 2 * 8 + 2  # weights, their two momenta, learning rate and iterations
    assert reserved == [4 * values + 4096 * 8 + 65536]
    assert (tmp_path / "it.weights.h5").stat().st_size < reserved[0]


@pytest.fixture
def unfinished(prepared, monkeypatch):
    """Prepared data, and what interrupts a training of two epochs after its first."""
    prepared(8, (28, 28, 1))

    def interrupt(**changes: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "_print_progress", raise_interrupt)
            with pytest.raises(KeyboardInterrupt):
                run(**{"epochs": 2} | changes)
        [place] = PLACES.iterdir()
        names = {path.name for path in place.iterdir()}
        assert names == {"epoch-0001.json", "epoch-0001.weights.h5", "made_from.json"}
        assert column(Path("plots/mnist/history.csv"), "epoch") == [1.0]  # what is drawn while it trains

    return interrupt


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_another_thread_count_trains_all_epochs(unfinished, monkeypatch, capsys):
    fits = replace_fit(monkeypatch)
    unfinished()
    run(Device("cpu", "a test", 1), epochs=2)
    printed = capsys.readouterr().out
    assert "but has other environment (device); training starts from scratch" in printed
    assert "resuming" not in printed
    assert "train_mnist: epoch 1/2" in printed
    assert [fit.epochs for fit in fits] == [(0, 1), (0, 1), (1, 2)]
    assert list(PLACES.iterdir()) == []
    assert json.loads(Path("models/mnist/environment.json").read_text())["device"]["threads"] == 1


def test_a_training_resumes_where_it_stopped(unfinished, monkeypatch, capsys):
    peaks = iter(range(10))  # grow in a process, and are no other environment
    monkeypatch.setattr(loop, "record", lambda device: {**record(device), "peak_memory_bytes": next(peaks)})
    fits = replace_fit(monkeypatch)
    unfinished()
    run(epochs=2)
    assert "train_mnist: resuming after epoch 1 of 2" in capsys.readouterr().out
    assert [fit.epochs for fit in fits] == [(0, 1), (1, 2)]
    assert column(Path("plots/mnist/history.csv"), "epoch") == [1, 2]
    assert list(PLACES.iterdir()) == []


def test_a_training_that_stopped_after_its_last_epoch_writes_all_results(unfinished, monkeypatch):
    fits = replace_fit(monkeypatch)
    unfinished(epochs=1)
    Path("plots/mnist/history.csv").unlink()  # as dvc does before it runs a stage
    run(epochs=1)
    assert [fit.epochs for fit in fits] == [(0, 1)]
    assert column(Path("plots/mnist/history.csv"), "epoch") == [1]
    assert Path("models/mnist/model.weights.h5").exists()


def test_a_truncated_checkpoint_is_ignored(unfinished, monkeypatch, capsys):
    replace_fit(monkeypatch)
    unfinished()
    [state] = PLACES.glob("*/epoch-*.h5")
    state.write_bytes(state.read_bytes()[:-1])
    run(epochs=2)
    printed = capsys.readouterr().out
    assert "epoch-0001.weights.h5: it or its record is damaged; ignored" in printed
    assert "train_mnist: epoch 1/2" in printed
    assert list(PLACES.iterdir()) == []


def test_a_finished_training_is_kept_until_dvc_has_it(unfinished, monkeypatch, capsys):
    monkeypatch.setenv("DVC_STAGE", "train_mnist")
    changes: dict[str, Any] = {"dropout": 0.5, "flip": True, "weight_decay": 0.1}
    unfinished(**changes)
    other_stage = PLACES / "train_cifar-0123456789abcdef"
    other_stage.mkdir()
    stale = PLACES / "train_mnist-0123456789abcdef"
    stale.mkdir()
    run(epochs=2, **changes)
    assert "train_mnist: resuming after epoch 1 of 2" in capsys.readouterr().out
    weights = Path("models/mnist/model.weights.h5").read_bytes()
    history = Path("plots/mnist/history.csv").read_bytes()
    assert not stale.exists()
    [place] = PLACES.glob("train_mnist-*")
    # What dvc.lock says of the history.
    assert (place / "result").read_text() == hashlib.md5(history).hexdigest()
    # dvc was killed before it wrote dvc.lock: nothing is trained again.
    shutil.rmtree("models")
    run(epochs=2, **changes)
    printed = capsys.readouterr().out
    assert "resuming after epoch 2 of 2" in printed
    assert "epoch 1/2" not in printed
    assert Path("models/mnist/model.weights.h5").read_bytes() == weights
    # dvc wrote it, and someone forces the stage: all is trained again, to the same bits.
    Path("dvc.lock").write_text(f"md5: {(place / 'result').read_text()}")
    run(epochs=2, **changes)
    assert "train_mnist: epoch 1/2" in capsys.readouterr().out
    assert Path("models/mnist/model.weights.h5").read_bytes() == weights
    assert Path("plots/mnist/history.csv").read_bytes() == history
    Path("dvc.lock").write_text("md5: another")
    checkpoint.remove_finished()
    assert set(PLACES.iterdir()) == {place, other_stage}
    Path("dvc.lock").write_text(f"md5: {(place / 'result').read_text()}")
    checkpoint.remove_finished()
    assert list(PLACES.iterdir()) == [other_stage]


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_clean_keeps_them(declared):
    kept = folder()
    shutil.copy(ROOT / "Makefile", "Makefile")
    for name in ("reprocnn", "stages", "tests", "benchmarks", "demo", "export"):
        os.mkdir(name)
    call(Path(), "make", "clean")
    assert kept.is_dir()
    assert not Path("demo").exists()
    assert not Path("export").exists()


@pytest.mark.parametrize("name", ["models/mnist/model.json", "runs/train_mnist.json"])
def test_results_that_cannot_be_written_cost_no_training(prepared, monkeypatch, name):
    """As on a full disk; without dvc the checkpoint is all there is."""
    prepared(8, (28, 28, 1))
    fits = replace_fit(monkeypatch)
    Path(name).mkdir(parents=True)  # in the way
    with pytest.raises(IsADirectoryError):
        run()
    Path(name).rmdir()
    run()
    assert [fit.epochs for fit in fits] == [(0, 1)]
    assert list(PLACES.iterdir()) == []


def test_weights_that_cannot_be_written_leave_those_before(tmp_path):
    path, model = tmp_path / "it.weights.h5", small(1.0, 90)
    path.write_bytes(b"before")

    def fail(_: Path) -> None:
        raise OSError(28, "No space left on device")

    model.save_weights = fail
    with pytest.raises(OSError, match="No space"):
        checkpoint.save_weights(model, path)
    assert path.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["it.weights.h5"]
