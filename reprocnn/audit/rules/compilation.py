"""What is wrong with how a model is compiled: the optimizer, its schedule, and the metrics."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from reprocnn.audit.graph import Graph
from reprocnn.audit.rules.base import REGRESSION, Found, Head, Task, rule
from reprocnn.audit.rules.common import NORMS, PROBABILITIES
from reprocnn.backend import keras

# Some of no common period, at which a cyclic learning rate is not always at the same place.
STEPS = (
    *(0, 1, 2, 5, 10, 20, 50, 75, 100, 113, 127, 150, 173, 200, 271, 300, 500, 733),
    *(1_000, 2_000, 5_000, 10_000, 50_000, 100_000),
)
SOON, LEFT = 100, 0.05  # after so many steps, so much of the highest learning rate
ADAPTIVE = ("Adam", "AdamW", "Nadam", "Adamax", "RMSprop", "Lion", "Muon", "Lamb")  # steps of about the learning rate
# The learning rates between which each can work.
RATES = dict.fromkeys(ADAPTIVE, (1e-6, 0.05)) | {
    "SGD": (1e-6, 1.0), "Adagrad": (1e-6, 2.0), "Adadelta": (0.01, 20.0), "Ftrl": (1e-6, 2.0),
}  # fmt: skip
CLIP = 1e-3
DECAY = {"SGD": 0.1, "Lion": 5.0}  # beside the learning rate
DECAY_DEFAULT = 0.5
THRESHOLDED = (
    "BinaryAccuracy",
    "Precision",
    "Recall",
    "TruePositives",
    "FalsePositives",
    "TrueNegatives",
    "FalseNegatives",
)
OVERLAPS = ("F1Score", "FBetaScore", "BinaryIoU")  # which may have a threshold too
CURVES = ("AUC", "PrecisionAtRecall", "RecallAtPrecision", "SensitivityAtSpecificity", "SpecificityAtSensitivity")


@rule(
    "warning",
    why="Steps this large throw the weights about and the loss grows; steps this small hardly move them.",
    fix="Start with 1e-3 for Adam and its variants, 1e-2 to 1e-1 for SGD.",
)
def learning_rate(graph: Graph, task: Task) -> Found:
    """The learning rate, or the highest of a schedule, is 0.05 or more for Adam and its variants, 1 or more for SGD
    unless it clips, or below a millionth (Adadelta: below 0.01, since its paper has 1 and Keras 0.001). A model of
    which a single layer trains may take large steps.
    """
    if task.optimizer is None:
        return
    name = type(task.optimizer).__name__
    low, high = RATES.get(name, (0.0, float("inf")))
    rates = _rates(task.optimizer)
    if not rates:
        return
    rate = max(rates)
    trained = [one for one in graph.leaves.values() if one.trainable_weights and not isinstance(one, NORMS)]
    is_single = len(trained) <= 1
    clips = any(getattr(task.optimizer, one, None) for one in ("clipnorm", "clipvalue", "global_clipnorm"))
    if rate < low or rate <= 0 or (rate >= high and not is_single and not (name == "SGD" and clips and rate < 10)):
        yield name, f"a learning rate of {rate:g}"


@rule(
    "warning",
    why="A schedule counts steps, one per batch, not epochs. Once it has ended, nothing moves.",
    fix="Set decay_steps to epochs times batches per epoch.",
)
def short_schedule(graph: Graph, task: Task) -> Found:
    """After a hundred steps a schedule has at most 5 % of its highest learning rate left, for good, or all its steps
    together go no further than a hundred at the highest rate.
    """
    rates = _rates(task.optimizer) if task.optimizer is not None else [0.0]
    after = [rate for step, rate in zip(STEPS, rates, strict=False) if step >= SOON]
    if len(rates) != len(STEPS) or max(rates) <= 0:
        return
    name, whole = type(task.optimizer).__name__, float(np.trapezoid(rates, STEPS)) / max(rates)
    if max(after) <= LEFT * max(rates):
        yield name, f"a learning rate of {max(rates):g} falls to {after[0]:.2g} in {SOON} steps"
    elif whole <= SOON:
        yield name, f"a learning rate of {max(rates):g} ends after as much as {whole:.0f} such steps"


@rule(
    "warning",
    why="The setting outweighs the gradient: what is clipped to nothing, decayed at once or averaged forever cannot "
    "move towards the labels.",
    fix="Clip to about 1, decay by 0.01 or less, and leave momentum and betas at their defaults.",
)
def optimizer_setting(graph: Graph, task: Task) -> Found:
    """clipnorm, clipvalue or global_clipnorm below 0.001; weight decay of 0.5 or more (SGD 0.1, Lion 5); a momentum or
    beta of 0.9995 or more (beta_2 1), a beta_2 below 0.5, an epsilon of 10 or more, averaged weights that never move.
    """
    optimizer = task.optimizer
    name = type(optimizer).__name__
    limits = {
        **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm"), (CLIP, float("inf"))),
        "weight_decay": (0.0, DECAY.get(name, DECAY_DEFAULT)),
        **dict.fromkeys(("momentum", "beta_1", "rho"), (0.0, 0.9995)),
        "beta_2": (0.5, 1.0),
        "epsilon": (0.0, 10.0),
    }
    if getattr(optimizer, "use_ema", False):
        limits["ema_momentum"] = (0.0, 1.0)
    for setting, (low, high) in limits.items():
        value = getattr(optimizer, setting, None)
        if isinstance(value, float | int) and not isinstance(value, bool) and not low <= value < high:
            yield name, f"{setting} of {value:g}"


@rule(
    "warning",
    why="The number is reported as if it meant something: it compares values that do not correspond.",
    fix="Use mae or mse for numbers; for classes, the accuracy that goes with the loss; for logits, a threshold of 0 "
    "or from_logits=True.",
)
def metric_and_output(graph: Graph, task: Task) -> Found:
    """accuracy of a regression, a sparse metric for one-hot rows or the other way round, a metric of two classes or of
    numbers for class numbers, binary accuracy of classes that exclude each other, categorical accuracy of one unit,
    Accuracy, which compares outputs with class numbers, a threshold or a cross-entropy of probabilities for logits, a
    threshold outside 0 to 1, top-k of no more than k classes, mean IoU of probabilities or of another number of
    classes. Custom metrics are left alone.
    """
    for head in task.heads:
        for metric in head.metrics:
            problem = _unfit(metric, head)
            if problem:
                yield head.call.name, problem


def _rates(optimizer: Any) -> list[float]:
    """List the learning rate at each of the `STEPS`, or the only one; none if a schedule cannot be computed."""
    schedule = getattr(optimizer, "_learning_rate", None)
    if isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
        step = keras.Variable(0, dtype="int64", trainable=False)  # as the optimizer has it
        rates = []
        for number in STEPS:
            step.assign(number)
            try:
                rates.append(float(schedule(step)))
            except Exception:  # of a schedule that is not ours
                return []
        return rates if all(map(math.isfinite, rates)) else []
    return [float(optimizer.learning_rate)]


def _unfit(metric: Any, head: Head) -> str | None:
    name, loss = _metric_name(metric), head.loss
    if not loss.is_known or not _is_of_keras(metric):
        return None
    if loss.kind in (*REGRESSION, "poisson") and ("accuracy" in name.lower() or name == "acc"):
        return f"{name} with {loss.kind}"
    if name == "accuracy" or name == "acc":
        name = "BinaryAccuracy" if head.units == 1 else ""
    if name == "Accuracy":
        return f"{name}, the share of outputs that equal their labels to the last digit, with {loss.kind}"
    of_rows = (*THRESHOLDED, *CURVES, "F1Score", "FBetaScore")
    if loss.is_sparse and head.units > 1 and (name in of_rows or _is_of_numbers(name)):
        return f"{name} with {loss.kind}"
    if name in ("CategoricalAccuracy", "SparseCategoricalAccuracy") and head.units == 1:
        return f"{name} of one unit, which is always class 0"
    logits = loss.from_logits and head.activation == "linear"
    is_sparse = "Categorical" in name and name.startswith("Sparse")
    if loss.is_categorical and "Categorical" in name and loss.is_sparse != is_sparse:
        return f"{name} with {loss.kind}"
    return next(filter(None, _wrong_setting(metric, name, logits, head)), None)


def _wrong_setting(metric: Any, name: str, logits: bool, head: Head) -> Iterator[str | None]:
    if name == "BinaryAccuracy" and head.loss.is_categorical and head.units > 2:
        yield f"{name} with {head.loss.kind}"
    if name in (*THRESHOLDED, *OVERLAPS):
        given = getattr(metric, "thresholds", None) or getattr(metric, "threshold", None)
        threshold = given[0] if isinstance(given, list | tuple) else given
        if threshold is None and name not in OVERLAPS:  # F1Score without one takes the highest
            threshold = getattr(metric, "_fn_kwargs", {}).get("threshold", 0.5)
        if logits and threshold == 0.5:
            yield f"a threshold of 0.5 for logits in {name}"
        if head.activation in PROBABILITIES and threshold is not None and not 0 < threshold < 1:
            yield f"a threshold of {threshold:g} for {head.activation} outputs in {name}"
    options = getattr(metric, "_fn_kwargs", {})
    takes_logits = options.get("from_logits", getattr(metric, "_from_logits", False))
    if (name in CURVES or name.endswith("Crossentropy")) and logits and not takes_logits:
        yield f"{name} of logits without from_logits=True"
    if "TopK" in name and getattr(metric, "_fn_kwargs", {}).get("k", 5) >= head.units > 1:
        yield f"{name} of {getattr(metric, '_fn_kwargs', {}).get('k', 5)} among {head.units} classes"
    if name in ("MeanIoU", "IoU", "BinaryIoU", "OneHotMeanIoU", "OneHotIoU"):
        if name in ("MeanIoU", "IoU") and getattr(metric, "sparse_y_pred", True):
            yield f"{name} of {head.activation} outputs, expected class numbers (sparse_y_pred=False)"
        if name != "BinaryIoU" and head.units not in (1, getattr(metric, "num_classes", head.units)):
            yield f"{name} of {metric.num_classes} classes for {head.units} units"


def _is_of_numbers(name: str) -> bool:
    return name == "R2Score" or name.lower() in ("mse", "mae") or name.endswith(("SquaredError", "AbsoluteError"))


def _is_of_keras(metric: Any) -> bool:
    """Return whether a name says what a metric computes, which that of somebody's own does not."""
    own = type(metric) if isinstance(metric, keras.metrics.Metric) else metric
    return isinstance(metric, str) or str(getattr(own, "__module__", "")).startswith("keras.")


def _metric_name(metric: Any) -> str:
    if isinstance(metric, str):
        if metric.lower() in ("accuracy", "acc"):  # Keras chooses the kind when it sees the labels
            return metric.lower()
        try:
            metric = keras.metrics.get(metric)
        except (ValueError, TypeError):  # the latter of one that needs arguments, as MeanIoU does
            return metric
    if not isinstance(metric, keras.metrics.Metric | type) and getattr(metric, "__module__", "").startswith("keras."):
        return "".join(word.title() for word in metric.__name__.split("_"))  # as its class is named
    return getattr(metric, "__name__", None) or type(metric).__name__
