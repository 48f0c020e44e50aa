"""What is wrong with outputs, loss and labels."""

from collections.abc import Iterator

from reprocnn.audit.graph import Call, Graph, following, preceding
from reprocnn.audit.rules.base import Found, Task, rule
from reprocnn.audit.rules.common import DROPOUTS, activation, is_weighted, keeps_units, units


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
    why="The outputs need not sum to 1. Keras on TensorFlow trains the logits behind them as softmax would, so the "
    "outputs are not what was trained; with another backend, or if dropout or another layer follows, the outputs are "
    "divided by their sum.",
    fix="Use softmax, or logits with from_logits=True.",
)
def sigmoid_output(graph: Graph, task: Task) -> Found:
    """Several sigmoid outputs meet a loss for mutually exclusive classes. With binary cross-entropy, whose classes may
    occur together, or without a known loss, they are left alone.
    """
    if task.loss is None or not task.loss.is_categorical:
        return
    for call, kind in _heads(graph):
        if kind == "sigmoid" and units(call) > 1:
            yield call.name, f"{units(call)} sigmoid outputs with {task.loss.kind}"


@rule(
    "error",
    why="Cross-entropy takes the logarithm of what it gets: without a softmax that is not a probability, and negative "
    "values are clipped.",
    fix="Set from_logits=True in the loss, or end in softmax (sigmoid for binary cross-entropy).",
)
def logits_as_probabilities(graph: Graph, task: Task) -> Found:
    """The output is linear, or has an activation that gives no probabilities, but the loss expects probabilities."""
    if task.loss is None or task.loss.from_logits:
        return
    for call, kind in _heads(graph):
        if kind not in ("softmax", "sigmoid", "unknown"):
            yield call.name, f"{kind} outputs with {task.loss.kind}(from_logits=False)"


@rule(
    "warning",
    why="Keras on TensorFlow takes the logits behind the activation and trains correctly; with another backend, or if "
    "another layer follows, softmax is applied twice and gradients shrink.",
    fix="Remove from_logits=True, or the activation.",
)
def probabilities_as_logits(graph: Graph, task: Task) -> Found:
    """The output is softmax or sigmoid, but the loss expects logits."""
    if task.loss is None or not task.loss.from_logits:
        return
    for call, kind in _heads(graph):
        if kind in ("softmax", "sigmoid"):
            twice = "" if call in graph.outputs else f"; applied twice, because {graph.outputs[0].name} follows"
            yield call.name, f"{kind} outputs with {task.loss.kind}(from_logits=True){twice}"


@rule(
    "error",
    why="The probability of a single class is always 1: the output says nothing, or has no gradient.",
    fix="Use sigmoid with binary_crossentropy, or one unit per class.",
)
def single_output(graph: Graph, task: Task) -> Found:
    """An output is a softmax of one unit, or one unit meets a loss that compares several classes."""
    for call, kind in _heads(graph):
        if units(call) != 1:
            continue
        if kind == "softmax":
            yield call.name, "a softmax of 1 unit"
        elif kind != "unknown" and task.loss and task.loss.is_categorical:
            yield call.name, f"1 output unit with {task.loss.kind}"


@rule(
    "error",
    why="The loss compares a row with a number: training stops at once, or compares values that do not correspond.",
    fix="Use categorical_crossentropy for one-hot rows and sparse_categorical_crossentropy for class numbers.",
)
def labels_and_loss(graph: Graph, task: Task) -> Found:
    """One-hot labels meet the sparse loss, or class numbers the other one. Needs the labels."""
    if task.loss is None or not task.loss.is_categorical or task.one_hot is None:
        return
    if task.one_hot == task.loss.is_sparse:
        labels = "one-hot labels" if task.one_hot else "class numbers as labels"
        for call, _ in _heads(graph):
            yield call.name, f"{labels} with {task.loss.kind}"


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
    for call, classes, is_spare in _miscounted(graph, task):
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
    for call, classes, is_spare in _miscounted(graph, task):
        if is_spare:
            yield call.name, f"{units(call)} output units for {classes} classes"


def _heads(graph: Graph) -> Iterator[tuple[Call, str]]:
    """Yield the layer that ends each output, and its activation: `linear`, or `unknown` if it is not a known layer."""
    for output in graph.outputs:
        call = output
        while activation(call) is None and keeps_units(call) and len(call.before) == 1:
            call = call.before[0]
        yield call, activation(call) or ("linear" if is_weighted(call) else "unknown")


def _miscounted(graph: Graph, task: Task) -> Iterator[tuple[Call, int, bool]]:
    """Yield each output with too few or too many units, the number of classes, and whether the loss allows it."""
    labelled = 0 if task.last_label is None else task.last_label + 1
    is_sparse = task.loss is not None and task.loss.is_sparse
    for call, kind in _heads(graph):
        count = units(call)
        if kind == "unknown":
            continue
        if count < labelled and not _is_binary(count, labelled):
            yield call, labelled, False
        elif task.num_classes and count != task.num_classes and not _is_binary(count, task.num_classes):
            yield call, task.num_classes, count > task.num_classes and is_sparse


def _is_binary(count: int, classes: int) -> bool:
    return count == 1 and classes == 2
