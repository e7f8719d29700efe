"""From a measured number back to its estimate, whose interval can be asked for at any level.

A measurement keeps its interval at one level. Its value, its rows and the method tell the interval at every other one:
exact limits of shares from the (effective) rows, limits that are made around a value on some scale from the standard
error that they show. What is read so is doubted: an estimate that does not give the interval it was read from is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from auditkit.core.evidence import Interval, Measurement
from auditkit.stats.effective import corrected_rows
from auditkit.stats.estimate import Bounds, Estimate, Share
from auditkit.stats.intervals import exact_share, z_value
from auditkit.stats.linearised import t_value
from auditkit.stats.melded import exact_limits

Scale = tuple[Callable[[float], float], Callable[[float], float], float, float]
# Numbers of shared copies have six digits.
ROUNDED = 2e-5
_STEPS = 40


def _exp(x: float) -> float:
    """``exp``, held where it would be beyond all numbers: two rows have such limits at high levels."""
    return math.exp(min(x, 700.0))


# Interval method -> its scale there and back, and the smallest and largest limit that it can be read from.
SCALES: Mapping[str, Scale] = {
    "student-t": (float, float, -math.inf, math.inf),
    "delong-logit": (lambda p: math.log(p / (1.0 - p)), lambda x: 1.0 / (1.0 + _exp(-x)), 0.0, 1.0),
    "linearised-log": (math.log, _exp, 0.0, math.inf),
}
# How many times the odds of a share with exact limits the value's odds are.
_ODDS: Mapping[str, float] = {
    "clopper-pearson": 1.0,
    "clopper-pearson-mapped": 2.0,
    "korn-graubard": 1.0,
    "korn-graubard-t": 1.0,
}


def rebuilt(m: Measurement) -> Estimate | None:
    """The estimate behind ``m``, or ``None`` where its value, rows and interval do not tell it.

    >>> held = Interval(low=0.0123485, high=0.3169827, level=0.95, method="clopper-pearson")
    >>> found = rebuilt(Measurement(name="performance.accuracy", value=0.1, n=20, interval=held))
    >>> round(found.interval(0.99).high, 4)
    0.3871
    """
    if m.interval is None or m.value is None or not m.n:
        return None
    found = _share(m) if m.interval.method in _ODDS else _around(m)
    if found is None:
        return None
    again = found.interval(m.interval.level)
    return found if again is not None and same_interval(again, m.interval) else None


def scale_of(m: Measurement) -> Scale | None:
    """The scale on which the interval of ``m`` is made around its value; ``None`` where there is none, or where it was
    cut off at a bound."""
    held = m.interval
    if held is None or held.method not in SCALES or held.high == m.bounds[1]:
        return None
    scale = SCALES[held.method]
    inside = scale[2] < held.low <= held.high < scale[3]
    return scale if inside and not (held.method == "linearised-log" and m.bounds[0] != 0.0) else None


def middle_of(m: Measurement) -> float | None:
    """The middle of such an interval, where the lower limit was not cut off either."""
    scale = scale_of(m)
    if scale is None or m.interval is None or m.interval.low == m.bounds[0]:
        return None
    there, back, *_ = scale
    return back((there(m.interval.low) + there(m.interval.high)) / 2.0)


def _around(m: Measurement) -> Estimate | None:
    scale, held, n = scale_of(m), m.interval, m.n or 0
    middle = middle_of(m)
    if scale is None or held is None or m.value is None:
        return None
    if middle is not None and abs(middle - m.value) > ROUNDED * max(1.0, abs(m.value)):
        return None
    there, back, *_ = scale

    def quantile(level: float) -> float:
        return z_value(level) if held.method == "delong-logit" else t_value(level, n - 1)

    if n < 2:
        return None
    center, floor = there(m.value), -math.inf if m.bounds[0] is None else m.bounds[0]
    ceiling = math.inf if m.bounds[1] is None else max(m.bounds[1], m.value)
    # Of the two halves the upper one: the lower may have been cut off at the smallest value possible.
    error = (there(held.high) - center) / quantile(held.level)

    def bounds(level: float) -> Interval:
        half = quantile(level) * error
        low, high = max(back(center - half), floor), min(back(center + half), ceiling)
        return Interval(low=low, high=high, level=level, method=held.method)

    return Estimate(m.value, n, bounds)


def _share(m: Measurement) -> Estimate | None:
    """A share with exact limits: of whole hits where rows are plain, on the rows that the limits show where not."""
    held, value, n = m.interval, m.value, m.n or 0
    assert held is not None
    assert value is not None
    odds = _ODDS[held.method]
    if not 0.0 <= value <= 1.0:
        return None
    part, freedom = value / (odds - (odds - 1.0) * value), math.inf
    if held.method.startswith("korn-graubard"):
        rows = _effective(part, held)
        freedom = n - 1.0 if held.method == "korn-graubard-t" else math.inf
    else:
        rows = float(n)
        if abs(part * n - round(part * n)) > 1e-5 * max(1.0, part * n):
            return None
        part = round(part * n) / n
    if rows is None:
        return None
    known = float(corrected_rows(np.array(1.0), np.array(freedom), held.level))
    if known <= 0.0:
        return None

    def rows_at(level: float, whole: float = rows / known) -> float:
        return whole * float(corrected_rows(np.array(1.0), np.array(freedom), level))

    share = Share(part, rows_at, odds)
    return Estimate(_lifted(part, odds), n, _exact(share, held.method), share=share)


def _exact(share: Share, method: str) -> Bounds:
    odds = share.odds

    def bounds(level: float) -> Interval | None:
        found = exact_share(share.value, share.rows(level), level, method)
        if found is None or odds == 1.0:
            return found
        return Interval(low=_lifted(found.low, odds), high=_lifted(found.high, odds), level=level, method=method)

    return bounds


def _lifted(part: float, odds: float) -> float:
    return odds * part / (1.0 + (odds - 1.0) * part)


def _effective(part: float, held: Interval) -> float | None:
    """The rows on which a share has these exact limits, by the secant rule: on the scale of logarithms the distance to
    the farther limit falls almost along a line."""
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
