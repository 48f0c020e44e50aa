"""Whole models: what is done on purpose, nested and opaque models, the exercise's networks, Keras' applications."""

import functools

import numpy as np
import pytest

from reprocnn.audit import api, graph, noise, recognize
from reprocnn.audit.api import audit
from reprocnn.audit.files import load
from reprocnn.backend import keras, layers, tf
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.networks import build
from reprocnn.networks.whitening import set_whitening
from tests.audit.faulty_networks import mlp
from tests.support.small_models import (
    CATEGORICAL,
    LOGITS,
    PIXELS,
    SPARSE,
    attention,
    bottleneck,
    by_code,
    chain,
    conv,
    decoder,
    dense,
    faint_branch,
    found,
    head,
    narrow_branch,
    network,
    residual,
    squeeze_and_excitation,
)


@pytest.mark.parametrize(
    "build", [residual, faint_branch, bottleneck, narrow_branch, decoder, attention, squeeze_and_excitation]
)
def test_finds_nothing_in_common_designs(build):
    assert audit(build(), **({} if build is decoder else CATEGORICAL)) == []


def test_finds_nothing_in_a_transformer():
    inputs = keras.Input((20,), dtype="int32")
    x = layers.Embedding(100, 16, mask_zero=True)(inputs)
    x = layers.Add()([x, layers.Embedding(20, 16)(np.arange(20)[None])])
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8, name="attention")(x, x)])
    x = layers.LayerNormalization()(x)
    y = layers.Dense(16)(layers.Dropout(0.1)(layers.Dense(32, activation="gelu")(x)))
    x = layers.LayerNormalization()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling1D()(x)
    assert audit(keras.Model(inputs, head(2)(x)), **SPARSE, num_classes=2) == []


def test_judges_recurrent_and_transposed_layers():
    text = chain((20,), layers.Embedding(50, 8), layers.Bidirectional(layers.LSTM(4)), head(), dtype="int32")
    assert audit(text, **SPARSE) == []
    ones = {"kernel_initializer": "ones", "recurrent_initializer": "ones"}
    lstm = chain((5, 3), layers.LSTM(4, name="lstm", **ones), head(kernel_initializer="ones"))
    # Of the 16 columns, the four units of each gate are alike.
    assert found(lstm, "symmetry")[0][1] == "16 of 16 units start equal (all 1) and get equal gradients"
    larger = layers.Conv2DTranspose(4, 3, activation="relu")
    start = [dense(32, "start", activation="relu"), layers.Reshape((4, 4, 2))]
    assert audit(chain((4,), *start, larger, conv(1, 3, "pixels", activation="tanh"))) == []


def test_reads_nested_models():
    inner = chain((8,), dense(20, "hidden", activation="softmax"), dense(4, "out", activation="relu"))
    inner.name = "inner"
    inputs = keras.Input((8,))
    outer = keras.Model(inputs, head()(inner(inputs)))
    assert [(one.code, one.layer) for one in audit(outer)] == [("hidden-softmax", "inner/hidden")]


def test_finds_a_pair_across_the_border_of_a_nested_model():
    inner = chain((8,), dense(16, "first"))
    inner.name = "inner"
    inputs = keras.Input((8,))
    assert found(keras.Model(inputs, head()(inner(inputs))), "linear-pair") == [
        ("head", "no activation between it and inner/first: 8 to 16 to 3 units")
    ]


def test_judges_subclassed_models_by_weights_and_gradients():
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


def test_judges_each_of_several_outputs():
    image, number = keras.Input((12, 12, 3)), keras.Input((4,))
    x = layers.Concatenate()([layers.GlobalAveragePooling2D()(conv(8, 3, "conv")(image)), number])
    model = keras.Model({"image": image, "number": number}, [head()(x), dense(1, "score")(x)])
    losses = {"head": "categorical_crossentropy", "score": "mse"}
    assert audit(model, loss=losses) == audit(model, loss=list(losses.values())) == []
    wrong = audit(model, loss="categorical_crossentropy", num_classes=10)
    # Nothing says of which of two outputs the ten classes are.
    assert by_code(wrong) == {"logits-as-probabilities": ["score"], "single-output": ["score"]}
    assert by_code(audit(model, loss=losses, num_classes=10)) == {"wrong-outputs": ["head"]}
    with pytest.raises(UserError, match=r"loss: expected names of outputs \(head, score\), got other"):
        audit(model, loss={"other": "mse"})
    with pytest.raises(UserError, match="loss: expected 2 parts, one per output"):
        audit(model, loss=["mse"] * 3)


def test_reports_a_frozen_backbone_once_with_its_size():
    backbone = chain((12, 12, 3), conv(4, 3, "a"), conv(8, 3, "b"), layers.GlobalAveragePooling2D())
    backbone.name, backbone.trainable = "backbone", False
    inputs = keras.Input((12, 12, 3))
    model = keras.Model(inputs, head()(backbone(inputs)))
    # 3 * 3 * 3 * 4 + 3 * 3 * 4 * 8
    assert found(model, "frozen-random") == [
        ("backbone/a", "this layer and 1 more: 396 frozen weights, as random as at the start")
    ]


def test_accepts_the_frozen_whitening_layer():
    model = network("cifar_cnn", (32, 32, 3))
    x = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    set_whitening(model, x)
    assert audit(model, **CATEGORICAL, num_classes=10, x=x) == []


def test_takes_the_compiled_loss_by_default():
    model = chain((8,), head(activation=None))
    model.compile(loss="categorical_crossentropy")
    assert [one.code for one in audit(model)] == ["logits-as-probabilities"]
    assert audit(model, **LOGITS) == []


def test_leaves_the_model_as_it_was_and_repeats_its_findings():
    stack = [dense(6, "hidden", use_bias=False), layers.BatchNormalization(), layers.Dropout(0.5), layers.ReLU()]
    model = chain((8,), *stack, head(kernel_initializer="zeros"))
    before = [variable.value.numpy() for variable in model.variables]
    assert audit(model, **PIXELS) == audit(model, **PIXELS)
    assert all(np.array_equal(old, new) for old, new in zip(before, model.variables, strict=True))
    assert model.get_layer("hidden").output.shape == (None, 6)  # the audit added no call


def test_leaves_random_generators_as_they_were():
    class Sampled(layers.Layer):
        def build(self, shape):
            self.seed = keras.random.SeedGenerator(1)

        def call(self, x):
            self.add_loss(keras.ops.mean(x**2))  # which a rule computes again
            return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)

    model = chain((8,), dense(6, "hidden"), Sampled(), head())
    before = [variable.value.numpy() for variable in model.non_trainable_variables]
    assert before
    assert audit(model, **SPARSE) == []
    assert all(np.array_equal(old, new) for old, new in zip(before, model.non_trainable_variables, strict=True))


def test_refuses_a_model_that_is_not_built_or_cannot_compute_the_batch():
    with pytest.raises(UserError, match="expected a built model"):
        audit(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(UserError, match="cannot compute a batch"):
        audit(chain((8,), layers.Lambda(lambda x: x + np.zeros((5, 8), "float32")), head()))


WARMUP = {
    "symmetry": ["conv2d", "conv2d_1", "conv2d_2"],
    "no-gradient": ["conv2d_4"],
    "dropout-on-output": ["dropout_1"],
    "many-filters": ["conv2d"],
    "fewer-filters": ["conv2d_1", "conv2d_2", "conv2d_3"],
    "large-kernel": ["conv2d_3", "conv2d_4"],
    "hidden-softmax": ["activation_5", "activation_6"],
    "sigmoid-output": ["activation_7"],
}


@pytest.mark.parametrize("size", [pytest.param(100, marks=pytest.mark.nightly), 32, 28])
def test_finds_the_flaws_of_the_warm_up(size):
    findings = audit(network("warmup", (size, size, 3)), **CATEGORICAL, num_classes=10)
    # Three 3x3 kernels without padding and a pooling by 6 leave (100 - 6) // 6 = 15, where 10x10 fits; but 4 and 3.
    too_small = {} if size == 100 else {"kernel-over-map": ["conv2d_3", "conv2d_4"]}
    assert by_code(findings) == WARMUP | too_small
    messages = {(one.code, one.layer): one.message for one in findings}
    assert messages["many-filters", "conv2d"] == "512 filters of 27 inputs each (3x3x3), 19 times as many"  # 18.96
    assert messages["fewer-filters", "conv2d_3"] == "8 filters after the 32 of conv2d_2"
    assert messages["large-kernel", "conv2d_3"] == "a 10x10x32 kernel with 8 filters, 25,600 weights"
    if size == 32:  # positions are 4 before to 5 after the middle; those over 3 away never lie on the map of 4
        assert messages["kernel-over-map", "conv2d_3"] == (
            "a 10x10 kernel on a 4x4 map; 49 of its 100 positions ever see a value"
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
def test_audits_the_networks_of_params_yaml(name, expected, project):
    assert by_code(api.audit_by_name(name)) == expected


def test_finds_the_flaws_of_the_exercises_own_training():
    """The exercise assigns the scaled pixels to a name it never trains on, and asks for logits after a softmax."""
    model = build.assignment((28, 28, 1), 10, layers.Rescaling(1.0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    assert by_code(audit(model, loss=loss, num_classes=10)) == {
        "unscaled-input": ["conv2d"],
        "heavy-dense": ["dense"],
        "probabilities-as-logits": ["dense_1"],
    }


def test_reports_a_layer_that_is_used_twice_once():
    left, right = keras.Input((8,)), keras.Input((8,))
    twin = dense(20, "twin", activation="softmax")
    last = head()
    model = keras.Model([left, right], layers.Add()([last(twin(left)), last(twin(right))]))
    assert by_code(audit(model)) == {"hidden-softmax": ["twin"]}


def test_accepts_mixed_precision():
    policy = keras.DTypePolicy("mixed_bfloat16")
    stack = [conv(8, 3, "first", dtype=policy), layers.GlobalAveragePooling2D(dtype=policy), head(dtype="float32")]
    assert audit(chain((12, 12, 3), *stack), **CATEGORICAL) == []


# Application: size of the image, and the number of warnings and notes by rule. None may have an error.
BIASES = "bias-before-norm"
APPLICATIONS = {
    # Glorot's scale before ReLU halves the variance at each layer, and nothing normalizes: the authors trained the
    # deep ones from the weights of a shallow one (arXiv 1409.1556, section 3.1). Right.
    "VGG16": (64, {"drifting-signal": 1}),
    "VGG19": (64, {"drifting-signal": 1}),
    # Keras' ResNets have a bias before each batch norm, kept so that old weights fit. Right, and harmless.
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
    # Two of its 7x7 kernels meet maps of 3x3 because the image here is 96 wide; at 224 there are none. Right.
    "NASNetMobile": (96, {"kernel-over-map": 2}),
    "EfficientNetB0": (160, {}),
    "EfficientNetB1": (160, {}),
    "EfficientNetV2B0": (96, {}),
    "EfficientNetV2B1": (96, {}),
    "EfficientNetV2B2": (96, {}),
    "EfficientNetV2S": (96, {}),
    # Likewise its depthwise 7x7 kernels on the 3x3 maps of a 96 wide image: three blocks.
    "ConvNeXtTiny": (96, {"kernel-over-map": 3}),
}
SOME = ("ResNet50", "MobileNetV3Small")  # the others take minutes


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SOME else pytest.mark.nightly) for name in APPLICATIONS],
)
def test_finds_no_errors_in_applications_and_the_warnings_they_deserve(name):
    size, expected = APPLICATIONS[name]
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    findings = audit(model, **CATEGORICAL, num_classes=10)
    assert [one for one in findings if one.level == "error"] == []
    assert {code: len(layers) for code, layers in by_code(findings).items()} == expected


def test_signals_as_numpy_has_them():
    """Of the first eight images of a batch of ten; the spread is over the images, of each unit on its own."""
    x = np.random.default_rng(0).normal(3, [1.0, 5.0, 0.1], size=(10, 3)).astype("float32")
    signal = graph.read(chain((3,), head()), x).calls[0].inputs[0]
    x = x[:8]
    assert signal.shape == (8, 3)
    assert signal.rms == pytest.approx(np.sqrt(np.mean(x**2)), rel=1e-4)
    assert signal.mean == pytest.approx(x.mean(), rel=1e-4)
    assert signal.spread == pytest.approx(np.sqrt(x.var(axis=0).mean()), rel=1e-4)


def test_the_batch_is_taken_from_all_rows():
    (batch,) = noise.given(chain((2,), head()), np.arange(160).reshape(80, 2))
    assert batch[:, 0].tolist() == [0, 20, 40, 60, 80, 100, 120, 140]


def test_noise_is_what_the_inputs_take():
    def made(model):
        (batch,) = noise.make(model)
        return batch

    pixels = made(chain((20, 16, 3), layers.Rescaling(1 / 255), layers.Flatten(), head()))
    assert pixels.shape == (8, 20, 16, 3)
    assert np.array_equal(pixels, pixels.round())
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert 110 < pixels.mean() < 145
    assert 50 < pixels.std() < 75
    numbers = made(chain((20, 16, 3), layers.Flatten(), head()))
    assert abs(numbers.mean()) < 0.2
    assert 0.8 < numbers.std() < 1.2
    for image in (pixels, numbers):  # neighbours are more alike than what is far apart, along both axes
        for axis in (1, 2):
            near, far = (np.abs(image - np.roll(image, shift, axis)).mean() for shift in (1, image.shape[axis] // 2))
            assert near < 0.8 * far
    assert made(chain((None, None, 3), layers.GlobalAveragePooling2D(), head())).shape == (8, 64, 64, 3)
    assert made(chain((None, 3), layers.GlobalAveragePooling1D(), head())).shape == (8, 16, 3)
    tokens = made(chain((30,), layers.Embedding(7, 4), layers.Flatten(), head(), dtype="int32"))
    assert (tokens.shape, tokens.min(), tokens.max()) == ((8, 30), 0, 6)
    small = layers.Normalization(mean=0.5, variance=1.0)
    assert made(chain((20, 16, 3), small, layers.Flatten(), head())).min() < 0
    large = layers.Normalization(mean=120.0, variance=64.0**2)
    assert made(chain((20, 16, 3), large, layers.Flatten(), head())).min() == 0
    late = [conv(4, 3, "first"), layers.Rescaling(1 / 255), layers.Flatten(), head()]
    assert made(chain((20, 16, 3), *late)).min() < 0


def test_signals_are_those_of_training_but_for_dropout():
    stack = [layers.Dropout(0.9), dense(50, "wide", use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    calls = {type(call.layer).__name__: call for call in graph.read(chain((6,), *stack, head())).calls}
    dropout, norm = calls["Dropout"], calls["BatchNormalization"]
    assert dropout.output.rms == dropout.inputs[0].rms
    assert norm.inputs[0].rms != pytest.approx(1, abs=0.05)
    assert norm.output.rms == pytest.approx(1, abs=0.02)
    assert norm.output.mean == pytest.approx(0, abs=1e-3)


def test_names_have_every_model_around_a_layer():
    model = chain((8,), dense(20, "hidden", activation="softmax"), dense(4, "out", activation="relu"))
    for name in ("inner", "outer"):
        model.name = name
        model = keras.Sequential([keras.Input((8,)), model])
    model = keras.Sequential([keras.Input((8,)), *model.layers, head()])
    assert [one.layer for one in audit(model)] == ["outer/inner/hidden"]


def test_reports_a_dead_layer_once_with_what_it_cuts_off():
    dead = dense(5, "dead", activation="relu", bias_initializer=keras.initializers.Constant(-100))
    model = chain((8,), dense(5, "a", activation="relu"), dense(5, "b", activation="relu"), dead, head())
    # (5 + 1) * 5
    assert found(model, "no-gradient") == [
        ("dead", "no gradient for its 30 weights: all gradients are zero; layers before it that get none either: 2")
    ]


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"x": np.zeros((0, 8))}, "x: expected at least one row, got none"),
        ({"x": np.zeros((4, 8)), "y": np.zeros(5)}, "x and y: expected as many rows in each, got 4 and 5"),
        ({"y": np.array(["cat", "dog"])}, "y: expected numbers, got ['cat']"),
        ({"y": np.zeros(0)}, "y: expected at least one row, got none"),
        ({"loss": "crossentropi"}, "loss: Keras knows no loss 'crossentropi'"),
        ({"num_classes": "3"}, "num_classes: expected a whole number above 1, got '3'"),
        ({"num_classes": -1}, "num_classes: expected a whole number above 1, got -1"),
        ({"loss": 3}, "loss: expected a name of keras.losses, a function or a loss, got 3"),
        ({"loss": keras.layers.Dense}, "loss: expected a name of keras.losses, a function or a loss, got <class"),
        ({"loss": ["mse", "mse"]}, "loss: expected one, for one output, got 2"),
        ({"x": 3.0}, "x: expected arrays of numbers or words, got float 3.0"),
        ({"x": "rows"}, "x: expected arrays of numbers or words, got str 'rows'"),
        ({"x": np.zeros((4, 8)) * 1j}, "x: expected arrays of numbers or words, got a ndarray of complex128"),
        ({"x": tf.sparse.from_dense(np.eye(8))}, "x: expected arrays of numbers or words, got a SparseTensor of float"),
        ({"x": [[1, 2], [3]]}, "x: expected rows of one length"),
        ({"x": np.array([["a"] * 8] * 4)}, "x: image: expected numbers, got"),
        ({"x": np.zeros((4, 9))}, "x: image: expected rows of shape (8), got (9)"),
        ({"x": np.zeros((4, 8, 8))}, "x: image: expected rows of shape (8), got (8, 8)"),
        ({"x": {"other": np.zeros((4, 8))}}, "x: expected a part for each input (image), got other"),
        ({"x": (np.zeros((4, 8)), np.zeros(4))}, "x: expected 1 parts, one per input (image), got 2"),
        ({"x": iter([])}, "x: expected at least one batch, got none from a list_iterator"),
        ({"x": tf.data.Dataset.range(0)}, "x: expected at least one batch, got none from a _"),
        ({"x": iter([np.zeros((4, 8))]), "y": np.zeros(4)}, "y: expected none, since a list_iterator holds the labels"),
        ({"y": 3}, "y: expected at least one row, got none"),
        ({"y": [[1], [2, 3]]}, "y: expected rows of one length"),
        ({"y": np.array(["2026-01-01"], "datetime64[D]")}, "y: expected numbers, got [datetime.date(2026, 1, 1)]"),
        ({"ignore": ["one-unit"]}, "ignore: expected a reason by code, such as {'one-unit': 'a line'}, got ['one-u"),
        ({"ignore": {"one-unit": None}}, "ignore: one-unit: expected a reason"),
    ],
)
def test_says_which_argument_is_wrong(known, message):
    with pytest.raises(UserError) as error:
        audit(keras.Sequential([keras.Input((8,), name="image"), head()]), **known)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("model", [None, "model.keras", layers.Dense(3)])
def test_says_what_is_no_model(model):
    with pytest.raises(UserError, match=f"^model: expected a Keras model, got {type(model).__name__}"):
        audit(model)


def test_builds_a_model_from_x():
    assert audit(keras.Sequential([dense(9, "hidden", activation="relu"), head()]), x=np.eye(8)) == []
    with pytest.raises(UserError, match=r"cannot be built from x .*expected min_ndim=4, found ndim=3"):
        audit(keras.Sequential([conv(8, 3, "first"), layers.Flatten(), head()]), x=np.zeros((4, 28, 28)))


def test_finds_labels_that_are_not_finite_whatever_the_loss():
    assert "missing-labels" in by_code(audit(chain((8,), head()), **SPARSE, y=np.full(4, np.nan)))


def test_takes_x_and_y_as_fit_does():
    x, y = np.random.default_rng(0).normal(size=(16, 8)).astype("float32"), np.full(16, 7)

    class Own(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return x, y

    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    for given in ({"x": x, "y": y}, {"x": x.tolist(), "y": y.tolist()}, {"x": data}, {"x": Own()},
                  {"x": ((x, y) for _ in range(2))}, {"x": iter([(x, y)])}, {"x": data.repeat()},
                  {"x": [x], "y": y}):  # fmt: skip
        findings = audit(chain((8,), head()), **SPARSE, **given)
        assert [one.message for one in findings if one.code == "wrong-outputs"] == ["3 output units for 8 classes"]


def test_prints_nothing_of_keras(capfd):
    audit(chain((8,), head(1)), **CATEGORICAL)
    assert capfd.readouterr().err == ""


def test_a_model_without_weights_is_refused():
    with pytest.raises(UserError, match="found no weights"):
        audit(chain((8,), layers.Flatten()))


def test_a_long_error_becomes_a_short_line():
    assert graph.one_line(ValueError("\x1b[1mno\x1b[0m\n  good")) == "no good"
    assert len(graph.one_line(ValueError("x" * 500))) == 200
    assert graph.one_line(ValueError()) == "ValueError"


def test_networks_are_built_as_params_yaml_sizes_them(project):
    values = params.load(params.FILE)
    for name, section in (("mnist_cnn", "mnist"), ("cifar_cnn", "cifar"), ("one_conv", "mnist"), ("warmup", "cifar")):
        sizes = {key: values[section][key] for key in ("filters", "depth", "kernel_size", "dropout")}
        expected = build.build(name, api.SHAPES[name], 10, layers.Rescaling(1.0), **sizes)
        model = api.build(name)
        assert (model.count_params(), model.output_shape) == (expected.count_params(), (None, 10))
    assert {name: shape[:2] for name, shape in api.SHAPES.items()} == {
        "assignment": (28, 28), "one_conv": (28, 28), "warmup": (100, 100), "mnist_cnn": (28, 28),
        "cifar_cnn": (32, 32),
    }  # fmt: skip


def test_a_network_by_name_starts_with_the_same_weights_each_time(project, monkeypatch):
    starts = []
    monkeypatch.setattr(api, "audit", lambda model, **_: starts.append(model.get_weights()))
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        api.audit_by_name("one_conv")
    assert all(map(np.array_equal, *starts))


def test_metrics_in_the_place_of_loss_weights_are_said_to_be_there():
    model = chain((8,), head())
    model.compile("adam", "categorical_crossentropy", ["accuracy"])
    with pytest.raises(
        UserError, match=r"loss_weights: expected a number for each output, got 'accuracy'\. .* metrics="
    ):
        audit(model)


def test_an_input_is_named_by_its_layer():
    first, second = keras.Input((8,)), keras.Input((4,))
    model = keras.Model([first, second], head()(first))
    ((name, _),) = found(model, "unused-input")
    assert name == model.layers[1].name
    with pytest.raises(UserError, match=f"x: {name}: expected rows of shape"):
        audit(model, x=[np.ones((3, 8)), np.ones((3, 5))])


@pytest.mark.parametrize("name", recognize.ACTIVATIONS)
def test_an_activation_of_ones_own_is_recognized(name):
    theirs = getattr(keras.activations, name)
    assert recognize.activation(theirs) == name
    assert recognize.activation(lambda x: theirs(x)) == name
    assert recognize.activation(lambda x: theirs(x) * 1.1 + 0.1) == "unknown"


def test_a_function_that_is_no_activation_is_unknown():
    assert recognize.activation(lambda x: keras.ops.mean(x)) == "unknown"
    assert recognize.activation(lambda x, y: x) == "unknown"
    assert recognize.activation(lambda x: keras.ops.cast(x > 0, "int32")) == "unknown"
    assert recognize.activation(functools.partial(tf.nn.leaky_relu, alpha=0.2)) == "leaky_relu"
    assert recognize.activation(lambda x: keras.ops.softmax(x, axis=0)) == "unknown"
    assert recognize.activation(lambda x: keras.ops.softmax(x / 2)) == "softmax"
    assert (
        recognize.activation(lambda x: 2 * keras.ops.softmax(x) - 1 / recognize.CLASSES) == "unknown"
    )  # sums to 1 too


@pytest.mark.parametrize("units", [1, 2, 10])
@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("kind", ["Binary", "Categorical", "SparseCategorical"])
def test_a_loss_of_ones_own_is_recognized(kind, from_logits, units):
    theirs = getattr(keras.losses, f"{kind}Crossentropy")(from_logits=from_logits)

    class Own(keras.losses.Loss):
        def call(self, y, p):
            return theirs(y, p)

    if units > 1 or kind == "Binary":
        assert recognize.loss(lambda y, p: theirs(y, p), units) == (theirs.name, from_logits)
        assert recognize.loss(Own(), units) == (theirs.name, from_logits)
        assert recognize.loss(lambda y, p: 2 * theirs(y, p), units) is None


def test_a_loss_of_numbers_is_recognized():
    assert recognize.loss(lambda y, p: (y - p) ** 2, 1) == ("mean_squared_error", False)
    assert recognize.loss(lambda y, p: abs(y - p), 3) == ("mean_absolute_error", False)
    assert recognize.loss(lambda y, p: abs(y - p) ** 1.5, 3) is None
    assert recognize.loss(lambda y: y, 3) is None


def test_a_layer_of_unlucky_units_keeps_its_weights():
    inputs = keras.Input((8,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    unlucky = layers.Dense(2, activation="relu", name="unlucky")
    joined = layers.Concatenate()([hidden, unlucky(hidden)])
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(joined))
    kernel = -np.random.default_rng(0).uniform(0.1, 1, (8, 2)).astype("float32")
    unlucky.kernel.assign(kernel)
    assert found(model, "no-gradient") == []
    assert np.array_equal(unlucky.kernel, kernel)


def test_loads_what_adam_keeps_of_a_large_layer(tmp_path):
    model = chain((800,), layers.Dense(800))
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    assert load(tmp_path / "model.keras").count_params() == 800 * 801


def test_an_activation_without_a_hash_is_unknown():
    class Unhashable:
        def __eq__(self, other):  # with which Python takes the hash away
            return self is other

        def __call__(self, x):
            return keras.ops.relu(x)

    assert audit(mlp(layers.Dense(16, activation=Unhashable()))) == []


def test_ids_are_few_enough_for_every_embedding():
    ids = keras.Input((64,), dtype="int32")
    both = [layers.Embedding(size, 4)(ids) for size in (5, 500)]
    (batch,) = noise.make(keras.Model(ids, layers.Add()(both)))
    assert batch.max() == 4


def test_ids_reach_an_embedding_behind_operations():
    ids = keras.Input((64,))
    (batch,) = noise.make(keras.Model(ids, layers.Embedding(500, 4)(keras.ops.cast(ids, "int32"))))
    assert batch.min() >= 0
    assert batch.max() > 400


def test_outputs_are_in_the_order_of_their_names():
    inputs = keras.Input((8,))
    hidden = layers.Dense(8, activation="relu")(inputs)
    ends = {"b": layers.Dense(1, name="number")(hidden), "a": layers.Dense(3, name="scores")(hidden)}
    losses = {"a": "categorical_crossentropy", "b": "mse"}
    assert found(keras.Model(inputs, ends), "logits-as-probabilities", loss=losses)[0][0] == "scores"


def test_a_step_of_ones_own_may_take_other_labels():
    class Own(keras.Model):
        def train_step(self, data):
            return {}

    inputs = keras.Input((8,))
    model = Own(inputs, [layers.Dense(1)(inputs), layers.Dense(2)(inputs)])
    x = np.random.default_rng(0).normal(size=(8, 8))
    assert audit(model, x=x, y=[np.zeros(8)] * 3) == []
