"""Recomputes group rates and their differences through fairlearn's MetricFrame, as an independent check."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from fairlearn.metrics import (  # noqa: TID253 - this module drives fairlearn
    MetricFrame,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from sklearn.metrics import accuracy_score  # noqa: TID253 - the accuracy that MetricFrame is to disaggregate

from auditkit.core.evidence import Counts
from auditkit.methods.fairness.metrics import group_rates

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_FUNCTIONS: Mapping[str, Any] = {
    "selection_rate": selection_rate,
    "true_positive_rate": true_positive_rate,
    "false_positive_rate": false_positive_rate,
    "accuracy": accuracy_score,
}


@dataclass(frozen=True, slots=True)
class CrossCheck:
    """How far two implementations lie apart: the largest absolute deviation, where, over how many numbers."""

    deviation: float
    where: str
    compared: int


def cross_check(
    counts: Sequence[Counts],
    y_true: IntArray,
    y_pred: IntArray,
    groups: Mapping[str, npt.NDArray[Any]],
    weights: FloatArray | None = None,
) -> CrossCheck:
    """Largest deviation between our rates and fairlearn's, by group and for the difference.

    Args:
        counts: Our binary cells of the same rows; those with ``over=()`` are passed over.
        y_true: ``(n,)`` labels, 1 for positive.
        y_pred: ``(n,)`` decisions, 1 for positive.
        groups: Column name -> ``(n,)`` group names.
        weights: ``(n,)`` row weights.

    fairlearn gives 0 where a rate is undefined; such groups, and differences over them, are not compared.

    Source: Bird et al. (2020), Fairlearn; MetricFrame.
    """
    worst = CrossCheck(0.0, "", 0)
    for part in counts:
        if not part.over:
            continue
        frame = _frame(part.over, y_true, y_pred, groups, weights)
        table, gaps = frame.by_group, frame.difference()
        for metric in _FUNCTIONS:
            ours = group_rates(part, metric)
            theirs = _by_group(table[metric], part)
            defined = np.isfinite(ours.value)
            distances = dict(
                zip([" x ".join(g) for g in part.groups], np.abs(ours.value - theirs).tolist(), strict=True)
            )
            kept = {name: d for (name, d), good in zip(distances.items(), defined, strict=True) if good}
            if defined.all() and len(ours.value) > 1:
                gap = float(ours.value.max() - ours.value.min())
                kept["difference"] = abs(gap - float(gaps[metric]))
            worst = _worse(worst, metric, kept)
    return worst


def _worse(worst: CrossCheck, metric: str, distances: Mapping[str, float]) -> CrossCheck:
    compared = worst.compared + len(distances)
    name = max(distances, key=lambda key: distances[key] if np.isfinite(distances[key]) else np.inf, default=None)
    if name is None:
        return worst
    far = distances[name] if np.isfinite(distances[name]) else 1.0
    if far > worst.deviation:
        return CrossCheck(float(far), f"{metric} of {name}", compared)
    return CrossCheck(worst.deviation, worst.where, compared)


def _frame(
    over: tuple[str, ...],
    y_true: IntArray,
    y_pred: IntArray,
    groups: Mapping[str, npt.NDArray[Any]],
    weights: FloatArray | None,
) -> Any:
    features = {f"g{i}": np.asarray(groups[name], dtype=object) for i, name in enumerate(over)}
    params = None if weights is None else {name: {"sample_weight": weights} for name in _FUNCTIONS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MetricFrame(
            metrics=dict(_FUNCTIONS),
            y_true=y_true,
            y_pred=y_pred,
            sensitive_features=features,
            sample_params=params,
        )


def _by_group(column: Any, counts: Counts) -> FloatArray:
    keys = [group[0] if len(group) == 1 else group for group in counts.groups]
    return np.array([float(column.loc[key]) for key in keys], dtype=np.float64)
