"""Audit models from Python: `audit(model)` gives the findings as a list."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from reprocnn.audit import graph
from reprocnn.audit.rules import initialization, order, output, structure
from reprocnn.audit.rules.base import LEVELS, Finding, Loss, Rule, Task
from reprocnn.backend import keras, layers
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.networks.build import build as build_network

# Height, width and channels of the images that each network is made for.
SHAPES = {
    "assignment": (28, 28, 1), "one_conv": (28, 28, 1), "warmup": (100, 100, 3),
    "mnist_cnn": (28, 28, 1), "cifar_cnn": (32, 32, 3),
}  # fmt: skip
NUM_CLASSES = 10
LOSSES = ("categorical_crossentropy", "sparse_categorical_crossentropy", "binary_crossentropy")
# In the order of the page: module by module, as written.
RULES = [
    value
    for module in (initialization, structure, order, output)
    for value in vars(module).values()
    if isinstance(value, Rule)
]


@dataclass(frozen=True)
class Sizes:
    """The size of a network in params.yaml."""

    filters: int
    depth: int
    kernel_size: int
    dropout: float


def audit(
    model: keras.Model, *, loss: Any = None, num_classes: int | None = None, x: Any = None, y: Any = None
) -> list[Finding]:
    """Find the design flaws of a built model, the worst first. The model is left as it was.

    `loss` is as for `compile`; the default is the one the model was compiled with. `x` and `y` are as for `fit`: the
    first images of `x` run through the model instead of noise, and the labels `y` are compared with loss and outputs.
    Rules that lack what they need are skipped, and so are those of loss and labels if the model has several outputs.

    Raises UserError if the model is not built or cannot compute the batch.
    """
    read = graph.read(model, x)
    task = Task()
    if len(read.outputs) == 1:
        known_loss = _read_loss(loss if loss is not None else getattr(model, "loss", None))
        task = Task(known_loss, num_classes, *_read_labels(y, known_loss, len(read.outputs[0].output.shape)))
        if num_classes is None and task.one_hot:
            task = replace(task, num_classes=np.shape(y)[-1])
    findings = [
        Finding(rule.code, rule.level, layer, message, rule.why, rule.fix)
        for rule in RULES
        for layer, message in rule.find(read, task)
    ]
    # A layer that is used twice is reported once.
    return sorted(dict.fromkeys(findings), key=lambda finding: list(LEVELS).index(finding.level))


def audit_by_name(name: str) -> list[Finding]:
    """Audit a network of params.yaml, with the project's loss and ten classes, or the model of a .keras file."""
    if name in SHAPES:
        keras.utils.set_random_seed(0)
        return audit(build(name), loss="categorical_crossentropy", num_classes=NUM_CLASSES)
    return audit(load(Path(name)))


def build(name: str) -> keras.Model:
    """Build a network as params.yaml sizes it, untrained, with the exercise's normalization."""
    shape = SHAPES[name]
    sizes = params.read(Sizes, "cifar" if shape[-1] == 3 else "mnist")
    normalization = layers.Rescaling(1 / 255, -0.5, name="normalization")
    return build_network(name, shape, NUM_CLASSES, normalization, **asdict(sizes))


def load(path: Path) -> keras.Model:
    """Load the model of a .keras file without running code of the file.

    Raises UserError if the file holds no model, or one with code or with layers that Keras does not know.
    """
    if path.suffix != ".keras":
        raise UserError(f"{path}: expected a file that ends in .keras, or a network: {', '.join(SHAPES)}")
    if not path.is_file():
        raise UserError(f"{path}: missing; `reprocnn export` writes export/mnist.keras and export/cifar.keras")
    try:
        return keras.models.load_model(path, safe_mode=True)
    except Exception as error:  # Keras raises many kinds, depending on the file
        reason = graph.one_line(error)
    try:
        # Without its optimizer and loss, which may not be those of Keras, the layers can still be judged.
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception:
        raise UserError(
            f"{path}: cannot be loaded without running its code ({reason}); build it from Keras' own layers and save it"
        ) from None


def _read_loss(loss: Any) -> Loss | None:
    """Describe a loss as `compile` takes it; None for several, and for those that no rule knows."""
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    name = getattr(loss, "__name__", None) or type(loss).__name__
    for kind in LOSSES:
        if name in (kind, kind.title().replace("_", "")):
            return Loss(kind, bool(getattr(loss, "from_logits", False)))
    return None


def _read_labels(y: Any, loss: Loss | None, rank: int) -> tuple[bool | None, int | None]:
    """Say whether the labels are one-hot rows, and if not, the highest; None, None unless they are of classes."""
    if y is None or loss is None or not loss.is_categorical:
        return None, None
    labels = np.asarray(y)
    if labels.ndim == rank and labels.shape[-1] > 1:
        return True, None
    return False, int(labels.max())
