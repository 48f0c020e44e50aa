"""The networks by name, small."""

from reprocnn.backend import keras
from reprocnn.networks import build as networks

SIZES = {"filters": 8, "depth": 2, "kernel_size": 3, "dropout": 0.1}


def build(network, shape=(28, 28, 1), **sizes):
    """Build a network with a normalization to -0.5 to 0.5."""
    scale, offset = [1 / 255] * shape[-1], [-0.5] * shape[-1]
    normalization = keras.layers.Rescaling(scale, offset, name="normalization")
    return networks.build(network, shape, 10, normalization, **SIZES | sizes)
