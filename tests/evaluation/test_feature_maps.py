"""What is shown of images, filters and feature maps, by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reprocnn.backend import Device, keras, layers
from reprocnn.core.params import Augmentation, Recipe
from reprocnn.evaluation import feature_maps, measure
from reprocnn.images import arrays
from reprocnn.images.augment import augment, flips
from reprocnn.images.batches import batches
from reprocnn.training import loop

ALL = {"shift": 2, "rotation": 15.0, "zoom": 0.1, "shear": 0.1, "elastic": 0.5, "fill_mode": "constant", "flip": True}
MOVES = ALL | {"rotation": 0.0, "zoom": 0.0, "shear": 0.0, "elastic": 0.0, "fill_mode": "reflect"}


@pytest.mark.parametrize("values", [ALL, MOVES, MOVES | {"shift": 0}])
def test_the_training_feeds_varied_images(prepared, monkeypatch, values):
    """In its first epoch what `augment` gives, from the same generator."""
    prepared(37, (9, 8, 1))
    fed = []

    def feed(data: Any, size: int) -> Any:
        fed.append(data)
        return batches(data, size)

    monkeypatch.setattr(loop, "batches", feed)
    recipe = Recipe(
        val_fraction=0.1, split_seed=0, normalization="center", network="one_conv", filters=4, depth=1, kernel_size=3,
        dropout=0.0, train_on="train", epochs=1, batch_size=12, optimizer="adam", lr_factor=1.0, warmup=0.0,
        lr_end=0.0, weight_decay=0.0, label_smoothing=0.0, first_size=1.0,
        **values,
    )  # fmt: skip
    loop.train("mnist", recipe, 0.001, 5, Device("cpu", "a test", 1))
    x, y = arrays.load(Path("data/prepared/mnist/train"))
    rng = np.random.Generator(np.random.PCG64([5, 0]))
    chosen = rng.permutation(len(x))[: len(fed[0][0])]
    expected = augment(x[chosen], rng, Augmentation(**values), flips(len(x), 5, 0)[chosen])
    assert len(chosen) == 36
    assert (fed[0][0] == expected).all()
    assert (fed[0][1] == y[chosen]).all()


def test_variations_differ_and_repeat():
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    how = Augmentation(**ALL)
    varied = measure.vary(x, how, 1)
    assert varied.shape == (measure.VARIATIONS, *x.shape)
    assert (varied == measure.vary(x, how, 1)).all()
    assert (varied[0] != varied[1]).any()
    assert (varied != measure.vary(x, how, 2)).any()


def network() -> keras.Model:
    keras.utils.clear_session()
    inputs = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 1, use_bias=False, name="first")(inputs)
    x = layers.ReLU(name="relu")(x)
    x = layers.Conv2D(2, 1, use_bias=False, name="second")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    model = keras.Model(inputs, layers.Flatten()(x))
    model.get_layer("first").set_weights([np.array([[[[1.0, -3.0]]]])])
    model.get_layer("second").set_weights([np.array([[[[0.0, 2.0], [0.0, 0.0]]]])])
    return model


def test_a_block_ends_before_the_next_convolution():
    assert [layer.name for layer in feature_maps.blocks(network())] == ["relu", "pool"]
    assert feature_maps.blocks(keras.Sequential([keras.Input((4,)), layers.Dense(2)])) == []


def test_filters_have_zero_in_the_middle():
    assert feature_maps.filters(network())[:, 0, 0, 0].tolist() == [255, 0]  # 1 and -3, each its own largest
    kernels = np.array([-1.0, 0.0, 0.5, 1.0]).reshape(2, 2, 1, 1)
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(1, 2, use_bias=False)])
    model.layers[0].set_weights([kernels])
    assert feature_maps.filters(model)[0, :, :, 0].tolist() == [[0, 128], [191, 255]]
    assert len(feature_maps.filters(keras.Sequential([keras.Input((4,)), layers.Dense(2)]))) == 0


def test_filters_in_colour_or_their_first_channel():
    kernels = np.zeros((1, 2, 3, 66), np.float32)
    kernels[0, 1, :, 1] = [1, -2, 4]
    kernels[0, 1, :, 2] = kernels[0, 1, :, 65] = [0.1, -0.2, 0.4]
    colour = keras.Sequential([keras.Input((4, 4, 3)), layers.Conv2D(66, (1, 2), use_bias=False)])
    colour.layers[0].set_weights([kernels])
    shown = feature_maps.filters(colour)
    assert shown.shape == (64, 1, 2, 3)
    assert shown[0].tolist() == [[[128] * 3, [128] * 3]]
    assert shown[1].tolist() == shown[2].tolist() == [[[128] * 3, [159, 64, 255]]]
    two = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(1, (1, 2), use_bias=False)])
    two.layers[0].set_weights([kernels[:, :, :2, 1:2]])
    assert feature_maps.filters(two).tolist() == [[[[128], [255]]]]


def test_feature_maps_by_hand():
    x = np.zeros((2, 4, 4, 1), np.float32)
    x[0, 0, 0] = 10
    x[1, 3, 3] = 5
    first, other, second = feature_maps.feature_maps(network(), x)
    # Channel 0 passes the pixels on; channel 1, times -3, is cut off by the ReLU.
    assert (first["shape"], first["channel"]) == ([4, 4, 2], 0)
    assert first["maps"][0, 0].tolist() == [255, 0, 0, 0]
    assert first["maps"][1, 3].tolist() == [0, 0, 0, 128]
    assert other["maps"].max() == 0
    # The second doubles channel 0 into its channel 1 and is pooled to 2 x 2.
    assert (second["shape"], second["channel"]) == ([2, 2, 2], 1)
    assert second["maps"].tolist() == [[[255, 0], [0, 0]], [[0, 0], [0, 128]]]


def test_the_channels_that_vary_most_are_shown():
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((2, 3, 4)), layers.Conv2D(4, 1, use_bias=False), layers.Flatten()])
    model.layers[0].set_weights([np.eye(4, dtype=np.float32)[None, None]])
    x = np.zeros((2, 2, 3, 4), np.float32)
    x[..., 0] = 100  # large, but the same everywhere
    x[0, 0, 0, 1], x[1, 1, 2, 2], x[:, 0, 2, 3] = 1, -3, 2
    [first, second] = feature_maps.feature_maps(model, x)
    assert (first["channel"], second["channel"]) == (2, 3)
    assert first["maps"].tolist() == [[[255] * 3] * 2, [[255] * 3, [255, 255, 0]]]
    assert second["maps"].tolist() == [[[0, 0, 255], [0] * 3]] * 2
    x[...] = 0
    assert [one["channel"] for one in feature_maps.feature_maps(model, x)] == [0, 1]
    assert feature_maps.feature_maps(keras.Sequential([keras.Input((4,)), layers.Dense(2)]), x) == []
