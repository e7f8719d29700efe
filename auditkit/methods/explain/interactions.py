"""How much of the joint effect of two features is more than the sum of their own: Friedman and Popescu's H."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from auditkit.core.subject import FloatArray

Outputs = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, kw_only=True)
class PairEffects:
    """Centred partial dependence of a pair, and of the pair less that of either feature, at the rows themselves.

    Attributes:
        first: Position of a feature of the pair among those asked about.
        second: The other's.
        joint: ``(n,)`` centred partial dependence on both.
        beyond: ``(n,)`` what is left of it without the two features' own.
    """

    first: int
    second: int
    joint: FloatArray
    beyond: FloatArray

    def strength(self, weights: FloatArray) -> FloatArray:
        """H ``(b,)`` for weights of the rows ``(b, n)``; NaN where the pair has no effect at all."""
        total = weights @ self.joint**2
        part = weights @ self.beyond**2
        share = np.divide(part, total, out=np.full(len(total), np.nan), where=total > 0.0)
        return np.asarray(np.sqrt(np.minimum(share, 1.0)), dtype=np.float64)


def pair_effects(outputs: Outputs, matrix: FloatArray, features: Sequence[tuple[int, ...]]) -> list[PairEffects]:
    """Partial dependence of every pair of ``features``, at the rows of ``matrix`` and over the same rows.

    Args:
        outputs: Encoded matrix ``(m, f)`` -> outputs ``(m,)``.
        matrix: ``(n, f)``; ``n**2`` evaluations for each feature and pair.
        features: Two or more, each the columns that it is made of (several for a one-hot group).

    Source: Friedman and Popescu (2008), section 8.1, equation 44.

    >>> x = np.random.default_rng(0).normal(size=(30, 2))
    >>> (additive,) = pair_effects(lambda m: m[:, 0] + m[:, 1] ** 2, x, [(0,), (1,)])
    >>> round(float(additive.strength(np.ones((1, 30)))[0]), 6)
    0.0
    """
    alone = [_dependence(outputs, matrix, columns) for columns in features]
    found = []
    for first, second in combinations(range(len(features)), 2):
        joint = _dependence(outputs, matrix, features[first] + features[second])
        beyond = joint - alone[first] - alone[second]
        found.append(PairEffects(first=first, second=second, joint=joint, beyond=beyond))
    return found


def _dependence(outputs: Outputs, matrix: FloatArray, columns: tuple[int, ...]) -> FloatArray:
    n = len(matrix)
    many = np.tile(matrix, (n, 1))  # for each row in turn, all rows as background
    for column in columns:
        many[:, column] = np.repeat(matrix[:, column], n)
    values = outputs(many).reshape(n, n).mean(axis=1)
    return np.asarray(values - values.mean(), dtype=np.float64)
