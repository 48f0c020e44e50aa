"""The prepared arrays, as `prepare` writes them and the later stages read them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json


class Split(NamedTuple):
    """Images and their labels."""

    x: np.ndarray  # uint8 (n, height, width, channels), 0 to 255
    y: np.ndarray  # float32 (n, 10), one-hot


def load(folder: Path) -> Split:
    """Load one split, as data/prepared/mnist/train. Raises UserError if it is missing or malformed."""
    x, y = _load(folder / "x.npy"), _load(folder / "y.npy")
    if x.dtype != np.uint8 or x.ndim != 4 or y.ndim != 2 or len(x) != len(y):
        raise UserError(
            f"{folder}: expected x.npy uint8 (n, height, width, channels) and y.npy (n, classes), found {x.dtype} "
            f"{x.shape} and {y.dtype} {y.shape}; run `dvc repro -f prepare`"
        )
    return Split(x, y)


def load_normalization(folder: Path) -> tuple[list[float], list[float]]:
    """Load scale and offset of each channel: the network sees pixel * scale + offset."""
    path = folder / "normalization.json"
    values = read_json(path)
    try:
        scale, offset = ([float(one) for one in values[key]] for key in ("scale", "offset"))
        if np.isfinite([scale, offset]).all():
            return scale, offset
    except (ValueError, KeyError, TypeError, OverflowError):
        pass  # as below
    raise UserError(f"{path}: found no scale and offset of finite numbers; run `dvc repro -f prepare`")


def _load(path: Path) -> np.ndarray:
    if not path.exists():
        raise UserError(f"{path}: missing; run `dvc repro prepare`")
    try:
        # Mapped first: a header that claims more than the file has is refused before memory is asked for.
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except OSError:
        raise
    except Exception as error:  # NumPy parses the header as Python and raises a dozen kinds
        raise UserError(f"{path}: invalid NumPy array of numbers ({error}); run `dvc repro -f prepare`") from None
