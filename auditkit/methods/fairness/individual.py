"""Individual fairness: are similar rows decided alike, and how unequal are the benefits that decisions give?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.estimate import Estimate, mapped, undefined
from auditkit.stats.intervals import z_value
from auditkit.stats.linearised import PLAIN, Design, log_bounds, mean, variance_of
from auditkit.stats.resampling import resample_weights

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# Entropies below this are sums of rounding errors.
_ROUNDING = 1e-14


@dataclass(frozen=True, slots=True)
class Inequality:
    """Generalized entropy of the benefits, and its exact split into within and between groups."""

    total: Estimate
    within: Estimate
    between: Estimate


def similarity_space(columns: list[tuple[FloatArray, bool]], reference: IntArray) -> FloatArray:
    """Coordinates ``(n, d)`` in which rows are compared.

    Args:
        columns: For each feature its values ``(n,)``, NaN where missing, and whether they are codes of categories.
        reference: Positions of the rows that set location and scale.

    Numbers are divided by their standard deviation; two different categories are one standard deviation apart; a
    missing number is the mean, with a mark that sets it one standard deviation apart from known ones.
    """
    parts = []
    for values, categorical in columns:
        missing = np.isnan(values)
        if categorical:
            codes = np.where(missing, -1.0, values)
            parts.append((codes[:, None] == np.unique(codes)[None, :]) / math.sqrt(2.0))
            continue
        known = values[reference][~missing[reference]]
        center, scale = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
        scaled = (values - center) / scale if scale > 0 else np.zeros(len(values))
        parts.append(np.where(missing, 0.0, scaled)[:, None])
        if missing.any():
            parts.append(missing[:, None].astype(np.float64))
    return np.concatenate(parts, axis=1).astype(np.float64)


def consistency(
    space: FloatArray,
    decided: FloatArray,
    queries: IntArray,
    reference: IntArray,
    *,
    neighbours: int = 5,
    design: Design = PLAIN,
) -> Estimate:
    """One less the mean absolute gap between a row's decision and the mean decision of its nearest neighbours.

    The neighbours are looked for among ``reference`` rows only, none of which is a query: given those, the queries are
    independent, so that Student's interval holds for this reference set. (Neighbours from among the queries themselves
    would tie rows together.)

    Args:
        space: ``(n, d)`` coordinates of :func:`similarity_space`.
        decided: ``(n,)`` decisions, 0 or 1.
        queries: Positions of the rows that are judged.
        reference: Positions of the rows they are compared with.
        neighbours: How many.
        design: Weights and clusters of all rows.

    Source: Zemel et al. (2013), Learning fair representations, section 4.

    >>> space = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> rows = np.array([0, 2]), np.array([1, 3])
    >>> consistency(space, np.array([1.0, 1.0, 0.0, 1.0]), *rows, neighbours=1).value
    0.5
    """
    if len(reference) < neighbours or len(queries) == 0:
        return undefined(f"{neighbours} neighbours need at least as many other rows", len(queries))
    from scipy.spatial import cKDTree

    _, found = cKDTree(space[reference]).query(space[queries], k=neighbours)
    near = decided[reference][np.asarray(found).reshape(len(queries), neighbours)].mean(axis=1)
    part = design.take(queries)
    estimate = mean(1.0 - np.abs(decided[queries] - near), part.weights, part.clusters)
    if estimate.bounds is None:
        return estimate
    bounds = estimate.bounds

    def clipped(level: float) -> Interval | None:
        found = bounds(level)
        return found and replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0))

    return replace(estimate, bounds=clipped)


def benefits(y: BoolArray, decided: BoolArray) -> FloatArray:
    """Benefit of each row: 2 for a false alarm in one's favour, 1 for a right decision, 0 for a miss.

    Source: Speicher et al. (2018), section 2.
    """
    return decided.astype(np.float64) - y + 1.0


def inequality(
    benefit: FloatArray,
    groups: IntArray,
    rng: np.random.Generator,
    *,
    design: Design = PLAIN,
    resamples: int = 200,
) -> Inequality:
    """Generalized entropy (alpha = 2) of ``benefit (n,)``, split into its parts within and between ``groups (n,)``.

    With ``m`` the mean benefit and ``m_g`` that of a group: total ``(E[b^2] / m^2 - 1) / 2``, between
    ``(E[m_g^2] / m^2 - 1) / 2``, within the rest. Total and within have linearised intervals on the log scale.
    The root of twice the between part is a distance of ``m_g / m`` from 1, so it misses the truth by at most the
    distance of the observed ``m_g / m`` from the true ones, which is bootstrapped: at parity, where a linearised
    interval collapses, this one holds.

    Source: Speicher et al. (2018), A unified approach to quantifying algorithmic unfairness, section 3; Shorrocks
    (1980), Econometrica 48.

    >>> found = inequality(np.array([1.0, 1.0, 2.0, 0.0]), np.array([0, 0, 1, 1]), np.random.default_rng(0))
    >>> found.total.value, found.within.value, found.between.value
    (0.25, 0.25, 0.0)
    """
    n, w = len(benefit), design.masses(len(benefit))
    share, ratio = _profile(benefit, groups, w)
    if not np.isfinite(ratio).all():
        lacking = undefined("the mean benefit is 0, so inequality is undefined", n)
        return Inequality(lacking, lacking, lacking)
    p = w / w.sum()
    m = float((p * benefit).sum())
    square, square_groups = float((p * benefit**2).sum()), float((share * ratio**2).sum()) * m * m
    total, between = (square / m**2 - 1.0) / 2.0, max((square_groups / m**2 - 1.0) / 2.0, 0.0)
    group_mean = ratio[groups] * m
    drag = (benefit - m) / m**3
    moved = (benefit**2 - square) / (2 * m * m) - square * drag
    moved_between = (2 * group_mean * benefit - group_mean**2 - square_groups) / (2 * m * m) - square_groups * drag
    within = max(total - between, 0.0)
    return Inequality(
        _positive_estimate(max(total, 0.0), p * moved, n, design),
        _positive_estimate(within, p * (moved - moved_between), n, design),
        _between_estimate(between, benefit, groups, rng, design, resamples),
    )


def coefficient_of_variation(total: Estimate) -> Estimate:
    """Standard deviation of the benefits over their mean, from their generalized entropy: ``sqrt(2 GE(2))``.

    >>> coefficient_of_variation(Estimate(0.5, 4)).value
    1.0
    """
    return mapped(total, lambda entropy: math.sqrt(2.0 * entropy), "root")


def theil_index(benefit: FloatArray, design: Design = PLAIN) -> Estimate:
    """Generalized entropy with alpha = 1, ``E[b log(b / m)] / m`` for mean benefit ``m``; 0 is equality.

    Source: Speicher et al. (2018), section 3; Theil (1967), Economics and Information Theory, chapter 4.

    >>> round(theil_index(np.array([1.0, 1.0, 2.0, 0.0])).value, 4)
    0.3466
    """
    n, w = len(benefit), design.masses(len(benefit))
    p = w / w.sum()
    m = float((p * benefit).sum())
    if m <= 0.0:
        return undefined("the mean benefit is 0, so inequality is undefined", n)
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(benefit > 0, benefit * np.log(benefit), 0.0)
    mean_log = float((p * moved).sum())
    parts = p * ((moved - mean_log) / m - (benefit - m) * (mean_log / m + 1.0) / m)
    return _positive_estimate(max(mean_log / m - math.log(m), 0.0), parts, n, design)


def _positive_estimate(value: float, parts: FloatArray, n: int, design: Design) -> Estimate:
    value = 0.0 if value < _ROUNDING else value
    variance, units = variance_of(parts, design.clusters)
    if units < 2 or value <= 0.0 or variance <= 0.0:
        return Estimate(value, n, None, "rows that do not vary give no interval")
    return Estimate(value, n, log_bounds(value, variance, units, "linearised-log"))


def _between_estimate(
    value: float, benefit: FloatArray, groups: IntArray, rng: np.random.Generator, design: Design, resamples: int
) -> Estimate:
    n = len(benefit)
    share, ratio = _profile(benefit, groups, design.masses(n))
    drawn = _resampled_ratios(benefit, groups, rng, design, resamples)
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    found = np.sqrt((share * (drawn - ratio) ** 2).sum(axis=1))
    if len(found) < 0.95 * resamples or float(found.max(initial=0.0)) <= 0.0:
        return Estimate(value, n, None, "too few rows in a group, or rows that do not vary, give no interval")
    root = math.sqrt(2.0 * value)

    def bounds(level: float) -> Interval:
        tail = (1.0 - level) / 2.0
        normal = float(found.mean()) + z_value(level) * float(found.std())
        radius = max(normal, float(np.quantile(found, 1.0 - tail)))
        low, high = max(root - radius, 0.0) ** 2 / 2.0, (root + radius) ** 2 / 2.0
        return Interval(low=low, high=high, level=level, method="bootstrap-triangle")

    return Estimate(value, n, bounds)


def _resampled_ratios(
    benefit: FloatArray, groups: IntArray, rng: np.random.Generator, design: Design, resamples: int
) -> FloatArray:
    """Ratios of :func:`_profile` of resampled rows ``(b, G)``; of plain rows only the counts of the cells are drawn."""
    count = int(groups.max()) + 1
    if not design.plain:
        blocks = resample_weights(rng, len(benefit), resamples, weights=design.weights, clusters=design.clusters)
        return np.array([_profile(benefit, groups, row, count)[1] for block in blocks for row in block])
    kinds, code = np.unique(benefit, return_inverse=True)
    cells = np.bincount(groups * len(kinds) + code, minlength=count * len(kinds))
    drawn = rng.multinomial(len(benefit), cells / len(benefit), size=resamples).reshape(resamples, count, len(kinds))
    return _ratios(np.asarray(drawn.sum(axis=2), dtype=np.float64), np.asarray(drawn @ kinds, dtype=np.float64))


def _profile(benefit: FloatArray, groups: IntArray, w: FloatArray, count: int = 0) -> tuple[FloatArray, FloatArray]:
    """Share of each group ``(G,)`` and its mean benefit over that of all, NaN where undefined."""
    mass = np.bincount(groups, weights=w, minlength=count).astype(np.float64)
    sums = np.bincount(groups, weights=w * benefit, minlength=count).astype(np.float64)
    return mass / mass.sum(), _ratios(mass, sums)


def _ratios(mass: FloatArray, sums: FloatArray) -> FloatArray:
    """Mean of each group ``(..., G)`` over that of all."""
    whole, total = mass.sum(axis=-1, keepdims=True), sums.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where((mass > 0) & (total > 0), sums / mass / (total / whole), np.nan))
