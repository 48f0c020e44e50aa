"""Measures both networks on the test images; the only stage that opens them.

Reads models/NAME/ and data/prepared/NAME/ of mnist and cifar. Writes metrics.json, plots/NAME/predictions.csv (index,
y_true, y_pred, confidence), evaluation/NAME.json (per class, calibration, layers, data) and evaluation/NAME.npz (what
the figures show of images, filters and feature maps). Of the test images, those are shown that it got wrong; else
training images.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib import architecture, arrays, checkpoint, device, scores, trained, tta, views
from stages.lib.augment import Variation, augment, flips
from stages.lib.errors import UserError, run
from stages.lib.files import sha256, whole, write_json
from stages.lib.params import read

GALLERY = 20  # most confident mistakes
VARIATIONS = 2  # of each example


@dataclass(frozen=True)
class Training(Variation):
    train_on: str


@dataclass(frozen=True)
class Params:
    source: str
    device: str
    threads: int
    seed: int
    mnist: Training
    cifar: Training


def main() -> None:
    params = read(Params)
    checkpoint.remove_finished()
    device.set_up(params.device, params.threads)
    metrics: dict[str, object] = {"source": params.source}
    for name, training in (("mnist", params.mnist), ("cifar", params.cifar)):
        metrics[name] = evaluate(name, training, params.seed)
    write_json(Path("metrics.json"), metrics)


def evaluate(name: str, training: Training, seed: int) -> dict[str, dict[str, object]]:
    """Writes the predictions and details of one data set; gives its metrics, of `val` too if it was not trained on.

    The test images' `accuracy_tta` is of predictions averaged over shifted and, if the training mirrored, mirrored
    views; nothing else is.
    """
    folder = Path("data/prepared") / name
    model = trained.load(Path("models") / name)
    test = arrays.load(folder, "test")
    y_true = test.y.argmax(axis=1)
    if model.input_shape[1:] != test.x.shape[1:] or model.output_shape[1:] != test.y.shape[1:]:
        raise UserError(
            f"models/{name}: takes images {model.input_shape[1:]} for {model.output_shape[-1]} classes, but {folder} "
            f"has {test.x.shape[1:]} for {test.y.shape[1]}; run `dvc repro train_{name}`"
        )
    probabilities = tta.predict(model, test.x)
    if not np.isfinite(probabilities).all():
        raise UserError(f"models/{name}: gives probabilities that are no numbers; run `dvc repro -f train_{name}`")
    y_pred, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    write_predictions(Path("plots") / name / "predictions.csv", y_true, y_pred, confidence)

    train, val = arrays.load(folder, "train"), arrays.load(folder, "val")
    validated = training.train_on == "train"
    class_names = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    examples = train.x[train.y.argmax(axis=0)]  # the first training image of each class
    blocks = views.feature_maps(model, examples)
    write_json(
        Path("evaluation") / f"{name}.json",
        {
            "classes": scores.per_class(y_true, y_pred, class_names),
            "reliability": scores.reliability(y_pred == y_true, confidence),
            "parameters": model.count_params(),
            **trained.environment(Path("models") / name),
            "layers": architecture.describe(model),
            "validation_images": len(val.x) if validated else None,
            "weights": sha256(Path("models") / name / "model.weights.h5"),
            "images": {
                split: data.y.sum(axis=0).astype(int).tolist()
                for split, data in (("training", train), ("validation", val), ("test", test))
            },
            "normalization": json.loads((folder / "normalization.json").read_text(encoding="utf-8")),
            "block_shapes": [block["shape"] for block in blocks],
        },
    )
    mistakes = most_confident_mistakes(y_true, y_pred, confidence)
    with whole(Path("evaluation") / f"{name}.npz") as partial:
        np.savez(
            partial,
            index=mistakes,
            x=test.x[mistakes],
            examples=examples,
            variations=variations(examples, training, seed),
            filters=views.filters(model),
            **{f"maps_{i}": block["maps"] for i, block in enumerate(blocks)},
        )

    metrics: dict[str, dict[str, object]] = {
        "test": {
            **scores.score(y_true, probabilities),
            "accuracy_tta": scores.accuracy(y_true, tta.predict_tta(model, test.x, training.flip)),
            "digest": digest(test),
        }
    }
    if validated:
        val_scores = scores.score(val.y.argmax(axis=1), tta.predict(model, val.x))
        metrics["val"] = {key: val_scores[key] for key in ("accuracy", "loss")}
    print(f"evaluate: {name}: test accuracy {metrics['test']['accuracy']:.4f}", flush=True)
    return metrics


def most_confident_mistakes(y_true: np.ndarray, y_pred: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Indices of at most `GALLERY` wrong predictions, the most confident first."""
    order = np.argsort(-confidence, kind="stable")
    return order[(y_pred != y_true)[order]][:GALLERY]


def variations(x: np.ndarray, training: Training, seed: int) -> np.ndarray:
    """`VARIATIONS` times `x`, each varied as the training does it, those of one after the other; (k, n, ...)."""
    varied = []
    for epoch in range(VARIATIONS):
        rng = np.random.Generator(np.random.PCG64([seed, epoch]))
        varied.append(augment(x, rng, training, flips(len(x), seed, epoch)))
    return np.stack(varied)


def digest(split: arrays.Split) -> str:
    """SHA-256 of the images' and labels' bytes: the same only on the very same test set."""
    value = hashlib.sha256(np.ascontiguousarray(split.x).tobytes())
    value.update(np.ascontiguousarray(split.y).tobytes())
    return value.hexdigest()


def write_predictions(path: Path, y_true: np.ndarray, y_pred: np.ndarray, confidence: np.ndarray) -> None:
    table = pd.DataFrame({"y_true": y_true, "y_pred": y_pred, "confidence": confidence})
    with whole(path) as partial:
        table.to_csv(partial, index_label="index", float_format="%.6f", lineterminator="\n")


if __name__ == "__main__":
    run(main)
