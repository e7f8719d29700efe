"""Permutation importance as measurements: accuracy or R2 lost, with intervals over rows."""

from __future__ import annotations

import numpy as np

from auditkit.analyzers.explain.explained import LEVEL, TOO_FEW
from auditkit.core.evidence import Interval, Measurement, Scalar, Table
from auditkit.core.subject import Dataset, FloatArray
from auditkit.stats.bounded import bounded_mean
from auditkit.stats.intervals import mean_interval

_ROUNDING = 1e-12


def loss_of(name: str, values: FloatArray, data: Dataset, metric: str) -> Measurement:
    """The importance of one feature; where no row changed at all, the interval is that of a change never seen.

    Args:
        name: The feature.
        values: ``(n,)`` loss of each row when it was shuffled, less its own: errors of decisions, or squared errors.
        data: The rows.
        metric: ``accuracy`` or ``r2``.
    """
    value, interval, reason = _mean_of_shares(values, data) if metric == "accuracy" else _mean_of_losses(values, data)
    return Measurement(
        name="explain.permutation_importance",
        value=value,
        n=data.n,
        interval=interval,
        params={"feature": name, "metric": metric},
        bounds=(-1.0, 1.0) if metric == "accuracy" else (None, None),
        reason=None if interval else reason,
    )


def _mean_of_shares(values: FloatArray, data: Dataset) -> tuple[float | None, Interval | None, str]:
    """Mean of changes in [-1, 1], most of which are 0, with limits that such a mean needs."""
    found = bounded_mean(values, data.weights, data.clusters, least=-1.0)
    return found.value, found.interval(LEVEL), TOO_FEW


def _mean_of_losses(values: FloatArray, data: Dataset) -> tuple[float | None, Interval | None, str]:
    """The R2 lost, with Student's limits; where no prediction moved there is nothing to tell limits from."""
    lost = _shares_of_variance(values, data)
    if lost is None:
        return None, None, "all labels are the same"
    value, interval = mean_interval(lost, data.weights, data.clusters)
    if interval is not None and not bool((np.abs(lost) > _ROUNDING).any()):
        return 0.0, None, "no prediction moved when the feature was shuffled"
    return value if abs(value) > _ROUNDING else 0.0, interval, TOO_FEW


def _shares_of_variance(values: FloatArray, data: Dataset) -> FloatArray | None:
    """``(n,)`` what each row adds to the R2 lost, both of whose parts are means over the rows: their mean is that R2,
    and their spread that of a ratio. ``None`` where the labels do not vary.

    Source: Cochran (1977), section 2.11.
    """
    squares = (data.y - np.average(data.y, weights=data.weights)) ** 2
    variance = float(np.average(squares, weights=data.weights))
    if not variance > (_ROUNDING * float(np.abs(data.y).max())) ** 2:
        return None
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
