"""What is wrong with the order of the layers."""

import math

from reprocnn.audit.graph import Call, Graph, following
from reprocnn.audit.rules.base import Found, Task, rule
from reprocnn.audit.rules.common import (
    CONVOLUTIONS,
    DROPOUTS,
    RESHAPING,
    activation,
    after_pooling,
    is_linear,
    is_weighted,
    keeps_units,
    kernel_area,
    units,
)
from reprocnn.backend import layers


@rule(
    "warning",
    why="Softmax makes its units compete for a sum of 1: a few fire, and the rest of the layer carries next to "
    "nothing.",
    fix="Use relu between layers, and softmax only for the output.",
)
def hidden_softmax(graph: Graph, task: Task) -> Found:
    """The output of a softmax goes into another layer with weights. A softmax that weights something else, as in
    attention, is multiplied with it and left alone.
    """
    for call in graph.calls:
        if activation(call) != "softmax":
            continue
        weighted = [one for one in following(call, keeps_units) if is_weighted(one)]
        if weighted:
            mean = 1 / units(call)
            message = f"a softmax of {units(call):,} units, {mean:.2g} each on average, goes into {weighted[0].name}"
            yield call.name, message


@rule(
    "warning",
    why="Two linear maps in a row are one linear map: the second layer adds parameters and nothing else.",
    fix="Put an activation between them, or remove one.",
)
def linear_pair(graph: Graph, task: Task) -> Found:
    """There is nothing but dropout, reshaping, mean pooling or batch norm between two layers with weights. A narrower
    middle (a factorization, a linear bottleneck), depthwise with pointwise, 1xn with nx1, and outputs that are also
    used elsewhere are left alone.
    """
    for call in graph.calls:
        if not _is_plain(call) or activation(call) is not None:
            continue
        after = _end_of_linear_path(call)
        if after is call or not _is_plain(after) or _is_narrow(call, after) or _are_crossed(call, after):
            continue
        sizes = f"{call.inputs[0].shape[-1]:,} to {units(call):,} to {units(after):,} units"
        yield after.name, f"no activation between it and {call.name}: {sizes}"


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


def _is_plain(call: Call) -> bool:
    return isinstance(call.layer, (layers.Dense, *CONVOLUTIONS)) and getattr(call.layer, "groups", 1) == 1


def _end_of_linear_path(call: Call) -> Call:
    """Follow the only path from `call` through linear layers; return the first layer that is not one, or the last."""
    end = call
    while len(end.after) == 1 and (end is call or is_linear(end)):
        end = end.after[0]
    return end


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
