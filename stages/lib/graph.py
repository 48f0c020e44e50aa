"""A built Keras model as the audit reads it: every call of every layer, what passed through it, and the gradients.

One seeded batch runs through the model, batch norm on the batch's own statistics and dropout off, and back. The model
is left as it was.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers
from keras.src.models.functional import Functional

from stages.lib.device import tf
from stages.lib.errors import UserError

BATCH = 8  # images; enough to tell a dead layer from a quiet one, and seconds for the largest network
COARSE = 4  # blocks along an axis: neighbouring pixels are alike, as in images, so that pooling leaves something
FREE_AXIS = {4: 64, 5: 16}  # by rank, for axes that the model leaves open; 16 for sequences
STEPS = 6  # at most, for layers that get no gradient at the start because a later one starts at zero
STEP = 0.01  # the root mean square by which a step moves each variable


@dataclass(frozen=True)
class Signal:
    """Of one tensor. `spread`: the standard deviation over the batch, in the root mean square over all units."""

    shape: tuple[int, ...]
    rms: float
    mean: float
    spread: float


@dataclass(eq=False)
class Call:
    """One use of a layer or an operation; the layers inside a nested model have their own calls, not the model."""

    layer: Any
    name: str  # outer/inner
    inputs: list[Signal]
    output: Signal
    before: list["Call"]  # in the order of the inputs; the model's own inputs have none
    after: list["Call"] = field(default_factory=list)


@dataclass(frozen=True)
class Graph:
    calls: list[Call]  # in an order in which they can be computed
    outputs: list[Call]
    leaves: dict[str, Any]  # layers with weights and no layers in them, by name, those inside opaque layers too
    gradients: dict[int, np.ndarray | None]  # by id of the variable: the first that is not all zero, if any came


def read(model: keras.Model, x: Any = None) -> Graph:
    """Runs the first images of `x` (as for `fit`; without it, noise as smooth as images) through the model and back.

    Raises UserError if the model is not built or cannot compute the batch.
    """
    if not model.built or not model.weights:
        raise UserError(f"{model.name}: found no weights, expected a built model; call it once or give it an Input")
    state = [(variable, variable.value.numpy()) for variable in model.non_trainable_variables]
    try:
        batch = _given(x) if x is not None else _noise(model)
        return _measure(model, batch)
    except (ValueError, TypeError, tf.errors.OpError, NotImplementedError) as error:
        reason = in_a_line(error)
        raise UserError(
            f"{model.name}: cannot compute a batch ({reason}); give audit() a batch x that it takes"
        ) from None
    finally:
        for variable, value in state:
            variable.assign(value)


def in_a_line(error: Exception) -> str:
    """The start of what Keras or TensorFlow says, which may be of many lines and in bold."""
    return " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:200] or type(error).__name__


def onward(call: Call, through: Callable[[Call], bool]) -> Iterator[Call]:
    """The first calls after `call` that `through` does not let pass."""
    for after in call.after:
        if through(after):
            yield from onward(after, through)
        else:
            yield after


def back(call: Call, through: Callable[[Call], bool]) -> Iterator[Call]:
    """The last calls before `call` that `through` does not let pass."""
    for before in call.before:
        if through(before):
            yield from back(before, through)
        else:
            yield before


def _measure(model: keras.Model, batch: list[Any]) -> Graph:
    weights = model.trainable_variables
    calls, outputs, slopes = _pass(model, batch, weights)
    gradients = dict(zip(map(id, weights), slopes, strict=True))
    if not all(map(_arrives, slopes)):
        _wake(model, batch, weights, slopes, gradients)
    leaves: dict[str, Any] = {}
    for call in calls:
        inside = call.layer._flatten_layers() if isinstance(call.layer, keras.Layer) else []
        for leaf in filter(_is_leaf, inside):
            if leaf.weights and not any(leaf is layer for layer in leaves.values()):
                leaves[call.name if leaf is call.layer else f"{call.name}/{leaf.name}"] = leaf
    return Graph(calls, outputs, leaves, gradients)


def _wake(model: keras.Model, batch: list[Any], weights: list[Any], slopes: list[Any], gradients: dict) -> None:
    """Adds the gradients of those weights that get none until others have made a step.

    A layer that starts at zero on purpose, as the last of a residual branch, gives nothing to those before it at first.
    So small steps are made for as long as they wake further layers, and taken back.
    """
    start = [(variable, variable.value.numpy()) for variable in weights]
    try:
        for _ in range(STEPS):
            for variable, slope in zip(weights, slopes, strict=True):
                if _arrives(slope):
                    variable.assign_sub(STEP * slope / (np.sqrt(np.mean(np.square(slope))) + 1e-30))
            slopes = _pass(model, batch, weights)[2]
            woken = {
                id(variable): slope
                for variable, slope in zip(weights, slopes, strict=True)
                if _arrives(slope) and not _arrives(gradients[id(variable)])
            }
            gradients |= woken
            if not woken or all(map(_arrives, gradients.values())):
                break
    finally:
        for variable, value in start:
            variable.assign(value)


def _arrives(slope: np.ndarray | None) -> bool:
    return slope is not None and bool(np.any(slope))  # NaN is no zero


def _pass(model: keras.Model, batch: list[Any], weights: list[Any]) -> tuple[list[Call], list[Call], list[Any]]:
    """Forward and backward: calls, the calls that give the outputs, and the gradient of each weight (None: no way)."""
    calls: list[Call] = []
    made: dict[int, Call] = {}  # by id of the tensor; `kept` keeps the ids from being used again
    kept: list[Any] = []

    def visit(operation: Any, prefix: str, *args: Any, **kwargs: Any) -> Any:
        inner = _functional(operation)
        if inner is not None:
            values = keras.tree.flatten((args, kwargs))
            result = inner._run_through_graph(
                [value for value in values if tf.is_tensor(value)],
                lambda one: partial(visit, one, f"{prefix}{operation.name}/"),
            )
            return result[0] if isinstance(result, list | tuple) and len(result) == 1 else result
        taken = [value for value in keras.tree.flatten((args, kwargs)) if tf.is_tensor(value)]
        if "training" in getattr(operation, "_call_context_args", ()):
            kwargs["training"] = _normalizes(operation)
        given = {id(value) for value in taken}
        result = keras.tree.map_structure(
            # What passes its input on unchanged, as dropout does here, is to be told from its input.
            lambda value: tf.identity(value) if id(value) in given else value,
            operation(*args, **kwargs),
        )
        tensors = [value for value in keras.tree.flatten(result) if tf.is_tensor(value)]
        before = [made[id(value)] for value in taken if id(value) in made]
        call = Call(
            operation, f"{prefix}{operation.name}", [_signal(value) for value in taken], _signal(tensors[0]), before
        )
        for one in dict.fromkeys(before):
            one.after.append(call)
        calls.append(call)
        kept.extend([*taken, *tensors])
        made.update({id(value): call for value in tensors})
        return result

    with tf.GradientTape() as tape:
        whole = _functional(model)
        tensors = [tf.convert_to_tensor(array) for array in batch]
        if whole is None:
            results = visit(model, "", tensors[0] if len(tensors) == 1 else tensors)
        else:
            results = whole._run_through_graph(tensors, lambda one: partial(visit, one, ""))
        results = [result for result in keras.tree.flatten(results) if tf.is_tensor(result)]
        # Any function of the outputs will do that treats no two units alike. Keras keeps the logits behind a softmax:
        # taken from there, the gradient does not vanish where the probabilities are 0 and 1.
        rng = np.random.default_rng(0)
        ends = [tf.cast(getattr(result, "_keras_logits", result), tf.float32) for result in results]
        total = tf.add_n([tf.reduce_sum(end * rng.normal(size=end.shape).astype(np.float32)) for end in ends])
    slopes = tape.gradient(total, [variable.value for variable in weights])
    arrays = [None if slope is None else tf.cast(tf.convert_to_tensor(slope), tf.float32).numpy() for slope in slopes]
    outputs = [made[id(result)] for result in results if id(result) in made]
    made.clear()  # `visit` refers to itself, so what it holds would wait for the garbage collector
    kept.clear()
    return calls, outputs, arrays


def _functional(operation: Any) -> Any:
    """The graph behind a functional or sequential model, None for anything else, whose inside stays closed."""
    if type(operation).call is keras.Sequential.call:
        return operation._functional
    return operation if isinstance(operation, Functional) and type(operation).call is Functional.call else None


def _normalizes(operation: Any) -> bool:
    return any(isinstance(layer, layers.BatchNormalization) for layer in operation._flatten_layers())


def _signal(tensor: Any) -> Signal:
    shape = tuple(tensor.shape)
    if (not tensor.dtype.is_floating and not tensor.dtype.is_integer) or not math.prod(shape):
        return Signal(shape, math.nan, math.nan, math.nan)
    values = tf.cast(tensor, tf.float32)
    spread = tf.sqrt(tf.reduce_mean(tf.math.reduce_variance(values, axis=0))) if shape else tf.zeros(())
    rms = tf.sqrt(tf.reduce_mean(tf.square(values)))
    return Signal(shape, float(rms), float(tf.reduce_mean(values)), float(spread))


def _given(x: Any) -> list[Any]:
    return [np.asarray(values[:BATCH]) for values in keras.tree.flatten(x)]


def _noise(model: keras.Model) -> list[Any]:
    """A batch for each input: pixels of 0 to 255 where the model takes or scales such, tokens, or standard noise."""
    if not getattr(model, "inputs", None):
        raise ValueError("it does not say what inputs it takes")
    rng = np.random.default_rng(0)
    leaves = list(filter(_is_leaf, model._flatten_layers()))
    vocabulary = min((layer.input_dim for layer in leaves if isinstance(layer, layers.Embedding)), default=None)
    return [_like(tensor, vocabulary, _takes_pixels(leaves), rng) for tensor in model.inputs]


def _like(tensor: Any, vocabulary: int | None, pixels: bool, rng: np.random.Generator) -> Any:
    rank = len(tensor.shape)
    shape = tuple(size or FREE_AXIS.get(rank, 16) for size in tensor.shape[1:])
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "string":
        raise ValueError("it takes text")
    if vocabulary and rank <= 2:
        return rng.integers(0, vocabulary, (BATCH, *shape)).astype(dtype)
    values = rng.normal(size=(BATCH, *shape))
    if rank > 2:
        blocks = rng.normal(size=(BATCH, *(min(size, COARSE) for size in shape[:-1]), shape[-1]))
        for axis, size in enumerate(shape[:-1], start=1):
            blocks = np.take(blocks, np.arange(size) * blocks.shape[axis] // size, axis=axis)
        values = (blocks + 0.5 * values) / math.sqrt(1.25)
    if "int" in dtype or (pixels and rank > 2):
        return np.clip(127.5 + 64 * values, 0, 255).round().astype(dtype)
    return (values > 0 if dtype == "bool" else values).astype(dtype)


def _takes_pixels(leaves: list[Any]) -> bool:
    """Whether what comes before the first weights brings values of the size of pixels down to about 1."""
    for layer in leaves:
        if isinstance(layer, layers.Rescaling) and np.max(np.abs(layer.scale)) < 0.1:
            return True
        if isinstance(layer, layers.Normalization) and np.max(np.abs(layer.mean)) > 1:
            return True
        if layer.trainable_weights:
            return False
    return False


def _is_leaf(layer: keras.Layer) -> bool:
    return all(one is layer for one in layer._flatten_layers())
