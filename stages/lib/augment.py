"""Random variations of the training images, drawn anew for each epoch."""

import numpy as np


def augment(x: np.ndarray, rng: np.random.Generator, *, shift: int, flipped: np.ndarray) -> np.ndarray:
    """A copy of `x`, uint8 (n, height, width, channels), each image moved on its own, those in `flipped` mirrored.

    Moved by up to `shift` pixels in both directions, what comes in at the edge being the reflection; mirrored
    left to right where the boolean `flipped` (n,) says so.
    """
    n, height, width, _ = x.shape
    rows, columns = rng.integers(0, 2 * shift + 1, size=(2, n))
    padded = np.pad(x, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="reflect") if shift else x
    result = np.empty_like(x)
    # All images with the same move are cut at once: 25 slices at 2 pixels instead of n.
    for row in range(2 * shift + 1):
        for column in range(2 * shift + 1):
            chosen = np.flatnonzero((rows == row) & (columns == column))
            result[chosen] = padded[chosen, row : row + height, column : column + width]
    result[flipped] = result[flipped, :, ::-1]
    return result


def flips(n: int, seed: int, epoch: int) -> np.ndarray:
    """Which of `n` images to mirror in `epoch`: a random half at first, then the other one in turn.

    So that two epochs always show both sides (alternating flip, arXiv 2404.00498, section 3.6).
    """
    return (np.random.Generator(np.random.PCG64(seed)).random(n) < 0.5) ^ bool(epoch % 2)
