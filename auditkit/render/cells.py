"""Which counts of one set of rows must be withheld together, over all columns, labels and decisions at once.

A small cell can be worked out from tables of other columns as well as from its own: the rows of B are those of the
women and men of B, and the rows of a label those of its decisions. So every count of the same rows (a group's size,
its rows by label, by decision and by both, for one column and for crossed columns) stands in one network of sums,
and the choice of what goes with a small cell is made once for all that is shown.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from auditkit.core.evidence import Counts, Evidence, Measurement
from auditkit.render.clusters import closed_columns
from auditkit.render.few_scores import tell_cells
from auditkit.render.groups import Group, counted_group, group_of
from auditkit.render.numerators import FEATURE, SIZES, is_margin
from auditkit.render.rounded_cells import (
    NO_CELLS,
    Cells,
    RoundedCells,
    Sides,
    of_cells,
    of_cells_between,
    parts_of,
    round_cells,
)
from auditkit.render.suppression import hidden_cells

#: A group (its columns sorted), a label and a decision; ``None`` stands for all labels or all decisions.
Cell = tuple[Group, int | None, int | None]


# A mean over labels of how far apart the decisions of two groups are: every cell has a part in it.
_DISTANCE = ".error_distance"


@dataclass(frozen=True, slots=True)
class SmallCells:
    """What the joint choice withholds.

    Attributes:
        cells: For each kind of rows (see :func:`rows_of`), the cells to withhold.
        groups: Each group of the audited rows whose rates would tell a withheld count, with the numbers of rows that
            its rates have: a number on a sample of other rows is not concerned.
        rows: Those of these numbers that are withheld themselves: what is about a feature tells them alone.
        counts: Every withheld count of each group, its cells included: what a table may not tell.
        sizes: Groups of the audited rows whose size is withheld.
        whole: How many of all audited rows have a label, or a decision, that is withheld because it is rare.
        rounded: The rounded cells of groups with a withheld one whose rows by label and by decision are shown.
        closed: Columns of which a group has few clusters, see :mod:`~auditkit.render.clusters`.
        labelled: Columns with a withheld cell of a label and a decision -> the rows of the rarest label in a group.
    """

    cells: Mapping[object, frozenset[Cell]] = field(default_factory=dict)
    groups: Mapping[Group, frozenset[int]] = field(default_factory=dict)
    rows: Mapping[Group, frozenset[int]] = field(default_factory=dict)
    counts: Mapping[Group, frozenset[int]] = field(default_factory=dict)
    sizes: frozenset[Group] = frozenset()
    whole: frozenset[int] = frozenset()
    rounded: RoundedCells = NO_CELLS
    labelled: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    closed: frozenset[frozenset[str]] = frozenset()

    def hidden_in(self, counts: Counts) -> frozenset[int]:
        """Positions in the flattened cells of ``counts`` to withhold."""
        hidden = self.cells.get(rows_of(counts), frozenset())
        k = len(counts.classes)
        places = itertools.product(range(len(counts.groups)), range(k), range(k))
        return frozenset(index for index, (g, y, p) in enumerate(places) if (counted_group(counts, g), y, p) in hidden)

    def tells(self, measurement: Measurement) -> bool:
        """Whether a number, with its rows, would tell a withheld count."""
        if measurement.over or measurement.n_of != "rows":
            return False
        if not measurement.slice:
            return self._tells_of_all(measurement)
        group = group_of(measurement)
        if measurement.name in SIZES:
            return group in self.sizes
        if group in self.rounded.true:
            return of_cells(measurement.name)
        rows = self.rows if FEATURE in measurement.params else self.groups
        return measurement.n in rows.get(group, frozenset())

    def spares(self, measurement: Measurement) -> bool:
        """Whether it rests on sums of cells alone, of a group of which the sums are shown."""
        sums = is_margin(measurement.name) and not measurement.over and FEATURE not in measurement.params
        return sums and group_of(measurement) in self.rounded.true

    def of_cells(self, measurement: Measurement) -> bool:
        """Whether it is a rate of the withheld cells of a group of which the sums are shown."""
        return of_cells(measurement.name) and group_of(measurement) in self.rounded.true

    def gap_rows(self, measurement: Measurement) -> int | None:
        """The rows that a disparity must be rounded to, as it rests on withheld cells; ``None`` where it rests on none.

        Of no rows, and so withheld, is a gap of rates of withheld cells that stands apart from them.
        """
        columns = tuple(sorted(measurement.over))
        if measurement.name.endswith(_DISTANCE):
            return self.labelled.get(columns)
        told = set(map(_columns, self.rounded.true))
        return 0 if of_cells_between(measurement.name) and columns in told else None

    def sides_of(self, gap: Measurement, measured: Sequence[Measurement]) -> list[Sides] | None:
        """The rates that ``gap`` is between, exact and as shown, where some are of such groups; else ``None``."""
        columns, names = set(gap.over), parts_of(gap)
        parts = [[m for m in measured if m.name == name and m.slice.keys() == columns and m.params == gap.params]
                 for name in names]  # fmt: skip
        if not any(self.of_cells(m) for members in parts for m in members):
            return None
        return [
            ([m.value for m in members], [self.rounded.value(m) if self.of_cells(m) else m.value for m in members])
            for members in parts
        ]

    def _tells_of_all(self, measurement: Measurement) -> bool:
        """A rate over all rows tells how many have a rare label: as its rows, or as the count behind it."""
        rows, value = measurement.n or 0, measurement.value
        if not self.whole or rows in self.whole or value is None:
            return rows in self.whole
        hits = round(value * rows)
        return is_margin(measurement.name) and not self.whole.isdisjoint({hits, rows - hits})


def rows_of(counts: Counts) -> object:
    """What tells whether two tables count the same rows: their classes, and the cells over all groups."""
    return counts.classes, cells_of_all(counts)


def cells_of_all(counts: Counts) -> tuple[int, ...]:
    """The flattened cells over all groups, label by label."""
    span = range(len(counts.classes))
    return tuple(sum(block[y][p] for block in counts.n) for y in span for p in span)


def small_cells(evidence: Evidence, min_cell: int) -> SmallCells:
    """The joint choice for every set of rows that ``evidence`` counts by group.

    Args:
        evidence: The complete record.
        min_cell: Smallest count that may be shown; zero is shown.
    """
    kinds: dict[object, list[Counts]] = defaultdict(list)
    for counts in evidence.counts():
        kinds[rows_of(counts)].append(counts)
    audited = _audited(kinds, evidence.subject.test.n_rows)
    sizes = _sizes(evidence)
    if sizes:
        kinds.setdefault(audited, [])
    found: dict[object, frozenset[Cell]] = {}
    groups: dict[Group, frozenset[int]] = {}
    rows: dict[Group, frozenset[int]] = {}
    counts_of: dict[Group, set[int]] = defaultdict(set)
    rounded = NO_CELLS
    labelled: dict[tuple[str, ...], int] = {}
    for kind, tables in kinds.items():
        nodes = _nodes(tables)
        if kind == audited:
            nodes |= {(group, None, None): size for group, size in sizes.items() if (group, None, None) not in nodes}
        k = len(tables[0].classes) if tables else 0
        small = any(0 < value < min_cell for value in nodes.values())
        sums = _sums(nodes) if small else []
        hidden = found[kind] = _hidden(nodes, sums, k, min_cell) if small else frozenset()
        if kind == audited:  # with two classes every cell is behind a rate; with more, sums and right decisions are
            groups = _rows(nodes, {group for group, y, p in hidden if k <= 2 or y is None or p is None or y == p})
            if tables and k == 2 and tables[0].positive is not None:
                rounded = _rounded(nodes, sums, hidden, tables[0], min_cell)
            rows = _rows({cell: nodes[cell] for cell in hidden}, groups)
            labelled = _labelled(nodes, hidden)
            for cell in hidden:
                counts_of[cell[0]].add(nodes[cell])
    if tell_cells(evidence, rounded.true):
        rounded = NO_CELLS
    sizes_hidden = frozenset(group for group, y, p in found.get(audited, frozenset()) if y is None and p is None)
    return SmallCells(
        cells=found,
        groups=groups,
        rows=rows,
        counts={g: frozenset(n) for g, n in counts_of.items()},
        sizes=sizes_hidden,
        whole=_rare(kinds.get(audited), min_cell),
        rounded=rounded,
        labelled=labelled,
        closed=closed_columns(evidence, min_cell),
    )


def _rounded(
    nodes: Mapping[Cell, int], sums: Sequence[Sequence[Group]], hidden: frozenset[Cell], table: Counts, min_cell: int
) -> RoundedCells:
    """The rounded cells of the groups with a withheld cell of which all sums are shown."""
    positive = table.positive or 0
    negative = 1 - positive
    order = ((negative, negative), (negative, positive), (positive, negative), (positive, positive))
    closed = {group for group, y, p in hidden if y is None or p is None}
    touched = {group for group, _, _ in hidden}
    true: dict[Group, Cells] = {}
    others: dict[Group, tuple[int, int]] = {}
    for group in {group for group, _, _ in nodes}:
        counted = [nodes.get((group, y, p)) for y, p in order]
        if group in touched - closed and None not in counted:
            tn, fp, fn, tp = (count or 0 for count in counted)
            true[group] = (tn, fp, fn, tp)
        else:
            fn = nodes.get((group, *order[2]), 0)
            others[group] = (0, nodes.get((group, None, None), 0)) if group in touched else (fn, fn)
    missed = cells_of_all(table)[positive * 2 + negative]
    return round_cells(true, others, sums, missed, min_cell)


def _sums(nodes: Iterable[Cell]) -> list[list[Group]]:
    """Each group that others add up to with those, in order; ``()`` stands for all rows."""
    by_columns: dict[tuple[str, ...], list[Group]] = defaultdict(list)
    for group, y, p in nodes:
        if y is None and p is None:
            by_columns[_columns(group)].append(group)
    found = []
    for columns, groups in by_columns.items():
        for kept in [(), *(known for known in by_columns if set(known) < set(columns))]:
            parts: dict[Group, list[Group]] = defaultdict(list)
            for group in groups:
                parts[tuple(pair for pair in group if pair[0] in kept)].append(group)
            found += [[whole, *members] for whole, members in parts.items()]
    return found


def _rare(tables: Sequence[Counts] | None, min_cell: int) -> frozenset[int]:
    """The numbers of rows with a rare label or decision, and those that would tell them."""
    if not tables:
        return frozenset()
    classes, cells = tables[0].classes, cells_of_all(tables[0])
    k = len(classes)
    labels = [sum(cells[y * k : (y + 1) * k]) for y in range(k)]
    decisions = [sum(cells[p::k]) for p in range(k)]
    hidden = {counts[index] for counts in (labels, decisions) for index in hidden_cells(counts, [range(k)], min_cell)}
    return frozenset(hidden - {0})


def _audited(kinds: Mapping[object, Sequence[Counts]], rows: int) -> object:
    """The kind that counts every audited row, the one with the most groups where there are several."""
    full = [kind for kind, tables in kinds.items() if sum(sum(map(sum, block)) for block in tables[0].n) == rows]
    return max(full, key=lambda kind: sum(len(counts.groups) for counts in kinds[kind]), default=None)


def _sizes(evidence: Evidence) -> dict[Group, int]:
    """The size of every group of the audited rows that the evidence tells."""
    found: dict[Group, int] = {}
    for column, groups in evidence.subject.test.sensitive.items():
        found |= {((column, name),): size for name, size in groups.items()}
    for m in evidence.measurements():
        if m.name == "data.group_count" and m.slice and m.value is not None:
            found[group_of(m)] = round(m.value)
    return found


def _nodes(tables: Iterable[Counts]) -> dict[Cell, int]:
    """Every cell and every sum over labels, decisions or both, of each group."""
    found: dict[Cell, int] = {}
    for counts in tables:
        if not counts.over:  # numbers over all rows are about no group
            continue
        span = range(len(counts.classes))
        for index, block in enumerate(counts.n):
            group = counted_group(counts, index)
            found |= {(group, y, p): block[y][p] for y in span for p in span}
            found |= {(group, y, None): sum(block[y]) for y in span}
            found |= {(group, None, p): sum(row[p] for row in block) for p in span}
            found[group, None, None] = sum(map(sum, block))
    return found


def _hidden(nodes: Mapping[Cell, int], sums: Sequence[Sequence[Group]], k: int, min_cell: int) -> frozenset[Cell]:
    names = list(nodes)
    place = {name: index for index, name in enumerate(names)}
    lines = [[place[name] for name in line if name in place] for line in _lines(nodes, sums, k)]
    owners = [group for group, _, _ in names]
    ranks = [-len(group) for group in owners]  # of crossed columns before those of one, which people look at first
    return frozenset(names[index] for index in hidden_cells(list(nodes.values()), lines, min_cell, owners, ranks))


def _lines(nodes: Mapping[Cell, int], sums: Sequence[Sequence[Group]], k: int) -> Iterator[list[Cell]]:
    """Cells bound by a sum: a whole with its parts, or the parts alone where their whole is over all rows."""
    span: list[int | None] = [*range(k)]
    for group in [group for group, y, p in nodes if y is None and p is None] if k else ():
        for y in span:
            yield [(group, y, None), *((group, y, p) for p in span)]
            yield [(group, None, y), *((group, p, y) for p in span)]
        yield [(group, None, None), *((group, y, None) for y in span)]
        yield [(group, None, None), *((group, None, p) for p in span)]
    for whole, *members in sums:
        for y, p in itertools.product([*span, None], repeat=2):
            yield [*([(whole, y, p)] if whole else []), *((group, y, p) for group in members)]


def _labelled(nodes: Mapping[Cell, int], hidden: Iterable[Cell]) -> dict[tuple[str, ...], int]:
    """The rows of the rarest label in a group, of all columns with a hidden cell of a label and a decision."""
    columns = {_columns(group) for group, y, p in hidden if y is not None and p is not None}
    least: dict[tuple[str, ...], int] = {}
    for (group, y, p), rows in nodes.items():
        over = _columns(group)
        if over in columns and y is not None and p is None and rows:
            least[over] = min(least.get(over, rows), rows)
    return least


def _columns(group: Group) -> tuple[str, ...]:
    return tuple(column for column, _ in group)


def _rows(nodes: Mapping[Cell, int], groups: Iterable[Group]) -> dict[Group, frozenset[int]]:
    """The numbers of rows that rates of ``groups`` can have: their sizes, and their rows by label or decision; of each
    class also those by label or decision, with and without the right ones."""
    rows: dict[Group, set[int]] = {group: set() for group in groups}
    for (group, y, p), value in nodes.items():
        if group in rows and (y is None or p is None):
            rows[group].add(value)
    for (group, y, p), right in nodes.items():
        sides = nodes.get((group, y, None)), nodes.get((group, None, y))
        if group in rows and y is not None and y == p and None not in sides:
            both = sum(side or 0 for side in sides)
            rows[group] |= {both - right, both - 2 * right}
    return {group: frozenset(found) for group, found in rows.items()}
