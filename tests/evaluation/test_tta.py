from typing import Any

import numpy as np
import pytest

from reprocnn.evaluation import tta


class CornerModel:
    """Two classes; the first one's odds are the value of the top left pixel."""

    def predict(self, x: Any, verbose: int) -> np.ndarray:
        odds = np.concatenate([batch[:, 0, 0, 0] for batch in x.as_numpy_iterator()]).astype(float)
        return np.stack([odds, np.ones_like(odds)], axis=1) / (1 + odds)[:, None]


IMAGE = np.array([[2, 3, 5], [7, 11, 13], [17, 19, 23]], np.uint8)[None, :, :, None]


def test_averages_by_hand():
    assert tta.predict(CornerModel(), IMAGE)[0] == pytest.approx([2 / 3, 1 / 3])
    # Moved down right the reflection's 11 is the corner, moved up left 11 too.
    odds = 2**0.5 * 11**0.25 * 11**0.25
    assert tta.predict_tta(CornerModel(), IMAGE, flip=False)[0, 0] == pytest.approx(odds / (1 + odds))
    # Mirrored, the corners are 5; the moved views, mirrored after: 11 at (0, 2) of both.
    plain, up_left, down_right = [2, 5], [11, 11], [11, 11]
    odds = np.prod(plain) ** 0.25 * np.prod(up_left) ** 0.125 * np.prod(down_right) ** 0.125
    averaged = tta.predict_tta(CornerModel(), IMAGE, flip=True)
    assert averaged[0, 0] == pytest.approx(odds / (1 + odds))


def test_known_predictions_of_the_plain_view_are_not_made_again():
    asked: list[np.ndarray] = []

    def predict(model: Any, x: np.ndarray) -> np.ndarray:
        asked.append(x)
        return tta.predict(model, x)

    expected = tta.predict_tta(CornerModel(), IMAGE, flip=True)
    plain = tta.predict(CornerModel(), IMAGE)
    assert (tta.predict_tta(CornerModel(), IMAGE, flip=True, predict=predict, plain=plain) == expected).all()
    assert len(asked) == 5
    assert not any(np.array_equal(x, IMAGE) for x in asked)


def test_a_probability_of_zero_is_no_nan():
    black = np.zeros((1, 3, 3, 1), np.uint8)
    assert tta.predict_tta(CornerModel(), black, flip=True)[0].tolist() == pytest.approx([0, 1])
