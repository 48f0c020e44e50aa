"""Each rule with a guilty and an innocent model; the numbers are computed by hand."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from reprocnn.audit.api import RULES
from reprocnn.audit.rules.base import LEVELS
from reprocnn.backend import keras, layers
from tests.audit.models import (
    CATEGORICAL,
    LOGITS,
    ONES,
    PIXELS,
    SPARSE,
    attention,
    bottleneck,
    chain,
    conv,
    decoder,
    deep,
    dense,
    equal_columns,
    faint_branch,
    found,
    frozen,
    head,
    identity,
    narrow_branch,
    pooled,
    residual,
    squeeze_and_excitation,
    stopped,
)


class Case(NamedTuple):
    """A model, what is known of its task, and the layer and message that the rule is to find first, if any."""

    build: Callable[[], Any]
    known: dict[str, Any]
    expected: tuple[str, str] | None


def guilty(build, layer, message, **known):
    return Case(build, known, (layer, message))


def innocent(build, **known):
    return Case(build, known, None)


CASES: dict[str, list[Case]] = {
    "symmetry": [
        guilty(
            lambda: chain((8,), dense(6, "hidden", kernel_initializer="zeros", activation="relu"), head()),
            "hidden",
            "6 of 6 units start equal (all 0) and get no gradient",
        ),
        guilty(
            lambda: chain(
                (8,),
                dense(6, "hidden", kernel_initializer=keras.initializers.Constant(0.5), activation="relu"),
                head(kernel_initializer="ones"),
            ),
            "hidden",
            "6 of 6 units start equal (all 0.5) and get equal gradients",
        ),
        guilty(equal_columns, "hidden", "6 of 6 units start equal (in groups) and get equal gradients"),
        innocent(residual),
        innocent(lambda: chain((8,), dense(6, "hidden", activation="relu"), head(kernel_initializer="zeros"))),
    ],
    "constant-start": [
        guilty(
            lambda: chain((8,), dense(6, "hidden", kernel_initializer="ones", activation="tanh"), head()),
            "hidden",
            "all 48 weights start at 1",  # 8 * 6
        ),
        guilty(
            lambda: chain((8,), dense(6, "hidden", kernel_initializer="zeros", activation="tanh"), head()),
            "hidden",
            "all 48 weights start at 0",
        ),
        innocent(residual),
    ],
    "no-gradient": [
        guilty(
            lambda: chain(
                (8,),
                dense(5, "dead", activation="relu", bias_initializer=keras.initializers.Constant(-100)),
                head(),
            ),
            "dead",
            "no gradient for its 45 weights: all gradients are zero",  # (8 + 1) * 5
        ),
        guilty(stopped, "cut", "no gradient for its 45 weights: there is no path back from the outputs"),
        innocent(residual),
    ],
    "broken-signal": [
        guilty(
            lambda: deep(identity(1e-7)),
            "hidden_0",
            "the inputs of hidden_1 vary 1e-07 times as much as the first layer's",
        ),
        guilty(
            lambda: deep(identity(1e7)),
            "hidden_0",
            "the inputs of hidden_1 are 1e+07 times as large as the first layer's",
            **ONES,
        ),
        innocent(lambda: deep("he_normal", "relu")),
        innocent(faint_branch),
    ],
    "drifting-signal": [
        guilty(
            lambda: deep(identity(1e-2), depth=2),  # a hundredth, then a hundredth of that
            "hidden_1",
            "the inputs of head vary 0.0001 times as much as the first layer's",
        ),
        innocent(lambda: deep("he_normal", "relu")),
        innocent(faint_branch),
    ],
    "unscaled-input": [
        guilty(
            lambda: chain((8,), dense(6, "hidden", activation="relu"), head()),
            "hidden",
            "inputs have root mean square 180 (mean 128), expected about 1",  # 255 / sqrt(2), 127.5
            **PIXELS,
        ),
        innocent(lambda: chain((8,), dense(6, "hidden", activation="relu"), head())),
        innocent(
            lambda: chain((8,), layers.Rescaling(1 / 255, -0.5), dense(6, "hidden", activation="relu"), head()),
            **PIXELS,
        ),
        innocent(
            lambda: chain((8,), dense(6, "hidden", use_bias=False), layers.BatchNormalization(), layers.ReLU(), head()),
            **PIXELS,
        ),
    ],
    "frozen-random": [
        guilty(frozen, "projection", "this layer: 128 frozen weights, as random as at the start"),  # 8 * 16
        innocent(lambda: frozen(np.random.default_rng(0).laplace(size=(8, 16)) ** 3)),
    ],
    "many-filters": [
        guilty(
            lambda: pooled(conv(128, 3, "first"), shape=(12, 12, 1)),
            "first",
            "128 filters of 9 inputs each (3x3x1), 14.2 times as many",
        ),
        innocent(lambda: pooled(conv(64, 7, "stem", strides=2))),
        innocent(lambda: pooled(conv(8, 3, "first"), conv(512, 1, "expand"))),
    ],
    "fewer-filters": [
        guilty(
            lambda: pooled(conv(16, 3, "first"), layers.MaxPooling2D(), conv(8, 3, "second")),
            "second",
            "8 filters after the 16 of first",
        ),
        innocent(lambda: pooled(conv(8, 3, "first"), conv(16, 3, "second"))),
        innocent(lambda: pooled(conv(384, 3, "alexnet_4"), conv(256, 3, "alexnet_5"))),
        innocent(bottleneck),
        innocent(narrow_branch),
        innocent(decoder),
        innocent(
            lambda: chain((12, 12, 3), conv(16, 3, "first"), conv(4, 3, "logits"), layers.GlobalAveragePooling2D())
        ),
    ],
    "large-kernel": [
        guilty(
            lambda: pooled(conv(8, 10, "large"), shape=(12, 12, 1)),
            "large",
            "a 10x10x1 kernel with 8 filters, 800 weights",
        ),
        innocent(lambda: pooled(conv(16, 7, "stem", strides=2))),
        innocent(lambda: pooled(conv(96, 11, "alexnet", strides=4))),
        innocent(lambda: pooled(conv(16, 8, "patches", strides=8), shape=(16, 16, 3))),
        innocent(lambda: pooled(layers.DepthwiseConv2D(9, padding="same"))),
    ],
    "kernel-over-map": [
        guilty(
            lambda: pooled(conv(4, 5, "wide"), shape=(2, 2, 3)),
            "wide",
            "a 5x5 kernel on a 2x2 map; 9 of its 25 positions ever see a value",
        ),
        guilty(
            lambda: pooled(conv(4, 3, "wide", dilation_rate=3), shape=(6, 6, 3)),
            "wide",
            "a 7x7 kernel on a 6x6 map; 9 of its 9 positions ever see a value",
        ),
        innocent(lambda: pooled(conv(4, 5, "exact"), shape=(5, 5, 3))),
        innocent(lambda: pooled(layers.DepthwiseConv2D(7, padding="same"), shape=(7, 7, 3))),
    ],
    "heavy-dense": [
        guilty(
            lambda: chain(
                (28, 28, 1), conv(8, 3, "first", padding="valid"), layers.Flatten(), dense(32, "heavy"), head()
            ),
            "heavy",
            # 26 * 26 * 8 inputs; 5,409 * 32 of them with 80 before and 33 * 3 after
            "5,408 inputs to 32 units: 173,088 of 173,267 parameters, 99.9%",
        ),
        innocent(lambda: chain((40, 40, 3), layers.Flatten(), dense(32, "perceptron", activation="relu"), head())),
        innocent(lambda: pooled(conv(8, 3, "first"), shape=(28, 28, 1))),
    ],
    "hidden-softmax": [
        guilty(
            lambda: chain((8,), dense(20, "hidden", activation="softmax"), layers.Dropout(0.5), head()),
            "hidden",
            "a softmax of 20 units, 0.05 each on average, goes into head",
        ),
        guilty(
            lambda: chain((8,), dense(20, "hidden"), layers.Softmax(name="act"), layers.BatchNormalization(), head()),
            "act",
            "a softmax of 20 units, 0.05 each on average, goes into head",
        ),
        innocent(attention),
        innocent(functools.partial(squeeze_and_excitation, "softmax")),
    ],
    "linear-pair": [
        guilty(
            lambda: chain((8,), dense(16, "first"), layers.Dropout(0.1), head()),
            "head",
            "no activation between it and first: 8 to 16 to 3 units",
        ),
        guilty(
            lambda: pooled(conv(8, 3, "first", activation=None), layers.BatchNormalization(), conv(8, 3, "second")),
            "second",
            "no activation between it and first: 3 to 8 to 8 units",
        ),
        innocent(lambda: chain((8,), dense(16, "first"), layers.LeakyReLU(), head())),
        innocent(lambda: chain((8,), dense(2, "narrow"), dense(8, "wide", activation="relu"), head())),
        innocent(lambda: pooled(layers.DepthwiseConv2D(3), conv(8, 1, "pointwise"))),
        innocent(lambda: pooled(conv(8, (1, 3), "row", activation=None), conv(8, (3, 1), "column"))),
        innocent(lambda: pooled(conv(8, 3, "a"), conv(4, 1, "linear", activation=None), conv(24, 1, "expand"))),
    ],
    "bias-before-norm": [
        guilty(
            lambda: pooled(
                conv(4, 3, "biased", activation=None), layers.BatchNormalization(name="norm"), layers.ReLU()
            ),
            "biased",
            "4 biases that norm subtracts again",
        ),
        innocent(lambda: pooled(conv(4, 3, "a", activation=None, use_bias=False), layers.BatchNormalization())),
        innocent(lambda: pooled(conv(4, 3, "active"), layers.BatchNormalization())),
    ],
    "dropout-before-norm": [
        guilty(
            lambda: chain(
                (4, 2),
                layers.Dropout(0.3, name="drop"),
                layers.Flatten(),
                layers.BatchNormalization(name="norm"),
                head(),
            ),
            "drop",
            "dropout of 0.3 before norm",
        ),
        innocent(lambda: chain((8,), layers.BatchNormalization(), layers.Dropout(0.3), head())),
        innocent(
            lambda: chain(
                (8,), layers.Dropout(0.3), dense(4, "a", activation="relu"), layers.BatchNormalization(), head()
            )
        ),
    ],
    "dropout-on-output": [
        guilty(
            lambda: chain((8,), head(), layers.Dropout(0.5, name="drop")),
            "drop",
            "dropout of 0.5 after the softmax of head",
        ),
        innocent(lambda: chain((8,), layers.Dropout(0.5), head())),
        innocent(lambda: chain((8,), dense(6, "features", activation="relu"), layers.Dropout(0.5))),
        innocent(squeeze_and_excitation),
    ],
    "sigmoid-output": [
        guilty(
            lambda: chain((8,), dense(4, "a", activation="relu"), head(3, activation="sigmoid")),
            "head",
            "3 sigmoid outputs with categorical_crossentropy",
            **CATEGORICAL,
        ),
        innocent(lambda: chain((8,), head(3, activation="sigmoid")), loss="binary_crossentropy"),
        innocent(lambda: chain((8,), head(3, activation="sigmoid"))),
        innocent(squeeze_and_excitation, **CATEGORICAL),
    ],
    "logits-as-probabilities": [
        guilty(
            lambda: chain((8,), head(activation=None)),
            "head",
            "linear outputs with sparse_categorical_crossentropy(from_logits=False)",
            **SPARSE,
        ),
        guilty(
            lambda: chain((8,), head(1, activation="tanh")),
            "head",
            "tanh outputs with binary_crossentropy(from_logits=False)",
            loss=keras.losses.BinaryCrossentropy(),
        ),
        innocent(lambda: chain((8,), head(activation=None)), **LOGITS),
        innocent(lambda: chain((8,), head(activation=None), layers.Softmax()), **CATEGORICAL),
        innocent(lambda: chain((8,), head(activation=None)), loss="mse"),
        innocent(lambda: chain((8,), head(activation=None))),
    ],
    "probabilities-as-logits": [
        guilty(
            lambda: chain((8,), head()),
            "head",
            "softmax outputs with categorical_crossentropy(from_logits=True)",
            **LOGITS,
        ),
        guilty(
            lambda: chain((8,), head(), layers.Reshape((3,), name="after")),
            "head",
            "softmax outputs with categorical_crossentropy(from_logits=True); applied twice, because after follows",
            **LOGITS,
        ),
        innocent(lambda: chain((8,), head(activation=None)), **LOGITS),
    ],
    "single-output": [
        guilty(
            lambda: chain((8,), head(1, activation="sigmoid")),
            "head",
            "1 output unit with categorical_crossentropy",
            **CATEGORICAL,
        ),
        guilty(lambda: chain((8,), head(1)), "head", "a softmax of 1 unit"),
        innocent(lambda: chain((8,), head(1, activation="sigmoid")), loss="binary_crossentropy"),
    ],
    "labels-and-loss": [
        guilty(
            lambda: chain((8,), head()),
            "head",
            "one-hot labels with sparse_categorical_crossentropy",
            **SPARSE,
            y=np.eye(3),
        ),
        guilty(
            lambda: chain((8,), head()),
            "head",
            "class numbers as labels with categorical_crossentropy",
            **CATEGORICAL,
            y=[0, 1, 2],
        ),
        innocent(lambda: chain((8,), head()), **SPARSE, y=[[0], [2]]),
        innocent(lambda: chain((8,), head()), **CATEGORICAL, y=np.eye(3)),
        innocent(lambda: chain((8,), head(1, activation=None)), loss="mse", y=[0.5, 7.0]),
    ],
    "wrong-outputs": [
        guilty(lambda: chain((8,), head(3)), "head", "3 output units for 10 classes", num_classes=10),
        guilty(lambda: chain((8,), head(3)), "head", "3 output units for 4 classes", **CATEGORICAL, y=np.eye(4)),
        guilty(lambda: chain((8,), head(3)), "head", "3 output units for 4 classes", **SPARSE, y=[0, 3]),
        innocent(lambda: chain((8,), head(1, activation="sigmoid")), num_classes=2),
        innocent(lambda: chain((8,), head(3)), **SPARSE, y=[0, 1]),
    ],
    "spare-outputs": [
        guilty(lambda: chain((8,), head(5)), "head", "5 output units for 3 classes", **SPARSE, num_classes=3),
        innocent(lambda: chain((8,), head(3)), **SPARSE, num_classes=3),
    ],
}


@pytest.mark.filterwarnings("ignore:.*from_logits")
def test_rules_describe_keras_losses_correctly():
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
    for cases in CASES.values():
        assert {case.expected is None for case in cases} == {True, False}


@pytest.mark.parametrize(("code", "case"), [(code, case) for code, cases in CASES.items() for case in cases])
def test_rule(code, case):
    assert found(case.build(), code, **case.known)[:1] == ([case.expected] if case.expected else [])


def test_rules_have_levels_and_texts():
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert all(rule.level in LEVELS and rule.what and rule.why and rule.fix for rule in RULES)
