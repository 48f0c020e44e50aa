import math

import numpy as np
import pytest

from reprocnn.evaluation import measure, metrics
from reprocnn.images import arrays

# Four images of three classes: right, right but second, wrong and last, right.
Y_TRUE = np.array([0, 1, 2, 2])
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.6, 0.3, 0.1], [0.0, 0.1, 0.9]], np.float32)


def test_scores_by_hand():
    figures = metrics.score(Y_TRUE, PROBABILITIES)
    assert figures["accuracy"] == 0.5
    assert figures["errors"] == 2
    assert figures["top2_accuracy"] == 0.75
    chosen = [float(p) for p in PROBABILITIES[range(4), Y_TRUE]]
    assert figures["loss"] == pytest.approx(-sum(map(math.log, chosen)) / 4, rel=1e-12)
    # Each image is alone in its bin: |1 - 0.7|, |0 - 0.5|, |0 - 0.6|, |1 - 0.9|.
    assert figures["calibration_error"] == pytest.approx((0.3 + 0.5 + 0.6 + 0.1) / 4)


@pytest.mark.parametrize(("hits", "low", "high"), [(0, 0, 0.2775), (7, 0.3968, 0.8922), (10, 0.7225, 1)])
def test_the_interval_of_seven_in_ten(hits, low, high):
    """As tabulated for ten trials, 95 %."""
    assert metrics.wilson_interval(hits, 10) == pytest.approx((low, high), abs=6e-5)


def test_the_second_of_equal_probabilities_is_the_later_class():
    p = np.array([[0.2, 0.4, 0.2, 0.2]])
    assert [metrics.top_k_accuracy(np.array([label]), p, 2) for label in range(4)] == [1, 1, 0, 0]
    assert metrics.accuracy(np.array([1, 1, 0]), p.repeat(3, axis=0)) == pytest.approx(2 / 3)


def test_a_probability_of_zero_costs_a_finite_loss():
    assert metrics.cross_entropy(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(-math.log(2**-23))


def test_calibration_of_a_bin_is_that_of_its_images_together():
    hit, confidence = np.array([True, False]), np.array([0.61, 0.65])  # both in 9/15 to 10/15
    assert metrics.reliability(hit, confidence) == [{"n": 2, "confidence": pytest.approx(0.63), "accuracy": 0.5}]
    assert metrics.calibration_error(hit, confidence) == pytest.approx(0.13)


def test_bins_of_calibration_weigh_as_many_images_as_they_have():
    hit = np.array([True, False, True, True, False, True, False, True, False])
    # Bins 14, 14, 14, 6, 9, 10, 13, 9 and 9 of 15; 0.6 is the lower bound of its bin.
    confidence = np.array([1.0, 0.95, 0.94, 0.41, 0.66, 0.67, 0.9, 0.6, 0.62], np.float32)
    rows = metrics.reliability(hit, confidence)
    assert [row["n"] for row in rows] == [1, 3, 1, 1, 3]
    assert [row["accuracy"] for row in rows] == pytest.approx([1, 1 / 3, 1, 0, 2 / 3])
    assert rows[4]["confidence"] == pytest.approx(sum(map(float, confidence[:3])) / 3, rel=1e-12)
    three = 3 * abs(1 / 3 - (0.66 + 0.6 + 0.62) / 3) + 3 * abs(2 / 3 - (1 + 0.95 + 0.94) / 3)
    assert metrics.calibration_error(hit, confidence) == pytest.approx((0.59 + three + 0.33 + 0.9) / 9)


def test_per_class_by_hand():
    y_true, y_pred = np.array([0, 0, 0, 1, 3]), np.array([0, 1, 2, 1, 1])
    expected = [
        {"class": "a", "precision": 1.0, "recall": pytest.approx(1 / 3), "f1": 0.5, "n": 3},
        {"class": "b", "precision": pytest.approx(1 / 3), "recall": 1.0, "f1": 0.5, "n": 1},
        {"class": "c", "precision": 0.0, "recall": None, "f1": 0.0, "n": 0},
        {"class": "d", "precision": None, "recall": 0.0, "f1": 0.0, "n": 1},
        {"class": "e", "precision": None, "recall": None, "f1": None, "n": 0},
    ]
    assert metrics.per_class(y_true, y_pred, list("abcde")) == expected


def test_the_most_confident_mistakes_come_first():
    y_true, y_pred = np.array([0, 1, 2, 3, 0]), np.array([0, 0, 0, 0, 0])
    confidence = np.array([0.7, 0.5, 0.9, 0.6, 0.55])
    assert measure.most_confident_mistakes(y_true, y_pred, confidence).tolist() == [2, 3, 1]


def test_the_digest_differs_between_test_sets():
    x, y = np.zeros((2, 1, 1, 1), np.uint8), np.eye(2, dtype=np.float32)
    other = x.copy()
    other[1] = 1
    digests = {measure.digest(arrays.Split(*data)) for data in ((x, y), (other, y), (x, y[::-1]))}
    assert len(digests) == 3
    assert measure.digest(arrays.Split(x, y)) == measure.digest(arrays.Split(x.copy(), y.copy()))


def test_of_mistakes_as_confident_the_first_come_first():
    """On any processor: NumPy's other sorts differ between instruction sets."""
    labels, confidence = np.zeros(1000, int), np.tile(np.array([0.5, 1.0], np.float32), 500)
    assert measure.most_confident_mistakes(labels, labels + 1, confidence).tolist() == list(range(1, 41, 2))
