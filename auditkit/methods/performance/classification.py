"""Accuracy, precision, recall and F1 of a classifier's own decisions, each with an interval.

All functions take class codes ``y (n,)`` and ``decided (n,)`` in ``0 .. k-1`` and a :class:`Design`. What is
undefined (no row of a class, no row decided so) is ``None`` with a sentence, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from auditkit.stats.estimate import Estimate, mapped, undefined
from auditkit.stats.linearised import PLAIN, Design, proportion, share_bounds, variance_of

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Macro = Literal["recall", "precision", "f1"]


def confusion(y: IntArray, decided: IntArray, k: int, weights: FloatArray | None = None) -> FloatArray:
    """Cells ``(k, k)``: rows (or their weights) with label ``i`` that were decided as ``j``.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return np.bincount(y * k + decided, weights=weights, minlength=k * k).reshape(k, k).astype(np.float64)


def accuracy(y: IntArray, decided: IntArray, design: Design = PLAIN) -> Estimate:
    """Share of rows decided as their label; Wilson interval.

    >>> accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])).value
    0.75
    """
    return proportion(y == decided, design.weights, design.clusters)


def recall(y: IntArray, decided: IntArray, label: int, design: Design = PLAIN) -> Estimate:
    """Share of the rows of class ``label`` that were decided so (true positive rate); Wilson interval."""
    rows = y == label
    if not rows.any():
        return undefined("recall needs rows of the class, and there are none")
    part = design.take(rows)
    return proportion(decided[rows] == label, part.weights, part.clusters)


def precision(y: IntArray, decided: IntArray, label: int, design: Design = PLAIN) -> Estimate:
    """Share of the rows decided as ``label`` that are of that class; Wilson interval."""
    rows = decided == label
    if not rows.any():
        return undefined("precision needs rows decided as the class, and there are none")
    part = design.take(rows)
    return proportion(y[rows] == label, part.weights, part.clusters)


def f1(y: IntArray, decided: IntArray, label: int, design: Design = PLAIN) -> Estimate:
    """``2 TP / (2 TP + FP + FN)`` of one class.

    With ``q = TP / (TP + FP + FN)``, a plain proportion of the rows that are or were decided as the class,
    ``F1 = 2 q / (1 + q)``: the interval is Wilson's of ``q``, mapped by that increasing function.

    >>> round(f1(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0]), 1).value, 6)
    0.5
    """
    rows = (y == label) | (decided == label)
    if not rows.any():
        return undefined("F1 needs rows that are, or were decided as, the class, and there are none")
    part = design.take(rows)
    hits = (y[rows] == label) & (decided[rows] == label)
    return mapped(proportion(hits, part.weights, part.clusters), lambda q: 2.0 * q / (1.0 + q), "mapped")


def balanced_accuracy(y: IntArray, decided: IntArray, classes: Sequence[str], design: Design = PLAIN) -> Estimate:
    """Plain mean of the recalls of all classes; undefined when a class has no row.

    Source: Brodersen et al. (2010), ICPR. Interval: linearised, Wilson's form on the effective number of rows.
    """
    return macro(y, decided, classes, "recall", design)


def macro(y: IntArray, decided: IntArray, classes: Sequence[str], kind: Macro, design: Design = PLAIN) -> Estimate:
    """Plain mean over classes of recall, precision or F1; linearised interval in Wilson's form.

    Args:
        y: ``(n,)`` class codes.
        decided: ``(n,)`` class codes.
        classes: Names of the ``k`` classes, for the reason where one has no rows.
        kind: ``recall``, ``precision`` or ``f1``.
        design: Weights and clusters.

    Source: Takahashi et al. (2022), Applied Intelligence 52, for the linearised variance of macro F1.
    """
    if len(y) == 0:
        return undefined("no rows")
    k = len(classes)
    cells = confusion(y, decided, k, design.weights)
    labelled, chosen, right = cells.sum(axis=1), cells.sum(axis=0), np.diag(cells)
    mass = {"recall": labelled, "precision": chosen, "f1": labelled + chosen}[kind]
    empty = [classes[code] for code in range(k) if mass[code] <= 0.0]
    if empty:
        lack = {"recall": "has no rows", "precision": "was never decided", "f1": "has no rows and was never decided"}
        return undefined(f"class {empty[0]!r} {lack[kind]}, so the mean over classes is undefined", len(y))
    each = right / mass * (2.0 if kind == "f1" else 1.0)
    value = min(float(each.mean()), 1.0)
    variance, units = variance_of(class_parts(y, decided, each, mass, kind) * design.masses(len(y)), design.clusters)
    if units < 2:
        return Estimate(value, len(y), None, "one independent row gives no interval")
    smallest = min(design.take(y == code).units(int((y == code).sum())) for code in range(k))
    bounds = share_bounds(value, variance, units - 1, smallest, design.clusters is not None)
    return Estimate(value, len(y), bounds)


def class_parts(y: IntArray, decided: IntArray, each: FloatArray, mass: FloatArray, kind: Macro) -> FloatArray:
    """Derivative of the mean over classes with respect to each row's weight."""
    hit = (y == decided).astype(np.float64)
    if kind == "recall":
        parts = (hit - each[y]) / mass[y]
    elif kind == "precision":
        parts = (hit - each[decided]) / mass[decided]
    else:
        parts = 2.0 * hit / mass[y] - each[y] / mass[y] - each[decided] / mass[decided]
    return np.asarray(parts / len(each), dtype=np.float64)
