"""Whether a model leans on other features for other groups, among rows of equal score.

Groups whose scores differ have other explanations for that reason alone: a row that is refused has large negative
attributions. So groups are compared within bins of the score, and the bins' gaps are averaged with the weights
``n_g n_h / (n_g + n_h)``, which count a bin for as much as it holds of both groups.
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


def score_bins(score: FloatArray, bins: int | None = None) -> IntArray:
    """Codes ``(n,)`` of quantile bins of a score; equal scores share a bin.

    By default there are ``3 n^(1/4)`` bins, 5 at the least. What differs between groups within a bin shrinks with the
    square of its width, the standard error of a gap with the square root of ``n``; so many bins keep the first
    below a tenth of the second where the score follows a normal law shifted by one standard deviation.

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
        freedom: Degrees of freedom of ``error``.
        rows: Rows of either group in bins that hold both.
    """

    first: int
    second: int
    means: FloatArray
    gap: FloatArray
    error: FloatArray
    freedom: int
    rows: int


def pair_gaps(
    values: FloatArray, groups: IntArray, bins: IntArray, pair: tuple[int, int], design: Design | None = None
) -> PairGaps | None:
    """Mean gap between two groups within bins; ``None`` where no bin holds both.

    The error is that of a sum of independent cell means. A cell of one row takes the variance of its group's
    other cells.

    Args:
        values: ``(n, f)``, such as each feature's share of a row's attributions.
        groups: ``(n,)`` codes.
        bins: ``(n,)`` codes.
        pair: The two groups.
        design: Weights and clusters.

    Source: Cochran (1954), Biometrics 10, for the weights; Binder (1983) for clusters.

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
    n, cells = len(values), int(bin_of.max()) + 1
    w = part.masses(n)
    cell = 2 * bin_of + side
    mass = np.bincount(cell, weights=w, minlength=2 * cells)
    count = np.bincount(cell, minlength=2 * cells)
    sums = np.zeros((2 * cells, values.shape[1]))
    np.add.at(sums, cell, w[:, None] * values)
    mean = sums / mass[:, None]
    weight = mass[0::2] * mass[1::2] / (mass[0::2] + mass[1::2])
    weight = weight / weight.sum()
    means = np.stack([weight @ mean[0::2], weight @ mean[1::2]])
    parts = (weight[bin_of] * w / mass[cell])[:, None] * (values - mean[cell])
    parts *= np.sqrt(count / np.maximum(count - 1, 1))[cell][:, None]
    freedom = int(np.maximum(count - 1, 0).sum())
    if part.clusters is None:
        variance = (parts**2).sum(axis=0)
    else:
        summed = np.stack([cluster_sums(column, part.clusters) for column in parts.T], axis=1)
        variance = len(summed) / max(len(summed) - 1, 1) * (summed**2).sum(axis=0)
        freedom = min(freedom, len(summed) - 1)
    variance += _of_single_rows(values - mean[cell], cell, count, weight)
    error = np.sqrt(variance) if freedom >= 1 else np.full(values.shape[1], np.nan)
    return PairGaps(
        first=pair[0],
        second=pair[1],
        means=means,
        gap=means[0] - means[1],
        error=error,
        freedom=freedom,
        rows=n,
    )


def _of_single_rows(residual: FloatArray, cell: IntArray, count: IntArray, weight: FloatArray) -> FloatArray:
    """Variance ``(f,)`` that cells of one row add, from the residual variance of their group's other cells."""
    added = np.zeros(residual.shape[1])
    for side in (0, 1):
        alone = np.flatnonzero((count == 1) & (np.arange(len(count)) % 2 == side))
        freedom = int(np.maximum(count[side::2] - 1, 0).sum())
        if len(alone) == 0:
            continue
        if freedom < 1:  # nothing else of this group: the error cannot be known
            return np.full(residual.shape[1], np.nan)
        spread = (residual[cell % 2 == side] ** 2).sum(axis=0) / freedom
        added += (weight[alone // 2] ** 2).sum() * spread
    return added


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
    wide = np.array([t_value(level, max(pair.freedom, 1)) for pair in pairs])[:, None]
    corrected = 1.0 - (1.0 - level) / (2 * len(pairs))
    strict = np.array([t_value(corrected, max(pair.freedom, 1)) for pair in pairs])[:, None]
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
                degrees_of_freedom=min(max(pair.freedom, 1) for pair in pairs),
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
    values: FloatArray, groups: IntArray, bins: IntArray, rng: np.random.Generator, *, permutations: int = 999
) -> PermutationResult:
    """P-values of the gaps between groups at equal score, by exchanging groups within bins.

    The statistic of a feature is its largest gap of any pair of groups, each in units of its own standard deviation
    over all exchanges: ``sum_b w_b^2 s_b^2 (1 / n_bg + 1 / n_bh)`` with the variance ``s_b^2`` of the bin's rows.

    Args:
        values: ``(n, f)``.
        groups: ``(n,)`` codes ``0 .. k-1``, two groups or more.
        bins: ``(n,)`` codes.
        rng: Source of the exchanges.
        permutations: See :func:`auditkit.stats.permutation.stratified_permutation_test`.
    """
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
    mean = np.zeros((size, values.shape[1]))
    np.add.at(mean, bin_of, values)
    mean /= n[:, None]
    square = np.zeros_like(mean)
    np.add.at(square, bin_of, (values - mean[bin_of]) ** 2)
    return np.asarray(square / np.maximum(n - 1.0, 1.0)[:, None], dtype=np.float64)


def one_row_a_cluster(clusters: IntArray, rng: np.random.Generator) -> IntArray:
    """Positions of one row drawn from each cluster: rows that may be exchanged, since they are independent.

    >>> one_row_a_cluster(np.array([7, 7, 9]), np.random.default_rng(0)).tolist()[1]
    2
    """
    order = rng.permutation(len(clusters))
    first = np.unique(clusters[order], return_index=True)[1]
    return np.sort(order[first]).astype(np.int64)
