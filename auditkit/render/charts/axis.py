"""Scales and ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

# The plot leaves this fraction free at either side, so that marks and tick labels at the ends stay inside.
MARGIN = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A linear axis with its label, unit and ticks; ``low < high``.

    ``left`` is the fraction of the drawing's width that is free at its left.
    """

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    unit: str = ""
    left: float = MARGIN

    @property
    def caption(self) -> str:
        """The label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def fraction(self, value: float) -> float:
        """Where ``value`` lies, from 0 at ``low`` to 1 at ``high``; clamped."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def across(self, value: float) -> float:
        """Where ``value`` lies on the width of the drawing, margins left free."""
        return self.left + (1.0 - self.left - MARGIN) * self.fraction(value)


def make_axis(
    values: Iterable[float | None],
    label: str,
    *,
    unit: str = "",
    bounds: tuple[float | None, float | None] = (None, None),
    zero: bool = False,
) -> Axis:
    """An axis that covers ``values`` with about five round ticks.

    Args:
        values: What must fit; ``None`` is skipped.
        label: Words for the axis.
        unit: Unit of the values.
        bounds: Ends the axis must not pass; a short way to such an end is included.
        zero: Include 0.

    >>> make_axis([0.11, 0.42], "rate").ticks
    (0.1, 0.2, 0.3, 0.4, 0.5)
    >>> make_axis([0.0, 0.0], "share", bounds=(0.0, 1.0)).ticks
    (0.0, 0.2, 0.4, 0.6)
    """
    present = [value for value in values if value is not None and math.isfinite(value)] or [0.0, 1.0]
    low, high = min(present), max(present)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    floor, ceiling = bounds
    if high - low < 1e-12 * max(1.0, abs(high)):
        pad = abs(high) * 0.1 or 0.5
        low = low - pad if floor is None or not floor <= low < floor + pad else floor
        high = high + pad if ceiling is None or not ceiling - pad < high <= ceiling else ceiling
    step = _step(high - low)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if floor is not None and low >= floor:
        first = max(first, math.ceil(floor / step - 1e-9))
    if ceiling is not None and high <= ceiling:
        last = min(last, math.floor(ceiling / step + 1e-9))
    if last <= first:
        first, last = math.floor(low / step), math.floor(low / step) + 1
    ticks = tuple(round(index * step, 12) + 0.0 for index in range(first, last + 1))
    return Axis(label=label, unit=unit, low=min(ticks[0], low), high=max(ticks[-1], high), ticks=ticks)


def _step(width: float) -> float:
    raw = width / 4.0
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (1.0, 2.0, 2.5, 5.0):
        if raw <= factor * power * (1 + 1e-9):
            return factor * power
    return 10.0 * power


def tick_text(value: float) -> str:
    """A tick label without needless digits.

    >>> tick_text(0.5), tick_text(-20.0), tick_text(1500.0)
    ('0.5', '−20', '1,500')
    """
    text = f"{abs(value):,.10f}".rstrip("0").rstrip(".") if 1e-4 <= abs(value) < 1e7 else f"{abs(value):.3g}"
    return ("−" if value < 0 else "") + (text if value else "0")
