"""What is wrong with what goes in: missing values, ids without an embedding, inputs that are scaled twice."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from reprocnn.audit.graph import Call, Graph
from reprocnn.audit.rules.base import Found, Task, rule
from reprocnn.audit.rules.common import AFFINE, DROPOUTS, NORMS, after_pooling, is_first
from reprocnn.backend import layers

LOOKUPS = (layers.StringLookup, layers.IntegerLookup, layers.TextVectorization)
PREPARING = (*LOOKUPS, layers.Hashing, layers.Discretization, *AFFINE, *DROPOUTS, *NORMS)
FILLING = ("NanToNum", "Isnan", "Isfinite", "Where", "Lambda")  # what may replace a NaN
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
    if any(type(call.layer).__name__ in FILLING for call in graph.calls) or not _is_of_keras(graph.calls[0].layer):
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
    the lookup or hashing before it is larger.
    """
    for call in graph.calls:
        if not isinstance(call.layer, layers.Embedding):
            continue
        size = call.layer.input_dim
        above = call.before[0].layer if call.before else None
        vocabulary = _vocabulary(above)
        if vocabulary > size:
            yield call.name, f"a table of {size:,} for the {vocabulary:,} ids of {call.before[0].name}"
        elif above is None or isinstance(above, PREPARING):
            for low, high, is_whole in _ids(call, task):
                if low < 0 or high >= size:
                    yield call.name, f"ids from {low:g} to {high:g} for a table of {size:,}"
                elif not is_whole:
                    yield call.name, f"ids that are not whole, from {low:.3g} to {high:.3g}"


@rule(
    "warning",
    why="Inputs that hardly differ drown in the biases, and gradients are as small as they are. Pixels divided by 255 "
    "twice look like this.",
    fix="Scale the inputs once, in the data or in the model.",
)
def faint_input(graph: Graph, task: Task) -> Found:
    """All values that reach a first layer with weights lie within 0.05 of each other, and no normalization follows it.
    Needs `x`.
    """
    for call in graph.calls:
        if not task.inputs or not is_first(call) or any(isinstance(one.layer, NORMS) for one in after_pooling(call)):
            continue
        signal = call.inputs[0]
        if signal.high - signal.low < FAINT and math.prod(signal.shape) > len(signal.shape):
            yield call.name, f"inputs from {signal.low:.3g} to {signal.high:.3g}"


def _is_of_keras(layer: Any) -> bool:
    return type(layer).__module__.startswith("keras.")


def _vocabulary(layer: Any) -> int:
    if isinstance(layer, layers.Hashing):
        return int(layer.num_bins)
    if isinstance(layer, LOOKUPS) and getattr(layer, "output_mode", "int") == "int":
        return int(layer.vocabulary_size())
    return 0


def _ids(call: Call, task: Task) -> Iterator[tuple[float, float, bool]]:
    """Yield lowest, highest and whether all are whole: of all rows of `x` if it goes in, else of the batch."""
    values = task.ids.get(id(call.layer))
    if values is not None and values.size and values.dtype.kind in "iuf":
        yield float(values.min()), float(values.max()), bool((values == np.round(values)).all())
    else:
        signal = call.inputs[0]
        yield signal.low, signal.high, signal.is_whole
