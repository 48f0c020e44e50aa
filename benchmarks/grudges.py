"""What each design fault of the warm-up network costs: it is trained on CIFAR-10, then mended one grudge at a time.

`python -m benchmarks.grudges` reads data/prepared/cifar and writes benchmarks/grudges.csv, each row as soon as it is
known; rows that are there already are not measured again. To fit an hour on two cores, images are CIFAR's 32x32 and not
100x100, the first three convolutions have 288, 16 and 4 filters and not 512, 128 and 32, and a training sees 10,000
images eight times. Each mend keeps those before it. Accuracies are of 5,000 validation images; the test images stay
closed.
"""

import datetime
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.lib import device  # isort: skip
import keras
import numpy as np
import pandas as pd
from keras import layers

from stages.lib import arrays
from stages.lib.batches import batches
from stages.lib.errors import run
from stages.lib.files import whole

DATA, TABLE = Path("data/prepared/cifar"), Path("benchmarks/grudges.csv")
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


# In the order of the book of grudges; a mend is what changes in the design.
MENDS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "random initialization": {"initializer": "glorot_uniform"},
    "fewer filters in the first convolution": {"filters": (16, 16, 4, 8, 8)},
    "more filters with depth": {"filters": (16, 24, 32, 48, 64)},
    "3x3 instead of 10x10": {"large_kernel": 3},  # which the map of 4x4 can hold
    "relu between the layers": {"hidden": "relu"},
    "no dropout after the output": {"dropout_on_output": False},
    "softmax output": {"output": "softmax"},
}


def main() -> None:
    where = device.set_up("cpu", threads=0)
    data, val = arrays.load(DATA, "train"), arrays.load(DATA, "val")
    scale, offset = arrays.load_normalization(DATA)
    done = _measured()
    # Seed by seed, so that a table that is cut short still has every mend.
    for seed in range(SEEDS):
        design = Design()
        for step, (mend, changes) in enumerate(MENDS.items()):
            design = replace(design, **changes)
            if (step, seed) in done:
                continue
            keras.utils.set_random_seed(seed)
            model = build(design, data.x.shape[1:], data.y.shape[1], layers.Rescaling(scale, offset))
            start = time.perf_counter()
            accuracy, loss = _train(model, data, val, seed)
            facts = device.record(where)
            versions: Any = facts["versions"]
            _add(
                {
                    "step": step,
                    "mend": mend,
                    "seed": seed,
                    "val_accuracy": round(accuracy, 4),
                    "val_loss": round(loss, 4),
                    "parameters": model.count_params(),
                    "images": min(IMAGES, len(data.x)),
                    "val_images": min(VAL_IMAGES, len(val.x)),
                    "epochs": EPOCHS,
                    "seconds": round(time.perf_counter() - start, 1),
                    "hardware": f"{where.name}, {where.threads} threads",
                    "versions": ", ".join(f"{key} {value}" for key, value in versions.items()),
                    "python": facts["python"],
                    "date": datetime.date.today().isoformat(),
                    "command": "python -m benchmarks.grudges",
                }
            )
    print(summary(pd.read_csv(TABLE)))


def build(design: Design, shape: tuple[int, ...], num_classes: int, normalization: layers.Layer) -> keras.Model:
    """The warm-up network, layer for layer (stages/lib/networks.py), with what `design` changes."""
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


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean, standard deviation and number of the accuracies after each mend."""
    return table.groupby(["step", "mend"])["val_accuracy"].agg(["mean", "std", "count"]).reset_index()


def _train(model: keras.Model, data: arrays.Split, val: arrays.Split, seed: int) -> tuple[float, float]:
    """Accuracy and loss on the validation images after the last epoch; `seed` chooses the order, not the images."""
    model.compile(
        keras.optimizers.Adam(1e-3), "categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )  # XLA is slower on a CPU
    rng = np.random.default_rng(seed)
    for _ in range(EPOCHS):
        order = rng.permutation(min(IMAGES, len(data.x)))
        model.fit(batches((data.x[order], data.y[order]), BATCH_SIZE), shuffle=False, verbose=0)
    loss, accuracy = model.evaluate(batches((val.x[:VAL_IMAGES], val.y[:VAL_IMAGES]), 500), verbose=0)
    return float(accuracy), float(loss)


def _measured() -> set[tuple[int, int]]:
    if not TABLE.exists():
        return set()
    table = pd.read_csv(TABLE)
    return set(zip(table["step"], table["seed"], strict=True))


def _add(row: dict[str, Any]) -> None:
    print({key: row[key] for key in ("step", "mend", "seed", "val_accuracy", "seconds")}, flush=True)
    rows = pd.DataFrame([row])
    if TABLE.exists():
        rows = pd.concat([pd.read_csv(TABLE), rows])
    with whole(TABLE) as partial:
        rows.sort_values(["step", "seed"]).to_csv(partial, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(main)
