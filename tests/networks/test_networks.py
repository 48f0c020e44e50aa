import numpy as np
import pytest

from reprocnn.backend import keras
from reprocnn.networks import build as networks
from reprocnn.networks.whitening import patches, set_whitening, whitening_kernel

SIZES = {"filters": 8, "depth": 2, "kernel_size": 3, "dropout": 0.1}


def build(network, shape=(28, 28, 1), **sizes):
    scale, offset = [1 / 255] * shape[-1], [-0.5] * shape[-1]
    normalization = keras.layers.Rescaling(scale, offset, name="normalization")
    return networks.build(network, shape, 10, normalization, **SIZES | sizes)


def test_assignment_has_the_parameters_of_the_exercise():
    # 80 + 3,216 + 64 + (1,936 + 1) * 100 + 400 + 1,010
    assert build("assignment").count_params() == 198_470
    kinds = [type(layer).__name__ for layer in build("assignment").layers[1:]]
    assert kinds == [
        "Conv2D", "Conv2D", "BatchNormalization", "MaxPooling2D", "Dropout", "Flatten", "Dense", "BatchNormalization",
        "Dropout", "Dense",
    ]  # fmt: skip


def test_one_conv_is_one_convolution_without_batch_norm():
    model = build("one_conv")
    assert model.count_params() == 80 + (13 * 13 * 8 + 1) * 100 + 1_010
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Conv2D") == 1
    assert "BatchNormalization" not in kinds


def test_warmup_quotes_the_flaws():
    model = build("warmup", (100, 100, 3))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [512, 128, 32, 8, 8]
    assert all(not np.any(layer.kernel) for layer in convolutions[:3])
    assert convolutions[4].input.shape[1:3] == (5 * 3, 5 * 3)  # not the 8x6 that the exercise says
    assert isinstance(model.layers[-1], keras.layers.Dropout)


def test_mnist_cnn_parameters_by_hand():
    # kernels, a bias or batch norm with 4 values a channel, 28 -> 24 (cut) -> 10 (stride) -> 5 -> 3
    kernels = 25 * 1 * 8 + 9 * (8 * 16 + 16 * 16 + 16 * 32 + 32 * 32)
    assert build("mnist_cnn").count_params() == kernels + 8 + 2 * 16 + 4 * 2 * 32 + (3 * 3 * 32 + 1) * 10
    assert [layer.output.shape[1] for layer in build("mnist_cnn").layers if "conv" in layer.name] == [10, 10, 5, 5, 3]


@pytest.mark.parametrize("network", ["mnist_cnn", "cifar_cnn"])
def test_depth_counts_the_convolutions_of_a_group(network):
    count = {
        depth: sum(isinstance(layer, keras.layers.Conv2D) for layer in build(network, depth=depth).layers)
        for depth in (1, 2, 3)
    }
    assert count == ({1: 3, 2: 5, 3: 7} if network == "mnist_cnn" else {1: 4, 2: 7, 3: 10})


def test_cifar_cnn_parameters_by_hand():
    groups = 9 * (24 * 8 + 8 * 8 + 8 * 32 + 32 * 32 + 32 * 32 + 32 * 32)
    norms = 3 * (8 + 8 + 32 * 4)  # no scale
    assert build("cifar_cnn", (32, 32, 3)).count_params() == (4 * 3 * 24 + 24) + groups + norms + 32 * 10


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


def test_convolutions_start_as_the_identity_on_their_first_channels():
    model = build("cifar_cnn", (32, 32, 3))
    convolution = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][3]  # 8 to 32 channels
    x = np.random.default_rng(0).normal(size=(1, 6, 6, 8)).astype(np.float32)
    assert np.asarray(convolution(x))[..., :8] == pytest.approx(x, abs=1e-6)
    assert np.abs(np.asarray(convolution(x))[..., 8:]).max() > 0.1


def test_patches_are_rows_of_neighbouring_pixels():
    x = np.arange(2 * 3 * 2).reshape(1, 2, 3, 2)
    assert patches(x, 2).tolist() == [[0, 1, 2, 3, 6, 7, 8, 9], [2, 3, 4, 5, 8, 9, 10, 11]]


def test_whitening_gives_outputs_of_unit_covariance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 8, 8, 3)).cumsum(axis=2).astype(np.float32)  # neighbours alike, as in images
    kernel = whitening_kernel(x, 2)
    assert kernel.shape == (2, 2, 3, 24)
    outputs = patches(x, 2) @ kernel.reshape(12, 24)
    covariance = outputs.T @ outputs / len(outputs)
    assert covariance[:12, :12] == pytest.approx(np.eye(12), abs=0.01)
    assert np.array_equal(kernel[..., 12:], -kernel[..., :12])


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
