"""The mean of outcomes in [0, 1] over rows and over repeated trainings, with an interval that reflects both."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.intervals import exact_share, kish_n, t_value, z_value

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Variance = tuple[float, float]
# A standard error of outcomes in [-1, 1] below this is rounding: nothing varied.
_ROUNDING = 1e-12


def replicated_rate(
    outcomes: FloatArray,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    level: float = 0.95,
) -> tuple[float, Interval]:
    """Mean of ``outcomes`` in [0, 1] (right or wrong, mostly) and an interval over test rows and trainings.

    Rows and trainings are crossed random factors. The variance is the sum of that of the rows' means and
    that of the trainings' means (their interaction counts twice, so that it errs on the wide side), with
    Satterthwaite's degrees of freedom; it enters the exact limits as an effective number of rows. With a
    single training the interval is over rows alone.

    Args:
        outcomes: ``(s, n)``: training by row.
        weights: ``(n,)`` row weights.
        clusters: ``(n,)`` codes of what a row belongs to; clusters then vary instead of rows.
        level: Two-sided confidence level.

    Source: Korn and Graubard (1998) for the effective number of rows; Satterthwaite (1946).
    """
    mean, variance, freedom = _two_way(outcomes, weights, clusters)
    rows = independent_rows(outcomes.shape[1], weights, clusters)
    spread = mean * (1.0 - mean)
    effective, counted = rows, None
    if variance > 0.0 and spread > 0.0:
        effective, counted = spread / variance * (z_value(level) / t_value(level, freedom)) ** 2, freedom
    method = _method("korn-graubard", len(outcomes))
    bounds = exact_share(min(max(mean, 0.0), 1.0), effective, level, method)
    assert bounds is not None
    return mean, replace(bounds, degrees_of_freedom=counted)


def replicated_difference(
    first: FloatArray,
    second: FloatArray,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    level: float = 0.95,
) -> tuple[float, Interval]:
    """Mean of ``first - second`` (both ``(s, n)``, paired by training and row), as :func:`replicated_rate`.

    A Student interval; where no outcome differs, what a true difference could be without showing once.
    """
    mean, variance, freedom = _two_way(first - second, weights, clusters)
    rows = independent_rows(first.shape[1], weights, clusters)
    counted = freedom if variance > 0.0 else None
    half = t_value(level, freedom) * math.sqrt(variance) if variance > 0.0 else 0.0
    if half == 0.0:
        unseen = exact_share(0.0, rows, level)
        half, counted = 0.0 if unseen is None else unseen.high, None
    low, high = max(-1.0, mean - half), min(1.0, mean + half)
    method = _method("student-t", len(first))
    return mean, Interval(
        low=min(low, mean), high=max(high, mean), level=level, method=method, degrees_of_freedom=counted
    )


def independent_rows(n: int, weights: FloatArray | None, clusters: IntArray | None) -> float:
    """Kish's effective number of ``n`` rows, and at most as many as there are clusters."""
    size = kish_n(np.ones(n) if weights is None else weights)
    return size if clusters is None else min(size, float(len(np.unique(clusters))))


def _method(base: str, trainings: int) -> str:
    return f"{base} over rows and trainings" if trainings > 1 else f"{base} over rows"


def _two_way(outcomes: FloatArray, weights: FloatArray | None, clusters: IntArray | None) -> tuple[float, float, float]:
    """Weighted mean, its variance over rows and trainings, and Satterthwaite's degrees of freedom."""
    trainings, n = outcomes.shape
    if trainings == 0 or n == 0:
        raise ValueError("a mean of no outcomes")
    weights = np.ones(n) if weights is None else weights
    # Summed as the weights are, so that outcomes of 1 alone have a mean of exactly 1.
    by_training = (outcomes * weights).sum(axis=1) / weights.sum()
    mean = float(by_training.mean())
    parts = weights * (outcomes.mean(axis=0) - mean) / weights.sum()
    if clusters is not None:
        parts = np.bincount(np.unique(clusters, return_inverse=True)[1], weights=parts).astype(np.float64)
    units = len(parts)
    pieces: list[Variance] = []
    if units > 1:
        pieces.append((units / (units - 1) * float((parts**2).sum()), units - 1.0))
    if trainings > 1:
        pieces.append((float(by_training.var(ddof=1)) / trainings, trainings - 1.0))
    variance = sum(piece for piece, _ in pieces)
    if variance < _ROUNDING**2:
        return mean, 0.0, 1.0
    shares = sum(piece**2 / freedom for piece, freedom in pieces)
    return mean, variance, variance**2 / shares if shares > 0.0 else 1.0
