"""Exact Shapley values, and exact interaction indices, by evaluating every set of players."""

from __future__ import annotations

from math import comb

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.game import BoolArray, Game


def enumerated_cost(players: int, background: int) -> int:
    """Model evaluations a row: every set but the empty and the full one, on every background row."""
    return (2**players - 2) * background if players else 0


def shapley_weights(players: int) -> FloatArray:
    """Matrix ``(players, 2**players)`` that maps the worth of every set (bit ``i`` = player ``i``) to Shapley values.

    >>> shapley_weights(1).tolist()
    [[-1.0, 1.0]]
    """
    sets = np.arange(2**players)
    member = members(players).T
    size = member.sum(axis=0) if players else np.zeros(len(sets), dtype=np.int64)
    weight = np.array([1.0 / (players * comb(players - 1, s)) for s in range(players)] or [0.0])
    joined = weight[np.clip(size - 1, 0, max(players - 1, 0))]
    left = weight[np.clip(size, 0, max(players - 1, 0))]
    return np.asarray(np.where(member, joined[None, :], -left[None, :]), dtype=np.float64)


def members(players: int) -> BoolArray:
    """``(2**players, players)``: which player is in which set."""
    sets = np.arange(2**players)
    return np.asarray(((sets[:, None] >> np.arange(players)[None, :]) & 1).astype(np.bool_))


def worths(game: Game, rows: IntArray, active: IntArray, empty: FloatArray, full: FloatArray) -> FloatArray:
    """Worth of every set of the active players of each row, averaged over the whole background.

    Args:
        game: What is explained.
        rows: ``(r,)`` rows with equally many active players.
        active: ``(r, p)`` those players.
        empty: ``(k,)`` mean output of the background.
        full: ``(r, k)`` outputs of the rows.

    Returns:
        ``(r, 2**p, k)``. Rows share calls of the model where one row fills no batch.
    """
    (count, players), b = active.shape, len(game.background)
    worth = np.empty((count, 2**players, full.shape[1]))
    worth[:, 0], worth[:, -1] = empty, full
    inner = members(players)[1:-1]
    sets_a_batch = max(1, game.batch_size // b)
    for start in range(0, count * len(inner), sets_a_batch):
        place, subset = np.divmod(np.arange(start, min(start + sets_a_batch, count * len(inner))), len(inner))
        masks = np.zeros((len(place), len(game.groups)), dtype=np.bool_)
        np.put_along_axis(masks, active[place], inner[subset], axis=1)
        sources = np.tile(np.arange(b), len(place))
        outputs = game.mixtures(np.repeat(masks, b, axis=0), np.repeat(rows[place], b), sources)
        worth[place, 1 + subset] = outputs.reshape(len(place), b, -1).mean(axis=1)
    return worth
