"""The exercise's insights and slips, each put to the test with five seeds.

`python -m benchmarks.insights` trains what benchmarks/insights.csv lacks, one process a core, each with one thread, and
writes a row for each epoch as soon as a training ends. The network is the exercise's own, with or without the parts
that its insights speak of; batch 500 and Adam as there. Trained on the 54,000 training images, so that the epoch can
be chosen on the 6,000 of the validation split as well as, wrongly, on the test images.
"""

import concurrent.futures
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib.files import whole

TABLE = Path("benchmarks/insights.csv")
DATA = Path("data/prepared/mnist")
SEEDS = range(5)


@dataclass(frozen=True)
class Variant:
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


def main() -> None:
    known = set(pd.read_csv(TABLE)[["variant", "seed"]].itertuples(index=False, name=None)) if TABLE.exists() else set()
    missing = [(variant, seed) for seed in SEEDS for variant in VARIANTS if (variant.name, seed) not in known]
    context = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0))
    with concurrent.futures.ProcessPoolExecutor(cores, context, max_tasks_per_child=1) as pool:
        for future in concurrent.futures.as_completed([pool.submit(train, *task) for task in missing]):
            add(future.result())


def train(variant: Variant, seed: int) -> pd.DataFrame:
    """A row per epoch: accuracy on the validation and on the test images."""
    from stages.lib import arrays, device  # before Keras, whose import is quiet then
    from stages.lib.batches import batches

    device.set_up("cpu", 1)
    import keras

    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    splits = {part: arrays.load(DATA, part) for part in ("train", "val", "test")}
    x, y = splits["train"]
    model = build(variant, splits["train"].x.shape[1:])
    loss = keras.losses.CategoricalCrossentropy(from_logits=variant.from_logits)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"], jit_compile=False)
    rows = []
    for epoch in range(1, variant.epochs + 1):
        order = rng.permutation(len(x))
        model.fit(batches((x[order], y[order]), 500), shuffle=False, verbose=0)
        accuracy = {
            f"{part}_accuracy": model.evaluate(batches((splits[part].x, splits[part].y), 1000), verbose=0)[1]
            for part in ("val", "test")
        }
        rows.append({"variant": variant.name, "seed": seed, "epoch": epoch, **accuracy})
    return pd.DataFrame(rows).round(6)


def build(variant: Variant, shape: tuple[int, int, int]):  # type: ignore[no-untyped-def]
    """The exercise's network, without the layers that the variant does without."""
    import keras

    from stages.lib import networks

    whole_network = networks.assignment(shape, 10, keras.layers.Rescaling(variant.scale))
    convolutions = [layer for layer in whole_network.layers if isinstance(layer, keras.layers.Conv2D)]
    return keras.Sequential(
        [keras.Input(shape, dtype="uint8")]
        + [
            layer.__class__.from_config(layer.get_config())
            for layer in whole_network.layers
            if (variant.batch_norm or not isinstance(layer, keras.layers.BatchNormalization))
            and (variant.second_convolution or layer is not convolutions[1])
        ]
    )


def add(rows: pd.DataFrame) -> None:
    last = rows.iloc[-1]
    print(f"{last['variant']}, seed {last['seed']}: test accuracy {last['test_accuracy']:.4f}", flush=True)
    if TABLE.exists():
        rows = pd.concat([pd.read_csv(TABLE), rows])
    order = [variant.name for variant in VARIANTS]
    rows = rows.sort_values(
        ["variant", "seed", "epoch"], key=lambda c: c.map(order.index) if c.name == "variant" else c
    )
    with whole(TABLE) as partial:
        rows.to_csv(partial, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
