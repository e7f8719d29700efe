"""Strips of binned distributions: one a feature, as wide as the counts, coloured by the feature's own value."""

from __future__ import annotations

import math
from collections.abc import Sequence

from auditkit.render.charts.axis import Axis, make_axis
from auditkit.render.charts.chart import LABEL_LENGTH, Chart, Key, drawing, x_axis
from auditkit.render.charts.svg import Child, Markup, coordinate, element, joined
from auditkit.render.numerals import count, number
from auditkit.render.text import clean, shorten

_ROW = 46.0
_TOP = 6.0
_FOOT = 42.0
_HALF = 13.0
LEVELS = 5


def density_chart(
    rows: Sequence[str],
    edges: Sequence[float],
    counts: Sequence[Sequence[int]],
    title: str,
    *,
    label: str,
    color: Sequence[Sequence[float | None]] = (),
    note: str = "",
) -> Chart:
    """One strip a row; its height at a bin follows the square root of the count there.

    Args:
        rows: Names of the strips, top down.
        edges: Bin edges, one more than the cells of a strip.
        counts: Rows in each bin, strip by strip.
        title: The finding, in one sentence.
        label: Words and unit of the axis.
        color: Mean rank of the feature's own value in [0, 1] for each cell, or ``None``.
        note: What a reader must know to read it.
    """
    axis = make_axis(edges, label)
    axis = Axis(label=label, low=edges[0], high=edges[-1],
                ticks=tuple(t for t in axis.ticks if edges[0] <= t <= edges[-1]) or (edges[0], edges[-1]))  # fmt: skip
    bottom = _TOP + _ROW * len(rows) + 4.0
    marks: list[Child] = [x_axis(axis, _TOP, bottom)]
    for index, name in enumerate(rows):
        shades = color[index] if color else ()
        top = _TOP + _ROW * index
        marks.append(element("text", shorten(name, LABEL_LENGTH), x="0", y=top + 13.0, class_="ak-label ak-halo"))
        marks.append(_strip(edges, counts[index], shades, axis, top))
    keys = (
        (Key(css="ak-key-d0", label="low feature value"), Key(css="ak-key-d4", label="high feature value"))
        if color
        else ()
    )
    return Chart(
        title=clean(title),
        drawing=drawing(f"Density strips; axis: {axis.caption}.", bottom + _FOOT, *marks),
        columns=("Feature", "Rows", "10th percentile", "Median", "90th percentile"),
        rows=tuple(_summary(name, edges, cells) for name, cells in zip(rows, counts, strict=True)),
        keys=keys,
        note=clean(f"The taller the strip, the more rows. {note}").strip(),
        axes=axis.caption,
    )


def _strip(
    edges: Sequence[float], cells: Sequence[int], shades: Sequence[float | None], axis: Axis, top: float
) -> Markup:
    """The strip as one path for each colour, so that a page of strips stays small."""
    largest = max(cells, default=0) or 1
    middle = top + 31.0
    paths: dict[str, list[str]] = {}
    for index, cell in enumerate(cells):
        if not cell:
            continue
        shade = shades[index] if shades else None
        css = "ak-dplain" if not shades else "ak-dn" if shade is None else f"ak-d{min(LEVELS - 1, int(shade * LEVELS))}"
        half = max(1.0, _HALF * math.sqrt(cell / largest))
        left, right = 1000.0 * axis.across(edges[index]), 1000.0 * axis.across(edges[index + 1])
        width, height = coordinate(right - left), coordinate(2 * half)
        paths.setdefault(css, []).append(f"M{coordinate(left)} {coordinate(middle - half)}h{width}v{height}h-{width}z")
    children = [element("path", d="".join(parts), class_=css) for css, parts in sorted(paths.items())]
    line = element("line", x1="0%", x2="100%", y1=middle, y2=middle, class_="ak-track")
    # The outer coordinates are kept upward; only the width is stretched.
    plot = element("svg", *children, x="0", y=top, width="100%", height=_ROW, role="presentation", aria_hidden="true",
                   viewBox=f"0 {coordinate(top)} 1000 {coordinate(_ROW)}", preserveAspectRatio="none",
                   class_="ak-plot")  # fmt: skip
    return joined(line, plot)


def _summary(name: str, edges: Sequence[float], cells: Sequence[int]) -> tuple[str, ...]:
    total = sum(cells)
    return (clean(name), count(total), *(number(_quantile(edges, cells, q)) for q in (0.1, 0.5, 0.9)))


def _quantile(edges: Sequence[float], cells: Sequence[int], level: float) -> float | None:
    """The quantile of binned values, linear within its bin."""
    total = sum(cells)
    if not total:
        return None
    wanted, seen = level * total, 0
    for index, cell in enumerate(cells):
        if cell and seen + cell >= wanted:
            return edges[index] + (edges[index + 1] - edges[index]) * (wanted - seen) / cell
        seen += cell
    return edges[-1]
