import io
import json
import math
import os
from types import SimpleNamespace

import pytest

from reprocnn.backend import keras
from reprocnn.core.errors import UserError
from reprocnn.training import watch
from reprocnn.training.schedule import WarmupDecay
from tests.support.training import run


@pytest.fixture
def clock(monkeypatch):
    """A watch of epoch 3, after ten steps of a schedule that falls from 2 by 0.1 in each."""
    monkeypatch.delenv("DVC_STAGE", raising=False)
    made = watch.Watch("train_it", 2, 5, 10, WarmupDecay(2.0, 20, 0.0, 0.0))
    made.set_model(SimpleNamespace(optimizer=SimpleNamespace(iterations=10)))
    return made


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_non_finite_loss_names_epoch_batch_and_learning_rate(clock, loss):
    with pytest.raises(UserError) as error:
        clock.on_train_batch_end(4, {"loss": loss})
    assert str(error.value) == (
        f"train_it: the loss is {loss} in epoch 3, batch 5, at learning rate 1.1; no model is written; "
        f"lower lr (try a tenth)"
    )


def test_a_finite_loss_or_none_continues(clock):
    clock.on_train_batch_end(0, {"loss": 1e30, "accuracy": math.nan})
    clock.on_train_batch_end(0, {})
    clock.on_train_batch_end(0)


def test_a_stage_without_its_dvc_stops(clock, monkeypatch):
    monkeypatch.setattr(watch, "orphaned", lambda: True)
    clock.on_train_batch_end(0, {"loss": 1.0})  # not started by dvc
    monkeypatch.setenv("DVC_STAGE", "train_it")
    for batch in (0, 7):
        with pytest.raises(
            UserError, match="train_it: stopped, since the dvc that started it is gone; run `dvc repro`"
        ):
            clock.on_train_batch_end(batch, {"loss": 1.0})
    monkeypatch.setattr(watch, "orphaned", lambda: False)
    clock.on_train_batch_end(0, {"loss": 1.0})


def test_the_clock_stops_at_the_end_of_the_epoch(clock, monkeypatch):
    monkeypatch.setattr("time.perf_counter", lambda: 12.5)
    assert math.isnan(clock.ended)
    clock.on_train_batch_end(0, {"loss": 1.0})
    assert math.isnan(clock.ended)
    clock.on_epoch_end(2)
    assert clock.ended == 12.5


def test_on_a_terminal_a_bar_counts_the_batches_and_goes(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    made = watch.Watch("train_it", 2, 5, 4, WarmupDecay(2.0, 20, 0.0, 0.0))
    made.bar.mininterval = 0
    for batch in range(4):
        made.on_train_batch_end(batch, {"loss": 1.0})
    shown = terminal.getvalue()
    assert "train_it: epoch 3/5: 100%" in shown
    assert "4/4" in shown
    made.on_epoch_end(2)
    assert terminal.getvalue().rpartition("\r")[0].endswith(" ")


def test_an_error_finds_the_bar_gone(prepared, monkeypatch):
    prepared(8, (28, 28, 1))
    bars = []

    class Failing(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise UserError("it failed")

    make = watch.tqdm
    monkeypatch.setattr(watch, "tqdm", lambda **options: bars.append(make(**options | {"disable": False})) or bars[-1])
    with pytest.raises(UserError, match="it failed"):
        run(callbacks=[Failing()])
    [bar] = bars
    assert bar.disable  # as tqdm is once it is closed


def test_elsewhere_there_is_no_bar(clock, capfd):
    clock.on_train_batch_end(0, {"loss": 1.0})
    clock.on_epoch_end(2)
    assert capfd.readouterr().err == ""


def test_the_extension_hears_of_a_step_where_an_experiment_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_STAGE", "train_it")
    watch.signal_step(3)
    assert not list(tmp_path.iterdir())
    folder = tmp_path / ".dvc/tmp/exps/run"
    folder.mkdir(parents=True)
    watch.signal_step(3)
    assert json.loads((folder / "DVCLIVE_STEP_COMPLETED").read_text()) == {"pid": os.getpid(), "step": 3}
    (folder / "DVCLIVE_STEP_COMPLETED").unlink()
    monkeypatch.delenv("DVC_STAGE")
    watch.signal_step(3)
    assert not list(folder.iterdir())
