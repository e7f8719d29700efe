"""The stretched layer of a chart: marks that follow its width, in few elements.

Text keeps its size, so it is placed by percentages in the outer drawing. Everything else is a handful of paths in an
inner drawing of 1000 units across, stretched to the chart's width; strokes do not scale, and a dot is a stroke of no
length with round ends. A chart of fifty rows has as many paths as one of five.
"""

from __future__ import annotations

from collections.abc import Iterable

from auditkit.render.charts.axis import Axis, tick_text
from auditkit.render.charts.svg import Child, Markup, coordinate, element, joined, percent

WIDTH = 1000.0


def plot(height: float, *children: Child) -> Markup:
    """The inner drawing: 1000 units across, pixels upward."""
    return element("svg", *children, width="100%", height=height, role="presentation", aria_hidden="true",
                   viewBox=f"0 0 1000 {coordinate(height)}", preserveAspectRatio="none", class_="ak-plot")  # fmt: skip


def across(axis: Axis, value: float) -> str:
    """The horizontal coordinate of ``value`` in the inner drawing."""
    return coordinate(round(WIDTH * axis.across(value), 1))


def path(parts: Iterable[str], css: str) -> Markup | None:
    """One path of all ``parts``; ``None`` when there are none."""
    d = "".join(parts)
    return element("path", d=d, class_=css) if d else None


def dot(x: str, y: float) -> str:
    """A point: a stroke of no length, which round ends make a disc."""
    return f"M{x} {coordinate(y)}h0"


def segment(x1: str, x2: str, y: float) -> str:
    """A level stroke."""
    return f"M{x1} {coordinate(y)}H{x2}"


def upright(x: str, top: float, bottom: float) -> str:
    """A vertical stroke."""
    return f"M{x} {coordinate(top)}V{coordinate(bottom)}"


def box(x1: float, x2: float, top: float, height: float) -> str:
    """A rectangle between two horizontal coordinates in [0, 1000]."""
    return f"M{coordinate(x1)} {coordinate(top)}H{coordinate(x2)}v{coordinate(height)}H{coordinate(x1)}z"


def grid(axis: Axis, top: float, bottom: float) -> Markup | None:
    """Vertical lines at the ticks."""
    return path((upright(across(axis, tick), top, bottom) for tick in axis.ticks), "ak-grid")


def tick_labels(axis: Axis, bottom: float) -> Markup:
    """The tick labels below ``bottom``, with the axis caption under them."""
    marks: list[Child] = []
    for index, tick in enumerate(axis.ticks):
        anchor = "start" if index == 0 else "end" if index == len(axis.ticks) - 1 else None
        marks.append(element("text", tick_text(tick), x=percent(axis.across(tick)), y=bottom + 15.0,
                             text_anchor=anchor))  # fmt: skip
    marks.append(element("text", axis.caption, x="50%", y=bottom + 33.0))
    return element("g", joined(*marks), class_="ak-x")
