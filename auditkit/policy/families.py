"""What a rule compares: families of estimates, each with the pairs (or single values) under the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from auditkit.core.rounding import general
from auditkit.methods.fairness.gaps import (
    Estimates,
    disparities,
    disparity_limits,
    limit_envelope,
    mover_limits,
    pair_method,
    pairs,
)
from auditkit.methods.fairness.metrics import Rates
from auditkit.policy.measured import Measured
from auditkit.policy.model import Compare

ALL_ROWS = "all rows"

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Limits = tuple[FloatArray, FloatArray]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Estimates of one quantity in several groups and what of them is compared.

    Attributes:
        label: What is compared, e.g. ``sex`` or ``robustness.accuracy (attack=pgd)``.
        columns: The columns whose groups these are, those of the rule's ``where`` among them.
        names: ``(G,)`` group names as shown.
        slices: ``(G,)`` column -> group, for waivers.
        undefined: ``(G,)`` why a value is missing, or ``None``.
        unbounded: ``(G,)`` why a value has no interval, or ``None``.
        totals: ``(G,)`` all rows of each group; the estimates' own ``rows`` are those below the line.
        small: ``(G,)`` whether the group has fewer rows than the rule's ``min_n``.
        left, right: ``(m,)`` indices of what is compared; for ``value`` both are the group itself.
        tests: How many comparisons the data could have picked from (for Holm).
        exact: The values are exact by nature: the point decides.
        direction: Whether ``higher`` or ``lower`` values are better, or ``neutral``.
    """

    label: str
    columns: tuple[str, ...] = ()
    kind: Compare
    names: tuple[str, ...]
    slices: tuple[Mapping[str, str], ...]
    estimates: Rates | Measured
    undefined: tuple[str | None, ...]
    unbounded: tuple[str | None, ...]
    totals: IntArray
    small: npt.NDArray[np.bool_]
    left: IntArray
    right: IntArray
    tests: int
    exact: bool = False
    direction: str = "neutral"

    def values(self) -> FloatArray:
        """``(m,)`` the observed value, difference or ratio of each comparison; NaN where undefined."""
        value = self.estimates.value
        return value[self.left] if self.kind == "value" else disparities(value, self.left, self.right, self.kind)

    def bounds(self, level: float) -> tuple[FloatArray, FloatArray]:
        """``(m,), (m,)`` interval limits of each comparison at two-sided ``level``."""
        if self.kind == "value":
            low, high = self.estimates.limits(level)
            return low[self.left], high[self.left]
        if isinstance(self.estimates, Measured) and self.estimates.gap is not None:
            return self.estimates.gap_limits(level)
        return disparity_limits(self.estimates, self.left, self.right, self.kind, level)

    def rough_bounds(self, level: float, factor: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """Approximate limits if today's groups had ``factor`` times their rows: fast, for planning alone."""
        if isinstance(self.estimates, Measured) and self.estimates.gap is not None:
            return self.estimates.gap_limits(level, float(np.min(factor)))
        limits = self.estimates.rough_limits(level, factor)
        if self.kind == "value":
            return limits[0][self.left], limits[1][self.left]
        return mover_limits(self.estimates.value, limits, self.left, self.right, self.kind)

    def envelope(self, level: float) -> tuple[Limits, Limits] | None:
        """Limits that hold those of :meth:`bounds`, and limits that they hold; ``None`` where only they will do."""
        if self.kind == "value" or not isinstance(self.estimates, Rates):
            return None
        return limit_envelope(self.estimates, self.left, self.right, self.kind, level)

    def fewest_before(self, ends: Sequence[int]) -> float | None:
        """The fewest of anything counted behind a baseline's numbers of these groups; ``None`` without one."""
        return None

    def part(self, chosen: npt.NDArray[np.bool_]) -> Family:
        """The same with the chosen ``(m,)`` comparisons alone."""
        return replace(self, left=self.left[chosen], right=self.right[chosen])

    def only(self, index: int) -> Family:
        """The family of comparison ``index`` alone, with no more groups than it needs."""
        ends = list(dict.fromkeys((int(self.left[index]), int(self.right[index]))))
        return replace(
            self,
            names=tuple(self.names[end] for end in ends),
            slices=tuple(self.slices[end] for end in ends),
            estimates=self.estimates.take(ends),
            undefined=tuple(self.undefined[end] for end in ends),
            unbounded=tuple(self.unbounded[end] for end in ends),
            totals=self.totals[ends],
            small=self.small[ends],
            left=np.array([0], dtype=np.int64),
            right=np.array([len(ends) - 1], dtype=np.int64),
        )

    def phrase(self, index: int, limits: tuple[float, ...] = ()) -> str:
        """The disparity in words, after the groups' own values; nothing where the value is all there is.

        ``limits`` are those that it is judged by, which no rounding may carry it across.
        """
        if self.kind == "value":
            return ""
        ends = self.left[index : index + 1], self.right[index : index + 1]
        return f": {self.kind} {general(float(disparities(self.estimates.value, *ends, self.kind)[0]), limits)}"

    def span(self) -> tuple[float, float]:
        """The least and the largest value that what is limited can take; infinite where there is no end."""
        low, high = self.estimates.bounds if isinstance(self.estimates, Measured) else (0.0, 1.0)
        if self.kind == "value":
            return low, high
        return 0.0, 1.0 if self.kind == "ratio" else high - low

    def method(self) -> str:
        """How the intervals of the comparisons are made."""
        if isinstance(self.estimates, Measured) and self.estimates.gap is not None:
            held = self.estimates.gap.interval
            return "as measured" if held is None else held.method
        if self.kind != "value":
            return pair_method(self.estimates)
        return self.estimates.method if isinstance(self.estimates, Rates) else "as measured"

    def hopeless(self) -> str:
        """Why no number of rows would settle a comparison."""
        return "the value seen lies too near the limit for any number of rows to settle it"


def comparisons_of(
    kind: Compare, estimates: Estimates, names: tuple[str, ...], reference: str
) -> tuple[IntArray, IntArray, int]:
    """Indices of what is compared and the number of tests that Holm must count.

    With ``overall`` the last group is the overall one. Any group may be the ``best`` one, whichever was seen best, and
    a group lies within a limit of the best one where it does so of every group that may be it: all pairs are compared.

    Source: Hsu (1984), Constrained simultaneous confidence intervals for multiple comparisons with the best, Annals of
    Statistics 12.
    """
    count = len(names)
    if kind == "value":
        index = np.arange(count, dtype=np.int64)
        return index, index, count
    if reference == "overall":
        return np.arange(count - 1, dtype=np.int64), np.full(count - 1, count - 1, dtype=np.int64), count - 1
    left, right = pairs(estimates, "pairwise" if reference == "best" else reference, names=names)
    return left, right, len(left)
