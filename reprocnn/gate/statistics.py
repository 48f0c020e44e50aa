"""The interval and the tests that the gate decides by.

Written with the standard library: SciPy has them too, and would be a third of what an installed gate weighs.
"""

import math
from collections.abc import Iterable
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)  # two-sided 95 %


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """Give the 95 % interval of the proportion `hits / n`, inside 0 to 1 (Wilson 1927)."""
    center = (hits + Z**2 / 2) / (n + Z**2)
    half = Z / (n + Z**2) * math.sqrt(hits * (n - hits) / n + Z**2 / 4)
    return (0.0 if hits == 0 else center - half), (1.0 if hits == n else center + half)


def mcnemar(lost: int, won: int) -> float:
    """Give the one-sided p of McNemar's exact test: that chance alone loses at least `lost` of `lost + won` changes."""
    n = lost + won
    return _sum_of_exponentials(_log_comb(n, k) - n * math.log(2) for k in range(lost, n + 1))


def two_proportions(hits_before: int, n_before: int, hits_after: int, n_after: int) -> float:
    """Give the one-sided p of Fisher's exact test: that chance alone makes the second proportion this much smaller."""
    hits = hits_before + hits_after
    total = _log_comb(n_before + n_after, hits)
    return _sum_of_exponentials(
        _log_comb(n_before, k) + _log_comb(n_after, hits - k) - total
        for k in range(hits_before, min(n_before, hits) + 1)
    )


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _sum_of_exponentials(logarithms: Iterable[float]) -> float:
    return min(1.0, math.fsum(math.exp(logarithm) for logarithm in logarithms))
