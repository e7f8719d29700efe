"""How far apart groups are in their scores: area between ROC curves, Kolmogorov-Smirnov and Wasserstein distances.

All three are distances between curves, so they obey the triangle inequality: the observed distance of two groups
misses the true one by at most the distance of each observed curve from its own truth. That error is what is
bootstrapped, group by group. A percentile bootstrap of the distance itself would be biased away from zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.methods.fairness.roc_curves import Roc, areas_between, roc_curves
from auditkit.stats.intervals import z_value
from auditkit.stats.linearised import PLAIN, Design
from auditkit.stats.ranking import score_levels
from auditkit.stats.resampling import resample_weights

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Kind = Literal["abroca", "ks", "wasserstein"]

_LEVELS = 512
_BLOCK = 256  # curves at a time, which bounds the memory


@dataclass(frozen=True, slots=True)
class Levels:
    """Scores of all rows as codes of at most 512 levels; ``at (l,)`` is a value for each (the first of its scores)."""

    code: IntArray
    at: FloatArray


@dataclass(frozen=True, slots=True)
class Distance:
    """The largest distance over pairs of groups, the pair, and its interval or the reason why there is none."""

    value: float | None
    pair: tuple[int, int] | None = None
    interval: Interval | None = None
    reason: str | None = None


def coarse_levels(scores: FloatArray) -> Levels:
    """Levels of ``scores (n,)``: the distinct scores where they are few, else about equally many rows each.

    >>> coarse_levels(np.array([0.2, 0.9, 0.2])).code.tolist()
    [0, 1, 0]
    """
    distinct, code = score_levels(scores)
    if len(distinct) <= _LEVELS:
        return Levels(code, np.asarray(distinct, dtype=np.float64))
    edges = np.unique(np.quantile(scores, np.arange(_LEVELS) / _LEVELS, method="inverted_cdf"))
    return Levels(np.maximum(np.searchsorted(edges, scores, side="right") - 1, 0).astype(np.int64), edges)


def abroca(positive: tuple[FloatArray, FloatArray], negative: tuple[FloatArray, FloatArray]) -> float:
    """Area between two ROC curves, exactly, from the masses ``(l,)`` of both groups at each level of the score.

    Args:
        positive: Mass of positive labels at each level, rising scores, for the two groups.
        negative: The same for the other labels.

    Raises:
        ValueError: When a group lacks a class.

    Source: Gardner, Brooks and Baker (2019), LAK, Evaluating the fairness of predictive student models.

    >>> up, down = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    >>> abroca((up, down), (down, up))
    1.0
    """
    curves = roc_curves(np.stack(positive), np.stack(negative))
    return float(areas_between(curves[0], curves[1])[0])


def curve_distance(kind: Kind, one: FloatArray, two: FloatArray, at: FloatArray) -> float:
    """The ``kind`` of distance of two groups with masses ``(2, l)`` (other labels, positive) at the levels ``at``.

    Source: Massey (1951) for Kolmogorov-Smirnov; Vallender (1974) for the first Wasserstein distance.
    """
    return float(_apart(kind, _curves(kind, one[None]), _curves(kind, two), at)[0])


def _curves(kind: Kind, masses: FloatArray) -> Roc | FloatArray:
    """The curves of groups with ``masses (..., 2, l)``: ROC, or the cumulative share of the rows at each level."""
    if kind == "abroca":
        return roc_curves(masses[..., 1, :], masses[..., 0, :])
    total = np.cumsum(masses.sum(axis=-2), axis=-1)
    return np.asarray(total / total[..., -1:])


def _apart(kind: Kind, one: Roc | FloatArray, two: Roc | FloatArray, at: FloatArray) -> FloatArray:
    """Distances ``(...)`` between curves, pair by pair."""
    if isinstance(one, Roc) and isinstance(two, Roc):
        return areas_between(one, two)
    gap = np.abs(np.asarray(one) - np.asarray(two))
    return np.asarray(gap.max(axis=-1) if kind == "ks" else (gap[..., :-1] * np.diff(at)).sum(axis=-1))


def defined(kind: Kind, masses: FloatArray) -> BoolArray:
    """Whether each group of ``masses (..., 2, l)`` has a curve: ROC curves need both classes."""
    present = masses.sum(axis=-1) > 0
    return np.asarray(present.all(axis=-1) if kind == "abroca" else present.any(axis=-1))


def group_masses(levels: Levels, positive: BoolArray, groups: IntArray, count: int, design: Design) -> FloatArray:
    """Masses ``(G, 2, l)`` of the groups' rows by label and level."""
    size = len(levels.at)
    flat = (groups * 2 + positive) * size + levels.code
    mass = np.bincount(flat, weights=design.masses(len(flat)), minlength=count * 2 * size).reshape(count, 2, size)
    return mass.astype(np.float64)


def worst_distance(
    kind: Kind, masses: FloatArray, errors: Sequence[FloatArray], at: FloatArray, level: float
) -> Distance:
    """The largest distance over pairs of groups with an interval valid for the largest.

    Args:
        kind: Which distance.
        masses: ``(G, 2, l)``.
        errors: For each group the bootstrap distances ``(b,)`` of its curve from itself; empty with too few rows.
        at: ``(l,)`` the scores of the levels.
        level: Two-sided level.
    """
    if len(masses) < 2:
        return Distance(None, reason="there is only one group to compare")
    lacking = int((~defined(kind, masses)).sum())
    if lacking:
        return Distance(None, reason=f"undefined in {lacking} of {len(masses)} groups: both labels are needed")
    found = dict(_pairs(kind, masses, at))
    pair = max(found, key=lambda key: found[key])
    value = found[pair]
    if min(len(error) for error in errors) == 0:
        return Distance(value, pair, None, "a group has too few rows of a label for an interval")
    if min(float(error.max()) for error in errors) <= 0.0:
        return Distance(value, pair, None, "a group's curve never moves when resampled, so there is no interval")
    tail = (1 - level) / 2
    high = max(d + _radius(errors[a], errors[b], tail) for (a, b), d in found.items())
    low = max(d - _radius(errors[a], errors[b], tail / len(found)) for (a, b), d in found.items())
    top = float(at[-1] - at[0]) if kind == "wasserstein" else 1.0
    interval = Interval(
        low=min(max(low, 0.0), value), high=max(min(high, top), value), level=level, method="bootstrap-triangle"
    )
    return Distance(value, pair, interval)


def _pairs(kind: Kind, masses: FloatArray, at: FloatArray) -> Iterator[tuple[tuple[int, int], float]]:
    """The distance of each pair of groups with ``masses (G, 2, l)``."""
    curves, pairs = _curves(kind, masses), list(itertools.combinations(range(len(masses)), 2))
    for start in range(0, len(pairs), _BLOCK):
        part = pairs[start : start + _BLOCK]
        one, two = (np.array(side) for side in zip(*part, strict=True))
        yield from zip(part, _apart(kind, curves[one], curves[two], at).tolist(), strict=True)


def curve_errors(
    kinds: Sequence[Kind],
    levels: Levels,
    positive: BoolArray,
    rng: np.random.Generator,
    *,
    design: Design = PLAIN,
    resamples: int = 200,
) -> dict[Kind, FloatArray]:
    """Bootstrap distances ``(b,)`` between one group's resampled curve and its observed one, for each kind.

    Rows (or whole clusters) are drawn with replacement; resamples without a curve are left out, and a group whose rows
    (or clusters) of a label are fewer than two has none.
    """
    n, size = len(positive), len(levels.at)
    whole = group_masses(levels, positive, np.zeros(n, dtype=np.int64), 1, design)[0]
    flat = positive * size + levels.code
    found: dict[Kind, list[FloatArray]] = {kind: [np.empty(0)] for kind in kinds}
    units = [_units(rows, design) for rows in (positive, ~positive)]
    usable = [kind for kind in kinds if (min(units) >= 2 if kind == "abroca" else sum(units) >= 2)]
    observed = {kind: _curves(kind, whole) for kind in usable}
    for masses in _resampled(flat, size, n, rng, design, resamples) if usable else ():
        for kind in usable:
            curves = _curves(kind, masses[defined(kind, masses)])
            found[kind].append(_apart(kind, curves, observed[kind], levels.at))
    return {kind: np.concatenate(parts) for kind, parts in found.items()}


def abroca_p_value(
    levels: Levels, positive: BoolArray, groups: IntArray, count: int, rng: np.random.Generator, permutations: int
) -> float:
    """Share of permutations of the groups, within each label, whose largest ABROCA is at least the observed one.

    The observed data count as one permutation, so that the p-value is valid and never 0. Only the counts of a group's
    rows at each level matter, and those of shuffled rows are multivariate hypergeometric.

    Source: Phipson and Smyth (2010).
    """
    masses = group_masses(levels, positive, groups, count, PLAIN).astype(np.int64)
    observed = max(area for _, area in _pairs("abroca", masses.astype(np.float64), levels.at)) - 1e-12
    negatives, positives = (_shuffled(masses[:, label], rng, permutations) for label in (0, 1))
    extreme = 0
    for start in range(0, permutations, _BLOCK):
        turns = slice(start, start + _BLOCK)
        curves = roc_curves(positives[turns], negatives[turns])
        reached = np.zeros(len(positives[turns]), dtype=bool)
        for a, b in itertools.combinations(range(count), 2):
            reached |= areas_between(curves[:, a], curves[:, b]) >= observed
        extreme += int(reached.sum())
    return (extreme + 1) / (permutations + 1)


def _resampled(
    flat: IntArray, size: int, n: int, rng: np.random.Generator, design: Design, resamples: int
) -> Iterator[FloatArray]:
    """Blocks of masses ``(b, 2, l)`` of resampled rows; of plain rows only the counts are drawn, a multinomial."""
    if design.plain:
        cells = np.bincount(flat, minlength=2 * size) / n
        for start in range(0, resamples, _BLOCK):
            drawn = rng.multinomial(n, cells, size=min(_BLOCK, resamples - start))
            yield drawn.reshape(-1, 2, size).astype(np.float64)
        return
    for block in resample_weights(rng, n, resamples, weights=design.weights, clusters=design.clusters):
        drawn = np.stack([np.bincount(flat, weights=row, minlength=2 * size) for row in block])
        yield drawn.reshape(-1, 2, size).astype(np.float64)


def _shuffled(table: IntArray, rng: np.random.Generator, times: int) -> IntArray:
    """``(times, G, l)`` counts of the groups' rows at each level when ``table (G, l)`` has its rows shuffled."""
    found = np.empty((times, *table.shape), dtype=np.int64)
    for turn in range(times):
        left = table.sum(axis=0)
        for code, size in enumerate(table.sum(axis=1)[:-1]):
            found[turn, code] = rng.multivariate_hypergeometric(left, int(size), method="marginals")
            left = left - found[turn, code]
        found[turn, -1] = left
    return found


def _units(rows: BoolArray, design: Design) -> int:
    return int(rows.sum()) if design.clusters is None else len(np.unique(design.clusters[rows]))


def _radius(one: FloatArray, two: FloatArray, tail: float) -> float:
    """Upper quantile of the sum of two groups' independent errors; normal beyond what the resamples resolve."""
    size = min(len(one), len(two))
    both = one[:size] + two[:size]
    normal = float(both.mean()) + z_value(1 - 2 * tail) * float(both.std())
    return max(normal, float(np.quantile(both, max(1 - tail, 0.0)))) if tail * size >= 1 else normal


@dataclass(frozen=True, slots=True)
class GroupedScores:
    """Scores of the rows of several groups on common levels.

    Attributes:
        levels: The level of each row.
        positive: ``(n,)`` whether the label is positive; all false where labels play no part.
        codes: ``(n,)`` the group of each row.
        groups: Number of groups.
        design: Weights and clusters of the rows.
    """

    levels: Levels
    positive: BoolArray
    codes: IntArray
    groups: int
    design: Design

    def masses(self) -> FloatArray:
        """Masses ``(G, 2, l)`` of the groups' rows by label and level."""
        return group_masses(self.levels, self.positive, self.codes, self.groups, self.design)


def worst_distances(
    kinds: tuple[Kind, ...],
    scores: GroupedScores,
    rng: np.random.Generator,
    *,
    resamples: int,
    level: float,
    before_group: Callable[[], None] = lambda: None,
) -> dict[Kind, Distance]:
    """The largest distance of each kind between two groups, with its interval, from one bootstrap of each group.

    Args:
        kinds: Which distances.
        scores: The rows.
        rng: Source of the resamples.
        resamples: Bootstrap resamples of each group's curves.
        level: Two-sided confidence level.
        before_group: Called before each group is resampled, e.g. to stop at a deadline.
    """
    masses, errors = scores.masses(), []
    for code in range(scores.groups):
        before_group()
        own = np.flatnonzero(scores.codes == code)
        curve, design = Levels(scores.levels.code[own], scores.levels.at), scores.design.take(own)
        errors.append(curve_errors(kinds, curve, scores.positive[own], rng, design=design, resamples=resamples))
    return {
        kind: worst_distance(kind, masses, [error[kind] for error in errors], scores.levels.at, level) for kind in kinds
    }
