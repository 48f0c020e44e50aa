"""What a training step costs: against the floor of its arithmetic, and against PyTorch with the same network.

`python -m benchmarks.step PYTHON`, PYTHON having PyTorch, for the networks of `mnist` and `mnist-fast`. Five rounds in
turn of: the largest rate of a float32 matrix product (2,048 squared), 100 steps of ours, 100 of PyTorch's, batch 256,
augmentation left out on both sides. Writes benchmarks/step.csv: medians over the rounds.
"""

import dataclasses
import datetime
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from benchmarks.tables import SETTINGS
from stages.lib import arrays, device
from stages.lib.errors import UserError, run
from stages.lib.files import whole

TABLE, DATA = Path("benchmarks/step.csv"), Path("data/prepared/mnist")
ROUNDS, STEPS, BATCH_SIZE = 5, 100, 256


def main() -> None:
    if len(sys.argv) != 2:
        raise UserError("step: expected a Python that has PyTorch; try `make bench-peers`")
    used = device.set_up("cpu", 0)
    rows = []
    for setting in ("mnist-fast", "mnist"):
        params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["mnist"]
        params |= {key.split(".")[1]: value for key, value in SETTINGS[setting].items()}
        peaks, ours, theirs = [], [], []
        step, flops = training_step(params)
        command = [sys.argv[1], "-m", "benchmarks.pytorch", "step", str(params["filters"]), str(params["depth"])]
        for _ in range(ROUNDS):
            peaks.append(matrix_peak())
            ours.append(step())
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            theirs.append(json.loads(done.stdout)["milliseconds"])
        peak, mine, torch = (statistics.median(values) for values in (peaks, ours, theirs))
        rows.append(
            {
                "setting": setting,
                "gflop_per_step": flops / 1e9,
                "milliseconds": mine,
                "pytorch_milliseconds": torch,
                "pytorch_over_ours": statistics.median(t / m for t, m in zip(theirs, ours, strict=True)),
                "matrix_peak_gflops": peak / 1e9,
                "share_of_peak": statistics.median(1000 * flops / m / p for m, p in zip(ours, peaks, strict=True)),
                "rounds": ROUNDS,
                "hardware": f"{used.name}, {used.threads} threads",
                "date": datetime.date.today().isoformat(),
            }
        )
        print(rows[-1], flush=True)
    with whole(TABLE) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False, lineterminator="\n", float_format="%.4g")


def training_step(params: dict[str, Any]) -> tuple[Any, float]:
    """A function that trains `STEPS` steps and gives the median of their milliseconds, and the FLOPs of one step."""
    import keras  # here, that its import comes after device's, which keeps TensorFlow quiet

    from stages.lib import architecture, networks, training
    from stages.lib.batches import batches

    keras.utils.set_random_seed(0)
    names = {field.name for field in dataclasses.fields(training.Recipe)}
    recipe = training.Recipe(**{key: value for key, value in params.items() if key in names})
    scale, offset = arrays.load_normalization(DATA)
    data = arrays.load(DATA, "train")
    model = networks.build(
        recipe.network,
        data.x.shape[1:],
        10,
        keras.layers.Rescaling(scale, offset),
        filters=recipe.filters,
        depth=recipe.depth,
        kernel_size=recipe.kernel_size,
        dropout=recipe.dropout,
    )
    loss = keras.losses.CategoricalCrossentropy()
    model.compile(training.OPTIMIZERS[recipe.optimizer](recipe.lr), loss, metrics=["accuracy"], jit_compile=False)
    clock = Clock(keras)

    def step() -> float:
        order = np.random.default_rng(0).permutation(len(data.x))[: STEPS * BATCH_SIZE]
        clock.times.clear()
        model.fit(
            batches((data.x[order], data.y[order]), BATCH_SIZE), shuffle=False, verbose=0, callbacks=[clock.callback]
        )
        return 1000 * statistics.median(np.diff(clock.times))

    step()  # traced, and the first steps of a process are slower
    # Backward, the gradients of kernels and of inputs take as many products each as the forward pass; the first layer's
    # are counted in, though nothing needs them.
    return step, 3.0 * BATCH_SIZE * sum(architecture.flops(layer) for layer in model.layers)


class Clock:
    """When each batch ended."""

    def __init__(self, keras: Any) -> None:
        self.times: list[float] = []
        self.callback = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: self.times.append(time.perf_counter())
        )


def matrix_peak() -> float:
    """FLOPs a second of the fastest of ten products."""
    a = device.tf.random.normal((2048, 2048))
    product = device.tf.function(lambda a: a @ a)
    product(a)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        product(a).numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds)


if __name__ == "__main__":
    run(main)
