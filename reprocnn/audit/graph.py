"""A built Keras model as the audit reads it: every call of every layer, the signals between them, and the gradients.

One seeded batch runs forward and backward through the model, with dropout off and batch norm using the batch's own
statistics. The model is left as it was.
"""

import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from reprocnn.audit import noise, recognize
from reprocnn.backend import keras, layers, tf
from reprocnn.core.errors import UserError

MAX_STEPS = 6  # for layers that get no gradient at the start because a later one starts at zero
CLOSE = 1e-6  # of a probability to 1
LARGE_LOGIT = 5.0  # of a sigmoid that is not yet close to 1
WHOLE = 4096  # rows of which a batch is taken as it is, if fewer of them do not fit together
STEP = 0.01  # the root mean square by which a step moves each variable


class Signal:
    """Statistics of one tensor, NaN for words. Computed when a rule asks for them: of most tensors none does."""

    def __init__(self, tensor: Any) -> None:
        self.shape = tuple(tensor.shape)
        self.tensor = tensor

    @cached_property
    def _values(self) -> Any:
        is_number = self.tensor.dtype.is_floating or self.tensor.dtype.is_integer
        return tf.cast(self.tensor, tf.float32) if is_number and math.prod(self.shape) else tf.constant(math.nan)

    @cached_property
    def rms(self) -> float:
        values = self._values
        return float(tf.sqrt(tf.reduce_mean(tf.square(values))))

    @cached_property
    def mean(self) -> float:
        return float(tf.reduce_mean(self._values))

    @cached_property
    def spread(self) -> float:
        """The root mean square over all units of the deviation over the batch."""
        values = self._values
        return float(tf.sqrt(tf.reduce_mean(tf.math.reduce_variance(values, axis=0)))) if self.shape else 0.0

    @cached_property
    def is_constant(self) -> bool:
        """Check whether all rows are equal."""
        return bool(self.shape) and bool(tf.reduce_all(self.tensor == self.tensor[:1]))

    @cached_property
    def low(self) -> float:
        return float(tf.reduce_min(self._values))

    @cached_property
    def high(self) -> float:
        return float(tf.reduce_max(self._values))

    @cached_property
    def are_probabilities(self) -> bool:
        """Check whether each row is positive and sums to 1; of one unit, whether it is 1 although its logit is not."""
        is_rows = self.tensor.dtype.is_floating and len(self.shape) > 1
        if is_rows and self.shape[-1] == 1:
            logits = getattr(self.tensor, "_keras_logits", None)  # left by Keras' softmax and sigmoid
            return logits is not None and self.low > 1 - CLOSE and Signal(logits).low < LARGE_LOGIT
        return is_rows and recognize.are_probabilities(self._values.numpy())

    @cached_property
    def is_whole(self) -> bool:
        """Check whether every value is an integer."""
        return bool(tf.reduce_all(self._values == tf.round(self._values)))

    @cached_property
    def dead(self) -> float:
        """The share of units that are zero for every row."""
        if not self.tensor.dtype.is_floating or len(self.shape) < 2 or not math.prod(self.shape):
            return 0.0
        is_zero = tf.reduce_all(tf.reshape(self.tensor, (-1, self.shape[-1])) == 0, axis=0)
        return float(tf.reduce_mean(tf.cast(is_zero, tf.float32)))


@dataclass(eq=False)
class Call:
    """One use of a layer or an operation; a nested model has no call of its own, only the layers inside it."""

    layer: Any  # inside a TimeDistributed
    name: str  # outer/inner
    inputs: list[Signal]
    sources: list[int]  # one number per input: the same for the same tensor
    output: Signal
    before: list["Call"]  # in the order of the inputs; the model's own inputs have none
    is_training: bool | None  # as the call says, or that of the model around it
    arguments: tuple[Any, Any]  # args and kwargs, as the layer took them
    after: list["Call"] = field(default_factory=list)


@dataclass(frozen=True)
class Graph:
    """What the rules judge."""

    calls: list[Call]  # in an order in which they can be computed
    outputs: list[Call]
    results: list[Signal]  # of the outputs; fewer calls than results if an input is passed through
    names: list[str]  # of the results: the keys of a dict, else empty
    leaves: dict[str, Any]  # layers with weights and no layers in them, by name, those inside opaque layers too
    gradients: dict[int, np.ndarray | None]  # by id of the variable: the first that is not all zero, if any came
    unknown: list[Any]  # TensorFlow variables that the pass read and the model does not know


def read(model: keras.Model, x: Any = None, trained: list[bool] | None = None) -> Graph:
    """Run a few images of `x` (as for `fit`; by default noise as smooth as images) through the model and back.

    `trained` says which outputs have a loss; by default all. Raises UserError if the model is not built or cannot
    compute the batch.
    """
    if not model.built or not model.weights:
        raise UserError(f"{model.name}: found no weights, expected a built model; call it once or give it an Input")
    try:
        with restored(model.non_trainable_variables), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Keras warns of, the rules say with the layer's name
            if x is None:
                return _measure(model, noise.make(model), trained)
            try:
                return _measure(model, noise.given(model, x), trained)
            except Exception:  # perhaps each row needs all others, as the nodes of a graph do
                rows = max(map(len, noise.by_input(list(getattr(model, "inputs", None) or []), x)), default=0)
                if rows > WHOLE:
                    raise
                return _measure(model, noise.given(model, x, rows), trained)
    except UserError:
        raise
    except Exception as error:  # what a model computes decides what it raises
        reason = one_line(error)
        raise UserError(
            f"{model.name}: cannot compute a batch ({reason}); give audit() a batch x that it takes"
        ) from None


def build(model: keras.Model, x: Any) -> None:
    """Build a model that waits for its first batch. Raises UserError if it does not take `x`."""
    try:
        rows = keras.tree.map_structure(lambda part: tf.convert_to_tensor(part[: noise.BATCH]), x)
        model(rows)
    except Exception as error:
        raise UserError(f"{model.name}: cannot be built from x ({one_line(error)}).") from None


@contextmanager
def restored(variables: Iterable[Any]) -> Iterator[None]:
    """Give variables their values back at the end."""
    state = [(variable, variable.value.numpy()) for variable in variables]
    try:
        yield
    finally:
        for variable, value in state:
            variable.assign(value)


def one_line(error: Exception) -> str:
    """Shorten a message of Keras or TensorFlow, which may have many lines and bold type, to at most 200 characters."""
    return " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:200] or type(error).__name__


def following(call: Call, skip: Callable[[Call], bool]) -> Iterator[Call]:
    """Yield the first calls after `call` that `skip` does not skip."""
    for after in call.after:
        if skip(after):
            yield from following(after, skip)
        else:
            yield after


def preceding(call: Call, skip: Callable[[Call], bool]) -> Iterator[Call]:
    """Yield the last calls before `call` that `skip` does not skip."""
    for before in call.before:
        if skip(before):
            yield from preceding(before, skip)
        else:
            yield before


def _measure(model: keras.Model, batch: Any, trained: list[bool] | None) -> Graph:
    recorder = _Recorder(trained)
    gradients = _later_gradients(model, batch, trained, recorder.run(model, batch))
    leaves = _leaves(recorder.calls)
    known = {id(variable.value) for variable in model.variables}
    # A number alone is rather a schedule, which a callback sets.
    unknown = [variable for variable in recorder.read if id(variable) not in known and len(variable.shape)]
    return Graph(recorder.calls, recorder.outputs, recorder.results, recorder.names, leaves, gradients, unknown)


def _leaves(calls: list[Call]) -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for call in calls:
        inside = call.layer._flatten_layers() if isinstance(call.layer, keras.Layer) else []
        for leaf in filter(_is_leaf, inside):
            if leaf.weights and not any(leaf is layer for layer in leaves.values()):
                name = call.name if leaf is call.layer else f"{call.name}/{leaf.name}"
                others = sum(known.partition(" (")[0] == name for known in leaves)
                leaves[f"{name} ({others + 1})" if others else name] = leaf
    return leaves


def _later_gradients(
    model: keras.Model, batch: Any, trained: list[bool] | None, gradients: list[np.ndarray | None]
) -> dict[int, np.ndarray | None]:
    """Return the gradient of each weight by its id; for one that is zero at first, that of a later pass, if any.

    A layer that starts at zero on purpose, such as the last of a residual branch, passes no gradient to those before it
    at first. A kernel of one value, as of a layer whose units scale, shift and gate, may get some of its gradient
    later. So small steps are made for as long as they wake further weights, and taken back.
    """
    weights = model.trainable_variables
    ids = list(map(id, weights))
    found = dict(zip(ids, gradients, strict=True))
    flat = {id(one) for one in weights if len(one.shape) > 1 and not np.ptp(one.value.numpy())}
    if not _missing(found, flat):
        return found
    with restored(weights):
        for _ in range(MAX_STEPS):
            _step(weights, gradients)
            gradients = _Recorder(trained).run(model, batch)
            filled = {one: _filled(found[one], later, one in flat) for one, later in zip(ids, gradients, strict=True)}
            is_same = all(filled[one] is found[one] for one in ids)
            found = filled
            if is_same or not _missing(found, flat):
                break
    return found


def _step(weights: list[Any], gradients: list[np.ndarray | None]) -> None:
    for variable, gradient in zip(weights, gradients, strict=True):
        if gradient is not None and np.any(gradient):
            variable.assign_sub(STEP * gradient / (np.sqrt(np.mean(np.square(gradient))) + 1e-30))


def _missing(found: dict[int, np.ndarray | None], flat: set[int]) -> bool:
    return any(not _is_nonzero(gradient) or (one in flat and not np.all(gradient)) for one, gradient in found.items())


def _filled(found: np.ndarray | None, later: np.ndarray | None, is_flat: bool) -> np.ndarray | None:
    """Return `found`, with what a later gradient adds to it if it is zero: of a kernel of one value, place by place."""
    if later is None or not np.any(later):
        return found
    if found is None or not np.any(found):
        return later
    return np.where(found, found, later) if is_flat and np.any(later[found == 0]) else found


def _is_nonzero(gradient: np.ndarray | None) -> bool:
    return gradient is not None and bool(np.any(gradient))  # NaN is not zero


class _Recorder:
    """Runs a batch through a model, operation by operation, and notes each call."""

    def __init__(self, trained: list[bool] | None) -> None:
        self.calls: list[Call] = []
        self.outputs: list[Call] = []
        self.results: list[Signal] = []
        self.names: list[str] = []
        self.read: list[Any] = []  # the TensorFlow variables
        self._trained = trained
        self._made: dict[int, Call] = {}  # by id of the tensor
        self._kept: list[Any] = []  # the tensors, so that no id is used again
        self._added: list[Any] = []  # the losses that layers add by themselves

    def run(self, model: keras.Model, batch: Any) -> list[np.ndarray | None]:
        """Fill in the calls and the outputs; return the gradient of each weight (None: no path back to it)."""
        with tf.GradientTape() as tape:
            results = self._forward(model, batch)
            total = _total(results, self._trained, self._added)
        self.outputs = [self._made[id(result)] for result in results if id(result) in self._made]
        self.results = list(map(Signal, results))
        self.read = list(tape.watched_variables())
        return _gradients(tape, total, model.trainable_variables)

    def _forward(self, model: keras.Model, batch: Any) -> list[Any]:
        graph = _functional(model)
        tensors = keras.tree.map_structure(tf.convert_to_tensor, batch)
        if graph is None:
            is_one = isinstance(tensors, list) and len(tensors) == 1
            results = self._visit(model, "", None, tensors[0] if is_one else tensors)
        else:
            results = graph._run_through_graph(tensors, self._visitor("", None))
        flat = _tensors(results)
        is_named = isinstance(results, dict) and len(results) == len(flat)
        self.names = sorted(results) if is_named else [""] * len(flat)  # as Keras flattens it
        return flat

    def _visitor(self, prefix: str, is_training: bool | None) -> Callable[[Any], Callable[..., Any]]:
        """Return what Keras is to call in place of each operation of a graph."""
        return lambda operation: partial(self._visit, operation, prefix, is_training)

    def _visit(self, operation: Any, prefix: str, is_training: bool | None, *args: Any, **kwargs: Any) -> Any:
        is_training = kwargs["training"] if kwargs.get("training") is not None else is_training
        graph = _functional(operation)
        if graph is None:
            return self._record(operation, prefix, is_training, *args, **kwargs)
        visitor = self._visitor(f"{prefix}{operation.name}/", is_training)
        result = graph._run_through_graph(_tensors((args, kwargs)), visitor)
        return result[0] if isinstance(result, list | tuple) and len(result) == 1 else result

    def _record(self, operation: Any, prefix: str, is_training: bool | None, *args: Any, **kwargs: Any) -> Any:
        inputs = _tensors((args, kwargs))
        given = {id(tensor) for tensor in inputs}
        if "training" in getattr(operation, "_call_context_args", ()):
            kwargs["training"] = _normalizes(operation)
        if isinstance(operation, layers.Embedding):  # the rules judge ids that it does not have; TensorFlow stops
            args = (tf.clip_by_value(tf.cast(inputs[0], tf.int64), 0, operation.input_dim - 1),)
        result = keras.tree.map_structure(
            # An operation that passes its input on unchanged, as dropout does here, needs an output of its own.
            lambda value: tf.identity(value) if id(value) in given else value,
            operation(*args, **kwargs),
        )
        if isinstance(operation, keras.Layer):
            self._added += [loss for layer in operation._flatten_layers() for loss in layer._losses]
        self._note(operation, f"{prefix}{operation.name}", (args, kwargs), inputs, _tensors(result), is_training)
        return result

    def _note(
        self,
        operation: Any,
        name: str,
        arguments: tuple[Any, Any],
        inputs: list[Any],
        outputs: list[Any],
        is_training: bool | None,
    ) -> None:
        layer, signal = operation, Signal
        if isinstance(operation, layers.TimeDistributed) and _is_leaf(operation.layer):
            layer, signal = operation.layer, _signal_of_a_step  # type: ignore[assignment]
        before = [self._made[id(tensor)] for tensor in inputs if id(tensor) in self._made]
        signals = list(map(signal, inputs))
        call = Call(layer, name, signals, list(map(id, inputs)), signal(outputs[0]), before, is_training, arguments)
        for one in dict.fromkeys(before):
            one.after.append(call)
        self.calls.append(call)
        self._kept += [*inputs, *outputs]
        self._made |= {id(tensor): call for tensor in outputs}


def _total(results: list[Any], trained: list[bool] | None, added: list[Any]) -> Any:
    # Any function of the outputs will do that treats no two units alike. Keras keeps the logits behind a softmax:
    # taken from there, the gradient does not vanish where the probabilities are 0 and 1.
    rng = np.random.default_rng(0)
    ends = [tf.cast(getattr(result, "_keras_logits", result), tf.float32) for result in results]
    if trained is not None and len(trained) == len(ends):
        ends = [end for end, has_loss in zip(ends, trained, strict=True) if has_loss]
    judged = [tf.reduce_sum(end * rng.normal(size=end.shape).astype(np.float32)) for end in ends]
    return tf.add_n([*judged, *(tf.reduce_sum(tf.cast(loss, tf.float32)) for loss in added), tf.zeros(())])


def _gradients(tape: Any, total: Any, weights: list[Any]) -> list[np.ndarray | None]:
    gradients = tape.gradient(total, [variable.value for variable in weights])
    return [
        # Those of embeddings are sparse at first.
        None if gradient is None else tf.cast(tf.convert_to_tensor(gradient), tf.float32).numpy()
        for gradient in gradients
    ]


def _tensors(structure: Any) -> list[Any]:
    return [value for value in keras.tree.flatten(structure) if tf.is_tensor(value)]


def _functional(operation: Any) -> Any:
    """Return the graph behind a functional or sequential model, None for anything else, whose inside stays closed."""
    functional = keras.src.models.functional.Functional
    if type(operation).call is keras.Sequential.call:
        return operation._functional
    if isinstance(operation, functional) and type(operation).call is functional.call:
        return operation
    return None


def _normalizes(operation: Any) -> bool:
    return any(isinstance(layer, layers.BatchNormalization) for layer in operation._flatten_layers())


def _signal_of_a_step(tensor: Any) -> Signal:
    return Signal(tf.reshape(tensor, (-1, *tensor.shape[2:])))


def _is_leaf(layer: keras.Layer) -> bool:
    return all(one is layer for one in layer._flatten_layers())
