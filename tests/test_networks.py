from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from stages.lib import networks
from stages.lib.augment import Variation, augment, flips, move, shrink, warp
from stages.lib.muon import Muon, orthogonalize
from stages.lib.schedule import image_size
from stages.lib.whitening import patches, set_whitening, whitening_kernel

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


def test_newton_schulz_moves_singular_values_to_about_one_and_keeps_the_vectors():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 2, 6)).astype(np.float32)
    before, after = (np.reshape(np.asarray(k), (18, 6)) for k in (kernel, orthogonalize(kernel, steps=5)))
    left, values, right = np.linalg.svd(before, full_matrices=False)
    rotated = left.T @ after @ right.T  # diagonal if the singular vectors are the same
    assert np.abs(rotated - np.diag(np.diag(rotated))).max() < 1e-3
    assert values.max() / values.min() > 1.5
    assert (np.diag(rotated) > 0.6).all()
    assert (np.diag(rotated) < 1.3).all()


def test_newton_schulz_of_one_singular_value_by_hand():
    # One filter is one singular value, normalized to 1: x -> 3.4445 x - 4.7750 x^3 + 2.0315 x^5, three times.
    x = 1.0
    for _ in range(3):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    kernel = np.array([3.0, 4.0], np.float32).reshape(2, 1, 1, 1)
    assert np.asarray(orthogonalize(kernel)).ravel() == pytest.approx(np.array([0.6, 0.8]) * x, rel=1e-4)


def test_muon_takes_nesterov_steps_on_what_is_no_convolution():
    weight = keras.Variable(np.full((2, 2), 1.0, np.float32))
    optimizer = Muon(learning_rate=0.5, sgd_momentum=0.9, head_rate=0.2, weight_decay=0.1)
    optimizer.build([weight])
    gradient = np.full((2, 2), 2.0, np.float32)
    expected, momentum = 1.0, 0.0
    for _ in range(3):
        momentum = 0.9 * momentum + 2
        expected = expected * (1 - 0.1 * 0.5) - 0.5 * 0.2 * (2 + 0.9 * momentum)
        optimizer.apply([gradient], [weight])
        assert np.asarray(weight) == pytest.approx(np.full((2, 2), expected), abs=1e-6)


def test_muon_renormalizes_kernels_and_steps_by_the_rate():
    kernel = keras.Variable(np.full((1, 1, 1, 1), 5.0, np.float32))
    optimizer = Muon(learning_rate=0.1)
    optimizer.build([kernel])
    optimizer.apply([np.full((1, 1, 1, 1), 7.0, np.float32)], [kernel])
    step = np.asarray(orthogonalize(np.ones((1, 1, 1, 1), np.float32))).item()
    assert np.asarray(kernel).item() == pytest.approx(1 - 0.1 * step, rel=1e-4)


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


@pytest.mark.parametrize("fill_mode", ["constant", "reflect"])
def test_move_moves_and_mirrors_each_image_by_itself(fill_mode):
    x = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 1), dtype=np.uint8)
    flipped = np.arange(50) % 2 == 1
    moved = move(x, np.random.default_rng(1), shift=2, fill_mode=fill_mode, flipped=flipped)
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=fill_mode)
    offsets = set()
    for index in range(50):
        image = moved[index, :, ::-1] if flipped[index] else moved[index]
        places = [
            (r, c) for r in range(5) for c in range(5) if np.array_equal(padded[index, r : r + 6, c : c + 5], image)
        ]
        assert places
        offsets.add(places[0])
    assert len(offsets) > 10
    assert np.array_equal(
        move(x, np.random.default_rng(1), shift=0, fill_mode=fill_mode, flipped=np.zeros(50, bool)), x
    )


def square() -> np.ndarray:
    """20 equal images of 15x15, a bright square of 5x5 in the centre."""
    x = np.zeros((20, 15, 15, 1), np.uint8)
    x[:, 5:10, 5:10] = 200
    return x


def warped(x: np.ndarray, **changes: Any) -> np.ndarray:
    none: dict[str, Any] = {"shift": 0, "rotation": 0, "zoom": 0, "shear": 0, "elastic": 0, "fill_mode": "constant"}
    return warp(x, np.random.default_rng(0), **none | changes).astype(float)


def test_warp_turns_around_the_centre():
    assert np.array_equal(warped(square()), square())
    turned = warped(square(), rotation=45)
    assert turned[:, 7, 7, 0].tolist() == [200] * 20  # the centre stays
    assert turned.sum(axis=(1, 2, 3)) == pytest.approx(200 * 25, rel=0.03)  # so does the area
    rows = np.arange(15)
    assert (turned.sum(axis=(2, 3)) @ rows / turned.sum(axis=(1, 2, 3))) == pytest.approx(7, abs=0.05)
    assert len({image.tobytes() for image in turned}) > 15  # each by its own angle


def test_warp_stretches_each_axis_by_at_most_its_share():
    stretched = warped(square(), zoom=0.4)
    heights, widths = stretched[:, :, 7, 0].sum(axis=1) / 200, stretched[:, 7, :, 0].sum(axis=1) / 200
    for sizes in (heights, widths):
        assert sizes.min() > 5 / 1.4 - 0.3
        assert sizes.max() < 5 * 1.4 + 0.3
        assert sizes.max() - sizes.min() > 1.5
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.8


def test_warp_slants_rows_and_keeps_their_sums():
    slanted = warped(square(), shear=0.5)
    assert slanted.sum(axis=(2, 3))[:, 5:10] == pytest.approx(1000, abs=3)
    centres = slanted[..., 0] @ np.arange(15) / np.maximum(slanted.sum(axis=(2, 3)), 1)
    per_row = centres[:, 9] - centres[:, 8]
    assert np.abs(per_row).max() <= 0.5 + 0.02
    assert np.abs(per_row).max() > 0.3


def test_warp_moves_by_fractions_of_a_pixel():
    moved = warped(square(), shift=1.5)
    assert moved.sum(axis=(1, 2, 3)) == pytest.approx(200 * 25, rel=0.01)
    for axes in ((2, 3), (1, 3)):
        offsets = moved.sum(axis=axes) @ np.arange(15) / moved.sum(axis=(1, 2, 3)) - 7
        assert np.abs(offsets).max() <= 1.51
        assert np.abs(offsets).max() > 1
        assert np.abs(offsets - np.rint(offsets)).max() > 0.2


def test_warp_bends_smoothly():
    # 10 times the column as the brightness: what a pixel gained is 10 times the move of the place it came from.
    x = np.broadcast_to((10 * np.arange(25)).astype(np.uint8)[:, None], (400, 25, 25, 1))
    moves = warped(x, elastic=0.5)[:, 3:-3, 3:-3, 0] / 10 - np.arange(3, 22)
    assert moves[:, 4::5, 4::5].std() == pytest.approx(0.5, rel=0.1)  # pixel 7, 12, 17: where the points are
    assert np.abs(np.diff(moves, axis=2)).mean() < 0.2


@pytest.mark.parametrize(("fill_mode", "edge"), [("constant", 0), ("reflect", 200)])
def test_warp_fills_the_edge(fill_mode, edge):
    bright = warped(np.full((20, 16, 16, 3), 200, np.uint8), shift=3, fill_mode=fill_mode)
    assert bright.shape == (20, 16, 16, 3)
    assert bright.min() == edge
    assert bright[:, 4:12, 4:12].min() == 200


NONE = Variation(shift=0, rotation=0, zoom=0, shear=0, elastic=0, fill_mode="constant", flip=False)


@pytest.mark.parametrize(
    ("change", "rows", "columns"),
    [
        ({}, 5, 5),
        ({"shift": 2}, 5, 5),
        ({"rotation": 30}, 7, 7),
        ({"zoom": 1}, 10, 10),
        ({"shear": 0.9}, 5, 9),
        ({"elastic": 1}, 8, 8),
    ],
)
def test_augment_does_what_the_params_say(change, rows, columns):
    """Each value on its own changes images, and no more than it may: the square stays so large."""
    varied = augment(square(), np.random.default_rng(0), replace(NONE, **change), np.zeros(20, bool))
    assert np.array_equal(varied, square()) == (not change)
    for image in varied[..., 0]:
        high, wide = (np.ptp(np.flatnonzero(image.max(axis=axis) > 100)) + 1 for axis in (1, 0))
        assert 2 <= high <= rows
        assert 2 <= wide <= columns


def test_threads_change_no_bits():
    x = np.random.default_rng(0).integers(0, 256, (1200, 12, 12, 1), dtype=np.uint8)
    how = Variation(shift=2, rotation=15, zoom=0.2, shear=0.2, elastic=1, fill_mode="constant", flip=True)
    mirrored = np.arange(1200) % 2 == 0
    one, three = (augment(x, np.random.default_rng(0), how, mirrored, threads) for threads in (1, 3))
    assert np.array_equal(one, three)
    assert np.array_equal(shrink(x, (8, 8), 1), shrink(x, (8, 8), 3))


def test_augment_mirrors_if_the_params_say_so():
    x = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 1), dtype=np.uint8)
    mirrored = np.array([True, False])
    assert np.array_equal(augment(x, np.random.default_rng(0), NONE, mirrored), x)
    both = augment(x, np.random.default_rng(0), replace(NONE, flip=True), mirrored)
    assert np.array_equal(both, [x[0, :, ::-1], x[1]])


def test_shrink_takes_means():
    x = np.zeros((600, 8, 8, 3), np.uint8)
    x[:, :, 4:] = 200
    x[7] = 90
    small = shrink(x, (4, 4))
    assert small.shape == (600, 4, 4, 3)
    assert (small[7] == 90).all()
    # Weights of the columns, half the size: 1, 3, 3, 1 in eighths, at the edge 3, 3, 1 in sevenths.
    assert small[599, 1, :, 0].tolist() == [0, 25, 175, 200]
    assert shrink(x, (8, 8)) is x


def test_sizes_grow_until_the_last_quarter():
    assert [image_size((32, 32), 0.5, epoch, 8)[0] for epoch in range(8)] == [16, 20, 20, 24, 28, 28, 32, 32]
    assert [image_size((28, 20), 1.0, epoch, 2) for epoch in range(2)] == [(28, 20), (28, 20)]
    assert image_size((32, 32), 0.5, 0, 1) == (16, 16)
    assert [image_size((32, 32), 0.5, epoch, 3)[0] for epoch in range(3)] == [16, 24, 32]


def test_flips_alternate():
    first, second, third = (flips(1000, seed=5, epoch=epoch) for epoch in range(3))
    assert np.array_equal(first, ~second)
    assert np.array_equal(first, third)
    assert 400 < first.sum() < 600


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
