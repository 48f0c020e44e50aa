"""Metrics of a classifier, from its probabilities and the labels."""

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support

BINS = 15  # of the calibration error, as in Guo et al.


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927), which stays inside 0 to 1."""
    interval = binomtest(hits, n).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def accuracy(y_true: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the share of images whose most probable class is the true one."""
    return float((probabilities.argmax(axis=1) == y_true).mean())


def score(y_true: np.ndarray, probabilities: np.ndarray) -> dict[str, float | int]:
    """Compute all metrics of labels (n,) and probabilities (n, classes)."""
    y_pred = probabilities.argmax(axis=1)
    errors = int((y_pred != y_true).sum())
    return {
        "accuracy": accuracy(y_true, probabilities),
        "errors": errors,
        "top2_accuracy": top_k_accuracy(y_true, probabilities, 2),
        "loss": cross_entropy(y_true, probabilities),
        "calibration_error": calibration_error(y_pred == y_true, probabilities.max(axis=1)),
    }


def top_k_accuracy(y_true: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """Return the share of images whose class is among the `k` most probable ones."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return float((best == y_true[:, None]).any(axis=1).mean())


def cross_entropy(y_true: np.ndarray, probabilities: np.ndarray) -> float:
    """Average -ln p of the true class, p at least float32's machine epsilon."""
    p = probabilities[np.arange(len(y_true)), y_true].astype(np.float64)
    return float(-np.log(np.maximum(p, np.finfo(np.float32).eps)).mean())


def calibration_error(hit: np.ndarray, confidence: np.ndarray) -> float:
    """Compute the expected calibration error over `BINS` equal bins of confidence.

    Guo et al. 2017, arXiv 1706.04599, eq. 3. `hit` and `confidence` are (n,).
    """
    return sum(row["n"] * abs(row["accuracy"] - row["confidence"]) for row in reliability(hit, confidence)) / len(hit)


def reliability(hit: np.ndarray, confidence: np.ndarray) -> list[dict[str, float]]:
    """Return, for each bin that is not empty, the number of images, their mean confidence and their accuracy."""
    index = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "n": int((index == i).sum()),
            "confidence": float(confidence[index == i].mean(dtype=np.float64)),
            "accuracy": float(hit[index == i].mean()),
        }
        for i in np.unique(index)
    ]


def per_class(y_true: np.ndarray, y_pred: np.ndarray, class_names: list[str]) -> list[dict[str, object]]:
    """Compute precision, recall and F1 of each class; None where no image was predicted or none is of it."""
    labels = np.arange(len(class_names))
    columns = precision_recall_fscore_support(y_true, y_pred, labels=labels, zero_division=np.nan)
    return [
        {"class": name, "precision": _number(p), "recall": _number(r), "f1": _number(f), "n": int(n)}
        for name, p, r, f, n in zip(class_names, *columns, strict=True)
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
