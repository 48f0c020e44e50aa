"""The networks that params.yaml can name. Each takes raw uint8 pixels and ends in class probabilities.

`assignment`, `one_conv` and `warmup` quote the exercise this project comes from, layer for layer, with a
normalization in front. `mnist_cnn` and `cifar_cnn` are the project's own, sized by params.yaml.
"""

import keras
import numpy as np
from keras import layers
from keras.initializers import RandomNormal

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
    """The model that `network` names, not compiled; the three quotations ignore the sizes and the precision.

    `precision` is the dtype policy of the convolutions, and of the pooling, which chooses among their values. What else
    is between them stays in float32: TensorFlow is no faster there in bfloat16 on a CPU, mostly slower.

    Layer names count from 1 in each process-wide Keras session, so it is cleared first: the same call gives the
    same names, and with the same seed the same weights.
    """
    keras.utils.clear_session(free_memory=False)
    if network in QUOTATIONS:
        return QUOTATIONS[network](shape, num_classes, normalization)
    return NETWORKS[network](shape, num_classes, normalization, filters, depth, kernel_size, dropout, precision)


def assignment(shape: Shape, num_classes: int, normalization: layers.Layer) -> keras.Model:
    """The exercise's MNIST network: 198,470 parameters at 28x28x1."""
    normal = RandomNormal(stddev=0.1)
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
    """Its ancestor in the exercise's second insight: one convolution, no batch norm, "around 98.5 %"."""
    normal = RandomNormal(stddev=0.1)
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
    """The exercise's flawed network, faults included: kept to be looked at, not to be used."""
    zeros, normal = "zeros", RandomNormal()
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
    """A 5x5 convolution with stride 2, then two groups of `depth` convolutions with 2 and 4 times its `filters`.

    All is made for few positions at the layers behind the first one, where the time goes: of digits, which have a
    margin, 2 pixels are cut off at each side, and 10x10 positions are left of the stride; each group is pooled after
    its first convolution, before the ReLU. Batch norm is in the last group alone: at more positions it costs time
    and gives nothing here (README).
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
    """Keller Jordan's airbench network (arXiv 2404.00498, section 3): whitening, then three groups of `depth`
    convolutions (`filters`, then twice 4 times `filters`), each pooled after its first; airbench's has two.

    The kernel of the 2x2 layer `whitening` is for `set_whitening` to fill. Convolutions start as the identity on their
    first channels (dirac); batch norm has no scale, as what follows it is a convolution that can have it.
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
    """Lets the first filters pass their channels on, as many as there are of both; the other filters stay random."""
    kernel = keras.ops.convert_to_numpy(convolution.kernel).copy()
    height, width, channels, filters = kernel.shape
    same = np.arange(min(channels, filters))
    kernel[..., same] = 0
    kernel[height // 2, width // 2, same, same] = 1
    convolution.kernel.assign(kernel)


QUOTATIONS = {"assignment": assignment, "one_conv": one_conv, "warmup": warmup}
NETWORKS = {"mnist_cnn": mnist_cnn, "cifar_cnn": cifar_cnn}
