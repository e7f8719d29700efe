"""Multinomial bootstrap on the cells: intervals of every count metric whose cost does not grow with the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts
from auditkit.methods.fairness.group_counts import GroupCounts
from auditkit.methods.fairness.table import group_metrics, metric_values

FloatArray = npt.NDArray[np.float64]
_MOST_UNDEFINED = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class BootstrapLimits:
    """Percentile limits ``(M, G)``, NaN where over 5 % of the resamples are undefined.

    Differences (group less reference) and ratios (group over reference) are those of two groups named in advance.
    """

    metrics: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    reference: int
    by_group: tuple[FloatArray, FloatArray]
    difference: tuple[FloatArray, FloatArray]
    ratio: tuple[FloatArray, FloatArray]
    level: float
    resamples: int


def bootstrap_metrics(
    counts: Counts | GroupCounts,
    metrics: Sequence[str] | None = None,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    level: float = 0.95,
    reference: int | None = None,
) -> BootstrapLimits:
    """Percentile bootstrap of every count metric by group, and of each group against one reference group.

    Drawing whole tables of cells is the same as drawing rows with replacement, at a cost that does not depend on the
    number of rows. There is no limit for the largest gap over groups here on purpose: a percentile bootstrap of a
    maximum is biased and may never hold the truth. Use :func:`disparity` for that.

    Args:
        counts: Plain counts: neither weights nor clusters.
        metrics: Names; all that the classes allow by default.
        rng: Seeded generator.
        resamples: Number of tables drawn.
        level: Two-sided confidence level.
        reference: Position of the reference group; the largest group by default.

    Raises:
        UsageError: AK454 weighted or clustered counts; errors of :func:`group_metrics`.

    Source: Efron and Tibshirani (1993), chapter 13.
    """
    table = counts.finest() if isinstance(counts, GroupCounts) else counts
    if table.weight is not None or table.moment is not None:
        raise UsageError(
            "AK454",
            "cells of weighted or clustered rows cannot be drawn as a multinomial",
            fix="use the intervals of disparity() and group_metrics().rates(), which know weights and clusters",
        )
    point = group_metrics(table, metrics)
    k = len(table.classes)
    cells = np.asarray(table.n, dtype=np.float64).reshape(len(table.groups), k * k)
    anchor = int(cells.sum(axis=1).argmax()) if reference is None else reference
    total = cells.sum()
    drawn = rng.multinomial(int(total), cells.ravel() / total, size=resamples)
    values = metric_values(drawn.reshape(resamples, *cells.shape).astype(np.float64), point.metrics, k, table.positive)
    values = np.ascontiguousarray(values.transpose(2, 1, 0))  # (M, G, B): resamples side by side, to be sorted
    base = values[:, anchor : anchor + 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(base > 0, values / base, np.nan)
    return BootstrapLimits(
        metrics=point.metrics,
        groups=table.groups,
        reference=anchor,
        by_group=_limits(values, level),
        difference=_limits(values - base, level),
        ratio=_limits(ratio, level),
        level=level,
        resamples=resamples,
    )


def _limits(values: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Quantiles along the last axis at both ends of ``level``, over the defined resamples (linear interpolation)."""
    undefined = np.isnan(values).sum(axis=-1)
    known = values.shape[-1] - undefined
    usable = (known > 0) & (undefined <= _MOST_UNDEFINED * values.shape[-1])
    ends = []
    places = [np.maximum(known - 1, 0) * tail for tail in ((1 - level) / 2, (1 + level) / 2)]
    wanted = np.unique(np.concatenate([np.floor(places).ravel(), np.ceil(places).ravel()])).astype(np.int64)
    ordered = np.partition(values, wanted, axis=-1)  # NaN is sorted to the end
    for place in places:
        low, high = np.floor(place).astype(np.int64), np.ceil(place).astype(np.int64)
        under = np.take_along_axis(ordered, low[..., None], axis=-1)[..., 0]
        over = np.take_along_axis(ordered, high[..., None], axis=-1)[..., 0]
        ends.append(np.where(usable, under + (over - under) * (place - low), np.nan))
    return ends[0], ends[1]
