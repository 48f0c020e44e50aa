"""What is wrong with the loss of an output: its kind, its settings, its weight, and what follows the output."""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from reprocnn.audit.graph import Graph
from reprocnn.audit.recognize import as_fit_calls
from reprocnn.audit.rules.base import REGRESSION, Found, Head, Task, rule
from reprocnn.audit.rules.common import DROPOUTS, NORMS, PROBABILITIES, RANGES, activation, is_linear, is_weighted
from reprocnn.backend import layers, tf

ROWS = 256  # of labels
CLEAR = 1e-3  # of the loss
STEPS = (0, 10, 100, 1000, 10_000)  # standard deviations of the labels
FURTHER = 5  # times as far at the next step
HINGES = ("hinge", "squared_hinge", "categorical_hinge")
FEW = 8  # units of a regression; more are features, which may be normalized
WEIGHTS = 1e4  # times another output's
SETTINGS = {"label_smoothing": (0, 0.5), "delta": (1e-3, math.inf), "gamma": (0, 10)}


@rule(
    "error",
    why="The Poisson loss takes the logarithm of the output, which has to be positive: a negative one gives NaN.",
    fix="End in exponential or softplus.",
)
def negative_rate(graph: Graph, task: Task) -> Found:
    """The output for a Poisson loss can be negative."""
    for head in task.heads:
        can_be_negative = head.activation != "unknown" and RANGES.get(head.activation, (-1, 1))[0] < 0
        if can_be_negative and head.loss.is_known and head.loss.kind == "poisson":
            yield head.call.name, f"{head.activation} outputs with poisson"


@rule(
    "error",
    why="Without a gradient no weight moves: fit() stops, or trains nothing.",
    fix="Leave out what has no slope, such as rounding, argmax and comparisons; use the values themselves.",
)
def loss_without_gradient(graph: Graph, task: Task) -> Found:
    """No gradient flows from a custom loss back to the output. Needs `y`. A loss of 0 is left alone, since layers may
    add theirs.
    """
    for head, function, labels, outputs in _own_losses(task):
        value, slope = _value_and_gradient(function, labels, outputs)
        if slope is None and value != 0:
            yield head.call.name, f"no gradient from {head.loss.kind}"


@rule(
    "error",
    why="One NaN or infinite loss turns all weights into NaN.",
    fix="Add a small number to what the loss divides by or takes the logarithm of, or clip it.",
)
def infinite_loss(graph: Graph, task: Task) -> Found:
    """A custom loss is NaN or infinite for the first outputs and finite labels. Needs `y`."""
    for head, function, labels, outputs in _own_losses(task):
        value = float(function(labels, outputs))
        if not math.isfinite(value) and np.isfinite(labels).all() and np.isfinite(outputs).all():
            yield head.call.name, f"{head.loss.kind} is {value:g} for {len(labels)} rows of labels"


@rule(
    "error",
    why="Training lowers the loss, and so moves the outputs away from the labels. A coefficient or score is no loss.",
    fix="Return 1 minus the score, or its negative.",
)
def reversed_loss(graph: Graph, task: Task) -> Found:
    """A custom loss is larger where outputs equal labels than where they differ, however they do: Dice or R2 instead of
    1 minus it. Needs `y`, of the shape of the output. Contrastive losses, of a distance that is 0 for pairs of label 1,
    are left alone.
    """
    for head, function, labels, outputs in _own_losses(task):
        if labels.size != tf.size(outputs) or not np.ptp(labels) or not np.isfinite(labels).all():
            continue
        labels = labels.reshape(outputs.shape)
        spread = np.random.default_rng(0).normal(size=labels.shape).astype("float32") * labels.std()
        others = [labels + spread, labels - spread, 0 * labels + labels.mean()]
        if labels.min() >= 0 and labels.max() <= 1:
            others = [np.clip(one, 0, 1) for one in (*others, 1 - labels)]
        is_distance = set(np.unique(labels)) == {0, 1} and head.activation not in PROBABILITIES
        best, *values = (float(function(labels, tf.constant(one))) for one in (labels, *others))
        if is_distance and values[-1] == min(values):
            continue
        if best > max(values) + CLEAR * abs(best):
            yield head.call.name, f"{head.loss.kind} is {best:.3g} for perfect outputs, its highest"


@rule(
    "error",
    why="Training lowers it without end: the outputs leave the labels behind until they overflow.",
    fix="Take the square or the absolute value of the error, or the maximum of two terms that rise on either side.",
)
def unbounded_loss(graph: Graph, task: Task) -> Found:
    """A custom loss keeps falling the further linear outputs are above the labels, or below them. Needs `y`, of the
    shape of the output. A critic's labels, which have two values, are left alone.
    """
    for head, function, labels, outputs in _own_losses(task):
        is_number = head.activation == "linear" and labels.size == tf.size(outputs) and np.isfinite(labels).all()
        if not is_number or len(np.unique(labels)) <= 2:
            continue
        labels, now = labels.reshape(outputs.shape), abs(float(function(labels, outputs)))
        for size, deviation in (("large", labels.std()), ("small", -labels.std())):
            best, *others = (float(function(labels, tf.constant(labels + step * deviation))) for step in STEPS)
            falls = [best - other for other in others]
            is_endless = all(later > FURTHER * fall for fall, later in pairwise(falls))
            if is_endless and falls[0] > CLEAR * max(now, abs(best)):
                values = f"{best:.3g} for perfect outputs, {others[0]:.3g} for too {size} ones"
                yield head.call.name, f"{head.loss.kind} is {values}"


@rule(
    "warning",
    why="Whatever the labels are, training does the same.",
    fix="Compare the output with the first argument, y_true; give labels of 0 to a loss that needs none.",
)
def ignored_labels(graph: Graph, task: Task) -> Found:
    """A custom loss and its gradient stay the same for other labels. Needs `y`, of the shape of the output and not the
    same for all rows, and a model of one input and one output: others may get their labels as inputs, or need none.
    """
    for head, function, labels, outputs in _own_losses(task):
        inputs = getattr(task.model, "inputs", None) or []  # a subclassed model has none
        if len(task.heads) > 1 or len(inputs) > 1 or labels.size != tf.size(outputs) or (labels == labels[:1]).all():
            continue
        others = (labels[::-1], labels.max() + labels.min() - labels, np.broadcast_to(labels[:1], labels.shape))
        value, slope = _value_and_gradient(function, labels, outputs)
        if slope is not None and slope.any():
            changed = (_value_and_gradient(function, tf.constant(one), outputs) for one in others)
            if all(one == value and own is not None and np.array_equal(own, slope) for one, own in changed):
                yield head.call.name, f"{head.loss.kind} is {value:.3g} for these labels and for others"


@rule(
    "warning",
    why="It trains slowly or for another aim: the loss and the activation of the output belong to different tasks.",
    fix="Pair softmax with categorical cross-entropy, sigmoid with binary, a linear output with mse or mae, linear or "
    "tanh with hinge, relu or softplus with msle.",
)
def loss_and_output(graph: Graph, task: Task) -> Found:
    """A loss for numbers (mse, mae, ...) behind a softmax, or with labels that are one-hot rows or, behind one sigmoid,
    zeros and ones; binary cross-entropy behind a softmax; hinge behind outputs that are never negative; msle behind
    outputs that can be; cosine similarity of one unit; relu or tanh before a loss that takes logits; a loss for a
    critic (Wasserstein) behind a sigmoid.
    """
    for head in task.heads:
        problem = _misfit(head) or _is_classification(head)
        if problem:
            yield head.call.name, problem


@rule(
    "warning",
    why="What is normalized after the output is not what the labels are compared with at inference.",
    fix="Put normalization before the last layer with weights.",
)
def norm_on_output(graph: Graph, task: Task) -> Found:
    """A normalization follows the softmax or sigmoid of an output, or the output of a regression of up to eight units.
    Embeddings may be normalized: they have more units or another loss. So may directions, to unit length.
    """
    for head in task.heads:
        call, norm = head.output, None
        while len(call.before) == 1 and (isinstance(call.layer, NORMS) or is_linear(call)) and not activation(call):
            norm = call if isinstance(call.layer, NORMS) else norm
            call = call.before[0]
        if norm is None:
            continue
        is_regression = head.loss.kind in REGRESSION and is_weighted(call) and call.output.shape[-1] <= FEW
        is_regression &= not isinstance(norm.layer, layers.UnitNormalization)
        if is_regression or (activation(call) in PROBABILITIES and head.loss.takes_logarithms):
            yield (
                norm.name,
                f"{type(norm.layer).__name__} after the {activation(call) or 'linear'} output of {call.name}",
            )


@rule(
    "error",
    why="Random outputs are set to zero while it trains: the loss asks for what the layer cannot give.",
    fix="Put dropout before the last layer with weights.",
)
def dropout_on_regression(graph: Graph, task: Task) -> Found:
    """Dropout follows the linear output of a model with a loss of Keras' own, or stands between logits and softmax."""
    for head in task.heads:
        call = head.output if head.activation == "linear" else head.call
        if not head.loss.is_known or head.activation not in ("linear", *PROBABILITIES):
            continue
        if head.activation != "linear":
            if is_weighted(call) or len(call.before) != 1:
                continue
            call = call.before[0]
        if isinstance(call.layer, DROPOUTS) and call.layer.rate > 0 and len(call.before) == 1:
            above = call.before[0]
            if is_weighted(above) and activation(above) is None:
                yield call.name, f"dropout of {call.layer.rate:g} after the linear output of {above.name}"


@rule(
    "warning",
    why="An output without weight is not trained, one of negative weight is made as wrong as it can be, and beside a "
    "weight ten thousand times as large a loss counts for nothing.",
    fix="Choose weights that make the losses about equally large.",
)
def loss_weight(graph: Graph, task: Task) -> Found:
    """The weight of an output's loss is zero, negative, or less than a ten-thousandth of another's."""
    weights = [(head, head.weight) for head in task.heads if head.weight is not None and head.loss]
    for head, weight in weights:
        if weight <= 0 or weight * WEIGHTS < max(other for _, other in weights):
            yield head.call.name, f"a weight of {weight:g} for {head.loss.kind}"


@rule(
    "warning",
    why="At this value the loss says next to nothing about the labels.",
    fix="Use the default: label_smoothing of 0 to 0.1, delta of 1, gamma of 2, alpha of 0.25, axis of -1.",
)
def loss_setting(graph: Graph, task: Task) -> Found:
    """label_smoothing of 0.5 or more, Huber's delta below 0.001, a focal gamma above 10, an alpha of 0 or 1 that
    balances, or classes on another axis than the last.
    """
    for head in task.heads:
        if head.loss.is_known:
            for name, value in head.loss.options.items():
                if isinstance(value, int | float) and _is_absurd(name, value, head):
                    yield head.call.name, f"{name} of {value:g} in {head.loss.kind}"


def _own_losses(task: Task) -> Iterator[tuple[Head, Callable[..., Any], np.ndarray, Any]]:
    """Yield each head whose loss is not Keras', that loss as `fit` calls it, and labels and outputs that it takes."""
    for head in task.heads:
        if head.loss.is_known or head.loss.function is None or head.labels is None:
            continue
        function, signal = as_fit_calls(head.loss.function), head.signal.tensor
        if not signal.dtype.is_floating or not len(signal.shape):
            continue
        labels = head.labels[: len(signal) * (ROWS // len(signal) or 1)].astype("float32")
        labels = labels[: len(labels) // len(signal) * len(signal)]
        outputs = (
            tf.cast(tf.concat([signal] * (len(labels) // len(signal)), axis=0), tf.float32) if len(labels) else None
        )
        try:
            float(function(labels, outputs))
        except Exception:  # of a function that is not ours
            continue
        yield head, _or_nan(function), labels, outputs


def _or_nan(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a loss NaN where it raises an error, for labels or outputs other than the model's."""

    def call(labels: Any, outputs: Any) -> Any:
        try:
            return function(labels, outputs)
        except Exception:  # of a function that is not ours
            return tf.constant(math.nan)

    return call


def _value_and_gradient(function: Callable[..., Any], labels: Any, outputs: Any) -> tuple[float, np.ndarray | None]:
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        value = function(labels, outputs)
    slope = tape.gradient(value, outputs)
    return float(value), None if slope is None else tf.convert_to_tensor(slope).numpy()


def _is_absurd(name: str, value: float, head: Head) -> bool:
    loss, rank = head.loss, len(head.shape)
    if name == "alpha":
        return "focal" in loss.kind and bool(loss.options.get("apply_class_balancing", True)) and not 0 < value < 1
    if name == "axis":
        return loss.is_categorical and value % rank != getattr(head.call.layer, "axis", -1) % rank
    low, high = SETTINGS.get(name, (-math.inf, math.inf))
    return not low <= value < high


def _misfit(head: Head) -> str | None:
    loss, kind = head.loss, head.activation
    if not loss.is_known:
        is_critic = "wasserstein" in loss.kind.lower() and kind in PROBABILITIES
        is_number = loss.is_regression and kind == "softmax" and head.units > 1
        return f"{kind} output with {loss.kind}" if is_critic or is_number else None
    is_positive = RANGES.get(kind, (-1, 1))[0] >= 0
    other = (*REGRESSION, "binary_crossentropy", "binary_focal_crossentropy")
    if kind == "softmax" and loss.kind in other and head.units > 1 and not loss.from_logits:
        return f"softmax outputs with {loss.kind}"
    if loss.from_logits and kind in RANGES and kind not in (*PROBABILITIES, "log_softmax"):
        return f"{kind} outputs as logits of {loss.kind}"
    if loss.kind in HINGES and is_positive:
        return f"{kind} outputs, never negative, with {loss.kind}"
    if loss.kind == "mean_squared_logarithmic_error" and not is_positive and kind != "unknown":
        return f"{kind} outputs, which can be negative, with {loss.kind}"
    if loss.kind == "cosine_similarity" and head.units == 1:
        return "the direction of 1 unit with cosine_similarity"
    return None


def _is_classification(head: Head) -> str | None:
    """Say that the labels of a loss for numbers are of classes."""
    labels = head.labels
    if labels is None or head.loss.kind not in REGRESSION or labels.ndim > 2:
        return None
    if len(labels) < 2 * FEW or set(labels.ravel()[:10_000].tolist()) != {0, 1}:
        return None
    if labels.ndim == 2 and labels.shape[1] > 2 and (labels.sum(axis=1) == 1).all():
        return f"one-hot labels with {head.loss.kind}"
    is_one = labels.ndim == 1 or labels.shape[1] == 1
    if is_one and head.units == 1 and head.activation == "sigmoid":
        return f"labels of 0 and 1 with {head.loss.kind}"
    return None
