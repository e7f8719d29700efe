"""The table of count metrics: each one's formula on the four cells, its direction and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "neutral"]
Coefficients = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CountMetric:
    """One count metric.

    Attributes:
        name: The field's full name.
        formula: In terms of TP, FP, FN, TN.
        above: Coefficients of the four cells above the line.
        below: Coefficients below the line; ``below`` of a proportion counts its rows.
        denominator: What the rows below the line are, for messages.
        direction: Whether higher or lower is better, or neither.
        citation: Where the name and formula come from.
        pooled: Computed over all classes (one number), rather than one class against the rest.
        odds: Its odds are this many times those of a share of rows, whose limits it has: 2 for F1.
    """

    name: str
    formula: str
    above: tuple[Coefficients, ...]
    below: tuple[Coefficients, ...]
    denominator: str
    direction: Direction
    citation: str
    pooled: bool = False
    odds: float = 1.0


_ALL: Coefficients = {"tp": 1, "fp": 1, "fn": 1, "tn": 1}
_LABELLED: Coefficients = {"tp": 1, "fn": 1}
_UNLABELLED: Coefficients = {"fp": 1, "tn": 1}
_SELECTED: Coefficients = {"tp": 1, "fp": 1}
_REJECTED: Coefficients = {"fn": 1, "tn": 1}
_FAWCETT = "Fawcett (2006), An introduction to ROC analysis"
_VERMA = "Verma and Rubin (2018), Fairness definitions explained"


def _metric(
    name: str, formula: str, above: Coefficients, below: Coefficients, denominator: str, direction: Direction
) -> CountMetric:
    citation = _VERMA if name in ("selection_rate", "rejection_rate", "base_rate") else _FAWCETT
    return CountMetric(name, formula, (above,), (below,), denominator, direction, citation)


_TABLE: tuple[CountMetric, ...] = (
    _metric("selection_rate", "(TP + FP) / n", _SELECTED, _ALL, "rows", "neutral"),
    _metric("rejection_rate", "(FN + TN) / n", _REJECTED, _ALL, "rows", "neutral"),
    _metric("base_rate", "(TP + FN) / n", _LABELLED, _ALL, "rows", "neutral"),
    _metric("true_positive_rate", "TP / (TP + FN)", {"tp": 1}, _LABELLED, "positive labels", "higher"),
    _metric("false_positive_rate", "FP / (FP + TN)", {"fp": 1}, _UNLABELLED, "negative labels", "lower"),
    _metric("true_negative_rate", "TN / (FP + TN)", {"tn": 1}, _UNLABELLED, "negative labels", "higher"),
    _metric("false_negative_rate", "FN / (TP + FN)", {"fn": 1}, _LABELLED, "positive labels", "lower"),
    _metric("positive_predictive_value", "TP / (TP + FP)", {"tp": 1}, _SELECTED, "positive decisions", "higher"),
    _metric("negative_predictive_value", "TN / (TN + FN)", {"tn": 1}, _REJECTED, "negative decisions", "higher"),
    _metric("false_discovery_rate", "FP / (TP + FP)", {"fp": 1}, _SELECTED, "positive decisions", "lower"),
    _metric("false_omission_rate", "FN / (TN + FN)", {"fn": 1}, _REJECTED, "negative decisions", "lower"),
    CountMetric(
        "f1",
        "2 TP / (2 TP + FP + FN)",
        ({"tp": 2},),
        ({"tp": 2, "fp": 1, "fn": 1},),
        "rows that are positive by label or decision",
        "higher",
        _FAWCETT,
        odds=2.0,
    ),
    _metric(
        "threat_score",
        "TP / (TP + FP + FN)",
        {"tp": 1},
        {"tp": 1, "fp": 1, "fn": 1},
        "rows that are positive by label or decision",
        "higher",
    ),
    CountMetric(
        "false_negative_share",
        "FN / (FN + FP); equal across groups exactly where FN / FP, the ratio of treatment equality, is",
        ({"fn": 1},),
        ({"fn": 1, "fp": 1},),
        "wrong decisions",
        "neutral",
        "Berk et al. (2021), Fairness in criminal justice risk assessments, treatment equality",
    ),
    CountMetric("accuracy", "(TP + TN) / n", ({"tp": 1, "tn": 1},), (_ALL,), "rows", "higher", _FAWCETT, pooled=True),
    CountMetric("error_rate", "(FP + FN) / n", ({"fp": 1, "fn": 1},), (_ALL,), "rows", "lower", _FAWCETT, pooled=True),
    CountMetric(
        "balanced_accuracy",
        "mean of the recalls of the classes",
        ({"tp": 1}, {"tn": 1}),
        (_LABELLED, _UNLABELLED),
        "rows of each label",
        "higher",
        "Brodersen et al. (2010), The balanced accuracy and its posterior distribution",
        pooled=True,
    ),
)

METRICS: Mapping[str, CountMetric] = {metric.name: metric for metric in _TABLE}

# A composite disparity is the largest of its parts' disparities.
COMPOSITES: Mapping[str, tuple[str, ...]] = {
    "equalized_odds": ("true_positive_rate", "false_positive_rate"),
    "conditional_use_accuracy": ("positive_predictive_value", "negative_predictive_value"),
    "decision_rates": ("selection_rate", "rejection_rate"),
}
