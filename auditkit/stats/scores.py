"""What the scores of a model are good for: ranking rows, and saying probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Probabilities are kept this far from 0 and 1 in every log loss, so that a certain mistake is finite.
LOG_LOSS_FLOOR = float(np.finfo(np.float64).eps)


def log_losses(chosen: FloatArray) -> FloatArray:
    """Minus the log of the probability ``(n,)`` that each row's own label was given, clipped as scikit-learn does.

    >>> log_losses(np.array([0.5, 0.0])).round(4).tolist()
    [0.6931, 36.0437]
    """
    return np.asarray(-np.log(np.clip(chosen, LOG_LOSS_FLOOR, 1.0 - LOG_LOSS_FLOOR)))


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities ``(n, k)`` from logits ``(n, k)``.

    >>> softmax(np.array([[0.0, 0.0]])).tolist()
    [[0.5, 0.5]]
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float64)


def ranking_and_probabilities(
    raw: FloatArray, space: str | None, positive: int | None
) -> tuple[FloatArray, FloatArray | None]:
    """Scores to rank by ``(n, k)``, and probabilities ``(n, k)`` or ``None`` where ``space`` has none.

    Two logits are ranked by their difference, which never saturates.

    >>> ranking_and_probabilities(np.array([[0.0, 1.0]]), "logit", 1)[0].tolist()
    [[-1.0, 1.0]]
    """
    if space == "probability":
        return raw, raw
    if space == "logit":
        probabilities = softmax(raw)
        return (raw - raw[:, ::-1] if positive is not None and raw.shape[1] == 2 else probabilities), probabilities
    return raw, None
