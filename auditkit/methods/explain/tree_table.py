"""Decision trees as plain arrays: nodes, splits and leaf values, read from any library, evaluated without it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.game import BoolArray

Numbers = npt.NDArray[np.floating]

_READ = 2_000_000  # answers of nodes to rows, read at once


class UnreadError(ValueError):
    """A structure that is not read, or is no sum: its sentence is ours, and holds no value of any row."""


@dataclass(frozen=True)
class Columns:
    """Rows ``(m, f)`` laid out by column, once for all trees.

    Attributes:
        matrix: The rows.
    """

    matrix: FloatArray

    @cached_property
    def double(self) -> FloatArray:
        """``(f, m)`` as they are."""
        return np.ascontiguousarray(self.matrix.T)

    @cached_property
    def single(self) -> npt.NDArray[np.float32]:
        """``(f, m)`` rounded to single precision."""
        with np.errstate(over="ignore"):
            return self.double.astype(np.float32)

    @cached_property
    def missing(self) -> BoolArray:
        """``(f,)`` which columns hold a missing value."""
        return np.asarray(np.isnan(self.double).any(axis=1))


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One tree, or several side by side.

    Attributes:
        feature: ``(nodes,)`` column that a node asks; ``-1`` at a leaf.
        threshold: ``(nodes,)`` a number up to it (below it when ``strict``) goes left.
        left: ``(nodes,)`` left child.
        right: ``(nodes,)`` right child.
        value: ``(nodes, k)`` what a leaf adds to the outputs.
        missing_left: ``(nodes,)`` where a missing value goes.
        categories: For nodes that ask for a category: codes ``0, 1 ..`` -> 1 left, 0 right, -1 as a missing value.
        strict: Whether a number equal to the threshold goes right.
        single: Whether numbers are rounded to single precision before they are compared.
        roots: Where the trees begin.
    """

    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    value: FloatArray
    missing_left: BoolArray
    categories: Mapping[int, IntArray] = field(default_factory=dict)
    strict: bool = False
    single: bool = False
    roots: tuple[int, ...] = (0,)

    def goes_left(self, columns: Columns) -> BoolArray:
        """``(nodes, m)``: which rows go left at which node (leaves: False)."""
        whole = np.zeros((len(self.feature), columns.double.shape[1]), dtype=np.bool_)
        for nodes in self.by_feature():
            whole[nodes] = self.answers(columns, nodes)
        return whole

    def by_feature(self) -> Iterator[IntArray]:
        """Nodes that ask the same column."""
        inner = np.flatnonzero(self.feature >= 0)
        inner = inner[np.argsort(self.feature[inner], kind="stable")]
        if len(inner):
            yield from np.split(inner, np.flatnonzero(np.diff(self.feature[inner])) + 1)

    def answers(self, columns: Columns, nodes: IntArray) -> BoolArray:
        """``(len(nodes), m)``: which rows go left at nodes that ask the same column."""
        asked, limits = self.compared(columns, nodes)
        answer = asked < limits[:, None] if self.strict else asked <= limits[:, None]
        if columns.missing[self.feature[nodes[0]]]:
            answer = np.where(np.isnan(asked), self.missing_left[nodes][:, None], answer)
        for place, sides in self.by_category(nodes, asked):
            answer[place] = sides
        return np.asarray(answer)

    def compared(self, columns: Columns, nodes: IntArray) -> tuple[Numbers, Numbers]:
        """What nodes that ask the same column compare: ``(m,)`` numbers of the rows, and ``(len(nodes),)`` limits."""
        return (columns.single if self.single else columns.double)[self.feature[nodes[0]]], self._limits(nodes)

    def by_category(self, nodes: IntArray, asked: Numbers) -> Iterator[tuple[int, BoolArray]]:
        """Of ``nodes``, the places of those that ask for a category, and which rows ``(m,)`` go left there."""
        for place in np.flatnonzero(np.isin(nodes, list(self.categories))).tolist() if self.categories else ():
            yield place, self._by_category(int(nodes[place]), asked)

    def _limits(self, inner: IntArray) -> Numbers:
        """Thresholds in the precision of what is compared; single ones next to the double one, on the side that gives
        the same answers."""
        limit = self.threshold[inner]
        if not self.single:
            return limit
        with np.errstate(over="ignore"):
            near = limit.astype(np.float32)
        if self.strict:
            return np.where(near < limit, np.nextafter(near, np.float32(np.inf)), near)
        return np.where(near > limit, np.nextafter(near, np.float32(-np.inf)), near)

    def _by_category(self, node: int, codes: Numbers) -> BoolArray:
        table = self.categories[node]
        with np.errstate(invalid="ignore"):
            known = (codes >= 0) & (codes < len(table))
        side = np.full(len(codes), -1, dtype=np.int64)
        side[known] = table[codes[known].astype(np.int64)]
        return np.asarray(np.where(side < 0, self.missing_left[node], side == 1), dtype=np.bool_)

    def outputs(self, goes_left: BoolArray) -> FloatArray:
        """``(m, k)`` what the trees add for each row, from :meth:`goes_left` of the rows."""
        left = goes_left.view(np.uint8).ravel()
        m = goes_left.shape[1]
        rows = np.arange(m)
        here = np.arange(len(self.feature))
        ends = self.feature < 0
        # A leaf leads to itself, so all rows take as many steps as the longest path has.
        sides = np.stack([np.where(ends, here, self.right), np.where(ends, here, self.left)], axis=1).ravel()
        node = np.repeat(np.array(self.roots, dtype=np.int64)[:, None], m, axis=1)
        for _ in range(depth_of(self)):
            node = sides.take(2 * node + left.take(node * m + rows))
        return np.asarray(self.value[node].sum(axis=0))


def side_by_side(trees: Sequence[Tree]) -> Tree:
    """Trees of one library as one: what is done node by node is then done for all of them at once."""
    starts = np.concatenate([[0], np.cumsum([len(tree.feature) for tree in trees])]).tolist()
    moved = list(zip(trees, starts, strict=False))
    return Tree(
        feature=np.concatenate([tree.feature for tree in trees]),
        threshold=np.concatenate([tree.threshold for tree in trees]),
        left=np.concatenate([tree.left + start for tree, start in moved]),
        right=np.concatenate([tree.right + start for tree, start in moved]),
        value=np.concatenate([tree.value for tree in trees]),
        missing_left=np.concatenate([tree.missing_left for tree in trees]),
        categories={node + start: codes for tree, start in moved for node, codes in tree.categories.items()},
        strict=trees[0].strict,
        single=trees[0].single,
        roots=tuple(root + start for tree, start in moved for root in tree.roots),
    )


def depth_of(tree: Tree) -> int:
    """Splits on the longest path."""
    roots = np.array(tree.roots, dtype=np.int64)
    level, depth = roots[tree.feature[roots] >= 0], 0
    while len(level):
        below = np.concatenate([tree.left[level], tree.right[level]])
        level, depth = below[tree.feature[below] >= 0], depth + 1
    return depth


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Trees whose outputs add up.

    Attributes:
        trees: The trees.
        outputs: Width of the leaf values.
        single: Whether the library itself adds up in single precision.
    """

    trees: tuple[Tree, ...]
    outputs: int
    single: bool = False

    def groves(self, nodes: int) -> Iterator[Tree]:
        """Trees side by side, up to so many nodes at once, and one tree at least."""
        some: list[Tree] = []
        size = 0
        for tree in self.trees:
            if some and size + len(tree.feature) > nodes:
                yield side_by_side(some)
                some, size = [], 0
            some.append(tree)
            size += len(tree.feature)
        if some:
            yield side_by_side(some)

    def evaluate(self, matrix: FloatArray) -> FloatArray:
        """``(m, k)`` sums over the trees."""
        total = np.zeros((len(matrix), self.outputs))
        columns = Columns(matrix)
        for grove in self.groves(_READ // max(1, len(matrix))):
            total += grove.outputs(grove.goes_left(columns))
        return total
