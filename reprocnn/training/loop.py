"""The training that all data sets share: one epoch at a time, so that an interrupted one ends in the same bits."""

import csv
import io
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reprocnn.backend import Device, keras, record
from reprocnn.core.errors import UserError
from reprocnn.core.files import sha256, write_json, write_text
from reprocnn.core.params import Recipe
from reprocnn.images.augment import augment, flips, shrink
from reprocnn.images.batches import batches
from reprocnn.networks.build import QUOTATIONS
from reprocnn.training import checkpoint, setup
from reprocnn.training.schedule import image_size
from reprocnn.training.watch import Watch, signal_step

HISTORY = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr"]


def train(
    dataset: str,
    recipe: Recipe,
    lr: float,
    seed: int,
    device: Device,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train on data/prepared/DATASET with the peak learning rate `lr`, resuming after the last finished epoch.

    Writes models/DATASET (environment.json says which device, settings and versions made the weights),
    plots/DATASET/history.csv, and of the run itself runs/train_DATASET.json. `callbacks` see each epoch after its clock
    has stopped. Raises UserError, and writes no model, if the loss or a weight becomes non-finite, or if what dvc will
    record as its origin changed meanwhile.
    """
    stage = f"train_{dataset}"
    if recipe.network in QUOTATIONS:
        device = replace(device, precision="float32")  # which they train in, whatever the device can do
    training = setup.prepare(dataset, recipe, lr, seed, device)
    checkpoint.remove_finished()
    environment = {key: value for key, value in record(device).items() if key != "peak_memory_bytes"}
    folder = checkpoint.folder(stage, environment)
    rows = checkpoint.restore(folder, training.model)
    parameters, images = training.model.count_params(), len(training.data.x)
    print(f"{stage}: {recipe.network}, {parameters:,} parameters, {images:,} images, {device}", flush=True)
    if rows:
        print(f"{stage}: resuming after epoch {len(rows)} of {recipe.epochs}", flush=True)
    history = Path("plots") / dataset / "history.csv"
    for epoch in range(len(rows), recipe.epochs):
        rows.append(run_epoch(stage, training, epoch, callbacks))
        checkpoint.save(folder, training.model, rows)
        write_history(history, rows)
        signal_step(len(rows))
        _print_progress(stage, rows, training)

    write_history(history, rows)
    checkpoint.check_unchanged(stage, folder, environment)
    weights = write_model(Path("models") / dataset, training, environment)
    seconds = [row["seconds"] for row in rows]
    write_json(
        Path("runs") / f"{stage}.json",
        {"weights": weights, "seconds": sum(seconds), "epochs": len(rows), "epoch_seconds": seconds, **record(device)},
    )
    checkpoint.finish(stage, folder, history)
    print(f"{stage}: {sum(seconds):.0f} s of training, weights {weights[:12]}", flush=True)


def run_epoch(
    stage: str, training: setup.Training, epoch: int, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> dict[str, Any]:
    """Train one epoch, counted from 0, and give its row of the history, with its seconds.

    All that is random in it is seeded by (seed, epoch). Raises UserError if the loss or a weight becomes non-finite.
    """
    start = time.perf_counter()
    recipe, model, seed = training.recipe, training.model, training.seed
    reseed_dropout(model, seed, epoch)
    x, y = epoch_images(training, epoch)
    with training.strategy.scope():
        setup.make_variables(model)
    if recipe.first_size < 1:
        # A graph of its own for each size: else TensorFlow makes one of any size when it sees the second one, whose
        # bits differ from those of a graph of one size, which a resumed training would begin with.
        model.make_train_function(force=True)
    watch = Watch(stage, epoch, recipe.epochs, training.steps, training.schedule)
    with watch.bar:  # cleared before the message of an error
        fitted = model.fit(
            batches((x, y), recipe.batch_size),
            initial_epoch=epoch,
            epochs=epoch + 1,
            shuffle=False,
            validation_data=batches((training.val.x, training.val.y), 1000) if training.val else None,
            callbacks=[watch, *callbacks],
            verbose=0,
        )
    if not all(np.isfinite(weights).all() for weights in model.get_weights()):
        # A ReLU may turn NaN into 0 and hide it from the loss.
        raise UserError(
            f"{stage}: some weights are non-finite after epoch {epoch + 1}; no model is written; lower lr (try a tenth)"
        )
    row = {key: values[-1] for key, values in fitted.history.items()}
    lr = float(training.schedule(epoch * training.steps))
    return row | {"epoch": epoch + 1, "lr": lr, "seconds": watch.ended - start}


def epoch_images(training: setup.Training, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of an epoch: permuted, without an incomplete last batch, augmented, at its size."""
    data, recipe, threads = training.data, training.recipe, training.device.threads
    rng = np.random.Generator(np.random.PCG64([training.seed, epoch]))
    chosen = rng.permutation(len(data.x))[: training.steps * recipe.batch_size]
    mirrored = flips(len(data.x), training.seed, epoch)[chosen]
    x = augment(data.x[chosen], rng, recipe, mirrored, threads)
    size = image_size(data.x.shape[1:3], recipe.first_size, epoch, recipe.epochs)
    return shrink(x, size, threads), data.y[chosen]


def reseed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Set the state of every dropout generator from (seed, epoch); no weights file holds it."""
    states = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
    for index, state in enumerate(states):
        state.assign(np.random.SeedSequence([seed, epoch, index]).generate_state(2))


def write_model(folder: Path, training: setup.Training, environment: dict[str, Any]) -> str:
    """Write weights, architecture and the environment that made them; give the weights' digest."""
    # The weights of a model that was never compiled: no optimizer state in the file.
    model = setup.build_network(training.dataset, training.recipe, training.data, "float32", resized=False)
    model.set_weights(training.model.get_weights())
    weights = folder / "model.weights.h5"
    checkpoint.save_weights(model, weights)
    write_text(folder / "model.json", model.to_json(indent=2) + "\n")
    write_json(folder / "environment.json", {key: environment[key] for key in ("device", "settings", "versions")})
    return sha256(weights)


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a CSV row per epoch, with the columns of `HISTORY`; validation is empty where there is none."""
    table = io.StringIO()
    writer = csv.DictWriter(table, HISTORY, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, table.getvalue())


def _print_progress(stage: str, rows: list[dict[str, Any]], training: setup.Training) -> None:
    recipe, row, done = training.recipe, rows[-1], len(rows)
    full = training.data.x.shape[1:3]
    pixels = [math.prod(image_size(full, recipe.first_size, epoch, recipe.epochs)) for epoch in range(recipe.epochs)]
    left = row["seconds"] * sum(pixels[done:]) / pixels[done - 1]  # an epoch takes about as long as it has pixels
    figures = "  ".join(
        f"{key} {row[key]:.4f}" + (f", val {row['val_' + key]:.4f}" if training.val else "")
        for key in ("loss", "accuracy")
    )
    print(f"{stage}: epoch {done}/{recipe.epochs}  {figures}  {_duration(left)} left", flush=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
