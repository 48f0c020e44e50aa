"""A Keras callback: audit a model before its first epoch, and watch the first epochs for what only training shows.

model.fit(x, y, callbacks=[Audit(x=x, y=y, watch=2)])
"""

import math
import sys
from typing import Any

from reprocnn.audit import graph
from reprocnn.audit.api import audit
from reprocnn.audit.command import as_text
from reprocnn.audit.rules.common import activation
from reprocnn.audit.task import first_batch
from reprocnn.backend import keras, tf
from reprocnn.core.errors import UserError

DEAD = 0.9  # of a layer's units, zero for every row
STILL = 1e-3  # relative change of the loss over the watched epochs
VANISHED = 1e-6  # of the largest gradient, relative to the weights
SMALL = 0.01  # root mean square; weights that started at zero are still smaller, and no measure of their gradient


class Audit(keras.callbacks.Callback):
    """Print the findings to stderr before the first epoch, and stop if one is an error.

    `x`, `y`, `num_classes` and `ignore` are as for `audit`. After each of the first `watch` epochs, run the first rows
    of `x` through the model, and print which layers have dead units or vanished gradients and whether the loss is not
    finite; after the last of these epochs, also whether the loss has not moved.
    """

    def __init__(self, *, stop: bool = True, watch: int = 0, **known: Any) -> None:
        super().__init__()
        self._stop, self._watch, self._known = stop, watch, known
        self._losses: list[float] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Audit the model as it was compiled. Raises UserError for an error, unless `stop` is False."""
        if tf is not None and "x" in self._known:  # audit() says what is missing
            self._known["x"], self._known["y"] = first_batch(self._known["x"], self._known.get("y"))
        findings = audit(self.model, **self._known)
        if findings:
            print(as_text(self.model.name, findings), file=sys.stderr)
        errors = [f"{one.code}: {one.layer}: {one.message}" for one in findings if one.level == "error"]
        if errors and self._stop:
            raise UserError(
                "\n".join([*errors, "Fix the model, or pass stop=False to Audit() to train it all the same."])
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print what went wrong in one of the first epochs."""
        if len(self._losses) >= self._watch:
            return
        self._losses.append(float((logs or {}).get("loss", math.nan)))
        for line in [*self._of_the_loss(), *_of_the_layers(graph.read(self.model, self._known.get("x")))]:
            print(f"audit: epoch {epoch + 1}: {line}", file=sys.stderr)

    def _of_the_loss(self) -> list[str]:
        first, last = self._losses[0], self._losses[-1]
        if not math.isfinite(last):
            return [f"the loss is {last}: lower the learning rate, or look for NaN in the data"]
        if 1 < len(self._losses) == self._watch and abs(last - first) <= STILL * abs(first):
            return [f"the loss has not moved in {self._watch} epochs: {first:.4g}, {last:.4g}"]
        return []


def _of_the_layers(read: graph.Graph) -> list[str]:
    lines = [
        f"{call.name}: {call.output.dead:.0%} of its units are zero for all rows: lower the learning rate, or use "
        "leaky_relu"
        for call in read.calls
        if activation(call) == "relu" and call.output.dead > DEAD
    ]
    sizes = {name: _relative_gradient(layer, read) for name, layer in read.leaves.items() if layer.trainable_weights}
    largest = max(sizes.values(), default=0.0)
    return lines + [
        f"{name}: its gradient is {size / largest:.1g} of the largest, relative to the weights: it has vanished"
        for name, size in sizes.items()
        if largest and size < VANISHED * largest
    ]


def _relative_gradient(layer: Any, read: graph.Graph) -> float:
    """Return the largest root mean square of a gradient over that of its weight.

    Biases start at 0, so they count only in layers without other weights.
    """
    sizes = [0.0]
    others = [one for one in layer.trainable_weights if len(one.shape) > 1 and not one.name.endswith("bias")]
    for weight in others or layer.trainable_weights:
        gradient = read.gradients.get(id(weight))
        if gradient is not None:
            values = weight.value.numpy()
            sizes.append(float((gradient**2).mean() ** 0.5 / max((values**2).mean() ** 0.5, SMALL)))
    return max(sizes)
