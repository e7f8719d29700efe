"""Permutation tests that keep strata: exact where all arrangements can be listed, never a p-value of 0 where not.

Group labels are exchanged within strata only, so what differs between strata cannot make a finding.

Source: Phipson and Smyth (2010), Statistical Applications in Genetics and Molecular Biology 9, article 39 (p-values of
drawn permutations); Westfall and Young (1993), algorithm 4.1 (step-down over many statistics).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
# (labels (m, n)) -> statistics (m, t) in standard units; larger is more extreme.
Statistics = Callable[[IntArray], FloatArray]

_BLOCK_CELLS = 2_000_000
_TIE = 1e-9  # statistics that differ by less are the same


@dataclass(frozen=True, slots=True, kw_only=True)
class PermutationResult:
    """P-values of ``t`` statistics.

    Attributes:
        p_values: ``(t,)`` each for itself.
        adjusted: ``(t,)`` family-wise over all of them (step-down maxT).
        overall: P-value of the largest statistic among all.
        exact: Whether every arrangement was listed.
        arrangements: How many were looked at, the one observed included.
    """

    p_values: FloatArray
    adjusted: FloatArray
    overall: float
    exact: bool
    arrangements: int


def stratified_permutation_test(
    labels: IntArray, strata: IntArray, statistics: Statistics, rng: np.random.Generator, *, permutations: int = 999
) -> PermutationResult:
    """Chance of statistics so large if labels were exchangeable within each stratum.

    Where there are no more than ``permutations + 1`` distinct arrangements all are listed and the p-value is the exact
    share of those at least as extreme. Otherwise ``permutations`` are drawn, and the p-value is
    ``(b + 1) / (permutations + 1)`` for ``b`` that are: at most the level, however few are drawn.

    Args:
        labels: ``(n,)`` group codes, as observed.
        strata: ``(n,)`` codes.
        statistics: ``(m, n)`` labels -> ``(m, t)``.
        rng: Source of the draws.
        permutations: Most arrangements looked at beside the observed one, 1 or more.

    >>> values = np.array([1.0, 2.0, 3.0, 10.0])
    >>> tested = stratified_permutation_test(
    ...     np.array([0, 0, 0, 1]), np.zeros(4, dtype=np.int64),
    ...     lambda labels: (labels @ values)[:, None], np.random.default_rng(0))
    >>> tested.exact, tested.p_values.tolist()
    (True, [0.25])
    """
    observed = statistics(labels[None, :])[0]
    exact = arrangement_count(labels, strata, permutations + 1) <= permutations + 1
    blocks = _listed(labels, strata) if exact else _drawn(labels, strata, rng, permutations)
    order = np.argsort(-observed, kind="stable")
    least = observed - _TIE * (1.0 + np.abs(observed))
    single, stepped, seen = np.zeros(len(observed)), np.zeros(len(observed)), 0
    for block in blocks:
        values = statistics(block)
        single += (values >= least).sum(axis=0)
        # The largest of a statistic and of all that were observed below it.
        tops = np.maximum.accumulate(values[:, order[::-1]], axis=1)[:, ::-1]
        stepped += (tops >= least[order]).sum(axis=0)
        seen += len(block)
    more = 0 if exact else 1
    adjusted = np.empty(len(observed))
    adjusted[order] = np.maximum.accumulate((stepped + more) / (seen + more))
    return PermutationResult(
        p_values=(single + more) / (seen + more),
        adjusted=adjusted,
        overall=float(adjusted[order[0]]),
        exact=exact,
        arrangements=seen + more,
    )


def arrangement_count(labels: IntArray, strata: IntArray, limit: int) -> int:
    """Number of distinct arrangements of labels within strata; counting ends once it is above ``limit``.

    >>> arrangement_count(np.array([0, 0, 1, 1, 0]), np.array([0, 0, 0, 0, 1]), 1000)
    6
    """
    total = 1
    for stratum in np.unique(strata):
        counts = np.unique(labels[strata == stratum], return_counts=True)[1]
        rest = int(counts.sum())
        for count in counts.tolist():
            total *= math.comb(rest, count)
            rest -= count
            if total > limit:
                return total
    return total


def _listed(labels: IntArray, strata: IntArray) -> Iterator[IntArray]:
    """Every distinct arrangement, the observed one among them, as one block."""
    parts = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    choices = [list(_orders(tuple(labels[rows].tolist()))) for rows in parts]
    found = []
    for combination in product(*choices):
        arranged = labels.copy()
        for rows, chosen in zip(parts, combination, strict=True):
            arranged[rows] = chosen
        found.append(arranged)
    yield np.array(found)


def _orders(values: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Distinct orders of a multiset."""
    if not values:
        yield ()
        return
    for first in sorted(set(values)):
        place = values.index(first)
        for rest in _orders(values[:place] + values[place + 1 :]):
            yield (first, *rest)


def _drawn(labels: IntArray, strata: IntArray, rng: np.random.Generator, permutations: int) -> Iterator[IntArray]:
    order = np.argsort(strata, kind="stable")
    n = len(labels)
    size = max(1, _BLOCK_CELLS // max(n, 1))
    for start in range(0, permutations, size):
        count = min(size, permutations - start)
        # Sorting stratum + uniform shuffles within strata.
        mixed = np.argsort(strata[order] + rng.random((count, n)), axis=1)
        block = np.empty((count, n), dtype=np.int64)
        block[:, order] = labels[order][mixed]
        yield block
