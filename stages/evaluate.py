"""Measures both networks on the test images; the only stage that opens them.

Reads models/NAME/ and data/prepared/NAME/ of mnist and cifar. Writes metrics.json, plots/NAME/predictions.csv (index,
y_true, y_pred, confidence), evaluation/NAME.json (per class, calibration, layers) and evaluation/NAME.npz (what the
figures show of images).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib import architecture, arrays, device, scores, trained, tta
from stages.lib.errors import UserError, run
from stages.lib.files import whole, write_json
from stages.lib.params import read

GALLERY = 20  # most confident mistakes


@dataclass(frozen=True)
class Training:
    train_on: str
    flip: bool


@dataclass(frozen=True)
class Params:
    source: str
    device: str
    threads: int
    mnist: Training
    cifar: Training


def main() -> None:
    params = read(Params)
    device.set_up(params.device, params.threads)
    metrics: dict[str, object] = {"source": params.source}
    for name, training in (("mnist", params.mnist), ("cifar", params.cifar)):
        metrics[name] = evaluate(name, training.flip, validate=training.train_on == "train")
    write_json(Path("metrics.json"), metrics)


def evaluate(name: str, flip: bool, validate: bool) -> dict[str, dict[str, object]]:
    """Writes the predictions and details of one data set; gives its metrics, of `val` too if it was not trained on.

    The test images' `accuracy_tta` is of predictions averaged over shifted and, with `flip`, mirrored views; nothing
    else is.
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

    val = arrays.load(folder, "val") if validate else None
    class_names = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    write_json(
        Path("evaluation") / f"{name}.json",
        {
            "classes": scores.per_class(y_true, y_pred, class_names),
            "reliability": scores.reliability(y_pred == y_true, confidence),
            "parameters": model.count_params(),
            "versions": trained.versions(Path("models") / name),
            "layers": architecture.describe(model),
            "validation_images": len(val.x) if val else None,
        },
    )
    mistakes = most_confident_mistakes(y_true, y_pred, confidence)
    with whole(Path("evaluation") / f"{name}.npz") as partial:
        np.savez(partial, index=mistakes, x=test.x[mistakes])

    metrics: dict[str, dict[str, object]] = {
        "test": {
            **scores.score(y_true, probabilities),
            "accuracy_tta": scores.accuracy(y_true, tta.predict_tta(model, test.x, flip)),
            "digest": digest(test),
        }
    }
    if val:
        val_scores = scores.score(val.y.argmax(axis=1), tta.predict(model, val.x))
        metrics["val"] = {key: val_scores[key] for key in ("accuracy", "loss")}
    print(f"evaluate: {name}: test accuracy {metrics['test']['accuracy']:.4f}", flush=True)
    return metrics


def most_confident_mistakes(y_true: np.ndarray, y_pred: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Indices of at most `GALLERY` wrong predictions, the most confident first."""
    order = np.argsort(-confidence, kind="stable")
    return order[(y_pred != y_true)[order]][:GALLERY]


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
