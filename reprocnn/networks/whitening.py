"""A first convolution that is computed instead of trained: it whitens the patches of the training images."""

import numpy as np

from reprocnn.backend import keras

EPSILON = 5e-4  # added to the variances, so that directions of mere noise are not blown up


def patches(x: np.ndarray, size: int) -> np.ndarray:
    """Cut all `size` x `size` patches from images (n, height, width, channels), as rows of their values."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))  # (n, h, w, c, size, size)
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * x.shape[-1])


def whitening_kernel(x: np.ndarray, size: int) -> np.ndarray:
    """Compute a kernel (size, size, channels, 2 * size * size * channels) that whitens the patches of `x`.

    Over these patches, the outputs of its first half have unit variance and are uncorrelated; its second half is the
    negative of the first. As in Page's "How to train your ResNet 8" and cifar10-airbench (arXiv 2404.00498, 3.2).
    """
    rows = patches(x, size)
    covariance = rows.T.astype(np.float64) @ rows / len(rows)
    variances, directions = np.linalg.eigh(covariance)
    # A row of `filters` is a direction over the square root of its variance; the largest variance comes first.
    filters = (directions / np.sqrt(variances + EPSILON)).T[::-1]
    kernel = filters.reshape(-1, size, size, x.shape[-1]).transpose(1, 2, 3, 0)
    return np.concatenate([kernel, -kernel], axis=-1).astype(np.float32)


def set_whitening(model: keras.Model, x: np.ndarray, images: int = 5000) -> None:
    """Set and freeze the kernel of the layer called `whitening`, from the first `images` of `x`; its bias stays."""
    layer = model.get_layer("whitening")
    seen = np.asarray(model.get_layer("normalization")(x[:images]))
    layer.kernel.assign(whitening_kernel(seen, layer.kernel_size[0]))
    layer.kernel.trainable = False
