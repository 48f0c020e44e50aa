"""The splits of a data set, and how they are written."""

import math
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from reprocnn.core.errors import UserError
from reprocnn.core.files import atomic_write
from reprocnn.splits.decode import NUM_CLASSES, Labelled


def split_off_validation(
    x: np.ndarray, labels: np.ndarray, val_fraction: float, seed: int, dataset: str
) -> dict[str, Labelled]:
    """Split into `train` and `val`, each with the classes in the proportions of the whole.

    Raises UserError, naming the params of `dataset`, if a split would lack a class.
    """
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    rarest, count = int(counts.argmin()), int(counts.min())
    val_count = math.ceil(val_fraction * len(x))  # as scikit-learn counts
    fault = UserError(
        f"params.yaml: {dataset}.val_fraction: found {val_fraction} of {len(x)} images, class {rarest} with "
        f"{count}; expected 2 images of each class and one of each in both splits; add images or change "
        f"the fraction"
    )
    if count < 2 or min(val_count, len(x) - val_count) < NUM_CLASSES:
        raise fault
    x_train, x_val, train, val = train_test_split(x, labels, test_size=val_fraction, random_state=seed, stratify=labels)
    if any(len(np.unique(part)) < NUM_CLASSES for part in (train, val)):  # a rare class may go whole to one of them
        raise fault
    return {"train": (x_train, train), "val": (x_val, val)}


def to_one_hot(labels: np.ndarray, num_classes: int = NUM_CLASSES) -> np.ndarray:
    """Encode as keras.utils.to_categorical does, without loading TensorFlow: float32 (n, num_classes)."""
    return np.eye(num_classes, dtype=np.float32)[labels]


def write(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Write one split: `folder`/x.npy and y.npy."""
    for name, array in (("x.npy", x), ("y.npy", y)):
        with atomic_write(folder / name) as partial:
            partial.write_bytes(bytes(array.nbytes + 4096))  # NumPy's error on a full disk does not say so
            np.save(partial, np.ascontiguousarray(array), allow_pickle=False)
