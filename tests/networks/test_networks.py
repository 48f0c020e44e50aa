import numpy as np
import pytest

from reprocnn.backend import keras
from reprocnn.networks.whitening import patches, set_whitening
from tests.support.networks import build


def describe(layer):
    """Name a layer's kind, its sizes, and what differs from Keras' defaults."""
    config = layer.get_config()
    sizes = ("filters", "units", "kernel_size", "pool_size", "cropping", "rate")
    usual = {
        "strides": config.get("pool_size", (1, 1)),
        "padding": "valid",
        "activation": "linear",
        "use_bias": True,
        "momentum": 0.99,
        "epsilon": 0.001,
        "scale": True,
        "center": True,
    }
    words = [type(layer).__name__, *(str(config[key]) for key in sizes if key in config)]
    words += [f"{key}={config[key]}" for key, value in usual.items() if key in config and config[key] != value]
    start = config.get("kernel_initializer", {"class_name": "GlorotUniform"})
    if start["class_name"] != "GlorotUniform":
        words += [start["class_name"], str(start["config"].get("stddev", ""))]
    return " ".join(words).strip()


def described(network, **sizes):
    """Describe the layers behind the normalization."""
    model = build(network, **sizes)
    names = [layer.name for layer in model.layers]
    return [describe(layer) for layer in model.layers[names.index("normalization") + 1 :]]


def test_assignment_is_that_of_the_exercise():
    assert described("assignment") == [
        "Conv2D 8 (3, 3) activation=relu RandomNormal 0.1",
        "Conv2D 16 (5, 5) activation=relu RandomNormal 0.1",
        "BatchNormalization",
        "MaxPooling2D (2, 2)",
        "Dropout 0.2",
        "Flatten",
        "Dense 100 activation=elu RandomNormal 0.1",
        "BatchNormalization",
        "Dropout 0.2",
        "Dense 10 activation=softmax",
    ]
    # 80 + 3,216 + 64 + (1,936 + 1) * 100 + 400 + 1,010
    assert build("assignment").count_params() == 198_470


def test_one_conv_is_one_convolution_without_batch_norm():
    assert described("one_conv") == [
        "Conv2D 8 (3, 3) activation=relu RandomNormal 0.1",
        "MaxPooling2D (2, 2)",
        "Dropout 0.2",
        "Flatten",
        "Dense 100 activation=elu RandomNormal 0.1",
        "Dropout 0.2",
        "Dense 10 activation=softmax",
    ]
    assert build("one_conv").count_params() == 80 + (13 * 13 * 8 + 1) * 100 + 1_010


def test_warmup_quotes_the_flaws():
    assert described("warmup", shape=(100, 100, 3)) == [
        "Conv2D 512 (3, 3) Zeros",
        "Activation activation=relu",
        "Conv2D 128 (3, 3) Zeros",
        "Activation activation=relu",
        "Conv2D 32 (3, 3) Zeros",
        "Activation activation=relu",
        "MaxPooling2D (6, 6)",
        "Conv2D 8 (10, 10) padding=same RandomNormal 0.05",
        "Activation activation=relu",
        "Conv2D 8 (10, 10) padding=same RandomNormal 0.05",
        "Activation activation=relu",
        "MaxPooling2D (3, 3)",
        "Flatten",
        "Dense 512",
        "Activation activation=softmax",
        "Dropout 0.5",
        "Dense 512",
        "Activation activation=softmax",
        "Dense 10",
        "Activation activation=sigmoid",
        "Dropout 0.5",
    ]
    model = build("warmup", (100, 100, 3))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert convolutions[4].input.shape[1:3] == (5 * 3, 5 * 3)  # not the 8x6 that the exercise says


@pytest.mark.parametrize("network", ["assignment", "one_conv", "warmup"])
def test_kernels_start_with_draws_of_their_own(network):
    kernels = [variable.numpy() for variable in build(network).trainable_variables if variable.path.endswith("kernel")]
    starts = {kernel.ravel()[:8].tobytes() for kernel in kernels if kernel.any()}
    assert len(starts) == (5 if network == "warmup" else len(kernels))


def test_mnist_cnn_layer_by_layer():
    assert described("mnist_cnn", filters=6, dropout=0.3) == [
        "Cropping2D ((2, 2), (2, 2))",
        "Conv2D 6 (5, 5) strides=(2, 2)",
        "ReLU",
        "Conv2D 12 (3, 3) padding=same",
        "MaxPooling2D (2, 2) padding=same",
        "ReLU",
        "Conv2D 12 (3, 3) padding=same",
        "ReLU",
        "Conv2D 24 (3, 3) padding=same use_bias=False",
        "MaxPooling2D (2, 2) padding=same",
        "BatchNormalization momentum=0.9",
        "ReLU",
        "Conv2D 24 (3, 3) padding=same use_bias=False",
        "BatchNormalization momentum=0.9",
        "ReLU",
        "Flatten",
        "Dropout 0.3",
        "Dense 10 activation=softmax",
    ]
    # 28 -> 24 (cut) -> 10 (stride) -> 5 -> 3
    assert [layer.output.shape[1] for layer in build("mnist_cnn").layers if "conv" in layer.name] == [10, 10, 5, 5, 3]
    assert [line for line in described("mnist_cnn", depth=1, kernel_size=5) if "Conv2D" in line] == [
        "Conv2D 8 (5, 5) strides=(2, 2)",
        "Conv2D 16 (5, 5) padding=same",
        "Conv2D 32 (5, 5) padding=same use_bias=False",
    ]
    deep = [line for line in described("mnist_cnn", depth=3) if "Conv2D" in line or "Pooling" in line]
    assert [line[:7] for line in deep] == ["Conv2D ", *["Conv2D ", "MaxPool", "Conv2D ", "Conv2D "] * 2]


def test_cifar_cnn_layer_by_layer():
    norm = "BatchNormalization momentum=0.6 epsilon=1e-12 scale=False"

    def group(filters, depth=2):
        convolution = f"Conv2D {filters} (3, 3) padding=same use_bias=False HeUniform"
        pooled = [convolution, "MaxPooling2D (2, 2)", norm, "Activation activation=gelu"]
        return pooled + (depth - 1) * [convolution, norm, "Activation activation=gelu"]

    def expected(filters, depth):
        return [
            "Conv2D 24 (2, 2) activation=gelu",
            *group(filters, depth),
            *group(4 * filters, depth),
            *group(4 * filters, depth),
            "GlobalMaxPooling2D",
            "Dropout 0.1",
            f"Dense 10 activation=softmax use_bias=False RandomNormal {1 / (4 * filters)}",
        ]

    assert described("cifar_cnn", shape=(32, 32, 3)) == expected(8, 2)
    assert described("cifar_cnn", shape=(32, 32, 3), filters=4, depth=3) == expected(4, 3)
    assert "Conv2D 8 (2, 2) activation=gelu" in described("cifar_cnn", shape=(28, 28, 1))
    assert described("cifar_cnn", shape=(32, 32, 3), kernel_size=5)[1].startswith("Conv2D 8 (5, 5)")
    assert described("cifar_cnn", shape=(32, 32, 3), dropout=0.4)[-2] == "Dropout 0.4"


@pytest.mark.parametrize("network", ["assignment", "one_conv", "mnist_cnn", "cifar_cnn"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_raw_pixels_in_probabilities_out(network, shape):
    x = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    probabilities = np.asarray(build(network, shape)(x))
    assert probabilities.shape == (2, 10)
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_the_first_layer_is_the_normalization_of_the_exercise():
    x = np.arange(256, dtype=np.uint8).repeat(12).reshape(1, 32, 32, 3)
    model = build("cifar_cnn", (32, 32, 3))
    assert isinstance(model.layers[0], keras.layers.InputLayer)
    first = keras.Model(model.inputs, model.layers[1].output)
    assert np.abs(first.predict(x, verbose=0) - (x / 255 - 0.5)).max() < 1e-6


def test_the_same_seed_gives_the_same_weights_and_names():
    def make(seed):
        keras.utils.set_random_seed(seed)
        model = build("cifar_cnn", (32, 32, 3))
        return [variable.path for variable in model.variables], model.get_weights()

    (names, weights), (again, same) = make(1), make(1)
    assert names == again
    assert all(np.array_equal(a, b) for a, b in zip(weights, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(weights, make(2)[1], strict=True))


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_convolutions_start_as_the_identity_on_their_first_channels(kernel_size):
    model = build("cifar_cnn", (32, 32, 3), kernel_size=kernel_size)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][1:]
    assert [layer.kernel.shape[2:] for layer in convolutions[:3]] == [(24, 8), (8, 8), (8, 32)]
    for layer in convolutions:
        channels, filters = layer.kernel.shape[2:]
        same = min(channels, filters)
        x = np.random.default_rng(0).normal(size=(1, 6, 5, channels)).astype(np.float32)
        outputs = np.asarray(layer(x))
        assert outputs[..., :same] == pytest.approx(x[..., :same], abs=1e-6)
        kernel = np.asarray(layer.kernel)[..., same:]
        assert kernel.shape[-1] == filters - same
        # He's uniform distribution, of variance 2 / fan-in.
        assert not kernel.size or kernel.std() == pytest.approx((2 / (kernel_size**2 * channels)) ** 0.5, rel=0.1)


def test_patches_are_rows_of_neighbouring_pixels():
    x = np.arange(2 * 3 * 2).reshape(1, 2, 3, 2)
    assert patches(x, 2).tolist() == [[0, 1, 2, 3, 6, 7, 8, 9], [2, 3, 4, 5, 8, 9, 10, 11]]


def whitened(x, images):
    """Set the whitening of a small model from `x`; give the layer, and what its filters make of `images`."""
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:], dtype="uint8"),
            keras.layers.Rescaling([0.1, 0.02], [-0.5, 1.0], name="normalization"),
            keras.layers.Conv2D(16, 2, name="whitening", bias_initializer="ones"),
        ]
    )
    set_whitening(model, x)
    layer = model.get_layer("whitening")
    return layer, np.asarray(model(images)).reshape(-1, 16) - 1  # the bias stays


def test_whitening_of_normalized_patches():
    """Uncorrelated outputs, in the order of the patches' variances, which are about those of Rescaling's outputs."""
    rng = np.random.default_rng(0)
    noise = rng.integers(-3, 4, (40, 8, 6, 2))
    x = (120 + 4 * rng.integers(-9, 10, (40, 8, 1, 1)) + noise).astype(np.uint8)  # rows alike, columns not
    layer, outputs = whitened(x, x)
    rows = patches((x * np.array([0.1, 0.02]) + [-0.5, 1.0]).astype("float32"), 2).astype(float)
    variances = np.linalg.svd(rows, compute_uv=False) ** 2 / len(rows)  # about the origin; the largest first
    assert variances[-1] < 0.005 < variances[0]
    moments = outputs.T @ outputs / len(outputs)
    expected = np.diag(variances / (variances + 5e-4))
    assert moments[:8, :8] == pytest.approx(expected, abs=2e-3)
    kernel = np.asarray(layer.kernel).reshape(8, 16)
    assert np.array_equal(kernel[:, 8:], -kernel[:, :8])
    norms = np.linalg.norm(kernel[:, :8], axis=0)
    assert norms == pytest.approx((variances + 5e-4) ** -0.5, rel=1e-3)


def test_whitening_sees_the_first_5000_images():
    x = np.random.default_rng(0).integers(0, 256, (5001, 2, 2, 2), dtype=np.uint8)
    others = x.copy()
    others[5000] = 255
    kernel, same = (np.asarray(whitened(images, images[:1])[0].kernel) for images in (x, others))
    assert np.array_equal(kernel, same)
    others[4999] = 255
    assert not np.array_equal(kernel, np.asarray(whitened(others, others[:1])[0].kernel))


def test_whitening_is_frozen_but_for_its_bias():
    model = build("cifar_cnn", (32, 32, 3))
    set_whitening(model, np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
    trained = [variable.path for variable in model.trainable_variables]
    assert "whitening/bias" in trained
    assert "whitening/kernel" not in trained


@pytest.mark.parametrize(("network", "shape"), [("mnist_cnn", (28, 28, 1)), ("cifar_cnn", (32, 32, 3))])
def test_precision_is_that_of_the_convolutions_and_the_pooling(network, shape):
    """Not of the whitening, which has no weights to train, nor of what else is between."""
    model = build(network, shape, precision="mixed_bfloat16")
    low = [layer for layer in model.layers if layer.compute_dtype == "bfloat16"]
    expected = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.MaxPooling2D)]
    assert low == [layer for layer in expected if layer.name != "whitening"]
    assert {variable.dtype for variable in model.weights} == {"float32"}
    exact = build(network, shape)
    exact.set_weights(model.get_weights())
    x = np.random.default_rng(0).integers(0, 256, (4, *shape), dtype=np.uint8)
    difference = np.abs(np.asarray(model(x)) - np.asarray(exact(x))).max()
    assert 0 < difference < 0.02  # bfloat16 has 8 bits


@pytest.mark.parametrize("network", ["mnist_cnn", "cifar_cnn", "assignment", "one_conv", "warmup"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("sizes", [{"kernel_size": 1, "depth": 1}, {"kernel_size": 2}, {"kernel_size": 15, "depth": 3}])
def test_what_the_schema_allows_can_be_built(network, shape, sizes):
    """An impossible network would be found after the first training only."""
    model = build(network, shape, filters=1, **sizes)
    assert model.output_shape == (None, 10)


def test_images_of_several_sizes_are_for_cifar_cnn_alone_as_the_schema_says():
    assert build("cifar_cnn", (None, None, 3)).output_shape == (None, 10)
    for network in ("mnist_cnn", "assignment", "one_conv", "warmup"):
        with pytest.raises(ValueError, match=r"None|undefined|defined"):
            build(network, (None, None, 1))
