import numpy as np
import pytest

from reprocnn.backend import keras
from reprocnn.training.muon import Muon, orthogonalize


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
