"""How far two explanations of the same rows agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

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

    A feature of no weight is never among the largest; where fewer than ``k`` have any, the share is of the larger of
    the two sets. NaN where both explanations are zero.

    Source: Krishna et al. (2022), The disagreement problem in explainable machine learning, section 4 (feature
    agreement).

    >>> top_overlap(np.array([[3.0, 2.0, 0.0]]), np.array([[3.0, 0.0, 2.0]]), k=2).tolist()
    [0.5]
    >>> top_overlap(np.array([[3.0, 0.0, 0.0]]), np.array([[3.0, 0.0, 0.0]]), k=2).tolist()
    [1.0]
    """
    one, other = (_largest(np.abs(weights), min(k, first.shape[1])) for weights in (first, second))
    size = np.maximum(one.sum(axis=1), other.sum(axis=1))
    shared = np.divide((one & other).sum(axis=1), size, out=np.full(len(size), np.nan), where=size > 0)
    return np.asarray(shared, dtype=np.float64)


def _largest(sizes: FloatArray, k: int) -> npt.NDArray[np.bool_]:
    """Which are the ``k`` largest of each row ``(n, f)``, zeros left out; of equal ones the first."""
    inside = np.zeros(sizes.shape, dtype=np.bool_)
    np.put_along_axis(inside, np.argsort(-sizes, axis=1, kind="stable")[:, :k], True, axis=1)
    return np.asarray(inside & (sizes > 0.0))
