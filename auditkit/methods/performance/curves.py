"""Points of curves: ROC, precision-recall, threshold sweeps and predicted against actual. No raw rows leave here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.methods.performance.calibration import equal_mass_bins
from auditkit.stats.coding import rows_of_codes
from auditkit.stats.estimate import Estimate
from auditkit.stats.linearised import PLAIN, Design, mean
from auditkit.stats.ranking import ScoreArray, score_levels

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cumulated:
    """Weighted true and false positives ``(s + 1,)`` as the threshold falls through the distinct scores.

    Entry 0 is "nothing is positive", at threshold infinity; entry ``i`` decides all scores ``>= threshold[i]``.
    """

    threshold: FloatArray
    true: FloatArray
    false: FloatArray

    @property
    def tpr(self) -> FloatArray:
        """True positive rates."""
        return np.asarray(self.true / self.true[-1], dtype=np.float64)

    @property
    def fpr(self) -> FloatArray:
        """False positive rates."""
        return np.asarray(self.false / self.false[-1], dtype=np.float64)


def cumulate(scores: ScoreArray, positive: BoolArray, weights: FloatArray | None = None) -> Cumulated:
    """Cumulated positives over the distinct ``scores (n,)``, largest first; ties as one step.

    >>> cumulate(np.array([0.9, 0.1]), np.array([True, False])).true.tolist()
    [0.0, 1.0, 1.0]
    """
    w = np.ones(len(scores)) if weights is None else weights
    distinct, place = score_levels(scores)
    distinct, inverse = distinct[::-1], len(distinct) - 1 - place
    true = np.cumsum(np.bincount(inverse, weights=w * positive, minlength=len(distinct)))
    false = np.cumsum(np.bincount(inverse, weights=w * ~positive, minlength=len(distinct)))
    return Cumulated(np.r_[np.inf, distinct], np.r_[0.0, true], np.r_[0.0, false])


def roc_band(cumulated: Cumulated, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Band ``(s + 1,), (s + 1,)`` of the true positive rate at each false positive rate of a ROC curve of plain rows.

    It holds for the whole curve at once, for any score and any number of rows: both rates of every threshold lie
    within the Dvoretzky-Kiefer-Wolfowitz distance of their true ones, each at ``sqrt(level)``, and a ROC curve rises.

    Args:
        cumulated: Positives of unweighted, unclustered rows, one or more of each class.
        level: Chance that the whole true curve lies inside, at least.

    Source: Campbell (1994), Statistics in Medicine 13, for the joint regions; Massart (1990), Annals of Probability 18,
    for the constant.

    >>> low, high = roc_band(cumulate(np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False])))
    >>> low.tolist(), high.tolist()
    ([0.0, 0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0])
    """
    tpr, fpr = cumulated.tpr, cumulated.fpr
    tail = 1.0 - math.sqrt(level)
    up, across = (
        math.sqrt(math.log(2.0 / tail) / (2.0 * float(rows))) for rows in (cumulated.true[-1], cumulated.false[-1])
    )
    # Wherever the true point of a threshold lies in its box, the curve is above its corner from there on, and below
    # the opposite corner up to there.
    before = np.searchsorted(np.minimum(fpr + across, 1.0), fpr, side="right") - 1
    after = np.searchsorted(np.maximum(fpr - across, 0.0), fpr, side="left")
    low = np.where(before >= 0, np.maximum(tpr - up, 0.0)[np.maximum(before, 0)], 0.0)
    high = np.where(after < len(tpr), np.minimum(tpr + up, 1.0)[np.minimum(after, len(tpr) - 1)], 1.0)
    return low, high


def thin(x: FloatArray, y: FloatArray, limit: int = 200) -> IntArray:
    """Positions of at most ``limit`` points that keep both ends and are spread evenly along the curve's length.

    >>> len(thin(np.linspace(0, 1, 5000), np.linspace(0, 1, 5000) ** 2))
    200
    """
    if len(x) <= limit:
        return np.arange(len(x), dtype=np.int64)
    along = np.r_[0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))]
    at = np.searchsorted(along, np.linspace(0.0, along[-1], limit), side="left")
    at[0], at[-1] = 0, len(x) - 1
    return np.unique(np.clip(at, 0, len(x) - 1)).astype(np.int64)


def precision_recall(cumulated: Cumulated) -> tuple[FloatArray, FloatArray]:
    """Recall and precision ``(s,)`` at each distinct threshold (where nothing is decided positive is left out)."""
    true, false = cumulated.true[1:], cumulated.false[1:]
    return true / cumulated.true[-1], true / (true + false)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Rates ``(t,)`` of deciding "positive" from each threshold up; precision is NaN where nothing is decided so."""

    threshold: FloatArray
    tpr: FloatArray
    fpr: FloatArray
    precision: FloatArray
    selection_rate: FloatArray
    accuracy: FloatArray


def sweep_thresholds(cumulated: Cumulated, thresholds: FloatArray) -> Sweep:
    """Rates at each of ``thresholds (t,)``, ascending; a row is positive when its score is at least the threshold.

    >>> steps = cumulate(np.array([0.9, 0.6, 0.1]), np.array([True, False, False]))
    >>> sweep_thresholds(steps, np.array([0.5])).accuracy.round(4).tolist()
    [0.6667]
    """
    at = np.searchsorted(-cumulated.threshold, -thresholds, side="right") - 1
    true, false = cumulated.true[at], cumulated.false[at]
    positives, negatives = cumulated.true[-1], cumulated.false[-1]
    chosen = true + false
    precision = np.divide(true, chosen, out=np.full(len(at), np.nan), where=chosen > 0.0)
    everything = positives + negatives
    accuracy = (true + negatives - false) / everything
    return Sweep(thresholds, true / positives, false / negatives, precision, chosen / everything, accuracy)


def own_threshold(scores: FloatArray, chosen: BoolArray) -> tuple[float, float] | None:
    """The half-open range ``(low, high]`` of thresholds that reproduce the model's own decisions, or ``None``.

    >>> own_threshold(np.array([0.2, 0.4, 0.7]), np.array([False, False, True]))
    (0.4, 0.7)
    """
    if chosen.all() or not chosen.any():
        return None
    low, high = float(scores[~chosen].max()), float(scores[chosen].min())
    return (low, high) if low < high else None


@dataclass(frozen=True, slots=True)
class Binned:
    """Mean prediction ``(b,)`` and mean target of each bin with its interval, and the rows in it."""

    predicted: FloatArray
    actual: tuple[Estimate, ...]
    n: IntArray


def predicted_against_actual(
    y: FloatArray, predicted: FloatArray, design: Design = PLAIN, *, bins: int = 10, min_rows: int = 20
) -> Binned:
    """Mean target in equal-mass bins of the prediction; each mean with a Student-t interval."""
    code = equal_mass_bins(predicted, max(1, min(bins, len(y) // min_rows)))
    centers, actual = [], []
    for rows in rows_of_codes(code, int(code.max()) + 1):
        part = design.take(rows)
        centers.append(float(np.average(predicted[rows], weights=part.weights)))
        actual.append(mean(y[rows], part.weights, part.clusters))
    return Binned(np.array(centers), tuple(actual), np.bincount(code).astype(np.int64))


def residual_quantiles(y: FloatArray, predicted: FloatArray, at: FloatArray) -> FloatArray:
    """Quantiles ``at (q,)`` of ``predicted - y``, by linear interpolation."""
    return np.asarray(np.quantile(predicted - y, at), dtype=np.float64)
