"""The networks that params.yaml can name. Each takes raw uint8 pixels and ends in class probabilities.

`assignment`, `one_conv` and `warmup` quote the exercise this project comes from, layer for layer, with a
normalization in front. `mnist_cnn` and `cifar_cnn` are the project's own, sized by params.yaml.
"""

import numpy as np

from reprocnn.backend import keras, layers

Shape = tuple[int | None, int | None, int]  # height, width, channels; None: any


def build(
    network: str,
    shape: Shape,
    num_classes: int,
    normalization: layers.Layer,
    *,
    filters: int,
    depth: int,
    kernel_size: int,
    dropout: float,
    precision: str = "float32",
) -> keras.Model:
    """Build the model that `network` names, not compiled; the three quotations ignore sizes and precision.

    `precision` is the dtype policy of the convolutions, and of the pooling, which only selects among their values.
    Normalization and activations stay in float32: on a CPU, TensorFlow is no faster there in bfloat16, mostly slower.

    Keras numbers layer names within a process-wide session, so the session is cleared first: the same call gives the
    same names, and with the same seed the same weights.
    """
    keras.utils.clear_session(free_memory=False)
    if network in QUOTATIONS:
        return QUOTATIONS[network](shape, num_classes, normalization)
    return NETWORKS[network](shape, num_classes, normalization, filters, depth, kernel_size, dropout, precision)


def assignment(shape: Shape, num_classes: int, normalization: layers.Layer) -> keras.Model:
    """Build the exercise's MNIST network: 198,470 parameters at 28x28x1."""
    normal = keras.initializers.RandomNormal(stddev=0.1)
    return keras.Sequential(
        [
            keras.Input(shape, dtype="uint8"),
            normalization,
            layers.Conv2D(8, (3, 3), activation="relu", kernel_initializer=normal),
            layers.Conv2D(16, (5, 5), activation="relu", kernel_initializer=normal.clone()),
            layers.BatchNormalization(),
            layers.MaxPooling2D((2, 2)),
            layers.Dropout(0.20),
            layers.Flatten(),
            layers.Dense(100, activation="elu", kernel_initializer=normal.clone()),
            layers.BatchNormalization(),
            layers.Dropout(0.20),
            layers.Dense(num_classes, activation="softmax"),
        ],
        name="assignment",
    )


def one_conv(shape: Shape, num_classes: int, normalization: layers.Layer) -> keras.Model:
    """Build the ancestor of `assignment` in the exercise's second insight: one convolution, "around 98.5 %"."""
    normal = keras.initializers.RandomNormal(stddev=0.1)
    return keras.Sequential(
        [
            keras.Input(shape, dtype="uint8"),
            normalization,
            layers.Conv2D(8, (3, 3), activation="relu", kernel_initializer=normal),
            layers.MaxPooling2D((2, 2)),
            layers.Dropout(0.20),
            layers.Flatten(),
            layers.Dense(100, activation="elu", kernel_initializer=normal.clone()),
            layers.Dropout(0.20),
            layers.Dense(num_classes, activation="softmax"),
        ],
        name="one_conv",
    )


def warmup(shape: Shape, num_classes: int, normalization: layers.Layer) -> keras.Model:
    """Build the exercise's flawed network, faults included: kept to be studied, not to be used."""
    zeros, normal = "zeros", keras.initializers.RandomNormal()
    return keras.Sequential(
        [
            keras.Input(shape, dtype="uint8"),
            normalization,
            layers.Conv2D(512, (3, 3), kernel_initializer=zeros),
            layers.Activation("relu"),
            layers.Conv2D(128, (3, 3), kernel_initializer=zeros),
            layers.Activation("relu"),
            layers.Conv2D(32, (3, 3), kernel_initializer=zeros),
            layers.Activation("relu"),
            layers.MaxPooling2D((6, 6)),
            layers.Conv2D(8, (10, 10), kernel_initializer=normal, padding="same"),
            layers.Activation("relu"),
            layers.Conv2D(8, (10, 10), kernel_initializer=normal.clone(), padding="same"),
            layers.Activation("relu"),
            layers.MaxPooling2D((3, 3)),
            layers.Flatten(),
            layers.Dense(512),
            layers.Activation("softmax"),
            layers.Dropout(0.5),
            layers.Dense(512),
            layers.Activation("softmax"),
            layers.Dense(num_classes),
            layers.Activation("sigmoid"),
            layers.Dropout(0.5),
        ],
        name="warmup",
    )


def mnist_cnn(
    shape: Shape,
    num_classes: int,
    normalization: layers.Layer,
    filters: int,
    depth: int,
    kernel_size: int,
    dropout: float,
    precision: str,
) -> keras.Model:
    """Build a 5x5 convolution with stride 2, then two groups of `depth` convolutions with 2 and 4 times its `filters`.

    The layers behind the first convolution take most of the time, so they get few positions: digits have a margin, of
    which 2 pixels are cropped at each side; the stride leaves 10x10 positions; each group is pooled after its first
    convolution, before the ReLU. Batch norm is in the last group alone: at more positions it costs time and brings
    nothing here.
    """
    x = inputs = keras.Input(shape, dtype="uint8")
    x = normalization(x)
    x = layers.Cropping2D(2)(x)
    x = layers.Conv2D(filters, 5, strides=2, dtype=precision)(x)
    x = layers.ReLU()(x)
    for factor, norm in ((2, False), (4, True)):
        for index in range(depth):
            x = layers.Conv2D(factor * filters, kernel_size, padding="same", use_bias=not norm, dtype=precision)(x)
            x = layers.MaxPooling2D(2, padding="same", dtype=precision)(x) if index == 0 else x
            x = layers.BatchNormalization(momentum=0.9)(x) if norm else x
            x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(dropout)(x)
    x = layers.Dense(num_classes, activation="softmax")(x)
    return keras.Model(inputs, x, name="mnist_cnn")


def cifar_cnn(
    shape: Shape,
    num_classes: int,
    normalization: layers.Layer,
    filters: int,
    depth: int,
    kernel_size: int,
    dropout: float,
    precision: str,
) -> keras.Model:
    """Build Keller Jordan's airbench network (arXiv 2404.00498, section 3).

    Whitening is followed by three groups of `depth` convolutions (airbench: two): `filters`, then twice 4 times as
    many, pooled after the first of a group. `set_whitening` fills the kernel of the 2x2 layer `whitening`.
    Convolutions start as the identity on their first channels (dirac); batch norm has no scale, which the convolution
    after it can provide.
    """
    x = inputs = keras.Input(shape, dtype="uint8")
    x = normalization(x)
    x = layers.Conv2D(2 * 4 * shape[-1], 2, activation="gelu", name="whitening")(x)
    for factor in (1, 4, 4):
        for index in range(depth):
            convolution = layers.Conv2D(
                factor * filters,
                kernel_size,
                padding="same",
                use_bias=False,
                kernel_initializer="he_uniform",
                dtype=precision,
            )
            x = convolution(x)
            _start_as_identity(convolution)
            x = layers.MaxPooling2D(2, dtype=precision)(x) if index == 0 else x
            x = layers.BatchNormalization(momentum=0.6, scale=False, epsilon=1e-12)(x)
            x = layers.Activation("gelu")(x)
    x = layers.GlobalMaxPooling2D()(x)
    x = layers.Dropout(dropout)(x)
    start = keras.initializers.RandomNormal(stddev=1 / x.shape[-1])
    x = layers.Dense(num_classes, use_bias=False, kernel_initializer=start, activation="softmax")(x)
    return keras.Model(inputs, x, name="cifar_cnn")


def _start_as_identity(convolution: layers.Conv2D) -> None:
    """Make the first filters pass their channels on, as many as there are of both; the other filters stay random."""
    kernel = keras.ops.convert_to_numpy(convolution.kernel).copy()
    height, width, channels, filters = kernel.shape
    same = np.arange(min(channels, filters))
    kernel[..., same] = 0
    kernel[height // 2, width // 2, same, same] = 1
    convolution.kernel.assign(kernel)


QUOTATIONS = {"assignment": assignment, "one_conv": one_conv, "warmup": warmup}
NETWORKS = {"mnist_cnn": mnist_cnn, "cifar_cnn": cifar_cnn}
