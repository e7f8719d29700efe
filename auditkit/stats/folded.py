"""The limits of a gap without a direction, ``|a - b|`` or the lower rate over the higher, from those with one.

The far limit, away from no gap, is the farther of the two that have a direction. The near one errs in two ways: the gap
may be smaller than it says, or turned round and still as large. Close to no gap the two are as likely as each other, so
each may have half the error; far from it the second does not happen, and the near limit is the one with a direction.
In between, ``|a - b| <= t`` is rejected where the chances of what was seen at ``a - b = t`` and at ``a - b = -t`` add
up to no more than the error. How they do follows from the distance in standard errors, as under a normal distribution;
the limit then lies in that proportion between the two that have a direction, at the whole error and at half of it.

Every gap goes through here: of two groups and of many, of counts and of measured values, on the card and in the gate.

Source: Hodges and Lehmann (1954), Journal of the Royal Statistical Society B 16, for tests of ``|theta| <= t``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from auditkit.stats.intervals import z_value
from auditkit.stats.melded import Kind, normal_cdf

FloatArray = npt.NDArray[np.float64]
Limits = tuple[FloatArray, FloatArray]
# Below this share of the way to the limit at half the error it is not worth working that limit out.
_NEGLIGIBLE = 1e-7
_STEPS = 50


def both_ways(level: float) -> float:
    """The level at which each of two directions has half the error.

    >>> both_ways(0.9)
    0.95
    """
    return 1.0 - (1.0 - level) / 2.0


def undirected(point: FloatArray, plain: Limits, strict: Limits, kind: Kind, level: float) -> Limits:
    """Limits of ``|point|``, or of ``point`` and ``1 / point``, whichever is below 1, at two-sided ``level``.

    Args:
        point: Differences ``a - b`` or ratios ``a / b``; a ratio may be 0, and its upper limit infinite.
        plain: Limits of them at ``level``, NaN where there are none.
        strict: The same at :func:`both_ways` of it; only where :func:`is_open`.
        kind: ``difference`` or ``ratio``.
        level: Two-sided level.

    >>> normal = np.array([2.4]), (np.array([0.44]), np.array([4.36])), (np.array([0.159]), np.array([4.641]))
    >>> low, high = undirected(*normal, "difference", 0.95)
    >>> low.round(3).tolist(), high.tolist()
    ([0.393], [4.36])
    """
    distance, near = _towards_none(point, plain, kind)
    share = _share(distance, near, level)
    with np.errstate(invalid="ignore"):
        between = near - share * (near - _towards_none(point, strict, kind)[1])
    nearer = np.where(share > _NEGLIGIBLE, between, near)
    nearer = np.where(near > 0.0, np.maximum(nearer, 0.0), np.where(np.isnan(near), np.nan, 0.0))
    low, high = plain
    if kind == "difference":
        return nearer, np.maximum(np.abs(low), np.abs(high))
    with np.errstate(divide="ignore", over="ignore"):
        far = np.minimum(low, np.where(high > 0, 1.0 / high, np.inf))
    return np.clip(far, 0.0, 1.0), np.exp(-nearer)


def is_open(point: FloatArray, plain: Limits, kind: Kind, level: float) -> npt.NDArray[np.bool_]:
    """Where the near limit hangs on the limit at half the error too."""
    distance, near = _towards_none(point, plain, kind)
    return np.asarray((near > 0.0) & (_share(distance, near, level) > _NEGLIGIBLE))


def _towards_none(point: FloatArray, limits: Limits, kind: Kind) -> Limits:
    """How far the value and its limit on the side of no gap lie from no gap; below 0 beyond it."""
    low, high = limits
    if kind == "difference":
        return np.abs(point), np.where(point < 0.0, -high, low)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, bottom, top = -np.log(point), -np.log(low), -np.log(high)
    return np.abs(value), np.where(value < 0.0, -bottom, top)


def _share(distance: FloatArray, near: FloatArray, level: float) -> FloatArray:
    """How far the limit lies on the way from that at the whole error (0) to that at half of it (1)."""
    whole, half = z_value(level), z_value(both_ways(level))
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = whole * distance / (distance - near)
    share = np.where(errors > half, 0.0, 1.0)
    # The second direction has a chance below 1e-9 beyond.
    between = np.flatnonzero((near > 0.0) & (errors > half) & (errors < half + 3.0))
    if len(between):
        at = errors[between]
        least, most, error = at - half, at - whole, (1.0 - level) / 2.0
        for _ in range(_STEPS):
            middle = (least + most) / 2.0
            fits = normal_cdf(middle - at) + normal_cdf(-middle - at) <= error
            least, most = np.where(fits, middle, least), np.where(fits, most, middle)
        share[between] = np.clip((at - whole - least) / (half - whole), 0.0, 1.0)
    return share
