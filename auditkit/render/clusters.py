"""That a group has few clusters (patients, sites) is told by no shared copy: what would tell how many is withheld.

Limits of clustered rows rest on the number of clusters: by Student's quantiles, by effective rows, by second moments.
Two limits, or one beside the value of its variance, are equations that an attacker solves for it. So where a group of
some columns has fewer than ``min_cell`` clusters behind a number, no limits of any number of the groups of these
columns are shared, nor the moments; of other groups they would give it by subtraction. Where all groups have clusters
enough the number is no secret, and all of it stays.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Sequence

from auditkit.core.evidence import Counts, Evidence, Measurement, Outcome
from auditkit.core.verdict import Comparison, RuleResult
from auditkit.render.numerators import SIZES
from auditkit.render.result_words import SAYS, count_states

WITHHELD = "what would tell how many clusters a group has is withheld"
NO_INTERVAL = "its interval is withheld in shared copies: it would tell how many clusters a group has"
_WHOLE = "all rows"

Columns = frozenset[str]


def open_columns(evidence: Evidence, min_cell: int) -> frozenset[Columns]:
    """Columns, alone or crossed, of which every group has ``min_cell`` clusters or more behind every number.

    The numbers that say how many are those with degrees of freedom. A group without any, beside others that have some,
    counts as small, and so do all groups of columns of which no number says it.
    """
    found: dict[Columns, dict[str, list[Measurement]]] = defaultdict(lambda: defaultdict(list))
    for m in evidence.measurements():
        if m.name not in SIZES and (columns := columns_of(m)):  # the size of a group rests on all clusters
            found[columns][m.name].append(m)
    enough = {columns for columns, named in found.items() if _have_enough(named.values(), min_cell)}
    # Groups of a crossing have no more clusters than those of its columns.
    return frozenset(columns for columns in enough if all(part in enough for part in found if part < columns))


def columns_of(m: Measurement) -> Columns:
    """The columns whose groups a number is about; none where it is about all rows, or about no rows."""
    return m.columns if m.n_of == "rows" else frozenset()


def _have_enough(quantities: Iterable[Sequence[Measurement]], min_cell: int) -> bool:
    counted = [members for members in quantities if any(_clusters(m) for m in members)]
    return bool(counted) and all(
        _clusters(m) >= min_cell for members in counted for m in members if m.value is not None
    )


def _clusters(m: Measurement) -> float:
    """How many clusters the degrees of freedom of a number speak of; 0 where there are none."""
    counted = None if m.interval is None else m.interval.degrees_of_freedom
    return 0.0 if counted is None else counted + 1.0


def closed_columns(evidence: Evidence, min_cell: int) -> frozenset[Columns]:
    """All columns, alone or crossed, that are not open; none where rows are not clustered."""
    if evidence.subject.test.n_clusters is None:
        return frozenset()
    every = {columns_of(m) for m in evidence.measurements()}
    every |= {frozenset(counts.over) for counts in evidence.counts()}
    return frozenset(every - open_columns(evidence, min_cell) - {frozenset()})


def tells_few_clusters(counts: Counts, min_cell: int) -> bool:
    """Whether the second moments of a cell say that it has fewer than ``min_cell`` clusters (by Kish's number)."""
    if counts.moment is None or not counts.over:
        return False
    cells = counts.n if counts.weight is None else counts.weight
    for block, moment in zip(cells, counts.moment, strict=True):
        values = [value for row in block for value in row]
        if any(0 < value**2 < min_cell * moment[i][i] for i, value in enumerate(values)):
            return True
    return False


def without_clusters(evidence: Evidence, closed: frozenset[Columns]) -> tuple[Outcome, ...]:
    """The outcomes without the limits of groups of closed columns."""
    if not closed:
        return evidence.outcomes
    return tuple(
        dataclasses.replace(
            outcome, measurements=tuple(_without(m) if columns_of(m) in closed else m for m in outcome.measurements)
        )
        for outcome in evidence.outcomes
    )


def _without(m: Measurement) -> Measurement:
    # Why there are no limits tells how few clusters there are: all read alike, but for what is exact by nature.
    if m.value is None or (m.reason or "").lower().startswith("exact"):
        return m
    return dataclasses.replace(m, interval=None, reason=NO_INTERVAL)


@dataclasses.dataclass(frozen=True, slots=True)
class Clustered:
    """What of the results of rules may be shared where rows are clustered: nothing but values of closed columns."""

    open_columns: frozenset[Columns]

    def shown(self, result: RuleResult) -> RuleResult:
        """``result`` without what would tell a number of clusters."""
        comparisons = tuple(map(self._comparison, result.comparisons))
        if comparisons == result.comparisons:
            return result
        return dataclasses.replace(result, comparisons=comparisons, message=f"{count_states(result)}; {WITHHELD}")

    def _comparison(self, comparison: Comparison) -> Comparison:
        if is_of_all_rows(comparison) or frozenset(comparison.columns) in self.open_columns:
            return comparison
        sides = tuple(dataclasses.replace(side, interval=None) for side in comparison.sides)
        message = f"{SAYS[comparison.state]}; {NO_INTERVAL}"
        return dataclasses.replace(comparison, interval=None, n_needed=None, sides=sides, message=message)


def clustered_in(shared: Evidence, min_cell: int) -> Clustered | None:
    """What of results of rules may be shared beside a shared copy; ``None`` where rows are not clustered."""
    return None if shared.subject.test.n_clusters is None else Clustered(open_columns(shared, min_cell))


def is_of_all_rows(comparison: Comparison) -> bool:
    """Whether no group takes part in a comparison."""
    return not comparison.columns and all(side.group == _WHOLE for side in comparison.sides)
