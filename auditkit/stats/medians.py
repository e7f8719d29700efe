"""Medians of values that may be infinite (what never happened), with distribution-free limits at any level."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.linearised import PLAIN, Design, proportion

FloatArray = npt.NDArray[np.float64]


def median_estimate(
    values: FloatArray, design: Design = PLAIN, *, infinite: str = "more than half have no value"
) -> Estimate:
    """The (weighted) median; infinite values are larger than all others.

    Plain rows: exact limits by order statistics. Weighted or clustered rows: Woodruff's, the quantiles at the limits of
    the share of rows at or below the median. An infinite upper limit gives no interval.

    Args:
        values: ``(n,)`` without NaN.
        design: Weights and clusters.
        infinite: Reason where the median itself is infinite.

    Source: Conover (1999), Practical Nonparametric Statistics, section 3.2; Woodruff (1952), JASA 47.

    >>> estimate = median_estimate(np.arange(1.0, 12.0))
    >>> interval = estimate.interval(0.95)
    >>> estimate.value, interval.low, interval.high
    (6.0, 2.0, 10.0)
    """
    n = len(values)
    if n == 0:
        return undefined("no rows")
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    reached = np.cumsum(design.masses(n)[order])
    reached = reached / reached[-1]

    def quantile(share: float) -> float:
        # Rounding of the sums must not decide where a share of exactly one half lies.
        ends = (min(int(np.searchsorted(reached, share + shift)), n - 1) for shift in (-1e-12, 1e-12))
        first, last = (float(ordered[end]) for end in ends)
        return last if math.isinf(last) else (first + last) / 2.0

    middle = quantile(0.5)
    if not math.isfinite(middle):
        return undefined(infinite, n)
    share = None if design.plain else proportion(values <= middle, design.weights, design.clusters)

    def bounds(level: float) -> Interval | None:
        if share is None:
            from scipy.stats import binom

            rank = int(binom.ppf((1.0 - level) / 2.0, n, 0.5))
            if rank == 0:
                return None
            low, high, method = float(ordered[rank - 1]), float(ordered[n - rank]), "order-statistics"
        else:
            found = share.interval(level)
            half = 0.5 if found is None else (found.high - found.low) / 2.0
            if half >= 0.5:
                return None
            low, high, method = quantile(0.5 - half), quantile(0.5 + half), "woodruff"
        return Interval(low=low, high=high, level=level, method=method) if math.isfinite(high) else None

    lacking = "too few rows, or the upper limit lies among rows without a value"
    return Estimate(middle, n, bounds, lacking)
