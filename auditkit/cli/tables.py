"""Tables on a terminal that lose nothing, however narrow it is.

What may not be broken (numbers, states) keeps its line, and the other columns share what is left. Where that is too
little for them, each row becomes a few lines with the names of its columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_GAP = 2
# A longer word may be broken.
_LONG = 24


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: Its header; empty for none.
        least: The narrowest that its text may be folded to; ``None`` where it is never broken.
        right: Whether it stands to the right.
    """

    name: str = ""
    least: int | None = None
    right: bool = False


Cells = Sequence["Text"]


def print_rows(console: Console, columns: Sequence[Column], rows: Sequence[Cells], *, indent: int = 0) -> None:
    """Print ``rows`` of one cell a column under the names of the ``columns``, where any has one."""
    from rich.padding import Padding

    if not rows:
        return
    widths = _widths(columns, rows, console.width - indent)
    if widths is None:
        _stacked(console, columns, rows, indent)
    else:
        console.print(Padding(_table(columns, rows, widths), (0, 0, 0, indent)))


def _widths(columns: Sequence[Column], rows: Sequence[Cells], room: int) -> list[int] | None:
    """A width for each column, ``room`` in all at most, or ``None`` where they cannot have as much as they need."""
    from rich.cells import cell_len

    full, floor = [], []
    for place, column in enumerate(columns):
        texts = [column.name, *(line for row in rows for line in row[place].plain.split("\n"))]
        full.append(max(map(cell_len, texts)))
        word = max(cell_len(word) for text in texts for word in text.split(" "))
        floor.append(full[-1] if column.least is None else min(full[-1], max(column.least, min(word, _LONG))))
    room -= _GAP * len(columns)
    if sum(floor) > room:
        return None
    widths = list(full)
    while sum(widths) > room:
        widest = max((place for place in range(len(widths)) if widths[place] > floor[place]), key=widths.__getitem__)
        widths[widest] -= 1
    return widths


def _table(columns: Sequence[Column], rows: Sequence[Cells], widths: Sequence[int]) -> Table:
    from rich.table import Table
    from rich.text import Text

    named = any(column.name for column in columns)
    table = Table(box=None, pad_edge=False, show_header=named, header_style="dim", padding=(0, _GAP, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if column.right else "left"
        table.add_column(Text(column.name, overflow="fold"), width=width, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _stacked(console: Console, columns: Sequence[Column], rows: Sequence[Cells], indent: int) -> None:
    from rich.padding import Padding
    from rich.text import Text

    for row in rows:
        lines = [
            Text.assemble((f"{column.name} ", "dim") if column.name and place else "", cell)
            for place, (column, cell) in enumerate(zip(columns, row, strict=True))
            if cell.plain.strip()
        ]
        for place, line in enumerate(lines):
            line.overflow = "fold"
            console.print(Padding(line, (0, 0, 0, indent + (_GAP if place else 0))))
