"""Disparities between groups: absolute gaps and min/max ratios, with pairwise and simultaneous intervals.

Rates of counts know the limits of their own differences and ratios, which are exact. All other
independent estimates, such as means, give theirs from the limits of the groups alone (MOVER: the method of variance
estimates recovery).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.methods.fairness.metrics import Exact, Rates, rates_limits
from auditkit.stats.folded import both_ways, is_open, undirected
from auditkit.stats.melded import melded_limits

FloatArray = npt.NDArray[np.float64]
Limits = tuple[FloatArray, FloatArray]
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


class _Shares(Protocol):
    def exact(self, level: float) -> Exact | None: ...


def exact_shares(estimates: Estimates | _Shares, level: float) -> Exact | None:
    """The shares with exact limits behind estimates that know them; ``None`` for all else, such as means."""
    return estimates.exact(level) if hasattr(estimates, "exact") else None


def fewest_freedom(estimates: Estimates) -> float | None:
    """The fewest degrees of freedom behind the limits of any group; ``None`` where they rest on none."""
    found: float | None = getattr(estimates, "fewest_freedom", None)
    return found


@dataclass(frozen=True, slots=True)
class Compared:
    """Pairs of groups of one quantity, and the level that their limits are asked at."""

    estimates: Estimates
    left: IntArray
    right: IntArray
    kind: Kind
    level: float


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

    Each limit is a one-sided bound at half the error, whichever way the gap points. NaN where a group has no value or
    no interval.

    Source: Fay, Proschan and Brittain (2015) for rates; Zou and Donner (2008) and Donner and Zou (2012), section 3, for
    all else; :mod:`auditkit.stats.folded` for the direction.
    """
    return limits_of([Compared(estimates, left, right, kind, level)])[0]


def limits_of(asked: Sequence[Compared]) -> list[Limits]:
    """:func:`disparity_limits` of each, the exact ones all in one go: for few pairs of many rates far faster."""
    points = [_points(each) for each in asked]
    plain = _directed(asked)
    again = [
        is_open(*part, each.kind, each.level) for each, part in zip(asked, zip(points, plain, strict=True), strict=True)
    ]
    closer = _directed(
        [
            replace(each, left=each.left[part], right=each.right[part], level=both_ways(each.level))
            for each, part in zip(asked, again, strict=True)
        ]
    )
    found = []
    for each, point, ends, part, near in zip(asked, points, plain, again, closer, strict=True):
        strict = ends[0].copy(), ends[1].copy()
        for side, own in zip(strict, near, strict=True):
            side[part] = own
        found.append(undirected(point, ends, strict, each.kind, each.level))
    return found


def _points(asked: Compared) -> FloatArray:
    """``(m,)`` the differences, or the ratios of the smaller to the larger value."""
    value = asked.estimates.value
    small, large = ordered(value, asked.left, asked.right, asked.kind)
    with np.errstate(divide="ignore", invalid="ignore"):
        return value[small] - value[large] if asked.kind == "difference" else value[small] / value[large]


def _directed(asked: Sequence[Compared]) -> list[Limits]:
    """Limits of the differences, or of the ratios of the smaller to the larger value, of each."""
    found: dict[int, Limits] = {}
    known = [(index, each, exact_shares(each.estimates, each.level)) for index, each in enumerate(asked)]
    exact = [(index, each, shares) for index, each, shares in known if shares is not None]
    if exact:
        starts = np.cumsum([0, *(len(each.estimates.value) for _, each, _ in exact)])
        ends = [ordered(each.estimates.value, each.left, each.right, each.kind) for _, each, _ in exact]
        low, high = melded_limits(
            np.concatenate([shares[0] for _, _, shares in exact]),
            np.concatenate([shares[1] for _, _, shares in exact]),
            np.concatenate([small + start for (small, _), start in zip(ends, starts[:-1], strict=True)]),
            np.concatenate([large + start for (_, large), start in zip(ends, starts[:-1], strict=True)]),
            [each.kind for _, each, _ in exact for _ in range(len(each.left))],
            np.repeat([each.level for _, each, _ in exact], [len(each.left) for _, each, _ in exact]),
            np.concatenate([shares[2] for _, _, shares in exact]),
        )
        begun = 0
        for (index, each, _), (small, large) in zip(exact, ends, strict=True):
            part = slice(begun, begun := begun + len(small))
            found[index] = _defined(each.estimates.value, small, large, each.kind, low[part], high[part])
    rest = [each for index, each in enumerate(asked) if index not in found]
    groups = iter(groups_limits([(each.estimates, each.level) for each in rest]))
    for index, each in enumerate(asked):
        if index not in found:
            value = each.estimates.value
            small, large = ordered(value, each.left, each.right, each.kind)
            found[index] = directed_mover(value, next(groups), small, large, each.kind)
    return [found[index] for index in range(len(asked))]


def groups_limits(asked: Sequence[tuple[Estimates, float]]) -> list[Limits]:
    """Each estimates' own limits at the level beside them; those of rates all in one go."""
    distinct = {(id(part), level): (part, level) for part, level in asked}
    rates = [(part, level) for part, level in distinct.values() if isinstance(part, Rates)]
    found = {(id(part), level): limits for (part, level), limits in zip(rates, rates_limits(rates), strict=True)}
    for key, (part, level) in distinct.items():
        if key not in found:
            found[key] = part.limits(level)
    return [found[id(part), level] for part, level in asked]


def mover_limits(
    value: FloatArray, limits: tuple[FloatArray, FloatArray], left: IntArray, right: IntArray, kind: Kind
) -> tuple[FloatArray, FloatArray]:
    """Limits ``(m,), (m,)`` of the disparity of each pair from the groups' ``limits``, at their level (MOVER).

    For planning: the near ones take the direction as known, which :func:`disparity_limits` do not.

    Source: Newcombe (1998), method 10; Donner and Zou (2012), section 3, for the ratio.
    """
    small, large = ordered(value, left, right, kind)
    return _folded(*directed_mover(value, limits, small, large, kind), kind)


def ordered(value: FloatArray, left: IntArray, right: IntArray, kind: Kind) -> tuple[IntArray, IntArray]:
    """The pairs with the smaller value of a ratio above the line."""
    if kind == "difference":
        return left, right
    swap = value[left] > value[right]
    return np.where(swap, right, left), np.where(swap, left, right)


def directed_mover(
    value: FloatArray, limits: tuple[FloatArray, FloatArray], left: IntArray, right: IntArray, kind: Kind
) -> tuple[FloatArray, FloatArray]:
    """MOVER limits of ``value[left] - value[right]`` or ``value[left] / value[right]`` from the groups' ``limits``."""
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


def slack(estimates: Estimates, left: IntArray, right: IntArray) -> FloatArray:
    """``(m,)`` how far MOVER's limits of each pair may be off; all that is sure for estimates that are not rates."""
    if not (isinstance(estimates, Rates) and estimates.is_one_rate):
        return np.full(len(left), _SLACK_FEW_ROWS)
    rows = estimates.effective[:, 0]
    shares = estimates.shares[:, 0]
    few = np.minimum(shares, 1.0 - shares) * rows
    each = np.where(few >= _HITS, _SLACK, np.where(rows >= _ROWS, _SLACK_FEW_HITS, _SLACK_FEW_ROWS))
    return np.asarray(np.maximum(each[left], each[right]))


def limit_envelope(
    estimates: Estimates, left: IntArray, right: IntArray, kind: Kind, level: float
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """An interval that holds the exact one of each pair's disparity, and one that it holds: far cheaper than itself.

    Both are MOVER's, stretched and shrunk by as much as it was ever seen to be off.
    """
    value = estimates.value
    small, large = ordered(value, left, right, kind)
    with np.errstate(divide="ignore", invalid="ignore"):
        point = value[small] - value[large] if kind == "difference" else value[small] / value[large]
    part = slack(estimates, left, right)

    def folded(level: float, share: FloatArray) -> Limits:
        low, high = directed_mover(value, estimates.limits(level), small, large, kind)
        return _folded(point - (point - low) * share, point + (high - point) * share, kind)

    wide, inner = folded(level, 1.0 + part), folded(level, np.maximum(1.0 - part, 0.0))
    strict = folded(both_ways(level), 1.0 + part)
    outer = (strict[0], wide[1]) if kind == "difference" else (wide[0], strict[1])
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


def pair_method(estimates: Estimates, suffix: str = "") -> str:
    """How the limits of disparities of ``estimates`` are made."""
    name = "mover" if exact_shares(estimates, 0.95) is None else "melded"
    return f"{name}-{suffix}" if suffix else name


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
