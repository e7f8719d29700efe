"""Out-of-fold probabilities of a small boosted-tree model: how much all features together give away."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: TID253  this module drives scikit-learn

from auditkit.methods.one_thread import one_openmp_thread

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def out_of_fold_probabilities(
    matrix: FloatArray,
    target: IntArray,
    fold: IntArray,
    seed: int,
    weights: FloatArray | None = None,
    tick: Callable[[], None] | None = None,
) -> FloatArray:
    """Probabilities ``(n, k)`` of each target code, each row's from a model that did not see its fold.

    Args:
        matrix: ``(n, f)`` features; NaN is missing, category codes are taken as numbers.
        target: ``(n,)`` codes ``0 .. k-1``.
        fold: ``(n,)`` fold of each row.
        seed: Seed of the trees.
        weights: ``(n,)`` row weights.
        tick: Called before each fold; may raise to stop.

    Returns:
        ``(n, k)``; a code that a training part lacks has probability 0 there.
    """
    k = int(target.max()) + 1
    out = np.zeros((len(target), k))
    safe = np.clip(matrix, -1e300, 1e300)
    for code in range(int(fold.max()) + 1):
        if tick is not None:
            tick()
        held = fold == code
        if not held.any() or len(np.unique(target[~held])) < 2:
            continue
        model = HistGradientBoostingClassifier(
            max_iter=40, learning_rate=0.15, max_leaf_nodes=8, early_stopping=False, random_state=seed % 2**32
        )
        with one_openmp_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(safe[~held], target[~held], sample_weight=None if weights is None else weights[~held])
            found = model.predict_proba(safe[held])
        out[np.ix_(held, np.asarray(model.classes_, dtype=np.int64))] = found
    return out
