"""What a rule is, what it is given and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # needs Keras, which the command's --help does not
    from reprocnn.audit.graph import Graph

LEVELS = {
    "error": "cannot work, or barely",
    "warning": "probably a mistake",
    "note": "costs something but does no harm",
}

Found = Iterator[tuple[str, str]]  # layer, message
Find = Callable[["Graph", "Task"], Found]


@dataclass(frozen=True)
class Loss:
    """The loss, as far as the rules know it."""

    kind: str  # as Keras names the function: categorical_crossentropy
    from_logits: bool

    @property
    def is_categorical(self) -> bool:
        """Check whether the classes exclude each other."""
        return "categorical" in self.kind

    @property
    def is_sparse(self) -> bool:
        """Check whether the labels are class numbers."""
        return self.kind.startswith("sparse")


@dataclass(frozen=True)
class Task:
    """What the model is for; None for what is not known."""

    loss: Loss | None = None
    num_classes: int | None = None
    one_hot: bool | None = None  # the labels are rows, not class numbers
    last_label: int | None = None  # the highest class number among the labels


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
