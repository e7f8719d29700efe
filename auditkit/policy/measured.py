"""Measured values as what a rule compares, with the limits that the card shows of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval, Measurement
from auditkit.core.gap_names import metric_and_kind
from auditkit.methods.fairness.metrics import Exact
from auditkit.stats.estimate import Estimate
from auditkit.stats.intervals import t_value, z_value
from auditkit.stats.rebuilt import rebuilt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Number = TypeVar("Number", np.float64, np.int64)
# Exact limits, also joined from several or of a function of a share.
_EXACT = ("clopper-pearson", "korn-graubard", "melded", "exact", "mover-log-ratio", "mover-bonferroni")
# Ratios are widened up to so far in logs: products with it stay numbers.
_FARTHEST = 600.0
# The worst of several gaps, or the largest of several values: its limits need not be those of the one that it is.
_OF_SEVERAL = ("worst-pair", "simultaneous", "largest")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Measured values with the intervals they were measured with; satisfies ``Estimates``.

    An interval asked for at another level is that of the estimate behind the number, where its value, rows and method
    tell it. Else, at a higher level, it is widened arm by arm by the ratio of the quantiles that it rests on (Student's
    by its degrees of freedom); at a lower one it is used as it stands, which is the safe side.

    Attributes:
        measurements: The groups' values.
        gap: What was measured of the disparity of two groups, where it is to be judged by that.
        several: Whether it is the worst of the gaps of more groups.
    """

    measurements: tuple[Measurement, ...]
    gap: Measurement | None = None
    several: bool = False

    @cached_property
    def value(self) -> FloatArray:
        """``(G,)`` values, NaN where there is none."""
        return _kept(np.array([math.nan if m.value is None else m.value for m in self.measurements]))

    @cached_property
    def rows(self) -> IntArray:
        """``(G,)`` rows behind each, 0 where unknown."""
        return _kept(np.array([m.n or 0 for m in self.measurements], dtype=np.int64))

    @cached_property
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
        return Measured(
            measurements=tuple(self.measurements[group] for group in groups), gap=self.gap, several=self.several
        )

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
        low, high = _stretched(self.gap, level, 1.0 / math.sqrt(factor), self.several)
        return np.array([low]), np.array([high])


def _kept(array: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """An array that is asked for many times: nobody may write into it."""
    array.flags.writeable = False
    return array


def _stretched(m: Measurement, level: float, shrink: float, several: bool = True) -> tuple[float, float]:
    """Limits of ``m`` at ``level``, never nearer than as measured but for ``shrink``; NaN without an interval."""
    if m.value is None or (m.interval is None and not is_exact(m)):
        return math.nan, math.nan
    if m.interval is None:
        return m.value, m.value
    stretch = 1.0
    if level != m.interval.level:
        stretch = max(stretch, _reach(m.interval, level) / _reach(m.interval, m.interval.level))
    is_ratio = metric_and_kind(m.name)[1] == "ratio"
    low, high = _widened(m.value, m.interval, stretch, is_ratio)
    if several and _names_one(m.interval.method, _OF_SEVERAL):
        # The far limit may be that of groups which hardly differ: all of it is their error.
        if is_ratio:
            low = min(low, _widened(1.0, m.interval, stretch, True)[0])
        else:
            high = max(high, _widened(0.0, m.interval, stretch, False)[1])
    low, high = m.value - (m.value - low) * shrink, m.value + (high - m.value) * shrink
    floor, ceiling = m.bounds
    if floor is not None:
        low = max(low, min(floor, m.value))
    if ceiling is not None:
        high = min(high, max(ceiling, m.value))
    return low, high


@cache
def _names_one(method: str, names: tuple[str, ...]) -> bool:
    """Whether an interval's ``method`` is one of ``names`` or made of one."""
    return any(name in method for name in names)


def _widened(center: float, held: Interval, stretch: float, ratio: bool) -> tuple[float, float]:
    """``held`` with arms from ``center`` that are ``stretch`` times as long; of ratios, the farther of this and of the
    same with their logs."""
    low = center - max(center - held.low, 0.0) * stretch
    high = center + max(held.high - center, 0.0) * stretch
    if ratio and stretch > 1.0 and center > 0.0:
        low = min(low, _raised(center, min(held.low, center), stretch))
        high = max(high, _raised(center, max(held.high, center), stretch))
    return low, high


def _raised(center: float, end: float, stretch: float) -> float:
    """``end`` with ``stretch`` times its distance from ``center`` in logs, as far as numbers go."""
    if end <= 0.0:
        return 0.0
    return center * math.exp(min(max(stretch * math.log(end / center), -_FARTHEST), _FARTHEST))


def _reach(held: Interval, level: float) -> float:
    """How far limits like ``held`` reach at ``level``, in the unit of any level: no nearer than they truly do."""
    counted = held.degrees_of_freedom
    normal = z_value(level)
    reach = normal if counted is None else t_value(level, counted)
    if _names_one(held.method, _EXACT):
        # Of no hit seen the upper limit grows faster than quantiles do: with the log of the error.
        reach = (reach / normal) ** 2 * -math.log((1.0 - level) / 2.0)
    return reach


def is_exact(measurement: Measurement) -> bool:
    """Whether a value has no interval because it is exact by nature (its ``reason`` says so)."""
    return measurement.interval is None and (measurement.reason or "").lower().startswith("exact")
