"""Charts with one row a thing: dots with intervals, and bars with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from auditkit.render.charts.axis import Axis, make_axis
from auditkit.render.charts.chart import BROAD_LENGTH, LABEL_LENGTH, Chart, Key, drawing
from auditkit.render.charts.plot import WIDTH, across, box, dot, grid, path, plot, segment, tick_labels, upright
from auditkit.render.charts.svg import Markup, element, joined
from auditkit.render.numerals import MISSING, count, ends, number, setting
from auditkit.render.text import clean, shorten, shorten_inside

_ROW = 42.0
_TOP = 6.0
_FOOT = 42.0

State = Literal["", "pass", "fail", "inconclusive", "error", "waived"]

JUDGED: Mapping[State, str] = {
    "pass": "holds",
    "fail": "broken",
    "inconclusive": "not enough evidence",
    "error": "not judged",
    "waived": "waived",
}
_ESTIMATE = "estimate with its interval"


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


def interval_chart(  # noqa: PLR0913  (one argument for each thing that is drawn)
    rows: Sequence[Row],
    title: str,
    *,
    label: str,
    unit: str = "",
    limit: Limit | None = None,
    bounds: tuple[float | None, float | None] = (None, None),
    reference: float | None = None,
    states: Mapping[State, str] = JUDGED,
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
        states: What the states of rows are called in the legend, where there are several.

    >>> chart = interval_chart([Row(label="F", value=0.2, low=0.1, high=0.3, n=40)], "F is at 0.2", label="rate")
    >>> chart.rows
    (('F', '0.200', '0.100 to 0.300', '40', ''),)
    """
    values = [number for row in rows for number in (row.value, row.low, row.high)]
    axis = make_axis([*values, limit.value if limit else None, reference], label, unit=unit, bounds=bounds,
                     zero=limit is not None and limit.value >= 0)  # fmt: skip
    bottom = _TOP + _ROW * len(rows) + 4.0
    marks: list[Markup | None] = [_allowed(axis, limit, bottom), grid(axis, _TOP, bottom)]
    if reference is not None:
        marks.append(path([upright(across(axis, reference), _TOP, bottom)], "ak-reference"))
    if limit is not None:
        marks.append(path([upright(across(axis, limit.value), _TOP, bottom)], "ak-limit"))
    marks += _dots(rows, axis)
    broad = _needs_width(rows)
    near = (limit.value,) if limit else ()
    texts = [_texts(row, _TOP + _ROW * index, near, missing=True, broad=broad) for index, row in enumerate(rows)]
    keys = _estimate_keys(rows, states)
    if reference is not None:
        keys.append(Key(css="ak-key-reference", label=f"all rows: {number(reference)}"))
    if limit is not None:
        keys.append(Key(css="ak-key-limit", label=f"limit {setting(limit.value)}; the shaded side is allowed"))
    return Chart(
        title=clean(title),
        drawing=drawing(
            f"{'Dots with intervals' if keys[0].css.startswith('ak-key-dot') else 'Dots'}; axis: {axis.caption}.",
            bottom + _FOOT,
            plot(bottom, *marks),
            tick_labels(axis, bottom),
            element("g", joined(*texts), class_="ak-row"),
        ),
        columns=("Group", _value_head(axis), "Interval", "n", "Note"),
        rows=tuple(_cells(row, near) for row in rows),
        keys=tuple(keys),
        axes=axis.caption,
        broad=broad,
    )


def _estimate_keys(rows: Sequence[Row], words: Mapping[State, str]) -> list[Key]:
    """What a dot is, in the colours that are drawn: of rates that are rounded for the sake of a small group, none or
    only some have an interval.

    >>> [key.label for key in _estimate_keys([Row(label="F", value=0.2)], {})]
    ['estimate, without an interval']
    """
    shown = [row for row in rows if row.value is not None]
    bounded = [row for row in shown if row.low is not None and row.high is not None]
    states: list[State] = list(dict.fromkeys(row.state for row in bounded)) if shown else [""]
    keys: list[Key] = []
    for state in states:
        word = words.get(state, "other")
        label = word if keys else _ESTIMATE if len(states) == 1 else f"{_ESTIMATE}: {word}"
        keys.append(Key(css=f"ak-key-dot ak-{state}" if state else "ak-key-dot", label=label))
    bare = len(bounded) < len(shown)
    return [*keys, Key(css="ak-key-point", label="estimate, without an interval")] if bare else keys


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
    marks = [grid(axis, _TOP, bottom), *_bars(rows, axis)]
    broad = _needs_width(rows)
    texts = [_texts(row, _TOP + _ROW * index, broad=broad) for index, row in enumerate(rows)]
    keys: list[Key] = []
    if any(row.low is not None for row in rows):
        keys = [Key(css="ak-key-bar", label="estimate"), Key(css="ak-key-whisker", label="its interval")]
    return Chart(
        title=clean(title),
        drawing=drawing(
            f"Bars from zero; axis: {axis.caption}.",
            bottom + _FOOT,
            plot(bottom, *marks),
            tick_labels(axis, bottom),
            element("g", joined(*texts), class_="ak-row"),
        ),
        columns=(head, _value_head(axis), "Interval", "n", "Note"),
        rows=tuple(_cells(row) for row in rows),
        keys=tuple(keys),
        axes=axis.caption,
        broad=broad,
    )


def _needs_width(rows: Sequence[Row]) -> bool:
    return any(len(row.label) > LABEL_LENGTH for row in rows)


def _value_head(axis: Axis) -> str:
    return axis.caption[:1].upper() + axis.caption[1:]


def _cells(row: Row, near: Sequence[float] = ()) -> tuple[str, ...]:
    return clean(row.label), number(row.value, near), _span(row, near), count(row.n), clean(row.note)


def _span(row: Row, near: Sequence[float] = ()) -> str:
    return MISSING if row.low is None or row.high is None else " to ".join(ends(row.low, row.high, near))


def _allowed(axis: Axis, limit: Limit | None, bottom: float) -> Markup | None:
    if limit is None:
        return None
    at = WIDTH * axis.across(limit.value)
    left, right = (0.0, at) if limit.allowed == "below" else (at, WIDTH)
    return path([box(left, right, _TOP, bottom - _TOP)], "ak-allowed")


def _texts(row: Row, top: float, near: Sequence[float] = (), *, missing: bool = False, broad: bool = False) -> Markup:
    """The label at the left and the number at the right; the interval and n give way on narrow screens."""
    detail = f"  ({_span(row, near)})" if row.low is not None and row.high is not None else ""
    detail += f"  n {count(row.n)}" if row.n is not None else ""
    note = None
    if missing and row.value is None:
        note = element("text", shorten(row.note or "no value", 44), x="2%", y=top + 33.0, class_="ak-tick")
    more = element("tspan", detail) if detail else None
    value = element("text", number(row.value, near), more, x="100%", y=top + 15.0, text_anchor="end")
    return joined(
        element("text", shorten_inside(row.label, BROAD_LENGTH if broad else LABEL_LENGTH), y=top + 15.0), value, note
    )


def _whiskers(rows: Sequence[Row], axis: Axis, css: str, only: str = "") -> Markup | None:
    return path(
        (
            segment(across(axis, row.low), across(axis, row.high), _TOP + _ROW * index + 29.0)
            for index, row in enumerate(rows)
            if row.low is not None and row.high is not None and only in ("", _mark(row))
        ),
        f"ak-whisker {css}",
    )


def _mark(row: Row) -> str:
    return f"ak-{row.state}" if row.state else "ak-plain"


def _dots(rows: Sequence[Row], axis: Axis) -> list[Markup | None]:
    """The tracks, and for each state its whiskers and dots."""
    present = [(row, _TOP + _ROW * index + 29.0) for index, row in enumerate(rows) if row.value is not None]
    marks: list[Markup | None] = [path((segment("0", "1000", y) for _, y in present), "ak-track")]
    for css in sorted({_mark(row) for row in rows}):
        marks.append(_whiskers(rows, axis, css, css))
        places = [dot(across(axis, row.value or 0.0), y) for row, y in present if _mark(row) == css]
        marks += [path(places, "ak-dot-rim"), path(places, f"ak-dot {css}")]
    return marks


def _bars(rows: Sequence[Row], axis: Axis) -> list[Markup | None]:
    bars = []
    for index, row in enumerate(rows):
        if row.value is not None:
            ends = sorted(WIDTH * axis.across(value) for value in (0.0, row.value))
            bars.append(box(ends[0], ends[1], _TOP + _ROW * index + 22.0, 14.0))
    return [path(bars, "ak-bar"), _whiskers(rows, axis, "ak-over")]
