"""Which numbers of a table must be withheld so that no small cell can be read or worked out.

Primary suppression hides cells from 1 to ``min_cell - 1``. A hidden cell can still be found by subtraction
where a sum is published, so along every such line of cells either nothing is hidden or at least two cells are, which
together hold ``min_cell`` or more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence


def hidden_cells(
    values: Sequence[int],
    lines: Iterable[Sequence[int]],
    min_cell: int,
    owners: Sequence[Hashable] = (),
    ranks: Sequence[int] = (),
) -> frozenset[int]:
    """Positions of ``values`` to withhold.

    Args:
        values: Cell counts, ``>= 0``.
        lines: Positions of cells whose sum is published, one sequence a sum.
        min_cell: Smallest count that may be shown; zero is shown.
        owners: What each cell is about; what has a hidden cell already is asked for another before others are.
        ranks: Which cells are asked for first, before all else: those of the lowest.

    Returns:
        The small cells and, along each line, the smallest other cells that must go with them. The choice
        depends on the values and positions alone.

    Source: Cox (1980), Suppression methodology and statistical disclosure control, JASA 75 (section 2).

    >>> sorted(hidden_cells([4, 380, 400], [(0, 1, 2)], 10))
    [0, 1]
    >>> sorted(hidden_cells([40, 380, 400], [(0, 1, 2)], 10))
    []
    """
    hidden = {index for index, value in enumerate(values) if 0 < value < min_cell}
    touched = {owners[index] for index in hidden} if owners else set()
    fixed = [tuple(line) for line in lines]
    through: dict[int, list[int]] = defaultdict(list)
    for number, line in enumerate(fixed):
        for index in line:
            through[index].append(number)
    waiting = dict.fromkeys(number for index in sorted(hidden) for number in through[index])
    while waiting:
        line = fixed[number := next(iter(waiting))]
        del waiting[number]
        while not _safe(line, hidden, values, min_cell):
            rest = [index for index in line if index not in hidden]
            if not rest:
                break
            # Smallest non-zero cell first: a hidden zero protects nothing while zeros are shown elsewhere.
            chosen = min(
                rest,
                key=lambda i: (
                    values[i] == 0,
                    ranks[i] if ranks else 0,
                    bool(owners) and owners[i] not in touched,
                    values[i],
                    i,
                ),
            )
            hidden.add(chosen)
            if owners:
                touched.add(owners[chosen])
            waiting |= dict.fromkeys(through[chosen])
    return frozenset(hidden)


def _safe(line: Sequence[int], hidden: set[int], values: Sequence[int], min_cell: int) -> bool:
    inside = [index for index in line if index in hidden]
    return not inside or (len(inside) > 1 and sum(values[index] for index in inside) >= min_cell)
