"""Who gets the decisions, from the cells: smoothed differential fairness, and distances of whole distributions."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Counts, Interval
from auditkit.methods.fairness.composites import composite_gap
from auditkit.methods.fairness.distances import Distance
from auditkit.stats.intervals import fewest_degrees_of_freedom, z_value

FloatArray = npt.NDArray[np.float64]


def cells(counts: Counts) -> FloatArray:
    """``(G, k, k)`` group x label x decision: sums of weights where rows have weights, else counts."""
    return np.asarray(counts.n if counts.weight is None else counts.weight, dtype=np.float64)


def swapped(counts: Counts) -> Counts:
    """The same cells with labels in the place of decisions, so that decision rates of it are rates of labels.

    >>> table = Counts(name="c", over=(), groups=((),), classes=("0", "1"), n=(((1, 2), (3, 4)),), positive=1)
    >>> swapped(table).n
    (((1, 3), (2, 4)),)
    """
    k = len(counts.classes)
    order = [p * k + y for y in range(k) for p in range(k)]

    def turned(field: Any) -> Any:
        return None if field is None else tuple(tuple(zip(*block, strict=True)) for block in field)

    moment = counts.moment
    if moment is not None:
        moment = tuple(tuple(tuple(block[i][j] for j in order) for i in order) for block in moment)
    return replace(
        counts,
        n=turned(counts.n),
        weight=turned(counts.weight),
        weight_sq=turned(counts.weight_sq),
        moment=moment,
    )


def smoothed_differential_fairness(counts: Counts, concentration: float = 1.0) -> float:
    """Largest absolute log ratio of the rates of either decision, each smoothed by a Dirichlet prior.

    ``(rows with the decision + c / 2) / (rows + c)``: finite also where a group never gets a decision.

    Args:
        counts: Binary cells with a positive class.
        concentration: ``c`` of the prior, above 0.

    Source: Foulds et al. (2020), An intersectional definition of fairness, section 5 (smoothed empirical estimate).

    >>> table = Counts(name="c", over=("g",), groups=(("a",), ("b",)), classes=("0", "1"),
    ...                n=(((0, 0), (0, 4)), ((4, 0), (0, 0))), positive=1)
    >>> round(smoothed_differential_fairness(table), 4)
    2.1972
    """
    table = cells(counts)
    total = table.sum(axis=(1, 2))
    positive = table[:, :, counts.positive or 0].sum(axis=1) if counts.positive is not None else np.zeros(len(table))
    rate = (positive + concentration / 2.0) / (total + concentration)
    logs = np.log(rate), np.log(1.0 - rate)
    return float(max(np.ptp(each) for each in logs))


def differential_limits(counts: Counts, level: float) -> Interval | None:
    """Simultaneous interval of the largest absolute log ratio of decision rates, unsmoothed, if it is bounded."""
    gap = composite_gap(counts, "decision_rates", "ratio", level)
    if gap.interval is None or gap.interval.low <= 0.0:
        return None
    low, high = -math.log(gap.interval.high), -math.log(gap.interval.low)
    return replace(gap.interval, low=low, high=high, method="mover-log-ratio")


def bias_amplification(counts: Counts, level: float = 0.95) -> tuple[float, Interval | None]:
    """Differential fairness of the decisions less that of the labels, both smoothed; above 0 the model adds to the gap.

    The limits are those of both parts at half the error each (Bonferroni), which holds whatever ties them together.

    Source: Foulds et al. (2020), section 6.
    """
    value = smoothed_differential_fairness(counts) - smoothed_differential_fairness(swapped(counts))
    decided, labelled = (differential_limits(part, 1 - (1 - level) / 2) for part in (counts, swapped(counts)))
    if decided is None or labelled is None:
        return value, None
    return value, Interval(
        low=min(decided.low - labelled.high, value),
        high=max(decided.high - labelled.low, value),
        level=level,
        method="mover-bonferroni",
        degrees_of_freedom=fewest_degrees_of_freedom([decided, labelled]),
    )


def decision_distributions(counts: Counts) -> FloatArray:
    """``(G, 1, k)`` the distribution of decisions in each group."""
    table = cells(counts).sum(axis=1, keepdims=True)
    return np.asarray(table)


def error_distributions(counts: Counts) -> FloatArray:
    """``(G, k, k)`` cells, whose rows are the decisions on each label."""
    return cells(counts)


def total_variation(one: FloatArray, two: FloatArray) -> float:
    """Mean over rows ``(r, k)`` of the total variation distance between the rows' distributions; NaN for an empty row.

    >>> total_variation(np.array([[1.0, 3.0]]), np.array([[3.0, 1.0]]))
    0.5
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = one / one.sum(axis=-1, keepdims=True) - two / two.sum(axis=-1, keepdims=True)
    return float(np.abs(gap).sum(axis=-1).mean() / 2.0)


def worst_variation(
    tables: FloatArray, plain: bool, rng: np.random.Generator, *, level: float = 0.95, resamples: int = 400
) -> Distance:
    """The largest total variation distance between two groups' distributions, with an interval valid for the largest.

    As it is a distance, the observed one misses the truth by at most the groups' own errors, whose distance from the
    observed distribution is drawn from multinomial tables. With one row of distributions (decisions) and two classes
    it is the gap in selection rates; with a row for each label it is then the average odds difference.

    Args:
        tables: ``(G, r, k)`` counts, of which each row is one distribution.
        plain: Whether they are counts of independent rows; else there is no interval.
        rng: Seeded generator.
        level: Two-sided level.
        resamples: Multinomial tables a group.

    Source: Denis et al. (2021), Fairness guarantee in multi-class classification, section 2, for the distance of
    decisions; the triangle bound as in :mod:`auditkit.methods.fairness.distances`.
    """
    if len(tables) < 2:
        return Distance(None, reason="there is only one group to compare")
    empty = int((tables.sum(axis=-1) <= 0).any(axis=1).sum())
    if empty:
        return Distance(None, reason=f"undefined in {empty} of {len(tables)} groups: a label has no row")
    pairs = {pair: total_variation(tables[pair[0]], tables[pair[1]]) for pair in _pairs(len(tables))}
    worst = max(pairs, key=lambda key: pairs[key])
    value = pairs[worst]
    if not plain:
        return Distance(value, worst, None, "weighted or clustered rows cannot be drawn as multinomial tables")
    errors = [_errors(table, rng, resamples) for table in tables]
    if min(float(error.max()) for error in errors) <= 0.0:
        return Distance(value, worst, None, "a group's decisions never vary, so there is no interval")
    tail = (1.0 - level) / 2.0
    high = max(d + _radius(errors[a], errors[b], tail) for (a, b), d in pairs.items())
    low = max(d - _radius(errors[a], errors[b], tail / len(pairs)) for (a, b), d in pairs.items())
    interval = Interval(
        low=min(max(low, 0.0), value), high=max(min(high, 1.0), value), level=level, method="bootstrap-triangle"
    )
    return Distance(value, worst, interval)


def _pairs(count: int) -> list[tuple[int, int]]:
    return list(itertools.combinations(range(count), 2))


def _errors(table: FloatArray, rng: np.random.Generator, resamples: int) -> FloatArray:
    """Distances ``(b,)`` of tables drawn row by row from the observed one."""
    drawn = np.stack([rng.multinomial(round(row.sum()), row / row.sum(), size=resamples) for row in table], axis=1)
    return np.array([total_variation(each.astype(np.float64), table) for each in drawn])


def _radius(one: FloatArray, two: FloatArray, tail: float) -> float:
    both = one + two
    normal = float(both.mean()) + z_value(1 - 2 * tail) * float(both.std())
    return max(normal, float(np.quantile(both, 1 - tail))) if tail * len(both) >= 1 else normal
