"""A small network and three unlike splits, in the files that the stages before the evaluation write."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from reprocnn.backend import keras, layers

CLASSES = ["oak", "ash", "elm", "yew", "fir"]
RARE, NEVER, ABSENT = 2, 3, 4  # few images; never predicted; in no test image
ENVIRONMENT = {"device": {"kind": "cpu"}, "settings": {"TF_ENABLE_ONEDNN_OPTS": "0"}, "versions": {"keras": "3"}}
SIZES = {"train": 41, "val": 37, "test": 83}


def network(shape: tuple[int, int, int], seed: int) -> keras.Model:
    """Build a network of two convolutions with random weights, and statistics of batch norm unlike any batch's."""
    keras.utils.clear_session()
    inputs = keras.Input(shape, dtype="uint8", name="pixels")
    x = layers.Rescaling([1 / 100] * shape[-1], [-1.0] * shape[-1], name="normalization")(inputs)
    x = layers.Conv2D(4, (3, 2), name="wide")(x)
    x = layers.BatchNormalization(momentum=0.1, name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.MaxPooling2D((2, 1), name="pool")(x)
    x = layers.Conv2D(2, 1, use_bias=False, name="narrow")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dropout(0.5, name="dropout")(x)
    model = keras.Model(inputs, layers.Dense(len(CLASSES), activation="softmax", name="head")(x))
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(
            rng.uniform(0.5, 1.5, weight.shape) if "variance" in weight.path else rng.normal(0, 0.8, weight.shape)
        )
    model.get_layer("head").bias.assign([0, 0.5, -0.5, -60, -2])
    return model


def probabilities(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Compute them in inference mode, all images at once."""
    return keras.ops.convert_to_numpy(model(x, training=False))


def write(name: str, shape: tuple[int, int, int], seed: int = 0) -> keras.Model:
    """Write models/NAME and data/prepared/NAME, with other images and other accuracies in each split."""
    model = network(shape, seed)
    models, prepared = Path("models") / name, Path("data/prepared") / name
    models.mkdir(parents=True)
    (models / "model.json").write_text(model.to_json())
    model.save_weights(models / "model.weights.h5")
    (models / "environment.json").write_text(json.dumps(ENVIRONMENT))
    rng = np.random.default_rng(seed)
    for (split, n), known in zip(SIZES.items(), (0.9, 0.3, 0.6), strict=True):
        x = rng.integers(0, 256, (n, *shape), np.uint8)
        guessed = rng.choice(len(CLASSES), n, p=[0.3, 0.3, 0.1, 0.3, 0])
        labels = np.where(rng.random(n) < known, probabilities(model, x).argmax(axis=1), guessed)
        labels[labels == ABSENT] = 0
        if split == "train":
            labels[-len(CLASSES) :] = np.arange(len(CLASSES))
        (prepared / split).mkdir(parents=True)
        np.save(prepared / split / "x.npy", x)
        np.save(prepared / split / "y.npy", np.eye(len(CLASSES), dtype=np.float32)[labels])
    (prepared / "classes.json").write_text(json.dumps(CLASSES))
    (prepared / "normalization.json").write_text(json.dumps({"method": "by hand", "scale": [seed]}))
    return model


def load(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a split as images and labels (n,)."""
    folder = Path("data/prepared") / name / split
    return np.load(folder / "x.npy"), np.load(folder / "y.npy").argmax(axis=1)


def read_json(*parts: str) -> Any:
    """Read a JSON file."""
    return json.loads(Path(*parts).read_text())
