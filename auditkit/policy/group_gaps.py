"""A gap over all groups at any level, from the numbers of the groups themselves.

The interval of a gap alone does not tell how it grows with the level: that of two values of R2, or of two correlations,
grows faster than the quantiles do. The groups' own intervals tell it, where they give the gap's interval.
"""

from __future__ import annotations

from auditkit.core.evidence import Evidence, Interval, Measurement
from auditkit.methods.fairness.gaps import Kind
from auditkit.methods.fairness.worst import Gap, simultaneous_gap
from auditkit.policy.measured import Measured
from auditkit.stats.rebuilt import ROUNDED, same_interval

EXACT = 1e-8
_ENDINGS: dict[str, Kind] = {".difference": "difference", ".ratio": "ratio"}


class GroupGaps:
    """The gaps of one audit that the numbers of their groups give."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._groups: dict[str, Measured | None] = {}
        self._found: dict[tuple[str, float], Interval | None] = {}

    def interval(self, m: Measurement, level: float) -> Interval | None:
        """The interval of the gap ``m`` at two-sided ``level``; ``None`` where the groups do not tell it."""
        if m.key not in self._groups:
            self._groups[m.key] = self._behind(m)
        groups, asked = self._groups[m.key], (m.key, level)
        if asked not in self._found:
            self._found[asked] = None if groups is None else _gap(groups, m, level).interval
        return self._found[asked]

    def _behind(self, m: Measurement) -> Measured | None:
        """The groups of ``m`` whose numbers give its interval as it was measured."""
        if m.interval is None or m.value is None:
            return None
        columns, where = {*m.over, *m.slice}, m.slice.items()
        groups = Measured(
            measurements=tuple(
                each
                for each in self._evidence.by_name.get(m.name.removesuffix(_ending(m)), ())
                if set(each.slice) == columns and not each.over and each.params == m.params
                and where <= each.slice.items()
            )
        )  # fmt: skip
        if len(groups.measurements) < 2 or any(estimate is None for estimate in groups.known):
            return None
        again = _gap(groups, m, m.interval.level)
        close = again.value is not None and abs(again.value - m.value) <= ROUNDED * max(1.0, abs(m.value))
        tolerance = ROUNDED if self._evidence.redacted else EXACT
        return groups if close and again.interval and same_interval(again.interval, m.interval, tolerance) else None


def _ending(m: Measurement) -> str:
    return next((ending for ending in _ENDINGS if m.name.endswith(ending)), "")


def _gap(groups: Measured, m: Measurement, level: float) -> Gap:
    return simultaneous_gap(groups, _ENDINGS[_ending(m)], level, bounds=(0.0, m.bounds[1]))
