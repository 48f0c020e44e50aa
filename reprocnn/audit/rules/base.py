"""What a rule is, what it is given and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # needs Keras, which the command's --help does not
    from reprocnn.audit.graph import Call, Graph, Signal

REGRESSION = (
    "mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error", "mean_squared_logarithmic_error",
    "huber", "log_cosh",
)  # fmt: skip
# In the names of custom losses that compare a number with the output.
NAMES = ("squared_error", "absolute_error", "mse", "mae", "rmse", "huber", "quantile", "pinball", "tilted")

LEVELS = {
    "error": "cannot work, or barely",
    "warning": "probably a mistake",
    "note": "costs something but does no harm",
}

PROBABILISTIC = (
    "binary_crossentropy", "binary_focal_crossentropy", "kl_divergence", "dice", "tversky",
)  # fmt: skip

Found = Iterator[tuple[str, str]]  # layer, message
Find = Callable[["Graph", "Task"], Found]


@dataclass(frozen=True)
class Loss:
    """The loss of an output."""

    kind: str  # as Keras names the function: categorical_crossentropy; empty if there is none
    from_logits: bool = False
    is_known: bool = True  # one of Keras' own
    options: dict[str, Any] = field(default_factory=dict, compare=False)
    function: Any = field(default=None, compare=False)

    def __bool__(self) -> bool:
        """Check whether there is one."""
        return bool(self.kind)

    @property
    def is_categorical(self) -> bool:
        """Check whether the classes exclude each other."""
        return "categorical_" in self.kind and self.kind != "categorical_hinge"

    @property
    def is_regression(self) -> bool:
        """Check whether the labels are numbers that the output is to come near."""
        return self.kind in REGRESSION if self.is_known else any(name in self.kind.lower() for name in NAMES)

    @property
    def is_sparse(self) -> bool:
        """Check whether the labels are class numbers."""
        return self.kind.startswith("sparse")

    @property
    def takes_logarithms(self) -> bool:
        """Check whether it expects probabilities rather than logits."""
        return self.is_known and (self.is_categorical or self.kind in PROBABILISTIC)


NO_LOSS = Loss("", is_known=False)


@dataclass(frozen=True, eq=False)
class Head:
    """An output, what it is trained for, and what is known of its labels."""

    call: "Call"  # the layer that ends it
    activation: str  # of that layer: `linear` if it has none, `unknown` if it is not a known layer
    output: "Call"  # the last call: dropout or a reshaping may follow the layer
    shape: tuple[int | None, ...]  # None for axes that the model leaves open
    signal: "Signal"  # what came out for the batch
    loss: Loss = NO_LOSS
    weight: float | None = None
    labels: np.ndarray | None = None
    metrics: tuple[Any, ...] = ()
    num_classes: int | None = None

    @property
    def units(self) -> int:
        """Count the units or channels."""
        inner = self.shape if self.activation == "unknown" else self.call.output.shape
        return int(inner[-1] or self.call.output.shape[-1])

    @property
    def one_hot(self) -> bool | None:
        """Check whether the labels are rows, not class numbers; None unless they are of classes."""
        labels = self.labels
        if labels is None or not self.loss.is_categorical:
            return None
        if labels.ndim < 2:
            return False
        if labels.ndim == len(self.shape):
            return labels.shape[-1] > 1
        # Rows of a whole image, where the output has one per pixel.
        is_row = labels.ndim == 2 and labels.shape[-1] == self.units > 1
        return is_row and bool((np.abs(labels.sum(axis=-1) - 1) < 1e-3).all() and (labels >= 0).all())

    @property
    def classes(self) -> np.ndarray | None:
        """Return the class numbers among the labels, without those that the loss ignores."""
        if self.one_hot is not False or self.labels is None:
            return None
        ignored = self.loss.options.get("ignore_class")
        return self.labels[np.isfinite(self.labels) & (self.labels != ignored)]

    @property
    def starts_at_one(self) -> bool:
        """Check whether as many classes as there are units are numbered from 1."""
        numbers = self.classes
        is_counted = numbers is not None and numbers.size > 0
        return is_counted and 1 < self.units == numbers.max() and numbers.min() == 1  # type: ignore[union-attr]


@dataclass(frozen=True)
class Task:
    """What the model is for, as far as it is known."""

    heads: tuple[Head, ...] = ()
    optimizer: Any = None
    inputs: dict[str, np.ndarray] = field(default_factory=dict)  # all rows of `x`, by the names of the inputs
    # What an Embedding, a CategoryEncoding or a lookup reads of them, at each place, by its id.
    ids: dict[int, list[np.ndarray]] = field(default_factory=dict)
    model: Any = None
    x: Any = None


@dataclass(frozen=True)
class Finding:
    """A design flaw of one layer."""

    code: str
    level: str
    layer: str
    message: str
    why: str
    fix: str


@dataclass(frozen=True)
class Rule:
    """A kind of design flaw, and how to find it."""

    code: str
    level: str
    what: str
    why: str
    fix: str
    find: Find


def rule(level: str, *, why: str, fix: str) -> Callable[[Find], Rule]:
    """Make a rule of a function: its name is the code, its docstring what it finds and what it leaves alone."""

    def make(find: Find) -> Rule:
        what = " ".join(str(find.__doc__).split())
        return Rule(find.__name__.replace("_", "-"), level, what, why, fix, find)

    return make
