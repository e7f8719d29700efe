"""Decision trees as plain arrays: nodes, splits and leaf values, read from any library, evaluated without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.game import BoolArray


class UnreadError(ValueError):
    """A structure that is not read, or is no sum: its sentence is ours, and holds no value of any row."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One tree.

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

    def goes_left(self, matrix: FloatArray) -> BoolArray:
        """``(nodes, m)``: which rows go left at which node (leaves: False)."""
        inner = np.flatnonzero(self.feature >= 0)
        seen = matrix.astype(np.float32).astype(np.float64) if self.single else matrix
        asked = seen[:, self.feature[inner]].T
        limit = self.threshold[inner, None]
        answer = asked < limit if self.strict else asked <= limit
        lost = np.isnan(asked)
        for place in np.flatnonzero(np.isin(inner, list(self.categories))) if self.categories else ():
            table = self.categories[int(inner[place])]
            known = ~lost[place] & (asked[place] >= 0) & (asked[place] < len(table))
            side = np.full(len(matrix), -1, dtype=np.int64)
            side[known] = table[asked[place, known].astype(np.int64)]
            answer[place] = side == 1
            lost[place] = side < 0
        if lost.any():
            answer = np.where(lost, self.missing_left[inner, None], answer)
        whole = np.zeros((len(self.feature), len(matrix)), dtype=np.bool_)
        whole[inner] = answer
        return whole

    def outputs(self, matrix: FloatArray) -> FloatArray:
        """``(m, k)`` what the tree adds for each row."""
        left = self.goes_left(matrix)
        node = np.zeros(len(matrix), dtype=np.int64)
        rows = np.arange(len(matrix))
        while (self.feature[node] >= 0).any():
            child = np.where(left[node, rows], self.left[node], self.right[node])
            node = np.where(self.feature[node] >= 0, child, node)
        return self.value[node]


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

    def evaluate(self, matrix: FloatArray) -> FloatArray:
        """``(m, k)`` sums over the trees."""
        total = np.zeros((len(matrix), self.outputs))
        for tree in self.trees:
            total += tree.outputs(matrix)
        return total
