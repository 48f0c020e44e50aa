"""Sound networks of many kinds, in which the audit may find nothing: a model and what is known of its task."""

from types import FunctionType

import numpy as np

from reprocnn.backend import keras, layers, tf
from tests.support.small_models import chain, classifier, compiled, head, relu

RNG = np.random.default_rng(0)
K = keras
Input = keras.Input
ops = keras.ops


def classes(n, count, shape=()):
    return RNG.integers(0, count, (n, *shape))


def tokens(n, length, count):
    return RNG.integers(0, count, (n, length))


# ------------------------------------------------------------------ tabular


def regression():
    model = chain((6,), relu(16), relu(16), layers.Dense(1))
    known = {"x": RNG.normal(size=(40, 6)), "y": RNG.normal(22, 9, 40)}
    return compiled(model, "rmsprop", "mse", metrics=["mae"]), known


def linear_regression():
    norm = layers.Normalization()
    x = RNG.normal(50, 20, (40, 3)).astype("float32")
    norm.adapt(x)
    model = chain((3,), norm, layers.Dense(1))
    return compiled(model, K.optimizers.Adam(0.1), "mae"), {"x": x, "y": RNG.normal(25, 8, 40)}


def positive_regression():
    model = chain((6,), relu(16), layers.Dense(1, activation="softplus"))
    return compiled(model, "adam", "msle"), {"y": RNG.uniform(0, 9, 40)}


def counts():
    model = chain((6,), relu(16), layers.Dense(1, activation="exponential"))
    return compiled(model, "adam", "poisson"), {"y": RNG.poisson(3, 40)}


def binary():
    model = chain((6,), relu(16), layers.Dropout(0.5), layers.Dense(1, activation="sigmoid"))
    metrics = ["accuracy", K.metrics.AUC(), K.metrics.Precision(), K.metrics.Recall()]
    return compiled(model, "adam", "binary_crossentropy", metrics=metrics), {"y": classes(40, 2)}


def binary_logits():
    model = chain((6,), relu(16), layers.Dense(1))
    metrics = [K.metrics.BinaryAccuracy(threshold=0.0), K.metrics.AUC(from_logits=True)]
    return compiled(model, "adam", K.losses.BinaryCrossentropy(from_logits=True), metrics=metrics), {
        "y": classes(40, 2)
    }


def multi_label():
    model = chain((6,), relu(16), layers.Dense(5, activation="sigmoid"))
    return compiled(model, "adam", "binary_crossentropy", metrics=["binary_accuracy"]), {"y": classes(40, 2, (5,))}


def hinge_svm():
    model = chain((6,), relu(16), layers.Dense(1, kernel_regularizer=K.regularizers.L2(0.01)))
    return compiled(model, K.optimizers.Adadelta(1.0), "hinge"), {"y": 2 * classes(40, 2) - 1}


def multiclass_hinge():
    model = chain((6,), relu(16), layers.Dense(4))
    return compiled(model, "adam", "categorical_hinge"), {"y": np.eye(4)[classes(40, 4)]}


def self_normalizing():
    selu = {"activation": "selu", "kernel_initializer": "lecun_normal"}
    model = chain((6,), layers.Dense(16, **selu), layers.AlphaDropout(0.1), layers.Dense(16, **selu), head())
    return compiled(model), {"y": classes(40, 3)}


def a_rate_that_is_no_share():
    class Upsample(layers.Layer):
        def __init__(self):
            super().__init__()
            self.rate = 2

        def call(self, x):
            return K.ops.repeat(x, self.rate, axis=1)

    model = chain((6,), relu(16), Upsample(), head())
    return compiled(model), {"y": classes(40, 3)}


def wide_and_deep():
    numbers, code = Input((4,)), Input((1,), dtype="int32")
    deep = layers.Concatenate()([numbers, layers.Flatten()(layers.Embedding(30, 8)(code))])
    deep = relu(16)(relu(32)(deep))
    wide = layers.CategoryEncoding(30)(code)
    out = layers.Dense(1, activation="sigmoid")(layers.Concatenate()([deep, wide]))
    return compiled(K.Model([numbers, code], out), "adam", "binary_crossentropy"), {}


def factorization_machine():
    user, item = Input((1,), dtype="int32"), Input((1,), dtype="int32")
    u, i = layers.Embedding(50, 8)(user), layers.Embedding(70, 8)(item)
    bias = layers.Add()(
        [layers.Flatten()(layers.Embedding(50, 1)(user)), layers.Flatten()(layers.Embedding(70, 1)(item))]
    )
    score = layers.Add()([layers.Flatten()(layers.Dot(axes=2)([u, i])), bias])
    return compiled(K.Model([user, item], score), "adam", "mse"), {
        "x": [tokens(40, 1, 50), tokens(40, 1, 70)],
        "y": RNG.uniform(1, 5, 40),
    }


def lookup_table():
    inputs = Input((1,), dtype="string")
    x = layers.StringLookup(vocabulary=["red", "green", "blue"])(inputs)
    x = layers.Flatten()(layers.Embedding(4, 8)(x))
    return classifier(inputs, x, 2), {}


def maxnorm_mlp():
    keep = {"activation": "relu", "kernel_constraint": K.constraints.MaxNorm(3)}
    model = chain((20,), layers.Dropout(0.2), layers.Dense(32, **keep), layers.Dropout(0.5), head())
    return compiled(model, K.optimizers.SGD(0.1, momentum=0.9)), {}


def quantiles():
    model = chain((6,), relu(16), layers.Dense(3))

    def pinball(y, p):
        return ops.maximum(0.5 * (y - p), -0.5 * (y - p))

    return compiled(model, "adam", pinball), {"y": RNG.normal(size=40)}


# ------------------------------------------------------------------ images


def convnet():
    model = chain(
        (28, 28, 1), layers.Rescaling(1 / 255),
        layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2),
        layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, activation="softmax"),
    )  # fmt: skip
    y = np.eye(10)[classes(40, 10)]
    return compiled(model, "adam", "categorical_crossentropy", metrics=["accuracy"]), {
        "x": RNG.integers(0, 256, (40, 28, 28, 1)),
        "y": y,
    }


def lenet():
    model = chain(
        (28, 28, 1), layers.Conv2D(6, 5, padding="same", activation="tanh"), layers.AveragePooling2D(2),
        layers.Conv2D(16, 5, activation="tanh"), layers.AveragePooling2D(2), layers.Flatten(),
        layers.Dense(120, activation="tanh"), layers.Dense(84, activation="tanh"),
        layers.Dense(10, activation="softmax"),
    )  # fmt: skip
    return compiled(model, K.optimizers.SGD(0.1)), {"num_classes": 10}


def squeezenet():
    x = inputs = Input((32, 32, 3))
    x = layers.MaxPooling2D(3, 2)(layers.Conv2D(16, 3, strides=2, activation="relu")(x))
    s = layers.Conv2D(8, 1, activation="relu")(x)
    x = layers.Concatenate()(
        [layers.Conv2D(16, 1, activation="relu")(s), layers.Conv2D(16, 3, padding="same", activation="relu")(s)]
    )
    x = layers.Conv2D(10, 1, activation="relu")(layers.Dropout(0.5)(x))
    x = layers.Activation("softmax")(layers.GlobalAveragePooling2D()(x))
    return compiled(K.Model(inputs, x)), {"num_classes": 10}


def resnet():
    x = inputs = Input((16, 16, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(x)))
    for filters, stride in ((8, 1), (16, 2)):
        y = layers.ReLU()(
            layers.BatchNormalization()(layers.Conv2D(filters, 3, stride, padding="same", use_bias=False)(x))
        )
        y = layers.BatchNormalization(gamma_initializer="zeros")(
            layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        )
        if stride > 1:
            x = layers.BatchNormalization()(layers.Conv2D(filters, 1, stride, use_bias=False)(x))
        x = layers.ReLU()(layers.Add()([x, y]))
    out = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return compiled(K.Model(inputs, out), K.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)), {}


def convnext():
    class LayerScale(layers.Layer):
        def build(self, shape):
            self.gamma = self.add_weight(shape=(shape[-1],), initializer=K.initializers.Constant(1e-6))

        def call(self, x):
            return x * self.gamma

    x = inputs = Input((32, 32, 3))
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Conv2D(16, 4, 4)(x))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(layers.DepthwiseConv2D(7, padding="same")(x))
        y = layers.Dense(16)(layers.Dense(64, activation="gelu")(y))
        x = layers.Add()([x, LayerScale()(y)])
    x = layers.LayerNormalization(epsilon=1e-6)(layers.GlobalAveragePooling2D()(x))
    return compiled(
        K.Model(inputs, layers.Dense(10)(x)),
        K.optimizers.AdamW(4e-3, weight_decay=0.05),
        K.losses.SparseCategoricalCrossentropy(from_logits=True),
    ), {"x": RNG.integers(0, 256, (8, 32, 32, 3)), "y": classes(8, 10)}


def mobile():
    x = inputs = Input((32, 32, 3))
    x = layers.ReLU(6)(layers.BatchNormalization()(layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(x)))
    y = layers.ReLU(6)(layers.BatchNormalization()(layers.Conv2D(48, 1, use_bias=False)(x)))
    y = layers.ReLU(6)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)))
    s = layers.GlobalAveragePooling2D(keepdims=True)(y)
    s = layers.Conv2D(48, 1, activation="hard_sigmoid")(layers.Conv2D(12, 1, activation="relu")(s))
    y = layers.Multiply()([y, s])
    y = layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(y))
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    return classifier(
        inputs, layers.Dropout(0.2)(x), 10, optimizer=K.optimizers.RMSprop(0.045, rho=0.9, momentum=0.9, epsilon=1.0)
    ), {}


def vit():
    x = inputs = Input((32, 32, 3))
    x = layers.Reshape((16, 24))(layers.Conv2D(24, 8, 8)(x))
    x = x + layers.Embedding(16, 24)(ops.arange(16))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([layers.MultiHeadAttention(2, 12, dropout=0.1)(y, y), x])
        y = layers.Dense(48, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))
        x = layers.Add()([layers.Dense(24)(layers.Dropout(0.1)(y)), x])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
    schedule = K.optimizers.schedules.CosineDecay(0.0, 10_000, warmup_target=1e-3, warmup_steps=500)
    return compiled(
        K.Model(inputs, layers.Dense(10)(x)),
        K.optimizers.AdamW(schedule, weight_decay=0.3, global_clipnorm=1.0),
        K.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", K.metrics.SparseTopKCategoricalAccuracy(5)],
    ), {}


def mixer():
    x = inputs = Input((16, 24))
    y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
    y = layers.Permute((2, 1))(layers.Dense(16)(layers.Dense(32, activation="gelu")(y)))
    x = layers.Add()([x, y])
    y = layers.Dense(24)(layers.Dense(48, activation="gelu")(layers.LayerNormalization()(x)))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(layers.Add()([x, y])))
    return classifier(inputs, x, 4), {}


def transfer():
    base = chain(
        (32, 32, 3),
        layers.Conv2D(8, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.GlobalAveragePooling2D(),
    )
    base.layers[0].kernel.assign(np.random.default_rng(1).laplace(size=(3, 3, 3, 8)) ** 3 / 10)  # as if trained
    base.layers[1].moving_mean.assign(np.full(8, 0.3))
    base.trainable = False
    inputs = Input((32, 32, 3))
    x = layers.Dropout(0.2)(base(layers.Rescaling(1 / 127.5, -1)(inputs), training=False))
    return classifier(inputs, x, 2, optimizer=K.optimizers.Adam(1e-5)), {
        "x": RNG.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8),
        "y": classes(8, 2),
    }


def color_to_gray_stem():
    model = chain(
        (32, 32, 3),
        layers.RandomFlip("horizontal"),
        layers.RandomRotation(0.1),
        layers.Rescaling(1 / 255),
        layers.SeparableConv2D(16, 3, activation="swish"),
        layers.GlobalMaxPooling2D(),
        layers.Dense(5),
    )
    return compiled(model, "nadam", K.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]), {
        "x": RNG.integers(0, 256, (8, 32, 32, 3)),
        "y": classes(8, 5),
    }


# ------------------------------------------------------------------ dense prediction


def unet(loss="sparse_categorical_crossentropy", channels=3, activation="softmax", **known):
    inputs = Input((32, 32, 3))

    def block(x, filters):
        return layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)))

    a = block(inputs, 8)
    b = block(layers.MaxPooling2D()(a), 16)
    c = block(layers.MaxPooling2D()(b), 32)
    x = layers.Concatenate()([layers.Conv2DTranspose(16, 2, 2)(c), b])
    x = block(x, 16)
    x = layers.Concatenate()([layers.UpSampling2D()(x), a])
    out = layers.Conv2D(channels, 1, activation=activation)(block(x, 8))
    return compiled(K.Model(inputs, out), "rmsprop", loss), known


def segmentation():
    return unet(y=classes(8, 3, (32, 32, 1)))


def segmentation_ignoring():
    y = classes(8, 3, (32, 32))
    y[:, :4] = 255
    return unet(K.losses.SparseCategoricalCrossentropy(ignore_class=255), y=y)


def segmentation_of_one():
    return unet("binary_crossentropy", 1, "sigmoid", y=classes(8, 2, (32, 32, 1)))


def segmentation_dice():
    return unet(K.losses.Dice(), 1, "sigmoid", y=classes(8, 2, (32, 32, 1)))


def segmentation_focal():
    return unet(K.losses.BinaryFocalCrossentropy(gamma=2.0), 1, "sigmoid", y=classes(8, 2, (32, 32, 1)))


def superresolution():
    x = inputs = Input((None, None, 1))
    x = layers.Conv2D(16, 5, padding="same", activation="tanh")(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(9, 3, padding="same", activation="relu")(x)
    return compiled(K.Model(inputs, x), "adam", "mse"), {
        "x": RNG.uniform(size=(4, 20, 20, 1)),
        "y": RNG.uniform(size=(4, 20, 20, 9)),
    }


def autoencoder():
    model = chain((64,), relu(16), relu(4), relu(16), layers.Dense(64, activation="sigmoid"))
    x = RNG.uniform(size=(40, 64))
    return compiled(model, "adam", "binary_crossentropy"), {"x": x, "y": x}


def sparse_autoencoder():
    model = chain((64,), relu(16, activity_regularizer=K.regularizers.L1(1e-4)), layers.Dense(64, activation="sigmoid"))
    x = RNG.uniform(size=(40, 64))
    return compiled(model, "adam", "mse"), {"x": x, "y": x}


def convolutional_autoencoder():
    x = inputs = Input((28, 28, 1))
    x = layers.MaxPooling2D(2, padding="same")(layers.Conv2D(16, 3, padding="same", activation="relu")(x))
    x = layers.MaxPooling2D(2, padding="same")(layers.Conv2D(8, 3, padding="same", activation="relu")(x))
    x = layers.Conv2DTranspose(8, 3, 2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(16, 3, 2, padding="same", activation="relu")(x)
    x = layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    return compiled(K.Model(inputs, x), "adam", "mse"), {
        "x": RNG.uniform(size=(4, 28, 28, 1)),
        "y": RNG.uniform(size=(4, 28, 28, 1)),
    }


def sequence_autoencoder():
    model = chain(
        (12, 3),
        layers.LSTM(8),
        layers.RepeatVector(12),
        layers.LSTM(8, return_sequences=True),
        layers.TimeDistributed(layers.Dense(3)),
    )
    x = RNG.normal(size=(40, 12, 3))
    return compiled(model, "adam", "mae"), {"x": x, "y": x}


def retina_head():
    x = inputs = Input((32, 32, 3))
    for filters in (8, 16):
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(filters, 3, 2, padding="same", use_bias=False)(x)))
    small = K.initializers.RandomNormal(0.0, 0.01)
    prior = K.initializers.Constant(-float(np.log(0.99 / 0.01)))
    a = layers.Conv2D(16, 3, padding="same", activation="relu", kernel_initializer=small)(x)
    a = layers.Conv2D(3 * 4, 3, padding="same", kernel_initializer=small, bias_initializer=prior)(a)
    b = layers.Conv2D(16, 3, padding="same", activation="relu", kernel_initializer=small)(x)
    b = layers.Conv2D(3 * 4, 3, padding="same", kernel_initializer=small)(b)
    out = layers.Concatenate(axis=1)([layers.Reshape((-1, 4))(a), layers.Reshape((-1, 4))(b)])
    return K.Model(inputs, out), {}


def boxes_and_classes():
    x = inputs = Input((32, 32, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3, activation="relu")(x))
    label, box = layers.Dense(3, activation="softmax", name="label")(x), layers.Dense(4, name="box")(x)
    losses = {"label": "sparse_categorical_crossentropy", "box": K.losses.Huber()}
    model = compiled(
        K.Model(inputs, [label, box]),
        "adam",
        losses,
        loss_weights={"label": 1.0, "box": 5.0},
        metrics={"label": ["accuracy"], "box": ["mae"]},
    )
    return model, {"y": {"label": classes(8, 3), "box": RNG.uniform(size=(8, 4))}, "x": RNG.normal(size=(8, 32, 32, 3))}


def spatial_attention():
    x = inputs = Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    mask = layers.Conv2D(1, 7, padding="same", activation="sigmoid")(x)
    x = layers.GlobalAveragePooling2D()(layers.Multiply()([x, mask]))
    return classifier(inputs, x), {}


def value_and_policy():
    x = inputs = Input((9, 9, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(x)))
    p = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(2, 1, use_bias=False)(x)))
    p = layers.Dense(82, activation="softmax")(layers.Flatten()(p))
    v = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(1, 1, use_bias=False)(x)))
    v = layers.Dense(1, activation="tanh")(relu(32)(layers.Flatten()(v)))
    return compiled(
        K.Model(inputs, [p, v]), K.optimizers.SGD(0.01, momentum=0.9), ["categorical_crossentropy", "mse"]
    ), {}


# ------------------------------------------------------------------ text and sequences


def bag_of_words():
    x = (RNG.random((40, 500)) < 0.01) / 10.0
    model = chain((500,), relu(16), layers.Dense(1, activation="sigmoid"))
    return compiled(model, "adam", "binary_crossentropy"), {"x": x, "y": classes(40, 2)}


def sentiment():
    model = chain(
        (30,),
        layers.Embedding(100, 16, mask_zero=True),
        layers.Bidirectional(layers.LSTM(8, return_sequences=True, dropout=0.2, recurrent_dropout=0.2)),
        layers.Bidirectional(layers.LSTM(8)),
        layers.Dense(1, activation="sigmoid"),
        dtype="int32",
    )
    return compiled(model, "adam", "binary_crossentropy", metrics=["accuracy"]), {
        "x": tokens(40, 30, 100),
        "y": classes(40, 2),
    }


def from_strings():
    vector = layers.TextVectorization(50, output_sequence_length=10, vocabulary=["one", "two", "three"])
    inputs = Input((1,), dtype="string")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(50, 8)(vector(inputs)))
    return compiled(
        K.Model(inputs, layers.Dense(1, activation="sigmoid")(relu(8)(x))), "adam", "binary_crossentropy"
    ), {}


def text_cnn():
    x = inputs = Input((40,), dtype="int64")
    x = layers.Embedding(200, 16)(x)
    x = layers.Concatenate()(
        [layers.GlobalMaxPooling1D()(layers.Conv1D(8, size, activation="relu")(x)) for size in (3, 4, 5)]
    )
    return classifier(inputs, layers.Dropout(0.5)(x), 4), {"y": classes(40, 4)}


def language_model():
    x = inputs = Input((16,), dtype="int32")
    x = layers.Embedding(60, 16)(x) + layers.Embedding(16, 16)(ops.arange(16))
    x = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True)]))
    x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(16)(relu(32)(x))]))
    return compiled(
        K.Model(inputs, layers.Dense(60)(x)), "adam", K.losses.SparseCategoricalCrossentropy(from_logits=True)
    ), {"x": tokens(40, 16, 60), "y": tokens(40, 16, 60)}


def translation():
    source, target = Input((None,), dtype="int32"), Input((None,), dtype="int32")
    _, h, c = layers.LSTM(12, return_state=True)(layers.Embedding(40, 8)(source))
    x = layers.LSTM(12, return_sequences=True)(layers.Embedding(50, 8)(target), initial_state=[h, c])
    out = layers.Dense(50, activation="softmax")(x)
    return compiled(K.Model([source, target], out), "rmsprop"), {
        "x": [tokens(40, 7, 40), tokens(40, 9, 50)],
        "y": tokens(40, 9, 50),
    }


def one_step_decoder():
    token, h, c = Input((1,), dtype="int32"), Input((12,)), Input((12,))
    x, h2, c2 = layers.LSTM(12, return_state=True)(layers.Embedding(50, 8)(token), initial_state=[h, c])
    return K.Model([token, h, c], [layers.Dense(50, activation="softmax")(x), h2, c2]), {}


def hierarchical_attention():
    x = inputs = Input((20,), dtype="int32")
    x = layers.Bidirectional(layers.GRU(8, return_sequences=True))(layers.Embedding(100, 8)(x))
    score = layers.Activation("softmax")(layers.Flatten()(layers.Dense(1, activation="tanh")(x)))
    score = layers.Permute((2, 1))(layers.RepeatVector(16)(score))
    x = layers.Multiply()([x, score])
    x = layers.Lambda(lambda t: ops.sum(t, axis=1))(x)
    return classifier(inputs, x), {}


def tagging():
    model = chain(
        (20,),
        layers.Embedding(100, 8),
        layers.Bidirectional(layers.LSTM(8, return_sequences=True)),
        layers.TimeDistributed(layers.Dense(5, activation="softmax")),
        dtype="int32",
    )
    return compiled(model), {"x": tokens(40, 20, 100), "y": classes(40, 5, (20,))}


def forecasting():
    x = inputs = Input((24, 3))
    for dilation in (1, 2, 4):
        y = layers.Conv1D(8, 3, padding="causal", dilation_rate=dilation, activation="relu")(x)
        x = layers.Add()([y, layers.Conv1D(8, 1)(x)])
    return compiled(K.Model(inputs, layers.Dense(6)(layers.Flatten()(x))), "adam", "mse"), {
        "x": RNG.normal(size=(40, 24, 3)),
        "y": RNG.normal(size=(40, 6)),
    }


def stateful():
    model = K.Sequential([Input(batch_shape=(4, 10, 3)), layers.LSTM(8, stateful=True), layers.Dense(1)])
    return compiled(model, "adam", "mse"), {"x": RNG.normal(size=(40, 10, 3)), "y": RNG.normal(size=(40, 1))}


def speech():
    x = inputs = Input((50, 13))
    x = layers.Conv1D(16, 11, 2, padding="same", activation="relu")(x)
    x = layers.Bidirectional(layers.GRU(8, return_sequences=True))(x)
    y = RNG.integers(1, 12, (8, 10))
    return compiled(K.Model(inputs, layers.Dense(12)(x)), "adam", "ctc"), {"x": RNG.normal(size=(8, 50, 13)), "y": y}


def characters():
    inputs = Input((10,), dtype="int32")
    x = ops.one_hot(inputs, 30)
    x = layers.LSTM(16)(x)
    return classifier(inputs, x, 30, optimizer=K.optimizers.RMSprop(0.01)), {
        "x": tokens(40, 10, 30),
        "y": classes(40, 30),
    }


def table_of_sentences():
    inputs = Input((5, 8), dtype="int32")
    x = layers.Embedding(40, 6)(inputs)
    x = layers.TimeDistributed(layers.GlobalAveragePooling1D())(x)
    return classifier(inputs, layers.GRU(6)(x), 2), {"x": RNG.integers(0, 40, (8, 5, 8)), "y": classes(8, 2)}


def lora():
    model = chain((8,), relu(16, name="a"), head())
    model.get_layer("a").enable_lora(2)
    return compiled(model), {}


# ------------------------------------------------------------------ generative, contrastive, other


def generator():
    x = inputs = Input((16,))
    x = layers.Reshape((4, 4, 16))(
        layers.LeakyReLU(negative_slope=0.2)(layers.BatchNormalization()(layers.Dense(256, use_bias=False)(x)))
    )
    x = layers.LeakyReLU(negative_slope=0.2)(
        layers.BatchNormalization(momentum=0.8)(layers.Conv2DTranspose(8, 4, 2, padding="same", use_bias=False)(x))
    )
    return K.Model(inputs, layers.Conv2DTranspose(3, 4, 2, padding="same", activation="tanh")(x), name="generator"), {}


def discriminator(last="sigmoid"):
    model = K.Sequential([
        Input((16, 16, 3)),
        layers.Conv2D(8, 4, 2, padding="same"), layers.LeakyReLU(negative_slope=0.2), layers.Dropout(0.3),
        layers.Conv2D(16, 4, 2, padding="same", use_bias=False), layers.BatchNormalization(),
        layers.LeakyReLU(negative_slope=0.2), layers.Flatten(), layers.Dense(1, activation=last),
    ], name="discriminator")  # fmt: skip
    return compiled(model, K.optimizers.Adam(2e-4, beta_1=0.5), "binary_crossentropy", metrics=["accuracy"]), {
        "y": np.ones(8),
        "x": RNG.uniform(-1, 1, (8, 16, 16, 3)),
    }


def critic():
    model, _ = discriminator(None)

    def wasserstein(y, p):
        return ops.mean(y * p)

    return compiled(model, K.optimizers.RMSprop(5e-5), wasserstein), {"y": -np.ones(8)}


def adversarial():
    g, _ = generator()
    d, _ = discriminator()
    d.trainable = False
    z = Input((16,))
    return compiled(K.Model(z, d(g(z))), K.optimizers.Adam(2e-4, beta_1=0.5, beta_2=0.9), "binary_crossentropy"), {
        "y": np.ones(8)
    }


def least_squares_gan():
    model, _ = discriminator(None)
    return compiled(model, K.optimizers.Adam(2e-4), "mse", metrics=[]), {
        "y": np.concatenate([np.ones(20), np.zeros(20)])
    }


def variational():
    class Sampling(layers.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.seed = K.random.SeedGenerator(1)

        def call(self, inputs):
            mean, log_var = inputs
            self.add_loss(-0.5 * ops.mean(1 + log_var - ops.square(mean) - ops.exp(log_var)))
            return mean + ops.exp(0.5 * log_var) * K.random.normal(ops.shape(mean), seed=self.seed)

    x = inputs = Input((64,))
    x = relu(16)(x)
    z = Sampling()([layers.Dense(2, name="mean")(x), layers.Dense(2, name="log_var")(x)])
    x = layers.Dense(64, activation="sigmoid")(relu(16)(z))
    return compiled(K.Model(inputs, x), "adam", "binary_crossentropy"), {}


def vector_quantized():
    class Codes(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(8, shape[-1]), initializer="uniform")

        def call(self, x):
            distance = ops.sum(ops.square(x[:, None] - self.table[None]), axis=-1)
            chosen = ops.take(self.table, ops.argmin(distance, axis=1), axis=0)
            self.add_loss(
                ops.mean(ops.square(ops.stop_gradient(x) - chosen))
                + 0.25 * ops.mean(ops.square(x - ops.stop_gradient(chosen)))
            )
            return x + ops.stop_gradient(chosen - x)

    x = inputs = Input((64,))
    x = Codes()(layers.Dense(4)(relu(16)(x)))
    return compiled(K.Model(inputs, layers.Dense(64)(relu(16)(x))), "adam", "mse"), {}


def gumbel():
    x = inputs = Input((64,))
    logits = layers.Dense(10)(relu(32)(x))
    noise = -ops.log(-ops.log(ops.sigmoid(ops.zeros_like(logits)) * 0.9 + 0.05))
    x = layers.Softmax()((logits + noise) / 0.5)
    return compiled(
        K.Model(inputs, layers.Dense(64, activation="sigmoid")(relu(32)(x))), "adam", "binary_crossentropy"
    ), {}


def endpoint():
    class Endpoint(layers.Layer):
        def call(self, logits, labels):
            self.add_loss(ops.mean(K.losses.categorical_crossentropy(labels, logits, from_logits=True)))
            return ops.softmax(logits)

    inputs, labels = Input((8,)), Input((3,))
    logits = layers.Dense(3)(relu(16)(inputs))
    model = K.Model([inputs, labels], Endpoint()(logits, labels))
    model.compile("adam")
    return model, {}


def auxiliary_loss():
    class Auxiliary(layers.Layer):
        def __init__(self):
            super().__init__()
            self.head = layers.Dense(1)

        def call(self, x):
            self.add_loss(ops.mean(ops.square(self.head(x))))
            return x

    x = inputs = Input((8,))
    x = Auxiliary()(relu(16)(x))
    return classifier(inputs, x), {}


def contrastive():
    x = inputs = Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3, activation="relu")(x))
    x = layers.BatchNormalization()(
        layers.Dense(16, use_bias=False)(
            layers.ReLU()(layers.BatchNormalization()(layers.Dense(16, use_bias=False)(x)))
        )
    )
    return K.Model(inputs, x), {}


def embedding_l2():
    x = inputs = Input((16, 16, 3))
    x = layers.Dense(16)(layers.GlobalAveragePooling2D()(layers.Conv2D(16, 3, activation="relu")(x)))

    def triplet(y, p):
        return ops.mean(p)

    return compiled(K.Model(inputs, layers.UnitNormalization()(x)), "adam", triplet), {}


def siamese():
    encoder = chain(
        (16, 16, 1), layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(8)
    )
    a, b = Input((16, 16, 1)), Input((16, 16, 1))
    distance = ops.abs(layers.Subtract()([encoder(a), encoder(b)]))
    return compiled(K.Model([a, b], layers.Dense(1, activation="sigmoid")(distance)), "adam", "binary_crossentropy"), {}


def q_network():
    model = chain((4,), relu(24), relu(24), layers.Dense(2))
    return compiled(model, K.optimizers.Adam(2.5e-4, clipnorm=1.0), K.losses.Huber()), {"y": RNG.normal(20, 9, (40, 2))}


def dueling():
    x = inputs = Input((4,))
    x = relu(24)(x)
    v, a = (layers.Dense(1)(relu(12)(x)), layers.Dense(3)(relu(12)(x)))
    q = v + (a - ops.mean(a, axis=1, keepdims=True))
    return compiled(K.Model(inputs, q), "adam", "mse"), {}


def actor_critic():
    x = inputs = Input((4,))
    x = relu(32)(x)
    return K.Model(inputs, [layers.Dense(2, activation="softmax")(x), layers.Dense(1)(x)]), {}


def actor():
    small = K.initializers.RandomUniform(-0.003, 0.003)
    model = chain(
        (3,), relu(64), relu(64), layers.Dense(1, activation="tanh", kernel_initializer=small), layers.Rescaling(2.0)
    )
    return model, {}


def mixture_of_experts():
    inputs = Input((8,))
    gates = layers.Dense(3, activation="softmax")(inputs)
    experts = ops.stack([layers.Dense(16, activation="relu")(inputs) for _ in range(3)], axis=1)
    x = layers.Dot(axes=1)([experts, gates])
    return compiled(K.Model(inputs, layers.Dense(4, activation="softmax")(x))), {}


def distillation():
    x = inputs = Input((8,))
    x = relu(16)(x)
    return classifier(inputs, x, 4, loss="kl_divergence"), {"y": RNG.dirichlet(np.ones(4), 40)}


def several_losses_one_of_them_none():
    x = inputs = Input((8,))
    x = relu(16, name="features")(x)
    return compiled(
        K.Model(inputs, [layers.Dense(3, activation="softmax", name="label")(x), x]),
        "adam",
        {"label": "sparse_categorical_crossentropy", "features": None},
    ), {}


def graph_attention():
    nodes, edges = Input((6, 8)), Input((6, 6))
    h = layers.Dense(16)(nodes)
    scores = layers.LeakyReLU(negative_slope=0.2)(layers.Dense(1)(h) + ops.transpose(layers.Dense(1)(h), (0, 2, 1)))
    weights = layers.Softmax()(scores + edges)
    x = layers.Activation("elu")(ops.matmul(weights, h))
    return classifier([nodes, edges], layers.GlobalAveragePooling1D()(x)), {}


def highway():
    x = inputs = Input((16,))
    for _ in range(2):
        gate = layers.Dense(16, activation="sigmoid", bias_initializer=K.initializers.Constant(-2.0))(x)
        x = layers.Add()([layers.Multiply()([gate, relu(16)(x)]), layers.Multiply()([1.0 - gate, x])])
    return classifier(inputs, x), {}


def mish():
    x = inputs = Input((16,))
    x = layers.Dense(16)(x)
    x = layers.Multiply()([x, layers.Activation("tanh")(layers.Activation("softplus")(x))])
    return classifier(inputs, x), {}


def mixed_precision():
    policy = K.DTypePolicy("mixed_bfloat16")
    model = chain(
        (12, 12, 3),
        layers.Conv2D(8, 3, activation="relu", dtype=policy),
        layers.GlobalAveragePooling2D(dtype=policy),
        head(dtype="float32"),
    )
    return compiled(model), {}


def video():
    model = chain(
        (4, 16, 16, 3),
        layers.TimeDistributed(layers.Conv2D(8, 3, activation="relu")),
        layers.TimeDistributed(layers.GlobalAveragePooling2D()),
        layers.LSTM(8),
        head(),
    )
    return compiled(model), {}


def volume():
    model = chain(
        (16, 16, 16, 1),
        layers.Conv3D(8, 3, activation="relu"),
        layers.MaxPooling3D(),
        layers.BatchNormalization(),
        layers.GlobalAveragePooling3D(),
        relu(8),
        layers.Dropout(0.3),
        layers.Dense(1, activation="sigmoid"),
    )
    return compiled(
        model,
        K.optimizers.Adam(K.optimizers.schedules.ExponentialDecay(1e-4, 100_000, 0.96, staircase=True)),
        "binary_crossentropy",
        metrics=["acc"],
    ), {}


def dataset():
    model, _known = binary()
    data = tf.data.Dataset.from_tensor_slices((RNG.normal(size=(40, 6)).astype("float32"), classes(40, 2))).batch(8)
    return model, {"x": data}


# ------------------------------------------------------------------ close to faults


def parallel_convolutions():
    inputs = Input((20, 4))
    paths = [layers.Conv1D(8, size, padding="same", activation="relu")(inputs) for size in (2, 3)]
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(path) for path in paths])
    return classifier(inputs, x)


def four_lstms():
    stack = [layers.LSTM(16, return_sequences=True) for _ in range(3)]
    return compiled(chain((24, 3), *stack, layers.LSTM(16), layers.Dense(1)), "adam", "mse")


def stateful_step_by_step():
    stack = [layers.LSTM(12, stateful=True, return_sequences=True), layers.LSTM(12, stateful=True), layers.Dense(1)]
    model = K.Sequential([Input(batch_shape=(1, 1, 3)), *stack])
    return compiled(model, "adam", "mse"), {"x": RNG.normal(size=(1, 1, 3)), "y": RNG.normal(size=1)}


def generator_with_its_discriminator():
    fake = chain((8,), layers.Dense(64), layers.Reshape((8, 8, 1)), layers.LeakyReLU(0.2),
                 layers.Conv2DTranspose(8, 4, 2, padding="same"), layers.LeakyReLU(0.2),
                 layers.Conv2DTranspose(1, 4, 2, padding="same"))  # fmt: skip
    judge = chain((32, 32, 1), layers.Conv2D(8, 3, strides=2), layers.LeakyReLU(0.2), layers.Flatten())
    judge = K.Sequential([*judge.layers, layers.Dense(1, activation="sigmoid")])
    inputs = Input((8,))
    return compiled(K.Model(inputs, judge(fake(inputs))), "adam", "binary_crossentropy")


def frozen_rotation():
    turn = layers.Dense(8, use_bias=False, trainable=False)
    model = chain((8,), turn, relu(16), head())
    turn.set_weights([np.linalg.qr(RNG.normal(size=(8, 8)))[0]])
    return compiled(model)


def q_values_of_frames():
    stack = [layers.Rescaling(1 / 255), layers.Conv2D(16, 8, strides=4, activation="relu"),
             layers.Conv2D(32, 4, strides=2, activation="relu"), layers.Flatten(),
             relu(32), layers.Dense(4)]  # fmt: skip
    return compiled(chain((84, 84, 4), *stack), "adam", "huber")


def dice_of_logits_masks():
    def dice(y, p):
        p = ops.sigmoid(p)
        return 1 - (2 * ops.sum(y * p) + 1) / (ops.sum(y) + ops.sum(p) + 1)

    stack = [layers.Conv2D(8, 3, padding="same", activation="relu"), layers.Conv2D(1, 1)]
    return compiled(chain((16, 16, 3), *stack), "adam", dice)


def softmax_of_tensorflow():
    model = chain((6,), layers.Dense(16, activation=tf.nn.relu), layers.Dense(3, activation=tf.nn.softmax))
    return compiled(model), {"x": RNG.normal(size=(40, 6)), "y": np.arange(40) % 3}


def softmax_with_temperature():
    model = chain((6,), relu(16), layers.Dense(3, activation=lambda x: ops.softmax(x / 2)))
    return compiled(model)


def sigmoid_of_ones_own():
    hidden = relu(16)
    model = chain((6,), hidden, layers.Dense(1, activation=lambda x: 1 / (1 + ops.exp(-x))))
    return compiled(model, loss="binary_crossentropy")


def linear_of_ones_own():
    model = chain((6,), relu(16), layers.Dense(3, activation=lambda x: x))
    return compiled(model, loss=K.losses.SparseCategoricalCrossentropy(from_logits=True))


def booleans():
    model = chain((6,), relu(16), layers.Dense(1, activation="sigmoid"))
    return compiled(model, loss="binary_crossentropy"), {"y": np.arange(40) % 3 == 0}


def boolean_rows():
    model = chain((6,), relu(16), layers.Dense(2, activation="sigmoid"))
    return compiled(model, loss="binary_crossentropy"), {"y": np.indices((40, 2)).sum(axis=0) % 3 == 0}


def lists_of_one():
    model = chain((6,), relu(16), head())
    known = {"x": [RNG.normal(size=(40, 6))], "y": [np.arange(40) % 3]}
    return compiled(model, loss=["sparse_categorical_crossentropy"], loss_weights=[0.5]), known


def lists_of_one_row_per_class():
    model = chain((6,), relu(16), head())
    return compiled(model, loss="categorical_crossentropy", loss_weights=(1.0,)), {"y": (np.eye(3)[np.arange(40) % 3],)}


def class_as_loss():
    model = chain((6,), relu(16), head())
    return compiled(model, loss=K.losses.SparseCategoricalCrossentropy)


def loss_of_ones_own_takes_logits():
    def crossentropy(y, p):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(y, "int32"), p)

    return compiled(chain((6,), relu(16), layers.Dense(3)), loss=crossentropy)


def subclassed():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden, self.out = layers.Dense(16, activation="relu"), layers.Dense(3, activation="softmax")

        def call(self, x):
            return self.out(self.hidden(x))

    return compiled(Own()), {"x": RNG.normal(size=(40, 6)), "y": np.arange(40) % 3}


def parts_by_name(activation="softmax", count=3):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.label, self.score = layers.Dense(3, activation=activation), layers.Dense(1)

        def call(self, x):
            x = K.ops.concatenate([x["left"], x["right"]], axis=-1)
            return {"score": self.score(x), "label": self.label(x)}

    losses = {"label": "sparse_categorical_crossentropy", "score": "mse"}
    x = {"left": RNG.normal(size=(40, 4)), "right": RNG.normal(size=(40, 5))}
    return compiled(Own(), "adam", losses, metrics={"label": ["accuracy"]}), {
        "x": x,
        "y": {"label": np.arange(40) % count, "score": RNG.normal(size=40)},
    }


def parts_by_place():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.label, self.score = layers.Dense(3, activation="softmax"), layers.Dense(1)

        def call(self, x):
            return self.label(x), self.score(x)

    losses = ["sparse_categorical_crossentropy", "mse"]
    return compiled(Own(), "adam", losses, loss_weights=[1.0, 0.5]), {
        "x": RNG.normal(size=(40, 4)),
        "y": [np.arange(40) % 3, RNG.normal(size=40)],
    }


def variational_step_of_ones_own():
    """The loss is of the image alone; means and variances are no probabilities."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.mean, self.variance = layers.Dense(4), layers.Dense(4)
            self.image = layers.Dense(8, activation="sigmoid")

        def call(self, x):
            mean, variance = self.mean(x), self.variance(x)
            return self.image(mean + K.ops.exp(variance / 2)), mean, variance

        def train_step(self, data):
            return {}

    x = RNG.uniform(size=(40, 8))
    return compiled(Own(), "adam", "binary_crossentropy"), {"x": x, "y": x}


def padded_tagging():
    """Words and tags are equal only where both are padding."""
    x, y = np.zeros((40, 50), int), np.zeros((40, 50), int)
    x[:, :4], y[:, :4] = RNG.integers(10, 500, (40, 4)), RNG.integers(0, 5, (40, 4))
    stack = [layers.Embedding(500, 8, mask_zero=True), layers.Bidirectional(layers.GRU(8, return_sequences=True))]
    return compiled(chain((50,), *stack, layers.Dense(5, activation="softmax"), dtype="int32")), {"x": x, "y": y}


def negative_samples():
    """The first of the words is the right one, in every row."""
    word, others = Input((1,), dtype="int32"), Input((5,), dtype="int32")
    scores = layers.Dot(axes=2)([layers.Embedding(90, 8)(others), layers.Embedding(90, 8)(word)])
    loss = K.losses.CategoricalCrossentropy(from_logits=True)
    return compiled(K.Model([word, others], layers.Flatten()(scores)), loss=loss), {
        "x": [tokens(40, 1, 90), tokens(40, 5, 90)],
        "y": np.eye(5)[np.zeros(40, int)],
    }


def pairs_in_one_batch():
    encoder = chain((6,), relu(16), layers.Dense(8))
    one, other = Input((6,)), Input((6,))
    left, right = K.ops.split(encoder(K.ops.concatenate([one, other], axis=0)), 2, axis=0)
    distance = K.ops.sum(K.ops.square(left - right), axis=-1, keepdims=True)
    out = layers.Dense(1, activation="sigmoid")(distance)
    return compiled(K.Model([one, other], out), loss="binary_crossentropy"), {"y": classes(40, 2)}


def mean_of_softmaxes():
    inputs = Input((6,))
    votes = [layers.Dense(3, activation="softmax")(layers.Dense(8, activation="relu")(inputs)) for _ in range(3)]
    return compiled(K.Model(inputs, K.ops.mean(K.ops.stack(votes, axis=1), axis=1)))


def words_with_known_vectors():
    known = K.initializers.Constant(RNG.normal(size=(50, 30)))
    stack = [layers.Embedding(50, 30, embeddings_initializer=known, trainable=False), layers.GlobalMaxPooling1D()]
    return compiled(chain((12,), *stack, head(), dtype="int32"))


def _backbone(*stack):
    backbone = K.Sequential([*chain((32,), *stack).layers], name="backbone")
    model = compiled(chain((32,), backbone, head()))
    model.fit(RNG.normal(size=(40, 32)), classes(40, 3), verbose=0)
    backbone.trainable = False
    return compiled(chain((32,), backbone, head()))


def backbone_of_one_epoch():
    return _backbone(relu(64), relu(64))


def normalized_backbone_of_one_epoch():
    return _backbone(layers.Dense(64, use_bias=False), layers.BatchNormalization(), layers.ReLU())


def unlucky_output():
    """The relu of the age is inactive at the start, and so the layer before it gets no gradient."""
    x = inputs = Input((6,))
    x = relu(16)(x)
    age = relu(1)
    outs = [age(relu(8)(x)), head()(x)]
    age.kernel.assign(-np.abs(age.kernel.numpy()))
    return compiled(K.Model(inputs, outs), loss=["mse", "sparse_categorical_crossentropy"])


def generator_with_a_quiet_discriminator():
    """What is frozen gets no gradients of any size."""
    fake = chain((8,), layers.Dense(64), layers.LeakyReLU(0.2), layers.Dense(32, activation="tanh"))
    small = {"kernel_initializer": K.initializers.RandomNormal(stddev=0.02)}
    stack = [layer for _ in range(3) for layer in (layers.Dense(64, **small), layers.LeakyReLU(0.2))]
    judge = K.Sequential([*chain((32,), *stack).layers, layers.Dense(1, activation="sigmoid")])
    judge.trainable = False
    inputs = Input((8,))
    return compiled(K.Model(inputs, judge(fake(inputs))), "adam", "binary_crossentropy")


def unlucky_squeeze():
    """The two relu units of the squeeze are inactive at the start, but the layers before it train."""
    inputs = Input((8, 8, 1))
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(inputs)
    squeeze = relu(2)
    scale = layers.Dense(32, activation="sigmoid")(squeeze(layers.GlobalAveragePooling2D()(x)))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 32))(scale)])
    model = K.Model(inputs, head()(layers.GlobalAveragePooling2D()(x)))
    squeeze.kernel.assign(-np.abs(squeeze.kernel.numpy()))
    return compiled(model)


def relu_twice():
    return compiled(chain((6,), relu(16), layers.ReLU(), head()))


def unet_without_shortcuts():
    """A transposed convolution that only enlarges, before one that computes."""
    stack = [layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
             layers.Conv2DTranspose(16, 2, strides=2), layers.Conv2D(16, 3, padding="same", activation="relu"),
             layers.Conv2D(1, 1, activation="sigmoid")]  # fmt: skip
    return compiled(chain((16, 16, 3), *stack), "adam", "binary_crossentropy")


def small_trained_layer_under_a_new_head():
    """The larger of two frozen layers was trained; of the smaller one too few weights are known to say."""
    large, small = relu(64), relu(8)
    model = chain((32,), large, small, head())
    large.kernel.assign(large.kernel.numpy() ** 3 * 9)
    large.trainable = small.trainable = False
    return compiled(model)


def images_without_channels():
    """`fit` adds the axis of 1 that Input has and MNIST's arrays lack."""
    model = chain((28, 28, 1), layers.Conv2D(8, 3, activation="relu"), layers.Flatten(), layers.Dense(10, "softmax"))
    return compiled(model), {"x": RNG.random((32, 28, 28)), "y": np.arange(32) % 10}


def sorted_by_store():
    """The first rows are all of one store."""
    stores, figures = Input((1,), dtype="int32"), Input((6,))
    one = relu(8)(layers.Flatten()(layers.Embedding(20, 8)(stores)))
    x = layers.Concatenate()([relu(32)(figures), one])
    model = K.Model([figures, stores], layers.Dense(1)(relu(16)(x)))
    x = [RNG.normal(size=(64, 6)), np.sort(tokens(64, 1, 4), axis=0)]
    return compiled(model, "adam", "mse"), {"x": x, "y": RNG.normal(size=64)}


def decoder_with_a_start_token():
    """Every row begins with the same token, and the state with zeros."""
    start, state, image = Input((1,), dtype="int32"), Input((16,)), Input((10,))
    x = relu(16)(layers.Flatten()(layers.Embedding(20, 8)(start)))
    x = layers.Add()([x, layers.Dense(16, use_bias=False)(state), layers.Dense(16)(image)])
    model = K.Model([start, state, image], layers.Dense(20, activation="softmax")(layers.ReLU()(x)))
    return compiled(model), {
        "x": [np.ones((40, 1)), np.zeros((40, 16)), RNG.normal(size=(40, 10))],
        "y": np.arange(40) % 20,
    }


class Queries(layers.Layer):
    """Learned vectors, the same for every row (arXiv 2005.12872)."""

    def build(self, shape):
        self.queries = self.add_weight(shape=(1, 4, 16), initializer="random_normal")

    def call(self, x):
        return ops.repeat(self.queries, ops.shape(x)[0], axis=0)


def learned_queries():
    inputs = Input((12, 16))
    queries = relu(16)(Queries()(inputs))
    memory = relu(16)(inputs)
    x = layers.MultiHeadAttention(2, 8)(queries, memory)
    return classifier(inputs, layers.Flatten()(x))


def adaptive_norm_from_zero():
    """One Dense gives scale, shift and gate, and starts at zero (arXiv 2212.09748)."""
    inputs, condition = Input((16,)), Input((8,))
    scale, shift, gate = ops.split(layers.Dense(48, kernel_initializer="zeros")(condition), 3, axis=-1)
    x = layers.LayerNormalization(center=False, scale=False)(inputs) * (1 + scale) + shift
    x = inputs + gate * layers.Dense(16)(layers.Dense(32, activation="gelu")(x))
    return compiled(K.Model([inputs, condition], layers.Dense(4)(x)), "adam", "mse")


def distances_as_probabilities():
    """The exponential of a negative distance lies between 0 and 1."""
    tower = chain((8,), relu(16), layers.Dense(4))
    left, right = Input((8,)), Input((8,))
    distance = ops.sum(ops.abs(tower(left) - tower(right)), axis=1, keepdims=True)
    return compiled(K.Model([left, right], ops.exp(-distance)), "adam", "binary_crossentropy")


def tanh_scaled_to_probabilities():
    stack = [relu(16), layers.Dense(1, activation="tanh"), layers.Rescaling(0.5, 0.5)]
    return compiled(chain((8,), *stack), "adam", "binary_crossentropy")


class InverseRoot(keras.optimizers.schedules.LearningRateSchedule):
    """A power that Python refuses at step 0 and Keras' variable does not."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, step):
        return self.factor * ops.minimum(step**-0.5, step * 0.03)


def schedule_of_ones_own():
    model = chain((8,), relu(16), head())
    return compiled(model, K.optimizers.Adam(InverseRoot(0.01)))


def noisy_labels_of_a_discriminator():
    stack = [layers.Dense(16), layers.LeakyReLU(0.2), layers.Dense(1, activation="sigmoid")]
    y = np.repeat([1.0, 0.0], 16)[:, None] + 0.05 * RNG.random((32, 1))
    return compiled(chain((8,), *stack), "adam", "binary_crossentropy"), {"x": RNG.normal(size=(32, 8)), "y": y}


def classes_moved_last():
    stack = [layers.Dense(10), layers.Permute((2, 1)), layers.Softmax(axis=1), layers.Permute((2, 1))]
    return compiled(chain((6, 8), *stack))


def pretrained_on_raw_pixels():
    """As VGG with its own preprocess_input, which only subtracts a mean."""
    stack = [layers.Conv2D(16, 3, activation="relu"), layers.Conv2D(16, 3, activation="relu")]
    model = chain((16, 16, 3), *stack, layers.GlobalAveragePooling2D(), head())
    for layer in stack:
        layer.bias.assign(RNG.normal(size=layer.bias.shape))
        layer.trainable = False
    stack[1].kernel.assign(stack[1].kernel / 64)
    return compiled(model), {"x": RNG.uniform(-120, 130, (32, 16, 16, 3)), "y": np.arange(32) % 3}


def norm_after_relu_on_pixels():
    stack = [layers.Conv2D(16, 3), layers.ReLU(), layers.BatchNormalization()]
    model = chain((16, 16, 3), *stack, layers.GlobalAveragePooling2D(), head())
    return compiled(model), {"x": RNG.uniform(0, 255, (32, 16, 16, 3)), "y": np.arange(32) % 3}


def own_losses():
    """Each falls as the outputs come closer to the labels, or has labels that are no outputs."""

    def dice_loss(y, p):
        return 1 - (2 * ops.sum(y * p) + 1) / (ops.sum(y) + ops.sum(p) + 1)

    def wasserstein(y, p):
        return ops.mean(y * p)

    def pinball(y, p):
        return ops.mean(ops.maximum(0.9 * (y - p), -0.1 * (y - p)))

    inputs = Input((8,))
    x = relu(16)(inputs)
    ends = {"mask": layers.Dense(4, activation="sigmoid"), "critic": layers.Dense(1), "number": layers.Dense(1)}
    model = K.Model(inputs, {name: end(x) for name, end in ends.items()})
    y = {"mask": classes(40, 2, (4,)), "critic": RNG.choice([-1.0, 1.0], 40), "number": RNG.normal(20, 5, 40)}
    model.compile("adam", {"mask": dice_loss, "critic": wasserstein, "number": pinball})
    return model, {"x": RNG.normal(size=(40, 8)), "y": y}


def deep_in_16_bits():
    """In 16 bits, a row may be rounded differently in a smaller batch."""
    stack = [relu(256, dtype="mixed_bfloat16") for _ in range(6)]
    return compiled(chain((64,), *stack, head())), {"x": RNG.normal(size=(40, 64))}


class Annealed(layers.Layer):
    """Adds a loss with a weight that a callback raises."""

    def build(self, shape):
        self.share = tf.Variable(0.1)

    def call(self, x):
        self.add_loss(self.share * ops.mean(ops.square(x)))
        return x


def losses_of_layers_alone():
    inputs = Input((8,))
    model = K.Model(inputs, Annealed()(layers.Dense(4)(relu(16)(inputs))))
    return compiled(model, loss=lambda y, p: 0.0 * ops.mean(y)), {"x": RNG.normal(size=(40, 8)), "y": np.arange(40) % 4}


def policy_gradient():
    """Each label is one-hot times an advantage, which may be negative."""
    advantages = RNG.normal(size=(40, 1))
    model = chain((4,), relu(16), head())
    known = {"x": RNG.normal(size=(40, 4)), "y": np.eye(3)[np.arange(40) % 3] * advantages}
    return compiled(model, loss="categorical_crossentropy"), known


def batch_in_matrices():
    """Each output compares a row with all others, as contrastive losses need."""
    left, right = Input((8,)), Input((8,))
    a, b = (layers.UnitNormalization()(layers.Dense(8)(relu(16)(one))) for one in (left, right))
    return K.Model([left, right], ops.matmul(a, ops.transpose(b)))


def contrastive_pairs():
    """The label is 1 for a pair of one class, whose distance is to be 0."""
    left, right = Input((8,)), Input((8,))
    base = chain((8,), relu(16), layers.Dense(8))
    distance = ops.sqrt(ops.maximum(ops.sum(ops.square(base(left) - base(right)), axis=1, keepdims=True), 1e-7))

    def contrastive(y, d):
        return ops.mean(y * ops.square(d) + (1 - y) * ops.square(ops.maximum(1 - d, 0)))

    known = {"x": [RNG.normal(size=(40, 8)), RNG.normal(size=(40, 8))], "y": np.tile([1.0, 0.0], 20)}
    return compiled(K.Model([left, right], distance), loss=contrastive), known


class Experts(layers.Layer):
    """Each row goes to one of several experts, so that a small batch may leave some out."""

    def __init__(self, count):
        super().__init__()
        self.gate = layers.Dense(count, activation="softmax")
        self.experts = [relu(8) for _ in range(count)]

    def call(self, x):
        scores = self.gate(x)
        chosen = ops.one_hot(ops.argmax(scores, axis=-1), len(self.experts))
        return ops.sum(ops.stack([expert(x) for expert in self.experts], axis=1) * (scores * chosen)[..., None], axis=1)


def experts_without_rows():
    model = chain((6,), relu(16), Experts(16), layers.Dense(1))
    return compiled(model, loss="mse"), {"x": RNG.normal(size=(40, 6)), "y": RNG.normal(size=40)}


def marks_of_words():
    texts = np.array([["a good film"], ["a bad film"]] * 20)
    words = layers.TextVectorization(max_tokens=50, output_mode="multi_hot")
    words.adapt(texts)
    inputs = Input((1,), dtype="string")
    outputs = layers.Dense(1, activation="sigmoid")(relu(8)(words(inputs)))
    known = {"x": tf.constant(texts), "y": np.tile([1.0, 0.0], 20)}
    return compiled(K.Model(inputs, outputs), loss="binary_crossentropy"), known


class Noisy(layers.Layer):
    """A dense layer of random means, and of deviations that start equal."""

    def build(self, shape):
        self.mean = self.add_weight(shape=(shape[-1], 8), initializer="he_normal")
        self.deviation = self.add_weight(shape=(shape[-1], 8), initializer=K.initializers.Constant(-4.0))
        self.scale = self.add_weight(shape=(1, 8), initializer="ones")

    def call(self, x):
        noise = ops.softplus(self.deviation) * K.random.normal(self.mean.shape)
        return self.scale * ops.relu(x @ (self.mean + noise))


def deviations_that_start_equal():
    known = {"x": RNG.normal(size=(40, 6)), "y": RNG.normal(size=40)}
    return compiled(chain((6,), Noisy(), layers.Dense(1)), loss="mse"), known


def conditional_autoencoder():
    image, kind = Input((32,)), Input((4,))
    code = layers.Dense(4)(relu(16)(layers.Concatenate()([image, kind])))
    hidden = relu(16)(layers.Concatenate()([code, kind]))
    images, kinds = RNG.random((40, 32)), np.eye(4)[np.arange(40) % 4]
    model = K.Model([image, kind], layers.Dense(32, activation="sigmoid")(hidden))
    return compiled(model, loss="binary_crossentropy"), {"x": [images, kinds], "y": images}


def sequence_that_is_repeated():
    source, given = Input((10,)), Input((10,))
    words = layers.Embedding(30, 8)
    code = layers.RepeatVector(10)(layers.GRU(16)(words(source)))
    hidden = layers.GRU(16, return_sequences=True)(layers.Concatenate()([words(given), code]))
    ids = RNG.integers(2, 30, (40, 10))
    shifted = np.concatenate([np.ones((40, 1), int), ids[:, :-1]], axis=1)
    model = K.Model([source, given], layers.Dense(30, activation="softmax")(hidden))
    return compiled(model), {"x": [ids, shifted], "y": ids}


def grey_as_colours():
    inputs = Input((16, 16, 1))
    maps = layers.Conv2D(8, 3, activation="relu")(layers.Concatenate()([inputs, inputs, inputs]))
    outputs = head()(layers.GlobalAveragePooling2D()(maps))
    return compiled(K.Model(inputs, outputs)), {"x": RNG.random((40, 16, 16, 1)), "y": classes(40, 3)}


def target_network():
    """Bootstrapped representations: a frozen copy of the encoder, which moving averages update."""

    def encoder():
        return chain((20,), layers.Dense(64), layers.ReLU(), layers.Dense(16))

    online, target = encoder(), encoder()
    target.set_weights(online.get_weights())
    target.trainable = False
    left, right = Input((20,)), Input((20,))
    guess = layers.Dense(16)(relu(32)(online(left)))
    given = layers.Lambda(ops.stop_gradient)(target(right))
    model = K.Model([left, right], layers.Dot(1, normalize=True)([guess, given]))
    x = RNG.normal(size=(40, 20))
    return compiled(model, loss=lambda y, s: 2 - 2 * ops.mean(s)), {"x": [x, x], "y": np.ones((40, 1))}


def spare_columns():
    inputs = {name: Input((1,), name=name) for name in ("age", "size")}
    hidden = relu(8)(layers.concatenate(list(inputs.values())))
    x = {name: RNG.normal(size=(40, 1)) for name in ("age", "name", "size")}
    return compiled(K.Model(inputs, layers.Dense(1)(hidden)), loss="mse"), {"x": x, "y": RNG.normal(size=40)}


def one_trained_layer():
    """With all others frozen, a large rate does no harm."""
    base = chain((8,), relu(16), layers.Dense(3, use_bias=False))
    for layer in base.layers:
        for weight in layer.weights:
            weight.assign(RNG.uniform(-1, 1, weight.shape))
    base.trainable = False
    model = chain((8,), base, head())
    return compiled(model, K.optimizers.Adam(0.1)), {"x": RNG.normal(size=(40, 8)), "y": classes(40, 3)}


def in_batch_softmax():
    """Of two towers: each row's own item against those of the batch."""
    users, items = Input((), dtype="int32"), Input((), dtype="int32")
    towers = [layers.UnitNormalization()(layers.Embedding(50, 16)(ids)) for ids in (users, items)]
    model = K.Model([users, items], ops.matmul(towers[0], ops.transpose(towers[1])) / 0.05)
    loss = K.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(model, loss=loss), {"x": [classes(32, 50), classes(32, 50)], "y": np.arange(32)}


class Deep(keras.Model):
    """A network of values with a copy of it, as its own method of training needs one."""

    def __init__(self):
        super().__init__()
        self.online = chain((4,), relu(32), layers.Dense(2))
        self.target = K.models.clone_model(self.online)  # with the same names
        self.target.trainable = False
        self.target.set_weights(self.online.get_weights())

    def call(self, x):
        return self.online(x)


def deep_q():
    return compiled(Deep(), loss="mse"), {"x": RNG.normal(size=(16, 4)), "y": RNG.normal(size=(16, 2))}


def graph_of_nodes():
    """Each batch is the whole graph: fewer rows do not fit together."""
    nodes, edges = Input((16,)), Input((30,))
    hidden = ops.relu(ops.matmul(edges, layers.Dense(8)(nodes)))
    outputs = layers.Activation("softmax")(ops.matmul(edges, layers.Dense(4)(hidden)))
    x = [RNG.normal(size=(30, 16)).astype("float32"), np.eye(30, dtype="float32")]
    return compiled(K.Model([nodes, edges], outputs)), {"x": x, "y": classes(30, 4)}


def metrics_of_ones_own():
    def directional_accuracy(y, outputs):
        return ops.mean(ops.cast(ops.equal(ops.sign(y), ops.sign(outputs)), "float32"))

    class WithinTenPercentAccuracy(keras.metrics.MeanMetricWrapper):
        def __init__(self):
            super().__init__(lambda y, outputs: ops.cast(ops.abs(y - outputs) < 0.1 * ops.abs(y), "float32"))

    model = chain((6,), relu(16), layers.Dense(1))
    known = {"x": RNG.normal(size=(40, 6)), "y": RNG.normal(size=(40, 1))}
    return compiled(model, loss="mse", metrics=[directional_accuracy, WithinTenPercentAccuracy()]), known


def rare_positive():
    """The only positive is, by chance, the only row of its category."""
    categories = np.resize(np.arange(8), 64)
    categories[9] = 8
    x = np.concatenate([np.eye(9)[categories], RNG.normal(size=(64, 4))], axis=1)
    model = chain((13,), relu(16), layers.Dense(1, activation="sigmoid"))
    return compiled(model, loss="binary_crossentropy"), {"x": x, "y": (categories == 8).astype("float32")}


def recurrent_autoencoder():
    steps = layers.GRU(4, return_sequences=True), layers.GRU(8, return_sequences=True)
    x = RNG.normal(size=(40, 20, 6))
    return compiled(chain((20, 6), *steps, layers.Dense(6)), loss="mse"), {"x": x, "y": x}


def prices():
    """Scaled back to the labels by the model itself."""
    norm = layers.Normalization(invert=True, axis=None, mean=2e5, variance=6.4e9)
    model = chain((6,), relu(32), layers.Dense(1), norm)
    return compiled(model, loss="mae"), {"x": RNG.normal(size=(64, 6)), "y": RNG.normal(2e5, 8e4, (64, 1))}


def directions():
    y = RNG.normal(size=(64, 4))
    model = chain((6,), relu(32), layers.Dense(4), layers.UnitNormalization())
    known = {"x": RNG.normal(size=(64, 6)), "y": y / np.linalg.norm(y, axis=1, keepdims=True)}
    return compiled(model, loss="mse"), known


def patches_of_two():
    stem = layers.Conv2D(256, 2, strides=2, use_bias=False), layers.BatchNormalization(), layers.ReLU()
    head = layers.GlobalAveragePooling2D(), layers.Dense(10, activation="softmax")
    return compiled(chain((16, 16, 3), *stem, *head)), {"x": RNG.random((40, 16, 16, 3)), "y": classes(40, 10)}


def convolutions_over_time():
    """As in arXiv 1611.06455: the middle one is the widest."""
    blocks = [
        layer
        for filters, size in ((32, 8), (64, 5), (32, 3))
        for layer in (layers.Conv1D(filters, size, use_bias=False), layers.BatchNormalization(), layers.ReLU())
    ]
    model = chain((40, 2), *blocks, layers.GlobalAveragePooling1D(), head())
    return compiled(model), {"x": RNG.normal(size=(40, 40, 2)), "y": classes(40, 3)}


def fourier_features(trainable=False):
    """arXiv 2006.10739: an image as a function of the place."""
    place = Input((2,))
    start = K.initializers.RandomNormal(stddev=10.0)
    waves = layers.Dense(600, use_bias=False, trainable=trainable, kernel_initializer=start)(place)
    hidden = relu(64)(layers.Concatenate()([ops.sin(waves), ops.cos(waves)]))
    outputs = layers.Dense(3, activation="sigmoid")(hidden)
    return compiled(K.Model(place, outputs), loss="mse"), {"x": RNG.random((64, 2)), "y": RNG.random((64, 3))}


def trained_frequencies():
    return fourier_features(trainable=True)


def counts_from_themselves():
    """A multinomial likelihood of what each user has seen (arXiv 1802.05814)."""
    x = (RNG.random((64, 50)) < 0.1).astype("float32")
    x[np.arange(64), classes(64, 50)] = 1
    coder = layers.UnitNormalization(), layers.Dropout(0.5), layers.Dense(20, activation="tanh"), layers.Dense(50)
    return compiled(chain((50,), *coder), loss=K.losses.CategoricalCrossentropy(from_logits=True)), {"x": x, "y": x}


class Triangle(keras.optimizers.schedules.LearningRateSchedule):
    """Up and down within 50 steps, for ever."""

    def __call__(self, step):
        phase = ops.mod(ops.cast(step, "float32"), 50.0) / 25
        return 1e-5 + (1e-3 - 1e-5) * (1 - ops.abs(phase - 1))


def cyclic_rate():
    model = chain((6,), relu(16), layers.Dense(1))
    known = {"x": RNG.normal(size=(40, 6)), "y": RNG.normal(size=40)}
    return compiled(model, K.optimizers.Adam(Triangle()), "mse"), known


HELPERS = ("classes", "tokens", "unet", "_backbone")
SOUND = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, FunctionType) and value.__module__ == __name__ and name not in HELPERS
}
