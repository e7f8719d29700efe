"""Shapley values of leaves with many players on their paths, by comparing rows with the background rows that differ."""

from __future__ import annotations

from functools import cache
from math import factorial
from typing import Any

import numpy as np

from auditkit.core.subject import FloatArray, IntArray

_PAIRS = 250_000  # compared at once: what stays in the cache


def paired(rows: Any, background: Any, depth: int) -> FloatArray:
    """Gains ``(depth, leaves, n)`` of leaves worth 1.

    Args:
        rows: ``(leaves, n)`` patterns of the rows: bit ``i`` is set where the conditions on player ``i`` are not met.
        background: ``(leaves, b)`` those of the background.
        depth: Players.

    Source: lemma 3 of Laberge and Pequignot (2022).
    """
    n = rows.shape[1]
    gains = np.empty((depth, *rows.shape))
    patterns, counts = _differing(background, depth)
    distinct = (counts > 0).sum(axis=1)
    order = np.argsort(-distinct, kind="stable")  # leaves with equally many patterns together
    start = 0
    while start < len(order):
        width = int(distinct[order[start]])
        part = order[start : start + max(1, _PAIRS // (n * width))]
        share = counts[part, :width] / background.shape[1]
        gains[:, part] = _compared(rows[part], patterns[part, :width], share, depth)
        start += len(part)
    return gains


def _differing(unmet: Any, depth: int) -> tuple[Any, IntArray]:
    """Patterns that differ ``(leaves, distinct)``, and how many rows have each: 0 where a leaf has fewer."""
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


@cache
def _weights(depth: int) -> FloatArray:
    """``[|N|, p]``: with ``|N|`` players whose conditions the row does not meet and ``p`` whose the background row does
    not, what one of the ``p`` gains."""
    gained = np.zeros((depth + 1, depth + 1))
    for missing in range(depth + 1):
        for p in range(1, depth + 1 - missing):
            gained[missing, p] = factorial(p - 1) * factorial(missing) / factorial(p + missing)
    return gained


def _compared(need: Any, lacks: Any, share: FloatArray, depth: int) -> FloatArray:
    """Gains ``(depth, leaves, n)`` of leaves whose patterns are compared at once.

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
    return np.asarray(np.where(needs, -loss[:, None], gain).T.reshape(depth, leaves, n))
