"""Limits of the mean of values that lie in a known range, which stay right where hardly any value differs.

Student's t needs a mean that is nearly normal. The mean of shares of which almost all are 1 is not: samples in which no
row differs give no width at all, and those with a few rows too little. Gaffke's limits put the unseen in: the upper
limit is a quantile of the mean of the values and of one more at the upper end of the range, each weighed by chance.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.linearised import cluster_sums

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# The first step of the integral, halved until it changes by no more than a share of itself (the error is then about the
# square of that), what may be left of it at its end, and the size of the array of one block of it.
_STEP, _HALVINGS, _AGREED, _LEFT, _BLOCK = 0.25, 8, 1e-6, 1e-12, 100_000


def bounded_mean(
    values: FloatArray,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    *,
    least: float = 0.0,
    most: float = 1.0,
) -> Estimate:
    """Weighted mean of ``values (n,)`` in [``least``, ``most``] with limits at any level.

    With independent standard exponential numbers ``G``, the upper limit is the quantile of
    ``(sum_i w_i G_i v_i + w_0 G_0 most) / (sum_i w_i G_i + w_0 G_0)``, and the lower one that with ``least``; the row
    that was not seen weighs ``w_0 = sum w^2 / sum w``, the mean weight by weight. Of clusters the means count, by their
    weights. For equal weights and values at the two ends these are Clopper and Pearson's limits; where values
    vary less they are narrower, and for many rows they become Student's. That they never err more often than they say
    is conjectured, not proved, for values between the ends.

    Args:
        values: Values in the range.
        weights: Row weights above 0; one each when left out.
        clusters: What a row belongs to; rows are independent when left out.
        least: Lower end of the range.
        most: Upper end.

    Source: Gaffke (2005), "Three test statistics for a nonparametric one-sided hypothesis on the mean of a
    nonnegative variable", Mathematical Methods of Statistics 14; Learned-Miller and Thomas (2019), arXiv 1905.06208.

    >>> found = bounded_mean(np.array([1.0, 1.0, 1.0, 0.0])).interval(0.95)
    >>> round(found.low, 4), round(found.high, 4)
    (0.1941, 0.9937)
    """
    n = len(values)
    rows = np.ones(n) if weights is None else weights
    if not rows.sum() > 0.0:
        return undefined("no rows")
    counted = rows > 0.0
    rows, values, clusters = rows[counted], values[counted], None if clusters is None else clusters[counted]
    masses = cluster_sums(rows, clusters)
    means = np.clip(cluster_sums(rows * values, clusters) / masses, least, most)
    value = min(max(float(masses @ means / masses.sum()), least), most)
    if clusters is not None and len(masses) < 2:
        return Estimate(value, n, None, "one independent row gives no interval")
    unseen = float((masses**2).sum() / masses.sum())
    pairs, times = np.unique(means + 1j * (masses / unseen), return_counts=True)
    held = pairs.real, pairs.imag, times

    def bounds(level: float) -> Interval:
        tail = (1.0 - level) / 2.0
        # The lower limit is the upper one of the values counted from the other end.
        high = _upper(*held, value, most, tail)
        low = -_upper(-held[0], *held[1:], -value, -least, tail)
        method = "gaffke" if clusters is None else "gaffke-clustered"
        return Interval(low=min(low, value), high=max(high, value), level=level, method=method)

    return Estimate(value, n, bounds)


def _upper(values: FloatArray, weights: FloatArray, times: IntArray, mean: float, most: float, tail: float) -> float:
    """Where the mean weighed by chance, with a row at ``most``, lies above with probability ``tail``."""
    from scipy.optimize import brentq

    if mean >= most:
        return most
    at, mass = np.append(values, most), np.append(weights, 1.0)
    shapes = np.append(times, 1).astype(np.float64)
    total = float(mass @ shapes)
    center = float(mass * at @ shapes) / total
    spread = math.sqrt(float((mass * (at - center)) ** 2 @ shapes)) / total

    def beyond(limit: float) -> float:
        return _above_zero(mass * (at - limit), shapes) - tail

    # A bracket near where the normal law puts the limit: the root is then found in a few steps.
    low, high = center, min(center + 2.0 * spread, most)
    while high < most and beyond(high) > 0.0:
        low, high = high, min(high + spread, most)
    return float(brentq(beyond, low, high, xtol=1e-10, rtol=1e-12)) if low < high else most


def _above_zero(scales: FloatArray, shapes: FloatArray) -> float:
    """``P(sum_k c_k G_k > 0)`` for independent gamma numbers of scales ``c_k`` and shapes ``m_k``, where it is small.

    The moment generating function ``prod (1 - c_k z)^(-m_k)`` over ``z``, integrated along the vertical through its
    saddle point on the real axis, where it swings least; the hyperbolic sine spreads the steps over the long ends of
    few rows. Where the mean is not below zero, which is no small probability, 0.5 is given.

    Source: Daniels (1954), Annals of Mathematical Statistics 25; Lugannani and Rice (1980), section 3.
    """
    if float(scales @ shapes) >= 0.0:
        return 0.5
    if float(scales.max()) <= 0.0:
        return 0.0
    saddle = _saddle(scales, shapes)
    room = 1.0 - scales * saddle
    tilted = scales / room
    size = 1.0 / math.sqrt(float(tilted**2 @ shapes))
    end = size
    while 0.5 * float(shapes @ np.log1p((tilted * end) ** 2)) < -math.log(_LEFT):
        end *= 1.5
    height = math.exp(-float(shapes @ np.log(room)))

    def summed(steps: FloatArray) -> float:
        along = size * np.sinh(steps)
        angle, fall = np.zeros(len(steps)), np.zeros(len(steps))
        block = max(1, _BLOCK // len(steps))
        for first in range(0, len(tilted), block):
            part = tilted[first : first + block, None] * along
            angle += shapes[first : first + block] @ np.arctan(part)
            fall += shapes[first : first + block] @ np.log1p(part**2)
        swing = np.exp(-0.5 * fall) * (saddle * np.cos(angle) + along * np.sin(angle)) / (saddle**2 + along**2)
        return float((swing * size * np.cosh(steps)).sum())

    far, step = math.asinh(end / size), _STEP
    total = summed(np.arange(step, far + step, step)) + 0.5 * size / saddle
    for _ in range(_HALVINGS):
        before, step = total * step, step / 2.0
        total += summed(np.arange(step, far + step, 2.0 * step))
        if abs(total * step - before) <= _AGREED * abs(before):
            break
    return height * step * total / math.pi


def _saddle(scales: FloatArray, shapes: FloatArray) -> float:
    """Where the slope of the cumulant function, which rises from below 0, is 0: Newton's steps, kept in a bracket."""
    low, high = 0.0, 1.0 / float(scales.max())
    at = min(-float(scales @ shapes) / float(scales**2 @ shapes), high / 2.0)
    for _ in range(60):
        tilted = scales / (1.0 - scales * at)
        slope = float(tilted @ shapes)
        low, high = (at, high) if slope < 0.0 else (low, at)
        step = slope / float(tilted**2 @ shapes)
        if abs(step) < 1e-7 * at:
            break
        at = at - step if low < at - step < high else (low + high) / 2.0
    return at
