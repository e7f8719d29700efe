"""Heat maps: intersections of groups, confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

from auditkit.render.charts.chart import Chart, Key, drawing
from auditkit.render.charts.svg import Child, element, percent
from auditkit.render.numerals import number
from auditkit.render.text import clean, shorten

LEVELS = 7
_CELL = 40.0
_LEFT = 0.28
_TOP = 42.0


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    title: str,
    *,
    row_label: str,
    column_label: str,
    note: str = "",
) -> Chart:
    """A grid of cells, darker for larger values, with the number in each cell.

    Args:
        rows: Names of the rows.
        columns: Names of the columns.
        values: ``values[row][column]``; ``None`` for a cell without a number.
        title: The finding, in one sentence.
        row_label: What the rows are.
        column_label: What the columns are.
        note: What a reader must know to read it.

    >>> heat_map(["F"], ["old"], [[0.25]], "One cell", row_label="sex", column_label="age").rows
    (('F', '0.250'),)
    """
    present = [value for line in values for value in line if value is not None]
    low, high = (min(present), max(present)) if present else (0.0, 1.0)
    width = (1.0 - _LEFT) / max(len(columns), 1)
    dense = len(columns) > 6
    marks: list[Child] = [
        element("text", f"{clean(column_label)} across, {clean(row_label)} down", x="0", y=12.0, class_="ak-axis")
    ]
    for index, name in enumerate(columns):
        middle = percent(_LEFT + width * (index + 0.49))
        marks.append(element("text", shorten(name, max(3, 40 // len(columns))), x=middle, y=33.0, text_anchor="middle",
                             class_="ak-tick"))  # fmt: skip
    for line, name in enumerate(rows):
        top = _TOP + _CELL * line
        marks.append(element("text", shorten(name, 12), x="0", y=top + 24.0, class_="ak-label"))
        for index, value in enumerate(values[line]):
            level = _level(value, low, high)
            box = element("rect", x=percent(_LEFT + width * index), y=top,
                          width=percent(width * 0.985), height=_CELL - 3.0, rx=3.0, class_=f"ak-h{level}")  # fmt: skip
            css = f"ak-cell ak-t{level}" + (" ak-wide" if dense else "")
            text = element("text", number(value), x=percent(_LEFT + width * (index + 0.49)), y=top + 23.0,
                           text_anchor="middle", class_=css)  # fmt: skip
            marks += [box, text]
    keys = (
        (Key(css="ak-key-h1", label=f"low: {number(low)}"), Key(css="ak-key-h6", label=f"high: {number(high)}"))
        if present
        else ()
    )
    return Chart(
        title=clean(title),
        drawing=drawing(
            f"Grid of {clean(row_label)} by {clean(column_label)}.",
            _TOP + _CELL * len(rows) + 4.0,
            *marks,
        ),
        columns=(clean(row_label), *(clean(name) for name in columns)),
        rows=tuple((clean(name), *(number(value) for value in line)) for name, line in zip(rows, values, strict=True)),
        keys=keys,
        note=clean(note),
        axes=f"{clean(row_label)}, {clean(column_label)}",
    )


def _level(value: float | None, low: float, high: float) -> int:
    """0 for no number, else 1 (low) to 6 (high)."""
    if value is None:
        return 0
    if high <= low:
        return 3
    return 1 + min(LEVELS - 2, int((value - low) / (high - low) * (LEVELS - 1)))
