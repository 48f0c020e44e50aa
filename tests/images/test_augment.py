from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import affine_transform

from reprocnn.core.params import Augmentation
from reprocnn.images.augment import augment, flips, move, shrink, warp

NONE = Augmentation(shift=0, rotation=0, zoom=0, shear=0, elastic=0, fill_mode="constant", flip=False)


class Spread(np.random.Generator):
    """Draws in equal steps over the range: the first image gets the lowest value, the last one the highest.

    Of two rows of draws, the second runs the other way. Normal draws are all `normal`, a value for each axis.
    """

    def __init__(self, normal: Any = (0, 0)) -> None:
        super().__init__(np.random.PCG64(0))
        self.values = normal

    def uniform(self, low: Any = 0, high: Any = 1, size: Any = None) -> Any:
        n = max(size)
        share = np.linspace(0, 1, n)
        return low + (high - low) * (np.concatenate([share, 1 - share]) if size[0] == 2 else share).reshape(size)

    def integers(self, low: Any, high: Any = None, size: Any = None, **_: Any) -> Any:  # type: ignore[override]
        return np.rint(self.uniform(low, high - 1, size)).astype(int)

    def standard_normal(self, size: Any = None, dtype: Any = None, out: Any = None) -> Any:
        return np.broadcast_to(np.array(self.values, dtype), size)


def noise(n: int, height: int, width: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("fill_mode", ["constant", "reflect"])
def test_move_moves_and_mirrors_each_image_by_itself(fill_mode, monkeypatch):
    monkeypatch.setattr("reprocnn.images.augment.CHUNK", 100)
    x = noise(400, 6, 5)
    flipped = np.arange(400) % 3 == 1  # another pattern in each chunk
    moved = move(x, np.random.default_rng(1), shift=2, fill_mode=fill_mode, flipped=flipped)
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode=fill_mode)
    offsets = []
    for index in range(400):
        image = moved[index, :, ::-1] if flipped[index] else moved[index]
        places = [
            (r, c) for r in range(5) for c in range(5) if np.array_equal(padded[index, r : r + 6, c : c + 5], image)
        ]
        assert len(places) == 1
        offsets += places
    counts = [offsets.count((r, c)) for r in range(5) for c in range(5)]
    assert min(counts) > 4  # 16 on average
    assert max(counts) < 36


def test_move_without_a_shift_only_mirrors():
    x = noise(3, 6, 5, 2)
    flipped = np.array([False, True, False])
    moved = move(x, np.random.default_rng(1), shift=0, fill_mode="reflect", flipped=flipped)
    assert np.array_equal(moved, [x[0], x[1, :, ::-1], x[2]])


def test_move_goes_up_to_the_shift_in_each_direction():
    x = noise(3, 6, 5)
    top_right, same, bottom_left = move(x, Spread(), shift=2, fill_mode="constant", flipped=np.zeros(3, bool))
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    assert np.array_equal(top_right, padded[0, :6, 4:])
    assert np.array_equal(same, x[1])
    assert np.array_equal(bottom_left, padded[2, 4:, :5])


def square() -> np.ndarray:
    """20 equal images of 15x15, a bright square of 5x5 in the centre."""
    x = np.zeros((20, 15, 15, 1), np.uint8)
    x[:, 5:10, 5:10] = 200
    return x


def warped(x: np.ndarray, draws: Any = None, **changes: Any) -> np.ndarray:
    none: dict[str, Any] = {"shift": 0, "rotation": 0, "zoom": 0, "shear": 0, "elastic": 0, "fill_mode": "constant"}
    return warp(x, draws or np.random.default_rng(0), **none | changes).astype(float)


def test_warp_turns_around_the_centre():
    assert np.array_equal(warped(square()), square())
    turned = warped(square(), rotation=45)
    assert turned[:, 7, 7, 0].tolist() == [200] * 20  # the centre stays
    assert turned.sum(axis=(1, 2, 3)) == pytest.approx(200 * 25, rel=0.03)  # so does the area
    rows = np.arange(15)
    assert (turned.sum(axis=(2, 3)) @ rows / turned.sum(axis=(1, 2, 3))) == pytest.approx(7, abs=0.05)
    assert len({image.tobytes() for image in turned}) > 15  # each by its own angle


def test_warp_turns_by_the_rotation_both_ways():
    x = noise(3, 9, 9, 2)
    back, same, forth = warped(x, Spread(), rotation=90)
    assert np.array_equal(same, x[1])
    assert sorted([np.array_equal(back, np.rot90(x[0])), np.array_equal(back, np.rot90(x[0], -1))]) == [False, True]
    assert np.array_equal(forth, np.rot90(x[2], -1 if np.array_equal(back, np.rot90(x[0])) else 1))


def test_warp_stretches_each_axis_by_at_most_its_share():
    stretched = warped(square(), zoom=0.4)
    heights, widths = stretched[:, :, 7, 0].sum(axis=1) / 200, stretched[:, 7, :, 0].sum(axis=1) / 200
    for sizes in (heights, widths):
        assert sizes.min() > 5 / 1.4 - 0.3
        assert sizes.max() < 5 * 1.4 + 0.3
        assert sizes.max() - sizes.min() > 1.5
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.8


def test_warp_doubles_one_axis_and_halves_the_other_at_a_zoom_of_one():
    x = noise(3, 9, 9)
    first, same, last = warped(x, Spread(), zoom=1)
    assert np.array_equal(same, x[1])
    assert np.array_equal(first[::2, 2:7], x[0, 2:7, ::2])
    assert np.array_equal(last[2:7, ::2], x[2, ::2, 2:7])


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
    down, right = (moved.sum(axis=axes) @ np.arange(15) / moved.sum(axis=(1, 2, 3)) - 7 for axes in ((2, 3), (1, 3)))
    for offsets in (down, right):
        assert np.abs(offsets).max() <= 1.51
        assert offsets.max() > 1
        assert offsets.min() < -1
        assert np.abs(offsets - np.rint(offsets)).max() > 0.2
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.8


def test_warp_moves_up_to_the_shift_and_repeats_the_edge_beyond_a_quarter():
    x = noise(3, 16, 12, 2)
    first, same, last = warped(x, Spread(), shift=6, fill_mode="reflect")
    assert np.array_equal(same, x[1])
    padded = np.pad(
        np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect"), ((0, 0), (2, 2), (2, 2), (0, 0)), "edge"
    )
    assert np.array_equal(first, padded[0, :16, :12])
    # What is sampled at the last pixel is a thousandth short of it.
    assert np.abs(last - padded[2, 12:, 12:]).max() <= 1


def test_warp_bends_rows_and_columns_each_by_its_draws():
    x = noise(3, 16, 12, 2)
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)))
    bent = warped(x, Spread(normal=(1, -2)), elastic=1.5)
    expected = padded[:, 5:22, 1:13].astype(float)
    assert np.abs(bent - (expected[:, :-1] + expected[:, 1:]) / 2).max() < 0.51


def test_warp_bends_smoothly():
    # 10 times the column as the brightness: what a pixel gained is 10 times the move of the place it came from.
    x = np.broadcast_to((10 * np.arange(25)).astype(np.uint8)[:, None], (400, 25, 25, 1))
    moves = warped(x, elastic=0.5)[:, 3:-3, 3:-3, 0] / 10 - np.arange(3, 22)
    assert moves[:, 4::5, 4::5].std() == pytest.approx(0.5, rel=0.1)  # pixel 7, 12, 17: where the points are
    assert np.abs(np.diff(moves, axis=2)).mean() < 0.2
    # Neighbouring points are independent: between two of them the spread is smaller.
    assert moves[:, 4::5, 7:12:5].std() < 0.45


def test_warp_bends_along_cubic_curves():
    x = np.broadcast_to((10 * np.arange(25)).astype(np.uint8)[:, None, None], (3, 25, 25, 1))
    points = np.zeros((5, 5, 2), np.float32)
    points[..., 0] = np.random.default_rng(3).normal(size=(5, 5))
    moves = warped(x, Spread(normal=points), elastic=1)[0, ..., 0] / 10 - np.arange(25)[:, None]
    grid, inside = Image.fromarray(points[..., 0]), slice(4, -4)
    curved, straight = (
        np.abs(moves - np.asarray(grid.resize((25, 25), kind)))[inside, inside].max()
        for kind in (Image.Resampling.BICUBIC, Image.Resampling.BILINEAR)
    )
    assert curved < 0.06  # 0.05 are from rounding
    assert straight > 0.2


@pytest.mark.parametrize(("fill_mode", "edge"), [("constant", 0), ("reflect", 200)])
def test_warp_fills_the_edge(fill_mode, edge):
    bright = warped(np.full((20, 16, 16, 3), 200, np.uint8), shift=3, fill_mode=fill_mode)
    assert bright.shape == (20, 16, 16, 3)
    assert bright.min() == edge
    assert bright[:, 4:12, 4:12].min() == 200


@pytest.mark.parametrize(("fill_mode", "scipys"), [("constant", "grid-constant"), ("reflect", "mirror")])
def test_augment_is_an_affine_transform_of_each_image(fill_mode, scipys):
    """Rotation, then each axis stretched, then rows slanted, all around the centre, then moved; linear in between."""
    n = 501  # more than are computed at a time
    x = noise(n, 14, 11, 2)
    mirrored = np.arange(n) % 3 == 0
    how = Augmentation(shift=1, rotation=8, zoom=0.1, shear=0.05, elastic=0.5, fill_mode=fill_mode, flip=True)
    found = augment(x, Spread(normal=(0.5, -1)), how, mirrored, threads=2)
    assert found.dtype == np.uint8
    centre = np.array([13, 10]) / 2
    for index in range(0, n, 25):
        share = 2 * index / (n - 1) - 1  # from -1 to 1
        angle = np.deg2rad(8 * share)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.diag([1.1**share, 1.1**-share]) + [[0, 0], [0.05 * share, 0]]
        moved = np.array([0.25, -0.5]) + share
        image = (x[index, :, ::-1] if mirrored[index] else x[index]).astype(float)
        for channel in range(2):
            expected = affine_transform(
                image[..., channel], matrix, centre + moved - matrix @ centre, order=1, mode=scipys
            )
            assert np.abs(found[index, ..., channel] - expected).max() < 0.52


@pytest.mark.parametrize(
    "change",
    [{}, {"shift": 2}, {"rotation": 30}, {"zoom": 0.5}, {"shear": 0.3}, {"elastic": 1}, {"shift": 2, "elastic": 1}],
)
def test_what_the_params_say_is_moved_or_warped(change):
    """Only images that are not warped move by whole pixels."""
    x, rng = noise(20, 14, 11), np.random.default_rng(0)
    found = augment(x, np.random.default_rng(0), replace(NONE, **change), np.zeros(20, bool))
    whole = change.get("shift", 0) if set(change) <= {"shift"} else 0
    expected = move(x, rng, shift=whole, fill_mode="constant", flipped=np.zeros(20, bool))
    if set(change) - {"shift"}:
        expected = warped(expected, rng, **change)
    assert np.array_equal(found, expected)
    assert np.array_equal(found, x) == (not change)


def test_threads_change_no_bits(monkeypatch):
    asked = []

    def note(threads):
        asked.append(threads)
        return ThreadPoolExecutor(threads)

    monkeypatch.setattr("reprocnn.images.augment.ThreadPoolExecutor", note)
    x = noise(1200, 12, 12)
    moving = replace(NONE, shift=2, flip=True)
    warping = replace(moving, rotation=15, zoom=0.2, shear=0.2, elastic=1)
    mirrored = np.arange(1200) % 2 == 0
    for how in (moving, warping):
        one, three = (augment(x, np.random.default_rng(0), how, mirrored, threads) for threads in (1, 3))
        assert np.array_equal(one, three)
    assert np.array_equal(shrink(x, (8, 8), 1), shrink(x, (8, 8), 3))
    assert asked == [1, 3] * 3


@pytest.mark.parametrize("change", [{}, {"shift": 2}, {"rotation": 10}])
def test_augment_mirrors_if_the_params_say_so(change):
    x, mirrored, none = noise(2, 6, 5), np.array([True, False]), np.zeros(2, bool)

    def augmented(mirrored: np.ndarray, flip: bool) -> np.ndarray:
        return augment(x, np.random.default_rng(0), replace(NONE, flip=flip, **change), mirrored)

    plain = augmented(none, flip=True)
    assert np.array_equal(augmented(mirrored, flip=False), plain)
    both = augmented(mirrored, flip=True)
    assert np.array_equal(both[1], plain[1])
    assert not np.array_equal(both[0], plain[0])
    if not change:
        assert np.array_equal(both[0], x[0, :, ::-1])


def test_shrink_takes_means():
    x = np.zeros((600, 8, 12, 3), np.uint8)
    x[:, :, 6:] = 200
    x[:, :, :, 2] = 77
    x[7] = 90
    small = shrink(x, (4, 6))
    assert small.shape == (600, 4, 6, 3)
    assert (small[7] == 90).all()
    # Weights of the columns, half the size: 1, 3, 3, 1 in eighths.
    assert small[599, 1, :, 0].tolist() == [0, 0, 25, 175, 200, 200]
    assert (small[599, ..., 2] == 77).all()


def test_shrink_rounds_to_the_nearest_and_leaves_full_size_alone():
    x = np.zeros((1, 4, 4, 1), np.uint8)
    x[0, :, :2] = 1
    assert shrink(x, (2, 2))[0, :, :, 0].tolist() == [[1, 0], [1, 0]]  # 6 and 1 sevenths
    assert shrink(x, (4, 4)) is x
    assert shrink(x, (4, 2)).shape == (1, 4, 2, 1)


def test_flips_alternate():
    first, second, third = (flips(1000, seed=5, epoch=epoch) for epoch in range(3))
    assert np.array_equal(first, ~second)
    assert np.array_equal(first, third)
    assert 450 < first.sum() < 550
    assert 400 < (first ^ flips(1000, seed=6, epoch=0)).sum() < 600


def test_an_error_in_a_thread_is_raised(monkeypatch):
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("reprocnn.images.augment._interpolate", fail)
    with pytest.raises(MemoryError):
        warped(noise(2, 6, 5), rotation=10)
