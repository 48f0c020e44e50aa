"""The gate's interval and tests against values computed by hand, and against SciPy."""

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from reprocnn.evaluation import metrics
from reprocnn.gate.statistics import mcnemar, two_proportions, wilson_interval


@pytest.mark.parametrize(("lost", "won", "p"), [(0, 0, 1), (1, 0, 0.5), (0, 1, 1), (3, 1, 5 / 16), (10, 0, 2**-10)])
def test_mcnemar_by_hand(lost, won, p):
    assert mcnemar(lost, won) == pytest.approx(p)


def test_no_probability_is_above_one():
    assert max(mcnemar(0, n) for n in range(200)) == 1
    assert max(two_proportions(0, n, n, n) for n in range(1, 200)) == 1


def test_two_proportions_by_hand():
    """Fisher's tea: 3 of 4 and 1 of 4, (16 + 1) / 70."""
    assert two_proportions(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert two_proportions(1, 4, 3, 4) == pytest.approx(69 / 70)


def test_a_billion_images_take_no_longer():
    # 9,999 of a billion fewer is 0.745 standard deviations of sqrt(2 * 0.09 / 10**9).
    assert two_proportions(900_000_000, 10**9, 899_990_001, 10**9) == pytest.approx(0.228, abs=1e-3)
    assert two_proportions(899_990_001, 10**9, 900_000_000, 10**9) == pytest.approx(0.772, abs=1e-3)
    assert mcnemar(5 * 10**8 + 15_811, 5 * 10**8 - 15_811) == pytest.approx(0.1587, abs=1e-3)  # one of them


def test_wilson_interval_by_its_formula():
    z = 1.959964
    center, half = (0.8 + z**2 / 20) / (1 + z**2 / 10), z / (1 + z**2 / 10) * (0.8 * 0.2 / 10 + z**2 / 400) ** 0.5
    assert wilson_interval(8, 10) == pytest.approx((center - half, center + half), abs=1e-6)
    assert wilson_interval(10, 10)[1] == 1
    assert wilson_interval(0, 10)[0] == 0


def test_random_cases_agree_with_scipy():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, m = (int(value) for value in rng.integers(1, 3000, 2))
        a, b = int(rng.integers(0, n + 1)), int(rng.integers(0, m + 1))
        changed = binomtest(a, n, 0.5, alternative="greater").pvalue
        assert mcnemar(a, n - a) == pytest.approx(changed, rel=1e-8, abs=1e-200)
        table = [[a, n - a], [b, m - b]]
        assert two_proportions(a, n, b, m) == pytest.approx(fisher_exact(table, "greater").pvalue, rel=1e-6, abs=1e-200)
        assert wilson_interval(a, n) == pytest.approx(metrics.wilson_interval(a, n), abs=1e-12)
