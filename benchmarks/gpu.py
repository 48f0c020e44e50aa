"""CIFAR-10 on one GPU: the pipeline's network, optimizer and varied images in Keras on JAX, an epoch in one call.

`python -m benchmarks.gpu N SETTING[,KEY=VALUE] ...`, by a Python that has JAX with CUDA and need not have TensorFlow,
trains each setting, changed as the keys of params.yaml's cifar say, with the seeds 0 to N-1, the convolutions in
bfloat16, and puts the rows in benchmarks/gpu.csv. Accuracies are of the validation images, or, where those are trained
on too, of the test images. `python -m benchmarks.gpu step` times a step against Keras' own `fit` and PyTorch on the
same GPU: benchmarks/gpu_step.csv.

Images stay on the device: of an epoch only which come when, how moved and which mirrored goes there. Seconds are of all
epochs, with the wait for the last step, without data loading, whitening, compiling and evaluation.
"""

import datetime
import json
import os
import statistics
import subprocess
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

import stages  # noqa: F401  # chooses TensorFlow

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
import pandas as pd
import yaml
from jax import lax
from jax import numpy as jnp

from benchmarks.settings import SETTINGS, params_of
from stages.lib import arrays, networks, tta
from stages.lib.augment import FillMode, Variation, augment, flips
from stages.lib.errors import UserError, run
from stages.lib.files import whole
from stages.lib.flops import training_flops
from stages.lib.muon import Muon
from stages.lib.schedule import WarmupDecay, image_size
from stages.lib.whitening import set_whitening

TABLE, STEPS, DATA = Path("benchmarks/gpu.csv"), Path("benchmarks/gpu_step.csv"), Path("data/prepared/cifar")
ROUNDS, PRECISION = 5, "mixed_bfloat16"
Recipe = dict[str, Any]
Batches = tuple[np.ndarray, ...]  # rates (steps,); indices, rows, columns and mirrored, each (steps, images of a batch)
GIVEN = ("train_on", "shift", "fill_mode", "label_smoothing")  # what on_device takes of a recipe
COMPILED: dict[tuple[Any, ...], Any] = {}  # epochs, by what they are compiled for


def main() -> None:
    if sys.argv[1:] == ["step"]:
        time_steps()
        return
    try:
        n, wanted = int(sys.argv[1]), [spec.split(",") for spec in sys.argv[2:]]
        recipes = [changed(params_of(setting), changes) for setting, *changes in wanted]
    except (IndexError, KeyError, ValueError):
        raise UserError(
            f"gpu: expected how many seeds and settings ({', '.join(SETTINGS)}), each maybe with keys of params.yaml's "
            f"cifar; try `python -m benchmarks.gpu 10 cifar-plain,epochs=9`"
        ) from None
    for (setting, *changes), recipe in zip(wanted, recipes, strict=True):
        if recipe["network"] != "cifar_cnn" or any(recipe[key] for key in ("rotation", "zoom", "shear", "elastic")):
            raise UserError(f"gpu: found {setting}, expected cifar_cnn with images that are but moved and mirrored")
        record(setting, changes, [train(recipe, seed) for seed in range(n)])


def changed(recipe: Recipe, changes: list[str]) -> Recipe:
    """Raises KeyError for a key that the recipe has not."""
    values = {key: yaml.safe_load(value) for key, value in (change.split("=") for change in changes)}
    if not values.keys() <= recipe.keys():
        raise KeyError(changes)
    return recipe | values


def record(setting: str, changes: list[str], rows: list[dict[str, Any]]) -> None:
    """Puts the rows into the table, in the place of those that it has of the same."""
    what = {"setting": setting, "change": " ".join(changes)}
    table = pd.DataFrame([what | row | circumstances() for row in rows])
    print(
        what,
        {key: f"{table[key].mean():.5g} +- {table[key].std():.3g}" for key in rows[0] if table[key].dtype == float},
        flush=True,
    )
    if TABLE.exists():
        old = pd.read_csv(TABLE, keep_default_na=False)
        table = pd.concat([old[(old["setting"] != setting) | (old["change"] != what["change"])], table])
    with whole(TABLE) as path:
        table.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")


@cache
def circumstances() -> dict[str, Any]:
    return {
        "matrix_peak_tflops": matrix_peak() / 1e12,
        "hardware": jax.devices()[0].device_kind,
        "versions": f"jax {jax.__version__}, keras {keras.__version__}, numpy {np.__version__}",
        "date": datetime.date.today().isoformat(),
    }


def train(recipe: Recipe, seed: int) -> dict[str, Any]:
    """One training, and its accuracies: on the validation images, or on the test images where it took those too."""
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
    """The kernel, and the seconds that it took."""
    x = load(part).x
    model = build(params_of("cifar"), x.shape[1:], "float32")
    start = time.perf_counter()
    set_whitening(model, x)
    return np.asarray(model.get_layer("whitening").kernel), time.perf_counter() - start


@cache
def load(part: str) -> arrays.Split:
    splits = [arrays.load(DATA, name) for name in part.split("+")]
    return arrays.Split(*(np.concatenate(parts) for parts in zip(*splits, strict=True)))


@cache
def on_device(part: str, margin: int, fill_mode: FillMode, smoothing: float) -> tuple[Any, Any]:
    """The images with a margin to be moved in, and the labels, smoothed."""
    around = (margin, margin)
    padded = np.pad(load(part).x, ((0, 0), around, around, (0, 0)), mode=fill_mode)
    return jnp.asarray(padded), jnp.asarray(load(part).y * (1 - smoothing) + smoothing / load(part).y.shape[1])


def build(recipe: Recipe, shape: tuple[int, ...], precision: str) -> keras.Model:
    sizes = {key: recipe[key] for key in ("filters", "depth", "kernel_size", "dropout")}
    normalization = keras.layers.Rescaling(*arrays.load_normalization(DATA), name="normalization")
    height, width, channels = shape
    return networks.build(recipe["network"], (height, width, channels), 10, normalization, precision=precision, **sizes)


def variables(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> tuple[list[Any], ...]:
    return model.trainable_variables, model.non_trainable_variables, optimizer.variables


def state_of(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> tuple[list[Any], ...]:
    return tuple([jnp.copy(variable.value) for variable in group] for group in variables(model, optimizer))


def keep(state: tuple[list[Any], ...], model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    for group, values in zip(variables(model, optimizer), state, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.assign(value)


def draw(n: int, seed: int, epoch: int, recipe: Recipe) -> Batches:
    """What stages/lib/training.py takes for this epoch: the rates, the order, the moves, and which are mirrored."""
    rng = np.random.Generator(np.random.PCG64([seed, epoch]))
    steps = n // recipe["batch_size"]
    chosen = rng.permutation(n)[: steps * recipe["batch_size"]]
    rows, columns = rng.integers(0, 2 * recipe["shift"] + 1, size=(2, len(chosen)))
    mirrored = flips(n, seed, epoch)[chosen] & recipe["flip"]
    schedule = WarmupDecay(recipe["lr"], recipe["epochs"] * steps, recipe["warmup"], recipe["lr_end"])
    rates = np.asarray(schedule(np.arange(epoch * steps, (epoch + 1) * steps)))
    return rates, *(part.reshape(steps, -1) for part in (chosen, rows, columns, mirrored))


def vary(shape: tuple[int, ...], padded: Any, chosen: Any, rows: Any, columns: Any, mirrored: Any) -> Any:
    """Of the images with a margin those chosen, moved and mirrored, of height, width and channels `shape`."""

    def cut(image: Any, row: Any, column: Any, mirror: Any) -> Any:
        view = lax.dynamic_slice(image, (row, column, 0), shape)
        return jnp.where(mirror, view[:, ::-1], view)

    return jax.vmap(cut)(padded[chosen], rows, columns, mirrored)


def shrink(x: Any, shape: tuple[int, ...]) -> Any:
    """As stages/lib/augment.py, which takes NumPy's arrays."""
    if shape == x.shape[1:]:
        return x
    small = keras.ops.image.resize(x.astype("float32"), shape[:2], "bilinear", antialias=True)
    return jnp.rint(small).astype("uint8")


def epoch_of(
    shape: tuple[int, ...], recipe: Recipe, optimizer: Any, state: Any, given: tuple[Any, Any], batches: Batches
) -> Any:
    """The compiled function of an epoch with images of that shape: from the state, all images and labels and what comes
    when, to the next state and the mean loss."""
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
    """Accuracies on a split, in float32, as the stage evaluate has them."""
    split = load(part)
    judged = judge_of(split.x.shape[1:], *(recipe[key] for key in ("network", "filters", "depth", "kernel_size")))
    judged.set_weights(model.get_weights())
    probabilities = predict(judged, split.x), tta.predict_tta(judged, split.x, recipe["flip"], predict)
    right = [float((one.argmax(1) == split.y.argmax(1)).mean()) for one in probabilities]
    return {"accuracy": right[0], "accuracy_tta": right[1]}


@cache
def judge_of(shape: tuple[int, ...], network: str, filters: int, depth: int, kernel_size: int) -> keras.Model:
    recipe = {"network": network, "filters": filters, "depth": depth, "kernel_size": kernel_size, "dropout": 0.0}
    return build(recipe, shape, "float32")


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """As tta.predict, which takes TensorFlow."""
    return model.predict(x, batch_size=tta.BATCH_SIZE, verbose=0)


def time_steps() -> None:
    """Milliseconds of a step: in an epoch here, by Keras' `fit`, which gets batch after batch of images varied before,
    and by PyTorch, with the same network and as many images. Medians of rounds in turn."""
    recipe = params_of("cifar-plain")
    images = load(recipe["train_on"])
    given = on_device(*(recipe[key] for key in GIVEN))
    model = build(recipe, images.x.shape[1:], PRECISION)
    set_whitening(model, images.x)
    model.compile(Muon(0.01), keras.losses.CategoricalCrossentropy(label_smoothing=recipe["label_smoothing"]))
    model.optimizer.build(model.trainable_variables)
    variation = Variation(**{key: recipe[key] for key in Variation.__dataclass_fields__})
    ours, fitted, theirs = [], [], []
    for epoch in range(ROUNDS + 1):
        batches = draw(len(images.x), 0, epoch, recipe)
        chosen, state = batches[1].ravel(), state_of(model, model.optimizer)
        compiled = epoch_of(images.x.shape[1:], recipe, model.optimizer, state, given, batches)
        start = time.perf_counter()
        jax.block_until_ready(compiled(state, *given, batches))
        ours.append((time.perf_counter() - start) / len(batches[0]))
        x = augment(images.x[chosen], np.random.default_rng(epoch), variation, flips(len(images.x), 0, epoch)[chosen])
        start = time.perf_counter()
        model.fit(x, images.y[chosen], batch_size=recipe["batch_size"], shuffle=False, verbose=0)
        fitted.append((time.perf_counter() - start) / len(batches[0]))
        theirs.append(pytorch_step(recipe) / 1000)
    rows = [
        {"side": side, "images": recipe["batch_size"], "milliseconds": 1000 * statistics.median(seconds[1:])}
        | {"gflop": recipe["batch_size"] * training_flops(model) / 1e9, "rounds": ROUNDS}
        | circumstances()
        for side, seconds in (("an epoch in one call", ours), ("Keras' fit", fitted), ("PyTorch, compiled", theirs))
    ]
    print(rows, flush=True)
    with whole(STEPS) as path:
        pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n", float_format="%.6g")


def pytorch_step(recipe: Recipe) -> float:
    steps = len(load("train").x) // recipe["batch_size"] - 1
    sizes = [recipe["filters"], recipe["depth"], recipe["batch_size"], steps]
    command = [sys.executable, "-m", "benchmarks.pytorch_cifar", "step", "mixed_bfloat16", *map(str, sizes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)["milliseconds"]


def matrix_peak(size: int = 8192) -> float:
    """Operations per second of a product of square bfloat16 matrices of random numbers, the best of some."""
    a, b = (jnp.asarray(np.random.default_rng(seed).normal(size=(size, size)), jnp.bfloat16) for seed in (0, 1))
    product = jax.jit(jnp.matmul)
    seconds = []
    for _ in range(2 * ROUNDS):
        start = time.perf_counter()
        product(a, b).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


if __name__ == "__main__":
    run(main)
