"""How far two explanations of the same rows agree."""

from __future__ import annotations

import numpy as np

from auditkit.core.subject import FloatArray
from auditkit.stats.ranking import midranks


def rank_correlations(first: FloatArray, second: FloatArray) -> FloatArray:
    """Spearman's rank correlation of each row of two ``(n, f)`` matrices; rows where one side is constant are left out.

    >>> rank_correlations(np.array([[1.0, 2.0, 3.0]]), np.array([[3.0, 2.0, 1.0]])).tolist()
    [-1.0]
    """
    found = []
    for one, other in zip(first, second, strict=True):
        a, b = midranks(one), midranks(other)
        a, b = a - a.mean(), b - b.mean()
        norm = float(np.sqrt((a**2).sum() * (b**2).sum()))
        if norm > 0.0:
            found.append(float((a * b).sum()) / norm)
    return np.array(found, dtype=np.float64)


def top_overlap(first: FloatArray, second: FloatArray, k: int = 5) -> FloatArray:
    """Share ``(n,)`` of the ``k`` features largest in absolute weight that two explanations of a row have in common.

    >>> top_overlap(np.array([[3.0, 2.0, 0.0]]), np.array([[3.0, 0.0, 2.0]]), k=2).tolist()
    [0.5]
    """
    k = min(k, first.shape[1])
    tops = [np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :k] for weights in (first, second)]
    shared = (tops[0][:, :, None] == tops[1][:, None, :]).any(axis=2)
    return np.asarray(shared.mean(axis=1), dtype=np.float64)
