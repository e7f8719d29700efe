"""Regression-adjusted Monte Carlo: a surrogate of the game, and an unbiased correction of it by what it misses.

The Shapley values of the surrogate are known exactly. What the surrogate misses is estimated on coalitions that
it was not fitted to (cross-fitting), with every coalition telling of every player (maximum sample reuse).
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.game import BoolArray
from auditkit.methods.explain.leverage import Design, drawn_coalitions, regress
from auditkit.methods.explain.plans import Estimate, Known, Plan, told_error
from auditkit.methods.explain.tree_models import read_trees
from auditkit.methods.explain.tree_shap import tree_shapley
from auditkit.methods.one_thread import one_openmp_thread

Kind = Literal["linear", "tree"]

_FOLDS = 5
_DEPTH, _LEAF = 4, 5  # of the trees: interactions of up to four players


def adjusted_needs(players: int, background: int) -> int:
    """Least model evaluations a row: coalitions on the whole background, enough to fit each fold's linear part."""
    return 2 * background * max(2 * _FOLDS, 2 * players)


def _adjusted_plan(kind: Kind, players: int, background: int, budget: int, rng: np.random.Generator) -> Plan:
    """Paired coalitions on the whole background, a surrogate of their worth, and what it misses.

    Source: Witter, Liu and Musco, "Regression-adjusted Monte Carlo Estimators for Shapley Values and Probabilistic
    Values", NeurIPS 2025, algorithm 1 (with the sampling of Leverage SHAP); Satterthwaite (1946) for the errors.
    """
    pairs = budget // (2 * background)
    masks = drawn_coalitions(players, 0, (1, pairs), rng)[0]
    fold = rng.permutation(pairs) % _FOLDS
    squares = _weights(masks) ** 2
    free = squares.sum(axis=0) ** 2 / (squares**2).sum(axis=0)  # Satterthwaite's: few pairs count for most of a player
    both = np.concatenate([masks, ~masks])

    def finish(outputs: FloatArray, known: Known) -> Estimate:
        worth = outputs.reshape(2 * pairs, background, -1).mean(axis=1)
        empty, full = known.empty.mean(axis=0), known.full
        values, variance = np.zeros((players, len(full))), np.zeros((players, len(full)))
        for number in range(_FOLDS):
            held = np.flatnonzero(fold == number)
            kept = np.flatnonzero(fold != number)
            found, missed = _fitted(masks, worth, kept, held, (empty, full))
            if kind == "tree":
                grown, predicted = _grown(masks, worth, kept, held, found)
                found, missed = found + grown, missed - predicted
            correction = _reuse(masks[held], missed)
            share = len(held) / pairs
            values += share * (found + correction.mean(axis=0))
            variance += share**2 * correction.var(axis=0, ddof=1) / len(held)
        return Estimate(values=values, error=told_error(variance, np.minimum(free, pairs - _FOLDS)))

    return Plan(
        masks=np.repeat(both, background, axis=0),
        sources=np.tile(np.arange(background), len(both)),
        finish=finish,
        name=f"{kind}_adjusted",
    )


linear_adjusted_plan = partial(_adjusted_plan, "linear")
tree_adjusted_plan = partial(_adjusted_plan, "tree")


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


def _grown(
    masks: BoolArray, worth: FloatArray, kept: IntArray, held: IntArray, slopes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Boosted trees of what the linear surrogate misses of the pairs kept.

    Returns:
        Their exact values ``(players, k)`` and the differences that they predict for the pairs held out, both
        of the trees minus the share of each coalition's size in their own change from nobody to everybody: the
        linear surrogate already has the right worth there.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    pairs, players = masks.shape
    member = np.concatenate([masks, ~masks]).astype(np.float64)
    rest = worth - member @ slopes
    shown = np.concatenate([kept, kept + pairs])
    values, predicted = np.zeros_like(slopes), np.zeros((len(held), worth.shape[1]))
    for output in range(worth.shape[1]):
        trees = HistGradientBoostingRegressor(
            max_depth=_DEPTH, min_samples_leaf=_LEAF, early_stopping=False, random_state=0
        )
        with one_openmp_thread():
            trees.fit(member[shown], rest[shown, output])
        read = read_trees(trees)
        assert read is not None
        ends = np.ones((1, players)), np.zeros((1, players))
        found = tree_shapley(read[0], *ends, np.arange(players), players)[0, :, 0]
        values[:, output] = found - found.mean()
        told = trees.predict(member[np.concatenate([held, held + pairs])])
        even = found.mean() * (2.0 * masks[held].sum(axis=1) - players)
        predicted[:, output] = told[: len(held)] - told[len(held) :] - even
    return values, predicted


def _reuse(masks: BoolArray, odd: FloatArray) -> FloatArray:
    """What each pair says of each player, ``(pairs, players, k)``: unbiased for a game worth nothing at both ends."""
    return np.asarray(_weights(masks)[:, :, None] * odd[:, None, :])


def _weights(masks: BoolArray) -> FloatArray:
    """``(pairs, players)`` what the difference of a pair counts for each player."""
    players = masks.shape[1]
    size = masks.sum(axis=1, keepdims=True)
    return np.asarray((players - 1) / 2.0 * np.where(masks, 1.0 / size, -1.0 / (players - size)))
