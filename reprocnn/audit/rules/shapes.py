"""What is wrong with how layers fit each other: strides, joins, axes, and sequences of one step."""

import math
from itertools import combinations

import numpy as np

from reprocnn.audit import noise
from reprocnn.audit.graph import Call, Graph, following, preceding
from reprocnn.audit.rules.base import Found, Task, rule
from reprocnn.audit.rules.common import (
    ADDING,
    CONCATENATING,
    CONVOLUTIONS,
    DEPTHWISE,
    DROPOUTS,
    MAX_POOLS,
    MEAN_POOLS,
    MERGES,
    NORMS,
    RECURRENT,
    TRANSPOSED,
    UPSAMPLING,
    activation,
    by_x,
    is_first,
    is_weighted,
    keeps_units,
    operations,
    units,
    variable,
)
from reprocnn.backend import layers

POOLS = (
    layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D,
    layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D,
)  # fmt: skip
REPEATED = (POOLS, (layers.BatchNormalization,), DROPOUTS)
FORMATTED = (*MAX_POOLS, *MEAN_POOLS, *CONVOLUTIONS, *TRANSPOSED)
MOVING = (layers.Permute, layers.Reshape, operations.Reshape, operations.Transpose, operations.Moveaxis)
WIDE = 4  # units, from which one unit is a bottleneck
CROPPED = 2  # pixels; one makes up for an odd size


@rule(
    "warning",
    why="Everything that the layers before have learned has to pass through a single number.",
    fix="Give the layer more units, or make it the output.",
)
def one_unit(graph: Graph, task: Task) -> Found:
    """A hidden layer of one unit or channel, with at least four before it, is all that the next layer sees. Gates and
    scores, which are multiplied with something, one channel that is flattened, and one-channel images (the output of a
    nested model, or of a tanh or sigmoid) are left alone. An embedding counts too.
    """
    for call in graph.calls:
        kinds = (layers.Dense, *CONVOLUTIONS, *TRANSPOSED, *RECURRENT)
        if not isinstance(call.layer, (*kinds, layers.Embedding)) or units(call) != 1:
            continue
        inputs = call.layer.input_dim if isinstance(call.layer, layers.Embedding) else call.inputs[0].shape[-1]
        if inputs < WIDE or (len(call.output.shape) == 4 and _is_image(call)):
            continue
        nexts = list(following(call, _passes))
        takes = [isinstance(one.layer, kinds) and one.inputs[0].shape[-1] == 1 for one in nexts]
        if call not in graph.outputs and takes and all(takes):
            yield (
                call.name,
                f"one unit between {inputs:,} and the {units(nexts[0]):,} of {nexts[0].name}",
            )


@rule(
    "warning",
    why="The steps are longer than what is looked at: the values between are never seen.",
    fix="Use a stride of at most the size of the kernel or pool.",
)
def stride_gaps(graph: Graph, task: Task) -> Found:
    """A stride is larger than the kernel or pool along an axis. One position with a stride of two, as in the shortcuts
    of residual networks, is left alone. For transposed convolutions, outputs between get no value.
    """
    for call in graph.calls:
        layer = call.layer
        if not isinstance(layer, CONVOLUTIONS + DEPTHWISE + TRANSPOSED + POOLS):
            continue
        size = layer.pool_size if isinstance(layer, POOLS) else layer.kernel_size
        if max(size) == 1 and max(layer.strides) <= 2:
            continue
        if any(step > length for step, length in zip(layer.strides, size, strict=True)):
            yield call.name, f"a stride of {by_x(layer.strides)} with a size of {by_x(size)}"


@rule(
    "warning",
    why="The same values twice carry nothing new: a sum is twice the tensor, a concatenation repeats every channel, a "
    "difference is zero. Usually one side was to be another tensor, such as the shortcut.",
    fix="Join two different tensors, or remove the layer.",
)
def joined_with_itself(graph: Graph, task: Task) -> Found:
    """Add, Concatenate, Average, Maximum, Minimum or Subtract, or the operation of that name, gets the same tensor
    twice. A product with itself is a square, and one channel may become three equal ones: both are left alone.
    Or Add gets two Dense layers without an activation, or two Embeddings, of one tensor: as much as one.
    """
    for call in graph.calls:
        is_grey = isinstance(call.layer, CONCATENATING) and all(one.shape[-1] == 1 for one in call.inputs)
        if isinstance(call.layer, MERGES) and len(set(call.sources)) < len(call.sources) and not is_grey:
            yield call.name, f"{type(call.layer).__name__} gets the same tensor twice"
        for one, other in combinations(call.before, 2) if isinstance(call.layer, ADDING) else ():
            is_same = one.sources == other.sources and type(one.layer) is type(other.layer)
            if is_same and isinstance(one.layer, layers.Dense | layers.Embedding) and not activation(one):
                yield call.name, f"the sum of {one.name} and {other.name}, both of the same tensor"


@rule(
    "warning",
    why="The two maps that are joined no longer show the same place: one is shifted by half of what was cut.",
    fix="Crop as much on each side, as padding='valid' does.",
)
def one_sided_crop(graph: Graph, task: Task) -> Found:
    """A crop takes two pixels or more from one end of two axes and none from the other, before a join. Causal
    convolutions crop one axis.
    """
    for call in graph.calls:
        if not isinstance(call.layer, layers.Cropping2D | layers.Cropping3D):
            continue
        sides = np.reshape(call.layer.cropping, (-1, 2))
        one_sided = (sides.max(axis=1) >= CROPPED) & (sides.min(axis=1) == 0)
        if one_sided.sum() > 1 and any(isinstance(one.layer, MERGES) for one in call.after):
            yield call.name, f"crops {by_x(map(tuple, sides.tolist()))}"


@rule(
    "warning",
    why="Maps are put below or beside each other instead of channel by channel, or images of a batch are mixed.",
    fix="Leave the axis at its default of -1, the channels.",
)
def concatenated_axis(graph: Graph, task: Task) -> Found:
    """Concatenate along the axis of the batch, or along height, width or time before a convolution over channels that
    are last. Sequences and boxes may be joined along their length if no convolution follows, and batches if they are
    split again.
    """
    for call in graph.calls:
        if not isinstance(call.layer, CONCATENATING) or len(call.inputs) < 2:
            continue
        rank = len(call.output.shape)
        axis = call.layer.axis % rank
        nexts = following(call, _passes)
        last = any(isinstance(one.layer, CONVOLUTIONS) and one.layer.data_format == "channels_last" for one in nexts)
        same = len({signal.shape for signal in call.inputs}) == 1
        is_left = axis == 0 and any(result.shape[:1] == call.output.shape[:1] for result in graph.results)
        if is_left or (0 < axis < rank - 1 and last and same and rank in (3, 4)):
            yield call.name, f"joins along axis {axis} of {rank}: {by_x(call.output.shape[1:])}"


@rule(
    "warning",
    why="A recurrent layer or attention relates the steps of a sequence. With one step there is nothing to relate, and "
    "the layer is a costly Dense.",
    fix="Put the steps on the second axis, (batch, steps, features), or use Dense.",
)
def one_step(graph: Graph, task: Task) -> Found:
    """A recurrent layer or self-attention gets sequences of one step. Layers that keep a state or are given one, as in
    decoders, are left alone.
    """
    for call in graph.calls:
        shape = call.inputs[0].shape if call.inputs else ()
        if len(shape) < 3 or shape[1] != 1:
            continue
        is_recurrent = isinstance(call.layer, RECURRENT) and len(call.inputs) == 1
        is_attention = isinstance(call.layer, layers.MultiHeadAttention) and len(set(call.sources[:2])) == 1
        if (is_recurrent and not getattr(call.layer, "stateful", False)) or is_attention:
            yield call.name, f"gets 1 step of {shape[-1]:,} features"


@rule(
    "warning",
    why="Nothing is learned between the two: the second undoes or repeats the first.",
    fix="Remove one of them, or put a layer with weights between.",
)
def repeated_layer(graph: Graph, task: Task) -> Found:
    """Pooling with strides above 1, batch norm or dropout directly follows another of its kind, or pooling follows
    upsampling.
    """
    for call in graph.calls:
        kind = next((kind for kind in REPEATED if isinstance(call.layer, kind)), ())
        for one in call.before:
            before = (*kind, *UPSAMPLING) if kind is POOLS else kind
            if kind and isinstance(one.layer, before) and len(one.after) == 1 and _acts(one) and _acts(call):
                yield call.name, f"{type(call.layer).__name__} directly after {one.name}"


@rule(
    "warning",
    why="The kernels slide over channels and rows, and take the columns for channels.",
    fix="Move the channels to the last axis, or set data_format='channels_first'.",
)
def channels_first(graph: Graph, task: Task) -> Found:
    """The first 2-D convolution has its channels last but gets inputs of 1 or 3 by N by N."""
    for call in graph.calls:
        shape = call.inputs[0].shape if call.inputs else ()
        is_last = isinstance(call.layer, layers.Conv2D) and call.layer.data_format == "channels_last"
        if is_last and is_first(call) and len(shape) == 4 and shape[1] in (1, 3) and shape[2] == shape[3] > WIDE:
            yield call.name, f"inputs of {by_x(shape[1:])} with channels last: a map of {by_x(shape[1:3])}"


@rule(
    "warning",
    why="It takes the rows for channels, and pools over columns and channels.",
    fix="Leave out data_format, or give every layer the same one.",
)
def mixed_formats(graph: Graph, task: Task) -> Found:
    """A pooling layer has another data_format than the convolution or pooling before it, and nothing moves the axes in
    between.
    """
    for call in graph.calls:
        if not isinstance(call.layer, (*MAX_POOLS, *MEAN_POOLS)):
            continue
        for one in preceding(call, lambda one: not isinstance(one.layer, (*FORMATTED, *MOVING))):
            if isinstance(one.layer, FORMATTED) and one.layer.data_format != call.layer.data_format:
                yield call.name, f"{call.layer.data_format} after {one.name}, {one.layer.data_format}"


@rule(
    "warning",
    why="Reshape keeps the order of the numbers: what were rows, columns and channels is mixed.",
    fix="Move axes with Permute; cut patches with a Conv2D whose strides are its kernel size.",
)
def reshaped_axes(graph: Graph, task: Task) -> Found:
    """Reshape gives a map or sequence the same sizes in another order, where sizes of 1 do not count. Or it gives a map
    the sizes of square patches, but each is then a run of pixels along the rows.
    """
    for call in graph.calls:
        if isinstance(call.layer, (layers.Reshape, operations.Reshape)):
            before, after = call.inputs[0].shape[1:], call.output.shape[1:]
            sizes = [[size for size in shape if size > 1] for shape in (before, after)]
            side = _patch(before, after)
            if sizes[0] != sizes[1] and sorted(sizes[0]) == sorted(sizes[1]):
                yield call.name, f"reshapes {by_x(before)} to {by_x(after)}"
            elif side:
                run = f"{side**2} pixels one after the other, not a patch of {side}x{side}"
                yield call.name, f"reshapes {by_x(before)} to {by_x(after)}: {after[-1]} values are {run}"


@rule(
    "warning",
    why="What goes into the model there has no effect on what comes out.",
    fix="Connect the input, or remove it.",
)
def unused_input(graph: Graph, task: Task) -> Found:
    """No layer reads an input of the model."""
    functional = getattr(task.model, "_functional", task.model)
    nodes = [node for depth in getattr(functional, "_nodes_by_depth", {}).values() for node in depth]
    read = {id(tensor) for node in nodes for tensor in node.input_tensors}
    inputs = getattr(task.model, "inputs", None) or []
    ends = {id(tensor) for tensor in getattr(task.model, "outputs", None) or []}
    for tensor in inputs if nodes else []:
        if id(tensor) not in read | ends:
            yield noise.name(tensor), f"no layer reads this input of shape {by_x(tensor.shape[1:])}"


@rule(
    "error",
    why="What is normalized over a single value is always zero: nothing of the input is left.",
    fix="Normalize over more values: other axes, fewer groups, or batch norm.",
)
def norm_of_one(graph: Graph, task: Task) -> Found:
    """A normalization gives the same for every image although its inputs differ, because it takes mean and variance of
    one value: layer norm of one unit, or a group or instance norm of a map of 1x1.
    """
    for call in graph.calls:
        if not isinstance(call.layer, NORMS) or isinstance(call.layer, layers.BatchNormalization):
            continue
        gamma = variable(call.layer, "gamma")
        signal = call.inputs[0]
        if (
            signal.spread > 0
            and call.output.spread <= 1e-6 * min(1, signal.spread)
            and (gamma is None or gamma.numpy().any())
        ):
            yield call.name, f"all outputs are {call.output.mean:.2g}, for inputs of {by_x(signal.shape[1:])}"


def _patch(before: tuple[int, ...], after: tuple[int, ...]) -> int:
    """Return the side of the patches into which a map of the shape `before` seems to be cut, 0 if into none."""
    if len(before) != 3 or len(after) not in (2, 3):
        return 0
    height, width, channels = before
    side = math.isqrt(after[-1] // channels)
    grid = (height // side, width // side) if side else ()
    is_cut = side > 1 and after[-1] == side**2 * channels and after[:-1] in (grid, (math.prod(grid),))
    return side if is_cut and side**2 != width else 0  # a row each


def _is_image(call: Call) -> bool:
    leaves = [one.name.rpartition("/")[0] != call.name.rpartition("/")[0] for one in call.after]
    return activation(call) in ("tanh", "sigmoid") or any(leaves)


def _acts(call: Call) -> bool:
    return max(getattr(call.layer, "strides", (2,))) > 1 and getattr(call.layer, "rate", 1) > 0


def _passes(call: Call) -> bool:
    return keeps_units(call) or isinstance(call.layer, NORMS) or _is_activation(call)


def _is_activation(call: Call) -> bool:
    return not is_weighted(call) and not isinstance(call.layer, RECURRENT) and activation(call) is not None
