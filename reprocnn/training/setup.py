"""What a training starts from: its images, its compiled network and its schedule."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from reprocnn.backend import Device, keras
from reprocnn.core.errors import UserError
from reprocnn.core.params import Recipe
from reprocnn.images import arrays
from reprocnn.networks import build
from reprocnn.networks.fast_layers import use_fast_layers
from reprocnn.networks.whitening import set_whitening
from reprocnn.training.muon import Muon
from reprocnn.training.schedule import WarmupDecay

PREPARED = Path("data/prepared")
# Adam with shorter memories than its usual 0.9 and 0.999: in one epoch of MNIST, 99.08 % of the validation images
# instead of 98.87 % (means of four seeds).
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adam": partial(keras.optimizers.Adam, beta_1=0.7, beta_2=0.9),
    "muon": Muon,
}


@dataclass(frozen=True)
class Training:
    """A training that is ready to run."""

    dataset: str
    recipe: Recipe
    seed: int
    device: Device
    strategy: Any  # of tf.distribute
    data: arrays.Split
    val: arrays.Split | None
    steps: int  # per epoch; the images left over differ from epoch to epoch
    model: keras.Model
    schedule: WarmupDecay


def prepare(dataset: str, recipe: Recipe, lr: float, seed: int, device: Device) -> Training:
    """Load the images, build and compile the network. Raises UserError if they do not fit together."""
    data, val = load_splits(PREPARED / dataset, recipe.train_on)
    steps = steps_per_epoch(dataset, recipe.batch_size, len(data.x))
    keras.utils.set_random_seed(seed)
    model = build_network(dataset, recipe, data, device.precision, resized=recipe.first_size < 1)
    if device.kind == "cpu" and device.count == 1:
        model = use_fast_layers(model, device)
    schedule = WarmupDecay(lr, recipe.epochs * steps, recipe.warmup, recipe.lr_end)
    # Decoupled, as in AdamW, for both optimizers. Left out at zero, which would be computed too.
    decay = {"weight_decay": recipe.weight_decay} if recipe.weight_decay else {}
    strategy = device.strategy()
    with strategy.scope():
        if device.count > 1:
            model = _on_all_devices(model)
        if recipe.network == "cifar_cnn":
            set_whitening(model, data.x)
        model.compile(
            OPTIMIZERS[recipe.optimizer](schedule, **decay),
            keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
            metrics=["accuracy"],
            jit_compile=False,  # on a CPU, XLA is three times slower here; on a GPU, determinism rules it out
        )
    return Training(dataset, recipe, seed, device, strategy, data, val, steps, model, schedule)


def load_splits(folder: Path, train_on: str) -> tuple[arrays.Split, arrays.Split | None]:
    """Load what to train on and what to validate on: `train` and `val`, or both joined and none."""
    data, val = arrays.load(folder / "train"), arrays.load(folder / "val")
    if data.x.shape[1:] != val.x.shape[1:] or data.y.shape[1:] != val.y.shape[1:]:
        raise UserError(
            f"{folder}: expected the same shape in both splits, found {data.x.shape[1:]} and "
            f"{data.y.shape[1:]} in train, {val.x.shape[1:]} and {val.y.shape[1:]} in val (x.npy and y.npy); "
            f"run `dvc repro -f prepare`"
        )
    if train_on == "train":
        return data, val
    return arrays.Split(np.concatenate([data.x, val.x]), np.concatenate([data.y, val.y])), None


def steps_per_epoch(dataset: str, batch_size: int, images: int) -> int:
    """Count the full batches of an epoch. Raises UserError if there is none."""
    if batch_size > images:
        raise UserError(
            f"params.yaml: {dataset}.batch_size: found {batch_size}, expected at most the {images} images of the "
            f"training split; lower it"
        )
    return images // batch_size


def build_network(dataset: str, recipe: Recipe, data: arrays.Split, precision: str, resized: bool) -> keras.Model:
    """Build the recipe's network for these images, or for any size if `resized`.

    Raises UserError if it cannot take them.
    """
    scale, offset = arrays.load_normalization(PREPARED / dataset)
    height, width, channels = data.x.shape[1:]
    shape = (None, None, channels) if resized else (height, width, channels)
    try:
        return build.build(
            recipe.network,
            shape,
            data.y.shape[1],
            keras.layers.Rescaling(scale, offset, name="normalization"),
            filters=recipe.filters,
            depth=recipe.depth,
            kernel_size=recipe.kernel_size,
            dropout=recipe.dropout,
            precision=precision,
        )
    except ValueError as error:
        reason = " ".join(str(error).split())[:150]
        raise UserError(
            f"params.yaml: {dataset}.network: {recipe.network} with kernel_size {recipe.kernel_size} cannot take "
            f"images of {data.x.shape[1:]} ({reason}); choose another network or a smaller kernel"
        ) from None


def make_variables(model: keras.Model) -> None:
    """Create the variables of optimizer and metrics; if the first step did, TensorFlow would trace it twice."""
    model.optimizer.build(model.trainable_variables)
    nothing = keras.ops.zeros((1, model.output_shape[-1]))
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()


def _on_all_devices(model: keras.Model) -> keras.Model:
    """Copy the model with its variables on each device of the strategy, and batch norm over the whole batch."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for layer in copy.layers:
        layer.synchronized = True
    return copy
