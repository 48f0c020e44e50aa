"""Random augmentation of the training images, drawn again for each epoch."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from reprocnn.backend import ops
from reprocnn.core.params import Augmentation, FillMode

CHUNK = 500  # images at a time: intermediate values stay in the processor's cache


def augment(
    x: np.ndarray, rng: np.random.Generator, how: Augmentation, mirrored: np.ndarray, threads: int = 1
) -> np.ndarray:
    """Copy uint8 images (n, height, width, channels), augmenting each on its own.

    `mirrored`, booleans (n,), says which to mirror if `how.flip` is set. The number of `threads` changes no bits.
    """
    flipped = mirrored & how.flip
    if not any((how.rotation, how.zoom, how.shear, how.elastic)):
        return move(x, rng, shift=how.shift, fill_mode=how.fill_mode, flipped=flipped, threads=threads)
    # The warp moves, by fractions of a pixel too.
    return warp(
        mirror(x, flipped),
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
    x: np.ndarray,
    rng: np.random.Generator,
    *,
    shift: int,
    fill_mode: FillMode,
    flipped: np.ndarray,
    threads: int = 1,
) -> np.ndarray:
    """Copy uint8 images (n, height, width, channels), moving each on its own and mirroring some left to right.

    Each moves by up to `shift` pixels along both axes; the edge is filled with black (`fill_mode` constant) or with the
    reflection (reflect). `flipped`, booleans (n,), says which to mirror.
    """
    if shift == 0:
        return mirror(x, flipped)
    n, height, width, _ = x.shape
    rows, columns = rng.integers(0, 2 * shift + 1, size=(2, n))
    result = np.empty_like(x)

    def fill(part: slice) -> None:
        padded = np.pad(x[part], ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode=fill_mode)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        moved = windows[np.arange(len(padded)), rows[part], columns[part]]  # (n, channels, height, width)
        result[part] = mirror(moved.transpose(0, 2, 3, 1), flipped[part])

    _in_chunks(fill, n, threads)
    return result


def mirror(x: np.ndarray, flipped: np.ndarray) -> np.ndarray:
    """Copy images (n, height, width, channels), mirroring left to right those that `flipped`, booleans (n,), says."""
    result = x.copy()
    result[flipped] = x[flipped, :, ::-1]
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
    """Copy uint8 images (n, height, width, channels), rotating, stretching, shearing, moving and bending each.

    An image turns around its centre by up to `rotation` degrees; each axis is stretched by a factor between
    1 / (1 + zoom) and 1 + zoom; a row moves by up to `shear` pixels against the next, and all by up to `shift` pixels,
    fractions included. Elastic distortion moves 5 x 5 points by a standard deviation of `elastic` pixels, smoothly in
    between (after Simard, Steinkraus and Platt, ICDAR 2003). Interpolation is linear; edges are filled as in `move`.
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
    """Sample `x` at `rows` and `columns`, both (n, height, width), in pixels from its centre; beyond it, the edge."""
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
    """Shrink uint8 images (n, height, width, channels) to (height, width) `size`, averaging the pixels covered."""
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
    """Call `fill` with slices of `n` images, in several threads, since NumPy computes an array in a single one."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, (slice(start, start + CHUNK) for start in range(0, n, CHUNK))))


def flips(n: int, seed: int, epoch: int) -> np.ndarray:
    """Choose which of `n` images to mirror in `epoch`, booleans (n,): a random half first, then the two halves in turn.

    Two epochs in a row show each image both ways (alternating flip, arXiv 2404.00498, section 3.6).
    """
    return (np.random.Generator(np.random.PCG64(seed)).random(n) < 0.5) ^ bool(epoch % 2)
