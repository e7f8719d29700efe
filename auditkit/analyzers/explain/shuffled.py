"""Permutation importance as measurements: accuracy or R2 lost, with intervals over rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from auditkit.analyzers.explain.explained import LEVEL, TOO_FEW
from auditkit.core.evidence import Interval, Measurement, Scalar, Table
from auditkit.core.subject import Dataset, FloatArray
from auditkit.methods.explain.permuted import Shuffled, steadied
from auditkit.stats.bounded import bounded_mean
from auditkit.stats.intervals import mean_interval
from auditkit.stats.linearised import Design, cluster_sums

_ROUNDING = 1e-12


def loss_of(name: str, lost: Shuffled, place: int, data: Dataset, metric: str) -> Measurement:
    """The importance of one feature; where no row changed at all, the interval is that of a change never seen.

    Args:
        name: The feature.
        lost: What shuffling loses: errors of decisions, or squared errors.
        place: The feature's position in it.
        data: The rows.
        metric: ``accuracy`` or ``r2``.
    """
    value, interval, reason = (_mean_of_shares if metric == "accuracy" else _mean_of_losses)(lost, place, data)
    return Measurement(
        name="explain.permutation_importance",
        value=value,
        n=data.n,
        interval=interval,
        params={"feature": name, "metric": metric},
        bounds=(-1.0, 1.0) if metric == "accuracy" else (None, None),
        reason=None if interval else reason,
    )


def _mean_of_shares(lost: Shuffled, place: int, data: Dataset) -> tuple[float | None, Interval | None, str]:
    """Mean of changes in [-1, 1], most of which are 0, with limits that such a mean needs.

    They know what a row loses; where what others lose by its feature adds to the error, they reach as much further.
    """
    found = bounded_mean(lost.losses[place], data.weights, data.clusters, least=-1.0)
    value, interval = found.value, found.interval(LEVEL)
    if value is None or interval is None:
        return value, interval, TOO_FEW
    parts = steadied(lost.parts[place], float(lost.noise[place]), Design(data.weights, data.clusters))
    own, whole = (_spread(some, value, data) for some in (lost.losses[place], parts))
    further = max(whole / own, 1.0) if own > 0.0 else 1.0
    low, high = value - further * (value - interval.low), value + further * (interval.high - value)
    return value, replace(interval, low=max(low, -1.0), high=min(high, 1.0)), TOO_FEW


def _spread(values: FloatArray, mean: float, data: Dataset) -> float:
    """Root of the sum of squares that the variance of a mean comes from."""
    moved = values - mean if data.weights is None else data.weights * (values - mean)
    return float(np.sqrt((cluster_sums(moved, data.clusters) ** 2).sum()))


def _mean_of_losses(lost: Shuffled, place: int, data: Dataset) -> tuple[float | None, Interval | None, str]:
    """The R2 lost, with Student's limits; where no prediction moved there is nothing to tell limits from."""
    variance = _label_variance(data)
    if variance is None:
        return None, None, "all labels are the same"
    parts = _shares_of_variance(lost.parts[place], variance, data)
    parts = steadied(parts, float(lost.noise[place]) / variance**2, Design(data.weights, data.clusters))
    value, interval = mean_interval(parts, data.weights, data.clusters)
    if interval is not None and not bool((np.abs(lost.losses[place]) > _ROUNDING * variance).any()):
        return 0.0, None, "no prediction moved when the feature was shuffled"
    return value if abs(value) > _ROUNDING else 0.0, interval, TOO_FEW


def _label_variance(data: Dataset) -> float | None:
    """Weighted variance of the labels; ``None`` where they do not vary beyond rounding."""
    squares = (data.y - np.average(data.y, weights=data.weights)) ** 2
    variance = float(np.average(squares, weights=data.weights))
    return variance if variance > (_ROUNDING * float(np.abs(data.y).max())) ** 2 else None


def _shares_of_variance(values: FloatArray, variance: float, data: Dataset) -> FloatArray:
    """``(n,)`` what each row adds to the R2 lost, both of whose parts are means over the rows: their mean is that R2,
    and their spread that of a ratio.

    Source: Cochran (1977), section 2.11.
    """
    squares = (data.y - np.average(data.y, weights=data.weights)) ** 2
    ratio = float(np.average(values, weights=data.weights)) / variance
    return np.asarray((values - ratio * squares) / variance + ratio, dtype=np.float64)


def loss_table(measured: list[Measurement], metric: str, repeats: int) -> Table:
    """The same as a table, in the order given."""
    rows: list[tuple[Scalar, ...]] = [
        (m.params["feature"], m.value, m.interval.low if m.interval else None, m.interval.high if m.interval else None)
        for m in measured
    ]
    return Table(
        name="explain.global.permutation",
        title=f"{'R2' if metric == 'r2' else 'Accuracy'} lost when a feature is shuffled",
        columns=("feature", "lost", "low", "high"),
        rows=tuple(rows),
        note=f"{measured[0].n} rows, {repeats} shuffles; features that stand in for one another share what they hold.",
    )
