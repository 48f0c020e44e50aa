"""Faster layers for training on a CPU: the same weights and mathematics, in fewer passes over memory.

Keras composes batch norm and GELU from a dozen operations each, every one of which reads and writes the whole batch.
And for the gradient of a bfloat16 kernel, oneDNN sums over the positions of one image row at a time, in tiles of 32: a
row of 7 leaves most of a tile empty.
"""

import math
from typing import Any

from reprocnn.backend import Device, keras, tf

WIDEST = 8  # positions per row up to which a matrix product is the faster way to a kernel's gradient


def use_fast_layers(model: keras.Model, device: Device) -> keras.Model:
    """Copy `model` for training on `device`, a CPU, with its weights and their names.

    The copy's results equal those of `model` up to rounding. Do not save it: Keras alone cannot read these layers.
    """

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind, config = type(layer), layer.get_config()
        if kind is keras.layers.BatchNormalization:
            kind = FusedBatchNormalization
        elif kind is keras.layers.Conv2D and _by_products(layer, device):
            kind = Convolution
        if getattr(layer, "activation", None) is keras.activations.gelu:
            config["activation"] = gelu
        return kind.from_config(config)

    faster = keras.models.clone_model(model, clone_function=copy)
    faster.set_weights(model.get_weights())
    return faster


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch norm, computed by TensorFlow's single operation for it on images in training."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalize, and update the moving statistics in training."""
        if not (training and self.trainable and len(inputs.shape) == 4):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma if self.scale else tf.ones([channels]),
            offset=self.beta,
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        # TensorFlow's variance is a sample's, with one less in the denominator; Keras' is not.
        values = tf.cast(tf.size(inputs) // channels, "float32")
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance * (1 - 1 / values))):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs


@tf.custom_gradient  # type: ignore[untyped-decorator]
def gelu(x: Any) -> tuple[Any, Any]:
    """Multiply x by the share of the standard normal distribution below it; XLA makes each direction one loop."""
    return _gelu(x), lambda upstream: _gelu_gradient(x, upstream)


@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def _gelu(x: Any) -> Any:
    return x * _below(x)


@tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
def _gelu_gradient(x: Any, upstream: Any) -> Any:
    density = tf.exp(-tf.square(x) / 2) / math.sqrt(2 * math.pi)
    return upstream * (_below(x) + x * density)


def _below(x: Any) -> Any:
    return tf.math.erfc(-x / math.sqrt(2)) / 2


class Convolution(keras.layers.Conv2D):
    """Keras' convolution for small images, whose kernel's gradient is a matrix product for each kernel position."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve, by matrix products where rows are short."""
        if inputs.shape[2] > WIDEST:
            return super().convolution_op(inputs, kernel)
        return _convolve(tf.convert_to_tensor(inputs), tf.convert_to_tensor(kernel))


def _by_products(layer: keras.layers.Conv2D, device: Device) -> bool:
    return (
        device.instructions == "amx_bf16"
        and layer.compute_dtype == "bfloat16"
        and layer.padding == "same"
        and layer.strides == layer.dilation_rate == (1, 1)
        and all(size % 2 for size in layer.kernel_size)
    )


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _convolve(x: Any, kernel: Any) -> tuple[Any, Any]:
    def gradients(upstream: Any) -> tuple[Any, Any]:
        of_x = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
        )
        return of_x, kernel_gradient(x, upstream, kernel.shape[:2])

    return tf.nn.conv2d(x, kernel, strides=1, padding="SAME"), gradients


def kernel_gradient(x: Any, upstream: Any, size: tuple[int, int]) -> Any:
    """Compute the gradient of a kernel of odd `size`, from `x` and `upstream`, both (n, height, width, channels).

    All positions of all images become the rows of one matrix, with zeros after each row and each image; a position of
    the kernel then shifts one matrix against the other by a number of rows.
    """
    down, right = size[0] // 2, size[1] // 2
    one_row = x.shape[2] + right

    def matrix(images: Any) -> Any:
        return tf.reshape(tf.pad(images, [[0, 0], [0, down], [0, right], [0, 0]]), [-1, images.shape[3]])

    most = down * one_row + right
    inputs, outputs = tf.pad(matrix(x), [[most, most], [0, 0]]), matrix(upstream)
    rows = tf.shape(outputs)[0]
    products = [
        tf.matmul(inputs[start : start + rows], outputs, transpose_a=True)
        for start in (i * one_row + j for i in range(size[0]) for j in range(size[1]))
    ]
    return tf.reshape(tf.stack(products), [*size, x.shape[3], upstream.shape[3]])
