"""Test each insight and each slip of the exercise with five seeds.

Train what benchmarks/results/insights.csv lacks, one process per core with one thread each, and add a row per epoch
when a training ends. The network is the exercise's own, with or without the parts that its insights are about, with its
batch size of 500 and Adam. It is trained on the 54,000 training images, so that the epoch can be chosen on the 6,000
validation images as well as, wrongly, on the test images.
"""

import concurrent.futures
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.run import command, results

if TYPE_CHECKING:
    from reprocnn.backend import keras

TABLE = results.FOLDER / "insights.csv"
DATA = Path("data/prepared/mnist")
SEEDS = range(5)


@dataclass(frozen=True)
class Variant:
    """A variant of the exercise's network: what it leaves out, and how it is trained."""

    name: str
    second_convolution: bool = True
    batch_norm: bool = True
    scale: float = 1 / 255  # of the pixels
    from_logits: bool = False
    epochs: int = 10


VARIANTS = [
    Variant("one convolution", second_convolution=False, batch_norm=False),
    Variant("one convolution, batch norm", second_convolution=False),
    Variant("two convolutions", batch_norm=False),
    Variant("two convolutions, batch norm"),
    Variant("as written: raw pixels, from_logits=True", scale=1.0, from_logits=True, epochs=20),
    Variant("raw pixels, from_logits=False", scale=1.0),
]


def main(arguments: list[str]) -> None:
    """Train what the table lacks."""
    command.parser("insights", __doc__).parse_args(arguments)
    known = results.known(TABLE, "variant", "seed")
    missing = [(variant, seed) for seed in SEEDS for variant in VARIANTS if (variant.name, str(seed)) not in known]
    context = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0))
    with concurrent.futures.ProcessPoolExecutor(cores, context, max_tasks_per_child=1) as pool:
        for future in concurrent.futures.as_completed([pool.submit(train, *task) for task in missing]):
            results.add(TABLE, future.result(), order=_order)


def train(variant: Variant, seed: int) -> list[dict[str, Any]]:
    """Train once; return a row per epoch, with the accuracy on the validation and on the test images."""
    from reprocnn.backend import configure_device, keras
    from reprocnn.images import arrays
    from reprocnn.images.batches import batches

    configure_device("cpu", 1)
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    splits = {part: arrays.load(DATA / part) for part in ("train", "val", "test")}
    x, y = splits["train"]
    model = build(variant, splits["train"].x.shape[1:])
    loss = keras.losses.CategoricalCrossentropy(from_logits=variant.from_logits)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"], jit_compile=False)
    rows = []
    for epoch in range(1, variant.epochs + 1):
        order = rng.permutation(len(x))
        model.fit(batches((x[order], y[order]), 500), shuffle=False, verbose=0)
        row: dict[str, Any] = {"variant": variant.name, "seed": seed, "epoch": epoch}
        for part in ("val", "test"):
            _, accuracy = model.evaluate(batches((splits[part].x, splits[part].y), 1000), verbose=0)
            row[f"{part}_accuracy"] = round(float(accuracy), 6)
        rows.append(row)
    return rows


def build(variant: Variant, shape: tuple[int, int, int]) -> "keras.Model":
    """Build the exercise's network without the layers that the variant leaves out."""
    from reprocnn.backend import keras, layers
    from reprocnn.networks.build import assignment

    complete = assignment(shape, 10, layers.Rescaling(variant.scale))
    convolutions = [layer for layer in complete.layers if isinstance(layer, layers.Conv2D)]
    kept = [
        layer
        for layer in complete.layers
        if (variant.batch_norm or not isinstance(layer, layers.BatchNormalization))
        and (variant.second_convolution or layer is not convolutions[1])
    ]
    copies = [layer.__class__.from_config(layer.get_config()) for layer in kept]
    return keras.Sequential([keras.Input(shape, dtype="uint8"), *copies])


def _order(row: dict[str, str]) -> tuple[int, int, int]:
    names = [variant.name for variant in VARIANTS]
    return names.index(row["variant"]), int(row["seed"]), int(row["epoch"])
