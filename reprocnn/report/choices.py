"""Why a network and its training are as they are: tables of explanations, each given only where it applies.

Titles and texts are made from the layers and values themselves; what was measured of a choice stands beside it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from reprocnn.core.params import Recipe
from reprocnn.report.evidence import Evidence

SIZED = ("mnist_cnn", "cifar_cnn")  # by params.yaml; the other networks are quotations
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Explanation(Generic[Subject]):
    """The reason for a choice, where it `applies`; title and text are made from the subject, `it` in a template."""

    title: str | Callable[[Subject], str]
    text: str | Callable[[Subject], str]
    keys: tuple[str, ...] = ()  # of params.yaml: changes of these alone are evidence
    applies: Callable[[Subject], object] = lambda _: True

    def item(self, subject: Subject, evidence: Evidence) -> str:
        """Write a Markdown item, with the evidence if there is any."""
        title, text = _fill(self.title, subject), _fill(self.text, subject)
        effect = evidence.change_effect(self.keys)
        return f"- **{title}.** {text}." + (f" *{effect}*" if effect else "")


@dataclass(frozen=True)
class Convolution:
    """What there is to explain of a single convolution."""

    name: str
    kernel: str  # as in 3×3
    stride: int


@dataclass(frozen=True)
class Network:
    """The layers as evaluation.architecture lists them, and the recipe that sized them."""

    layers: Sequence[dict[str, Any]]
    recipe: Recipe

    @property
    def convolutions(self) -> list[Convolution]:
        """List the convolutions in the order in which data flows."""
        return [_read_convolution(row) for row in self.layers if row["kind"] == "Conv2D"]

    @property
    def kernels(self) -> list[str]:
        """List the size of each convolution's kernel."""
        return [convolution.kernel for convolution in self.convolutions]

    @property
    def widths(self) -> list[int]:
        """List the number of each convolution's filters."""
        return [row["shape"][-1] for row in self.layers if row["kind"] == "Conv2D"]

    @property
    def activations(self) -> set[str]:
        """Name the activations before the output (among other words), layers of their own or within another."""
        hidden = self.layers[:-1]
        words = {word for row in hidden for word in re.findall(r"\w+", row["detail"])}
        return words | {"relu" for row in hidden if row["kind"] == "ReLU"}

    @property
    def dropouts(self) -> list[str]:
        """List the dropout rates above zero."""
        return [rate for rate in self.details("Dropout") if float(rate) > 0]

    @property
    def ends_in_softmax(self) -> bool:
        """Return whether the last layer gives probabilities."""
        return self.layers[-1]["kind"] == "Dense" and "softmax" in self.layers[-1]["detail"]

    def has(self, kind: str) -> bool:
        """Return whether there is a layer of this kind."""
        return any(row["kind"] == kind for row in self.layers)

    def details(self, kind: str) -> list[str]:
        """List what is known of the sizes of each layer of this kind."""
        return [row["detail"] for row in self.layers if row["kind"] == kind]


@dataclass(frozen=True)
class Training:
    """A recipe with the peak learning rate that was in force."""

    recipe: Recipe
    peak_lr: float

    @property
    def warps(self) -> bool:
        """Return whether images are moved by fractions of a pixel."""
        return any((self.recipe.rotation, self.recipe.zoom, self.recipe.shear, self.recipe.elastic))

    @property
    def unused(self) -> dict[str, str]:
        """Name, by params key, the common techniques that the recipe does without."""
        techniques = OPTIONAL | ({"dropout": "dropout"} if self.recipe.network in SIZED else {})
        return {key: words for key, words in techniques.items() if not getattr(self.recipe, key)}


def explain_layers(layers: Sequence[dict[str, Any]], recipe: Recipe, evidence: Evidence) -> list[str]:
    """Write a Markdown item for each choice of the network, about in the order of its layers."""
    network = Network(layers, recipe)
    items = _explain(INPUT, network, evidence)
    for convolution in network.convolutions:
        items += _explain(CONVOLUTION, convolution, evidence)
    return items + _explain(NETWORK, network, evidence)


def explain_training(recipe: Recipe, peak_lr: float, evidence: Evidence) -> list[str]:
    """Write a Markdown item for each choice of the training."""
    training = Training(recipe, peak_lr)
    items = _explain(TRAINING, training, evidence)
    if training.unused:
        items.append(Explanation("Left out", _left_out, tuple(training.unused)).item(training, evidence))
    return items


def _explain(explanations: Sequence[Explanation[Subject]], subject: Subject, evidence: Evidence) -> list[str]:
    return [explanation.item(subject, evidence) for explanation in explanations if explanation.applies(subject)]


def _fill(words: str | Callable[[Subject], str], subject: Subject) -> str:
    return words.format(it=subject) if isinstance(words, str) else words(subject)


def _read_convolution(row: dict[str, Any]) -> Convolution:
    kernel, *parts = row["detail"].split(", ")
    strides = [int(part.removeprefix("stride ")) for part in parts if part.startswith("stride ")]
    return Convolution(row["name"], kernel, strides[0] if strides else 1)


# Words


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _list(parts: Sequence[str]) -> str:
    """Write "a", "a and b" or "a, b and c"; empty parts are left out."""
    *others, last = [part for part in parts if part]
    return f"{', '.join(others)} and {last}" if others else last


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _distinct(parts: list[str]) -> str:
    return " and ".join(dict.fromkeys(parts))


def _normalization(network: Network) -> str:
    reasons = {
        "center": "Pixels are scaled to x / 255 - 0.5, so inputs take both signs",
        "standardize": "Inputs have mean 0 and variance 1 over the training images, as initial weights assume",
    }
    return f"{reasons[network.recipe.normalization]}; the network itself accepts raw pixels"


def _kernel_sharing(network: Network) -> str:
    text = "A kernel is the same at every position, so a shape learned in one place is recognized everywhere"
    if network.kernels.count("3×3") > 1:
        text += "; several 3×3 kernels in a row cover as much as a large one, with fewer weights"
    return text


def _widens(network: Network) -> bool:
    widths = network.widths
    return len(widths) > 1 and widths[0] < widths[-1] and widths == sorted(widths)


def _optimizer(training: Training) -> str:
    return {
        "adam": "Adam gives each weight its own step size, so one learning rate suits all layers",
        "muon": "Muon orthogonalizes the step of each kernel, so it learns in all directions at the same pace",
    }[training.recipe.optimizer]


def _schedule(training: Training) -> str:
    recipe = training.recipe
    if recipe.lr_end == 1:
        end = "stays constant"
    elif recipe.lr_end:
        end = f"falls linearly to {recipe.lr_end:g} of the peak"
    else:
        end = "falls linearly to zero"
    rise = ""
    if recipe.warmup:
        rise = f"rises over the first {recipe.warmup:.0%} of the steps, while the weights are still far off, then "
    return f"It {rise}{end}: large steps cover distance, small ones settle"


def _shifts(training: Training) -> str:
    fractions = ", by fractions of a pixel too" if training.warps else ""
    pixels = _count(training.recipe.shift, "pixel")
    return f"Images are shifted by up to {pixels} each way{fractions}, because the class does not depend on position"


def _warping(training: Training) -> str:
    recipe = training.recipe
    parts = [
        f"rotated by up to {recipe.rotation:g} degrees" if recipe.rotation else "",
        f"stretched by up to {100 * recipe.zoom:g} %" if recipe.zoom else "",
        f"sheared by up to {recipe.shear:g} pixels per row" if recipe.shear else "",
    ]
    return f"Images are {_list(parts)}, differently each time, so no two epochs are alike"


def _edges(training: Training) -> str:
    edge = {"constant": "black", "reflect": "a reflection of the image"}[training.recipe.fill_mode]
    return f"Whatever moves in from outside the image is {edge}"


def _growing(training: Training) -> str:
    size = training.recipe.first_size
    return (
        f"The first epoch sees the images at about {size:.0%} of their height and width, at about {size**2:.0%} of the "
        f"cost. They reach full size in the last quarter of the epochs: coarse shapes are learned first anyway. "
        f"Validation images always have full size, so early validation accuracy is low"
    )


def _left_out(training: Training) -> str:
    return f"{_capital(_list(list(training.unused.values())))}: each would be one more value to choose"


OPTIONAL = {
    "weight_decay": "weight decay",
    "label_smoothing": "label smoothing",
    "shift": "shifts",
    "rotation": "rotation",
    "zoom": "stretching",
    "shear": "shearing",
    "elastic": "elastic bends",
    "flip": "mirroring",
}


def has(kind: str) -> Callable[[Network], bool]:
    """Apply to a network with a layer of this kind."""
    return lambda network: network.has(kind)


def activated_by(name: str) -> Callable[[Network], bool]:
    """Apply to a network with this activation."""
    return lambda network: name in network.activations


def uses(*keys: str) -> Callable[[Training], bool]:
    """Apply to a training where one of these values is not zero."""
    return lambda training: any(getattr(training.recipe, key) for key in keys)


INPUT: tuple[Explanation[Network], ...] = (
    Explanation("Normalization as a layer", _normalization, applies=has("Rescaling")),
    Explanation(
        lambda it: f"Cropping, {_distinct(it.details('Cropping2D'))}",
        "The border is empty margin, and fewer positions mean less work for every later layer",
        applies=has("Cropping2D"),
    ),
)

CONVOLUTION: tuple[Explanation[Convolution], ...] = (
    Explanation(
        "A convolution of {it.kernel} with stride {it.stride}",
        lambda it: f"It visits one position in {it.stride**2}, which cuts the work of later layers to that share",
        applies=lambda it: it.stride > 1,
    ),
    Explanation(
        "Whitening, {it.kernel}",
        "Its filters are computed from patches of training images so that its outputs are uncorrelated and equally "
        "scaled; they are not trained (arXiv 2404.00498, section 3.2)",
        applies=lambda it: it.name == "whitening",
    ),
)

NETWORK: tuple[Explanation[Network], ...] = (
    Explanation(
        lambda it: f"{_count(len(it.kernels), 'convolution')}, {_distinct(it.kernels)}",
        _kernel_sharing,
        ("kernel_size", "depth"),
        applies=lambda it: it.kernels,
    ),
    Explanation(
        lambda it: f"{it.widths[0]} to {it.widths[-1]} filters",
        "Larger shapes come in more varieties, and there are fewer positions at which to look for them",
        ("filters",),
        applies=_widens,
    ),
    Explanation(
        "Batch normalization",
        "It keeps activations on one scale whatever earlier layers learn, so a higher learning rate is safe",
        applies=has("BatchNormalization"),
    ),
    Explanation(
        "ReLU",
        "It keeps positive values and zeroes the others: cheap, and its gradient does not fade with depth",
        applies=activated_by("relu"),
    ),
    Explanation(
        "ELU",
        "A ReLU with a smooth negative branch, so a unit below zero still learns",
        applies=activated_by("elu"),
    ),
    Explanation(
        "GELU",
        "A smooth ReLU, so values just below zero still give a gradient",
        applies=activated_by("gelu"),
    ),
    Explanation(
        lambda it: f"Max pooling, {_distinct(it.details('MaxPooling2D'))}",
        "Only the strongest response nearby is kept, so small shifts matter less and later layers have less to do",
        applies=has("MaxPooling2D"),
    ),
    Explanation("Flatten", "The output layer still sees where in the image a shape is", applies=has("Flatten")),
    Explanation(
        "Global max pooling",
        "What counts is whether a shape is present, not where",
        applies=has("GlobalMaxPooling2D"),
    ),
    Explanation(
        "Global average pooling",
        "What counts is how much of a shape is present, not where",
        applies=has("GlobalAveragePooling2D"),
    ),
    Explanation(
        lambda it: f"Dropout, {_distinct(it.dropouts)}",
        "Features are dropped at random during training, so no output relies on a single one",
        ("dropout",),
        applies=lambda it: it.dropouts,
    ),
    Explanation(
        lambda it: f"{it.layers[-1]['shape'][-1]} outputs, softmax",
        "One number per class, positive and summing to 1: the probabilities that cross-entropy expects",
        applies=lambda it: it.ends_in_softmax,
    ),
)

TRAINING: tuple[Explanation[Training], ...] = (
    Explanation(lambda it: it.recipe.optimizer.capitalize(), _optimizer),
    Explanation("Peak learning rate {it.peak_lr:g}", _schedule, ("lr", "lr_factor", "warmup", "lr_end")),
    Explanation(
        lambda it: _count(it.recipe.epochs, "epoch"),
        "The schedule spans all of them, so a shorter training is not this one cut short",
        ("epochs",),
    ),
    Explanation(
        "Batches of {it.recipe.batch_size:,}",
        "Larger batches use the processor better, smaller ones take more steps per epoch",
        ("batch_size",),
    ),
    Explanation(
        "Weight decay, {it.recipe.weight_decay:g}",
        lambda it: (
            "Biases and dense weights shrink unless the loss needs them; Muon normalizes the kernels of convolutions"
            if it.recipe.optimizer == "muon"
            else "Weights shrink unless the loss needs them"
        ),
        ("weight_decay",),
        applies=uses("weight_decay"),
    ),
    Explanation(
        "Label smoothing, {it.recipe.label_smoothing:g}",
        "A share of {it.recipe.label_smoothing:g} of each label is spread over all classes, so the network gains "
        "nothing from ever larger outputs; this also lowers its confidence",
        ("label_smoothing",),
        applies=uses("label_smoothing"),
    ),
    Explanation("Shifts", _shifts, ("shift",), applies=uses("shift")),
    Explanation(
        "Warps",
        _warping,
        ("rotation", "zoom", "shear"),
        applies=uses("rotation", "zoom", "shear"),
    ),
    Explanation(
        "Elastic bends",
        "Images are bent like rubber, by {it.recipe.elastic:g} pixels (standard deviation), the way handwriting varies",
        ("elastic",),
        applies=uses("elastic"),
    ),
    Explanation(
        "Edges",
        _edges,
        ("fill_mode",),
        applies=uses("shift", "rotation", "zoom", "shear", "elastic"),
    ),
    Explanation(
        "Mirroring",
        "Half the images are mirrored in one epoch, the other half in the next, so two epochs show both sides",
        ("flip",),
        applies=uses("flip"),
    ),
    Explanation(
        "Growing images",
        _growing,
        ("first_size",),
        applies=lambda it: it.recipe.first_size < 1,
    ),
)
