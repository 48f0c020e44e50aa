"""The normalization: chosen and checked here, from the training images alone; the network applies it."""

import numpy as np

from reprocnn.core.errors import UserError

CLOSE = 1e-6  # of a mean to 0 and a standard deviation to 1


def normalize(x: np.ndarray, method: str) -> dict[str, object]:
    """Choose scale and offset of each channel of uint8 images (n, height, width, channels), and check their effect.

    `center` is x / 255 - 0.5; `standardize` gives each channel mean 0 and variance 1. Raises UserError if the result is
    not what the method promises, as for a channel of one value.
    """
    # Of 256 values counted, instead of floats made of all pixels: exact, and a hundredth of the memory.
    counts = [np.bincount(x[..., channel].ravel(), minlength=256) for channel in range(x.shape[-1])]
    mean, std = _moments(np.tile(np.arange(256.0), (len(counts), 1)), counts)
    if not (std > 0).all():
        raise UserError(
            "data/raw: expected pixels that differ, found a channel of one value; run `dvc repro -f download`"
        )
    if method == "center":
        scale, offset = np.full(len(mean), 1 / 255), np.full(len(mean), -0.5)
    else:
        scale, offset = 1 / std, -mean / std

    normalized = np.arange(256)[None, :] * scale[:, None] + offset[:, None]  # (channels, 256): what the network sees
    occurring = np.array(counts) > 0
    low, high = normalized[occurring].min(), normalized[occurring].max()
    mean, std = _moments(normalized, counts)
    if method == "center":
        as_promised = low >= -0.5 and high <= 0.5
    else:
        as_promised = abs(mean).max() < CLOSE and abs(std - 1).max() < CLOSE
    if not as_promised:
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
