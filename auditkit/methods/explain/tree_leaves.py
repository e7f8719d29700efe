"""Which conditions on its way to each leaf of a tree a row does not meet, as bit patterns, and how often each occurs.

Trees are read level by level, all nodes of a level and all rows at once. Of the background only how often each pattern
occurs is kept, so that what is done with a leaf afterwards depends on the patterns that differ, not on the rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.tree_table import Columns, Tree, UnreadError, depth_of

_MOST_PLAYERS = 62  # bits of a pattern
_COUNTED_PLAYERS = 8  # up to here all patterns have a place of their own; beyond, those that occur are sorted out
_CELLS = 1 << 17  # counted at once: what stays in the cache


@dataclass(frozen=True, kw_only=True)
class Leaves:
    """Leaves with ``d`` players on their paths. Bit ``i`` of a pattern: conditions on the ``i``-th player are not met.

    Attributes:
        players: ``(leaves, d)`` the players in the order of the path.
        value: ``(leaves, k)`` what a leaf adds to the outputs.
        rows: ``(leaves, n)`` patterns of the rows explained.
        patterns: ``(leaves, distinct)`` patterns of the background.
        counts: ``(leaves, distinct)`` background rows of each pattern; 0 where there is none, then with all bits set or
            where all patterns are listed.
    """

    players: IntArray
    value: FloatArray
    rows: IntArray
    patterns: IntArray
    counts: IntArray


def read_leaves(tree: Tree, both: Columns, n: int, player_of: IntArray) -> tuple[list[Leaves], FloatArray]:
    """The leaves that add anything, by the number of players on their paths, and what they add up to ``(m, k)``.

    Args:
        tree: The tree, or several side by side.
        both: ``m`` rows: the ``n`` rows explained, and the background below them.
        n: Rows explained.
        player_of: ``(f,)`` the player of each column.

    Raises:
        UnreadError: More than 62 players on a path.
    """
    left = tree.goes_left(both)
    ends = _ends(tree, left.view(np.uint8), player_of)
    found = []
    worth = tree.value[ends.nodes].any(axis=1)
    for depth in np.unique(ends.length[worth & (ends.length > 0)]).tolist():
        some = np.flatnonzero(worth & (ends.length == depth))
        unmet = ends.unmet[some]
        patterns, counts = _occurring(unmet[:, n:], depth, _twins(ends.twin, some))
        found.append(
            Leaves(
                players=ends.path[some, :depth],
                value=tree.value[ends.nodes[some]],
                rows=np.ascontiguousarray(unmet[:, :n]),
                patterns=patterns,
                counts=counts,
            )
        )
    return found, tree.outputs(left)


@dataclass(frozen=True, kw_only=True)
class _Ends:
    """All leaves of a tree: nodes, patterns ``(leaves, m)``, paths, their lengths, and whose twin each is (-1: none).

    Twins have the same parent, which asks the last player of their paths for the first time: they differ in that bit.
    """

    nodes: IntArray
    unmet: IntArray
    path: IntArray
    length: IntArray
    twin: IntArray


def _ends(tree: Tree, left: Any, player_of: IntArray) -> _Ends:
    parts = list(_levels(tree, left, player_of))
    nodes, unmet, path, length, twin = zip(*parts, strict=True)
    return _Ends(
        nodes=np.concatenate(nodes),
        unmet=np.concatenate(unmet),
        path=np.concatenate(path),
        length=np.concatenate(length),
        twin=np.concatenate(twin),
    )


def _levels(tree: Tree, left: Any, player_of: IntArray) -> Iterator[tuple[IntArray, ...]]:
    nodes = np.array(tree.roots, dtype=np.int64)
    length, twin = np.zeros_like(nodes), np.full_like(nodes, -1)
    path = np.full((len(nodes), min(depth_of(tree), len(player_of), _MOST_PLAYERS)), -1, dtype=np.int64)
    unmet: Any = np.zeros((len(nodes), left.shape[1]), dtype=np.uint8)
    seen = 0
    while len(nodes):
        end = tree.feature[nodes] < 0
        number = seen - 1 + np.cumsum(end)
        yield nodes[end], unmet[end], path[end], length[end], np.where(twin[end] < 0, -1, number[twin[end]])
        seen += int(end.sum())
        nodes, path, length, unmet = nodes[~end], path[~end], length[~end], unmet[~end]
        player = player_of[tree.feature[nodes]]
        same = path == player[:, None]
        known = same.any(axis=1)
        place = np.where(known, same.argmax(axis=1), length) if path.shape[1] else length
        if place.max(initial=0) >= _MOST_PLAYERS:
            raise UnreadError(f"a path of a tree asks more than {_MOST_PLAYERS} features")
        path[~known, place[~known]] = player[~known]
        unmet = _below(unmet, left[nodes], place)
        below = np.concatenate([tree.left[nodes], tree.right[nodes]])
        pair = ~known & (tree.feature[below].reshape(2, -1) < 0).all(axis=0)
        twin = np.concatenate([np.full(len(nodes), -1), np.where(pair, np.arange(len(nodes)), -1)])
        nodes, path, length = below, np.concatenate([path, path]), np.tile(length + ~known, 2)


def _below(unmet: Any, left: Any, place: IntArray) -> Any:
    """Patterns of all left children, then of all right ones."""
    least = np.min_scalar_type(1 << int(place.max(initial=0)))
    if least.itemsize > unmet.dtype.itemsize:
        unmet = unmet.astype(least)
    bit = (np.uint64(1) << place.astype(np.uint64)).astype(unmet.dtype)[:, None]
    met = np.multiply(left, bit, dtype=unmet.dtype)
    below = np.empty((2, *unmet.shape), dtype=unmet.dtype)
    np.bitwise_or(unmet, met, out=below[1])
    np.bitwise_or(unmet, np.bitwise_xor(met, bit, out=met), out=below[0])
    return below.reshape(-1, unmet.shape[1])


def _twins(twin: IntArray, some: IntArray) -> IntArray:
    """``twin`` as places within ``some`` leaves; -1 where there is none among them."""
    place = np.full(len(twin), -1, dtype=np.int64)
    place[some] = np.arange(len(some))
    own = twin[some]
    return np.where(own < 0, -1, place[own])


def _occurring(unmet: Any, depth: int, twin: IntArray) -> tuple[Any, Any]:
    """Patterns ``(leaves, distinct)`` and how many of the rows ``(leaves, b)`` have each."""
    size = 1 << depth
    if depth > _COUNTED_PLAYERS or size > unmet.shape[1]:
        return _sorted_out(unmet, depth)
    counts = np.empty((len(unmet), size), dtype=np.int64)
    own = np.flatnonzero(twin < 0)
    counts[own] = _counted(unmet[own], size)
    other = np.flatnonzero(twin >= 0)
    halves = counts[twin[other]].reshape(len(other), 2, size // 2)
    counts[other] = halves[:, ::-1].reshape(len(other), size)
    return np.broadcast_to(np.arange(size, dtype=unmet.dtype), counts.shape), counts


def _counted(unmet: Any, size: int) -> IntArray:
    counts = np.empty((len(unmet), size), dtype=np.int64)
    block = max(1, _CELLS // unmet.shape[1])
    offset = np.arange(min(block, len(unmet)))[:, None] * size
    for start in range(0, len(unmet), block):
        some = unmet[start : start + block]
        found = np.bincount((some + offset[: len(some)]).ravel(), minlength=len(some) * size)
        counts[start : start + block] = found.reshape(len(some), size)
    return counts


def _sorted_out(unmet: Any, depth: int) -> tuple[Any, IntArray]:
    leaves, b = unmet.shape
    wide = unmet.astype(np.uint32) if depth <= 32 else unmet  # of which numpy's sort is the faster
    ordered = np.sort(wide, axis=1)
    first = np.ones((leaves, b), dtype=np.bool_)
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=first[:, 1:])
    place = np.flatnonzero(first)
    leaf = place // b
    start = np.searchsorted(leaf, np.arange(leaves))
    rank = np.arange(len(place)) - start[leaf]
    width = int(rank.max(initial=0)) + 1
    patterns = np.full((leaves, width), (1 << depth) - 1, dtype=unmet.dtype)
    counts = np.zeros((leaves, width), dtype=np.int64)
    patterns[leaf, rank] = ordered.ravel()[place]
    counts[leaf, rank] = np.diff(place, append=leaves * b)
    return patterns, counts
