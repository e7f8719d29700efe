"""What every chart is: a finding, a drawing, a legend, and its numbers as a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from auditkit.render.charts.axis import Axis, tick_text
from auditkit.render.charts.svg import Child, Markup, element, joined, percent, without_optional_ends
from auditkit.render.text import shorten

LABEL_LENGTH = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One entry of a legend: a CSS class of :file:`charts.css` and its words."""

    css: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart that shows by itself in a notebook and inside a card.

    Attributes:
        title: The finding, in one sentence.
        drawing: The SVG (or pictures).
        columns: Heads of the table of numbers.
        rows: Its cells, as shown.
        keys: The legend.
        note: What a reader must know to read it.
        axes: Words of the axes, for the figure's description.
    """

    title: str
    drawing: Markup
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    keys: tuple[Key, ...] = ()
    note: str = ""
    axes: str = field(default="")

    def __html__(self) -> str:
        """The figure without its style sheet, for a page that has it."""
        return self.figure().text

    def _repr_html_(self) -> str:
        """The figure with its style sheet, for notebooks."""
        return f"<style>{style_sheet()}</style>" + element("div", self.figure(), class_="ak").text

    def figure(self) -> Markup:
        """The ``<figure>``: caption, legend, drawing, note and the table of numbers."""
        parts: list[Child] = [element("figcaption", self.title, class_="ak-finding")]
        if self.keys:
            entries = [element("li", element("span", class_=f"ak-key {key.css}", aria_hidden="true"), key.label)
                       for key in self.keys]  # fmt: skip
            parts.append(element("ul", *entries, class_="ak-legend", aria_label="Legend", role="list"))
        parts.append(self.drawing)
        if self.note:
            parts.append(element("p", self.note, class_="ak-note"))
        if self.rows:
            parts.append(_numbers(self.title, self.columns, self.rows))
        return element("figure", *parts, class_="ak-chart")


def _numbers(title: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Markup:
    kept = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    shown = tuple(tuple(row[index] for index in kept) for row in rows)
    table = table_markup(title, tuple(columns[index] for index in kept), shown)
    return element("details", element("summary", "The numbers"), table, class_="ak-numbers")


def table_markup(label: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Markup:
    """A table inside a region that scrolls by itself and can be reached by keyboard."""
    head = element("tr", *(element("th", column, scope="col") for column in columns))
    body = joined(*(element("tr", element("th", row[0]), *(element("td", cell) for cell in row[1:])) for row in rows))
    table = element("table", element("thead", head), element("tbody", without_optional_ends(body)))
    return element(
        "div", table, class_="ak-scroll", role="region", tabindex="0", aria_label=f"Table: {shorten(label, 80)}"
    )


def drawing(description: str, height: float, *children: Child) -> Markup:
    """An SVG as wide as its column and ``height`` pixels high, whose text keeps its size.

    Its name says how to look at it; what there is to see is the finding in the figure's caption.
    """
    return element("svg", element("title", description), *children, class_="ak-svg", role="img", width="100%",
                   height=height)  # fmt: skip


def x_axis(axis: Axis, top: float, bottom: float) -> Markup:
    """Vertical grid lines from ``top`` to ``bottom``, with tick labels and the axis caption below."""
    marks: list[Child] = []
    for index, tick in enumerate(axis.ticks):
        x = percent(axis.across(tick))
        anchor = "start" if index == 0 else "end" if index == len(axis.ticks) - 1 else None
        marks.append(element("line", x1=x, x2=x, y1=top, y2=bottom))
        marks.append(element("text", tick_text(tick), x=x, y=bottom + 15.0, text_anchor=anchor))
    marks.append(element("text", axis.caption, x="50%", y=bottom + 33.0))
    return element("g", *marks, class_="ak-x")


@cache
def style_sheet() -> str:
    """The style sheet of the charts."""
    return resources.files("auditkit.render.charts").joinpath("charts.css").read_text(encoding="utf-8")
