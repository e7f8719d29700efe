"""The weighted linear surrogate of LIME: which features it uses, its weights, and how well it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.lime_table import Selection

_RIDGE = 1.0
_RIDGE_OF_RANKING = 0.01
_FEW = 6


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """A fitted surrogate: ``weights (f,)`` (0 where a feature is not used), ``intercept``, weighted ``r2`` or NaN."""

    weights: FloatArray
    intercept: float
    r2: float


def fit_surrogate(
    data: FloatArray, outputs: FloatArray, weights: FloatArray, *, selection: Selection = "none", features: int = 0
) -> Surrogate:
    """Ridge regression (penalty 1, free intercept) of ``outputs`` on the selected columns of ``data``.

    Args:
        data: ``(m, f)`` what the surrogate sees; the first row is the row explained.
        outputs: ``(m,)`` of the model.
        weights: ``(m,)`` proximities, ``>= 0``.
        selection: ``none`` (all), ``forward_selection``, ``highest_weights``, ``lasso_path``, or ``auto``: forward
            selection up to six features, else highest weights.
        features: How many are selected.

    Returns:
        The surrogate; where ``outputs`` do not vary its weights are 0 and its ``r2`` is NaN.

    Raises:
        UsageError: AK477 an unknown selection.

    Source: Ribeiro, Singh and Guestrin (2016), section 3.4 and algorithm 1.

    >>> fit = fit_surrogate(np.array([[1.0], [0.0], [1.0], [0.0]]), np.array([2.0, 0.0, 2.0, 0.0]), np.ones(4))
    >>> fit.weights.tolist(), round(fit.intercept, 3), fit.r2
    ([1.0], 0.5, 0.75)
    """
    total = weights.sum()
    centre, middle = weights @ data / total, float(weights @ outputs / total)
    root = np.sqrt(weights)
    x = (data - centre) * root[:, None]
    y = (outputs - middle) * root
    spread = float(y @ y)
    scale = float(total) * max(float(np.abs(outputs).max()), np.finfo(np.float64).tiny) ** 2
    if not spread > 1e-24 * scale:
        return Surrogate(weights=np.zeros(data.shape[1]), intercept=middle, r2=float("nan"))
    used = _selected(x, y, data[0], selection, features)
    chosen = x if used is None else x[:, used]
    coefficients = _ridge(chosen, y, _RIDGE)
    rest = y - chosen @ coefficients
    found = np.zeros(data.shape[1])
    if used is None:
        found[:] = coefficients
    else:
        found[used] = coefficients
    return Surrogate(weights=found, intercept=middle - float(centre @ found), r2=1.0 - float(rest @ rest) / spread)


def _ridge(x: FloatArray, y: FloatArray, penalty: float) -> FloatArray:
    """Coefficients ``(f,)``; with fewer samples than columns by the samples' own Gram matrix, which is the smaller."""
    from scipy.linalg import solve

    wide = x.shape[1] > x.shape[0]
    gram = x @ x.T if wide else x.T @ x
    gram.flat[:: len(gram) + 1] += penalty
    found = solve(gram, y if wide else x.T @ y, assume_a="pos")
    return np.asarray(x.T @ found if wide else found)


def _selected(
    x: FloatArray, y: FloatArray, instance: FloatArray, selection: Selection, features: int
) -> IntArray | None:
    if selection == "auto":
        selection = "forward_selection" if features <= _FEW else "highest_weights"
    if selection == "none":
        return None
    if selection == "forward_selection":
        return forward_selection(x, y, features)
    if selection == "highest_weights":
        size = np.abs(_ridge(x, y, _RIDGE_OF_RANKING) * instance)
        return np.argsort(-size, kind="stable")[:features].astype(np.int64)
    if selection == "lasso_path":
        return _lasso(x, y, features)
    raise UsageError(
        "AK477",
        f"there is no feature selection {selection!r}",
        fix="use none, auto, forward_selection, highest_weights or lasso_path",
    )


def forward_selection(x: FloatArray, y: FloatArray, features: int) -> IntArray:
    """Columns ``(features,)`` of centred, weighted ``x (m, f)``, each the one that raises the R2 of least squares most.

    Every step projects what is chosen out of the Gram matrix (modified Gram-Schmidt), so that all candidates are
    judged in one line instead of one regression each.

    >>> forward_selection(np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]), np.array([1.0, -1.0, 0.0]), 1).tolist()
    [0]
    """
    gram, moment = x.T @ x, x.T @ y
    size = np.diag(gram).copy()
    left = np.ones(len(size), dtype=bool)
    used: list[int] = []
    for _ in range(min(features, len(size))):
        rest = np.diag(gram)
        usable = rest > 1e-10 * np.maximum(size, np.finfo(np.float64).tiny)
        gain = np.where(usable, moment**2 / np.where(usable, rest, 1.0), 0.0)
        best = int(np.argmax(np.where(left, gain, -np.inf)))
        used.append(best)
        left[best] = False
        if usable[best]:
            row, step = gram[best].copy(), rest[best].copy()
            moment = moment - row * (moment[best] / step)
            gram = gram - np.outer(row, row) / step
    return np.array(used, dtype=np.int64)


def _lasso(x: FloatArray, y: FloatArray, features: int) -> IntArray:
    """The largest set of at most ``features`` columns along the lasso path (LARS)."""
    from sklearn.linear_model import lars_path

    path: Any = lars_path(x, y, method="lasso", verbose=False)[2]
    chosen = np.arange(x.shape[1])
    for step in range(path.shape[1] - 1, 0, -1):
        chosen = np.flatnonzero(path[:, step])
        if len(chosen) <= features:
            break
    return chosen.astype(np.int64)
