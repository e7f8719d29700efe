"""The change since a baseline: how much each comparison of a rule has worsened, with an interval.

Both audits are taken as independent samples. Where they rest on the same rows, two models mostly err together, which
makes these intervals wider than those of a paired test on the rows would be: more is inconclusive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Evidence
from auditkit.methods.fairness.gaps import disparities, disparity_limits, mover_limits
from auditkit.methods.fairness.metrics import Rates
from auditkit.policy.baseline import Baseline
from auditkit.policy.families import Family, FloatArray, Measured
from auditkit.policy.lookup import Settings, Unresolved
from auditkit.policy.model import Policy
from auditkit.policy.resolve import resolve

_SIGNS = (1.0, -1.0)
# MOVER's limits of a sum of four rates (on Wilson's limits) err too often where one of them rests on fewer rows.
_FEW = 100


@dataclass(frozen=True, kw_only=True)
class Change(Family):
    """A family beside the same family of the baseline; what is compared is how far it has worsened.

    Worse is: a larger gap, a smaller ratio, a value moved against its direction; a value without a direction is
    worse whichever way it moves.

    Attributes:
        base: ``(G,)`` the baseline's estimates of the same groups in the same order.
    """

    base: Rates | Measured

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

        Source: Fay, Proschan and Brittain (2015), Biometrics 71; Zou and Donner (2008), Statistics in Medicine 27
        (MOVER); Berger (1982) (intersection-union).
        """
        if self.kind == "value":
            return self._worsened(*self._value_change(level))
        half = 1.0 - (1.0 - level) / 2.0
        low, high = np.empty(len(self.left)), np.empty(len(self.left))
        apart = self._few() if self.kind == "difference" else np.ones(len(self.left), dtype=np.bool_)
        if not apart.all():
            low, high = self._gap_bounds(self.estimates.rough_limits(half, 1.0), self.base.rough_limits(half, 1.0))
        if apart.any():
            left, right = self.left[apart], self.right[apart]
            near = disparity_limits(self.estimates, left, right, self.kind, half)
            far = disparity_limits(self.base, left, right, self.kind, half)
            fall = self.kind == "ratio"
            low[apart] = far[0] - near[1] if fall else near[0] - far[1]
            high[apart] = far[1] - near[0] if fall else near[1] - far[0]
        return low, high

    def rough_bounds(self, level: float, factor: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """Approximate limits if today's groups had ``factor`` times their rows; the baseline keeps its own."""
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
        return replace(part, base=self.base.take(ends))

    def phrase(self, index: int) -> str:
        """What both audits gave, before the interval of the change."""
        now, then = (float(self._points(part.value)[index]) for part in (self.estimates, self.base))
        what = "" if self.kind == "value" else f"{self.kind} "
        moved = "changed" if self.kind == "value" and self.direction == "neutral" else "worse"
        return f": {what}{now:.4g}, {then:.4g} in the baseline: {moved} by {float(self.values()[index]):.4g}"

    def method(self) -> str:
        """How the interval is made."""
        exact = isinstance(self.estimates, Rates) and self.estimates.parts.shape[1] == 1
        name = "melded" if exact else "mover"
        if self.kind == "difference":
            return "bonferroni-melded" if exact and bool(self._few().all()) else "mover-union"
        return name if self.kind == "value" else f"bonferroni-{name}"

    def hopeless(self) -> str:
        """Why no number of rows today would settle it."""
        return "with the rows of the baseline, no number of rows today would settle it"

    def _points(self, value: FloatArray) -> FloatArray:
        return value[self.left] if self.kind == "value" else disparities(value, self.left, self.right, self.kind)

    def _few(self) -> npt.NDArray[np.bool_]:
        """``(m,)`` whether one of the four rates rests on so few rows that MOVER is not to be relied upon."""
        sizes = [
            part.effective.min(axis=1) if isinstance(part, Rates) else part.rows for part in (self.estimates, self.base)
        ]
        fewest = np.minimum(*sizes)
        return np.asarray(np.minimum(fewest[self.left], fewest[self.right]) < _FEW)

    def _value_change(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Limits ``(m,), (m,)`` of today's value less the baseline's."""
        if isinstance(self.estimates, Rates) and isinstance(self.base, Rates):
            both, count = self.estimates.joined(self.base), len(self.estimates.value)
            found = both.directed_limits(self.left, self.left + count, "difference", level)
            if found is not None:
                return found
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


def resolve_change(
    settings: Settings, policy: Policy, evidence: Evidence, baseline: Baseline
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """The families of a rule with those of its baseline, and remarks.

    Raises:
        Unresolved: When the two cannot be compared, or there is nothing to compare.
    """
    _refuse_other_schema(evidence, baseline.evidence)
    families, remarks = resolve(settings, policy, evidence)
    try:
        before, _ = resolve(replace(settings, small="inconclusive", min_n=0), policy, baseline.evidence)
    except Unresolved as missing:
        raise Unresolved(f"in the baseline: {missing}") from missing
    named = {family.label: family for family in before}
    changes = tuple(_paired(family, named, settings.min_n) for family in families)
    return changes, (*remarks, _about(evidence, baseline))


def _paired(family: Family, named: Mapping[str, Family], min_n: int) -> Change:
    then = named.get(family.label)
    if then is None:
        raise Unresolved(f"the baseline has nothing for {family.label!r}; it has {', '.join(named)}")
    only_now = [name for name in family.names if name not in then.names]
    only_then = [name for name in then.names if name not in family.names]
    if only_now or only_then:
        told = [
            f"{', '.join(names)} only {where}" for names, where in ((only_now, "now"), (only_then, "then")) if names
        ]
        raise Unresolved(
            f"{family.label}: the groups differ from the baseline's ({'; '.join(told)}); accept a new baseline"
        )
    order = [then.names.index(name) for name in family.names]
    base = then.estimates.take(order)
    keys = ("undefined", "unbounded")
    merged = {
        key: tuple(
            now or (f"in the baseline: {getattr(then, key)[index]}" if getattr(then, key)[index] else None)
            for now, index in zip(getattr(family, key), order, strict=True)
        )
        for key in keys
    }
    own = {field.name: getattr(family, field.name) for field in fields(Family)}
    small = family.small | (np.asarray(base.rows) < min_n)
    return Change(**{**own, **merged, "small": small, "exact": family.exact and then.exact, "base": base})


def _refuse_other_schema(now: Evidence, then: Evidence) -> None:
    facts = {
        "task": (now.subject.task, then.subject.task),
        "classes": (now.subject.classes, then.subject.classes),
        "positive class": (now.subject.positive, then.subject.positive),
        "sensitive columns": (tuple(now.subject.test.sensitive), tuple(then.subject.test.sensitive)),
        "use of row weights": (now.subject.test.weighted, then.subject.test.weighted),
    }
    for what, (one, two) in facts.items():
        if one != two:
            raise Unresolved(f"the {what} differs from the baseline's: {_shown(one)} now, {_shown(two)} then")


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _about(evidence: Evidence, baseline: Baseline) -> str:
    same = evidence.subject.test.fingerprint == baseline.evidence.subject.test.fingerprint
    told = (
        "both audits rest on the same rows, but a paired test would need the decisions on each row, so the two-sample "
        "test is used, whose intervals are wider"
        if same
        else "two-sample test: the rows are not the same"
    )
    return f"baseline of {baseline.accepted} ({baseline.reason}); {told}"
