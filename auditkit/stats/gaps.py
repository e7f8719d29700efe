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
LevelLimits = dict[float, tuple[FloatArray, FloatArray]]


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
    return largest_gaps([groups], level, [span])[0]


def largest_gaps(asked: Sequence[Mapping[str, Estimate]], level: float, spans: Sequence[float | None]) -> list[Gap]:
    """:func:`largest_gap` of each quantity, with all exact limits worked out in one go."""
    known = [{name: found for name, found in groups.items() if found.value is not None} for groups in asked]
    limits = _limits_of([list(groups.values()) for groups in known], level)
    return [_largest(*each, level) for each in zip(known, limits, spans, strict=True)]


def _largest(known: Mapping[str, Estimate], limits: LevelLimits | None, span: float | None, level: float) -> Gap:
    """The largest gap of estimates that all have a value, from the limits of all their pairs at each level."""
    n = sum(estimate.n for estimate in known.values())
    if len(known) < 2:
        return Gap(None, "", "", n, None, "fewer than two groups have a value")
    top = max(known, key=lambda name: known[name].value or 0.0)
    bottom = min(known, key=lambda name: known[name].value or 0.0)
    value = float((known[top].value or 0.0) - (known[bottom].value or 0.0))
    if limits is None:
        return Gap(value, top, bottom, n, None, "a group has no interval of its own, so the gap has none")
    each = list(known.values())
    ends = _extremes(each, limits, level)
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


def _extremes(each: Sequence[Estimate], limits: LevelLimits, level: float) -> tuple[float, float]:
    """The near and the far limit of the largest of all gaps."""
    far, near, strict = levels_of_gap(level, len(each))
    values = np.array([estimate.value for estimate in each], dtype=np.float64)
    left, right = np.triu_indices(len(each), 1)
    point = values[left] - values[right]
    low, _ = undirected(point, limits[near], limits[strict], "difference", near)
    _, high = undirected(point, limits[far], limits[strict], "difference", far)
    return float(low.max()), float(high.max())


def _are_shares(each: Sequence[Estimate]) -> bool:
    return all(estimate.share is not None for estimate in each)


def _limits_of(asked: Sequence[Sequence[Estimate]], level: float) -> list[LevelLimits | None]:
    """Limits of the differences of all pairs of each, at each level that their largest gap needs.

    ``None`` where there is no pair, or an estimate without an interval.
    """
    exact = [index for index, each in enumerate(asked) if len(each) > 1 and _are_shares(each)]
    shares = [[share for estimate in asked[index] if (share := estimate.share) is not None] for index in exact]
    found = dict(zip(exact, _shares_limits(shares, level), strict=True))
    return [found[index] if index in found else _mover_limits(each, level) for index, each in enumerate(asked)]


def _distinct_levels(level: float, groups: int) -> tuple[float, ...]:
    return tuple(dict.fromkeys(levels_of_gap(level, groups)))


def _mover_limits(each: Sequence[Estimate], level: float) -> LevelLimits | None:
    """Those that follow from the limits of each estimate."""
    left, right = np.triu_indices(len(each), 1)
    if not len(left):
        return None
    found = {}
    for own in _distinct_levels(level, len(each)):
        known = []
        for estimate in each:
            interval = estimate.interval(own)
            if estimate.value is None or interval is None:
                return None
            known.append((estimate.value, interval.low, interval.high))
        low, high = np.array([pair_limits(known[a], known[b]) for a, b in zip(left, right, strict=True)]).T
        found[own] = (low, high)
    return found


def _shares_limits(asked: Sequence[Sequence[Share]], level: float) -> list[LevelLimits | None]:
    """The exact (melded) ones of shares, of all quantities and at all levels in one go."""
    # A block is one quantity at one level, with shares of its own: their effective rows may differ by level.
    blocks = [(index, own) for index, each in enumerate(asked) for own in _distinct_levels(level, len(each))]
    if not blocks:
        return []
    rows = [np.array([share.rows(own) for share in asked[index]]) for index, own in blocks]
    starts = np.cumsum([0, *(len(part) for part in rows)])
    ends = [np.stack(np.triu_indices(len(part), 1)) + start for part, start in zip(rows, starts[:-1], strict=True)]
    left, right = np.concatenate(ends, axis=1)
    shares = [share for index, _ in blocks for share in asked[index]]
    low, high = melded_limits(
        np.array([share.value for share in shares]),
        np.concatenate(rows),
        left,
        right,
        "difference",
        np.repeat([own for _, own in blocks], [part.shape[1] for part in ends]),
        np.array([share.odds for share in shares]),
    )
    cuts = np.cumsum([part.shape[1] for part in ends])[:-1]
    found: list[LevelLimits] = [{} for _ in asked]
    for (index, own), *limits in zip(blocks, np.split(low, cuts), np.split(high, cuts), strict=True):
        found[index][own] = (limits[0], limits[1])
    empty = {index for (index, _), part in zip(blocks, rows, strict=True) if not (part > 0).all()}
    return [None if index in empty else each for index, each in enumerate(found)]
