"""Numbers written beside the limit that they are judged by: rounding never carries one across it, or onto it."""

from __future__ import annotations

from collections.abc import Iterable

# Two numbers nearer than this are one: 0.1 + 1e-17 is not above a limit of 0.1, and a gate does not take it to be.
SAME = 1e-12
_MOST_DIGITS = 17  # enough to tell any two doubles apart


def keeps_side(shown: float, value: float, limits: Iterable[float]) -> bool:
    """Whether ``shown``, what a reader sees of ``value``, lies on the same side of every limit as ``value``.

    >>> keeps_side(0.8, 0.79996, [0.8]), keeps_side(0.79996, 0.79996, [0.8]), keeps_side(0.8, 0.8, [0.8])
    (False, True, True)
    """
    return all(_side(shown, limit) == _side(value, limit) for limit in limits)


def digits_beside(value: float, limits: Iterable[float], least: int) -> int:
    """Significant digits, ``least`` or more, with which ``value`` stands on its own side of every limit.

    >>> digits_beside(0.79996, [0.8], 4), digits_beside(0.7312, [0.8], 4)
    (5, 4)
    """
    places = tuple(limits)
    told = (n for n in range(least, _MOST_DIGITS) if keeps_side(float(f"{value:.{n}g}"), value, places))
    return next(told, _MOST_DIGITS)


def general(value: float, limits: Iterable[float] = (), least: int = 4) -> str:
    """``value`` with ``least`` significant digits, or as many more as keep it on its side of every limit.

    >>> general(0.712345), general(0.79996, [0.8]), general(0.8, [0.8])
    ('0.7123', '0.79996', '0.8')
    """
    return f"{value:.{digits_beside(value, limits, least)}g}"


def exactly(limit: float) -> str:
    """A limit as it was set: no digit that anyone wrote is dropped.

    >>> exactly(0.1), exactly(0.79999975), exactly(1234567.0), exactly(2.0)
    ('0.1', '0.79999975', '1234567', '2')
    """
    return f"{limit:.12g}"


def _side(value: float, limit: float) -> int:
    return 0 if abs(value - limit) <= SAME else 1 if value > limit else -1
