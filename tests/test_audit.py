"""Each rule with a guilty and an innocent model, its numbers computed by hand; then whole networks."""

import dataclasses
import functools
import json
import zipfile
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

from benchmarks import grudges
from stages import audit as tool
from stages.audit import audit
from stages.lib import device, networks
from stages.lib.errors import UserError
from stages.lib.rules import LEVELS, RULES
from stages.lib.whitening import set_whitening
from tests.conftest import ROOT, call

CATEGORICAL: dict[str, Any] = {"loss": "categorical_crossentropy"}
LOGITS: dict[str, Any] = {"loss": keras.losses.CategoricalCrossentropy(from_logits=True)}
SPARSE: dict[str, Any] = {"loss": "sparse_categorical_crossentropy"}


@pytest.fixture(autouse=True)
def same_weights_and_names():
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


def chain(shape, *stack, dtype="float32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *stack])


def dense(units, name, **options):
    return layers.Dense(units, name=name, **options)


def head(units=3, **options):
    return dense(units, "head", **{"activation": "softmax"} | options)


def conv(filters, size, name, **options):
    return layers.Conv2D(filters, size, name=name, **{"padding": "same", "activation": "relu"} | options)


def pooled(*stack, shape=(12, 12, 3)):
    return chain(shape, *stack, layers.GlobalAveragePooling2D(), head())


def found(model, code, **known):
    return [(one.layer, one.message) for one in audit(model, **known) if one.code == code]


# Branched models ----------------------------------------------------------------------------------------------------


def residual(last="zeros", out="zeros"):
    """As Fixup starts: the last layer of the branch at zero, and the head too."""
    inputs = keras.Input((8,))
    x = layers.Dense(8, activation="relu", name="stem")(inputs)
    branch = layers.Dense(8, activation="relu", name="inner")(x)
    branch = layers.Dense(8, kernel_initializer=last, name="last")(branch)
    x = layers.Add()([x, branch])
    return keras.Model(inputs, layers.Dense(3, kernel_initializer=out, activation="softmax", name="head")(x))


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


def equal_columns():
    """Random, but the same for each unit: no initializer to read it from."""
    model = chain((8,), dense(6, "hidden", activation="relu"), head(kernel_initializer="ones"))
    kernel = model.get_layer("hidden").kernel
    kernel.assign(np.abs(kernel.value.numpy()[:, :1]).repeat(6, axis=1))
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


# Code: guilty model, what is known, layer and message; innocent models, each with what is known.
PIXELS: dict[str, Any] = {"x": np.tile([[0.0], [255.0]], (4, 8)).astype("float32")}
ONES: dict[str, Any] = {"x": np.tile([[1.0], [-1.0]], (4, 8)).astype("float32")}  # root mean square and spread 1
CASES: dict[str, list[Any]] = {
    "symmetry": [
        (
            lambda: chain((8,), dense(6, "hidden", kernel_initializer="zeros", activation="relu"), head()),
            {},
            ("hidden", "6 of 6 units start equal (all 0) and get no gradient"),
        ),
        (
            lambda: chain(
                (8,),
                dense(6, "hidden", kernel_initializer=keras.initializers.Constant(0.5), activation="relu"),
                head(kernel_initializer="ones"),
            ),
            {},
            ("hidden", "6 of 6 units start equal (all 0.5) and get equal gradients"),
        ),
        (equal_columns, {}, ("hidden", "6 of 6 units start equal (by groups) and get equal gradients")),
        (residual, {}, None),
        (lambda: chain((8,), dense(6, "hidden", activation="relu"), head(kernel_initializer="zeros")), {}, None),
    ],
    "constant-start": [
        (
            lambda: chain((8,), dense(6, "hidden", kernel_initializer="ones", activation="tanh"), head()),
            {},
            ("hidden", "all 48 weights start as 1"),  # 8 * 6
        ),
        (
            lambda: chain((8,), dense(6, "hidden", kernel_initializer="zeros", activation="tanh"), head()),
            {},
            ("hidden", "all 48 weights start as 0"),
        ),
        (residual, {}, None),
    ],
    "no-gradient": [
        (
            lambda: chain(
                (8,),
                dense(5, "dead", activation="relu", bias_initializer=keras.initializers.Constant(-100)),
                head(),
            ),
            {},
            ("dead", "no gradient for its 45 weights: all are zero"),  # (8 + 1) * 5
        ),
        (stopped, {}, ("cut", "no gradient for its 45 weights: there is no way back from the outputs")),
        (residual, {}, None),
    ],
    "broken-signal": [
        (
            lambda: deep(identity(1e-7)),
            {},
            ("hidden_0", "1e-07 of the differences arrive at hidden_1, measured against the first layer's inputs"),
        ),
        (
            lambda: deep(identity(1e7)),
            ONES,
            ("hidden_0", "1e+07 times the size arrive at hidden_1, measured against the first layer's inputs"),
        ),
        (lambda: deep("he_normal", "relu"), {}, None),
        (faint_branch, {}, None),
    ],
    "drifting-signal": [
        (
            lambda: deep(identity(1e-2), depth=2),  # a hundredth, then a hundredth of that
            {},
            ("hidden_1", "0.0001 of the differences arrive at head, measured against the first layer's inputs"),
        ),
        (lambda: deep("he_normal", "relu"), {}, None),
        (faint_branch, {}, None),
    ],
    "unscaled-input": [
        (
            lambda: chain((8,), dense(6, "hidden", activation="relu"), head()),
            PIXELS,
            ("hidden", "inputs of mean 128 and root mean square 180, not about 1"),  # 127.5, 255 / sqrt(2)
        ),
        (lambda: chain((8,), dense(6, "hidden", activation="relu"), head()), {}, None),
        (
            lambda: chain((8,), layers.Rescaling(1 / 255, -0.5), dense(6, "hidden", activation="relu"), head()),
            PIXELS,
            None,
        ),
        (
            lambda: chain((8,), dense(6, "hidden", use_bias=False), layers.BatchNormalization(), layers.ReLU(), head()),
            PIXELS,
            None,
        ),
    ],
    "frozen-random": [
        (frozen, {}, ("projection", "this layer: 128 frozen weights as random as at the start")),  # 8 * 16
        (lambda: frozen(np.random.default_rng(0).laplace(size=(8, 16)) ** 3), {}, None),
    ],
    "many-filters": [
        (
            lambda: pooled(conv(128, 3, "first"), shape=(12, 12, 1)),
            {},
            ("first", "128 filters on 9 inputs each (3x3x1), 14.2 times"),
        ),
        (lambda: pooled(conv(64, 7, "stem", strides=2)), {}, None),
        (lambda: pooled(conv(8, 3, "first"), conv(512, 1, "expand")), {}, None),
    ],
    "fewer-filters": [
        (
            lambda: pooled(conv(16, 3, "first"), layers.MaxPooling2D(), conv(8, 3, "second")),
            {},
            ("second", "8 filters after the 16 of first"),
        ),
        (lambda: pooled(conv(8, 3, "first"), conv(16, 3, "second")), {}, None),
        (lambda: pooled(conv(384, 3, "alexnet_4"), conv(256, 3, "alexnet_5")), {}, None),
        (bottleneck, {}, None),
        (narrow_branch, {}, None),
        (decoder, {}, None),
        (
            lambda: chain((12, 12, 3), conv(16, 3, "first"), conv(4, 3, "logits"), layers.GlobalAveragePooling2D()),
            {},
            None,
        ),
    ],
    "large-kernel": [
        (
            lambda: pooled(conv(8, 10, "large"), shape=(12, 12, 1)),
            {},
            ("large", "a 10x10x1 kernel with 8 filters, 800 weights"),
        ),
        (lambda: pooled(conv(16, 7, "stem", strides=2)), {}, None),
        (lambda: pooled(conv(96, 11, "alexnet", strides=4)), {}, None),
        (lambda: pooled(conv(16, 8, "patches", strides=8), shape=(16, 16, 3)), {}, None),
        (lambda: pooled(layers.DepthwiseConv2D(9, padding="same")), {}, None),
    ],
    "kernel-over-map": [
        (
            lambda: pooled(conv(4, 5, "wide"), shape=(2, 2, 3)),
            {},
            ("wide", "a 5x5 kernel on a 2x2 map; 9 of its 25 places ever meet a value"),
        ),
        (
            lambda: pooled(conv(4, 3, "wide", dilation_rate=3), shape=(6, 6, 3)),
            {},
            ("wide", "a 7x7 kernel on a 6x6 map; 9 of its 9 places ever meet a value"),
        ),
        (lambda: pooled(conv(4, 5, "exact"), shape=(5, 5, 3)), {}, None),
        (lambda: pooled(layers.DepthwiseConv2D(7, padding="same"), shape=(7, 7, 3)), {}, None),
    ],
    "heavy-dense": [
        (
            lambda: chain(
                (28, 28, 1), conv(8, 3, "first", padding="valid"), layers.Flatten(), dense(32, "heavy"), head()
            ),
            {},
            # 26 * 26 * 8 inputs; 5,409 * 32 of them with 80 before and 33 * 3 after
            ("heavy", "5,408 inputs to 32 units: 173,088 of 173,267 parameters, 99.9%"),
        ),
        (lambda: chain((40, 40, 3), layers.Flatten(), dense(32, "perceptron", activation="relu"), head()), {}, None),
        (lambda: pooled(conv(8, 3, "first"), shape=(28, 28, 1)), {}, None),
    ],
    "hidden-softmax": [
        (
            lambda: chain((8,), dense(20, "hidden", activation="softmax"), layers.Dropout(0.5), head()),
            {},
            ("hidden", "a softmax of 20 units, 0.05 each on average, goes into head"),
        ),
        (
            lambda: chain((8,), dense(20, "hidden"), layers.Softmax(name="act"), layers.BatchNormalization(), head()),
            {},
            ("act", "a softmax of 20 units, 0.05 each on average, goes into head"),
        ),
        (attention, {}, None),
        (functools.partial(squeeze_and_excitation, "softmax"), {}, None),
    ],
    "linear-pair": [
        (
            lambda: chain((8,), dense(16, "first"), layers.Dropout(0.1), head()),
            {},
            ("head", "linear after the linear first: 8 to 16 to 3 units"),
        ),
        (
            lambda: pooled(conv(8, 3, "first", activation=None), layers.BatchNormalization(), conv(8, 3, "second")),
            {},
            ("second", "linear after the linear first: 3 to 8 to 8 units"),
        ),
        (lambda: chain((8,), dense(16, "first"), layers.LeakyReLU(), head()), {}, None),
        (lambda: chain((8,), dense(2, "narrow"), dense(8, "wide", activation="relu"), head()), {}, None),
        (lambda: pooled(layers.DepthwiseConv2D(3), conv(8, 1, "pointwise")), {}, None),
        (lambda: pooled(conv(8, (1, 3), "row", activation=None), conv(8, (3, 1), "column")), {}, None),
        (
            lambda: pooled(conv(8, 3, "a"), conv(4, 1, "linear", activation=None), conv(24, 1, "expand")),
            {},
            None,
        ),
    ],
    "bias-before-norm": [
        (
            lambda: pooled(
                conv(4, 3, "biased", activation=None), layers.BatchNormalization(name="norm"), layers.ReLU()
            ),
            {},
            ("biased", "4 biases that norm takes away again"),
        ),
        (lambda: pooled(conv(4, 3, "a", activation=None, use_bias=False), layers.BatchNormalization()), {}, None),
        (lambda: pooled(conv(4, 3, "active"), layers.BatchNormalization()), {}, None),
    ],
    "dropout-before-norm": [
        (
            lambda: chain(
                (4, 2),
                layers.Dropout(0.3, name="drop"),
                layers.Flatten(),
                layers.BatchNormalization(name="norm"),
                head(),
            ),
            {},
            ("drop", "dropout of 0.3 before norm"),
        ),
        (lambda: chain((8,), layers.BatchNormalization(), layers.Dropout(0.3), head()), {}, None),
        (
            lambda: chain(
                (8,), layers.Dropout(0.3), dense(4, "a", activation="relu"), layers.BatchNormalization(), head()
            ),
            {},
            None,
        ),
    ],
    "dropout-on-output": [
        (
            lambda: chain((8,), head(), layers.Dropout(0.5, name="drop")),
            {},
            ("drop", "dropout of 0.5 after the softmax of head"),
        ),
        (lambda: chain((8,), layers.Dropout(0.5), head()), {}, None),
        (lambda: chain((8,), dense(6, "features", activation="relu"), layers.Dropout(0.5)), {}, None),
        (squeeze_and_excitation, {}, None),
    ],
    "sigmoid-output": [
        (
            lambda: chain((8,), dense(4, "a", activation="relu"), head(3, activation="sigmoid")),
            CATEGORICAL,
            ("head", "3 sigmoid outputs with categorical_crossentropy"),
        ),
        (lambda: chain((8,), head(3, activation="sigmoid")), {"loss": "binary_crossentropy"}, None),
        (lambda: chain((8,), head(3, activation="sigmoid")), {}, None),
        (squeeze_and_excitation, CATEGORICAL, None),
    ],
    "logits-as-probabilities": [
        (
            lambda: chain((8,), head(activation=None)),
            SPARSE,
            ("head", "linear outputs with sparse_categorical_crossentropy(from_logits=False)"),
        ),
        (
            lambda: chain((8,), head(1, activation="tanh")),
            {"loss": keras.losses.BinaryCrossentropy()},
            ("head", "tanh outputs with binary_crossentropy(from_logits=False)"),
        ),
        (lambda: chain((8,), head(activation=None)), LOGITS, None),
        (lambda: chain((8,), head(activation=None), layers.Softmax()), CATEGORICAL, None),
        (lambda: chain((8,), head(activation=None)), {"loss": "mse"}, None),
        (lambda: chain((8,), head(activation=None)), {}, None),
    ],
    "probabilities-as-logits": [
        (
            lambda: chain((8,), head()),
            LOGITS,
            ("head", "softmax outputs with categorical_crossentropy(from_logits=True)"),
        ),
        (
            lambda: chain((8,), head(), layers.Reshape((3,), name="after")),
            LOGITS,
            (
                "head",
                "softmax outputs with categorical_crossentropy(from_logits=True); applied twice, as after follows",
            ),
        ),
        (lambda: chain((8,), head(activation=None)), LOGITS, None),
    ],
    "single-output": [
        (
            lambda: chain((8,), head(1, activation="sigmoid")),
            CATEGORICAL,
            ("head", "1 output unit with categorical_crossentropy"),
        ),
        (lambda: chain((8,), head(1)), {}, ("head", "a softmax of 1 unit")),
        (lambda: chain((8,), head(1, activation="sigmoid")), {"loss": "binary_crossentropy"}, None),
    ],
    "labels-and-loss": [
        (
            lambda: chain((8,), head()),
            SPARSE | {"y": np.eye(3)},
            ("head", "one-hot labels with sparse_categorical_crossentropy"),
        ),
        (
            lambda: chain((8,), head()),
            CATEGORICAL | {"y": [0, 1, 2]},
            ("head", "class numbers as labels with categorical_crossentropy"),
        ),
        (lambda: chain((8,), head()), SPARSE | {"y": [[0], [2]]}, None),
        (lambda: chain((8,), head()), CATEGORICAL | {"y": np.eye(3)}, None),
        (lambda: chain((8,), head(1, activation=None)), {"loss": "mse", "y": [0.5, 7.0]}, None),
    ],
    "wrong-outputs": [
        (lambda: chain((8,), head(3)), {"num_classes": 10}, ("head", "3 output units for 10 classes")),
        (lambda: chain((8,), head(3)), CATEGORICAL | {"y": np.eye(4)}, ("head", "3 output units for 4 classes")),
        (lambda: chain((8,), head(3)), SPARSE | {"y": [0, 3]}, ("head", "3 output units for 4 classes")),
        (lambda: chain((8,), head(1, activation="sigmoid")), {"num_classes": 2}, None),
        (lambda: chain((8,), head(3)), SPARSE | {"y": [0, 1]}, None),
    ],
    "spare-outputs": [
        (lambda: chain((8,), head(5)), SPARSE | {"num_classes": 3}, ("head", "5 output units for 3 classes")),
        (lambda: chain((8,), head(3)), SPARSE | {"num_classes": 3}, None),
    ],
}


@pytest.mark.filterwarnings("ignore:.*from_logits")
def test_what_keras_makes_of_an_activation_and_its_loss():
    """What the rules say of it, in numbers: -log(softmax(2, -1, 0.5)[0]) = 0.2413, of the softmax of that, 0.7017."""
    x, y = np.array([[2, -1, 0.5]], np.float32), np.array([[1, 0, 0]], np.float32)

    def loss(from_logits, *stack):
        model = chain((3,), *stack)
        model.compile(loss=keras.losses.CategoricalCrossentropy(from_logits=from_logits))
        return model.evaluate(x, y, verbose=0)

    assert loss(True, layers.Softmax()) == pytest.approx(0.2413, abs=1e-4)
    assert loss(True, layers.Softmax(), layers.Reshape((3,))) == pytest.approx(0.7017, abs=1e-4)
    assert loss(False, layers.Activation("sigmoid")) == pytest.approx(0.2413, abs=1e-4)
    # Sigmoids of 0.8808, 0.2689 and 0.6225, the first divided by their sum.
    assert loss(False, layers.Activation("sigmoid"), layers.Reshape((3,))) == pytest.approx(0.6991, abs=1e-4)


def test_every_rule_has_a_guilty_and_an_innocent_model():
    assert list(CASES) == [rule.code for rule in RULES]
    assert all(any(case[2] for case in cases) and not all(case[2] for case in cases) for cases in CASES.values())


@pytest.mark.parametrize(
    ("code", "build", "known", "expected"), [(code, *case) for code, cases in CASES.items() for case in cases]
)
def test_rule(code, build, known, expected):
    assert found(build(), code, **known)[:1] == ([expected] if expected else [])


@pytest.mark.parametrize(
    "build", [residual, faint_branch, bottleneck, narrow_branch, decoder, attention, squeeze_and_excitation]
)
def test_what_is_done_on_purpose_is_not_found(build):
    assert audit(build(), **({} if build is decoder else CATEGORICAL)) == []


def test_a_transformer_classifier():
    inputs = keras.Input((20,), dtype="int32")
    x = layers.Embedding(100, 16, mask_zero=True)(inputs)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8, name="attention")(x, x)])
    x = layers.LayerNormalization()(x)
    y = layers.Dense(16)(layers.Dropout(0.1)(layers.Dense(32, activation="gelu")(x)))
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling1D()(x)
    assert audit(keras.Model(inputs, head(2)(x)), **SPARSE, num_classes=2) == []


def test_recurrent_and_transposed_layers():
    text = chain((20,), layers.Embedding(50, 8), layers.Bidirectional(layers.LSTM(4)), head(), dtype="int32")
    assert audit(text, **SPARSE) == []
    ones = {"kernel_initializer": "ones", "recurrent_initializer": "ones"}
    lstm = chain((5, 3), layers.LSTM(4, name="lstm", **ones), head(kernel_initializer="ones"))
    # Of the 16 columns, the four units of each gate are alike.
    assert found(lstm, "symmetry")[0][1] == "16 of 16 units start equal (all 1) and get equal gradients"
    larger = layers.Conv2DTranspose(4, 3, activation="relu")
    start = [dense(32, "start", activation="relu"), layers.Reshape((4, 4, 2))]
    assert audit(chain((4,), *start, larger, conv(1, 3, "pixels", activation="tanh"))) == []


def test_nested_models_are_read_to_the_bottom():
    inner = chain((8,), dense(20, "hidden", activation="softmax"), dense(4, "out", activation="relu"))
    inner.name = "inner"
    inputs = keras.Input((8,))
    outer = keras.Model(inputs, head()(inner(inputs)))
    assert [(one.code, one.layer) for one in audit(outer)] == [("hidden-softmax", "inner/hidden")]


def test_a_pair_across_the_border_of_a_nested_model():
    inner = chain((8,), dense(16, "first"))
    inner.name = "inner"
    inputs = keras.Input((8,))
    assert found(keras.Model(inputs, head()(inner(inputs))), "linear-pair") == [
        ("head", "linear after the linear inner/first: 8 to 16 to 3 units")
    ]


def test_subclassed_models_are_judged_by_weights_and_gradients():
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.hidden = dense(6, "hidden", activation="relu", kernel_initializer="zeros")
            self.out = head()

        def call(self, x):
            return self.out(self.hidden(x))

    model = Own()
    model(np.zeros((1, 8)))
    assert found(model, "symmetry", x=PIXELS["x"])[0][0] == "own/hidden"
    with pytest.raises(UserError, match=r"own: cannot compute a batch .*give audit\(\) a batch x"):
        audit(model)


def test_several_inputs_and_outputs():
    image, number = keras.Input((12, 12, 3)), keras.Input((4,))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(conv(8, 3, "conv")(image)), number])
    model = keras.Model({"image": image, "number": number}, [head()(x), dense(1, "score")(x)])
    assert audit(model, loss="categorical_crossentropy", num_classes=10) == []  # of which output, is not known


def test_a_frozen_backbone_is_told_once_with_its_size():
    backbone = chain((12, 12, 3), conv(4, 3, "a"), conv(8, 3, "b"), layers.GlobalAveragePooling2D())
    backbone.name, backbone.trainable = "backbone", False
    inputs = keras.Input((12, 12, 3))
    model = keras.Model(inputs, head()(backbone(inputs)))
    # 3 * 3 * 3 * 4 + 3 * 3 * 4 * 8
    assert found(model, "frozen-random") == [
        ("backbone/a", "this and 1 more layers: 396 frozen weights as random as at the start")
    ]


def test_the_whitening_layer_is_frozen_on_purpose():
    model = network("cifar_cnn", (32, 32, 3))
    x = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    set_whitening(model, x)
    assert audit(model, **CATEGORICAL, num_classes=10, x=x) == []


def test_the_compiled_loss_is_the_one_that_counts():
    model = chain((8,), head(activation=None))
    model.compile(loss="categorical_crossentropy")
    assert [one.code for one in audit(model)] == ["logits-as-probabilities"]
    assert audit(model, **LOGITS) == []


def test_the_model_is_left_as_it_was_and_the_findings_repeat():
    stack = [dense(6, "hidden", use_bias=False), layers.BatchNormalization(), layers.Dropout(0.5), layers.ReLU()]
    model = chain((8,), *stack, head(kernel_initializer="zeros"))
    before = [variable.value.numpy() for variable in model.variables]
    assert audit(model, **PIXELS) == audit(model, **PIXELS)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.variables, strict=True))
    assert model.get_layer("hidden").output.shape == (None, 6)  # still called once


def test_what_cannot_be_audited_is_told():
    with pytest.raises(UserError, match="expected a built model"):
        audit(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(UserError, match="cannot compute a batch"):
        audit(chain((8,), head()), x=np.zeros((4, 9)))


# The exercise's networks and the project's own ----------------------------------------------------------------------


def network(name, shape):
    normalization = keras.layers.Rescaling(1 / 255, -0.5, name="normalization")
    return networks.build(name, shape, 10, normalization, filters=8, depth=2, kernel_size=3, dropout=0.1)


GRUDGES = {
    "symmetry": ["conv2d", "conv2d_1", "conv2d_2"],
    "no-gradient": ["conv2d_3", "conv2d_4"],
    "dropout-on-output": ["dropout_1"],
    "many-filters": ["conv2d"],
    "fewer-filters": ["conv2d_1", "conv2d_2", "conv2d_3"],
    "large-kernel": ["conv2d_3", "conv2d_4"],
    "hidden-softmax": ["activation_5", "activation_6"],
    "sigmoid-output": ["activation_7"],
}


def by_code(findings):
    codes: dict[str, list[str]] = {}
    for one in findings:
        codes.setdefault(one.code, []).append(one.layer)
    return codes


@pytest.mark.parametrize("size", [100, 32, 28])
def test_the_grudges_of_the_warm_up(size):
    findings = audit(network("warmup", (size, size, 3)), **CATEGORICAL, num_classes=10)
    # Three 3x3 kernels without padding and a pooling by 6 leave (100 - 6) // 6 = 15, where 10x10 fits; but 4 and 3.
    too_small = {} if size == 100 else {"kernel-over-map": ["conv2d_3", "conv2d_4"]}
    assert by_code(findings) == GRUDGES | too_small
    messages = {(one.code, one.layer): one.message for one in findings}
    assert messages["many-filters", "conv2d"] == "512 filters on 27 inputs each (3x3x3), 19 times"  # 18.96
    assert messages["fewer-filters", "conv2d_3"] == "8 filters after the 32 of conv2d_2"
    assert messages["large-kernel", "conv2d_3"] == "a 10x10x32 kernel with 8 filters, 25,600 weights"
    if size == 32:  # a place 4 before to 5 behind the middle; those over 3 away never lie on the map of 4
        assert messages["kernel-over-map", "conv2d_3"] == (
            "a 10x10 kernel on a 4x4 map; 49 of its 100 places ever meet a value"
        )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mnist_cnn", {}),
        ("cifar_cnn", {}),
        ("assignment", {"heavy-dense": ["dense"]}),  # 193,700 of 198,470
        ("one_conv", {"heavy-dense": ["dense"]}),  # 135,300 of 136,390
    ],
)
def test_the_networks_of_params_yaml(name, expected, project):
    assert by_code(tool.audit_by_name(name)) == expected


def test_the_exercises_own_training():
    """It divides the pixels by 255 under another name than it trains with, and asks for logits after a softmax."""
    model = networks.assignment((28, 28, 1), 10, layers.Rescaling(1.0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert by_code(audit(model, loss=loss, num_classes=10)) == {
        "unscaled-input": ["conv2d"],
        "heavy-dense": ["dense"],
        "probabilities-as-logits": ["dense_1"],
    }


def test_a_layer_that_is_used_twice_is_told_once():
    left, right = keras.Input((8,)), keras.Input((8,))
    twin = dense(20, "twin", activation="softmax")
    last = head()
    model = keras.Model([left, right], layers.Add()([last(twin(left)), last(twin(right))]))
    assert by_code(audit(model)) == {"hidden-softmax": ["twin"]}


def test_mixed_precision():
    policy = keras.DTypePolicy("mixed_bfloat16")
    stack = [conv(8, 3, "first", dtype=policy), layers.GlobalAveragePooling2D(dtype=policy), head(dtype="float32")]
    assert audit(chain((12, 12, 3), *stack), **CATEGORICAL) == []


# Application: size of the image, warnings and notes by rule, with how many. None may have an error.
BIASES = "bias-before-norm"
APPLICATIONS = {
    # Glorot's scale before ReLU halves the variance at each layer, and nothing normalizes: the authors trained the
    # deep ones from the weights of a shallow one (arXiv 1409.1556, section 3.1). Right.
    "VGG16": (64, {"drifting-signal": 1}),
    "VGG19": (64, {"drifting-signal": 1}),
    # Keras' ResNets have biases before each batch norm, kept for the sake of old weights. Right, and harmless.
    "ResNet50": (96, {BIASES: 53}),
    "ResNet101": (96, {BIASES: 104}),
    "ResNet152": (96, {BIASES: 155}),
    "ResNet50V2": (96, {}),
    "ResNet101V2": (96, {}),
    "InceptionV3": (139, {}),
    "InceptionResNetV2": (139, {}),
    "Xception": (96, {}),
    "MobileNet": (96, {}),
    "MobileNetV2": (96, {}),
    "MobileNetV3Small": (160, {}),
    "MobileNetV3Large": (160, {}),
    "DenseNet121": (96, {}),
    "DenseNet169": (96, {}),
    "DenseNet201": (96, {}),
    # Its 7x7 and 5x5 kernels meet maps of 6x6 and 3x3 because the image here is 96 wide; at 224 there are none. Right.
    "NASNetMobile": (96, {"kernel-over-map": 22}),
    "EfficientNetB0": (160, {}),
    "EfficientNetB1": (160, {}),
    "EfficientNetV2B0": (96, {}),
    "EfficientNetV2B1": (96, {}),
    "EfficientNetV2B2": (96, {}),
    "EfficientNetV2S": (96, {}),
    # The same of its depthwise 7x7 kernels on the 6x6 and 3x3 maps of a 96 wide image: nine and three blocks.
    "ConvNeXtTiny": (96, {"kernel-over-map": 12}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_have_no_errors_and_the_warnings_that_they_deserve(name):
    size, expected = APPLICATIONS[name]
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    findings = audit(model, **CATEGORICAL, num_classes=10)
    assert [one for one in findings if one.level == "error"] == []
    assert {code: len(layers) for code, layers in by_code(findings).items()} == expected


# The command --------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(project, monkeypatch, capsys):
    """Runs it in this process: exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["audit", *map(str, arguments)])
        monkeypatch.setattr(device, "set_up", lambda kind, threads: None)  # TensorFlow takes it once
        try:
            tool.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run


def test_the_page_of_rules_is_current(command):
    assert command("--rules")[1] == (ROOT / "docs/audit.md").read_text(encoding="utf-8"), "run make audit-rules"


def test_rules_have_levels_and_texts():
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert all(rule.level in LEVELS and rule.what and rule.why and rule.mend for rule in RULES)


def test_a_clean_network_ends_with_0(command):
    assert command("mnist_cnn") == (0, "audit: mnist_cnn: 0 errors, 0 warnings, 0 notes\n", "")


def test_json_of_a_file_with_errors_and_what_its_loss_says(command, tmp_path):
    model = chain((8,), head(activation=None))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy())
    model.save(tmp_path / "model.keras")
    code, out, err = command(tmp_path / "model.keras", "--format", "json")
    (finding,) = json.loads(out)
    assert (code, err) == (1, "")
    assert list(finding) == ["code", "level", "layer", "message", "why", "mend"]
    assert (finding["code"], finding["level"], finding["layer"]) == ("logits-as-probabilities", "error", "head")


def test_warnings_end_with_0_and_are_told_with_their_mend(command, tmp_path):
    chain((8,), dense(20, "hidden", activation="softmax"), head()).save(tmp_path / "model.keras")
    code, out, _ = command(tmp_path / "model.keras")
    assert code == 0
    assert "0 errors, 1 warning, 0 notes\n\nwarning: hidden-softmax: hidden: a softmax of 20 units" in out
    assert "\n  mend: Use relu between layers" in out


def test_an_optimizer_that_keras_does_not_know_is_no_obstacle(command, tmp_path):
    class Own(keras.optimizers.SGD):
        pass

    model = chain((8,), dense(20, "hidden", activation="softmax"), head())
    model.compile(Own(), "categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    assert "1 warning" in command(tmp_path / "model.keras")[1]


@pytest.mark.parametrize("name", ["vgg", "weights.h5", "missing.keras", "broken.keras", "empty.keras", "text.keras"])
def test_what_cannot_be_read_is_one_line(command, tmp_path, name):
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "text.keras").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w"):
        pass
    code, out, err = command(name if name == "vgg" else tmp_path / name)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert name in err


def test_a_model_that_cannot_compute_a_batch_is_one_line(command, tmp_path):
    keras.Sequential([keras.Input((), dtype="string"), layers.Hashing(10), layers.Embedding(10, 2)]).save(
        tmp_path / "text.keras"
    )
    code, _, err = command(tmp_path / "text.keras")
    assert code == 2
    assert "it takes text" in err


def test_no_code_of_a_file_is_run(tmp_path):
    """A Lambda layer, and a layer whose class lies beside the file, each of which would leave a trace."""
    trace = tmp_path / "trace"
    lambda_layer = layers.Lambda(eval(f"lambda x: (open({str(trace)!r}, 'w').close(), x)[1]"))
    keras.Sequential([keras.Input((4,)), lambda_layer, layers.Dense(2)]).save(tmp_path / "lambda.keras")
    trace.unlink()  # it was run to build the model
    (tmp_path / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Evil: pass\n")
    chain((4,), dense(2, "plain")).save(tmp_path / "plain.keras")
    with zipfile.ZipFile(tmp_path / "plain.keras") as plain, zipfile.ZipFile(tmp_path / "module.keras", "w") as archive:
        for name in plain.namelist():
            content = plain.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1] |= {"module": "evil", "class_name": "Evil", "registered_name": "Evil"}
                content = json.dumps(config).encode()
            archive.writestr(name, content)
    for name in ("lambda.keras", "module.keras"):
        told = call(ROOT, "python", "-c", AUDIT_OF_FILE, str(tmp_path / name), PYTHONPATH=str(tmp_path))
        assert f"2 error: {tmp_path / name}: cannot be loaded without running its code" in told
        assert not trace.exists()


# The exit code first, then what it says.
AUDIT_OF_FILE = """
import subprocess, sys
done = subprocess.run([sys.executable, "-m", "stages.audit", sys.argv[1]], capture_output=True, text=True)
print(done.returncode, done.stderr, done.stdout)
"""


def test_make_audits_the_networks_of_the_pipeline():
    recipe = (ROOT / "Makefile").read_text().split("\naudit:")[1].split("\n\n")[0]
    assert "mnist_cnn cifar_cnn" in recipe


# What each grudge costs (benchmarks/grudges.py) -----------------------------------------------------------------------


def test_the_first_design_is_the_warm_up_but_for_its_width():
    def kinds(model):
        return [(type(layer).__name__, layer.get_config().get("activation")) for layer in model.layers]

    wide = grudges.Design(filters=(512, 128, 32, 8, 8))
    model = grudges.build(wide, (32, 32, 3), 10, keras.layers.Rescaling(1 / 255, -0.5))
    warmup = network("warmup", (32, 32, 3))
    assert kinds(model) == kinds(warmup)
    assert model.count_params() == warmup.count_params()


def test_each_mend_mends_what_the_audit_found():
    found_at_first = {
        "symmetry", "no-gradient", "many-filters", "fewer-filters", "large-kernel", "kernel-over-map",
        "hidden-softmax", "dropout-on-output", "sigmoid-output",
    }  # fmt: skip
    expected = [found_at_first]
    # With a signal to lose, the two softmaxes are seen to lose it.
    expected.append(expected[-1] - {"symmetry", "no-gradient"} | {"broken-signal"})
    expected.append(expected[-1] - {"many-filters"})
    expected.append(expected[-1] - {"fewer-filters", "large-kernel"})
    expected.append(expected[-1] - {"kernel-over-map"})
    expected.append(expected[-1] - {"hidden-softmax", "broken-signal"})
    expected.append(expected[-1] - {"dropout-on-output"})
    expected.append(set())
    design = grudges.Design()
    for changes, codes in zip(grudges.MENDS.values(), expected, strict=True):
        design = dataclasses.replace(design, **changes)
        model = grudges.build(design, (32, 32, 3), 10, keras.layers.Rescaling(1 / 255, -0.5))
        assert set(by_code(audit(model, **CATEGORICAL, num_classes=10))) == codes


def test_the_table_is_written_row_by_row_and_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(device, "set_up", lambda kind, threads: device.Device("cpu", "a processor", 2))
    for name, value in {"SEEDS": 1, "IMAGES": 20, "VAL_IMAGES": 10, "EPOCHS": 1, "BATCH_SIZE": 10}.items():
        monkeypatch.setattr(grudges, name, value)
    monkeypatch.setattr(grudges, "MENDS", {"as it is": {"hidden": "relu"}, "softmax output": {"output": "softmax"}})
    rng = np.random.default_rng(0)
    grudges.DATA.mkdir(parents=True)
    (grudges.DATA / "normalization.json").write_text('{"scale": [0.004, 0.004, 0.004], "offset": [-0.5, -0.5, -0.5]}')
    for split in ("train", "val"):
        np.save(grudges.DATA / f"x_{split}.npy", rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8))
        np.save(grudges.DATA / f"y_{split}.npy", np.eye(10, dtype="float32")[np.arange(30) % 10])
    trained = []
    train = grudges._train

    def stop_at_the_second(*arguments):
        trained.append(arguments)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(grudges, "_train", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        grudges.main()
    first = grudges.TABLE.read_text().splitlines()
    assert len(first) == 2
    grudges.main()
    assert len(trained) == 3
    table = pd.read_csv(grudges.TABLE)
    assert grudges.TABLE.read_text().splitlines()[:2] == first
    assert list(zip(table["step"], table["mend"], table["seed"], table["images"], strict=True)) == [
        (0, "as it is", 0, 20),
        (1, "softmax output", 0, 20),
    ]
    assert table["val_accuracy"].between(0, 1).all()
