"""Confidence intervals for proportions, their differences and ratios, and means.

Every published share has exact limits (:func:`exact_share`): what the gate decides on is then wrong at most as often as
it says, on either side, with few rows and near 0 or 1 too. Score limits (:func:`wilson`) are for planning, and for
analyzers of third parties. Proportions are given as a point estimate and an *effective* number of rows, so that
weighted and clustered rows use the same formulas: ``n_eff = p (1 - p) / var(p)`` (Korn and Graubard 1998).
Normal quantiles come from the standard library; scipy's would be slow to import.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from auditkit.core.evidence import Interval
from auditkit.stats.student import t_quantile

if TYPE_CHECKING:
    import numpy.typing as npt


# Half widths below this share of the largest value are rounding: the values do not vary.
_ROUNDING = 1e-12
# Share, rows and level of limits already worked out.
ShareKey = tuple[float, float, float]
_KEPT: dict[ShareKey, tuple[float, float]] = {}
_MOST_KEPT = 4096


def z_value(level: float) -> float:
    """Two-sided normal quantile of ``level`` in (0, 1).

    >>> round(z_value(0.95), 4)
    1.96
    """
    return NormalDist().inv_cdf(0.5 + level / 2.0)


@lru_cache(maxsize=512)
def t_value(level: float, freedom: float) -> float:
    """Two-sided Student-t quantile of ``level``; the normal one above 2,000 degrees of freedom, NaN without any."""
    if freedom > 2000:
        return z_value(level)
    if not freedom > 0:
        return math.nan
    return t_quantile(0.5 - level / 2.0, freedom)


def student_reach(freedom: float, level: float = 0.95) -> float:
    """How many times as far as the normal interval of ``level`` Student's reaches: what widens a standard error told.

    >>> round(student_reach(2), 3), student_reach(5000)
    (2.195, 1.0)
    """
    return t_value(level, freedom) / z_value(level)


def wilson(p: float, n: float, level: float = 0.95) -> Interval | None:
    """Wilson score interval of a proportion.

    Args:
        p: Observed proportion in [0, 1].
        n: Effective number of rows; ``None`` is returned for ``n <= 0``.
        level: Two-sided confidence level.

    Their average coverage is nominal; near 0 and 1 one of the two limits misses more often than it says.

    Source: Wilson (1927); recommended by Brown, Cai and DasGupta (2001), section 3.

    >>> interval = wilson(0.5, 100)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.4038, 0.5962)
    """
    if n <= 0:
        return None
    z2 = z_value(level) ** 2
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2) / (1 + z2 / n) * math.sqrt(max(p * (1 - p), 0.0) / n + z2 / (4 * n * n))
    low = 0.0 if p <= 0.0 else max(0.0, center - half)
    high = 1.0 if p >= 1.0 else min(1.0, center + half)
    return Interval(low=min(low, p), high=max(high, p), level=level, method="wilson")


def keep_limits(shares: Iterable[tuple[float, float]], level: float) -> dict[ShareKey, tuple[float, float]]:
    """Exact limits of shares on (effective) rows, all above 0, in one go; :func:`exact_share` finds them from then on.

    >>> kept = keep_limits([(0.1, 20), (0.5, 8)], 0.95)
    >>> [round(limit, 4) for limit in kept[0.1, 20, 0.95]]
    [0.0123, 0.317]
    """
    from auditkit.stats.melded import exact_limits

    keys = [(p, n, level) for p, n in shares]
    found = {key: _KEPT[key] for key in keys if key in _KEPT}
    fresh = [key for key in dict.fromkeys(keys) if key not in found]
    if fresh:
        value, rows, _ = np.array(fresh, dtype=np.float64).T
        limits = zip(*(ends.tolist() for ends in exact_limits(value, rows, level)), strict=True)
        found.update(zip(fresh, limits, strict=True))
        if len(_KEPT) > _MOST_KEPT:
            _KEPT.clear()
        _KEPT.update(found)
    return found


def exact_share(p: float, n: float, level: float = 0.95, method: str = "clopper-pearson") -> Interval | None:
    """Exact limits of a share: each of them misses at most as often as ``level`` says.

    Args:
        p: Observed share in [0, 1].
        n: (Effective) rows, not necessarily whole; ``None`` is returned for ``n <= 0``.
        level: Two-sided confidence level.
        method: What to call it; on effective rows ``korn-graubard``.

    Source: Clopper and Pearson (1934); on effective rows: Korn and Graubard (1998), Survey Methodology 24.

    >>> interval = exact_share(0.1, 20)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.0123, 0.317)
    """
    if n <= 0:
        return None
    low, high = keep_limits([(p, n)], level)[p, n, level]
    return Interval(low=low, high=high, level=level, method=method)


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval | None:
    """:func:`exact_share` of whole counts."""
    return exact_share(successes / n, n, level) if n > 0 else None


def share_difference(p1: float, n1: float, p2: float, n2: float, level: float = 0.95) -> Interval | None:
    """Limits of ``p1 - p2`` for two independent shares, melded from their exact ones; ``None`` without rows.

    Source: Fay, Proschan and Brittain (2015), Biometrics 71.

    >>> interval = share_difference(56 / 70, 70, 48 / 80, 80)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.04, 0.349)
    """
    if n1 <= 0 or n2 <= 0:
        return None
    from auditkit.stats.melded import melded_limits

    one, two = np.array([0]), np.array([1])
    low, high = melded_limits(np.array([p1, p2]), np.array([n1, n2], dtype=np.float64), one, two, "difference", level)
    gap = p1 - p2
    return Interval(low=min(float(low[0]), gap), high=max(float(high[0]), gap), level=level, method="melded")


def newcombe_difference(p1: float, n1: float, p2: float, n2: float, level: float = 0.95) -> Interval | None:
    """Newcombe's hybrid score interval of ``p1 - p2`` for independent proportions, within [-1, 1].

    Source: Newcombe (1998), Statistics in Medicine 17, method 10.

    >>> interval = newcombe_difference(56 / 70, 70, 48 / 80, 80)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.0524, 0.3339)
    """
    a, b = wilson(p1, n1, level), wilson(p2, n2, level)
    if a is None or b is None:
        return None
    gap = p1 - p2
    low = gap - math.hypot(p1 - a.low, b.high - p2)
    high = gap + math.hypot(a.high - p1, p2 - b.low)
    return Interval(low=max(-1.0, low), high=min(1.0, high), level=level, method="newcombe")


def mover_ratio(p1: float, n1: float, p2: float, n2: float, level: float = 0.95) -> Interval | None:
    """Interval of ``p1 / p2`` for independent proportions from their Wilson limits (MOVER-R).

    Returns ``None`` where ``p2`` is 0, or so near it that the upper limit has no bound.

    Source: Donner and Zou (2012), Statistical Methods in Medical Research 21, equation 8.
    """
    a, b = wilson(p1, n1, level), wilson(p2, n2, level)
    if a is None or b is None or p2 <= 0.0 or b.low <= 0.0:
        return None
    product = p1 * p2
    # The lower root times its conjugate, so that nothing is divided by 2 p2 - u2, which may be 0 or negative.
    reach = a.low * (2 * p1 - a.low)
    low_gap = product**2 - reach * b.high * (2 * p2 - b.high)
    low = reach / (product + math.sqrt(max(low_gap, 0.0))) if reach > 0.0 else 0.0
    denominator = b.low * (2 * p2 - b.low)
    if denominator < 1e-200:
        return None
    high_gap = product**2 - a.high * b.low * (2 * p1 - a.high) * (2 * p2 - b.low)
    high = (product + math.sqrt(max(high_gap, 0.0))) / denominator
    ratio = p1 / p2
    return Interval(low=min(max(0.0, low), ratio), high=max(high, ratio), level=level, method="mover-wilson")


def mean_interval(
    values: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64] | None = None,
    clusters: npt.NDArray[np.int64] | None = None,
    level: float = 0.95,
) -> tuple[float, Interval | None]:
    """Weighted mean of ``values (n,)`` with a Student-t interval; clustered rows by linearisation.

    The variance is that of a ratio estimator, summed over clusters (or rows):
    ``c/(c-1) * sum_c (sum_i w_i (v_i - mean))^2 / (sum w)^2``, with ``c - 1`` degrees of freedom. Values that differ by
    nothing but rounding have an interval of no width, as equal ones do.

    Source: Cochran (1977), section 11.7; Binder (1983).
    """
    weights = np.ones(len(values)) if weights is None else weights
    total = float(weights.sum())
    if len(values) == 0 or total <= 0.0:
        raise ValueError("mean of no rows")
    mean = float((weights * values).sum() / total)
    parts = weights * (values - mean)
    if clusters is not None:
        parts = np.bincount(np.unique(clusters, return_inverse=True)[1], weights=parts).astype(np.float64)
    units = len(parts)
    if units < 2:
        return mean, None
    error = math.sqrt(units / (units - 1) * float((parts**2).sum())) / total
    half = t_value(level, units - 1) * error
    if half < _ROUNDING * float(np.abs(values).max()):
        half = 0.0
    method = "student-t" if clusters is None else "cluster-student-t"
    return mean, Interval(low=mean - half, high=mean + half, level=level, method=method, degrees_of_freedom=units - 1)


def fewest_degrees_of_freedom(intervals: Iterable[Interval | None]) -> float | None:
    """The fewest degrees of freedom behind several intervals, which those of limits joined from them are taken to be.

    >>> fewest_degrees_of_freedom([None, Interval(low=0.0, high=1.0, method="student-t", degrees_of_freedom=4.0)])
    4.0
    """
    return min((i.degrees_of_freedom for i in intervals if i and i.degrees_of_freedom is not None), default=None)


def effective_n(p: float, variance: float) -> float:
    """Rows of a simple random sample with the same variance of a proportion ``p``; 0 if undefined."""
    spread = p * (1.0 - p)
    return spread / variance if variance > 0.0 and spread > 0.0 else 0.0


def kish_n(weights: npt.NDArray[np.float64]) -> float:
    """Kish's effective sample size ``(sum w)^2 / sum w^2``; equals ``n`` for equal weights."""
    square = float((weights**2).sum())
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0
