"""What every chart is: a finding, a drawing, a legend, and its numbers as a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from auditkit.render.charts.svg import Child, Markup, element
from auditkit.render.charts.tables import CELLS, table_markup

# Characters of a row's label beside its numbers: in half a page, and in a chart that asks for all of it.
LABEL_LENGTH = 26
BROAD_LENGTH = 36


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
        cells: A table of numbers of more cells than this is lined-up text.
        broad: It needs the width of the page, where others stand in two columns.
    """

    title: str
    drawing: Markup
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    keys: tuple[Key, ...] = ()
    note: str = ""
    axes: str = field(default="")
    cells: int = CELLS
    broad: bool = False

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
            entries = [element("li", element("i", class_=f"ak-key {key.css}", aria_hidden="true"), key.label)
                       for key in self.keys]  # fmt: skip
            parts.append(element("ul", *entries, class_="ak-legend", aria_label="Legend", role="list"))
        parts.append(self.drawing)
        if self.note:
            parts.append(element("p", self.note, class_="ak-note"))
        if self.rows:
            parts.append(_numbers(self.title, self.columns, self.rows, self.cells))
        return element("figure", *parts, class_="ak-chart ak-broad" if self.broad else "ak-chart")


def _numbers(title: str, columns: tuple[str, ...], rows: tuple[tuple[str, ...], ...], cells: int) -> Markup:
    kept = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    shown = tuple(tuple(row[index] for index in kept) for row in rows)
    table = table_markup(title, tuple(columns[index] for index in kept), shown, cells)
    return element("details", element("summary", "The numbers"), table, class_="ak-numbers")


def drawing(description: str, height: float, *children: Child) -> Markup:
    """An SVG as wide as its column and ``height`` pixels high, whose text keeps its size.

    Its name says how to look at it; what there is to see is the finding in the figure's caption.
    """
    return element("svg", element("title", description), *children, class_="ak-svg", role="img", width="100%",
                   height=height)  # fmt: skip


@cache
def style_sheet() -> str:
    """The style sheet of the charts."""
    return resources.files("auditkit.render.charts").joinpath("charts.css").read_text(encoding="utf-8")
