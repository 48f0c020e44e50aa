"""Random variations of the training images, drawn anew for each epoch."""

from typing import Any

import numpy as np
from keras import ops

CHUNK = 5000  # images in float32 at a time: 16 MB of digits, 61 MB of CIFAR-10


def augment(x: np.ndarray, rng: np.random.Generator, *, shift: int, fill_mode: str, flipped: np.ndarray) -> np.ndarray:
    """A copy of `x`, uint8 (n, height, width, channels), each image moved on its own, those in `flipped` mirrored.

    Moved by up to `shift` pixels in both directions, what comes in at the edge being black (`fill_mode` constant) or
    the reflection (reflect); mirrored left to right where the boolean `flipped` (n,) says so.
    """
    n, height, width, _ = x.shape
    rows, columns = rng.integers(0, 2 * shift + 1, size=(2, n))
    padded = np.pad(x, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode=fill_mode) if shift else x
    result = np.empty_like(x)
    # All images with the same move are cut at once: 25 slices at 2 pixels instead of n.
    for row in range(2 * shift + 1):
        for column in range(2 * shift + 1):
            chosen = np.flatnonzero((rows == row) & (columns == column))
            result[chosen] = padded[chosen, row : row + height, column : column + width]
    result[flipped] = result[flipped, :, ::-1]
    return result


def warp(
    x: np.ndarray,
    rng: np.random.Generator,
    *,
    shift: float,
    rotation: float,
    zoom: float,
    shear: float,
    elastic: float,
    fill_mode: str,
) -> np.ndarray:
    """A copy of `x`, uint8 (n, height, width, channels), each image turned, stretched, slanted, moved and bent.

    Turned around its centre by up to `rotation` degrees, each axis stretched by a factor between 1 / (1 + zoom) and
    1 + zoom, rows moved by up to `shear` pixels a row, all by up to `shift` pixels, fractions too. Bent as if drawn on
    rubber: moves of standard deviation `elastic` pixels at 5 x 5 points, smooth in between (after Simard, Steinkraus
    and Platt, ICDAR 2003). Interpolated linearly; what comes in at the edge as in `augment`.
    """
    n, height, width, _ = x.shape
    angle, slant, down, right = (
        rng.uniform(-most, most, (n, 1, 1)).astype("float32") for most in (np.deg2rad(rotation), shear, shift, shift)
    )
    tall, wide = (1 + np.float32(zoom)) ** rng.uniform(-1, 1, (2, n, 1, 1)).astype("float32")
    bends = elastic * rng.standard_normal((n, 5, 5, 2), dtype="float32")
    margin = max(height, width) // 4
    i, j = (np.arange(size, dtype="float32") - (size - 1) / 2 for size in (height, width))  # from the centre
    result = np.empty_like(x)
    for start in range(0, n, CHUNK):
        part = slice(start, start + CHUNK)
        sin, cos = np.sin(angle[part]), np.cos(angle[part])
        rows = tall[part] * cos * i[:, None] + wide[part] * sin * j + down[part]
        columns = (slant[part] - tall[part] * sin) * i[:, None] + wide[part] * cos * j + right[part]
        if elastic:
            bend = ops.image.resize(bends[part], (height, width), "bicubic", data_format="channels_last")
            rows, columns = rows + bend[..., 0], columns + bend[..., 1]
        padded = np.pad(x[part], ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode=fill_mode)
        result[part] = _interpolate(padded, rows, columns)
    return result


def _interpolate(x: np.ndarray, rows: Any, columns: Any) -> np.ndarray:
    """`x` at places, both (n, height, width), in pixels from its centre; beyond its edge, what is at the edge."""
    n, height, width, channels = x.shape
    rows = ops.clip(rows + (height - 1) / 2, 0, height - 1.001)
    columns = ops.clip(columns + (width - 1) / 2, 0, width - 1.001)
    i, j = ops.cast(rows, "int32"), ops.cast(columns, "int32")
    down, right = (ops.expand_dims(place - ops.cast(k, "float32"), -1) for place, k in ((rows, i), (columns, j)))
    index = np.arange(n, dtype="int32")[:, None, None] * (height * width) + i * width + j
    pixels = x.astype("float32").reshape(-1, channels)
    a, b, c, d = (ops.take(pixels, index + step, axis=0) for step in (0, 1, width, width + 1))
    upper, lower = a + (b - a) * right, c + (d - c) * right
    return np.rint(ops.convert_to_numpy(upper + (lower - upper) * down))


def flips(n: int, seed: int, epoch: int) -> np.ndarray:
    """Which of `n` images to mirror in `epoch`: a random half at first, then the other one in turn.

    So that two epochs always show both sides (alternating flip, arXiv 2404.00498, section 3.6).
    """
    return (np.random.Generator(np.random.PCG64(seed)).random(n) < 0.5) ^ bool(epoch % 2)
