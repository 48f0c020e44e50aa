"""Audit models from Python: `audit(model)` gives the findings as a list."""

import difflib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reprocnn.audit import graph, task
from reprocnn.audit.files import load
from reprocnn.audit.rules import (
    activations,
    compilation,
    data,
    initialization,
    labels,
    losses,
    order,
    output,
    shapes,
    structure,
    values,
)
from reprocnn.audit.rules.base import LEVELS, Finding, Rule
from reprocnn.backend import keras, layers, tf
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.networks.build import build as build_network

# Height, width and channels of the images that each network is made for.
SHAPES = {
    "assignment": (28, 28, 1), "one_conv": (28, 28, 1), "warmup": (100, 100, 3),
    "mnist_cnn": (28, 28, 1), "cifar_cnn": (32, 32, 3),
}  # fmt: skip
NUM_CLASSES = 10
# In the order of the page: module by module, as written.
RULES = [
    value
    for module in (
        initialization,
        values,
        structure,
        shapes,
        order,
        activations,
        output,
        losses,
        labels,
        data,
        compilation,
    )
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
    model: keras.Model,
    *,
    loss: Any = None,
    num_classes: int | None = None,
    x: Any = None,
    y: Any = None,
    ignore: dict[str, str] | None = None,
) -> list[Finding]:
    """Find the design flaws of a built model, the worst first. The model is left as it was.

    `loss` is as for `compile`; the default is the one the model was compiled with. `x` and `y` are as for `fit`: a
    few rows of `x` run through the model instead of noise, and build it if need be; the labels `y` are compared with
    losses and outputs. From a tf.data.Dataset, a PyDataset or an iterator, the first batch is taken. `ignore` switches
    rules off: it maps a rule's code to the reason. Rules that lack what they need are skipped.

    Raises UserError if the model is not built or cannot compute the batch, or if an argument is not as for `fit`.
    """
    if tf is None:
        raise UserError(
            f"expected Keras on TensorFlow, found it on {keras.backend.backend()}. Save the model as .keras and run "
            "`reprocnn audit` on the file."
        )
    if not isinstance(model, keras.Model):
        raise UserError(f"model: expected a Keras model, got {type(model).__name__}. `reprocnn audit` takes files.")
    ignored = {} if ignore is None else ignore
    _check_codes(ignored)
    x, y = task.first_batch(x, y)
    _check_rows(x, y)
    if not model.built and x is not None:
        graph.build(model, x)
    names = task.output_names(model)
    is_own_step = type(model).train_step is not keras.Model.train_step
    given = task.read_losses(model, loss, names, not is_own_step) if names else []
    with_loss = {place for place, *_ in given}
    trained = [place in with_loss for place in range(len(names))]
    read = graph.read(model, x, trained if len(trained) > 1 and any(trained) and not is_own_step else None)
    if not names:  # only its results say
        names = read.names
        given = task.read_losses(model, loss, names, not is_own_step)
    if is_own_step and len(names) > 1 and isinstance(y, list | tuple) and len(y) != len(names):
        y = None  # only that step knows what they are
    known = task.read(model, read, names, given, num_classes, x, y)
    findings = [
        Finding(rule.code, rule.level, layer, message, rule.why, rule.fix)
        for rule in RULES
        if rule.code not in ignored
        for layer, message in rule.find(read, known)
    ]
    # A layer that is used twice is reported once.
    return sorted(dict.fromkeys(findings), key=lambda finding: list(LEVELS).index(finding.level))


def audit_by_name(name: str, ignore: dict[str, str] | None = None) -> list[Finding]:
    """Audit a network of params.yaml, with the project's loss and ten classes, or the model of a .keras or .h5 file."""
    _check_codes({} if ignore is None else ignore)
    if name in SHAPES:
        keras.utils.set_random_seed(0)
        return audit(build(name), loss="categorical_crossentropy", num_classes=NUM_CLASSES, ignore=ignore)
    if not name.endswith((".keras", ".h5", ".hdf5")):
        other = " Save the model as .keras where it is built." if name.endswith(".pb") else ""
        raise UserError(
            f"{name}: expected a file that ends in .keras or .h5, or a network: {', '.join(SHAPES)}.{other}"
        )
    return audit(load(Path(name)), ignore=ignore)


def build(name: str) -> keras.Model:
    """Build a network as params.yaml sizes it, untrained, with the exercise's normalization."""
    shape = SHAPES[name]
    sizes = params.read(Sizes, "cifar" if shape[-1] == 3 else "mnist")
    normalization = layers.Rescaling(1 / 255, -0.5, name="normalization")
    return build_network(name, shape, NUM_CLASSES, normalization, **asdict(sizes))


def _check_codes(ignored: Any) -> None:
    if not isinstance(ignored, dict):
        raise UserError(f"ignore: expected a reason by code, such as {{'one-unit': 'a line'}}, got {ignored!r}.")
    known = [rule.code for rule in RULES]
    for code, reason in ignored.items():
        if code not in known:
            near = "".join(f", such as {one}" for one in difflib.get_close_matches(str(code), known, n=1))
            raise UserError(f"ignore: {code}: expected the code of a rule{near}; `reprocnn audit --rules` lists them")
        if not str(reason or "").strip():
            raise UserError(f"ignore: {code}: expected a reason. Say why the finding does not apply.")


def _check_rows(x: Any, y: Any) -> None:
    parts = [part for part in keras.tree.flatten([x, y]) if hasattr(part, "__len__") and np.ndim(part)]
    rows = [part.shape[0] if hasattr(part, "shape") else len(part) for part in parts]  # a sparse matrix has no length
    if len(set(rows)) > 1:
        raise UserError(f"x and y: expected as many rows in each, got {' and '.join(map(str, dict.fromkeys(rows)))}.")
