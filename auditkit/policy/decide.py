"""The decision: each comparison of a rule passes, fails, is inconclusive, or is in error.

A claim needs proof. A comparison passes when its one-sided bounds at half the error lie inside the limit;
a rule passes when all of them do (intersection-union test, no correction needed: Berger 1982). A comparison
fails when a bound lies beyond the limit after Holm's correction within the rule (Holm 1979). All else is
inconclusive.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.core.rounding import SAME, exactly, general
from auditkit.core.verdict import Comparison, Side, State
from auditkit.policy.families import ALL_ROWS, Family
from auditkit.policy.lookup import Settings
from auditkit.policy.measured import Measured
from auditkit.policy.model import Rule
from auditkit.policy.power import rows_needed

_MOST_SIZED = 40
_SMALL: State = "inconclusive"
_SEVERITY: dict[State, int] = {"error": 0, "fail": 1, "inconclusive": 2, "waived": 3, "pass": 4}

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Limit:
    """The rule's limit on a value."""

    low: float | None
    high: float | None

    def inside(self, low: float, high: float) -> bool:
        """Whether everything between ``low`` and ``high`` is allowed."""
        above = self.low is None or low >= self.low - SAME
        return above and (self.high is None or high <= self.high + SAME)

    def holds(self, low: FloatArray, high: FloatArray) -> BoolArray:
        """:meth:`inside` for arrays; limits that are NaN are not."""
        found = np.ones(np.shape(low), dtype=np.bool_)
        if self.low is not None:
            found &= low >= self.low - SAME
        return found if self.high is None else found & (high <= self.high + SAME)

    def outside(self, low: float, high: float) -> bool:
        """Whether nothing between ``low`` and ``high`` is allowed."""
        under = self.low is not None and high < self.low - SAME
        return under or (self.high is not None and low > self.high + SAME)

    def text(self) -> str:
        """The limit as shown.

        >>> Limit(None, 0.1).text()
        '<= 0.1'
        """
        parts = [
            f">= {exactly(self.low)}" if self.low is not None else "",
            f"<= {exactly(self.high)}" if self.high is not None else "",
        ]
        return " and ".join(part for part in parts if part)

    def ends(self) -> tuple[float, ...]:
        """The numbers in it."""
        return tuple(end for end in (self.low, self.high) if end is not None)


@dataclass(frozen=True)
class Decision:
    """The comparison with what waivers need to know of it: which groups take part."""

    comparison: Comparison
    groups: frozenset[str]


@dataclass(frozen=True)
class Decisions:
    """The comparisons of a rule, the worst first (as many as are shown), and how many of all are in each state."""

    shown: list[Decision]
    tally: Counter[State]


@dataclass(frozen=True)
class _Looked:
    """One family with everything that its comparisons need, computed once."""

    family: Family
    value: FloatArray
    low: FloatArray
    high: FloatArray
    side_low: FloatArray
    side_high: FloatArray
    failing: BoolArray

    def finished(self, wanted: BoolArray, level: float) -> _Looked:
        """The same with the limits of the ``wanted`` comparisons, which a screening may have left out."""
        lacking = wanted & np.isnan(self.low)
        if not lacking.any():
            return self
        low, high = self.low.copy(), self.high.copy()
        low[lacking], high[lacking] = self.family.part(lacking).bounds(level)
        return replace(self, low=low, high=high)


def decide(families: Sequence[Family], settings: Settings, most: int | None = None) -> Decisions:
    """Every comparison of a rule, or the ``most`` that are worst, with its state.

    Of very many comparisons the exact limits are worked out only where cheap ones cannot tell the state, and for those
    that are shown.
    """
    limit, level = limit_of(settings.rule), settings.confidence
    screened = [_screened(family, limit, settings, most) for family in families]
    bounds = [part[:2] for part in screened]
    failing, fail_level = _holm(families, bounds, limit, level)
    looked = [
        _Looked(family, family.values(), *ends, *family.estimates.limits(level), part)
        for family, ends, part in zip(families, bounds, failing, strict=True)
    ]
    states = [_states(each, part[2:], limit, settings) for each, part in zip(looked, screened, strict=True)]
    tally: Counter[State] = Counter(itertools.chain.from_iterable(states))
    places = [(at, index) for at, family in enumerate(families) for index in range(len(family.left))]
    order = _worst_first(looked, states, limit)
    chosen = [places[position] for position in order[:most]]
    for at, each in enumerate(looked):
        wanted = np.zeros(len(each.family.left), dtype=np.bool_)
        wanted[[index for place, index in chosen if place == at]] = True
        looked[at] = each.finished(wanted, level)
    made = [_one(looked[at], index, limit, settings) for at, index in chosen]
    pairs = [(families[at], index) for at, index in chosen]
    return Decisions(_sized(pairs, made, (level, fail_level), limit, settings.min_n), tally)


def _screened(
    family: Family, limit: Limit, settings: Settings, most: int | None
) -> tuple[FloatArray, FloatArray, BoolArray, BoolArray]:
    """Exact limits where they are needed, NaN elsewhere, and which comparisons surely pass or surely reach over."""
    count = len(family.left)
    nowhere = np.zeros(count, dtype=np.bool_)
    cheap = most is not None and count > most and settings.decide == "interval" and not family.exact
    found = family.envelope(settings.confidence) if cheap else None
    if found is None:
        return (*family.bounds(settings.confidence), nowhere, nowhere)
    outer, inner = found
    usable = np.isfinite(np.stack([*outer, *inner])).all(axis=0)
    passes = usable & limit.holds(*outer)
    over = usable & ~limit.holds(*inner) & ~_beyond(limit, *inner)
    rest = ~(passes | over)
    low, high = np.full(count, np.nan), np.full(count, np.nan)
    if rest.any():
        low[rest], high[rest] = family.part(rest).bounds(settings.confidence)
    return low, high, passes, over


def _states(looked: _Looked, sure: tuple[BoolArray, BoolArray], limit: Limit, settings: Settings) -> list[State]:
    """The state of every comparison of a family, as :func:`_one` finds it."""
    family, value = looked.family, looked.value
    left, right = family.left, family.right
    absent = np.array([reason is not None for reason in family.undefined], dtype=np.bool_)
    problem = absent[left] | absent[right] | ~np.isfinite(value)
    passes, over = sure
    known = passes | over | (np.isfinite(looked.low) & np.isfinite(looked.high))
    if settings.decide == "point" or family.exact:
        fails, good = ~limit.holds(value, value), limit.holds(value, value)
        known = np.ones_like(known)
    else:
        fails = looked.failing
        good = passes | limit.holds(np.minimum(looked.low, value), np.maximum(looked.high, value))
    choices = [problem, family.small[left] | family.small[right], ~known, fails, good]
    found: list[State] = ["error", _SMALL, "error", "fail", "pass", "inconclusive"]
    first = np.argmax(np.stack([*choices, np.ones_like(problem)]), axis=0)
    return [found[index] for index in first.tolist()]


def _worst_first(looked: Sequence[_Looked], states: Sequence[list[State]], limit: Limit) -> list[int]:
    """Positions of all comparisons: the worst state first; within a state the value that is worst for the limit."""
    severity = np.array([_SEVERITY[state] for part in states for state in part])
    value = np.concatenate([np.nan_to_num(each.value) for each in looked])
    for each, start in zip(looked, np.cumsum([0, *(len(part) for part in states)]), strict=False):
        absent = np.array([reason is not None for reason in each.family.undefined], dtype=np.bool_)
        value[start : start + len(each.value)][absent[each.family.left] | absent[each.family.right]] = 0.0
    worst = np.full(len(value), np.inf)
    if limit.low is not None:
        worst = np.minimum(worst, value - limit.low)
    if limit.high is not None:
        worst = np.minimum(worst, limit.high - value)
    return [int(position) for position in np.lexsort((worst, severity))]


def limit_of(rule: Rule) -> Limit:
    """What the rule limits: the value itself, or how much worse it may be than in the baseline."""
    return Limit(rule.min, rule.max) if rule.baseline is None else Limit(None, rule.max_increase)


def _holm(
    families: Sequence[Family], bounds: Sequence[tuple[FloatArray, FloatArray]], limit: Limit, confidence: float
) -> tuple[list[BoolArray], float]:
    """Which comparisons lie beyond the limit after Holm, and the two-sided level of the next step.

    Holm's step-down is a Bonferroni test repeated over the comparisons not yet rejected until none is added. Only
    what lies beyond the limit by its own ``bounds``, at ``confidence``, can lie beyond it after a correction.
    """
    total = max(sum(family.tests for family in families), 1)
    failing = [np.zeros(len(family.left), dtype=np.bool_) for family in families]
    waiting = [_beyond(limit, *ends) for ends in bounds]
    while True:
        remaining = max(total - sum(int(part.sum()) for part in failing), 1)
        level = 1.0 - (1.0 - confidence) / remaining
        added = False
        for part, open_, family in zip(failing, waiting, families, strict=True):
            if open_.any():
                fresh = np.flatnonzero(open_)[_beyond(limit, *family.part(open_).bounds(level))]
                added = added or len(fresh) > 0
                part[fresh] = True
                open_[fresh] = False
        if not added:
            return failing, level


def _beyond(limit: Limit, low: FloatArray, high: FloatArray) -> BoolArray:
    """Whether all of each interval lies beyond the limit."""
    beyond = np.zeros(np.shape(low), dtype=np.bool_)
    if limit.low is not None:
        beyond |= high < limit.low - SAME
    if limit.high is not None:
        beyond |= low > limit.high + SAME
    return np.asarray(beyond & np.isfinite(low) & np.isfinite(high))


def _one(looked: _Looked, index: int, limit: Limit, settings: Settings) -> Decision:
    """One comparison, before the rows needed are known."""
    family = looked.family
    ends = list(dict.fromkeys((int(family.left[index]), int(family.right[index]))))
    sides = tuple(_side(looked, end, settings.confidence) for end in ends)
    value, low, high = (float(part[index]) for part in (looked.value, looked.low, looked.high))
    problem = next((family.undefined[end] for end in ends if family.undefined[end]), None)
    if problem is None and not math.isfinite(value):
        problem = "the ratio of two rates that are both 0 is undefined"
    interval = None
    if problem is None and math.isfinite(low) and math.isfinite(high) and not family.exact:
        interval = Interval(
            low=min(low, value), high=max(high, value), level=settings.confidence, method=family.method()
        )
    if problem is None and any(family.small[end] for end in ends):
        state, told = _SMALL, f"a group has fewer than min_n = {settings.min_n} rows"
    else:
        state, told = _state(looked, index, problem, interval, limit, settings.decide)
    shown = None if problem else value
    return Decision(
        Comparison(
            label=_label(family, ends),
            state=state,
            value=shown,
            message=_message(sides, "" if problem else family.phrase(index, limit.ends()), interval, limit, told),
            interval=interval,
            sides=sides,
            columns=family.columns,
            fewest_before=family.fewest_before(ends),
            n=sum(int(family.estimates.rows[end]) for end in ends),
        ),
        frozenset(f"{column}={name}" for end in ends for column, name in family.slices[end].items()),
    )


def _state(
    looked: _Looked, index: int, problem: str | None, interval: Interval | None, limit: Limit, by: str
) -> tuple[State, str]:
    """The state of one comparison and why, in a few words."""
    family, value = looked.family, float(looked.value[index])
    if problem:
        return "error", problem
    if by == "point" or family.exact:
        why = "exact, decided on the value" if family.exact else "decided on the point, without regard to its interval"
        return ("pass" if limit.inside(value, value) else "fail"), why
    if interval is None:
        ends = (int(family.left[index]), int(family.right[index]))
        lacking = next((family.unbounded[end] for end in ends if family.unbounded[end]), "it could not be computed")
        return "error", f"the rule decides on the interval and there is none: {lacking}"
    if looked.failing[index]:
        return "fail", "the whole interval lies beyond the limit"
    if limit.inside(interval.low, interval.high):
        return "pass", "the whole interval lies inside the limit"
    if limit.outside(interval.low, interval.high):
        return "inconclusive", "beyond the limit, but not after the correction for many comparisons"
    return "inconclusive", "the interval reaches over the limit"


def _sized(
    places: Sequence[tuple[Family, int]],
    made: list[Decision],
    levels: tuple[float, float],
    limit: Limit,
    min_n: int,
) -> list[Decision]:
    """Say for the inconclusive comparisons (of many the worst, and those that need most) how many rows settle them."""
    made = list(made)
    unsettled = [
        i for i, d in enumerate(made) if d.comparison.state == "inconclusive" and d.comparison.value is not None
    ]
    worst = unsettled[:1]
    unsettled.sort(key=lambda i: _margin(made[i].comparison, limit))
    for position in dict.fromkeys([*worst, *unsettled[:_MOST_SIZED]]):
        family, index = places[position]
        comparison = made[position].comparison
        shown = comparison.interval
        found = (shown.low, shown.high) if shown else (math.nan, math.nan)
        needed = rows_needed(family, index, limit.inside, limit.outside, levels=levels, found=found)
        if needed is None:
            told = f"; {family.hopeless()}"
        else:
            needed = max(needed, min_n)
            place = "each group" if len(comparison.sides) > 1 else "all"
            told = f"; at the rates seen, {needed:,} rows in {place} would settle it"
        sized = replace(comparison, n_needed=needed, message=comparison.message + told)
        made[position] = replace(made[position], comparison=sized)
    return made


def _side(looked: _Looked, end: int, level: float) -> Side:
    family = looked.family
    value, low, high = (float(part[end]) for part in (family.estimates.value, looked.side_low, looked.side_high))
    defined = math.isfinite(value)
    interval = None
    if defined and math.isfinite(low) and math.isfinite(high) and not family.exact:
        method = "as measured" if isinstance(family.estimates, Measured) else family.estimates.method
        interval = Interval(low=min(low, value), high=max(high, value), level=level, method=method)
    rows = int(family.estimates.rows[end])
    return Side(group=family.names[end], value=value if defined else None, n=rows, interval=interval)


def _label(family: Family, ends: list[int]) -> str:
    groups = " vs ".join(family.names[end] for end in ends)
    return f"{family.label}: {groups}" if family.label and groups != ALL_ROWS else family.label or groups


def _message(sides: tuple[Side, ...], what: str, interval: Interval | None, limit: Limit, told: str) -> str:
    judged = limit.ends()
    near = () if what else judged  # where a disparity follows, it is that which the limit is for
    rates = " against ".join(
        f"{side.group} {'undefined' if side.value is None else general(side.value, near)} (n = {side.n:,})"
        for side in sides
    )
    shown = f" [{general(interval.low, judged)}, {general(interval.high, judged)}]" if interval else ""
    return f"{rates}{what}{shown}, limit {limit.text()}: {told}"


def _margin(comparison: Comparison, limit: Limit) -> float:
    """Distance of the value from the nearest limit."""
    value = comparison.value if comparison.value is not None else 0.0
    return min(abs(value - end) for end in (limit.low, limit.high) if end is not None)
