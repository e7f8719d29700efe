"""Shapley values of any model by evaluating it: exact enumeration, or antithetic permutation sampling.

The game of a row ``x`` gives a set ``S`` of features the worth ``v(S) = mean_b predict(x on S, b elsewhere)``
over the rows ``b`` of the background (the *interventional* or *marginal* game). Base value: ``v(empty set)``,
the model's mean output over the whole background.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal

import numpy as np
import numpy.typing as npt

from auditkit.core.attribution import Attribution
from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.additivity import checked

Predict = Callable[[FloatArray], FloatArray]
Estimator = Literal["auto", "exact", "permutation"]

MAX_EXACT_GROUPS = 12
_CELLS_A_BATCH = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Game:
    """What is explained.

    Attributes:
        predict: Matrix ``(m, f)`` -> outputs ``(m, k)`` (or ``(m,)``).
        rows: ``(n, f)`` rows to explain.
        background: ``(b, f)`` background rows; all of them are used.
        groups: Columns that enter or leave together, one tuple a player.
        batch_size: Most rows handed to ``predict`` at once.
    """

    predict: Predict
    rows: FloatArray
    background: FloatArray
    groups: tuple[tuple[int, ...], ...]
    batch_size: int

    def outputs(self, matrix: FloatArray) -> FloatArray:
        """``predict`` in batches, checked: ``(m, k)`` float64, finite.

        Raises:
            AuditkitError: AK501 wrong shape, AK502 not finite.
        """
        parts = [
            _one_pass(self.predict, matrix[start : start + self.batch_size])
            for start in range(0, len(matrix), self.batch_size)
        ]
        return np.concatenate(parts, axis=0)


def shapley_values(
    predict: Predict,
    X: FloatArray,
    background: FloatArray,
    *,
    estimator: Estimator = "auto",
    budget: int,
    seed: int = 0,
    batch_size: int | None = None,
) -> Attribution:
    """Interventional Shapley values of ``predict`` at the rows of ``X``, one player a column.

    ``exact`` evaluates every set of features on every background row. ``permutation`` walks random orders
    forwards and backwards from a background row to the row explained, and gives a standard error from the
    spread between such pairs; background rows are dealt so that each is used before any is used again. Where
    ``budget`` allows fewer pairs than there are background rows, a row's walks start from a share of them (said in
    ``params["background_use"]``), while the base value stays the mean over all and the difference is shared out by
    the variance of the estimates. ``auto``: exact where
    ``(2**f - 2) * b`` evaluations fit the budget and ``f <= 12``, else permutation.

    Args:
        predict: Matrix ``(m, f)`` float64 -> ``(m, k)`` or ``(m,)``.
        X: ``(n, f)`` rows to explain.
        background: ``(b, f)``, ``b >= 1``.
        estimator: ``auto``, ``exact`` or ``permutation``.
        budget: Most model evaluations a row (those of the background itself, shared by all rows, come on top).
        seed: Seed of the orders.
        batch_size: Most rows handed to ``predict`` at once; chosen by width when ``None``.

    Returns:
        ``values (n, f, k)``, checked against ``predict(X)``; status ``exact``, ``estimated`` or ``failed``.

    Raises:
        UsageError: AK500 shapes that do not fit, an empty background, a budget too small.
        AuditkitError: AK501, AK502 when the model's output has a wrong shape or is not finite.

    Source: Shapley (1953); Strumbelj and Kononenko (2014), algorithm 1; antithetic pairs after Mitchell, Cooper,
    Frank and Holmes (2022), section 4.

    >>> linear = lambda m: m @ np.array([[2.0], [-1.0]])
    >>> result = shapley_values(linear, np.array([[1.0, 1.0]]), np.zeros((1, 2)), budget=100)
    >>> result.values[0, :, 0].tolist(), result.status
    ([2.0, -1.0], 'exact')
    """
    groups = tuple((column,) for column in range(np.shape(X)[1] if np.ndim(X) == 2 else 0))
    game = make_game(predict, X, background, groups, batch_size)
    return explain_game(game, estimator=estimator, budget=budget, seed=seed)


def make_game(
    predict: Predict,
    rows: FloatArray,
    background: FloatArray,
    groups: Sequence[Sequence[int]],
    batch_size: int | None = None,
) -> Game:
    """A checked :class:`Game`.

    Raises:
        UsageError: AK500 when shapes do not fit, the background is empty, or groups are no partition.
    """
    rows = np.asarray(rows, dtype=np.float64)
    background = np.asarray(background, dtype=np.float64)
    if rows.ndim != 2 or background.ndim != 2 or rows.shape[1] != background.shape[1] or rows.shape[1] == 0:
        raise UsageError(
            "AK500",
            f"rows {rows.shape} and background {background.shape} must be matrices with the same columns",
            fix="pass the same features in the same order",
        )
    if len(background) == 0 or len(rows) == 0:
        raise UsageError(
            "AK500", "there are no rows to explain, or the background is empty", fix="pass one row or more"
        )
    if sorted(column for group in groups for column in group) != list(range(rows.shape[1])):
        raise UsageError("AK500", "feature groups must hold every column exactly once", fix="mend the groups")
    size = batch_size or max(256, _CELLS_A_BATCH // rows.shape[1])
    return Game(
        predict=predict,
        rows=rows,
        background=background,
        groups=tuple(tuple(int(column) for column in group) for group in groups),
        batch_size=int(size),
    )


def explain_game(game: Game, *, estimator: Estimator = "auto", budget: int, seed: int = 0) -> Attribution:
    """Shapley values of a game's players (groups of columns); see :func:`shapley_values`."""
    players, b = len(game.groups), len(game.background)
    enumerable = players <= MAX_EXACT_GROUPS and (2**players - 2) * b <= budget
    if estimator == "exact" and players > 20:
        raise UsageError("AK500", f"{players} players are too many to enumerate", fix='use estimator="permutation"')
    exact = estimator == "exact" or (estimator == "auto" and enumerable)
    base = game.outputs(game.background)
    prediction = game.outputs(game.rows)
    if exact:
        values, error, evaluations = _enumerate(game, base.mean(axis=0), prediction)
        use = "every background row in every set of features"
        pairs = 0
    else:
        values, error, evaluations, pairs = _permute(game, base, prediction, budget, np.random.default_rng(seed))
        used = min(pairs, b)
        use = f"each row's walks start from {used} of {b} background rows; the base value is over all {b}"
    attribution = Attribution(
        values=values,
        prediction=prediction,
        base_values=np.repeat(base.mean(axis=0)[None, :], len(prediction), axis=0),
        method="shapley.exact" if exact else "shapley.permutation",
        output_space="value",
        output_names=tuple(f"output {j}" for j in range(prediction.shape[1])),
        feature_names=tuple(f"x{'+'.join(map(str, group))}" for group in game.groups),
        status="exact" if exact else "estimated",
        params={"budget": budget, "pairs": pairs, "background_rows": b, "background_use": use},
        seed=seed,
        n_evals=evaluations + b + len(prediction),
        masker="background rows (interventional)",
        background_hash=background_hash(game.background),
        std_error=error,
    )
    return checked(attribution)


def background_hash(background: FloatArray) -> str:
    """``sha256:`` of the background's shape and float64 bytes."""
    content = np.ascontiguousarray(background, dtype="<f8")
    return "sha256:" + hashlib.sha256(repr(content.shape).encode() + content.tobytes()).hexdigest()


def shapley_weights(players: int) -> FloatArray:
    """Matrix ``(players, 2**players)`` that maps the worth of every set (bit ``i`` = player ``i``) to Shapley values.

    >>> shapley_weights(1).tolist()
    [[-1.0, 1.0]]
    """
    sets = np.arange(2**players)
    member = (sets[None, :] >> np.arange(players)[:, None]) & 1 == 1
    size = member.sum(axis=0)
    weight = np.array([1.0 / (players * comb(players - 1, s)) for s in range(players)])
    joined = weight[np.clip(size - 1, 0, players - 1)]
    left = weight[np.clip(size, 0, players - 1)]
    return np.asarray(np.where(member, joined[None, :], -left[None, :]), dtype=np.float64)


def _enumerate(game: Game, empty: FloatArray, full: FloatArray) -> tuple[FloatArray, None, int]:
    """Every set of players; the empty and the full set are known already."""
    players, (b, f) = len(game.groups), game.background.shape
    inner = np.arange(1, 2**players - 1)
    masks = _columns(((inner[:, None] >> np.arange(players)[None, :]) & 1).astype(bool), game.groups, f)
    weights = shapley_weights(players)
    values = np.empty((len(game.rows), players, full.shape[1]))
    sets_a_batch = max(1, game.batch_size // b)
    for index, row in enumerate(game.rows):
        worth = np.empty((2**players, full.shape[1]))
        worth[0], worth[-1] = empty, full[index]
        for start in range(0, len(inner), sets_a_batch):
            mask = masks[start : start + sets_a_batch]
            mixed = np.where(mask[:, None, :], row, game.background[None, :, :])
            outputs = game.outputs(mixed.reshape(-1, f))
            worth[1 + start : 1 + start + len(mask)] = outputs.reshape(len(mask), b, -1).mean(axis=1)
        values[index] = weights @ worth
    return values, None, len(game.rows) * len(inner) * b


def _permute(
    game: Game, base: FloatArray, prediction: FloatArray, budget: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, int, int]:
    """Antithetic pairs of walks; returns values, standard errors, evaluations and pairs a row."""
    players, b = len(game.groups), len(game.background)
    steps = players - 1
    pairs = budget // max(1, 2 * steps)
    if pairs < 2:
        raise UsageError(
            "AK500",
            f"a budget of {budget} evaluations a row is too small for {players} features",
            fix=f"give at least {4 * steps}",
        )
    if pairs > b:
        pairs -= pairs % b  # whole rounds, so that every background row counts the same
    values = np.empty((len(game.rows), players, prediction.shape[1]))
    error = np.empty_like(values)
    rows_a_block = max(1, _CELLS_A_BATCH // (2 * pairs * players))
    for first in range(0, len(game.rows), rows_a_block):
        block = np.arange(first, min(first + rows_a_block, len(game.rows)))
        starts = np.stack([_deal(b, pairs, rng) for _ in block])
        orders = np.argsort(rng.random((len(block), pairs, players)), axis=2)
        gains = _walks(game, block, orders, starts, base, prediction)
        values[block] = gains.mean(axis=1)
        for place, row in enumerate(block):
            error[row] = _standard_error(gains[place], starts[place], b)
        if pairs < b:
            gap = base[starts].mean(axis=1) - base.mean(axis=0)
            values[block] += _shared_out(gap, error[block], values[block])
    return values, error, len(game.rows) * pairs * 2 * steps, pairs


def _shared_out(gap: FloatArray, error: FloatArray, values: FloatArray) -> FloatArray:
    """What each player ``(rows, players, k)`` takes of the ``gap (rows, k)`` that a part of the background leaves.

    The pairs sum to the prediction minus the mean over the rows drawn, not over all. Players take the rest in
    proportion to the variance of their estimate (generalised least squares under the sum constraint): one that
    never moves the model takes nothing.
    """
    weight = error**2
    for fallback in (np.abs(values), np.ones_like(values)):
        weight = np.where(weight.sum(axis=1, keepdims=True) > 0.0, weight, fallback)
    return np.asarray(gap[:, None, :] * weight / weight.sum(axis=1, keepdims=True))


def _deal(b: int, pairs: int, rng: np.random.Generator) -> IntArray:
    """Background rows for ``pairs`` walks: shuffled rounds, so that none is used again before all are used."""
    return np.concatenate([rng.permutation(b) for _ in range(-(-pairs // b))])[:pairs].astype(np.int64)


def _walks(
    game: Game, block: IntArray, orders: IntArray, starts: IntArray, base: FloatArray, prediction: FloatArray
) -> FloatArray:
    """Gains ``(rows, pairs, players, k)`` of the rows ``block``: the mean of each order's walk and of its reverse.

    All walks of the block are one list, so that the model is called with full batches.
    """
    pairs, players = orders.shape[1:]
    f, k = game.rows.shape[1], prediction.shape[1]
    rank = np.argsort(np.concatenate([orders, orders[:, :, ::-1]], axis=1), axis=2).reshape(-1, players)
    origin = np.concatenate([starts, starts], axis=1).reshape(-1)
    target = np.repeat(block, 2 * pairs)
    walks_a_batch = max(1, game.batch_size // max(1, players - 1))
    gains = np.empty((len(rank), players, k))
    for start in range(0, len(rank), walks_a_batch):
        part = slice(start, start + walks_a_batch)
        position, source, row = rank[part], origin[part], target[part]
        path = np.empty((len(source), players + 1, k))
        path[:, 0], path[:, -1] = base[source], prediction[row]
        if players > 1:
            entered = position[:, None, :] < np.arange(1, players)[None, :, None]
            mask = _columns(entered.reshape(-1, players), game.groups, f)
            reached = np.repeat(game.rows[row], players - 1, axis=0)
            left = np.repeat(game.background[source], players - 1, axis=0)
            outputs = game.outputs(np.where(mask, reached, left))
            path[:, 1:-1] = outputs.reshape(len(source), players - 1, k)
        gains[part] = np.take_along_axis(np.diff(path, axis=1), position[:, :, None], axis=1)
    both = gains.reshape(len(block), 2, pairs, players, k)
    return np.asarray(both.mean(axis=1))


def _standard_error(gains: FloatArray, starts: IntArray, b: int) -> FloatArray:
    """Standard error of the mean gain over pairs.

    With two rounds or more over the background the spread is taken within each background row (the rounds are a
    stratified sample); with fewer it is the spread over all pairs, which is an upper bound.
    """
    pairs = len(gains)
    rounds = pairs // b
    if rounds < 2:
        return np.asarray(gains.std(axis=0, ddof=1) / np.sqrt(pairs))
    ordered = gains[np.argsort(starts, kind="stable")].reshape(b, rounds, *gains.shape[1:])
    within = ordered.var(axis=1, ddof=1) / rounds
    return np.asarray(np.sqrt(within.sum(axis=0)) / b)


def _columns(members: npt.NDArray[np.bool_], groups: tuple[tuple[int, ...], ...], f: int) -> npt.NDArray[np.bool_]:
    """Player masks ``(m, players)`` as column masks ``(m, f)``."""
    player_of = np.empty(f, dtype=np.int64)
    for player, group in enumerate(groups):
        player_of[list(group)] = player
    return members[:, player_of]


def _one_pass(predict: Predict, matrix: FloatArray) -> FloatArray:
    outputs = np.asarray(predict(matrix), dtype=np.float64)
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if outputs.ndim != 2 or len(outputs) != len(matrix):
        raise AuditkitError(
            "AK501",
            f"the model gave outputs of shape {outputs.shape} for {len(matrix)} rows",
            why="one row of outputs is needed for each row of inputs",
        )
    if not np.isfinite(outputs).all():
        raise AuditkitError(
            "AK502",
            "the model gave outputs that are not finite on mixtures of real rows",
            why="a Shapley value averages the model over such mixtures",
            fix="check the model for overflow, or explain its probability instead of its logit",
        )
    return outputs
