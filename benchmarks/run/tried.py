"""Measure what single changes to mnist-fast do to its time and accuracy.

Train all in turn with three seeds each, after a warm-up round, and write benchmarks/results/tried.csv. Each trains on
54,000 images and is judged on the 6,000 validation images; seconds cover compilation, tracing and training.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.run import command, results
from benchmarks.run.settings import params_of, peak_lr
from benchmarks.run.step import prepare
from reprocnn.backend import Device, configure_device, keras
from reprocnn.images import arrays
from reprocnn.images.batches import batches
from reprocnn.networks.fast_layers import use_fast_layers
from reprocnn.training.schedule import WarmupDecay
from reprocnn.training.setup import OPTIMIZERS, make_variables

TABLE, DATA = results.FOLDER / "tried.csv", Path("data/prepared/mnist")
SEEDS = 3
# Other params, other arguments of `compile`, and four that `train` knows.
CHANGES: dict[str, dict[str, Any]] = {
    "none": {},
    "arrays instead of batches.py": {"arrays": True},
    "traced twice, as Keras does": {"twice": True},
    "prefetch(2)": {"prefetch": 2},
    "no accuracy while training": {"metrics": []},
    "7 steps a call": {"steps_per_execution": 7},
    "XLA": {"jit_compile": True},
    "Keras' own kernels": {"plain": True},
    "convolutions in float32": {"precision": "float32"},
    "Muon at 0.1": {"optimizer": "muon", "lr_factor": 10.0},
    "rate 0.03": {"lr_factor": 3.0},
    "batches of 256": {"batch_size": 256},
    "batches of 1000": {"batch_size": 1000},
    "filters 8": {"filters": 8},
    "filters 24": {"filters": 24},
    "filters 12, batches of 256": {"filters": 12, "batch_size": 256},
}


def main(arguments: list[str]) -> None:
    """Train all and write the table."""
    command.parser("tried", __doc__).parse_args(arguments)
    device = configure_device("cpu", 0, "auto")
    rows: list[dict[str, Any]] = []
    for seed in range(-1, SEEDS):
        for change, values in CHANGES.items():
            row = {"change": change, "seed": seed, **train(max(seed, 0), values, device)}
            rows.append(row | results.conditions(results.processor(device)))
            print(rows[-1], flush=True)
    results.write(TABLE, [row for row in rows if row["seed"] >= 0], digits=4)


def train(seed: int, values: dict[str, Any], device: Device) -> dict[str, float]:
    """Train mnist-fast with changed `values`; return the seconds and the validation accuracy."""
    params = params_of("mnist-fast") | {"precision": device.precision} | values
    keras.utils.set_random_seed(seed)
    recipe, data, model = prepare("mnist", params, params["precision"])
    if "plain" not in params:
        model = use_fast_layers(model, dataclasses.replace(device, precision=params["precision"]))
    steps = len(data.x) // recipe.batch_size
    order = np.random.default_rng(seed).permutation(len(data.x))[: steps * recipe.batch_size]
    x, y = data.x[order], data.y[order]
    start = time.perf_counter()
    model.compile(
        OPTIMIZERS[recipe.optimizer](WarmupDecay(peak_lr(params), steps, recipe.warmup, recipe.lr_end)),
        keras.losses.CategoricalCrossentropy(),
        metrics=params.get("metrics", ["accuracy"]),
        jit_compile=params.get("jit_compile", False),
        steps_per_execution=params.get("steps_per_execution", 1),
    )
    if "twice" not in params:
        make_variables(model)
    if "arrays" in params:
        model.fit(x, y, batch_size=recipe.batch_size, shuffle=False, verbose=0)
    else:
        fed = batches((x, y), recipe.batch_size)
        model.fit(fed.prefetch(params["prefetch"]) if "prefetch" in params else fed, shuffle=False, verbose=0)
    seconds = time.perf_counter() - start
    val = arrays.load(DATA / "val")
    right = model.predict(batches(val.x, 1000), verbose=0).argmax(1) == val.y.argmax(1)
    return {"seconds": seconds, "val_accuracy": float(right.mean())}
