"""Numbers rounded so far that the rows behind them cannot be told."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

from auditkit.core.evidence import Interval, Measurement

BY_SUBTRACTION = "withheld in shared copies: it would reveal a smaller group by subtraction"
HIDDEN = "so that a smaller group cannot be found by subtraction"
_ROUNDED = f"rounded, and its rows withheld, {HIDDEN}"
_ROUNDED_CELLS = f"rounded, and its rows and interval withheld, {HIDDEN}"
# Missed positives for each false alarm: two digits of it would tell both counts.
_OF_TWO_COUNTS = "treatment_ratio"
_GRAINS = (0.01, 0.02, 0.05, 0.1)


def withholds(measurement: Measurement) -> bool:
    """Whether a shared copy withholds a number."""
    return (measurement.reason or "").startswith("withheld")


def hides(measurement: Measurement) -> bool:
    """Whether a number of a shared copy was withheld or rounded."""
    return withholds(measurement) or (measurement.reason or "").startswith("rounded")


def is_rounded(measurement: Measurement) -> bool:
    """Whether a shared copy shows a number that is rounded for the sake of a small group."""
    return measurement.value is not None and measurement.reason in (_ROUNDED, _ROUNDED_CELLS)


def digits(value: float, count: int) -> float:
    """``value`` to ``count`` significant digits.

    >>> digits(0.31747, 2), digits(-1234.0, 2), digits(0.0, 2)
    (0.32, -1200.0, 0.0)
    """
    return round(value, count - 1 - math.floor(math.log10(abs(value)))) if value else 0.0


def two_digits(value: float) -> float:
    """``value`` to two significant digits."""
    return digits(value, 2)


def grain(rows: int, min_cell: int) -> float | None:
    """The step to which a share of ``rows`` rows is rounded: one that stands for ``min_cell`` rows or more.

    ``None`` where even the widest step stands for fewer: two digits of a share of 40 rows give all 40. A wider step
    would say little and, with the other shares of a group, still tell a cell now and then.

    >>> grain(3000, 10), grain(289, 10), grain(99, 10)
    (0.01, 0.05, None)
    """
    return next((step for step in _GRAINS if step * rows >= min_cell), None)


def coarse_value(value: float, rows: int, min_cell: int, *, share: bool = False) -> float | None:
    """A number rounded to the :func:`grain` of its rows, or ``None``; what is above 1 keeps two digits.

    Args:
        value: What to round.
        rows: The rows behind it.
        min_cell: Smallest count that may be shown.
        share: Whether it is a share of the rows. What would be 0 or 1, and what is, is then half a step from it: nobody
            shall read that none were, or all.

    >>> coarse_value(0.38217, 812, 10), coarse_value(0.38217, 40, 10), coarse_value(1234.5, 812, 10)
    (0.38, None, 1200.0)
    >>> [coarse_value(each, 289, 10, share=True) for each in (0.004, 0.998, 0.0, 0.5)]
    [0.025, 0.975, 0.025, 0.5]
    """
    step = grain(rows, min_cell)
    if step is not None and abs(value) > 1.0:
        return two_digits(value)
    if step is None:
        return None
    near = round(step * round(value / step), 2)
    if share and near in (0.0, 1.0):
        near = round(abs(near - step / 2), 3)
    return near


def coarse_interval(interval: Interval | None, rows: int, min_cell: int) -> Interval | None:
    """An interval of a share with both ends rounded alike and outwards, so that it holds all that it held, or ``None``.

    >>> found = coarse_interval(Interval(low=0.002, high=0.031, method="wilson"), 159, 10)
    >>> found.low, found.high
    (0.0, 0.1)
    """
    step = grain(rows, min_cell)
    return None if interval is None or step is None else _outwards(interval, step)


def _outwards(interval: Interval, step: float | None) -> Interval:
    """Both ends moved away from each other to multiples of ``step``; to two digits above 1, or without one."""
    low, high = (
        multiple(end, step if step is not None and abs(end) <= 1.0 else _two_digit_step(end), direction)
        for end, direction in ((interval.low, math.floor), (interval.high, math.ceil))
    )
    return dataclasses.replace(interval, low=low, high=high)


def multiple(value: float, step: float, direction: Callable[[float], int]) -> float:
    """``value`` as a multiple of ``step`` in a ``direction`` (:func:`math.floor` or :func:`math.ceil`); one stays.

    >>> multiple(0.31, 0.1, math.floor), multiple(0.3, 0.1, math.floor), multiple(0.31, 0.1, math.ceil)
    (0.3, 0.3, 0.4)
    """
    times = value / step
    whole = round(times)
    return digits((whole if abs(times - whole) < 1e-9 else direction(times)) * step, 12)


def _two_digit_step(value: float) -> float:
    return float(10.0 ** (math.floor(math.log10(abs(value))) - 1)) if value else 1.0


def _told_freedom(measurement: Measurement, min_cell: int) -> Interval | None:
    """The interval of a measurement whose rows are withheld, with its degrees of freedom told no further than allowed.

    They tell rows or clusters. So they are those of ``min_cell`` of them where there are so many or more, else 1:
    limits at a stricter level, which rest on them, are then too wide, never too narrow.

    >>> held = Interval(low=0.0, high=1.0, method="cluster-student-t", degrees_of_freedom=24.0)
    >>> found = Measurement(name="a.b", value=0.5, n=300, interval=held, slice={"sex": "F"})
    >>> _told_freedom(found, 10).degrees_of_freedom, _told_freedom(found, 30).degrees_of_freedom
    (9.0, 1.0)
    """
    interval = measurement.interval
    if interval is None or interval.degrees_of_freedom is None or not measurement.rests_on_clusters:
        return interval
    least = max(min_cell - 1.0, 1.0)
    return dataclasses.replace(interval, degrees_of_freedom=least if interval.degrees_of_freedom >= least else 1.0)


def coarse(measurement: Measurement, min_cell: int) -> Measurement:
    """A measurement without its rows and rounded: a bounded one to the grain of its rows, another to two digits.

    The ends of its interval are rounded outwards: what is shown is no surer than what was measured.
    """
    value, rows = measurement.value, measurement.n or 0
    interval = _told_freedom(dataclasses.replace(measurement, n=None), min_cell)  # the rows themselves are not shown
    if value is None:
        return dataclasses.replace(measurement, n=None)
    if _OF_TWO_COUNTS in measurement.name.split("."):
        return _coarse_odds(measurement, value, rows, min_cell)
    if None in measurement.bounds:
        value = two_digits(value)
        interval = None if interval is None else _outwards(interval, None)
        return dataclasses.replace(measurement, value=value, n=None, interval=interval, reason=_ROUNDED)
    # No gap at all, or the largest, is no statement about none or all of a group's rows.
    share = measurement.bounds == (0.0, 1.0) and not measurement.is_gap
    rounded = coarse_value(value, rows, min_cell, share=share)
    if rounded is None:
        return dataclasses.replace(measurement, value=None, n=None, interval=None, reason=BY_SUBTRACTION)
    interval = coarse_interval(interval, rows, min_cell)
    if interval is not None and not interval.low <= rounded <= interval.high:  # half a step from the end
        step = grain(rows, min_cell) or 1.0
        ends = multiple(rounded, step, math.floor), multiple(rounded, step, math.ceil)
        interval = dataclasses.replace(interval, low=min(interval.low, ends[0]), high=max(interval.high, ends[1]))
    return dataclasses.replace(measurement, value=rounded, n=None, interval=interval, reason=_ROUNDED)


def _coarse_odds(measurement: Measurement, value: float, rows: int, min_cell: int) -> Measurement:
    """A ratio of two counts as that of the rounded share that one is of both, whose odds it is; no gap of such."""
    share = None if measurement.over else coarse_value(value / (1.0 + value), rows, min_cell, share=True)
    if share is None:
        return dataclasses.replace(measurement, value=None, n=None, interval=None, reason=BY_SUBTRACTION)
    return dataclasses.replace(
        measurement, value=two_digits(share / (1.0 - share)), n=None, interval=None, reason=_ROUNDED_CELLS
    )


def rounded_to(measurement: Measurement, value: float | None) -> Measurement:
    """A measurement without its rows and with the ``value`` of rounded cells; withheld where there is none.

    It has no interval: the sums of the cells are shown, and intervals of several rates would together tell the cells.
    """
    reason = BY_SUBTRACTION if value is None else _ROUNDED_CELLS
    return dataclasses.replace(measurement, value=value, n=None, interval=None, reason=reason)
