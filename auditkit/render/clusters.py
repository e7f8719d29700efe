"""That a group has few clusters (patients, sites) is told by no shared copy: what would tell how many is withheld.

Limits of clustered rows rest on Student's quantiles with the clusters less one as degrees of freedom. Limits of one
number at two levels stand in the ratio of two quantiles, which gives those; so each number of a group is shown at one
level alone, that of the audit. Near limits of gaps mix levels, limits of a share of 0 or 1 are a function of the
clusters alone, and second moments of counts over clusters give their number themselves. Where all groups of some
columns have ``min_cell`` clusters or more the number is no secret, and their limits stay.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

from auditkit.core.evidence import Evidence, Interval, Measurement, Outcome
from auditkit.core.verdict import SIZED, Comparison, RuleResult, Side
from auditkit.render.result_words import SAYS, count_states

WITHHELD = "what would tell how many clusters a group has is withheld"
NO_INTERVAL = "its interval is withheld in shared copies: it would tell how many clusters a group has"
_WHOLE = "all rows"
_GAPS = ("difference", "ratio")
# Limits that are joined from limits at more than one level.
_SEVERAL_LEVELS = ("bonferroni", "simultaneous", "largest")


def shared_freedom(measurement: Measurement, min_cell: int) -> Interval | None:
    """The interval of a measurement with its degrees of freedom told no further than a shared copy may.

    They tell a number of clusters: of all rows that is told anyhow, of a group a small number of it
    could be found by subtraction. So they are those of ``min_cell`` clusters where there are so many or more, else
    1: limits at a stricter level, which rest on them, are then too wide, never too narrow. Rows less one stay where
    the rows do.

    >>> held = Interval(low=0.0, high=1.0, method="cluster-student-t", degrees_of_freedom=24.0)
    >>> found = Measurement(name="a.b", value=0.5, n=300, interval=held, slice={"sex": "F"})
    >>> shared_freedom(found, 10).degrees_of_freedom, shared_freedom(found, 30).degrees_of_freedom
    (9.0, 1.0)
    """
    interval = measurement.interval
    if interval is None or interval.degrees_of_freedom is None or not measurement.rests_on_clusters:
        return interval
    least = max(min_cell - 1.0, 1.0)
    return dataclasses.replace(interval, degrees_of_freedom=least if interval.degrees_of_freedom >= least else 1.0)


def without_clusters(evidence: Evidence, min_cell: int) -> tuple[Outcome, ...]:
    """The outcomes without the intervals that would, with the others, tell a number of clusters under ``min_cell``.

    Where one group of some columns has so few, all groups of these columns go: theirs would give it by subtraction.
    """
    if evidence.subject.test.n_clusters is None:
        return evidence.outcomes
    level, open_ = _level_of(evidence.measurements()), open_sets(evidence, min_cell)
    return tuple(
        dataclasses.replace(
            outcome, measurements=tuple(m if set_of(m) in open_ else _without(m, level) for m in outcome.measurements)
        )
        for outcome in evidence.outcomes
    )


Groups = tuple[str, frozenset[str]]


def set_of(m: Measurement) -> Groups:
    """The quantity and the columns whose groups it is compared between: a value, its difference and its ratio alike."""
    return _quantity(m.name), frozenset({*m.slice, *m.over})


def _quantity(name: str) -> str:
    base, _, ending = name.rpartition(".")
    return base if ending in _GAPS else name


def open_sets(evidence: Evidence, min_cell: int) -> frozenset[Groups]:
    """The quantities and columns of which each group has ``min_cell`` clusters or more: nothing of them is withheld.

    A group whose number of clusters is not known counts as small.
    """
    enough: dict[Groups, bool] = {}
    for m in evidence.measurements():
        if m.slice or m.over:
            own = set_of(m)
            enough[own] = enough.get(own, True) and _has_enough(m, min_cell)
    return frozenset(own for own, is_enough in enough.items() if is_enough)


def _has_enough(m: Measurement, min_cell: int) -> bool:
    if m.interval is None:
        return False
    counted = m.interval.degrees_of_freedom
    return counted is not None and counted + 1.0 >= min_cell


def _without(m: Measurement, level: float | None) -> Measurement:
    if not m.rests_on_clusters or m.interval is None or _is_at_one_level(m, m.interval, level):
        return m
    return dataclasses.replace(m, interval=None, reason=NO_INTERVAL)


def _is_at_one_level(m: Measurement, held: Interval, level: float | None) -> bool:
    """Whether its limits rest on quantiles at the ``level`` of the audit alone, and on a variance that was seen."""
    if held.level != level or any(word in held.method for word in _SEVERAL_LEVELS):
        return False
    if not m.over:
        return m.bounds != (0.0, 1.0) or m.value not in m.bounds
    return _reaches_no_gap(held, m.name.rpartition(".")[2])


def _reaches_no_gap(held: Interval, kind: str) -> bool:
    """Whether the near limit of a gap is that there is none: the far one alone then tells something, at one level."""
    return held.low == 0.0 if kind == "difference" else kind == "ratio" and held.high == 1.0


def _level_of(measurements: Iterable[Measurement]) -> float | None:
    """The level at which most numbers of groups of clustered rows are given; ``None`` where there are none."""
    levels = Counter(m.interval.level for m in measurements if m.slice and m.rests_on_clusters and m.interval)
    return max(levels, key=lambda level: (levels[level], level)) if levels else None


@dataclasses.dataclass(frozen=True, slots=True)
class Clustered:
    """What of the results of rules may be shared where all rows are clustered.

    Attributes:
        level: The level at which limits of groups are shown.
        open_sets: Quantities and columns of which nothing is withheld, see :func:`open_sets`.
    """

    level: float | None = None
    open_sets: frozenset[Groups] = frozenset()

    def shown(self, result: RuleResult) -> RuleResult:
        """``result`` without what would tell a number of clusters."""
        comparisons = tuple(self._comparison(each, result) for each in result.comparisons)
        if comparisons == result.comparisons:
            return result
        return dataclasses.replace(result, comparisons=comparisons, message=f"{count_states(result)}; {WITHHELD}")

    def _comparison(self, comparison: Comparison, result: RuleResult) -> Comparison:
        if _is_of_all_rows(comparison) or (_quantity(result.metric), _columns(comparison.label)) in self.open_sets:
            return comparison
        held, kind = comparison.interval, _kind(result)
        if held is None or (held.level == self.level and (kind == "value" or _reaches_no_gap(held, kind))):
            # The rows needed rest on stricter limits, which many comparisons ask for.
            message = comparison.message.partition(SIZED)[0]
            return dataclasses.replace(comparison, n_needed=None, message=message)
        sides = tuple(_side(side, self.level) for side in comparison.sides)
        message = f"{SAYS[comparison.state]}; {NO_INTERVAL}"
        return dataclasses.replace(comparison, interval=None, n_needed=None, sides=sides, message=message)


def clustered_in(shared: Evidence, min_cell: int) -> Clustered | None:
    """What of results of rules may be shared beside a shared copy; ``None`` where rows are not clustered."""
    if shared.subject.test.n_clusters is None:
        return None
    return Clustered(_level_of(shared.measurements()), open_sets(shared, min_cell))


def _columns(label: str) -> frozenset[str]:
    """The columns that ``sex x age where origin=B: F x young vs M x old`` compares groups of.

    Of another wording come names of no column, and what is compared is then not known to have enough clusters.
    """
    over, _, where = label.partition(": ")[0].partition(" (")[0].partition(" [")[0].partition(" where ")
    return frozenset({*over.split(" x "), *(part.partition("=")[0] for part in where.split(", ") if where)})


def _kind(result: RuleResult) -> str:
    ending = result.metric.rpartition(".")[2]
    return ending if result.compare == "value" and ending in _GAPS else result.compare


def _is_of_all_rows(comparison: Comparison) -> bool:
    """Whether no group takes part: what is compared is then called by its params alone, if by anything."""
    label = comparison.label.strip()
    return (label == _WHOLE or label.startswith(("(", "["))) and all(side.group == _WHOLE for side in comparison.sides)


def _side(side: Side, level: float | None) -> Side:
    kept = side.interval is not None and side.interval.level == level
    return side if kept else dataclasses.replace(side, interval=None)
