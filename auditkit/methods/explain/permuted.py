"""Permutation importance: how much worse the model gets when one feature is shuffled, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.stats.linearised import PLAIN, Design, cluster_sums

Losses = Callable[[FloatArray], FloatArray]

_LEAST = 1.0 / 3.0  # of the spread's square that may be taken off for few shuffles


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffled:
    """What shuffling each feature loses.

    Attributes:
        losses: ``(players, n)`` a row's loss with the feature of other rows, less its own: mean over the shuffles.
        parts: ``(players, n)`` of the same mean over rows: what a row loses, and what others lose by its feature. Their
            spread is the mean's error, and once more the noise of the draws, which both roles of a row hold.
        noise: ``(players,)`` sum of squares that this noise adds to that of the parts; see :func:`steadied`.
    """

    losses: FloatArray
    parts: FloatArray
    noise: FloatArray


def permutation_losses(
    losses: Losses,
    matrix: FloatArray,
    players: Sequence[Sequence[int]],
    rng: np.random.Generator,
    repeats: int = 5,
    design: Design = PLAIN,
) -> Shuffled:
    """Loss of each row with one feature shuffled, less its own loss, a mean over ``repeats`` shuffles.

    The (weighted) mean over rows is the permutation importance in units of the loss: a statistic of pairs of rows, the
    one judged and the one that lends its feature. The spread of what rows lose has half of its error or less.

    Args:
        losses: Encoded matrix ``(m, f)``, a multiple of the rows -> loss of each ``(m,)``, in the order of the rows.
        matrix: ``(n, f)`` encoded rows, ``n >= 2``.
        players: Columns that are shuffled together, one tuple a feature.
        rng: Source of the shuffles.
        repeats: Shuffles a feature.
        design: Weights of the rows judged, and clusters; any row lends its feature as often.

    Raises:
        UsageError: AK500 fewer than two rows or no repeat.

    Source: Breiman (2001), section 10; Fisher, Rudin and Dominici (2019), section 3; Hoeffding (1948) for the parts.

    >>> x = np.arange(8.0)[:, None]
    >>> error = lambda m: np.abs(m[:, 0] - np.tile(np.arange(8.0), len(m) // 8))
    >>> bool(permutation_losses(error, x, [(0,)], np.random.default_rng(0)).losses.mean() > 1.0)
    True
    """
    n = len(matrix)
    if n < 2 or repeats < 1:
        raise UsageError("AK500", "a shuffle needs two rows, and one repeat", fix="give two rows or more")
    own = losses(matrix)
    found, parts, noise = np.empty((len(players), n)), np.empty((len(players), n)), np.empty(len(players))
    for place, player in enumerate(players):
        columns = list(player)
        many = np.tile(matrix, (repeats, 1))
        lenders = np.stack([rng.permutation(n) for _ in range(repeats)])
        for repeat, order in enumerate(lenders):
            many[repeat * n : (repeat + 1) * n, columns] = matrix[order][:, columns]
        lost = losses(many).reshape(repeats, n) - own
        found[place] = lost.mean(axis=0)
        parts[place], noise[place] = _parts(lost, lenders, design)
    return Shuffled(losses=found, parts=parts, noise=noise)


def _parts(lost: FloatArray, lenders: IntArray, design: Design) -> tuple[FloatArray, float]:
    """Parts ``(n,)`` from what rows ``lost (repeats, n)`` by the features of ``lenders (repeats, n)``, and noise."""
    repeats, n = lost.shape
    w = design.masses(n) / design.masses(n).mean()
    value = float((w * lost.mean(axis=0)).mean())
    off = w * (lost - value)
    lent = np.bincount(lenders.ravel(), weights=off.ravel(), minlength=n) / repeats
    both = off.mean(axis=0) + lent
    parts = value + np.divide(both, w, out=np.zeros(n), where=w > 0.0)
    return np.asarray(parts), float((off**2).sum()) / repeats**2


def steadied(parts: FloatArray, noise: float, design: Design = PLAIN) -> FloatArray:
    """``parts (n,)`` drawn to their mean, so that the spread has the ``noise`` of the draws once."""
    n = len(parts)
    w = design.masses(n) / design.masses(n).mean()
    mean = float((w * parts).mean())
    square = float((cluster_sums(w * (parts - mean), design.clusters) ** 2).sum())
    shrunk = np.sqrt(max(1.0 - noise / square, _LEAST)) if square > 0.0 else 1.0
    return np.asarray(mean + shrunk * (parts - mean))
