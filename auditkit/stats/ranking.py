"""Area under the ROC curve by exact ranks, with DeLong's variance; TPR at a fixed FPR."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.intervals import exact_share, kish_n, z_value
from auditkit.stats.linearised import cluster_sums, logit_bounds, variance_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
# Scores, or what orders rows as scores do.
ScoreArray = npt.NDArray[np.floating[Any] | np.integer[Any]]

# Levels up to so many times the number of rows are counted and not sorted.
_COUNTED = 16


def midranks(values: FloatArray) -> FloatArray:
    """Ranks 1..n of ``values (n,)``, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    upper = np.cumsum(counts)
    return np.asarray((upper - (counts - 1) / 2.0)[inverse], dtype=np.float64)


def score_levels(scores: ScoreArray) -> tuple[ScoreArray, IntArray]:
    """The distinct ``scores (n,)`` in rising order, and the place ``(n,)`` of each row's score among them.

    Levels of scores are scores too, as far as order goes: whole numbers that are not much larger than the number of
    rows are counted, which takes a fraction of the time of sorting.

    >>> score_levels(np.array([0.7, 0.2, 0.7]))[1].tolist(), score_levels(np.array([5, 2, 5]))[1].tolist()
    ([1, 0, 1], [1, 0, 1])
    """
    if scores.dtype.kind in "iu" and len(scores) and scores.min() >= 0 and scores.max() < _COUNTED * len(scores):
        filled = np.bincount(scores) > 0
        return np.flatnonzero(filled), np.asarray((np.cumsum(filled) - 1)[scores], dtype=np.int64)
    distinct, place = np.unique(scores, return_inverse=True)
    return distinct, place.astype(np.int64, copy=False)


def placements(scores: ScoreArray, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """DeLong's structural components: for each positive, the share of negatives below it (ties half), and
    for each negative, the share of positives above it."""
    _, _, below, above, place = _levels(scores, positive, np.ones(len(scores)))
    return below[place[positive]], above[place[~positive]]


def _levels(
    scores: ScoreArray, positive: BoolArray, w: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, IntArray]:
    """Of each distinct score, in rising order: the weight of positives and of negatives that have it, the share of
    negatives below it and of positives above it (ties half); and the place ``(n,)`` of each row's score."""
    found, place = score_levels(scores)
    pos, neg = (
        np.asarray(np.bincount(place[rows], weights=w[rows], minlength=len(found)), dtype=np.float64)
        for rows in (positive, ~positive)
    )
    mass_pos, mass_neg = float(pos.sum()) or 1.0, float(neg.sum()) or 1.0
    below = (np.cumsum(neg) - neg / 2.0) / mass_neg
    above = (mass_pos - np.cumsum(pos) + pos / 2.0) / mass_pos
    return pos, neg, below, above, place


def auc(
    scores: ScoreArray,
    positive: BoolArray,
    *,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    level: float = 0.95,
) -> tuple[float, Interval | None]:
    """AUC (probability that a positive outranks a negative, ties half) and its logit-DeLong interval.

    Args:
        scores: ``(n,)`` larger means more likely positive.
        positive: ``(n,)`` true labels.
        weights: Row weights; the AUC is then the weighted share of pairs.
        clusters: ``(n,)`` codes of what rows belong together; the variance is then summed over clusters.
        level: Two-sided confidence level.

    Raises:
        ValueError: When a class is empty.

    Source: DeLong, DeLong and Clarke-Pearson (1988); ranks after Sun and Xu (2014); logit
    transform after Qin and Hotilovac (2008); clusters after Obuchowski (1997), Biometrics 53.

    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))[0]
    0.75
    """
    found = auc_estimate(scores, positive, weights, clusters)
    if found.value is None:
        raise ValueError("AUC needs both classes")
    return found.value, found.interval(level)


def auc_estimate(
    scores: ScoreArray,
    positive: BoolArray,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
) -> Estimate:
    """The AUC of :func:`auc` with its interval at any level, or the reason why there is none."""
    m = int(positive.sum())
    n = len(positive) - m
    if m == 0 or n == 0:
        return undefined(f"ROC AUC needs both classes: {m} positive and {n} negative rows", m + n)
    if weights is None and clusters is None:
        return _delong(scores, positive, m, n)
    area, parts = auc_parts(scores, positive, weights)
    variance, units = variance_of(parts, clusters)
    smaller = min(_units(positive, weights, clusters), _units(~positive, weights, clusters))
    if units < 2 or smaller < 2:
        return Estimate(area, m + n, None, "a class with one independent row gives no interval")
    method = "delong-linearised-logit" if clusters is None else "delong-clustered-logit"
    return Estimate(area, m + n, logit_bounds(area, variance, units, smaller, method))


def _delong(scores: ScoreArray, positive: BoolArray, m: int, n: int) -> Estimate:
    v10, v01 = placements(scores, positive)
    area = float(v10.mean())
    if m < 2 or n < 2:
        return Estimate(area, m + n, None, "a class with one row gives no interval")
    variance = float(v10.var(ddof=1)) / m + float(v01.var(ddof=1)) / n

    def bounds(level: float) -> Interval | None:
        if not (0.0 < area < 1.0 and variance > 0.0):
            # Perfect separation or all ties: DeLong's variance is 0. Exact limits on the smaller class stay honest.
            return exact_share(area, float(min(m, n)), level, "exact-smaller-class")
        center = math.log(area / (1 - area))
        half = z_value(level) * math.sqrt(variance) / (area * (1 - area))
        low, high = (1 / (1 + math.exp(-min(max(center + s * half, -700.0), 700.0))) for s in (-1, 1))
        return Interval(low=min(low, area), high=max(high, area), level=level, method="delong-logit")

    return Estimate(area, m + n, bounds)


def _units(rows: BoolArray, weights: FloatArray | None, clusters: IntArray | None) -> float:
    mass = np.ones(int(rows.sum())) if weights is None else weights[rows]
    return kish_n(cluster_sums(mass, None if clusters is None else clusters[rows]))


def auc_parts(scores: ScoreArray, positive: BoolArray, weights: FloatArray | None = None) -> tuple[float, FloatArray]:
    """Weighted AUC and its parts ``(n,)``: each row's share of the error, summing to 0 in each class."""
    w = np.ones(len(scores)) if weights is None else weights
    pos, neg, below, above, place = _levels(scores, positive, w)
    mass_pos, mass_neg = float(pos.sum()), float(neg.sum())
    area = min(max(float((pos * below).sum()) / mass_pos, 0.0), 1.0)
    placed = np.where(positive, below[place], above[place])
    return area, w * (placed - area) / np.where(positive, mass_pos, mass_neg)


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
        The rate, the number of false positives behind it, and the exact interval of the rate at that
        fixed threshold (the threshold's own uncertainty is not in it).
    """
    rates, hits, _ = roc_curve(scores, positive)
    index = int(np.flatnonzero(rates <= fpr + 1e-12)[-1])
    negatives = int((~positive).sum())
    value = float(hits[index])
    return value, round(float(rates[index]) * negatives), exact_share(value, float(positive.sum()), level)
