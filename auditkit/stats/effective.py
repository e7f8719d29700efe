"""Effective rows: how many equal and independent rows would tell as much of a share as these weighted, clustered ones.

A share's linearised variance is itself an estimate. Near 0 and 1 it rests on the few rows that are hits (or misses).
Where by chance no heavy row or large cluster is among them, the share and its variance are too small together. So the
variance is never taken below what it would be if weights and sizes had nothing to do with the outcome. Without that
each limit misses up to 14 % of the time (weights) or 16 % (clusters) where it should 2.5 %
(``tests/stats/test_stats_effective.py``). What is left is in ``benchmarks/results/weighted_coverage.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.stats.beta import MOST_ROWS
from auditkit.stats.intervals import z_value

FloatArray = npt.NDArray[np.float64]
# The share of a cluster that is taken to agree beside the rows seen. Over 216 settings of 10 to 100 clusters of up to
# 100 rows one row alone let a limit miss up to 8.6 % of the time, a fifth of a cluster up to 3.1 % (2.5 % and noise).
_AGREEING = 0.2


@dataclass(frozen=True, slots=True)
class Squares:
    """Sums of squares behind shares, arrays of one shape. A row that is part hit (by chance) counts for its part.

    Attributes:
        rows: Of the weights of all rows that the share is of.
        hit_rows: Of those that are hits.
        clusters: Of each cluster's weight, summed over clusters; ``rows`` again without clusters.
        hit_clusters: Of each cluster's weight of hits.
        crossed: Products of the two, summed over clusters.
        part_rows: Of the weights of hits themselves: ``hit_rows`` again, unless rows are part hits.
        spread: Weighted variance of the rows' values: ``share (1 - share)``, unless rows are part hits.
    """

    rows: FloatArray
    hit_rows: FloatArray
    clusters: FloatArray
    hit_clusters: FloatArray
    crossed: FloatArray
    part_rows: FloatArray | None = None
    spread: FloatArray | None = None

    def shared(self, share: FloatArray, total: FloatArray) -> FloatArray:
        """Covariance of two rows of a cluster, from 0 (they do not go together) to their variance (always).

        How often another row of a hit's cluster is a hit, beyond ``share``; the same of misses; the larger of the two.
        Both go from a row to its cluster, so that it does not matter which clusters happened to be hit. Rows whose
        cluster all agrees with them are added to either, one, or a fifth of a large cluster: a few hits say nothing of
        how rows go together, and must not be taken for a sign that they do not.
        """
        held = self.hit_rows if self.part_rows is None else self.part_rows
        with np.errstate(divide="ignore", invalid="ignore"):
            more = (self.clusters - self.rows) * np.maximum(self.rows, _AGREEING * self.clusters) / total**2
        hits = _covariance(share, self.crossed - self.hit_rows + more, self.hit_clusters - held + more)
        misses = _covariance(
            1.0 - share,
            self.clusters - self.crossed - (self.rows - self.hit_rows) + more,
            self.clusters - 2.0 * self.crossed + self.hit_clusters - (self.rows - 2.0 * self.hit_rows + held) + more,
        )
        return np.clip(np.maximum(hits, misses), 0.0, self._spread(share))

    def least_variance(self, share: FloatArray, total: FloatArray) -> FloatArray:
        """The variance of ``share`` of ``total`` weight, if weights and sizes had nothing to do with the outcome."""
        pairs = np.maximum(self.clusters - self.rows, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((self._spread(share) * self.rows + self.shared(share, total) * pairs) / total**2)

    def _spread(self, share: FloatArray) -> FloatArray:
        return share * (1.0 - share) if self.spread is None else self.spread


@dataclass(frozen=True, slots=True)
class Turning:
    """What becomes of a share of rows chosen by decisions (precision, F1) as clusters turn from right to wrong.

    The rows below the line are then others: all rows of a cluster that is decided wrongly are below that of F1, and of
    one that is decided rightly the positive ones alone. So a wrong cluster that was not seen weighs more than those
    that were, and the rows below the line do not tell how much. All rows do. Arrays of one shape; each row moves the
    share, times the weight below the line, by its weight times what its label makes of it, from 0 to 1.

    Attributes:
        right: Share of all rows that are decided rightly.
        total: Weight of all rows.
        squares: Of all rows, with those decided rightly as the hits.
        moved: How much all rows move the share together.
        clusters: Squares of how much each cluster does, as a whole.
        spread_rows: Squares of how much each row does, times the standard deviation of right and wrong of its label.
        spread_clusters: The same of each cluster.
    """

    right: FloatArray
    total: FloatArray
    squares: Squares
    moved: FloatArray
    clusters: FloatArray
    spread_rows: FloatArray
    spread_clusters: FloatArray

    def least_variance(self, below: FloatArray) -> FloatArray:
        """The variance of the share over ``below`` weight, if right and wrong had nothing to do with a cluster's size
        and rows of both labels fail together."""
        pairs = np.maximum(self.spread_clusters - self.spread_rows, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            together = self.squares.shared(self.right, self.total) / (self.right * (1.0 - self.right))
            return np.asarray(np.nan_to_num((self.spread_rows + np.nan_to_num(together) * pairs) / below**2))

    def spread(self, share: FloatArray, below: FloatArray, spread: FloatArray) -> FloatArray:
        """Kish's ``spread`` of a share; of 0 or 1 no more than where the first cluster to turn turns as a whole."""
        with np.errstate(divide="ignore", invalid="ignore"):
            unseen = np.nan_to_num(self.moved * below / self.clusters, nan=np.inf)
        return np.where((share > 0.0) & (share < 1.0), spread, np.minimum(spread, unseen))


def effective_rows(
    share: FloatArray, variance: FloatArray, spread: FloatArray, clustered: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Effective rows and degrees of freedom of shares, all arrays of one shape.

    Args:
        share: In [0, 1].
        variance: Linearised, no less than :meth:`Squares.least_variance`.
        spread: Kish's number of rows, or of clusters, behind each share: stands in where the variance says nothing.
        clustered: Whether ``spread`` is of clusters.

    Returns:
        Rows, and degrees of freedom of their variance: infinite without clusters.

    Source: Korn and Graubard (1998), Survey Methodology 24; Kish (1965).

    >>> rows, freedom = effective_rows(np.array([0.5]), np.array([0.0025]), np.array([200.0]))
    >>> rows.tolist(), freedom.tolist()
    ([100.0], [inf])
    """
    binomial = share * (1.0 - share)
    freedom = spread - 1.0 if clustered else np.full(np.shape(share), np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        inflated = variance * (1.0 + 1.0 / np.maximum(freedom, 1e-12))
        known = (share > 0.0) & (share < 1.0) & (inflated * MOST_ROWS > binomial)
        return np.where(known, binomial / inflated, spread), freedom


def corrected_rows(rows: FloatArray, freedom: FloatArray, level: float) -> FloatArray:
    """Effective rows for limits at two-sided ``level``: fewer where their variance has few degrees of freedom."""
    if np.isinf(freedom).all():
        return rows
    return np.asarray(rows * t_correction(freedom, z_value(level)))


def t_correction(freedom: FloatArray, z: float) -> FloatArray:
    """``(z / t)^2`` for each degrees of freedom, 0 below 2; t by Fisher's expansion (Abramowitz and Stegun 26.7.5)."""
    with np.errstate(divide="ignore"):
        v = np.where(freedom > 0, 1.0 / np.maximum(freedom, 1e-300), 0.0)
    v = np.where(np.isinf(freedom), 0.0, v)
    t = (
        z
        + (z**3 + z) / 4 * v
        + (5 * z**5 + 16 * z**3 + 3 * z) / 96 * v**2
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 * v**3
    )
    return np.where(freedom < 2 - 1e-9, 0.0, (z / t) ** 2)


def _covariance(share: FloatArray, pairs: FloatArray, hits: FloatArray) -> FloatArray:
    """Covariance of two rows of a cluster, from the weight of its ``pairs`` with a hit and of those of two ``hits``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.nan_to_num(share * (hits / pairs - share), nan=0.0, posinf=0.0, neginf=0.0))
