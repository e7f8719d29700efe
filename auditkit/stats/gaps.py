"""The largest gap between groups, with an interval that is valid for the largest of many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.estimate import Estimate, Share
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
    found = _pairs_limits(each, tuple(dict.fromkeys((far, near, strict))), left, right)
    if found is None:
        return None
    low, _ = undirected(point, found[near], found[strict], "difference", near)
    _, high = undirected(point, found[far], found[strict], "difference", far)
    return float(low.max()), float(high.max())


def _are_shares(each: Sequence[Estimate]) -> bool:
    return all(estimate.share is not None for estimate in each)


def _pairs_limits(
    each: Sequence[Estimate], levels: Sequence[float], left: IntArray, right: IntArray
) -> dict[float, tuple[FloatArray, FloatArray]] | None:
    """Limits ``(m,), (m,)`` of the differences of pairs at each level; ``None`` where an estimate has no interval."""
    shares = [estimate.share for estimate in each if estimate.share is not None]
    if len(shares) == len(each):
        return _shares_limits(shares, levels, left, right)
    found = {}
    for level in levels:
        known = []
        for estimate in each:
            interval = estimate.interval(level)
            if estimate.value is None or interval is None:
                return None
            known.append((estimate.value, interval.low, interval.high))
        low, high = np.array([pair_limits(known[a], known[b]) for a, b in zip(left, right, strict=True)]).T
        found[level] = (low, high)
    return found


def _shares_limits(
    shares: Sequence[Share], levels: Sequence[float], left: IntArray, right: IntArray
) -> dict[float, tuple[FloatArray, FloatArray]] | None:
    """The same of shares, melded, at all levels in one go."""
    rows = np.array([[share.rows(level) for share in shares] for level in levels])
    if not (rows > 0).all():
        return None
    value, odds = np.array([share.value for share in shares]), np.array([share.odds for share in shares])
    begun = len(shares) * np.arange(len(levels))[:, None]  # each level has shares of its own: the rows may differ
    low, high = melded_limits(
        np.tile(value, len(levels)),
        rows.ravel(),
        (left + begun).ravel(),
        (right + begun).ravel(),
        "difference",
        np.repeat(levels, len(left)),
        np.tile(odds, len(levels)),
    )
    ends = zip(low.reshape(len(levels), -1), high.reshape(len(levels), -1), strict=True)
    return dict(zip(levels, ends, strict=True))
