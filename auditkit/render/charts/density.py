"""Strips of binned distributions: one a feature, as wide as the counts, coloured by the feature's own value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from auditkit.render.charts.axis import Axis, make_axis
from auditkit.render.charts.chart import LABEL_LENGTH, Chart, Key, drawing
from auditkit.render.charts.plot import WIDTH, grid, path, plot, segment, tick_labels
from auditkit.render.charts.svg import coordinate, element
from auditkit.render.numerals import count, number
from auditkit.render.text import clean, shorten_inside

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
    middles = [_TOP + _ROW * index + 31.0 for index in range(len(rows))]
    shapes: dict[str, list[str]] = {}
    for index, middle in enumerate(middles):
        _strip(edges, counts[index], color[index] if color else (), axis, middle, shapes)
    marks = [grid(axis, _TOP, bottom), path((segment("0", "1000", middle) for middle in middles), "ak-track")]
    marks += [path(parts, css) for css, parts in sorted(shapes.items())]
    labels = [element("text", shorten_inside(name, LABEL_LENGTH), y=middle - 18.0, class_="ak-halo")
              for name, middle in zip(rows, middles, strict=True)]  # fmt: skip
    keys = []
    if any(css[:4] == "ak-d" and css[4:].isdigit() for css in shapes):
        keys += [Key(css="ak-key-d0", label="low feature value"), Key(css="ak-key-d4", label="high feature value")]
    if "ak-dn" in shapes:
        keys.append(Key(css="ak-key-dn", label="too few rows for a colour"))
    return Chart(
        title=clean(title),
        drawing=drawing(
            f"Density strips; axis: {axis.caption}.",
            bottom + _FOOT,
            plot(bottom, *marks),
            tick_labels(axis, bottom),
            *labels,
        ),
        columns=("Feature", "Rows", "10th percentile", "Median", "90th percentile"),
        rows=tuple(_summary(name, edges, cells) for name, cells in zip(rows, counts, strict=True)),
        keys=tuple(keys),
        note=clean(f"The taller the strip, the more rows. {note}").strip(),
        axes=axis.caption,
    )


def _strip(
    edges: Sequence[float],
    cells: Sequence[int],
    shades: Sequence[float | None],
    axis: Axis,
    middle: float,
    shapes: dict[str, list[str]],
) -> None:
    """Add the strip to ``shapes``: pieces between the centres of bins, so that its outline has no steps."""
    largest = max(cells, default=0) or 1
    half = [_HALF * math.sqrt(cell / largest) if cell else 0.0 for cell in cells]
    at = [WIDTH * axis.across(edge) for edge in edges]
    ends = [_between(a, b) for a, b in itertools.pairwise([0.0, *half, 0.0])]
    for index, cell in enumerate(cells):
        if not cell:
            continue
        shade = shades[index] if shades else None
        css = "ak-dplain" if not shades else "ak-dn" if shade is None else f"ak-d{min(LEVELS - 1, int(shade * LEVELS))}"
        corners = [(at[index], max(0.6, ends[index])), ((at[index] + at[index + 1]) / 2.0, max(1.0, half[index])),
                   (at[index + 1], max(0.6, ends[index + 1]))]  # fmt: skip
        upper = [f"{coordinate(round(x, 1))} {coordinate(round(middle - h, 1))}" for x, h in corners]
        lower = [f"{coordinate(round(x, 1))} {coordinate(round(middle + h, 1))}" for x, h in reversed(corners)]
        shapes.setdefault(css, []).append("M" + "L".join(upper + lower) + "z")


def _between(one: float, other: float) -> float:
    """The height where two bins meet; beside an empty one, a part of the other's."""
    return (one + other) / 2.0 if one and other else 0.6 * max(one, other)


def _summary(name: str, edges: Sequence[float], cells: Sequence[int]) -> tuple[str, ...]:
    total = sum(cells)
    return (clean(name), count(total), *(number(quantile(edges, cells, q)) for q in (0.1, 0.5, 0.9)))


def quantile(edges: Sequence[float], cells: Sequence[int], level: float) -> float | None:
    """The quantile of binned values, linear within its bin; ``None`` without any.

    >>> quantile([0.0, 1.0, 2.0], [1, 1], 0.5)
    1.0
    """
    total = sum(cells)
    if not total:
        return None
    wanted, seen = level * total, 0
    for index, cell in enumerate(cells):
        if cell and seen + cell >= wanted:
            return edges[index] + (edges[index + 1] - edges[index]) * (wanted - seen) / cell
        seen += cell
    return edges[-1]
