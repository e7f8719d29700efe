"""Curves with bands: ROC, reliability, attack strength, severity, privacy frontier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from auditkit.render.charts.axis import Axis, make_axis, tick_text
from auditkit.render.charts.chart import Chart, Key, drawing
from auditkit.render.charts.plot import across as x_of
from auditkit.render.charts.plot import dot, grid, path, plot, segment, tick_labels, upright
from auditkit.render.charts.svg import Markup, coordinate, element, percent
from auditkit.render.numerals import MISSING, number
from auditkit.render.text import clean

_TOP = 20.0
_HEIGHT = 240.0
_FOOT = 42.0
_MARKED = 14
SERIES = 6
# Width of a digit, and of a chart on a phone of 320 pixels.
_LETTER, _NARROWEST = 6.5, 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One curve; ``low`` and ``high`` bound it pointwise. ``None`` breaks the line."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A value of y or x to mark with a dashed line, such as a limit or the chosen threshold."""

    value: float
    label: str
    along: str = "y"


def line_chart(
    lines: Sequence[Line],
    title: str,
    *,
    x_label: str,
    y_label: str,
    marked: Marked | None = None,
    diagonal: bool | str = False,
    note: str = "",
) -> Chart:
    """Curves with bands.

    Args:
        lines: The curves; at most six are told apart by colour and dashes, more share them.
        title: The finding, in one sentence.
        x_label: Words and unit of the horizontal axis.
        y_label: Words and unit of the vertical axis.
        marked: A line to mark, if any.
        diagonal: Draw y = x, for ROC curves and reliability diagrams; words say what it stands for.
        note: What a reader must know to read it.

    >>> line_chart([Line(name="a", x=[0, 1], y=[1, 0.5])], "It falls", x_label="eps", y_label="accuracy").rows
    (('a', '0', '1', '—'), ('a', '1', '0.500', '—'))
    """
    across = [x for line in lines for x in line.x]
    upward = [y for line in lines for series in (line.y, line.low, line.high) for y in series]
    if marked:
        (upward if marked.along == "y" else across).append(marked.value)
    x_scale = make_axis(across, x_label)
    low_high = (0.0, 1.0) if upward and all(y is None or 0.0 <= y <= 1.0 for y in upward) else (None, None)
    y_scale = make_axis(upward, y_label, bounds=low_high)
    x_scale = replace(x_scale, left=_gutter(y_scale))
    bottom = _TOP + _HEIGHT
    marks = [_levels(y_scale, x_scale), grid(x_scale, _TOP, bottom), _diagonal(x_scale, y_scale) if diagonal else None]
    for index, line in enumerate(lines):
        marks += [_band(line, x_scale, y_scale, index), _path(line, x_scale, y_scale, index)]
    marks += [_points(line, x_scale, y_scale, index) for index, line in enumerate(lines)]
    texts = [_y_texts(y_scale, x_scale), tick_labels(x_scale, bottom)]
    if marked:
        marks.append(_mark(marked, x_scale, y_scale))
        texts.append(_mark_text(marked, x_scale, y_scale))
    keys = [Key(css=f"ak-key-line ak-s{index % SERIES}", label=clean(line.name)) for index, line in enumerate(lines)]
    if diagonal:
        keys.append(Key(css="ak-key-diagonal", label="y = x" if diagonal is True else clean(diagonal)))
    if any(line.low for line in lines) and not note.lower().startswith(("the band", "each band")):
        note = f"Bands are pointwise intervals. {note}".strip()
    return Chart(
        title=clean(title),
        drawing=drawing(
            f"Lines; across: {x_scale.caption}; up: {y_scale.caption}.", bottom + _FOOT, plot(bottom, *marks), *texts
        ),
        columns=("Line", x_label, y_label, "Interval"),
        rows=tuple(row for line in lines for row in _cells(line)),
        keys=tuple(keys),
        note=clean(note),
        axes=f"{x_label}, {y_label}",
    )


def _cells(line: Line) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for index, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
        low = line.low[index] if line.low else None
        high = line.high[index] if line.high else None
        interval = MISSING if low is None or high is None else f"{number(low)} to {number(high)}"
        rows.append((clean(line.name), tick_text(_short(x)), number(y), interval))
    # A curve of hundreds of points is thinned in its table, ends kept; the drawing shows them all.
    if len(rows) > 21:
        step = (len(rows) - 1) / 10
        rows = [rows[round(step * index)] for index in range(11)]
    return rows


def _short(x: float) -> float:
    return float(f"{x:.4g}")


def _gutter(upward: Axis) -> float:
    """The share of the width that the labels of the levels need at the left, on the narrowest phone."""
    return min(0.25, (max(len(tick_text(tick)) for tick in upward.ticks) * _LETTER + 8.0) / _NARROWEST)


def _levels(axis: Axis, across: Axis) -> Markup | None:
    """Level grid lines."""
    return path((segment(x_of(across, across.low), "1000", _y(tick, axis)) for tick in axis.ticks), "ak-grid")


def _y_texts(axis: Axis, across: Axis) -> Markup:
    """The labels left of the level lines, and the axis caption above."""
    end = percent(across.left - 0.015)
    labels = [element("text", tick_text(tick), x=end, y=_y(tick, axis) + 4.0, text_anchor="end") for tick in axis.ticks]
    return element("g", element("text", axis.caption, y=11.0), *labels, class_="ak-y")


def _y(value: float, axis: Axis) -> float:
    return _TOP + 12.0 + (_HEIGHT - 12.0) * (1.0 - axis.fraction(value))


def _xy(x: float, y: float, x_axis_: Axis, y_axis_: Axis) -> str:
    return f"{coordinate(round(1000.0 * x_axis_.across(x), 1))} {coordinate(round(_y(y, y_axis_), 1))}"


def _path(line: Line, across: Axis, upward: Axis, index: int) -> Markup:
    parts = []
    pen = "M"
    last = (-1e9, -1e9)
    end = len(line.x) - 1
    for place, (x, y) in enumerate(zip(line.x, line.y, strict=True)):
        if y is None:
            pen = "M"
            continue
        here = (1000.0 * across.across(x), _y(y, upward))
        if pen == "L" and place != end and _near(here, last):
            continue
        parts.append(pen + _xy(x, y, across, upward))
        pen, last = "L", here
    return element("path", d="".join(parts) or "M0 0", class_=f"ak-line ak-s{index % SERIES}")


def _near(here: Sequence[float], last: Sequence[float]) -> bool:
    """Whether two places, one across and any number upward, are closer than the eye can tell."""
    return abs(here[0] - last[0]) < 5.0 and all(abs(a - b) < 2.0 for a, b in zip(here[1:], last[1:], strict=True))


def _band(line: Line, across: Axis, upward: Axis, index: int) -> Markup | None:
    """The area between ``low`` and ``high``, one piece for each unbroken stretch; a lone point has a narrow bar."""
    if not line.low or not line.high:
        return None
    pieces: list[str] = []
    stretch: list[tuple[float, float, float]] = []
    for x, low, high in [*zip(line.x, line.low, line.high, strict=True), (0.0, None, None)]:
        if low is not None and high is not None:
            stretch.append((x, low, high))
            continue
        if len(stretch) > 1:
            told = _told(stretch, across, upward)
            over = [_xy(at, top, across, upward) for at, _, top in told]
            under = [_xy(at, base, across, upward) for at, base, _ in reversed(told)]
            pieces.append("M" + "L".join(over + under) + "Z")
        elif stretch:
            pieces.append(_bar(*stretch[0], across, upward))
        stretch = []
    return element("path", d="".join(pieces), class_=f"ak-band ak-s{index % SERIES}") if pieces else None


def _told(
    stretch: Sequence[tuple[float, float, float]], across: Axis, upward: Axis
) -> list[tuple[float, float, float]]:
    """The points of a band that the eye can tell apart, its ends among them."""
    kept: list[tuple[float, float, float]] = []
    last = (-1e9, 0.0, 0.0)
    for place, (x, low, high) in enumerate(stretch):
        here = (1000.0 * across.across(x), _y(low, upward), _y(high, upward))
        if place in (0, len(stretch) - 1) or not _near(here, last):
            kept.append((x, low, high))
            last = here
    return kept


def _bar(x: float, low: float, high: float, across: Axis, upward: Axis) -> str:
    left, right = (coordinate(round(1000.0 * across.across(x) + side, 1)) for side in (-4.0, 4.0))
    top, base = (coordinate(round(_y(y, upward), 1)) for y in (high, low))
    return f"M{left} {top}L{right} {top}L{right} {base}L{left} {base}Z"


def _points(line: Line, across: Axis, upward: Axis, index: int) -> Markup | None:
    """Markers, when there are few enough points that each one was measured by itself."""
    if len(line.x) > _MARKED:
        return None
    dots = (dot(x_of(across, x), _y(y, upward)) for x, y in zip(line.x, line.y, strict=True) if y is not None)
    return path(dots, f"ak-point ak-s{index % SERIES}")


def _diagonal(across: Axis, upward: Axis) -> Markup | None:
    low, high = max(across.low, upward.low), min(across.high, upward.high)
    ends = f"M{_xy(low, low, across, upward)}L{_xy(high, high, across, upward)}" if low < high else ""
    return path([ends], "ak-diagonal")


def _mark(marked: Marked, across: Axis, upward: Axis) -> Markup | None:
    if marked.along == "x":
        return path([upright(x_of(across, marked.value), _TOP, _TOP + _HEIGHT)], "ak-limit")
    return path([segment(x_of(across, across.low), "1000", _y(marked.value, upward))], "ak-limit")


def _mark_text(marked: Marked, across: Axis, upward: Axis) -> Markup:
    words = f"{clean(marked.label)} {number(marked.value)}"
    if marked.along == "x":
        anchor = "end" if across.fraction(marked.value) > 0.5 else "start"
        return element("text", words, x=percent(across.across(marked.value)), y=_TOP + 10.0, text_anchor=anchor,
                       class_="ak-tick ak-halo")  # fmt: skip
    return element("text", words, x="100%", y=_y(marked.value, upward) - 4.0, text_anchor="end",
                   class_="ak-tick ak-halo")  # fmt: skip
