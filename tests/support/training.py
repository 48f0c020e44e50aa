"""A small recipe, a training with it in this process, and a look at what a training hands to Keras."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reprocnn.backend import Device, keras
from reprocnn.core.params import Recipe
from reprocnn.training.loop import train

RECIPE = Recipe(
    val_fraction=0.1, split_seed=0, normalization="center", network="mnist_cnn", filters=2, depth=1, kernel_size=3,
    dropout=0.0, train_on="train", epochs=1, batch_size=4, optimizer="adam", lr_factor=1.0, warmup=0.0, lr_end=0.0,
    weight_decay=0.0, label_smoothing=0.0, shift=1, rotation=0.0, zoom=0.0, shear=0.0,
    elastic=0.0, fill_mode="constant", flip=False, first_size=1.0,
)  # fmt: skip
ONE = Device("cpu", "a test", 2)


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{**vars(RECIPE), **changes})


def run(device: Device = ONE, lr: float = 0.01, seed: int = 0, callbacks: Any = (), **changes: Any) -> None:
    """Train on data/prepared/mnist."""
    train("mnist", recipe(**changes), lr, seed, device, callbacks)


@dataclass(frozen=True)
class Fit:
    """What a call of `Model.fit` got."""

    model: keras.Model
    x: list[np.ndarray]  # batches
    y: list[np.ndarray]
    val: tuple[np.ndarray, np.ndarray] | None
    epochs: tuple[int, int]  # the first, and that after the last
    dropout: list[list[int]]  # states of the generators
    function: Any  # the graph it would train with, if one is made already


def replace_fit(monkeypatch: pytest.MonkeyPatch, loss: float = 1.5) -> list[Fit]:
    """Let `fit` train nothing: it notes what it gets, and calls the callbacks for a batch and an epoch."""
    fits: list[Fit] = []

    def fit(model: Any, data: Any, *, initial_epoch: int, epochs: int, validation_data: Any, callbacks: Any, **_: Any):
        batches = [(x.numpy(), y.numpy()) for x, y in data]
        val = [(x.numpy(), y.numpy()) for x, y in validation_data] if validation_data else None
        states = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
        fits.append(
            Fit(
                model,
                [x for x, _ in batches],
                [y for _, y in batches],
                (np.concatenate([x for x, _ in val]), np.concatenate([y for _, y in val])) if val else None,
                (initial_epoch, epochs),
                [state.numpy().tolist() for state in states],
                model.train_function,
            )
        )
        logs = {"loss": loss, "accuracy": 0.25} | ({"val_loss": 2.5, "val_accuracy": 0.75} if val else {})
        for callback in callbacks:
            callback.set_model(model)
            callback.on_train_batch_end(0, logs)
            callback.on_epoch_end(initial_epoch, logs)
        return SimpleNamespace(history={key: [value] for key, value in logs.items()})

    monkeypatch.setattr(keras.Model, "fit", fit)
    return fits
