"""How much of the joint effect of two features is more than the sum of their own: Friedman and Popescu's H."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from auditkit.core.subject import FloatArray
from auditkit.methods.explain.least import need_rows

Outputs = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, kw_only=True)
class PairEffects:
    """Partial dependence of a pair, and of the pair less that of either feature, at the rows themselves.

    Attributes:
        first: Position of a feature of the pair among those asked about.
        second: The other's.
        joint: ``(n,)`` partial dependence on both, less its mean over the rows.
        beyond: ``(n,)`` what is left of it without the two features' own.
        rounding: What may be rounding in outputs of this size.
    """

    first: int
    second: int
    joint: FloatArray
    beyond: FloatArray
    rounding: float

    def strength(self, weights: FloatArray) -> FloatArray:
        """H ``(b,)`` for weights of the rows ``(b, n)``; NaN where the pair has no effect beyond rounding."""
        total, part = _variance(self.joint, weights), _variance(self.beyond, weights)
        share = np.divide(part, total, out=np.full(len(total), np.nan), where=total > self.rounding**2)
        return np.asarray(np.sqrt(np.minimum(share, 1.0)), dtype=np.float64)


def pair_effects(
    outputs: Outputs, matrix: FloatArray, features: Sequence[tuple[int, ...]], weights: FloatArray | None = None
) -> list[PairEffects]:
    """Partial dependence of every pair of ``features``, at the rows of ``matrix`` and over the same rows.

    Args:
        outputs: Encoded matrix ``(m, f)`` -> outputs ``(m,)``.
        matrix: ``(n, f)``; ``n**2`` evaluations for each feature and pair.
        features: Two or more, each the columns that it is made of (several for a one-hot group).
        weights: ``(n,)`` what each row counts for in the means; all alike when left out.

    Raises:
        UsageError: AK500 no rows.

    Source: Friedman and Popescu (2008), section 8.1, equation 44.

    >>> x = np.random.default_rng(0).normal(size=(30, 2))
    >>> (additive,) = pair_effects(lambda m: m[:, 0] + m[:, 1] ** 2, x, [(0,), (1,)])
    >>> round(float(additive.strength(np.ones((1, 30)))[0]), 6)
    0.0
    """
    need_rows(len(matrix))
    masses = np.ones(len(matrix)) if weights is None else weights
    rounding = _rounding(outputs(matrix))
    alone = [_dependence(outputs, matrix, columns, masses) for columns in features]
    found = []
    for first, second in combinations(range(len(features)), 2):
        joint = _dependence(outputs, matrix, features[first] + features[second], masses)
        beyond = _centred(joint - alone[first] - alone[second], masses)
        pair = PairEffects(first=first, second=second, joint=_centred(joint, masses), beyond=beyond, rounding=rounding)
        found.append(pair)
    return found


def _dependence(outputs: Outputs, matrix: FloatArray, columns: tuple[int, ...], masses: FloatArray) -> FloatArray:
    n = len(matrix)
    many = np.tile(matrix, (n, 1))  # for each row in turn, all rows as background
    for column in columns:
        many[:, column] = np.repeat(matrix[:, column], n)
    return np.asarray(outputs(many).reshape(n, n) @ masses / masses.sum(), dtype=np.float64)


def _rounding(values: FloatArray) -> float:
    """What may be rounding in means of outputs like ``values``: a few units in the last place of the largest."""
    single = np.array_equal(values, values.astype(np.float32), equal_nan=True)
    unit = np.finfo(np.float32 if single else np.float64).eps
    return 8.0 * float(unit) * float(np.abs(values).max(initial=0.0))


def _centred(values: FloatArray, masses: FloatArray) -> FloatArray:
    return np.asarray(values - np.average(values, weights=masses), dtype=np.float64)


def _variance(values: FloatArray, weights: FloatArray) -> FloatArray:
    """``(b,)`` variance of ``values (n,)``, near 0 on average, under each of ``weights (b, n)``."""
    total = weights.sum(axis=1)
    found = (weights @ values**2) / total - (weights @ values / total) ** 2
    return np.asarray(np.maximum(found, 0.0), dtype=np.float64)
