"""Measured values as what a rule compares, with the limits that the card shows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Measurement
from auditkit.methods.fairness.metrics import Exact
from auditkit.stats.estimate import Estimate
from auditkit.stats.intervals import z_value
from auditkit.stats.rebuilt import rebuilt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Measured values with the intervals they were measured with; satisfies ``Estimates``.

    An interval asked for at another level is that of the estimate behind the number, where its value, rows and method
    tell it. Else, at a higher level, it is widened arm by arm by the ratio of the normal quantiles; at a lower one it
    is used as it stands, which is the safe side.

    Attributes:
        measurements: The groups' values.
        gap: What was measured of the disparity of two groups, where it is to be judged by that.
    """

    measurements: tuple[Measurement, ...]
    gap: Measurement | None = None

    @property
    def value(self) -> FloatArray:
        """``(G,)`` values, NaN where there is none."""
        return np.array([math.nan if m.value is None else m.value for m in self.measurements])

    @property
    def rows(self) -> IntArray:
        """``(G,)`` rows behind each, 0 where unknown."""
        return np.array([m.n or 0 for m in self.measurements], dtype=np.int64)

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value possible."""
        ends = [(-math.inf if m.bounds[0] is None else m.bounds[0], math.inf if m.bounds[1] is None else m.bounds[1])
                for m in self.measurements]  # fmt: skip
        return min(low for low, _ in ends), max(high for _, high in ends)

    @cached_property
    def known(self) -> tuple[Estimate | None, ...]:
        """``(G,)`` the estimates behind the values, where the measurements tell them."""
        return tuple(rebuilt(m) for m in self.measurements)

    def take(self, groups: Sequence[int]) -> Measured:
        """The same for some of the groups."""
        return Measured(measurements=tuple(self.measurements[group] for group in groups), gap=self.gap)

    def exact(self, level: float) -> Exact | None:
        """The shares with exact limits at ``level`` behind the values; ``None`` unless each has one."""
        shares = [estimate.share for estimate in self.known if estimate is not None and estimate.share is not None]
        if len(shares) < len(self.measurements):
            return None
        found = np.array([[share.value, share.rows(level), share.odds] for share in shares]).T
        return found[0], found[1], found[2]

    def limits(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Limits at ``level``; NaN without an interval."""
        low, high = self.rough_limits(level, 1.0)
        for index, m in enumerate(self.measurements):
            if m.interval is None or m.interval.level == level:
                continue
            estimate = self.known[index]
            held = None if estimate is None else estimate.interval(level)
            if held is not None:
                low[index], high[index] = held.low, held.high
        return low, high

    def rough_limits(self, level: float, factor: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """Limits at ``level`` with arms shrunk by the square root of ``factor``; NaN without an interval."""
        low, high = np.full(len(self.measurements), np.nan), np.full(len(self.measurements), np.nan)
        shrink = 1.0 / np.sqrt(np.broadcast_to(np.asarray(factor, dtype=np.float64), low.shape))
        for index, m in enumerate(self.measurements):
            low[index], high[index] = _stretched(m, level, float(shrink[index]))
        return low, high

    def gap_limits(self, level: float, factor: float = 1.0) -> tuple[FloatArray, FloatArray]:
        """``(1,), (1,)`` limits of the measured disparity, with arms shrunk by the square root of ``factor``."""
        assert self.gap is not None
        low, high = _stretched(self.gap, level, 1.0 / math.sqrt(factor))
        return np.array([low]), np.array([high])


def _stretched(m: Measurement, level: float, shrink: float) -> tuple[float, float]:
    """Limits of ``m`` at ``level``, never nearer than as measured but for ``shrink``; NaN without an interval."""
    if m.value is None or (m.interval is None and not is_exact(m)):
        return math.nan, math.nan
    if m.interval is None:
        return m.value, m.value
    stretch = max(1.0, z_value(level) / z_value(m.interval.level)) * shrink
    low = m.value - max(m.value - m.interval.low, 0.0) * stretch
    high = m.value + max(m.interval.high - m.value, 0.0) * stretch
    floor, ceiling = m.bounds
    if floor is not None:
        low = max(low, min(floor, m.value))
    if ceiling is not None:
        high = min(high, max(ceiling, m.value))
    return low, high


def is_exact(measurement: Measurement) -> bool:
    """Whether a value has no interval because it is exact by nature (its ``reason`` says so)."""
    return measurement.interval is None and (measurement.reason or "").lower().startswith("exact")
