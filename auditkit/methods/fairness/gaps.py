"""Disparities between groups: absolute gaps and min/max ratios, with pairwise and simultaneous intervals.

A disparity is computed from the values of the groups and their interval limits alone (MOVER: the method of
variance estimates recovery), so counts, means and any other independent estimates share this file. For
proportions with Wilson limits the difference is Newcombe's hybrid score interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Interval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Kind = Literal["difference", "ratio"]
REFERENCES = ("pairwise", "best", "largest", "overall")


class Estimates(Protocol):
    """Independent estimates of one quantity in several groups."""

    @property
    def value(self) -> FloatArray:
        """``(G,)`` estimates, NaN where undefined."""
        ...

    @property
    def rows(self) -> IntArray:
        """``(G,)`` rows behind each."""
        ...

    def limits(self, level: float, factor: FloatArray | float = 1.0) -> tuple[FloatArray, FloatArray]:
        """Interval limits at two-sided ``level``, as if each group had ``factor`` times its rows."""
        ...


@dataclass(frozen=True, slots=True)
class Gap:
    """The largest difference (or smallest ratio) over all pairs: value, simultaneous interval, the pair."""

    value: float | None
    interval: Interval | None
    pair: tuple[int, int] | None
    reason: str | None = None


def pairs(
    estimates: Estimates, reference: str = "pairwise", *, names: Sequence[str] = (), lower_is_better: bool = False
) -> tuple[IntArray, IntArray]:
    """Indices ``(m,), (m,)`` of the groups compared and of their references.

    Args:
        estimates: The groups.
        reference: ``pairwise``, ``best`` (the highest value, or lowest where lower is better), ``largest``
            (most rows) or the name of a group.
        names: Group names, for a named reference.
        lower_is_better: Which end is best.

    Raises:
        UsageError: AK404 when the reference is not a group.
    """
    count = len(estimates.value)
    if reference == "pairwise":
        left, right = np.triu_indices(count, 1)
        return left.astype(np.int64), right.astype(np.int64)
    if reference == "best":
        sign = -1.0 if lower_is_better else 1.0
        anchor = int(np.nanargmax(sign * estimates.value)) if np.isfinite(estimates.value).any() else 0
    elif reference == "largest":
        anchor = int(np.argmax(estimates.rows))
    elif reference in names:
        anchor = list(names).index(reference)
    else:
        raise UsageError("AK404", f"the reference {reference!r} is not a group", why=f"groups: {', '.join(names)}")
    others = np.array([index for index in range(count) if index != anchor], dtype=np.int64)
    return others, np.full(len(others), anchor, dtype=np.int64)


def disparities(value: FloatArray, left: IntArray, right: IntArray, kind: Kind) -> FloatArray:
    """``|a - b|`` or ``min(a, b) / max(a, b)`` for each pair; NaN where undefined (both rates 0 for a ratio).

    >>> disparities(np.array([0.4, 0.5]), np.array([0]), np.array([1]), "ratio").tolist()
    [0.8]
    """
    a, b = value[left], value[right]
    if kind == "difference":
        return np.abs(a - b)
    low, high = np.minimum(a, b), np.maximum(a, b)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where((high > 0) & (low >= 0), low / high, np.nan))


def disparity_limits(
    value: FloatArray, limits: tuple[FloatArray, FloatArray], left: IntArray, right: IntArray, kind: Kind
) -> tuple[FloatArray, FloatArray]:
    """Limits ``(m,), (m,)`` of the disparity of each pair, at the level of the groups' ``limits``.

    Each limit is a one-sided bound at half the error. NaN where a group has no value or no interval.

    Source: Newcombe (1998), method 10; Donner and Zou (2012), section 3, for the ratio.
    """
    low, high = limits
    if kind == "difference":
        bottom, top = _difference(value, low, high, left, right)
        crosses = (bottom <= 0) & (top >= 0)
        near = np.where(crosses, 0.0, np.minimum(np.abs(bottom), np.abs(top)))
        return near, np.maximum(np.abs(bottom), np.abs(top))
    swap = value[left] > value[right]
    small, large = np.where(swap, right, left), np.where(swap, left, right)
    bottom, top = _ratio(value, low, high, small, large)
    with np.errstate(divide="ignore"):
        folded = np.minimum(bottom, np.where(top > 0, 1.0 / top, np.inf))
    return np.clip(folded, 0.0, 1.0), np.minimum(top, 1.0)


def signed_limits(
    value: FloatArray, limits: tuple[FloatArray, FloatArray], left: IntArray, right: IntArray, kind: Kind
) -> tuple[FloatArray, FloatArray]:
    """Limits ``(m,), (m,)`` of ``value[left] - value[right]``, or of ``value[right] / value[left]``, as they point.

    Source: as :func:`disparity_limits`.
    """
    low, high = limits
    if kind == "difference":
        return _difference(value, low, high, left, right)
    return _ratio(value, low, high, right, left)


def simultaneous_gap(
    estimates: Estimates, kind: Kind, level: float = 0.95, *, bounds: tuple[float, float | None] = (0.0, 1.0)
) -> Gap:
    """The max-min difference (or min/max ratio) over all groups with an interval valid for the maximum.

    The far limit is the largest of the pairwise limits at ``level``: the true extreme pair is one of them.
    The near limit is corrected for the ``2 m`` directed pairs (Bonferroni). A percentile bootstrap of
    a maximum, by contrast, is biased away from zero and can miss the truth always.

    Source: intersection-union principle, Berger (1982); pairwise limits as in :func:`disparity_limits`.
    """
    value = estimates.value
    if len(value) < 2:
        return Gap(None, None, None, "there is only one group to compare")
    missing = int((~np.isfinite(value)).sum())
    if missing:
        return Gap(None, None, None, f"undefined in {missing} of {len(value)} groups")
    left, right = pairs(estimates)
    m = len(left)
    each = disparities(value, left, right, kind)
    known = np.isfinite(each)
    both_zero = (value[left] == 0) & (value[right] == 0)
    if not known.any() or not (known | both_zero).all():
        return Gap(None, None, None, "the ratio of two rates that are both 0 is undefined")
    # Two groups at 0 have no ratio of their own; beside a group above 0 the worst ratio is 0 all the same.
    left, right, each = left[known], right[known], each[known]
    worst = int(np.argmax(each) if kind == "difference" else np.argmin(each))
    pair = (int(left[worst]), int(right[worst]))
    wide = disparity_limits(value, estimates.limits(level), left, right, kind)
    strict = disparity_limits(value, estimates.limits(1 - (1 - level) / (2 * m)), left, right, kind)
    if kind == "difference":
        low, high = strict[0].max(), wide[1].max()
    else:
        low, high = wide[0].min(), strict[1].min()
    if not (math.isfinite(low) and math.isfinite(high)):
        return Gap(float(each[worst]), None, pair, "a group has too few rows or clusters for an interval")
    point = float(each[worst])
    top = math.inf if bounds[1] is None else bounds[1]
    interval = Interval(
        low=min(max(float(low), bounds[0]), point),
        high=max(min(float(high), top), point),
        level=level,
        method="mover-simultaneous",
    )
    return Gap(point, interval, pair)


def largest_gap(gaps: Sequence[Gap], recompute: Callable[[float], Sequence[Gap]], level: float) -> Gap:
    """The largest of several differences (equalized odds): near limits share the error between them.

    Args:
        gaps: The parts' gaps at ``level``.
        recompute: Gives the same gaps at another level.
        level: Two-sided level of the result.
    """
    undefined = next((gap for gap in gaps if gap.value is None), None)
    if undefined is not None:
        return Gap(None, None, None, undefined.reason)
    worst = max(gaps, key=lambda gap: gap.value or 0.0)
    strict = recompute(1 - (1 - level) / len(gaps))
    known = [gap.interval for gap in gaps if gap.interval is not None]
    near = [gap.interval for gap in strict if gap.interval is not None]
    if len(known) < len(gaps) or len(near) < len(gaps):
        return Gap(worst.value, None, worst.pair, "a group has too few rows or clusters for an interval")
    interval = Interval(
        low=max(part.low for part in near),
        high=max(part.high for part in known),
        level=level,
        method="mover-simultaneous",
    )
    return Gap(worst.value, interval, worst.pair)


def _difference(
    value: FloatArray, low: FloatArray, high: FloatArray, left: IntArray, right: IntArray
) -> tuple[FloatArray, FloatArray]:
    gap = value[left] - value[right]
    down = np.hypot(value[left] - low[left], high[right] - value[right])
    up = np.hypot(high[left] - value[left], value[right] - low[right])
    return gap - down, gap + up


def _ratio(
    value: FloatArray, low: FloatArray, high: FloatArray, small: IntArray, large: IntArray
) -> tuple[FloatArray, FloatArray]:
    """MOVER limits of ``value[small] / value[large]``; the upper one is infinite where nothing bounds it."""
    p, q = value[small], value[large]
    l1, u1, l2, u2 = low[small], high[small], low[large], high[large]
    product = p * q
    with np.errstate(divide="ignore", invalid="ignore"):
        # The stable form of the smaller root: no subtraction of nearly equal numbers.
        near = l1 * (2 * p - l1)
        root = np.sqrt(np.maximum(product**2 - near * u2 * (2 * q - u2), 0.0))
        bottom = np.where(near > 0, near / (product + root), 0.0)
        scale = l2 * (2 * q - l2)
        root = np.sqrt(np.maximum(product**2 - u1 * (2 * p - u1) * scale, 0.0))
        top = np.where(scale > 0, (product + root) / scale, np.inf)
    undefined = ~np.isfinite(l1 + u1 + l2 + u2) | ~(q > 0)
    return np.where(undefined, np.nan, bottom), np.where(undefined, np.nan, top)
