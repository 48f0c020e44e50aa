"""What is wrong with the labels: their shape, their range, and what they stand for. Needs `y`."""

import math
from collections.abc import Iterator

import numpy as np

from reprocnn.audit import noise
from reprocnn.audit.graph import Graph
from reprocnn.audit.recognize import as_fit_calls
from reprocnn.audit.rules.base import REGRESSION, Found, Head, Task, rule
from reprocnn.audit.rules.common import RANGES, is_scaled
from reprocnn.backend import keras

# What the labels of a loss lie between, whatever the output is.
ALLOWED = {
    "binary_crossentropy": (0, 1), "binary_focal_crossentropy": (0, 1), "dice": (0, 1), "tversky": (0, 1),
    "kl_divergence": (0, math.inf), "poisson": (0, math.inf), "mean_squared_logarithmic_error": (-1, math.inf),
}  # fmt: skip
BY_VALUE = (*REGRESSION, *ALLOWED, "cosine_similarity")
SOME = 0.01  # of the labels; fewer are outliers
CLOSE, SAME = 1e-3, 1e-5
NOISE = 0.1  # that GANs add to labels of 0 and 1
MANY = 32  # labels, enough to miss a second class
HUGE = 1e3


@rule(
    "error",
    why="One NaN in the loss turns all weights into NaN.",
    fix="Remove the rows, or fill in the missing labels.",
)
def missing_labels(graph: Graph, task: Task) -> Found:
    """Labels are NaN or infinite. A custom loss that ignores them is left alone."""
    for head, labels in _labelled(task):
        bad = int(np.count_nonzero(~np.isfinite(labels))) if labels.dtype.kind == "f" else 0
        if bad and not _is_finite(head, labels):
            yield head.call.name, f"{bad:,} of {labels.size:,} labels are NaN or infinite"


@rule(
    "error",
    why="Mismatched shapes are broadcast, so outputs are compared with labels that are not theirs, or the step fails.",
    fix="Give the output the shape of the labels: pool or flatten before it, set or drop return_sequences, count the "
    "units.",
)
def labels_shape(graph: Graph, task: Task) -> Found:
    """Shapes of labels and output do not belong together. One axis of size 1 at the end may be missing, and a loss that
    takes class numbers has one axis less. A custom loss is left alone, except a subclass of keras.losses.Loss that
    compares each output with the labels of all rows, since labels and outputs are of shapes (rows,) and (rows, 1).
    """
    for head, labels in _labelled(task):
        if _pairs_all(head, labels):
            shapes = f"{noise.shape(labels.shape[1:])}, outputs of shape {noise.shape(head.shape[1:])}"
            kind = type(head.loss.function).__name__
            yield head.call.name, f"labels of shape {shapes}: {kind} compares each output with the labels of all rows"
            continue
        if not head.loss.is_known or head.loss.kind == "circle":
            continue
        if head.loss.kind == "ctc" and len(head.shape) != 3:
            yield head.call.name, f"outputs of shape {noise.shape(head.shape[1:])} with ctc, expected (steps, classes)"
        expected = _expected_shape(head)
        if expected is not None and not noise.agree(labels.shape[1:], expected):
            names = (noise.shape(labels.shape[1:]), noise.shape(head.shape[1:]))
            yield head.call.name, f"labels of shape {names[0]}, outputs of shape {names[1]} with {head.loss.kind}"


@rule(
    "error",
    why="The output cannot come near such labels, or the loss is not defined for them.",
    fix="Number two classes 0 and 1. Scale other labels, or choose another activation: linear for any value, softplus "
    "above 0, sigmoid for 0 to 1, tanh for -1 to 1.",
)
def labels_range(graph: Graph, task: Task) -> Found:
    """Over 1 % of the labels lie outside of what the activation of the output gives, or of what the loss is defined
    for; with binary cross-entropy by more than 0.1. Hinge losses convert their labels, and an output that is scaled
    after its activation is left alone.
    """
    for head, labels in _labelled(task):
        if head.one_hot is False or is_scaled(head):
            continue
        is_own = head.loss.is_regression and not head.loss.is_known and noise.agree(labels.shape[1:], head.shape[1:])
        if head.loss.kind not in BY_VALUE and not is_own:
            continue
        low, high = ALLOWED.get(head.loss.kind, (-math.inf, math.inf))
        if not head.loss.from_logits:
            reach = RANGES.get(head.activation, (-math.inf, math.inf))
            low, high = max(low, reach[0]), min(high, reach[1])
        slack = NOISE if head.loss.kind == "binary_crossentropy" else CLOSE
        outside = np.mean((labels < low - slack) | (labels > high + slack))
        if outside > SOME:
            found = f"labels from {np.nanmin(labels):.4g} to {np.nanmax(labels):.4g}"
            yield head.call.name, f"{found}, {head.activation} outputs with {head.loss.kind} from {low:g} to {high:g}"


@rule(
    "error",
    why="The loss uses a class number as an index. A negative number has no class, nor has the highest if they "
    "start at 1, and fractions are cut off.",
    fix="Number the classes 0, 1, 2, ... without scaling; set ignore_class for labels to skip.",
)
def class_numbers(graph: Graph, task: Task) -> Found:
    """Labels of a sparse loss are negative and not ignored, start at 1, or are not whole numbers. CTC's labels reach
    beyond the last unit, or are longer than the sequence of outputs.
    """
    for head, labels in _labelled(task):
        numbers = head.classes if head.loss.is_sparse else None
        if head.starts_at_one:
            yield head.call.name, f"labels from 1 to {head.units} for {head.units} units"
        if numbers is not None and numbers.size:
            if (numbers < 0).any():
                yield head.call.name, f"{np.count_nonzero(numbers < 0):,} negative labels, down to {numbers.min():g}"
            elif (numbers != np.round(numbers)).any():
                yield (
                    head.call.name,
                    f"labels that are not whole, such as {numbers[numbers != np.round(numbers)][0]:.4g}",
                )
        if head.loss.kind == "ctc" and labels.ndim == 2 and len(head.shape) == 3:
            if labels.max() >= head.units:
                yield head.call.name, f"labels up to {labels.max():g} for {head.units} units, the blank included"
            elif (longest := int((labels != 0).sum(axis=1).max())) > (head.shape[1] or math.inf):
                yield head.call.name, f"{longest} labels for {head.shape[1]} time steps"


@rule(
    "warning",
    why="Softmax gives probabilities that sum to 1, for classes that exclude each other.",
    fix="For several classes at once use sigmoid and binary_crossentropy; else scale the rows to a sum of 1.",
)
def label_rows(graph: Graph, task: Task) -> Found:
    """Over 1 % of the rows of labels for categorical cross-entropy do not sum to 1. Left alone are rows of zeros,
    labels that weight a policy gradient (one value in a row, some of them negative), and the input of an autoencoder.
    """
    for head, labels in _labelled(task):
        if head.one_hot and not head.loss.is_sparse:
            sums = labels.sum(axis=-1)
            wrong = (sums != 0) & (np.abs(sums - 1) > 0.05)
            is_policy = labels.min() < 0 and (np.count_nonzero(labels, axis=-1) <= 1).all()
            is_input = any(np.array_equal(values, labels) for values in task.inputs.values())
            if wrong.mean() > SOME and not is_policy and not is_input:
                yield (
                    head.call.name,
                    f"{wrong.mean():.0%} of the rows of labels do not sum to 1, such as {sums[wrong][0]:.3g}",
                )


@rule(
    "warning",
    why="With one class there is nothing to distinguish: the network learns a constant.",
    fix="Look at how the labels are read and split; shuffle before splitting.",
)
def one_class(graph: Graph, task: Task) -> Found:
    """All labels, at least 32, are of the same class, with a loss for classes that exclude each other; or all numbers
    for one output of a regression are equal, and neither 0 nor 1 nor -1, which GANs use. Outputs that are not those of
    a layer in the graph are left alone: among scores of candidates, the first may always be the right one.
    """
    for head, labels in _labelled(task):
        if len(labels) < MANY:
            continue
        if head.one_hot is None:
            is_constant = (labels == labels.flat[0]).all() and labels.flat[0] not in (-1, 0, 1)
            if head.loss.kind in REGRESSION and head.units == 1 and is_constant:
                yield head.call.name, f"all {len(labels):,} labels are {labels.flat[0]:g}"
            continue
        rows = labels.argmax(axis=-1) if head.one_hot else labels
        if head.activation != "unknown" and (rows == rows.flat[0]).all():
            yield head.call.name, f"all {len(labels):,} labels are of class {rows.flat[0]:g}"


@rule(
    "warning",
    why="The first losses and gradients are the square of that size: training diverges, or creeps towards the mean.",
    fix="Standardize the labels, and scale the predictions back.",
)
def unscaled_labels(graph: Graph, task: Task) -> Found:
    """Labels of a mean squared or absolute error have a root mean square above 1,000, or over 1 % of those of a mean
    absolute percentage error are zero. A model that scales its outputs to them is left alone.
    """
    for head, labels in _labelled(task):
        if head.loss.kind == "mean_absolute_percentage_error" and (labels == 0).mean() > SOME:
            yield head.call.name, f"{(labels == 0).mean():.0%} of the labels are 0, by which {head.loss.kind} divides"
        if head.loss.kind in ("mean_squared_error", "mean_absolute_error", "huber"):
            rms = float(np.sqrt(np.mean(np.square(labels.astype("float64")))))
            if rms > HUGE and not is_scaled(head):
                yield head.call.name, f"labels with a root mean square of {rms:.3g}"


def _labelled(task: Task) -> Iterator[tuple[Head, np.ndarray]]:
    for head in task.heads:
        if head.labels is not None:
            yield head, head.labels


def _is_finite(head: Head, labels: np.ndarray) -> bool:
    """Check whether the loss is finite for rows with missing labels, or takes none of them."""
    if head.loss.function is None:
        return False
    rows = labels[~np.isfinite(labels).reshape(len(labels), -1).all(axis=1)][: len(head.signal.tensor)]
    try:
        return math.isfinite(float(as_fit_calls(head.loss.function)(rows, head.signal.tensor[: len(rows)])))
    except Exception:  # of a function that is not ours
        return not head.loss.is_known


def _pairs_all(head: Head, labels: np.ndarray) -> bool:
    """Check whether a custom loss broadcasts labels of shape (rows,) and outputs of (rows, 1) to all pairs of rows.

    Keras gives labels and outputs the same axes before it calls a function, but not before it calls a subclass of Loss.
    If all pairs are compared, the order of the labels makes no difference.
    """
    loss, outputs = head.loss.function, head.signal.tensor
    if not isinstance(loss, keras.losses.Loss):
        return False
    count = min(len(labels), len(outputs)) if outputs.shape else 0
    if count < 2 or labels.ndim != 1 or head.shape[1:] != (1,):
        return False
    labels = labels[:: len(labels) // count][:count].astype("float32")

    def change(*shape: int) -> float:
        """Return by what share of it the loss changes with the order of the labels."""
        value, other = (float(loss(one.reshape(shape), outputs[:count])) for one in (labels, np.roll(labels, 1)))
        return abs(value - other) / max(abs(value), abs(other), 1e-12)

    try:
        return change(count) < SAME and change(count, 1) > CLOSE
    except Exception:  # of a function that is not ours
        return False


def _expected_shape(head: Head) -> tuple[int | None, ...] | None:
    """Return the shape of a label; None where another rule judges it."""
    loss, shape = head.loss, head.shape[1:]
    if loss.kind == "ctc":
        return None
    if not loss.is_categorical:
        return shape
    if head.one_hot is not loss.is_sparse:
        return shape[:-1] if loss.is_sparse else (*shape[:-1], None)
    return None
