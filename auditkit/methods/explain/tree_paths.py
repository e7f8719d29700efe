"""The paths of trees to their leaves, and which rows meet the conditions on them, as packed bits.

A path is settled without rows: which step of it asks each player last. With the rows, one bit a row says whether it
meets all that a path has asked a player up to a step; a leaf's conditions are then a few rows of a table of bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.tree_table import Columns, Tree, depth_of

Bits = npt.NDArray[np.uint8]

_CELLS = 1 << 17  # answers of nodes to rows at once: what stays in the cache


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Paths that ask ``d`` players, in the order in which these are asked first.

    Attributes:
        players: ``(leaves, d)`` the players.
        steps: ``(leaves, d)`` the step that asks each player last: a row of :func:`met_bits`.
        value: ``(leaves, k)`` what a leaf adds to the outputs.
        twin: ``(leaves,)`` whose twin a leaf is; -1 for none. Twins have the same parent, which asks the last player of
            their paths for the first time: they differ in that player's condition, and it is met by all others.
    """

    players: IntArray
    steps: IntArray
    value: FloatArray
    twin: IntArray


@dataclass(frozen=True, kw_only=True)
class Walk:
    """All paths of a tree.

    Attributes:
        paths: By the number of players asked.
        again: From the roots downwards, nodes that ask a player again, and the steps that asked before.
    """

    paths: tuple[Paths, ...]
    again: tuple[tuple[IntArray, IntArray], ...]


def walk(tree: Tree, player_of: IntArray) -> Walk:
    """The paths of a tree, or of several side by side, level by level.

    Args:
        tree: The tree.
        player_of: ``(f,)`` the player of each column.
    """
    total = len(tree.feature)
    nodes = np.array(tree.roots, dtype=np.int64)
    length, twin = np.zeros_like(nodes), np.full_like(nodes, -1)
    players = np.full((len(nodes), min(depth_of(tree), len(player_of))), -1, dtype=np.int32)
    steps = np.zeros_like(players)
    ends, again, seen = [], [], 0
    while len(nodes):
        end = tree.feature[nodes] < 0
        number = seen - 1 + np.cumsum(end)
        own = np.where(twin[end] < 0, -1, number[twin[end]])
        ends.append((nodes[end], length[end], players[end], steps[end], own))
        seen += int(end.sum())
        nodes, length, players, steps = nodes[~end], length[~end], players[~end], steps[~end]
        player = player_of[tree.feature[nodes]]
        same = players == player[:, None]
        known = same.any(axis=1)
        here, place = np.arange(len(nodes)), np.where(known, same.argmax(axis=1) if same.size else 0, length)
        again.append((nodes[known], steps[known, place[known]].astype(np.int64)))
        players[here, place] = player
        steps[here, place] = nodes
        below = np.concatenate([tree.left[nodes], tree.right[nodes]])
        pair = ~known & (tree.feature[below].reshape(2, -1) < 0).all(axis=0)
        twin = np.concatenate([np.full(len(nodes), -1), np.where(pair, here, -1)])
        steps = np.concatenate([steps, steps])
        steps[here + len(nodes), place] += total
        nodes, players, length = below, np.concatenate([players, players]), np.tile(length + ~known, 2)
    node, length, players, steps, twin = (np.concatenate(part) for part in zip(*ends, strict=True))
    found = []
    for depth in np.unique(length).tolist():
        some = np.flatnonzero(length == depth)
        place = np.full(len(length), -1, dtype=np.int64)
        place[some] = np.arange(len(some))
        found.append(
            Paths(
                players=players[some, :depth].astype(np.int64),
                steps=steps[some, :depth].astype(np.int64),
                value=tree.value[node[some]],
                twin=np.where(twin[some] < 0, -1, place[twin[some]]),
            )
        )
    return Walk(paths=tuple(found), again=tuple(again))


def met_bits(tree: Tree, columns: Columns, again: tuple[tuple[IntArray, IntArray], ...]) -> Bits:
    """``(2 * nodes, bytes)``: which rows meet all that the path through a step has asked the step's player, packed.

    The steps to the left of all nodes come first, then those to the right; bytes are a multiple of 8, and the bits
    beyond the rows are 0.
    """
    total, m = len(tree.feature), columns.double.shape[1]
    used = -(-m // 8)
    bits = np.zeros((2, total, len(_every(m))), dtype=np.uint8)
    rows = _every(m)[:used]
    for some in tree.by_feature(max(1, _CELLS // m)):
        left = np.packbits(tree.answers(columns, some), axis=1)
        bits[0, some, :used] = left
        bits[1, some, :used] = ~left & rows
    flat = bits.reshape(2 * total, -1)
    for nodes, before in again:
        flat[nodes] &= flat[before]
        flat[nodes + total] &= flat[before]
    return flat


def _every(m: int) -> Bits:
    """The bits of ``m`` rows, all set; bytes are a multiple of 8."""
    bits = np.zeros(8 * -(-m // 64), dtype=np.uint8)
    bits[: -(-m // 8)] = np.packbits(np.ones(m, dtype=np.uint8))
    return bits


def patterns(met: Bits, m: int) -> Any:
    """``(leaves, m)`` unsigned integers of the rows, from bits ``(d, leaves, bytes)``: bit ``i`` of the ``i``-th player
    is set where its conditions are met."""
    depth, leaves = met.shape[:2]
    kind = np.min_scalar_type((1 << depth) - 1)
    found = np.zeros((leaves, m), dtype=kind)
    for player in range(depth):
        found |= np.left_shift(np.unpackbits(met[player], axis=1, count=m), player, dtype=kind)
    return found


def outputs_of(paths: Paths, bits: Bits, m: int) -> FloatArray:
    """``(m, k)`` what the leaves add for each row, from :func:`met_bits` of the rows."""
    total = np.zeros((paths.value.shape[1], m))
    block = max(1, _CELLS // m)
    for start in range(0, len(paths.value), block):
        some = slice(start, start + block)
        reached = np.repeat(_every(m)[None], len(paths.value[some]), axis=0)
        for steps in paths.steps[some].T:
            reached &= bits[steps]
        some_row = np.flatnonzero(reached.ravel() != 0)  # bytes
        hit = np.flatnonzero(np.unpackbits(reached.ravel()[some_row]).view(np.bool_))
        byte = some_row[hit >> 3]
        leaf = byte // reached.shape[1]
        row = (byte - leaf * reached.shape[1] << 3) + (hit & 7)
        for added, value in zip(total, paths.value[some].T, strict=True):
            added += np.bincount(row, weights=value[leaf], minlength=m)
    return np.asarray(total.T)
