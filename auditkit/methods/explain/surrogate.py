"""Regression-adjusted Monte Carlo: a surrogate of the game, and an unbiased correction of it by what it misses.

The Shapley values of the surrogate are known exactly. What the surrogate misses is estimated on coalitions that
it was not fitted to (cross-fitting), with every coalition telling of every player (maximum sample reuse).
"""

from __future__ import annotations

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.game import BoolArray
from auditkit.methods.explain.leverage import Design, drawn_coalitions, regress
from auditkit.methods.explain.plans import Estimate, Known, Plan

_FOLDS = 5


def adjusted_needs(players: int, background: int) -> int:
    """Least model evaluations a row: coalitions on the whole background, enough to fit each fold's linear part."""
    return 2 * background * max(2 * _FOLDS, 2 * players)


def adjusted_plan(players: int, background: int, budget: int, rng: np.random.Generator) -> Plan:
    """Paired coalitions on the whole background, a linear surrogate, and what it misses.

    Source: Witter, Liu and Musco, "Regression-adjusted Monte Carlo Estimators for Shapley Values and Probabilistic
    Values", NeurIPS 2025, algorithm 1 (with the sampling of Leverage SHAP).
    """
    pairs = budget // (2 * background)
    masks = drawn_coalitions(players, 0, (1, pairs), rng)[0]
    fold = rng.permutation(pairs) % _FOLDS
    both = np.concatenate([masks, ~masks])

    def finish(outputs: FloatArray, known: Known) -> Estimate:
        worth = outputs.reshape(2 * pairs, background, -1).mean(axis=1)
        empty, full = known.empty.mean(axis=0), known.full
        values, variance = np.zeros((players, len(full))), np.zeros((players, len(full)))
        for number in range(_FOLDS):
            held = np.flatnonzero(fold == number)
            kept = np.flatnonzero(fold != number)
            found, missed = _fitted(masks, worth, kept, held, (empty, full))
            correction = _reuse(masks[held], missed)
            share = len(held) / pairs
            values += share * (found + correction.mean(axis=0))
            variance += share**2 * correction.var(axis=0, ddof=1) / len(held)
        return Estimate(values=values, error=np.sqrt(variance))

    return Plan(
        masks=np.repeat(both, background, axis=0),
        sources=np.tile(np.arange(background), len(both)),
        finish=finish,
        name="linear_adjusted",
    )


def _fitted(
    masks: BoolArray, worth: FloatArray, kept: IntArray, held: IntArray, ends: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """A linear surrogate of the pairs kept: its values ``(players, k)`` and what it misses of the pairs held out."""
    pairs, players = masks.shape
    odd = worth[:pairs] - worth[pairs:]
    size = masks[kept].sum(axis=1)
    design = Design(masks=masks[None, kept], weights=1.0 / (size * (players - size))[None, :] / len(kept), listed=0)
    values = regress(design, odd[None, kept], (ends[1] - ends[0])[None, :]).values
    return values, odd[held] - (2.0 * masks[held] - 1.0) @ values


def _reuse(masks: BoolArray, odd: FloatArray) -> FloatArray:
    """What each pair says of each player, ``(pairs, players, k)``: unbiased for a game worth nothing at both ends."""
    players = masks.shape[1]
    size = masks.sum(axis=1, keepdims=True)
    weight = (players - 1) / 2.0 * np.where(masks, 1.0 / size, -1.0 / (players - size))
    return np.asarray(weight[:, :, None] * odd[:, None, :])
