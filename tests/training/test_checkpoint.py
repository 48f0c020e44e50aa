"""Which unfinished training is resumed, which is ignored, and what stays on disk."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from reprocnn.backend import Device, record
from reprocnn.training import checkpoint, loop
from tests.conftest import ROOT, call
from tests.training.test_faults_training import ONE, prepared, run  # noqa: F401, a fixture

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


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (other_params, "params"),
        (other_params_in_a_section, "params"),
        (lambda: CODE.write_text("2"), "deps"),
        (lambda: DATA.write_text("2"), "deps"),
    ],
)
def test_another_training_starts_from_scratch(declared, capsys, change, what):
    first = folder()
    assert folder() == first
    assert capsys.readouterr().out == ""
    change()
    assert folder() != first
    assert capsys.readouterr().out == f"{first}: unfinished, with other {what}, ignored; training starts from scratch\n"


@pytest.mark.parametrize("key", ["device", "settings", "python", "versions"])
def test_another_device_setting_or_version_starts_from_scratch(declared, capsys, key):
    environment = {**record(ONE), "peak_memory_bytes": 0}
    first = folder(environment)
    assert folder({**environment, key: "another"}) != first
    assert "with other environment, ignored" in capsys.readouterr().out


def test_what_an_older_version_left_is_ignored(declared, capsys):
    """Of a version that kept no record of what a training is made from."""
    old = PLACES / "train_mnist-0123456789abcdef"
    old.mkdir(parents=True)
    (old / "epoch-0001.weights.h5").write_bytes(b"of an older version")
    folder()
    assert f"{old}: unfinished, with other deps, params or environment, ignored" in capsys.readouterr().out


def test_unfinished_trainings_are_bounded(declared):
    first, *_, last = [folder({"n": n}) for n in range(checkpoint.KEPT + 5)]
    assert len(list(PLACES.iterdir())) == checkpoint.KEPT + 1
    assert last.exists()
    assert not first.exists()


def test_settings_that_change_the_bits_are_on_record(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert record(ONE)["settings"] == {"ONEDNN_MAX_CPU_ISA": "AVX2"}


@pytest.fixture
def unfinished(prepared, monkeypatch):  # noqa: F811
    """Prepared data and a training of two epochs that was interrupted after its first."""
    prepared(8, (28, 28, 1))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_print_progress", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(epochs=2)
    [place] = PLACES.iterdir()
    assert {path.name for path in place.iterdir()} == {"epoch-0001.json", "epoch-0001.weights.h5", "made_from.json"}


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_another_thread_count_trains_all_epochs(unfinished, capsys):
    run(Device("cpu", "a test", 1), epochs=2)
    printed = capsys.readouterr().out
    assert "with other environment, ignored; training starts from scratch" in printed
    assert "resuming" not in printed
    assert "train_mnist: epoch 1/2" in printed
    assert list(PLACES.iterdir()) == []
    assert json.loads(Path("models/mnist/environment.json").read_text())["device"]["threads"] == 1


@pytest.mark.parametrize("left", [0, 1000, -1])
def test_a_truncated_checkpoint_is_ignored(unfinished, capsys, left):
    [state] = PLACES.glob("*/epoch-*.h5")
    state.write_bytes(state.read_bytes()[:left])
    run(epochs=2)
    printed = capsys.readouterr().out
    assert "epoch-0001.weights.h5: damaged, ignored" in printed
    assert "train_mnist: epoch 1/2" in printed
    assert list(PLACES.iterdir()) == []


def test_a_finished_training_is_kept_until_dvc_has_it(unfinished, monkeypatch, capsys):
    monkeypatch.setenv("DVC_STAGE", "train_mnist")
    run(epochs=2)
    assert "train_mnist: resuming after epoch 1 of 2" in capsys.readouterr().out
    weights = Path("models/mnist/model.weights.h5").read_bytes()
    [place] = PLACES.iterdir()
    # dvc was killed before it wrote dvc.lock: nothing is trained again.
    shutil.rmtree("models")
    run(epochs=2)
    printed = capsys.readouterr().out
    assert "resuming after epoch 2 of 2" in printed
    assert "epoch 1/2" not in printed
    assert Path("models/mnist/model.weights.h5").read_bytes() == weights
    # dvc wrote it, and someone forces the stage: all is trained again.
    Path("dvc.lock").write_text(f"md5: {(place / 'result').read_text()}")
    run(epochs=2)
    assert "train_mnist: epoch 1/2" in capsys.readouterr().out
    assert Path("models/mnist/model.weights.h5").read_bytes() == weights
    checkpoint.remove_finished()
    assert list(PLACES.iterdir()) == []


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_clean_removes_them(declared):
    folder()
    shutil.copy(ROOT / "Makefile", "Makefile")
    for name in ("reprocnn", "stages", "tests", "benchmarks"):
        os.mkdir(name)
    call(Path(), "make", "clean")
    assert not Path("runs").exists()
