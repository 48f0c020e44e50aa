"""Small models for the tests of the audit, each with one property, and ways to read its findings."""

from typing import Any

import numpy as np

from reprocnn.audit.api import audit
from reprocnn.backend import keras, layers
from reprocnn.networks import build

CATEGORICAL: dict[str, Any] = {"loss": "categorical_crossentropy"}
LOGITS: dict[str, Any] = {"loss": keras.losses.CategoricalCrossentropy(from_logits=True)}
SPARSE: dict[str, Any] = {"loss": "sparse_categorical_crossentropy"}
PIXELS: dict[str, Any] = {"x": np.tile([[0.0], [255.0]], (4, 8)).astype("float32")}
ONES: dict[str, Any] = {"x": np.tile([[1.0], [-1.0]], (4, 8)).astype("float32")}  # root mean square and spread 1


def found(model, code, **known):
    return [(one.layer, one.message) for one in audit(model, **known) if one.code == code]


def by_code(findings):
    codes: dict[str, list[str]] = {}
    for one in findings:
        codes.setdefault(one.code, []).append(one.layer)
    return codes


def network(name, shape):
    normalization = layers.Rescaling(1 / 255, -0.5, name="normalization")
    return build.build(name, shape, 10, normalization, filters=8, depth=2, kernel_size=3, dropout=0.1)


def chain(shape, *stack, dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *stack])


def compiled(model, optimizer="adam", loss="sparse_categorical_crossentropy", **options):
    model.compile(optimizer, loss, **options)
    return model


def classifier(inputs, x, units=3, **options):
    """What is computed of the inputs, and the probabilities of so many classes."""
    return compiled(keras.Model(inputs, head(units)(x)), **options)


def dense(units, name, **options):
    return layers.Dense(units, name=name, **options)


def relu(units=8, **options):
    return layers.Dense(units, activation="relu", **options)


def head(units=3, **options):
    return dense(units, "head", **{"activation": "softmax"} | options)


def conv(filters, size, name, **options):
    return layers.Conv2D(filters, size, name=name, **{"padding": "same", "activation": "relu"} | options)


def pooled(*stack, shape=(12, 12, 3)):
    return chain(shape, *stack, layers.GlobalAveragePooling2D(), head())


def residual(last="zeros", out="zeros"):
    """As Fixup starts: the last layer of the branch at zero, and the head too."""
    inputs = keras.Input((8,))
    x = layers.Dense(8, activation="relu", name="stem")(inputs)
    branch = layers.Dense(8, activation="relu", name="inner")(x)
    branch = layers.Dense(8, kernel_initializer=last, name="last")(branch)
    x = layers.Add()([x, branch])
    return keras.Model(inputs, layers.Dense(3, kernel_initializer=out, activation="softmax", name="head")(x))


def shared():
    """A linear layer that goes into a layer with weights and into batch norm."""
    inputs = keras.Input((8,))
    first = layers.Dense(8, name="first")(inputs)
    branch = layers.Dense(8, name="second", activation="relu")(first)
    return keras.Model(inputs, head()(layers.Add()([branch, layers.BatchNormalization()(first)])))


def projected():
    """As SimSiam: what a linear layer gives is an output, and is predicted from."""
    inputs = keras.Input((8,))
    first = layers.Dense(8, name="first")(inputs)
    return keras.Model(inputs, [layers.Dense(8, name="second")(first), first])


def faint_branch():
    """As ConvNeXt's layer scale: a branch that starts at a millionth of its size, and is added."""
    inputs = keras.Input((8,))
    x = layers.Dense(8, name="stem", activation="relu")(inputs)
    branch = layers.Rescaling(1e-6)(layers.Dense(8, name="inner", activation="relu")(x))
    return keras.Model(inputs, head()(layers.Add()([x, branch])))


def bottleneck():
    inputs = keras.Input((12, 12, 3))
    x = conv(32, 3, "stem")(inputs)
    y = conv(8, 1, "narrow")(x)
    y = conv(8, 3, "middle")(y)
    x = layers.Add()([x, conv(32, 1, "wide", activation=None)(y)])
    return keras.Model(inputs, head()(layers.GlobalAveragePooling2D()(x)))


def narrow_branch():
    """A 3x3 of fewer filters whose maps are put beside those before, as in DenseNet."""
    inputs = keras.Input((12, 12, 3))
    x = conv(32, 3, "stem")(inputs)
    x = layers.Concatenate()([x, conv(8, 3, "growth")(x)])
    return keras.Model(inputs, head()(layers.GlobalAveragePooling2D()(x)))


def decoder():
    x = inputs = keras.Input((12, 12, 3))
    for filters in (16, 8):
        x = conv(filters, 3, f"conv_{filters}")(x)
    return keras.Model(inputs, conv(3, 3, "pixels", activation="sigmoid")(layers.UpSampling2D()(x)))


def attention():
    """Written out, so that its softmax is in the graph."""
    inputs = keras.Input((6, 8))
    queries, keys, values = (layers.Dense(8, name=name)(inputs) for name in ("queries", "keys", "values"))
    weights = layers.Dropout(0.1)(layers.Softmax()(layers.Dot(axes=2)([queries, keys])))
    x = layers.Dense(8, activation="relu", name="mixed")(layers.Dot(axes=(2, 1))([weights, values]))
    return keras.Model(inputs, head()(layers.GlobalAveragePooling1D()(x)))


def squeeze_and_excitation(gate="sigmoid"):
    inputs = keras.Input((12, 12, 3))
    x = conv(16, 3, "stem")(inputs)
    scale = layers.GlobalAveragePooling2D(keepdims=True)(x)
    scale = conv(4, 1, "squeeze")(scale)
    x = layers.Multiply()([x, conv(16, 1, "excite", activation=gate)(scale)])
    return keras.Model(inputs, head()(layers.GlobalAveragePooling2D()(x)))


def stopped():
    inputs = keras.Input((8,))
    x = keras.ops.stop_gradient(layers.Dense(5, name="cut", activation="relu")(inputs))
    return keras.Model(inputs, head()(x))


def equal_columns(equal=6):
    """Six units of random weights, of which some have the same: no initializer to read it from."""
    model = chain((8,), dense(6, "hidden", activation="relu"), head(kernel_initializer="ones"))
    kernel = model.get_layer("hidden").kernel
    values = np.abs(kernel.value.numpy())
    values[:, :equal] = values[:, :1]
    kernel.assign(values)
    return model


def frozen(values=None):
    model = chain((8,), dense(16, "projection", activation="relu"), head())
    layer = model.get_layer("projection")
    if values is not None:
        layer.kernel.assign(values)
    layer.trainable = False
    return model


def deep(initializer, activation=None, depth=3):
    stack = [dense(8, f"hidden_{i}", kernel_initializer=initializer, activation=activation) for i in range(depth)]
    return chain((8,), *stack, head())


def identity(gain):
    return keras.initializers.Identity(gain)
