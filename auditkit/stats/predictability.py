"""How well one feature tells a group (or a label) from the rest: areas under the ROC curve with honest intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.intervals import exact_share, z_value
from auditkit.stats.linearised import PLAIN, Design, logit_bounds, variance_of
from auditkit.stats.ranking import auc_estimate, auc_parts, midranks

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def folded_auc(values: FloatArray, target: BoolArray, design: Design = PLAIN) -> Estimate:
    """``max(AUC, 1 - AUC)`` of a number for a target, by exact ranks; missing values (NaN) are left out.

    The interval is DeLong's, folded at 0.5: where it holds 0.5, so does the folded one, however the luck fell.

    Args:
        values: ``(n,)`` the feature.
        target: ``(n,)`` what to tell apart.
        design: Weights and clusters.

    >>> folded_auc(np.array([4.0, 3.0, 2.0, 1.0]), np.array([False, False, True, True])).value
    1.0
    """
    known = ~np.isnan(values)
    plain = auc_estimate(values[known], target[known], *_parts(design.take(known)))
    if plain.value is None:
        return plain

    def bounds(level: float) -> Interval | None:
        found = plain.interval(level)
        if found is None:
            return None
        low, high = sorted((abs(found.low - 0.5), abs(found.high - 0.5)))
        inside = found.low <= 0.5 <= found.high
        return replace(found, low=0.5 if inside else 0.5 + low, high=0.5 + high, method=f"{found.method}-folded")

    return Estimate(max(plain.value, 1.0 - plain.value), plain.n, bounds, plain.reason)


def constant_auc(target: BoolArray, design: Design = PLAIN) -> Estimate:
    """The AUC of a feature that never varied: 0.5, all ties.

    It may vary on rows not seen: with share ``u`` of them at most (exact, in the smaller class), its AUC is at most
    ``0.5 + u / 2``.

    >>> constant_auc(np.array([True] * 50 + [False] * 50)).value
    0.5
    """
    n = len(target)
    if not target.any() or target.all():
        return undefined("ROC AUC needs both classes", n)
    smaller = min(design.take(side).units(int(side.sum())) for side in (target, ~target))

    def bounds(level: float) -> Interval | None:
        found = exact_share(0.0, smaller, level)
        return found and Interval(low=0.5, high=0.5 + found.high / 2.0, level=level, method="constant-feature")

    return Estimate(0.5, n, bounds)


def _parts(design: Design) -> tuple[FloatArray | None, IntArray | None]:
    return design.weights, design.clusters


def fold_codes(strata: IntArray, folds: int, rng: np.random.Generator, clusters: IntArray | None = None) -> IntArray:
    """Fold ``(n,)`` of each row: balanced within strata, or whole clusters together.

    >>> np.bincount(fold_codes(np.zeros(10, dtype=np.int64), 5, np.random.default_rng(0))).tolist()
    [2, 2, 2, 2, 2]
    """
    n = len(strata)
    if clusters is not None:
        names, inverse = np.unique(clusters, return_inverse=True)
        return np.asarray((rng.permutation(len(names)) % folds)[inverse], dtype=np.int64)
    order = rng.permutation(n)
    order = order[np.argsort(strata[order], kind="stable")]
    codes = np.empty(n, dtype=np.int64)
    codes[order] = np.arange(n) % folds
    return codes


def out_of_fold_rates(
    categories: IntArray, target: BoolArray, fold: IntArray, weights: FloatArray | None = None, prior: float = 10.0
) -> FloatArray:
    """Share of ``target`` among the rows of the same category in the *other* folds, shrunk to the overall share.

    Args:
        categories: ``(n,)`` codes; missing may be a category of its own.
        target: ``(n,)``.
        fold: ``(n,)`` fold of each row.
        weights: ``(n,)`` row weights.
        prior: Rows of overall share that are added to each category.

    Source: Micci-Barreca (2001), SIGKDD Explorations 3.
    """
    codes = np.unique(categories, return_inverse=True)[1]
    size, folds = int(codes.max()) + 1, int(fold.max()) + 1
    w = np.ones(len(codes)) if weights is None else weights
    cell = fold * size + codes
    mass = np.bincount(cell, weights=w, minlength=size * folds).reshape(folds, size)
    hits = np.bincount(cell, weights=w * target, minlength=size * folds).reshape(folds, size)
    mass, hits = mass.sum(axis=0) - mass, hits.sum(axis=0) - hits
    overall = hits.sum(axis=1, keepdims=True) / np.maximum(mass.sum(axis=1, keepdims=True), 1e-300)
    return np.asarray(((hits + prior * overall) / (mass + prior))[fold, codes], dtype=np.float64)


def cross_validated_auc(scores: FloatArray, target: BoolArray, fold: IntArray, design: Design = PLAIN) -> Estimate:
    """Mean over folds of the AUC within each fold, for scores learnt on the other folds.

    AUCs are taken within folds, never pooled: pooled scores of a useless feature lean below 0.5, since a fold
    with more targets has fewer in its training part. Folds without both classes are left out. What the folds
    learnt overlaps, so their errors go together: the variance is multiplied by ``1 + k / (k - 1)`` for ``k`` folds.

    Source: LeDell, Petersen and van der Laan (2015), Electronic Journal of Statistics 9, for AUC within folds;
    Nadeau and Bengio (2003), Machine Learning 52, for the correction.
    """
    parts = np.zeros(len(scores))
    areas = []
    for code in range(int(fold.max()) + 1):
        rows = fold == code
        if not target[rows].any() or target[rows].all():
            continue
        area, part = auc_parts(scores[rows], target[rows], None if design.weights is None else design.weights[rows])
        areas.append(area)
        parts[rows] = part
    n = len(scores)
    if len(areas) < 2:
        return undefined("fewer than two folds hold both sides, so there is no cross-validated AUC", n)
    value = float(np.mean(areas))
    variance, units = variance_of(parts / len(areas), design.clusters)
    variance *= 1.0 + len(areas) / (len(areas) - 1.0)
    smaller = min(design.take(side).units(int(side.sum())) for side in (target, ~target))
    if units < 2 or smaller < 2:
        return Estimate(value, n, None, "one independent row on a side gives no interval")
    method = "cross-validated-auc-logit" if design.clusters is None else "cross-validated-auc-clustered-logit"
    return Estimate(value, n, logit_bounds(value, variance, units, smaller, method))


def largest(estimates: Sequence[Estimate]) -> Estimate:
    """The largest of several estimates, with an interval for the largest of the true values.

    Above: the largest upper limit, for the truly largest is one of them. Below: the largest lower limit after
    Bonferroni, so that the best of many by luck is not taken for a finding.
    """
    known = [estimate for estimate in estimates if estimate.value is not None]
    if not known:
        return estimates[0] if estimates else undefined("there is nothing to compare")
    best = max(known, key=lambda estimate: estimate.value or 0.0)
    if len(known) == 1:
        return best

    def bounds(level: float) -> Interval | None:
        above = [estimate.interval(level) for estimate in known]
        below = [estimate.interval(1.0 - (1.0 - level) / len(known)) for estimate in known]
        if any(found is None for found in (*above, *below)):
            return None
        low = max(found.low for found in below if found is not None)
        high = max(found.high for found in above if found is not None)
        return Interval(low=low, high=max(high, low), level=level, method="largest-of-several")

    return Estimate(best.value, best.n, bounds, best.reason)


@dataclass(frozen=True, slots=True)
class Target:
    """Groups to tell apart: codes ``(n,)`` of ``names`` (the rest has the code after the last), folds and design."""

    names: tuple[str, ...]
    codes: IntArray
    fold: IntArray
    design: Design

    def sides(self) -> list[BoolArray]:
        """Each group against all others."""
        return [self.codes == code for code in range(len(self.names))]


def target_of(
    values: npt.NDArray[np.str_], rng: np.random.Generator, *, min_rows: int, design: Design = PLAIN, folds: int = 5
) -> Target | None:
    """The groups of ``values (n,)`` with ``min_rows`` rows or more; smaller ones stay in the rest.

    Of two groups one is kept: the other is its complement. ``None`` where nothing can be told apart.

    >>> target_of(np.array(["a", "b"] * 20), np.random.default_rng(0), min_rows=10).names
    ('b',)
    """
    names, codes = np.unique(values, return_inverse=True)
    kept = np.flatnonzero(np.bincount(codes, minlength=len(names)) >= min_rows)
    if len(kept) == 0 or len(names) < 2:
        return None
    if len(names) == 2:
        if len(kept) < 2:
            return None
        kept = kept[1:]
    lookup = np.full(len(names), len(kept), dtype=np.int64)
    lookup[kept] = np.arange(len(kept))
    fold = fold_codes(codes.astype(np.int64), folds, rng, design.clusters)
    return Target(tuple(str(name) for name in names[kept]), lookup[codes], fold, design)


def feature_auc(values: FloatArray, categorical: bool, target: Target) -> Estimate:
    """How well one feature tells a group from the rest: the largest AUC of any group, 0.5 for none.

    Numbers are judged by rank, categories by the group's share in the other folds. Where numbers are missing, that they
    are is judged too: the larger of the two AUCs, with a lower limit that allows for the choice.

    Args:
        values: ``(n,)``; codes of categories, or numbers; NaN is missing.
        categorical: Which of the two.
        target: The groups.
    """
    sides = target.sides()
    if categorical:
        categories = np.where(np.isnan(values), -1.0, values).astype(np.int64)
        if (categories == categories[0]).all():
            return largest([constant_auc(side, target.design) for side in sides])
        rates = [out_of_fold_rates(categories, side, target.fold, target.design.weights) for side in sides]
        return largest(
            [
                cross_validated_auc(rate, side, target.fold, target.design)
                for rate, side in zip(rates, sides, strict=True)
            ]
        )
    absent = np.isnan(values)
    found: list[Estimate] = []
    if absent.any() and not absent.all():
        told = [folded_auc(absent.astype(np.float64), side, target.design) for side in sides]
        found = [estimate for estimate in told if estimate.interval(0.95) is not None]
    if absent.all() or np.nanmin(values) == np.nanmax(values):
        return largest(found or [constant_auc(side, target.design) for side in sides])
    return largest([*(folded_auc(values, side, target.design) for side in sides), *found])


def folded_rank_correlation(values: FloatArray, target: FloatArray) -> Estimate:
    """``|Spearman's rho|`` of a number and a real target over plain rows; missing values are left out.

    Interval: Fisher's z with Bonett and Wright's variance ``(1 + r^2 / 2) / (n - 3)``, folded at 0.

    Source: Bonett and Wright (2000), Psychometrika 65.

    >>> folded_rank_correlation(np.array([1.0, 2.0, 3.0, 4.0]), np.array([4.0, 3.0, 2.0, 1.0])).value
    1.0
    """
    known = ~np.isnan(values)
    a, b = midranks(values[known]), midranks(target[known])
    n = len(a)
    if n < 4 or np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return undefined("a rank correlation needs four rows or more that vary", n)
    a, b = a - a.mean(), b - b.mean()
    rho = float((a * b).sum() / math.sqrt(float((a * a).sum()) * float((b * b).sum())))
    rho = min(max(rho, -1.0), 1.0)
    bounded = min(max(rho, -1.0 + 1e-12), 1.0 - 1e-12)
    error = math.sqrt((1.0 + bounded * bounded / 2.0) / (n - 3))

    def bounds(level: float) -> Interval:
        ends = [math.tanh(math.atanh(bounded) + side * z_value(level) * error) for side in (-1.0, 1.0)]
        low, high = sorted(abs(end) for end in ends)
        inside = ends[0] <= 0.0 <= ends[1]
        return Interval(low=0.0 if inside else low, high=high, level=level, method="fisher-z-folded")

    return Estimate(abs(rho), n, bounds)
