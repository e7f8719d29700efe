"""The worst disparity of many pairs of groups, with an interval that holds although the data picked the pair."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from auditkit.core.evidence import Interval
from auditkit.methods.fairness.gaps import (
    Compared,
    Estimates,
    IntArray,
    Kind,
    Limits,
    directed_mover,
    disparities,
    fewest_freedom,
    groups_limits,
    limits_of,
    ordered,
    pair_method,
    pairs,
    slack,
)
from auditkit.methods.fairness.metrics import Rates
from auditkit.stats.folded import both_ways
from auditkit.stats.intervals import fewest_degrees_of_freedom

NOT_ASKED = "no interval was asked for"


@dataclass(frozen=True, slots=True)
class Gap:
    """The largest difference (or smallest ratio) over all pairs: value, simultaneous interval, the pair."""

    value: float | None
    interval: Interval | None
    pair: tuple[int, int] | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """Which two groups differ most: of what, as a difference or ratio, at which level; without one the value alone."""

    estimates: Estimates
    kind: Kind
    level: float | None = 0.95


def extreme_limits(asked: Sequence[Compared], tests: Sequence[int]) -> list[tuple[float, float]]:
    """Limits of the worst of the pairs of each: far ones as they are, near ones corrected for ``tests`` pairs.

    Exact limits are worked out only for pairs which, by MOVER's, can be the extreme ones.
    """
    strict = [1 - (1 - each.level) / count for each, count in zip(asked, tests, strict=True)]
    near = [replace(each, level=level) for each, level in zip(asked, strict, strict=True)]
    limits = limits_of([*_screened(asked, far=True), *_screened(near, far=False)])
    ends = []
    for each, far_limits, near_limits in zip(asked, limits[: len(asked)], limits[len(asked) :], strict=True):
        if each.kind == "difference":
            ends.append((float(near_limits[0].max(initial=0.0)), float(far_limits[1].max())))
        else:
            ends.append((float(far_limits[0].min()), float(near_limits[1].min(initial=1.0))))
    return ends


def _screened(asked: Sequence[Compared], far: bool) -> list[Compared]:
    """The same with the pairs alone which can be the extreme ones."""
    worth = [len(each.left) > 1 and isinstance(each.estimates, Rates) and each.estimates.is_one_rate for each in asked]
    chosen = [each for each, screen in zip(asked, worth, strict=True) if screen]
    rough = groups_limits([(each.estimates, each.level) for each in chosen])
    # A near limit lies between those at the whole error and at half of it.
    rougher = rough if far else groups_limits([(each.estimates, both_ways(each.level)) for each in chosen])
    found = iter([_contenders(*each, far) for each in zip(chosen, rough, rougher, strict=True)])
    return [next(found) if screen else each for each, screen in zip(asked, worth, strict=True)]


def _contenders(asked: Compared, limits: Limits, strict: Limits, far: bool) -> Compared:
    """The pairs whose limit is the most extreme one, or may be as far as MOVER's limits may be off."""
    value, kind = asked.estimates.value, asked.kind
    small, large = ordered(value, asked.left, asked.right, kind)
    part = slack(asked.estimates, asked.left, asked.right)
    ends, rooms = [], []
    for own in (limits, strict):
        low, high = directed_mover(value, own, small, large, kind)
        if not (np.isfinite(low) & ~np.isnan(high)).all():
            return asked
        if kind == "difference":
            gap = value[small] - value[large]
            ends.append(np.maximum(high, -low) if far else np.maximum(low, -high))
            rooms.append(part * np.maximum(high - gap, gap - low))
        else:
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                ratio = value[small] / value[large]
                ends.append(np.minimum(low, 1.0 / high) if far else np.minimum(high, 2.0))
            rooms.append(part * np.abs(ends[-1] - ratio))
    if kind == "difference":
        chosen = ends[0] + rooms[0] >= max(float((ends[1] - rooms[1]).max()), -1.0 if far else 0.0)
    else:
        chosen = ends[0] - rooms[0] <= min(float(np.min(ends[1] + rooms[1])), 1.0)
    return replace(asked, left=asked.left[chosen], right=asked.right[chosen])


def simultaneous_gap(
    estimates: Estimates, kind: Kind, level: float | None = 0.95, *, bounds: tuple[float, float | None] = (0.0, 1.0)
) -> Gap:
    """The max-min difference (or min/max ratio) over all groups with an interval valid for the maximum.

    The far limit is the largest of the pairwise limits at ``level``: the true extreme pair is one of them.
    The near limit is corrected for the number of pairs (Bonferroni), each of which may point either way. A percentile
    bootstrap of a maximum, by contrast, is biased away from zero and can miss the truth always. Without a level the
    value comes alone.

    Source: intersection-union principle, Berger (1982); pairwise limits as in
    :func:`~auditkit.methods.fairness.gaps.disparity_limits`.
    """
    return simultaneous_gaps([Question(estimates, kind, level)], bounds=bounds)[0]


def simultaneous_gaps(asked: Sequence[Question], *, bounds: tuple[float, float | None] = (0.0, 1.0)) -> list[Gap]:
    """:func:`simultaneous_gap` of each, with all exact limits worked out in one go."""
    found = [_picked(each.estimates, each.kind) for each in asked]
    compared = [
        Compared(each.estimates, left, right, each.kind, each.level)
        for each, (gap, left, right) in zip(asked, found, strict=True)
        if gap.value is not None and each.level is not None
    ]
    tests = [math.comb(len(each.estimates.value), 2) for each in compared]
    ends = iter(zip(compared, extreme_limits(compared, tests), strict=True))
    gaps = []
    for each, (gap, *_) in zip(asked, found, strict=True):
        if gap.value is not None:
            gap = replace(gap, reason=NOT_ASKED) if each.level is None else with_limits(gap, *next(ends), bounds)
        gaps.append(gap)
    return gaps


def _picked(estimates: Estimates, kind: Kind) -> tuple[Gap, IntArray, IntArray]:
    """The worst pair without its interval, and all pairs that it was picked from."""
    value = estimates.value
    left, right = pairs(estimates)
    if len(value) < 2:
        return Gap(None, None, None, "there is only one group to compare"), left, right
    missing = int((~np.isfinite(value)).sum())
    if missing:
        return Gap(None, None, None, f"undefined in {missing} of {len(value)} groups"), left, right
    each = disparities(value, left, right, kind)
    known = np.isfinite(each)
    both_zero = (value[left] == 0) & (value[right] == 0)
    if not known.any() or not (known | both_zero).all():
        return Gap(None, None, None, "the ratio of two rates that are both 0 is undefined"), left, right
    # Two groups at 0 have no ratio of their own; beside a group above 0 the worst ratio is 0 all the same.
    left, right, each = left[known], right[known], each[known]
    worst = int(np.argmax(each) if kind == "difference" else np.argmin(each))
    return Gap(float(each[worst]), None, (int(left[worst]), int(right[worst]))), left, right


def with_limits(
    gap: Gap, compared: Compared, ends: tuple[float, float], bounds: tuple[float, float | None] = (0.0, 1.0)
) -> Gap:
    """``gap`` with the interval of the worst of the pairs ``compared``, within ``bounds``."""
    point = gap.value
    if point is None or not (math.isfinite(ends[0]) and math.isfinite(ends[1])):
        return replace(gap, reason="a group has too few rows or clusters for an interval")
    top = math.inf if bounds[1] is None else bounds[1]
    interval = Interval(
        low=min(max(ends[0], bounds[0]), point),
        high=max(min(ends[1], top), point),
        level=compared.level,
        method=pair_method(compared.estimates, "worst-pair"),
        degrees_of_freedom=fewest_freedom(compared.estimates),
    )
    return replace(gap, interval=interval)


@dataclass(frozen=True, slots=True)
class Joint:
    """A question about several quantities at once: which one has the worst disparity, and between which groups."""

    estimates: tuple[Estimates, ...]
    kind: Kind
    level: float | None = 0.95

    def strict(self) -> float | None:
        """The level of each near limit, so that together they err as often as one limit at ``level``."""
        return None if self.level is None else 1.0 - (1.0 - self.level) / len(self.estimates)


def joint_gaps(asked: Sequence[Joint]) -> list[Gap]:
    """The largest of several differences, or the smallest of several ratios (equalized odds), for each of ``asked``.

    The far limit is the furthest of the parts'; for the near limit they share the error between them (Bonferroni).
    """
    wide = [Question(part, each.kind, each.level) for each in asked for part in each.estimates]
    near = [Question(part, each.kind, each.strict()) for each in asked for part in each.estimates]
    gaps = simultaneous_gaps([*wide, *near])
    found, begun = [], 0
    for each in asked:
        own = slice(begun, begun := begun + len(each.estimates))
        found.append(_worst_of(gaps[: len(wide)][own], gaps[len(wide) :][own], each.kind))
    return found


def _worst_of(wide: Sequence[Gap], near: Sequence[Gap], kind: Kind) -> Gap:
    undefined = next((gap for gap in wide if gap.value is None), None)
    if undefined is not None:
        return Gap(None, None, None, undefined.reason)
    pick = max if kind == "difference" else min
    worst = pick(wide, key=lambda gap: math.nan if gap.value is None else gap.value)
    unbounded = next((gap for gap in (*wide, *near) if gap.interval is None), None)
    if worst.value is None or worst.interval is None or unbounded is not None:
        return replace(worst, interval=None, reason=unbounded.reason if unbounded else worst.reason)
    lows, highs = ([gap.interval for gap in side if gap.interval is not None] for side in (near, wide))
    if kind == "ratio":
        lows, highs = highs, lows
    low, high = pick(part.low for part in lows), pick(part.high for part in highs)
    interval = replace(
        worst.interval,
        low=min(low, worst.value),
        high=max(high, worst.value),
        degrees_of_freedom=fewest_degrees_of_freedom(gap.interval for gap in wide),
    )
    return replace(worst, interval=interval)
