"""Exact interventional Shapley values of tree ensembles, on a whole background of almost any size.

A leaf is reached by a mixture of ``x`` and ``b`` when every player on its path is taken from a row that meets the
path's conditions on that player. So a leaf's game depends on two bit patterns alone: which players' conditions ``x``
does not meet, and which ``b`` does not. Background rows with the same pattern are counted once; a leaf's patterns are
then settled together by sums over supersets, or in pairs where few patterns occur.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import factorial
from typing import Any

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.tree_leaves import Leaves, read_leaves
from auditkit.methods.explain.tree_table import Columns, Ensemble, Tree, side_by_side

_TABLED_PLAYERS = 16  # beyond, a leaf's table of patterns would not fit a cache
_PAIR_COST = 2.0  # of comparing two patterns, beside one addition in a table of patterns
_CELLS = 1_000_000
_READ = 2_000_000  # answers of nodes to rows, read at once
_PAIRS = 250_000  # compared at once: what stays in the cache


def tree_shapley(
    ensemble: Ensemble, rows: FloatArray, background: FloatArray, player_of: IntArray, players: int
) -> tuple[FloatArray, FloatArray]:
    """Values ``(n, players, k)`` of the game ``mean_b ensemble(x on S, b elsewhere)``, and the background's outputs.

    Args:
        ensemble: The trees.
        rows: ``(n, f)`` as the trees take them.
        background: ``(b, f)``; every row counts the same.
        player_of: ``(f,)`` the player of each column; columns of one player come from the same row.
        players: Number of players.

    Returns:
        The values, and ``(b, k)`` what the leaves that were read add up to on the background.

    Source: the definition, with the bit patterns of Nadel and Wettenstein, "WOODELF", AAAI 2026, section 4; the
    values of a leaf's game after Laberge and Pequignot (2022), lemma 3.
    """
    n = len(rows)
    both = Columns(np.concatenate([rows, background]))
    values = np.zeros((players * ensemble.outputs, n))
    outputs = np.zeros((len(both.matrix), ensemble.outputs))
    waiting: dict[int, list[Leaves]] = {}
    held: dict[int, int] = {}
    for grove in _groves(ensemble, len(both.matrix)):
        found, own = read_leaves(grove, both, n, player_of)
        outputs += own
        for leaves in found:
            depth = leaves.players.shape[1]
            some = waiting.setdefault(depth, [])
            some.append(leaves)
            held[depth] = held.get(depth, 0) + _cells(leaves)
            if held[depth] > _CELLS:
                _settle(values, some, len(background))
                waiting[depth], held[depth] = [], 0
    for some in waiting.values():
        if some:
            _settle(values, some, len(background))
    return np.asarray(values.reshape(players, ensemble.outputs, n).transpose(2, 0, 1)), outputs[n:]


def _groves(ensemble: Ensemble, rows: int) -> Iterator[Tree]:
    """Trees side by side, as many as are read at once without leaving the cache for long."""
    some: list[Tree] = []
    size = 0
    for tree in ensemble.trees:
        if some and size + len(tree.feature) * rows > _READ:
            yield side_by_side(some)
            some, size = [], 0
        some.append(tree)
        size += len(tree.feature) * rows
    if some:
        yield side_by_side(some)


def _cells(leaves: Leaves) -> int:
    count, depth = leaves.players.shape
    return int(count * max(leaves.rows.shape[1] * depth, leaves.patterns.shape[1] * ((depth + 1) // 2)))


def _settle(values: FloatArray, parts: list[Leaves], b: int) -> None:
    """Add what leaves with equally many players on their paths give, to ``values (players * k, n)``."""
    from scipy import sparse

    rows = np.concatenate([part.rows for part in parts])
    full = (1 << parts[0].players.shape[1]) - 1
    patterns, counts = _joined([part.patterns for part in parts], full), _joined([part.counts for part in parts], 0)
    owner = np.concatenate([part.players for part in parts])  # (leaves, depth)
    value = np.concatenate([part.value for part in parts])  # (leaves, k)
    (count, depth), outputs, n = owner.shape, value.shape[1], rows.shape[1]
    gains = np.empty((count, depth, n))
    table = _tabled_is_cheaper(depth, n, (counts > 0).sum(axis=1))
    for chosen, settle in ((table, _tabled), (~table, _paired)):
        if chosen.any():
            gains[chosen] = settle(rows[chosen], patterns[chosen], counts[chosen] / b, depth)
    place = owner[:, :, None] * outputs + np.arange(outputs)
    weight = np.broadcast_to(value[:, None, :], place.shape)
    column = np.broadcast_to(np.arange(owner.size).reshape(*owner.shape, 1), place.shape)
    entries = (weight.ravel(), (place.ravel(), column.ravel()))
    spread = sparse.csr_matrix(entries, shape=(len(values), owner.size))
    values += spread @ gains.reshape(owner.size, n)


def _joined(parts: list[Any], fill: int) -> Any:
    """Arrays ``(leaves, distinct)`` one below the other; those with fewer columns are filled up."""
    width = max(part.shape[1] for part in parts)
    whole = np.full((sum(map(len, parts)), width), fill, dtype=np.result_type(*parts))
    start = 0
    for part in parts:
        whole[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return whole


def _tabled_is_cheaper(depth: int, n: int, distinct: IntArray) -> Any:
    """By leaf: whether sums over all patterns of ``depth`` players cost less than comparing rows with patterns."""
    if depth > _TABLED_PLAYERS:
        return np.zeros(len(distinct), dtype=np.bool_)
    return (depth + 1) * depth * 2.0 ** (depth - 1) <= _PAIR_COST * n * distinct


def _tabled(rows: IntArray, patterns: IntArray, share: FloatArray, depth: int) -> FloatArray:
    """Gains ``(leaves, depth, n)`` of each player of leaves worth 1.

    With ``N`` the players whose conditions ``x`` does not meet, a background row counts only if it meets all of ``N``;
    with ``p`` players that it does not meet itself, one of the ``p`` gains ``(p-1)! |N|! / (p+|N|)!``, the integral of
    ``t^|N| (1-t)^(p-1)`` from 0 to 1, and a player of ``N`` loses that of ``t^(|N|-1) (1-t)^p``. Gauss and Legendre's
    points make these sums over points ``t``, so that sums over supersets are taken once for all ``p``.
    """
    leaves, n = rows.shape
    size = 2**depth
    points, weights = _points(depth)
    place = (np.arange(leaves)[:, None] + 1) * size - 1 - patterns
    # Share of the background that meets exactly these.
    met = np.bincount(place.ravel(), weights=share.ravel(), minlength=leaves * size).reshape(leaves, size)
    bits = _popcounts(depth)
    unmet_too = np.where(bits < depth, 1.0, 0.0)[:, None] * (1.0 - points) ** np.maximum(depth - bits - 1, 0)[:, None]
    above = _superset_sums(met[:, :, None] * unmet_too, depth)
    power = weights * points ** np.arange(depth + 1)[:, None]
    # For every set that may be N, and for N with the player itself in it.
    gain = np.einsum("lsq,sq->ls", above, power[bits])
    less = np.einsum("lsq,sq->ls", above, power[np.maximum(bits - 1, 0)])
    loss = (gain - less - met[:, -1:] / np.maximum(bits, 1)).ravel()
    asked = np.broadcast_to(np.arange(size), (leaves, size)) if size <= n else rows.astype(np.int64)
    unmet = asked + np.arange(leaves)[:, None] * size
    gain, less, loss_here = gain.ravel(), less.ravel(), loss[unmet]
    gain_here = gain[unmet]
    table = np.empty((leaves, depth, asked.shape[1]))
    for player in range(depth):
        bit = 1 << player
        lacks = (asked & bit).astype(np.bool_)
        table[:, player] = np.where(lacks, loss_here, gain_here - less[unmet | bit])
    if size > n:
        return table
    return np.take_along_axis(table, rows[:, None, :].astype(np.int64), axis=2)


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
def _weights(depth: int) -> FloatArray:
    """``[|N|, p]`` what one of the ``p`` gains."""
    gained = np.zeros((depth + 1, depth + 1))
    for missing in range(depth + 1):
        for p in range(1, depth + 1 - missing):
            gained[missing, p] = factorial(p - 1) * factorial(missing) / factorial(p + missing)
    return gained


def _popcounts(depth: int) -> IntArray:
    return np.bitwise_count(np.arange(2**depth, dtype=np.uint64)).astype(np.int64)


def _paired(rows: IntArray, patterns: IntArray, share: FloatArray, depth: int) -> FloatArray:
    """Gains ``(leaves, depth, n)`` of leaves worth 1, as :func:`_tabled` has them, by comparing rows with patterns."""
    n = rows.shape[1]
    gains = np.empty((len(rows), depth, n))
    front = np.argsort(share == 0.0, axis=1, kind="stable")  # patterns that occur
    patterns, share = np.take_along_axis(patterns, front, axis=1), np.take_along_axis(share, front, axis=1)
    distinct = (share > 0.0).sum(axis=1)
    order = np.argsort(-distinct, kind="stable")  # leaves with equally many patterns together
    start = 0
    while start < len(order):
        width = int(distinct[order[start]])
        part = order[start : start + max(1, _PAIRS // (n * width))]
        gains[part] = _compared(rows[part], patterns[part, :width], share[part, :width], depth)
        start += len(part)
    return gains


def _compared(need: IntArray, lacks: IntArray, share: FloatArray, depth: int) -> FloatArray:
    """Gains of leaves whose patterns are compared at once.

    What the players of ``N`` lose follows from what the others gain, as all of them sum to what the leaf gives ``x``
    less what it gives the background.
    """
    from scipy import sparse

    (leaves, n), width = need.shape, lacks.shape[1]
    pairs = np.flatnonzero((lacks[:, None, :] & need[:, :, None]) == 0)
    row = pairs // width
    column = pairs - (row - row // n) * width  # a pattern's place among those of all leaves
    missing = np.bitwise_count(need).ravel().astype(np.int64)
    weight = _weights(depth).ravel()[(missing * (depth + 1))[row] + np.bitwise_count(lacks).ravel()[column]]
    ends = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=need.size))])
    weights = sparse.csr_matrix((weight * share.ravel()[column], column, ends), shape=(need.size, lacks.size))
    player = np.arange(depth, dtype=need.dtype)
    gain = weights @ ((lacks.ravel()[:, None] >> player) & 1).astype(np.float64)
    ours = np.repeat(np.where(lacks == 0, share, 0.0).sum(axis=1), n)  # of the background itself
    loss = (gain.sum(axis=1) + ours) / np.maximum(missing, 1)
    needs = ((need.ravel()[:, None] >> player) & 1).astype(np.bool_)
    return np.asarray(np.where(needs, -loss[:, None], gain).reshape(leaves, n, depth).transpose(0, 2, 1))
