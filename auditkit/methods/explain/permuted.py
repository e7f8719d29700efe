"""Permutation importance: how much worse the model gets when one feature is shuffled, row by row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray

Losses = Callable[[FloatArray], FloatArray]


def permutation_losses(
    losses: Losses, matrix: FloatArray, players: Sequence[Sequence[int]], rng: np.random.Generator, repeats: int = 5
) -> FloatArray:
    """Loss of each row with one feature shuffled, less its own loss: ``(players, n)``, mean over ``repeats`` shuffles.

    The mean over rows is the permutation importance in units of the loss; the spread over rows gives its interval.

    Args:
        losses: Encoded matrix ``(m, f)``, a multiple of the rows -> loss of each ``(m,)``, in the order of the rows.
        matrix: ``(n, f)`` encoded rows, ``n >= 2``.
        players: Columns that are shuffled together, one tuple a feature.
        rng: Source of the shuffles.
        repeats: Shuffles a feature.

    Raises:
        UsageError: AK500 fewer than two rows or no repeat.

    Source: Breiman (2001), section 10; Fisher, Rudin and Dominici (2019), section 3.

    >>> x = np.arange(8.0)[:, None]
    >>> error = lambda m: np.abs(m[:, 0] - np.tile(np.arange(8.0), len(m) // 8))
    >>> bool(permutation_losses(error, x, [(0,)], np.random.default_rng(0)).mean() > 1.0)
    True
    """
    n = len(matrix)
    if n < 2 or repeats < 1:
        raise UsageError("AK500", "a shuffle needs two rows, and one repeat", fix="give two rows or more")
    own = losses(matrix)
    found = np.empty((len(players), n))
    for place, player in enumerate(players):
        columns = list(player)
        many = np.tile(matrix, (repeats, 1))
        for repeat in range(repeats):
            many[repeat * n : (repeat + 1) * n, columns] = matrix[rng.permutation(n)][:, columns]
        found[place] = losses(many).reshape(repeats, n).mean(axis=0) - own
    return found
