"""The rows that performance is measured on, and every estimate that they support."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.analyzer import Context
from auditkit.core.evidence import Direction
from auditkit.core.subject import FloatArray, Subject
from auditkit.methods.performance import calibration, classification, regression, scores
from auditkit.stats.estimate import Estimate
from auditkit.stats.linearised import Design
from auditkit.stats.ranking import score_levels
from auditkit.stats.scores import ranking_and_probabilities

# Name after "performance." -> direction, smallest and largest value, one sentence.
QUANTITIES: dict[str, tuple[Direction, tuple[float | None, float | None], str]] = {
    "accuracy": ("higher", (0.0, 1.0), "Share of rows that the model decided as their label."),
    "balanced_accuracy": ("higher", (0.0, 1.0), "Mean over classes of the share of the class decided so."),
    "precision": ("higher", (0.0, 1.0), "Share of the rows decided as the class that belong to it."),
    "recall": ("higher", (0.0, 1.0), "Share of the rows of the class that were decided so."),
    "f1": ("higher", (0.0, 1.0), "Harmonic mean of precision and recall."),
    "roc_auc": ("higher", (0.0, 1.0), "Probability that a row of the class has a higher score than another row."),
    "average_precision": ("higher", (0.0, 1.0), "Precision averaged over the recall gained at each threshold."),
    "log_loss": ("lower", (0.0, None), "Mean of minus the log of the probability given to the label."),
    "brier_score": ("lower", (0.0, 2.0), "Mean squared error of the probabilities (multiclass: summed over classes)."),
    "expected_calibration_error": (
        "lower",
        (0.0, 1.0),
        "Mean absolute gap between stated and observed rates over equal-mass bins, corrected for its bias "
        "(multiclass: of the probability of the decided-by-score class).",
    ),
    "r2": ("higher", (None, 1.0), "Share of the variance of the target that the predictions explain."),
    "mean_absolute_error": ("lower", (0.0, None), "Mean absolute residual, in the unit of the target."),
    "root_mean_squared_error": ("lower", (0.0, None), "Root of the mean squared residual, in the unit of the target."),
    "pinball_loss": ("lower", (0.0, None), "Mean quantile loss at the quantile named in the parameters."),
}

Key = tuple[str, tuple[tuple[str, str | float], ...]]
MACRO = (("average", "macro"),)


@dataclass(frozen=True, slots=True)
class Rows:
    """Labels, decisions and scores of some rows.

    ``ranking (n, k)`` orders rows within a class column: the level of each score among those of all rows, so that no
    group sorts its scores again. ``swept (n,)`` is the score that thresholds of the positive class are laid on;
    ``probabilities (n, k)`` sum to 1; each ``None`` when the model gives no such thing. For regression ``y`` and
    ``decided`` are values and the rest is ``None``.
    """

    y: npt.NDArray[Any]
    decided: npt.NDArray[Any]
    ranking: npt.NDArray[np.int32] | None
    probabilities: FloatArray | None
    design: Design
    classes: tuple[str, ...]
    positive: int | None
    swept: FloatArray | None = None

    def take(self, rows: npt.NDArray[Any]) -> Rows:
        """Some of the rows, by mask or positions."""
        return replace(
            self,
            y=self.y[rows],
            decided=self.decided[rows],
            ranking=None if self.ranking is None else self.ranking[rows],
            probabilities=None if self.probabilities is None else self.probabilities[rows],
            swept=None if self.swept is None else self.swept[rows],
            design=self.design.take(rows),
        )

    @property
    def confidence(self) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Stated probability and whether it came true: of the positive class, or of the highest-scored class."""
        probabilities = np.empty((0, 1)) if self.probabilities is None else self.probabilities
        if self.positive is not None:
            return probabilities[:, self.positive], self.y == self.positive
        top = probabilities.argmax(axis=1)
        return probabilities[np.arange(len(top)), top], self.y == top


def rows_of(subject: Subject, context: Context) -> tuple[Rows, tuple[str, ...]]:
    """The test rows of ``subject`` with sentences on what is left out and why."""
    test, notes = subject.test, []
    design = Design(test.weights, test.clusters)
    decided = context.decisions("test")
    space = subject.model.score_space
    ranking = probabilities = swept = None
    if subject.task != "regression":
        if "scores" not in subject.model.capabilities or space is None:
            notes.append(
                "The model gives labels only: no AUC, average precision, log loss, Brier score or calibration."
            )
        else:
            ranks, probabilities = ranking_and_probabilities(context.scores("test"), space, subject.positive)
            ranking = _levels(ranks)
            if subject.positive is not None:
                swept = (ranks if probabilities is None else probabilities)[:, subject.positive]
            if probabilities is None:
                notes.append(
                    "The scores are margins, not probabilities: log loss, Brier score and calibration are not measured."
                )
    rows = Rows(test.y, decided, ranking, probabilities, design, subject.classes, subject.positive, swept)
    return rows, tuple(notes)


def _levels(scores: FloatArray) -> npt.NDArray[np.int32]:
    return np.stack([score_levels(column)[1] for column in scores.T], axis=1).astype(np.int32)


def classification_estimates(rows: Rows, bins: int, min_rows: int, per_class: bool) -> dict[Key, Estimate]:
    """Every estimate of a classifier on ``rows``; ``per_class`` adds each class of a multiclass task."""
    y, decided, design = rows.y, rows.decided, rows.design
    found: dict[Key, Estimate] = {
        ("accuracy", ()): classification.accuracy(y, decided, design),
        ("balanced_accuracy", ()): classification.balanced_accuracy(y, decided, rows.classes, design),
    }
    if rows.positive is not None:
        found |= _one_class(rows, rows.positive, ())
    else:
        found |= _macro(rows)
        if per_class:
            for code, name in enumerate(rows.classes):
                found |= _one_class(rows, code, (("class", name),))
    if rows.probabilities is not None:
        confidence, hit = rows.confidence
        found["log_loss", ()] = scores.log_loss(rows.probabilities, y, design)
        found["brier_score", ()] = scores.brier_score(rows.probabilities, y, rows.positive, design)
        found["expected_calibration_error", ()] = calibration.expected_calibration_error(
            confidence, hit, design, bins=bins, min_rows=min_rows
        )
    return found


def _one_class(rows: Rows, code: int, params: tuple[tuple[str, str | float], ...]) -> dict[Key, Estimate]:
    found: dict[Key, Estimate] = {
        ("precision", params): classification.precision(rows.y, rows.decided, code, rows.design),
        ("recall", params): classification.recall(rows.y, rows.decided, code, rows.design),
        ("f1", params): classification.f1(rows.y, rows.decided, code, rows.design),
    }
    if rows.ranking is not None:
        ranked, positive = rows.ranking[:, code], rows.y == code
        found["roc_auc", params] = scores.roc_auc(ranked, positive, rows.design)
        found["average_precision", params] = scores.average_precision(ranked, positive, rows.design)
    return found


def _macro(rows: Rows) -> dict[Key, Estimate]:
    found: dict[Key, Estimate] = {
        ("precision", MACRO): classification.macro(rows.y, rows.decided, rows.classes, "precision", rows.design),
        ("recall", MACRO): classification.macro(rows.y, rows.decided, rows.classes, "recall", rows.design),
        ("f1", MACRO): classification.macro(rows.y, rows.decided, rows.classes, "f1", rows.design),
    }
    if rows.ranking is not None:
        found["roc_auc", MACRO] = scores.macro_roc_auc(rows.ranking, rows.y, rows.classes, rows.design)
        found["average_precision", MACRO] = scores.macro_average_precision(
            rows.ranking, rows.y, rows.classes, rows.design
        )
    return found


def regression_estimates(rows: Rows, quantile: float) -> dict[Key, Estimate]:
    """Every estimate of a regressor on ``rows``."""
    y, predicted, design = rows.y.astype(np.float64), rows.decided.astype(np.float64), rows.design
    at = (("quantile", quantile),)
    keys: tuple[Key, ...] = (
        ("r2", ()),
        ("mean_absolute_error", ()),
        ("root_mean_squared_error", ()),
        ("pinball_loss", at),
    )
    return {
        keys[0]: regression.r2(y, predicted, design),
        keys[1]: regression.mean_absolute_error(y, predicted, design),
        keys[2]: regression.root_mean_squared_error(y, predicted, design),
        keys[3]: regression.pinball_loss(y, predicted, quantile, design),
    }
