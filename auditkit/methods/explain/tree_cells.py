"""Rows moved to the middle of the cells that a tree ensemble's thresholds cut, where rounding cannot flip a split.

scikit-learn's trees compare single-precision features with double-precision thresholds; an engine that rounds either
differently sends rows that lie next to a threshold down the wrong branch. A tree only sees which cell
a value lies in, so the middle of the cell gets the very same predictions, far from any threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from auditkit.core.subject import FloatArray


def cell_centres(model: Any, matrix: FloatArray) -> FloatArray | None:
    """``matrix (m, f)`` with every value at the middle of its cell; ``None`` when the model has no public ``tree_``.

    Args:
        model: A fitted scikit-learn tree, forest or gradient boosting model.
        matrix: Rows as the model takes them; NaN stays NaN.

    >>> from sklearn.tree import DecisionTreeRegressor
    >>> tree = DecisionTreeRegressor().fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    >>> cell_centres(tree, np.array([[0.9]])).tolist()
    [[1.0]]
    """
    trees = _trees(model)
    if not trees or matrix.shape[1] != getattr(model, "n_features_in_", -1):
        return None
    feature = np.concatenate([tree.feature for tree in trees])
    threshold = np.concatenate([tree.threshold for tree in trees])
    seen = matrix.astype(np.float32).astype(np.float64)  # what the model itself compares
    centred = seen.copy()
    for column in range(matrix.shape[1]):
        cuts = np.unique(threshold[feature == column])
        if len(cuts) == 0:
            continue
        outside = np.maximum(np.abs(cuts[[0, -1]]), 1.0)
        edges = np.concatenate([[cuts[0] - 2 * outside[0]], cuts, [cuts[-1] + 2 * outside[1]]])
        # A value equal to a threshold goes left, into the cell that ends there.
        cell = np.searchsorted(cuts, seen[:, column], side="left")
        middle = (edges[cell] + edges[cell + 1]) / 2.0
        centred[:, column] = np.where(np.isnan(seen[:, column]), np.nan, middle)
    return centred


def _trees(model: Any) -> list[Any]:
    members = np.ravel(np.asarray(getattr(model, "estimators_", [model]), dtype=object))
    trees = [getattr(member, "tree_", None) for member in members]
    return [] if any(tree is None for tree in trees) else trees
