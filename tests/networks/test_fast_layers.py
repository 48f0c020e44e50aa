"""The fast layers give the numbers of the Keras layers that they replace, and are in no saved model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from reprocnn import backend
from reprocnn.backend import keras, tf
from reprocnn.networks import fast_layers
from tests.support.networks import build
from tests.support.training import run

AMX = backend.Device("cpu", "A Processor 3000", 2, "mixed_bfloat16", "amx_bf16")
IMAGES = np.random.default_rng(0).normal(size=(6, 5, 4, 3)).astype("float32")


def trained(layer, x):
    """What a layer gives while it trains, and the gradients of its inputs and weights, of outputs weighted unevenly."""
    if not layer.built:
        layer.build(x.shape)
    with tf.GradientTape() as tape:
        inputs = tf.constant(x)
        tape.watch(inputs)
        outputs = layer(inputs, training=True)
        weights = tf.reshape(tf.linspace(-1.0, 2.0, tf.size(outputs)), outputs.shape)
        total = tf.reduce_sum(outputs * weights)
    sources = [inputs, *(variable.value for variable in layer.trainable_variables)]
    return [outputs, *tape.gradient(total, sources), *layer.non_trainable_variables]


def assert_same(found, expected, tolerance=1e-5):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("x", [IMAGES, IMAGES[:, 0, 0]], ids=["images", "features"])
@pytest.mark.parametrize("scale", [True, False])
def test_batch_norm_and_its_gradients_and_moving_statistics(scale, x):
    settings = {"momentum": 0.6, "epsilon": 1e-3, "scale": scale}
    found = trained(fast_layers.FusedBatchNormalization(**settings), x)
    assert_same(found, trained(keras.layers.BatchNormalization(**settings), x))
    axes = tuple(range(x.ndim - 1))
    np.testing.assert_allclose(found[-2], 0.4 * x.mean(axis=axes), rtol=1e-5)
    np.testing.assert_allclose(found[-1], 0.6 + 0.4 * x.var(axis=axes), rtol=1e-5)


def test_batch_norm_that_does_not_train_is_keras_own():
    ours, keras_own = fast_layers.FusedBatchNormalization(), keras.layers.BatchNormalization()
    for layer in (ours, keras_own):
        layer.build(IMAGES.shape)
        layer.moving_mean.assign([1.0, 2.0, 3.0])
    assert_same([ours(IMAGES)], [keras_own(IMAGES)])
    ours.trainable = keras_own.trainable = False
    assert_same([ours(IMAGES, training=True)], [keras_own(IMAGES, training=True)])


def test_gelu_and_its_gradient():
    x = np.linspace(-12, 12, 2401, dtype="float32").reshape(7, 7, 7, 7)
    layers = [keras.layers.Activation(activation) for activation in (fast_layers.gelu, keras.activations.gelu)]
    found, expected = (trained(layer, x) for layer in layers)
    assert_same(found, expected, tolerance=2e-6)
    for far in (-3.0, -5.0, -8.0):  # with all digits, where 1 + erf has none
        assert float(fast_layers.gelu(tf.constant(far))) == pytest.approx(far * norm.cdf(far), rel=1e-4)
    assert float(fast_layers.gelu(tf.constant(1.0))) == pytest.approx(0.8413447)  # the normal distribution's at 1


@pytest.mark.parametrize("size", [(3, 3), (1, 3), (5, 3), (1, 1)])
def test_gradient_of_a_kernel(size):
    x, upstream = IMAGES, np.random.default_rng(1).normal(size=(6, 5, 4, 2)).astype("float32")
    expected = tf.raw_ops.Conv2DBackpropFilter(
        input=x, filter_sizes=[*size, 3, 2], out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
    )
    assert_same([fast_layers.kernel_gradient(tf.constant(x), tf.constant(upstream), size)], [expected])


@pytest.mark.parametrize("width", [8, 9])
def test_convolution_and_its_gradients(width):
    x = np.random.default_rng(0).normal(size=(2, 3, width, 4)).astype("float32")
    layers = [kind(5, 3, padding="same") for kind in (fast_layers.Convolution, keras.layers.Conv2D)]
    for layer in layers:
        layer.build(x.shape)
    layers[0].set_weights(layers[1].get_weights())
    assert_same(*(trained(layer, x) for layer in layers))


@pytest.mark.parametrize("network", ["mnist_cnn", "cifar_cnn", "assignment", "warmup"])
def test_a_copy_has_the_names_weights_and_predictions(network):
    model = build(network, (100, 100, 3) if network == "warmup" else (32, 32, 3))
    faster = fast_layers.use_fast_layers(model, AMX)
    assert faster.name == model.name
    assert [variable.path for variable in faster.weights] == [variable.path for variable in model.weights]
    assert_same(faster.get_weights(), model.get_weights(), tolerance=0)
    x = np.random.default_rng(0).integers(0, 256, size=(2, *model.input_shape[1:])).astype("uint8")
    assert_same([faster.predict(x, verbose=0)], [model.predict(x, verbose=0)])


@pytest.mark.parametrize(
    ("instructions", "precision", "products"),
    [("amx_bf16", "mixed_bfloat16", 6), ("amx_bf16", "float32", 0), ("avx512_bf16", "mixed_bfloat16", 0)],
)
def test_products_are_for_bfloat16_on_amx(instructions, precision, products):
    model = build("cifar_cnn", (32, 32, 3), precision=precision)
    faster = fast_layers.use_fast_layers(model, replace(AMX, instructions=instructions))
    kinds = [type(layer) for layer in faster.layers]
    assert kinds.count(fast_layers.Convolution) == products
    assert kinds.count(fast_layers.FusedBatchNormalization) == 6
    gelus = [layer.activation is fast_layers.gelu for layer in faster.layers if hasattr(layer, "activation")]
    assert sum(gelus) == 7


@pytest.mark.parametrize(
    "settings",
    [{"padding": "valid"}, {"strides": 2}, {"dilation_rate": 2}, {"kernel_size": 2}, {"kernel_size": (3, 4)}, {}],
)
def test_products_are_for_odd_kernels_that_move_by_one_and_keep_the_size(settings):
    usual = {"kernel_size": 3, "padding": "same", "dtype": "mixed_bfloat16"}
    model = keras.Sequential([keras.Input((8, 6, 2)), keras.layers.Conv2D(3, **usual | settings)])
    [layer] = fast_layers.use_fast_layers(model, AMX).layers
    assert (type(layer) is fast_layers.Convolution) == (settings == {})


def test_a_training_uses_them_and_saves_a_model_of_keras_alone(prepared, monkeypatch):
    fitted = []
    fit = keras.Model.fit

    def note_and_fit(model, *arguments, **more):
        fitted.append(model)
        return fit(model, *arguments, **more)

    monkeypatch.setattr(keras.Model, "fit", note_and_fit)
    prepared(8, (32, 32, 3))
    run(network="cifar_cnn", batch_size=4)
    (model,) = fitted
    assert fast_layers.FusedBatchNormalization in {type(layer) for layer in model.layers}
    saved = Path("models/mnist/model.json").read_text()
    assert {layer["module"].partition(".")[0] for layer in json.loads(saved)["config"]["layers"]} == {"keras"}
    assert "fast_layers" not in saved
    keras.models.model_from_json(saved).load_weights("models/mnist/model.weights.h5")


@pytest.mark.parametrize("epsilon", [1e-12, 0.5])
def test_batch_norm_adds_its_own_epsilon(epsilon):
    """Of the values 0 and 0.002 the deviation is 0.001, and its square a thousandth of the usual epsilon."""
    x = np.zeros((1, 1, 2, 1), "float32")
    x[0, 0, 1] = 0.002
    layer = fast_layers.FusedBatchNormalization(epsilon=epsilon)
    found = np.asarray(layer(x, training=True)).ravel()
    assert found == pytest.approx(np.array([-0.001, 0.001]) / (1e-6 + epsilon) ** 0.5, rel=1e-4)
