"""Charts by the names that the field gives them: ROC, reliability diagram, confusion matrix, frontier."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from auditkit.render.charts.axis import make_axis, tick_text
from auditkit.render.charts.chart import Chart, Key, drawing
from auditkit.render.charts.heat import heat_map
from auditkit.render.charts.lines import Line, line_chart
from auditkit.render.charts.plot import across, dot, grid, path, plot, segment, tick_labels
from auditkit.render.charts.svg import element, joined, percent
from auditkit.render.numerals import MISSING, count, number
from auditkit.render.text import clean, shorten

_TOP, _HEIGHT, _FOOT = 20.0, 240.0, 42.0


def roc_chart(lines: Sequence[Line], title: str = "", *, note: str = "") -> Chart:
    """ROC curves with their bands and the line of guessing.

    Args:
        lines: One a model, class or group: false positive rates ``x``, true positive rates ``y``, both in [0, 1].
        title: The finding; without one, the areas under the drawn curves.
        note: What a reader must know to read it.

    >>> roc_chart([Line(name="a", x=[0, 0, 1], y=[0, 1, 1])]).title
    'The area under the curve is 1; guessing gives 0.5.'
    """
    areas = [(_area(line), clean(line.name)) for line in lines]
    if not title and len(areas) == 1:
        title = f"The area under the curve is {number(areas[0][0])}; guessing gives 0.5."
    elif not title and areas:
        low, high = min(areas), max(areas)
        title = f"The area under the curve runs from {number(low[0])} for {low[1]} to {number(high[0])} for {high[1]}."
    return line_chart(lines, title, x_label="false positive rate", y_label="true positive rate", diagonal=True,
                      note=note)  # fmt: skip


def _area(line: Line) -> float:
    points = sorted((x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None)
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(points))


def reliability_chart(lines: Sequence[Line], title: str = "", *, note: str = "") -> Chart:
    """A reliability diagram: what share of rows is positive where a probability was stated.

    Args:
        lines: One a class or group: mean stated probability ``x`` and observed share ``y`` of each bin.
        title: The finding; without one, the largest gap.
        note: What a reader must know to read it.

    >>> reliability_chart([Line(name="a", x=[0.2, 0.8], y=[0.2, 0.6])]).title
    'Stated and observed differ most where 0.800 is stated: 0.600 happens.'
    """
    gaps = [(abs(y - x), x, y) for line in lines for x, y in zip(line.x, line.y, strict=True) if y is not None]
    if not title and gaps:
        _, x, y = max(gaps)
        title = f"Stated and observed differ most where {number(x)} is stated: {number(y)} happens."
    return line_chart(lines, title, x_label="stated probability", y_label="observed share", diagonal=True, note=note)


def confusion_matrix(classes: Sequence[str], counts: Sequence[Sequence[int]], title: str = "") -> Chart:
    """A confusion matrix: ``counts[label][decision]``.

    Args:
        classes: Names of the classes.
        counts: Rows of data with each label and decision.
        title: The finding; without one, how many rows are decided as labelled.

    >>> confusion_matrix(["no", "yes"], [[8, 2], [1, 9]]).note
    'The commonest error: no decided as yes, 2 rows (10 % of all).'
    """
    k = len(classes)
    total = sum(map(sum, counts))
    right = sum(counts[index][index] for index in range(k))
    title = title or f"{count(right)} of {count(total)} rows are decided as labelled; the rest lie off the diagonal."
    wrong = [(counts[y][p], -y, -p) for y in range(k) for p in range(k) if y != p]
    n, y, p = max(wrong, default=(0, 0, 0))
    note = ""
    if n:
        share = number(100.0 * n / total)
        note = f"The commonest error: {clean(classes[-y])} decided as {clean(classes[-p])}, {count(n)} rows"
        note += f" ({share} % of all)."
    values = [[float(cell) for cell in row] for row in counts]
    return heat_map(classes, classes, values, title, row_label="label", column_label="decision", note=note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One choice on a frontier: what it costs, what it gives, and the interval of the latter."""

    label: str
    cost: float
    gain: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


def frontier_chart(
    choices: Sequence[Choice], title: str = "", *, cost_label: str, gain_label: str, note: str = ""
) -> Chart:
    """Choices by cost (less is better) and gain (more is better); those that no other beats in both are joined.

    Args:
        choices: What can be had.
        title: The finding; without one, how many choices are on the frontier.
        cost_label: Words and unit of the cost, such as epsilon.
        gain_label: Words and unit of the gain, such as accuracy.
        note: What a reader must know to read it.

    >>> chart = frontier_chart(
    ...     [Choice(label=a, cost=c, gain=g) for a, c, g in [("a", 1, 0.7), ("b", 2, 0.6), ("c", 3, 0.8)]],
    ...     cost_label="epsilon", gain_label="accuracy")
    >>> [row[-1] for row in chart.rows]
    ['best', 'beaten by a', 'best']
    """
    beaten = [_beaten(choice, choices) for choice in choices]
    best = sorted((c for c, other in zip(choices, beaten, strict=True) if other is None), key=lambda c: c.cost)
    title = (
        title or f"{len(best)} of {len(choices)} choices are beaten by no other in both {cost_label} and {gain_label}."
    )
    x = make_axis([c.cost for c in choices], cost_label)
    upward = make_axis([v for c in choices for v in (c.gain, c.low, c.high)], gain_label)
    bottom = _TOP + _HEIGHT

    def y(value: float) -> float:
        return _TOP + 12.0 + (_HEIGHT - 12.0) * (1.0 - upward.fraction(value))

    def at(choice: Choice) -> str:
        return dot(across(x, choice.cost), y(choice.gain))

    bars = (
        f"M{across(x, c.cost)} {y(c.low):.1f}V{y(c.high):.1f}"
        for c in choices
        if c.low is not None and c.high is not None
    )
    steps = "L".join(f"{across(x, c.cost)} {y(c.gain):.1f}" for c in best)
    inner = [
        path((segment("0", "1000", y(tick)) for tick in upward.ticks), "ak-grid"),
        grid(x, _TOP, bottom),
        path(bars, "ak-whisker ak-plain"),
        path([f"M{steps}"] if len(best) > 1 else [], "ak-line ak-s0"),
        path((at(c) for c, other in zip(choices, beaten, strict=True) if other is not None), "ak-point ak-s5"),
        path((at(c) for c in best), "ak-dot ak-plain"),
    ]
    labels = [element("text", shorten(c.label, 18), x=percent(x.across(c.cost)), y=y(c.gain) - 9.0, class_="ak-halo",
                      text_anchor="end" if x.fraction(c.cost) > 0.6 else "start") for c in choices[:24]]  # fmt: skip
    ticks = [element("text", tick_text(tick), y=y(tick) - 3.0, class_="ak-halo") for tick in upward.ticks]
    return Chart(
        title=clean(title),
        drawing=drawing(f"Points; across: {x.caption}; up: {upward.caption}.", bottom + _FOOT, plot(bottom, *inner),
                        element("g", element("text", upward.caption, y=11.0), *ticks, class_="ak-y"),
                        tick_labels(x, bottom), joined(*labels)),
        columns=("Choice", x.caption, upward.caption, "Interval", "n", "Frontier"),
        rows=tuple(_frontier_row(c, other) for c, other in zip(choices, beaten, strict=True)),
        keys=(_best_key(best),
              Key(css="ak-key-line ak-s5", label="beaten by another choice")),
        note=clean(note),
        axes=f"{x.caption}, {upward.caption}",
    )  # fmt: skip


def _best_key(best: Sequence[Choice]) -> Key:
    if any(choice.low is not None and choice.high is not None for choice in best):
        return Key(css="ak-key-dot", label="on the frontier, with its interval")
    return Key(css="ak-key-point", label="on the frontier")


def _frontier_row(choice: Choice, beaten: str | None) -> tuple[str, ...]:
    span = MISSING if choice.low is None or choice.high is None else f"{number(choice.low)} to {number(choice.high)}"
    return (clean(choice.label), number(choice.cost), number(choice.gain), span, count(choice.n),
            "best" if beaten is None else f"beaten by {clean(beaten)}")  # fmt: skip


def _beaten(choice: Choice, choices: Sequence[Choice]) -> str | None:
    for other in choices:
        as_good = other.cost <= choice.cost and other.gain >= choice.gain
        if as_good and (other.cost < choice.cost or other.gain > choice.gain):
            return other.label
    return None
