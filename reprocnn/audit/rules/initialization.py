"""What is wrong at the start: the initial weights, their gradients, and the scale of the signal."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from reprocnn.audit.graph import Call, Graph, Signal, following, preceding, restored
from reprocnn.audit.rules.base import Found, Task, rule
from reprocnn.audit.rules.common import (
    TRANSPOSED,
    activation,
    adversary,
    after_pooling,
    all_after,
    all_before,
    comes_from_data,
    is_first,
    is_normalized,
    is_of_keras,
    is_weighted,
    makes_waves,
    units,
    variable,
)
from reprocnn.backend import keras, layers

UNSCALED = 10.0  # root mean square: pixels have over 100, normalized values about 1
DRIFT, BREAK = 1e3, 1e6  # times the signal at the first layer with weights
MAX_KINDS = 8  # of gradients that are distinguished among units with equal weights
SAME = 1e-4  # of the largest gradient: smaller differences are rounding
MAX_VALUES = 10_000  # of a kernel, which is enough to judge
FEW = 8  # units: one in 2**8 layers of so many starts with all of them inactive
SMALL = 1_000  # weights of a kernel: with fewer, one that was trained may look fresh
CHANCE = 1e-3  # p-value below which a kernel is no fresh draw: it was trained or set


@rule(
    "error",
    why="Filters that start equal and get equal gradients stay equal: the layer computes one feature many times over.",
    fix="Use a random initializer: he_normal before ReLU, glorot_uniform (the default) otherwise.",
)
def symmetry(graph: Graph, task: Task) -> Found:
    """At least half of a layer's units have the same weights and get the same gradient, whatever initializer or value
    caused it; zero gradients count. A layer that starts at zero and gets different gradients is left alone: the last
    layer of a residual branch, or of a network, may start that way.
    """
    for one in _equal_units(graph):
        if one.is_symmetric:
            how = f"all {one.first_value}" if one.is_constant else "in groups"
            gradient = "equal gradients" if np.any(one.gradient) else "no gradient"
            yield one.name, f"{one.same:,} of {one.units:,} units start equal ({how}) and get {gradient}"


@rule(
    "warning",
    why="All units compute the same at first; only the next layer's random weights pull them apart, and slowly.",
    fix="Use a random initializer: he_normal before ReLU, glorot_uniform (the default) otherwise.",
)
def constant_start(graph: Graph, task: Task) -> Found:
    """All weights of a layer's kernel have one value, although the gradients differ. Zeros are left alone in an output
    layer and where the result is added to something else or multiplied with it, as in a residual branch. In custom
    layers, vectors are left alone, and so are matrices beside random ones: they may be scales or deviations.
    """
    calls = {call.name: call for call in graph.calls}
    for one in _equal_units(graph):
        if one.is_symmetric or not one.is_constant or _is_beside_random(graph.leaves[one.name], one.values):
            continue
        if np.any(one.values) or _feeds_weights(calls.get(one.name)):
            yield one.name, f"all {one.values.size:,} weights start at {one.first_value}"


@rule(
    "error",
    why="Without a gradient, a layer keeps its initial weights forever and passes on less than it could.",
    fix="Look at the units and at what follows: units that are never active, an operation without a gradient, a factor "
    "of zero.",
)
def no_gradient(graph: Graph, task: Task) -> Found:
    """No gradient reaches any weight of a trainable layer, even after a few small steps of the other layers (so that a
    layer that starts at zero on purpose does not count). Losses that layers add count, outputs without a loss do not.
    Three cases are left alone: layers that get only zeros from the batch, such as an initial state; up to eight relu
    units behind trainable layers, if the opposite sign of their weights would wake them; and experts inside a custom
    layer, if another expert with weights of the same shapes gets a gradient. Layers listed under symmetry are not
    repeated. Only the last of several in a row is reported: the fault is there.
    """
    symmetric = {one.name for one in _equal_units(graph) if one.is_symmetric}
    dead: dict[str, str] = {}
    chosen = {
        _shapes(name, layer)
        for name, layer in graph.leaves.items()
        if "/" in name and any(np.any(graph.gradients.get(id(weight))) for weight in layer.trainable_weights)
    }
    for name, layer in graph.leaves.items():
        weights = layer.trainable_weights
        gradients = [graph.gradients.get(id(weight)) for weight in weights]
        arrived = [gradient for gradient in gradients if gradient is not None]
        call = _call_of(name, graph)
        is_idle = call is not None and call.inputs and call.inputs[0].rms == 0 and not comes_from_data(call)
        is_expert = bool(arrived) and _shapes(name, layer) in chosen
        if weights and name not in symmetric and not is_idle and not is_expert and not any(map(np.any, arrived)):
            reason = "all gradients are zero" if arrived else "there is no path back from the outputs"
            count = sum(math.prod(weight.shape) for weight in weights)
            dead[name] = f"no gradient for its {count:,} weights: {reason}"
    calls = {name: _call_of(name, graph) for name in dead}
    unlucky = {name for name, call in calls.items() if _is_bad_luck(call, graph)}
    behind = {name: {id(one) for one in all_after(call)} if call else set() for name, call in calls.items()}
    for name in calls:
        if name not in unlucky and not any(id(calls[other]) in behind[name] for other in calls if other != name):
            before = sum(id(calls[name]) in behind[other] for other in calls if other != name)
            yield name, dead[name] + (f"; layers before it that get none either: {before}" if before else "")


@rule(
    "error",
    why="A signal this small is lost among biases and rounding errors, one this large overflows; neither trains.",
    fix="Match the initial scale to the layer's inputs (he_normal before ReLU), or normalize between the layers.",
)
def broken_signal(graph: Graph, task: Task) -> Found:
    """Between the first layer with weights and an input of a later one, the differences between images become a million
    times smaller, or the values become a million times larger or non-finite. What does not depend on the batch, such as
    learned queries, has no differences to lose. Measured as in training: batch norm uses
    the batch's own statistics. Only the first place is reported.
    """
    yield from _drift(graph, BREAK, math.inf)


@rule(
    "warning",
    why="Layers get gradients of very different size, so no single learning rate suits them all.",
    fix="Match the initial scale to the layer's inputs (he_normal before ReLU), or normalize between the layers.",
)
def drifting_signal(graph: Graph, task: Task) -> Found:
    """Like broken-signal, with a factor of a thousand instead of a million. Outputs are left alone, and so are branches
    that start small and are added to the rest.
    """
    yield from _drift(graph, DRIFT, BREAK)


@rule(
    "warning",
    why="Gradients grow with the inputs: the first layer's are far larger than the others', and training stalls or "
    "diverges.",
    fix="Put a Rescaling(1 / 255, offset=-0.5) or an adapted Normalization layer in front; for numbers of words, an "
    "Embedding.",
)
def unscaled_input(graph: Graph, task: Task) -> Found:
    """Values with a root mean square above 10, such as raw pixels, reach a first layer with weights. If a normalization
    follows that layer, directly or after pooling or a relu, the scale does not matter. Frozen layers that were trained
    get what they were trained on. Without a batch `x`, an integer input is assumed to get pixels and a float input
    small numbers.
    """
    for call in graph.calls:
        if not is_first(call) or is_normalized(call) or _is_frozen_trained(call, graph):
            continue
        signal = call.inputs[0]
        if signal.rms > UNSCALED:
            yield call.name, f"inputs have root mean square {signal.rms:.3g} (mean {signal.mean:.3g}), expected about 1"


@rule(
    "warning",
    why="Random weights that never change are a random projection; later layers have to make do with it.",
    fix="Set trainable = True, or load the trained weights that the layer was frozen for.",
)
def frozen_random(graph: Graph, task: Task) -> Found:
    """Layers are frozen with a kernel that looks like a fresh draw from their own initializer (Kolmogorov-Smirnov
    test), so they were never trained. Frozen values that were trained or set, as in a whitening layer, are left alone;
    after a short training, biases or the averages of a batch norm show it. So are copies of layers that train, kernels
    of fewer than 1,000 weights beside trained ones, too few to judge, frequencies of which a sine or cosine is taken,
    and a nested model, all of it frozen, that ends the network behind layers that train: the discriminator of a GAN.
    """
    spared = adversary(graph) | {call.name for call in graph.calls if makes_waves(call)}
    frozen = {name: _frozen(layer) for name, layer in graph.leaves.items() if name not in spared}
    fresh = {
        # The fans of an EinsumDense, and so the size of its weights, depend on its equation.
        name: any(_is_fresh(*pair, isinstance(graph.leaves[name], layers.EinsumDense)) for pair in pairs)
        and not _was_trained(name, graph)
        for name, pairs in frozen.items()
        if pairs
    }
    trained = [weight for layer in graph.leaves.values() for weight in layer.trainable_weights]
    fresh = {name: is_fresh and not _are_copies(frozen[name], trained) for name, is_fresh in fresh.items()}
    least = 0 if all(fresh.values()) else SMALL
    untrained = [
        name
        for name, is_fresh in fresh.items()
        if is_fresh and max(math.prod(kernel.shape) for kernel, _ in frozen[name]) >= least
    ]
    if untrained:
        who = "this layer" if len(untrained) == 1 else f"this layer and {len(untrained) - 1:,} more"
        weights = sum(math.prod(kernel.shape) for name in untrained for kernel, _ in frozen[name])
        yield untrained[0], f"{who}: {weights:,} frozen weights, as random as at the start"


@dataclass(frozen=True)
class _EqualUnits:
    """A kernel of which some units start equal; `same` is how many of those also get the same gradient as another."""

    name: str  # of the layer
    values: np.ndarray
    gradient: np.ndarray
    units: int
    same: int

    @property
    def is_symmetric(self) -> bool:
        return 2 * self.same >= self.units

    @property
    def is_constant(self) -> bool:
        return bool(np.ptp(self.values) == 0)

    @property
    def first_value(self) -> str:
        return f"{float(self.values.flat[0]):.3g}"


def _equal_units(graph: Graph) -> Iterator[_EqualUnits]:
    for name, layer in graph.leaves.items():
        if isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D):
            continue
        axis = -2 if isinstance(layer, TRANSPOSED) else -1
        named = [variable(layer, attribute) for attribute in ("kernel", "pointwise_kernel", "embeddings")]
        # Of a custom layer, any matrix, whatever its name is.
        kernels = named if is_of_keras(layer) else [one for one in layer.weights if len(one.shape) == 2]
        for kernel in kernels:
            if kernel is None or not kernel.trainable:
                continue
            values = kernel.value.numpy()
            units = values.shape[axis]
            groups: dict[bytes, list[int]] = {}
            for unit, row in enumerate(_by_unit(values, axis)):
                groups.setdefault(row.tobytes(), []).append(unit)
            if len(groups) == units:
                continue
            gradient = graph.gradients.get(id(kernel))
            if gradient is None:
                gradient = np.zeros(kernel.shape, np.float32)
            gradients = _by_unit(gradient, axis)
            same = sum(_count_alike(gradients[members]) for members in groups.values())
            yield _EqualUnits(name, values, gradient, units, same)


def _by_unit(values: np.ndarray, axis: int) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1))


def _count_alike(gradients: np.ndarray) -> int:
    """Count the rows that equal another one, for a few kinds of rows: a recurrent cell has four gates."""
    same = 0
    for _ in range(MAX_KINDS):
        difference = np.abs(gradients - gradients[0]).max(axis=1)
        alike = difference <= SAME * np.abs(gradients).max()  # false for NaN
        if alike.sum() > 1:
            same += int(alike.sum())
        gradients = gradients[~alike]
        if not len(gradients):
            break
    return same


def _feeds_weights(call: Call | None) -> bool:
    """Check whether the output goes into layers with weights and nowhere else, with nothing joining it on the way."""
    if call is None:
        return False
    nexts = list(following(call, lambda one: len(one.inputs) == 1 and not is_weighted(one)))
    return bool(nexts) and all(map(is_weighted, nexts))


def _drift(graph: Graph, least: float, most: float) -> Found:
    """Find the first place where the signal has changed by `least` or more; none if any has by over `most`."""
    start, spared = _first_inputs(graph), adversary(graph)
    if start is None or math.isnan(start.rms):
        return
    found = None
    for call in graph.calls:
        if not is_weighted(call) or call.name in spared or any(one.output.rms == 0 for one in all_before(call)):
            continue
        grown, shrunk = _change(start, call.inputs[0])
        if shrunk >= least and not comes_from_data(call):
            shrunk = 0.0
        factor = max(grown, shrunk)
        if factor > most:
            return
        if factor >= least and found is None:
            source = next(preceding(call, lambda one: not is_weighted(one)), call)
            found = source.name, _drift_message(call, grown, shrunk)
    if found:
        yield found


def _first_inputs(graph: Graph) -> Signal | None:
    """Return what reaches the first layer with weights, or what comes out of the first embedding."""
    for call in graph.calls:
        if is_first(call):
            return call.inputs[0]
    for call in graph.calls:
        if isinstance(call.layer, layers.Embedding):
            return call.output
    return None


def _change(start: Signal, signal: Signal) -> tuple[float, float]:
    """Return how many times larger the values are than at the start, and how many times less they differ."""
    if not math.isfinite(signal.rms):
        return math.inf, 0.0
    return signal.rms / max(start.rms, 1), min(start.spread, 1) / max(signal.spread, 1e-30)


def _drift_message(call: Call, grown: float, shrunk: float) -> str:
    if not math.isfinite(grown):
        return f"the inputs of {call.name} are not finite"
    if grown > shrunk:
        return f"the inputs of {call.name} are {grown:.2g} times as large as the first layer's"
    return f"the inputs of {call.name} vary {1 / shrunk:.2g} times as much as the first layer's"


def _was_trained(name: str, graph: Graph) -> bool:
    """Check whether biases of a frozen layer, or averages of a frozen batch norm behind it, have left their start.

    They start at one value, those of an LSTM at two.
    """
    call = _call_of(name, graph)
    norms = [one.layer for one in after_pooling(call)] if call else []
    averages = [variable(norm, "moving_mean") for norm in norms if not getattr(norm, "trainable", True)]
    moved = [variable(graph.leaves[name], "bias"), *averages]
    return any(weight is not None and len(np.unique(weight)) > 2 for weight in moved)


def _is_frozen_trained(call: Call, graph: Graph) -> bool:
    pairs = [pair for name, layer in graph.leaves.items() if layer is call.layer for pair in _frozen(layer)]
    return bool(pairs) and (_was_trained(call.name, graph) or not any(_is_fresh(*pair, False) for pair in pairs))


def _frozen(layer: Any) -> list[tuple[Any, Any]]:
    """List the kernels that training leaves alone, each with its initializer."""
    if getattr(layer, "lora_enabled", False):  # frozen is what LoRA is for
        return []
    names = ("kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")
    pairs = [(variable(layer, name), getattr(layer, f"{name}_initializer", None)) for name in names]
    return [(kernel, start) for kernel, start in pairs if kernel is not None and start and not kernel.trainable]


def _is_beside_random(layer: Any, values: np.ndarray) -> bool:
    """Check whether constant values in a custom layer have one axis, or random ones of as many axes beside."""
    matrices = (np.asarray(weight) for weight in layer.trainable_weights if len(weight.shape) >= values.ndim)
    return not is_of_keras(layer) and (1 in values.shape or any(np.ptp(one) for one in matrices))


def _is_bad_luck(call: Call | None, graph: Graph) -> bool:
    """Check whether the few relu units of a layer are all inactive because of the sign of their random kernel.

    The layers before it train, and so change what it gets.
    """
    kernel = variable(call.layer, "kernel") if call else None
    if call is None or kernel is None or units(call) > FEW:
        return False
    ends = [one for one in (call, *call.after) if activation(one) == "relu"]
    if not ends or any(one.output.dead < 1 for one in ends):
        return False
    if not any(np.any(graph.gradients.get(id(weight))) for one in all_before(call) for weight in _weights(one)):
        return False
    with restored([kernel]):
        kernel.assign(-kernel.value.numpy())
        return bool(np.any(call.layer(call.inputs[0].tensor).numpy() > 0))


def _shapes(name: str, layer: Any) -> tuple[Any, ...]:
    """Return the layer around a layer, its kind and the shapes of its weights: the same for experts."""
    return name.rpartition("/")[0], type(layer), *(tuple(weight.shape) for weight in layer.trainable_weights)


def _weights(call: Call) -> list[Any]:
    return call.layer.trainable_weights if isinstance(call.layer, keras.Layer) else []


def _call_of(name: str, graph: Graph) -> Call | None:
    """Find the last call of a layer, or of the closed layer around it."""
    calls = (call for call in reversed(graph.calls) if name == call.name or name.startswith(f"{call.name}/"))
    return next(calls, None)


def _are_copies(frozen: list[Any], trained: list[Any]) -> bool:
    """Check whether all frozen kernels equal one that trains: of a target network."""
    same = (any(kernel.shape == one.shape and np.array_equal(kernel, one) for one in trained) for kernel, _ in frozen)
    return all(same)


def _is_orthogonal(kernel: Any) -> bool:
    if len(kernel.shape) != 2 or max(kernel.shape) > MAX_VALUES:
        return False
    values = kernel.value.numpy()
    values = values if values.shape[0] >= values.shape[1] else values.T
    products = values.T @ values
    return bool(np.abs(products / products[0, 0] - np.eye(len(products))).max() < SAME)


def _is_fresh(kernel: Any, initializer: Any, of_any_size: bool) -> bool:
    if not isinstance(initializer, keras.src.initializers.random_initializers.RandomInitializer):  # values were given
        return False
    values = kernel.value.numpy().ravel()[:MAX_VALUES]
    drawn = np.asarray(initializer(kernel.shape, dtype="float32")).ravel()[:MAX_VALUES]
    if not np.ptp(values) or not np.ptp(drawn):  # constants are no random draw
        return False
    if _is_orthogonal(kernel) and not isinstance(initializer, keras.initializers.Orthogonal):  # a rotation, set
        return False
    if of_any_size:
        values, drawn = values / values.std(), drawn / drawn.std()
    return bool(ks_2samp(values, drawn).pvalue > CHANCE)
