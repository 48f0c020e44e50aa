"""The two published formats, read into arrays without running or trusting their content."""

import gzip
import math
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from reprocnn.core.errors import UserError
from reprocnn.datasets import Dataset

NUM_CLASSES = 10
CIFAR_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
Labelled = tuple[np.ndarray, np.ndarray]
DATASETS = "reprocnn/datasets.py"
MAX_BYTES = 1 << 28  # of one decoded file; MNIST's largest has 47 MB


def read(dataset: Dataset, raw: Path) -> tuple[dict[str, Labelled], list[str]]:
    """Decode the data set's files below `raw`: the splits `train` and `test`, and the names of the classes.

    Raises UserError if a file is missing or damaged, or if it is not what datasets.py says of it.
    """
    _check(dataset)
    paths = [raw / file.name for file in dataset.files]
    for path in paths:
        if not path.is_file():
            raise _damaged(path, f"expected a file, found {'a folder' if path.is_dir() else 'none'}")
    if dataset.reader == "idx":
        train, test = idx_pair(*paths[:2]), idx_pair(*paths[2:])
        if train[0].shape[1:] != test[0].shape[1:]:
            raise _damaged(
                paths[2], f"expected images {train[0].shape[1:]}, as in {paths[0].name}, found {test[0].shape[1:]}"
            )
        return {"train": train, "test": test}, list(dataset.class_names)
    by_name = {path.name: path for path in paths}
    batches = [cifar_batch(by_name[name]) for name in CIFAR_BATCHES]
    x, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return {"train": (x, labels), "test": cifar_batch(by_name["test_batch"])}, cifar_class_names(
        by_name["batches.meta"]
    )


def _check(dataset: Dataset) -> None:
    """Raise UserError for an entry of datasets.py that no reader can follow."""
    names = [Path(file.name).name for file in dataset.files]
    needed = (*CIFAR_BATCHES, "test_batch", "batches.meta") if dataset.reader == "cifar" else ()
    fault = None
    if dataset.reader not in ("idx", "cifar"):
        fault = f"reader: found {dataset.reader!r}, expected 'idx' or 'cifar'"
    elif absent := [name for name in needed if name not in names]:
        fault = f"files: found none named {', '.join(absent)}, which the reader 'cifar' reads"
    elif dataset.reader == "idx" and len(names) != 4:
        fault = f"files: found {len(names)}, expected 4: training images, their labels, test images, their labels"
    elif dataset.reader == "idx" and len(dataset.class_names) != NUM_CLASSES:
        fault = f"class_names: found {len(dataset.class_names)}, expected {NUM_CLASSES}, in the order of the labels"
    if fault:
        raise UserError(f"{DATASETS}: {dataset.name}: {fault}; correct it there")


def idx_pair(images: Path, labels: Path) -> Labelled:
    """Decode a file of images and its file of labels: uint8 (n, height, width, 1) and uint8 (n,)."""
    x, y = idx(images, 3)[..., None], idx(labels, 1)
    if len(x) != len(y):
        raise _damaged(labels, f"expected a label for each of the {len(x):,} images, found {len(y):,}")
    if y.max() >= NUM_CLASSES:
        raise _damaged(labels, f"expected labels from 0 to {NUM_CLASSES - 1}, found {y.min()} to {y.max()}")
    return x, y


def idx(path: Path, dimensions: int) -> np.ndarray:
    """Decode a gzipped IDX file of unsigned bytes (yann.lecun.com/exdb/mnist): uint8, `dimensions` axes."""
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, f"invalid or incomplete gzip file ({error})") from None
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from None
    header = 4 + 4 * dimensions
    if len(content) > MAX_BYTES or content[:4] != bytes([0, 0, 8, dimensions]):
        raise _damaged(
            path, f"expected an IDX file of bytes with {dimensions} axes, found the start {content[:4].hex()}"
        )
    if len(content) < header:
        raise _damaged(path, f"expected a header of {header} bytes, found {len(content)}")
    shape = [int(size) for size in np.frombuffer(content[4:header], ">i4")]
    if min(shape) < 1:
        raise _damaged(path, f"expected positive sizes, found {shape}")
    if len(content) - header != math.prod(shape):
        raise _damaged(path, f"expected {math.prod(shape):,} bytes for {shape}, found {len(content) - header:,}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def cifar_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Decode one batch of CIFAR-10 (cs.toronto.edu/~kriz/cifar.html): uint8 (n, 32, 32, 3), and labels uint8 (n,)."""
    content = _unpickle(path)
    try:
        if any(isinstance(label, list | tuple) for label in content[b"labels"]):
            raise ValueError("labels in labels")  # of which a small file may hold more than anyone can count
        data, labels = content[b"data"].values, np.array(content[b"labels"])
        if labels.dtype.kind not in "iu" or labels.ndim != 1 or data.shape != (len(labels), 3072):
            raise ValueError(f"{data.dtype} {data.shape}, {len(labels)} labels {labels.dtype} {labels.shape}")
        if labels.min() < 0 or labels.max() >= NUM_CLASSES:
            raise ValueError(f"labels from {labels.min()} to {labels.max()}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path, f"expected data uint8 (n, 3072) and n labels from 0 to 9, found {error}") from None
    # Each row holds 1,024 red, then green, then blue values, row by row: (n, 3, 32, 32) to (n, 32, 32, 3).
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels.astype(np.uint8)


def cifar_class_names(path: Path) -> list[str]:
    """Read the ten names in the order of the labels, from batches.meta."""
    try:
        names = [name.decode("ascii") for name in _unpickle(path)[b"label_names"]]
        if len(names) != NUM_CLASSES:
            raise ValueError(f"{len(names)}")
        return names
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path, f"expected ten label_names, found {error}") from None


class _Unpickler(pickle.Unpickler):
    """Reads NumPy arrays of bytes and Python's own values; anything else that a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        # Both names of the module: CIFAR-10 was pickled by an old NumPy, the sample by this one.
        known = {"numpy.core.multiarray._reconstruct": Array, "numpy.ndarray": Array, "numpy.dtype": Dtype}
        if found := known.get(f"{module.replace('._core', '.core')}.{name}"):
            return found
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no data needs")


class Dtype:
    """Stands for NumPy's dtype of bytes, which crashes on some states; bytes have none."""

    def __init__(self, name: object, *_: object) -> None:
        if name not in ("u1", b"u1"):
            raise pickle.UnpicklingError(f"it has an array of {name!r}, expected u1")

    def __setstate__(self, _: object) -> None:
        pass


class Array:
    """Stands for a NumPy array of bytes, its `values`."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_transposed, content = state
        if not isinstance(kind, Dtype) or is_transposed:
            raise pickle.UnpicklingError("it has an array that is not one of bytes, row by row")
        self.values = np.frombuffer(content, np.uint8).reshape(shape)


def _unpickle(path: Path) -> dict[Any, Any]:
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises a dozen kinds
        if isinstance(error, OSError):
            raise _damaged(path, f"cannot be read ({error.strerror})") from None
        raise _damaged(path, f"found a pickle of other things than numbers, or damage ({error})") from None
    if not isinstance(content, dict):
        raise _damaged(path, f"expected a pickled dict, found {type(content).__name__}")
    return content


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; run `dvc repro -f download`, or correct the file and {DATASETS}")
