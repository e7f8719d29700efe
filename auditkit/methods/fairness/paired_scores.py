"""Two models' scores or predictions on the same rows: how far an area under the curve, a loss or an error moved.

Decisions have joint cells (``paired.py``); scores have no cells, so what leaves their rows are the two values, their
variances and their covariance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.methods.fairness.paired import Values, correlated_limits
from auditkit.stats.linearised import PLAIN, Design
from auditkit.stats.paired import (
    PairedEstimate,
    Part,
    auc_part,
    explained_part,
    macro_part,
    mean_part,
    paired,
    root_part,
)
from auditkit.stats.scores import log_losses

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Scalar = str | int | float | bool | None

# An area that fewer independent rows than this keep from 1 has a variance seen through too few of them.
FEW_MISPLACED = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRows:
    """Labels and what one model says of them.

    Attributes:
        y, decided: ``(n,)`` class codes, or values of a regression.
        ranking, probabilities: ``(n, k)``, or ``None``.
    """

    y: npt.NDArray[Any]
    decided: npt.NDArray[Any]
    ranking: FloatArray | None = None
    probabilities: FloatArray | None = None
    design: Design = PLAIN
    classes: tuple[str, ...] = ()
    positive: int | None = None

    def take(self, rows: npt.NDArray[Any]) -> ScoredRows:
        """Some of the rows."""
        return replace(
            self,
            y=self.y[rows],
            decided=self.decided[rows],
            ranking=None if self.ranking is None else self.ranking[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            design=self.design.take(rows),
        )


Quantity = Callable[[ScoredRows, str, Mapping[str, Scalar]], Part | None]


def scored_pair(name: str, params: Mapping[str, Scalar], then: ScoredRows, now: ScoredRows) -> PairedEstimate | None:
    """The measurement ``name`` of two models on the same rows, or ``None`` where pairs do not give it.

    Args:
        name: A measurement of :data:`QUANTITIES`.
        params: Its params, such as the class of a one-versus-rest area.
        then, now: The same rows in the same order.
    """
    quantity = QUANTITIES.get(name)
    if quantity is None or len(then.y) == 0:
        return None
    one, two = (quantity(rows, name, params) for rows in (then, now))
    return None if one is None or two is None else paired(one, two, now.design)


def _auc(rows: ScoredRows, _: str, params: Mapping[str, Scalar]) -> Part | None:
    if rows.ranking is None:
        return None
    ranking, codes = rows.ranking, [rows.positive]
    if params == {"average": "macro"}:
        codes = list(range(len(rows.classes)))
    elif set(params) == {"class"} and params["class"] in rows.classes:
        codes = [rows.classes.index(str(params["class"]))]
    elif params or rows.positive is None:
        return None
    sizes = np.bincount(rows.y, minlength=len(rows.classes))
    if any(code is None or not 0 < sizes[code] < len(rows.y) for code in codes):
        return None
    found = [auc_part(ranking[:, code], rows.y == code, rows.design) for code in codes if code is not None]
    return found[0] if len(found) == 1 else macro_part(found)


def _log_loss(rows: ScoredRows, _: str, params: Mapping[str, Scalar]) -> Part | None:
    if rows.probabilities is None or params:
        return None
    return mean_part(log_losses(rows.probabilities[np.arange(len(rows.y)), rows.y]), rows.design)


def _brier(rows: ScoredRows, _: str, params: Mapping[str, Scalar]) -> Part | None:
    if rows.probabilities is None or params:
        return None
    if rows.positive is not None:
        return mean_part((rows.probabilities[:, rows.positive] - (rows.y == rows.positive)) ** 2, rows.design)
    truth = np.zeros_like(rows.probabilities)
    truth[np.arange(len(rows.y)), rows.y] = 1.0
    return mean_part(((rows.probabilities - truth) ** 2).sum(axis=1), rows.design)


def _of_probability(values: Callable[[FloatArray, npt.NDArray[np.bool_]], FloatArray], label: bool | None) -> Quantity:
    """A mean over the rows of one label, or of all."""

    def quantity(rows: ScoredRows, _: str, params: Mapping[str, Scalar]) -> Part | None:
        if rows.probabilities is None or rows.positive is None or params:
            return None
        probability, positive = rows.probabilities[:, rows.positive], rows.y == rows.positive
        inside = np.ones(len(positive), dtype=np.bool_) if label is None else positive == label
        if not inside.any():
            return None
        part = mean_part(values(probability, positive)[inside], rows.design.take(inside))
        shares = np.zeros(len(positive))
        shares[inside] = part.shares
        return replace(part, shares=shares, freedom=int(inside.sum()) - 1)

    return quantity


def _of_residual(values: Callable[[FloatArray], FloatArray]) -> Quantity:
    def quantity(rows: ScoredRows, _: str, params: Mapping[str, Scalar]) -> Part | None:
        return None if params else mean_part(values(_residual(rows)), rows.design)

    return quantity


def _residual(rows: ScoredRows) -> FloatArray:
    return np.asarray(rows.decided, dtype=np.float64) - np.asarray(rows.y, dtype=np.float64)


def _root_squared(rows: ScoredRows, name: str, params: Mapping[str, Scalar]) -> Part | None:
    squared = _of_residual(np.square)(rows, name, params)
    return root_part(squared) if squared is not None and squared.value > 0.0 else None


def _mean_prediction(rows: ScoredRows, _: str, params: Mapping[str, Scalar]) -> Part | None:
    return None if params else mean_part(np.asarray(rows.decided, dtype=np.float64), rows.design)


def _pinball(rows: ScoredRows, _: str, params: Mapping[str, Scalar]) -> Part | None:
    quantile = params.get("quantile")
    if set(params) != {"quantile"} or not isinstance(quantile, float):
        return None
    gap = -_residual(rows)
    return mean_part(np.maximum(quantile * gap, (quantile - 1.0) * gap), rows.design)


def _r2(rows: ScoredRows, _: str, params: Mapping[str, Scalar]) -> Part | None:
    y = np.asarray(rows.y, dtype=np.float64)
    if params or len(y) < 3 or np.ptp(y) == 0.0:
        return None
    return explained_part(y, np.asarray(rows.decided, dtype=np.float64), rows.design)


QUANTITIES: Mapping[str, Quantity] = {
    "performance.roc_auc": _auc,
    "fairness.roc_auc": _auc,
    "performance.log_loss": _log_loss,
    "fairness.log_loss": _log_loss,
    "performance.brier_score": _brier,
    "fairness.mean_score": _of_probability(lambda p, _: p, None),
    "fairness.mean_score_of_positives": _of_probability(lambda p, _: p, True),
    "fairness.mean_score_of_negatives": _of_probability(lambda p, _: p, False),
    "fairness.mean_overestimation": _of_probability(lambda p, positive: p - positive, None),
    "performance.mean_absolute_error": _of_residual(np.abs),
    "fairness.mean_absolute_error": _of_residual(np.abs),
    "fairness.mean_error": _of_residual(np.asarray),
    "fairness.mean_prediction": _mean_prediction,
    "performance.root_mean_squared_error": _root_squared,
    "fairness.root_mean_squared_error": _root_squared,
    "performance.pinball_loss": _pinball,
    "performance.r2": _r2,
    "fairness.r2": _r2,
}


@dataclass(frozen=True, kw_only=True)
class ScorePairing:
    """What the rows say about a measured quantity's change in every group.

    Attributes:
        now, then: The quantity in both audits.
        pairs: ``G`` paired estimates, in the order of the groups.
    """

    now: Values
    then: Values
    pairs: tuple[PairedEstimate, ...]

    method = "paired-t"

    @property
    def correlation(self) -> FloatArray:
        """``(G,)`` of the two estimates."""
        return np.array([pair.correlation for pair in self.pairs])

    def limits(
        self, level: float, sign: float = -1.0, factor: FloatArray | float | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Limits ``(G,), (G,)`` of ``now + sign * then``; with a ``factor``, of about so many times the rows.

        Where few rows keep an area from 1 the variance is seen through them alone; then each limit is the farther one
        of Student's t and of the two areas' own logit limits joined by their correlation.

        Source: DeLong et al. (1988); Zou and Donner (2008), section 2.3, for the second.
        """
        found = np.array([pair.limits(level, sign) for pair in self.pairs]).reshape(-1, 2).T
        if factor is not None:
            point = self.now.value + sign * self.then.value
            found = point + (found - point) / np.sqrt(factor)
        few = np.array([pair.rare < FEW_MISPLACED for pair in self.pairs], dtype=np.bool_)
        if few.any():
            low, high = correlated_limits(self.now, self.then, self.correlation, level, sign, factor)
            found[0] = np.where(few, np.fmin(found[0], low), found[0])
            found[1] = np.where(few, np.fmax(found[1], high), found[1])
        return found[0], found[1]

    def alone(self, left: IntArray, right: IntArray, kind: str, few: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """``(m,)`` comparisons that pairs say nothing about: no row tells the two models apart, or it is a ratio."""
        still = np.array([pair.still for pair in self.pairs], dtype=np.bool_)
        return np.asarray(still[left] | still[right] | (kind == "ratio"))

    def take(self, groups: Sequence[int]) -> ScorePairing:
        """Some of the groups."""
        index = list(groups)
        return ScorePairing(
            now=self.now.take(index), then=self.then.take(index), pairs=tuple(self.pairs[i] for i in index)
        )


def finite_pair(pair: PairedEstimate) -> bool:
    """Whether every number of ``pair`` can be written down."""
    numbers = (pair.then, pair.now, pair.variance_then, pair.variance_now, pair.covariance)
    return all(map(math.isfinite, numbers))
