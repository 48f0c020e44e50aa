"""What a training starts from."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from reprocnn.backend import Device, keras
from reprocnn.core.errors import UserError
from reprocnn.images.arrays import Split, load
from reprocnn.networks.fast_layers import FusedBatchNormalization
from reprocnn.networks.whitening import whitening_kernel
from reprocnn.training import setup
from reprocnn.training.muon import Muon
from tests.support.training import ONE, recipe

MNIST = Path("data/prepared/mnist")


def weights(seed: int) -> list[np.ndarray]:
    return setup.prepare("mnist", recipe(), 0.01, seed, ONE).model.get_weights()


def test_the_seed_draws_the_weights(prepared):
    prepared(8, (28, 28, 1))
    first, again, other = weights(1), weights(1), weights(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    differ = [not np.array_equal(a, b) for a, b in zip(first, other, strict=True) if a.ndim > 1]
    assert differ == [True] * 4


def test_muon_whitening_and_what_the_recipe_sets(prepared):
    prepared(11, (16, 12, 3))
    images = np.load(MNIST / "train/x.npy")
    images[..., 0] //= 8
    np.save(MNIST / "train/x.npy", images)
    changes = {"network": "cifar_cnn", "optimizer": "muon", "weight_decay": 0.25, "label_smoothing": 0.2, "epochs": 3}
    training = setup.prepare("mnist", recipe(**changes, batch_size=3, warmup=0.5, lr_end=0.4), 0.6, 0, ONE)
    assert training.steps == 3
    # Of 9 steps, round(4.5) = 4 rise.
    rates = [float(training.schedule(step)) for step in (0, 1, 4, 9)]
    assert rates == pytest.approx([0.6 / 5, 0.6 * 2 / 5, 0.6, 0.24])
    model = training.model
    assert isinstance(model.optimizer, Muon)
    assert model.optimizer.decay == 0.25
    assert float(model.optimizer.learning_rate) == pytest.approx(0.12)
    truth, predicted = np.eye(10, dtype="float32")[[3]], np.full((1, 10), 0.05, "float32")
    predicted[0, 3] = 0.55
    expected = -(0.8 + 0.02) * np.log(0.55) - 9 * 0.02 * np.log(0.05)
    assert float(model.loss(truth, predicted)) == pytest.approx(expected, rel=1e-5)
    kernel = whitening_kernel((images / 255).astype("float32"), 2)
    assert np.abs(np.asarray(model.get_layer("whitening").kernel)) == pytest.approx(np.abs(kernel), rel=0.01, abs=0.05)
    assert not model.get_layer("whitening").kernel.trainable
    assert model.jit_compile is False
    assert sum(isinstance(layer, FusedBatchNormalization) for layer in model.layers) == 3


def test_a_gpu_trains_keras_own_layers(prepared):
    prepared(8, (28, 28, 1))
    model = setup.prepare("mnist", recipe(), 0.01, 0, Device("gpu", "a test", 1)).model
    assert not any(isinstance(layer, FusedBatchNormalization) for layer in model.layers)
    assert model.jit_compile is False


@pytest.mark.parametrize(("precision", "expected"), [("mixed_bfloat16", "bfloat16"), ("float32", "float32")])
def test_the_device_says_the_precision(prepared, precision, expected):
    prepared(8, (28, 28, 1))
    model = setup.prepare("mnist", recipe(), 0.01, 0, Device("cpu", "a test", 2, precision)).model
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {layer.compute_dtype for layer in convolutions} == {expected}


@pytest.mark.parametrize(("decay", "expected"), [(0.0, None), (0.25, 0.25)])
def test_a_decay_of_zero_is_not_computed(prepared, decay, expected):
    prepared(8, (28, 28, 1))
    assert setup.prepare("mnist", recipe(weight_decay=decay), 0.01, 0, ONE).model.optimizer.weight_decay == expected


def test_a_network_has_the_recipes_sizes_and_the_datas_shape(prepared):
    prepared(8, (24, 30, 2))
    (MNIST / "normalization.json").write_text('{"scale": [0.5, 0.25], "offset": [-1.0, 3.0]}')
    data = Split(np.zeros((2, 24, 30, 2), np.uint8), np.zeros((2, 7), np.float32))
    changed = recipe(network="cifar_cnn", filters=3, depth=4, kernel_size=5, dropout=0.3)
    model = setup.build_network("mnist", changed, data, "mixed_bfloat16", resized=False)
    assert model.name == "cifar_cnn"
    assert model.input_shape == (None, 24, 30, 2)
    assert model.output_shape == (None, 7)
    normalized = model.get_layer("normalization")(np.full((1, 1, 1, 2), 4, np.uint8))
    assert np.asarray(normalized).ravel().tolist() == [1, 4]
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][1:]
    assert [layer.filters for layer in convolutions] == 4 * [3] + 8 * [12]
    assert {layer.kernel_size for layer in convolutions} == {(5, 5)}
    assert {layer.compute_dtype for layer in convolutions} == {"bfloat16"}
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.3]
    assert setup.build_network("mnist", changed, data, "float32", resized=True).input_shape == (None, None, None, 2)


def test_each_data_set_has_its_own_images_and_normalization(prepared):
    prepared(8, (28, 28, 1))
    other = shutil.copytree(MNIST, MNIST.with_name("cifar"))
    np.save(other / "train/x.npy", np.full((8, 28, 28, 1), 4, np.uint8))
    (other / "normalization.json").write_text('{"scale": [0.5], "offset": [3.0]}')
    training = setup.prepare("cifar", recipe(), 0.01, 0, ONE)
    assert (training.data.x == 4).all()
    assert (np.asarray(training.model.get_layer("normalization")(training.data.x)) == 5).all()


def test_splits_are_kept_apart_or_joined(prepared):
    prepared(5, (4, 3, 2))
    train, val = load(MNIST / "train"), load(MNIST / "val")
    data, apart = setup.load_splits(MNIST, "train")
    assert apart
    for found, expected in ((data, train), (apart, val)):
        assert np.array_equal(found.x, expected.x)
        assert np.array_equal(found.y, expected.y)
    joined, nothing = setup.load_splits(MNIST, "train+val")
    assert nothing is None
    assert np.array_equal(joined.x, [*train.x, *val.x])
    assert np.array_equal(joined.y, [*train.y, *val.y])


def test_splits_of_different_shapes_or_classes(prepared):
    prepared(8, (28, 28, 1), (32, 32, 1))
    with pytest.raises(UserError, match=r"found \(28, 28, 1\) and \(10,\) in train, \(32, 32, 1\) and \(10,\) in val"):
        setup.load_splits(MNIST, "train")
    np.save(MNIST / "val/x.npy", np.zeros((8, 28, 28, 1), np.uint8))
    np.save(MNIST / "val/y.npy", np.zeros((8, 9), np.float32))
    with pytest.raises(UserError, match=r"found \(28, 28, 1\) and \(10,\) in train, \(28, 28, 1\) and \(9,\) in val"):
        setup.load_splits(MNIST, "train+val")


def test_steps_are_the_full_batches():
    assert setup.steps_per_epoch("mnist", 4, 11) == 2
    assert setup.steps_per_epoch("mnist", 4, 4) == 1
    with pytest.raises(UserError) as error:
        setup.steps_per_epoch("cifar", 4, 3)
    assert str(error.value) == (
        "params.yaml: cifar.batch_size: found 4, expected at most the 3 images of the training split; lower it"
    )


def test_variables_are_made_and_zero():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    setup.make_variables(model)
    assert len(model.optimizer.variables) == 2 + 2 * 2  # iterations and learning rate, two for each weight
    metrics = model.metrics_variables
    assert len(metrics) == 4
    assert not any(np.any(variable) for variable in metrics)


def test_muon_has_airbenchs_momenta_and_rates(prepared):
    prepared(8, (28, 28, 1))
    muon = setup.prepare("mnist", recipe(optimizer="muon"), 0.01, 0, ONE).model.optimizer
    assert (muon.momentum, muon.sgd_momentum, muon.bias_rate, muon.head_rate) == (0.6, 0.85, 440.0, 0.085)
