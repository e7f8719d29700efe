"""Performance from counts of rows: the same numbers and intervals as from the rows, where counts give them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.methods.performance.classification import Macro, class_correlation, empty_class, f1_of
from auditkit.methods.performance.curves import Cumulated
from auditkit.stats.estimate import Estimate, Share, undefined
from auditkit.stats.intervals import exact_share, t_value
from auditkit.stats.linearised import logit_bounds
from auditkit.stats.mean_shares import mean_of_shares

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def share(hits: int, n: int, lack: str) -> Estimate:
    """``hits`` of ``n`` rows, with exact limits; undefined with the sentence ``lack`` when there are none.

    >>> share(3, 4, "no rows").value
    0.75
    """
    if n == 0:
        return undefined(lack)
    value = hits / n
    return Estimate(value, n, lambda level: exact_share(value, n, level), share=Share(value, lambda _: float(n)))


def class_estimates(cells: IntArray, label: int) -> dict[str, Estimate]:
    """Precision, recall and F1 of one class from ``cells (k, k)``, label x decision."""
    right, labelled, chosen = int(cells[label, label]), int(cells[label].sum()), int(cells[:, label].sum())
    either = share(right, labelled + chosen - right, "F1 needs rows that are, or were decided as, the class")
    return {
        "precision": share(right, chosen, "precision needs rows decided as the class, and there are none"),
        "recall": share(right, labelled, "recall needs rows of the class, and there are none"),
        "f1": f1_of(either),
    }


def macro(cells: IntArray, classes: Sequence[str], kind: Macro) -> Estimate:
    """``classification.macro`` from ``cells (k, k)``, label x decision."""
    k, n = len(classes), int(cells.sum())
    lacking = empty_class(cells, classes, kind) if n else "no rows"
    if lacking:
        return undefined(lacking, n)
    each = [class_estimates(cells, code)[kind] for code in range(k)]
    whole = cells.astype(np.float64)
    return mean_of_shares(each, n, class_correlation(whole, whole, kind))


def mean_loss(total: float, squares: float, n: int) -> Estimate:
    """Mean of ``n`` losses from their sum and the sum of their squares; Student-t limits, not below 0."""
    if n == 0:
        return undefined("no rows")
    value = total / n
    if n < 2:
        return Estimate(value, n, None, "one independent row gives no interval")
    variance = max(squares / n - value**2, 0.0) / (n - 1)

    def bounds(level: float) -> Interval:
        half = t_value(level, n - 1) * math.sqrt(variance)
        low = max(value - half, 0.0)
        return Interval(low=low, high=value + half, level=level, method="student-t", degrees_of_freedom=n - 1)

    return Estimate(value, n, bounds)


def binned_auc(positive: IntArray, negative: IntArray) -> tuple[Estimate, float]:
    """AUC with scores of one bin as ties, and the most by which the exact AUC can differ.

    Args:
        positive: ``(b,)`` positive rows of each score bin, from low to high.
        negative: ``(b,)`` negative rows.

    The bound is half the share of pairs that fall into one bin. The interval is DeLong's on the binned scores, with
    the bound added on both sides.

    Source: DeLong, DeLong and Clarke-Pearson (1988); Hanley and McNeil (1982) for the area as a share of pairs.

    >>> found, bound = binned_auc(np.array([0, 1, 3]), np.array([2, 1, 0]))
    >>> round(found.value, 4), round(bound, 4)
    (0.9583, 0.0417)
    """
    m, n = int(positive.sum()), int(negative.sum())
    if m == 0 or n == 0:
        return undefined(f"ROC AUC needs both classes: {m} positive and {n} negative rows", m + n), 0.0
    v10 = (np.cumsum(negative) - negative / 2.0) / n
    v01 = 1.0 - (np.cumsum(positive) - positive / 2.0) / m
    area = float((positive * v10).sum()) / m
    bound = float((positive / m * (negative / n)).sum()) / 2.0
    if m < 2 or n < 2:
        return Estimate(area, m + n, None, "a class with one row gives no interval"), bound
    spread = [
        float((rows * (placed - area) ** 2).sum()) / (size - 1) / size
        for rows, placed, size in ((positive, v10, m), (negative, v01, n))
    ]
    inner = logit_bounds(area, sum(spread), m + n, float(min(m, n)), "delong-logit-binned")

    def bounds(level: float) -> Interval | None:
        found = inner(level)
        if found is None:
            return None
        return replace(found, low=max(found.low - bound, 0.0), high=min(found.high + bound, 1.0))

    return Estimate(area, m + n, bounds), bound


def cumulate_bins(positive: IntArray, negative: IntArray) -> Cumulated:
    """The ROC curve of ``positive (b,)`` and ``negative (b,)`` rows by score bin, at the thresholds between bins.

    >>> cumulate_bins(np.array([0, 3]), np.array([2, 1])).tpr.tolist()
    [0.0, 1.0, 1.0]
    """
    edges = np.linspace(1.0, 0.0, len(positive) + 1)
    true, false = (np.concatenate([[0], np.cumsum(side[::-1])]).astype(np.float64) for side in (positive, negative))
    return Cumulated(edges, true, false)
