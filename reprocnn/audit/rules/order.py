"""What is wrong with the order of the layers."""

import math

from reprocnn.audit.graph import Call, Graph, following, preceding
from reprocnn.audit.rules.base import Found, Task, rule
from reprocnn.audit.rules.common import (
    CONCATENATING,
    CONVOLUTIONS,
    DEPTHWISE,
    DROPOUTS,
    MERGES,
    NORMS,
    RECURRENT,
    RESHAPING,
    TRANSPOSED,
    activation,
    after_pooling,
    all_after,
    is_linear,
    is_weighted,
    keeps_units,
    kernel_area,
    units,
)
from reprocnn.backend import layers

DEPTHWISE_ONLY = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
LOCAL_MAX_POOLS = (layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)
TAKERS = (*RECURRENT, layers.MultiHeadAttention, layers.GroupQueryAttention)


@rule(
    "warning",
    why="Softmax makes its units compete for a sum of 1: a few fire, and the rest of the layer carries next to "
    "nothing.",
    fix="Use relu between layers, and softmax only for the output.",
)
def hidden_softmax(graph: Graph, task: Task) -> Found:
    """The output of a softmax goes into another layer with weights, recurrent ones and attention included, directly or
    joined with others. A softmax that weights something else, as in attention, is multiplied with it and left alone. So
    is one that is an output too, or that is computed from more than a layer's output, as Gumbel-softmax is.
    """
    for call in graph.calls:
        if activation(call) != "softmax" or call in graph.outputs or not _ends_a_layer(call):
            continue
        takers = [one for one in following(call, _passes) if is_weighted(one) or isinstance(one.layer, TAKERS)]
        if takers:
            mean = 1 / units(call)
            message = f"a softmax of {units(call):,} units, {mean:.2g} each on average, goes into {takers[0].name}"
            yield call.name, message


@rule(
    "warning",
    why="Two linear maps in a row are one linear map: the second layer adds parameters and nothing else.",
    fix="Put an activation between them, or remove one.",
)
def linear_pair(graph: Graph, task: Task) -> Found:
    """There is nothing but dropout, reshaping, mean pooling or batch norm between two layers with weights, or a
    concatenation of branches that all end like that. A narrower middle (a factorization, a linear bottleneck),
    depthwise with pointwise, transposed with another convolution, 1xn with nx1, a frozen first layer, and outputs that
    are also used elsewhere are left alone.
    """
    for call in graph.calls:
        if not _is_plain(call) or activation(call) is not None or not call.layer.trainable:
            continue
        after = _end_of_linear_path(call, graph)
        if after is call or not _is_plain(after) or _is_narrow(call, after) or _are_crossed(call, after):
            continue
        if any(isinstance(call.layer, kind) != isinstance(after.layer, kind) for kind in (DEPTHWISE_ONLY, TRANSPOSED)):
            continue
        sizes = f"{call.inputs[0].shape[-1]:,} to {units(call):,} to {units(after):,} units"
        yield after.name, f"no activation between it and {call.name}: {sizes}"


@rule(
    "warning",
    why="Taking the largest of a few linear responses is a weak nonlinearity. Usually the activation was forgotten.",
    fix="Put an activation, such as relu, into the first of the two layers.",
)
def pooled_linear(graph: Graph, task: Task) -> Found:
    """Between two convolutions, or a convolution and a Dense layer, there is max pooling and no activation. Pooling of
    the whole map and normalizations are left alone.
    """
    for call in graph.calls:
        if not _is_plain(call) or activation(call) is not None or call in graph.outputs:
            continue
        ends = list(following(call, lambda one: isinstance(one.layer, (*DROPOUTS, *LOCAL_MAX_POOLS, *RESHAPING))))
        pools = [one for one in all_after(call) if isinstance(one.layer, LOCAL_MAX_POOLS) and call in _sources(one)]
        if ends and pools and all(map(_is_plain, ends)):
            yield call.name, f"{pools[0].name} and no activation before {ends[0].name}"


@rule(
    "warning",
    why="Exponentials grow without bound from layer to layer; a hard sigmoid has no gradient beyond a few units.",
    fix="Use relu between layers. Keep these for outputs and gates.",
)
def hidden_gate(graph: Graph, task: Task) -> Found:
    """The activation of a hidden layer is exponential or hard_sigmoid. Gates, which are multiplied with something, are
    left alone.
    """
    for call in graph.calls:
        if activation(call) not in ("exponential", "hard_sigmoid") or not _ends_a_layer(call) or call in graph.outputs:
            continue
        takers = [one for one in following(call, _passes) if is_weighted(one) or isinstance(one.layer, TAKERS)]
        if takers:
            yield call.name, f"{activation(call)} goes into {takers[0].name}"


@rule(
    "note",
    why="Batch norm subtracts the mean, and the bias with it; its own beta does what the bias would.",
    fix="Set use_bias=False.",
)
def bias_before_norm(graph: Graph, task: Task) -> Found:
    """A layer with a bias and no activation is followed by batch norm, directly or after pooling."""
    for call in graph.calls:
        if not is_weighted(call) or call.layer.bias is None or activation(call) is not None:
            continue
        nexts = after_pooling(call)
        if nexts and all(map(_normalizes_units, nexts)):
            yield call.name, f"{math.prod(call.layer.bias.shape):,} biases that {nexts[0].name} subtracts again"


@rule(
    "warning",
    why="Dropout changes the variance in training but not in inference, so batch norm learns the wrong one (Li et al., "
    "arXiv 1801.05134).",
    fix="Put dropout after the last batch norm.",
)
def dropout_before_norm(graph: Graph, task: Task) -> Found:
    """Dropout is followed by batch norm, directly or after reshaping."""
    for call in graph.calls:
        if isinstance(call.layer, DROPOUTS) and call.layer.rate > 0:
            for one in following(call, lambda one: isinstance(one.layer, RESHAPING)):
                if isinstance(one.layer, layers.BatchNormalization):
                    yield call.name, f"dropout of {call.layer.rate:g} before {one.name}"


def _sources(call: Call) -> list[Call]:
    return list(preceding(call, lambda one: isinstance(one.layer, (*DROPOUTS, *LOCAL_MAX_POOLS))))


def _ends_a_layer(call: Call) -> bool:
    """Check whether an activation is part of a layer with weights, or follows one."""
    if is_weighted(call) or isinstance(call.layer, RECURRENT):
        return True
    # A pooling or normalization in between computes nothing new.
    above = list(preceding(call, lambda one: _passes(one) and not isinstance(one.layer, MERGES)))
    return bool(above) and all(map(is_weighted, above))


def _passes(call: Call) -> bool:
    return keeps_units(call) or isinstance(call.layer, (*MERGES, *NORMS))


def _is_plain(call: Call) -> bool:
    kinds = (layers.Dense, *CONVOLUTIONS, *DEPTHWISE, *TRANSPOSED)
    return isinstance(call.layer, kinds) and getattr(call.layer, "groups", 1) == 1


def _end_of_linear_path(call: Call, graph: Graph) -> Call:
    """Follow the only path from `call` through linear layers; return the first layer that is not one, or the last."""
    end = call
    while len(end.after) == 1 and end not in graph.outputs and (end is call or is_linear(end) or _joins_linear(end)):
        end = end.after[0]
    return end


def _joins_linear(call: Call) -> bool:
    if not isinstance(call.layer, CONCATENATING):
        return False
    ends = list(preceding(call, is_linear))
    return len(call.before) == len(call.inputs) and all(_is_plain(one) and activation(one) is None for one in ends)


def _is_narrow(call: Call, after: Call) -> bool:
    """Check whether the pair factorizes a larger map, or is a linear bottleneck of pointwise convolutions."""
    inputs, middle, outputs = call.inputs[0].shape[-1], units(call), units(after)
    if isinstance(call.layer, CONVOLUTIONS) and kernel_area(call) == 1 and kernel_area(after) == 1:
        return middle < outputs
    return middle < min(inputs, outputs)


def _are_crossed(call: Call, after: Call) -> bool:
    """Check whether a 1xn kernel meets an nx1."""
    first, second = (getattr(one.layer, "kernel_size", (1,)) for one in (call, after))
    return first != second and all(min(size) == 1 and max(size) > 1 for size in (first, second))


def _normalizes_units(call: Call) -> bool:
    last = len(call.output.shape) - 1
    return isinstance(call.layer, layers.BatchNormalization) and call.layer.axis in (-1, last)
