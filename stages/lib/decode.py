"""The two published formats, read into arrays without running or trusting what they say."""

import gzip
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from stages.lib.errors import UserError

MAX_BYTES = 1 << 28  # of one decoded file; MNIST's largest has 47 MB


def idx(path: Path, dimensions: int) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes (yann.lecun.com/exdb/mnist) as a uint8 array of `dimensions` axes."""
    try:
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except (EOFError, gzip.BadGzipFile) as error:
        raise _damaged(path, f"found no whole gzip file ({error})") from None
    header = 4 + 4 * dimensions
    if len(content) > MAX_BYTES or content[:4] != bytes([0, 0, 8, dimensions]):
        raise _damaged(
            path, f"expected an IDX file of bytes with {dimensions} axes, found the start {content[:4].hex()}"
        )
    shape = [int(size) for size in np.frombuffer(content[4:header], ">i4")]
    if len(content) - header != math.prod(shape) or min(shape) < 1:
        raise _damaged(path, f"expected {math.prod(shape):,} bytes for {shape}, found {len(content) - header:,}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def cifar_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """One batch of CIFAR-10 (cs.toronto.edu/~kriz/cifar.html): uint8 (n, 32, 32, 3), and labels uint8 (n,)."""
    content = _unpickle(path)
    try:
        data, labels = content[b"data"], np.array(content[b"labels"])
        if data.dtype != np.uint8 or data.shape != (len(labels), 3072) or labels.min() < 0 or labels.max() > 9:
            raise ValueError(f"{data.dtype} {data.shape}, {len(labels)} labels")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path, f"expected data uint8 (n, 3072) and n labels from 0 to 9, found {error}") from None
    # Each row holds 1,024 red, then green, then blue values, row by row: (n, 3, 32, 32) to (n, 32, 32, 3).
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels.astype(np.uint8)


def cifar_class_names(path: Path) -> list[str]:
    """The ten names in the order of the labels, from batches.meta."""
    try:
        return [name.decode("ascii") for name in _unpickle(path)[b"label_names"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path, f"expected ten label_names, found {error}") from None


class _Unpickler(pickle.Unpickler):
    """Reads NumPy arrays of numbers and Python's own values; anything else that a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:
        # Both names of the module: CIFAR-10 was pickled by an old NumPy, the sample by this one.
        if (module.replace("._core", ".core"), name) == ("numpy.core.multiarray", "_reconstruct"):
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no data needs")


def _reconstruct(kind: type, shape: tuple[int, ...], _: bytes) -> np.ndarray:
    """An empty array, which the pickle then fills; what NumPy's own function of that name does for plain arrays."""
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError(f"it builds {kind} of {shape}")
    return np.empty(shape, np.uint8)


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _Unpickler(file, encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise _damaged(path, f"found no plain pickle ({error})") from None


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what}; run `dvc repro -f download`")
