"""Accuracy, precision, recall and F1 of a classifier's own decisions, each with an interval.

All functions take class codes ``y (n,)`` and ``decided (n,)`` in ``0 .. k-1`` and a :class:`Design`. What is
undefined (no row of a class, no row decided so) is ``None`` with a sentence, never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from auditkit.stats.estimate import Estimate, mapped, undefined
from auditkit.stats.linearised import PLAIN, Design, Sides, decided_proportion, proportion
from auditkit.stats.mean_shares import correlations, mean_of_shares

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
Macro = Literal["recall", "precision", "f1"]
# Numbers of clusters by classes held at a time.
_CELLS = 1 << 21


def confusion(y: IntArray, decided: IntArray, k: int, weights: FloatArray | None = None) -> FloatArray:
    """Cells ``(k, k)``: rows (or their weights) with label ``i`` that were decided as ``j``.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return np.bincount(y * k + decided, weights=weights, minlength=k * k).reshape(k, k).astype(np.float64)


def accuracy(y: IntArray, decided: IntArray, design: Design = PLAIN) -> Estimate:
    """Share of rows decided as their label, with exact limits.

    >>> accuracy(np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])).value
    0.75
    """
    return proportion(y == decided, design.weights, design.clusters)


def recall(y: IntArray, decided: IntArray, label: int, design: Design = PLAIN) -> Estimate:
    """Share of the rows of class ``label`` that were decided so (true positive rate), with exact limits."""
    rows = y == label
    if not rows.any():
        return undefined("recall needs rows of the class, and there are none")
    part = design.take(rows)
    return proportion(decided[rows] == label, part.weights, part.clusters)


def precision(y: IntArray, decided: IntArray, label: int, design: Design = PLAIN) -> Estimate:
    """Share of the rows decided as ``label`` that are of that class, with exact limits."""
    own, chosen = y == label, decided == label
    if not chosen.any():
        return undefined("precision needs rows decided as the class, and there are none")
    sides = Sides(own & chosen, chosen), Sides(own & ~chosen, ~chosen)
    return decided_proportion(*sides, own, own == chosen, design.weights, design.clusters)


def f1(y: IntArray, decided: IntArray, label: int, design: Design = PLAIN) -> Estimate:
    """``2 TP / (2 TP + FP + FN)`` of one class.

    With ``q = TP / (TP + FP + FN)``, a plain proportion of the rows that are or were decided as the class,
    ``F1 = 2 q / (1 + q)``: the interval is the exact one of ``q``, mapped by that increasing function.

    >>> round(f1(np.array([1, 1, 0, 0]), np.array([1, 0, 1, 0]), 1).value, 6)
    0.5
    """
    own, chosen = y == label, decided == label
    if not (own | chosen).any():
        return undefined("F1 needs rows that are, or were decided as, the class, and there are none")
    sides = Sides(own & chosen, own | chosen), Sides(own & ~chosen, own | ~chosen)
    return f1_of(decided_proportion(*sides, own, own == chosen, design.weights, design.clusters))


def f1_of(jaccard: Estimate) -> Estimate:
    """F1 from the share of hits among the rows that are, or were decided as, the class: twice its odds."""
    found = mapped(jaccard, lambda q: 2.0 * q / (1.0 + q), "mapped")
    return replace(found, share=None if jaccard.share is None else replace(jaccard.share, odds=2.0))


def balanced_accuracy(y: IntArray, decided: IntArray, classes: Sequence[str], design: Design = PLAIN) -> Estimate:
    """Plain mean of the recalls of all classes; undefined when a class has no row.

    Source: Brodersen et al. (2010), ICPR; for the interval :func:`macro`.
    """
    return macro(y, decided, classes, "recall", design)


def macro(y: IntArray, decided: IntArray, classes: Sequence[str], kind: Macro, design: Design = PLAIN) -> Estimate:
    """Plain mean over classes of recall, precision or F1, with the exact limits of each class's joined (MOVER).

    Args:
        y: ``(n,)`` class codes.
        decided: ``(n,)`` class codes.
        classes: Names of the ``k`` classes, for the reason where one has no rows.
        kind: ``recall``, ``precision`` or ``f1``.
        design: Weights and clusters.

    Source: :func:`auditkit.stats.mean_shares.mean_limits`. F1 of two classes share the rows of the one that were
    decided as the other; with clusters all classes share clusters.
    """
    if len(y) == 0:
        return undefined("no rows")
    k = len(classes)
    lacking = empty_class(confusion(y, decided, k), classes, kind)
    if lacking:
        return undefined(lacking, len(y))
    of = {"recall": recall, "precision": precision, "f1": f1}[kind]
    each = [of(y, decided, code, design) for code in range(k)]
    if design.clusters is None:
        cells = confusion(y, decided, k, design.weights)
        squares = cells if design.weights is None else confusion(y, decided, k, design.weights**2)
        tied = class_correlation(cells, squares, kind)
    else:
        tied = clustered_correlation(y, decided, k, kind, design)
    return mean_of_shares(each, len(y), tied)


def empty_class(cells: FloatArray | IntArray, classes: Sequence[str], kind: Macro) -> str | None:
    """Why the mean over classes is undefined, if it is: the first class without the rows that it needs."""
    labelled, chosen = cells.sum(axis=1), cells.sum(axis=0)
    mass = {"recall": labelled, "precision": chosen, "f1": labelled + chosen}[kind]
    empty = [name for name, held in zip(classes, mass.tolist(), strict=True) if held <= 0.0]
    lack = {"recall": "has no rows", "precision": "was never decided", "f1": "has no rows and was never decided"}
    return f"class {empty[0]!r} {lack[kind]}, so the mean over classes is undefined" if empty else None


def class_correlation(cells: FloatArray, squares: FloatArray, kind: Macro) -> FloatArray | None:
    """``(k, k)`` correlations of the classes' F1 from ``cells`` and the sums of squared weights in them, both
    ``(k, k)``; ``None`` for recall and precision, whose classes have no row in common."""
    if kind != "f1":
        return None
    right = np.diag(cells)
    mass = cells.sum(axis=1) + cells.sum(axis=0) - right
    share = right / mass
    hits, union = np.diag(squares), squares.sum(axis=1) + squares.sum(axis=0) - np.diag(squares)
    covariance = np.outer(share / mass, share / mass) * (squares + squares.T)
    np.fill_diagonal(covariance, ((1.0 - share) ** 2 * hits + share**2 * (union - hits)) / mass**2)
    return np.asarray(correlations(covariance[None])[0])


def clustered_correlation(y: IntArray, decided: IntArray, k: int, kind: Macro, design: Design) -> FloatArray:
    """``(k, k)`` correlations of the classes' shares over clusters, a few clusters at a time."""
    assert design.clusters is not None
    names, code = np.unique(design.clusters, return_inverse=True)
    order = np.argsort(code, kind="stable")
    code, label, chosen, weight = code[order], y[order], decided[order], design.masses(len(y))[order]
    right = label == chosen
    sides = {"recall": (label,), "precision": (chosen,), "f1": (label, chosen)}[kind]
    hits = np.bincount(label[right], weights=weight[right], minlength=k)
    mass = sum(np.bincount(side, weights=weight, minlength=k) for side in sides) - (hits if kind == "f1" else 0.0)
    covariance, step = np.zeros((k, k)), max(1, _CELLS // k)
    for start in range(0, len(names), step):
        part = slice(*np.searchsorted(code, [start, start + step]))
        row, size, own = (code[part] - start) * k, min(step, len(names) - start) * k, weight[part]
        held, *each = (
            np.bincount(row + side[part], weights=mass_of, minlength=size).reshape(-1, k)
            for side, mass_of in ((label, own * right[part]), *((side, own) for side in sides))
        )
        whole = np.sum(each, axis=0) - (held if kind == "f1" else 0.0)
        moved = (held - hits / mass * whole) / mass
        covariance += moved.T @ moved
    return np.asarray(correlations(covariance[None])[0])
