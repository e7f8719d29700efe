"""Exact interventional Shapley values of tree ensembles, on a whole background of almost any size.

A leaf is reached by a mixture of ``x`` and ``b`` when every player on its path is taken from a row that meets the
path's conditions on that player. With ``f(C)`` the share of the background that meets the conditions on all of the
``C`` out of ``d`` players, and ``N`` the players whose conditions ``x`` does not meet, a coalition ``T`` is worth
``f(D - T)``, or nothing if it has a player of ``N``. So player ``i`` gains

    B(N) - G(N + i),    B(S) = sum over C >= S of w(|C| + 1) f(C),
    G(S) = sum over C >= S of (w(|C|) + w(|C| + 1)) f(C)

with ``w(s) = (s - 1)! (d - s)! / d!`` for ``s = 1 .. d`` and 0 otherwise, by the definition of a Shapley value with
``C = D - T``: two tables a leaf, whatever the background. Where ``d`` is large, rows are compared with patterns.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import factorial
from typing import Any

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.least import need_rows
from auditkit.methods.explain.tree_pairs import paired
from auditkit.methods.explain.tree_paths import Bits, Paths, met_bits, patterns, walk
from auditkit.methods.explain.tree_table import Columns, Ensemble, UnreadError

_MOST_PLAYERS = 62  # bits of a pattern
_COUNTED_SETS = 8  # up to here rows that meet a set are counted set by set; beyond, row by row
_TABLED_PLAYERS = 16  # beyond, a leaf's tables would not fit a cache
_PAIR_COST = 3.5  # of comparing two patterns, beside one sum in a table
_DIFFERING = 3.0  # patterns that differ at a deep leaf, as a multiple of b^(2/3)
_BITS = 8_000_000  # bytes of conditions, read at once
_NODES = 50_000
_CELLS = 1_000_000  # gains of leaves, added at once
_SETS = 1 << 16  # of a table: what stays in the cache


def tree_shapley(
    ensemble: Ensemble, rows: FloatArray, background: FloatArray, player_of: IntArray, players: int
) -> FloatArray:
    """Values ``(n, players, k)`` of the game ``mean_b ensemble(x on S, b elsewhere)``.

    Args:
        ensemble: The trees.
        rows: ``(n, f)`` as the trees take them.
        background: ``(b, f)``; every row counts the same.
        player_of: ``(f,)`` the player of each column; columns of one player come from the same row.
        players: Number of players.

    Raises:
        UnreadError: More than 62 players on a path.
        UsageError: AK500 no rows, or an empty background.

    Source: the definition, with the bit patterns of Nadel and Wettenstein, "WOODELF", AAAI 2026, section 4.
    """
    n, b = len(rows), len(background)
    need_rows(n, b)
    ours, theirs = Columns(rows), Columns(background)
    values = np.zeros((players * ensemble.outputs, n))
    for grove in ensemble.groves(min(_NODES, 1 + 4 * _BITS // (n + b))):
        walked = walk(grove, player_of)
        own, base = met_bits(grove, ours, walked.again), met_bits(grove, theirs, walked.again)
        for paths in walked.paths:
            depth = paths.players.shape[1]
            if depth > _MOST_PLAYERS:
                raise UnreadError(f"a path of a tree asks more than {_MOST_PLAYERS} features")
            settle = _tabled if _tables_are_cheaper(depth, n, b) else _compared
            for some, gains in _joined(settle(paths, (own, n), (base, b))) if depth else ():
                _add(values, gains, paths.players[some], paths.value[some])
    return np.asarray(values.reshape(players, ensemble.outputs, n).transpose(2, 0, 1))


def _tables_are_cheaper(depth: int, n: int, b: int) -> bool:
    """Whether sums over all sets of ``depth`` players cost less than comparing rows with patterns."""
    if depth > _TABLED_PLAYERS:
        return False
    return depth <= _COUNTED_SETS or depth * 2.0**depth <= _PAIR_COST * n * _DIFFERING * b ** (2 / 3)


def _joined(pieces: Iterator[tuple[IntArray, FloatArray]]) -> Iterator[tuple[IntArray, FloatArray]]:
    """Leaves and gains, small pieces put together."""
    some, gains, size = [], [], 0
    for leaves, gain in pieces:
        some.append(leaves)
        gains.append(gain)
        size += gain.size
        if size >= _CELLS // 2:
            yield np.concatenate(some), np.concatenate(gains, axis=1)
            some, gains, size = [], [], 0
    if some:
        yield np.concatenate(some), np.concatenate(gains, axis=1)


def _add(values: FloatArray, gains: FloatArray, players: IntArray, value: FloatArray) -> None:
    """Add gains ``(depth, leaves, n)`` of leaves worth ``value (leaves, k)`` to ``values (players * k, n)``."""
    from scipy import sparse

    (depth, leaves, n), outputs = gains.shape, value.shape[1]
    place = players.T[:, :, None] * outputs + np.arange(outputs)
    column = np.broadcast_to(np.arange(depth * leaves).reshape(depth, leaves, 1), place.shape)
    entries = np.broadcast_to(value, place.shape).ravel(), (place.ravel(), column.ravel())
    values += sparse.csr_matrix(entries, shape=(len(values), depth * leaves)) @ gains.reshape(-1, n)


def _compared(paths: Paths, own: tuple[Bits, int], base: tuple[Bits, int]) -> Iterator[tuple[IntArray, FloatArray]]:
    """Leaves and their gains, by comparing rows with patterns."""
    leaves, depth = paths.steps.shape
    block = max(1, _CELLS // (depth * max(own[1], base[1])))
    for start in range(0, leaves, block):
        some = np.arange(start, min(leaves, start + block))
        unmet = [~patterns(bits[paths.steps[some].T], m) & _all(depth) for bits, m in (own, base)]
        yield some, paired(unmet[0], unmet[1], depth)


def _all(depth: int) -> Any:
    return np.min_scalar_type((1 << depth) - 1).type((1 << depth) - 1)


def _tabled(paths: Paths, own: tuple[Bits, int], base: tuple[Bits, int]) -> Iterator[tuple[IntArray, FloatArray]]:
    """Leaves and their gains ``(depth, leaves, n)``, from tables of all sets."""
    depth, n = paths.steps.shape[1], own[1]
    second = np.full(len(paths.twin), -1, dtype=np.int64)
    seconds = np.flatnonzero(paths.twin >= 0)
    second[paths.twin[seconds]] = seconds
    firsts = np.flatnonzero(paths.twin < 0)
    block, part = max(1, _SETS >> depth), max(1, _CELLS // (4 * depth * n))
    for start in range(0, len(firsts), block):
        some = firsts[start : start + block]
        share = _shares(base[0][paths.steps[some].T], base[1])
        both = np.flatnonzero(second[some] >= 0)
        leaves = np.concatenate([some, second[some[both]]])
        tables = _tables(np.concatenate([share, _of_twins(share[:, both])], axis=1), depth)
        for at in range(0, len(leaves), part):
            few = leaves[at : at + part]
            met = patterns(own[0][paths.steps[few].T], n)
            yield few, _gains(tables[:, at : at + part], ~met & _all(depth), depth)


def _shares(met: Bits, b: int) -> FloatArray:
    """``(2^d, leaves)`` share of the background that meets the conditions on each set of players, from its bits."""
    depth, leaves = met.shape[:2]
    if depth > _COUNTED_SETS:
        exactly = np.stack([np.bincount(leaf, minlength=1 << depth) for leaf in patterns(met, b)])
        return _sums_over_supersets(np.ascontiguousarray(exactly.T / b))
    words = np.ascontiguousarray(np.moveaxis(met.view(np.uint64), 2, 0))
    counts = np.zeros((1 << depth, leaves), dtype=np.min_scalar_type(b))
    sets = np.full(counts.shape, np.iinfo(np.uint64).max, dtype=np.uint64)
    for word in words:
        for player in range(depth):
            np.bitwise_and(sets[: 1 << player], word[player], out=sets[1 << player : 2 << player])
        counts += np.bitwise_count(sets)
    shares = counts / b
    shares[0] = 1.0
    return shares


def _of_twins(share: FloatArray) -> FloatArray:
    """Shares at leaves whose last player has the opposite condition."""
    half = len(share) // 2
    return np.concatenate([share[:half], share[:half] - share[half:]])


def _sums_over_supersets(table: FloatArray) -> FloatArray:
    """``(2^d, columns)``: entries of all sets summed over the supersets of each, in place."""
    step = 1
    while step < len(table):
        pairs = table.reshape(-1, 2, step, table.shape[1])
        pairs[:, 0] += pairs[:, 1]
        step *= 2
    return table


def _tables(share: FloatArray, depth: int) -> FloatArray:
    """``B`` and ``G`` of the module ``(2, leaves, 2^d)``, from shares ``(2^d, leaves)`` of the background."""
    size, leaves = share.shape
    weighted = (share[:, None] * _weights(depth)).reshape(size, 2 * leaves)
    return np.ascontiguousarray(_sums_over_supersets(weighted).T).reshape(2, leaves, size)


def _gains(tables: FloatArray, unmet: Any, depth: int) -> FloatArray:
    """Gains ``(depth, leaves, n)`` of leaves worth 1.

    Args:
        tables: ``(2, leaves, 2^d)``, see :func:`_tables`.
        unmet: ``(leaves, n)`` the rows' patterns: bit ``i`` is set where the conditions on player ``i`` are not met.
        depth: Players.
    """
    _, leaves, size = tables.shape
    without, with_one = tables[0].ravel(), tables[1].ravel()
    place = unmet + np.arange(leaves)[:, None] * size
    kept, asked = without.take(place), np.empty_like(place)
    gains = np.empty((depth, *place.shape))
    for player, gain in enumerate(gains):
        np.bitwise_or(place, 1 << player, out=asked)
        np.take(with_one, asked, out=gain, mode="clip")
        np.subtract(kept, gain, out=gain)
    return gains


@cache
def _weights(depth: int) -> FloatArray:
    """``(2^d, 2, 1)``: of each set ``w(|C| + 1)`` and ``w(|C|) + w(|C| + 1)``."""
    w = np.zeros(depth + 2)
    for size in range(1, depth + 1):
        w[size] = factorial(size - 1) * factorial(depth - size) / factorial(depth)
    sizes = np.bitwise_count(np.arange(2**depth, dtype=np.uint64)).astype(np.int64)
    return np.stack([w[sizes + 1], w[sizes] + w[sizes + 1]], axis=1)[:, :, None]
