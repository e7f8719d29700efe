"""Numbers rounded so far that the rows behind them cannot be told."""

from __future__ import annotations

import dataclasses
import math

from auditkit.core.evidence import Interval, Measurement

BY_SUBTRACTION = "withheld in shared copies: it would reveal a smaller group by subtraction"
_ROUNDED = "rounded, and its rows withheld, so that a smaller group cannot be found by subtraction"
_GRAINS = (0.01, 0.02, 0.05, 0.1, 0.2)


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

    ``None`` where even the widest step stands for fewer: two digits of a share of 40 rows give all 40.

    >>> grain(3000, 10), grain(289, 10), grain(40, 10)
    (0.01, 0.05, None)
    """
    return next((step for step in _GRAINS if step * rows >= min_cell), None)


def coarse_value(value: float, rows: int, min_cell: int) -> float | None:
    """A share rounded to the :func:`grain` of its rows, or ``None``; what is above 1 is no share and keeps two digits.

    >>> coarse_value(0.38217, 812, 10), coarse_value(0.38217, 40, 10), coarse_value(1234.5, 812, 10)
    (0.38, None, 1200.0)
    """
    step = grain(rows, min_cell)
    if step is not None and abs(value) > 1.0:
        return two_digits(value)
    return None if step is None else round(step * round(value / step), 2)


def coarse_interval(interval: Interval | None, rows: int, min_cell: int) -> Interval | None:
    """An interval of a share with both ends rounded alike, or ``None``."""
    if interval is None:
        return None
    low, high = (coarse_value(end, rows, min_cell) for end in (interval.low, interval.high))
    return None if low is None or high is None else dataclasses.replace(interval, low=low, high=high)


def coarse(measurement: Measurement, min_cell: int) -> Measurement:
    """A measurement without its rows and rounded: a bounded one to the grain of its rows, another to two digits."""
    value, interval, rows = measurement.value, measurement.interval, measurement.n or 0
    if value is None:
        return dataclasses.replace(measurement, n=None)
    if None in measurement.bounds:
        value = two_digits(value)
        if interval is not None:
            interval = dataclasses.replace(interval, low=two_digits(interval.low), high=two_digits(interval.high))
        return dataclasses.replace(measurement, value=value, n=None, interval=interval, reason=_ROUNDED)
    rounded = coarse_value(value, rows, min_cell)
    if rounded is None:
        return dataclasses.replace(measurement, value=None, n=None, interval=None, reason=BY_SUBTRACTION)
    interval = coarse_interval(interval, rows, min_cell)
    return dataclasses.replace(measurement, value=rounded, n=None, interval=interval, reason=_ROUNDED)
