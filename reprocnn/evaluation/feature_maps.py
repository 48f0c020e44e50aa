"""Filters and feature maps of a network, as small pictures for the report."""

from itertools import pairwise
from typing import Any

import numpy as np

from reprocnn.backend import keras

MOST_FILTERS = 64  # shown
FIRST_MAPS = 2  # of the first block; one of each later one


def filters(model: keras.Model) -> np.ndarray:
    """Draw the kernels of the first convolution: uint8 (n, height, width, channels), in colour if it takes colours.

    Zero is mid-grey, each filter's largest weight black or white; of other channels the first is shown.
    """
    first = next((layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)), None)
    if first is None:
        return np.zeros((0, 1, 1, 1), np.uint8)
    kernels = np.moveaxis(keras.ops.convert_to_numpy(first.kernel), -1, 0)[:MOST_FILTERS]
    kernels = kernels if kernels.shape[-1] == 3 else kernels[..., :1]
    largest = np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)
    return np.rint(127.5 + 127.5 * kernels / np.where(largest > 0, largest, 1)).astype(np.uint8)


def blocks(model: keras.Model) -> list[keras.layers.Layer]:
    """Find the last layer of each convolution's block: before the next convolution, or before the map is flattened."""
    ends, within = [], False
    for layer, following in pairwise(model.layers):
        within = within or isinstance(layer, keras.layers.Conv2D)
        is_map = len(layer.output.shape) == 4
        last = isinstance(following, keras.layers.Conv2D) or len(following.output.shape) != 4
        if within and is_map and last:
            ends.append(layer)
    return ends


def feature_maps(model: keras.Model, x: np.ndarray) -> list[dict[str, Any]]:
    """Draw what becomes of the images `x` in each block: its `shape`, and the `maps` of the channels that vary most.

    Maps are uint8 (n, height, width); the lowest value over all images is black, the highest white.
    """
    ends = blocks(model)
    if not ends:
        return []
    outputs = keras.Model(model.inputs, [layer.output for layer in ends])([x], training=False)
    seen = []
    for block, output in enumerate(outputs if isinstance(outputs, list | tuple) else [outputs]):
        values = keras.ops.convert_to_numpy(output)
        order = np.argsort(-values.std(axis=(0, 1, 2)), kind="stable")
        for channel in order[: FIRST_MAPS if block == 0 else 1]:
            one = values[..., channel]
            span = one.max() - one.min()
            maps = np.rint(255 * (one - one.min()) / (span if span > 0 else 1)).astype(np.uint8)
            seen.append({"shape": list(values.shape[1:]), "channel": int(channel), "maps": maps})
    return seen
