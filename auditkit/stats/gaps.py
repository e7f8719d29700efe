"""The largest gap between groups, with an interval that is valid for the largest of many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.estimate import Estimate
from auditkit.stats.folded import both_ways, undirected
from auditkit.stats.intervals import fewest_degrees_of_freedom
from auditkit.stats.melded import melded_limits

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Gap:
    """The largest absolute gap, the groups it lies between, and its interval."""

    value: float | None
    high_group: str
    low_group: str
    n: int
    interval: Interval | None
    reason: str | None = None


Limits = tuple[float, float, float]


def pair_limits(a: Limits, b: Limits) -> tuple[float, float]:
    """Limits of ``a - b`` for independent estimates ``(value, low, high)`` (MOVER; of Wilson limits: Newcombe's).

    >>> from auditkit.stats.intervals import wilson
    >>> one, two = wilson(0.8, 70), wilson(0.6, 80)
    >>> low, high = pair_limits((0.8, one.low, one.high), (0.6, two.low, two.high))
    >>> round(low, 4), round(high, 4)
    (0.0524, 0.3339)
    """
    gap = a[0] - b[0]
    return gap - math.hypot(a[0] - a[1], b[2] - b[0]), gap + math.hypot(a[2] - a[0], b[0] - b[1])


def levels_of_gap(level: float, groups: int) -> tuple[float, ...]:
    """The levels at which the groups' own limits enter the largest of their gaps.

    For the far limit, for the near one (all pairs together may err as often as one), and for that with half the error
    for each direction.

    >>> [round(each, 4) for each in levels_of_gap(0.9, 2)], [round(each, 4) for each in levels_of_gap(0.9, 3)]
    ([0.9, 0.9, 0.95], [0.9, 0.9667, 0.9833])
    """
    near = 1.0 - (1.0 - level) / math.comb(groups, 2) if groups > 2 else level
    return level, near, both_ways(near)


def largest_gap(groups: Mapping[str, Estimate], level: float = 0.95, span: float | None = None) -> Gap:
    """Largest absolute difference over all pairs of groups, with an interval at ``level``.

    The upper limit is the largest pairwise upper limit (the pair that truly differs most is one of
    them, so it needs no correction); the lower limit is the largest pairwise lower limit after
    Bonferroni over the pairs, each of which may point either way, and never below 0. So picking the largest of many
    gaps does not make a gap out of noise. Shares have exact limits (melded), as the same gap has in every family; all
    other estimates MOVER's, from the limits of each.

    Args:
        groups: Group name -> estimate; groups without a value are left out.
        level: Two-sided confidence level.
        span: The largest gap possible (1 for shares), to which the interval is clipped.

    Source: Berger (1982), Technometrics 24 (intersection-union); Fay, Proschan and Brittain (2015), Biometrics 71, for
    shares; Zou and Donner (2008), Statistics in Medicine 27 (MOVER).
    """
    known = {name: estimate for name, estimate in groups.items() if estimate.value is not None}
    n = sum(estimate.n for estimate in known.values())
    if len(known) < 2:
        return Gap(None, "", "", n, None, "fewer than two groups have a value")
    top = max(known, key=lambda name: known[name].value or 0.0)
    bottom = min(known, key=lambda name: known[name].value or 0.0)
    value = float((known[top].value or 0.0) - (known[bottom].value or 0.0))
    each = list(known.values())
    ends = _extremes(each, level)
    if ends is None:
        return Gap(value, top, bottom, n, None, "a group has no interval of its own, so the gap has none")
    low, high = min(ends[0], value), max(ends[1], value)
    high = high if span is None else max(min(high, span), value)
    interval = Interval(
        low=low,
        high=high,
        level=level,
        method="melded-worst-pair" if _are_shares(each) else "mover-worst-pair",
        degrees_of_freedom=fewest_degrees_of_freedom(estimate.interval(level) for estimate in each),
    )
    return Gap(value, top, bottom, n, interval)


def _extremes(each: Sequence[Estimate], level: float) -> tuple[float, float] | None:
    """The near and the far limit of the largest of all gaps."""
    far, near, strict = levels_of_gap(level, len(each))
    values = np.array([estimate.value for estimate in each], dtype=np.float64)
    left, right = np.triu_indices(len(each), 1)
    point = values[left] - values[right]
    found = {}
    for at in dict.fromkeys((far, near, strict)):
        limits = _pairs_limits(each, at, left, right)
        if limits is None:
            return None
        found[at] = limits
    low, _ = undirected(point, found[near], found[strict], "difference", near)
    _, high = undirected(point, found[far], found[strict], "difference", far)
    return float(low.max()), float(high.max())


def _are_shares(each: Sequence[Estimate]) -> bool:
    return all(estimate.share is not None for estimate in each)


def _pairs_limits(
    each: Sequence[Estimate], level: float, left: IntArray, right: IntArray
) -> tuple[FloatArray, FloatArray] | None:
    """Limits ``(m,), (m,)`` of the differences of pairs, or ``None`` where an estimate has no interval."""
    shares = [estimate.share for estimate in each if estimate.share is not None]
    if len(shares) == len(each):
        rows = np.array([share.rows(level) for share in shares])
        if not (rows > 0).all():
            return None
        value, odds = np.array([share.value for share in shares]), np.array([share.odds for share in shares])
        return melded_limits(value, rows, left, right, "difference", level, odds)
    found = []
    for estimate in each:
        interval = estimate.interval(level)
        if estimate.value is None or interval is None:
            return None
        found.append((estimate.value, interval.low, interval.high))
    low, high = np.array([pair_limits(found[a], found[b]) for a, b in zip(left, right, strict=True)]).T
    return low, high
