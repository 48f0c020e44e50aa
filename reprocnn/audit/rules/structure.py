"""What is wrong with sizes: numbers of filters, kernels, and the share of one layer in all parameters."""

import math

from reprocnn.audit.graph import Call, Graph, preceding
from reprocnn.audit.rules.base import Found, Task, rule
from reprocnn.audit.rules.common import (
    CONVOLUTIONS,
    DEPTHWISE,
    DROPOUTS,
    TRANSPOSED,
    UPSAMPLING,
    all_after,
    all_before,
    by_x,
    is_first,
    is_weighted,
    kernel_area,
    units,
)
from reprocnn.backend import keras, layers

FILTERS_PER_INPUT = 10  # of the first convolution: 64 for the 9 inputs of a 3x3 on one channel are 7
LARGE_KERNEL, LARGE_FILTERS = 8, 32  # pixels: stems have 7; filters: AlexNet's 11x11 had 96
HEAVY_SHARE, HEAVY_PARAMETERS = 0.9, 100_000


@rule(
    "warning",
    why="A filter with so few inputs has only so many directions; the rest repeat them, at the largest map size.",
    fix="Start with 16 to 64 filters and add more where the map is smaller.",
)
def many_filters(graph: Graph, task: Task) -> Found:
    """A first 2-D convolution has over 10 times as many filters as a filter has inputs (kernel size times channels).
    Patches that do not overlap are left alone: filters are the width of their embedding.
    """
    for call in graph.calls:
        if not is_first(call) or not isinstance(call.layer, layers.Conv2D) or kernel_area(call) == 1:
            continue
        if call.layer.strides == call.layer.kernel_size:
            continue
        filters, inputs = call.layer.filters, math.prod(call.layer.kernel.shape[:-1])
        if filters > FILTERS_PER_INPUT * inputs:
            shape = f"{filters} filters of {inputs} inputs each ({_kernel(call)})"
            yield call.name, f"{shape}, {filters / inputs:.3g} times as many"


@rule(
    "error",
    why="Keras trains and saves what its layers know: weights made by add_weight, and layers that are attributes or go "
    "into a graph. This variable keeps its initial values.",
    fix="Make it with self.add_weight(...). Make layers in __init__, not in call(), and use none inside a Lambda.",
)
def unknown_weights(graph: Graph, task: Task) -> Found:
    """The model computes with a trainable TensorFlow variable that is not among its weights. Single numbers are left
    alone: a schedule may set them.
    """
    if graph.unknown:
        owners = (
            layer.name
            for call in graph.calls
            if isinstance(call.layer, keras.Layer)
            for layer in call.layer._flatten_layers()
            if any(value is one for value in vars(layer).values() for one in graph.unknown)
        )
        more = f" and {len(graph.unknown) - 1:,} more" if len(graph.unknown) > 1 else ""
        first = graph.unknown[0]
        yield (
            next(owners, getattr(first, "path", first.name)),
            f"a variable of shape {by_x(first.shape)}{more}, unknown to the model",
        )


@rule(
    "warning",
    why="Deeper features are combinations of earlier ones: there are more of them, and smaller maps leave room for "
    "them.",
    fix="Keep or double the number of filters where the map is halved.",
)
def fewer_filters(graph: Graph, task: Task) -> Found:
    """A convolution has at most half the filters of the one before it, and no later one is as wide again. Only kernels
    above 1x1 count, in an unbranched chain of a network that outputs vectors: bottlenecks, branches, decoders and heads
    may narrow, and so may convolutions over time.
    """
    if any(len(output.output.shape) > 2 for output in graph.outputs):
        return
    for call in graph.calls:
        if not _is_spatial(call) or isinstance(call.layer, layers.Conv1D):
            continue
        above = _single_before(call)
        if above is None or not _is_spatial(above) or above.layer.filters < 2 * call.layer.filters:
            continue
        later = [one for one in all_after(call) if is_weighted(one)]
        widths = [units(one) for one in later if isinstance(one.layer, CONVOLUTIONS)]
        if later and all(width < above.layer.filters for width in widths):
            yield call.name, f"{call.layer.filters} filters after the {above.layer.filters} of {above.name}"


@rule(
    "warning",
    why="A few large filters see only coarse patterns, at the cost of many small ones, which see as far when stacked.",
    fix="Use two or three layers of 3x3 with more filters.",
)
def large_kernel(graph: Graph, task: Task) -> Found:
    """A convolution has a kernel of 8x8 or more and fewer than 32 filters. Depthwise convolutions and outputs are left
    alone, and so is a stride of at least half the kernel's size, as for patches.
    """
    for call in graph.calls:
        layer = call.layer
        if not isinstance(layer, layers.Conv2D) or min(layer.kernel_size) < LARGE_KERNEL:
            continue
        is_output = any(call is head.call for head in task.heads)
        if layer.filters < LARGE_FILTERS and 2 * max(layer.strides) < min(layer.kernel_size) and not is_output:
            weights = math.prod(layer.kernel.shape)
            yield call.name, f"a {_kernel(call)} kernel with {layer.filters} filters, {weights:,} weights"


@rule(
    "warning",
    why="The kernel never lies within the map: it sees padding, and its outer weights never see a value.",
    fix="Use a smaller kernel, pool less before it, or give the network larger images.",
)
def kernel_over_map(graph: Graph, task: Task) -> Found:
    """A kernel is larger than the map it gets, which only padding makes possible, and some of its weights never see a
    value. This depends on the input size that the model is built for.
    """
    for call in graph.calls:
        if not isinstance(call.layer, CONVOLUTIONS + DEPTHWISE):
            continue
        kernel, dilation, strides = call.layer.kernel_size, call.layer.dilation_rate, call.layer.strides
        sizes = _map_size(call)
        seen = math.prod(_positions_seen(*axis) for axis in zip(kernel, sizes, strides, dilation, strict=True))
        if seen < math.prod(kernel):
            reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
            share = f"{seen} of its {math.prod(kernel)} positions ever see a value"
            yield call.name, f"a {by_x(reach)} kernel on a {by_x(sizes)} map; {share}"


@rule(
    "warning",
    why="Pixels are repeated and dropped again: the two cost time and do next to nothing.",
    fix="Leave out the upsampling, or set the stride to 1.",
)
def undone_upsampling(graph: Graph, task: Task) -> Found:
    """A convolution or pooling with a stride of the same size directly follows an upsampling."""
    for call in graph.calls:
        for after in call.after if isinstance(call.layer, UPSAMPLING) else ():
            sizes = (call.layer.size,) if isinstance(call.layer.size, int) else tuple(call.layer.size)
            is_same = tuple(getattr(after.layer, "strides", None) or ()) == sizes
            if is_same and max(sizes) > 1 and not isinstance(after.layer, TRANSPOSED):
                yield after.name, f"a stride of {by_x(sizes)} right after {call.name}"


@rule(
    "warning",
    why="Such a layer memorizes positions, overfits, and ties the network to one image size.",
    fix="Replace Flatten with one value per channel (GlobalAveragePooling2D), or convolve and pool further first.",
)
def heavy_dense(graph: Graph, task: Task) -> Found:
    """A Dense layer right after Flatten, with convolutions before it, holds over 90 % of all parameters and over
    100,000 of them.
    """
    total = sum(math.prod(weight.shape) for layer in graph.leaves.values() for weight in layer.weights)
    for call in graph.calls:
        if not isinstance(call.layer, layers.Dense) or not _flattens_maps(call):
            continue
        count = call.layer.count_params()
        if count > HEAVY_SHARE * total and count > HEAVY_PARAMETERS:
            inputs = call.inputs[0].shape[-1]
            size = f"{inputs:,} inputs to {call.layer.units:,} units"
            yield call.name, f"{size}: {count:,} of {total:,} parameters, {count / total:.1%}"


def _flattens_maps(call: Call) -> bool:
    above = preceding(call, lambda one: isinstance(one.layer, DROPOUTS))
    if not any(isinstance(one.layer, layers.Flatten) for one in above):
        return False
    return any(isinstance(one.layer, CONVOLUTIONS + DEPTHWISE) for one in all_before(call))


def _is_spatial(call: Call) -> bool:
    return isinstance(call.layer, CONVOLUTIONS) and min(call.layer.kernel_size) > 1 and call.layer.groups == 1


def _single_before(call: Call) -> Call | None:
    """Find the layer with weights before `call` on a path without branches, joins or upsampling."""
    while len(call.before) == 1 and len(call.before[0].after) == 1:
        call = call.before[0]
        if is_weighted(call):
            return call
        if isinstance(call.layer, UPSAMPLING):
            return None
    return None


def _map_size(call: Call) -> tuple[int, ...]:
    shape = call.inputs[0].shape
    return shape[1:-1] if call.layer.data_format == "channels_last" else shape[2:]


def _positions_seen(kernel: int, size: int, stride: int, dilation: int) -> int:
    """Count the positions of a kernel, along one axis with padding "same", that ever lie on the map."""
    steps = math.ceil(size / stride)
    before = max((steps - 1) * stride + (kernel - 1) * dilation + 1 - size, 0) // 2
    offsets = [position * dilation - before for position in range(kernel)]
    return sum(any(0 <= step * stride + offset < size for step in range(steps)) for offset in offsets)


def _kernel(call: Call) -> str:
    return by_x(call.layer.kernel.shape[:-1])
