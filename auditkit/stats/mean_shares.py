"""Limits of a mean of several shares (balanced accuracy, macro averages) from the exact limits of each.

A linearised variance of the mean itself fails where one of the shares rests on few rows or lies near 0 or 1: at 10
rows of one class in 100, with recalls of 0.9 and 0.95, a lower limit from it misses 32 % of the time and not 2.5 %.
The limits of each share know that (``tests/stats/test_stats_mean_shares.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.estimate import Estimate, prepare
from auditkit.stats.intervals import fewest_degrees_of_freedom

FloatArray = npt.NDArray[np.float64]


def mean_limits(
    parts: FloatArray, low: FloatArray, high: FloatArray, correlation: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Limits ``(G,), (G,)`` of the mean of ``parts (G, J)``, each in [0, 1] with limits ``low`` and ``high`` (MOVER).

    Args:
        parts: The shares.
        low, high: ``(G, J)`` limits of each at the level wanted.
        correlation: ``(G, J, J)`` of the shares, ones on the diagonal; none are correlated by default. Those below 0
            count as 0: they are estimates, and a chance one would make limits too narrow.

    Source: Zou and Donner (2008), Statistics in Medicine 27; section 2.3 for correlated shares.

    >>> low, high = mean_limits(np.array([[0.5, 0.5]]), np.array([[0.2, 0.1]]), np.array([[0.8, 0.9]]))
    >>> low.round(6).tolist(), high.round(6).tolist()
    ([0.25], [0.75])
    """
    value, count = parts.mean(axis=1), parts.shape[1]
    reach = []
    for arm in (parts - low, high - parts):
        square = (arm**2).sum(axis=1)
        if correlation is not None:
            tied = np.maximum(correlation, 0.0) * (1.0 - np.eye(count))
            square = square + np.einsum("gj,gjk,gk->g", arm, tied, arm)
        reach.append(np.sqrt(square) / count)
    return np.maximum(value - reach[0], 0.0), np.minimum(value + reach[1], 1.0)


def correlations(covariance: FloatArray) -> FloatArray:
    """``(G, J, J)`` correlations of ``covariance (G, J, J)``, 0 where a variance is.

    >>> correlations(np.array([[[4.0, 1.0], [1.0, 1.0]]])).tolist()
    [[[1.0, 0.5], [0.5, 1.0]]]
    """
    error = np.sqrt(np.maximum(np.einsum("gjj->gj", covariance), 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = covariance / (error[:, :, None] * error[:, None, :])
    return np.asarray(np.clip(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0))


def mean_of_shares(each: Sequence[Estimate], n: int, correlation: FloatArray | None = None) -> Estimate:
    """The plain mean of ``each`` estimate, all of which have values in [0, 1], on ``n`` rows.

    Args:
        each: ``J`` estimates.
        n: Rows behind all of them.
        correlation: ``(J, J)``, as for :func:`mean_limits`.

    >>> from auditkit.stats.linearised import proportion
    >>> mean_of_shares([proportion(np.array([True, False])), proportion(np.array([True]))], 3).value
    0.75
    """
    parts = np.array([[np.nan if part.value is None else part.value for part in each]])
    missing = next((part.reason for part in each if part.bounds is None), None)
    value = min(float(parts.mean()), 1.0)
    if missing is not None:
        return Estimate(value, n, None, missing)

    def bounds(level: float) -> Interval | None:
        prepare(each, level)
        found = [part.interval(level) for part in each]
        known = [interval for interval in found if interval is not None]
        if len(known) < len(found):
            return None
        ends = np.array([[[i.low for i in known]], [[i.high for i in known]]])
        tied = None if correlation is None else correlation[None]
        low, high = mean_limits(parts, ends[0], ends[1], tied)
        return Interval(
            low=float(low[0]),
            high=float(high[0]),
            level=level,
            method=mean_method(known[0].method),
            degrees_of_freedom=fewest_degrees_of_freedom(known),
        )

    return Estimate(value, n, bounds)


def mean_method(method: str) -> str:
    """What the limits of a mean of shares are called whose own limits are made by ``method``."""
    return f"mover-{method}"
