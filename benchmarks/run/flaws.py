"""Measure what each flaw of the exercise's warm-up network costs: train it on CIFAR-10, fixed one flaw at a time.

Add what benchmarks/results/flaws.csv lacks, each row as soon as it is known. To fit into an hour on two cores, images
are CIFAR-10's 32x32 instead of 100x100, the first three convolutions have 288, 16 and 4 filters instead of 512, 128 and
32, and a training sees 10,000 images eight times. Each fix keeps those before it. Accuracies are on 5,000 validation
images; the test images are not used.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.run import command, results
from reprocnn.backend import Device, configure_device, keras, layers, record
from reprocnn.images import arrays
from reprocnn.images.batches import batches

TABLE, DATA = results.FOLDER / "flaws.csv", Path("data/prepared/cifar")
SEEDS, IMAGES, VAL_IMAGES, EPOCHS, BATCH_SIZE = 3, 10_000, 5_000, 8, 100


@dataclass(frozen=True)
class Design:
    """The warm-up's, but for the number of filters of its first three convolutions."""

    initializer: Any = "zeros"  # of those three
    filters: tuple[int, ...] = (288, 16, 4, 8, 8)  # the last two are of the large kernels
    large_kernel: int = 10
    hidden: str = "softmax"
    dropout_on_output: bool = True
    output: str = "sigmoid"


# In the order of the exercise's list; a fix is what changes in the design.
FIXES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "random initialization": {"initializer": "glorot_uniform"},
    "fewer filters in the first convolution": {"filters": (16, 16, 4, 8, 8)},
    "more filters with depth": {"filters": (16, 24, 32, 48, 64)},
    "3x3 instead of 10x10": {"large_kernel": 3},  # which the map of 4x4 can hold
    "relu between the layers": {"hidden": "relu"},
    "no dropout after the output": {"dropout_on_output": False},
    "softmax output": {"output": "softmax"},
}


def main(arguments: list[str]) -> None:
    """Train what the table lacks."""
    command.parser("flaws", __doc__).parse_args(arguments)
    device = configure_device("cpu", threads=0)
    known = results.known(TABLE, "step", "seed")
    # Seed by seed, so that a table that is cut short still has every fix.
    for seed in range(SEEDS):
        design = Design()
        for step, (fix, changes) in enumerate(FIXES.items()):
            design = replace(design, **changes)
            if (str(step), str(seed)) not in known:
                row = {"step": step, "fix": fix, "seed": seed, **measure(design, seed, device)}
                results.add(TABLE, [row], order=_order)


def measure(design: Design, seed: int, device: Device) -> dict[str, Any]:
    """Train once; return the other columns of the row."""
    data, val = arrays.load(DATA / "train"), arrays.load(DATA / "val")
    keras.utils.set_random_seed(seed)
    normalization = layers.Rescaling(*arrays.load_normalization(DATA))
    model = build(design, data.x.shape[1:], data.y.shape[1], normalization)
    start = time.perf_counter()
    accuracy, loss = _train(model, data, val, seed)
    recorded: dict[str, Any] = record(device)
    return {
        "val_accuracy": round(accuracy, 4),
        "val_loss": round(loss, 4),
        "parameters": model.count_params(),
        "images": min(IMAGES, len(data.x)),
        "val_images": min(VAL_IMAGES, len(val.x)),
        "epochs": EPOCHS,
        "seconds": round(time.perf_counter() - start, 1),
        "hardware": results.processor(device),
        "versions": results.versions(recorded),
        "python": recorded["python"],
        "date": results.today(),
        "command": "python -m benchmarks flaws",
    }


def build(design: Design, shape: tuple[int, ...], num_classes: int, normalization: layers.Layer) -> keras.Model:
    """Build the warm-up network of reprocnn/networks/build.py, layer for layer, with what `design` changes."""
    first, second, third, fourth, fifth = design.filters
    stack = [keras.Input(shape, dtype="uint8"), normalization]
    for filters in (first, second, third):
        stack += [layers.Conv2D(filters, 3, kernel_initializer=design.initializer), layers.Activation("relu")]
    stack += [layers.MaxPooling2D(6)]
    for filters in (fourth, fifth):
        normal = keras.initializers.RandomNormal()
        convolution = layers.Conv2D(filters, design.large_kernel, kernel_initializer=normal, padding="same")
        stack += [convolution, layers.Activation("relu")]
    stack += [layers.MaxPooling2D(3), layers.Flatten()]
    stack += [layers.Dense(512), layers.Activation(design.hidden), layers.Dropout(0.5)]
    stack += [layers.Dense(512), layers.Activation(design.hidden)]
    stack += [layers.Dense(num_classes), layers.Activation(design.output)]
    stack += [layers.Dropout(0.5)] if design.dropout_on_output else []
    return keras.Sequential(stack)


def _train(model: keras.Model, data: arrays.Split, val: arrays.Split, seed: int) -> tuple[float, float]:
    """Return accuracy and loss on the validation images after the last epoch; `seed` gives the order of the images."""
    # XLA is slower on a CPU.
    model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        order = rng.permutation(min(IMAGES, len(data.x)))
        model.fit(batches((data.x[order], data.y[order]), BATCH_SIZE), shuffle=False, verbose=0)
    loss, accuracy = model.evaluate(batches((val.x[:VAL_IMAGES], val.y[:VAL_IMAGES]), 500), verbose=0)
    return float(accuracy), float(loss)


def _order(row: dict[str, str]) -> tuple[int, int]:
    return int(row["step"]), int(row["seed"])
