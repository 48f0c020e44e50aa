"""The intervals and the tests that the gate decides by.

Written with the standard library: SciPy has them too, and would be a third of what an installed gate weighs.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

NORMAL = NormalDist()
Z = NORMAL.inv_cdf(0.975)  # two-sided 95 %
Z_ONE_SIDED = NORMAL.inv_cdf(0.95)


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of the proportion `hits / n`, inside 0 to 1 (Wilson 1927)."""
    center = (hits + Z**2 / 2) / (n + Z**2)
    half = Z / (n + Z**2) * math.sqrt(hits * (n - hits) / n + Z**2 / 4)
    return (0.0 if hits == 0 else center - half), (1.0 if hits == n else center + half)


def mcnemar(lost: int, won: int) -> float:
    """Return the one-sided p of McNemar's exact test: that chance alone loses `lost` or more of the changes."""
    n = lost + won
    return _upper_tail(lambda k: _log_comb(n, k) - n * math.log(2), lost, range(n + 1), n / 2)


def two_proportions(hits_before: int, n_before: int, hits_after: int, n_after: int) -> float:
    """Return the one-sided p of Fisher's exact test: that chance alone makes the second proportion so much smaller."""
    hits = hits_before + hits_after
    total = _log_comb(n_before + n_after, hits)
    return _upper_tail(
        lambda k: _log_comb(n_before, k) + _log_comb(n_after, hits - k) - total,
        hits_before,
        range(max(0, hits - n_after), min(n_before, hits) + 1),
        (n_before + 1) * (hits + 1) / (n_before + n_after + 2),
    )


def two_seeds(loss: float, noise: float) -> float:
    """Return the one-sided p that two seeds of one recipe, whose metric has this standard deviation, lose this much."""
    return NORMAL.cdf(-loss / (math.sqrt(2) * noise)) if noise else float(loss <= 0)


def further_seeds(margin: float, noise: float) -> int | None:
    """Return how many more seeds on each side show that a loss is not `margin` larger, with 95 % confidence.

    0 if one seed on each side shows it; None if nothing is left between the two, so that none ever do.
    """
    if margin <= 0:
        return None
    return max(0, math.ceil(2 * (Z_ONE_SIDED * noise / margin) ** 2 - 1e-9) - 1)


def student_cdf(t: float, degrees: int) -> float:
    """Return Student's distribution function, by its finite sum for whole degrees of freedom."""
    angle = math.atan2(t, math.sqrt(degrees))
    term = total = math.cos(angle) if degrees % 2 else 1.0
    for k in range(3 if degrees % 2 else 2, degrees - 1, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    if degrees % 2:
        return 0.5 + (angle + (math.sin(angle) * total if degrees > 1 else 0.0)) / math.pi
    return 0.5 + math.sin(angle) * total / 2


def student_quantile(share: float, degrees: int) -> float:
    """Return the value that a share, from a half to below 1, of Student's distribution is below."""
    low, high = 0.0, 1.0
    while student_cdf(high, degrees) < share:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, degrees) < share else (low, middle)
    return high


def _log_comb(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _upper_tail(log_probability: Callable[[int], float], first: int, values: range, mode: float) -> float:
    """Sum the probabilities from `first` on, away from the mode: the terms fall, so those that matter are few."""
    above = first > mode
    total = 0.0
    for k in range(first, values.stop) if above else range(first - 1, values.start - 1, -1):
        term = math.exp(log_probability(k))
        if total + term == total:
            break
        total += term
    return min(1.0, total) if above else 1.0 - total
