"""Prepared data and settings that no training can use: a line, and no model."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprocnn.backend import Device, keras
from reprocnn.core.errors import UserError
from reprocnn.core.params import Recipe
from reprocnn.training.loop import train

RECIPE = Recipe(
    val_fraction=0.1, split_seed=0, normalization="center", network="mnist_cnn", filters=2, depth=1, kernel_size=3,
    dropout=0.0, train_on="train", epochs=1, batch_size=4, optimizer="adam", lr_factor=1.0, warmup=0.0, lr_end=0.0,
    weight_decay=0.0, label_smoothing=0.0, shift=1, rotation=0.0, zoom=0.0, shear=0.0,
    elastic=0.0, fill_mode="constant", flip=False, first_size=1.0,
)  # fmt: skip
ONE = Device("cpu", "a test", 2)


@pytest.fixture
def prepared(project):
    """Writes data/prepared/mnist with `n` training images of `shape`, and eight for validation."""
    (project / "dvc.yaml").write_text("stages: {train_mnist: {deps: [], params: [seed]}}")

    def write(n: int, shape: tuple[int, int, int], val_shape: tuple[int, int, int] | None = None) -> None:
        folder = Path("data/prepared/mnist")
        rng = np.random.default_rng(0)
        for split, count, size in (("train", n, shape), ("val", 8, val_shape or shape)):
            (folder / split).mkdir(parents=True)
            np.save(folder / split / "x.npy", rng.integers(0, 256, (count, *size), dtype=np.uint8))
            np.save(folder / split / "y.npy", np.eye(10, dtype=np.float32)[rng.integers(0, 10, count)])
        scale = {"scale": [1 / 255] * shape[-1], "offset": [0.0] * shape[-1]}
        (folder / "normalization.json").write_text(json.dumps(scale))

    return write


def run(device: Device = ONE, **changes: Any) -> None:
    train("mnist", Recipe(**{**vars(RECIPE), **changes}), 0.01, seed=0, device=device)


def refused(**changes: Any) -> str:
    with pytest.raises(UserError) as error:
        run(**changes)
    assert not Path("models").exists()
    return str(error.value)


@pytest.mark.parametrize("network", ["mnist_cnn", "cifar_cnn", "assignment", "one_conv", "warmup"])
def test_images_too_small_for_the_network(prepared, network):
    prepared(8, (2, 2, 1))
    message = refused(network=network)
    assert f"params.yaml: mnist.network: {network} with kernel_size 3 cannot take images of (2, 2, 1)" in message
    assert "choose another network" in message
    assert len(message.splitlines()) == 1


def test_images_grow(prepared, monkeypatch):
    """From the share that params.yaml names; validation is on whole images."""
    prepared(8, (32, 32, 3))
    seen: list[tuple[int, int]] = []
    fit = keras.Model.fit

    def spy(self, x, *arguments, validation_data, **named):
        seen.append((next(iter(x))[0].shape[1], next(iter(validation_data))[0].shape[1]))
        return fit(self, x, *arguments, validation_data=validation_data, **named)

    monkeypatch.setattr(keras.Model, "fit", spy)
    run(network="cifar_cnn", first_size=0.5, epochs=4)
    assert seen == [(16, 32), (20, 32), (28, 32), (32, 32)]


def test_the_model_that_is_written_is_float32(prepared):
    """Whatever it was trained in: its predictions are the same on a processor without bfloat16."""
    prepared(8, (28, 28, 1))
    device = Device("cpu", "a test", 2, "mixed_bfloat16")
    train("mnist", RECIPE, 0.01, seed=0, device=device)
    assert "bfloat16" not in Path("models/mnist/model.json").read_text()
    assert json.loads(Path("runs/train_mnist.json").read_text())["device"]["precision"] == "mixed_bfloat16"
    low = Path("models/mnist/model.weights.h5").read_bytes()
    train("mnist", RECIPE, 0.01, seed=0, device=Device("cpu", "a test", 2))
    assert Path("models/mnist/model.weights.h5").read_bytes() != low


def test_splits_of_different_shapes(prepared):
    prepared(8, (28, 28, 1), (32, 32, 1))
    assert "found (28, 28, 1) in train/x.npy and (32, 32, 1) in val/x.npy" in refused()


def test_a_batch_larger_than_the_data_set(prepared):
    prepared(3, (28, 28, 1))
    message = refused()
    assert "params.yaml: mnist.batch_size: found 4, expected at most the 3 images" in message


@pytest.mark.parametrize("network", ["mnist_cnn", "assignment"])
def test_what_is_left_of_a_batch_is_not_trained_on_alone(prepared, monkeypatch, network):
    """Five images in batches of four: batch norm would see a batch of one."""
    prepared(5, (28, 28, 1))
    seen: list[int] = []
    fit = keras.Model.fit

    def spy(self, x, *arguments, **named):
        seen.extend(len(images) for images, _ in x)
        return fit(self, x, *arguments, **named)

    monkeypatch.setattr(keras.Model, "fit", spy)
    run(network=network)
    assert seen == [4]
    history = Path("plots/mnist/history.csv").read_text().splitlines()
    assert len(history) == 2
    assert "nan" not in history[1]


def test_callbacks_see_every_epoch_and_their_time_is_not_counted(prepared, monkeypatch):
    prepared(8, (28, 28, 1))
    seen: list[tuple[int, float]] = []
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + 10_000 * len(seen))

    class Slow(keras.callbacks.Callback):
        """Take ten thousand seconds."""

        def on_epoch_end(self, epoch, logs=None):
            seen.append((epoch, logs["val_accuracy"]))

    train("mnist", Recipe(**{**vars(RECIPE), "epochs": 2}), 0.01, seed=0, device=ONE, callbacks=[Slow()])
    record = json.loads(Path("runs/train_mnist.json").read_text())
    assert [epoch for epoch, _ in seen] == [0, 1]
    assert len(record["epoch_seconds"]) == record["epochs"] == 2
    assert 0 < record["seconds"] == sum(record["epoch_seconds"]) < 10_000
    history = Path("plots/mnist/history.csv").read_text().splitlines()
    assert [float(row.split(",")[4]) for row in history[1:]] == [accuracy for _, accuracy in seen]


def test_non_finite_weights_that_the_loss_does_not_show_stop_the_training(prepared):
    """On some processors a ReLU turns NaN into 0."""
    prepared(8, (28, 28, 1))

    class Poison(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            variable = self.model.trainable_variables[0]
            variable.assign(np.full(variable.shape, np.nan))

    with pytest.raises(UserError, match="some weights are non-finite after epoch 1; no model is written; lower lr"):
        train("mnist", RECIPE, 0.01, seed=0, device=ONE, callbacks=[Poison()])
    assert not Path("models").exists()


def test_one_image_in_batches_of_one(prepared):
    prepared(1, (28, 28, 1))
    run(batch_size=1)
    assert Path("models/mnist/model.weights.h5").exists()
