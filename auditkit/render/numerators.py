"""Shares of a group that, times its rows, would give a small count: rounded, with what would tell them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from auditkit.core.evidence import Measurement
from auditkit.render.groups import group_of
from auditkit.render.suppression import hidden_cells

# How large a group is, over all rows: hidden with a small group itself, and no share of that group's rows.
SIZES = frozenset({"data.group_count", "data.group_share"})
# The parameter that says which column a number is about: cells of different columns do not add up to each other.
FEATURE = "feature"
# What rests on the rows of a group by label or by decision, and on no cell of both: of a group, and over groups.
_MARGINS = frozenset(
    {"base_rate", "selection_rate", "rejection_rate", "positive_decision_share", "demographic_disparity"}
)
_OF_MARGINS = frozenset({"differential_fairness", "smoothed_differential_fairness", "decision_effect_size"})


def is_margin(name: str) -> bool:
    """Whether a rate counts the rows of a label, or of a decision, and no cell of both."""
    return name.rsplit(".", 1)[-1] in _MARGINS


def small_numerators(measurements: Sequence[Measurement], hidden: AbstractSet[int], min_cell: int) -> frozenset[int]:
    """Positions of shares of groups that must be rounded.

    A share of a group's rows with an exact count behind it is flagged when that count, or the rest of the group, is
    from 1 to ``min_cell - 1``. Shares of the same group (and of the same feature, where they are about one) go with it,
    because they are sums of the same cells, and so does, for each quantity and column, the smallest other group,
    because the rest would follow from the share of all rows. Numbers over all rows are not about a group and stay.

    Args:
        measurements: Those of one analyzer.
        hidden: Positions that are withheld altogether.
        min_cell: Smallest count that may be shown.
    """
    shares = {index: count for index, m in enumerate(measurements)
              if index not in hidden and (count := numerator(m)) is not None}  # fmt: skip
    found = {index for index, count in shares.items() if _small(count, measurements[index].n or 0, min_cell)}
    if not found:
        return frozenset()
    groups: dict[object, list[int]] = defaultdict(list)
    families: dict[object, list[int]] = defaultdict(list)
    for index in shares:
        m = measurements[index]
        groups[group_of(m), m.params.get(FEATURE)].append(index)
        families[m.name, tuple(sorted(m.params.items(), key=str)), tuple(sorted(m.slice))].append(index)
    while True:
        before = len(found)
        for members in groups.values():
            if not found.isdisjoint(members):
                found.update(members)
        for members in families.values():
            found |= _companions(measurements, members, found, min_cell)
        if len(found) == before:
            return frozenset(found)


def numerator(m: Measurement) -> int | None:
    """The count behind a share of a group's rows; ``None`` for what is no share of rows, or not of a group.

    >>> numerator(Measurement(name="a.b", value=0.05, n=40, slice={"sex": "F"}, bounds=(0.0, 1.0)))
    2
    """
    if m.value is None or not m.n or not m.slice or m.over or m.n_of != "rows" or m.bounds != (0.0, 1.0):
        return None
    if m.name in SIZES:
        return None
    count = m.value * m.n
    return round(count) if abs(count - round(count)) < 1e-6 else None


def _small(count: int, rows: int, min_cell: int) -> bool:
    return 0 < count < min_cell or 0 < rows - count < min_cell


def _companions(
    measurements: Sequence[Measurement], members: Sequence[int], found: AbstractSet[int], min_cell: int
) -> set[int]:
    """Members that must be rounded with those already found, along any of their columns."""
    if len(members) < 2 or found.isdisjoint(members):
        return set()
    sizes = [min_cell - 1 if index in found else max(measurements[index].n or 0, min_cell) for index in members]
    return {members[position] for position in hidden_cells(sizes, lines_of(measurements, members), min_cell)}


def lines_of(measurements: Sequence[Measurement], members: Sequence[int]) -> list[list[int]]:
    """Positions in ``members`` whose counts add up to a published one: all of them, and those alike in each column."""
    columns = sorted(measurements[members[0]].slice)
    lines: list[list[int]] = [list(range(len(members)))]
    for column in columns if len(columns) > 1 else ():
        by_group: dict[str, list[int]] = defaultdict(list)
        for position, index in enumerate(members):
            by_group[measurements[index].slice[column]].append(position)
        lines += by_group.values()
    return lines


def rounded_gaps(measurements: Sequence[Measurement], rounded: Iterable[int]) -> dict[int, int]:
    """Disparities over the columns of rounded shares, with the rows of the smallest: with the other group's share they
    would give the rounded one to all its digits. A disparity of one feature follows from shares of that feature."""
    least: dict[tuple[object, ...], int] = {}
    for index in rounded:
        m = measurements[index]
        for name in {m.name, *(["sums"] if is_margin(m.name) else []), "any"}:
            key = (tuple(sorted(m.slice)), m.params.get(FEATURE), name)
            least[key] = min(least.get(key, 1 << 62), m.n or 0)
    named = {m.name for m in measurements if m.slice}
    keys = {index: (tuple(sorted(m.over)), m.params.get(FEATURE), _rests_on(m.name, named))
            for index, m in enumerate(measurements) if m.over and m.value is not None}  # fmt: skip
    return {index: least[key] for index, key in keys.items() if key in least}


def _rests_on(name: str, named: AbstractSet[str]) -> str:
    """Which rates of the groups a disparity follows from: those of one name, those that are sums, or any."""
    base, _, last = name.rpartition(".")
    if base in named:
        return base
    return "sums" if last in _OF_MARGINS else "any"
