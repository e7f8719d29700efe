"""What a curve or a density says, in one sentence, from its own numbers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from auditkit.core.evidence import Curve, Density, Measurement, Series
from auditkit.render.charts.density import quantile
from auditkit.render.numerals import number, setting
from auditkit.render.text import clean

Point = tuple[float, float]


def curve_finding(curve: Curve, measurements: Sequence[Measurement] = ()) -> str:
    """The analyzer's title followed by what there is to see; the title alone where it is a sentence already.

    >>> line = Series(name="a", x=(0.0, 0.1), y=(0.9, 0.4))
    >>> curve_finding(Curve(name="r.x", title="Attack", x_label="eps", y_label="accuracy", series=(line,)))
    'Attack: accuracy falls from 0.900 at eps 0 to 0.400 at 0.1.'
    """
    title = clean(curve.title).strip()
    if title.endswith("."):
        return title
    name = curve.name.lower()
    lines = [(series, _points(series)) for series in curve.series]
    if name == "thresholds":
        return _own_threshold(title, curve)
    drawn = [(series, points) for series, points in lines if len(points) > 1 and not _is_diagonal(points)]
    if not drawn:
        return f"{title}."
    if "roc" in name.replace("-", "_").split(".")[-1].split("_"):
        said = _areas(drawn, measurements)
    elif "reliability" in name or "calibration" in name:
        said = _largest_gap(drawn)
    else:
        said = _largest_change(curve, drawn)
    return f"{title}: {said}" if said else f"{title}."


def _own_threshold(title: str, curve: Curve) -> str:
    """Where the model's own decision lies in a sweep of thresholds."""
    own = next((p for series in curve.series if "own decision" in series.name for p in _points(series)), None)
    if own is None:
        return f"{title}."
    return f"{title}: the model's own is about {_short(own[0])}, where it selects {number(own[1])} of the rows."


def _points(series: Series) -> list[Point]:
    return [(x, y) for x, y in zip(series.x, series.y, strict=True) if y is not None]


def _is_diagonal(points: Sequence[Point]) -> bool:
    return len(points) == 2 and all(x == y for x, y in points)


def _areas(lines: Sequence[tuple[Series, list[Point]]], measurements: Sequence[Measurement]) -> str:
    areas = [(_area(points), clean(series.name)) for series, points in lines]
    measured = [m.value for m in measurements if m.name.endswith("roc_auc") and not m.slice and not m.params]
    if len(areas) == 1:
        value = measured[0] if measured and measured[0] is not None else areas[0][0]
        return f"the area under the curve is {number(value)}; guessing gives 0.5."
    low, high = min(areas), max(areas)
    if number(low[0]) == number(high[0]):
        return f"the area under the curve is {number(low[0])} for each; guessing gives 0.5."
    return f"the area under the curve runs from {number(low[0])} for {low[1]} to {number(high[0])} for {high[1]}."


def _area(points: Sequence[Point]) -> float:
    """The area by trapezoids; a curve drawn from a thinned set of points loses the fourth digit at most."""
    ordered = sorted(points)
    return sum((x1 - x0) * (y0 + y1) / 2.0 for (x0, y0), (x1, y1) in itertools.pairwise(ordered))


def _largest_gap(lines: Sequence[tuple[Series, list[Point]]]) -> str:
    gap, x, y, name = max((abs(y - x), x, y, clean(series.name)) for series, points in lines for x, y in points)
    who = f" ({name})" if len(lines) > 1 else ""
    if gap < 0.005:
        return f"stated and observed agree within {number(max(gap, 0.001))} everywhere."
    return f"the largest gap is {number(gap)}, where {number(x)} is stated and {number(y)} happens{who}."


def _largest_change(curve: Curve, lines: Sequence[tuple[Series, list[Point]]]) -> str:
    series, points = max(lines, key=lambda item: (abs(item[1][-1][1] - item[1][0][1]), item[0].name))
    (x0, y0), (x1, y1) = points[0], points[-1]
    who = f" for {clean(series.name)}" if len(lines) > 1 else ""
    what, along = clean(curve.y_label), clean(curve.x_label)
    if y0 == y1:
        return f"{what}{who} is {number(y0)} at {along} {_short(x0)} and at {_short(x1)}."
    verb = "falls" if y1 < y0 else "rises"
    return f"{what}{who} {verb} from {number(y0)} at {along} {_short(x0)} to {number(y1)} at {_short(x1)}."


def _short(x: float) -> str:
    return setting(float(f"{x:.4g}"))


def density_finding(density: Density) -> str:
    """The strip that spreads most, between its tenth and ninetieth percentile."""
    title = clean(density.title).strip()
    if title.endswith("."):
        return title
    spreads = []
    for name, cells in zip(density.rows, density.counts, strict=True):
        low, high = (quantile(density.edges, cells, level) for level in (0.1, 0.9))
        if low is not None and high is not None:
            spreads.append((high - low, clean(name), low, high))
    if not spreads:
        return f"{title}."
    _, name, low, high = max(spreads)
    return f"{title}: {name} spreads most, with four of five rows from {number(low)} to {number(high)}."
