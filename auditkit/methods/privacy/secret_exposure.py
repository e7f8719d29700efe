"""Exposure: how far a secret that was in the training text stands out among all that could have been there."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def exposure(secret: float, others: FloatArray, *, space: float | None = None) -> float:
    """Bits by which the rank of a secret among its alternatives betrays it: ``log2 |R| - log2 rank``.

    A model that never saw the secret gives ``1 / ln 2``, 1.44 bits, on average; ``log2 |R|`` says that the secret is
    the first that the model would name. Ties count half.

    Args:
        secret: How likely the model finds the secret that it may have seen (log-likelihood; larger is likelier).
        others: ``(m,)`` the same for other candidates of the same form, drawn at random.
        space: Number of all candidates; ``others`` is then a sample of them, and the rank is scaled up. Beyond
            ``log2(m + 1)`` bits a sample cannot tell.

    Raises:
        ValueError: No other candidate, or one that is no number.

    Source: Carlini, Liu, Erlingsson, Kos and Song (2019), The secret sharer, section 4.3 (exposure, definition 4) and
    4.4 (by sampling).

    >>> exposure(-1.0, np.array([-5.0, -4.0, -3.0]))
    2.0
    """
    m = len(others)
    if m == 0 or not np.isfinite(others).all() or not math.isfinite(secret):
        raise ValueError("exposure needs at least one other candidate, and numbers for all")
    rank = 1.0 + float((others > secret).sum()) + 0.5 * float((others == secret).sum())
    if space is None:
        return math.log2(m + 1) - math.log2(rank)
    return math.log2(space) - math.log2(max(1.0, rank * space / (m + 1)))
