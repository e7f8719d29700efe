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
    total, every = len(tree.feature), _every(columns.double.shape[1])
    bits = np.zeros((2, total, len(every)), dtype=np.uint8)
    for nodes in tree.by_feature():
        left = _left_bits(tree, columns, nodes)
        bits[0, nodes] = left
        bits[1, nodes] = ~left & every
    flat = bits.reshape(2 * total, -1)
    for nodes, before in again:
        flat[nodes] &= flat[before]
        flat[nodes + total] &= flat[before]
    return flat


def _left_bits(tree: Tree, columns: Columns, nodes: IntArray) -> Bits:
    """``(len(nodes), bytes)``: which rows go left at nodes that ask the same column.

    In the order of their thresholds, a row that goes left at a node goes left at all that follow: it is entered at the
    first of them, and each takes over the bits of the one before. That is a step a row, and one a node and 64 rows.
    """
    asked, limits = tree.compared(columns, nodes)
    order = np.argsort(limits, kind="stable")
    first = np.searchsorted(limits[order], asked, side="right" if tree.strict else "left")
    row, width = np.arange(len(asked)), 8 * -(-len(asked) // 64)
    bits = np.zeros((len(nodes) + 1, width), dtype=np.uint8)
    np.add.at(bits.reshape(-1), first * width + (row >> 3), (128 >> (row & 7)).astype(np.uint8))
    found = np.empty_like(bits[:-1])
    found.view(np.uint64)[order] = np.bitwise_or.accumulate(bits[:-1].view(np.uint64), axis=0)
    used = found[:, : -(-len(asked) // 8)]
    lost = np.isnan(asked)
    if lost.any():
        used[tree.missing_left[nodes]] |= np.packbits(lost)
    for place, answer in tree.by_category(nodes, asked):
        used[place] = np.packbits(answer)
    return found


def _every(m: int) -> Bits:
    """The bits of ``m`` rows, all set; bytes are a multiple of 8."""
    bits = np.zeros(8 * -(-m // 64), dtype=np.uint8)
    bits[: -(-m // 8)] = np.packbits(np.ones(m, dtype=np.uint8))
    return bits


def patterns(met: Bits, m: int) -> Any:
    """``(leaves, m)`` unsigned integers of the rows, from bits ``(d, leaves, bytes)``: bit ``i`` of the ``i``-th player
    is set where its conditions are met."""
    depth, leaves, width = met.shape
    kind = np.min_scalar_type((1 << depth) - 1).newbyteorder("<")
    found = np.zeros((leaves, 8 * width, kind.itemsize), dtype=np.uint8)
    for start in range(0, depth, 8):
        found[:, :, start // 8] = _turned(met[start : start + 8]).reshape(leaves, -1)
    return found.view(kind)[:, :m, 0].astype(kind.newbyteorder("="), copy=False)


def _turned(met: Bits) -> Bits:
    """``(leaves, bytes, 8)``: squares of 8 rows by up to 8 players ``(d, leaves, bytes)``, mirrored on their diagonal.

    Source: Warren, "Hacker's Delight", section 7-3.
    """
    depth, leaves, width = met.shape
    squares = np.zeros((leaves, width, 8), dtype=np.uint8)
    for player in range(depth):
        squares[:, :, 7 - player] = met[player]
    words = squares.view("<u8")[:, :, 0]
    far = words ^ (words << 36)
    words ^= (far ^ (words >> 36)) & 0xF0F0F0F00F0F0F0F
    for step, mask in ((18, 0xCCCC0000CCCC0000), (9, 0xAA00AA00AA00AA00)):
        far = (words ^ (words << step)) & mask
        words ^= far ^ (far >> step)
    return squares
