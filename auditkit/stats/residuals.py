"""Errors and fit of predicted values, each with an interval: one convention for every family that measures them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.linearised import PLAIN, Design, log_bounds, mean, variance_of

FloatArray = npt.NDArray[np.float64]


def r2(y: FloatArray, predicted: FloatArray, design: Design = PLAIN) -> Estimate:
    """``1 - SSE / SST``; undefined when the targets do not vary.

    Interval: linearised, on the log scale of ``SSE / SST``.

    >>> r2(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0])).value
    0.5
    """
    n = len(y)
    if n < 2:
        return undefined(f"R2 needs two rows or more, got {n}", n)
    w = design.masses(n)
    deviation = (y - (w * y).sum() / w.sum()) ** 2
    total = float((w * deviation).sum())
    if total <= 1e-12 * float(w.sum()) * float((y**2).max()):  # rounding aside
        return undefined("R2 needs targets that vary, and these are all equal", n)
    squared = (y - predicted) ** 2
    ratio = float((w * squared).sum()) / total
    variance, units = variance_of(w * (squared - ratio * deviation) / total, design.clusters)
    if ratio <= 0.0:
        return Estimate(1.0, n, None, "no residual is left, so the rows say nothing about the spread of R2")
    if units < 3:
        return Estimate(1.0 - ratio, n, None, "fewer than three independent rows give no interval")
    method = "linearised-log" if design.clusters is None else "cluster-linearised-log"
    inner = log_bounds(ratio, variance, units, method)

    def bounds(level: float) -> Interval | None:
        found = inner(level)
        return found and replace(found, low=1.0 - found.high, high=1.0 - found.low)

    return Estimate(1.0 - ratio, n, bounds)


def mean_absolute_error(y: FloatArray, predicted: FloatArray, design: Design = PLAIN) -> Estimate:
    """Mean of ``|y - predicted|``, in the unit of the target; Student-t interval.

    >>> mean_absolute_error(np.array([1.0, 2.0]), np.array([1.0, 4.0])).value
    1.0
    """
    return mean(np.abs(y - predicted), design.weights, design.clusters, least=0.0)


def root_mean_squared_error(y: FloatArray, predicted: FloatArray, design: Design = PLAIN) -> Estimate:
    """Square root of the mean squared error, in the unit of the target; interval on the log scale.

    >>> root_mean_squared_error(np.array([1.0, 2.0]), np.array([4.0, 6.0])).value.__round__(6)
    3.535534
    """
    n = len(y)
    if n == 0:
        return undefined("no rows")
    w = design.masses(n)
    squared = (y - predicted) ** 2
    value = float((w * squared).sum() / w.sum())
    variance, units = variance_of(w * (squared - value) / w.sum(), design.clusters)
    if value <= 0.0 or units < 2:
        reason = "no residual is left" if value <= 0.0 else "one independent row gives no interval"
        return Estimate(math.sqrt(max(value, 0.0)), n, None, reason)
    method = "linearised-log" if design.clusters is None else "cluster-linearised-log"
    inner = log_bounds(value, variance, units, method)

    def bounds(level: float) -> Interval | None:
        found = inner(level)
        return found and replace(found, low=math.sqrt(found.low), high=math.sqrt(found.high))

    return Estimate(math.sqrt(value), n, bounds)
