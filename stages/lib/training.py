"""The training that both data sets share: one epoch at a time, so that an interrupted one ends in the same bits."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import psutil

import stages
from stages.lib import arrays, checkpoint, networks
from stages.lib.augment import Variation, augment, flips, shrink
from stages.lib.batches import batches
from stages.lib.device import Device, record
from stages.lib.errors import UserError
from stages.lib.files import sha256, whole, write_json, write_text
from stages.lib.kernels import use_faster_kernels
from stages.lib.muon import Muon
from stages.lib.schedule import WarmupDecay, image_size
from stages.lib.whitening import set_whitening

# Adam with shorter memories than its usual 0.9 and 0.999: in one epoch of MNIST, 99.08 % of the validation images
# instead of 98.87 % (means of four seeds).
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adam": partial(keras.optimizers.AdamW, beta_1=0.7, beta_2=0.9),
    "muon": Muon,
}
HISTORY = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr"]


@dataclass(frozen=True)
class Recipe(Variation):
    """What params.yaml says of one training; units and reasons are written there."""

    network: str
    filters: int
    depth: int
    kernel_size: int
    dropout: float
    train_on: str
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    warmup: float
    lr_end: float
    weight_decay: float
    label_smoothing: float
    first_size: float


def train(name: str, recipe: Recipe, lr: float, seed: int, device: Device) -> None:
    """Trains on data/prepared/NAME from the peak rate `lr`; writes models/NAME, plots/NAME/history.csv and runs/.

    models/NAME/environment.json says which device, settings and versions of the libraries the weights came from.

    Raises UserError, and writes no model, if the loss or a weight is no longer a number.
    """
    stage = f"train_{name}"
    data, val = _splits(Path("data/prepared") / name, recipe.train_on)
    steps = len(data.x) // recipe.batch_size  # what is left over is another part of the images in each epoch
    if steps == 0:
        raise UserError(
            f"params.yaml: {name}.batch_size: found {recipe.batch_size}, expected at most the {len(data.x)} images"
            f" of the training split; lower it"
        )
    if recipe.batch_size % device.count:
        raise UserError(
            f"params.yaml: {name}.batch_size: found {recipe.batch_size}, which {device.count} devices cannot share "
            f"evenly; expected a multiple of devices"
        )
    keras.utils.set_random_seed(seed)
    model = _build(name, recipe, data, device.precision, resized=recipe.first_size < 1)
    if device.kind == "cpu" and device.count == 1:
        model = use_faster_kernels(model, device)
    environment = {key: value for key, value in record(device).items() if key != "peak_memory_bytes"}
    checkpoint.remove_finished()
    place = checkpoint.folder(stage, environment)
    strategy = device.strategy()
    with strategy.scope():
        if device.count > 1:
            model = _on_all_devices(model)
        if recipe.network == "cifar_cnn":
            set_whitening(model, data.x)
        schedule = WarmupDecay(lr, recipe.epochs * steps, recipe.warmup, recipe.lr_end)
        model.compile(
            OPTIMIZERS[recipe.optimizer](schedule, weight_decay=recipe.weight_decay),
            keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
            metrics=["accuracy"],
            jit_compile=False if device.kind == "cpu" else "auto",  # on a CPU, XLA is three times slower here
        )
        rows = checkpoint.restore(place, model)

    print(
        f"{stage}: {recipe.network}, {model.count_params():,} parameters, {len(data.x):,} images, {device}", flush=True
    )
    if rows:
        print(f"{stage}: going on after epoch {len(rows)} of {recipe.epochs}", flush=True)
    for epoch in range(len(rows), recipe.epochs):
        start = time.perf_counter()
        _reseed_dropout(model, seed, epoch)
        rng = np.random.Generator(np.random.PCG64([seed, epoch]))
        chosen = rng.permutation(len(data.x))[: steps * recipe.batch_size]
        x = augment(data.x[chosen], rng, recipe, flips(len(data.x), seed, epoch)[chosen], device.threads)
        x = shrink(x, image_size(data.x.shape[1:3], recipe.first_size, epoch, recipe.epochs), device.threads)
        with strategy.scope():
            make_variables(model)
        if recipe.first_size < 1:
            # A graph of its own for each size: else TensorFlow makes one of any size when it sees the second one, whose
            # bits differ from those of a graph of one size, which a resumed training would begin with.
            model.make_train_function(force=True)
        fitted = model.fit(
            batches((x, data.y[chosen]), recipe.batch_size),
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            validation_data=batches((val.x, val.y), 1000) if val else None,
            callbacks=[_Watch(stage, epoch, schedule)],
            verbose=0,
        )
        if not all(np.isfinite(weights).all() for weights in model.get_weights()):
            # A ReLU may make 0 of what is no number, and hide it from the loss.
            raise UserError(
                f"{stage}: after epoch {epoch + 1} some weights are no numbers; no model is written; lower lr (try a "
                f"tenth)"
            )
        row = {key: values[-1] for key, values in fitted.history.items()}
        row |= {"epoch": epoch + 1, "lr": float(schedule(epoch * steps)), "seconds": time.perf_counter() - start}
        rows.append(row)
        checkpoint.save(place, model, rows)
        _print_progress(stage, rows, recipe.epochs)

    weights = Path("models") / name / "model.weights.h5"
    _write_model(weights.parent, _build(name, recipe, data, "float32", resized=False), model)
    made_on = {key: environment[key] for key in ("device", "settings", "versions")}
    write_json(weights.parent / "environment.json", made_on)
    history = Path("plots") / name / "history.csv"
    _write_history(history, rows)
    seconds = sum(row["seconds"] for row in rows)
    write_json(
        Path("runs") / f"{stage}.json",
        {"weights": sha256(weights), "seconds": seconds, "epochs": len(rows), **record(device)},
    )
    checkpoint.finish(stage, place, history)
    print(f"{stage}: {seconds:.0f} s of training, weights {sha256(weights)[:12]}", flush=True)


def _splits(folder: Path, train_on: str) -> tuple[arrays.Split, arrays.Split | None]:
    data, val = arrays.load(folder, "train"), arrays.load(folder, "val")
    if data.x.shape[1:] != val.x.shape[1:] or data.y.shape[1:] != val.y.shape[1:]:
        raise UserError(
            f"{folder}: expected the same shape in both splits, found {data.x.shape[1:]} in x_train.npy and "
            f"{val.x.shape[1:]} in x_val.npy; run `dvc repro -f prepare`"
        )
    if train_on == "train":
        return data, val
    return arrays.Split(np.concatenate([data.x, val.x]), np.concatenate([data.y, val.y])), None


def _build(name: str, recipe: Recipe, data: arrays.Split, precision: str, resized: bool) -> keras.Model:
    scale, offset = arrays.load_normalization(Path("data/prepared") / name)
    height, width, channels = data.x.shape[1:]
    shape = (None, None, channels) if resized else (height, width, channels)
    try:
        return networks.build(
            recipe.network,
            shape,
            data.y.shape[1],
            keras.layers.Rescaling(scale, offset, name="normalization"),
            filters=recipe.filters,
            depth=recipe.depth,
            kernel_size=recipe.kernel_size,
            dropout=recipe.dropout,
            precision=precision,
        )
    except ValueError as error:
        reason = " ".join(str(error).split())[:150]
        if resized:
            raise UserError(
                f"params.yaml: {name}.first_size: found {recipe.first_size}, but {recipe.network} takes images of one "
                f"size alone ({reason}); set it to 1"
            ) from None
        raise UserError(
            f"params.yaml: {name}.network: {recipe.network} with kernel_size {recipe.kernel_size} cannot take images "
            f"of {shape} ({reason}); choose another network or a smaller kernel"
        ) from None


def _on_all_devices(model: keras.Model) -> keras.Model:
    """A copy that has its variables on each device of the strategy, and whose batch norm is over the whole batch."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        layer.synchronized = True
    return copy


def make_variables(model: keras.Model) -> None:
    """Those of the optimizer and the metrics, if there are none; in the first step, TensorFlow would trace it twice."""
    model.optimizer.build(model.trainable_variables)
    nothing = keras.ops.zeros((1, model.output_shape[-1]))
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()


def _reseed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    # Neither a weights file nor a .keras file holds the state of dropout's generators, so each epoch sets its own.
    states = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
    for index, state in enumerate(states):
        state.assign(np.random.SeedSequence([seed, epoch, index]).generate_state(2))


class _Watch(keras.callbacks.Callback):
    """Ends the training when the dvc that started it is gone, and when its loss is no number."""

    def __init__(self, stage: str, epoch: int, schedule: keras.optimizers.schedules.LearningRateSchedule) -> None:
        super().__init__()
        self.stage, self.epoch, self.schedule = stage, epoch, schedule

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if "DVC_STAGE" in os.environ and _orphaned():
            raise UserError(f"{self.stage}: stopped, since the dvc that started it is gone; run `dvc repro` again")
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            rate = float(self.schedule(self.model.optimizer.iterations - 1))
            raise UserError(
                f"{self.stage}: the loss is {loss} in epoch {self.epoch + 1}, batch {batch + 1}, at rate {rate:.3g}; "
                f"no model is written; lower lr (try a tenth)"
            )


def _orphaned() -> bool:
    """Whether who started this process is gone, or who started the shell that did."""
    if os.getppid() != stages.PARENT:
        return True
    try:
        return stages.GRANDPARENT is not None and psutil.Process(stages.PARENT).ppid() != stages.GRANDPARENT
    except psutil.NoSuchProcess:
        return True


def _print_progress(stage: str, rows: list[dict[str, Any]], epochs: int) -> None:
    row = rows[-1]
    left = row["seconds"] * (epochs - len(rows))
    figures = "  ".join(f"{key} {row[key]:.4f}" for key in HISTORY[1:5] if key in row)
    print(
        f"{stage}: epoch {len(rows)}/{epochs}  {figures}  lr {row['lr']:.3g}  {row['seconds']:.1f} s, "
        f"{left:.0f} s left",
        flush=True,
    )


def _write_model(folder: Path, untrained: keras.Model, trained: keras.Model) -> None:
    # The weights of a model that was never compiled: no optimizer state in the file.
    untrained.set_weights(trained.get_weights())
    checkpoint.save_weights(untrained, folder / "model.weights.h5")
    write_text(folder / "model.json", untrained.to_json(indent=2) + "\n")


def _write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    with whole(path) as partial:
        pd.DataFrame(rows, columns=HISTORY).to_csv(partial, index=False, lineterminator="\n")
