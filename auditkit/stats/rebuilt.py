"""From a measured number back to its estimate, whose interval can be asked for at any level.

A measurement keeps its interval at one level. Its value, its rows and the method tell the interval at every other one:
exact limits of shares from the (effective) rows, limits that are made around a value on some scale from the standard
error that they show. What is read so is doubted: an estimate that does not give the interval it was read from is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from auditkit.core.evidence import Interval, Measurement
from auditkit.stats.effective import corrected_rows
from auditkit.stats.estimate import Bounds, Estimate, Share
from auditkit.stats.intervals import exact_share, t_value, z_value
from auditkit.stats.melded import exact_limits

Curve = Callable[[float], float]
# Numbers of shared copies have six digits.
ROUNDED = 2e-5
_STEPS = 40


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale on which an interval reaches as far to one side of its value as to the other.

    Attributes:
        there, back: To the scale and from it, both increasing.
        least, most: A limit that can be read lies between.
        normal: Whether it reaches as far as normal quantiles say, not Student's.
    """

    there: Curve
    back: Curve
    least: float = -math.inf
    most: float = math.inf
    normal: bool = False


def _exp(x: float) -> float:
    """``exp``, held where it would be beyond all numbers: two rows have such limits at high levels."""
    return math.exp(min(x, 700.0))


def _logit(p: float) -> float:
    return math.log(p / (1.0 - p))


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + _exp(-x))


_PLAIN = Scale(float, float)
_LOG = Scale(math.log, _exp, 0.0)
_LOGIT = Scale(_logit, _logistic, 0.0, 1.0)
_DELONG = replace(_LOGIT, normal=True)
# R2 is bounded by the log of what it lacks of 1.
_LACK = Scale(lambda v: -math.log(1.0 - v), lambda x: 1.0 - _exp(-x), -math.inf, 1.0)
# Interval method -> the scale that it is made on.
SCALES: Mapping[str, Scale] = {
    "student-t": _PLAIN,
    "cluster-student-t": _PLAIN,
    "linearised-t": _PLAIN,
    "student-t over rows": _PLAIN,
    "student-t over rows and trainings": _PLAIN,
    "delong-logit": _DELONG,
    "cluster-delong-logit": _DELONG,
    "delong-linearised-logit": _LOGIT,
    "delong-clustered-logit": _LOGIT,
    "linearised-logit": _LOGIT,
    "cluster-linearised-logit": _LOGIT,
    "cross-validated-auc-logit": _LOGIT,
    "cross-validated-auc-clustered-logit": _LOGIT,
    "linearised-log": _LOG,
    "cluster-linearised-log": _LOG,
    "linearised-log-root": _LOG,
    "bootstrap-log-t": _LOG,
    "fisher-z": Scale(math.atanh, math.tanh, -1.0, 1.0),
}
# Methods that earlier releases used with the rows less one as degrees of freedom, without saying so.
_OF_ROWS = ("student-t", "linearised-log", "korn-graubard-t")
# How many times the odds of a share with exact limits the value's odds are.
_ODDS: Mapping[str, float] = {
    "clopper-pearson": 1.0,
    "clopper-pearson-mapped": 2.0,
    "korn-graubard": 1.0,
    "korn-graubard-mapped": 2.0,
    "korn-graubard-t": 1.0,
    "korn-graubard-clustered": 1.0,
    "korn-graubard-clustered-mapped": 2.0,
    "korn-graubard over rows": 1.0,
    "korn-graubard over rows and trainings": 1.0,
    "exact-smaller-class": 1.0,
}
_OF_ODDS = "-odds"
# Areas that are limited so at their ends alone: their gaps are not those of shares.
_NO_SHARE = "exact-smaller-class"


def rebuilt(m: Measurement) -> Estimate | None:
    """The estimate behind ``m``, or ``None`` where its value, rows and interval do not tell it.

    >>> held = Interval(low=0.0123485, high=0.3169827, level=0.95, method="clopper-pearson")
    >>> found = rebuilt(Measurement(name="performance.accuracy", value=0.1, n=20, interval=held))
    >>> round(found.interval(0.99).high, 4)
    0.3871
    """
    if m.interval is None or m.value is None or not m.n:
        return None
    if m.interval.method.endswith(_OF_ODDS):
        return _of_odds(m)
    found = _share(m) if m.interval.method in _ODDS else _around(m)
    if found is None:
        return None
    again = found.interval(m.interval.level)
    return found if again is not None and same_interval(again, m.interval) else None


def freedom_of(m: Measurement) -> float | None:
    """Degrees of freedom behind the interval of ``m``; ``None`` where it does not tell them, or rests on none."""
    if m.interval is None or m.interval.degrees_of_freedom is not None or not m.n:
        return None if m.interval is None else m.interval.degrees_of_freedom
    return m.n - 1.0 if m.n > 1 and m.interval.method in _OF_ROWS else None


def scale_of(m: Measurement) -> Scale | None:
    """The scale on which the interval of ``m`` is made around its value; ``None`` where there is none."""
    if m.interval is None or m.interval.method not in SCALES:
        return None
    scale = SCALES[m.interval.method]
    return _LACK if scale is _LOG and m.bounds == (None, 1.0) else scale


def _read(m: Measurement, scale: Scale) -> tuple[float | None, float | None]:
    """Both limits on the ``scale``; ``None`` where one was cut off at a bound, or lies beyond what can be read."""
    assert m.interval is not None

    def told(end: float, bound: float | None) -> float | None:
        return scale.there(end) if end != bound and scale.least < end < scale.most else None

    return told(m.interval.low, m.bounds[0]), told(m.interval.high, m.bounds[1])


def middle_of(m: Measurement) -> float | None:
    """The middle of such an interval, where neither limit was cut off."""
    scale = scale_of(m)
    # Losses of accuracy over trainings are cut off at all that there is to lose, whatever the unit.
    if scale is None or m.interval is None or "trainings" in m.interval.method or "over rows" in m.interval.method:
        return None
    low, high = _read(m, scale)
    return None if low is None or high is None else scale.back((low + high) / 2.0)


def _around(m: Measurement) -> Estimate | None:
    scale, held, middle, freedom = scale_of(m), m.interval, middle_of(m), freedom_of(m)
    if scale is None or held is None or m.value is None or not scale.least < m.value < scale.most:
        return None
    if middle is not None and abs(middle - m.value) > ROUNDED * max(1.0, abs(m.value)):
        return None
    if freedom is None and not scale.normal:
        return None

    def quantile(level: float) -> float:
        if freedom is None or scale.normal:
            return z_value(level)
        if level < held.level and m.rests_on_clusters:
            # With more degrees of freedom than are told a lower level takes less off: never more than of none counted.
            return t_value(held.level, freedom) * z_value(level) / z_value(held.level)
        return t_value(level, freedom)

    center, (low, high) = scale.there(m.value), _read(m, scale)
    floor, ceiling = _ends(m)
    arms = [arm for arm in (None if high is None else high - center, None if low is None else center - low) if arm]
    error = arms[0] / quantile(held.level) if arms else 0.0
    if not arms and (held.low, held.high) != (m.value, m.value):
        return None

    def bounds(level: float) -> Interval:
        half = quantile(level) * error if error else 0.0
        found = max(scale.back(center - half), floor), min(scale.back(center + half), ceiling)
        return replace(held, low=found[0], high=found[1], level=level)

    return Estimate(m.value, m.n or 0, bounds)


def _ends(m: Measurement) -> tuple[float, float]:
    """Where limits are cut off: never on the near side of the value."""
    value, (least, most) = m.value or 0.0, m.bounds
    return -math.inf if least is None else min(least, value), math.inf if most is None else max(most, value)


def _share(m: Measurement) -> Estimate | None:
    """A share with exact limits: of whole hits where rows are plain, on the rows that the limits show where not."""
    held, value, n = m.interval, m.value, m.n or 0
    assert held is not None
    assert value is not None
    odds = _ODDS[held.method]
    if not 0.0 <= value <= 1.0:
        return None
    part, counted = value / (odds - (odds - 1.0) * value), freedom_of(m)
    if held.method.startswith("clopper-pearson"):
        rows: float | None = float(n)
        if abs(part * n - round(part * n)) > 1e-5 * max(1.0, part * n):
            return None
        part = round(part * n) / n
    elif counted is None and "clustered" in held.method:
        return None
    else:
        rows = _effective(part, _lowered(held, odds))
    known = _correction(held, counted, held.level)
    if rows is None or known <= 0.0:
        return None

    def rows_at(level: float, whole: float = rows / known) -> float:
        least = held.level if m.rests_on_clusters else level
        return whole * _correction(held, counted, max(level, least))

    share = Share(part, rows_at, odds)
    told = None if held.method == _NO_SHARE else share
    return Estimate(_lifted(part, odds), n, _exact(share, held), share=told)


def _correction(held: Interval, freedom: float | None, level: float) -> float:
    """How much fewer the effective rows are at ``level`` for the degrees of freedom of their variance."""
    if freedom is None:
        return 1.0
    if "over rows" in held.method:
        return float((z_value(level) / t_value(level, freedom)) ** 2)
    return float(corrected_rows(np.array(1.0), np.array(freedom), level))


def _exact(share: Share, held: Interval) -> Bounds:
    odds = share.odds

    def bounds(level: float) -> Interval | None:
        found = exact_share(share.value, share.rows(level), level, held.method)
        if found is None:
            return None
        return replace(held, low=_lifted(found.low, odds), high=_lifted(found.high, odds), level=level)

    return bounds


def _lifted(part: float, odds: float) -> float:
    return odds * part / (1.0 + (odds - 1.0) * part)


def _lowered(held: Interval, odds: float) -> Interval:
    """Limits of the share behind limits of what has ``odds`` times its odds."""
    return replace(held, low=_lifted(held.low, 1.0 / odds), high=_lifted(held.high, 1.0 / odds))


def _of_odds(m: Measurement) -> Estimate | None:
    """The odds of a share, from the share."""
    assert m.interval is not None
    if m.value is None or m.value < 0.0:
        return None
    ends = {"low": _share_of(m.interval.low), "high": _share_of(m.interval.high)}
    held = replace(m.interval, **ends, method=m.interval.method.removesuffix(_OF_ODDS))
    share = rebuilt(replace(m, value=_share_of(m.value), interval=held, bounds=(0.0, 1.0)))
    if share is None:
        return None

    def bounds(level: float) -> Interval | None:
        found = share.interval(level)
        if found is None or found.high >= 1.0:
            return None
        low, high = (end / (1.0 - end) for end in (found.low, found.high))
        return replace(found, low=low, high=high, method=f"{found.method}{_OF_ODDS}")

    return Estimate(m.value, m.n or 0, bounds)


def _share_of(odds: float) -> float:
    return odds / (1.0 + odds)


def _effective(part: float, held: Interval) -> float | None:
    """The rows on which a share has these exact limits, by the secant rule: on the scale of logarithms the distance to
    the farther limit falls almost along a line."""
    tail = (1.0 - held.level) / 2.0
    if part in (0.0, 1.0) and held.low < held.high:  # no hit, or no miss: a power of the limit is the error
        seen = math.log1p(-min(held.high, 1.0 - 1e-16)) if part == 0.0 else math.log(max(held.low, 1e-300))
        return math.log(tail) / seen if seen < 0.0 else None
    upper = part < 0.5
    goal = held.high - part if upper else part - held.low
    if goal <= 0.0:
        return None

    def lack(size: float) -> float:
        low, high = exact_limits(np.array([part]), np.array([math.exp(size)]), held.level)
        return math.log(max(float(high[0]) - part if upper else part - float(low[0]), 1e-300) / goal)

    one = math.log(max(part * (1.0 - part), goal) / goal**2)
    two = one + 1.0
    before, now = lack(one), lack(two)
    for _ in range(_STEPS):
        if abs(now) < 1e-13 or now == before:
            break
        one, two, before = two, min(max(two - now * (two - one) / (now - before), -7.0), 30.0), now
        now = lack(two)
    return math.exp(two)


def same_interval(one: Interval, two: Interval, tolerance: float = ROUNDED) -> bool:
    """Whether two intervals are one, but for ``tolerance``: as a rule the rounding of shared copies."""
    return max(abs(one.low - two.low), abs(one.high - two.high)) <= tolerance * max(1.0, abs(two.low), abs(two.high))
