"""The batch that the audit runs: a few rows of the caller's, or noise of the kind that each input takes."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from reprocnn.backend import keras, layers
from reprocnn.core.errors import UserError

BATCH = 8  # images; enough to distinguish a dead layer from a quiet one; takes seconds for the largest network
COARSE = 4  # blocks along an axis: neighbouring pixels are alike, as in images, so that pooling leaves something
FREE_AXIS = {4: 64, 5: 16}  # by rank, for axes that the model leaves open
FREE_AXIS_DEFAULT = 16  # of sequences, for example
FEW = 10  # integers of an input of numbers, if nothing says how many there are
PASSING = (layers.Reshape, layers.Flatten, layers.Permute, layers.Identity, layers.RepeatVector)
WORDS = np.array(["one", "two", "three", "four", "five", "six", "seven", "eight"])


def given(model: keras.Model, x: Any, size: int | None = None) -> Any:
    """Return a few rows of `x`, an array or a list or dict of them, in the order of the model's inputs.

    A model that declares no inputs gets them as `x` has them.
    """
    inputs = list(getattr(model, "inputs", None) or [])
    batch = [_rows(values, size or _batch_size(inputs)) for values in by_input(inputs, x)]
    if len(batch) == len(inputs):
        batch = list(map(_as_declared, inputs, batch))
    if not batch or any(not len(values) for values in batch):
        raise UserError("x: expected at least one row, got none. Give audit() the x that fit() gets.")
    return batch if inputs else keras.tree.pack_sequence_as(x, batch)


def by_input(inputs: list[Any], x: Any) -> list[np.ndarray]:
    """Return the part of `x` of each input, as `fit` takes it; raises UserError if they do not belong together."""
    names = [tensor.name for tensor in inputs]
    if isinstance(x, dict) and inputs and not set(names) <= set(x):
        raise UserError(
            f"x: expected a part for each input ({', '.join(names)}), got {', '.join(map(str, x)) or 'none'}."
        )
    if isinstance(x, dict) and inputs:
        parts = [x[one] for one in names]
    elif isinstance(x, list) and len(inputs) == 1 and not _is_single(x, inputs[0]):
        parts = [x]
    else:
        parts = list(keras.tree.flatten(x))
    if inputs and parts and len(parts) != len(inputs):
        raise UserError(f"x: expected {len(inputs)} parts, one per input ({', '.join(names)}), got {len(parts)}.")
    arrays = list(map(_numbers, parts))
    for tensor, array in zip(inputs, arrays, strict=len(parts) == len(inputs)):
        _check(tensor, array)
    return arrays


def name(tensor: Any) -> str:
    """Name an input by its layer, where Keras has only numbered the tensor."""
    history = getattr(tensor, "_keras_history", None)
    return str(history.operation.name if history else tensor.name)


def _is_single(x: list[Any], tensor: Any) -> bool:
    return len(x) == 1 and getattr(x[0], "ndim", 0) >= len(tensor.shape)


def _numbers(part: Any) -> np.ndarray:
    try:
        array = np.asarray(part)
    except (ValueError, TypeError):
        raise UserError("x: expected rows of one length, got rows of several. Pad them.") from None
    if array.dtype.kind not in "biufUSO" or array.ndim == 0:
        raise UserError(f"x: expected arrays of numbers or words, got {_kind(part)}.")
    return array


def _check(tensor: Any, array: np.ndarray) -> None:
    expected = tuple(tensor.shape[1:])
    if not agree(array.shape[1:], expected):
        raise UserError(f"x: {name(tensor)}: expected rows of shape {shape(expected)}, got {shape(array.shape[1:])}.")
    is_text = keras.backend.standardize_dtype(tensor.dtype) == "string"
    if array.dtype.kind in "USO" and not is_text:
        try:
            array[:BATCH].astype("float32")
        except (ValueError, TypeError):
            raise UserError(f"x: {name(tensor)}: expected numbers, got {array.flat[0]!r}.") from None


def agree(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Check whether shapes are the same but for a last axis of 1, which Keras adds or takes away."""
    if len(found) == len(expected) + 1 and found[-1] == 1:
        found = found[:-1]
    elif len(found) == len(expected) - 1 and expected[-1] == 1:
        expected = expected[:-1]
    return len(found) == len(expected) and all(size in (None, one) for size, one in zip(expected, found, strict=True))


def _kind(part: Any) -> str:
    if hasattr(part, "dtype"):
        return f"a {type(part).__name__} of {np.dtype(getattr(part.dtype, 'as_numpy_dtype', part.dtype))}"
    return f"{type(part).__name__} {part!r}"[:80]


def shape(sizes: tuple[int | None, ...]) -> str:
    """Write a shape as a tuple, with `any` for what is not fixed."""
    return f"({', '.join('any' if size is None else str(size) for size in sizes)})"


def functional(model: Any) -> Any:
    """Return the functional model inside a sequential one, any other as it is."""
    return model._functional if isinstance(model, keras.Sequential) else model


def make(model: keras.Model) -> list[Any]:
    """Make a batch for each input: pixels of 0 to 255 if the model takes or scales them, ids, words, or noise."""
    if not getattr(model, "inputs", None):
        raise ValueError("the model does not declare its inputs")
    rng = np.random.default_rng(0)
    pixels = _takes_pixels([layer for layer in model._flatten_layers() if len(layer._flatten_layers()) == 1])
    graph = functional(model)
    size = _batch_size(model.inputs)
    return [noise_like(tensor, size, _vocabulary(graph, tensor), pixels, rng) for tensor in model.inputs]


def noise_like(
    tensor: Any, batch_size: int, vocabulary: int | None, pixels: bool, rng: np.random.Generator
) -> np.ndarray:
    """Make `batch_size` rows for an input."""
    rank = len(tensor.shape)
    shape = tuple(size or FREE_AXIS.get(rank, FREE_AXIS_DEFAULT) for size in tensor.shape[1:])
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "string":
        return np.asarray(rng.choice(WORDS, (batch_size, *shape)).astype(object))
    if vocabulary:
        return rng.integers(0, vocabulary, (batch_size, *shape)).astype(dtype)
    values = rng.normal(size=(batch_size, *shape))
    if rank > 2:
        blocks = rng.normal(size=(batch_size, *(min(size, COARSE) for size in shape[:-1]), shape[-1]))
        for axis, size in enumerate(shape[:-1], start=1):
            blocks = np.take(blocks, np.arange(size) * blocks.shape[axis] // size, axis=axis)
        values = (blocks + 0.5 * values) / math.sqrt(1.25)
    if dtype == "bool":
        return np.asarray(values > -1)  # masks leave most values
    if "int" in dtype and rank <= 2 and dtype != "uint8" and not pixels:
        return rng.integers(0, FEW, (batch_size, *shape)).astype(dtype)
    if "int" in dtype or (pixels and rank > 2):
        return np.clip(127.5 + 64 * values, 0, 255).round().astype(dtype)
    return values.astype(dtype)


def _rows(values: Any, batch_size: int) -> np.ndarray:
    # From all of `values`, which may be sorted.
    rows = np.asarray(values[:: max(1, len(values) // batch_size)][:batch_size])
    return rows.astype(object) if rows.dtype.kind in "US" else rows


def _as_declared(tensor: Any, rows: np.ndarray) -> np.ndarray:
    """Cast rows to the dtype of an input, and add or take away a last axis of 1, as `fit` does."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    rows = rows if dtype == "string" else rows.astype(dtype)
    if rows.ndim > len(tensor.shape):
        return rows[..., 0]
    return rows[..., None] if rows.ndim < len(tensor.shape) else rows


def _batch_size(inputs: list[Any]) -> int:
    return next((tensor.shape[0] for tensor in inputs if len(tensor.shape) and tensor.shape[0]), BATCH)


def _vocabulary(graph: Any, tensor: Any) -> int | None:
    """Say how many ids an input may have: the fewest that a layer which reads it knows."""
    sizes = [size for operation, _ in readers(graph, tensor) for size in _known_ids(operation, len(tensor.shape))]
    return min(sizes, default=None)


def readers(graph: Any, tensor: Any, passed: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the operations that read an input of a functional model, inside nested models and behind reshapings.

    Each comes with the nodes of these reshapings, in order.
    """
    for node in (node for depth in getattr(graph, "_nodes_by_depth", {}).values() for node in depth):
        for position, one in enumerate(node.input_tensors):
            if one is not tensor:
                continue
            operation = node.operation
            inner = functional(operation)
            if hasattr(inner, "_run_through_graph"):
                yield from readers(inner, keras.tree.flatten(inner._inputs_struct)[position], passed)
            elif len(node.input_tensors) == 1 and _passes_on(operation):
                for output in node.outputs:
                    yield from readers(graph, output, (*passed, node))
            else:
                yield operation, passed


def through(passed: tuple[Any, ...], tensor: Any, array: np.ndarray) -> np.ndarray:
    """Return what a reader gets of the rows of an input, behind the nodes that `readers` yields with it."""
    values: Any = _as_declared(tensor, array) if passed else array
    for node in passed:
        args, kwargs = node.arguments.fill_in({id(node.input_tensors[0]): keras.ops.convert_to_tensor(values)})
        values = node.operation(*args, **kwargs)
    return np.asarray(values)


def _passes_on(operation: Any) -> bool:
    return isinstance(operation, PASSING) or type(operation).__name__ in ("GetItem", "Cast", "ExpandDims")


def _known_ids(operation: Any, rank: int) -> list[int]:
    if isinstance(operation, layers.Embedding):
        return [operation.input_dim]
    if isinstance(operation, layers.CategoryEncoding):
        return [operation.num_tokens]
    if type(operation).__name__ == "OneHot":
        return [operation.num_classes]
    # Of three axes, what a custom layer reads is features, and its embedding is of their positions.
    inside = operation._flatten_layers() if isinstance(operation, keras.Layer) and rank <= 2 else []
    return [layer.input_dim for layer in inside if isinstance(layer, layers.Embedding)]


def _takes_pixels(leaves: list[Any]) -> bool:
    """Check whether a layer before the first weights scales values of the size of pixels down to about 1."""
    for layer in leaves:
        if isinstance(layer, layers.Rescaling) and np.max(np.abs(layer.scale)) < 0.1:
            return True
        if isinstance(layer, layers.Normalization) and np.max(np.abs(layer.mean)) > 1:
            return True
        if layer.trainable_weights:
            return False
    return False
