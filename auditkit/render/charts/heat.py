"""Heat maps: intersections of groups, confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence

from auditkit.render.charts.chart import Chart, Key, drawing
from auditkit.render.charts.plot import WIDTH, box, path, plot
from auditkit.render.charts.svg import Child, Markup, element, percent
from auditkit.render.numerals import number
from auditkit.render.text import clean, shorten_inside

LEVELS = 7
_CELL = 40.0
_LEFT = 0.28
_TOP = 42.0
_WRITTEN = 12  # in more columns than that, numbers would run into each other; the table has them


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
    bottom = _TOP + _CELL * len(rows) + 4.0
    marks: list[Child] = [
        plot(bottom, *_boxes(values, low, high, width)),
        element("text", f"{clean(column_label)} across, {clean(row_label)} down", y=12.0, class_="ak-axis"),
    ]
    for index, name in enumerate(columns):
        marks.append(element("text", shorten_inside(name, max(3, 40 // len(columns))),
                             x=percent(_LEFT + width * (index + 0.49)), y=33.0, class_="ak-col"))  # fmt: skip
    written = len(columns) <= _WRITTEN
    for line, name in enumerate(rows):
        top = _TOP + _CELL * line
        marks.append(element("text", shorten_inside(name, 12), y=top + 24.0))
        for index, value in enumerate(values[line] if written else ()):
            css = f"ak-cell ak-t{_level(value, low, high)}" + (" ak-wide" if len(columns) > 6 else "")
            marks.append(element("text", number(value), x=percent(_LEFT + width * (index + 0.49)), y=top + 23.0,
                                 class_=css))  # fmt: skip
    keys = (
        (Key(css="ak-key-h1", label=f"low: {number(low)}"), Key(css="ak-key-h6", label=f"high: {number(high)}"))
        if present
        else ()
    )
    return Chart(
        title=clean(title),
        drawing=drawing(
            f"Grid of {clean(row_label)} by {clean(column_label)}.",
            bottom,
            *marks,
        ),
        columns=(clean(row_label), *(clean(name) for name in columns)),
        rows=tuple((clean(name), *(number(value) for value in line)) for name, line in zip(rows, values, strict=True)),
        keys=keys,
        note=clean(note),
        axes=f"{clean(row_label)}, {clean(column_label)}",
    )


def _boxes(values: Sequence[Sequence[float | None]], low: float, high: float, width: float) -> list[Markup | None]:
    """The cells, one path for each shade."""
    shades: dict[int, list[str]] = {}
    for line, cells in enumerate(values):
        for index, value in enumerate(cells):
            left = WIDTH * (_LEFT + width * index)
            cell = box(left, left + WIDTH * width * 0.985, _TOP + _CELL * line, _CELL - 3.0)
            shades.setdefault(_level(value, low, high), []).append(cell)
    return [path(parts, f"ak-h{level}") for level, parts in sorted(shades.items())]


def _level(value: float | None, low: float, high: float) -> int:
    """0 for no number, else 1 (low) to 6 (high)."""
    if value is None:
        return 0
    if high <= low:
        return 3
    return 1 + min(LEVELS - 2, int((value - low) / (high - low) * (LEVELS - 1)))
