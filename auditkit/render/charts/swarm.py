"""Every point drawn, in a handful of paths: beeswarms and dependence plots.

A point is a relative move and a stroke of no length (``m3-2h0``), so that forty thousand points are one path a colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditkit.render.charts.axis import Axis, make_axis, tick_text
from auditkit.render.charts.chart import LABEL_LENGTH, Chart, Key, drawing
from auditkit.render.charts.density import density_chart
from auditkit.render.charts.plot import WIDTH, grid, path, plot, segment, tick_labels
from auditkit.render.charts.svg import Markup, element
from auditkit.render.numerals import count, number
from auditkit.render.text import clean, shorten_inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

LIMIT = 50_000
LEVELS = 5
_ROW, _TOP, _FOOT, _HALF = 46.0, 6.0, 42.0, 13.0
_TALL = 240.0
_BINS = 80
_MEDIAN = Key(css="ak-key-whisker", label="median in bins of as many rows")
_KEYS = (Key(css="ak-key-d0", label="low feature value"), Key(css="ak-key-d4", label="high feature value"))


def beeswarm_chart(
    names: Sequence[str], values: Any, title: str = "", *, label: str, features: Any = None, note: str = ""
) -> Chart:
    """One row of points a feature, piled up where they are many; above 50,000 points, density strips instead.

    Args:
        names: Features, top down.
        values: Attributions ``(n, len(names))``.
        title: The finding; without one, the feature that spreads most.
        label: Words and unit of the axis.
        features: The features' own values, same shape, for the colour; NaN is drawn without.
        note: What a reader must know to read it.

    Points show single rows of the data: a shared page takes :func:`density_chart` unless they are asked for.

    >>> chart = beeswarm_chart(["a", "b"], [[0.0, 1.0], [0.1, -1.0]], label="attribution")
    >>> chart.title, chart.rows[0][:2]
    ('b spreads most, with four of five rows from −0.800 to 0.800.', ('a', '2'))
    """
    import numpy as np

    table = np.asarray(values, dtype=np.float64)
    shades = _ranks(np.asarray(features, dtype=np.float64)) if features is not None else None
    summary = [_summary(name, table[:, index]) for index, name in enumerate(names)]
    title = title or _spread(names, table)
    low, high = (float(table.min()), float(table.max())) if table.size else (0.0, 1.0)
    if table.size > LIMIT:
        return _as_density(names, table, shades, title, label, note)
    axis = make_axis([low, high], label)
    bottom = _TOP + _ROW * len(names) + 4.0
    middles = [_TOP + _ROW * index + 31.0 for index in range(len(names))]
    x = np.rint(WIDTH * np.vectorize(axis.across)(table)).astype(np.int64) if table.size else table.astype(np.int64)
    y = np.empty_like(x)
    for index, middle in enumerate(middles):
        y[:, index] = np.rint(middle + _piled(x[:, index])).astype(np.int64)
    marks = [grid(axis, _TOP, bottom), path((segment("0", "1000", middle) for middle in middles), "ak-track")]
    marks += _coloured(x, y, shades)
    labels = [element("text", shorten_inside(name, LABEL_LENGTH), y=middle - 18.0, class_="ak-halo")
              for name, middle in zip(names, middles, strict=True)]  # fmt: skip
    return Chart(
        title=clean(title),
        drawing=drawing(f"Points piled up; axis: {axis.caption}.", bottom + _FOOT, plot(bottom, *marks),
                        tick_labels(axis, bottom), *labels),
        columns=("Feature", "Rows", "10th percentile", "Median", "90th percentile"),
        rows=tuple(summary),
        keys=_KEYS if shades is not None else (),
        note=clean(f"One point a row of data. {note}").strip(),
        axes=axis.caption,
    )  # fmt: skip


def dependence_chart(
    feature: Any, values: Any, title: str = "", *, name: str, label: str, color: Any = None, note: str = ""
) -> Chart:
    """Attribution against the feature's own value, with the median in ten bins of as many rows each.

    Args:
        feature: The feature's values ``(n,)``; rows without one are left out.
        values: Its attributions ``(n,)``.
        title: The finding; without one, the medians of the first and the last bin.
        name: The feature.
        label: Words and unit of the attributions.
        color: Another feature's values ``(n,)``, for the colour.
        note: What a reader must know to read it.

    Source: Lundberg et al. (2020), From local explanations to global understanding with explainable AI for trees.

    >>> dependence_chart([0, 1, 2, 3], [0.0, 0.1, 0.2, 0.3], name="age", label="attribution").title
    'At the lowest values of age the median attribution is 0, at the highest 0.300.'
    """
    import numpy as np

    xs, ys = np.asarray(feature, dtype=np.float64), np.asarray(values, dtype=np.float64)
    kept = np.isfinite(xs) & np.isfinite(ys)
    shades = _ranks(np.asarray(color, dtype=np.float64)[kept][:, None]) if color is not None else None
    xs, ys = xs[kept], ys[kept]
    bins = _bins(xs, ys)
    if not title and bins:
        title = (f"At the lowest values of {clean(name)} the median {clean(label)} is {number(bins[0][2])},"
                 f" at the highest {number(bins[-1][2])}.")  # fmt: skip
    across, upward = make_axis(xs.tolist(), name), make_axis(ys.tolist(), label)
    bottom = _TOP + 14.0 + _TALL
    x = np.rint(WIDTH * np.array([across.across(v) for v in xs])).astype(np.int64)
    y = np.rint(np.array([_height(v, upward, bottom) for v in ys])).astype(np.int64)
    levels = (segment("0", "1000", _height(tick, upward, bottom)) for tick in upward.ticks)
    median = "L".join(f"{WIDTH * across.across(b[1]):.0f} {_height(b[2], upward, bottom):.0f}" for b in bins)
    marks = [path(levels, "ak-grid"), grid(across, _TOP, bottom), *_coloured(x[:, None], y[:, None], shades),
             path([f"M{median}"] if len(bins) > 1 else [], "ak-whisker ak-over")]  # fmt: skip
    ticks = [element("text", tick_text(tick), y=_height(tick, upward, bottom) - 3.0, class_="ak-halo")
             for tick in upward.ticks]  # fmt: skip
    beside = element("g", element("text", upward.caption, y=11.0), *ticks, class_="ak-y")
    return Chart(
        title=clean(title),
        drawing=drawing(f"Points; across: {across.caption}; up: {upward.caption}.", bottom + _FOOT,
                        plot(bottom, *marks), beside, tick_labels(across, bottom)),
        columns=(f"Mean {clean(name)} of the bin", "Rows", "10th percentile", "Median", "90th percentile"),
        rows=tuple((number(b[1]), count(b[0]), number(b[3]), number(b[2]), number(b[4])) for b in bins),
        keys=(_MEDIAN, *(_KEYS if shades is not None else ())),
        note=clean(f"One point a row of data. {note}").strip(),
        axes=f"{across.caption}, {upward.caption}",
    )  # fmt: skip


def _height(value: float, axis: Axis, bottom: float) -> float:
    top = _TOP + 26.0
    return top + (bottom - top) * (1.0 - axis.fraction(float(value)))


def _bins(xs: Floats, ys: Floats) -> list[tuple[int, float, float, float, float]]:
    """Up to ten bins by rank of x: rows, mean x, median, tenth and ninetieth percentile of y."""
    import numpy as np

    order = np.argsort(xs, kind="stable")
    parts = [part for part in np.array_split(order, min(10, max(1, len(order)))) if len(part)]
    out = []
    for part in parts:
        low, middle, high = (float(q) for q in np.quantile(ys[part], (0.1, 0.5, 0.9)))
        out.append((len(part), float(xs[part].mean()), middle, low, high))
    return out


def _ranks(features: Floats) -> Floats:
    """Ranks of each column in [0, 1]; ties share the lowest, missing stays NaN."""
    import numpy as np

    out = np.full(features.shape, np.nan)
    for index in range(features.shape[1]):
        column = features[:, index]
        there = np.isfinite(column)
        ordered = np.sort(column[there])
        if len(ordered):
            out[there, index] = np.searchsorted(ordered, column[there]) / max(len(ordered) - 1, 1)
    ranks: Floats = np.minimum(out, 1.0)
    return ranks


def _piled(x: npt.NDArray[np.int64]) -> Floats:
    """Heights that put points of one bin on top of and below each other, scaled to the fullest bin."""
    import numpy as np

    bins = np.clip(x * _BINS // int(WIDTH), 0, _BINS - 1)
    order = np.argsort(bins, kind="stable")
    ordered = bins[order]
    starts = np.searchsorted(ordered, ordered)
    place = np.arange(len(ordered)) - starts
    steps = np.where(place % 2 == 0, place // 2, -(place // 2 + 1)).astype(np.float64)
    fullest = float(np.abs(steps).max()) if len(steps) else 0.0
    step = min(2.5, _HALF / fullest) if fullest else 0.0
    out = np.empty(len(x))
    out[order] = steps * step
    return out


def _coloured(x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], shades: Floats | None) -> list[Markup | None]:
    """One path a colour; points on the same pixel are drawn once."""
    import numpy as np

    if shades is None:
        level = np.full(x.shape, -1, dtype=np.int64)
    else:
        known = np.nan_to_num(shades, nan=0.0)
        level = np.where(np.isnan(shades), -1, np.minimum(LEVELS - 1, (known * LEVELS).astype(np.int64)))
    marks = []
    for shade in range(-1, LEVELS):
        chosen = level == shade
        points = np.unique(np.stack([y[chosen], x[chosen]], axis=1), axis=0)
        marks.append(path(_moves(points), f"ak-swarm ak-q{'n' if shade < 0 else shade}"))
    return marks


def _moves(points: npt.NDArray[np.int64]) -> list[str]:
    import numpy as np

    if not len(points):
        return []
    steps = np.diff(points, axis=0, prepend=np.zeros((1, 2), dtype=np.int64))
    return [f"m{dx}{'' if dy < 0 else ' '}{dy}h0" for dy, dx in steps.tolist()]


def _summary(name: str, column: Floats) -> tuple[str, ...]:
    import numpy as np

    if not len(column):
        return clean(name), "0", *(number(None),) * 3
    return clean(name), count(len(column)), *(number(float(q)) for q in np.quantile(column, (0.1, 0.5, 0.9)))


def _spread(names: Sequence[str], table: Floats) -> str:
    import numpy as np

    if not table.size:
        return "There are no rows to draw."
    low, high = np.quantile(table, (0.1, 0.9), axis=0)
    most = int(np.argmax(high - low))
    return (f"{clean(names[most])} spreads most, with four of five rows from {number(float(low[most]))}"
            f" to {number(float(high[most]))}.")  # fmt: skip


def _as_density(names: Sequence[str], table: Floats, shades: Floats | None, title: str, label: str, note: str) -> Chart:
    import numpy as np

    edges = np.linspace(table.min(), table.max(), _BINS + 1)
    counts, colors = [], []
    for index in range(table.shape[1]):
        cells = np.histogram(table[:, index], edges)[0]
        counts.append([int(n) for n in cells])
        if shades is not None:
            sums = np.histogram(table[:, index], edges, weights=np.nan_to_num(shades[:, index]))[0]
            colors.append([float(s / n) if n else None for s, n in zip(sums, cells, strict=True)])
    return density_chart(list(names), edges.tolist(), counts, title, label=label, color=colors, note=note)
