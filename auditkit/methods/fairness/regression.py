"""Fairness of predicted values: errors, fit and level of the predictions in each group, each with its interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.methods.fairness.worst import Gap
from auditkit.stats import residuals
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.intervals import fewest_degrees_of_freedom, t_value
from auditkit.stats.linearised import PLAIN, Design, variance_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Predictions and true values ``(n,)`` with their weights and clusters."""

    predicted: FloatArray
    true: FloatArray
    design: Design = PLAIN

    def take(self, rows: IntArray) -> Rows:
        """Some of the rows."""
        return Rows(self.predicted[rows], self.true[rows], self.design.take(rows))


def root_mean_squared_error(rows: Rows) -> Estimate:
    """Root of the mean squared error, with limits on the log scale.

    >>> root_mean_squared_error(Rows(np.array([1.0, 2.0]), np.array([4.0, 5.0]))).value
    3.0
    """
    return residuals.root_mean_squared_error(rows.true, rows.predicted, rows.design)


def mean_absolute_error(rows: Rows) -> Estimate:
    """Mean absolute error with Student-t limits."""
    return residuals.mean_absolute_error(rows.true, rows.predicted, rows.design)


def r2(rows: Rows) -> Estimate:
    """Share of the group's own variance that is explained, ``1 - E[e^2] / Var(y)``; negative when worse than its mean.

    >>> r2(Rows(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]))).value
    1.0
    """
    return residuals.r2(rows.true, rows.predicted, rows.design)


def correlation(rows: Rows) -> Estimate:
    """Pearson correlation of prediction and true value, with limits on Fisher's scale from the linearised variance.

    Source: Fisher (1915), Biometrika 10; linearisation as in Deville (1999).
    """
    n = len(rows.true)
    w = rows.design.masses(n)
    p = w / w.sum() if n else w
    standard = []
    for values in (rows.predicted, rows.true):
        centered = values - float((p * values).sum())
        scale = math.sqrt(float((p * centered**2).sum()))
        if n < 3 or scale <= 1e-12 * max(float(np.abs(values).max(initial=0.0)), 1e-300):
            return undefined("the values of the group do not vary", n)
        standard.append(centered / scale)
    value = min(max(float((p * standard[0] * standard[1]).sum()), -1.0), 1.0)
    parts = p * (standard[0] * standard[1] - value * (standard[0] ** 2 + standard[1] ** 2) / 2.0)
    variance, units = variance_of(parts, rows.design.clusters)
    if units < 3 or abs(value) >= 1.0 - 1e-12:
        return Estimate(value, n, None, "too few rows, or all on one line, so there is no interval")
    center, spread = math.atanh(value), math.sqrt(variance) / (1.0 - value**2)

    def bounds(level: float) -> Interval:
        half = t_value(level, units - 1) * spread
        low, high = math.tanh(center - half), math.tanh(center + half)
        return Interval(low=low, high=high, level=level, method="fisher-z", degrees_of_freedom=units - 1)

    return Estimate(value, n, bounds)


def bounded_group_loss(groups: Mapping[str, Estimate], level: float = 0.95) -> tuple[Estimate, str]:
    """The largest mean loss of any group, and the group.

    The upper limit is the largest of the groups' upper ones (the group that truly loses most is among them), the lower
    limit the largest of lower ones corrected for the number of groups.

    Source: Agarwal, Dudik and Wu (2019), Fair regression, section 2.2; Berger (1982) for the limits.
    """
    missing = next((e.reason or "" for e in groups.values() if e.value is None), None)
    n = sum(estimate.n for estimate in groups.values())
    if missing is not None:
        return undefined(f"undefined in a group: {missing}", n), ""
    worst = max(groups, key=lambda name: groups[name].value or 0.0)
    value = groups[worst].value

    def bounds(at: float) -> Interval | None:
        wide = [e.interval(at) for e in groups.values()]
        strict = [e.interval(1.0 - (1.0 - at) / len(groups)) for e in groups.values()]
        if any(i is None for i in (*wide, *strict)):
            return None
        low, high = max(i.low for i in strict if i), max(i.high for i in wide if i)
        freedom = fewest_degrees_of_freedom(wide)
        return Interval(low=low, high=high, level=at, method="largest-of-groups", degrees_of_freedom=freedom)

    few = None if bounds(level) else "a group has too few rows or clusters for an interval"
    return Estimate(value, n, bounds, few), worst


def standardised_difference(values: FloatArray, codes: IntArray, count: int, design: Design, level: float) -> Gap:
    """Largest difference of means over pairs of groups, in standard deviations within groups (Cohen's d).

    The pooled variance is that within the two groups. The limits are linearised, the spread of the pooled deviation
    included, and simultaneous over the pairs.

    Source: Cohen (1988), section 2.2; Hedges and Olkin (1985), section 5.

    >>> values, codes = np.array([0.0, 2.0, 3.0, 5.0]), np.array([0, 0, 1, 1])
    >>> round(standardised_difference(values, codes, 2, PLAIN, 0.95).value, 4)
    2.1213
    """
    effects: dict[tuple[int, int], Estimate] = {}
    for a, b in itertools.combinations(range(count), 2):
        effects[a, b] = _effect(values, codes, a, b, design)
    return worst_of_pairs(effects, level)


def worst_of_pairs(effects: Mapping[tuple[int, int], Estimate], level: float) -> Gap:
    """The largest absolute effect over pairs with an interval valid for the largest, from the pairs' own intervals."""
    if not effects:
        return Gap(None, None, None, "there is only one group to compare")
    missing = next((e.reason for e in effects.values() if e.value is None), None)
    if missing is not None:
        return Gap(None, None, None, missing)
    pair = max(effects, key=lambda key: abs(effects[key].value or 0.0))
    point = abs(effects[pair].value or 0.0)
    wide = [e.interval(level) for e in effects.values()]
    strict = [e.interval(1.0 - (1.0 - level) / (2 * len(effects))) for e in effects.values()]
    if any(i is None for i in (*wide, *strict)):
        return Gap(point, None, pair, "a group has too few rows or clusters for an interval")
    high = max(max(abs(i.low), abs(i.high)) for i in wide if i)
    low = max(max(i.low, -i.high, 0.0) for i in strict if i)
    interval = Interval(
        low=min(low, point),
        high=max(high, point),
        level=level,
        method="linearised-simultaneous",
        degrees_of_freedom=fewest_degrees_of_freedom(wide),
    )
    return Gap(point, interval, pair)


def jain_index(values: FloatArray, design: Design = PLAIN) -> Estimate:
    """Jain's index of ``values (n,) >= 0``: ``E[v]^2 / E[v^2]``, 1 when all rows get the same.

    Source: Jain, Chiu and Hawe (1984), DEC-TR-301.

    >>> jain_index(np.array([1.0, 1.0, 0.0, 0.0])).value
    0.5
    """
    n = len(values)
    w = design.masses(n)
    p = w / w.sum()
    first, second = float((p * values).sum()), float((p * values**2).sum())
    if second <= 0.0:
        return undefined("all values are 0", n)
    value = first**2 / second
    parts = p * (2.0 * first * (values - first) / second - value * (values**2 - second) / second)
    return _student(value, parts, n, design, least=0.0, most=1.0)


def _effect(values: FloatArray, codes: IntArray, a: int, b: int, design: Design) -> Estimate:
    own = np.flatnonzero((codes == a) | (codes == b))
    part, is_a = design.take(own), codes[own] == a
    w, x = part.masses(len(own)), values[own]
    if min(int(is_a.sum()), int((~is_a).sum())) < 2:
        return undefined("a group has fewer than two rows", len(own))
    masses = float(w[is_a].sum()), float(w[~is_a].sum())
    means = float((w * x)[is_a].sum() / masses[0]), float((w * x)[~is_a].sum() / masses[1])
    residual = x - np.where(is_a, means[0], means[1])
    rows = len(own)
    # Two degrees of freedom go to the means.
    variance = float((w * residual**2).sum() / (masses[0] + masses[1])) * rows / (rows - 2)
    if variance <= 1e-24 * max(float((x**2).max()), 1e-300):
        return undefined("the values do not vary within the groups", rows)
    scale = math.sqrt(variance)
    value = (means[0] - means[1]) / scale
    moved = w * residual * np.where(is_a, 1.0 / masses[0], -1.0 / masses[1]) / scale
    drag = w * (residual**2 - variance * (rows - 2) / rows) / (masses[0] + masses[1]) * value / (2.0 * variance)
    return _student(value, moved - drag, rows, part)


def _student(
    value: float,
    parts: FloatArray,
    n: int,
    design: Design,
    *,
    least: float | None = None,
    most: float | None = None,
) -> Estimate:
    variance, units = variance_of(parts, design.clusters)
    if units < 3 or variance <= 0.0:
        return Estimate(value, n, None, "too few rows, or rows that do not vary, so there is no interval")

    def bounds(level: float) -> Interval:
        half = t_value(level, units - 1) * math.sqrt(variance)
        low = value - half if least is None else max(value - half, least)
        high = value + half if most is None else min(value + half, most)
        return Interval(
            low=min(low, value), high=max(high, value), level=level, method="linearised-t", degrees_of_freedom=units - 1
        )

    return Estimate(value, n, bounds)


@dataclass(frozen=True, slots=True)
class ParityLevel:
    """The smallest top share from which on selection is even, and the value at its border."""

    share: float | None
    threshold: float | None


def no_disparate_impact_share(
    values: FloatArray, codes: IntArray, count: int, least_ratio: float = 0.8, grid: int = 200
) -> ParityLevel:
    """Smallest share of rows, selected from the top, such that it and every larger share has an even selection.

    Even means that the lowest selection rate of a group is at least ``least_ratio`` of the highest. Ties are selected
    in proportion. Unlike the first threshold that happens to pass, no larger selection undoes this one.

    >>> values = np.arange(10.0)
    >>> no_disparate_impact_share(values, np.arange(10) % 2, 2, grid=10).share
    0.8
    """
    from auditkit.methods.fairness.ranking import places, top_chances

    n, sizes = len(values), np.bincount(codes, minlength=count)
    ranked = places(values, codes, count)
    ordered = np.sort(values)[::-1]
    best: int | None = None
    for top in np.unique(np.ceil(np.linspace(1.0, 0.0, grid, endpoint=False) * n).astype(np.int64))[::-1]:
        rates = np.bincount(codes, weights=top_chances(ranked, int(top)), minlength=count) / sizes
        if rates.min() < least_ratio * rates.max() - 1e-12:
            break
        best = int(top)
    if best is None:
        return ParityLevel(None, None)
    return ParityLevel(best / n, float(ordered[best - 1]))


Quantity = Callable[[Rows], Estimate]


def by_group(quantity: Quantity, rows: Rows, codes: IntArray, names: Sequence[str]) -> dict[str, Estimate]:
    """``quantity`` of each group's rows."""
    return {name: quantity(rows.take(np.flatnonzero(codes == code))) for code, name in enumerate(names)}
