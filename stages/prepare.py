"""Decodes the raw files, splits off the validation images and chooses the normalization.

Reads data/raw/. Writes data/prepared/{mnist,cifar}/: x_{train,val,test}.npy uint8 (n, height, width, channels),
y_*.npy float32 one-hot (n, 10), classes.json, and normalization.json, which the network applies as its first layer.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from stages.lib import decode
from stages.lib.errors import UserError, run
from stages.lib.files import whole, write_json
from stages.lib.params import read

RAW, PREPARED = Path("data/raw"), Path("data/prepared")
NUM_CLASSES = 10


@dataclass(frozen=True)
class Preparation:
    val_fraction: float
    split_seed: int
    normalization: str


@dataclass(frozen=True)
class Params:
    mnist: Preparation
    cifar: Preparation


def main() -> None:
    params = read(Params)
    prepare("mnist", params.mnist, read_mnist(), [str(digit) for digit in range(NUM_CLASSES)])
    names = decode.cifar_class_names(RAW / "cifar-10-batches-py/batches.meta")
    prepare("cifar", params.cifar, read_cifar(), names)


def prepare(
    name: str,
    preparation: Preparation,
    splits: dict[str, tuple[np.ndarray, np.ndarray]],
    class_names: list[str],
) -> None:
    x, labels = splits["train"]
    splits = split(x, labels, preparation.val_fraction, preparation.split_seed, f"{name}.val_fraction") | {
        "test": splits["test"]
    }
    normalization = normalize(splits["train"][0], preparation.normalization)
    folder = PREPARED / name
    for part, (x, labels) in splits.items():
        for file, array in ((f"x_{part}.npy", x), (f"y_{part}.npy", to_one_hot(labels, NUM_CLASSES))):
            with whole(folder / file) as partial:
                partial.write_bytes(bytes(array.nbytes + 4096))  # NumPy's error on a full disk does not say so
                np.save(partial, np.ascontiguousarray(array), allow_pickle=False)
    write_json(folder / "normalization.json", normalization)
    write_json(folder / "classes.json", class_names)
    counts = ", ".join(f"{len(labels):,} {part}" for part, (_, labels) in splits.items())
    print(f"prepare: {name}: {counts}; {json.dumps(normalization['check'])}", flush=True)


def read_mnist() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    splits = {}
    for part, file in (("train", "train"), ("test", "t10k")):
        x = decode.idx(RAW / f"{file}-images-idx3-ubyte.gz", 3)[..., None]  # (n, 28, 28, 1)
        labels = decode.idx(RAW / f"{file}-labels-idx1-ubyte.gz", 1)
        if len(x) != len(labels) or labels.max() >= NUM_CLASSES:
            raise UserError(
                f"{RAW}/{file}-*: expected a label from 0 to 9 for each image, found {len(labels):,} up to "
                f"{labels.max()} for {len(x):,} images; run `dvc repro -f download`"
            )
        splits[part] = x, labels
    return splits


def read_cifar() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    folder = RAW / "cifar-10-batches-py"
    batches = [decode.cifar_batch(folder / f"data_batch_{number}") for number in range(1, 6)]
    x, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return {"train": (x, labels), "test": decode.cifar_batch(folder / "test_batch")}


def split(
    x: np.ndarray, labels: np.ndarray, val_fraction: float, seed: int, key: str
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`train` and `val`, each with the classes in the proportions of the whole."""
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    rarest, count = int(counts.argmin()), int(counts.min())
    least = NUM_CLASSES / min(val_fraction, 1 - val_fraction)
    if count < 2 or len(x) < least:
        raise UserError(
            f"params.yaml: {key}: found {val_fraction} of {len(x)} images, class {rarest} with {count}; "
            f"expected 2 images of each class and one of each in both splits; add images or change the fraction"
        )
    x_train, x_val, train, val = train_test_split(x, labels, test_size=val_fraction, random_state=seed, stratify=labels)
    return {"train": (x_train, train), "val": (x_val, val)}


def normalize(x: np.ndarray, method: str) -> dict[str, object]:
    """Scale and offset of each channel, chosen by `method` from the training images alone, and their check.

    `center` is x / 255 - 0.5; `standardize` gives each channel mean 0 and variance 1. Raises UserError if what the
    network would see is not what the method promises, as for a channel of one value.
    """
    # Of 256 values counted, instead of floats made of all pixels: exact, and a hundredth of the memory.
    counts = [np.bincount(x[..., channel].ravel(), minlength=256) for channel in range(x.shape[-1])]
    mean, std = _moments(np.tile(np.arange(256.0), (len(counts), 1)), counts)
    if not (std > 0).all():
        raise UserError(
            f"{RAW}: expected pixels that differ, found a channel of one value; run `dvc repro -f download`"
        )
    if method == "center":
        scale, offset = np.full(len(mean), 1 / 255), np.full(len(mean), -0.5)
    else:
        scale, offset = 1 / std, -mean / std

    seen = np.arange(256)[None, :] * scale[:, None] + offset[:, None]  # (channels, 256): what the network sees
    there = np.array(counts) > 0
    low, high = seen[there].min(), seen[there].max()
    mean, std = _moments(seen, counts)
    kept = (low >= -0.5 and high <= 0.5) if method == "center" else (abs(mean).max() < 1e-6 > abs(std - 1).max())
    if not kept:
        raise UserError(
            f"params.yaml: normalization: {method} gives values from {low:.3f} to {high:.3f}, mean {mean}, "
            f"deviation {std}, not what it promises; set another one"
        )
    check = {
        "min": float(low),
        "max": float(high),
        "mean": (mean.round(6) + 0.0).tolist(),
        "std": std.round(6).tolist(),
    }
    return {"method": method, "scale": scale.tolist(), "offset": offset.tolist(), "check": check}


def _moments(values: np.ndarray, counts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each row of `values`, each value as often as `counts` says."""
    pairs = list(zip(values, counts, strict=True))
    mean = np.array([np.average(row, weights=weights) for row, weights in pairs])
    variance = [np.average((row - m) ** 2, weights=weights) for m, (row, weights) in zip(mean, pairs, strict=True)]
    return mean, np.sqrt(variance)


def to_one_hot(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """float32 (n, num_classes), as keras.utils.to_categorical gives, without loading TensorFlow for it."""
    return np.eye(num_classes, dtype=np.float32)[labels]


if __name__ == "__main__":
    run(main)
