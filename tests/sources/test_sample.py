"""The drawings of the sample, looked at point by point."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from reprocnn.datasets import DATASETS
from reprocnn.sources import sample
from reprocnn.splits import decode

# At the distances 0, 0.28, 0.55, 0.7, 0.95 and 1.05 from the centre: along the row, and along the diagonal (x and y).
ALONG = {
    "disc": ("#####.", "####.."), "ring": ("...##.", "..##.."), "square": ("####..", "####.."),
    "frame": ("..##..", "..##.."), "cross": ("#####.", "#....."), "saltire": ("##....", "#####."),
    "bar": ("#####.", "##...."), "column": ("##....", "##...."), "diamond": ("######", "##...."),
    "checker": ("#.....", "####.."),
}  # fmt: skip


def inside(shape: str, x: list[float], y: list[float]) -> str:
    return "".join(".#"[point] for point in sample._inside(shape, np.array(x), np.array(y)).astype(int))


@pytest.mark.parametrize("shape", sample.SHAPES)
def test_shapes_by_hand(shape):
    steps = [0, 0.28, 0.55, 0.7, 0.95, 1.05]
    assert (inside(shape, steps, [0.0] * 6), inside(shape, steps, steps)) == ALONG[shape]


def test_bars_lie_and_columns_stand():
    assert inside("bar", [0.9, 0.0], [0.0, 0.9]) == "#."
    assert inside("column", [0.9, 0.0], [0.0, 0.9]) == ".#"
    assert inside("checker", [0.5, -0.5, 0.5, -0.5], [0.5, -0.5, -0.5, 0.5]) == "##.."


def test_digits_are_enlarged_inside_a_margin():
    images, labels = sample.digits()
    data = load_digits()
    assert images.shape == (1797, 28, 28)
    assert labels.tolist() == data.target.tolist()
    for index in (0, 1000):
        for i in range(28):
            for j in range(28):
                within = 2 <= i < 26 and 2 <= j < 26
                grey = data.images[index][(i - 2) // 3, (j - 2) // 3] * 255 / 16 if within else 0
                assert abs(int(images[index, i, j]) - grey) <= 0.5


@pytest.mark.parametrize(("dataset", "counts"), list(zip(DATASETS, [(1437, 360), (2000, 500)], strict=True)))
def test_no_image_is_in_both_splits(tmp_path, dataset, counts):
    sample.write(dataset, tmp_path)
    splits, _ = decode.read(dataset, tmp_path)
    train, test = ({image.tobytes() for image in splits[name][0]} for name in ("train", "test"))
    assert tuple(len(splits[name][0]) for name in ("train", "test")) == counts
    assert not train & test


def test_each_shape_is_drawn_as_often_and_stands_out():
    images, labels = sample.shapes(120, np.random.default_rng(1))
    assert images.shape == (120, 32, 32, 3)
    assert np.bincount(labels).tolist() == [12] * 10
    assert (labels[:10] != np.arange(10)).any()
    again = sample.shapes(120, np.random.default_rng(1))
    assert (images == again[0]).all()
    noise = images[:, :4, :4].astype(float)  # a corner, where no shape reaches
    assert 30 < np.median(noise.std(axis=(1, 2))) < 45
    square = images[labels == sample.SHAPES.index("square")].astype(float)
    contrast = abs(square[:, 12:20, 12:20].mean(axis=(1, 2)) - square[:, :4, :4].mean(axis=(1, 2))).sum(axis=-1)
    assert (contrast > 60).all()
    rng = np.random.default_rng(2)
    assert all(abs(np.subtract(*sample._colours(rng))).sum() > 120 for _ in range(200))
