"""What a network says of an image when it is asked several times."""

from collections.abc import Callable

import keras
import numpy as np

BATCH_SIZE = 1000  # three times as fast as Keras' 32
SHIFTS = {(0, 0): 0.5, (-1, -1): 0.25, (1, 1): 0.25}  # rows and columns, and their weights


def predict(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) of the images as they are."""
    from stages.lib.batches import batches  # here, since it takes TensorFlow, which benchmarks/gpu.py can be without

    return model.predict(batches(x, BATCH_SIZE), verbose=0)


def predict_tta(
    model: keras.Model, x: np.ndarray, flip: bool, predict: Callable[[keras.Model, np.ndarray], np.ndarray] = predict
) -> np.ndarray:
    """Probabilities (n, classes) averaged over views: as it is, moved by a pixel up left and down right, and with
    `flip` each mirrored too.

    The mean is of logarithms, weighted, so that the best class is that of the mean logits (arXiv 2404.00498, 3.5).
    """
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    height, width = x.shape[1:3]
    total = 0.0
    for (down, right), weight in SHIFTS.items():
        view = padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        views = [view, view[:, :, ::-1]] if flip else [view]
        for seen in views:
            total = total + weight / len(views) * np.log(np.maximum(predict(model, seen), np.finfo(np.float32).tiny))
    mean = np.exp(total)
    return mean / mean.sum(axis=1, keepdims=True)
