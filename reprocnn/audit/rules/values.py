"""What is wrong with numbers that a layer is given: rates, penalties, limits, the settings of a normalization."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from reprocnn.audit.graph import Call, Graph, following, restored
from reprocnn.audit.rules.base import Found, Task, rule
from reprocnn.audit.rules.common import (
    CONVOLUTIONS,
    DROPOUTS,
    JOINS,
    NORMS,
    TRANSPOSED,
    activation,
    adversary,
    after_pooling,
    all_after,
    is_linear,
    is_of_keras,
    is_weighted,
    makes_waves,
    nearest_weighted,
    variable,
)
from reprocnn.backend import keras, layers

DROPPED = 0.9  # of the values
STRAIGHT, SQUARED = 2.5, 4.0  # fall from 1 to 4 over that from 1 to 2: 3 for a line, 5 for a square, 2 for a logarithm
ROWS = 8
L1, L2 = 0.01, 0.1  # per weight: usual are up to 1e-3 and 1e-2
FACTOR = 10.0  # of an OrthogonalRegularizer, by default 0.01
MOMENTUM = (0.2, 0.9999)
EPSILON = 0.1  # beside a variance of about 1
LINEAR = keras.activations.linear
NOISE = (layers.GaussianDropout, layers.GaussianNoise)
FOREIGN = 400.0  # times the variance: pixels of 0 to 255 beside -1 to 1 have 16,000
TINY = 1e-12
NORM = 0.1  # of the weights of a unit
LARGE = 10.0  # times the scale that keeps a signal as it is


@rule(
    "warning",
    why="So few values are left that a step learns next to nothing, and inference sees a network that never trained.",
    fix="Use rates of 0.1 to 0.5.",
)
def dropout_rate(graph: Graph, task: Task) -> Found:
    """Dropout of 0.9 or more, of any kind, inside recurrent layers and attention too."""
    for call in graph.calls:
        for _, layer in _inside(call):
            values = (getattr(layer, name, None) for name in ("rate", "dropout", "recurrent_dropout"))
            rates = (one for one in values if isinstance(one, float | int) and not isinstance(one, bool))
            rate = max((one for one in rates if one <= 1), default=0.0)
            if rate >= DROPPED:
                yield call.name, f"drops {rate:.0%} of the values"
                break


@rule(
    "warning",
    why="The penalty outweighs any loss: the weights shrink to zero, whatever the labels say.",
    fix="Start with an L2 of 1e-4 and an L1 of 1e-5.",
)
def strong_penalty(graph: Graph, task: Task) -> Found:
    """A layer has an L1 penalty of 0.01 or more, or an L2 penalty of 0.1 or more, on weights or activations, or an
    orthogonality penalty of 10 or more.
    """
    for call in graph.calls:
        for _, layer in _inside(call):
            strong = [text for penalty in _settings(layer, "regularizer") for text in _strong(penalty)]
            if strong:
                yield call.name, f"a penalty with {strong[0]}"
                break


@rule(
    "error",
    why="The loss keeps falling as weights or activations grow: training enlarges them until they overflow.",
    fix="Flip the sign: a penalty is added to the loss, and so is a KL divergence.",
)
def negative_penalty(graph: Graph, task: Task) -> Found:
    """A custom penalty on weights or activations keeps falling as they grow, or what a custom layer adds to the loss
    falls with the square of its inputs, or faster.
    """
    seen = set()
    for call in graph.calls:
        for name, layer in _inside(call):
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            own = [(one.regularizer, one.shape) for one in layer._trainable_variables if one.regularizer]
            penalties = [(_of_values(*one), STRAIGHT) for one in [*own, *_of_activations(layer)]]
            if layer is call.layer and not is_of_keras(layer) and any(one._losses for one in layer._flatten_layers()):
                penalties.append((partial(_added, call), SQUARED))
            values = next(filter(None, (_falling(*one) for one in penalties)), None)
            if values:
                change = f"{values[0]:.3g} to {values[-1]:.3g}"
                yield name, f"a penalty that falls from {change} for values four times as large"


@rule(
    "warning",
    why="The norm of each unit's weights may not exceed the limit, so the layer's output stays close to zero.",
    fix="Use a limit of 1 to 4.",
)
def tight_constraint(graph: Graph, task: Task) -> Found:
    """MaxNorm or MinMaxNorm limits the norm of a unit's weights to less than 0.1."""
    for call in graph.calls:
        for _, layer in _inside(call):
            limits = [getattr(one, "max_value", math.inf) for one in _settings(layer, "constraint")]
            if min(limits, default=math.inf) < NORM:
                yield call.name, f"weights of a norm of at most {min(limits):g}"
                break


@rule(
    "warning",
    why="With a slope of 1 the activation is the identity; a limit or threshold beyond the values makes it constant.",
    fix="Use a slope of 0.01 to 0.3, and no limit.",
)
def activation_setting(graph: Graph, task: Task) -> Found:
    """LeakyReLU, PReLU or ReLU has a slope below 0, or of 1 or more; ReLU has a limit of 0.1 or less or a threshold of
    3 or more; a recurrent layer has a linear activation, or a SimpleRNN a sigmoid.
    """
    for name, outer in _every(graph):
        for layer in (outer, getattr(outer, "activation", None)):
            slope = getattr(layer, "negative_slope", 0.0)
            if isinstance(layer, layers.PReLU):
                slope = float(np.min(layer.alpha))
            if isinstance(layer, layers.LeakyReLU | layers.PReLU | layers.ReLU) and not 0 <= slope < 1:
                yield name, f"a slope of {slope:g}"
            if isinstance(layer, layers.ReLU) and layer.max_value is not None and layer.max_value <= 0.1:
                yield name, f"a limit of {layer.max_value:g}"
            if isinstance(layer, layers.ReLU) and layer.threshold >= 3:
                yield name, f"a threshold of {layer.threshold:g}"
        if isinstance(outer, layers.SimpleRNN | layers.LSTM | layers.GRU) and outer.activation is LINEAR:
            yield name, "no activation in a recurrent layer"
        if isinstance(outer, layers.SimpleRNN) and outer.activation is keras.activations.sigmoid:
            yield name, "sigmoid in a SimpleRNN, at each step a quarter of the gradient or less"


@rule(
    "warning",
    why="Momentum is how much of the moving averages is kept: near 0 they are those of the last batch, near 1 they "
    "stay as they started. A large epsilon outweighs the variance.",
    fix="Use a momentum of 0.9 to 0.99 and an epsilon of 1e-3 or less.",
)
def norm_setting(graph: Graph, task: Task) -> Found:
    """Batch norm has a momentum below 0.2, or of 0.9999 or more; a normalization has an epsilon of 0.1 or more, or 0.
    (PyTorch's momentum of 0.1 is 0.9 in Keras.)
    """
    for name, layer in _every(graph):
        if isinstance(layer, layers.BatchNormalization) and not MOMENTUM[0] <= layer.momentum < MOMENTUM[1]:
            yield name, f"a momentum of {layer.momentum:g}"
        if isinstance(layer, NORMS) and not 0 < getattr(layer, "epsilon", 1e-3) < EPSILON:
            yield name, f"an epsilon of {layer.epsilon:g}"


@rule(
    "warning",
    why="The statistics are those of rows, columns or time steps instead of channels.",
    fix="Leave the axis at its default of -1, the channels.",
)
def norm_axis(graph: Graph, task: Task) -> Found:
    """Batch norm keeps an axis that is not the last, or layer norm normalizes over one that is not, on maps or
    sequences whose channels are last.
    """
    for call in graph.calls:
        if not isinstance(call.layer, layers.BatchNormalization | layers.LayerNormalization):
            continue
        shape = call.inputs[0].shape
        given = call.layer.axis
        single = given[0] if isinstance(given, list | tuple) and len(given) == 1 else given
        if not isinstance(single, int):
            continue
        axis = single % len(shape)
        is_first = any(getattr(one.layer, "data_format", "") == "channels_first" for one in nearest_weighted(call))
        if axis < len(shape) - 1 and not is_first:
            yield call.name, f"axis {axis} of {len(shape)}, which has {shape[axis]}"


@rule(
    "warning",
    why="A frozen batch norm uses its moving averages in training too. Before any training they are 0 and 1: it does "
    "nothing.",
    fix="Set trainable = True, or load trained weights first.",
)
def frozen_norm(graph: Graph, task: Task) -> Found:
    """Batch norm is frozen with its initial averages, behind a layer that trains."""
    spared = adversary(graph)
    for call in graph.calls:
        if not isinstance(call.layer, layers.BatchNormalization) or call.layer.trainable or call.name in spared:
            continue
        is_fresh = not np.any(call.layer.moving_mean) and np.all(np.asarray(call.layer.moving_variance) == 1)
        if is_fresh and any(one.layer.trainable_weights for one in nearest_weighted(call)):
            yield call.name, "frozen with a moving mean of 0 and a moving variance of 1"


@rule(
    "warning",
    why="In a functional model, fit() and predict() pass their own `training` to every layer, whatever its call says.",
    fix="Set trainable = False on batch norm that is to keep its averages. For random outputs call model(x), which "
    "passes nothing.",
)
def overruled_training(graph: Graph, task: Task) -> Found:
    """Batch norm that is not frozen is called with training=False, or dropout or noise with training=True, by itself or
    as part of a model.
    """
    norms = [call for call in graph.calls if isinstance(call.layer, layers.BatchNormalization) and call.layer.trainable]
    draws = [call for call in graph.calls if isinstance(call.layer, (*DROPOUTS, *NOISE))]
    for calls, given, effect in (
        (norms, False, "fit() updates its averages"),
        (draws, True, "predict() draws nothing"),
    ):
        overruled = list(dict.fromkeys(call.name for call in calls if call.is_training is given))
        if overruled:
            more = f", like {len(overruled) - 1:,} more" if len(overruled) > 1 else ""
            yield overruled[0], f"called with training={given}{more}, but {effect}"


@rule(
    "warning",
    why="A frozen batch norm subtracts and divides by what it saw when it was trained. Inputs of another size leave it "
    "with one constant, or overflow what follows.",
    fix="Prepare the inputs as for the training of these layers: that network's preprocess_input, and nothing else.",
)
def frozen_scale(graph: Graph, task: Task) -> Found:
    """The variance of the inputs of the first frozen batch norm with trained averages is over 400 times its moving
    variance, or less than a 400th of it (median over channels). Needs `x`.
    """
    for call in graph.calls if task.inputs else ():
        if not isinstance(call.layer, layers.BatchNormalization) or call.layer.trainable:
            continue
        trained, axis = np.asarray(call.layer.moving_variance), call.layer.axis
        if (trained == 1).all():
            continue
        values = np.moveaxis(call.inputs[0].tensor.numpy(), axis[0] if isinstance(axis, list) else axis, -1)
        now = values.reshape(-1, values.shape[-1]).astype("float64").var(axis=0)
        ratio = float(np.median((now + TINY) / (trained + TINY)))
        if not 1 / FOREIGN <= ratio <= FOREIGN:
            yield call.name, f"its inputs vary {math.sqrt(ratio):.2g} times as much as in its training"
        return


@rule(
    "warning",
    why="Behind a scale of zero everything is constant at first, and no gradient reaches what is before it.",
    fix="Start the scale (gamma) at one. Zero is for the end of a residual branch, which is added to something.",
)
def zero_scale(graph: Graph, task: Task) -> Found:
    """All scales (gamma) of a normalization are zero, and its output is not added to or multiplied with another."""
    for call in graph.calls:
        gamma = variable(call.layer, "gamma") if isinstance(call.layer, NORMS) else None
        if gamma is None or np.any(gamma):
            continue
        nexts = list(following(call, lambda one: is_linear(one) or (not is_weighted(one) and bool(activation(one)))))
        if not any(_joins(one) for one in nexts):
            yield call.name, f"all {math.prod(gamma.shape):,} scales are zero"


@rule(
    "warning",
    why="Values grow by that factor at this layer: activations saturate, softmax is certain before it has learned, and "
    "the first steps are far too large.",
    fix="Use the initializer's default scale: glorot_uniform, or he_normal before ReLU.",
)
def large_weights(graph: Graph, task: Task) -> Found:
    """The kernel of a layer that trains is over ten times as large as one that keeps the scale of its inputs, or a
    hidden layer's biases have a root mean square above 10. Left alone are layers before a normalization, where the
    scale does not matter, the output of a regression, which has the scale of its labels, and layers before a sine or
    cosine, whose weights are frequencies.
    """
    calls = {call.name: call for call in graph.calls}
    # A regression that was trained has weights of the size of its labels.
    spared = [
        head.call for head in task.heads if head.activation == "linear" and head.loss and not head.loss.is_categorical
    ]
    for name, layer in graph.leaves.items():
        call = calls.get(name)
        if call in spared:
            continue
        if call and (makes_waves(call) or any(isinstance(one.layer, NORMS) for one in after_pooling(call))):
            continue
        for attribute in ("kernel", "recurrent_kernel", "embeddings"):
            kernel = variable(layer, attribute)
            if kernel is None or not kernel.trainable:
                continue
            factor = _rms(kernel) * math.sqrt(_fan_in(layer, attribute, kernel.shape))
            if factor > LARGE and math.isfinite(factor):
                yield name, f"its {attribute} has root mean square {_rms(kernel):.2g}, {factor:.3g} times too large"
        bias = variable(layer, "bias")
        is_hidden = call is not None and any(is_weighted(one) for one in all_after(call))
        if bias is not None and bias.trainable and is_hidden and _rms(bias) > LARGE:
            yield name, f"its biases have root mean square {_rms(bias):.3g}"


def _inside(call: Call) -> Iterator[tuple[str, Any]]:
    inside = call.layer._flatten_layers() if isinstance(call.layer, keras.Layer) else []
    for layer in inside:
        yield (call.name if layer is call.layer else f"{call.name}/{layer.name}"), layer


def _every(graph: Graph) -> list[tuple[str, Any]]:
    return list({id(layer): (name, layer) for call in graph.calls for name, layer in _inside(call)}.values())


def _settings(layer: Any, kind: str) -> list[Any]:
    """List what the layer has of a kind: kernel_regularizer, activity_regularizer, ..."""
    found = [value for name, value in vars(layer).items() if name.endswith(kind) and value is not None]
    return list(dict.fromkeys(found))


def _strong(penalty: Any) -> list[str]:
    limits = {"l1": L1, "l2": L2, "factor": FACTOR}
    values = {name: float(getattr(penalty, name, None) or 0) for name in limits}
    return [f"{name} of {value:g}" for name, value in values.items() if value >= 0.999 * limits[name]]  # float32


def _of_activations(layer: Any) -> list[tuple[Any, Any]]:
    penalty = getattr(layer, "activity_regularizer", None)
    return [(penalty, (ROWS, ROWS))] if penalty else []


def _of_values(penalty: Any, shape: Any) -> Callable[[float], float]:
    values = np.random.default_rng(0).normal(size=shape).astype("float32")
    return lambda factor: float(penalty(keras.ops.convert_to_tensor(values * np.float32(factor))))


def _added(call: Call, factor: float) -> float:
    """Sum what the call's layer adds to the loss for inputs of `factor` times the size."""
    args, kwargs = keras.tree.map_structure(
        lambda one: one * factor if hasattr(one, "dtype") and one.dtype.is_floating else one, call.arguments
    )
    with restored(call.layer.non_trainable_variables):
        call.layer(*args, **kwargs)
        return float(sum(loss for layer in call.layer._flatten_layers() for loss in layer._losses))


def _falling(penalty: Callable[[float], float], growth: float) -> list[float] | None:
    """Return the penalty at factors of 1, 2 and 4 if it falls more than `growth` times as far to 4 as it does to 2."""
    try:
        values = [penalty(factor) for factor in (1.0, 2.0, 4.0)]
    except Exception:  # of a function that is not ours
        return None
    near, far = values[0] - values[1], values[0] - values[2]
    return values if near > 0 and far > growth * near else None


def _joins(call: Call) -> bool:
    # An operation such as x + y, or a custom layer that takes both.
    return isinstance(call.layer, JOINS) or (len(call.inputs) > 1 and not is_weighted(call))


def _rms(weight: Any) -> float:
    return float(np.sqrt(np.mean(np.square(weight.value.numpy().astype("float64")))))


def _fan_in(layer: Any, attribute: str, shape: tuple[int, ...]) -> float:
    if attribute == "embeddings":
        return 1.0
    if attribute == "recurrent_kernel":
        return shape[-2]
    if isinstance(layer, TRANSPOSED):
        return math.prod(shape) / shape[-2] / math.prod(layer.strides)
    return math.prod(shape[:-1]) if isinstance(layer, (layers.Dense, *CONVOLUTIONS)) else shape[0]
