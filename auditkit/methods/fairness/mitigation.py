"""Mitigation through fairlearn: group thresholds, reductions, and the removal of correlations.

Rules that draw at random are turned into the chance of a positive decision for every row, from the attributes that
fairlearn documents; nothing is drawn. fairlearn never sees the table: it is given row positions, so the user's own
estimator gets its own data types back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from fairlearn.postprocessing import ThresholdOptimizer  # noqa: TID253 - this module drives fairlearn
from fairlearn.preprocessing import CorrelationRemover  # noqa: TID253
from fairlearn.reductions import (  # noqa: TID253
    DemographicParity,
    EqualizedOdds,
    ExponentiatedGradient,
)
from sklearn.base import BaseEstimator  # noqa: TID253 - fairlearn asks for scikit-learn's tags

from auditkit.core.errors import AuditkitError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Constraint = Literal["demographic_parity", "equalized_odds"]
Decider = Callable[[str], IntArray]
Trainer = Callable[[IntArray, FloatArray], Decider]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Chances ``(n,)`` of a positive decision on the rows asked for, and how many groups draw at random."""

    chance: FloatArray
    randomised: int


def group_thresholds(
    train: tuple[FloatArray, IntArray, npt.NDArray[Any]],
    test: tuple[FloatArray, npt.NDArray[Any]],
    constraint: Constraint = "demographic_parity",
    tolerance: float = 0.0,
) -> Thresholds:
    """Thresholds for each group that meet ``constraint`` on the training rows at the best accuracy.

    Args:
        train: Scores ``(m,)`` that rise with the positive class, labels ``(m,)`` 0 or 1, group names ``(m,)``.
        test: Scores ``(n,)`` and group names ``(n,)`` to decide on.
        constraint: Which rates are to be equal.
        tolerance: Gap that is allowed on the training rows (demographic parity only).

    Raises:
        AuditkitError: AK434 when a group of the test rows was not seen, or lacks a label.

    Source: Hardt, Price and Srebro (2016), section 3; ``fairlearn.postprocessing.ThresholdOptimizer``.
    """
    scores, labels, groups = train
    _require_seen(groups, test[1])
    for name in np.unique(groups):
        if len(np.unique(labels[groups == name])) < 2:
            raise AuditkitError("AK434", f"the training rows of {name} all have one label, so no threshold can be set")
    optimizer = ThresholdOptimizer(
        estimator=_Scores(),
        constraints=constraint,
        objective="accuracy_score",
        prefit=True,
        predict_method="predict",
        tol=tolerance if constraint == "demographic_parity" and tolerance > 0.0 else None,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer.fit(scores[:, None], labels.astype(np.int64), sensitive_features=groups.astype(object))
    chance, randomised = np.zeros(len(test[0])), 0
    for name, rule in optimizer.interpolated_thresholder_.interpolation_dict.items():
        rows = test[1] == name
        mixed = rule.p0 * _applied(rule.operation0, test[0]) + rule.p1 * _applied(rule.operation1, test[0])
        if "p_ignore" in rule:
            mixed = rule.p_ignore * rule.prediction_constant + (1.0 - rule.p_ignore) * mixed
        chance[rows] = np.clip(mixed[rows], 0.0, 1.0)
        randomised += bool(0.0 < rule.p1 < 1.0 or 0.0 < rule.get("p_ignore", 0.0) < 1.0)
    return Thresholds(chance, randomised)


@dataclass(frozen=True, slots=True)
class Reduction:
    """Chances ``(n,)`` on the test rows, how many models are mixed, and how often a model was trained."""

    chance: FloatArray
    mixed: int
    trainings: int


def exponentiated_gradient(
    train: Trainer,
    labels: IntArray,
    groups: npt.NDArray[Any],
    constraint: Constraint = "demographic_parity",
    *,
    tolerance: float = 0.01,
    rounds: int = 20,
) -> Reduction:
    """A mixture of models, each trained with other row weights, that nearly meets ``constraint`` on training rows.

    Args:
        train: ``train(labels (m,), weights (m,))`` trains a model on the training rows, and returns what decides
            (0 or 1 a row) on ``"train"`` or ``"test"``.
        labels: ``(m,)`` 0 or 1.
        groups: ``(m,)`` group names.
        constraint: Which rates are to be equal.
        tolerance: fairlearn's ``eps``: violation allowed, above 0.
        rounds: Most rounds of the algorithm; a round may train several times.

    Source: Agarwal et al. (2018), A reductions approach to fair classification, algorithm 1.
    """
    moment = {"demographic_parity": DemographicParity, "equalized_odds": EqualizedOdds}[constraint]
    calls: list[int] = []
    reduction = ExponentiatedGradient(
        _Oracle(train, calls), moment(difference_bound=tolerance), eps=tolerance, max_iter=rounds
    )
    positions = np.zeros((len(labels), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reduction.fit(positions, labels.astype(np.int64), sensitive_features=groups.astype(object))
    weights = np.array([float(reduction.weights_[at]) for at in reduction.predictors_.index])
    weights = np.where(weights > 1e-6, weights, 0.0)
    weights /= weights.sum()
    chance: Any = 0.0
    for weight, predictor in zip(weights, reduction.predictors_, strict=True):
        if weight > 0.0:
            decided = predictor.decide("test") if isinstance(predictor, _Oracle) else _constant(predictor)
            chance = chance + weight * np.asarray(decided, dtype=np.float64)
    return Reduction(np.clip(np.atleast_1d(chance), 0.0, 1.0), int((weights > 0).sum()), len(calls))


def remove_correlation(
    train: tuple[FloatArray, npt.NDArray[Any]], test: tuple[FloatArray, npt.NDArray[Any]], alpha: float = 1.0
) -> tuple[FloatArray, FloatArray]:
    """Columns less their least-squares projection on the groups, which is fitted on the training rows.

    Args:
        train: Columns ``(m, d)``, NaN where missing, and group names ``(m,)``.
        test: Columns ``(n, d)`` and group names ``(n,)``.
        alpha: 1 removes all correlation, 0 none.

    Returns:
        The training and the test columns; a missing value stays missing.

    Raises:
        AuditkitError: AK434 when a group of the test rows was not seen.

    Source: ``fairlearn.preprocessing.CorrelationRemover``.

    >>> columns, groups = np.array([[0.0], [2.0], [10.0], [12.0]]), np.array(["a", "a", "b", "b"])
    >>> remove_correlation((columns, groups), (columns, groups))[0].ravel().tolist()
    [5.0, 7.0, 5.0, 7.0]
    """
    _require_seen(train[1], test[1])
    names = np.unique(train[1])[1:]
    if len(names) == 0:
        return train[0].copy(), test[0].copy()
    fitted = (train[1][:, None] == names[None, :]).astype(np.float64)
    applied = (test[1][:, None] == names[None, :]).astype(np.float64)
    outputs = train[0].copy(), test[0].copy()
    for column in range(train[0].shape[1]):
        # Columns do not touch one another in the projection, so each is fitted on the rows where it is known.
        rows = [np.isfinite(part[:, column]) for part in outputs]
        if not rows[0].any():
            continue
        remover = CorrelationRemover(sensitive_feature_ids=list(range(len(names))), alpha=alpha)
        remover.fit(np.column_stack([fitted, train[0][:, column]])[rows[0]])
        for part, dummies, known in zip(outputs, (fitted, applied), rows, strict=True):
            if known.any():
                stacked = np.column_stack([dummies, part[:, column]])[known]
                part[known, column] = np.asarray(remover.transform(stacked))[:, 0]
    return outputs


class _Scores(BaseEstimator):  # type: ignore[misc]
    """An estimator whose prediction is its only input column: the scores of the user's model."""

    def fit(self, X: Any, y: Any = None) -> _Scores:
        """Nothing to fit."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> FloatArray:
        """The column."""
        return np.asarray(X, dtype=np.float64)[:, 0]


class _Oracle(BaseEstimator):  # type: ignore[misc]
    """Trains through the caller; fairlearn clones it for every round."""

    def __init__(self, train: Trainer, calls: list[int]) -> None:
        self.train, self.calls = train, calls
        self.decide: Decider = lambda split: np.zeros(0, dtype=np.int64)

    def __sklearn_clone__(self) -> _Oracle:
        return _Oracle(self.train, self.calls)

    def fit(self, X: Any, y: Any, sample_weight: Any) -> _Oracle:
        """A model for these labels and weights of the training rows."""
        self.calls.append(1)
        self.decide = self.train(np.asarray(y, dtype=np.int64), np.asarray(sample_weight, dtype=np.float64))
        return self

    def predict(self, X: Any) -> IntArray:
        """Decisions on the training rows, which are the only ones that fairlearn asks about."""
        return self.decide("train")


def _require_seen(groups: npt.NDArray[Any], asked: npt.NDArray[Any]) -> None:
    unseen = sorted(set(np.unique(asked).tolist()) - set(np.unique(groups).tolist()))
    if unseen:
        raise AuditkitError("AK434", f"the training rows have no row of {unseen[0]}, so nothing can be set for it")


def _applied(operation: Any, scores: FloatArray) -> FloatArray:
    return np.asarray(operation(scores), dtype=np.float64)


def _constant(predictor: Any) -> float:
    """What fairlearn's constant stand-in decides for every row."""
    return float(np.asarray(predictor.predict(np.zeros((1, 1))))[0])
