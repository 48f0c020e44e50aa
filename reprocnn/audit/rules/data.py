"""What is wrong with what goes in: missing values, ids without an embedding, inputs that are scaled twice."""

import math
import warnings
from typing import Any

import numpy as np

from reprocnn.audit import noise
from reprocnn.audit.graph import Call, Graph, restored
from reprocnn.audit.rules.base import Found, Head, Task, rule
from reprocnn.audit.rules.common import (
    ADDING,
    AFFINE,
    DROPOUTS,
    LOOKUPS,
    NORMS,
    all_after,
    comes_from_data,
    gives_ids,
    is_first,
    is_normalized,
    is_of_keras,
)
from reprocnn.backend import keras, layers, tf

PREPARING = (*LOOKUPS, layers.Hashing, layers.Discretization, *AFFINE, *DROPOUTS, *NORMS)
POOLING = (layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D)
FILLING = ("NanToNum", "Isnan", "Isfinite", "Where", "Lambda")  # what may replace a NaN
MANY = 32  # rows, which are not equal by chance
ROWS = 8
ENOUGH = 1000  # rows
IDS, WIDE = 100, 16  # of an embedding, columns
CHANGED = 1e-5  # of an output: more than rounding
SHIFTED = 0.9  # of the steps; the last has no next one
MIXED, MIXED_16 = 2e-3, 0.05  # of the largest output: rounding differs by about 1e-6, in 16 bits by 1e-2
TINY = 1e-12
SCALED = 1e-6  # of a correlation of 1: rounding
PIXELS, UNIT = 100, 1.5  # images of 0 to 255, and of 0 to 1 or -1 to 1
FAINT = 0.05  # from the lowest to the highest value; pixels that are scaled twice have 0.004


@rule(
    "error",
    why="One NaN among the inputs turns all weights into NaN.",
    fix="Remove the rows, or fill in the missing values.",
)
def missing_values(graph: Graph, task: Task) -> Found:
    """Inputs are NaN or infinite. Needs `x`. If something in the model looks for them, or its first layer is not
    Keras' own, they are left alone.
    """
    if any(type(call.layer).__name__ in FILLING for call in graph.calls) or not is_of_keras(graph.calls[0].layer):
        return
    for name, values in task.inputs.items():
        bad = int(np.count_nonzero(~np.isfinite(values))) if values.dtype.kind == "f" else 0
        if bad:
            yield name, f"{bad:,} of {values.size:,} values are NaN or infinite"


@rule(
    "error",
    why="An id beyond the table stops training on a CPU and reads zeros on a GPU; a fraction is cut off.",
    fix="Set input_dim to the highest id plus one, and give the embedding whole numbers that nothing has scaled.",
)
def embedding_ids(graph: Graph, task: Task) -> Found:
    """An Embedding gets ids of its input_dim or more, below zero, or that are not whole numbers; or the vocabulary of
    the lookup or hashing before it is larger. CategoryEncoding gets ids of its num_tokens or more, keras.ops.one_hot
    of its num_classes.
    """
    for call in graph.calls:
        is_table = isinstance(call.layer, layers.Embedding)
        size = _ids_known(call.layer)
        if size is None:
            continue
        above = call.before[0].layer if call.before else None
        vocabulary = _vocabulary(above)
        if vocabulary > size:
            yield call.name, f"a table of {size:,} for the {vocabulary:,} ids of {call.before[0].name}"
        elif id(call.layer) in task.ids or not is_table or above is None or isinstance(above, PREPARING):
            low, high, is_whole = _ids(call, task)
            if high >= size or (low < 0 and is_table):
                yield call.name, f"ids from {low:g} to {high:g} for a table of {size:,}"
            elif not is_whole and is_table:
                yield call.name, f"ids that are not whole, from {low:.3g} to {high:.3g}"


@rule(
    "warning",
    why="An Embedding looks up the numbers of words. Zeros and ones that mark which words occur read two of its rows.",
    fix="Give it the numbers of the words, in order; for a row of marks use a Dense layer.",
)
def marks_as_ids(graph: Graph, task: Task) -> Found:
    """An Embedding of 100 ids or more gets nothing but 0 and 1 in at least 32 rows of 16. Needs `x`."""
    for call in graph.calls:
        if not isinstance(call.layer, layers.Embedding) or call.layer.input_dim < IDS:
            continue
        for values in task.ids.get(id(call.layer), []):
            if values.ndim == 2 and len(values) >= MANY and values.shape[1] >= WIDE and np.isin(values, (0, 1)).all():
                marks = f"only 0 and 1 in {len(values):,} rows of {values.shape[1]:,}"
                yield call.name, f"{marks}, for {call.layer.input_dim:,} ids"


@rule(
    "warning",
    why="What was added to make all sequences equally long is read as if it were data.",
    fix="Set mask_value to the value that fills the sequences, and put Masking before anything that scales it.",
)
def idle_masking(graph: Graph, task: Task) -> Found:
    """Masking masks no step, although at least half of the sequences end, or begin, with two equal steps that others
    have too. Needs `x`.
    """
    for call in graph.calls if task.inputs else ():
        if not isinstance(call.layer, layers.Masking) or len(call.inputs[0].shape) != 3 or call.inputs[0].shape[1] < 4:
            continue
        values = call.inputs[0].tensor.numpy()
        if (values == call.layer.mask_value).all(axis=-1).any():
            continue
        for end, beside in ((-1, -2), (0, 1)):
            rows = values[(values[:, end] == values[:, beside]).all(axis=-1), end]
            if len(rows) > 1 and 2 * len(rows) >= len(values) and (rows == rows[0]).all():
                where = "end" if end else "begin"
                yield call.name, f"masks {call.layer.mask_value:g}, but the sequences {where} with {rows[0][0]:.3g}"
                break


@rule(
    "warning",
    why="With mask_zero=True, the id 0 is padding, not an item: layers that use the mask skip it.",
    fix="Number the items from 1 and add one to input_dim, or leave out mask_zero.",
)
def masked_items(graph: Graph, task: Task) -> Found:
    """An Embedding with mask_zero gets 0 between other ids in over half of at least 32 rows. Needs `x`."""
    for call in graph.calls:
        if not isinstance(call.layer, layers.Embedding) or not call.layer.mask_zero:
            continue
        for ids in task.ids.get(id(call.layer), []):
            if ids.ndim != 2 or len(ids) < MANY:
                continue
            before, after = np.maximum.accumulate(ids != 0, axis=1), np.maximum.accumulate((ids != 0)[:, ::-1], axis=1)
            share = ((ids == 0) & before & after[:, ::-1]).any(axis=1).mean()
            if share > 0.5:
                yield call.name, f"0 stands between other ids in {share:.0%} of the rows"


@rule(
    "warning",
    why="All values become the same one, the unknown word: nothing of the input is left.",
    fix="Adapt the lookup to the data as it goes in, or give it the vocabulary in that form.",
)
def unknown_words(graph: Graph, task: Task) -> Found:
    """A lookup finds none of the values of about a thousand rows in its vocabulary. Needs `x`."""
    for call in graph.calls if task.inputs else ():
        layer = call.layer
        if not isinstance(layer, LOOKUPS) or getattr(layer, "invert", False):
            continue
        given = task.ids.get(id(layer)) or [call.inputs[0].tensor.numpy()]
        rows = [one[:: 1 + len(one) // ENOUGH] for one in given]
        if all((one != one[:1]).any() and _finds_none(layer, one) for one in rows):
            yield call.name, f"no value is among the {layer.vocabulary_size():,} of the vocabulary"


@rule(
    "warning",
    why="Inputs that hardly differ drown in the biases, and gradients are as small as they are. Pixels divided by 255 "
    "twice look like this.",
    fix="Scale the inputs once, in the data or in the model.",
)
def faint_input(graph: Graph, task: Task) -> Found:
    """All values that reach a first layer with weights lie within 0.05 of each other, and no normalization follows it;
    or all rows, at least 32, are equal. Needs `x`.
    """
    for name, values in task.inputs.items():
        if len(task.inputs) == 1 and len(values) >= MANY and (values == values[:1]).all():
            yield name, f"all {len(values):,} rows are equal"
    for call in graph.calls:
        if not task.inputs or not is_first(call) or is_normalized(call) or not comes_from_data(call):
            continue
        signal = call.inputs[0]
        if signal.high - signal.low < FAINT and math.prod(signal.shape) > len(signal.shape):
            yield call.name, f"inputs from {signal.low:.3g} to {signal.high:.3g}"


@rule(
    "warning",
    why="The layer adds or clips values of the size of its range: what it gets is lost in that.",
    fix="Set value_range to that of the images, as in value_range=(0, 1), or put the layer before the Rescaling.",
)
def value_range(graph: Graph, task: Task) -> Found:
    """Augmentation with a value_range up to 100 or more gets values of at most 1.5. Needs `x`."""
    for call in graph.calls if task.inputs else ():
        given = getattr(call.layer, "value_range", None) if is_of_keras(call.layer) else None
        top = max(given or (0,))
        if top >= PIXELS and call.inputs[0].high <= UNIT:
            yield call.name, f"a range up to {top:g} for inputs up to {call.inputs[0].high:.3g}"


@rule(
    "error",
    why="The answer is in the input: the loss falls to zero, and the model predicts nothing it was not given.",
    fix="Use use_causal_mask=True in attention, padding='causal' in convolutions, and no Bidirectional.",
)
def sees_next_step(graph: Graph, task: Task) -> Found:
    """The labels are an input shifted by one step, and an output changes with the input of the next step. Needs `x`
    and `y`. Frames of a video are left alone.
    """
    for head in task.heads:
        is_of_steps = head.loss.is_sparse or head.loss.is_regression
        if head.labels is None or not is_of_steps or _keeps_state(graph):
            continue
        for name, values in task.inputs.items():
            is_shifted = values.dtype.kind in "iuf" and _is_shifted(values, head.labels)
            if is_shifted and _effect(task, graph, head, name, -1)[:, :-1].max() > CHANGED:
                yield head.call.name, f"the last step of {name} changes the outputs of the steps before"


@rule(
    "warning",
    why="The output for a row depends on the rows it comes with: it changes with the size and order of the batch.",
    fix="Name the axes: axis=-1 for softmax, norms and means. Keep the first axis, the batch, in place.",
)
def mixed_rows(graph: Graph, task: Task) -> Found:
    """At inference, the first row has another output in a batch of two than in a larger one. Left alone are models that
    draw random numbers, keep a state, or take words, batches of one size or a matrix of all rows by all rows; outputs
    without an axis of rows; and layers whose name says that they compare the rows of a batch (minibatch).
    """
    inputs = getattr(task.model, "inputs", None) or []
    is_named = any("minibatch" in type(call.layer).__name__.lower() for call in graph.calls)
    is_square = any(values.ndim > 1 and len(values) == values.shape[1] for values in task.inputs.values())
    if not inputs or is_named or is_square or _keeps_state(graph):
        return
    if any(not one.shape or one.shape[0] or one.dtype == "string" for one in inputs):
        return
    limit = MIXED_16 if any("16" in str(getattr(one.layer, "compute_dtype", "")) for one in graph.calls) else MIXED
    batch = noise.given(task.model, task.x) if task.x is not None else noise.make(task.model)
    try:
        # Two, not one: Keras 3.15 takes x of shape (1, 6, 1) for a bias when it adds its transpose.
        with restored(task.model.non_trainable_variables):
            results = [_results(task.model, rows) for rows in (batch, batch, [values[:2] for values in batch])]
    except Exception:  # ids that an embedding does not have, for example: another rule names them
        return
    for output, many, again, two in zip(graph.outputs, *results, strict=False):
        is_random = not np.array_equal(many, again)
        if is_random or len(many) != len(batch[0]) or many[:2].shape != two.shape or two.dtype.kind != "f":
            continue
        share = float(np.abs(many[0] - two[0]).max(initial=0) / max(np.abs(two[0]).max(initial=0), TINY))
        if share > limit and np.isfinite(share):
            yield output.name, f"the first row gives another output among 2 rows than among {len(many)}, by {share:.0%}"


@rule(
    "note",
    why="Attention compares steps by their content alone: without positions it sees a bag of words.",
    fix="Add an embedding of the positions to that of the tokens.",
)
def order_blind(graph: Graph, task: Task) -> Found:
    """Self-attention over an Embedding of tokens, then pooling over all of them, with nothing between that knows of
    their order: only attention, Dense layers, normalization, dropout, activations and sums.
    """
    for call in graph.calls:
        if not isinstance(call.layer, layers.Embedding) or call.before:
            continue
        after = all_after(call)
        attention = [one for one in after if isinstance(one.layer, layers.MultiHeadAttention)]
        pools = [one for one in after if isinstance(one.layer, POOLING)]
        behind = {id(one) for pool in pools for one in (pool, *all_after(pool))}
        if attention and pools and all(id(one) in behind or _is_blind(one) for one in after):
            yield attention[-1].name, f"no positions between {call.name} and {pools[0].name}"
            return


@rule(
    "warning",
    why="The answer is in the input: the score says nothing about data where it is not.",
    fix="Remove the column from x.",
)
def label_among_inputs(graph: Graph, task: Task) -> Found:
    """The labels are equal to one column of an input that has more, to that column times a factor plus a constant, or
    to one step of a sequence. Or they are an input sequence itself, perhaps one step late, and each output sees the
    step that is its label and none after it. Left alone are autoencoders, whose labels are their input, and labels with
    fewer than eight rows of the rarer class, which a column may equal by chance. Needs `x` and `y`.
    """
    for head in task.heads:
        for name, values in task.inputs.items():
            shift = _shift(values, head.labels) if head.labels is not None and head.loss else None
            if shift is None or len(values) < ROWS or (shift == 0 and head.loss.is_regression):
                continue
            if _is_copied(task, graph, head, name, shift):
                yield name, f"the labels of {head.call.name} are this input{', one step late' * shift}"
        labels = None if head.labels is None else head.labels.squeeze()
        if labels is None or labels.ndim != 1 or len(labels) < MANY or not np.ptp(labels):
            continue
        for name, values in task.inputs.items():
            if values.ndim not in (2, 3) or len(values) != len(labels) or values.dtype.kind not in "iuf":
                continue
            few = slice(0, ENOUGH)  # of a large array, before all of it is compared
            same = (values[few] == labels[few].reshape(-1, *[1] * (values.ndim - 1))).all(axis=0)
            columns = [at for at in np.argwhere(same) if (values[:, *at] == labels).all()]
            counts = np.unique(labels, return_counts=True)[1]
            if len(columns) == 1 and values[0].size > 1 and (len(counts) > 2 or counts.min() >= ROWS):
                place = ", ".join(map(str, columns[0]))
                yield name, f"column {place} is the label of {head.call.name}"
            elif not columns and values.ndim == 2 and values.shape[1] > 1:
                for at in np.flatnonzero(_correlations(values, labels) > 1 - SCALED):
                    yield name, f"column {at} is the label of {head.call.name} in another unit"


def _correlations(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how closely each column follows the labels, from 0 to 1, in up to ENOUGH rows."""
    some = slice(None, None, 1 + len(values) // ENOUGH)
    values, labels = values[some], labels[some]
    columns, own = values - values.mean(axis=0, dtype="float64"), labels - labels.mean(dtype="float64")
    sizes = np.linalg.norm(columns, axis=0) * np.linalg.norm(own)
    return np.abs(own @ columns) / np.maximum(sizes, TINY)


def _shift(values: np.ndarray, labels: np.ndarray) -> int | None:
    """Say by how many steps, 0 or 1, labels are the input of earlier ones; None if they are not."""
    if values.shape != labels.shape or values.ndim not in (2, 3):
        return None
    moves = values[:, 1:] != values[:, :-1]
    if not moves.any():
        return None
    if np.array_equal(values, labels):
        return 0
    return 1 if (labels[:, 1:] == values[:, :-1])[moves].mean() > SHIFTED else None


def _is_copied(task: Task, graph: Graph, head: Head, name: str, shift: int) -> bool:
    """Check whether each output of a sequence changes with the step of an input that is its label, not with later ones.

    Of those, outputs are compared up to the step itself.
    """
    values = task.inputs[name]
    at = values.shape[1] // 2
    if len(head.signal.shape) != 3 or head.signal.shape[1] != values.shape[1] or not at:
        return False
    moved = _effect(task, graph, head, name, at)
    moved = moved.reshape(*moved.shape[:2], -1).max(axis=(0, 2))
    return at + shift < len(moved) and bool(moved[at + shift] > CHANGED and moved[:at].max() < CHANGED)


def _effect(task: Task, graph: Graph, head: Head, name: str, at: int) -> np.ndarray:
    """Return by how much the outputs change if step `at` of an input does."""
    values = task.inputs[name]
    changed = values[:ROWS].copy()
    changed[:, at] = np.where(changed[:, at] == values.max(), values.max() - 1, changed[:, at] + 1)
    before, after = (_output(task, graph, head, one) for one in ({}, {name: changed}))
    return np.abs(before - after)


def _is_shifted(values: np.ndarray, labels: np.ndarray) -> bool:
    """Check whether labels are the values of the next step, by the steps that differ: padding is alike everywhere."""
    if values.shape != labels.shape or values.ndim not in (2, 3):
        return False
    moves = values[:, 1:] != values[:, :-1]
    return bool(moves.any() and (values[:, 1:] == labels[:, :-1])[moves].mean() > SHIFTED)


def _keeps_state(graph: Graph) -> bool:
    return any(getattr(call.layer, "stateful", False) for call in graph.calls)


def _is_blind(call: Call) -> bool:
    """Check whether a call treats all steps of a sequence alike and gets nothing but what other calls made."""
    kinds = (layers.MultiHeadAttention, layers.Dense, layers.Activation, *NORMS, *DROPOUTS)
    is_sum = isinstance(call.layer, ADDING) and len(call.inputs) > 1  # an operation takes constants as well
    return (is_sum or isinstance(call.layer, kinds)) and len(set(map(id, call.before))) == len(set(call.sources))


def _output(task: Task, graph: Graph, head: Head, changed: dict[str, np.ndarray]) -> np.ndarray:
    rows = [changed.get(name, values[:ROWS]) for name, values in task.inputs.items()]
    batch = rows if getattr(task.model, "inputs", None) else keras.tree.pack_sequence_as(task.x, rows)
    with restored(task.model.non_trainable_variables):  # random generators and states
        return _results(task.model, batch)[graph.results.index(head.signal)]


def _results(model: Any, batch: Any) -> list[np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = model(batch[0] if isinstance(batch, list) and len(batch) == 1 else batch, training=False)
    return [np.atleast_1d(np.asarray(result)) for result in keras.tree.flatten(results)]


def _vocabulary(layer: Any) -> int:
    if isinstance(layer, layers.Hashing):
        return int(layer.num_bins)
    if gives_ids(layer):
        return int(layer.vocabulary_size())
    return 0


def _finds_none(layer: Any, rows: np.ndarray) -> bool:
    """Check whether a lookup gives each of the rows what it gives for unknown values."""
    found = layer(keras.ops.convert_to_tensor(rows))
    first = int(getattr(layer, "num_oov_indices", 1))  # TextVectorization has one
    if gives_ids(layer):  # those of padding and of unknown words come before
        return not np.any(np.asarray(found) >= first + _has_padding(layer))
    return not isinstance(found, tf.SparseTensor) and not np.any(np.asarray(found)[..., first:])


def _has_padding(layer: Any) -> bool:
    return isinstance(layer, layers.TextVectorization) or layer.mask_token is not None


def _ids_known(layer: Any) -> int | None:
    """Return how many ids a layer or operation has a place for; None if it takes none."""
    names = {"Embedding": "input_dim", "CategoryEncoding": "num_tokens", "OneHot": "num_classes"}
    return getattr(layer, names.get(type(layer).__name__, ""), None) if is_of_keras(layer) else None


def _ids(call: Call, task: Task) -> tuple[float, float, bool]:
    """Return lowest, highest and whether all are whole: of all rows of `x` if it goes in, else of the batch."""
    given = [one for one in task.ids.get(id(call.layer), []) if one.size and one.dtype.kind in "iuf"]
    if not given:
        signal = call.inputs[0]
        return signal.low, signal.high, signal.is_whole
    is_whole = all((one == np.round(one)).all() for one in given)
    return float(min(one.min() for one in given)), float(max(one.max() for one in given)), is_whole
