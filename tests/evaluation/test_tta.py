from typing import Any

import numpy as np
import pytest

from reprocnn.evaluation import tta


class PixelModel:
    """Two classes; the first one's odds are the value of one pixel."""

    def __init__(self, row: int, column: int) -> None:
        self.row, self.column = row, column

    def predict(self, x: Any, verbose: int) -> np.ndarray:
        batches = [batch[:, self.row, self.column, 0] for batch in x.as_numpy_iterator()]
        odds = np.concatenate(batches).astype(float)
        return np.stack([odds, np.ones_like(odds)], axis=1) / (1 + odds)[:, None]


CORNER = PixelModel(0, 0)
IMAGE = np.array([[2, 3, 5, 37], [7, 11, 13, 41], [17, 19, 23, 43]], np.uint8)[None, :, :, None]


@pytest.mark.parametrize(
    ("model", "plain", "up_left", "down_right", "mirrored"),
    [
        (PixelModel(1, 2), 13, 3, 43, (11, 2, 23)),
        (CORNER, 2, 11, 11, (37, 13, 13)),  # beyond the edge is the row or column next to it
        (PixelModel(2, 3), 43, 13, 13, (17, 11, 11)),
        (PixelModel(0, 3), 37, 13, 13, (2, 11, 11)),
    ],
)
def test_averages_by_hand(model, plain, up_left, down_right, mirrored):
    images = np.concatenate([IMAGE, np.full_like(IMAGE, 4)])
    assert tta.predict(model, images)[0] == pytest.approx([plain / (1 + plain), 1 / (1 + plain)])
    odds = plain**0.5 * up_left**0.25 * down_right**0.25
    averaged = tta.predict_tta(model, images, flip=False)
    assert averaged[0] == pytest.approx([odds / (1 + odds), 1 / (1 + odds)])
    assert averaged[1] == pytest.approx([0.8, 0.2])
    odds = odds**0.5 * mirrored[0] ** 0.25 * mirrored[1] ** 0.125 * mirrored[2] ** 0.125
    assert tta.predict_tta(model, images, flip=True)[0, 0] == pytest.approx(odds / (1 + odds))


def test_known_predictions_of_the_plain_view_are_not_made_again():
    asked: list[np.ndarray] = []

    def predict(model: Any, x: np.ndarray) -> np.ndarray:
        asked.append(x)
        return tta.predict(model, x)

    expected = tta.predict_tta(CORNER, IMAGE, flip=True)
    plain = tta.predict(CORNER, IMAGE)
    assert (tta.predict_tta(CORNER, IMAGE, flip=True, predict=predict, plain=plain) == expected).all()
    assert len(asked) == 5
    assert not any(np.array_equal(x, IMAGE) for x in asked)


def test_views_that_contradict_each_other_with_certainty_are_no_nan():
    def predict(model: Any, x: np.ndarray) -> np.ndarray:
        return np.eye(2, dtype=np.float32)[(x[:, 0, 0, 0] > 2).astype(int)]

    assert predict(None, IMAGE).tolist() == [[1, 0]]
    # The moved views, of the same weight as the plain one, have 11 there.
    assert tta.predict_tta(None, IMAGE, flip=False, predict=predict)[0] == pytest.approx([0.5, 0.5])
    assert tta.predict_tta(None, IMAGE, flip=True, predict=predict)[0, 0] < 1e-6
