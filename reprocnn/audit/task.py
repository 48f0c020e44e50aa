"""What a model is trained for: the loss, weight, metrics and labels of each output, and the optimizer."""

from collections.abc import Iterator
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from reprocnn.audit import noise, recognize
from reprocnn.audit.graph import Call, Graph, Signal
from reprocnn.audit.rules.base import NO_LOSS, Head, Loss, Task
from reprocnn.audit.rules.common import LOOKUPS, activation, is_weighted, keeps_units
from reprocnn.backend import keras, tf
from reprocnn.core.errors import UserError

MAX_LABELS = 10_000_000  # numbers: rows beyond them are left out evenly


def first_batch(x: Any, y: Any) -> tuple[Any, Any]:
    """Take x and y out of what `fit` takes as x: a tf.data.Dataset, a PyDataset or a generator, by its first batch."""
    if isinstance(x, tf.data.Dataset):
        batch = next(iter(x.take(1)), None)
    elif isinstance(x, keras.utils.PyDataset):
        batch = x[0] if len(x) else None
    elif isinstance(x, Iterator):
        batch = next(x, None)
    else:
        return x, y
    if batch is None:
        raise UserError(f"x: expected at least one batch, got none from a {type(x).__name__}, empty or used up.")
    if y is not None:
        raise UserError(f"y: expected none, since a {type(x).__name__} holds the labels too: batches of (x, y).")
    x = batch
    if not isinstance(x, tuple):
        return x, y
    return (*(keras.tree.map_structure(np.asarray, part) for part in (*x, None, None)[:2]),)


def read_losses(model: keras.Model, loss: Any, names: list[str], spread: bool) -> list[tuple[int, Any, float | None]]:
    """List the losses: the number of the output, the loss as given, and its weight. Empty if there is none.

    `spread` says whether one loss is for all outputs; a custom training step may give it to the first only.
    """
    compiled = getattr(model, "_compile_loss", None)
    weights = None
    if loss is None and compiled is not None:
        loss, weights = compiled._user_loss, compiled._user_loss_weights
    if loss is None:
        return []
    if len(names) == 1 and isinstance(loss, list | tuple) and len(loss) != 1:
        raise UserError(f"loss: expected one, for one output, got {len(loss)}.")
    return [
        (place, one, _weight(weight))
        for place, (losses, weight) in enumerate(
            zip(_by_output(loss, names, "loss", spread), _by_output(weights, names, "loss_weights"), strict=True)
        )
        for one in (losses if isinstance(losses, list | tuple) else [losses])
        if one is not None
    ]


def output_names(model: keras.Model) -> list[str]:
    """Name the outputs; none if the model does not say."""
    graph = noise.functional(model)
    structure = getattr(graph, "_outputs_struct", None)
    if isinstance(structure, dict):
        return sorted(structure)  # as Keras flattens it
    names = getattr(graph, "output_names", None)
    return list(names) if structure is not None and names else []


def read(
    model: keras.Model,
    graph: Graph,
    names: list[str],
    losses: list[tuple[int, Any, float | None]],
    num_classes: Any,
    x: Any,
    y: Any,
) -> Task:
    """Put together what is known of each output."""
    is_whole = isinstance(num_classes, int | np.integer) and not isinstance(num_classes, bool)
    if num_classes is not None and not (is_whole and num_classes > 1):
        raise UserError(
            f"num_classes: expected a whole number above 1, got {num_classes!r}. Give the number of classes."
        )
    names = names + [""] * (len(graph.outputs) - len(names))
    if len(graph.outputs) != len(graph.results):
        return Task((), _optimizer(model), *_read_inputs(model, x), model, x)
    labels = [None if part is None else _labels(part) for part in _by_output(y, names, "y", spread=False)]
    given = [_by_output(metrics, names, "metrics") for metrics in _compiled_metrics(model, names)]
    metrics = [tuple(one for one in keras.tree.flatten(own) if one is not None) for own in zip(*given, strict=True)]
    heads = []
    for place, output in enumerate(graph.outputs):
        head = replace(
            _head(output, _shape(model, graph, place), graph.results[place]),
            labels=labels[place],
            metrics=metrics[place],
        )
        own = [(_read_loss(one, head.units), weight) for at, one, weight in losses if at == place]
        heads += [replace(head, loss=one, weight=weight) for one, weight in own] or [head]
    if num_classes is not None:
        counted = [head for head in heads if len(graph.outputs) == 1 or head.loss.is_categorical]
        if len(counted) > 1 and len(graph.outputs) > 1:  # nothing says of which
            counted = []
        heads = [replace(head, num_classes=int(num_classes)) if head in counted else head for head in heads]
    return Task(tuple(heads), _optimizer(model), *_read_inputs(model, x), model, x)


def _optimizer(model: keras.Model) -> Any:
    """Return the optimizer itself, which Keras wraps in one that scales the loss for float16."""
    optimizer = getattr(model, "optimizer", None)
    return getattr(optimizer, "inner_optimizer", optimizer)


def _read_inputs(model: keras.Model, x: Any) -> tuple[dict[str, np.ndarray], dict[int, list[np.ndarray]]]:
    tensors = list(getattr(model, "inputs", None) or [])
    if x is None:
        return {}, {}
    arrays = noise.by_input(tensors, x)
    names = [noise.name(tensor) for tensor in tensors] or [f"input {place}" for place in range(len(arrays))]
    ids: dict[int, list[np.ndarray]] = {}
    for tensor, array in zip(tensors, arrays, strict=False):
        for reader, passed in noise.readers(noise.functional(model), tensor):
            if isinstance(reader, (keras.layers.Embedding, keras.layers.CategoryEncoding, *LOOKUPS)):
                ids.setdefault(id(reader), []).append(noise.through(passed, tensor, array))
    return dict(zip(names, arrays, strict=False)), ids


def _head(output: Call, shape: tuple[int | None, ...], signal: Signal) -> Head:
    call = output
    while activation(call) is None and keeps_units(call) and len(call.before) == 1:
        call = call.before[0]
    kind = activation(call) or ("linear" if is_weighted(call) else "unknown")
    if kind == "unknown" and signal.are_probabilities:  # of a subclassed model, for example
        kind = "softmax"
    return Head(call, kind, output, shape, signal)


def _shape(model: keras.Model, graph: Graph, place: int) -> tuple[int | None, ...]:
    outputs, found = getattr(model, "outputs", None), graph.results[place].shape
    declared = tuple(outputs[place].shape) if outputs and len(outputs) == len(graph.results) else found
    return declared if len(declared) == len(found) else (None, *found[1:])  # Keras is wrong on TextVectorization


def _by_output(given: Any, names: list[str], what: str, spread: bool = True) -> list[Any]:
    """Give each output its part of what `compile` and `fit` take as one thing, a list, or a dict by names."""
    count = len(names)
    is_one = count == 1 and isinstance(given, list | tuple) and len(given) == 1
    if is_one and (what != "y" or hasattr(given[0], "shape")):
        return list(given)
    if isinstance(given, dict):
        unknown = sorted(set(given) - set(names))
        if unknown and names != [""]:
            raise UserError(f"{what}: expected names of outputs ({', '.join(names)}), got {', '.join(unknown)}.")
        return [given.get(name) for name in names]
    if isinstance(given, list | tuple) and count > 1:
        if len(given) != count:
            listed = f" ({', '.join(names)})" if any(names) else ""
            raise UserError(f"{what}: expected {count} parts, one per output{listed}, got {len(given)}.")
        return list(given)
    return [given] * count if spread or count == 1 else [given] + [None] * (count - 1)


def _labels(y: Any) -> np.ndarray:
    try:
        labels = np.asarray(y)
    except (ValueError, TypeError):
        raise UserError("y: expected rows of one length, got rows of several. Pad them.") from None
    if labels.dtype.kind not in "biuf":
        raise UserError(f"y: expected numbers, got {labels.ravel()[:1].tolist()!r}. Number the classes from 0.")
    if not labels.ndim or not len(labels):
        raise UserError("y: expected at least one row, got none. Give audit() the y that fit() gets.")
    labels = labels.astype("int8") if labels.dtype.kind == "b" else labels
    return labels[:: 1 + labels.size // MAX_LABELS]


def _weight(given: Any) -> float | None:
    if given is None or (isinstance(given, Real) and not isinstance(given, bool)):
        return None if given is None else float(given)
    raise UserError(
        f"loss_weights: expected a number for each output, got {given!r}. In compile(), they come third: name metrics=."
    )


def _read_loss(given: Any, units: int) -> Loss:
    """Describe a loss as `compile` takes it."""
    if isinstance(given, str):
        if given.lower() in ("crossentropy", "ce"):  # Keras chooses when it sees the labels
            return NO_LOSS
        try:
            given = keras.losses.get(given)
        except ValueError:
            raise UserError(
                f"loss: Keras knows no loss {given!r}. Give a name of keras.losses, or a function."
            ) from None
    if isinstance(given, type) and issubclass(given, keras.losses.Loss):  # compile makes one of it
        given = given()
    if not callable(given) or isinstance(given, type):
        raise UserError(f"loss: expected a name of keras.losses, a function or a loss, got {given!r}.")
    function = getattr(given, "fn", given)
    options = dict(getattr(given, "_fn_kwargs", {}))
    kind = getattr(function, "__name__", None) or type(function).__name__
    is_known = str(getattr(function, "__module__", "")).startswith("keras.src.losses")
    same = None if is_known else recognize.loss(given, units)
    if same:
        return Loss(*same, function=given)
    from_logits = (is_known and kind == "ctc") or bool(options.get("from_logits", getattr(given, "from_logits", False)))
    return Loss(kind, from_logits, is_known, options, given)


def _compiled_metrics(model: keras.Model, names: list[str]) -> list[Any]:
    compiled = getattr(model, "_compile_metrics", None)
    given = [getattr(compiled, name, None) for name in ("_user_metrics", "_user_weighted_metrics")]
    # Keras refuses a list of another length for several outputs.
    return [[one] * len(names) if isinstance(one, list | tuple) and len(one) != len(names) else one for one in given]
