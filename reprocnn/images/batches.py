"""Arrays cut into the batches that Keras takes."""

from typing import Any

from reprocnn.backend import keras, tf


def batches(arrays: Any, size: int) -> Any:
    """Make a tf.data.Dataset of batches of `size`, in order, the last one smaller, of an array or a tuple of arrays.

    Pass it to `fit`, `evaluate` and `predict` instead of the arrays: Keras wraps arrays in a data set with autotuning,
    whose thread sleeps 10 ms, 20, 40 and so on, and at the end of the data TensorFlow 2.21 waits for it to wake. MNIST
    epochs whose steps took 5.2 seconds lasted 10.3.
    """
    n = len(keras.tree.flatten(arrays)[0])
    whole = n - n % size
    # Cut by a view of the arrays: Dataset.batch would put each batch together from single images.
    cut = keras.tree.map_structure(lambda a: a[:whole].reshape(-1, size, *a.shape[1:]), arrays)
    result = tf.data.Dataset.from_tensor_slices(cut)
    if whole < n:
        rest = tf.data.Dataset.from_tensors(keras.tree.map_structure(lambda a: a[whole:], arrays))
        result = result.concatenate(rest) if whole else rest
    options = tf.data.Options()
    options.autotune.enabled = False
    return result.with_options(options)
