"""Tables of numbers: small ones as ``<table>``, long ones as lined-up text, which costs one element however long."""

from __future__ import annotations

import re
from collections.abc import Sequence

from auditkit.render.charts.svg import Child, Markup, element, joined, text_lines, without_optional_ends
from auditkit.render.text import clean, shorten

# A table of more cells than this is text: a browser needs an element for each cell, and a reader's software too.
CELLS = 24
WIDEST = 46
_NUMBER = re.compile(r"[−+<≤≥]?\d[\d,.]*(?: ?%| × 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?|—|")
# Own ranges, not the interpreter's Unicode tables: the bytes of a page must not depend on its Python.
_NO_WIDTH = re.compile("[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u1ab0-\u1aff\u1dc0-\u1dff"
                       "\u200c\u200d\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f]")  # fmt: skip
_WIDE = re.compile("[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60"
                   "\uffe0-\uffe6\U0001f300-\U0001faff\U00020000-\U0003fffd]")  # fmt: skip

Cells = Sequence[str]


def table_markup(label: str, columns: Cells, rows: Sequence[Cells], cells: int = CELLS) -> Markup:
    """The table inside a region that scrolls by itself and can be reached by keyboard.

    Args:
        label: What it is a table of; screen readers announce it with the columns.
        columns: Heads.
        rows: Cells as shown, each row as long as ``columns``.
        cells: Most cells of a real ``<table>``; above that it is lined-up text.

    >>> table_markup("Rates", ["group", "rate"], [["F", "0.2"]]).text.count("<td>")
    1
    """
    if len(columns) * len(rows) > cells:
        return region(label, lined_up(columns, rows), columns)
    head = element("tr", *(element("th", column, scope="col") for column in columns))
    body = joined(*(element("tr", element("th", row[0]), *(element("td", cell) for cell in row[1:])) for row in rows))
    table = element("table", element("thead", head), element("tbody", without_optional_ends(body)))
    return region(label, table)


def region(label: str, content: Child, columns: Cells = ()) -> Markup:
    """A named part of the page that scrolls sideways by itself."""
    named = f"Table: {shorten(label, 80)}"
    if columns:
        named += f". Columns: {shorten(', '.join(columns), 160)}"
    return element("div", content, class_="ak-scroll", role="region", tabindex="0", aria_label=named)


def lined_up(columns: Cells, rows: Sequence[Cells]) -> Markup:
    """The table as text whose columns line up; numbers to the right, long words wrapped below their column.

    >>> print(lined_up(["group", "n"], [["F", "1,204"], ["M", "37"]]).text)
    <pre><b>group      n</b>
    F      1,204
    M         37</pre>
    """
    body = [[clean(cell, limit=None) if cell else "" for cell in row] for row in rows]
    right = [bool(body) and all(_NUMBER.fullmatch(row[index]) for row in body) for index in range(len(columns))]
    widths = column_widths([columns, *body])
    lines = "".join("\n" + line for row in body for line in laid_out(row, widths, right))
    return element("pre", element("b", text_lines("\n".join(laid_out(columns, widths, right)))), text_lines(lines))


def column_widths(rows: Sequence[Cells]) -> list[int]:
    """The width of each column in characters: that of its longest cell, at most :data:`WIDEST`."""
    return [min(WIDEST, max(display_width(row[index]) for row in rows)) for index in range(len(rows[0]))]


def laid_out(row: Cells, widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    """The lines of one row, trailing spaces left out."""
    cells = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
    lines = []
    for place in range(max(map(len, cells))):
        parts = [_padded(cell[place] if place < len(cell) else "", width, to_right)
                 for cell, width, to_right in zip(cells, widths, right, strict=True)]  # fmt: skip
        lines.append("  ".join(parts).rstrip(" "))
    return lines


def display_width(text: str) -> int:
    """Characters that ``text`` takes in a fixed-width font.

    >>> display_width("ab"), display_width("e\u0301"), display_width("\u4e2d")
    (2, 1, 2)
    """
    if text.isascii():
        return len(text)
    return len(text) - len(_NO_WIDTH.findall(text)) + len(_WIDE.findall(text))


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * max(0, width - display_width(text))
    return space + text if right else text + space


def _wrapped(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` characters, broken at spaces where there are any."""
    if display_width(text) <= width:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        while display_width(word) > width:
            if line:
                lines.append(line)
                line = ""
            lines.append(word[:width])
            word = word[width:]
        if line and display_width(line) + 1 + display_width(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line] if line else lines
