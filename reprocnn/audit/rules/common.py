"""What several rules ask of a layer and of its neighbours."""

import math
from collections.abc import Callable
from typing import Any

from reprocnn.audit import recognize
from reprocnn.audit.graph import Call, Graph, following, preceding
from reprocnn.audit.rules.base import Head
from reprocnn.backend import keras, layers

operations = keras.src.ops.numpy  # what keras.ops and x + y put into a graph
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
UPSAMPLING = (layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D)
WEIGHTED = (*CONVOLUTIONS, *DEPTHWISE, *TRANSPOSED, layers.Dense, layers.EinsumDense)
DROPOUTS = (
    layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D, layers.AlphaDropout,
    layers.GaussianDropout,
)  # fmt: skip
MAX_POOLS = (
    layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D,
    layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D,
)  # fmt: skip
MEAN_POOLS = (
    layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D,
    layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D,
)  # fmt: skip
RECTIFIERS = (layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU)
RESHAPING = (
    layers.Flatten, layers.Reshape, layers.Permute, layers.Identity,
    operations.Reshape, operations.Squeeze, operations.ExpandDims,
    layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D,
    layers.Cropping1D, layers.Cropping2D, layers.Cropping3D,
)  # fmt: skip
AFFINE = (layers.BatchNormalization, layers.Rescaling, layers.Normalization)
# Activations that have a class of their own, as layers and as operations (keras.ops).
ACTIVATIONS = {
    "ReLU": "relu", "Relu": "relu", "Relu6": "relu", "LeakyReLU": "leaky_relu", "LeakyRelu": "leaky_relu",
    "PReLU": "prelu", "ELU": "elu", "Elu": "elu", "Selu": "selu", "Gelu": "gelu", "Silu": "silu", "Tanh": "tanh",
    "Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "log_softmax", "Softplus": "softplus",
    "Softsign": "softsign", "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "HardTanh": "hard_tanh",
    "Exp": "exponential",
}  # fmt: skip
# What the values of an activation lie between.
RANGES = {
    "relu": (0, math.inf), "relu6": (0, 6), "softplus": (0, math.inf), "exponential": (0, math.inf),
    "sigmoid": (0, 1), "hard_sigmoid": (0, 1), "softmax": (0, 1),
    "tanh": (-1, 1), "softsign": (-1, 1), "hard_tanh": (-1, 1), "log_softmax": (-math.inf, 0),
}  # fmt: skip
PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid", "sparse_sigmoid", "sparsemax", "sparse_softmax")
NORMS = (
    layers.BatchNormalization, layers.LayerNormalization, layers.GroupNormalization, layers.UnitNormalization,
    layers.RMSNormalization,
)  # fmt: skip
RECURRENT = (layers.RNN, layers.Bidirectional, layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
ADDING = (layers.Add, operations.Add)
CONCATENATING = (layers.Concatenate, operations.Concatenate)
LOOKUPS = (layers.StringLookup, layers.IntegerLookup, layers.TextVectorization)
MERGES = (
    *ADDING, *CONCATENATING, layers.Average, layers.Maximum, layers.Minimum, layers.Subtract,
    operations.Maximum, operations.Minimum, operations.Subtract,
)  # fmt: skip
JOINS = (*MERGES, layers.Multiply, layers.Dot)


def activation(call: Call) -> str | None:
    """Name the activation that ends a layer: None for none or a linear one, `unknown` if it computes none of Keras'."""
    both = isinstance(call.layer, layers.Bidirectional) and call.layer.merge_mode in ("concat", "ave")
    function = getattr(call.layer.forward_layer if both else call.layer, "activation", None)
    if isinstance(call.layer, layers.Lambda):
        name: str | None = recognize.activation(call.layer.function)
        return None if name in ("linear", "unknown") else name
    if not callable(function):
        return ACTIVATIONS.get(type(call.layer).__name__)
    if isinstance(function, keras.Layer):  # as the activation of another
        name = ACTIVATIONS.get(type(function).__name__, "unknown")
    else:
        name = recognize.activation(function)
    return None if name == "linear" else name


def variable(layer: Any, name: str) -> Any:
    """Return a layer's weight by its name; None if it has none. LoRA's and quantized kernels have an underscore."""
    for attribute in (f"_{name}", name):
        value = getattr(layer, attribute, None)
        if isinstance(value, keras.Variable):
            return value
    return None


def is_weighted(call: Call) -> bool:
    """Check whether the layer is a Dense or a convolution of any kind."""
    return isinstance(call.layer, WEIGHTED)


def is_first(call: Call) -> bool:
    """Check whether a Dense, convolution or recurrent layer has weights and none before it but normalizations."""
    return isinstance(call.layer, WEIGHTED + RECURRENT) and not any(map(_has_weights, all_before(call)))


def is_linear(call: Call) -> bool:
    """Check whether the call is a linear map without a kernel: dropout, reshaping, mean pooling, a scale."""
    if isinstance(call.layer, layers.Activation):
        return activation(call) is None
    return isinstance(call.layer, DROPOUTS + RESHAPING + MEAN_POOLS + AFFINE) or _is_mean_of_places(call)


def keeps_units(call: Call) -> bool:
    """Check whether each unit goes in and comes out: reshaped, pooled, scaled or dropped."""
    return is_linear(call) or isinstance(call.layer, MAX_POOLS)


def after_pooling(call: Call) -> list[Call]:
    """List what follows a layer, directly or after pooling."""
    return list(following(call, lambda one: isinstance(one.layer, MAX_POOLS + MEAN_POOLS)))


def makes_waves(call: Call) -> bool:
    """Check whether a sine or cosine follows: the weights are frequencies, as of Fourier features."""
    return any(type(one.layer).__name__ in ("Sin", "Cos") for one in call.after)


def is_normalized(call: Call) -> bool:
    """Check whether a normalization follows, directly or after pooling or a rectifier: the scale does not matter."""
    passes = (*MAX_POOLS, *MEAN_POOLS, *RECTIFIERS)
    nexts = following(
        call,
        lambda one: (
            isinstance(one.layer, passes) or (isinstance(one.layer, layers.Activation) and activation(one) == "relu")
        ),
    )
    return any(isinstance(one.layer, NORMS) for one in nexts)


def comes_from_data(call: Call) -> bool:
    """Check whether what goes into a call depends on the batch: an initial state of zeros, learned queries do not.

    An input whose rows are all equal does not depend on it either. If a custom layer turns different rows into equal
    ones, its output counts as learned.
    """
    waiting, seen = [call], {id(call)}
    while waiting:
        one = waiting.pop()
        if one is not call and one.output.is_constant and not is_of_keras(one.layer):
            continue
        if len(one.before) < len(one.inputs) and not all(signal.is_constant for signal in one.inputs):
            return True
        waiting += [before for before in one.before if id(before) not in seen]
        seen |= set(map(id, one.before))
    return False


def is_scaled(head: Head) -> bool:
    """Check whether a fixed scale or a batch norm follows the layer that ends an output."""
    return any(isinstance(one.layer, AFFINE) for one in behind(head))


def behind(head: Head) -> list[Call]:
    """List the calls that follow the layer that ends an output, the last first."""
    call, found = head.output, []
    while call is not head.call:
        found.append(call)
        call = call.before[0]
    return found


def all_before(call: Call) -> list[Call]:
    """List every call on a path to this one."""
    return _reachable(call, lambda one: one.before)


def all_after(call: Call) -> list[Call]:
    """List every call on a path from this one."""
    return _reachable(call, lambda one: one.after)


def nearest_weighted(call: Call) -> list[Call]:
    """List the last layers with weights before a call."""
    return list(preceding(call, lambda one: not is_weighted(one)))


def adversary(graph: Graph) -> set[str]:
    """Name the layers of a frozen nested model that ends the network and has layers that train before it."""
    names = list(graph.leaves)
    trains = [bool(graph.leaves[name].trainable_weights) for name in names]
    frozen_end = names[len(names) - trains[::-1].index(True) :] if any(trains) else []
    model = frozen_end[0].split("/")[0] if frozen_end else ""
    is_one_model = all(name.startswith(f"{model}/") for name in frozen_end)
    return set(frozen_end) if is_one_model else set()


def units(call: Call) -> int:
    """Count the units or channels of the output."""
    return int(call.output.shape[-1])


def kernel_area(call: Call) -> int:
    """Count the positions of a kernel: 9 of a 3x3, 1 of a Dense layer."""
    return math.prod(getattr(call.layer, "kernel_size", (1,)))


def by_x(sizes: Any) -> str:
    """Write sizes as 3x3x16."""
    return "x".join(map(str, sizes))


def is_of_keras(operation: Any) -> bool:
    """Check whether a layer or operation comes with Keras."""
    return type(operation).__module__.startswith("keras.")


def gives_ids(layer: Any) -> bool:
    """Check whether a layer is a lookup that gives numbers of words, not a row of marks or counts."""
    mode = getattr(layer, "output_mode", getattr(layer, "_output_mode", "int"))  # the latter of TextVectorization
    return isinstance(layer, LOOKUPS) and mode == "int"


def _is_mean_of_places(call: Call) -> bool:
    """Check whether the call is keras.ops.mean over axes that leave the last, the units."""
    if not isinstance(call.layer, operations.Mean) or not call.layer.axis:
        return False
    rank = len(call.inputs[0].shape)
    return all(axis % rank != rank - 1 for axis in call.layer.axis)


def _has_weights(call: Call) -> bool:
    is_norm = isinstance(call.layer, (*NORMS, layers.Normalization))
    return not is_norm and bool(getattr(call.layer, "weights", None))


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
