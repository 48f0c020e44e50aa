"""Which of Keras' activations and losses a custom function computes, by what it gives for random numbers."""

from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from reprocnn.backend import keras

ACTIVATIONS = (
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "softsign", "tanh",
    "sigmoid", "hard_sigmoid", "exponential", "softmax", "log_softmax",
)  # fmt: skip
ROWS, CLASSES = 12, 10
CLOSE = 1e-3  # approximations of gelu differ by less


def activation(function: Callable[..., Any]) -> str:
    """Name what `function` computes: `softmax` if its rows are probabilities that sum to 1, `unknown` if nothing fits.

    A function of Keras is known by its name, a layer is not looked into.
    """
    if str(getattr(function, "__module__", "")).startswith("keras."):
        return getattr(function, "__name__", "unknown")
    return _activation(function) if isinstance(function, Hashable) else "unknown"


def loss(function: Callable[..., Any], units: int) -> tuple[str, bool] | None:
    """Name the loss of Keras that `function` computes of so many units, and say whether it takes logits.

    Give None if nothing fits.
    """
    own = as_fit_calls(function)
    for name, from_logits, expected, labels, outputs in _losses(units):
        try:
            fits = np.allclose(float(own(labels, outputs)), expected, rtol=CLOSE)
        except Exception:  # of a function that is not ours
            continue
        if fits:
            return name, from_logits
    return None


def as_fit_calls(loss: Any) -> Callable[[Any, Any], Any]:
    """Return a loss as `fit` calls it, with the mean over rows."""
    return loss if isinstance(loss, keras.losses.Loss) else keras.src.losses.losses.LossFunctionWrapper(loss)


@lru_cache(maxsize=256)
def _activation(function: Callable[..., Any]) -> str:
    x = keras.ops.convert_to_tensor(5 * np.random.default_rng(0).standard_normal((ROWS, CLASSES), "float32"))
    try:
        values = keras.ops.convert_to_numpy(function(x))
    except Exception:  # of a function that is not ours
        return "unknown"
    if values.shape != x.shape or values.dtype.kind != "f":
        return "unknown"
    for name in ACTIVATIONS:
        expected = keras.ops.convert_to_numpy(getattr(keras.activations, name)(x))
        if np.allclose(values, expected, rtol=CLOSE, atol=CLOSE):
            return name
    return "softmax" if are_probabilities(values) else "unknown"


def are_probabilities(values: np.ndarray) -> bool:
    """Check whether each row along the last axis is positive and sums to 1."""
    return values.shape[-1] > 1 and bool((values >= 0).all() and (np.abs(values.sum(axis=-1) - 1) < CLOSE).all())


def _losses(units: int) -> Iterator[tuple[str, bool, float, np.ndarray, np.ndarray]]:
    """Yield name, from_logits and value of each loss, for the labels and outputs that follow."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((ROWS, units)).astype("float32")
    numbers = rng.integers(0, max(units, 2), ROWS).astype("float32")  # as Keras casts them
    rows = numbers[:, None] if units == 1 else np.eye(units, dtype="float32")[numbers.astype(int)]
    probabilities = 1 / (1 + np.exp(-logits))
    if units > 2:  # of two that sum to 1, binary and categorical cross-entropy are equal
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    kinds = {"Binary": rows} if units == 1 else {"SparseCategorical": numbers, "Categorical": rows, "Binary": rows}
    for kind, labels in kinds.items():
        for from_logits in (True, False):
            one = getattr(keras.losses, f"{kind}Crossentropy")(from_logits=from_logits)
            yield one.name, from_logits, float(one(labels, probabilities)), labels, probabilities
    for one in (keras.losses.MeanSquaredError(), keras.losses.MeanAbsoluteError()):
        yield one.name, False, float(one(rows, logits)), rows, logits
