"""The audit's rules, in the order of docs/audit.md, which is made of their own text."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers
from scipy.stats import ks_2samp

from stages.lib.graph import Call, Graph, back, onward

LEVELS = {
    "error": "cannot work, or nearly so",
    "warning": "probably a mistake",
    "note": "costs something and harms nothing",
}

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D, layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
WEIGHTED = (*CONVOLUTIONS, *DEPTHWISE, *TRANSPOSED, layers.Dense, layers.EinsumDense)
DROPOUTS = (
    layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D, layers.AlphaDropout,
)  # fmt: skip
MAX_POOLS = (
    layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D,
    layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D,
)  # fmt: skip
MEAN_POOLS = (
    layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D,
    layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D,
)  # fmt: skip
SHAPES = (
    layers.Flatten, layers.Reshape, layers.Permute, layers.Identity,
    layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D,
    layers.Cropping1D, layers.Cropping2D, layers.Cropping3D,
)  # fmt: skip
UPSAMPLING = (layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D)
AFFINE = (layers.BatchNormalization, layers.Rescaling, layers.Normalization)
# Activations that have a class of their own, as layers and as operations (keras.ops).
ACTIVATIONS = {
    "ReLU": "relu", "Relu": "relu", "Relu6": "relu", "LeakyReLU": "leaky_relu", "LeakyRelu": "leaky_relu",
    "PReLU": "prelu", "ELU": "elu", "Elu": "elu", "Gelu": "gelu", "Silu": "silu", "Tanh": "tanh",
    "Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "log_softmax",
}  # fmt: skip

KERNEL_TIMES = 10  # first filters to inputs of a filter: 64 for 3x3 of one channel is 7
LARGE_KERNEL, LARGE_FILTERS = 8, 32  # pixels: stems have 7; filters: AlexNet's 11x11 had 96
UNSCALED = 10.0  # root mean square: pixels have over 100, normalized values about 1
DRIFT, BREAK = 1e3, 1e6  # times the signal at the first layer with weights
HEAVY_SHARE, HEAVY_PARAMETERS = 0.9, 100_000
KINDS = 8
SAME = 1e-4  # gradients as alike as this differ by rounding alone
VALUES = 10_000  # of a kernel, enough to tell
CHANCE = 1e-3  # a kernel as unlike a fresh draw as this was trained or set

Found = Iterator[tuple[str, str]]  # layer, message


@dataclass(frozen=True)
class Loss:
    kind: str  # as Keras' functions are called: categorical_crossentropy
    from_logits: bool


@dataclass(frozen=True)
class Task:
    """What the model is for, as far as it is known."""

    loss: Loss | None
    num_classes: int | None
    one_hot: bool | None  # the labels are rows, not class numbers
    last_label: int | None  # the highest class number among the labels


@dataclass(frozen=True)
class Finding:
    code: str
    level: str
    layer: str
    message: str
    why: str
    mend: str


@dataclass(frozen=True)
class Rule:
    code: str
    level: str
    what: str
    why: str
    mend: str
    find: Callable[[Graph, Task], Found]


RULES: list[Rule] = []


def rule(level: str, *, why: str, mend: str) -> Callable[[Callable[[Graph, Task], Found]], Any]:
    """Makes a rule of a function: its name is the code, its docstring what it finds and what it leaves alone."""

    def add(find: Callable[[Graph, Task], Found]) -> Callable[[Graph, Task], Found]:
        what = " ".join(str(find.__doc__).split())
        RULES.append(Rule(find.__name__.replace("_", "-"), level, what, why, mend, find))
        return find

    return add


# What is wrong at the start -----------------------------------------------------------------------------------------


@rule(
    "error",
    why="Filters that start equal and get equal gradients stay equal: the layer computes one feature, many times over.",
    mend="Use a random initializer: he_normal before ReLU, glorot_uniform (the default) otherwise.",
)
def symmetry(graph: Graph, task: Task) -> Found:
    """At least half of a layer's units have the same weights and got the same gradient, whatever initializer or value
    did it; zero gradients count. A layer that starts at zero and gets different gradients is left alone: that is how
    the last layer of a residual branch, or of a network, may start.
    """
    for name, _, kernel, units, same in _equal_units(graph):
        if 2 * same >= units:
            about = f"all {_value(kernel)}" if np.ptp(kernel.value.numpy()) == 0 else "by groups"
            slope = "no gradient" if not np.any(_slope(graph, kernel)) else "equal gradients"
            yield name, f"{same:,} of {units:,} units start equal ({about}) and get {slope}"


@rule(
    "warning",
    why="All units compute the same at first, and only the next layer's random weights pull them apart, slowly.",
    mend="Use a random initializer: he_normal before ReLU, glorot_uniform (the default) otherwise.",
)
def constant_start(graph: Graph, task: Task) -> Found:
    """All weights of a layer's kernel have one value, though the gradients differ. Zeros are left alone in an output
    and where something is added to what comes of them or multiplied with it, as in a residual branch.
    """
    calls = {call.name: call for call in graph.calls}
    for name, _, kernel, units, same in _equal_units(graph):
        values = kernel.value.numpy()
        if 2 * same < units and np.ptp(values) == 0 and (np.any(values) or _feeds_weights(calls.get(name))):
            yield name, f"all {values.size:,} weights start as {_value(kernel)}"


@rule(
    "error",
    why="Without a gradient a layer keeps its first weights for ever, and passes on less than it could.",
    mend="Look at what lies behind it: units that are never active, an operation without a gradient, a factor of zero.",
)
def no_gradient(graph: Graph, task: Task) -> Found:
    """No gradient arrives at any weight of a trainable layer, even after some small steps of the others (so that a
    layer that starts at zero on purpose does not count). Symmetric layers are listed there.
    """
    symmetric = {name for name, *_, units, same in _equal_units(graph) if 2 * same >= units}
    for name, layer in graph.leaves.items():
        slopes = [graph.gradients.get(id(weight)) for weight in layer.trainable_weights]
        if slopes and name not in symmetric and not any(slope is not None and np.any(slope) for slope in slopes):
            way = "there is no way back from the outputs" if all(slope is None for slope in slopes) else "all are zero"
            weights = sum(math.prod(weight.shape) for weight in layer.trainable_weights)
            yield name, f"no gradient for its {weights:,} weights: {way}"


@rule(
    "error",
    why="So small a signal is lost beside the biases and in rounding, so large a one overflows; neither trains.",
    mend="Match the initial scale to the layer's inputs (he_normal before ReLU), or normalize between the layers.",
)
def broken_signal(graph: Graph, task: Task) -> Found:
    """On the way from the first layer with weights to an input of another one, what differs between images has become
    a million times smaller, or the values a million times larger, or no numbers. The batch is measured as it trains:
    batch norm with its own statistics. Only the first place is told.
    """
    yield from _drift(graph, BREAK, math.inf)


@rule(
    "warning",
    why="Layers get gradients of very different size, so no one learning rate suits them.",
    mend="Match the initial scale to the layer's inputs (he_normal before ReLU), or normalize between the layers.",
)
def drifting_signal(graph: Graph, task: Task) -> Found:
    """As broken-signal, a thousand times instead of a million. Outputs are left alone, and so are branches that start
    small and are added to the rest.
    """
    yield from _drift(graph, DRIFT, BREAK)


@rule(
    "warning",
    why="Gradients grow with the inputs: the first layer's are far larger than the others', and training stalls or "
    "diverges.",
    mend="Put a Rescaling(1 / 255, offset=-0.5) or an adapted Normalization layer in front.",
)
def unscaled_input(graph: Graph, task: Task) -> Found:
    """Values of a root mean square above 10 arrive at a first layer with weights, as raw pixels do. Where a batch norm
    follows that layer, at most with pooling between, the scale does not matter. Without a batch of yours, pixels are
    taken for what an integer input gets, and small numbers for what a float one does.
    """
    for call in graph.calls:
        if _is_first(call) and not any(isinstance(one.layer, layers.BatchNormalization) for one in _pooled(call)):
            signal = call.inputs[0]
            if signal.rms > UNSCALED:
                yield call.name, f"inputs of mean {signal.mean:.3g} and root mean square {signal.rms:.3g}, not about 1"


@rule(
    "warning",
    why="Random weights that never change are a random projection; later layers have to make do with it.",
    mend="Set trainable = True, or load the trained weights that it was frozen for.",
)
def frozen_random(graph: Graph, task: Task) -> Found:
    """Layers are frozen with a kernel that looks like a fresh draw of their own initializer (Kolmogorov-Smirnov test),
    so were never trained. Frozen values that were trained or set, as of a whitening layer, are left alone.
    """
    frozen = [name for name, layer in graph.leaves.items() if any(map(_is_fresh, _frozen(layer)))]
    if frozen:
        who = f"this and {len(frozen) - 1:,} more layers" if len(frozen) > 1 else "this layer"
        weights = sum(math.prod(kernel.shape) for name in frozen for kernel, _ in _frozen(graph.leaves[name]))
        yield frozen[0], f"{who}: {weights:,} frozen weights as random as at the start"


# Sizes and kernels --------------------------------------------------------------------------------------------------


@rule(
    "warning",
    why="A filter of so few inputs has only so many directions; the rest repeat them, at the largest size of the map.",
    mend="Start with 16 to 64 filters and add more where the map is smaller.",
)
def many_filters(graph: Graph, task: Task) -> Found:
    """A first 2-D convolution has over 10 times as many filters as a filter has inputs (kernel size times channels)."""
    for call in graph.calls:
        if _is_first(call) and isinstance(call.layer, layers.Conv2D) and _kernel_area(call) > 1:
            inputs = math.prod(call.layer.kernel.shape[:-1])
            if call.layer.filters > KERNEL_TIMES * inputs:
                times = call.layer.filters / inputs
                message = f"{call.layer.filters} filters on {inputs} inputs each ({_kernel(call)}), {times:.3g} times"
                yield call.name, message


@rule(
    "warning",
    why="Deeper features are combinations of earlier ones: there are more of them, and the map has room for them.",
    mend="Keep or double the number of filters where the map is halved.",
)
def fewer_filters(graph: Graph, task: Task) -> Found:
    """A convolution has at most half the filters of the one before it, and no later one is as wide again. Only for
    kernels above 1x1 in an unbranched chain of a network that gives vectors: bottlenecks, branches, decoders and heads
    may narrow.
    """
    if any(len(output.output.shape) > 2 for output in graph.outputs):
        return
    for call in graph.calls:
        if not _is_spatial(call):
            continue
        above = _single_before(call)
        if above is None or not _is_spatial(above) or above.layer.filters < 2 * call.layer.filters:
            continue
        later = [one for one in _all_after(call) if _is_weighted(one)]
        widths = [one.output.shape[-1] for one in later if isinstance(one.layer, CONVOLUTIONS)]
        if later and all(width < above.layer.filters for width in widths):
            yield call.name, f"{call.layer.filters} filters after the {above.layer.filters} of {above.name}"


@rule(
    "warning",
    why="A few large filters see coarse patterns only, at the cost of many small ones, which stacked see as far.",
    mend="Use two or three layers of 3x3 with more filters.",
)
def large_kernel(graph: Graph, task: Task) -> Found:
    """A convolution has a kernel of 8x8 or more and fewer than 32 filters. Depthwise ones and those whose stride is
    the kernel's size (patches) are left alone.
    """
    for call in graph.calls:
        layer = call.layer
        if not isinstance(layer, layers.Conv2D) or min(layer.kernel_size) < LARGE_KERNEL:
            continue
        if layer.filters < LARGE_FILTERS and max(layer.strides) < min(layer.kernel_size):
            weights = math.prod(layer.kernel.shape)
            yield call.name, f"a {_kernel(call)} kernel with {layer.filters} filters, {weights:,} weights"


@rule(
    "warning",
    why="The kernel never lies within the map: it sees padding, and its outer weights may never meet a value.",
    mend="Use a smaller kernel, pool less before it, or give the network larger images.",
)
def kernel_over_map(graph: Graph, task: Task) -> Found:
    """A kernel is larger than the map it gets, which only padding makes possible. That hangs on the size of the input
    that the model is built for.
    """
    for call in graph.calls:
        if isinstance(call.layer, CONVOLUTIONS + DEPTHWISE):
            kernel = [(k - 1) * d + 1 for k, d in zip(call.layer.kernel_size, call.layer.dilation_rate, strict=True)]
            sizes = _map_size(call)
            if any(k > size for k, size in zip(kernel, sizes, strict=True)):
                met = [
                    _met(*one)
                    for one in zip(
                        call.layer.kernel_size, sizes, call.layer.strides, call.layer.dilation_rate, strict=True
                    )
                ]
                share = f"{math.prod(met)} of its {math.prod(call.layer.kernel_size)} places ever meet a value"
                yield call.name, f"a {_x(kernel)} kernel on a {_x(sizes)} map; {share}"


@rule(
    "warning",
    why="Such a layer learns places by heart, overfits, and ties the network to one image size.",
    mend="Pool to one value a channel (GlobalAveragePooling2D) instead of Flatten, or convolve and pool further first.",
)
def heavy_dense(graph: Graph, task: Task) -> Found:
    """A Dense layer right after Flatten, with convolutions before it, holds over 90 % of all parameters and over
    100,000 of them.
    """
    total = sum(math.prod(weight.shape) for layer in graph.leaves.values() for weight in layer.weights)
    for call in graph.calls:
        if isinstance(call.layer, layers.Dense):
            above = list(back(call, lambda one: isinstance(one.layer, DROPOUTS)))
            count = call.layer.count_params()
            if (
                any(isinstance(one.layer, layers.Flatten) for one in above)
                and any(isinstance(one.layer, CONVOLUTIONS + DEPTHWISE) for one in _all_before(call))
                and count > HEAVY_SHARE * total
                and count > HEAVY_PARAMETERS
            ):
                inputs = call.inputs[0].shape[-1]
                message = f"{inputs:,} inputs to {call.layer.units:,} units: {count:,} of {total:,} parameters"
                yield call.name, f"{message}, {count / total:.1%}"


# Order of layers ----------------------------------------------------------------------------------------------------


@rule(
    "warning",
    why="Softmax makes its units compete for a sum of 1: a few fire, the rest of the layer says next to nothing.",
    mend="Use relu between layers, and softmax for the output alone.",
)
def hidden_softmax(graph: Graph, task: Task) -> Found:
    """The output of a softmax goes into another layer with weights. A softmax that weighs something else, as attention
    does, is multiplied with it and left alone.
    """
    for call in graph.calls:
        if _activation(call) == "softmax":
            nexts = [one for one in onward(call, _keeps_units) if _is_weighted(one)]
            if nexts:
                units, mean = call.output.shape[-1], 1 / call.output.shape[-1]
                yield call.name, f"a softmax of {units:,} units, {mean:.2g} each on average, goes into {nexts[0].name}"


@rule(
    "warning",
    why="Two linear maps in a row are one linear map: the second layer adds parameters and nothing else.",
    mend="Put an activation between them, or leave one out.",
)
def linear_pair(graph: Graph, task: Task) -> Found:
    """Between two layers with weights there is nothing but dropout, reshaping, mean pooling or batch norm. A narrower
    middle (a factorization, a linear bottleneck), depthwise with pointwise, 1xn with nx1, and outputs that are also
    used elsewhere are left alone.
    """
    for call in graph.calls:
        path = [call]
        while len(path[-1].after) == 1 and (path[-1] is call or _is_linear(path[-1])):
            path.append(path[-1].after[0])
        after = path[-1]
        if not (_is_plain(call) and _activation(call) is None and after is not call and _is_plain(after)):
            continue
        inputs, middle, outputs = call.inputs[0].shape[-1], _units(call), _units(after)
        pointwise = _kernel_area(call) == _kernel_area(after) == 1 and isinstance(call.layer, CONVOLUTIONS)
        narrow = middle < min(inputs, outputs) or (pointwise and middle < outputs)
        if not narrow and not _are_crossed(call, after):
            yield after.name, f"linear after the linear {call.name}: {inputs:,} to {middle:,} to {outputs:,} units"


@rule(
    "note",
    why="Batch norm subtracts the mean, and the bias with it; its own beta does what the bias would.",
    mend="Set use_bias=False.",
)
def bias_before_norm(graph: Graph, task: Task) -> Found:
    """A layer with a bias and no activation is followed by batch norm, at most with pooling between."""
    for call in graph.calls:
        if _is_weighted(call) and getattr(call.layer, "bias", None) is not None:
            nexts = _pooled(call)
            if _activation(call) is None and nexts and all(map(_normalizes_units, nexts)):
                yield call.name, f"{math.prod(call.layer.bias.shape):,} biases that {nexts[0].name} takes away again"


@rule(
    "warning",
    why="Dropout changes the variance in training and not afterwards; batch norm has learned the wrong one (Li et al., "
    "arXiv 1801.05134).",
    mend="Put dropout after the last batch norm.",
)
def dropout_before_norm(graph: Graph, task: Task) -> Found:
    """Dropout is followed by batch norm, at most with reshaping between."""
    for call in graph.calls:
        if isinstance(call.layer, DROPOUTS) and call.layer.rate > 0:
            for one in onward(call, lambda one: isinstance(one.layer, SHAPES)):
                if isinstance(one.layer, layers.BatchNormalization):
                    yield call.name, f"dropout of {call.layer.rate:g} before {one.name}"


# Outputs, loss and labels -------------------------------------------------------------------------------------------


@rule(
    "error",
    why="Some classes get probability 0 at random: the sum is no longer 1, and cross-entropy's logarithm goes to minus "
    "infinity.",
    mend="Put dropout before the last layer with weights.",
)
def dropout_on_output(graph: Graph, task: Task) -> Found:
    """Dropout follows the softmax or sigmoid of an output."""
    for call in graph.calls:
        if isinstance(call.layer, DROPOUTS) and call.layer.rate > 0 and not list(onward(call, _keeps_units)):
            for one in back(call, _keeps_units):
                if _activation(one) in ("softmax", "sigmoid"):
                    yield call.name, f"dropout of {call.layer.rate:g} after the {_activation(one)} of {one.name}"


@rule(
    "warning",
    why="The outputs need not sum to 1. Keras on TensorFlow trains the logits behind them as softmax would, so what "
    "comes out is not what was trained; if dropout or another layer follows, or elsewhere, it divides by the sum.",
    mend="Use softmax, or logits with from_logits=True.",
)
def sigmoid_output(graph: Graph, task: Task) -> Found:
    """Several sigmoid outputs meet a loss for classes that exclude each other. With binary cross-entropy, labels that
    do not, or no known loss, they are left alone.
    """
    if task.loss and "categorical" in task.loss.kind:
        for call, kind in _heads(graph):
            if kind == "sigmoid" and call.output.shape[-1] > 1:
                yield call.name, f"{call.output.shape[-1]} sigmoid outputs with {task.loss.kind}"


@rule(
    "error",
    why="Cross-entropy takes the logarithm of what it is given: without a softmax that is no probability, and "
    "negative values are clipped away.",
    mend="Set from_logits=True in the loss, or end in softmax (sigmoid for binary cross-entropy).",
)
def logits_as_probabilities(graph: Graph, task: Task) -> Found:
    """The output is linear, or has an activation that gives no probabilities, and the loss expects probabilities."""
    if task.loss and not task.loss.from_logits:
        for call, kind in _heads(graph):
            if kind not in ("softmax", "sigmoid", "unknown"):
                yield call.name, f"{kind} outputs with {task.loss.kind}(from_logits=False)"


@rule(
    "warning",
    why="Keras on TensorFlow takes the logits behind the activation and trains right; elsewhere, or if another layer "
    "follows, softmax is applied twice and gradients fade.",
    mend="Leave out from_logits=True, or the activation.",
)
def probabilities_as_logits(graph: Graph, task: Task) -> Found:
    """The output is softmax or sigmoid, and the loss expects logits."""
    if task.loss and task.loss.from_logits:
        for call, kind in _heads(graph):
            if kind in ("softmax", "sigmoid"):
                twice = "" if call in graph.outputs else f"; applied twice, as {graph.outputs[0].name} follows"
                yield call.name, f"{kind} outputs with {task.loss.kind}(from_logits=True){twice}"


@rule(
    "error",
    why="Probabilities of one class are always 1: the output says nothing, or has no gradient.",
    mend="Use sigmoid with binary_crossentropy, or one unit a class.",
)
def single_output(graph: Graph, task: Task) -> Found:
    """An output is a softmax of one unit, or one unit meets a loss that compares several classes."""
    for call, kind in _heads(graph):
        if _units(call) == 1 and kind == "softmax":
            yield call.name, "a softmax of 1 unit"
        elif _units(call) == 1 and kind != "unknown" and task.loss and "categorical" in task.loss.kind:
            yield call.name, f"1 output unit with {task.loss.kind}"


@rule(
    "error",
    why="The loss compares a row with a number: training stops at once, or compares what does not belong together.",
    mend="Use categorical_crossentropy for one-hot rows and sparse_categorical_crossentropy for class numbers.",
)
def labels_and_loss(graph: Graph, task: Task) -> Found:
    """One-hot labels with the sparse loss, or class numbers with the other. Needs the labels."""
    if task.loss and task.one_hot is not None and "categorical" in task.loss.kind:
        sparse = task.loss.kind.startswith("sparse")
        for call, _ in _heads(graph):
            if task.one_hot == sparse:
                labels = "one-hot labels" if task.one_hot else "class numbers as labels"
                yield call.name, f"{labels} with {task.loss.kind}"


@rule(
    "error",
    why="Labels without a unit cannot be predicted; the loss is undefined for them or refuses the shapes.",
    mend="Give the last layer as many units as there are classes.",
)
def wrong_outputs(graph: Graph, task: Task) -> Found:
    """The number of output units is not the number of classes. One unit for two classes is right; units to spare are
    the next rule's where the loss allows them. Class numbers beyond the last unit are found without being told the
    number of classes.
    """
    for call, classes, spare in _miscounted(graph, task):
        if not spare:
            yield call.name, f"{_units(call)} output units for {classes} classes"


@rule(
    "warning",
    why="It trains, but the spare units are classes that never occur, and a copied number is easily wrong elsewhere.",
    mend="Give the last layer as many units as there are classes.",
)
def spare_outputs(graph: Graph, task: Task) -> Found:
    """There are more output units than classes, with a loss that takes class numbers and so allows it."""
    for call, classes, spare in _miscounted(graph, task):
        if spare:
            yield call.name, f"{_units(call)} output units for {classes} classes"


# What the rules have in common --------------------------------------------------------------------------------------


def _activation(call: Call) -> str | None:
    """The activation that ends a layer, None for none or a linear one."""
    function = getattr(call.layer, "activation", None)
    name = getattr(function, "__name__", None) if callable(function) else ACTIVATIONS.get(type(call.layer).__name__)
    if name is None and callable(function):
        name = ACTIVATIONS.get(type(function).__name__, "unknown")  # a layer as the activation of another
    return None if name == "linear" else name


def _is_plain(call: Call) -> bool:
    return isinstance(call.layer, (layers.Dense, *CONVOLUTIONS)) and getattr(call.layer, "groups", 1) == 1


def _is_spatial(call: Call) -> bool:
    return isinstance(call.layer, CONVOLUTIONS) and min(call.layer.kernel_size) > 1 and call.layer.groups == 1


def _is_linear(call: Call) -> bool:
    linear = DROPOUTS + SHAPES + MEAN_POOLS + AFFINE
    return isinstance(call.layer, linear) or (isinstance(call.layer, layers.Activation) and _activation(call) is None)


def _keeps_units(call: Call) -> bool:
    """Whether what goes in comes out, a unit a unit: reshaped, pooled, scaled or dropped."""
    return _is_linear(call) or isinstance(call.layer, MAX_POOLS)


def _normalizes_units(call: Call) -> bool:
    axis = getattr(call.layer, "axis", None)
    return isinstance(call.layer, layers.BatchNormalization) and axis in (-1, len(call.output.shape) - 1)


def _pooled(call: Call) -> list[Call]:
    """What comes after a layer and its pooling."""
    return list(onward(call, lambda one: isinstance(one.layer, MAX_POOLS + MEAN_POOLS)))


def _is_first(call: Call) -> bool:
    inner = (*WEIGHTED, layers.Embedding)
    return _is_weighted(call) and not any(isinstance(one.layer, inner) for one in _all_before(call))


def _feeds_weights(call: Call | None) -> bool:
    """Whether what a layer gives goes into others with weights and nowhere else, nothing joining it on the way."""
    nexts = [] if call is None else list(onward(call, lambda one: len(one.inputs) == 1 and not _is_weighted(one)))
    return bool(nexts) and all(map(_is_weighted, nexts))


def _is_weighted(call: Call) -> bool:
    return isinstance(call.layer, WEIGHTED)


def _all_before(call: Call) -> list[Call]:
    return _reach(call, lambda one: one.before)


def _all_after(call: Call) -> list[Call]:
    return _reach(call, lambda one: one.after)


def _reach(call: Call, steps: Callable[[Call], list[Call]]) -> list[Call]:
    seen, todo = {id(call)}, list(steps(call))
    found = []
    while todo:
        one = todo.pop()
        if id(one) not in seen:
            seen.add(id(one))
            found.append(one)
            todo += steps(one)
    return found


def _single_before(call: Call) -> Call | None:
    """The layer with weights before `call` on a way without branches, joins or upsampling."""
    while len(call.before) == 1 and len(call.before[0].after) == 1:
        call = call.before[0]
        if _is_weighted(call):
            return call
        if isinstance(call.layer, UPSAMPLING):
            return None
    return None


def _units(call: Call) -> int:
    return int(call.output.shape[-1])


def _kernel_area(call: Call) -> int:
    return math.prod(getattr(call.layer, "kernel_size", (1,)))


def _are_crossed(call: Call, after: Call) -> bool:
    """Whether a 1xn kernel meets an nx1."""
    sizes = [getattr(one.layer, "kernel_size", (1,)) for one in (call, after)]
    return sizes[0] != sizes[1] and all(min(size) == 1 and max(size) > 1 for size in sizes)


def _x(sizes: Any) -> str:
    return "x".join(map(str, sizes))


def _kernel(call: Call) -> str:
    return _x(call.layer.kernel.shape[:-1])


def _map_size(call: Call) -> tuple[int, ...]:
    shape = call.inputs[0].shape
    return shape[1:-1] if call.layer.data_format == "channels_last" else shape[2:]


def _met(kernel: int, size: int, stride: int, dilation: int) -> int:
    """How many of a kernel's places, along one axis with padding "same", ever lie on the map."""
    steps = math.ceil(size / stride)
    before = max((steps - 1) * stride + (kernel - 1) * dilation + 1 - size, 0) // 2
    return sum(
        any(0 <= step * stride + place * dilation - before < size for step in range(steps)) for place in range(kernel)
    )


def _equal_units(graph: Graph) -> Iterator[tuple[str, Any, Any, int, int]]:
    """Layer, its kernel, the number of units, and how many of them equal another one in weights and in gradient."""
    for name, layer in graph.leaves.items():
        for attribute in ("kernel", "pointwise_kernel", "embeddings"):
            kernel = getattr(layer, attribute, None)
            if (
                kernel is None
                or not kernel.trainable
                or isinstance(layer, layers.DepthwiseConv1D | layers.DepthwiseConv2D)
            ):
                continue
            axis = -2 if isinstance(layer, TRANSPOSED) else -1
            units = kernel.shape[axis]
            rows = np.ascontiguousarray(np.moveaxis(kernel.value.numpy(), axis, 0).reshape(units, -1))
            groups: dict[bytes, list[int]] = {}
            for unit, row in enumerate(rows):
                groups.setdefault(row.tobytes(), []).append(unit)
            if len(groups) == units:
                continue
            slopes = np.moveaxis(_slope(graph, kernel), axis, 0).reshape(units, -1)
            same = sum(_count_alike(slopes[members]) for members in groups.values())
            yield name, layer, kernel, units, same


def _count_alike(slopes: np.ndarray) -> int:
    """How many rows are the same as another one, as far as a few kinds of rows go: a recurrent cell has four gates."""
    same = 0
    for _ in range(KINDS):
        alike = np.abs(slopes - slopes[0]).max(axis=1) <= SAME * np.abs(slopes).max()  # not where there is NaN
        same += int(alike.sum()) if alike.sum() > 1 else 0
        slopes = slopes[~alike]
        if not len(slopes):
            break
    return same


def _slope(graph: Graph, kernel: Any) -> np.ndarray:
    slope = graph.gradients.get(id(kernel))
    return np.zeros(kernel.shape, np.float32) if slope is None else slope


def _value(kernel: Any) -> str:
    return f"{float(kernel.value.numpy().flat[0]):.3g}"


def _drift(graph: Graph, least: float, most: float) -> Found:
    """The first place where the signal has changed by `least` or more; none if any has by over `most`."""
    firsts = [call for call in graph.calls if _is_first(call)]
    start = next((call.inputs[0] for call in firsts), None)
    start = start or next((call.output for call in graph.calls if isinstance(call.layer, layers.Embedding)), None)
    if start is None:
        return
    found = None
    for call in graph.calls:
        dead = any(one.output.rms == 0 for one in _all_before(call))
        if not _is_weighted(call) or dead or math.isnan(start.rms):
            continue
        signal = call.inputs[0]
        grown = signal.rms / max(start.rms, 1) if math.isfinite(signal.rms) else math.inf
        shrunk = min(start.spread, 1) / max(signal.spread, 1e-30) if grown < math.inf else 0
        factor = max(grown, shrunk)
        if factor > most:
            return
        if factor >= least and found is None:
            what = f"{grown:.2g} times the size" if grown > shrunk else f"{1 / shrunk:.2g} of the differences"
            what = what if math.isfinite(factor) else "infinite or no numbers"
            before = next(back(call, lambda one: not _is_weighted(one)), call)
            found = before.name, f"{what} arrive at {call.name}, measured against the first layer's inputs"
    if found:
        yield found


def _frozen(layer: Any) -> list[tuple[Any, Any]]:
    """Kernels that training leaves alone, each with its initializer."""
    names = ("kernel", "depthwise_kernel", "pointwise_kernel", "embeddings")
    pairs = [(getattr(layer, name, None), getattr(layer, f"{name}_initializer", None)) for name in names]
    return [(kernel, start) for kernel, start in pairs if kernel is not None and start and not kernel.trainable]


def _is_fresh(pair: tuple[Any, Any]) -> bool:
    kernel, initializer = pair
    drawn = np.asarray(initializer(kernel.shape, dtype="float32")).ravel()[:VALUES]
    return bool(ks_2samp(kernel.value.numpy().ravel()[:VALUES], drawn).pvalue > CHANCE)


def _heads(graph: Graph) -> Iterator[tuple[Call, str]]:
    """The layer that ends each output, and its activation: `linear`, or `unknown` where something else comes last."""
    for output in graph.outputs:
        call = output
        while _activation(call) is None and _keeps_units(call) and len(call.before) == 1:
            call = call.before[0]
        yield call, _activation(call) or ("linear" if _is_weighted(call) else "unknown")


def _miscounted(graph: Graph, task: Task) -> Iterator[tuple[Call, int, bool]]:
    """Outputs with another number of units than there are classes, that number, and whether units are to spare."""
    for call, kind in _heads(graph):
        units = _units(call)
        if kind == "unknown":
            continue
        if task.last_label is not None and units <= task.last_label and not (units == 1 and task.last_label == 1):
            yield call, task.last_label + 1, False
        elif task.num_classes and units != task.num_classes and not (units == 1 and task.num_classes == 2):
            sparse = task.loss is not None and task.loss.kind.startswith("sparse")
            yield call, task.num_classes, units > task.num_classes and sparse
