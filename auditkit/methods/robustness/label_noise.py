"""Wrong labels among the training rows: exact shares of flips, nested so that more noise adds to less."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Flips:
    """Which rows are flipped, in order, and to what.

    Attributes:
        order: ``(m,)`` positions of rows that may be flipped; a share flips the first of them.
        labels: ``(m,)`` codes that they get.
    """

    order: IntArray
    labels: IntArray

    def flipped(self, y: IntArray, share: float) -> IntArray:
        """A copy of ``y`` with the first ``share`` (rounded to whole rows) of these rows relabelled."""
        count = round(share * len(self.order))
        noisy = y.copy()
        noisy[self.order[:count]] = self.labels[:count]
        return noisy


def make_flips(
    y: IntArray, n_classes: int, rng: np.random.Generator, *, source: int | None = None, target: int | None = None
) -> Flips:
    """Draw flips: of all rows, each to any other class alike, or of the rows of one class to another.

    Args:
        y: ``(n,)`` class codes below ``n_classes``.
        n_classes: Number of classes.
        rng: Source of the draws.
        source: Only rows of this class are flipped; a share is then of them.
        target: They get this class; without it any other class alike.

    Raises:
        UsageError: AK594 fewer than two classes, or no row that could be flipped.

    Source: Natarajan et al. (2013), section 2, class-conditional noise.

    >>> y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> int((make_flips(y, 2, np.random.default_rng(0)).flipped(y, 0.25) != y).sum())
    2
    """
    if n_classes < 2:
        raise UsageError("AK594", "labels of one class cannot be flipped to another")
    rows = np.arange(len(y)) if source is None else np.flatnonzero(y == source)
    rows = rows[y[rows] != target] if target is not None else rows
    if len(rows) == 0:
        raise UsageError("AK594", "there is no training row whose label could be flipped", where="flip_from")
    order = rng.permutation(rows).astype(np.int64)
    other = (y[order] + rng.integers(1, n_classes, len(order))) % n_classes
    labels = other if target is None else np.full(len(order), target)
    return Flips(order=order, labels=labels.astype(np.int64))


def losses_per_span(shares: FloatArray, right: FloatArray) -> FloatArray:
    """Accuracy lost over the whole span of shares, by the least-squares line, for each training and row.

    Args:
        shares: ``(a,)`` shares of flipped labels, not all equal.
        right: ``(a, s, n)`` 1 where the model trained at that share decides rightly.

    Returns:
        ``(s, n)`` values whose mean is the slope of the line through the mean accuracies times ``-(max - min)``.

    >>> losses_per_span(np.array([0.0, 0.1, 0.2]), np.array([[[1.0]], [[1.0]], [[0.0]]]))[0, 0].round(6)
    1.0
    """
    return np.asarray(np.tensordot(span_weights(shares), right, axes=1))


def span_weights(shares: FloatArray) -> FloatArray:
    """What each share's accuracy counts for in the loss over the whole span; they sum to 0.

    >>> span_weights(np.array([0.0, 0.25, 1.0])).round(3).tolist()
    [0.769, 0.308, -1.077]
    """
    centred = shares - shares.mean()
    return np.asarray(-centred * (shares.max() - shares.min()) / float((centred**2).sum()))
