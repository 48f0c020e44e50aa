"""What several rules ask of a layer and of its neighbours."""

import math
from collections.abc import Callable

from reprocnn.audit.graph import Call, following
from reprocnn.backend import layers

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
WEIGHTED = (*CONVOLUTIONS, *DEPTHWISE, *TRANSPOSED, layers.Dense, layers.EinsumDense)
DROPOUTS = (
    layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D, layers.AlphaDropout,
)  # fmt: skip
MAX_POOLS = (
    layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D,
    layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D,
)  # fmt: skip
MEAN_POOLS = (
    layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D,
    layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D,
)  # fmt: skip
RESHAPING = (
    layers.Flatten, layers.Reshape, layers.Permute, layers.Identity,
    layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D,
    layers.Cropping1D, layers.Cropping2D, layers.Cropping3D,
)  # fmt: skip
AFFINE = (layers.BatchNormalization, layers.Rescaling, layers.Normalization)
# Activations that have a class of their own, as layers and as operations (keras.ops).
ACTIVATIONS = {
    "ReLU": "relu", "Relu": "relu", "Relu6": "relu", "LeakyReLU": "leaky_relu", "LeakyRelu": "leaky_relu",
    "PReLU": "prelu", "ELU": "elu", "Elu": "elu", "Gelu": "gelu", "Silu": "silu", "Tanh": "tanh",
    "Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "log_softmax",
}  # fmt: skip


def activation(call: Call) -> str | None:
    """Name the activation that ends a layer: None for none or a linear one, `unknown` for one that is not Keras'."""
    function = getattr(call.layer, "activation", None)
    if not callable(function):
        return ACTIVATIONS.get(type(call.layer).__name__)
    name = getattr(function, "__name__", None)
    if name is None:  # a layer as the activation of another
        name = ACTIVATIONS.get(type(function).__name__, "unknown")
    return None if name == "linear" else name


def is_weighted(call: Call) -> bool:
    """Check whether the layer is a Dense or a convolution of any kind."""
    return isinstance(call.layer, WEIGHTED)


def is_first(call: Call) -> bool:
    """Check whether the layer has weights and none before it has."""
    inner = (*WEIGHTED, layers.Embedding)
    return is_weighted(call) and not any(isinstance(one.layer, inner) for one in all_before(call))


def is_linear(call: Call) -> bool:
    """Check whether the call is a linear map without a kernel: dropout, reshaping, mean pooling, a scale."""
    if isinstance(call.layer, layers.Activation):
        return activation(call) is None
    return isinstance(call.layer, DROPOUTS + RESHAPING + MEAN_POOLS + AFFINE)


def keeps_units(call: Call) -> bool:
    """Check whether each unit goes in and comes out: reshaped, pooled, scaled or dropped."""
    return is_linear(call) or isinstance(call.layer, MAX_POOLS)


def after_pooling(call: Call) -> list[Call]:
    """List what follows a layer, directly or after pooling."""
    return list(following(call, lambda one: isinstance(one.layer, MAX_POOLS + MEAN_POOLS)))


def all_before(call: Call) -> list[Call]:
    """List every call on a path to this one."""
    return _reachable(call, lambda one: one.before)


def all_after(call: Call) -> list[Call]:
    """List every call on a path from this one."""
    return _reachable(call, lambda one: one.after)


def units(call: Call) -> int:
    """Count the units or channels of the output."""
    return int(call.output.shape[-1])


def kernel_area(call: Call) -> int:
    """Count the positions of a kernel: 9 of a 3x3, 1 of a Dense layer."""
    return math.prod(getattr(call.layer, "kernel_size", (1,)))


def _reachable(call: Call, steps: Callable[[Call], list[Call]]) -> list[Call]:
    seen = {id(call)}
    waiting = list(steps(call))
    found = []
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            found.append(one)
            waiting += steps(one)
    return found
