from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reprocnn.core.params import Augmentation
from reprocnn.images.augment import augment, flips, move, shrink, warp


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


NONE = Augmentation(shift=0, rotation=0, zoom=0, shear=0, elastic=0, fill_mode="constant", flip=False)


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
    how = Augmentation(shift=2, rotation=15, zoom=0.2, shear=0.2, elastic=1, fill_mode="constant", flip=True)
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


def test_flips_alternate():
    first, second, third = (flips(1000, seed=5, epoch=epoch) for epoch in range(3))
    assert np.array_equal(first, ~second)
    assert np.array_equal(first, third)
    assert 400 < first.sum() < 600
