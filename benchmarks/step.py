"""What a training step costs: against the floor of its arithmetic, against Keras' own kernels, and against PyTorch with
the same network.

`python -m benchmarks.step PYTHON`, PYTHON having PyTorch, for each network and precision. Five rounds in turn of: the
largest rate of a matrix product (2,048 squared) in that precision, steps of ours, as many without
stages/lib/kernels.py, as many of PyTorch's in the same precision; augmentation left out on all sides. Writes
benchmarks/step.csv: medians over the rounds.
"""

import dataclasses
import datetime
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.settings import params_of
from stages.lib import arrays, device
from stages.lib.errors import UserError, run
from stages.lib.files import whole

if TYPE_CHECKING:
    import keras

    from stages.lib.training import Recipe

TABLE, DATA = Path("benchmarks/step.csv"), Path("data/prepared")
ROUNDS = 5
STEPS = {"mnist-fast": 100, "mnist": 100, "cifar": 3}


def main() -> None:
    if len(sys.argv) != 2:
        raise UserError("step: expected a Python that has PyTorch; try `make bench`")
    used = device.set_up("cpu", 0)
    rows = []
    for setting, precision in itertools.product(STEPS, ("float32", "mixed_bfloat16")):
        name, steps = setting.split("-")[0], STEPS[setting]
        params = params_of(setting)
        peaks, ours, keras_own, theirs = [], [], [], []
        step, flops = training_step(name, params, dataclasses.replace(used, precision=precision), steps)
        plain_step, _ = training_step(name, params, dataclasses.replace(used, precision=precision), steps, faster=False)
        sizes = [params["filters"], params["depth"], params["batch_size"], steps]
        command = [sys.argv[1], "-m", f"benchmarks.pytorch_{name}", "step", precision, *map(str, sizes)]
        for _ in range(ROUNDS):
            peaks.append(matrix_peak(precision))
            ours.append(step())
            keras_own.append(plain_step())
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            theirs.append(json.loads(done.stdout)["milliseconds"])
        peak, mine, plain, torch = (statistics.median(values) for values in (peaks, ours, keras_own, theirs))
        rows.append(
            {
                "setting": setting,
                "precision": precision,
                "images": params["batch_size"],
                "gflop_per_step": flops / 1e9,
                "milliseconds": mine,
                "keras_milliseconds": plain,
                "pytorch_milliseconds": torch,
                "keras_over_ours": statistics.median(k / m for k, m in zip(keras_own, ours, strict=True)),
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


def prepare(name: str, params: dict[str, Any], precision: str) -> tuple["Recipe", arrays.Split, "keras.Model"]:
    """A recipe, its training images, and its network, not compiled."""
    import keras  # here, that its import comes after device's, which keeps TensorFlow quiet

    from stages.lib import networks, training

    names = {field.name for field in dataclasses.fields(training.Recipe)}
    recipe = training.Recipe(**{key: value for key, value in params.items() if key in names})
    data = arrays.load(DATA / name, "train")
    model = networks.build(
        recipe.network,
        data.x.shape[1:],
        10,
        keras.layers.Rescaling(*arrays.load_normalization(DATA / name)),
        filters=recipe.filters,
        depth=recipe.depth,
        kernel_size=recipe.kernel_size,
        dropout=recipe.dropout,
        precision=precision,
    )
    return recipe, data, model


def training_step(
    name: str, params: dict[str, Any], used: device.Device, steps: int, faster: bool = True
) -> tuple[Any, float]:
    """A function that trains `steps` steps and gives the median of their milliseconds, and the FLOPs of one step."""
    import keras

    from stages.lib import kernels, training
    from stages.lib.batches import batches
    from stages.lib.flops import training_flops

    keras.utils.set_random_seed(0)
    recipe, data, model = prepare(name, params, used.precision)
    model = kernels.use_faster_kernels(model, used) if faster else model
    loss = keras.losses.CategoricalCrossentropy()
    model.compile(training.OPTIMIZERS[recipe.optimizer](recipe.lr), loss, metrics=["accuracy"], jit_compile=False)
    clock = Clock(keras)

    def step() -> float:
        order = np.random.default_rng(0).permutation(len(data.x))[: (steps + 1) * recipe.batch_size]
        clock.times.clear()
        model.fit(
            batches((data.x[order], data.y[order]), recipe.batch_size),
            shuffle=False,
            verbose=0,
            callbacks=[clock.callback],
        )
        return 1000 * statistics.median(np.diff(clock.times))

    step()  # traced, and the first steps of a process are slower
    return step, float(recipe.batch_size * training_flops(model))


class Clock:
    """When each batch ended."""

    def __init__(self, keras: Any) -> None:
        self.times: list[float] = []
        self.callback = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: self.times.append(time.perf_counter())
        )


def matrix_peak(precision: str) -> float:
    """FLOPs a second of the fastest of ten products."""
    a = device.tf.cast(device.tf.random.normal((2048, 2048)), precision.removeprefix("mixed_"))
    product = device.tf.function(lambda a: a @ a)
    product(a)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        device.tf.cast(product(a)[0, 0], "float32").numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds)


if __name__ == "__main__":
    run(main)
