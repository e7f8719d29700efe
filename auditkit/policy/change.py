"""The change since a baseline: how much each comparison of a rule has worsened, with an interval.

Where both audits rest on the same rows and kept a private record of them, a change is tested on pairs (``pairs.py``):
two models mostly err together, so that the interval of the change is far narrower. Else both are taken as independent
samples, and the verdict says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from auditkit.core.rounding import general
from auditkit.methods.fairness.gaps import disparities, disparity_limits, exact_shares, mover_limits, signed_limits
from auditkit.methods.fairness.metrics import Rates
from auditkit.methods.fairness.paired import Pairing
from auditkit.methods.fairness.paired_scores import ScorePairing
from auditkit.policy.families import Family, FloatArray, IntArray, Limits
from auditkit.policy.measured import Measured
from auditkit.stats.melded import melded_limits

_SIGNS = (1.0, -1.0)
# MOVER's limits of a sum of four rates (on Wilson's limits) err too often where one of them rests on fewer rows.
_FEW = 100
_ANY_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Change(Family):
    """A family beside the same family of the baseline; what is compared is how far it has worsened.

    Worse is: a larger gap, a smaller ratio, a value moved against its direction; a value without a direction is
    worse whichever way it moves.

    Attributes:
        base: ``(G,)`` the baseline's estimates of the same groups in the same order.
        pairing: What the pairs of the same rows say, where there are any.
    """

    base: Rates | Measured
    pairing: Pairing | ScorePairing | None = None

    def values(self) -> FloatArray:
        """``(m,)`` how much worse than the baseline; NaN where undefined."""
        now, then = self._points(self.estimates.value), self._points(self.base.value)
        if self.kind == "ratio" or (self.kind == "value" and self.direction == "higher"):
            return then - now
        change = now - then
        return np.abs(change) if self.kind == "value" and self.direction == "neutral" else change

    def bounds(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Limits of the worsening at two-sided ``level``.

        A value: exact limits of two rates, MOVER for all else. A gap is ``|g| = max over s of s g`` with
        ``s = +1, -1``, so the change of two gaps is ``max_s min_t (s g_now - t g_then)``: the maximum needs no
        correction (intersection-union), the minimum half the error for each of its two parts. A ratio, and a gap with a
        rate on few rows: today's bound against the baseline's, half the error each.

        On pairs the same holds with the limits of the groups' own changes (and of the sums of their two rates), which
        are exact for rates whose denominators the decisions do not move.

        Source: Fay, Proschan and Brittain (2015), Biometrics 71; Fay and Lumbard (2021), Statistics in Medicine 40; Zou
        and Donner (2008), Statistics in Medicine 27 (MOVER); Berger (1982) (intersection-union).
        """
        if self.pairing is None:
            return self._apart(level)
        found, alone = self._together(self.pairing, level), ~self.on_pairs()
        if self.kind == "ratio":
            # Ratios near 1 are bounded by 1 whatever the pairs say: both sets of limits, at half the error each.
            half = 1.0 - (1.0 - level) / 2.0
            one, two = self._together(self.pairing, half), self._apart(half)
            found = np.fmax(one[0], two[0]), np.fmin(one[1], two[1])
        if alone.any():
            part = replace(self, pairing=None, left=self.left[alone], right=self.right[alone])
            for end, own in zip(found, part.bounds(level), strict=True):
                end[alone] = own
        return found

    def _apart(self, level: float) -> Limits:
        if self.kind == "value":
            return self._worsened(*self._value_change(level))
        half = 1.0 - (1.0 - level) / 2.0
        low, high = np.empty(len(self.left)), np.empty(len(self.left))
        apart = self._few() if self.kind == "difference" else np.ones(len(self.left), dtype=np.bool_)
        if not apart.all():
            low, high = self._gap_bounds(_arms(self.estimates, half), _arms(self.base, half))
        if apart.any():
            left, right = self.left[apart], self.right[apart]
            near = disparity_limits(self.estimates, left, right, self.kind, half)
            far = disparity_limits(self.base, left, right, self.kind, half)
            fall = self.kind == "ratio"
            low[apart] = far[0] - near[1] if fall else near[0] - far[1]
            high[apart] = far[1] - near[0] if fall else near[1] - far[0]
        return low, high

    def envelope(self, level: float) -> None:
        """Only the limits themselves will do."""

    def rough_bounds(self, level: float, factor: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """Approximate limits if today's groups had ``factor`` times their rows; the baseline keeps its own, or grows
        with them where both are of the same rows."""
        if self.pairing is not None and self.on_pairs().any():
            return self._together(self.pairing, level, factor)
        if self.kind == "value":
            now, then = self.estimates.rough_limits(level, factor), self.base.rough_limits(level, 1.0)
            return self._worsened(*self._mover_change(now, then))
        half = 1.0 - (1.0 - level) / 2.0
        now, then = self.estimates.rough_limits(half, factor), self.base.rough_limits(half, 1.0)
        if self.kind == "difference":
            return self._gap_bounds(now, then)
        near = mover_limits(self.estimates.value, now, self.left, self.right, "ratio")
        far = mover_limits(self.base.value, then, self.left, self.right, "ratio")
        return far[0] - near[1], far[1] - near[0]

    def only(self, index: int) -> Change:
        """The family of comparison ``index`` alone."""
        ends = list(dict.fromkeys((int(self.left[index]), int(self.right[index]))))
        part = super().only(index)
        assert isinstance(part, Change)
        paired = None if self.pairing is None else self.pairing.take(ends)
        return replace(part, base=self.base.take(ends), pairing=paired)

    def part(self, chosen: npt.NDArray[np.bool_]) -> Change:
        """The same with the chosen ``(m,)`` comparisons alone."""
        return replace(self, left=self.left[chosen], right=self.right[chosen])

    def fewest_before(self, ends: Sequence[int]) -> float | None:
        """The fewest rows, hits or misses of these groups, or clusters of any group, in the baseline; none of 0."""
        rows, value = np.asarray(self.base.rows, dtype=np.float64)[list(ends)], self.base.value[list(ends)]
        hits = np.round(rows * value, 6)
        counts = [*rows, *hits, *(rows - hits), *(freedom + 1.0 for freedom in _freedom(self.base))]
        return min((float(count) for count in counts if count > 0.0), default=None)

    def phrase(self, index: int, limits: tuple[float, ...] = ()) -> str:
        """What both audits gave, before the interval of the change."""
        one = replace(self, left=self.left[index : index + 1], right=self.right[index : index + 1])
        now, then = (float(one._points(part.value)[0]) for part in (self.estimates, self.base))
        what = "" if self.kind == "value" else f"{self.kind} "
        moved = "changed" if self.kind == "value" and self.direction == "neutral" else "worse"
        paired = bool(one.on_pairs()[0])
        same = f" (paired, n = {self._pairs(index):,})" if paired else ""
        by = general(float(one.values()[0]), limits)
        return f": {what}{general(now)}, {general(then)} in the baseline: {moved} by {by}{same}"

    def method(self) -> str:
        """How the interval is made."""
        if self.pairing is not None and self.on_pairs().any():
            return self.pairing.method if self.kind == "value" else f"{self.pairing.method}-union"
        exact = all(exact_shares(part, _ANY_LEVEL) is not None for part in (self.estimates, self.base))
        name = "melded" if exact else "mover"
        if self.kind == "difference":
            return "bonferroni-melded" if exact and bool(self._few().all()) else "mover-union"
        if self.kind == "value":
            return "bonferroni" if self._is_of_gaps() else name
        return f"bonferroni-{name}"

    def on_pairs(self) -> npt.NDArray[np.bool_]:
        """``(m,)`` comparisons that are tested on pairs."""
        if self.pairing is None:
            return np.zeros(len(self.left), dtype=np.bool_)
        return ~self._unpaired(self.pairing)

    def hopeless(self) -> str:
        """Why no number of rows today would settle it."""
        if self.pairing is not None:
            return super().hopeless()
        return "with the rows of the baseline, no number of rows today would settle it"

    def _pairs(self, index: int) -> int:
        """Rows below the lines of a comparison, which are the same in both audits or nearly so."""
        ends = {int(self.left[index]), int(self.right[index])}
        return sum(int(self.estimates.rows[end]) for end in ends)

    def _unpaired(self, pairing: Pairing | ScorePairing) -> npt.NDArray[np.bool_]:
        """``(m,)`` comparisons that are tested as two samples although there are pairs."""
        return pairing.alone(self.left, self.right, self.kind, self._few())

    def _together(
        self, pairing: Pairing | ScorePairing, level: float, factor: FloatArray | float | None = None
    ) -> Limits:
        """Limits of the worsening on pairs; with a ``factor`` the approximate ones of that many times the rows."""
        if self.kind == "value":
            low, high = pairing.limits(level, -1.0, factor)
            return self._worsened(low[self.left], high[self.left])
        half = 1.0 - (1.0 - level) / 2.0
        if self.kind == "ratio":
            assert isinstance(pairing, Pairing)
            return _paired_ratios(pairing, self.left, self.right, half, factor)
        # Gaps of the same direction then and now differ, gaps of opposite directions add up.
        found = [
            _apart_limits(
                pairing.now.value - sign * pairing.then.value,
                pairing.limits(half, -sign, factor),
                self.left,
                self.right,
            )
            for sign in _SIGNS
        ]
        # s = +1: the smaller of the two ends; s = -1: the same of the limits turned round.
        lows = np.minimum(found[0][0], found[1][0]), np.minimum(-found[0][1], -found[1][1])
        highs = np.minimum(found[0][1], found[1][1]), np.minimum(-found[0][0], -found[1][0])
        return np.maximum(*lows), np.maximum(*highs)

    def _points(self, value: FloatArray) -> FloatArray:
        return value[self.left] if self.kind == "value" else disparities(value, self.left, self.right, self.kind)

    def _is_of_gaps(self) -> bool:
        """Whether the values are gaps that were measured as such: as extremes they lean away from 0, so that their
        change is bounded by the bounds of both, at half the error each."""
        held = self.estimates.measurements if isinstance(self.estimates, Measured) else ()
        return any(m.is_gap for m in held)

    def _few(self) -> npt.NDArray[np.bool_]:
        """``(m,)`` whether one of the four rates rests on so few rows that MOVER is not to be relied upon."""
        sizes = [
            part.effective.min(axis=1) if isinstance(part, Rates) else part.rows for part in (self.estimates, self.base)
        ]
        fewest = np.minimum(*sizes)
        return np.asarray(np.minimum(fewest[self.left], fewest[self.right]) < _FEW)

    def _value_change(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Limits ``(m,), (m,)`` of today's value less the baseline's."""
        now, then = exact_shares(self.estimates, level), exact_shares(self.base, level)
        if now is not None and then is not None:
            value, rows, odds = (np.concatenate(both) for both in zip(now, then, strict=True))
            return melded_limits(value, rows, self.left, self.left + len(now[0]), "difference", level, odds)
        if self._is_of_gaps():
            half = 1.0 - (1.0 - level) / 2.0
            today, before = self.estimates.limits(half), self.base.limits(half)
            return today[0] - before[1], today[1] - before[0]
        return self._mover_change(self.estimates.limits(level), self.base.limits(level))

    def _mover_change(
        self, now: tuple[FloatArray, FloatArray], then: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        value, base = self.estimates.value, self.base.value
        change = value - base
        bottom = change - np.hypot(value - now[0], then[1] - base)
        top = change + np.hypot(now[1] - value, base - then[0])
        return bottom[self.left], top[self.left]

    def _worsened(self, bottom: FloatArray, top: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Limits of the worsening from those of the change."""
        if self.direction == "lower":
            return bottom, top
        if self.direction == "higher":
            return -top, -bottom
        inside = (bottom <= 0) & (top >= 0)
        near = np.where(inside, 0.0, np.minimum(np.abs(bottom), np.abs(top)))
        return near, np.maximum(np.abs(bottom), np.abs(top))

    def _gap_bounds(
        self, now: tuple[FloatArray, FloatArray], then: tuple[FloatArray, FloatArray]
    ) -> tuple[FloatArray, FloatArray]:
        parts = [(self.estimates.value, *now), (self.base.value, *then)]
        lows, highs = [], []
        for s in _SIGNS:
            each = [self._signed(parts, s, t) for t in _SIGNS]
            lows.append(np.minimum(each[0][0], each[1][0]))
            highs.append(np.minimum(each[0][1], each[1][1]))
        return np.maximum(*lows), np.maximum(*highs)

    def _signed(
        self, parts: list[tuple[FloatArray, FloatArray, FloatArray]], s: float, t: float
    ) -> tuple[FloatArray, FloatArray]:
        """MOVER limits of ``s (a - b) - t (c - d)``, four independent estimates with coefficients of +1 or -1."""
        point = np.zeros(len(self.left))
        down, up = np.zeros(len(self.left)), np.zeros(len(self.left))
        for (value, low, high), side in zip(parts, (s, -t), strict=True):
            for end, sign in ((self.left, side), (self.right, -side)):
                below, above = value[end] - low[end], high[end] - value[end]
                point = point + sign * value[end]
                down = down + (below if sign > 0 else above) ** 2
                up = up + (above if sign > 0 else below) ** 2
        return point - np.sqrt(down), point + np.sqrt(up)


def _arms(estimates: Rates | Measured, level: float) -> Limits:
    """The limits that MOVER joins: as measured, or Wilson's of rates, of which there are no few rows here."""
    return estimates.limits(level) if isinstance(estimates, Measured) else estimates.rough_limits(level, 1.0)


def _apart_limits(point: FloatArray, limits: Limits, left: IntArray, right: IntArray) -> Limits:
    """MOVER limits of the difference of two independent groups' values, from the limits of each."""
    low, high = limits
    gap = point[left] - point[right]
    down = np.hypot(point[left] - low[left], high[right] - point[right])
    up = np.hypot(high[left] - point[left], point[right] - low[right])
    return gap - down, gap + up


def _paired_ratios(
    pairing: Pairing, left: IntArray, right: IntArray, level: float, factor: FloatArray | float | None
) -> Limits:
    """Limits of how far the ratio of the lower to the higher rate fell: ``max_s min_t (r_t then - r_s now)``.

    ``s`` and ``t`` say which group is above the line. Each part is bounded by MOVER with the correlation of the logs of
    the two ratios; a ratio over a rate of 0 takes no part, as the one turned round is 0.
    """
    now, then = pairing.now, pairing.then
    shared = pairing.correlation * np.sqrt(pairing.spread.prod(axis=1))

    def of_logs(covariance: FloatArray, one: FloatArray, two: FloatArray) -> FloatArray:
        each = covariance / (one * two)
        return np.asarray(each[left] + each[right])

    with np.errstate(divide="ignore", invalid="ignore"):
        both = of_logs(shared, now.value, then.value)
        own = of_logs(pairing.spread[:, 0], now.value, now.value)
        own = own * of_logs(pairing.spread[:, 1], then.value, then.value)
        correlation = np.clip(np.nan_to_num(both / np.sqrt(own)), -1.0, 1.0)
    ends = []
    for rates in (now, then):
        each = []
        for above, below in ((left, right), (right, left)):
            limits = rates.directed_limits(above, below, "ratio", level) if factor is None else None
            if limits is None:
                part = rates.limits(level) if factor is None else rates.rough_limits(level, factor)
                limits = signed_limits(rates.value, part, below, above, "ratio")
            with np.errstate(divide="ignore", invalid="ignore"):
                value = np.where(rates.value[below] > 0, rates.value[above] / rates.value[below], np.nan)
            each.append((value, *limits))
        ends.append(each)
    lows, highs = [], []
    for s in (0, 1):
        parts = [_fallen(ends[1][t], ends[0][s], correlation if s == t else -correlation) for t in (0, 1)]
        lows.append(np.fmin(parts[0][0], parts[1][0]))
        highs.append(np.fmin(parts[0][1], parts[1][1]))
    return np.fmax(*lows), np.fmax(*highs)


def _fallen(then: tuple[FloatArray, ...], now: tuple[FloatArray, ...], correlation: FloatArray) -> Limits:
    """Limits of ``then - now`` for two correlated estimates ``(value, low, high)``; infinite where one of them is."""
    value, low, high = then
    today, bottom, top = now

    def arm(one: FloatArray, two: FloatArray) -> FloatArray:
        finite = np.isfinite(one) & np.isfinite(two)
        a, b = np.where(finite, one, 0.0), np.where(finite, two, 0.0)
        length = np.sqrt(np.maximum(a**2 + b**2 - 2.0 * correlation * a * b, 0.0))
        return np.where(finite, length, np.where(np.isnan(one) | np.isnan(two), np.nan, np.inf))

    change = value - today
    return change - arm(value - low, top - today), change + arm(high - value, today - bottom)


def _freedom(base: Rates | Measured) -> list[float]:
    """Degrees of freedom behind the limits of every group, where they rest on any."""
    if isinstance(base, Rates):
        return [float(each) for each in base.freedom.ravel() if math.isfinite(each)]
    intervals = (m.interval for m in base.measurements if m.rests_on_clusters)
    return [held.degrees_of_freedom for held in intervals if held is not None and held.degrees_of_freedom is not None]
