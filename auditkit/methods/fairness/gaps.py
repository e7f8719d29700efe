"""Disparities between groups: absolute gaps and min/max ratios, with pairwise and simultaneous intervals.

Rates of counts know the limits of their own differences and ratios, which are exact (``directed_limits``). All other
independent estimates, such as means, give theirs from the limits of the groups alone (MOVER: the method of variance
estimates recovery).
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
# How far MOVER's limits may lie from the exact ones, as a share of their distance to the value: never seen beyond 0.10
# where both rates have 20 hits and misses or more, 0.45 where both have 10 rows, 1.8 elsewhere.
_SLACK, _SLACK_FEW_HITS, _SLACK_FEW_ROWS = 0.12, 0.5, 2.0
_HITS, _ROWS = 20.0, 10.0
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

    def limits(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Interval limits at two-sided ``level``."""
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
    estimates: Estimates, left: IntArray, right: IntArray, kind: Kind, level: float
) -> tuple[FloatArray, FloatArray]:
    """Limits ``(m,), (m,)`` of the disparity of each pair at two-sided ``level``.

    Each limit is a one-sided bound at half the error. NaN where a group has no value or no interval.

    Source: Fay, Proschan and Brittain (2015) for rates; Zou and Donner (2008) and Donner and Zou (2012), section 3, for
    all else.
    """
    value = estimates.value
    small, large = _ordered(value, left, right, kind)
    own = getattr(estimates, "directed_limits", None)
    found = own(small, large, kind, level) if own is not None else None
    if found is None:
        return mover_limits(value, estimates.limits(level), left, right, kind)
    return _folded(*_defined(value, small, large, kind, *found), kind)


def mover_limits(
    value: FloatArray, limits: tuple[FloatArray, FloatArray], left: IntArray, right: IntArray, kind: Kind
) -> tuple[FloatArray, FloatArray]:
    """Limits ``(m,), (m,)`` of the disparity of each pair from the groups' ``limits``, at their level (MOVER).

    Source: Newcombe (1998), method 10; Donner and Zou (2012), section 3, for the ratio.
    """
    small, large = _ordered(value, left, right, kind)
    return _folded(*_mover(value, limits, small, large, kind), kind)


def _ordered(value: FloatArray, left: IntArray, right: IntArray, kind: Kind) -> tuple[IntArray, IntArray]:
    """The pairs with the smaller value of a ratio above the line."""
    if kind == "difference":
        return left, right
    swap = value[left] > value[right]
    return np.where(swap, right, left), np.where(swap, left, right)


def _mover(
    value: FloatArray, limits: tuple[FloatArray, FloatArray], left: IntArray, right: IntArray, kind: Kind
) -> tuple[FloatArray, FloatArray]:
    if kind == "difference":
        return _difference(value, *limits, left, right)
    return _ratio(value, *limits, left, right)


def _defined(
    value: FloatArray, small: IntArray, large: IntArray, kind: Kind, low: FloatArray, high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Limits with NaN where the disparity itself is undefined."""
    known = np.isfinite(value[small]) & np.isfinite(value[large])
    known &= (value[large] > 0) if kind == "ratio" else True
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def _folded(low: FloatArray, high: FloatArray, kind: Kind) -> tuple[FloatArray, FloatArray]:
    """Limits of the absolute difference, or of the ratio of the lower to the higher, from those with a direction."""
    if kind == "difference":
        near = np.where((low <= 0) & (high >= 0), 0.0, np.minimum(np.abs(low), np.abs(high)))
        return near, np.maximum(np.abs(low), np.abs(high))
    with np.errstate(divide="ignore", over="ignore"):
        folded = np.minimum(low, np.where(high > 0, 1.0 / high, np.inf))
    return np.clip(folded, 0.0, 1.0), np.minimum(high, 1.0)


def extreme_limits(
    estimates: Estimates, left: IntArray, right: IntArray, kind: Kind, level: float, tests: int
) -> tuple[float, float]:
    """Limits of the worst of the pairs: far ones as they are, near ones corrected for ``tests`` directed pairs.

    Exact limits are worked out only for pairs which, by MOVER's, can be the extreme ones.
    """
    value, strict = estimates.value, 1 - (1 - level) / tests
    ends = []
    for far, at in ((True, level), (False, strict)):
        one, two = left, right
        if hasattr(estimates, "directed_limits") and len(left) > 1:
            slack = _slack(estimates, left, right)
            chosen = _contenders(value, estimates.limits(at), left, right, kind, far, slack)
            one, two = left[chosen], right[chosen]
        low, high = disparity_limits(estimates, one, two, kind, at)
        if kind == "difference":
            ends.append(float(high.max() if far else low.max(initial=0.0)))
        else:
            ends.append(float(low.min() if far else high.min(initial=1.0)))
    return (ends[1], ends[0]) if kind == "difference" else (ends[0], ends[1])


def _contenders(
    value: FloatArray,
    limits: tuple[FloatArray, FloatArray],
    left: IntArray,
    right: IntArray,
    kind: Kind,
    far: bool,
    part: FloatArray,
) -> IntArray:
    """Pairs whose limit is the most extreme one, or may be when each is off by the share ``part`` of its distance."""
    small, large = _ordered(value, left, right, kind)
    low, high = _mover(value, limits, small, large, kind)
    if not (np.isfinite(low) & ~np.isnan(high)).all():
        return np.arange(len(left), dtype=np.int64)
    if kind == "difference":
        gap = value[small] - value[large]
        end = np.maximum(high, -low) if far else np.maximum(low, -high)
        slack = part * np.maximum(high - gap, gap - low)
        return np.flatnonzero(end + slack >= max(float((end - slack).max()), -1.0 if far else 0.0))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio = value[small] / value[large]
        end = np.minimum(low, 1.0 / high) if far else np.minimum(high, 2.0)
    slack = part * np.abs(end - ratio)
    return np.flatnonzero(end - slack <= min(float(np.min(end + slack)), 1.0))


def _slack(estimates: Estimates, left: IntArray, right: IntArray) -> FloatArray:
    """``(m,)`` how far MOVER's limits of each pair may be off; all that is sure for estimates that are not rates."""
    parts, effective = getattr(estimates, "parts", None), getattr(estimates, "effective", None)
    if parts is None or effective is None or parts.shape[1] > 1:
        return np.full(len(left), _SLACK_FEW_ROWS)
    rows = effective[:, 0]
    few = np.minimum(parts[:, 0], 1.0 - parts[:, 0]) * rows
    each = np.where(few >= _HITS, _SLACK, np.where(rows >= _ROWS, _SLACK_FEW_HITS, _SLACK_FEW_ROWS))
    return np.asarray(np.maximum(each[left], each[right]))


def limit_envelope(
    estimates: Estimates, left: IntArray, right: IntArray, kind: Kind, level: float
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """An interval that holds the exact one of each pair's disparity, and one that it holds: far cheaper than itself.

    Both are MOVER's, stretched and shrunk by as much as it was ever seen to be off.
    """
    value = estimates.value
    small, large = _ordered(value, left, right, kind)
    low, high = _mover(value, estimates.limits(level), small, large, kind)
    with np.errstate(divide="ignore", invalid="ignore"):
        point = value[small] - value[large] if kind == "difference" else value[small] / value[large]
    part = _slack(estimates, left, right)
    down, up = point - low, high - point
    outer, inner = (
        _folded(point - down * share, point + up * share, kind) for share in (1.0 + part, np.maximum(1.0 - part, 0.0))
    )
    return outer, inner


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
    low, high = extreme_limits(estimates, left, right, kind, level, 2 * m)
    if not (math.isfinite(low) and math.isfinite(high)):
        return Gap(float(each[worst]), None, pair, "a group has too few rows or clusters for an interval")
    point = float(each[worst])
    top = math.inf if bounds[1] is None else bounds[1]
    interval = Interval(
        low=min(max(float(low), bounds[0]), point),
        high=max(min(float(high), top), point),
        level=level,
        method=pair_method(estimates, "simultaneous"),
    )
    return Gap(point, interval, pair)


def pair_method(estimates: Estimates, suffix: str = "") -> str:
    """How the limits of disparities of ``estimates`` are made."""
    parts = getattr(estimates, "parts", None)
    name = "melded" if parts is not None and parts.shape[1] == 1 else "mover"
    return f"{name}-{suffix}" if suffix else name


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
        method=known[0].method,
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
