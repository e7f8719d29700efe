"""Exact interventional Shapley values of tree ensembles, on a whole background of almost any size.

A leaf is reached by a mixture of ``x`` and ``b`` when every player on its path is taken from a row that meets the
path's conditions on that player. So a leaf's game depends on two bit patterns alone: which players' conditions ``x``
meets, and which ``b`` meets. Background rows with the same pattern are counted once, and all of a leaf's patterns are
settled together by sums over supersets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import factorial

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.tree_table import Columns, Ensemble, Tree, UnreadError

_TABLED_PLAYERS = 16  # beyond, a leaf's table of patterns would not fit a cache, whatever the background
_PAIR_COST = 1.6  # of comparing two patterns, beside one addition in a table of patterns
_MOST_PLAYERS = 62  # bits of a pattern
_WIDENED = {8: np.uint16, 16: np.uint64}  # from so many players on; what a background row costs is reading patterns
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
    both = Columns(np.concatenate([rows, background]))
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


def _tabled_is_cheaper(depth: int, n: int, b: int) -> bool:
    """Whether sums over all patterns of ``depth`` players cost less than comparing every row with every other.

    What they cost does not depend on the background, so that beyond some size of it only reading its patterns grows.
    """
    return depth <= _TABLED_PLAYERS and (depth + 1) * depth * 2.0 ** (depth - 1) <= _PAIR_COST * n * b


def _cells(depth: int, n: int, b: int) -> int:
    return (depth + 1) // 2 << depth if _tabled_is_cheaper(depth, n, b) else max(n * depth, b * depth)


def _leaves(tree: Tree, both: Columns, player_of: IntArray) -> list[_Leaf]:
    """Every leaf with its path's players and each row's pattern: bit ``i`` = player ``i``'s conditions met."""
    left = tree.goes_left(both).view(np.uint8)
    found: list[_Leaf] = []
    worth = np.asarray(tree.value.any(axis=1))
    stack: list[tuple[int, tuple[int, ...], IntArray]] = [(0, (), np.zeros(left.shape[1], dtype=np.uint8))]
    while stack:
        node, path, pattern = stack.pop()
        if tree.feature[node] < 0:
            if worth[node]:
                found.append(_Leaf(path, pattern, tree.value[node]))
            continue
        player = int(player_of[tree.feature[node]])
        known = player in path
        place = path.index(player) if known else len(path)
        if place == _MOST_PLAYERS:
            raise UnreadError(f"a path of a tree asks more than {_MOST_PLAYERS} features")
        if place in _WIDENED:
            pattern = pattern.astype(_WIDENED[place])
        bit = pattern.dtype.type(1 << place)
        met = np.left_shift(left[node], place, dtype=pattern.dtype)
        if known:
            sides = pattern & (met | ~bit), pattern & ~met
        else:
            first = pattern | met
            sides, path = (first, first ^ bit), (*path, player)
        stack += [(int(tree.left[node]), path, sides[0]), (int(tree.right[node]), path, sides[1])]
    return found


def _settle(values: FloatArray, leaves: list[_Leaf], n: int, outputs: int) -> None:
    """Add what leaves with equally many players on their paths give, to ``values (players * k, n)``."""
    from scipy import sparse

    depth = len(leaves[0].players)
    patterns = np.stack([leaf.patterns for leaf in leaves])
    settle = _tabled if _tabled_is_cheaper(depth, n, patterns.shape[1] - n) else _paired
    gains = settle(patterns[:, :n], patterns[:, n:], depth)
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
    with ``p`` players that it does not meet itself, one of the ``p`` gains ``(p-1)! |N|! / (p+|N|)!``, the integral of
    ``t^|N| (1-t)^(p-1)`` from 0 to 1, and a player of ``N`` loses that of ``t^(|N|-1) (1-t)^p``. Gauss and Legendre's
    points make these sums over points ``t``, so that sums over supersets are taken once for all ``p``.
    """
    leaves, n = ours.shape
    size = 2**depth
    offset = np.arange(leaves)[:, None] * size
    share, (points, weights) = _shares(theirs, size), _points(depth)
    bits = _popcounts(depth)
    unmet_too = np.where(bits < depth, 1.0, 0.0)[:, None] * (1.0 - points) ** np.maximum(depth - bits - 1, 0)[:, None]
    above = _superset_sums(share[:, :, None] * unmet_too, depth)
    power = weights * points ** np.arange(depth + 1)[:, None]
    # For every set that may be N, and for N with the player itself in it.
    gain = np.einsum("lsq,sq->ls", above, power[bits])
    less = np.einsum("lsq,sq->ls", above, power[np.maximum(bits - 1, 0)])
    loss = (gain - less - share[:, -1:] / np.maximum(bits, 1)).ravel()
    asked = np.broadcast_to(np.arange(size), (leaves, size)) if size <= n else ours
    unmet = ((size - 1) & ~asked) + offset
    gain, less, loss_here = gain.ravel(), less.ravel(), loss[unmet]
    gain_here = gain[unmet]
    table = np.empty((leaves, depth, asked.shape[1]))
    for player in range(depth):
        bit = 1 << player
        met = (asked & bit).astype(np.bool_)
        table[:, player] = np.where(met, gain_here - less[unmet | bit], loss_here)
    if size > n:
        return table
    return np.take_along_axis(table, ours[:, None, :], axis=2)


def _shares(patterns: IntArray, size: int) -> FloatArray:
    """``(leaves, set)``: share of the background rows with each pattern; counted in blocks that stay in the cache."""
    leaves, b = patterns.shape
    share = np.empty((leaves, size))
    block = max(1, _CELLS // (16 * b))
    offset = np.arange(min(block, leaves))[:, None] * size
    for start in range(0, leaves, block):
        some = patterns[start : start + block]
        counts = np.bincount((some + offset[: len(some)]).ravel(), minlength=len(some) * size)
        share[start : start + block] = counts.reshape(len(some), size)
    return np.divide(share, b, out=share)


def _superset_sums(terms: FloatArray, depth: int) -> FloatArray:
    """``(leaves, set, q)``: terms of all sets summed over the supersets of each, in place."""
    leaves, _, q = terms.shape
    for player in range(depth):
        pairs = terms.reshape(leaves, -1, 2, 1 << player, q)
        pairs[:, :, 0] += pairs[:, :, 1]
    return terms


@cache
def _points(depth: int) -> tuple[FloatArray, FloatArray]:
    """Gauss and Legendre's points and weights on [0, 1] that integrate polynomials below degree ``depth`` exactly."""
    points, weights = np.polynomial.legendre.leggauss((depth + 1) // 2)
    return (points + 1.0) / 2.0, weights / 2.0


@cache
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
    """Gains ``(leaves, depth, n)`` of leaves worth 1, as :func:`_tabled` has them, by comparing all pairs of rows."""
    leaves, n = ours.shape
    b = theirs.shape[1]
    small = np.dtype(np.uint16 if depth <= 16 else np.uint32 if depth <= 32 else np.uint64)
    unmet, other = (((1 << depth) - 1) & ~ours).astype(small), theirs.astype(small)
    gained, lost = _weights(depth)
    gains = np.empty((leaves, depth, n))
    at_once = max(1, _CELLS // (n * b))
    for start in range(0, leaves, at_once):
        part = slice(start, start + at_once)
        need, have = unmet[part], other[part]
        pairs = np.flatnonzero((have[:, None, :] & need[:, :, None]) == need[:, :, None])
        row, place = np.divmod(pairs, b)
        column = row // n * b + place
        p, missing = depth - np.bitwise_count(have).ravel()[column], np.bitwise_count(need).ravel()[row]
        gains[part] = _gathered(need, have, (row, column), (gained[missing, p] / b, lost[missing, p] / b), depth)
    return gains


def _gathered(
    need: IntArray, have: IntArray, pairs: tuple[IntArray, IntArray], effects: tuple[FloatArray, FloatArray], depth: int
) -> FloatArray:
    """Effects of pairs summed over the background: players that only the row meets gain, those that it lacks lose."""
    from scipy import sparse

    leaves, n = need.shape
    (row, column), (up, down) = pairs, effects
    ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=need.size))])
    weights = sparse.csr_matrix((up, column, ends), shape=(need.size, have.size))
    player = np.arange(depth, dtype=need.dtype)
    met = ((have.ravel()[:, None] >> player) & 1).astype(np.float64)
    shared = weights @ met
    total = np.bincount(row, weights=up, minlength=need.size)[:, None]
    loss = np.bincount(row, weights=down, minlength=need.size)[:, None]
    lacks = ((need.ravel()[:, None] >> player) & 1).astype(np.bool_)
    return np.asarray(np.where(lacks, -loss, total - shared).reshape(leaves, n, depth).transpose(0, 2, 1))
