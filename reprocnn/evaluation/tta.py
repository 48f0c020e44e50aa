"""Predictions, plain and with test-time augmentation (TTA)."""

from collections.abc import Callable

import numpy as np

from reprocnn.backend import keras

BATCH_SIZE = 1000  # three times as fast as Keras' 32
SHIFTS = {(0, 0): 0.5, (-1, -1): 0.25, (1, 1): 0.25}  # rows and columns, and their weights


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Predict the probabilities (n, classes) of the images as they are."""
    from reprocnn.images.batches import batches  # needs TensorFlow, which benchmarks/run/gpu.py can do without

    return model.predict(batches(x, BATCH_SIZE), verbose=0)


def predict_tta(
    model: keras.Model,
    x: np.ndarray,
    flip: bool,
    predict: Callable[[keras.Model, np.ndarray], np.ndarray] = predict,
    plain: np.ndarray | None = None,
) -> np.ndarray:
    """Average the probabilities (n, classes) of several views of each image.

    The views are the image as it is, moved by a pixel up left and down right, and with `flip` each of these mirrored.
    The mean is of logarithms, weighted, so that the best class is that of the mean logits (arXiv 2404.00498, section
    3.5). `plain` are the probabilities of the images as they are, if known.
    """
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    height, width = x.shape[1:3]
    total = 0.0
    for (down, right), weight in SHIFTS.items():
        moved = padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        known = plain if (down, right) == (0, 0) else None
        views = [known if known is not None else predict(model, moved)]
        if flip:
            views.append(predict(model, moved[:, :, ::-1]))
        for probabilities in views:
            total = total + weight / len(views) * np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    mean = np.exp(total)
    return mean / mean.sum(axis=1, keepdims=True)
