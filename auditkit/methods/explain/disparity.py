"""Whether a model leans on other features for other groups, among rows of equal score.

Groups whose scores differ have other explanations for that reason alone: a row that is refused has large negative
attributions. So groups are compared within bins of the score, after a line in the score within each bin: a bin has a
width, the outer ones of many rows too, and within it the one group scores a little higher than the other. Where one
feature leads, that alone is a gap of many standard errors. The bins' gaps are averaged with weights that count a bin
for as much as it holds of both groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.intervals import t_value
from auditkit.stats.linearised import Design, cluster_sums
from auditkit.stats.permutation import PermutationResult, stratified_permutation_test

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_ROWS_A_SLOPE = 3  # beyond the means of a bin: fewer leave next to nothing to tell an error from
_NOTHING = 1e-9  # of the size of scores: rounding
_LEAST = 1e-300


def score_bins(score: FloatArray, bins: int | None = None) -> IntArray:
    """Codes ``(n,)`` of quantile bins of a score; equal scores share a bin.

    By default there are ``3 n^(1/4)`` bins, 5 at the least: what is left between groups within a bin after a line in
    the score shrinks faster than the standard error of a gap, and a bin still holds many rows for its line.

    >>> score_bins(np.arange(10.0), 5).tolist()
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    """
    n = len(score)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    wanted = max(5, math.ceil(3.0 * n**0.25)) if bins is None else bins
    edges = np.unique(np.quantile(score, np.linspace(0.0, 1.0, wanted + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, score, side="right"), return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairGaps:
    """Gaps between two groups at equal score, one entry a feature.

    Attributes:
        first: Code of the one group.
        second: Code of the other.
        means: ``(2, f)`` the groups' means over the bins that hold both, in the weights of the gap.
        gap: ``(f,)`` first less second.
        error: ``(f,)`` standard error; NaN where there is none.
        freedom: ``(f,)`` degrees of freedom of ``error``.
        rows: Rows of either group in bins that hold both.
    """

    first: int
    second: int
    means: FloatArray
    gap: FloatArray
    error: FloatArray
    freedom: FloatArray
    rows: int


def pair_gaps(
    values: FloatArray,
    groups: IntArray,
    bins: IntArray,
    pair: tuple[int, int],
    design: Design | None = None,
    score: FloatArray | None = None,
) -> PairGaps | None:
    """Mean gap between two groups within bins, at equal score there; ``None`` where no bin holds both.

    The gap is the group's coefficient in a regression of values on it, a constant for each bin and, with ``score``, a
    slope for each bin. The error is that of a sum of independent cell means and slopes (HC2), with Welch's degrees of
    freedom over the two groups: those of one bin without a slope are Welch's own. A cell of one row takes the variance
    of its group's other cells.

    Args:
        values: ``(n, f)``, such as each feature's share of a row's attributions.
        groups: ``(n,)`` codes.
        bins: ``(n,)`` codes.
        pair: The two groups.
        design: Weights and clusters.
        score: ``(n,)`` what the bins are of; within a bin, means are told at its mean. Left out, means are as they are.

    Source: Cochran (1954), Biometrics 10, for the weights; MacKinnon and White (1985) for the error, Welch (1947) for
    its freedom; Binder (1983) for clusters.

    >>> gaps = pair_gaps(np.array([[1.0], [3.0], [2.0], [2.0]]), np.array([0, 0, 1, 1]), np.zeros(4, int), (0, 1))
    >>> gaps.gap.tolist(), gaps.means.tolist()
    ([0.0], [[2.0], [2.0]])
    """
    design = design or Design()
    inside = np.isin(groups, pair)
    inside &= np.isin(bins, bins[groups == pair[0]]) & np.isin(bins, bins[groups == pair[1]])
    if not inside.any():
        return None
    values, side, part = values[inside], (groups[inside] == pair[1]).astype(np.int64), design.take(inside)
    bin_of = np.unique(bins[inside], return_inverse=True)[1]
    n, cells = len(values), 2 * (int(bin_of.max()) + 1)
    w = part.masses(n)
    cell = 2 * bin_of + side
    mass = np.bincount(cell, weights=w, minlength=cells)
    count = np.bincount(cell, minlength=cells)
    mean = _cell_sums(w[:, None] * values, cell, cells) / mass[:, None]
    line = _line(np.zeros(n) if score is None else score[inside], w, cell, count)
    slope = _cell_sums((w * line.off)[:, None] * (values - mean[cell]), bin_of, cells // 2) / line.spread[:, None]
    residual = values - mean[cell] - slope[bin_of] * line.off[:, None]
    mean -= np.repeat(slope, 2, axis=0) * line.place[:, None]
    apart = line.place[0::2] - line.place[1::2]
    weight = 1.0 / (1.0 / mass[0::2] + 1.0 / mass[1::2] + apart**2 / line.spread)
    weight = weight / weight.sum()
    means = np.stack([weight @ mean[0::2], weight @ mean[1::2]])
    # What a row's residual adds to the gap, and how much of itself it shows.
    counted = (1.0 - 2.0 * side) / mass[cell] - apart[bin_of] * line.off / line.spread[bin_of]
    shown = 1.0 - 1.0 / count[cell] - w * line.off**2 / line.spread[bin_of]
    parts = (weight[bin_of] * w * counted / np.sqrt(np.where(shown > _NOTHING, shown, np.inf)))[:, None] * residual
    by_side = np.stack([(parts[side == number] ** 2).sum(axis=0) for number in (0, 1)])
    by_side += _of_single_rows(residual, cell, count, weight)
    free = _side_freedom(count, side, part.clusters)
    # Welch's degrees of freedom; each slope takes one.
    known = (free >= 1).all() and free.sum() - line.bent >= 1
    freedom = by_side.sum(axis=0) ** 2 / np.maximum((by_side**2 / np.maximum(free, 1)[:, None]).sum(axis=0), _LEAST)
    freedom = np.clip(freedom * (1.0 - line.bent / max(free.sum(), 1)), 1.0, None)
    variance = by_side.sum(axis=0)
    if part.clusters is not None:
        summed = np.stack([cluster_sums(column, part.clusters) for column in parts.T], axis=1)
        own = len(summed) / max(len(summed) - 1, 1) * (summed**2).sum(axis=0)
        variance = variance - (parts**2).sum(axis=0) + own
    error = np.sqrt(variance) if known else np.full(values.shape[1], np.nan)
    return PairGaps(
        first=pair[0],
        second=pair[1],
        means=means,
        gap=means[0] - means[1],
        error=error,
        freedom=freedom,
        rows=n,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """Scores about their cells' means; all 0 in bins of too few rows, or of one score, for a slope.

    Attributes:
        off: ``(n,)`` a row's score less its cell's mean.
        spread: ``(b,)`` their weighted squares summed over a bin; infinite in bins without a slope.
        place: ``(2 b,)`` a cell's mean score less its bin's.
        bent: Bins with a slope.
    """

    off: FloatArray
    spread: FloatArray
    place: FloatArray
    bent: int


def _line(score: FloatArray, w: FloatArray, cell: IntArray, count: IntArray) -> _Line:
    cells = len(count)
    mass = np.bincount(cell, weights=w, minlength=cells)
    mean = np.bincount(cell, weights=w * score, minlength=cells) / mass
    middle = (mass * mean).reshape(-1, 2).sum(axis=1) / mass.reshape(-1, 2).sum(axis=1)
    off = score - mean[cell]
    spread = _slope_spread(off, score, w, cell // 2, np.maximum(count - 1, 0).reshape(-1, 2).sum(axis=1))
    bent = np.isfinite(spread)
    return _Line(
        off=np.where(bent[cell // 2], off, 0.0),
        spread=spread,
        place=np.where(np.repeat(bent, 2), mean - np.repeat(middle, 2), 0.0),
        bent=int(bent.sum()),
    )


def _cell_sums(values: FloatArray, cell: IntArray, cells: int) -> FloatArray:
    """``(cells, f)`` sums of the rows of each cell."""
    sums = np.zeros((cells, values.shape[1]))
    np.add.at(sums, cell, values)
    return sums


def levelled(values: FloatArray, score: FloatArray, bins: IntArray) -> FloatArray:
    """``values (n, f)`` less a line in the score within each bin, through the bin's mean: rows that may be exchanged.

    The line is that of all rows of a bin, whatever their group. A bin of few rows, or of one score, has none.

    >>> levelled(np.array([[1.0], [3.0], [5.0], [9.0]]), np.arange(4.0), np.zeros(4, int)).round(9).ravel().tolist()
    [4.9, 4.3, 3.7, 5.1]
    """
    bin_of = np.unique(bins, return_inverse=True)[1]
    size = int(bin_of.max()) + 1
    count = np.bincount(bin_of, minlength=size)
    off = score - (np.bincount(bin_of, weights=score) / count)[bin_of]
    mean = _cell_sums(values, bin_of, size) / count[:, None]
    spread = _slope_spread(off, score, np.ones(len(score)), bin_of, count - 1)
    slope = _cell_sums(off[:, None] * (values - mean[bin_of]), bin_of, size) / spread[:, None]
    return np.asarray(values - slope[bin_of] * off[:, None])


def _slope_spread(off: FloatArray, score: FloatArray, w: FloatArray, bin_of: IntArray, free: IntArray) -> FloatArray:
    """``(b,)`` weighted squares of ``off`` summed over each bin; infinite where a bin can have no slope."""
    spread = np.bincount(bin_of, weights=w * off**2, minlength=len(free))
    top = np.zeros(len(free))
    np.maximum.at(top, bin_of, np.sqrt(w) * np.abs(score))
    return np.where((free >= _ROWS_A_SLOPE) & (spread > (_NOTHING * top) ** 2), spread, np.inf)


def _of_single_rows(residual: FloatArray, cell: IntArray, count: IntArray, weight: FloatArray) -> FloatArray:
    """Variance ``(2, f)`` that each group's cells of one row add, from the residual variance of its other cells."""
    added = np.zeros((2, residual.shape[1]))
    for side in (0, 1):
        alone = np.flatnonzero((count == 1) & (np.arange(len(count)) % 2 == side))
        freedom = int(np.maximum(count[side::2] - 1, 0).sum())
        if len(alone) == 0:
            continue
        if freedom < 1:  # nothing else of this group: the error cannot be known
            return np.full_like(added, np.nan)
        spread = (residual[cell % 2 == side] ** 2).sum(axis=0) / freedom
        added[side] = (weight[alone // 2] ** 2).sum() * spread
    return added


def _side_freedom(count: IntArray, side: IntArray, clusters: IntArray | None) -> IntArray:
    """``(2,)`` rows of each group beyond one a cell; no more than its clusters less one."""
    free = np.maximum(count - 1, 0).reshape(-1, 2).sum(axis=0)
    if clusters is not None:
        free = np.minimum(free, [len(np.unique(clusters[side == number])) - 1 for number in (0, 1)])
    return np.asarray(free, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestGap:
    """The largest absolute gap of one feature, the groups it lies between (leaning more, less) and its interval."""

    value: float
    more: int
    less: int
    means: tuple[float, float]
    interval: Interval | None


def largest_gaps(pairs: Sequence[PairGaps], level: float = 0.95, span: float | None = None) -> list[LargestGap]:
    """For each feature the largest absolute gap of all pairs, with an interval for the largest of the true ones.

    Above: the largest upper limit of any pair, which needs no correction. Below: the largest lower limit after
    Bonferroni over pairs and directions, never below 0.

    Args:
        pairs: One or more pairs of groups.
        level: Two-sided confidence level.
        span: Largest gap possible.

    Source: Berger (1982), Technometrics 24 (intersection-union).
    """
    gaps = np.stack([pair.gap for pair in pairs])
    errors = np.stack([pair.error for pair in pairs])
    wide = np.array([[t_value(level, own) for own in pair.freedom.tolist()] for pair in pairs])
    corrected = 1.0 - (1.0 - level) / (2 * len(pairs))
    strict = np.array([[t_value(corrected, own) for own in pair.freedom.tolist()] for pair in pairs])
    size = np.abs(gaps)
    top = size.argmax(axis=0)
    high, low = (size + wide * errors).max(axis=0), (size - strict * errors).max(axis=0)
    found = []
    for j, place in enumerate(top):
        pair, value = pairs[place], float(size[place, j])
        known = bool(np.isfinite(errors[:, j]).all())
        interval = None
        if known:
            above = max(float(high[j]), value)
            interval = Interval(
                low=min(max(float(low[j]), 0.0), value),
                high=above if span is None else max(min(above, span), value),
                level=level,
                method="stratified-t" if len(pairs) == 1 else "stratified-t-largest-pair",
                degrees_of_freedom=min(float(pair.freedom[j]) for pair in pairs),
            )
        turned = gaps[place, j] < 0
        ends = (pair.second, pair.first) if turned else (pair.first, pair.second)
        means = pair.means[::-1, j] if turned else pair.means[:, j]
        found.append(
            LargestGap(
                value=value, more=ends[0], less=ends[1], means=(float(means[0]), float(means[1])), interval=interval
            )
        )
    return found


def disparity_test(
    values: FloatArray,
    groups: IntArray,
    bins: IntArray,
    rng: np.random.Generator,
    *,
    score: FloatArray | None = None,
    permutations: int = 999,
) -> PermutationResult:
    """P-values of the gaps between groups at equal score, by exchanging groups within bins.

    The statistic of a feature is its largest gap of any pair of groups, each in units of its own standard deviation
    over all exchanges: ``sum_b w_b^2 s_b^2 (1 / n_bg + 1 / n_bh)`` with the variance ``s_b^2`` of the bin's rows. With
    ``score`` a line in it is first taken out within each bin (:func:`levelled`): the groups of a bin do not have quite
    the same scores, and where values follow the score closely that would be found ever more often with more rows.

    Args:
        values: ``(n, f)``.
        groups: ``(n,)`` codes ``0 .. k-1``, two groups or more.
        bins: ``(n,)`` codes.
        rng: Source of the exchanges.
        score: ``(n,)`` what the bins are of.
        permutations: See :func:`auditkit.stats.permutation.stratified_permutation_test`.

    Source: Freedman and Lane (1983), Journal of Business and Economic Statistics 1, for exchanging residuals.
    """
    if score is not None:
        values = levelled(values, score, bins)
    bin_of = np.unique(bins, return_inverse=True)[1]
    count = np.zeros((int(bin_of.max()) + 1, int(groups.max()) + 1))
    np.add.at(count, (bin_of, groups), 1.0)
    spread = _bin_variances(values, bin_of)
    scaled = []  # for each pair, what a row of the first and of the second group counts in each bin, and the scale
    for g, h in combinations(range(count.shape[1]), 2):
        both = (count[:, g] > 0) & (count[:, h] > 0)
        a, b = np.where(both, count[:, g], 1.0), np.where(both, count[:, h], 1.0)
        weight = np.where(both, a * b / (a + b), 0.0)
        if not both.any():
            continue
        weight = weight / weight.sum()
        scale = np.sqrt((weight**2 * (1.0 / a + 1.0 / b)) @ spread)
        scaled.append((g, h, weight / a, weight / b, scale))

    def statistics(labels: IntArray) -> FloatArray:
        top = np.zeros((len(labels), values.shape[1]))
        for g, h, first, second, scale in scaled:
            share = np.where(labels == g, first[bin_of], 0.0) - np.where(labels == h, second[bin_of], 0.0)
            gap = np.abs(share @ values)
            moved = scale > 1e-12 * np.maximum(np.abs(values).max(axis=0, initial=0.0), 1e-300)
            top = np.maximum(top, np.where(moved, gap / np.where(moved, scale, 1.0), 0.0))
        return top

    return stratified_permutation_test(groups, bin_of, statistics, rng, permutations=permutations)


def _bin_variances(values: FloatArray, bin_of: IntArray) -> FloatArray:
    """``(b, f)`` variance of the rows of each bin; 0 for a bin of one."""
    size = int(bin_of.max()) + 1
    n = np.bincount(bin_of, minlength=size).astype(np.float64)
    mean = _cell_sums(values, bin_of, size) / n[:, None]
    square = _cell_sums((values - mean[bin_of]) ** 2, bin_of, size)
    return np.asarray(square / np.maximum(n - 1.0, 1.0)[:, None], dtype=np.float64)


def one_row_a_cluster(clusters: IntArray, rng: np.random.Generator) -> IntArray:
    """Positions of one row drawn from each cluster: rows that may be exchanged, since they are independent.

    >>> one_row_a_cluster(np.array([7, 7, 9]), np.random.default_rng(0)).tolist()[1]
    2
    """
    order = rng.permutation(len(clusters))
    first = np.unique(clusters[order], return_index=True)[1]
    return np.sort(order[first]).astype(np.int64)
