"""Train CIFAR-10 on one GPU: the pipeline's network, optimizer and augmentation in Keras on JAX, an epoch per call.

Needs a Python that has JAX with CUDA, and no TensorFlow. `train` trains each setting with the seeds 0 to N-1 and
bfloat16 convolutions, with keys of the section cifar of params.yaml changed as given: benchmarks/results/gpu.csv.
Accuracies are on the validation images or, if a setting trains on those too, on the test images. `step` times a
training step beside Keras' own `fit` and PyTorch on the same GPU: benchmarks/results/gpu_step.csv.

Images stay on the device; only the order, the moves and the mirroring of an epoch are sent there. Seconds cover all
epochs and the wait for the last step; they exclude data loading, whitening, compilation and evaluation.
"""

import argparse
import os
import statistics
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

# Before reprocnn.backend, which then leaves Keras as it is and does not import TensorFlow.
os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
from jax import lax
from jax import numpy as jnp
from ruamel.yaml.error import YAMLError

from benchmarks.run import command, results
from benchmarks.run.settings import SETTINGS, params_of, peak_lr
from reprocnn.core import params
from reprocnn.evaluation import tta
from reprocnn.evaluation.flops import training_flops
from reprocnn.images import arrays
from reprocnn.images.augment import augment, flips
from reprocnn.networks import build as networks
from reprocnn.networks.whitening import set_whitening
from reprocnn.training.muon import Muon
from reprocnn.training.schedule import WarmupDecay, image_size

TABLE, STEPS, DATA = results.FOLDER / "gpu.csv", results.FOLDER / "gpu_step.csv", Path("data/prepared/cifar")
ROUNDS, PRECISION = 5, "mixed_bfloat16"
Recipe = dict[str, Any]
# Learning rates (steps,); indices, rows, columns and mirrored, each (steps, images of a batch).
Batches = tuple[np.ndarray, ...]
GIVEN = ("train_on", "shift", "fill_mode", "label_smoothing")  # what on_device takes of a recipe
COMPILED: dict[tuple[Any, ...], Any] = {}  # epochs, by what they are compiled for


def main(arguments: list[str]) -> None:
    """Train or time steps, as the command line says."""
    parser = command.parser("gpu", __doc__)
    task = parser.add_subparsers(dest="task", required=True)
    trained = task.add_parser("train")
    trained.add_argument("n", metavar="N", type=int, help="how many seeds")
    trained.add_argument("settings", metavar="SETTING[,KEY=VALUE]", nargs="+", type=changed_setting)
    task.add_parser("step")
    options = parser.parse_args(arguments)
    if options.task == "step":
        time_steps()
        return
    for setting, change, recipe in options.settings:
        record(setting, change, [train(recipe, seed) for seed in range(options.n)])


def changed_setting(text: str) -> tuple[str, str, Recipe]:
    """Parse SETTING,KEY=VALUE,...: the setting, its changes separated by spaces, and its recipe.

    Raises ArgumentTypeError for an unknown setting or key, and for a recipe that on_device and vary cannot follow.
    """
    setting, *changes = text.split(",")
    if setting not in SETTINGS:
        raise argparse.ArgumentTypeError(f"found {setting}, expected one of {', '.join(SETTINGS)}")
    recipe = params_of(setting)
    try:
        values = params.parse("\n".join(change.replace("=", ": ", 1) for change in changes)) if changes else {}
    except (ValueError, YAMLError):
        raise argparse.ArgumentTypeError(f"found {text}, expected changes as KEY=VALUE") from None
    unknown = sorted(values.keys() - recipe.keys())
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown key {unknown[0]}; known: {', '.join(recipe)}")
    recipe |= values
    if recipe["network"] != "cifar_cnn" or any(recipe[key] for key in ("rotation", "zoom", "shear", "elastic")):
        raise argparse.ArgumentTypeError(
            f"found {setting}, expected cifar_cnn without rotation, zoom, shear and elastic"
        )
    return setting, " ".join(changes), recipe


def record(setting: str, change: str, rows: list[dict[str, Any]]) -> None:
    """Write the rows to the table, replacing those of the same setting and change, and print means and deviations."""
    what = {"setting": setting, "change": change}
    spreads = {}
    for key in (key for key, value in rows[0].items() if isinstance(value, float)):
        values = [row[key] for row in rows]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        spreads[key] = f"{statistics.mean(values):.5g} +- {deviation:.3g}"
    print(what, spreads, flush=True)
    results.add(TABLE, [what | row | conditions() for row in rows], keys=("setting", "change"), digits=6)


@cache
def conditions() -> dict[str, Any]:
    """Return the columns of the machine."""
    hardware = jax.devices()[0].device_kind
    return {
        "matrix_peak_tflops": matrix_peak() / 1e12,
        "hardware": hardware,
        "versions": f"jax {jax.__version__}, keras {keras.__version__}, numpy {np.__version__}",
        "date": results.today(),
    }


def train(recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train once; return its row, judged on the validation images or, if those are trained on, on the test images."""
    judged_on = "val" if recipe["train_on"] == "train" else "test"
    images = load(recipe["train_on"])
    keras.utils.set_random_seed(seed)
    model = build(recipe, images.x.shape[1:], PRECISION)
    kernel, whitening_seconds = whitening(recipe["train_on"])
    model.get_layer("whitening").kernel.assign(kernel)
    model.get_layer("whitening").kernel.trainable = False
    optimizer = Muon(0.0, weight_decay=recipe["weight_decay"])
    optimizer.build(model.trainable_variables)
    epochs = [draw(len(images.x), seed, epoch, recipe) for epoch in range(recipe["epochs"])]
    state, given = state_of(model, optimizer), on_device(*(recipe[key] for key in GIVEN))
    begun = time.perf_counter()
    height_width, channels = images.x.shape[1:3], images.x.shape[3]
    sizes = [image_size(height_width, recipe["first_size"], epoch, len(epochs)) for epoch in range(len(epochs))]
    shapes = [(*size, channels) for size in sizes]
    compiled = [epoch_of(shape, recipe, optimizer, state, given, epochs[0]) for shape in shapes]
    compile_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    for epoch, batches in zip(compiled, epochs, strict=True):
        state, _ = epoch(state, *given, batches)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - begun
    keep(state, model, optimizer)
    flops = sum(training_flops(build(recipe, shape, "float32")) for shape in shapes) * epochs[0][1].size
    return {"seed": seed, "judged_on": judged_on, "epochs": len(epochs), **judge(model, recipe, judged_on)} | {
        "seconds": seconds,
        "whitening_seconds": whitening_seconds,
        "compile_seconds": compile_seconds,
        "tflop": flops / 1e12,
        "peak_memory_mib": (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) >> 20,
    }


@cache
def whitening(part: str) -> tuple[np.ndarray, float]:
    """Compute the whitening kernel of a split, and the seconds that it took."""
    x = load(part).x
    model = build(params_of("cifar"), x.shape[1:], "float32")
    start = time.perf_counter()
    set_whitening(model, x)
    return np.asarray(model.get_layer("whitening").kernel), time.perf_counter() - start


@cache
def load(part: str) -> arrays.Split:
    """Load a split, or two joined by +."""
    splits = [arrays.load(DATA / name) for name in part.split("+")]
    return arrays.Split(*(np.concatenate(parts) for parts in zip(*splits, strict=True)))


@cache
def on_device(part: str, margin: int, fill_mode: params.FillMode, smoothing: float) -> tuple[Any, Any]:
    """Put the images, with a margin to move in, and the smoothed labels on the device."""
    around = (margin, margin)
    padded = np.pad(load(part).x, ((0, 0), around, around, (0, 0)), mode=fill_mode)
    return jnp.asarray(padded), jnp.asarray(load(part).y * (1 - smoothing) + smoothing / load(part).y.shape[1])


def build(recipe: Recipe, shape: tuple[int, ...], precision: str) -> keras.Model:
    """Build the network of the recipe for images of `shape`, not compiled."""
    sizes = {key: recipe[key] for key in ("filters", "depth", "kernel_size", "dropout")}
    normalization = keras.layers.Rescaling(*arrays.load_normalization(DATA), name="normalization")
    height, width, channels = shape
    return networks.build(recipe["network"], (height, width, channels), 10, normalization, precision=precision, **sizes)


def variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> tuple[list[Any], ...]:
    """List the variables of the state: trainable, not trainable, of the optimizer."""
    return model.trainable_variables, model.non_trainable_variables, optimizer.variables


def state_of(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> tuple[list[Any], ...]:
    """Copy the values of `variables`."""
    return tuple([jnp.copy(variable.value) for variable in group] for group in variables(model, optimizer))


def keep(state: tuple[list[Any], ...], model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Assign a state to `variables`."""
    for group, values in zip(variables(model, optimizer), state, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.assign(value)


def draw(n: int, seed: int, epoch: int, recipe: Recipe) -> Batches:
    """Draw what reprocnn/training/loop.py draws for an epoch: learning rates, order, moves, which are mirrored."""
    rng = np.random.Generator(np.random.PCG64([seed, epoch]))
    steps = n // recipe["batch_size"]
    chosen = rng.permutation(n)[: steps * recipe["batch_size"]]
    rows, columns = rng.integers(0, 2 * recipe["shift"] + 1, size=(2, len(chosen)))
    mirrored = flips(n, seed, epoch)[chosen] & recipe["flip"]
    schedule = WarmupDecay(peak_lr(recipe), recipe["epochs"] * steps, recipe["warmup"], recipe["lr_end"])
    rates = np.asarray(schedule(np.arange(epoch * steps, (epoch + 1) * steps)))
    return rates, *(part.reshape(steps, -1) for part in (chosen, rows, columns, mirrored))


def vary(shape: tuple[int, ...], padded: Any, chosen: Any, rows: Any, columns: Any, mirrored: Any) -> Any:
    """Cut the chosen images out of those with a margin, moved and mirrored, of height, width and channels `shape`."""

    def cut(image: Any, row: Any, column: Any, mirror: Any) -> Any:
        view = lax.dynamic_slice(image, (row, column, 0), shape)
        return jnp.where(mirror, view[:, ::-1], view)

    return jax.vmap(cut)(padded[chosen], rows, columns, mirrored)


def shrink(x: Any, shape: tuple[int, ...]) -> Any:
    """Shrink like reprocnn/images/augment.py, which takes NumPy arrays."""
    if shape == x.shape[1:]:
        return x
    small = keras.ops.image.resize(x.astype("float32"), shape[:2], "bilinear", antialias=True)
    return jnp.rint(small).astype("uint8")


def epoch_of(
    shape: tuple[int, ...], recipe: Recipe, optimizer: Any, state: Any, given: tuple[Any, Any], batches: Batches
) -> Any:
    """Compile an epoch with images of `shape`: from state, images, labels and `batches` to state and mean loss."""
    padded, labels = given
    full = (*(side - 2 * recipe["shift"] for side in padded.shape[1:3]), padded.shape[3])
    keys = ("filters", "depth", "kernel_size", "dropout", "shift", "weight_decay")
    known = (shape, *batches[1].shape, *(recipe[key] for key in keys))
    if known in COMPILED:
        return COMPILED[known]
    model = build(recipe, shape, PRECISION)
    model.get_layer("whitening").kernel.trainable = False
    loss = keras.losses.CategoricalCrossentropy()  # the labels are smooth already
    rate_at = [variable.name for variable in optimizer.variables].index("learning_rate")

    def lost(trained: Any, rest: Any, x: Any, y: Any) -> Any:
        predicted, rest = model.stateless_call(trained, rest, x, training=True)
        return loss(y, predicted), rest

    def step(padded: Any, labels: Any, state: Any, batch: Any) -> Any:
        trained, rest, kept = state
        rate, *moves = batch
        x = shrink(vary(full, padded, *moves), shape)
        (value, rest), gradients = jax.value_and_grad(lost, has_aux=True)(trained, rest, x, labels[moves[0]])
        kept = [*kept[:rate_at], rate, *kept[rate_at + 1 :]]
        trained, kept = optimizer.stateless_apply(kept, gradients, trained)
        return (trained, rest, kept), value

    def epoch(state: Any, padded: Any, labels: Any, batches: Any) -> Any:
        state, losses = lax.scan(partial(step, padded, labels), state, batches)
        return state, losses.mean()

    COMPILED[known] = jax.jit(epoch, donate_argnums=0).lower(state, padded, labels, batches).compile()
    return COMPILED[known]


def judge(model: keras.Model, recipe: Recipe, part: str) -> dict[str, float]:
    """Measure the accuracies on a split in float32, as the stages evaluate_* do."""
    split = load(part)
    judged = judge_of(split.x.shape[1:], *(recipe[key] for key in ("network", "filters", "depth", "kernel_size")))
    judged.set_weights(model.get_weights())
    plain = predict(judged, split.x)
    averaged = tta.predict_tta(judged, split.x, recipe["flip"], predict, plain)
    right = [float((one.argmax(1) == split.y.argmax(1)).mean()) for one in (plain, averaged)]
    return {"accuracy": right[0], "accuracy_tta": right[1]}


@cache
def judge_of(shape: tuple[int, ...], network: str, filters: int, depth: int, kernel_size: int) -> keras.Model:
    """Build the network that predicts in float32."""
    recipe = {"network": network, "filters": filters, "depth": depth, "kernel_size": kernel_size, "dropout": 0.0}
    return build(recipe, shape, "float32")


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Predict like tta.predict, which needs TensorFlow."""
    return model.predict(x, batch_size=tta.BATCH_SIZE, verbose=0)


def time_steps() -> None:
    """Write the milliseconds of a step: in an epoch here, by Keras' `fit`, and by PyTorch with the same network.

    `fit` gets batch after batch of images that are augmented before. Medians of rounds in turn.
    """
    recipe = params_of("cifar-plain")
    images = load(recipe["train_on"])
    given = on_device(*(recipe[key] for key in GIVEN))
    model = build(recipe, images.x.shape[1:], PRECISION)
    set_whitening(model, images.x)
    model.compile(Muon(0.01), keras.losses.CategoricalCrossentropy(label_smoothing=recipe["label_smoothing"]))
    model.optimizer.build(model.trainable_variables)
    augmentation = params.fill(params.Augmentation, recipe)
    ours, fitted, theirs = [], [], []
    for epoch in range(ROUNDS + 1):
        batches = draw(len(images.x), 0, epoch, recipe)
        chosen, state = batches[1].ravel(), state_of(model, model.optimizer)
        compiled = epoch_of(images.x.shape[1:], recipe, model.optimizer, state, given, batches)
        start = time.perf_counter()
        jax.block_until_ready(compiled(state, *given, batches))
        ours.append((time.perf_counter() - start) / len(batches[0]))
        x = augment(
            images.x[chosen], np.random.default_rng(epoch), augmentation, flips(len(images.x), 0, epoch)[chosen]
        )
        start = time.perf_counter()
        model.fit(x, images.y[chosen], batch_size=recipe["batch_size"], shuffle=False, verbose=0)
        fitted.append((time.perf_counter() - start) / len(batches[0]))
        theirs.append(pytorch_step(recipe) / 1000)
    rows = [
        {"side": side, "images": recipe["batch_size"], "milliseconds": 1000 * statistics.median(seconds[1:])}
        | {"gflop": recipe["batch_size"] * training_flops(model) / 1e9, "rounds": ROUNDS}
        | conditions()
        for side, seconds in (("an epoch in one call", ours), ("Keras' fit", fitted), ("PyTorch, compiled", theirs))
    ]
    print(rows, flush=True)
    results.write(STEPS, rows, digits=6)


def pytorch_step(recipe: Recipe) -> float:
    """Time steps of PyTorch in another process; return their milliseconds."""
    steps = len(load("train").x) // recipe["batch_size"] - 1
    sizes = [recipe["filters"], recipe["depth"], recipe["batch_size"], steps]
    return command.ask(sys.executable, "pytorch_cifar", "step", "mixed_bfloat16", *sizes)["milliseconds"]


def matrix_peak(size: int = 8192) -> float:
    """Measure the operations per second of a product of random square bfloat16 matrices; take the best of several."""
    a, b = (jnp.asarray(np.random.default_rng(seed).normal(size=(size, size)), jnp.bfloat16) for seed in (0, 1))
    product = jax.jit(jnp.matmul)
    seconds = []
    for _ in range(2 * ROUNDS):
        start = time.perf_counter()
        product(a, b).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)
