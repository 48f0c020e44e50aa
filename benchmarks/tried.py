"""What was tried for mnist-fast: what one change of it does to its time and accuracy.

`python -m benchmarks.tried` trains all in turn, three seeds each after a round that counts for none, and writes
benchmarks/tried.csv. Trained on 54,000 images and judged on the 6,000 validation images; seconds are of compiling,
tracing and training.
"""

import dataclasses
import datetime
import time
from pathlib import Path
from typing import Any

from stages.lib import device  # isort: skip
import keras
import numpy as np
import pandas as pd

from benchmarks.settings import params_of
from benchmarks.step import prepare
from stages.lib import arrays, kernels, training
from stages.lib.batches import batches
from stages.lib.errors import run
from stages.lib.files import whole
from stages.lib.schedule import WarmupDecay

TABLE, DATA = Path("benchmarks/tried.csv"), Path("data/prepared/mnist")
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
    "Muon at 0.1": {"optimizer": "muon", "lr": 0.1},
    "rate 0.03": {"lr": 0.03},
    "batches of 256": {"batch_size": 256},
    "batches of 1000": {"batch_size": 1000},
    "filters 8": {"filters": 8},
    "filters 24": {"filters": 24},
    "filters 12, batches of 256": {"filters": 12, "batch_size": 256},
}


def main() -> None:
    used = device.set_up("cpu", 0, "auto")
    rows = []
    for seed in range(-1, SEEDS):
        for change, values in CHANGES.items():
            rows.append(
                {"change": change, "seed": seed, **train(seed, values, used)}
                | {"hardware": f"{used.name}, {used.threads} threads", "date": datetime.date.today().isoformat()}
            )
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    with whole(TABLE) as partial:
        table[table["seed"] >= 0].to_csv(partial, index=False, lineterminator="\n", float_format="%.4g")


def train(seed: int, values: dict[str, Any], used: device.Device) -> dict[str, float]:
    params = params_of("mnist-fast") | {"precision": used.precision} | values
    keras.utils.set_random_seed(max(seed, 0))
    recipe, data, model = prepare("mnist", params, params["precision"])
    if "plain" not in params:
        model = kernels.use_faster_kernels(model, dataclasses.replace(used, precision=params["precision"]))
    steps = len(data.x) // recipe.batch_size
    order = np.random.default_rng(max(seed, 0)).permutation(len(data.x))[: steps * recipe.batch_size]
    x, y = data.x[order], data.y[order]
    start = time.perf_counter()
    model.compile(
        training.OPTIMIZERS[recipe.optimizer](WarmupDecay(recipe.lr, steps, recipe.warmup, recipe.lr_end)),
        keras.losses.CategoricalCrossentropy(),
        metrics=params.get("metrics", ["accuracy"]),
        jit_compile=params.get("jit_compile", False),
        steps_per_execution=params.get("steps_per_execution", 1),
    )
    if "twice" not in params:
        training.make_variables(model)
    if "arrays" in params:
        model.fit(x, y, batch_size=recipe.batch_size, shuffle=False, verbose=0)
    else:
        fed = batches((x, y), recipe.batch_size)
        model.fit(fed.prefetch(params["prefetch"]) if "prefetch" in params else fed, shuffle=False, verbose=0)
    seconds = time.perf_counter() - start
    val = arrays.load(DATA, "val")
    right = model.predict(batches(val.x, 1000), verbose=0).argmax(1) == val.y.argmax(1)
    return {"seconds": seconds, "val_accuracy": right.mean()}


if __name__ == "__main__":
    run(main)
