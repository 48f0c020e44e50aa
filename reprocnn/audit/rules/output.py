"""What is wrong with outputs, loss and labels."""

from collections.abc import Iterator

import numpy as np

from reprocnn.audit.graph import Call, Graph, following, preceding
from reprocnn.audit.rules.base import Found, Head, Task, rule
from reprocnn.audit.rules.common import (
    DROPOUTS,
    PROBABILITIES,
    RANGES,
    activation,
    is_scaled,
    is_weighted,
    keeps_units,
    units,
)
from reprocnn.backend import keras

CLOSE = 1e-3  # to 0 and 1
MASKS = ("dice", "jaccard", "iou", "tversky")  # in the names of custom losses


@rule(
    "error",
    why="Random classes get probability 0: the sum is no longer 1, and the logarithm in cross-entropy goes to minus "
    "infinity.",
    fix="Put dropout before the last layer with weights.",
)
def dropout_on_output(graph: Graph, task: Task) -> Found:
    """Dropout follows the softmax or sigmoid of an output."""
    for call in graph.calls:
        if not isinstance(call.layer, DROPOUTS) or call.layer.rate == 0 or list(following(call, keeps_units)):
            continue
        for one in preceding(call, keeps_units):
            if activation(one) in ("softmax", "sigmoid"):
                yield call.name, f"dropout of {call.layer.rate:g} after the {activation(one)} of {one.name}"


@rule(
    "warning",
    why="Below 6e-8 a float16 is 0, above 65,504 infinite: small probabilities and updates vanish, sums overflow.",
    fix='Keep weights in float32, as mixed_float16 does, and end in a layer with dtype="float32".',
)
def half_precision(graph: Graph, task: Task) -> Found:
    """Weights that are trained are kept in float16, or an output with a loss is computed in it."""
    kept = [name for name, layer in graph.leaves.items() if "float16" in (one.dtype for one in layer.trainable_weights)]
    if kept:
        yield kept[0], f"weights in float16{f', in this layer and {len(kept) - 1} more' if kept[1:] else ''}"
        return
    for head in task.heads:
        if head.loss and head.signal.tensor.dtype == "float16":
            yield head.call.name, f"{head.activation} output in float16"


@rule(
    "warning",
    why="The outputs need not sum to 1. Keras on TensorFlow trains the logits behind them as softmax would, so the "
    "outputs are not what was trained; with another backend, or if dropout or another layer follows, the outputs are "
    "divided by their sum.",
    fix="Use softmax, or logits with from_logits=True.",
)
def sigmoid_output(graph: Graph, task: Task) -> Found:
    """Several sigmoid outputs meet a loss for mutually exclusive classes, or a divergence of distributions. With binary
    cross-entropy, whose classes may occur together, or without a known loss, they are left alone.
    """
    for head in task.heads:
        if head.activation != "sigmoid" or head.units == 1:
            continue
        if head.loss.is_categorical or (head.loss.kind == "kl_divergence" and _are_distributions(head.labels)):
            yield head.call.name, f"{head.units} sigmoid outputs with {head.loss.kind}"


@rule(
    "error",
    why="Cross-entropy takes the logarithm of what it gets: without a softmax that is not a probability, and negative "
    "values are clipped.",
    fix="Set from_logits=True in the loss, or end in softmax (sigmoid for binary cross-entropy).",
)
def logits_as_probabilities(graph: Graph, task: Task) -> Found:
    """The output is linear, or has an activation that gives no probabilities, but the loss expects probabilities. If
    the last layer is not in the graph, or the output is scaled after its activation or is the exponential of something
    computed, such as a distance, it counts only if its values lie outside of 0 to 1. A custom Dice or IoU loss counts
    if it is lowest where outputs and labels are equal.
    """
    for head in task.heads:
        if not head.loss.is_known and head.activation == "linear" and _compares_masks(head):
            yield head.call.name, f"linear outputs with {head.loss.kind}"
        if not head.loss.takes_logarithms or head.loss.from_logits:
            continue
        is_measured = head.activation == "unknown" or _may_be_probabilities(head)
        if head.activation not in PROBABILITIES and not is_measured:
            how = "(from_logits=False)" if "crossentropy" in head.loss.kind else ""
            yield head.call.name, f"{head.activation} outputs with {head.loss.kind}{how}"
        elif is_measured and (head.signal.low < -CLOSE or head.signal.high > 1 + CLOSE):
            values = f"from {head.signal.low:.2g} to {head.signal.high:.2g}"
            yield head.call.name, f"outputs {values} with {head.loss.kind}"


@rule(
    "warning",
    why="Keras on TensorFlow takes the logits behind the activation and trains correctly; with another backend, with "
    "CTC, or if another layer follows, softmax is applied twice and gradients shrink.",
    fix="Remove from_logits=True, or the activation.",
)
def probabilities_as_logits(graph: Graph, task: Task) -> Found:
    """The output is softmax or sigmoid, but the loss expects logits."""
    for head in task.heads:
        if head.loss.from_logits and head.activation in PROBABILITIES:
            # Keras leaves the logits with what its own softmax and sigmoid give; its CTC does not take them.
            is_once = hasattr(head.signal.tensor, "_keras_logits") and head.loss.kind != "ctc"
            twice = "" if is_once else "; applied twice"
            because = "" if head.call is head.output else f", because {head.output.name} follows"
            how = "" if head.loss.kind == "ctc" else "(from_logits=True)"
            yield head.call.name, f"{head.activation} outputs with {head.loss.kind}{how}{twice}{because}"


@rule(
    "error",
    why="The probability of a single class is always 1: the output says nothing, or has no gradient.",
    fix="Use sigmoid with binary_crossentropy, or one unit per class.",
)
def single_output(graph: Graph, task: Task) -> Found:
    """An output is a softmax of one unit, or one unit meets a loss that compares several classes."""
    for head in task.heads:
        if head.units != 1:
            continue
        if head.activation == "softmax":
            yield head.call.name, "a softmax of 1 unit"
        elif head.loss.is_categorical and (head.loss.is_known or head.activation != "unknown"):
            yield head.call.name, f"1 output unit with {head.loss.kind}"


@rule(
    "error",
    why="The loss compares a row with a number: training stops at once, or compares values that do not correspond.",
    fix="Use categorical_crossentropy for one-hot rows and sparse_categorical_crossentropy for class numbers.",
)
def labels_and_loss(graph: Graph, task: Task) -> Found:
    """One-hot labels meet the sparse loss, or class numbers the one for one-hot labels. Needs the labels."""
    for head in task.heads:
        if head.one_hot == head.loss.is_sparse:
            labels = "one-hot labels" if head.one_hot else "class numbers as labels"
            yield head.call.name, f"{labels} with {head.loss.kind}"


@rule(
    "error",
    why="Labels without a unit cannot be predicted; the loss is undefined for them or rejects the shapes.",
    fix="Give the last layer as many units as there are classes.",
)
def wrong_outputs(graph: Graph, task: Task) -> Found:
    """The number of output units is not the number of classes. One unit for two classes is right; spare units are left
    to the next rule where the loss allows them. Class numbers beyond the last unit are found even if the number of
    classes is not given.
    """
    for call, classes, is_spare in _miscounted(task):
        if not is_spare:
            yield call.name, f"{units(call)} output units for {classes} classes"


@rule(
    "warning",
    why="It trains, but the spare units are classes that never occur, and a number copied from another task is easily "
    "wrong elsewhere too.",
    fix="Give the last layer as many units as there are classes.",
)
def spare_outputs(graph: Graph, task: Task) -> Found:
    """There are more output units than classes, with a loss that takes class numbers and so allows it."""
    for call, classes, is_spare in _miscounted(task):
        if is_spare:
            yield call.name, f"{units(call)} output units for {classes} classes"


def _may_be_probabilities(head: Head) -> bool:
    """Check whether an activation is scaled afterwards, or is an exponential of what no layer with weights gives."""
    if head.activation == "exponential":
        return not is_weighted(head.call) and not any(map(is_weighted, head.call.before))
    return head.activation in RANGES and is_scaled(head)


def _are_distributions(labels: np.ndarray | None) -> bool:
    return labels is None or (labels.ndim > 1 and bool((np.abs(labels.sum(axis=-1) - 1) < CLOSE).mean() > 0.99))


def _compares_masks(head: Head) -> bool:
    """Check whether a loss that by its name compares masks takes them as they are, without a sigmoid of its own."""
    if not any(name in head.loss.kind.lower() for name in MASKS):
        return False
    mask = np.indices(head.signal.shape).sum(axis=0) % 2
    try:
        values = np.asarray(head.loss.function(*(keras.ops.convert_to_tensor(mask.astype("float32")),) * 2))
    except Exception:  # of a function that is not ours
        return False
    return bool(np.isclose(values, 0, atol=0.05).all() or np.isclose(values, -1, atol=0.05).all())


def _miscounted(task: Task) -> Iterator[tuple[Call, int, bool]]:
    """Yield each output with too few or too many units, the number of classes, and whether the loss allows it."""
    for head in task.heads:
        if head.activation == "unknown" and not head.loss.is_categorical:
            continue
        if head.activation == "unknown" and head.shape[-1] is None:
            continue  # a unit for each row of the batch
        numbers = head.classes
        labelled = 0 if numbers is None or not numbers.size else int(numbers.max()) + 1
        classes = head.num_classes or (head.labels.shape[-1] if head.labels is not None and head.one_hot else None)
        if head.units < labelled and not _is_binary(head.units, labelled):
            if not head.starts_at_one:  # class-numbers says so
                yield head.call, labelled, False
        elif classes and head.units != classes and not _is_binary(head.units, classes):
            yield head.call, classes, head.units > classes and head.loss.is_sparse


def _is_binary(count: int, classes: int) -> bool:
    return count == 1 and classes == 2
