"""What is wrong with activations: two in a row, softmax over the wrong axis, a chain of sigmoids."""

from reprocnn.audit.graph import Call, Graph, following, preceding
from reprocnn.audit.rules.base import Found, Task, rule
from reprocnn.audit.rules.common import (
    DROPOUTS,
    MAX_POOLS,
    MEAN_POOLS,
    RECURRENT,
    RESHAPING,
    activation,
    behind,
    is_weighted,
    keeps_units,
)
from reprocnn.backend import layers

CHAIN = 5  # layers: a sigmoid's slope is at most 1/4, so five leave a thousandth of the gradient


@rule(
    "warning",
    why="The second sees only what the first lets through: softmax of relu cannot rule a class out, sigmoid of "
    "sigmoid stays between 0.5 and 0.73.",
    fix="Keep one of them.",
)
def two_activations(graph: Graph, task: Task) -> Found:
    """An activation follows another directly or after dropout or reshaping. After pooling, as before the softmax of
    all-convolutional networks, and where the result is multiplied with something, as in attention, it is left alone. So
    is relu of relu.
    """
    for call in graph.calls:
        kind = activation(call)
        if not kind or kind == "exponential" or is_weighted(call) or isinstance(call.layer, RECURRENT):
            continue
        above = list(preceding(call, lambda one: isinstance(one.layer, DROPOUTS + RESHAPING)))
        first = activation(above[0]) if len(above) == 1 and not isinstance(above[0].layer, RECURRENT) else None
        nexts = list(following(call, _spreads))
        if first in (None, "unknown") or any(len(one.inputs) > 1 for one in nexts):
            continue
        if first == kind == "relu":  # the same as one
            continue
        yield call.name, f"{kind} after the {first} of {above[0].name}"


@rule(
    "error",
    why="The loss compares the classes of one place along its axis, by default the last, and there the values do not "
    "sum to 1.",
    fix="Use softmax over the last axis, its default.",
)
def softmax_axis(graph: Graph, task: Task) -> Found:
    """The softmax of an output runs over another axis than its loss, which is for classes that exclude each other. A
    softmax that is followed by a Permute is left alone.
    """
    for head in task.heads:
        axis = getattr(head.call.layer, "axis", -1)
        rank = len(head.call.output.shape)
        is_turned = any(isinstance(one.layer, layers.Permute) for one in behind(head))
        if activation(head.call) != "softmax" or not isinstance(axis, int) or is_turned:
            continue
        if head.loss.is_categorical and axis % rank != head.loss.options.get("axis", -1) % rank:
            yield head.call.name, f"a softmax over axis {axis % rank} of {rank} with {head.loss.kind}"


@rule(
    "warning",
    why="SELU keeps mean and variance only with AlphaDropout, and AlphaDropout fits no other activation.",
    fix="Use AlphaDropout after selu and Dropout after other activations.",
)
def selu_dropout(graph: Graph, task: Task) -> Found:
    """Ordinary dropout follows selu, or AlphaDropout another activation."""
    for call in graph.calls:
        if not isinstance(call.layer, DROPOUTS) or call.layer.rate == 0:
            continue
        is_alpha = isinstance(call.layer, layers.AlphaDropout)
        for one in preceding(call, lambda one: isinstance(one.layer, RESHAPING)):
            kind = activation(one)
            if kind not in (None, "unknown") and (kind == "selu") != is_alpha:
                yield call.name, f"{type(call.layer).__name__} after the {kind} of {one.name}"


@rule(
    "warning",
    why="The slope of a sigmoid is at most a quarter: behind five of them a thousandth of the gradient is left.",
    fix="Use relu between layers, or normalize between them.",
)
def sigmoid_chain(graph: Graph, task: Task) -> Found:
    """Five or more layers with weights and a sigmoid follow each other, with no normalization or shortcut between."""
    length: dict[int, int] = {}
    last = None
    for call in graph.calls:
        if activation(call) not in ("sigmoid", "hard_sigmoid"):
            continue
        sources = preceding(call, _continues)
        length[id(call)] = 1 + max((length.get(id(one), 0) for one in sources), default=0)
        if length[id(call)] >= CHAIN and not (call in graph.outputs and length[id(call)] == CHAIN):
            last = call
    if last:
        yield last.name, f"the last of {length[id(last)]} sigmoids in a row"


def _continues(call: Call) -> bool:
    is_linear = is_weighted(call) and activation(call) is None
    return is_linear or isinstance(call.layer, MAX_POOLS + MEAN_POOLS + RESHAPING + DROPOUTS)


def _spreads(call: Call) -> bool:
    return len(call.inputs) == 1 and (keeps_units(call) or isinstance(call.layer, layers.RepeatVector))
