"""Area under the ROC curve by exact ranks, with DeLong's variance; TPR at a fixed FPR."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.intervals import wilson, z_value

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def midranks(values: FloatArray) -> FloatArray:
    """Ranks 1..n of ``values (n,)``, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    upper = np.cumsum(counts)
    return np.asarray((upper - (counts - 1) / 2.0)[inverse], dtype=np.float64)


def placements(scores: FloatArray, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """DeLong's structural components: for each positive, the share of negatives below it (ties half), and
    for each negative, the share of positives above it."""
    pos, neg = scores[positive], scores[~positive]
    m, n = len(pos), len(neg)
    ranks = midranks(np.concatenate([pos, neg]))
    v10 = (ranks[:m] - midranks(pos)) / n
    v01 = 1.0 - (ranks[m:] - midranks(neg)) / m
    return v10, v01


def auc(
    scores: FloatArray,
    positive: BoolArray,
    *,
    weights: FloatArray | None = None,
    level: float = 0.95,
) -> tuple[float, Interval | None]:
    """AUC (probability that a positive outranks a negative, ties half) and its logit-DeLong interval.

    Args:
        scores: ``(n,)`` larger means more likely positive.
        positive: ``(n,)`` true labels.
        weights: Row weights; the AUC is then the weighted share of pairs, and no DeLong interval is given.

    Raises:
        ValueError: When a class is empty.

    Source: DeLong, DeLong and Clarke-Pearson (1988); ranks after Sun and Xu (2014); logit
    transform after Qin and Hotilovac (2008).

    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))[0]
    0.75
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        raise ValueError("AUC needs both classes")
    if weights is not None:
        return _weighted_auc(scores, positive, weights), None
    v10, v01 = placements(scores, positive)
    area = float(v10.mean())
    if m < 2 or n < 2:
        return area, None
    variance = float(v10.var(ddof=1)) / m + float(v01.var(ddof=1)) / n
    if 0.0 < area < 1.0 and variance > 0.0:
        center = math.log(area / (1 - area))
        half = z_value(level) * math.sqrt(variance) / (area * (1 - area))
        low, high = (1 / (1 + math.exp(-min(max(center + s * half, -700.0), 700.0))) for s in (-1, 1))
        return area, Interval(low=min(low, area), high=max(high, area), level=level, method="delong-logit")
    # Perfect separation: DeLong's variance is 0. A Wilson bound on the smaller class stays honest.
    bound = wilson(area, float(min(m, n)), level)
    if bound is None:
        return area, None
    return area, Interval(low=bound.low, high=bound.high, level=level, method="wilson-smaller-class")


def _weighted_auc(scores: FloatArray, positive: BoolArray, weights: FloatArray) -> float:
    _, inverse = np.unique(scores, return_inverse=True)
    size = int(inverse.max()) + 1
    pos = np.bincount(inverse[positive], weights=weights[positive], minlength=size)
    neg = np.bincount(inverse[~positive], weights=weights[~positive], minlength=size)
    below = np.cumsum(neg) - neg
    return float((pos * (below + neg / 2.0)).sum() / (pos.sum() * neg.sum()))


def roc_curve(scores: FloatArray, positive: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """False positive rates, true positive rates and thresholds, from (0, 0) to (1, 1); ties as one step."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], positive[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    tp = np.cumsum(hits)[last]
    fp = np.cumsum(~hits)[last]
    fpr = np.concatenate([[0.0], fp / max(int((~positive).sum()), 1)])
    tpr = np.concatenate([[0.0], tp / max(int(positive.sum()), 1)])
    return fpr, tpr, np.concatenate([[np.inf], ranked[last]])


def tpr_at_fpr(
    scores: FloatArray, positive: BoolArray, fpr: float, level: float = 0.95
) -> tuple[float, int, Interval | None]:
    """Largest true positive rate whose false positive rate is at most ``fpr``.

    Returns:
        The rate, the number of false positives behind it, and the Wilson interval of the rate at that
        fixed threshold (the threshold's own uncertainty is not in it).
    """
    rates, hits, _ = roc_curve(scores, positive)
    index = int(np.flatnonzero(rates <= fpr + 1e-12)[-1])
    negatives = int((~positive).sum())
    value = float(hits[index])
    return value, round(float(rates[index]) * negatives), wilson(value, float(positive.sum()), level)
