"""Charts with one row a thing: dots with intervals, and bars with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from auditkit.render.charts.axis import Axis, make_axis, tick_text
from auditkit.render.charts.chart import LABEL_LENGTH, Chart, Key, drawing, x_axis
from auditkit.render.charts.svg import Child, Markup, element, joined, percent
from auditkit.render.numerals import MISSING, count, number
from auditkit.render.text import clean, shorten

_ROW = 42.0
_TOP = 6.0
_FOOT = 42.0

State = Literal["", "pass", "fail", "inconclusive", "error", "waived"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row: ``value`` with its interval and the ``n`` it rests on; ``note`` says why something is missing."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    state: State = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit line; ``allowed`` says on which side values are fine."""

    value: float
    allowed: Literal["below", "above"]


def interval_chart(
    rows: Sequence[Row],
    title: str,
    *,
    label: str,
    unit: str = "",
    limit: Limit | None = None,
    bounds: tuple[float | None, float | None] = (None, None),
    reference: float | None = None,
) -> Chart:
    """A dot with its interval for each row, a limit line and the side that is allowed.

    Args:
        rows: What to show, top down.
        title: The finding, in one sentence.
        label: Words for the axis.
        unit: Unit of the values.
        limit: The limit line, if any.
        bounds: Smallest and largest value possible.
        reference: A value to mark with a thin line, such as that of all rows.

    >>> chart = interval_chart([Row(label="F", value=0.2, low=0.1, high=0.3, n=40)], "F is at 0.2", label="rate")
    >>> chart.rows
    (('F', '0.200', '0.100 to 0.300', '40', ''),)
    """
    values = [number for row in rows for number in (row.value, row.low, row.high)]
    axis = make_axis([*values, limit.value if limit else None, reference], label, unit=unit, bounds=bounds,
                     zero=limit is not None and limit.value >= 0)  # fmt: skip
    bottom = _TOP + _ROW * len(rows) + 4.0
    marks: list[Child] = [_allowed(axis, limit, bottom), x_axis(axis, _TOP, bottom)]
    if reference is not None:
        x = percent(axis.across(reference))
        marks.append(element("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="ak-reference"))
    if limit is not None:
        x = percent(axis.across(limit.value))
        marks.append(element("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="ak-limit"))
    for index, row in enumerate(rows):
        marks.append(_dot_row(row, axis, _TOP + _ROW * index))
    keys = [Key(css="ak-key-dot", label="estimate with its interval")]
    if reference is not None:
        keys.append(Key(css="ak-key-reference", label=f"all rows: {number(reference)}"))
    if limit is not None:
        keys.append(Key(css="ak-key-limit", label=f"limit {tick_text(limit.value)}; the shaded side is allowed"))
    return Chart(
        title=clean(title),
        drawing=drawing(f"Dots with intervals; axis: {axis.caption}.", bottom + _FOOT, *marks),
        columns=("Group", _value_head(axis), "Interval", "n", "Note"),
        rows=tuple(_cells(row) for row in rows),
        keys=tuple(keys),
        axes=axis.caption,
    )


def bar_chart(rows: Sequence[Row], title: str, *, label: str, unit: str = "", head: str = "Feature") -> Chart:
    """A bar from zero for each row, with a whisker for its interval.

    Args:
        rows: What to show, top down.
        title: The finding, in one sentence.
        label: Words for the axis.
        unit: Unit of the values.
        head: What the rows are, as head of the table's first column.
    """
    values = [number for row in rows for number in (row.value, row.low, row.high)]
    axis = make_axis(values, label, unit=unit, zero=True)
    bottom = _TOP + _ROW * len(rows) + 4.0
    marks: list[Child] = [x_axis(axis, _TOP, bottom)]
    for index, row in enumerate(rows):
        marks.append(_bar_row(row, axis, _TOP + _ROW * index))
    keys: list[Key] = []
    if any(row.low is not None for row in rows):
        keys = [Key(css="ak-key-bar", label="estimate"), Key(css="ak-key-whisker", label="its interval")]
    return Chart(
        title=clean(title),
        drawing=drawing(f"Bars from zero; axis: {axis.caption}.", bottom + _FOOT, *marks),
        columns=(head, _value_head(axis), "Interval", "n", "Note"),
        rows=tuple(_cells(row) for row in rows),
        keys=tuple(keys),
        axes=axis.caption,
    )


def _value_head(axis: Axis) -> str:
    return axis.caption[:1].upper() + axis.caption[1:]


def _cells(row: Row) -> tuple[str, ...]:
    return clean(row.label), number(row.value), _span(row), count(row.n), clean(row.note)


def _span(row: Row) -> str:
    if row.low is None or row.high is None:
        return MISSING
    low, high = (0.0 if abs(end) < 1e-12 else end for end in (row.low, row.high))
    return f"{number(low)} to {number(high)}"


def _allowed(axis: Axis, limit: Limit | None, bottom: float) -> Markup | None:
    if limit is None:
        return None
    at = axis.across(limit.value)
    left, right = (0.0, at) if limit.allowed == "below" else (at, 1.0)
    return element("rect", x=percent(left), y=_TOP, width=percent(right - left), height=bottom - _TOP,
                   class_="ak-allowed")  # fmt: skip


def _texts(row: Row, top: float) -> Markup:
    """The label at the left and the number at the right; the interval and n give way on narrow screens."""
    detail = f"  ({_span(row)})" if row.low is not None and row.high is not None else ""
    detail += f"  n {count(row.n)}" if row.n is not None else ""
    return joined(
        element("text", shorten(row.label, LABEL_LENGTH), y=top + 15.0),
        element(
            "text",
            element("tspan", number(row.value)),
            element("tspan", detail) if detail else None,
            x="100%",
            y=top + 15.0,
            text_anchor="end",
        ),
    )


def _whisker(row: Row, axis: Axis, y: float) -> Markup | None:
    if row.low is None or row.high is None:
        return None
    low, high = percent(axis.across(row.low)), percent(axis.across(row.high))
    return element("line", x1=low, x2=high, y1=y, y2=y, class_="ak-whisker")


def _dot_row(row: Row, axis: Axis, top: float) -> Markup:
    y = top + 29.0
    if row.value is None:
        mark = element("text", shorten(row.note or "no value", 44), x="2%", y=y + 4.0, class_="ak-tick")
        track = None
    else:
        mark = element("circle", cx=percent(axis.across(row.value)), cy=y, r=5.5)
        track = element("line", x2="100%", y1=y, y2=y)
    css = f"ak-row ak-{row.state}" if row.state else "ak-row"
    return element("g", track, _whisker(row, axis, y), mark, _texts(row, top), class_=css)


def _bar_row(row: Row, axis: Axis, top: float) -> Markup:
    bar = None
    if row.value is not None:
        ends = sorted((axis.across(0.0), axis.across(row.value)))
        bar = element("rect", x=percent(ends[0]), y=top + 22.0, width=percent(ends[1] - ends[0]), height=14.0, rx=2.0)
    return element("g", bar, _whisker(row, axis, top + 29.0), _texts(row, top), class_="ak-row")
