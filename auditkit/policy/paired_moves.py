"""The change of single measurements by the families that rules with a baseline are judged by: on pairs, and of gaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from auditkit.core.errors import AuditkitError
from auditkit.core.evidence import Evidence, Measurement
from auditkit.core.gap_names import metric_and_kind
from auditkit.methods.fairness.gaps import disparities
from auditkit.methods.fairness.metric_table import COMPOSITES, METRICS
from auditkit.methods.fairness.metrics import Rates
from auditkit.policy.change import Change
from auditkit.policy.families import FloatArray
from auditkit.policy.lookup import Unresolved
from auditkit.policy.measured import Measured
from auditkit.policy.model import Compare, Policy, Rule
from auditkit.policy.pairs import Pairs
from auditkit.policy.resolve import SAME_FROM_COUNTS, settle
from auditkit.policy.resolve_change import changes_between

_SAME = 1e-9
_ANY_LEVEL = 0.95


@dataclass(frozen=True)
class _Paired:
    """A measurement's change: the families that bound it, and for a value which of their comparisons it is.

    ``values`` are those then and now.
    """

    kind: Compare
    families: tuple[Change, ...]
    values: tuple[float, float]
    at: int = 0

    def is_of(self, base: Measurement, head: Measurement) -> bool:
        """Whether these are the two values, not withheld and not rounded."""
        return all(
            m.value is not None and math.isclose(m.value, value, rel_tol=_SAME, abs_tol=_SAME)
            for m, value in zip((base, head), self.values, strict=True)
        )


class _Families:
    """The families that a rule with a baseline on a quantity is judged by, with their bounds, each made once."""

    def __init__(self, base: Evidence, head: Evidence, pairs: Pairs) -> None:
        self._base, self._head, self._pairs = base, head, pairs
        self._changes: dict[tuple[Any, ...], tuple[Change, ...]] = {}
        self._bounds: dict[tuple[int, float], tuple[FloatArray, FloatArray]] = {}

    def of(
        self, name: str, kind: Compare, over: tuple[str, ...], where: Mapping[str, str], params: Mapping[str, Any]
    ) -> tuple[Change, ...]:
        """Those of a rule on the quantity; none where it cannot be settled."""
        key = name, kind, frozenset(over), frozenset(where.items()), frozenset(params.items())
        if key not in self._changes:
            rule = Rule(
                id="compare", metric=name, compare=kind, over=over, where=where, params=params, max_increase=0.0,
                baseline="base",
            )  # fmt: skip
            policy = Policy()
            try:
                found, _ = changes_between(settle(rule, policy), policy, self._head, self._base, self._pairs)
            except (Unresolved, AuditkitError):
                found = ()
            # A value's change is told with its sign, not as a worsening.
            self._changes[key] = tuple(replace(c, direction="lower") if kind == "value" else c for c in found)
        return self._changes[key]

    def bounds(self, change: Change, level: float) -> tuple[FloatArray, FloatArray]:
        """``change.bounds(level)``."""
        key = id(change), level
        if key not in self._bounds:
            self._bounds[key] = change.bounds(level)
        return self._bounds[key]


class PairedMoves:
    """What two audits of the same rows say of each measurement's change.

    Args:
        base, head: The private evidence of both: pairs are checked against their cells.
        pairs: Of the two.
    """

    def __init__(self, base: Evidence, head: Evidence, pairs: Pairs) -> None:
        self._pairs = pairs
        self._families = _Families(base, head, pairs)
        counted = {f"fairness.{name}" for name in (*METRICS, *COMPOSITES)} | set(SAME_FROM_COUNTS)
        self._names = (counted if pairs.tables else set()) | {key.partition("|")[0] for key in pairs.scored}
        self._found: dict[str, _Paired | None] = {}

    @property
    def reason(self) -> str:
        """Why there are no pairs."""
        return self._pairs.reason

    @property
    def rows(self) -> int:
        """Rows in both audits."""
        return self._pairs.rows

    def has(self, base: Measurement, head: Measurement) -> bool:
        """Whether the pairs give both values of a measurement, and limits of its change: one row alone has none."""
        if not self._pairs.known:
            return False
        if base.key not in self._found:
            self._found[base.key] = self._find(base)
        found = self._found[base.key]
        return found is not None and found.is_of(base, head) and all(map(math.isfinite, self.limits(base, _ANY_LEVEL)))

    def comparisons(self, m: Measurement) -> int:
        """How many comparisons ``m`` is the worst of."""
        return sum(len(change.left) for change in self._of(m).families)

    def method(self, m: Measurement) -> str:
        """How its limits are made."""
        return self._of(m).families[0].method()

    def limits(self, m: Measurement, level: float) -> tuple[float, float]:
        """Limits of the change of ``m`` at two-sided ``level``.

        A gap is the largest of several: its change lies between the least and the largest change of those, and one of
        them is whichever pair of groups is truly the worst, then or now. So each end needs no correction
        (intersection-union, Berger 1982).
        """
        found = self._of(m)
        ends = [self._families.bounds(change, level) for change in found.families]
        if found.kind == "value":
            low, high = ends[0]
            return float(low[found.at]), float(high[found.at])
        least, most = float(min(one.min() for one, _ in ends)), float(max(two.max() for _, two in ends))
        return (least, most) if found.kind == "difference" else (-most, -least)

    def _of(self, m: Measurement) -> _Paired:
        found = self._found[m.key]
        if found is None:
            raise KeyError(m.key)
        return found

    def _find(self, m: Measurement) -> _Paired | None:
        name, kind, over = _named(m)
        if name not in self._names or (kind == "value" and m.over):
            return None
        changes = self._families.of(name, kind, over, m.slice if m.over else {}, m.params)
        return _value_of(changes, m) if kind == "value" else _worst_of(changes, kind)


class GapMoves:
    """What a rule with a baseline says, as of two samples, of the change of a gap between two groups.

    Args:
        base, head: The two audits.
    """

    def __init__(self, base: Evidence, head: Evidence) -> None:
        self._families = _Families(base, head, Pairs(reason="two samples"))
        self._groups = {frozenset(counts.over): len(counts.groups) for counts in head.counts()}
        self._found: dict[str, _Paired | None] = {}

    def has(self, base: Measurement, head: Measurement) -> bool:
        """Whether the two are the gap of one pair of groups, by the numbers that a rule would look at."""
        if base.key not in self._found:
            self._found[base.key] = self._find(base)
        found = self._found[base.key]
        return found is not None and found.is_of(base, head) and all(map(math.isfinite, self.limits(base, _ANY_LEVEL)))

    def method(self, m: Measurement) -> str:
        """How its limits are made."""
        return self._change(m).method()

    def limits(self, m: Measurement, level: float) -> tuple[float, float]:
        """Limits of the change of ``m`` at two-sided ``level``."""
        low, high = (float(end[0]) for end in self._families.bounds(self._change(m), level))
        return (-high, -low) if self._change(m).kind == "ratio" else (low, high)

    def _change(self, m: Measurement) -> Change:
        found = self._found[m.key]
        if found is None:
            raise KeyError(m.key)
        return found.families[0]

    def _find(self, m: Measurement) -> _Paired | None:
        name, kind, over = _named(m)
        if kind == "value" or self._groups.get(frozenset(over), 2) > 2:
            return None
        changes = self._families.of(name, kind, over, m.slice, m.params)
        if len(changes) != 1 or len(changes[0].left) != 1:
            return None
        (change,) = changes
        if change.kind == "value":  # measured as a gap alone, whose change is told with its sign
            then, now = float(change.base.value[0]), float(change.estimates.value[0])
            return _Paired(kind, (replace(change, direction="lower"),), (then, now))
        return _Paired(kind, changes, _worst(changes, kind))


def _value_of(changes: Sequence[Change], m: Measurement) -> _Paired | None:
    """The one comparison that is the value ``m``, where it is tested on pairs."""
    places = [
        (change, index)
        for change in changes
        for index, group in enumerate(change.slices)
        if dict(group) == dict(m.slice) and change.on_pairs()[index]
    ]
    if len(places) != 1:
        return None
    change, index = places[0]
    values = float(change.base.value[index]), float(change.estimates.value[index])
    return _Paired("value", (change,), values, index)


def _worst_of(changes: Sequence[Change], kind: Literal["difference", "ratio"]) -> _Paired | None:
    """The families whose worst pair of groups is a gap, where they are tested on pairs."""
    if not changes or not all(len(change.left) and change.on_pairs().any() for change in changes):
        return None
    return _Paired(kind, tuple(changes), _worst(changes, kind))


def _worst(changes: Sequence[Change], kind: Literal["difference", "ratio"]) -> tuple[float, float]:
    """The worst gap of all comparisons, then and now."""
    worst = max if kind == "difference" else min

    def value(sides: Sequence[tuple[Change, Rates | Measured]]) -> float:
        return float(worst(worst(disparities(part.value, c.left, c.right, kind)) for c, part in sides))

    return value([(c, c.base) for c in changes]), value([(c, c.estimates) for c in changes])


def _named(m: Measurement) -> tuple[str, Compare, tuple[str, ...]]:
    """The metric, what of it is compared, and over which columns."""
    metric, kind = metric_and_kind(m.name)
    if m.over and kind is not None:
        return metric, kind, m.over
    return m.name, "value", m.over or tuple(m.slice)
