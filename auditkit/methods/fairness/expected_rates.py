"""Rates and gaps of decisions that may be drawn at random, and how far a gap moves from one rule to another.

A randomised rule decides row ``i`` as positive with probability ``p_i``. Its rates are means of ``p_i``: what many
draws would give on average, so that no number hangs on the luck of one draw. A plain rule has ``p_i`` of 0 or 1.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.methods.fairness.metrics import Exact
from auditkit.methods.fairness.worst import Gap, Joint, joint_gaps
from auditkit.stats.bounded import bounded_mean
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.intervals import fewest_degrees_of_freedom, t_value
from auditkit.stats.linearised import PLAIN, Design, cluster_sums, expected_proportion
from auditkit.stats.matched import matched_limits

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
_ANY_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows split into cells whose rates are compared within blocks.

    Attributes:
        code: ``(n,)`` cell of each row, ``block * groups + group``.
        groups: Number of groups in a block.
        blocks: Number of blocks: 1 for selection rates, 2 (by label) for equalized odds.
    """

    code: IntArray
    groups: int
    blocks: int = 1


@dataclass(frozen=True, slots=True)
class CellRates:
    """The rates of one block; satisfies :class:`auditkit.methods.fairness.gaps.Estimates`."""

    estimates: tuple[Estimate, ...]

    @property
    def value(self) -> FloatArray:
        """``(G,)`` rates, NaN where a cell has no rows."""
        return np.array([np.nan if e.value is None else e.value for e in self.estimates])

    @property
    def rows(self) -> IntArray:
        """``(G,)`` rows behind each."""
        return np.array([e.n for e in self.estimates], dtype=np.int64)

    @property
    def fewest_freedom(self) -> float | None:
        """The fewest degrees of freedom behind any cell's limits."""
        return fewest_degrees_of_freedom(estimate.interval(_ANY_LEVEL) for estimate in self.estimates)

    def exact(self, level: float) -> Exact | None:
        """The shares with exact limits at ``level`` behind the rates; ``None`` unless each has one."""
        shares = [e.share for e in self.estimates if e.share is not None]
        if len(shares) < len(self.estimates):
            return None
        columns = np.array([(share.value, share.rows(level), share.odds) for share in shares]).reshape(-1, 3)
        return columns[:, 0], columns[:, 1], columns[:, 2]

    def limits(self, level: float, factor: FloatArray | float = 1.0) -> tuple[FloatArray, FloatArray]:
        """Their own limits at two-sided ``level``; ``factor`` shrinks them by its root."""
        found = [e.interval(level) for e in self.estimates]
        low = np.array([np.nan if i is None else i.low for i in found])
        high = np.array([np.nan if i is None else i.high for i in found])
        shrink = 1.0 / np.sqrt(np.broadcast_to(np.asarray(factor, dtype=np.float64), low.shape))
        return self.value - (self.value - low) * shrink, self.value + (high - self.value) * shrink


def expected_rate(chance: FloatArray, design: Design = PLAIN) -> Estimate:
    """Mean of ``chance (n,)``, each the probability of a positive decision, with exact limits on effective rows.

    >>> expected_rate(np.array([0.0, 1.0, 0.5, 0.5])).value
    0.5
    """
    return expected_proportion(chance, design.weights, design.clusters)


def expected_change(before: FloatArray, after: FloatArray, design: Design = PLAIN) -> Estimate:
    """Mean of ``after (n,)`` less that of ``before (n,)``, both chances on the same rows.

    Plain rows and plain rules have the exact limits of matched pairs, all else limits for means of values in [-1, 1].

    Source: Fay and Lumbard (2021), Statistics in Medicine 40; Gaffke (2005), Mathematical Methods of Statistics 14.

    >>> expected_change(np.array([0.0, 1.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0, 1.0])).value
    0.25
    """
    moved, n = after - before, len(before)
    if not (design.plain and n and np.isin(moved, (-1.0, 0.0, 1.0)).all()):
        return bounded_mean(moved, design.weights, design.clusters, least=-1.0)
    up, down = np.array([np.mean(moved > 0)]), np.array([np.mean(moved < 0)])

    def bounds(level: float) -> Interval:
        low, high = matched_limits(up, down, np.array([float(n)]), level)
        return Interval(low=float(low[0]), high=float(high[0]), level=level, method="matched-melded")

    return Estimate(float(up[0] - down[0]), n, bounds)


def expected_gap(chance: FloatArray, cells: Cells, design: Design = PLAIN, level: float = 0.95) -> Gap:
    """Largest absolute gap of expected rates within a block, over all blocks, with a simultaneous interval.

    >>> chance, group = np.array([1.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 1])
    >>> expected_gap(chance, Cells(group, 2)).value
    0.5
    """
    blocks = [
        CellRates(
            tuple(
                expected_rate(chance[rows], design.take(rows))
                for rows in (np.flatnonzero(cells.code == block * cells.groups + g) for g in range(cells.groups))
            )
        )
        for block in range(cells.blocks)
    ]
    return joint_gaps([Joint(tuple(blocks), "difference", level)])[0]


def gap_change(
    before: FloatArray, after: FloatArray, cells: Cells, design: Design = PLAIN, level: float = 0.95
) -> Estimate:
    """Largest gap under ``after`` less that under ``before``, both on the same rows, with a paired interval.

    With signed differences ``a_j`` (after) and ``b_k`` (before) over ordered pairs of cells, the change is
    ``max_j min_k (a_j - b_k)``. If all limits of ``a_j - b_k`` held over one index, so would the same expression of the
    limits: the upper one needs them over ``k`` (at the true ``j``), the lower one over ``j`` (at the true ``k``), so
    Bonferroni over one index is enough. The change also lies between the least and the largest ``a_j - b_j``, by the
    same limits, which is closer where pairs are nearly tied. Variances come from both rules' decisions on the same
    row, with half a row added to each of the four outcomes in each cell, so that they do not vanish at 0 and 1.

    Args:
        before: ``(n,)`` chance of a positive decision under the first rule.
        after: The same under the second.
        cells: Which rows are compared.
        design: Weights and clusters.
        level: Two-sided level.

    Source: Agresti and Min (2005), Statistics in Medicine 24, for the half rows; Berger (1982) for the principle.

    >>> group = np.repeat([0, 1], 100)
    >>> found = gap_change(1.0 - group, np.ones(200), Cells(group, 2))
    >>> found.value
    -1.0
    """
    n, size = len(before), cells.groups * cells.blocks
    w = design.masses(n)
    mass = np.bincount(cells.code, weights=w, minlength=size)
    if (mass == 0).any() or cells.groups < 2:
        return undefined("a group has no rows to compare", n)
    rates = np.concatenate([np.bincount(cells.code, weights=w * p, minlength=size) / mass for p in (before, after)])
    pairs = [
        (b * cells.groups + i, b * cells.groups + j)
        for b in range(cells.blocks)
        for i, j in itertools.permutations(range(cells.groups), 2)
    ]
    first = np.zeros((len(pairs), 2 * size))
    second = np.zeros((len(pairs), 2 * size))
    for row, (i, j) in enumerate(pairs):
        first[row, [i, j]] = 1.0, -1.0
        second[row, [size + i, size + j]] = 1.0, -1.0
    theta = (second @ rates)[:, None] - (first @ rates)[None, :]
    value = float(theta.min(axis=1).max())
    units = min(design.take(np.flatnonzero(cells.code == c)).units(int((cells.code == c).sum())) for c in range(size))
    if units < 2:
        return Estimate(value, n, None, "a group has too few rows or clusters for an interval")
    covariance = _covariance(before, after, cells, design, rates)
    one, two, cross = first @ covariance @ first.T, second @ covariance @ second.T, second @ covariance @ first.T
    spread = np.sqrt(np.maximum(np.diag(two)[:, None] + np.diag(one)[None, :] - 2.0 * cross, 0.0))

    freedom = max(math.floor(units) - 1, 1)

    def bounds(at: float) -> Interval:
        half = t_value(1.0 - (1.0 - at) / len(pairs), freedom) * spread
        low, high = float((theta - half).min(axis=1).max()), float((theta + half).min(axis=1).max())
        same = np.diag(theta), np.diag(half)
        low, high = max(low, float((same[0] - same[1]).min())), min(high, float((same[0] + same[1]).max()))
        low, high = max(min(low, value), -1.0), min(max(high, value), 1.0)
        return Interval(low=low, high=high, level=at, method="paired-simultaneous", degrees_of_freedom=freedom)

    return Estimate(value, n, bounds)


def _covariance(before: FloatArray, after: FloatArray, cells: Cells, design: Design, rates: FloatArray) -> FloatArray:
    """``(2C, 2C)`` covariance of the cells' rates under both rules, with half a row at each corner of a cell."""
    n, size = len(before), cells.groups * cells.blocks
    w = design.masses(n)
    parts = np.zeros((n, 2 * size))
    mass = np.bincount(cells.code, weights=w, minlength=size)
    for side, chance in enumerate((before, after)):
        place = side * size + cells.code
        parts[np.arange(n), place] = w * (chance - rates[place]) / mass[cells.code]
    if design.clusters is not None:
        parts = np.stack([cluster_sums(column, design.clusters) for column in parts.T], axis=1)
    units = len(parts)
    found = units / (units - 1) * parts.T @ parts
    for cell in range(size):
        own = np.flatnonzero(cells.code == cell)
        rows = design.take(own).units(len(own))
        at = [cell, size + cell]
        corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]) - rates[at]
        found[np.ix_(at, at)] += 0.5 * corners.T @ corners / (rows + 2.0) ** 2
    return np.asarray(found)
