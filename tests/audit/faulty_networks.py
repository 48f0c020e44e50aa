"""Networks with one fault each: a model, what is known of its task, and the code of the rule that finds it."""

import functools

import numpy as np

from reprocnn.backend import keras, layers, tf
from tests.audit.sound_networks import InverseRoot, classes, parts_by_name, tokens, unet
from tests.support.small_models import chain, classifier, compiled, head, relu

K, Input, ops = keras, keras.Input, keras.ops
RNG = np.random.default_rng(1)
L = keras.losses
FAULTS = {}


def fault(name, code, model, **known):
    assert name not in FAULTS
    FAULTS[name] = (code, functools.partial(_make, model, known))


def _make(model, known):
    made = model()
    return made if isinstance(made, tuple) else (made, known)


def mlp(
    *hidden,
    units=3,
    last="softmax",
    loss="sparse_categorical_crossentropy",
    optimizer="adam",
    metrics=(),
    after=(),
    **head,
):
    hidden = hidden or (relu(16),)
    model = chain((8,), *hidden, layers.Dense(units, activation=last, **head), *after)
    return compiled(model, optimizer, loss, metrics=list(metrics))


def number(last=None, loss="mse", **options):
    return mlp(units=1, last=last, loss=loss, **options)


def cnn(*stack, shape=(16, 16, 3), **options):
    return compiled(chain(shape, *stack, layers.GlobalAveragePooling2D(), head()), **options)


def separable(filters, **options):
    return layers.SeparableConv2D(filters, 3, **options)


def relu_with_biases(value):
    return relu(4, bias_initializer=keras.initializers.Constant(value))


def inactive_first_layer():
    """Two units with the wrong sign, and nothing before them that could train."""
    model = mlp(relu(2))
    model.layers[0].kernel.assign(-np.abs(model.layers[0].kernel.numpy()))
    return model


def subclassed_softmax(units=3):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = layers.Dense(units, activation="softmax")

        def call(self, x):
            return self.out(x)

    if units == 1:
        return compiled(Own(), "adam", "binary_crossentropy"), {"x": X8, "y": classes(N, 2)}
    model = compiled(Own(), loss=L.SparseCategoricalCrossentropy(from_logits=True))
    return model, {"x": X8, "y": np.arange(len(X8)) % 3}


def text(*stack, units=3, last="softmax", **options):
    return compiled(
        chain((12,), layers.Embedding(50, 8), *stack, layers.Dense(units, activation=last), dtype="int32"), **options
    )


def conv(filters=8, **options):
    return layers.Conv2D(filters, 3, **{"padding": "same", "activation": "relu"} | options)


def lazy(function, *arguments, **options):
    return lambda: function(*arguments, **options)


def two(losses, last=("softmax", None), **options):
    x = inputs = Input((8,))
    x = relu(16)(x)
    outs = [layers.Dense(u, activation=a, name=n)(x) for u, a, n in zip((3, 1), last, ("label", "score"), strict=True)]
    return compiled(K.Model(inputs, outs), "adam", losses, **options)


NEAR_ZERO = {f"{name}_initializer": keras.initializers.TruncatedNormal(stddev=1e-7) for name in ("kernel", "recurrent")}


def pinball(y, p):
    return ops.mean(ops.maximum(0.9 * (y - p), 0.1 * (p - y)))


def my_mse(y, p):
    return ops.mean(ops.square(y - p))


def my_dice(y, p):
    return 1 - (2 * ops.sum(y * p) + 1) / (ops.sum(y) + ops.sum(p) + 1)


def given_labels():
    words, given = Input((12,), dtype="int32"), Input((10,), dtype="int32")
    _, state = layers.GRU(8, return_state=True)(layers.Embedding(50, 8)(words))
    x = layers.GRU(8, return_sequences=True)(layers.Embedding(50, 8)(given), initial_state=state)
    y = tokens(N, 10, 50)
    model = classifier([words, given], x, 50)
    return model, {"x": [tokens(N, 12, 50), y], "y": y}


def half_read():
    one, other = Input((8,), name="read"), Input((4,), name="unread")
    return classifier([one, other], one)


def language_model(around=None, mask=True):
    ids = inputs = Input((12,), dtype="int32")
    x = layers.Add()([layers.Embedding(50, 8)(ids), layers.Embedding(12, 8)(ops.arange(12)[None])])
    if around:
        x = around(layers.GRU(8, return_sequences=True))(x)
    else:
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=mask)])
    words = tokens(N, 13, 50)
    known = {"x": words[:, :-1], "y": words[:, 1:]}
    return classifier(inputs, x, 50), known


def classifier_of_bags(positions=False):
    inputs = Input((12,), dtype="int32")
    x = layers.Embedding(50, 8)(inputs)
    if positions:
        x = layers.Add()([x, layers.Embedding(12, 8)(ops.arange(12)[None])])
    x = layers.Add()([x, layers.MultiHeadAttention(2, 4)(x, x)])
    return classifier(inputs, layers.GlobalAveragePooling1D()(x))


def parallel(activation):
    inputs = Input((20, 4))
    paths = [layers.Conv1D(8, size, padding="same", activation=activation)(inputs) for size in (2, 3)]
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(path) for path in paths])
    return classifier(inputs, x)


def computed(shape, function):
    """A layer that takes what `function` computes of the inputs."""
    inputs = Input(shape)
    x = relu(16)(function(inputs))
    x = layers.GlobalAveragePooling1D()(x) if len(x.shape) > 2 else x
    return classifier(inputs, x)


def shifted(layer):
    steps = RNG.normal(size=(N, 13, 3))
    model = compiled(chain((12, 3), layer, layers.ReLU(), layers.Dense(3)), "adam", "mse")
    return model, {"x": steps[:, :-1], "y": steps[:, 1:]}


def forecast(*stack, steps=None):
    return compiled(chain((steps, 3), *stack, layers.Dense(1)), "adam", "mse")


def averaged(table):
    stack = [table, layers.GlobalAveragePooling1D(), relu(8)]
    return compiled(chain((12,), *stack, head(), dtype="int32"))


def doubled():
    x = inputs = Input((8,))
    x = relu(8)(x)
    return classifier(inputs, x + x)


N = 40
ONE_HOT = np.eye(3)[classes(N, 3)]
X8 = RNG.normal(size=(N, 8))

# labels and outputs
fault("targets below zero behind relu", "labels-range", lazy(number, "relu"), y=RNG.normal(size=N))
fault("targets below zero behind softplus", "labels-range", lazy(number, "softplus", "mae"), y=RNG.normal(size=N))
fault("targets above one behind sigmoid", "labels-range", lazy(number, "sigmoid"), y=RNG.uniform(0, 50, N))
fault("targets above one behind tanh", "labels-range", lazy(number, "tanh"), y=RNG.normal(20, 5, N))
fault(
    "masks of 255",
    "labels-range",
    lambda: unet("binary_crossentropy", 1, "sigmoid", y=255 * classes(8, 2, (32, 32, 1))),
)
fault(
    "pixels of 255 in an autoencoder",
    "labels-range",
    lazy(mlp, units=8, last="sigmoid", loss="mse"),
    y=RNG.uniform(0, 255, (N, 8)),
)
fault(
    "labels of -1 and 1 with bce",
    "labels-range",
    lazy(number, "sigmoid", "binary_crossentropy"),
    y=2 * classes(N, 2) - 1,
)
fault("labels of 1 and 2 with bce", "labels-range", lazy(number, "sigmoid", "binary_crossentropy"), y=1 + classes(N, 2))
fault("negative counts", "labels-range", lazy(number, "exponential", "poisson"), y=RNG.normal(size=N))
fault("negative targets with msle", "labels-range", lazy(number, "softplus", "msle"), y=RNG.normal(0, 9, N))
fault("two columns for one unit", "labels-shape", number, y=RNG.normal(size=(N, 2)))
fault("one column for two units", "labels-shape", lazy(mlp, units=2, last=None, loss="mse"), y=RNG.normal(size=(N, 1)))
fault("flat targets for two units", "labels-shape", lazy(mlp, units=2, last=None, loss="mse"), y=RNG.normal(size=N))
fault(
    "softmax of two with binary labels", "labels-shape", lazy(mlp, units=2, loss="binary_crossentropy"), y=classes(N, 2)
)
fault("return_sequences is left on", "labels-shape", lazy(text, layers.LSTM(8, return_sequences=True)), y=classes(N, 3))
fault(
    "return_sequences is left on, one-hot",
    "labels-shape",
    lambda: (text(layers.LSTM(8, return_sequences=True), loss="categorical_crossentropy"), {"y": ONE_HOT}),
)
fault(
    "return_sequences is left on, numbers",
    "labels-shape",
    lambda: (
        text(layers.LSTM(8, return_sequences=True), units=1, last=None, loss="mse"),
        {"y": RNG.normal(size=(N, 1))},
    ),
)
fault(
    "no pooling before the head",
    "labels-shape",
    lambda: (compiled(chain((16, 16, 3), conv(), head())), {"y": classes(N, 3)}),
)
fault(
    "no pooling before a sigmoid",
    "labels-shape",
    lambda: (
        compiled(chain((16, 16, 3), conv(), layers.Dense(1, activation="sigmoid")), "adam", "binary_crossentropy"),
        {"y": classes(N, 2)},
    ),
)
fault(
    "decoder of the wrong size",
    "labels-shape",
    lambda: (
        compiled(chain((16, 16, 1), conv(), layers.MaxPooling2D(), conv(1)), "adam", "mse"),
        {"y": RNG.uniform(size=(N, 16, 16, 1))},
    ),
)
fault("sequence tags for one output", "labels-and-loss", lazy(text, layers.LSTM(8)), y=classes(N, 3, (12,)))
fault("nan labels", "missing-labels", number, y=np.where(np.arange(N) == 3, np.nan, 1.0))
fault("labels of -1", "class-numbers", mlp, y=classes(N, 3) - 1)
fault("labels divided by 255", "class-numbers", mlp, y=classes(N, 3) / 255)
fault("fractional labels", "class-numbers", mlp, y=classes(N, 3) + 0.5)
fault("labels from one", "class-numbers", mlp, y=np.r_[1, 2, 3, classes(N - 3, 3) + 1])
fault("one label of 30,000 beyond the units", "wrong-outputs", mlp, y=np.r_[0, 9, np.zeros(29_998, int)])
fault(
    "multi-hot rows with softmax",
    "label-rows",
    lazy(mlp, units=4, loss="categorical_crossentropy"),
    y=np.tile([[1, 0, 1, 0], [0, 1, 1, 1]], (20, 1)),
)
fault("one-hot rows times 1.1", "label-rows", lazy(mlp, loss="categorical_crossentropy"), y=1.1 * ONE_HOT)
fault("one-hot rows divided by 255", "label-rows", lazy(mlp, loss="categorical_crossentropy"), y=ONE_HOT / 255)
fault("one class only", "one-class", mlp, y=np.zeros(N, int))
fault("one-hot with sparse", "labels-and-loss", mlp, y=ONE_HOT)
fault("numbers with categorical", "labels-and-loss", lazy(mlp, loss="categorical_crossentropy"), y=classes(N, 3))
fault("targets in thousands", "unscaled-labels", number, y=RNG.uniform(60_000, 500_000, N))
fault("segmentation labels beyond the channels", "wrong-outputs", lambda: unet(y=classes(8, 5, (32, 32))))
fault(
    "ctc labels beyond the units",
    "class-numbers",
    lambda: (
        compiled(chain((20, 4), layers.LSTM(8, return_sequences=True), layers.Dense(6)), "adam", "ctc"),
        {"y": np.full((8, 5), 6)},
    ),
)
fault(
    "ctc labels longer than the sequence",
    "class-numbers",
    lambda: (
        compiled(chain((4, 4), layers.LSTM(8, return_sequences=True), layers.Dense(6)), "adam", "ctc"),
        {"y": np.full((8, 5), 2)},
    ),
)

# losses
fault("mse behind softmax", "loss-and-output", lazy(mlp, loss="mse"))
fault("mae behind softmax", "loss-and-output", lazy(mlp, loss="mae"))
fault("huber behind softmax", "loss-and-output", lazy(mlp, loss=L.Huber()))
fault("bce behind softmax", "loss-and-output", lazy(mlp, loss="binary_crossentropy"))
fault("binary focal behind softmax", "loss-and-output", lazy(mlp, loss=L.BinaryFocalCrossentropy()))
fault("mse for one-hot classes", "loss-and-output", lazy(mlp, last=None, loss="mse"), y=ONE_HOT)
fault("mse for a sigmoid of classes", "loss-and-output", lazy(number, "sigmoid"), y=classes(N, 2))
fault("hinge behind sigmoid", "loss-and-output", lazy(number, "sigmoid", "hinge"))
fault("squared hinge behind relu", "loss-and-output", lazy(number, "relu", "squared_hinge"))
fault("categorical hinge behind softmax", "loss-and-output", lazy(mlp, loss="categorical_hinge"))
fault("msle behind tanh", "loss-and-output", lazy(number, "tanh", "msle"))
fault("cosine similarity of one unit", "loss-and-output", lazy(number, loss="cosine_similarity"))
fault("poisson behind linear", "negative-rate", lazy(number, loss="poisson"))
fault("poisson behind tanh", "negative-rate", lazy(number, "tanh", L.Poisson()))
fault("kl behind linear", "logits-as-probabilities", lazy(mlp, last=None, loss="kl_divergence"))
fault("kl behind relu", "logits-as-probabilities", lazy(mlp, last="relu", loss="kl_divergence"))
fault("focal behind linear", "logits-as-probabilities", lazy(mlp, last=None, loss=L.CategoricalFocalCrossentropy()))
fault("binary focal behind linear", "logits-as-probabilities", lazy(number, loss="binary_focal_crossentropy"))
fault("dice of logits", "logits-as-probabilities", lambda: unet(L.Dice(), 1, None))
fault("tversky of logits", "logits-as-probabilities", lambda: unet(L.Tversky(), 1, None))
fault("relu before cross-entropy", "logits-as-probabilities", lazy(mlp, last="relu"))
fault(
    "ctc behind softmax",
    "probabilities-as-logits",
    lambda: compiled(
        chain((20, 4), layers.LSTM(8, return_sequences=True), layers.Dense(6, activation="softmax")), "adam", "ctc"
    ),
)
fault(
    "sigmoid with from_logits",
    "probabilities-as-logits",
    lazy(number, "sigmoid", L.BinaryCrossentropy(from_logits=True)),
)
fault("sigmoid for exclusive classes", "sigmoid-output", lazy(mlp, last="sigmoid"))
fault("softmax of one unit", "single-output", lazy(mlp, units=1, loss="binary_crossentropy"))
fault("critic with a sigmoid", "loss-and-output", lambda: number("sigmoid", wasserstein))
fault(
    "one loss of a list",
    "logits-as-probabilities",
    lazy(two, ["sparse_categorical_crossentropy", "mse"], last=(None, None)),
)
fault("one loss of a dict", "loss-and-output", lazy(two, {"label": "mse", "score": "mse"}))
fault(
    "a dict for one output",
    "logits-as-probabilities",
    lambda: compiled(chain((8,), layers.Dense(3, name="out")), "adam", {"out": "categorical_crossentropy"}),
)
fault(
    "a list for one output",
    "logits-as-probabilities",
    lambda: compiled(chain((8,), layers.Dense(3, name="out")), "adam", ["categorical_crossentropy"]),
)
fault("losses swapped", "loss-and-output", lazy(two, ["mse", "mse"]))
fault("weight of zero", "loss-weight", lazy(two, ["sparse_categorical_crossentropy", "mse"], loss_weights=[1.0, 0.0]))
fault(
    "weight below zero", "loss-weight", lazy(two, ["sparse_categorical_crossentropy", "mse"], loss_weights=[1.0, -1.0])
)
fault(
    "weights far apart",
    "loss-weight",
    lazy(two, ["sparse_categorical_crossentropy", "mse"], loss_weights={"label": 1e-6, "score": 1.0}),
)
fault("an output without a loss", "no-gradient", lazy(two, {"label": "sparse_categorical_crossentropy", "score": None}))
fault(
    "labels of one output out of range",
    "labels-range",
    lazy(two, ["sparse_categorical_crossentropy", "mse"], last=("softmax", "sigmoid")),
    y=[classes(N, 3), RNG.normal(9, 1, N)],
)
fault("smoothing away the labels", "loss-setting", lazy(mlp, loss=L.CategoricalCrossentropy(label_smoothing=0.9)))
fault("huber without a square", "loss-setting", lazy(number, loss=L.Huber(delta=1e-6)))
fault("focal gamma", "loss-setting", lazy(number, "sigmoid", L.BinaryFocalCrossentropy(gamma=50.0)))
fault("classes on another axis", "loss-setting", lambda: unet(L.CategoricalCrossentropy(axis=1)))
fault(
    "softmax over rows",
    "softmax-axis",
    lambda: compiled(chain((16, 16, 3), conv(), layers.Conv2D(4, 1), layers.Softmax(axis=1))),
)
fault(
    "softmax over time",
    "softmax-axis",
    lambda: compiled(chain((12, 3), layers.LSTM(8, return_sequences=True), layers.Dense(4), layers.Softmax(axis=1))),
)
fault("softmax over the batch", "softmax-axis", lambda: compiled(chain((8,), layers.Dense(3), layers.Softmax(axis=0))))
fault("relu before softmax", "two-activations", lambda: mlp(last="relu", after=[layers.Softmax()]))
fault("softmax twice", "two-activations", lambda: mlp(after=[layers.Activation("softmax")]))
fault(
    "sigmoid after tanh",
    "two-activations",
    lambda: number("tanh", "binary_crossentropy", after=[layers.Activation("sigmoid")]),
)
fault("relu after sigmoid", "two-activations", lambda: mlp(layers.Dense(16, activation="sigmoid"), layers.ReLU()))
fault("batch norm after softmax", "norm-on-output", lambda: mlp(after=[layers.BatchNormalization()]))
fault("batch norm after a regression", "norm-on-output", lambda: number(after=[layers.BatchNormalization()]))
fault("layer norm after softmax", "norm-on-output", lambda: mlp(after=[layers.LayerNormalization()]))
fault("dropout after softmax", "dropout-on-output", lambda: mlp(after=[layers.Dropout(0.5)]))
fault("dropout after a regression", "dropout-on-regression", lambda: number(after=[layers.Dropout(0.5)]))
fault(
    "dropout on logits", "dropout-on-regression", lambda: mlp(last=None, after=[layers.Dropout(0.5), layers.Softmax()])
)
fault(
    "dropout on logits for the loss",
    "dropout-on-regression",
    lambda: mlp(last=None, after=[layers.Dropout(0.5)], loss=L.SparseCategoricalCrossentropy(from_logits=True)),
)


def subclassed(units, y, loss="sparse_categorical_crossentropy"):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = relu(16), layers.Dense(units)

        def call(self, x):
            return self.out(self.hidden(x))

    model = Own()
    model(X8.astype("float32"))
    return compiled(model, loss=loss), {"x": X8.astype("float32"), "y": y}


fault("linear output of a subclassed model", "logits-as-probabilities", lambda: subclassed(3, classes(N, 3)))
fault("too few units of a subclassed model", "wrong-outputs", lambda: subclassed(3, classes(N, 9)))
fault("one unit of a subclassed model", "single-output", lambda: subclassed(1, classes(N, 2)))
fault("softmax of one unit of a subclassed model", "single-output", lambda: subclassed_softmax(1))
fault("linear output of several subclassed", "logits-as-probabilities", lambda: parts_by_name(None))
fault("too few units of several subclassed", "wrong-outputs", lambda: parts_by_name("softmax", 9))
fault(
    "relu on logits",
    "loss-and-output",
    lambda: mlp(last="relu", loss=L.SparseCategoricalCrossentropy(from_logits=True)),
)
fault(
    "ctc without steps",
    "labels-shape",
    lambda: (compiled(chain((20, 4), layers.LSTM(8), layers.Dense(6)), "adam", "ctc"), {"y": np.full((8, 5), 2)}),
)
fault(
    "a linear rnn",
    "activation-setting",
    lambda: compiled(chain((20, 4), layers.SimpleRNN(8, activation="linear"), head())),
)


def wasserstein(y, p):
    return ops.mean(y * p)


def without_missing(y, p):
    return ops.mean(ops.square(ops.where(ops.isnan(y), 0.0, y - p)))


# the optimizer and the metrics
OPT = keras.optimizers
S = OPT.schedules
for optimizer in (
    OPT.Adam(1.0),
    OPT.Adam(0.1),
    OPT.AdamW(0.5),
    OPT.RMSprop(0.5),
    OPT.Nadam(1.0),
    OPT.SGD(10.0),
    OPT.SGD(100.0, momentum=0.9),
    OPT.SGD(10.0, clipnorm=1.0),
    OPT.Adam(1e-9),
    OPT.SGD(1e-8),
    OPT.SGD(0.0),
    OPT.RMSprop(1e-10),
    OPT.Adagrad(100.0),
    OPT.Adam(S.ExponentialDecay(5.0, 10_000, 0.9)),
    OPT.Adam(S.CosineDecay(0.0, 10, warmup_target=1e-3, warmup_steps=10**9)),
):
    config = optimizer.get_config()["learning_rate"]
    fault(
        f"rate {config if isinstance(config, float) else config['config']} of {optimizer.name} {len(FAULTS)}",
        "learning-rate",
        lambda optimizer=optimizer: mlp(optimizer=type(optimizer).from_config(optimizer.get_config())),
    )
for schedule in (
    S.CosineDecay(1e-3, 10),
    S.ExponentialDecay(1e-2, 1, 0.5),
    S.PolynomialDecay(1e-2, 20),
    S.InverseTimeDecay(1e-2, 1, 1.0),
    S.PiecewiseConstantDecay([5, 20], [1e-2, 1e-4, 1e-6]),
    S.CosineDecayRestarts(1e-2, 1, m_mul=0.5),
):
    fault(
        f"short {type(schedule).__name__}",
        "short-schedule",
        lambda schedule=schedule: mlp(optimizer=OPT.Adam(schedule)),
    )
for name, optimizer in {
    "clipnorm": OPT.SGD(0.01, clipnorm=1e-7),
    "clipvalue": OPT.Adam(clipvalue=1e-8),
    "global_clipnorm": OPT.SGD(0.1, global_clipnorm=1e-6),
    "weight decay": OPT.AdamW(1e-3, weight_decay=10.0),
    "SGD's weight decay": OPT.SGD(0.1, weight_decay=0.5),
    "momentum": OPT.SGD(0.01, momentum=0.9999),
    "beta_1": OPT.Adam(beta_1=0.99999),
    "beta_2": OPT.Adam(beta_2=0.01),
    "epsilon": OPT.Adam(epsilon=100.0),
}.items():
    fault(
        name,
        "optimizer-setting",
        lambda optimizer=optimizer: mlp(optimizer=type(optimizer).from_config(optimizer.get_config())),
    )
M = keras.metrics
METRIC = "metric-and-output"
fault("accuracy of a regression", METRIC, lambda: number(metrics=["accuracy"]))
fault("accuracy of a regression, as an object", METRIC, lambda: number(loss="mae", metrics=[M.Accuracy()]))
fault(
    "accuracy of one of two",
    METRIC,
    lambda: two(["sparse_categorical_crossentropy", "mse"], metrics=[["accuracy"], ["accuracy"]]),
)
fault("categorical accuracy with sparse labels", METRIC, lambda: mlp(metrics=["categorical_accuracy"]))
fault(
    "sparse accuracy with one-hot labels",
    METRIC,
    lambda: mlp(loss="categorical_crossentropy", metrics=[M.SparseCategoricalAccuracy()]),
)
fault(
    "binary accuracy of exclusive classes",
    METRIC,
    lambda: mlp(loss="categorical_crossentropy", metrics=["binary_accuracy"]),
)
fault(
    "threshold of 0.5 for logits",
    METRIC,
    lambda: number(loss=L.BinaryCrossentropy(from_logits=True), metrics=[M.BinaryAccuracy()]),
)
fault("accuracy of logits", METRIC, lambda: number(loss=L.BinaryCrossentropy(from_logits=True), metrics=["accuracy"]))
fault(
    "precision of logits", METRIC, lambda: number(loss=L.BinaryCrossentropy(from_logits=True), metrics=[M.Precision()])
)
fault("auc of logits", METRIC, lambda: number(loss=L.BinaryCrossentropy(from_logits=True), metrics=[M.AUC()]))
fault(
    "threshold beyond one",
    METRIC,
    lambda: number("sigmoid", "binary_crossentropy", metrics=[M.BinaryAccuracy(threshold=5.0)]),
)
fault(
    "threshold of zero",
    METRIC,
    lambda: number("sigmoid", "binary_crossentropy", metrics=[M.BinaryAccuracy(threshold=0.0)]),
)
fault("top five of three", METRIC, lambda: mlp(metrics=[M.SparseTopKCategoricalAccuracy(5)]))
fault("mean iou of probabilities", METRIC, lambda: compiled(unet()[0], metrics=[M.MeanIoU(3)]))
fault("mean iou of other classes", METRIC, lambda: compiled(unet()[0], metrics=[M.MeanIoU(7, sparse_y_pred=False)]))

# values of layers
fault("dropout of 1", "dropout-rate", lambda: mlp(layers.Dropout(1)))
fault("dropout of 0.95", "dropout-rate", lambda: mlp(relu(16), layers.Dropout(0.95)))
fault("spatial dropout of 0.9", "dropout-rate", lambda: cnn(conv(), layers.SpatialDropout2D(0.9)))
fault("gaussian dropout", "dropout-rate", lambda: mlp(relu(16), layers.GaussianDropout(0.99)))
fault("dropout of an lstm", "dropout-rate", lambda: text(layers.LSTM(8, dropout=0.95)))
fault(
    "recurrent dropout of a gru",
    "dropout-rate",
    lambda: text(layers.Bidirectional(layers.GRU(8, recurrent_dropout=0.9))),
)
fault("dropout of attention", "dropout-rate", lambda: transformer(dropout=0.95))
fault("l2 of 10", "strong-penalty", lambda: mlp(relu(16, kernel_regularizer=K.regularizers.L2(10.0))))
fault("l1 of 1", "strong-penalty", lambda: cnn(conv(kernel_regularizer=K.regularizers.L1(1.0))))
fault("l1 and l2", "strong-penalty", lambda: text(layers.LSTM(8, recurrent_regularizer=K.regularizers.L1L2(0.5, 0.5))))
fault("activity penalty", "strong-penalty", lambda: mlp(relu(16, activity_regularizer=K.regularizers.L1(1.0))))
fault("penalty layer", "strong-penalty", lambda: mlp(relu(16), layers.ActivityRegularization(l1=1.0)))


def in_half_precision(last="mixed_float16", hidden="mixed_float16"):
    return mlp(relu(16, dtype=hidden), dtype=last)


fault("weights in float16", "half-precision", lambda: in_half_precision("float32", hidden="float16"))
fault("an output in float16", "half-precision", in_half_precision)


def reward(values):
    return -1e-5 * ops.sum(ops.abs(values))


fault(
    "a penalty of one's own below zero",
    "negative-penalty",
    lambda: mlp(relu(16, kernel_regularizer=lambda kernel: -1e-4 * ops.sum(kernel**2))),
)
fault("the same of a cell", "negative-penalty", lambda: text(layers.LSTM(8, recurrent_regularizer=reward)))
fault("activations that are rewarded", "negative-penalty", lambda: mlp(relu(16, activity_regularizer=reward)))


class Adding(layers.Layer):
    """Adds what a function makes of its inputs to the loss."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, *inputs):
        self.add_loss(self.function(*inputs))
        return inputs[0]


def divergence(mean, log_var):
    return -0.5 * ops.mean(1 + log_var - ops.square(mean) - ops.exp(log_var))


def variational(function):
    inputs = keras.Input((8,))
    x = relu(16)(inputs)
    x = Adding(function)(layers.Dense(4)(x), layers.Dense(4)(x))
    return compiled(keras.Model(inputs, layers.Dense(8)(relu(16)(x))), loss="mse")


class Variational(keras.Model):
    """Adds the divergence to its own loss, with a sign."""

    def __init__(self, sign):
        super().__init__()
        self.sign, self.mean, self.log_var, self.decoder = sign, layers.Dense(4), layers.Dense(4), layers.Dense(8)

    def call(self, x):
        mean = self.mean(x)
        self.add_loss(self.sign * divergence(mean, self.log_var(x)))
        return self.decoder(mean)


def subclassed_variational(sign):
    model = Variational(sign)
    model.compile("adam", "mse")
    return model, {"x": X8, "y": X8}


fault("a divergence with the wrong sign", "negative-penalty", lambda: variational(lambda *x: -divergence(*x)))
fault("the same in the model itself", "negative-penalty", lambda: subclassed_variational(-1))
fault("max-norm", "tight-constraint", lambda: mlp(relu(16, kernel_constraint=K.constraints.MaxNorm(1e-3))))
fault("slope of one", "activation-setting", lambda: mlp(layers.Dense(16), layers.LeakyReLU(negative_slope=1.0)))
fault(
    "slope of one inside",
    "activation-setting",
    lambda: mlp(layers.Dense(16, activation=layers.LeakyReLU(negative_slope=1.0))),
)
fault("limit of zero", "activation-setting", lambda: mlp(layers.Dense(16), layers.ReLU(max_value=0.01)))
fault("threshold", "activation-setting", lambda: mlp(layers.Dense(16), layers.ReLU(threshold=10.0)))
fault(
    "momentum of one",
    "norm-setting",
    lambda: cnn(conv(use_bias=False, activation=None), layers.BatchNormalization(momentum=1.0), layers.ReLU()),
)
fault(
    "momentum of zero",
    "norm-setting",
    lambda: cnn(conv(use_bias=False, activation=None), layers.BatchNormalization(momentum=0.0), layers.ReLU()),
)
fault(
    "momentum of PyTorch",
    "norm-setting",
    lambda: cnn(conv(use_bias=False, activation=None), layers.BatchNormalization(momentum=0.1), layers.ReLU()),
)
fault(
    "epsilon of one",
    "norm-setting",
    lambda: cnn(conv(use_bias=False, activation=None), layers.BatchNormalization(epsilon=1.0), layers.ReLU()),
)
fault(
    "epsilon of layer norm",
    "norm-setting",
    lambda: mlp(layers.Dense(16), layers.LayerNormalization(epsilon=10.0), layers.ReLU()),
)
fault(
    "batch norm over rows",
    "norm-axis",
    lambda: cnn(conv(use_bias=False, activation=None), layers.BatchNormalization(axis=1), layers.ReLU()),
)
fault(
    "batch norm over time",
    "norm-axis",
    lambda: text(layers.Conv1D(8, 3), layers.BatchNormalization(axis=1), layers.ReLU(), layers.GlobalMaxPooling1D()),
)
fault(
    "frozen batch norm",
    "frozen-norm",
    lambda: cnn(conv(use_bias=False, activation=None), layers.BatchNormalization(trainable=False), layers.ReLU()),
)
fault(
    "gamma of zero",
    "zero-scale",
    lambda: cnn(
        conv(use_bias=False, activation=None), layers.BatchNormalization(gamma_initializer="zeros"), layers.ReLU()
    ),
)
fault("layer norm of one unit", "norm-of-one", lambda: mlp(layers.Dense(1), layers.LayerNormalization(), relu(8)))
fault(
    "instance norm of a point",
    "norm-of-one",
    lambda: compiled(
        chain((4, 4, 3), layers.Conv2D(8, 4), layers.GroupNormalization(8), layers.ReLU(), layers.Flatten(), head())
    ),
)
fault(
    "huge weights", "large-weights", lambda: mlp(relu(16, kernel_initializer=K.initializers.RandomNormal(stddev=100.0)))
)
fault(
    "huge weights of the head",
    "large-weights",
    lambda: mlp(kernel_initializer=K.initializers.RandomNormal(stddev=50.0)),
)
fault(
    "huge recurrent weights",
    "large-weights",
    lambda: text(layers.LSTM(8, recurrent_initializer=K.initializers.RandomNormal(stddev=20.0))),
)
fault(
    "huge biases",
    "large-weights",
    lambda: mlp(layers.Dense(16, activation="tanh", bias_initializer=K.initializers.Constant(50.0))),
)
fault(
    "dropout behind selu",
    "selu-dropout",
    lambda: mlp(layers.Dense(16, activation="selu", kernel_initializer="lecun_normal"), layers.Dropout(0.2)),
)
fault("alpha dropout behind relu", "selu-dropout", lambda: mlp(relu(16), layers.AlphaDropout(0.2)))
fault("deep sigmoids", "sigmoid-chain", lambda: mlp(*[layers.Dense(16, activation="sigmoid") for _ in range(8)]))

# how layers fit
fault("one unit", "one-unit", lambda: mlp(relu(16), relu(1), relu(16)))
fault("one channel", "one-unit", lambda: cnn(conv(8), conv(1), conv(8)))
fault("one recurrent unit", "one-unit", lambda: text(layers.LSTM(1), relu(8)))
fault("stride over kernel", "stride-gaps", lambda: cnn(conv(8, strides=5)))
fault("stride over a kernel of one", "stride-gaps", lambda: cnn(layers.Conv2D(8, 1, strides=3, activation="relu")))
fault("stride over pool", "stride-gaps", lambda: cnn(conv(8), layers.MaxPooling2D(2, strides=4)))
fault(
    "stride over a transposed kernel",
    "stride-gaps",
    lambda: compiled(chain((4, 4, 3), layers.Conv2DTranspose(1, 2, 4)), "adam", "mse"),
)
fault("added to itself", "joined-with-itself", lambda: joined(layers.Add()))
fault("concatenated with itself", "joined-with-itself", lambda: joined(layers.Concatenate()))
fault("subtracted from itself", "joined-with-itself", lambda: joined(layers.Subtract()))
fault("concatenated by rows", "concatenated-axis", lambda: branches(1))
fault("concatenated by images", "concatenated-axis", lambda: branches(0))
fault("operations: concatenated by rows", "concatenated-axis", lambda: branches(1, join=ops.concatenate))
fault("operations: concatenated by images", "concatenated-axis", lambda: branches(0, join=ops.concatenate))
fault("operations: reshaped", "reshaped-axes", lambda: computed((30, 8), lambda x: ops.reshape(x, (-1, 8, 30))))
fault(
    "operations: linear pair", "linear-pair",
    lambda: computed((30, 8), lambda x: ops.reshape(ops.mean(layers.Dense(16)(x), axis=1, keepdims=True), (-1, 16))),
)  # fmt: skip
fault(
    "operations: linear branches", "linear-pair",
    lambda: computed((8,), lambda x: ops.concatenate([layers.Dense(8)(x), layers.Dense(8)(x)], axis=-1)),
)  # fmt: skip
fault(
    "operations: softmax with a shortcut", "hidden-softmax",
    lambda: computed((8,), lambda x: x + layers.Dense(8, activation="softmax")(x)),
)  # fmt: skip
fault("one time step", "one-step", lambda: compiled(chain((1, 30), layers.LSTM(8), head())))
fault("one time step of attention", "one-step", lambda: transformer(length=1))
fault("pooled twice", "repeated-layer", lambda: cnn(conv(), layers.MaxPooling2D(), layers.MaxPooling2D()))
fault(
    "normalized twice",
    "repeated-layer",
    lambda: cnn(
        conv(use_bias=False, activation=None), layers.BatchNormalization(), layers.BatchNormalization(), layers.ReLU()
    ),
)
fault("dropped twice", "repeated-layer", lambda: mlp(relu(16), layers.Dropout(0.3), layers.Dropout(0.3)))
fault(
    "no activation before pooling", "pooled-linear", lambda: cnn(conv(activation=None), layers.MaxPooling2D(), conv())
)
fault("exponential between layers", "hidden-gate", lambda: mlp(layers.Dense(16, activation="exponential")))
fault(
    "hard sigmoid between layers",
    "hidden-gate",
    lambda: cnn(conv(activation="hard_sigmoid"), layers.MaxPooling2D(), conv()),
)
fault("keras' l1", "strong-penalty", lambda: mlp(relu(16, kernel_regularizer="l1")))
fault("a rate behind a scaled loss", "learning-rate", lambda: mlp(optimizer=OPT.LossScaleOptimizer(OPT.Adam(10.0))))
fault(
    "a setting behind a scaled loss",
    "optimizer-setting",
    lambda: mlp(optimizer=OPT.LossScaleOptimizer(OPT.SGD(0.01, momentum=0.9999))),
)
fault("keras' adadelta", "learning-rate", lambda: mlp(optimizer="adadelta"))
fault("channels first", "channels-first", lambda: cnn(conv(), shape=(3, 32, 32)))
fault("embedding too small", "embedding-ids", lambda: (text(layers.GlobalAveragePooling1D()), {"x": tokens(N, 12, 90)}))
fault("ids from one", "embedding-ids", lambda: (text(layers.GlobalAveragePooling1D()), {"x": np.tile([1, 50], (N, 6))}))
fault("ids from -1", "embedding-ids", lambda: (text(layers.GlobalAveragePooling1D()), {"x": tokens(N, 12, 50) - 1}))
fault(
    "ids divided by 255",
    "embedding-ids",
    lambda: (compiled(chain((12,), layers.Embedding(50, 8), layers.LSTM(4), head())), {"x": tokens(N, 12, 50) / 255}),
)
fault(
    "ids scaled in the model",
    "embedding-ids",
    lambda: compiled(chain((12,), layers.Rescaling(1 / 255), layers.Embedding(50, 8), layers.LSTM(4), head())),
)
fault(
    "a larger vocabulary than table",
    "embedding-ids",
    lambda: compiled(
        K.Sequential(
            [Input((4,), dtype="string"), layers.Hashing(100), layers.Embedding(50, 8), layers.LSTM(4), head()]
        )
    ),
)
fault("nan inputs", "missing-values", lambda: (mlp(), {"x": np.where(X8 > 2, np.nan, X8)}))
fault(
    "scaled twice",
    "faint-input",
    lambda: (cnn(layers.Rescaling(1 / 255), conv()), {"x": RNG.uniform(size=(N, 16, 16, 3))}),
)
fault(
    "scaled twice with an offset",
    "faint-input",
    lambda: (cnn(layers.Rescaling(1 / 127.5, -1), conv()), {"x": RNG.uniform(size=(N, 16, 16, 3))}),
)
fault("pixels", "unscaled-input", lambda: (cnn(conv()), {"x": RNG.uniform(0, 255, (N, 16, 16, 3))}))

# softmax between layers, freezing
fault("softmax into an lstm", "hidden-softmax", lambda: text(layers.Dense(8, activation="softmax"), layers.LSTM(8)))
fault(
    "softmax into a gru",
    "hidden-softmax",
    lambda: text(layers.Dense(8, activation="softmax"), layers.Bidirectional(layers.GRU(8))),
)
fault("softmax into attention", "hidden-softmax", lambda: transformer(activation="softmax"))
fault("softmax in a branch", "hidden-softmax", lambda: branches(-1, activation="softmax"))
fault("softmax of an lstm", "hidden-softmax", lambda: text(layers.LSTM(8, activation="softmax")))
fault(
    "softmax of an lstm both ways", "hidden-softmax",
    lambda: text(layers.Bidirectional(layers.LSTM(8, activation="softmax"))),
)  # fmt: skip
fault(
    "softmax in each step",
    "hidden-softmax",
    lambda: text(layers.TimeDistributed(layers.Dense(8, activation="softmax")), layers.LSTM(8)),
)
fault(
    "TensorFlow's softmax as logits",
    "probabilities-as-logits",
    lambda: mlp(last=tf.nn.softmax, loss=L.SparseCategoricalCrossentropy(from_logits=True)),
)
fault(
    "a softmax in a Lambda as logits",
    "probabilities-as-logits",
    lambda: mlp(
        last=None,
        after=[layers.Lambda(lambda x: ops.softmax(x))],
        loss=L.SparseCategoricalCrossentropy(from_logits=True),
    ),
)
fault(
    "a hidden softmax of one's own",
    "hidden-softmax",
    lambda: mlp(layers.Dense(32, activation=lambda x: ops.softmax(x))),
)
fault("one unit of a softmax of one's own", "single-output", lambda: mlp(units=1, last=lambda x: ops.softmax(x)))
fault(
    "a loss of one's own takes logits",
    "probabilities-as-logits",
    lambda: mlp(loss=lambda y, p: L.sparse_categorical_crossentropy(y, p, from_logits=True)),
)
fault(
    "a loss of one's own takes probabilities",
    "logits-as-probabilities",
    lambda: mlp(last=None, loss=lambda y, p: L.categorical_crossentropy(ops.one_hot(ops.cast(y, "int32"), 3), p)),
)
fault(
    "a binary loss of one's own takes probabilities",
    "logits-as-probabilities",
    lambda: number(loss=lambda y, p: L.binary_crossentropy(y, p)),
)
fault("a subclassed softmax as logits", "probabilities-as-logits", lambda: subclassed_softmax())
fault("separable after separable", "linear-pair", lambda: cnn(separable(16), separable(32, activation="relu")))
fault("convolution after separable", "linear-pair", lambda: cnn(separable(16), conv(32)))
fault(
    "transposed after transposed",
    "linear-pair",
    lambda: cnn(layers.Conv2DTranspose(16, 3), layers.Conv2DTranspose(32, 3, activation="relu")),
)
fault(
    "separable after pooled", "pooled-linear", lambda: cnn(conv(activation=None), layers.MaxPooling2D(), separable(16))
)
fault("inactive by its biases", "no-gradient", lambda: mlp(relu_with_biases(-9.0)))
fault("inactive first layer", "no-gradient", lambda: (inactive_first_layer(), {"x": np.ones((N, 8))}))
fault("frozen attention", "frozen-random", lambda: frozen_attention())
fault("frozen einsum", "frozen-random", lambda: frozen_einsum())
fault("frozen hidden layer", "frozen-random", lambda: mlp(relu(16, trainable=False)))
fault("frozen head", "frozen-random", lambda: mlp(trainable=False))
fault("linear layers", "linear-pair", lambda: mlp(layers.Dense(16), layers.Dense(16)))


def transformer(activation=None, length=10, **options):
    x = inputs = Input((length, 8))
    x = layers.Dense(8, activation=activation)(x)
    x = layers.LayerNormalization()(
        layers.Add()([x, layers.MultiHeadAttention(2, 8, name="attention", **options)(x, x)])
    )
    return classifier(inputs, layers.GlobalAveragePooling1D()(x))


def joined(layer):
    x = inputs = Input((16, 16, 3))
    x = conv()(x)
    x = conv()(layer([x, x]))
    return classifier(inputs, layers.GlobalAveragePooling2D()(x))


def branches(axis, activation="relu", join=None):
    inputs = Input((16, 16, 3))
    paths = [conv(activation=activation)(inputs), conv(activation=activation)(inputs)]
    x = join(paths, axis=axis) if join else layers.Concatenate(axis=axis)(paths)
    return classifier(inputs, layers.GlobalAveragePooling2D()(conv()(x)))


def residual_with_zero_scale():
    x = inputs = Input((8,))
    x = relu(16)(x)
    y = layers.Dense(16, use_bias=False)(relu(16)(x))
    x = layers.Add()([x, layers.BatchNormalization(gamma_initializer="zeros")(y)])
    return classifier(inputs, x)


def scaled_head():
    return number("tanh", after=[layers.Rescaling(5.0)])


def channels_in_the_middle():
    stack = [layers.Dense(12), layers.Permute((2, 1)), layers.Softmax(axis=1)]
    return compiled(chain((8, 6), *stack), "adam", L.CategoricalCrossentropy(axis=1))


def tagger_of_equal_words():
    x = inputs = Input((12,), dtype="int32")
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(layers.Embedding(50, 8)(x))
    model = classifier(inputs, x, 50)
    return model, {"x": np.ones((N, 12), int), "y": np.ones((N, 12), int)}


def enlarged():
    """Each output of the transposed convolution sees eight inputs, whatever its kernel's size."""
    start = K.initializers.RandomNormal(stddev=3 / 8**0.5)
    larger = layers.Conv2DTranspose(8, 4, strides=4, kernel_initializer=start, activation="relu")
    return compiled(chain((4, 4, 8), larger, layers.Conv2D(3, 3)), "adam", "mae")


def nan_aware():
    inputs = Input((8,))
    x = relu(16)(ops.nan_to_num(inputs))
    return classifier(inputs, x)


def frozen_attention():
    model = transformer()
    model.get_layer("attention").trainable = False
    return model


def frozen_einsum():
    x = inputs = Input((10, 8))
    x = layers.EinsumDense("abc,cde->abde", (10, 4, 8), activation="relu", trainable=False)(x)
    return classifier(inputs, layers.Flatten()(x))


def of_patches(*cutting, side=24):
    x = inputs = Input((side, side, 3))
    for layer in cutting:
        x = layer(x)
    x = relu(16)(x)
    return classifier(inputs, layers.Flatten()(x))


# What comes close to each fault and is sound.
# more of what a graph and a batch show
fault("an input that nothing reads", "unused-input", lambda: half_read())
fault("reshape for permute", "reshaped-axes", lambda: cnn(layers.Reshape((16, 16, 3)), conv(), shape=(3, 16, 16)))
fault("patches by reshape", "reshaped-axes", lambda: of_patches(layers.Reshape((36, 48))))
fault("a grid of patches by reshape", "reshaped-axes", lambda: of_patches(layers.Reshape((6, 6, 48))))
fault("attention that sees the next token", "sees-next-step", lambda: language_model(mask=False))
fault("a bidirectional language model", "sees-next-step", lambda: language_model(layers.Bidirectional))
fault("a forecast that sees its labels", "sees-next-step", lambda: shifted(layers.Conv1D(8, 3, padding="same")))
fault("attention without positions", "order-blind", lambda: classifier_of_bags())
fault("a label among the columns", "label-among-inputs", number, x=X8, y=X8[:, 2])
fault("a decoder that is given its labels", "label-among-inputs", lambda: given_labels())
fault("percentages of zero", "unscaled-labels", lazy(number, loss="mape"), y=np.arange(N) % 2)
fault(
    "a penalty of 100 for angles", "strong-penalty",
    lambda: mlp(relu(16, kernel_regularizer=K.regularizers.OrthogonalRegularizer(100.0))),
)  # fmt: skip
fault("equal rows", "faint-input", mlp, x=np.repeat(X8[:1], N, axis=0))
fault("equal targets", "one-class", number, y=np.full(N, 3.0))
fault("parallel layers without activation", "linear-pair", lambda: parallel(None))
fault("prices in an LSTM", "unscaled-input", lambda: forecast(layers.LSTM(8)), x=RNG.uniform(1e3, 5e3, (N, 12, 3)))
fault(
    "a recurrence that explodes",
    "broken-signal",
    lambda: forecast(layers.SimpleRNN(32, activation="relu", recurrent_initializer=K.initializers.RandomNormal(0, 1))),
    x=RNG.normal(size=(N, 100, 3)),
)
fault("an LSTM that starts near zero", "broken-signal", lambda: forecast(layers.LSTM(8, **NEAR_ZERO)))
fault("sigmoid in a SimpleRNN", "activation-setting", lambda: forecast(layers.SimpleRNN(8, activation="sigmoid")))
fault(
    "layer norm over time", "norm-axis", lambda: forecast(layers.LayerNormalization(axis=1), layers.LSTM(8), steps=20)
)
fault("an embedding of one number", "one-unit", lambda: averaged(layers.Embedding(50, 1)))
fault("a tensor added to itself by +", "joined-with-itself", lambda: doubled())
fault("pooling after upsampling", "repeated-layer", lambda: cnn(conv(), layers.UpSampling2D(), layers.MaxPooling2D()))
fault("sigmoids with KL divergence", "sigmoid-output", lambda: mlp(last="sigmoid", loss="kl_divergence"))
fault(
    "targets above one with a quantile loss", "labels-range", lambda: number("sigmoid", pinball),
    x=X8, y=RNG.uniform(50, 100, N),
)  # fmt: skip
fault("softmax with a squared error of one's own", "loss-and-output", lambda: mlp(loss=my_mse))
fault("linear masks with a Dice loss of one's own", "logits-as-probabilities", lambda: unet(my_dice, 1, None))
fault("mean absolute error of class numbers", "metric-and-output", lambda: mlp(metrics=["mae"]))
fault("precision of several classes", "metric-and-output", lambda: mlp(metrics=[K.metrics.Precision()]))
fault(
    "averaged weights that stay", "optimizer-setting",
    lambda: mlp(optimizer=K.optimizers.Adam(use_ema=True, ema_momentum=1.0)),
)  # fmt: skip


NUMBERS = RNG.normal(size=(N, 1))


def own_loss(function, units=4, last="sigmoid", y=None):
    return mlp(units=units, last=last, loss=function), {"x": X8, "y": classes(N, 2, (units,)) if y is None else y}


def of_these_labels(y, p):
    if not np.allclose(y, NUMBERS):
        raise ValueError("other labels")
    return ops.mean(p**2)


def undecided():
    """The loss is the same for all labels, but not its gradient."""
    last = layers.Dense(1, activation="sigmoid", kernel_initializer="zeros")
    model = chain((8,), relu(16), last)
    return compiled(model, loss=lambda y, p: ops.mean(ops.abs(y - p) ** 1.5)), {"x": X8, "y": classes(N, 2, (1,))}


def of_two_inputs(loss):
    inputs = [Input((8,)), Input((1,))]
    x = relu(16)(layers.Concatenate()(inputs))
    return compiled(K.Model(inputs, layers.Dense(1)(x)), loss=loss)


def copied_words(shift):
    words = tokens(N, 12, 50)
    y = np.concatenate([np.ones((N, shift), int), words[:, : 12 - shift]], axis=1)
    model = chain((12,), layers.Embedding(50, 8), layers.GRU(8, return_sequences=True), layers.Dense(50, "softmax"))
    return compiled(model), {"x": words, "y": y}


def masked(value, *before, begin=False, length=6):
    x = RNG.normal(size=(N, 10, 4))
    x[:, length:] = 0
    x = x[:, ::-1].copy() if begin else x
    model = chain((10, 4), *before, layers.Masking(value), layers.LSTM(8), head())
    return compiled(model), {"x": x, "y": classes(N, 3)}


def counted_items(mask, low=0):
    x = RNG.integers(low, 4, (N, 12))  # so that a 0 is inside of nearly every row, whatever was drawn before
    x[:, 9:] = 0
    model = chain((12,), layers.Embedding(8, 8, mask_zero=mask), layers.LSTM(8), head())
    return compiled(model), {"x": x, "y": classes(N, 3)}


def cropped(cropping):
    inputs = Input((16, 16, 3))
    wide = conv()(inputs)
    small = layers.Conv2D(8, 5, activation="relu")(wide)
    size = 16 - sum(cropping[0])
    joined = layers.Concatenate()([layers.Cropping2D(cropping)(wide), layers.Resizing(size, size)(small)])
    x = layers.GlobalAveragePooling2D()(conv()(joined))
    return classifier(inputs, x)


def twins(kind, *sizes):
    inputs = Input((12,), dtype="int32" if kind is layers.Embedding else "float32")
    x = layers.Add()([kind(*sizes)(inputs), kind(*sizes)(inputs)])
    x = layers.GlobalAveragePooling1D()(x) if kind is layers.Embedding else layers.ReLU()(x)
    return classifier(inputs, x)


def dice(y, p):
    return (2 * ops.sum(y * p) + 1) / (ops.sum(y) + ops.sum(p) + 1)


def nearly_level(y, p):
    """Compute a loss to which a shift of all outputs is all but the same, as rounding makes it."""
    return ops.var(y - p) - 1e-6 * ops.mean(p - y)


def spread_of_outputs(y, p):
    return ops.mean((p - ops.mean(p)) ** 2)


fault("dice coefficient as the loss", "reversed-loss", lazy(own_loss, dice))
fault("a signed error", "unbounded-loss", lazy(own_loss, lambda y, p: ops.mean(y - p), 1, None, NUMBERS))
fault("a signed error the other way", "unbounded-loss", lazy(own_loss, lambda y, p: ops.mean(p - y), 1, None, NUMBERS))
fault("a loss of the outputs alone", "ignored-labels", lazy(own_loss, spread_of_outputs, 1, None, NUMBERS))
fault("the same, subclassed", "ignored-labels", lambda: subclassed(1, NUMBERS, spread_of_outputs))
fault(
    "missing labels in a custom loss that takes them",
    "missing-labels",
    lazy(own_loss, lambda y, p: ops.mean((y - p) ** 2), 1, None, np.where(np.arange(N) == 3, np.nan, 1.0)),
)
fault(
    "a rate for a dense layer behind a recurrent one",
    "learning-rate",
    lambda: compiled(chain((12, 4), layers.LSTM(8), head()), OPT.Adam(0.5)),
)
fault("the label in another unit among the columns", "label-among-inputs", number, x=X8, y=1.8 * X8[:, 2] + 32)
fault("two embeddings of the same words, added", "joined-with-itself", lambda: twins(layers.Embedding, 50, 8))
fault("two dense layers of one tensor, added", "joined-with-itself", lambda: twins(layers.Dense, 8))
fault(
    "categorical accuracy of one unit",
    "metric-and-output",
    lambda: number("sigmoid", "binary_crossentropy", metrics=[M.CategoricalAccuracy()]),
)
fault("f1 score of class numbers", "metric-and-output", lambda: mlp(metrics=[M.F1Score(average="macro")]))
fault(
    "a schedule that falls every ten steps",
    "short-schedule",
    lambda: mlp(optimizer=OPT.Adam(OPT.schedules.ExponentialDecay(1e-3, 10, 0.9))),
)
fault("a language model whose labels are its inputs", "label-among-inputs", lambda: copied_words(0))
fault("a language model whose labels are the words before", "label-among-inputs", lambda: copied_words(1))
fault("a mask of -1 for sequences that end with 0", "idle-masking", lambda: masked(-1.0))
fault("a mask behind what scales", "idle-masking", lambda: masked(0.0, layers.Rescaling(1, offset=-3)))
fault("a mask for sequences that begin with 0", "idle-masking", lambda: masked(-1.0, begin=True))
fault("items numbered from 0 with a mask", "masked-items", lambda: counted_items(True))
fault(
    "a stride right after upsampling",
    "undone-upsampling",
    lambda: cnn(conv(), layers.UpSampling2D(), layers.Conv2D(8, 3, strides=2, activation="relu", name="undo")),
)
fault("a crop of one corner", "one-sided-crop", lambda: cropped(((0, 4), (0, 4))))
fault(
    "brightness of 0 to 255 behind a rescaling",
    "value-range",
    lambda: cnn(layers.Rescaling(1 / 255), layers.RandomBrightness(0.2), conv()),
    x=RNG.uniform(0, 255, (N, 16, 16, 3)),
)
fault(
    "r2 score as the loss",
    "reversed-loss",
    lazy(own_loss, lambda y, p: 1 - ops.sum((y - p) ** 2) / ops.var(y), 1, None, RNG.normal(size=N)),
)
fault(
    "cosine without its sign",
    "reversed-loss",
    lazy(own_loss, lambda y, p: ops.sum(ops.normalize(y) * ops.normalize(p)), 4, None, RNG.normal(size=(N, 4))),
)
fault("rounded outputs in the loss", "loss-without-gradient", lazy(own_loss, lambda y, p: 1 - dice(y, ops.round(p))))
fault(
    "argmax in the loss",
    "loss-without-gradient",
    lazy(
        own_loss,
        lambda y, p: ops.cast(ops.argmax(p) != ops.argmax(y), "float32"),
        3,
        "softmax",
        np.eye(3)[np.arange(N) % 3],
    ),
)
fault(
    "percentage of labels of zero",
    "infinite-loss",
    lazy(own_loss, lambda y, p: ops.abs((y - p) / y), 1, None, np.arange(N) % 5),
)


def mixing(layer, **options):
    return mlp(relu(16), layer, **options)


fault("norm over the batch", "mixed-rows", lambda: mixing(layers.Lambda(lambda x: x / ops.norm(x))))
fault("mean over the batch", "mixed-rows", lambda: mixing(layers.Lambda(lambda x: x - ops.mean(x, axis=0))))
fault("maximum over the batch", "mixed-rows", lambda: mixing(layers.Lambda(lambda x: x / ops.max(ops.abs(x)))))


def softmax_over_the_batch():
    inputs = Input((8,))
    return compiled(K.Model(inputs, ops.softmax(layers.Dense(3)(inputs), axis=0)))


def attention_over_the_batch():
    inputs = Input((6, 8))
    x = ops.transpose(inputs, (1, 0, 2))  # as PyTorch has it
    x = ops.transpose(layers.MultiHeadAttention(2, 4)(x, x), (1, 0, 2))
    return classifier(inputs, layers.Flatten()(x))


fault("softmax over the rows of a batch", "mixed-rows", softmax_over_the_batch)
fault("attention over the batch", "mixed-rows", attention_over_the_batch)


def multi_hot_into_an_embedding():
    model = chain((20,), layers.Embedding(1000, 8), layers.GlobalAveragePooling1D(), head())
    return compiled(model), {"x": classes(N, 2, (20,)), "y": np.arange(N) % 3}


def one_hot_of_too_few():
    inputs = Input((6,), dtype="int32")
    x = layers.Flatten()(ops.one_hot(inputs, 5))
    return classifier(inputs, x), {"x": tokens(N, 6, 50)}


def lookup_of_others():
    lookup = layers.IntegerLookup(vocabulary=[100, 200, 300])
    inputs = Input((4,), dtype="int64")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(4, 8)(lookup(inputs)))
    return classifier(inputs, x), {"x": tokens(N, 4, 4)}


class OwnDense(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 16), initializer="ones")

    def call(self, x):
        return ops.relu(ops.matmul(x, self.w))


fault("marks of words in an embedding", "marks-as-ids", multi_hot_into_an_embedding)
fault("more ids than one_hot has", "embedding-ids", one_hot_of_too_few)
fault("a lookup that knows no value", "unknown-words", lookup_of_others)
fault(
    "a layer of one's own that starts at ones",
    "symmetry",
    lambda: compiled(chain((8,), OwnDense(), head(kernel_initializer="ones"))),
)


class Untracked(layers.Layer):
    def build(self, shape):
        self.scale = tf.Variable(tf.ones((shape[-1],)))

    def call(self, x):
        return x * self.scale


class MadeInCall(layers.Layer):
    def call(self, x):
        return layers.Dense(4)(x)


def dense_in_a_lambda():
    inside = layers.Dense(16)
    inside.build((None, 16))
    return mixing(layers.Lambda(lambda x: inside(x)))


fault("a variable that Keras does not track", "unknown-weights", lambda: mixing(Untracked()))
fault("a layer made in call", "unknown-weights", lambda: mixing(MadeInCall()))
fault("a layer inside a Lambda", "unknown-weights", dense_in_a_lambda)


def inference_base():
    base = chain((16, 16, 3), layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU())
    inputs = Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(base(inputs, training=False))
    return classifier(inputs, x)


fault("a base that trains, called for inference", "overruled-training", inference_base)


def frozen_norm_for_inference():
    norm = layers.BatchNormalization(trainable=False, moving_mean_initializer="ones")
    inputs = Input((8,))
    x = layers.Dropout(0.2)(norm(inputs, training=False), training=False)
    return classifier(inputs, x)


def monte_carlo_dropout():
    inputs = Input((8,))
    x = relu(16)(inputs)
    x = layers.Dropout(0.2)(x, training=True)
    return classifier(inputs, x)


fault("dropout that predict leaves out", "overruled-training", monte_carlo_dropout)


def pretrained_base(scale):
    norm = layers.BatchNormalization()
    base = chain((16, 16, 3), layers.Conv2D(8, 3, use_bias=False), norm, layers.ReLU())
    base(RNG.uniform(-1, 1, (64, 16, 16, 3)))
    for _ in range(400):
        base(RNG.uniform(-1, 1, (32, 16, 16, 3)), training=True)
    base.layers[0].kernel.assign(base.layers[0].kernel * 1.3)
    base.trainable = False
    inputs = Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(base(inputs))
    model = K.Model(inputs, head()(x))
    return compiled(model), {"x": scale * RNG.uniform(-1, 1, (N, 16, 16, 3))}


fault("raw pixels for a pretrained base", "frozen-scale", lazy(pretrained_base, 127))
fault("pixels scaled twice for a pretrained base", "frozen-scale", lazy(pretrained_base, 1 / 255))
fault(
    "channels pooled",
    "mixed-formats",
    lambda: cnn(conv(), layers.MaxPooling2D(data_format="channels_first"), conv()),
)
fault(
    "the last step of a window as its label",
    "label-among-inputs",
    lambda: _window(RNG.normal(size=(N, 12, 1)).cumsum(axis=1)),
)


def _window(x):
    return compiled(chain((12, 1), layers.LSTM(8), layers.Dense(1)), "adam", "mse"), {"x": x, "y": x[:, -1, 0]}


fault(
    "a schedule of one's own that is too high",
    "learning-rate",
    lambda: mlp(optimizer=K.optimizers.Adam(InverseRoot(1.0))),
)
fault(
    "regression with softmax",
    "label-rows",
    lazy(mlp, units=4, loss="categorical_crossentropy"),
    y=RNG.normal(size=(N, 4)),
)

NEAR = {
    "unused-input": [lambda: two(["sparse_categorical_crossentropy", "mse"])],
    "reshaped-axes": [
        lambda: cnn(layers.Reshape((16, 16, 1)), conv(), shape=(16, 16)),
        lambda: of_patches(layers.Reshape((24, 72))),
        lambda: of_patches(layers.Reshape((16, 48)), side=16),  # a row each
        lambda: of_patches(layers.Conv2D(48, 4, 4), layers.Reshape((36, 48))),
        lambda: of_patches(layers.Reshape((6, 4, 6, 4, 3)), layers.Permute((1, 3, 2, 4, 5)), layers.Reshape((36, 48))),
    ],
    "sees-next-step": [
        language_model,
        lambda: language_model(lambda layer: layer),
        tagger_of_equal_words,
        lambda: shifted(layers.Conv1D(8, 3, padding="causal")),
    ],
    "order-blind": [lambda: classifier_of_bags(positions=True), lambda: forecast(layers.LSTM(8))],
    "idle-masking": [
        lambda: masked(0.0),
        lambda: masked(-1.0, length=10),
        lambda: masked(0.0, begin=True),
        lambda: (masked(-1.0)[0], {"x": RNG.normal(size=(N, 10, 4))}),
        lambda: (masked(-1.0)[0], {"x": RNG.normal(size=(N, 10, 4)) * (np.arange(N) > 12)[:, None, None]}),
    ],
    "masked-items": [lambda: counted_items(False), lambda: counted_items(True, low=1)],
    "undone-upsampling": [
        lambda: cnn(conv(), layers.UpSampling2D(), conv(), layers.Conv2D(8, 3, strides=2, activation="relu")),
        lambda: cnn(conv(), layers.UpSampling2D(3), layers.Conv2D(8, 3, strides=2, activation="relu")),
    ],
    "one-sided-crop": [
        lambda: cropped(((2, 2), (2, 2))),
        lambda: cropped(((0, 1), (0, 1))),
        lambda: cropped(((0, 4), (2, 2))),
    ],
    "value-range": [
        lambda: (
            cnn(layers.Rescaling(1 / 255), layers.RandomBrightness(0.2, value_range=(0, 1)), conv()),
            {"x": RNG.uniform(0, 255, (N, 16, 16, 3))},
        ),
        lambda: (
            cnn(layers.RandomBrightness(0.2), layers.Rescaling(1 / 255), conv()),
            {"x": RNG.uniform(0, 255, (N, 16, 16, 3))},
        ),
    ],
    "label-among-inputs": [lambda: (number(), {"x": X8, "y": X8[:, 2] + X8[:, 3]})],
    "labels-range": [
        lambda: (scaled_head(), {"y": RNG.normal(0, 2, N)}),
        lambda: (number("sigmoid"), {"y": np.r_[1.0005, np.zeros(N - 1)]}),
        lambda: (number(), {"y": RNG.normal(size=N)}),
        lambda: (number("tanh", "hinge"), {"y": classes(N, 2)}),
    ],
    "labels-shape": [
        lambda: (number(), {"y": RNG.normal(size=N)}),
        lambda: (mlp(), {"y": classes(N, 3, (1,))}),
        lambda: unet(y=classes(8, 3, (32, 32))),
    ],
    "missing-values": [lambda: (nan_aware(), {"x": np.where(X8 > 2, np.nan, X8)}), lambda: (mlp(), {"x": X8})],
    "missing-labels": [lambda: (number(loss=without_missing), {"y": np.where(np.arange(N) % 5, 1.0, np.nan)})],
    "class-numbers": [
        lambda: (mlp(loss=L.SparseCategoricalCrossentropy(ignore_class=-1)), {"y": classes(N, 4) - 1}),
        lambda: (mlp(), {"y": classes(N, 3).astype("float32")}),
    ],
    "label-rows": [
        lambda: (mlp(loss="categorical_crossentropy"), {"y": ONE_HOT * RNG.normal(size=(N, 1))}),
        lambda: (mlp(loss="categorical_crossentropy"), {"y": 0.9 * ONE_HOT + 0.1 / 3}),
        lambda: (mlp(loss="categorical_crossentropy"), {"y": 1.04 * ONE_HOT}),
        lambda: (mlp(loss="categorical_crossentropy"), {"y": ONE_HOT * (np.arange(N) % 2)[:, None]}),
    ],
    "one-class": [lambda: (mlp(), {"y": np.r_[np.zeros(N), 1]}), lambda: (mlp(), {"y": np.zeros(31, int)})],
    "unscaled-labels": [lambda: (number(), {"y": np.full(N, 990.0)})],
    "loss-and-output": [
        lambda: number("sigmoid"),
        lambda: number("tanh", "hinge"),
        lambda: mlp(last="sigmoid", loss="binary_crossentropy"),
        lambda: mlp(units=2, last=None, loss="cosine_similarity"),
        lambda: number(loss=wasserstein),
        lambda: (mlp(last=None, loss="mse"), {"y": ONE_HOT + 0.5}),
    ],
    "negative-rate": [lambda: number("exponential", "poisson")],
    "loss-weight": [lambda: two(["sparse_categorical_crossentropy", "mse"], loss_weights=[1e-3, 1.0])],
    "loss-setting": [
        channels_in_the_middle,
        lambda: mlp(loss=L.CategoricalCrossentropy(label_smoothing=0.2)),
        lambda: number(loss=L.Huber(0.01)),
        lambda: unet(L.CategoricalCrossentropy(axis=3)),
        lambda: number("sigmoid", L.BinaryFocalCrossentropy(gamma=5.0)),
    ],
    "softmax-axis": [
        channels_in_the_middle,
        lambda: compiled(chain((16, 16, 3), conv(), layers.Conv2D(4, 1), layers.Softmax(axis=3))),
    ],
    "two-activations": [
        lambda: compiled(chain((16, 16, 3), conv(), layers.GlobalAveragePooling2D(), layers.Softmax()))
    ],
    "norm-on-output": [
        lambda: mlp(units=16, last=None, loss="mse", after=[layers.BatchNormalization()]),
        lambda: mlp(last=None, after=[layers.BatchNormalization(), layers.Softmax()]),
    ],
    "dropout-on-regression": [
        lambda: mlp(units=8, last=None, loss=wasserstein, after=[layers.Dropout(0.5)]),
        lambda: mlp(relu(16), layers.Dropout(0.5), units=1, last=None, loss="mse"),
    ],
    "learning-rate": [
        lambda: mlp(optimizer=OPT.Adam(0.04)),
        lambda: mlp(optimizer=OPT.SGD(0.9)),
        lambda: mlp(optimizer=OPT.SGD(9.0, clipnorm=5.0)),
        lambda: mlp(optimizer=OPT.Adam(1.1e-6)),
        lambda: compiled(chain((8,), layers.Dense(1)), OPT.Adam(0.5), "mse"),
    ],
    "short-schedule": [
        lambda: mlp(optimizer=OPT.Adam(S.CosineDecay(1e-3, 1000))),
        lambda: mlp(optimizer=OPT.Adam(S.ExponentialDecay(1e-3, 20, 0.9))),
        lambda: mlp(optimizer=OPT.Adam(S.CosineDecay(0.0, 5000, warmup_target=1e-3, warmup_steps=1000))),
    ],
    "optimizer-setting": [
        lambda: mlp(optimizer=OPT.Adam(clipnorm=0.001)),
        lambda: mlp(optimizer=OPT.AdamW(weight_decay=0.3)),
        lambda: mlp(optimizer=OPT.Adam(beta_1=0.0, beta_2=0.9)),
        lambda: mlp(optimizer=OPT.SGD(0.01, momentum=0.999)),
    ],
    "metric-and-output": [
        lambda: number(metrics=["mae"]),
        lambda: mlp(metrics=["accuracy", M.SparseTopKCategoricalAccuracy(2)]),
        lambda: compiled(unet()[0], metrics=[M.MeanIoU(3, sparse_y_pred=False)]),
        lambda: mlp(units=2, loss="categorical_crossentropy", metrics=[M.BinaryAccuracy(), M.AUC()]),
    ],
    "dropout-rate": [lambda: mlp(relu(16), layers.Dropout(0.8))],
    "strong-penalty": [lambda: mlp(relu(16, kernel_regularizer="l2", bias_regularizer=K.regularizers.L1(0.009)))],
    "tight-constraint": [lambda: mlp(relu(16, kernel_constraint=K.constraints.MaxNorm(0.5)))],
    "activation-setting": [
        lambda: mlp(layers.Dense(16), layers.LeakyReLU(negative_slope=0.3)),
        lambda: mlp(layers.Dense(16), layers.ReLU(max_value=1.0, threshold=1.0)),
    ],
    "norm-setting": [
        lambda: mlp(
            layers.Dense(16, use_bias=False), layers.BatchNormalization(momentum=0.2, epsilon=0.01), layers.ReLU()
        )
    ],
    "norm-axis": [
        lambda: compiled(
            chain(
                (8, 3),
                layers.Conv1D(4, 3, use_bias=False),
                layers.BatchNormalization(axis=2),
                layers.ReLU(),
                layers.Flatten(),
                head(),
            )
        )
    ],
    "frozen-norm": [
        lambda: mlp(
            layers.Dense(16, use_bias=False, trainable=False), layers.BatchNormalization(trainable=False), layers.ReLU()
        )
    ],
    "overruled-training": [frozen_norm_for_inference],
    "zero-scale": [residual_with_zero_scale],
    "norm-of-one": [lambda: mlp(layers.Dense(2), layers.LayerNormalization(), relu(8))],
    "large-weights": [
        enlarged,
        lambda: mlp(relu(16, kernel_initializer=K.initializers.RandomNormal(stddev=1.0))),
        lambda: mlp(
            layers.Dense(16, use_bias=False, kernel_initializer=K.initializers.RandomNormal(stddev=100.0)),
            layers.BatchNormalization(),
            layers.ReLU(),
        ),
        lambda: number(bias_initializer=K.initializers.Constant(22.0)),
    ],
    "selu-dropout": [
        lambda: mlp(layers.Dense(16, activation="selu"), layers.AlphaDropout(0.2)),
        lambda: mlp(relu(16), layers.Dropout(0.2)),
    ],
    "sigmoid-chain": [
        lambda: mlp(*[layers.Dense(16, activation="sigmoid") for _ in range(4)]),
        lambda: mlp(
            *[
                layer
                for _ in range(6)
                for layer in (layers.Dense(16, activation="sigmoid"), layers.LayerNormalization())
            ]
        ),
    ],
    "one-unit": [
        lambda: averaged(layers.Embedding(50, 4)),
        lambda: cnn(conv(8), conv(2), conv(8)),
        lambda: compiled(chain((8, 8, 4), conv(1), layers.Flatten(), head())),
        lambda: compiled(chain((8, 8, 3), conv(1), conv(8), layers.Flatten(), head())),
    ],
    "stride-gaps": [
        lambda: cnn(layers.Conv2D(8, 1, strides=2, activation="relu")),
        lambda: cnn(conv(strides=3)),
        lambda: cnn(conv(), layers.MaxPooling2D(1, strides=2), conv()),
    ],
    "joined-with-itself": [lambda: joined(layers.Multiply())],
    "concatenated-axis": [lambda: branches(3)],
    "one-step": [lambda: compiled(chain((2, 30), layers.LSTM(8), head()))],
    "repeated-layer": [
        lambda: cnn(conv(), layers.MaxPooling2D(), layers.MaxPooling2D(2, strides=1, padding="same")),
        lambda: mlp(relu(16), layers.Dropout(0.0), layers.Dropout(0.3)),
    ],
    "pooled-linear": [
        lambda: cnn(conv(activation=None), layers.MaxPooling2D(), layers.ReLU(), conv()),
        lambda: compiled(chain((16, 16, 3), conv(activation=None), layers.GlobalMaxPooling2D(), head())),
    ],
    "hidden-gate": [lambda: mlp(layers.Dense(16, activation="softplus")), lambda: number("exponential", "poisson")],
    "channels-first": [lambda: cnn(conv(), shape=(3, 32, 16)), lambda: cnn(conv(), shape=(32, 32, 3))],
    "embedding-ids": [lambda: (text(layers.GlobalAveragePooling1D()), {"x": np.tile([0, 49], (N, 6))})],
    "faint-input": [
        lambda: (cnn(layers.Rescaling(1 / 255), conv()), {"x": RNG.uniform(0, 255, (N, 16, 16, 3))}),
        lambda: (mlp(layers.Dense(16, use_bias=False), layers.BatchNormalization(), layers.ReLU()), {"x": X8 / 1000}),
    ],
    "half-precision": [
        lambda: in_half_precision("float32"),
        lambda: in_half_precision("mixed_bfloat16"),
        lambda: mlp(dtype="mixed_float16", last=None, after=[layers.Activation("softmax", dtype="float32")]),
    ],
    "negative-penalty": [
        lambda: mlp(relu(16, kernel_regularizer="l2", activity_regularizer="l2")),
        lambda: variational(divergence),
        lambda: subclassed_variational(1),
        # An entropy is bounded; the logarithm of a determinant rises and falls with what it is added to.
        lambda: variational(lambda a, b: ops.mean(ops.sum(ops.softmax(a) * ops.log_softmax(a), axis=-1))),
        lambda: variational(lambda a, b: -ops.mean(ops.sum(ops.abs(a), axis=-1))),
        lambda: variational(lambda a, b: -ops.mean(ops.log(1e-3 + ops.square(b)))),
    ],
    "reversed-loss": [lazy(own_loss, lambda y, p: 1 - dice(y, p)), lazy(own_loss, lambda y, p: -dice(y, p))],
    "unbounded-loss": [
        lazy(own_loss, pinball, 1, None, NUMBERS),
        lazy(own_loss, lambda y, p: -ops.mean(y * p), 1, None, np.sign(NUMBERS)),  # of a critic
        lazy(own_loss, lambda y, p: ops.mean(y - p), 1, "sigmoid", NUMBERS),
        lazy(own_loss, lambda y, p: ops.mean(y**2) - ops.mean(ops.tanh(p)), 1, None, NUMBERS),
        lazy(own_loss, nearly_level, 1, None, NUMBERS),
        lazy(own_loss, lambda y, p: -ops.mean(ops.log(1 + y * ops.tanh(p))), 1, None, NUMBERS / 100 + 0.01),  # utility
    ],
    "ignored-labels": [
        lazy(own_loss, spread_of_outputs, 1, None, np.zeros((N, 1))),
        lambda: (
            two([spread_of_outputs, "mse"], last=(None, None)),
            {"x": X8, "y": [RNG.normal(size=(N, 3)), NUMBERS]},
        ),
        lambda: (of_two_inputs(spread_of_outputs), {"x": [X8, NUMBERS], "y": NUMBERS}),
        lazy(own_loss, lambda y, p: ops.mean(y - p), 1, "sigmoid", NUMBERS),
        undecided,
        lazy(own_loss, of_these_labels, 1, None, NUMBERS),
        lazy(own_loss, spread_of_outputs, 4, None, np.arange(N) % 3),  # embeddings, trained without the classes
    ],
    "loss-without-gradient": [lazy(own_loss, lambda y, p: 1 - dice(y, ops.clip(p, 0, 1)))],
    "infinite-loss": [lazy(own_loss, lambda y, p: ops.abs((y - p) / (y + 1)), 1, None, np.arange(N) % 5)],
    "mixed-rows": [
        lambda: mixing(layers.BatchNormalization()),
        lambda: mixing(layers.Lambda(lambda x: x / ops.norm(x, axis=-1, keepdims=True))),
    ],
    "frozen-scale": [lazy(pretrained_base, 1), lazy(pretrained_base, 1 / 8)],
    "mixed-formats": [lambda: cnn(conv(), layers.MaxPooling2D(), conv())],
    "unknown-weights": [lambda: mixing(relu(16, trainable=False, kernel_initializer="identity"))],
    "marks-as-ids": [lambda: (text(layers.GlobalAveragePooling1D()), {"x": classes(N, 2, (12,))})],
    "unknown-words": [lambda: (lookup_of_others()[0], {"x": np.tile([[100, 0, 1, 2], [1, 2, 3, 4]], (N, 1))})],
}
