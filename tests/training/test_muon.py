import numpy as np
import pytest

from reprocnn.backend import keras
from reprocnn.training.muon import Muon, orthogonalize


def newton_schulz(matrix, steps=3):
    """Jordan's quintic iteration, on singular values alone."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left * values @ right


@pytest.mark.parametrize("shape", [(3, 3, 2, 6), (1, 2, 2, 7), (2, 2, 1, 4)], ids=["tall", "wide", "square"])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_newton_schulz_moves_singular_values_and_keeps_the_vectors(shape, steps):
    kernel = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = np.asarray(orthogonalize(kernel, steps=steps))
    expected = newton_schulz(kernel.reshape(-1, shape[-1]), steps)
    assert found.shape == shape
    assert found.reshape(-1, shape[-1]) == pytest.approx(expected, abs=2e-4)
    if steps == 5:
        values = np.linalg.svd(expected, compute_uv=False)
        assert (values > 0.6).all()
        assert (values < 1.3).all()


def test_newton_schulz_of_one_singular_value_by_hand():
    # One filter is one singular value, normalized to 1: x -> 3.4445 x - 4.7750 x^3 + 2.0315 x^5, three times.
    x = 1.0
    for _ in range(3):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    kernel = np.array([3.0, 4.0], np.float32).reshape(2, 1, 1, 1)
    assert np.asarray(orthogonalize(kernel)).ravel() == pytest.approx(np.array([0.6, 0.8]) * x, rel=1e-4)


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_step_of_zeros_stays_finite(start):
    optimizer, kernel = Muon(0.1), keras.Variable(np.full((2, 2, 2, 3), start, "float32"))
    optimizer.build([kernel])
    optimizer.apply([np.zeros(kernel.shape, "float32")], [kernel])
    assert np.isfinite(np.asarray(kernel)).all()


@pytest.mark.parametrize(
    ("settings", "momentum", "sgd_momentum", "bias_rate", "head_rate", "decay"),
    [
        ({}, 0.6, 0.85, 440.0, 0.085, 0.0),  # airbench's
        (
            {"momentum": 0.3, "sgd_momentum": 0.5, "bias_rate": 3.0, "head_rate": 0.2, "weight_decay": 0.1},
            0.3, 0.5, 3.0, 0.2, 0.1,
        ),
    ],
)  # fmt: skip
def test_muon_step_by_step(settings, momentum, sgd_momentum, bias_rate, head_rate, decay):
    """Nesterov momentum for all; kernels are orthogonalized, normalized before, and do not decay."""
    rng = np.random.default_rng(0)
    rate = 0.01
    values = [rng.normal(size=shape) for shape in ((2, 2, 2, 3), (4, 3), (3,))]
    variables = [keras.Variable(value.astype("float32")) for value in values]
    optimizer = Muon(learning_rate=rate, **settings)
    optimizer.build(variables)
    averages = [np.zeros(value.shape) for value in values]
    for _ in range(3):
        gradients = [rng.normal(size=value.shape) for value in values]
        optimizer.apply([gradient.astype("float32") for gradient in gradients], variables)

        averages[0] = momentum * averages[0] + gradients[0]
        step = newton_schulz((gradients[0] + momentum * averages[0]).reshape(8, 3)).reshape(2, 2, 2, 3)
        values[0] = values[0] / np.linalg.norm(values[0]) * 3**0.5 - rate * step
        for index, factor in ((1, head_rate), (2, bias_rate)):
            averages[index] = sgd_momentum * averages[index] + gradients[index]
            nesterov = gradients[index] + sgd_momentum * averages[index]
            values[index] = values[index] * (1 - decay * rate) - rate * factor * nesterov
        for found, expected in zip(variables, values, strict=True):
            assert np.asarray(found) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_built_again_it_keeps_its_momenta():
    """As before each epoch."""
    optimizer, bias = Muon(0.1), keras.Variable(np.zeros(3, "float32"))
    optimizer.build([bias])
    optimizer.apply([np.array([1.0, 2.0, 3.0], "float32")], [bias])
    optimizer.build([bias])
    assert len(optimizer.variables) == 3  # iterations, learning rate, a momentum
    assert np.asarray(optimizer.momenta[0]).tolist() == [1, 2, 3]
