"""The arithmetic of a network; what is neither convolution nor dense counts as none."""

import math

import keras
from keras import layers


def flops(layer: layers.Layer) -> int:
    """Operations of a convolution or a dense layer on one image, without the bias."""
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D | layers.Dense):
        positions = math.prod(layer.output.shape[1:-1]) if len(layer.output.shape) > 2 else 1
        # A kernel's every value meets every position once; a depthwise kernel's too.
        return 2 * math.prod(layer.kernel.shape) * positions
    return 0


def training_flops(model: keras.Model) -> int:
    """Operations of one image in a training step: backward, the gradients of kernels and of inputs take as many each as
    the forward pass. The first layer's are counted in, though nothing needs those of its inputs."""
    return 3 * sum(flops(layer) for layer in model.layers)
