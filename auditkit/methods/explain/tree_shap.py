"""Exact interventional Shapley values of tree ensembles, on a whole background of almost any size.

A leaf is reached by a mixture of ``x`` and ``b`` when every player on its path is taken from a row that meets the
path's conditions on that player. So a leaf's game depends on two bit patterns alone: which players' conditions ``x``
meets, and which ``b`` meets. Background rows with the same pattern are counted once, and all of a leaf's patterns are
settled together by sums over supersets.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.tree_table import Ensemble, Tree

_TABLED_PLAYERS = 12  # up to here a leaf's patterns are settled in one table, beyond by pairs of patterns
_CELLS = 2_000_000


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

    Source: the definition, with the bit patterns of Nadel and Wettenstein, "WOODELF", AAAI 2026, section 4; the
    values of a leaf's game after Laberge and Pequignot (2022), lemma 3.
    """
    n = len(rows)
    both = np.concatenate([rows, background])
    values = np.zeros((players * ensemble.outputs, n))
    waiting: dict[int, list[_Leaf]] = {}
    for tree in ensemble.trees:
        for leaf in _leaves(tree, both, player_of):
            waiting.setdefault(len(leaf.players), []).append(leaf)
        for depth, leaves in waiting.items():
            if depth and len(leaves) * _cells(depth, n, len(background)) > _CELLS:
                _settle(values, leaves, n, ensemble.outputs)
                waiting[depth] = []
    for depth, leaves in waiting.items():
        if depth and leaves:
            _settle(values, leaves, n, ensemble.outputs)
    return np.asarray(values.reshape(players, ensemble.outputs, n).transpose(2, 0, 1))


@dataclass(frozen=True)
class _Leaf:
    players: tuple[int, ...]
    patterns: IntArray
    value: FloatArray


def _cells(depth: int, n: int, b: int) -> int:
    table = (1 << min(depth, _TABLED_PLAYERS)) * (depth + 1)
    return max(table, n * depth, b)


def _leaves(tree: Tree, both: FloatArray, player_of: IntArray) -> list[_Leaf]:
    """Every leaf with its path's players and each row's pattern: bit ``i`` = player ``i``'s conditions met."""
    left = tree.goes_left(both)
    found: list[_Leaf] = []
    stack: list[tuple[int, tuple[int, ...], IntArray]] = [(0, (), np.zeros(len(both), dtype=np.int64))]
    while stack:
        node, path, pattern = stack.pop()
        if tree.feature[node] < 0:
            if tree.value[node].any():
                found.append(_Leaf(path, pattern, tree.value[node]))
            continue
        player = int(player_of[tree.feature[node]])
        goes = left[node]
        for child, met in ((tree.left[node], goes), (tree.right[node], ~goes)):
            if player in path:
                bit = np.int64(1 << path.index(player))
                stack.append((int(child), path, np.where(met, pattern, pattern & ~bit)))
            else:
                stack.append((int(child), (*path, player), pattern | (met.astype(np.int64) << len(path))))
    return found


def _settle(values: FloatArray, leaves: list[_Leaf], n: int, outputs: int) -> None:
    """Add what leaves with equally many players on their paths give, to ``values (players * k, n)``."""
    from scipy import sparse

    depth = len(leaves[0].players)
    patterns = np.stack([leaf.patterns for leaf in leaves])
    if depth <= _TABLED_PLAYERS:
        gains = _tabled(patterns[:, :n], patterns[:, n:], depth)
    else:
        gains = np.stack([_paired(pattern[:n], pattern[n:], depth) for pattern in patterns])
    owner = np.array([leaf.players for leaf in leaves], dtype=np.int64)  # (leaves, depth)
    value = np.stack([leaf.value for leaf in leaves])  # (leaves, k)
    place = owner[:, :, None] * outputs + np.arange(outputs)
    weight = np.broadcast_to(value[:, None, :], place.shape)
    column = np.broadcast_to(np.arange(owner.size).reshape(*owner.shape, 1), place.shape)
    entries = (weight.ravel(), (place.ravel(), column.ravel()))
    spread = sparse.csr_matrix(entries, shape=(len(values), owner.size))
    values += spread @ gains.reshape(owner.size, n)


def _tabled(ours: IntArray, theirs: IntArray, depth: int) -> FloatArray:
    """Gains ``(leaves, depth, n)`` of each player of leaves worth 1.

    With ``N`` the players whose conditions ``x`` does not meet, a background row counts only if it meets all of ``N``;
    with ``p`` players that it does not meet itself, a player of ``N`` loses ``p! (|N|-1)! / (p+|N|)!`` and one of
    the ``p`` gains ``(p-1)! |N|! / (p+|N|)!``.
    """
    leaves, n = ours.shape
    size = 2**depth
    offset = np.arange(leaves)[:, None] * size
    counts = np.bincount((theirs + offset).ravel(), minlength=leaves * size).reshape(leaves, size)
    above = _superset_sums(counts / theirs.shape[1], depth)
    asked = np.broadcast_to(np.arange(size), (leaves, size)) if size <= n else ours
    unmet = (size - 1) & ~asked
    gained, lost = _weights(depth)
    bits = _popcounts(depth)
    missing = bits[unmet]  # |N|
    flat = above.reshape(leaves * size, depth + 1)
    here = flat[unmet + offset]  # (leaves, asked, p)
    loss = -(here * lost[missing]).sum(axis=2)
    gain_here = (here * gained[missing]).sum(axis=2)
    table = np.empty((leaves, depth, asked.shape[1]))
    for player in range(depth):
        bit = 1 << player
        more = flat[(unmet | bit) + offset]
        gain = gain_here - (more * gained[missing]).sum(axis=2)
        table[:, player] = np.where(asked & bit, gain, loss)
    if size > n:
        return table
    return np.take_along_axis(table, ours[:, None, :], axis=2)


def _superset_sums(share: FloatArray, depth: int) -> FloatArray:
    """``(leaves, set, p)``: share of background rows that meet a superset of the set, and all but ``p`` players."""
    leaves, size = share.shape
    unmet = depth - _popcounts(depth)
    ranked = np.zeros((leaves, size, depth + 1))
    ranked[:, np.arange(size), unmet] = share
    for player in range(depth):
        pairs = ranked.reshape(leaves, size >> (player + 1), 2, 1 << player, depth + 1)
        pairs[:, :, 0] += pairs[:, :, 1]
    return ranked


def _weights(depth: int) -> tuple[FloatArray, FloatArray]:
    """``[|N|, p]`` what one of the ``p`` gains, and what one of ``N`` loses."""
    gained, lost = np.zeros((depth + 1, depth + 1)), np.zeros((depth + 1, depth + 1))
    for missing in range(depth + 1):
        for p in range(depth + 1 - missing):
            if p:
                gained[missing, p] = factorial(p - 1) * factorial(missing) / factorial(p + missing)
            if missing:
                lost[missing, p] = factorial(p) * factorial(missing - 1) / factorial(p + missing)
    return gained, lost


def _popcounts(depth: int) -> IntArray:
    return np.bitwise_count(np.arange(2**depth, dtype=np.uint64)).astype(np.int64)


def _paired(ours: IntArray, theirs: IntArray, depth: int) -> FloatArray:
    """Gains ``(depth, n)`` of one deep leaf worth 1, by pairs of the patterns that occur."""
    mine, place = np.unique(ours, return_inverse=True)
    other, count = np.unique(theirs, return_counts=True)
    full = (1 << depth) - 1
    first, second = np.nonzero((mine[:, None] | other[None, :]) == full)
    wins, loses = mine[first] & ~other[second], other[second] & ~mine[first]
    p = np.bitwise_count(wins.astype(np.uint64)).astype(np.int64)
    missing = np.bitwise_count(loses.astype(np.uint64)).astype(np.int64)
    gained, lost = _weights(depth)
    up = gained[missing, p] * count[second] / len(theirs)
    down = lost[missing, p] * count[second] / len(theirs)
    gains = np.empty((depth, len(mine)))
    for player in range(depth):
        effect = np.where((wins >> player) & 1, up, 0.0) - np.where((loses >> player) & 1, down, 0.0)
        gains[player] = np.bincount(first, weights=effect, minlength=len(mine))
    return gains[:, place]
