"""How the output follows one feature: accumulated local effects, partial dependence, mean attributions by value.

The grid is made of means of at least ten rows each, never of single values of the data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.least import need_rows
from auditkit.stats.intervals import mean_interval
from auditkit.stats.resampling import expanded_tail, resample_weights

Outputs = Callable[[FloatArray], FloatArray]

LEAST_ROWS = 10
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A line with a pointwise 95 % band.

    Attributes:
        x: ``(g,)`` values of the feature.
        y: ``(g,)`` the effect, in output units, 0 on average over the rows.
        low: ``(g,)`` lower end, NaN where there is none.
        high: ``(g,)``.
        rows: Rows behind it.
    """

    x: FloatArray
    y: FloatArray
    low: FloatArray
    high: FloatArray
    rows: int


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of an encoded table with their weights and clusters."""

    matrix: FloatArray
    weights: FloatArray | None = None
    clusters: IntArray | None = None

    def known(self, column: int) -> Rows:
        """Those whose value of ``column`` is known."""
        kept = np.isfinite(self.matrix[:, column])
        return Rows(
            matrix=self.matrix[kept],
            weights=None if self.weights is None else self.weights[kept],
            clusters=None if self.clusters is None else self.clusters[kept],
        )

    def masses(self) -> FloatArray:
        """Weights, 1 where there are none."""
        return np.ones(len(self.matrix)) if self.weights is None else self.weights


def bin_means(values: FloatArray, bins: int = 12) -> FloatArray:
    """Ascending means of at most ``bins`` groups of equal size of ``values (n,)``, at least ten in each.

    Equal values stay together; fewer than two groups give an empty grid.

    >>> bin_means(np.repeat([1.0, 2.0, 4.0], 10)).tolist(), bin_means(np.arange(9.0)).tolist()
    ([1.0, 2.0, 4.0], [])
    """
    count = min(bins, len(values) // LEAST_ROWS)
    if count < 2:
        return np.empty(0)
    distinct, sizes = np.unique(values, return_counts=True)
    middle = (np.cumsum(sizes) - sizes / 2.0) / len(values)
    group = np.minimum((middle * count).astype(np.int64), count - 1)
    totals = np.bincount(group, weights=distinct * sizes, minlength=count)
    members = np.bincount(group, weights=sizes, minlength=count)
    filled = members >= LEAST_ROWS
    found = np.unique(totals[filled] / members[filled])
    return found if len(found) >= 2 else np.empty(0)


def accumulated_local_effects(
    outputs: Outputs, rows: Rows, column: int, grid: FloatArray, rng: np.random.Generator, *, draws: int = 300
) -> Effect:
    """First-order ALE of one column, with bootstrap intervals over rows (or clusters).

    Args:
        outputs: Encoded matrix ``(m, f)`` -> outputs ``(m,)``.
        rows: The rows; those beyond the ends of the grid count with its outer cells.
        column: The feature.
        grid: Ascending ends of the cells, two or more.
        rng: Source of the bootstrap.
        draws: Bootstrap samples.

    Raises:
        UsageError: AK500 no row has a value of the column.

    Source: Apley and Zhu (2020), equations 15 and 16.

    >>> line = lambda m: 3.0 * m[:, 0]
    >>> some = Rows(matrix=np.linspace(0, 1, 40)[:, None])
    >>> effect = accumulated_local_effects(line, some, 0, np.array([0.0, 0.5, 1.0]), np.random.default_rng(0))
    >>> np.diff(effect.y).round(9).tolist()
    [1.5, 1.5]
    """
    rows = rows.known(column)
    need_rows(len(rows.matrix))
    n, cells = len(rows.matrix), len(grid) - 1
    cell = np.clip(np.searchsorted(grid, rows.matrix[:, column], side="right") - 1, 0, cells - 1)
    ends = np.concatenate([rows.matrix, rows.matrix])
    ends[:n, column], ends[n:, column] = grid[cell], grid[cell + 1]
    answers = outputs(ends)
    local = answers[n:] - answers[:n]
    member = np.zeros((n, cells))
    member[np.arange(n), cell] = 1.0
    value = _accumulated(rows.masses()[None, :], local, member)[0]
    blocks = resample_weights(rng, n, draws, weights=rows.weights, clusters=rows.clusters)
    drawn = np.concatenate([_accumulated(block, local, member) for block in blocks])
    low, high = _band(drawn, value, n if rows.clusters is None else len(np.unique(rows.clusters)))
    return Effect(x=grid, y=value, low=low, high=high, rows=n)


def _accumulated(masses: FloatArray, local: FloatArray, member: FloatArray) -> FloatArray:
    """``(b, g)`` centred sums of the mean local effects; a cell without rows adds nothing."""
    inside = masses @ member
    mean = np.divide((masses * local) @ member, inside, out=np.zeros_like(inside), where=inside > 0.0)
    line = np.concatenate([np.zeros((len(masses), 1)), np.cumsum(mean, axis=1)], axis=1)
    middles = (line[:, 1:] + line[:, :-1]) / 2.0
    centre = (middles * inside).sum(axis=1, keepdims=True) / inside.sum(axis=1, keepdims=True)
    return np.asarray(line - centre, dtype=np.float64)


def _band(drawn: FloatArray, value: FloatArray, units: int) -> tuple[FloatArray, FloatArray]:
    if units < 2:
        return np.full_like(value, np.nan), np.full_like(value, np.nan)
    tail = expanded_tail(_LEVEL, units)
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
    return np.minimum(low, value), np.maximum(high, value)


def partial_dependence(outputs: Outputs, rows: Rows, column: int, grid: FloatArray) -> Effect:
    """Mean output of all rows with ``column`` set to each point of ``grid``, less its mean over the grid.

    The intervals are those of the mean over rows of each row's own curve, centred alike.

    Source: Friedman (2001), section 8.2.

    >>> some = Rows(matrix=np.ones((12, 2)))
    >>> partial_dependence(lambda m: m[:, 0] ** 2 + m[:, 1], some, 0, np.array([0.0, 2.0])).y.tolist()
    [-2.0, 2.0]
    """
    return dataclasses.replace(category_dependence(outputs, rows, (column,), grid[:, None]), x=grid)


def common_categories(values: FloatArray, most: int = 12) -> FloatArray:
    """``(g, c)`` the combinations of codes ``values (n, c)`` that ten rows or more share, the most frequent first.

    >>> common_categories(np.repeat([[2.0], [0.0], [1.0]], [10, 12, 9], axis=0)).ravel().tolist()
    [0.0, 2.0]
    """
    found, sizes = np.unique(values[np.isfinite(values).all(axis=1)], axis=0, return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    return np.asarray(found[order[sizes[order] >= LEAST_ROWS]][:most], dtype=np.float64)


def category_dependence(outputs: Outputs, rows: Rows, columns: tuple[int, ...], points: FloatArray) -> Effect:
    """Partial dependence of a categorical feature: all rows with ``columns`` set to each of ``points (g, c)``.

    The effect's ``x`` is the position of the point; its mean over the points is taken off.

    Source: Friedman (2001), section 8.2.

    >>> some = Rows(matrix=np.ones((12, 2)))
    >>> sides = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> category_dependence(lambda m: m[:, 0] - m[:, 1], some, (0, 1), sides).y.tolist()
    [-1.0, 1.0]
    """
    need_rows(len(rows.matrix))
    many = np.repeat(rows.matrix[None], len(points), axis=0)
    for place, column in enumerate(columns):
        many[:, :, column] = points[:, place, None]
    answers = outputs(many.reshape(-1, rows.matrix.shape[1])).reshape(len(points), len(rows.matrix))
    answers = answers - answers.mean(axis=0, keepdims=True)
    return _means(np.arange(len(points), dtype=np.float64), answers, rows)


def category_means(values: FloatArray, codes: FloatArray, points: FloatArray, rows: Rows) -> Effect:
    """Mean of ``values (n,)`` over the rows whose ``codes (n, c)`` are each of ``points (g, c)``.

    >>> some, codes = Rows(matrix=np.zeros((20, 1))), np.repeat([[0.0], [1.0]], 10, axis=0)
    >>> category_means(3.0 * codes[:, 0], codes, np.array([[1.0], [0.0]]), some).y.tolist()
    [3.0, 0.0]
    """
    inside = (codes[:, None, :] == points[None, :, :]).all(axis=2)
    where = np.where(inside.any(axis=1), inside.argmax(axis=1), -1).astype(np.float64)
    known = np.where(where < 0.0, np.nan, where)
    return binned_means(values, known, np.arange(len(points), dtype=np.float64), rows)


def binned_means(values: FloatArray, feature: FloatArray, grid: FloatArray, rows: Rows) -> Effect:
    """Mean of ``values (n,)`` over the rows whose feature is nearest to each point of ``grid``, at those rows' mean
    feature: a dependence plot without points. Bins of fewer than ten rows, or without weight, are left out.

    >>> some = Rows(matrix=np.zeros((20, 1)))
    >>> x = np.repeat([0.0, 1.0], 10)
    >>> binned_means(2 * x, x, np.array([0.0, 1.0]), some).y.tolist()
    [0.0, 2.0]
    """
    known = np.isfinite(feature)
    nearest, masses = np.abs(np.nan_to_num(feature)[:, None] - grid[None, :]).argmin(axis=1), rows.masses()
    x, y, low, high = [], [], [], []
    for place in range(len(grid)):
        inside = known & (nearest == place)
        if inside.sum() < LEAST_ROWS or not masses[inside].sum() > 0.0:
            continue
        mean, interval = mean_interval(
            values[inside],
            None if rows.weights is None else rows.weights[inside],
            None if rows.clusters is None else rows.clusters[inside],
        )
        x.append(float(np.average(feature[inside], weights=masses[inside])))
        y.append(mean)
        low.append(interval.low if interval else np.nan)
        high.append(interval.high if interval else np.nan)
    return Effect(x=np.array(x), y=np.array(y), low=np.array(low), high=np.array(high), rows=int(known.sum()))


def _means(grid: FloatArray, answers: FloatArray, rows: Rows) -> Effect:
    found = [mean_interval(line, rows.weights, rows.clusters) for line in answers]
    return Effect(
        x=grid,
        y=np.array([mean for mean, _ in found]),
        low=np.array([interval.low if interval else np.nan for _, interval in found]),
        high=np.array([interval.high if interval else np.nan for _, interval in found]),
        rows=len(rows.matrix),
    )
