"""Quality of scores: ROC AUC, average precision, log loss and Brier score, each with an interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.linearised import PLAIN, Design, logit_bounds, mean, variance_of
from auditkit.stats.ranking import ScoreArray, auc_estimate, auc_parts, score_levels
from auditkit.stats.scores import log_losses

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def roc_auc(scores: ScoreArray, positive: BoolArray, design: Design = PLAIN) -> Estimate:
    """Probability that a positive row outranks a negative one, ties half; logit-DeLong interval.

    Source: DeLong, DeLong and Clarke-Pearson (1988); clusters: Obuchowski (1997).

    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])).value
    0.75
    """
    return auc_estimate(scores, positive, design.weights, design.clusters)


def macro_roc_auc(scores: ScoreArray, y: IntArray, classes: Sequence[str], design: Design = PLAIN) -> Estimate:
    """Plain mean over classes of the one-versus-rest AUC of each score column.

    Args:
        scores: ``(n, k)``.
        y: ``(n,)`` class codes.
        classes: Names of the ``k`` classes.
        design: Weights and clusters.

    Interval: linearised (the AUCs share rows, so their parts are added before squaring), on the logit scale.

    Source: Provost and Domingos (2000) for one-versus-rest; DeLong et al. (1988) for the parts.
    """
    n, k = len(y), len(classes)
    if n == 0:
        return undefined("no rows")
    sizes = np.bincount(y, minlength=k)
    if (lack := _one_sided(sizes, classes)) is not None:
        return undefined(lack, n)
    found = [auc_parts(scores[:, code], y == code, design.weights) for code in range(k)]
    value = float(np.mean([area for area, _ in found]))
    variance, units = variance_of(np.mean([parts for _, parts in found], axis=0), design.clusters)
    smallest = min(design.take(y == code).units(int(sizes[code])) for code in range(k))
    if units < 2 or smallest < 2:
        return Estimate(value, n, None, "a class with one independent row gives no interval")
    method = "delong-clustered-logit" if design.clusters is not None else "delong-linearised-logit"
    return Estimate(value, n, logit_bounds(value, variance, units, smallest, method))


def _one_sided(sizes: IntArray, classes: Sequence[str]) -> str | None:
    empty = [name for name, size in zip(classes, sizes, strict=True) if size == 0]
    if not empty:
        return None
    return f"class {empty[0]!r} has no rows, so the mean over classes is undefined"


def average_precision(scores: ScoreArray, positive: BoolArray, design: Design = PLAIN) -> Estimate:
    """Sum over thresholds of precision times the gain in recall, ties as one threshold.

    Interval: linearised, on the logit scale, with the number of positive units less one as degrees of freedom.

    Args:
        scores: ``(n,)`` larger means more likely positive.
        positive: ``(n,)`` true labels.
        design: Weights and clusters.

    Source: Boyd, Eng and Page (2013), ECML PKDD, for the logit interval; derivative by the chain rule.

    >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])).value, 4)
    0.8333
    """
    n, m = len(positive), int(positive.sum())
    if m == 0 or m == n:
        return undefined(f"average precision needs both classes: {m} positive and {n - m} negative rows", n)
    value, parts = _precision_parts(scores, positive, design.masses(n))
    return _precision_estimate(value, parts, design.take(positive).units(m), n, design)


def macro_average_precision(
    scores: ScoreArray, y: IntArray, classes: Sequence[str], design: Design = PLAIN
) -> Estimate:
    """Plain mean over classes of the one-versus-rest average precision of each score column ``scores (n, k)``."""
    n, k = len(y), len(classes)
    if n == 0:
        return undefined("no rows")
    sizes = np.bincount(y, minlength=k)
    if (lack := _one_sided(sizes, classes)) is not None:
        return undefined(lack, n)
    found = [_precision_parts(scores[:, code], y == code, design.masses(n)) for code in range(k)]
    smallest = min(design.take(y == code).units(int(sizes[code])) for code in range(k))
    value = float(np.mean([value for value, _ in found]))
    return _precision_estimate(value, np.mean([parts for _, parts in found], axis=0), smallest, n, design)


def _precision_parts(scores: ScoreArray, positive: BoolArray, w: FloatArray) -> tuple[float, FloatArray]:
    """Average precision and its parts ``(n,)``: what moving each row's weight does to it."""
    distinct, place = score_levels(scores)
    steps = len(distinct)
    level_of = steps - 1 - place
    gained = np.bincount(level_of, weights=w * positive, minlength=steps)
    seen = np.cumsum(np.bincount(level_of, weights=w, minlength=steps))
    total = float(gained.sum())
    precise = np.cumsum(gained) / seen
    value = min(float((gained * precise).sum()) / total, 1.0)
    later = np.cumsum((gained / seen)[::-1])[::-1]
    drag = np.cumsum((gained * precise / seen)[::-1])[::-1]
    return value, w / total * (positive * (precise - value + later)[level_of] - drag[level_of])


def _precision_estimate(value: float, parts: FloatArray, hits: float, n: int, design: Design) -> Estimate:
    variance, units = variance_of(parts, design.clusters)
    if units < 2 or hits < 2:
        return Estimate(value, n, None, "one independent positive row gives no interval")
    method = "linearised-logit" if design.clusters is None else "cluster-linearised-logit"
    return Estimate(value, n, logit_bounds(value, variance, min(units, int(hits)), hits, method))


def log_loss(probabilities: FloatArray, y: IntArray, design: Design = PLAIN) -> Estimate:
    """Mean of ``-log p(label)``, with ``p`` clipped at double-precision epsilon; Student-t interval.

    >>> round(log_loss(np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([0, 1])).value, 6)
    0.693147
    """
    loss = log_losses(probabilities[np.arange(len(y)), y])
    return mean(loss, design.weights, design.clusters, least=0.0)


def brier_score(probabilities: FloatArray, y: IntArray, positive: int | None, design: Design = PLAIN) -> Estimate:
    """Mean squared error of probabilities; Student-t interval.

    Binary (``positive`` is a code): ``(p - 1[y = positive])^2``, in [0, 1]. Multiclass: summed over classes, in [0, 2].

    Source: Brier (1950).

    >>> brier_score(np.array([[0.5, 0.5]]), np.array([1]), 1).value
    0.25
    """
    if positive is not None:
        loss = (probabilities[:, positive] - (y == positive)) ** 2
    else:
        truth = np.zeros_like(probabilities)
        truth[np.arange(len(y)), y] = 1.0
        loss = ((probabilities - truth) ** 2).sum(axis=1)
    return mean(loss, design.weights, design.clusters, least=0.0, most=2.0 if positive is None else 1.0)
