"""Where a rule begins: a network in which it finds its fault, and one that differs by a detail and is sound."""

import numpy as np
import pytest

from reprocnn.audit.api import RULES, audit
from reprocnn.backend import keras, layers
from tests.audit.faulty_networks import X8, cnn, conv, mlp, number
from tests.support.small_models import chain, classifier, compiled, head, relu

K, Input, ops, L = keras, keras.Input, keras.ops, keras.losses
CONSTANT = keras.initializers.Constant
N = 40
BINARY = "binary_crossentropy"
ROWS = np.eye(3)[np.arange(N * 3).reshape(N, 3) % 3]  # one-hot: three steps of three classes each

PAIRS = {}


def pair(name, code, guilty, innocent, message=""):
    """Keep two networks, each a function that gives a model and what is known of its task."""
    assert name not in PAIRS
    PAIRS[name] = (code, guilty, innocent, message)


def limit(name, code, build, guilty, innocent, message=""):
    """Keep the two networks that a function gives for the values on either side of a limit."""
    pair(name, code, lambda: build(guilty), lambda: build(innocent), message)


def judged(code, build):
    """Give what one rule says of a network."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    made = build()
    model, known = made if isinstance(made, tuple) else (made, {})
    others = {rule.code: "not of this test" for rule in RULES if rule.code != code}
    return [finding.message for finding in audit(model, ignore=others, **known)]


def of(model, **known):
    return model, known


def functional(shape, function, **options):
    inputs = Input(shape)
    return compiled(K.Model(inputs, function(inputs)), **options)


def named(name):
    """A loss that is none of Keras', by this name."""

    def loss(y, p):
        return ops.mean(ops.abs(y - p) ** 3, axis=-1)

    loss.__name__ = name
    return loss


# Losses and labels
pair(
    "a hinge takes no logarithms",
    "logits-as-probabilities",
    lambda: mlp(last=None, loss="categorical_crossentropy"),
    lambda: mlp(last=None, loss="categorical_hinge"),
)
for name in ("My_MSE", "root_squared_error", "absolute_error_of_mine"):
    pair(
        f"labels beyond a sigmoid with {name}",
        "labels-range",
        lambda name=name: of(number("sigmoid", named(name)), y=np.full((N, 1), 2.0)),
        lambda name=name: of(number("sigmoid", named(name)), y=np.full((N, 1), 1.0)),
    )


def three_steps(y, loss="sparse_categorical_crossentropy"):
    return of(compiled(chain((3, 4), head()), loss=loss), y=y)


limit("as many steps as classes", "labels-and-loss", three_steps, ROWS, np.tile([0, 1, 2], (N, 1)))
pair(
    "class numbers that add up to one",
    "labels-and-loss",
    lambda: three_steps(ROWS),
    lambda: three_steps(np.tile([-1, 2, 0], (N, 1)), L.SparseCategoricalCrossentropy(ignore_class=-1)),
)
pair(
    "a label that is missing is no fraction",
    "class-numbers",
    lambda: of(mlp(), y=np.where(np.arange(N) == 3, 0.5, np.arange(N) % 3)),
    lambda: of(mlp(), y=np.where(np.arange(N) == 3, np.nan, np.arange(N) % 3)),
    "labels that are not whole, such as 0.5",
)
pair(
    "classes from one need two units",
    "class-numbers",
    lambda: of(mlp(), y=1 + np.arange(N) % 3),
    lambda: of(mlp(units=1), y=np.ones(N, int)),
    "labels from 1 to 3 for 3 units",
)


def two_rows_of_three(y):
    stack = [layers.Dense(6), layers.LayerNormalization(), layers.Reshape((2, 3))]
    return of(compiled(chain((8,), *stack), loss=L.SparseCategoricalCrossentropy(from_logits=True)), y=y)


pair(
    "units behind a reshape",
    "class-numbers",
    lambda: two_rows_of_three(1 + np.arange(2 * N).reshape(N, 2) % 3),
    lambda: two_rows_of_three(np.arange(2 * N).reshape(N, 2) % 3),
    "labels from 1 to 3 for 3 units",
)


def both_ways(merge_mode):
    layer = layers.Bidirectional(layers.GRU(1), merge_mode=merge_mode)
    return of(compiled(chain((3, 4), layer), loss="mse"), y=np.full((N, 1), 1.5))


pair("the mean of two tanh", "labels-range", lambda: both_ways("ave"), lambda: both_ways("sum"))

# What each gives at least and at most: half a unit beyond, no label can be reached.
REACHES = {
    "relu": (0, None), "softplus": (0, None), "exponential": (0, None), "log_softmax": (None, 0),
    "tanh": (-1, 1), "softsign": (-1, 1), "hard_tanh": (-1, 1),
    "sigmoid": (0, 1), "hard_sigmoid": (0, 1), "softmax": (0, 1), "relu6": (0, 6),
}  # fmt: skip
for name, reach in REACHES.items():
    for end, beyond in zip(reach, (-0.5, 0.5), strict=True):
        if end is not None:
            pair(
                f"{name} at {end}",
                "labels-range",
                lambda name=name, y=end + beyond: of(mlp(units=2, last=name, loss="mse"), y=np.full((N, 2), y)),
                lambda name=name, y=end: of(mlp(units=2, last=name, loss="mse"), y=np.full((N, 2), float(y))),
            )

for name, loss, last, outside, inside in (
    ("noise on labels of two classes", BINARY, "sigmoid", 1.2, 1.05),
    ("no noise on numbers", "mse", "sigmoid", 1.05, 1.0),
    ("masks of dice", L.Dice(), None, 255.0, 1.0),
    ("masks of tversky", L.Tversky(), None, 255.0, 1.0),
    ("rates below zero", "kl_divergence", None, -1.0, 0.0),
    ("logarithms from minus one", "msle", None, -1.5, -0.9),
    ("angles behind relu", "cosine_similarity", "relu", -1.0, 1.0),
):
    pair(
        name,
        "labels-range",
        lambda loss=loss, last=last, y=outside: of(mlp(units=2, last=last, loss=loss), y=np.full((N, 2), y)),
        lambda loss=loss, last=last, y=inside: of(mlp(units=2, last=last, loss=loss), y=np.full((N, 2), y)),
    )


def speech(labels):
    model = chain((4, 4), layers.LSTM(8, return_sequences=True), layers.Dense(6))
    return of(compiled(model, "adam", "ctc"), y=np.tile(labels, (8, 1)))


pair("labels as long as the sequence", "class-numbers", lambda: speech([2] * 5), lambda: speech([2] * 4 + [0]))
pair(
    "numbers where rows are expected are for another rule",
    "labels-shape",
    lambda: three_steps(ROWS[:, :2], "categorical_crossentropy"),
    lambda: three_steps(np.tile([0, 1, 2], (N, 1)), "categorical_crossentropy"),
)
pair(
    "a loss of distances has labels of its own shape",
    "labels-shape",
    lambda: of(mlp(last=None, loss="mse"), y=np.arange(N) % 3),
    lambda: of(mlp(last=None, loss=L.Circle()), y=np.arange(N) % 3),
)
pair(
    "32 labels of one class",
    "one-class",
    lambda: of(mlp(loss="categorical_crossentropy"), y=np.eye(3)[np.ones(32, int)]),
    lambda: of(mlp(loss="categorical_crossentropy"), y=np.eye(3)[np.arange(32) % 3]),
    "all 32 labels are of class 1",
)
pair(
    "one number for each of two outputs",
    "one-class",
    lambda: of(number(), y=np.full((N, 1), 5.0)),
    lambda: of(mlp(units=2, last=None, loss="mse"), y=np.full((N, 2), 5.0)),
)
pair(
    "zeros by which a percentage is divided",
    "unscaled-labels",
    lambda: of(number(loss="mape"), y=np.where(np.arange(200) < 3, 0.0, 1.0)),
    lambda: of(number(loss="mape"), y=np.where(np.arange(200) < 2, 0.0, 1.0)),
)
for name in ("mae", "huber"):
    pair(
        f"large labels with {name}",
        "unscaled-labels",
        lambda name=name: of(number(loss=name), y=np.full(N, -1001.0)),
        lambda name=name: of(number(loss=name), y=np.full(N, 999.0)),
    )

# The optimizer and the metrics
OPTIMIZERS, Piecewise = keras.optimizers, keras.optimizers.schedules.PiecewiseConstantDecay
for name, make, outside, inside in (
    ("decay of sgd", lambda value: OPTIMIZERS.SGD(weight_decay=value), 0.1, 0.099),
    ("decay of lion", lambda value: OPTIMIZERS.Lion(weight_decay=value), 5.0, 4.9),
    ("decay of adam", lambda value: OPTIMIZERS.AdamW(weight_decay=value), 0.5, 0.49),
    ("clipped to nothing", lambda value: OPTIMIZERS.Adam(clipvalue=value), 9e-4, 1e-3),
    ("average of rmsprop", lambda value: OPTIMIZERS.RMSprop(rho=value), 0.9995, 0.9994),
    ("momentum near one", lambda value: OPTIMIZERS.SGD(momentum=value), 0.9995, 0.9994),
    ("first average of adam", lambda value: OPTIMIZERS.Adam(beta_1=value), 0.9995, 0.9994),
    ("second average of adam", lambda value: OPTIMIZERS.Adam(beta_2=value), 0.49, 0.5),
    ("epsilon of adam", lambda value: OPTIMIZERS.Adam(epsilon=value), 10.0, 9.9),
):
    limit(name, "optimizer-setting", lambda value, make=make: mlp(optimizer=make(value)), outside, inside)
pair(
    "a twentieth is left after a hundred steps",
    "short-schedule",
    lambda: mlp(optimizer=OPTIMIZERS.SGD(Piecewise([90, 4000], [0.1, 0.005, 0.001]))),
    lambda: mlp(optimizer=OPTIMIZERS.SGD(Piecewise([90, 4000], [0.1, 0.006, 0.006]))),
    "a learning rate of 0.1 falls to 0.005 in 100 steps",
)
pair(
    "a schedule falls within a hundred steps",
    "short-schedule",
    lambda: mlp(optimizer=OPTIMIZERS.SGD(Piecewise([99], [0.1, 0.004]))),
    lambda: mlp(optimizer=OPTIMIZERS.SGD(Piecewise([160], [0.1, 0.004]))),
)


def rated(metric, **options):
    return mlp(metrics=[metric], **options)


SCORE = {"units": 1, "last": None, "loss": L.BinaryCrossentropy(from_logits=True)}
M = keras.metrics
for name, guilty, innocent in (
    ("accuracy of counts", lambda: number(loss="poisson", metrics=["accuracy"]), lambda: number(metrics=["mae"])),
    (
        "accuracy of a loss of its own",
        lambda: number(metrics=["accuracy"]),
        lambda: number(loss=named("mean_squared_error"), metrics=["accuracy"]),
    ),
    ("acc is accuracy", lambda: number(metrics=["acc"]), lambda: rated("acc")),
    ("acc of logits", lambda: rated("acc", **SCORE), lambda: number("sigmoid", BINARY, metrics=["acc"])),
    ("a curve of logits", lambda: rated(M.AUC(), **SCORE), lambda: rated(M.AUC(from_logits=True), **SCORE)),
    (
        "the best three of three",
        lambda: rated(M.SparseTopKCategoricalAccuracy(3)),
        lambda: rated(M.SparseTopKCategoricalAccuracy(2)),
    ),
    (
        "overlap of one class",
        lambda: rated(M.IoU(3, [0])),
        lambda: rated(M.IoU(3, [0], sparse_y_pred=False)),
    ),
    (
        "overlap of other classes",
        lambda: rated(M.MeanIoU(2, sparse_y_pred=False)),
        lambda: rated(M.BinaryIoU(), last="sigmoid", loss=BINARY),
    ),
    (
        "overlap of one unit",
        lambda: rated(M.OneHotMeanIoU(2), loss="categorical_crossentropy"),
        lambda: rated(M.MeanIoU(2, sparse_y_pred=False), units=1, last="sigmoid", loss=BINARY),
    ),
    (
        "a function as a metric",
        lambda: rated(M.categorical_accuracy),
        lambda: rated(M.sparse_categorical_accuracy),
    ),
    ("a name that Keras does not know", lambda: rated("mae"), lambda: rated("lift")),
):
    pair(name, "metric-and-output", guilty, innocent)

# Activations
SOFTMAX = layers.Softmax


def sigmoids(*kinds, last="softmax", between=()):
    stack = [layer for kind in kinds for layer in (layers.Dense(8, activation=kind), *(make() for make in between))]
    return compiled(chain((8,), *stack, layers.Dense(3, activation=last)))


pair("five sigmoids", "sigmoid-chain", lambda: sigmoids(*["sigmoid"] * 5), lambda: sigmoids(*["sigmoid"] * 4))
pair(
    "four sigmoids and one for the output",
    "sigmoid-chain",
    lambda: sigmoids(*["sigmoid"] * 5, last="sigmoid"),
    lambda: sigmoids(*["sigmoid"] * 4, last="sigmoid"),
    "the last of 6 sigmoids in a row",
)
pair(
    "hard sigmoids",
    "sigmoid-chain",
    lambda: sigmoids("hard_sigmoid", "sigmoid", "sigmoid", "sigmoid", "sigmoid"),
    lambda: sigmoids("relu", "sigmoid", "sigmoid", "sigmoid", "sigmoid"),
)
for name, kind in (("dropout", lambda: layers.Dropout(0.1)), ("a linear layer", lambda: layers.Dense(8))):
    pair(
        f"{name} between sigmoids",
        "sigmoid-chain",
        lambda kind=kind: sigmoids(*["sigmoid"] * 5, between=[kind]),
        lambda: sigmoids(*["sigmoid"] * 5, between=[layers.BatchNormalization]),
    )


def then_softmax(*stack, shape=(8,)):
    return compiled(chain(shape, *stack, SOFTMAX()))


pair(
    "an exponential of what is not negative",
    "two-activations",
    lambda: compiled(chain((8,), relu(3), layers.Activation("tanh"))),
    lambda: compiled(chain((8,), relu(3), layers.Activation("exponential"))),
)
pair(
    "the tanh of an lstm",
    "two-activations",
    lambda: then_softmax(layers.Dense(3, activation="tanh"), layers.Dropout(0.1)),
    lambda: then_softmax(layers.LSTM(3), shape=(4, 2)),
)
pair(
    "an activation that nobody knows",
    "two-activations",
    lambda: then_softmax(relu(3)),
    lambda: then_softmax(layers.Dense(3, activation=lambda x: ops.sin(x))),
)


def weighted(inputs, is_gate, *between):
    x = scores = layers.Softmax()(relu()(inputs))
    for layer in between:
        x = layer(x)
    others = layers.Dense(8, activation="tanh")(inputs)
    others = layers.RepeatVector(4)(others) if between else others
    x = layers.Multiply()([x, others]) if is_gate else layers.Add()([x, others])
    assert scores.shape[-1] == 8
    return head()(layers.Flatten()(x))


pair(
    "weights of attention",
    "two-activations",
    lambda: then_softmax(relu(3)),
    lambda: functional((8,), lambda inputs: weighted(inputs, True)),
)
pair(
    "weights of attention for each step",
    "two-activations",
    lambda: then_softmax(relu(3)),
    lambda: functional((8,), lambda inputs: weighted(inputs, True, layers.RepeatVector(4))),
)
# What changes the shape alone, between relu and softmax, beside a layer that learns.
for name, between in {
    "reshape": lambda x: ops.reshape(x, (-1, 2, 3)),
    "squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "identity": layers.Identity(),
    "permute": lambda x: layers.Permute((2, 1))(layers.Reshape((2, 3))(x)),
    "padding": lambda x: layers.ZeroPadding1D(1)(layers.Reshape((2, 3))(x)),
    "cropping": lambda x: layers.Cropping1D((1, 0))(layers.Reshape((2, 3))(x)),
    "spatial dropout": lambda x: layers.SpatialDropout1D(0.1)(layers.Reshape((2, 3))(x)),
}.items():
    pair(
        f"softmax of relu behind {name}",
        "two-activations",
        lambda between=between: functional((8,), lambda inputs: SOFTMAX()(between(relu(6)(inputs)))),
        lambda between=between: functional((8,), lambda inputs: head()(between(relu(6)(inputs)))),
    )


def over_steps(*after, loss="sparse_categorical_crossentropy"):
    return compiled(chain((4, 3), layers.Dense(3), layers.Softmax(axis=1), *after), loss=loss)


pair("the axis of the steps", "softmax-axis", over_steps, lambda: over_steps(layers.Permute((2, 1))))
pair("a softmax for numbers", "softmax-axis", over_steps, lambda: over_steps(loss="mse"))


def after_selu(layer, *between, shape=(8,)):
    kind = layers.Dense(8, activation="selu")
    return compiled(chain(shape, kind, *between, layer, layers.Flatten(), head()))


limit("dropout that drops nothing", "selu-dropout", lambda value: after_selu(layers.Dropout(value)), 0.1, 0.0)
for name, kind, shape in (
    ("Dropout", layers.Dropout, (2,)),
    ("SpatialDropout1D", layers.SpatialDropout1D, (2, 2)),
    ("SpatialDropout2D", layers.SpatialDropout2D, (2, 2, 2)),
    ("SpatialDropout3D", layers.SpatialDropout3D, (2, 2, 2, 2)),
):
    pair(
        f"{name} behind selu and an identity",
        "selu-dropout",
        lambda kind=kind, shape=shape: after_selu(kind(0.1), layers.Identity(), shape=shape),
        lambda shape=shape: after_selu(layers.AlphaDropout(0.1), layers.Identity(), shape=shape),
        f"{name} after the selu of dense",
    )

# The values that layers are given
pair(
    "a slope within a layer",
    "activation-setting",
    lambda: mlp(layers.Dense(8, activation=layers.LeakyReLU(1.0))),
    lambda: mlp(layers.Dense(8, activation=layers.LeakyReLU(0.3))),
)
pair(
    "a gru without an activation",
    "activation-setting",
    lambda: compiled(chain((3, 4), layers.GRU(8, activation=None), head())),
    lambda: compiled(chain((3, 4), layers.GRU(8), head())),
)
pair(
    "rows that are to be orthogonal",
    "strong-penalty",
    lambda: mlp(relu(kernel_regularizer=keras.regularizers.OrthogonalRegularizer(10.0))),
    lambda: mlp(relu(kernel_regularizer=keras.regularizers.OrthogonalRegularizer(9.9))),
)
for name in ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization"):
    more = {"groups": 2} if name == "GroupNormalization" else {}
    pair(
        f"epsilon of {name}",
        "norm-setting",
        lambda name=name, more=more: mlp(relu(), getattr(layers, name)(epsilon=0.1, **more)),
        lambda name=name, more=more: mlp(relu(), getattr(layers, name)(epsilon=0.09, **more)),
    )
for name in ("BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization"):
    more = {"groups": 2} if name == "GroupNormalization" else {}
    pair(
        f"pixels before {name}",
        "unscaled-input",
        lambda: of(mlp(layers.Dense(8), layers.Dropout(0.1)), x=np.tile([[0.0], [255.0]], (4, 8))),
        lambda name=name, more=more: of(
            mlp(layers.Dense(8), getattr(layers, name)(**more)), x=np.tile([[0.0], [255.0]], (4, 8))
        ),
    )
for name, kind in (("ReLU", layers.ReLU), ("Activation", lambda: layers.Activation("relu"))):
    pair(
        f"pixels before {name} and batch norm",
        "unscaled-input",
        lambda: of(
            mlp(layers.Dense(8), layers.Activation("tanh"), layers.BatchNormalization()),
            x=np.tile([[0.0], [255.0]], (4, 8)),
        ),
        lambda kind=kind: of(
            mlp(layers.Dense(8), kind(), layers.BatchNormalization()), x=np.tile([[0.0], [255.0]], (4, 8))
        ),
    )


def judge_of_a_generator(is_nested):
    judge = chain((8,), layers.BatchNormalization(), layers.LeakyReLU(), layers.Dense(1))
    judge.trainable = False
    parts = [judge] if is_nested else judge.layers
    return compiled(chain((4,), layers.Dense(8, activation="tanh"), *parts), loss="mse")


pair(
    "the frozen judge of a generator",
    "frozen-norm",
    lambda: judge_of_a_generator(False),
    lambda: judge_of_a_generator(True),
    "frozen with a moving mean of 0 and a moving variance of 1",
)


def inputs_beside(*variances, is_frozen=True):
    """Inputs of 100 and -100, whose variance is 10,000."""
    norms = [
        layers.BatchNormalization(moving_variance_initializer=CONSTANT(one), trainable=not is_frozen)
        for one in variances
    ]

    model = compiled(chain((8,), *norms, head()))
    return of(model, x=np.tile([[100.0], [-100.0]], (4, 8)))


pair(
    "inputs of 50 times the deviation",
    "frozen-scale",
    lambda: inputs_beside(4.0),
    lambda: inputs_beside(100.0),
    "its inputs vary 50 times as much as in its training",
)
pair("a norm that adapts", "frozen-scale", lambda: inputs_beside(4.0), lambda: inputs_beside(4.0, is_frozen=False))
limit("averages as at the start", "frozen-scale", lambda second: inputs_beside(1.0, second), 4.0, 100.0)
pair("the first norm alone", "frozen-scale", lambda: inputs_beside(4.0, 4.0), lambda: inputs_beside(100.0, 1e-6))


def scaled_by_zero(joined):
    def apply(inputs):
        x = layers.Dense(8)(inputs)
        scaled = layers.BatchNormalization(gamma_initializer="zeros")(x)
        if joined:
            other = relu(4)(scaled)
            scaled = layers.Concatenate()([layers.Add()([x, scaled]), other])
        return head()(scaled)

    return functional((8,), apply)


limit("a scale of zero that something is added to", "zero-scale", scaled_by_zero, False, True)


def enlarged_kernel(factor, **options):
    return mlp(relu(8, kernel_initializer=CONSTANT(factor / 8**0.5), **options))


def recurrent(factor):
    kernel = CONSTANT(factor / 8**0.5)
    return compiled(chain((3, 4), layers.GRU(8, recurrent_initializer=kernel), head()))


def last_kernel(factor, last, loss):
    return mlp(units=2, last=last, loss=loss, kernel_initializer=CONSTANT(factor / 16**0.5))


for name, guilty, innocent in (
    ("a large kernel that is frozen", lambda: enlarged_kernel(10.1), lambda: enlarged_kernel(99.0, trainable=False)),
    (
        "large biases of the output",
        lambda: mlp(relu(bias_initializer=CONSTANT(10.1))),
        lambda: mlp(bias_initializer=CONSTANT(99.0)),
    ),
    (
        "large biases that are frozen",
        lambda: mlp(relu(bias_initializer=CONSTANT(-10.1))),
        lambda: mlp(relu(bias_initializer=CONSTANT(99.0), trainable=False)),
    ),
    ("a large recurrent kernel", lambda: recurrent(10.1), lambda: recurrent(9.9)),
    (
        "large filters",
        lambda: cnn(conv(kernel_initializer=CONSTANT(10.1 / 27**0.5))),  # of 3 * 3 * 3 inputs
        lambda: cnn(conv(kernel_initializer=CONSTANT(9.9 / 27**0.5))),
    ),
    (
        "a table of large vectors",
        lambda: compiled(
            chain((5,), layers.Embedding(9, 4, embeddings_initializer=CONSTANT(10.1)), layers.Flatten(),
                  head(), dtype="int32")
        ),
        lambda: compiled(
            chain((5,), layers.Embedding(9, 4, embeddings_initializer=CONSTANT(9.9)), layers.Flatten(),
                  head(), dtype="int32")
        ),
    ),
    (
        "large weights for large numbers",
        lambda: last_kernel(10.1, "softmax", "categorical_crossentropy"),
        lambda: last_kernel(99.0, None, "mse"),
    ),
):  # fmt: skip
    pair(name, "large-weights", guilty, innocent)

# How layers fit each other


def maps(shape, function):
    return functional(shape, lambda x: head()(layers.GlobalAveragePooling2D()(function(x))))


def necked(kind, options):
    return chain((8, 8, 3), conv(8), kind(1, 1, **options), conv(8), layers.GlobalAveragePooling2D(), layers.Dense(3))


limit("an image of one channel", "one-unit", lambda value: necked(layers.Conv2D, {"activation": value}), "relu", "tanh")


def of_a_nested(activation, is_nested):
    stack = [conv(8), layers.Conv2D(1, 1, activation=activation)]
    first = [chain((8, 8, 3), *stack)] if is_nested else stack
    return compiled(chain((8, 8, 3), *first, conv(8), layers.GlobalAveragePooling2D(), head()))


limit("an image that a nested model makes", "one-unit", lambda value: of_a_nested("relu", value), False, True)


def neck(kind):
    inputs = Input((8,))
    x = relu()(inputs)
    one = relu(1)(x)
    out = head()(relu()(one))
    if kind == "gate":
        out = head()(layers.Concatenate()([relu()(one), layers.Multiply()([x, one])]))
    return compiled(K.Model(inputs, [out, one] if kind == "output" else out))


pair("a unit that is a gate too", "one-unit", lambda: neck("hidden"), lambda: neck("gate"))
pair("a unit that is an output too", "one-unit", lambda: neck("hidden"), lambda: neck("output"))
pair(
    "a channel three times",
    "joined-with-itself",
    lambda: maps((8, 8, 2), lambda x: conv(8)(layers.Concatenate()([x, x, x]))),
    lambda: maps((8, 8, 1), lambda x: conv(8)(layers.Concatenate()([x, x, x]))),
)
pair(
    "a sum of two layers",
    "joined-with-itself",
    lambda: functional((8,), lambda x: layers.Dense(3)(layers.Add()([layers.Dense(8)(x), layers.Dense(8)(x)]))),
    lambda: functional((8,), lambda x: layers.Dense(3)(layers.Add()([relu()(x), relu()(x)]))),
)


def cut(cropping, is_joined=True):
    def apply(x):
        small = layers.Cropping2D(cropping)(x)
        other = layers.Conv2D(3, 9 - small.shape[1], activation="relu")(x)
        return conv(8)(layers.Concatenate()([small, other]) if is_joined else small)

    return maps((8, 8, 3), apply)


limit("two pixels from one side", "one-sided-crop", cut, ((0, 2), (0, 2)), ((0, 1), (0, 1)))
pair(
    "a crop that nothing is joined to",
    "one-sided-crop",
    lambda: cut(((0, 2), (0, 2))),
    lambda: cut(((0, 2), (0, 2)), is_joined=False),
)


def below(height, last):
    return maps((8, 8, 3), lambda x: last(layers.Concatenate(axis=1)([x, x[:, :height] + 1])))


pair("maps below each other", "concatenated-axis", lambda: below(8, conv(8)), lambda: below(4, conv(8)))
pair("rows before a dense layer", "concatenated-axis", lambda: below(8, conv(8)), lambda: below(8, relu()))


def one_step(kind):
    inputs = Input((1, 4), batch_size=8 if kind == "stateful" else None)
    if kind == "state":
        x = layers.GRU(8)(inputs, initial_state=layers.Dense(8)(layers.Flatten()(inputs)))
    elif kind == "others":
        others = layers.Reshape((3, 4))(layers.Dense(12)(layers.Flatten()(inputs)))
        x = layers.Flatten()(layers.MultiHeadAttention(2, 4)(inputs, others))
    elif kind == "itself":
        x = layers.Flatten()(layers.MultiHeadAttention(2, 4)(inputs, inputs))
    else:
        x = layers.GRU(8, stateful=kind == "stateful")(inputs)
    return classifier(inputs, x)


pair("a step with a state", "one-step", lambda: one_step("alone"), lambda: one_step("state"))
pair("a step of a stateful layer", "one-step", lambda: one_step("alone"), lambda: one_step("stateful"))
pair("a step that attends to others", "one-step", lambda: one_step("itself"), lambda: one_step("others"))


def pooled_twice(is_shared):
    def apply(x):
        once = layers.MaxPooling2D()(x)
        twice = layers.MaxPooling2D()(once)
        return layers.Concatenate()([twice, layers.MaxPooling2D()(conv(8)(once))]) if is_shared else twice

    return maps((8, 8, 3), apply)


pair("a pool that others read", "repeated-layer", lambda: pooled_twice(False), lambda: pooled_twice(True))
pair(
    "the first convolution behind a norm",
    "channels-first",
    lambda: cnn(layers.BatchNormalization(), conv(), shape=(3, 32, 32)),
    lambda: cnn(conv(32), conv(), shape=(3, 32, 5)),
)
pair(
    "an axis of one",
    "reshaped-axes",
    lambda: compiled(chain((8, 4), layers.Reshape((4, 8)), relu(), layers.Flatten(), layers.Dense(3))),
    lambda: compiled(chain((8, 1, 4), layers.Reshape((1, 8, 4)), relu(), layers.Flatten(), layers.Dense(3))),
)


def beside(is_passed):
    one, other = Input((8,)), Input((4,))
    outputs = [layers.Dense(3)(one), *[other][: int(is_passed)]]
    return K.Model([one, other], outputs)


pair("an input that is an output", "unused-input", lambda: beside(False), lambda: beside(True))
pair(
    "a scale of zero is no norm of one value",
    "norm-of-one",
    lambda: mlp(layers.Dense(1), layers.LayerNormalization()),
    lambda: mlp(layers.Dense(8), layers.LayerNormalization(gamma_initializer="zeros")),
)

# The order of layers
pair(
    "no activation by that name",
    "linear-pair",
    lambda: mlp(layers.Dense(16), layers.Activation("linear")),
    lambda: mlp(layers.Dense(16), layers.Activation("relu")),
)
pair(
    "a scale between linear layers",
    "linear-pair",
    lambda: mlp(layers.Dense(16), layers.Normalization(mean=0.0, variance=9.0)),
    lambda: mlp(relu(16), layers.Normalization(mean=0.0, variance=9.0)),
)
pair(
    "the mean over the steps",
    "linear-pair",
    lambda: functional((4, 8), lambda x: layers.Dense(3)(ops.mean(layers.Dense(8)(x), axis=1))),
    lambda: functional((4, 8), lambda x: layers.Dense(3)(ops.mean(layers.Dense(8)(x), axis=-1))),
)
pair(
    "a first layer that is frozen",
    "linear-pair",
    lambda: mlp(layers.Dense(16)),
    lambda: mlp(layers.Dense(16, trainable=False)),
)


def joined_branches(activation):
    inputs = Input((8,))
    branches = [layers.Dense(8)(inputs), layers.Dense(8, activation=activation)(inputs)]
    return K.Model(inputs, layers.Dense(3)(layers.Concatenate()(branches)))


pair("linear branches", "linear-pair", lambda: joined_branches(None), lambda: joined_branches("relu"))
pair("a linear layer that is an output", "linear-pair", lambda: two_linear(False), lambda: two_linear(True))


def two_linear(is_output):
    inputs = Input((8,))
    middle = layers.Dense(8)(inputs)
    out = layers.Dense(3)(middle)
    return K.Model(inputs, [out, middle] if is_output else out)


def hidden(kind, is_output=False, taker=None):
    inputs = Input((8,))
    x = gate = layers.Dense(8, activation=kind)(inputs)
    x = taker(x) if taker else x
    out = head()(x)
    return compiled(K.Model(inputs, [out, gate] if is_output else out))


for code, gate in (("hidden-softmax", "softmax"), ("hidden-gate", "exponential"), ("hidden-gate", "hard_sigmoid")):
    pair(
        f"hidden {gate} that is an output too",
        code,
        lambda gate=gate: hidden(gate),
        lambda gate=gate: hidden(gate, is_output=True),
    )
    pair(
        f"{gate} of what no layer gives",
        code,
        lambda gate=gate: functional((8,), lambda x: layers.Dense(3)(layers.Activation(gate)(layers.Dense(8)(x)))),
        lambda gate=gate: functional((8,), lambda x: layers.Dense(3)(layers.Activation(gate)(x))),
    )
    for name, take in {
        "a gru": lambda x: layers.GRU(4)(layers.Reshape((8, 1))(x)),
        "attention": lambda x: layers.Flatten()(layers.MultiHeadAttention(1, 2)(*[layers.Reshape((1, 8))(x)] * 2)),
    }.items():
        limit(f"{gate} into {name}", code, lambda value, take=take: hidden(value, taker=take), gate, "relu")


def pooled_linear(kind, last=None, is_output=False):
    inputs = Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation=kind)(inputs)
    pool = layers.MaxPooling2D()(x)
    end = layers.GlobalAveragePooling2D()((last or conv(8))(pool))
    return compiled(K.Model(inputs, [layers.Dense(3)(end), *[x][: int(is_output)]]))


pair("the largest of linear maps", "pooled-linear", lambda: pooled_linear(None), lambda: pooled_linear("relu"))
pair(
    "linear maps that are an output too",
    "pooled-linear",
    lambda: pooled_linear(None),
    lambda: pooled_linear(None, is_output=True),
)
pair(
    "a norm behind the pool",
    "pooled-linear",
    lambda: pooled_linear(None),
    lambda: pooled_linear(None, layers.BatchNormalization()),
)


def biased(is_shared, **options):
    inputs = Input((8,))
    x = layers.Dense(8, **options)(inputs)
    normed = layers.BatchNormalization()(x)
    return K.Model(inputs, layers.Dense(3)(layers.Concatenate()([normed, relu()(x)]) if is_shared else normed))


pair("biases that others read", "bias-before-norm", lambda: biased(False), lambda: biased(True))
pair("no biases", "bias-before-norm", lambda: biased(False), lambda: biased(False, use_bias=False))
pair(
    "dropout before a norm of each row",
    "dropout-before-norm",
    lambda: mlp(relu(), layers.Dropout(0.1), layers.BatchNormalization()),
    lambda: mlp(relu(), layers.Dropout(0.1), layers.LayerNormalization()),
)

# What goes in
RANDOM = np.random.default_rng(0)


class Own(layers.Layer):
    def call(self, x):
        return ops.where(ops.isnan(x), 0.0, x)


def with_a_gap(*first):
    x = RANDOM.normal(size=(N, 8))
    x[3, 4] = np.nan
    return of(mlp(*first, relu()), x=x)


pair("a first layer of its own", "missing-values", lambda: with_a_gap(layers.Dropout(0.1)), lambda: with_a_gap(Own()))


def table(size, x, *before, mask_zero=False):
    stack = [*before, layers.Embedding(size, 4, mask_zero=mask_zero), layers.GlobalAveragePooling1D(), layers.Dense(3)]
    return of(compiled(chain(x.shape[1:], *stack, dtype="int32")), x=x)


WORDS = 1 + np.arange(N * 16).reshape(N, 16) % 9
pair(
    "a table for each word and the unknown one",
    "embedding-ids",
    lambda: table(9, WORDS, layers.IntegerLookup(vocabulary=np.arange(1, 10))),
    lambda: table(10, WORDS, layers.IntegerLookup(vocabulary=np.arange(1, 10))),
    "a table of 9 for the 10 ids of",
)
pair(
    "a table for each bin",
    "embedding-ids",
    lambda: table(9, WORDS, layers.Hashing(10)),
    lambda: table(10, WORDS, layers.Hashing(10)),
    "a table of 9 for the 10 ids of",
)
MARKS = WORDS[:32] % 2
for name, size, x in (("99 ids", 99, MARKS), ("15 columns", 100, MARKS[:, :15]), ("31 rows", 100, MARKS[:31])):
    pair(f"marks for {name}", "marks-as-ids", lambda: table(100, MARKS), lambda size=size, x=x: table(size, x))


def filled(rows, steps=6, begin=False):
    """Sequences of which so many end with two steps of 7, or begin with them."""
    x = RANDOM.normal(size=(8, steps, 2))
    x[:rows, -2:] = 7.0
    stack = [layers.Masking(), layers.LSTM(4), head()]
    return of(compiled(chain((steps, 2), *stack)), x=x[:, ::-1] if begin else x)


def of_other_ends():
    model, known = filled(8)
    known["x"][:, -2:] = np.arange(8)[:, None, None] + 1.0
    return of(model, **known)


limit("half of the sequences", "idle-masking", filled, 4, 3, "masks 0, but the sequences end with 7")
pair(
    "what sequences begin with",
    "idle-masking",
    lambda: filled(4, begin=True),
    lambda: filled(3, begin=True),
    "masks 0, but the sequences begin with 7",
)
pair("sequences of four steps", "idle-masking", lambda: filled(4, steps=4), lambda: filled(4, steps=3))
pair("ends that differ", "idle-masking", lambda: filled(8), of_other_ends)


def items(rows, count=32):
    """Rows of 1, 2, 3, of which so many have a 0 in between."""
    x = np.tile([1, 2, 3], (count, 1))
    x[:rows, 1] = 0
    return table(9, x, mask_zero=True)


pair("over half of the rows", "masked-items", lambda: items(17), lambda: items(16))
pair("few rows with gaps", "masked-items", lambda: items(32), lambda: items(31, 31))


def looked_up(x, **options):
    return table(10, x, layers.IntegerLookup(vocabulary=[1, 2, 3], **options))


pair("nothing but unknown words", "unknown-words", lambda: looked_up(WORDS % 5 + 4), lambda: looked_up(WORDS % 5 + 3))
pair("the same word in each row", "unknown-words", lambda: looked_up(WORDS % 5 + 4), lambda: looked_up(0 * WORDS + 4))
pair(
    "padding is no word",
    "unknown-words",
    lambda: looked_up(np.where(WORDS < 5, 0, WORDS), mask_token=0),
    lambda: looked_up(np.where(WORDS < 5, 1, WORDS), mask_token=0),
)


def vectorized(*words):
    stack = [layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=2), layers.Embedding(4, 4)]
    model = chain((1,), *stack, layers.GlobalAveragePooling1D(), layers.Dense(3), dtype="string")
    return of(model, x=np.array([[word] for word in words]))


pair("texts of other words", "unknown-words", lambda: vectorized("c", "d e"), lambda: vectorized("a", "d e"))
for high in (0.045, 0.049):
    pair(
        f"inputs up to {high}",
        "faint-input",
        lambda high=high: of(mlp(), x=np.linspace(0, high, 8 * 8).reshape(8, 8)),
        lambda: of(mlp(), x=np.linspace(0, 0.051, 8 * 8).reshape(8, 8)),
    )
ROW = RANDOM.normal(size=(1, 8))
limit("32 equal rows", "faint-input", lambda value: of(mlp(), x=np.repeat(ROW, value, axis=0)), 32, 31)


def of_two(x, other):
    one, second = Input((8,)), Input((8,))
    both = layers.Concatenate()([relu()(one), relu()(second)])
    return of(classifier([one, second], both), x=[x, other])


NOISE = RANDOM.normal(size=(32, 8))
pair(
    "an input beside one that is constant",
    "faint-input",
    lambda: of_two(NOISE, 0.001 * NOISE),
    lambda: of_two(NOISE, np.zeros((32, 8))),
)


class MinibatchMean(layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=0)


class OwnMean(MinibatchMean):
    pass


def of_the_batch(function, x=NOISE[:16]):
    inputs = Input((8,))
    return of(K.Model(inputs, layers.Dense(3)(function(inputs))), x=x)


def centered(x):
    return x - ops.mean(x, axis=0)


def over_all_rows(keeps_rows):
    inputs = Input((8,))
    x = layers.Dense(2)(inputs)
    return of(K.Model(inputs, centered(x) if keeps_rows else ops.mean(x, axis=0)), x=NOISE[:16])


pair(
    "a matrix of all rows",
    "mixed-rows",
    lambda: of_the_batch(centered),
    lambda: of_the_batch(centered, NOISE[:8]),
)
pair(
    "a layer that says so",
    "mixed-rows",
    lambda: of_the_batch(lambda x: OwnMean()(x)),
    lambda: of_the_batch(lambda x: MinibatchMean()(x)),
)
pair("an output without rows", "mixed-rows", lambda: over_all_rows(True), lambda: over_all_rows(False))
pair(
    "a hundredth of the other rows",
    "mixed-rows",
    lambda: of_the_batch(lambda x: x * (1 + 0.02 * ops.mean(x, axis=0))),
    lambda: of_the_batch(lambda x: x * (1 + 0.02 * ops.mean(x, axis=1, keepdims=True))),
)


def bag(*positions):
    inputs = Input((12,), dtype="int32")
    x = layers.Embedding(50, 8)(inputs)
    for constant in positions:
        x = x + constant
    x = layers.MultiHeadAttention(2, 4)(x, x)
    return compiled(K.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))))


pair(
    "positions that are constants",
    "order-blind",
    bag,
    lambda: bag(np.sin(np.arange(96)).reshape(12, 8).astype("float32")),
)


def beside_the_label(change, rows=32):
    """The first column, and as labels what a function makes of it."""
    x = RANDOM.normal(size=(rows, 8)).astype("float32")
    return of(number(), x=x, y=change(x[:, 0]))


def noisy(x):
    return x + 0.01 * np.cos(np.arange(len(x)))


pair(
    "the label in another unit",
    "label-among-inputs",
    lambda: beside_the_label(lambda x: 32 - 1.8 * x),
    lambda: beside_the_label(noisy),
)
pair(
    "31 labels",
    "label-among-inputs",
    lambda: beside_the_label(lambda x: x),
    lambda: beside_the_label(lambda x: x, rows=31),
)

# What is known of a task


def own_loss_of_logits(from_logits):
    class OwnLoss(keras.losses.Loss):
        def __init__(self):
            super().__init__()
            self.from_logits = from_logits

        def call(self, y, p):
            return ops.mean(y * p, axis=-1)

    return OwnLoss()


pair(
    "a loss of its own says what it takes",
    "probabilities-as-logits",
    lambda: mlp(loss=own_loss_of_logits(True)),
    lambda: mlp(loss=own_loss_of_logits(False)),
)
pair(
    "ctc takes logits",
    "probabilities-as-logits",
    lambda: compiled(chain((9, 4), layers.LSTM(8, return_sequences=True), layers.Dense(6, activation="softmax")),
                     "adam", "ctc"),
    lambda: compiled(chain((9, 4), layers.LSTM(8, return_sequences=True), layers.Dense(6)), "adam", "ctc"),
)  # fmt: skip
for name in ("sparsemax", "sparse_sigmoid"):
    pair(
        f"{name} and logits",
        "probabilities-as-logits",
        lambda name=name: mlp(last=name, loss=L.CategoricalCrossentropy(from_logits=True)),
        lambda: mlp(last=None, loss=L.CategoricalCrossentropy(from_logits=True)),
    )
pair(
    "a class as a loss",
    "loss-and-output",
    lambda: mlp(loss=L.MeanSquaredError),
    lambda: mlp(loss=L.CategoricalCrossentropy),
)
pair("a loss that Keras chooses later", "loss-and-output", lambda: mlp(loss="mse"), lambda: mlp(loss="ce"))
pair(
    "an optimizer that scales the loss",
    "learning-rate",
    lambda: mlp(optimizer=OPTIMIZERS.LossScaleOptimizer(OPTIMIZERS.Adam(0.05))),
    lambda: mlp(optimizer=OPTIMIZERS.LossScaleOptimizer(OPTIMIZERS.Adam(0.049))),
)


class Certain(keras.Model):
    """Gives 1 for each row: by a softmax, or by a sigmoid of a large number, or as it is."""

    def __init__(self, kind):
        super().__init__()
        bias = CONSTANT(20.0) if kind == "sigmoid" else "zeros"
        self.out = layers.Dense(1, bias_initializer=bias, activation=None if kind == "ones" else kind)

    def call(self, x):
        out = self.out(x)
        return out if self.out.activation is not keras.activations.linear else ops.ones_like(out)


for name in ("sigmoid", "ones"):
    pair(
        f"{name} without the layer in sight",
        "single-output",
        lambda: of(compiled(Certain("softmax"), "adam", BINARY), x=NOISE[:16]),
        lambda name=name: of(compiled(Certain(name), "adam", BINARY), x=NOISE[:16]),
    )


# Details that single guards and limits of the rules decide


def with_one(value):
    x = X8.copy()
    x[3, 2] = value
    return of(mlp(), x=x)


def bright(top):
    x = np.random.default_rng(0).uniform(0, top, (N, 16, 16, 3))
    return of(cnn(layers.RandomBrightness(0.2), conv()), x=x)


def attended(between):
    inputs = Input((12,), dtype="int32")
    x = between(layers.Embedding(50, 8)(inputs))
    x = layers.GlobalAveragePooling1D()(layers.MultiHeadAttention(2, 4)(x, x))
    return classifier(inputs, x)


def late(differs):
    x = np.random.default_rng(0).normal(size=(1200, 8)).astype("float32")
    y = x[:, 2].copy()
    if differs:
        y[1000:] = np.random.default_rng(1).normal(size=200)
    return of(number(), x=x, y=y)


def given(*values):
    return lambda shape, dtype=None: ops.convert_to_tensor(values, dtype)


def prelu(*slopes):
    return mlp(layers.Dense(2), layers.PReLU(alpha_initializer=given(*slopes)))


def noise_in(training):
    noise = layers.GaussianNoise(0.1)
    return functional((8,), lambda x: head()(noise(relu()(x), training=training)))


def scaled_by(*gamma):
    norm = layers.BatchNormalization(gamma_initializer=given(*gamma))
    return mlp(layers.Dense(2, use_bias=False), norm, layers.ReLU())


def norm_after(data_format):
    shape = (3, 9, 9) if data_format == "channels_first" else (9, 9, 3)
    first = layers.Conv2D(8, 3, use_bias=False, data_format=data_format)
    rest = layers.ReLU(), layers.Flatten(), head()
    return compiled(chain(shape, first, layers.BatchNormalization(axis=1), *rest))


def first_channels(size):
    first = layers.Conv2D(16, 5, padding="same", data_format="channels_first", activation="relu")
    return compiled(chain((3, 4, size), first, layers.Flatten(), head()))


def narrowing(kind, shape):
    stack = kind(32, 3, activation="relu"), kind(16, 3, activation="relu"), layers.Flatten()
    return compiled(chain(shape, *stack, head()))


def upsampled(kind):
    return cnn(conv(), layers.UpSampling2D(), kind(8, 3, strides=2, activation="relu"))


def joined_along(axis):
    def make(x):
        a, b = (layers.Conv2D(8, 3, padding="same", activation="relu")(x) for _ in range(2))
        x = layers.Conv2D(8, 3, activation="relu")(layers.Concatenate(axis=axis)([a, b]))
        return head()(layers.GlobalAveragePooling2D()(x))

    return functional((16, 16, 3), make)


def turned(*between):
    pool = layers.MaxPooling2D(data_format="channels_first")
    return cnn(conv(), *between, pool, layers.Permute((2, 3, 1)), conv())


def dropped_pool(*between):
    return cnn(conv(activation=None), *between, layers.MaxPooling2D(), conv())


def halved():
    return chain((8,), relu(), head(dtype="mixed_float16"))


def one_output(weight):
    return compiled(chain((8,), layers.Dense(1)), "adam", "mse", loss_weights=[weight])


def focal(**options):
    return number("sigmoid", L.BinaryFocalCrossentropy(alpha=1.0, **options))


def falling(steps, rates):
    return mlp(optimizer=OPTIMIZERS.SGD(Piecewise(steps, rates)))


def normed_alone():
    model = chain((8,), layers.BatchNormalization(), head())
    return compiled(model, OPTIMIZERS.Adam(0.5))


def many_filters(*size):
    return cnn(layers.Conv2D(64, *size, activation="relu"), shape=(16, 16, 1))


def normed_output(norm):
    return mlp(last=None, loss="mse", after=[norm])


CODED = np.eye(3)[np.arange(N) % 3]
for name, code, guilty, innocent, message in (
    ("an infinite input", "missing-values", lambda: with_one(np.inf), lambda: with_one(1.0), "1 of"),
    ("values up to two for a range of 255", "value-range", lambda: bright(1.5), lambda: bright(2), ""),
    ("dropout knows of no order", "order-blind", lambda: attended(layers.Dropout(0.1)),
     lambda: attended(layers.Conv1D(8, 3, padding="same", activation="relu")), ""),
    ("a column that is the label of all rows", "label-among-inputs", lambda: late(False), lambda: late(True), ""),
    ("one slope below zero of a prelu", "activation-setting", lambda: prelu(-0.5, 0.25), lambda: prelu(0.0, 0.25),
     "a slope of -0.5"),
    ("noise that is to stay at inference", "overruled-training", lambda: noise_in(True), lambda: noise_in(None),
     "called with training=True"),
    ("one scale that is not zero", "zero-scale", lambda: scaled_by(0.0, 0.0), lambda: scaled_by(0.0, 1.0), ""),
    ("batch norm of channels first", "norm-axis", lambda: norm_after("channels_last"),
     lambda: norm_after("channels_first"), ""),
    ("patches may have many filters", "many-filters", lambda: many_filters(2), lambda: many_filters(2, 2), ""),
    ("convolutions over time may narrow", "fewer-filters", lambda: narrowing(layers.Conv2D, (9, 9, 3)),
     lambda: narrowing(layers.Conv1D, (9, 3)), ""),
    ("a kernel over the columns of channels first", "kernel-over-map", lambda: first_channels(2),
     lambda: first_channels(8), "on a 4x2 map"),
    ("a transposed convolution undoes no upsampling", "undone-upsampling", lambda: upsampled(layers.Conv2D),
     lambda: upsampled(layers.Conv2DTranspose), ""),
    ("an axis counted from the end", "concatenated-axis", lambda: joined_along(-2), lambda: joined_along(-1),
     "joins along axis 2 of 4"),
    ("grey images with channels first", "channels-first", lambda: cnn(conv(), shape=(1, 28, 28)),
     lambda: cnn(conv(), shape=(28, 28, 1)), ""),
    ("formats with the axes moved between", "mixed-formats", lambda: turned(),
     lambda: turned(layers.Permute((3, 1, 2))), ""),
    ("dropout before a pool of linear values", "pooled-linear", lambda: dropped_pool(layers.Dropout(0.1)),
     lambda: dropped_pool(layers.ReLU(), layers.Dropout(0.1)), ""),
    ("half precision without a loss", "half-precision", lambda: mlp(dtype="mixed_float16"), halved, ""),
    ("a divergence of several at once", "sigmoid-output",
     lambda: of(mlp(last="sigmoid", loss="kl_divergence"), y=CODED),
     lambda: of(mlp(last="sigmoid", loss="kl_divergence"), y=np.full((N, 3), 0.9)), ""),
    ("several labels at once are no one-hot rows", "loss-and-output",
     lambda: of(mlp(last=None, loss="mse"), y=CODED), lambda: of(mlp(last=None, loss="mse"), y=1 - CODED), ""),
    ("directions of unit length", "norm-on-output", lambda: normed_output(layers.LayerNormalization()),
     lambda: normed_output(layers.UnitNormalization()), ""),
    ("the only output without weight", "loss-weight", lambda: one_output(0.0), lambda: one_output(1.0), ""),
    ("an alpha that does not balance", "loss-setting", lambda: focal(apply_class_balancing=True), focal, ""),
    ("a norm beside a single layer", "learning-rate", lambda: mlp(optimizer=OPTIMIZERS.Adam(0.5)), normed_alone, ""),
    ("a low rate that rises again", "short-schedule", lambda: falling([90], [0.1, 0.005]),
     lambda: falling([90, 400], [0.1, 0.005, 0.1]), ""),
):  # fmt: skip
    pair(name, code, guilty, innocent, message)


class OwnError(keras.losses.Loss):
    def call(self, y, p):
        return ops.sqrt(ops.mean(ops.square(y - p)))


def own_error(y, loss=None):
    return of(mlp(units=1, last=None, loss=loss or OwnError()), y=y)


def packed(ids, sizes=(50,), slices=(slice(None),), **options):
    """Embeddings of columns of one input."""
    inputs = Input((ids.shape[1],), dtype="int32")
    read = [layers.Embedding(size, 4, **options)(inputs[:, part]) for size, part in zip(sizes, slices, strict=True)]
    pooled = [layers.GlobalAveragePooling1D()(one) for one in read]
    x = layers.Concatenate()(pooled) if len(pooled) > 1 else pooled[0]
    return of(compiled(K.Model(inputs, layers.Dense(3, activation="softmax")(x))), x=ids)


def history(gap):
    """Three items, two of padding, and a user behind them."""
    ids = np.tile([1, 0, 2, 0, 0, 7] if gap else [1, 2, 3, 0, 0, 7], (N, 1))
    return packed(ids, (50, 50), (slice(0, 5), slice(5, 6)), mask_zero=True)


def nested(part):
    """An embedding in a model of its own, which gets one column."""
    column, inputs = Input((1,), dtype="int32"), Input((3,), dtype="int32")
    table = K.Model(column, layers.GlobalAveragePooling1D()(layers.Embedding(9, 4)(column)))
    outputs = layers.Dense(3, activation="softmax")(table(inputs[:, part]))
    return of(compiled(K.Model(inputs, outputs)), x=last_id(9))


def shared(first, second):
    """One embedding of two inputs, with a last id in each."""
    table, inputs = layers.Embedding(20, 4), [Input((3,), dtype="int32") for _ in range(2)]
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(table(one)) for one in inputs])
    return of(compiled(K.Model(inputs, layers.Dense(3, activation="softmax")(x))), x=[last_id(first), last_id(second)])


def last_id(high):
    """Ids of which only a row beyond the batch has the highest."""
    ids = np.zeros((N, 3), int)
    ids[1, 2] = high
    return ids


def encoded(count, vocabulary=None):
    lookup = [layers.IntegerLookup(vocabulary=vocabulary)] if vocabulary else []
    stack = [*lookup, layers.CategoryEncoding(num_tokens=count), layers.Dense(3, activation="softmax")]
    return of(compiled(chain((2,), *stack, dtype="int64")), x=np.arange(2 * N).reshape(N, 2) % 5)


def marked(high):
    """Words as a row of marks, a few of them known."""
    stack = [layers.IntegerLookup(vocabulary=[1, 2], output_mode="multi_hot"), layers.Dense(3, activation="softmax")]
    ids = np.arange(3, 3 + N)[:, None].copy()
    ids[3] = high
    return of(compiled(chain((1,), *stack, dtype="int64")), x=ids)


def known_in_one_row(high):
    ids = np.arange(4, 4 + 3 * N).reshape(N, 3)
    ids[9, 1] = high
    return table(10, ids, layers.IntegerLookup(vocabulary=[1, 2, 3]))


def with_weighted(metric):
    model = mlp(units=1, last=None, loss="mse")
    model.compile("adam", "mse", weighted_metrics=[metric])
    return of(model)


def binary(metric, last="sigmoid"):
    loss = L.BinaryCrossentropy(from_logits=last is None)
    return mlp(units=1, last=last, loss=loss, metrics=[metric])


NUMBERS = np.arange(N, dtype="float32")
pair("labels of all rows", "labels-shape", lambda: own_error(NUMBERS), lambda: own_error(NUMBERS[:, None]),
     "labels of shape (), outputs of shape (1): OwnError compares each output with the labels of all rows")  # fmt: skip


class OwnFlatError(OwnError):
    def call(self, y, p):
        return super().call(ops.ravel(y), ops.ravel(p))


class OwnPenalty(keras.losses.Loss):
    def call(self, y, p):
        return ops.mean(ops.square(p))


pair("a class that ignores labels", "labels-shape", lambda: own_error(NUMBERS),
     lambda: own_error(NUMBERS, OwnPenalty()))  # fmt: skip
pair("a class that flattens both", "labels-shape", lambda: own_error(NUMBERS),
     lambda: own_error(NUMBERS, OwnFlatError()))  # fmt: skip
pair("a class beside a function", "labels-shape", lambda: own_error(NUMBERS), lambda: own_error(NUMBERS, named("mine")))
pair("padding before the next column", "masked-items", lambda: history(True), lambda: history(False))
pair(
    "ids of one column",
    "embedding-ids",
    lambda: packed(last_id(9), (9, 10), (slice(2, 3), slice(2, 3))),
    lambda: packed(last_id(9), (9, 10), (slice(0, 1), slice(2, 3))),
    "ids from 0 to 9 for a table of 9",
)
pair("ids of the first of two inputs", "embedding-ids", lambda: shared(20, 0), lambda: shared(19, 0))
pair("ids of a column in a nested model", "embedding-ids", lambda: nested(slice(2, 3)), lambda: nested(slice(0, 1)))
pair("ids of the second of two inputs", "embedding-ids", lambda: shared(0, -1), lambda: shared(0, 19))
pair("categories", "embedding-ids", lambda: encoded(4), lambda: encoded(5), "ids from 0 to 4 for a table of 4")
pair("words and categories", "embedding-ids", lambda: encoded(3, [1, 2, 3]), lambda: encoded(4, [1, 2, 3]))
pair("marks of unknown words", "unknown-words", lambda: marked(3), lambda: marked(2))
pair("a known word beyond the batch", "unknown-words", lambda: known_in_one_row(4), lambda: known_in_one_row(3))
pair("weighted metrics", "metric-and-output", lambda: with_weighted("accuracy"), lambda: with_weighted("mae"))
pair("noise that multiplies", "linear-pair", lambda: mlp(layers.Dense(8), layers.GaussianDropout(0.1)),
     lambda: mlp(relu(), layers.GaussianDropout(0.1)))  # fmt: skip
for name, guilty, innocent in (
    ("equal to the last digit", lambda: binary(M.Accuracy()), lambda: binary("Accuracy")),
    (
        "a metric as a class",
        lambda: mlp(metrics=[M.BinaryAccuracy]),
        lambda: mlp(metrics=[M.SparseCategoricalAccuracy]),
    ),
    ("the highest of one", lambda: binary("sparse_categorical_accuracy"), lambda: binary("binary_accuracy")),
    (
        "cross-entropy of logits",
        lambda: binary(BINARY, None),
        lambda: binary(M.BinaryCrossentropy(from_logits=True), None),
    ),
    ("f1 of logits", lambda: binary(M.F1Score(threshold=0.5), None), lambda: binary(M.F1Score(threshold=0.5))),
    ("overlap of logits", lambda: binary(M.BinaryIoU(), None), lambda: binary(M.BinaryIoU(threshold=0.0), None)),
    ("a name that lacks its classes", lambda: rated("MeanIoU"), lambda: rated("OneHotMeanIoU")),
):
    pair(name, "metric-and-output", guilty, innocent)


@pytest.mark.parametrize("name", PAIRS)
def test_a_detail_makes_the_fault(name):
    code, guilty, innocent, message = PAIRS[name]
    found = judged(code, guilty)
    assert len(found) >= 1
    assert message in found[0]
    assert judged(code, innocent) == []
