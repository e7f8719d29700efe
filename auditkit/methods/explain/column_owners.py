"""Which player each column of an encoded table comes from: one-hot columns from the feature they spell out, and so on.

Every player has a number. For each bit of the numbers, half of the players of a row are exchanged for those of another
row. A column that comes from one player takes its value from one of the two, and from which tells that bit of its
number. Two exchanges a bit, whatever the number of players, cover every row explained and every background row, so
that the column of a category that a single row has is placed too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.game import BoolArray, Game
from auditkit.methods.explain.tree_table import UnreadError

MIXES = "a step before the model mixes features"


def column_owners(
    game: Game, encode: Callable[[Any], FloatArray], rows: FloatArray, background: FloatArray, seed: int = 0
) -> IntArray:
    """The player of each encoded column, ``(columns,)``; 0 for a column that is the same in all rows.

    Args:
        game: Rows, background and players.
        encode: Inputs of the model -> encoded matrix.
        rows: ``(n, columns)`` the encoded rows.
        background: ``(b, columns)`` the encoded background.
        seed: Of the order in which rows and background rows are paired.

    Raises:
        UnreadError: A column depends on several players.
    """
    if _untouched(game, rows, background):
        return game.player_of
    ours, theirs = _pairs(len(rows), len(background), seed)
    full, empty = rows[ours], background[theirs]
    alike = _equal(full, empty)
    players = len(game.groups)
    number = np.zeros(rows.shape[1], dtype=np.int64)
    for bit in range((players - 1).bit_length()):
        half = (np.arange(players) >> bit) & 1 == 1
        one = _of_the_row(game, encode, (half, ours, theirs), full, empty)
        other = _of_the_row(game, encode, (~half, ours, theirs), full, empty)
        told = ~alike
        ones, zeros = (told & one).any(axis=0), (told & ~one).any(axis=0)
        if (ones & zeros).any() or (told & (one == other)).any():
            raise UnreadError(MIXES)
        number += ones.astype(np.int64) << bit
    if (number >= players).any():
        raise UnreadError(MIXES)
    return number


def _untouched(game: Game, rows: FloatArray, background: FloatArray) -> bool:
    """Whether the encoded matrices are the game's own."""
    if hasattr(game.rows, "columns") or rows.shape != game.rows.shape:
        return False
    return np.array_equal(rows, game.rows, True) and np.array_equal(background, game.background, True)


def _pairs(n: int, b: int, seed: int) -> tuple[IntArray, IntArray]:
    """Rows and background rows that meet: all rows the first background row, all of the background the first row, and
    each once more with a partner at random. A column that is not the same everywhere differs within some pair."""
    rng = np.random.default_rng(seed)
    size = max(n, b)
    ours = np.concatenate([np.arange(n), np.zeros(b, dtype=np.int64), rng.permutation(np.arange(size) % n)])
    theirs = np.concatenate([np.zeros(n, dtype=np.int64), np.arange(b), np.arange(size) % b])
    return ours.astype(np.int64), theirs.astype(np.int64)


def _of_the_row(
    game: Game,
    encode: Callable[[Any], FloatArray],
    exchange: tuple[BoolArray, IntArray, IntArray],
    full: FloatArray,
    empty: FloatArray,
) -> BoolArray:
    """Where the encoded mixture has the row's value, ``(pairs, columns)``.

    Raises:
        UnreadError: It has neither the row's nor the background row's.
    """
    half, ours, theirs = exchange
    mixed = encode(game.to_model(game.mixed(np.broadcast_to(half, (len(ours), len(half))), ours, theirs)))
    if mixed.shape != full.shape:
        raise UnreadError("the steps before the model change the rows")
    from_row = _equal(mixed, full)
    if not (from_row | _equal(mixed, empty)).all():
        raise UnreadError(MIXES)
    return from_row


def _equal(one: FloatArray, other: FloatArray) -> BoolArray:
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))
