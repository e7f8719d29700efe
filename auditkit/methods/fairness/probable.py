"""Rates of groups when only the chance of each group is known for a row (from a name or a place, say)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Interval
from auditkit.methods.fairness.regression import worst_of_pairs
from auditkit.methods.fairness.worst import Gap
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.intervals import t_value
from auditkit.stats.linearised import PLAIN, Design, variance_of

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ProbableDisparity:
    """The rate of each group with its interval, and the largest difference between two of them."""

    rates: tuple[Estimate, ...]
    difference: Gap


def probable_disparity(
    hits: Sequence[bool] | npt.NDArray[np.bool_],
    chances: Sequence[Sequence[float]] | FloatArray,
    *,
    design: Design = PLAIN,
    level: float = 0.95,
) -> ProbableDisparity:
    """Rates weighted by the chance of each group, ``sum_i c_ig hit_i / sum_i c_ig``, and their largest difference.

    Right when, among rows with the same chances, a hit has nothing to do with the group; otherwise biased, most often
    towards parity. Where that is doubtful, bounds that assume nothing are the safer way
    (:func:`auditkit.methods.fairness.missing_groups.disparity_region`). Every row counts for every group, so that
    the groups' rates hang together: the limits of differences are linearised with that in them. The chances are taken
    as known.

    Args:
        hits: ``(n,)`` what the rate counts: the decision for selection rates; for true positive rates pass the rows
            with a positive label alone.
        chances: ``(n, G)`` from 0 to 1, each row summing to 1.
        design: Weights and clusters.
        level: Two-sided level of the difference.

    Raises:
        UsageError: AK442 the chances are not probabilities of at least two groups, one row for each hit.

    Source: Chen et al. (2019), Fairness under unawareness, FAT*, sections 3 and 4 (weighted estimator).

    >>> found = probable_disparity([True, False, True, True], [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8]])
    >>> [round(rate.value, 2) for rate in found.rates], round(found.difference.value, 2)
    ([0.6, 0.9], 0.3)
    """
    hit, chance = np.asarray(hits, dtype=np.float64), np.asarray(chances, dtype=np.float64)
    good = chance.ndim == 2 and chance.shape[1] >= 2 and len(chance) == len(hit) > 0
    if not good or not ((chance >= 0).all() and np.allclose(chance.sum(axis=1), 1.0, atol=1e-6)):
        raise UsageError(
            "AK442",
            "chances must be (n, groups) probabilities whose rows sum to 1, one row for each hit",
            why=f"hits have shape {hit.shape}, chances {chance.shape}",
        )
    n, w = len(hit), design.masses(len(hit))
    mass = (w[:, None] * chance).sum(axis=0)
    if (mass <= 0).any():
        lacking = undefined("a group has no chance in any row", n)
        return ProbableDisparity(
            tuple(lacking for _ in mass), Gap(None, None, None, "a group has no chance in any row")
        )
    values = (w[:, None] * chance * hit[:, None]).sum(axis=0) / mass
    parts = w[:, None] * chance * (hit[:, None] - values) / mass
    rates = tuple(
        _estimate(float(value), part, n, design, 0.0) for value, part in zip(values.tolist(), parts.T, strict=True)
    )
    effects = {
        (a, b): _estimate(float(values[a] - values[b]), parts[:, a] - parts[:, b], n, design, -1.0)
        for a, b in itertools.combinations(range(len(mass)), 2)
    }
    return ProbableDisparity(rates, worst_of_pairs(effects, level))


def _estimate(value: float, parts: FloatArray, n: int, design: Design, least: float) -> Estimate:
    variance, units = variance_of(parts, design.clusters)
    if units < 3 or variance <= 0.0:
        return Estimate(value, n, None, "too few rows, or rows that do not vary, so there is no interval")

    def bounds(level: float) -> Interval:
        half = t_value(level, units - 1) * math.sqrt(variance)
        low, high = max(value - half, least), min(value + half, 1.0)
        return Interval(
            low=min(low, value), high=max(high, value), level=level, method="linearised-t", degrees_of_freedom=units - 1
        )

    return Estimate(value, n, bounds)
