"""Each rule with a guilty and an innocent model; the numbers are computed by hand."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from reprocnn.audit import graph
from reprocnn.audit.api import RULES, audit
from reprocnn.audit.rules import common, structure
from reprocnn.audit.rules.base import LEVELS
from reprocnn.backend import keras, layers, tf
from tests.support.small_models import (
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
    projected,
    residual,
    shared,
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
        innocent(lambda: frozen(np.ones((8, 16)))),
        guilty(
            lambda: chain(
                (5,),
                layers.Embedding(9, 4, embeddings_initializer="zeros", name="tokens"),
                layers.Flatten(),
                head(kernel_initializer="ones"),
                dtype="int32",
            ),
            "tokens",
            "4 of 4 units start equal (all 0) and get equal gradients",
        ),
        guilty(
            functools.partial(equal_columns, 3),
            "hidden",
            "3 of 6 units start equal (in groups) and get equal gradients",
        ),
        innocent(functools.partial(equal_columns, 2)),
        guilty(
            lambda: pooled(
                layers.Conv2DTranspose(4, 3, kernel_initializer="zeros", activation="relu", name="up"), shape=(3, 3, 2)
            ),
            "up",
            "4 of 4 units start equal (all 0) and get no gradient",
        ),
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
        guilty(lambda: residual(last="ones", out="glorot_uniform"), "last", "all 64 weights start at 1"),
        innocent(lambda: residual(out="glorot_uniform")),
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
        # Its probabilities are all but 0 and 1.
        innocent(lambda: chain((8,), head(use_bias=False)), x=1e4 * PIXELS["x"]),
        innocent(lambda: chain((8,), dense(6, "symmetric", kernel_initializer="zeros", activation="relu"), head())),
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
        innocent(
            lambda: chain(
                (8,), dense(5, "dead", activation="relu", bias_initializer=keras.initializers.Constant(-100)), head()
            )
        ),
        guilty(
            lambda: deep(identity(9e-7), depth=1),
            "hidden_0",
            "the inputs of head vary 9e-07 times as much as the first layer's",
        ),
        innocent(lambda: deep(identity(1.1e-6), depth=1)),
        innocent(lambda: deep(identity(9e5), depth=1), **ONES),
        guilty(
            lambda: chain((8,), dense(8, "huge", kernel_initializer=identity(3e38)), dense(8, "next"), head()),
            "huge",
            "the inputs of next are not finite",
            x=np.tile([[2.0], [-2.0]], (4, 8)).astype("float32"),
        ),
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
        innocent(lambda: deep(identity(1.0), depth=1), x=1000 + 0.5 * ONES["x"]),
        guilty(
            lambda: deep(identity(9e-4), depth=1),
            "hidden_0",
            "the inputs of head vary 0.0009 times as much as the first layer's",
        ),
        innocent(lambda: deep(identity(1.1e-3), depth=1)),
        guilty(
            lambda: deep(identity(1.1e3), depth=1),
            "hidden_0",
            "the inputs of head are 1.1e+03 times as large as the first layer's",
            **ONES,
        ),
        innocent(lambda: deep(identity(9e2), depth=1), **ONES),
        # These are broken, the second one after it drifted.
        innocent(lambda: deep(identity(9e-7), depth=1)),
        innocent(lambda: deep(identity(1e-4), depth=2)),
        guilty(
            lambda: deep(identity(1e-2), depth=2),  # a hundredth, then a hundredth of that
            "hidden_1",
            "the inputs of head vary 0.0001 times as much as the first layer's",
        ),
        innocent(lambda: deep("he_normal", "relu")),
        innocent(faint_branch),
    ],
    "unscaled-input": [
        innocent(
            lambda: chain(
                (5,),
                layers.Embedding(9, 4, embeddings_initializer=keras.initializers.RandomNormal(stddev=50)),
                layers.Flatten(),
                head(),
                dtype="int32",
            )
        ),
        innocent(
            lambda: pooled(conv(8, 3, "a", use_bias=False), layers.MaxPooling2D(), layers.BatchNormalization()),
            x=np.full((8, 12, 12, 3), 200.0),
        ),
        guilty(
            lambda: chain((8,), dense(6, "hidden", activation="relu"), head()),
            "hidden",
            "inputs have root mean square 10.1 (mean 0), expected about 1",
            x=10.1 * ONES["x"],
        ),
        innocent(lambda: chain((8,), dense(6, "hidden", activation="relu"), head()), x=9.9 * ONES["x"]),
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
        innocent(lambda: pooled(conv(270, 3, "first"))),
        guilty(
            lambda: pooled(conv(91, 3, "first"), shape=(12, 12, 1)),
            "first",
            "91 filters of 9 inputs each (3x3x1), 10.1 times as many",
        ),
        innocent(lambda: pooled(conv(90, 3, "first"), shape=(12, 12, 1))),
        innocent(lambda: pooled(conv(100, 1, "pointwise"))),
        innocent(lambda: pooled(conv(8, 3, "first"), conv(800, 3, "second"))),
        guilty(
            lambda: pooled(conv(128, 3, "first"), shape=(12, 12, 1)),
            "first",
            "128 filters of 9 inputs each (3x3x1), 14.2 times as many",
        ),
        innocent(lambda: pooled(conv(64, 7, "stem", strides=2))),
        innocent(lambda: pooled(conv(8, 3, "first"), conv(512, 1, "expand"))),
    ],
    "fewer-filters": [
        innocent(lambda: pooled(conv(16, 3, "first"), layers.UpSampling2D(), conv(8, 3, "second"))),
        innocent(lambda: pooled(conv(16, 3, "first"), conv(8, 3, "grouped", groups=2))),
        guilty(
            lambda: chain(
                (12, 12, 3), conv(16, 3, "first"), conv(8, 3, "second"), layers.Flatten(), dense(20, "wide"), head()
            ),
            "second",
            "8 filters after the 16 of first",
        ),
        innocent(lambda: pooled(conv(16, 3, "first"), conv(8, 1, "pointwise"))),
        innocent(lambda: pooled(conv(15, 3, "first"), conv(8, 3, "second"))),
        innocent(lambda: pooled(conv(16, 3, "first"), conv(8, 3, "second"), conv(16, 3, "third"))),
        guilty(
            lambda: pooled(conv(16, 3, "first"), conv(8, 3, "second"), conv(15, 3, "third")),
            "second",
            "8 filters after the 16 of first",
        ),
        innocent(lambda: pooled(conv(16, 3, "first"), conv(8, 1, "pointwise"), conv(16, 3, "third"))),
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
            lambda: pooled(conv(31, (9, 8), "large")),
            "large",
            "a 9x8x3 kernel with 31 filters, 6,696 weights",  # 9 * 8 * 3 * 31
        ),
        innocent(lambda: pooled(conv(32, 8, "wide"))),
        innocent(lambda: pooled(conv(8, (20, 7), "small"))),
        guilty(
            lambda: pooled(conv(16, 8, "overlapping", strides=3), shape=(16, 16, 3)),
            "overlapping",
            "a 8x8x3 kernel with 16 filters, 3,072 weights",
        ),
        guilty(
            lambda: pooled(conv(8, 10, "large"), shape=(12, 12, 1)),
            "large",
            "a 10x10x1 kernel with 8 filters, 800 weights",
        ),
        innocent(lambda: pooled(conv(16, 8, "half", strides=4))),
        innocent(lambda: chain((16, 16, 3), conv(3, 9, "pixels")), loss="mse"),
        innocent(lambda: pooled(conv(16, 7, "stem", strides=2))),
        innocent(lambda: pooled(conv(96, 11, "alexnet", strides=4))),
        innocent(lambda: pooled(conv(16, 8, "patches", strides=8), shape=(16, 16, 3))),
        innocent(lambda: pooled(layers.DepthwiseConv2D(9, padding="same"))),
    ],
    "kernel-over-map": [
        innocent(lambda: pooled(conv(4, (3, 5), "wide", strides=2), shape=(3, 4, 3))),
        guilty(
            lambda: pooled(layers.DepthwiseConv2D(5, padding="same", name="deep"), shape=(6, 2, 3)),
            "deep",
            "a 5x5 kernel on a 6x2 map; 15 of its 25 positions ever see a value",
        ),
        guilty(
            lambda: pooled(conv(4, 5, "wide"), shape=(2, 2, 3)),
            "wide",
            "a 5x5 kernel on a 2x2 map; 9 of its 25 positions ever see a value",
        ),
        innocent(lambda: pooled(conv(4, 3, "wide", dilation_rate=3), shape=(6, 6, 3))),
        guilty(
            lambda: pooled(conv(4, 3, "wide", dilation_rate=3), shape=(3, 3, 3)),
            "wide",
            "a 7x7 kernel on a 3x3 map; 1 of its 9 positions ever see a value",
        ),
        innocent(lambda: pooled(conv(4, 5, "exact"), shape=(5, 5, 3))),
        innocent(lambda: pooled(layers.DepthwiseConv2D(7, padding="same"), shape=(7, 7, 3))),
    ],
    "heavy-dense": [
        guilty(
            lambda: chain(
                (10, 10, 8), conv(8, 1, "first"), layers.Flatten(), layers.Dropout(0.1), dense(125, "heavy"), head()
            ),
            "heavy",
            "800 inputs to 125 units: 100,125 of 100,575 parameters, 99.6%",
        ),
        innocent(
            lambda: chain((4, 4, 3), conv(1000, 1, "first"), layers.GlobalAveragePooling2D(), dense(200, "a"), head())
        ),
        guilty(
            lambda: chain((10, 10, 8), conv(8, 1, "first"), layers.Flatten(), dense(125, "heavy"), head()),
            "heavy",
            # 801 * 125 of them; 72 before and 126 * 3 after
            "800 inputs to 125 units: 100,125 of 100,575 parameters, 99.6%",
        ),
        innocent(lambda: chain((10, 10, 8), conv(8, 1, "first"), layers.Flatten(), dense(124, "light"), head())),
        guilty(
            lambda: chain((10, 10, 8), conv(8, 1, "first"), layers.Flatten(), dense(125, "heavy"), dense(86, "next")),
            "heavy",
            # 72 before and 126 * 86 after: over 0.9
            "800 inputs to 125 units: 100,125 of 111,033 parameters, 90.2%",
        ),
        innocent(
            lambda: chain((10, 10, 8), conv(8, 1, "first"), layers.Flatten(), dense(125, "even"), dense(88, "next"))
        ),
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
            lambda: pooled(conv(8, 3, "hidden", activation="softmax"), layers.MaxPooling2D(), conv(8, 3, "next")),
            "hidden",
            "a softmax of 8 units, 0.12 each on average, goes into next",  # 0.125
        ),
        innocent(lambda: chain((8,), dense(20, "hidden", activation="sigmoid"), head())),
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
            lambda: pooled(conv(8, 3, "first", activation=None), layers.AveragePooling2D(2), conv(8, 3, "second")),
            "second",
            "no activation between it and first: 3 to 8 to 8 units",
        ),
        innocent(lambda: pooled(conv(8, 3, "first", activation=None), layers.MaxPooling2D(), conv(8, 3, "second"))),
        innocent(lambda: pooled(conv(8, 3, "a", activation=None, groups=2), conv(8, 3, "b"), shape=(12, 12, 4))),
        innocent(shared),
        guilty(
            lambda: chain((8,), dense(8, "first"), dense(4, "second")),
            "second",
            "no activation between it and first: 8 to 8 to 4 units",
        ),
        guilty(
            lambda: pooled(conv(8, 1, "first", activation=None), conv(8, 1, "second"), shape=(12, 12, 16)),
            "second",
            "no activation between it and first: 16 to 8 to 8 units",
        ),
        innocent(lambda: chain((8,), dense(4, "first"), dense(5, "second"))),
        guilty(
            lambda: chain((8,), dense(4, "first"), dense(4, "second")),
            "second",
            "no activation between it and first: 8 to 4 to 4 units",
        ),
        guilty(
            lambda: pooled(conv(8, (1, 3), "row", activation=None), conv(8, (1, 3), "again")),
            "again",
            "no activation between it and row: 3 to 8 to 8 units",
        ),
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
        innocent(projected),
        innocent(lambda: chain((8,), dense(2, "narrow"), dense(8, "wide", activation="relu"), head())),
        innocent(lambda: pooled(layers.DepthwiseConv2D(3), conv(8, 1, "pointwise"))),
        innocent(lambda: pooled(conv(8, (1, 3), "row", activation=None), conv(8, (3, 1), "column"))),
        innocent(lambda: pooled(conv(8, 3, "a"), conv(4, 1, "linear", activation=None), conv(24, 1, "expand"))),
    ],
    "bias-before-norm": [
        guilty(
            lambda: pooled(layers.DepthwiseConv2D(3, name="depthwise"), layers.BatchNormalization(name="norm")),
            "depthwise",
            "3 biases that norm subtracts again",
        ),
        *(
            guilty(
                lambda pool=pool: pooled(
                    conv(4, 3, "a", activation=None), pool(2), layers.BatchNormalization(name="b")
                ),
                "a",
                "4 biases that b subtracts again",
            )
            for pool in (layers.MaxPooling2D, layers.AveragePooling2D)
        ),
        innocent(shared),
        innocent(
            lambda: pooled(conv(4, 3, "a", activation=None), layers.Dropout(0.1), layers.BatchNormalization()),
        ),
        innocent(lambda: pooled(conv(4, 3, "a", activation=None), layers.BatchNormalization(axis=1))),
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
            lambda: pooled(layers.SpatialDropout2D(0.2, name="drop"), layers.BatchNormalization(name="norm")),
            "drop",
            "dropout of 0.2 before norm",
        ),
        innocent(lambda: chain((8,), layers.Dropout(0.0), layers.BatchNormalization(), head())),
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
            lambda: chain((8,), head(), layers.Reshape((3, 1)), layers.Dropout(0.5, name="drop")),
            "drop",
            "dropout of 0.5 after the softmax of head",
        ),
        innocent(lambda: chain((8,), dense(6, "hidden", activation="softmax"), layers.Dropout(0.5), head())),
        guilty(
            lambda: chain((8,), head(activation="sigmoid"), layers.Dropout(0.25, name="drop"), layers.Reshape((3,))),
            "drop",
            "dropout of 0.25 after the sigmoid of head",
        ),
        innocent(lambda: chain((8,), head(), layers.Dropout(0.0))),
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
            lambda: chain((8,), head(2, activation="sigmoid")),
            "head",
            "2 sigmoid outputs with sparse_categorical_crossentropy",
            **SPARSE,
        ),
        innocent(lambda: chain((8,), head(1, activation="sigmoid")), **CATEGORICAL),
        innocent(lambda: chain((8,), head()), **CATEGORICAL),
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
            lambda: chain((8,), head(activation=None), layers.LeakyReLU(name="leaky")),
            "leaky",
            "leaky_relu outputs with categorical_crossentropy(from_logits=False)",
            **CATEGORICAL,
        ),
        guilty(
            lambda: chain((8,), dense(3, "a"), layers.LayerNormalization(name="norm")),
            "norm",
            "outputs from -1.4 to 1.4 with categorical_crossentropy",
            **CATEGORICAL,
        ),
        innocent(lambda: chain((8,), dense(3, "a"), layers.UnitNormalization(), layers.Lambda(abs)), **CATEGORICAL),
        innocent(lambda: chain((8,), head(activation="sigmoid")), loss="binary_crossentropy"),
        innocent(lambda: chain((8,), head()), **SPARSE),
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
            lambda: chain((8,), head(1, activation="sigmoid")),
            "head",
            "sigmoid outputs with binary_crossentropy(from_logits=True)",
            loss=keras.losses.BinaryCrossentropy(from_logits=True),
        ),
        innocent(lambda: chain((8,), head()), **CATEGORICAL),
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
        innocent(lambda: chain((8,), head(2, activation="sigmoid")), **CATEGORICAL),
        innocent(lambda: chain((8,), head(1, activation="sigmoid"))),
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
        innocent(lambda: chain((8,), head()), **SPARSE, y=[0, 1, 2]),
        innocent(lambda: chain((8,), head()), **SPARSE),
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
        guilty(
            lambda: chain((8,), head(3)),
            "head",
            "3 output units for 2 classes",
            **CATEGORICAL,
            num_classes=2,
            y=np.eye(3),
        ),
        innocent(lambda: chain((8,), dense(5, "a"), layers.LayerNormalization()), num_classes=3),
        innocent(lambda: chain((8,), head(1, activation="sigmoid")), **SPARSE, y=[0, 1]),
        guilty(lambda: chain((8,), head(3)), "head", "3 output units for 2 classes", **CATEGORICAL, num_classes=2),
        guilty(
            lambda: chain((8,), head(1, activation="sigmoid")), "head", "1 output units for 3 classes", num_classes=3
        ),
        innocent(lambda: chain((8,), head(3)), num_classes=3),
        innocent(lambda: chain((8,), head(5)), **SPARSE, num_classes=3),
        innocent(lambda: chain((8,), head(3)), **SPARSE, y=[0, 2]),
        guilty(lambda: chain((8,), head(3)), "head", "3 output units for 10 classes", num_classes=10),
        guilty(lambda: chain((8,), head(3)), "head", "3 output units for 4 classes", **CATEGORICAL, y=np.eye(4)[:2]),
        guilty(lambda: chain((8,), head(3)), "head", "3 output units for 4 classes", **SPARSE, y=[0, 3]),
        innocent(lambda: chain((8,), head(1, activation="sigmoid")), num_classes=2),
        innocent(lambda: chain((8,), head(3)), **SPARSE, y=[0, 1]),
    ],
    "spare-outputs": [
        innocent(lambda: chain((8,), head(5)), **CATEGORICAL, num_classes=3),
        innocent(lambda: chain((8,), head(2)), **SPARSE, num_classes=3),
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
    assert set(CASES) <= {rule.code for rule in RULES}  # the others': test_audit_networks.py
    for cases in CASES.values():
        assert {case.expected is None for case in cases} == {True, False}


@pytest.mark.parametrize("code", CASES)
def test_rule(code):
    reported = []
    for case in CASES[code]:
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(0)
        reported.append(next(iter(found(case.build(), code, **case.known)), None))
    assert reported == [case.expected for case in CASES[code]]


DENSE = functools.partial(layers.Dense, 8)
L1, L2, MAX_NORM = keras.regularizers.L1, keras.regularizers.L2, keras.constraints.MaxNorm
CONSTANT = keras.initializers.Constant
# By the name of a layer: the rule, the layer and its setting, a value at the rule's limit, and one just within.
SETTINGS = {
    "drops": ("dropout-rate", layers.Dropout, "rate", 0.9, 0.89),
    "l1": ("strong-penalty", DENSE, "kernel_regularizer", L1(0.01), L1(0.0099)),
    "l2": ("strong-penalty", DENSE, "bias_regularizer", L2(0.1), L2(0.099)),
    "norm": ("tight-constraint", DENSE, "kernel_constraint", MAX_NORM(0.099), MAX_NORM(0.1)),
    "steep": ("activation-setting", layers.LeakyReLU, "negative_slope", 1.0, 0.99),
    "falling": ("activation-setting", layers.PReLU, "alpha_initializer", CONSTANT(-0.01), CONSTANT(0.0)),
    "limit": ("activation-setting", layers.ReLU, "max_value", 0.1, 0.11),
    "threshold": ("activation-setting", layers.ReLU, "threshold", 3.0, 2.9),
    "forgets": ("norm-setting", layers.BatchNormalization, "momentum", 0.19, 0.2),
    "stays": ("norm-setting", layers.BatchNormalization, "momentum", 0.9999, 0.9998),
    "coarse": ("norm-setting", layers.BatchNormalization, "epsilon", 0.1, 0.099),
    "exact": ("norm-setting", layers.LayerNormalization, "epsilon", 0.0, 1e-9),
}


@pytest.mark.parametrize("is_guilty", [True, False])
def test_a_setting_is_judged_from_its_limit_on(is_guilty):
    rules = {rule for rule, *_ in SETTINGS.values()}
    made = [
        make(**{key: guilty if is_guilty else within, "name": name})
        for name, (_, make, key, guilty, within) in SETTINGS.items()
    ]
    judged = {(one.code, one.layer) for one in audit(chain((8,), *made, head())) if one.code in rules}
    assert judged == ({(rule, name) for name, (rule, *_) in SETTINGS.items()} if is_guilty else set())


def frozen_norm(mean="zeros", variance="ones"):
    averages = {"moving_mean_initializer": mean, "moving_variance_initializer": variance}
    norm = layers.BatchNormalization(trainable=False, name="norm", **averages)
    return chain((8,), dense(16, "hidden", use_bias=False), norm, layers.ReLU(), head())


def enlarged(factor):
    """A kernel of 8 inputs, `factor` times as large as keeps their size."""
    return chain((8,), dense(16, "hidden", kernel_initializer=CONSTANT(factor / 8**0.5)), head())


def regression(label):
    return chain((8,), dense(1, "out")), {"loss": "mse", "y": np.full(16, label)}


def rows_of(total):
    return chain((8,), head()), CATEGORICAL | {"y": total * np.eye(3)[np.arange(16) % 3]}


def smoothed(share):
    return chain((8,), head()), {"loss": keras.losses.CategoricalCrossentropy(label_smoothing=share)}


def copied(columns):
    """The labels, 0 to 3, in so many columns of the inputs."""
    labels = np.arange(32) % 4
    x = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")
    x[:, :columns] = labels[:, None]
    return chain((8,), head(4)), SPARSE | {"x": x, "y": labels}


def outliers(count):
    """Of 128 labels, so many are no probabilities."""
    known = {"loss": "binary_crossentropy", "y": np.where(np.arange(128) < count, 2.0, 0.5)}
    return chain((8,), head(1, activation="sigmoid")), known


def weighted(share):
    inputs = keras.Input((8,))
    outputs = [dense(1, name)(dense(8, f"{name}-hidden", activation="relu")(inputs)) for name in ("faint", "loud")]
    model = keras.Model(inputs, outputs)
    model.compile(loss=["mse", "mse"], loss_weights=[share, 1.0])
    return model


def equal_targets(label):
    return chain((8,), dense(1, "out")), {"loss": "mse", "y": np.full(32, label)}


def narrowed(units):
    return chain((8,), dense(units, "before"), dense(1, "neck"), dense(8, "after"), head())


def strided(pool):
    return pooled(conv(8, 3, "first"), layers.MaxPooling2D(pool, strides=2, name="pool"))


# By rule: what is just guilty, and what just is not.
EDGES: dict[str, tuple[Any, list[Any]]] = {
    "frozen-norm": (frozen_norm, [lambda: frozen_norm(mean="ones"), lambda: frozen_norm(variance="zeros")]),
    "large-weights": (lambda: enlarged(10.1), [lambda: enlarged(9.9)]),
    "unscaled-labels": (lambda: regression(1001.0), [lambda: regression(-999.0)]),
    "label-rows": (lambda: rows_of(1.06), [lambda: rows_of(1.04)]),
    "loss-setting": (lambda: smoothed(0.5), [lambda: smoothed(0.49)]),
    "labels-range": (lambda: outliers(2), [lambda: outliers(1)]),
    "loss-weight": (lambda: weighted(0.99e-4), [lambda: weighted(1.01e-4)]),
    "one-class": (lambda: equal_targets(3.0), [lambda: equal_targets(-1.0), lambda: equal_targets(1.0)]),
    "one-unit": (lambda: narrowed(4), [lambda: narrowed(3)]),
    "stride-gaps": (lambda: strided((3, 1)), [lambda: strided((3, 2))]),
    "label-among-inputs": (lambda: copied(1), [lambda: copied(0), lambda: copied(2)]),
}


@pytest.mark.parametrize("code", EDGES)
def test_a_rule_begins_where_it_says(code):
    guilty, innocent = EDGES[code]
    for build in (guilty, *innocent):
        made = build()
        model, known = made if isinstance(made, tuple) else (made, {})
        assert bool(found(model, code, **known)) is (build is guilty)


@pytest.mark.parametrize("kernel", [1, 2, 5, 6])
def test_positions_that_see_a_value_are_counted_as_keras_pads(kernel):
    """A convolution of ones over ones with padding "same": its kernel's gradient is zero where no value is seen."""
    for size, stride, dilation in ((1, 1, 1), (3, 1, 1), (3, 2, 1), (4, 3, 1), (2, 1, 2), (5, 1, 3), (7, 8, 1)):
        layer = layers.Conv1D(1, kernel, strides=stride, padding="same", dilation_rate=dilation)
        if stride > 1 and dilation > 1:
            continue
        with tf.GradientTape() as tape:
            result = layer(np.ones((1, size, 1), np.float32))
            total = tf.reduce_sum(result)
        gradient = tape.gradient(total, layer.kernel.value)
        assert structure._positions_seen(kernel, size, stride, dilation) == np.count_nonzero(gradient), (size, stride)


def test_fit_and_predict_overrule_training_in_a_functional_model():
    norms = [layers.BatchNormalization(name=name) for name in ("first", "second")]
    inputs = keras.Input((8,))
    x = chain((8,), *norms)(inputs, training=False)
    model = keras.Model(inputs, head()(layers.Dropout(0.5, name="dropout")(x, training=True)))
    judged = [
        (one.layer.split("/")[-1], one.message)
        for one in audit(model, **CATEGORICAL)
        if one.code == "overruled-training"
    ]
    assert judged == [
        ("first", "called with training=False, like 1 more, but fit() updates its averages"),
        ("dropout", "called with training=True, but predict() draws nothing"),
    ]
    # What Keras itself does.
    model.compile("sgd", "mse")
    x = np.full((16, 8), 5.0, np.float32)
    model.fit(x, np.zeros((16, 3)), verbose=0)
    assert np.all(norms[0].moving_mean.numpy() > 0)
    assert np.array_equal(*(model.predict(x, verbose=0) for _ in range(2)))
    assert not np.array_equal(model(x), model(x))


def test_the_worst_is_first():
    """Two warnings of rules that come before an error's, and a note."""
    stack = [dense(20, "biased", activation=None), layers.BatchNormalization(), layers.Activation("softmax")]
    model = chain((8,), *stack, head(activation=None))
    levels = [finding.level for finding in audit(model, **CATEGORICAL, num_classes=4)]
    assert levels == ["error", "error", "warning", "note"]


def test_rules_have_levels_and_texts():
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert all(rule.level in LEVELS and rule.what and rule.why and rule.fix for rule in RULES)


def test_activations_are_known_in_each_form():
    """As a layer, as an operation, and within a layer, by its name or as a layer."""
    forms = {
        "relu": [layers.ReLU(), keras.ops.relu, keras.ops.relu6, layers.Activation("relu")],
        "leaky_relu": [layers.LeakyReLU(), keras.ops.leaky_relu, dense(4, "d1", activation=layers.LeakyReLU())],
        "prelu": [layers.PReLU()], "elu": [layers.ELU(), keras.ops.elu, dense(4, "d2", activation="elu")],
        "gelu": [keras.ops.gelu], "silu": [keras.ops.silu], "tanh": [keras.ops.tanh],
        "softmax": [layers.Softmax(), keras.ops.softmax, dense(4, "d3", activation="softmax")],
        "sigmoid": [keras.ops.sigmoid], "log_softmax": [keras.ops.log_softmax],
        None: [dense(4, "d4"), layers.Activation("linear"), layers.Dropout(0.5)],
    }  # fmt: skip
    inputs = keras.Input((4,))
    for expected, applied in forms.items():
        for apply in applied:
            (call,) = graph.read(keras.Model(inputs, dense(1, "after")(apply(inputs)))).outputs[0].before
            assert common.activation(call) == expected, apply


class Branches(keras.Model):
    """Two branches whose layers have the same names; the hidden layer of one starts at zero."""

    def __init__(self, *starts: str) -> None:
        super().__init__()
        self.branches = [
            chain((8,), layers.Dense(16, "relu", kernel_initializer=start, name="hidden"), layers.Dense(4, name="last"))
            for start in starts
        ]

    def call(self, x: Any) -> Any:
        return self.branches[0](x) + self.branches[1](x)


@pytest.mark.parametrize("starts", [("zeros", "glorot_uniform"), ("glorot_uniform", "zeros")])
def test_layers_of_the_same_name_are_judged_each(starts):
    model = Branches(*starts)
    model.compile("adam", "mse")
    errors = [one for one in audit(model, x=np.ones((40, 8)), y=np.ones((40, 4))) if one.level == "error"]
    assert [one.code for one in errors] == ["symmetry"]
    assert "16 of 16 units" in errors[0].message


def test_ctc_takes_a_softmax_for_logits():
    model = chain((20, 4), layers.Dense(6, activation="softmax"))
    model.compile("adam", "ctc")
    (finding,) = [one for one in audit(model) if one.code == "probabilities-as-logits"]
    assert finding.message.startswith("softmax outputs with ctc; applied twice")
