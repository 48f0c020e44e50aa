"""Why a network and its training are as they are: a sentence for each layer and each value, with what was measured.

Each sentence is made from the layers and the values themselves, and said only where they are so.
"""

import re
from dataclasses import dataclass
from typing import Any

from stages.lib.measured import Evidence

OWN = ("mnist_cnn", "cifar_cnn")  # sized by params.yaml; the other networks are quotations
ACTIVATIONS = {
    "relu": "lets positive values pass and nothing else: cheap, and its gradient does not fade with depth",
    "elu": "is ReLU with a smooth lower branch, so that a unit below zero still learns",
    "gelu": "is a smooth ReLU, so that values just below zero still give a gradient",
}
NORMALIZATIONS = {
    "center": "x / 255 - 0.5 centres the pixels, so that inputs of both signs occur",
    "standardize": "mean 0 and variance 1 over the training images are the scale that initial weights are made for",
}
OPTIMIZERS = {
    "adam": "AdamW gives each weight a step size of its own, so that one rate fits all layers",
    "muon": "Muon makes the step of each kernel orthogonal, so that it learns in all directions alike",
}


@dataclass(frozen=True)
class Recipe:
    """What params.yaml says of one training."""

    network: str
    filters: int
    depth: int
    kernel_size: int
    epochs: int
    batch_size: int
    optimizer: str
    lr: float
    warmup: float
    lr_end: float
    dropout: float
    weight_decay: float
    label_smoothing: float
    shift: int
    rotation: float
    zoom: float
    shear: float
    elastic: float
    fill_mode: str
    flip: bool
    first_size: float


def of_layers(layers: list[dict[str, Any]], normalization: str, recipe: Recipe, evidence: Evidence) -> list[str]:
    """Markdown items in the order of the layers; `layers` as architecture.describe gives them."""
    convolutions = [row for row in layers if row["kind"] == "Conv2D"]
    kernels = [row["detail"].split(", ")[0] for row in convolutions]
    items = []
    if any(row["kind"] == "Rescaling" for row in layers):
        items.append(_item("Normalization as a layer", f"{NORMALIZATIONS[normalization]}; raw pixels are the input"))
    for row in layers:
        if row["kind"] == "Cropping2D":
            text = "what is cut off at each side is margin, and fewer places are less to do for every layer behind it"
            items.append(_item(f"Cropping, {row['detail']}", text))
    for row in convolutions:
        items += _of_special(row)
    if kernels:
        sizes = " and ".join(dict.fromkeys(kernels))
        text = "a kernel is the same at every place, so that a shape learned in one is known in all"
        if kernels.count("3×3") > 1:
            text += "; several 3×3 in a row see as far as a large kernel, with fewer weights"
        mend = "3x3 instead of 10x10" if "3×3" in kernels else ""
        sizes_of = {"kernel_size": recipe.kernel_size, "depth": recipe.depth} if recipe.network in OWN else {}
        found = [evidence.of_change(**sizes_of), _mend(evidence, mend), _second_convolution(evidence, kernels)]
        items.append(_item(f"{_count(len(kernels), 'convolution')}, {sizes}", text, found))
    channels = [row["shape"][-1] for row in convolutions]
    if len(channels) > 1 and channels[-1] > channels[0] and channels == sorted(channels):
        found = [
            evidence.of_change(filters=recipe.filters) if recipe.network in OWN else None,
            _mend(evidence, "more filters with depth"),
        ]
        text = "there are more shapes to tell apart the larger they are, and fewer places to look for them"
        items.append(_item(f"{channels[0]} to {channels[-1]} filters", text, found))
    if any(row["kind"] == "BatchNormalization" for row in layers):
        text = "it keeps what flows on one scale whatever the layers before it learn, so that a higher rate is safe"
        pair = ("two convolutions", "two convolutions, batch norm")
        items.append(_item("Batch normalization", text, [evidence.of_variants(*pair)]))
    for name in _activations(layers[:-1]):
        label = {"relu": "ReLU", "elu": "ELU", "gelu": "GELU"}[name]
        found = [_mend(evidence, "relu between the layers" if name == "relu" else "")]
        items.append(_item(label, f"it {ACTIVATIONS[name]}", found))
    pools = [row["detail"] for row in layers if row["kind"] == "MaxPooling2D"]
    if pools:
        text = "the strongest answer nearby is kept, so that small moves matter less and what follows has less to do"
        items.append(_item(f"Max pooling, {' and '.join(dict.fromkeys(pools))}", text))
    for kind, label, text in (
        ("Flatten", "Flatten", "where in the image a shape is stays known to the output"),
        ("GlobalMaxPooling2D", "Global max pooling", "whether a shape is there counts, and not where"),
        ("GlobalAveragePooling2D", "Global average pooling", "how much of a shape is there counts, and not where"),
    ):
        if any(row["kind"] == kind for row in layers):
            items.append(_item(label, text))
    rates = [row["detail"] for row in layers if row["kind"] == "Dropout" and float(row["detail"]) > 0]
    if rates:
        found = [evidence.of_change(dropout=recipe.dropout) if recipe.network in OWN else None]
        text = "features go missing at random in training, so that no output relies on one of them alone"
        items.append(_item(f"Dropout, {' and '.join(dict.fromkeys(rates))}", text, found))
    last = layers[-1]
    if last["kind"] == "Dense" and "softmax" in last["detail"]:
        text = "one number a class, positive and of sum 1: probabilities, as the cross-entropy takes them"
        items.append(_item(f"{last['shape'][-1]} outputs, softmax", text, [_mend(evidence, "softmax output")]))
    return items


def of_recipe(recipe: Recipe, lr: float, evidence: Evidence) -> list[str]:
    """Markdown items for the values of the training; `lr` is the peak rate that was in force."""
    warped = any((recipe.rotation, recipe.zoom, recipe.shear, recipe.elastic))
    items = [
        _item(recipe.optimizer.capitalize(), OPTIMIZERS[recipe.optimizer]),
        _item(
            f"Rate up to {lr:g}",
            f"{_schedule(recipe)}; a high rate gets far, a low one settles",
            [evidence.of_change(lr=recipe.lr, warmup=recipe.warmup, lr_end=recipe.lr_end)],
        ),
        _item(
            _count(recipe.epochs, "epoch"),
            "the schedule is stretched over all of them, so a shorter training is another one, not this one cut off",
            [evidence.of_change(epochs=recipe.epochs)],
        ),
        _item(
            f"Batches of {recipe.batch_size:,}",
            "larger ones use the processor better, smaller ones take more steps in an epoch",
            [evidence.of_change(batch_size=recipe.batch_size)],
        ),
    ]
    if recipe.weight_decay:
        text = "weights that nothing needs shrink"
        found = [evidence.of_change(weight_decay=recipe.weight_decay)]
        items.append(_item(f"Weight decay, {recipe.weight_decay:g}", text, found))
    if recipe.label_smoothing:
        text = (
            f"a share of {recipe.label_smoothing:g} of each label goes to all classes, so that the network gains "
            f"nothing from ever larger outputs; its confidence is lower for it"
        )
        found = [evidence.of_change(label_smoothing=recipe.label_smoothing)]
        items.append(_item(f"Label smoothing, {recipe.label_smoothing:g}", text, found))
    if recipe.shift:
        pixels = f"{_count(recipe.shift, 'pixel')}{' and fractions' if warped else ''}"
        text = f"images are moved by up to {pixels} each way, as the class does not depend on the place"
        items.append(_item("Shifts", text, [evidence.of_change(shift=recipe.shift)]))
    if recipe.rotation or recipe.zoom or recipe.shear:
        parts = [
            f"turned by up to {recipe.rotation:g} degrees" if recipe.rotation else "",
            f"stretched by up to {100 * recipe.zoom:g} %" if recipe.zoom else "",
            f"slanted by up to {recipe.shear:g} pixels a row" if recipe.shear else "",
        ]
        text = f"images are {_list(parts)}, each time anew, so that no epoch repeats another"
        found = [evidence.of_change(rotation=recipe.rotation, zoom=recipe.zoom, shear=recipe.shear)]
        items.append(_item("Warps", text, found))
    if recipe.elastic:
        text = f"images are bent as on rubber, by {recipe.elastic:g} pixels (standard deviation), as hands do"
        found = [evidence.of_change(elastic=recipe.elastic)]
        items.append(_item("Elastic bends", text, found))
    if recipe.shift or warped:
        edge = {"constant": "black", "reflect": "the reflection of what is there"}[recipe.fill_mode]
        text = f"what comes in from outside is {edge}"
        items.append(_item("Edges", text, [evidence.of_change(fill_mode=recipe.fill_mode)]))
    if recipe.flip:
        text = "half the images are mirrored, in the next epoch the other half, so that two epochs show both sides"
        items.append(_item("Mirroring", text, [evidence.of_change(flip=recipe.flip)]))
    if recipe.first_size < 1:
        text = (
            f"the first epoch sees them at {recipe.first_size:.0%} of their height and width, "
            f"at {recipe.first_size**2:.0%} of the price, and they grow until the last quarter of the epochs: coarse "
            f"shapes are learned first anyway. Validation images are whole from the start: early accuracy on them is "
            f"low"
        )
        items.append(_item("Growing images", text, [evidence.of_change(first_size=recipe.first_size)]))
    unused = {
        "weight_decay": "weight decay", "label_smoothing": "label smoothing", "shift": "shifts", "rotation": "rotation",
        "zoom": "stretching", "shear": "slanting", "elastic": "elastic bends", "flip": "mirroring",
    }  # fmt: skip
    unused = {key: words for key, words in unused.items() if not getattr(recipe, key)}
    if not recipe.dropout and recipe.network in OWN:
        unused["dropout"] = "dropout"
    if unused:
        text = f"{_list(list(unused.values()))}: each would be one more value to choose"
        items.append(_item("Left out", text, [evidence.of_change(**dict.fromkeys(unused, 0))]))
    return items


def _of_special(row: dict[str, Any]) -> list[str]:
    """What is said of one convolution alone."""
    parts, items = row["detail"].split(", "), []
    stride = next((int(part.split()[1]) for part in parts if part.startswith("stride ")), 1)
    if stride > 1:
        text = f"it looks at one place in {stride**2}, which leaves that share of the work to the layers behind"
        items.append(_item(f"A convolution of {parts[0]} with stride {stride}", text))
    if row["name"] == "whitening" and "frozen" in parts:
        text = (
            "its filters are computed from patches of training images, so that what they give is uncorrelated and of "
            "one size, and are not trained (arXiv 2404.00498, section 3.2)"
        )
        items.append(_item(f"Whitening, {parts[0]}", text))
    return items


def _second_convolution(evidence: Evidence, kernels: list[str]) -> str | None:
    if len(kernels) < 2:
        return None
    return evidence.of_variants("one convolution, batch norm", "two convolutions, batch norm")


def _activations(layers: list[dict[str, Any]]) -> list[str]:
    """Those with a reason, in the order in which they come."""
    words = [
        "relu" if row["kind"] == "ReLU" else word
        for row in layers
        for word in (re.findall(r"\w+", row["detail"]) or [""])
    ]
    return [word for word in dict.fromkeys(words) if word in ACTIVATIONS]


def _schedule(recipe: Recipe) -> str:
    rise = (
        f"it rises over the first {recipe.warmup:.0%} of the steps, while the weights are still far off, then"
        if (recipe.warmup)
        else "it"
    )
    if recipe.lr_end == 1:
        return f"{rise} stays"
    return f"{rise} falls in a straight line to {f'{recipe.lr_end:g} of it' if recipe.lr_end else 'nothing'}"


def _mend(evidence: Evidence, mend: str) -> str | None:
    return evidence.of_mend(mend) if mend else None


def _item(what: str, why: str, found: list[str | None] | None = None) -> str:
    told = " ".join(sentence for sentence in found or [] if sentence)
    return f"- **{what}.** {why[0].upper()}{why[1:]}.{f' *{told}*' if told else ''}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _list(parts: list[str]) -> str:
    parts = [part for part in parts if part]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
