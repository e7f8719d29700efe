"""A gap over all groups at any level, from the numbers of the groups themselves.

The interval of a gap alone does not tell how it grows with the level: that of two values of R2, or of two correlations,
grows faster than the quantiles do. The groups' own intervals tell it, where they give the gap's interval.
"""

from __future__ import annotations

from auditkit.core.evidence import Evidence, Interval, Measurement
from auditkit.core.gap_names import metric_and_kind
from auditkit.methods.fairness.gaps import Kind
from auditkit.methods.fairness.worst import Gap, simultaneous_gap
from auditkit.policy.measured import Measured
from auditkit.stats.rebuilt import ROUNDED, same_interval


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
            kind = metric_and_kind(m.name)[1]
            self._found[asked] = None if groups is None or kind is None else _gap(groups, m, kind, level).interval
        return self._found[asked]

    def _behind(self, m: Measurement) -> Measured | None:
        """The groups of ``m`` whose numbers give its interval as it was measured."""
        metric, kind = metric_and_kind(m.name)
        if kind is None or m.interval is None or m.value is None:
            return None
        where = m.slice.items()
        groups = Measured(
            measurements=tuple(
                each
                for each in self._evidence.by_name.get(metric, ())
                if set(each.slice) == m.columns and not each.over and each.params == m.params
                and where <= each.slice.items()
            )
        )  # fmt: skip
        return groups if len(groups.measurements) > 1 and gives(groups, m, kind) else None


def gives(groups: Measured, gap: Measurement, kind: Kind) -> bool:
    """Whether the numbers of ``groups`` give the ``gap`` over them, with its interval as it was measured.

    To the digits that a shared copy keeps, so that it is judged as the complete evidence is.
    """
    if gap.value is None or gap.interval is None or any(estimate is None for estimate in groups.known):
        return False
    again = _gap(groups, gap, kind, gap.interval.level)
    close = again.value is not None and abs(again.value - gap.value) <= ROUNDED * max(1.0, abs(gap.value))
    return close and again.interval is not None and same_interval(again.interval, gap.interval)


def _gap(groups: Measured, m: Measurement, kind: Kind, level: float) -> Gap:
    return simultaneous_gap(groups, kind, level, bounds=(0.0, m.bounds[1]))
