"""Measure what a training step costs, beside its bare arithmetic, Keras' own layers and PyTorch with the same network.

For each network and precision, run in turn, five rounds: a matrix product (2,048 squared) at the highest speed in that
precision, the project's steps, as many without reprocnn/networks/fast_layers.py, and as many of PyTorch's in the same
precision, all without augmentation. Medians over the rounds go to benchmarks/results/step.csv, where rows of other
processors stay.
"""

import dataclasses
import itertools
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.run import command, results
from benchmarks.run.settings import dataset_of, params_of, peak_lr
from reprocnn.backend import Device, configure_device, keras, tf
from reprocnn.core.params import Recipe, fill
from reprocnn.evaluation.flops import training_flops
from reprocnn.images import arrays
from reprocnn.images.batches import batches
from reprocnn.networks.fast_layers import use_fast_layers
from reprocnn.training.setup import OPTIMIZERS, build_network

TABLE, DATA = results.FOLDER / "step.csv", Path("data/prepared")
ROUNDS = 5
STEPS = {"mnist-fast": 100, "mnist": 100, "cifar": 3}


def main(arguments: list[str]) -> None:
    """Measure all and write the table."""
    parser = command.parser("step", __doc__)
    parser.add_argument("python", metavar="PYTHON", help="a Python that has PyTorch")
    python = parser.parse_args(arguments).python
    device = configure_device("cpu", 0)
    for setting, precision in itertools.product(STEPS, ("float32", "mixed_bfloat16")):
        row = measure(setting, dataclasses.replace(device, precision=precision), python)
        row |= results.conditions(results.processor(device))
        results.add(TABLE, [row], keys=("setting", "precision", "hardware"), digits=4)


def measure(setting: str, device: Device, python: str) -> dict[str, Any]:
    """Time the sides in turn; return the row of the setting in the precision of `device`."""
    params, dataset, steps = params_of(setting), dataset_of(setting), STEPS[setting]
    step, flops = training_step(dataset, params, device, steps)
    keras_step, _ = training_step(dataset, params, device, steps, fast=False)
    sizes = [params["filters"], params["depth"], params["batch_size"], steps]
    peaks, ours, keras_own, pytorch = [], [], [], []
    for _ in range(ROUNDS):
        peaks.append(matrix_peak(device.precision))
        ours.append(step())
        keras_own.append(keras_step())
        timed = command.ask(python, f"pytorch_{dataset}", "step", device.precision, *sizes)
        pytorch.append(timed["milliseconds"])
    return {
        "setting": setting,
        "precision": device.precision,
        "images": params["batch_size"],
        "gflop_per_step": flops / 1e9,
        "milliseconds": statistics.median(ours),
        "keras_milliseconds": statistics.median(keras_own),
        "pytorch_milliseconds": statistics.median(pytorch),
        "keras_over_ours": statistics.median(other / own for other, own in zip(keras_own, ours, strict=True)),
        "pytorch_over_ours": statistics.median(other / own for other, own in zip(pytorch, ours, strict=True)),
        "matrix_peak_gflops": statistics.median(peaks) / 1e9,
        "share_of_peak": statistics.median(1000 * flops / own / peak for own, peak in zip(ours, peaks, strict=True)),
        "rounds": ROUNDS,
    }


def prepare(dataset: str, params: dict[str, Any], precision: str) -> tuple[Recipe, arrays.Split, keras.Model]:
    """Return a recipe, its training images, and its network, not compiled."""
    recipe = fill(Recipe, params)
    data = arrays.load(DATA / dataset / "train")
    return recipe, data, build_network(dataset, recipe, data, precision, resized=False)


def training_step(
    dataset: str, params: dict[str, Any], device: Device, steps: int, fast: bool = True
) -> tuple[Any, float]:
    """Return a function that trains `steps` steps and gives their median milliseconds, and the FLOPs of one step."""
    keras.utils.set_random_seed(0)
    recipe, data, model = prepare(dataset, params, device.precision)
    model = use_fast_layers(model, device) if fast else model
    loss = keras.losses.CategoricalCrossentropy()
    model.compile(OPTIMIZERS[recipe.optimizer](peak_lr(params)), loss, metrics=["accuracy"], jit_compile=False)
    ends: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))

    def step() -> float:
        order = np.random.default_rng(0).permutation(len(data.x))[: (steps + 1) * recipe.batch_size]
        ends.clear()
        fed = batches((data.x[order], data.y[order]), recipe.batch_size)
        model.fit(fed, shuffle=False, verbose=0, callbacks=[clock])
        return 1000 * statistics.median(np.diff(ends).tolist())

    step()  # traced, and the first steps of a process are slower
    return step, float(recipe.batch_size * training_flops(model))


def matrix_peak(precision: str) -> float:
    """Measure the FLOPs per second of the fastest of ten matrix products."""
    a = tf.cast(tf.random.normal((2048, 2048)), precision.removeprefix("mixed_"))
    product = tf.function(lambda a: a @ a)
    product(a)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        tf.cast(product(a)[0, 0], "float32").numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds)
