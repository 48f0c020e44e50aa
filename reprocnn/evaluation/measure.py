"""A trained network measured on the test images: metrics, predictions, and what the report shows of it."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reprocnn.backend import keras
from reprocnn.core.errors import UserError
from reprocnn.core.files import atomic_write, read_json, sha256, write_json
from reprocnn.core.params import Augmentation, Recipe
from reprocnn.evaluation import architecture, feature_maps, metrics, model_files, stored, tta
from reprocnn.images import arrays
from reprocnn.images.augment import augment, flips

GALLERY = 20  # most confident mistakes
VARIATIONS = 2  # of each example
SPLITS = {"training": "train", "validation": "val", "test": "test"}  # as the report names them, and their folders


def measure(dataset: str, recipe: Recipe, seed: int, source: str) -> None:
    """Measure models/DATASET on data/prepared/DATASET.

    Writes metrics/DATASET.json, plots/DATASET/predictions.csv, evaluation/DATASET.json and evaluation/DATASET.npz.
    Raises UserError if the network is damaged, does not fit the data or gives non-finite probabilities.
    """
    stored.check(Path("models") / dataset)
    folder = Path("data/prepared") / dataset
    splits = {name: arrays.load(folder / name) for name in SPLITS.values()}
    test, val = splits["test"], splits["val"]
    model = load_model(dataset, test)
    probabilities = tta.predict(model, test.x)
    if not np.isfinite(probabilities).all():
        raise UserError(f"models/{dataset}: gives non-finite probabilities; run `dvc repro -f train_{dataset}`")
    y_true, y_pred, confidence = test.y.argmax(axis=1), probabilities.argmax(axis=1), probabilities.max(axis=1)
    write_predictions(Path("plots") / dataset / "predictions.csv", y_true, y_pred, confidence)

    examples = splits["train"].x[splits["train"].y.argmax(axis=0)]  # the first training image of each class
    blocks = feature_maps.feature_maps(model, examples)
    validated = recipe.train_on == "train"
    scores = metrics.score(y_true, probabilities)
    low, high = metrics.wilson_interval(len(y_true) - int(scores["errors"]), len(y_true))
    details = {
        "source": source,
        "test": {"n": len(y_true), "accuracy_low": low, "accuracy_high": high, "digest": digest(test)},
        "classes": metrics.per_class(y_true, y_pred, read_class_names(folder, test.y.shape[1])),
        "reliability": metrics.reliability(y_pred == y_true, confidence),
        "parameters": model.count_params(),
        **model_files.environment(Path("models") / dataset),
        "layers": architecture.describe(model),
        "validation_images": len(val.x) if validated else None,
        "weights": sha256(Path("models") / dataset / "model.weights.h5"),
        "images": {name: count_classes(splits[split]) for name, split in SPLITS.items()},
        "normalization": read_json(folder / "normalization.json"),
        "block_shapes": [block["shape"] for block in blocks],
    }
    write_json(Path("evaluation") / f"{dataset}.json", details)
    mistakes = most_confident_mistakes(y_true, y_pred, confidence)
    pictures = {
        "index": mistakes,
        "x": test.x[mistakes],
        "examples": examples,
        "variations": vary(examples, recipe, seed),
        "filters": feature_maps.filters(model),
        **{f"maps_{i}": block["maps"] for i, block in enumerate(blocks)},
    }
    with atomic_write(Path("evaluation") / f"{dataset}.npz") as partial:
        np.savez(partial, **pictures)

    averaged = tta.predict_tta(model, test.x, recipe.flip, plain=probabilities)
    results: dict[str, Any] = {"test": scores | {"accuracy_tta": metrics.accuracy(y_true, averaged)}}
    if validated:
        val_scores = metrics.score(val.y.argmax(axis=1), tta.predict(model, val.x))
        results["val"] = {key: val_scores[key] for key in ("accuracy", "loss")}
    write_json(Path("metrics") / f"{dataset}.json", {dataset: results})
    print(f"evaluate: {dataset}: test accuracy {results['test']['accuracy']:.4f}", flush=True)


def load_model(dataset: str, test: arrays.Split) -> keras.Model:
    """Load models/DATASET. Raises UserError if it takes other images or gives other classes than `test` has."""
    model = model_files.load(Path("models") / dataset)
    if model.input_shape[1:] != test.x.shape[1:] or model.output_shape[1:] != test.y.shape[1:]:
        raise UserError(
            f"models/{dataset}: takes images {model.input_shape[1:]} for {model.output_shape[-1]} classes, but "
            f"data/prepared/{dataset} has {test.x.shape[1:]} for {test.y.shape[1]}; run `dvc repro train_{dataset}`"
        )
    return model


def read_class_names(folder: Path, count: int) -> list[str]:
    """Read the names of the classes, in the order of the labels. Raises UserError if they are not `count` words."""
    names = read_json(folder / "classes.json")
    if not isinstance(names, list) or len(names) != count or not all(isinstance(name, str) for name in names):
        raise UserError(f"{folder / 'classes.json'}: expected a list of {count} names; run `dvc repro -f prepare`")
    return names


def count_classes(split: arrays.Split) -> list[int]:
    """Count the images of each class."""
    return split.y.sum(axis=0).astype(int).tolist()


def most_confident_mistakes(y_true: np.ndarray, y_pred: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Return the indices of at most `GALLERY` wrong predictions, the most confident first."""
    order = np.argsort(-confidence, kind="stable")
    return order[(y_pred != y_true)[order]][:GALLERY]


def vary(x: np.ndarray, how: Augmentation, seed: int) -> np.ndarray:
    """Augment `x` as in the first `VARIATIONS` epochs of a training: (VARIATIONS, n, height, width, channels)."""
    varied = []
    for epoch in range(VARIATIONS):
        rng = np.random.Generator(np.random.PCG64([seed, epoch]))
        varied.append(augment(x, rng, how, flips(len(x), seed, epoch)))
    return np.stack(varied)


def digest(split: arrays.Split) -> str:
    """Compute the SHA-256 of the bytes of images and labels: equal only for the very same split."""
    value = hashlib.sha256(np.ascontiguousarray(split.x).tobytes())
    value.update(np.ascontiguousarray(split.y).tobytes())
    return value.hexdigest()


def write_predictions(path: Path, y_true: np.ndarray, y_pred: np.ndarray, confidence: np.ndarray) -> None:
    """Write a CSV row per test image: index, y_true, y_pred, confidence."""
    table = pd.DataFrame({"y_true": y_true, "y_pred": y_pred, "confidence": confidence})
    with atomic_write(path) as partial:
        table.to_csv(partial, index_label="index", float_format="%.6f", lineterminator="\n")
