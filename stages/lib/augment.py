"""Random variations of the training images, drawn anew for each epoch."""

import numpy as np
from keras import ops

CHUNK = 5000  # images in float32 at a time: 16 MB of digits, 61 MB of CIFAR-10


def augment(x: np.ndarray, rng: np.random.Generator, *, shift: int, fill_mode: str, flipped: np.ndarray) -> np.ndarray:
    """A copy of `x`, uint8 (n, height, width, channels), each image moved on its own, those in `flipped` mirrored.

    Moved by up to `shift` pixels in both directions, what comes in at the edge being black (`fill_mode` constant) or the
    reflection (reflect); mirrored left to right where the boolean `flipped` (n,) says so.
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
    x: np.ndarray, rng: np.random.Generator, *, rotation: float, zoom: float, shear: float, fill_mode: str
) -> np.ndarray:
    """A copy of `x`, uint8 (n, height, width, channels), each image turned, stretched and slanted around its centre.

    Turned by up to `rotation` degrees, each axis by a factor between 1 / (1 + zoom) and 1 + zoom, rows moved by up to
    `shear` pixels a row. Interpolated linearly; what comes in at the edge as in `augment`.
    """
    n, height, width, _ = x.shape
    angle = np.deg2rad(rng.uniform(-rotation, rotation, n))
    across, down = (1 + zoom) ** rng.uniform(-1, 1, (2, n))
    slant = rng.uniform(-shear, shear, n)
    # Where each pixel of the result is taken from: a 2x2 matrix around the centre, in Keras' order of coefficients.
    a, b = across * np.cos(angle), slant - down * np.sin(angle)
    c, d = across * np.sin(angle), down * np.cos(angle)
    x0, y0, none = (width - 1) / 2, (height - 1) / 2, np.zeros(n)
    matrices = np.stack([a, b, x0 - a * x0 - b * y0, c, d, y0 - c * x0 - d * y0, none, none], axis=1)
    result = np.empty_like(x)
    for start in range(0, n, CHUNK):
        chunk = slice(start, start + CHUNK)
        moved = ops.image.affine_transform(
            x[chunk].astype("float32"),
            matrices[chunk].astype("float32"),
            fill_mode=fill_mode,
            data_format="channels_last",
        )
        result[chunk] = np.rint(ops.convert_to_numpy(moved)).clip(0, 255)
    return result


def flips(n: int, seed: int, epoch: int) -> np.ndarray:
    """Which of `n` images to mirror in `epoch`: a random half at first, then the other one in turn.

    So that two epochs always show both sides (alternating flip, arXiv 2404.00498, section 3.6).
    """
    return (np.random.Generator(np.random.PCG64(seed)).random(n) < 0.5) ^ bool(epoch % 2)
