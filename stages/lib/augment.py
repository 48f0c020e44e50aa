"""Random variations of the training images, drawn anew for each epoch."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from keras import ops

FillMode = Literal["constant", "reflect"]
CHUNK = 500  # images at a time: what is in between stays in the processor's cache


@dataclass(frozen=True)
class Variation:
    """What params.yaml says of it; units are written there."""

    shift: int
    rotation: float
    zoom: float
    shear: float
    elastic: float
    fill_mode: FillMode
    flip: bool


def augment(
    x: np.ndarray, rng: np.random.Generator, how: Variation, mirrored: np.ndarray, threads: int = 1
) -> np.ndarray:
    """A copy of `x`, uint8 (n, height, width, channels), each image varied on its own.

    With `how.flip`, those `mirrored`, booleans (n,), are. The number of `threads` changes no bits.
    """
    flipped = mirrored & how.flip
    if not any((how.rotation, how.zoom, how.shear, how.elastic)):
        return move(x, rng, shift=how.shift, fill_mode=how.fill_mode, flipped=flipped)
    # The warp moves, by fractions of a pixel too.
    return warp(
        move(x, rng, shift=0, fill_mode=how.fill_mode, flipped=flipped),
        rng,
        shift=how.shift,
        rotation=how.rotation,
        zoom=how.zoom,
        shear=how.shear,
        elastic=how.elastic,
        fill_mode=how.fill_mode,
        threads=threads,
    )


def move(
    x: np.ndarray, rng: np.random.Generator, *, shift: int, fill_mode: FillMode, flipped: np.ndarray
) -> np.ndarray:
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
    fill_mode: FillMode,
    threads: int = 1,
) -> np.ndarray:
    """A copy of `x`, uint8 (n, height, width, channels), each image turned, stretched, slanted, moved and bent.

    Turned around its centre by up to `rotation` degrees, each axis stretched by a factor between 1 / (1 + zoom) and
    1 + zoom, rows moved by up to `shear` pixels a row, all by up to `shift` pixels, fractions too. Bent as if drawn on
    rubber: moves of standard deviation `elastic` pixels at 5 x 5 points, smooth in between (after Simard, Steinkraus
    and Platt, ICDAR 2003). Interpolated linearly; what comes in at the edge as in `move`.
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

    def fill(part: slice) -> None:
        sin, cos = np.sin(angle[part]), np.cos(angle[part])
        rows = tall[part] * cos * i[:, None] + wide[part] * sin * j + down[part]
        columns = (slant[part] - tall[part] * sin) * i[:, None] + wide[part] * cos * j + right[part]
        if elastic:
            bend = ops.convert_to_numpy(
                ops.image.resize(bends[part], (height, width), "bicubic", data_format="channels_last")
            )
            rows, columns = rows + bend[..., 0], columns + bend[..., 1]
        padded = np.pad(x[part], ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode=fill_mode)
        result[part] = _interpolate(padded, rows, columns)

    _in_chunks(fill, n, threads)
    return result


def _interpolate(x: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`x` at places, both (n, height, width), in pixels from its centre; beyond its edge, what is at the edge."""
    n, height, width, channels = x.shape
    rows, columns = (
        np.clip(places + np.float32((size - 1) / 2), 0, np.float32(size - 1.001))
        for places, size in ((rows, height), (columns, width))
    )
    i, j = rows.astype(np.int32), columns.astype(np.int32)
    down, right = (rows - i.astype(np.float32))[..., None], (columns - j.astype(np.float32))[..., None]
    index = (np.arange(n, dtype=np.int32)[:, None, None] * (height * width) + i * width + j).astype(np.intp)
    pixels = x.reshape(-1, channels)
    a, b, c, d = (  # mode="clip" saves a check; no index is out of range
        pixels.take(index + step, axis=0, mode="clip").astype(np.float32) for step in (0, 1, width, width + 1)
    )
    upper, lower = a + (b - a) * right, c + (d - c) * right
    return np.rint(upper + (lower - upper) * down)


def shrink(x: np.ndarray, size: tuple[int, int], threads: int = 1) -> np.ndarray:
    """`x`, uint8 (n, height, width, channels), at a smaller height and width, each pixel a mean of those it covers."""
    if size == x.shape[1:3]:
        return x
    result = np.empty((len(x), *size, x.shape[3]), x.dtype)

    def fill(part: slice) -> None:
        small = ops.image.resize(
            x[part].astype("float32"), size, "bilinear", antialias=True, data_format="channels_last"
        )
        result[part] = np.rint(ops.convert_to_numpy(small))

    _in_chunks(fill, len(x), threads)
    return result


def _in_chunks(fill: Callable[[slice], None], n: int, threads: int) -> None:
    """Calls it with the slices of `n` images, in several threads, as NumPy computes one array in one alone."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, (slice(start, start + CHUNK) for start in range(0, n, CHUNK))))


def flips(n: int, seed: int, epoch: int) -> np.ndarray:
    """Which of `n` images to mirror in `epoch`: a random half at first, then the other one in turn.

    So that two epochs always show both sides (alternating flip, arXiv 2404.00498, section 3.6).
    """
    return (np.random.Generator(np.random.PCG64(seed)).random(n) < 0.5) ^ bool(epoch % 2)
