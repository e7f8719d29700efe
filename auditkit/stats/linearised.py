"""Variances by linearisation: one influence value a row gives the interval of any smooth estimate.

An estimate ``T`` of weighted rows moves by about ``sum_i u_i`` from its population value, where the
*parts* ``u_i = w_i * psi_i / sum(w)`` sum to zero. Rows that belong together (clusters) are summed before
squaring, so weighted and clustered rows need no resampling.

Source: Binder (1983), International Statistical Review 51; Deville (1999), Survey Methodology 25.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.beta import MOST_ROWS
from auditkit.stats.effective import Squares, Turning, corrected_rows, effective_rows
from auditkit.stats.estimate import Bounds, Estimate, Share, undefined
from auditkit.stats.intervals import exact_share, kish_n, t_value

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Design:
    """How rows count and hang together: ``weights (n,)`` and ``clusters (n,)``, each ``None`` when plain."""

    weights: FloatArray | None = None
    clusters: IntArray | None = None

    @property
    def plain(self) -> bool:
        """Whether rows are equal and independent."""
        return self.weights is None and self.clusters is None

    def take(self, rows: npt.NDArray[Any]) -> Design:
        """The design of some rows (a mask or positions)."""
        return Design(
            None if self.weights is None else self.weights[rows],
            None if self.clusters is None else self.clusters[rows],
        )

    def masses(self, n: int) -> FloatArray:
        """Row weights ``(n,)``, ones when there are none."""
        return np.ones(n) if self.weights is None else self.weights

    def units(self, n: int) -> float:
        """Kish's effective number of independent units among ``n`` rows."""
        return kish_n(cluster_sums(self.masses(n), self.clusters))


PLAIN = Design()


def cluster_sums(values: FloatArray, clusters: IntArray | None) -> FloatArray:
    """Sums of ``values (n,)`` within clusters ``(c,)``; the values themselves when there are no clusters."""
    if clusters is None:
        return values
    return np.bincount(np.unique(clusters, return_inverse=True)[1], weights=values).astype(np.float64)


def variance_of(parts: FloatArray, clusters: IntArray | None = None) -> tuple[float, int]:
    """Variance of an estimate from its parts ``(n,)``, and the number of independent units behind it.

    >>> variance_of(np.array([0.1, -0.1]))[0].__round__(6)
    0.04
    """
    sums = cluster_sums(parts, clusters)
    units = len(sums)
    if units < 2:
        return 0.0, units
    return units / (units - 1) * float((sums**2).sum()), units


def proportion(
    hits: npt.NDArray[np.bool_], weights: FloatArray | None = None, clusters: IntArray | None = None
) -> Estimate:
    """Weighted share of ``hits (n,)`` with exact limits on the effective number of rows.

    Plain rows give Clopper and Pearson's interval. With weights or clusters the effective number is
    ``p (1 - p) / var(p)`` from the linearised variance, shrunk by ``(z / t)^2`` for its degrees of freedom
    (:mod:`auditkit.stats.effective`). At a share of 0 or 1, where the variance says nothing, it is Kish's number over
    the clusters' weights (as if rows of a cluster always agreed).

    Source: Korn and Graubard (1998), Survey Methodology 24; Dean and Pagano (2015), J. Survey Stat. Methodol. 3.

    >>> proportion(np.array([True, True, False, False])).value
    0.5
    """
    n = len(hits)
    if n == 0:
        return undefined("no rows")
    if weights is None and clusters is None:
        value = float(hits.mean())
        share = Share(value, lambda _: float(n))
        return Estimate(value, n, lambda level: exact_share(value, n, level), share=share)
    return _share(hits.astype(np.float64), weights, clusters, clusters is not None)


def expected_proportion(
    chance: FloatArray, weights: FloatArray | None = None, clusters: IntArray | None = None
) -> Estimate:
    """Weighted mean of ``chance (n,)`` in [0, 1], each row's probability of being a hit; :func:`proportion` if all are
    0 or 1.

    Rows that are part hits vary less than hits and misses, so that they are more effective rows, with the degrees of
    freedom of a variance: those of the rows, or of the clusters.

    >>> expected_proportion(np.array([0.0, 1.0, 0.5, 0.5])).value
    0.5
    """
    if ((chance == 0.0) | (chance == 1.0)).all():
        return proportion(chance == 1.0, weights, clusters)
    return _share(chance, weights, clusters, True)


@dataclass(frozen=True, slots=True)
class Sides:
    """Which rows ``(n,)`` are hits, and which are counted at all, in a share of rows that decisions choose."""

    hits: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]


def decided_proportion(
    now: Sides,
    turned: Sides,
    positive: npt.NDArray[np.bool_],
    right: npt.NDArray[np.bool_],
    weights: FloatArray | None,
    clusters: IntArray | None,
) -> Estimate:
    """:func:`proportion` of hits among the rows that decisions choose, with what clusters decided otherwise would move.

    Args:
        now: The rows as they are decided.
        turned: As they would be if each were decided the other way.
        positive: ``(n,)`` whether a row is of the class.
        right: ``(n,)`` whether it is decided rightly.
        weights, clusters: Of all rows.

    Source: as :func:`proportion`; :class:`auditkit.stats.effective.Turning`.
    """
    rows = now.counted
    own = None if weights is None else weights[rows]
    if clusters is None:
        return proportion(now.hits[rows], own, None)

    def turning(share: float) -> Turning:
        w = np.ones(len(rows)) if weights is None else weights
        moved = w * np.abs(
            now.hits.astype(float) - share * now.counted - turned.hits.astype(float) + share * turned.counted
        )
        spread = np.empty(len(rows))
        for label in (positive, ~positive):
            failed = float(w[label & ~right].sum()) / max(float(w[label].sum()), 1e-300)
            spread[label] = moved[label] * math.sqrt(failed * (1.0 - failed))
        size, held = cluster_sums(w, clusters), cluster_sums(w * right, clusters)
        whole = (cluster_sums(part, clusters) ** 2 for part in (moved, spread))
        squares = (w**2, w**2 * right, size**2, held**2, size * held)
        of_moved, of_spread = (np.array([each.sum()]) for each in whole)
        return Turning(
            right=np.array([float((w * right).sum() / w.sum())]),
            total=np.array([float(w.sum())]),
            squares=Squares(*(np.array([each.sum()]) for each in squares)),
            moved=np.array([moved.sum()]),
            clusters=of_moved,
            spread_rows=np.array([(spread**2).sum()]),
            spread_clusters=of_spread,
        )

    return _share(now.hits[rows].astype(np.float64), own, clusters[rows], True, turning)


def _share(
    values: FloatArray,
    weights: FloatArray | None,
    clusters: IntArray | None,
    few: bool,
    turning: Callable[[float], Turning] | None = None,
) -> Estimate:
    """The mean of ``values`` in [0, 1] on effective rows; ``few``: their variance has degrees of freedom to count."""
    w = np.ones(len(values)) if weights is None else weights
    total = float(w.sum())
    share = min(max(float((w * values).sum()) / total, 0.0), 1.0)
    masses = cluster_sums(w, clusters)
    if len(masses) < 2:
        return Estimate(share, len(values), None, "one independent row gives no interval")
    variance = float((cluster_sums(w * (values - share) / total, clusters) ** 2).sum())
    held = cluster_sums(w * values, clusters)
    sums = (
        w**2,
        w**2 * values,
        masses**2,
        held**2,
        masses * held,
        (w * values) ** 2,
        w * (values - share) ** 2 / total,
    )
    squares = Squares(*(np.array([each.sum()]) for each in sums))
    value, below, spread = np.array([share]), np.array([total]), np.array([kish_n(masses)])
    variances = np.maximum(variance, squares.least_variance(value, below))
    if turning is not None:
        turned = turning(share)
        variances = np.maximum(variances, turned.least_variance(below))
        spread = turned.spread(value, below, spread)
    rows, freedom = effective_rows(value, variances, spread, few)
    method = "korn-graubard-clustered" if clusters is not None else "korn-graubard-t" if few else "korn-graubard"

    def rows_at(level: float) -> float:
        return float(corrected_rows(rows, freedom, level)[0])

    counted = float(freedom[0]) if math.isfinite(freedom[0]) else None

    def bounds(level: float) -> Interval | None:
        found = exact_share(share, rows_at(level), level, method)
        return found and replace(found, degrees_of_freedom=counted)

    return Estimate(share, len(values), bounds, share=Share(share, rows_at))


def logit_bounds(value: float, variance: float, units: int, floor_n: float, method: str) -> Bounds:
    """Limits on the logit scale for a quantity in (0, 1); exact on ``floor_n`` rows at 0 or 1 or without variance."""

    def bounds(level: float) -> Interval | None:
        if not 0.0 < value < 1.0 or variance <= value * (1.0 - value) / MOST_ROWS:
            return exact_share(value, floor_n, level, "exact-smaller-class")
        if units < 2:
            return None
        center = math.log(value / (1.0 - value))
        half = t_value(level, units - 1) * math.sqrt(variance) / (value * (1.0 - value))
        low, high = (1.0 / (1.0 + math.exp(-min(max(center + s * half, -700.0), 700.0))) for s in (-1.0, 1.0))
        return Interval(
            low=min(low, value), high=max(high, value), level=level, method=method, degrees_of_freedom=units - 1
        )

    return bounds


def mean(
    values: FloatArray,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    *,
    least: float | None = None,
    most: float | None = None,
) -> Estimate:
    """Weighted mean of ``values (n,)`` with Student-t limits; clusters are the units when given.

    ``least`` is the smallest mean possible (0 for losses) and ``most`` the largest, to which the limits are clipped.

    >>> mean(np.array([1.0, 2.0, 3.0])).value
    2.0
    """
    n = len(values)
    if n == 0:
        return undefined("no rows")
    w = np.ones(n) if weights is None else weights
    total = float(w.sum())
    value = float((w * values).sum() / total)
    variance, units = variance_of(w * (values - value) / total, clusters)
    if units < 2:
        return Estimate(value, n, None, "one independent row gives no interval")
    method = "student-t" if clusters is None else "cluster-student-t"

    def bounds(level: float) -> Interval:
        half = t_value(level, units - 1) * math.sqrt(variance)
        low = value - half if least is None else min(max(value - half, least), value)
        high = value + half if most is None else max(min(value + half, most), value)
        return Interval(low=low, high=high, level=level, method=method, degrees_of_freedom=units - 1)

    return Estimate(value, n, bounds)


def log_bounds(value: float, variance: float, units: int, method: str) -> Bounds:
    """Limits on the log scale for a positive quantity with a linearised ``variance``."""

    def bounds(level: float) -> Interval | None:
        if units < 2 or value <= 0.0:
            return None
        factor = math.exp(min(t_value(level, units - 1) * math.sqrt(variance) / value, 700.0))
        low, high = value / factor, value * factor
        if not math.isfinite(high):
            return None
        return Interval(low=low, high=high, level=level, method=method, degrees_of_freedom=units - 1)

    return bounds
