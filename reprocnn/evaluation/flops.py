"""The arithmetic of a network's convolutions and dense layers; nothing else is counted."""

import math

from reprocnn.backend import keras, layers


def flops(layer: layers.Layer) -> int:
    """Count the operations of a convolution or a dense layer on one image, without the bias."""
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense):
        positions = math.prod(layer.output.shape[1:-1])
        # A kernel's every value meets every position once; a depthwise kernel's too.
        return 2 * math.prod(layer.kernel.shape) * positions
    return 0


def training_flops(model: keras.Model) -> int:
    """Count the operations of one image in a training step: three times those of the forward pass.

    The gradients of kernels and of inputs take as many each as the forward pass. The first layer counts in full, though
    nothing needs the gradient of its inputs.
    """
    return 3 * sum(flops(layer) for layer in model.layers)
