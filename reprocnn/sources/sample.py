"""The embedded sample: small stand-ins for both data sets, made without a network, in the published formats.

In place of MNIST the 8x8 digits that come inside scikit-learn, enlarged; in place of CIFAR-10 ten drawn shapes.
"""

import gzip
import pickle
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from reprocnn.datasets import Dataset

SHAPES = ["disc", "ring", "square", "frame", "cross", "saltire", "bar", "column", "diamond", "checker"]


def write(dataset: Dataset, folder: Path) -> None:
    """Write stand-ins for the data set's files below `folder`: 1,437 and 360 digits, or 2,000 and 500 shapes."""
    if dataset.reader == "idx":
        _write_idx([folder / file.name for file in dataset.files])
    else:
        _write_cifar([folder / file.name for file in dataset.files])


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's 1,797 digits as uint8 (n, 28, 28), enlarged three times in a margin of 2, and labels."""
    data = load_digits()
    grey = np.round(data.images * (255 / 16)).astype(np.uint8)
    enlarged = grey.repeat(3, axis=1).repeat(3, axis=2)  # (n, 24, 24)
    return np.pad(enlarged, ((0, 0), (2, 2), (2, 2))), data.target.astype(np.uint8)


def shapes(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw `n` shapes as uint8 (n, 32, 32, 3), and their labels: any place, size and pair of colours, with noise."""
    labels = (np.arange(n) % 10).astype(np.uint8)
    rng.shuffle(labels)
    images = np.empty((n, 32, 32, 3), np.uint8)
    for index, label in enumerate(labels):
        row, column = rng.uniform(11, 21, size=2)
        y, x = (np.mgrid[0:32, 0:32] - np.array([row, column])[:, None, None]) / rng.uniform(5, 9)
        inside = _inside(SHAPES[label], x, y)[..., None]
        back, front = _colours(rng)
        images[index] = np.clip(np.where(inside, front, back) + rng.normal(0, 40, (32, 32, 3)), 0, 255)
    return images, labels


def _write_idx(paths: list[Path]) -> None:
    x, labels = digits()
    for (images, classes), part in zip((paths[:2], paths[2:]), (slice(0, 1437), slice(1437, None)), strict=True):
        _write_gz(images, _idx(x[part]))
        _write_gz(classes, _idx(labels[part]))


def _write_cifar(paths: list[Path]) -> None:
    x, labels = shapes(2500, np.random.default_rng(0))
    by_name = {path.name: path for path in paths}
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        part = slice(2000, 2500) if name == "test_batch" else slice(400 * index, 400 * index + 400)
        planes = x[part].transpose(0, 3, 1, 2).reshape(len(x[part]), -1)  # red, green, blue, each row by row
        content = {b"data": planes, b"labels": labels[part].tolist()}
        by_name[name].write_bytes(pickle.dumps(content, protocol=3))
    names = [name.encode() for name in SHAPES]
    by_name["batches.meta"].write_bytes(pickle.dumps({b"label_names": names}, protocol=3))


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    radius, largest, smallest = np.hypot(x, y), np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
    return {
        "disc": radius < 1,
        "ring": (radius < 1) & (radius > 0.6),
        "square": largest < 0.9,
        "frame": (largest < 0.9) & (largest > 0.5),
        "cross": (largest < 1) & (smallest < 0.25),
        "saltire": (largest < 1) & (abs(abs(x) - abs(y)) < 0.35),
        "bar": (abs(y) < 0.3) & (abs(x) < 1),
        "column": (abs(x) < 0.3) & (abs(y) < 1),
        "diamond": abs(x) + abs(y) < 1.1,
        "checker": (largest < 0.9) & ((x > 0) == (y > 0)),
    }[shape]


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    while True:
        back, front = rng.uniform(20, 235, size=(2, 3))
        if abs(back - front).sum() > 120:
            return back, front


def _idx(array: np.ndarray) -> bytes:
    """The IDX format of the MNIST page: two zero bytes, the type (8: unsigned byte), the dimensions, the data."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def _write_gz(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0))
