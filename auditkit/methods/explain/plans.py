"""What every estimator of Shapley values is: a plan of mixtures to evaluate, and how to read the outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.game import BoolArray
from auditkit.stats.intervals import student_reach

_PRIOR_FREEDOM = 4.0


@dataclass(frozen=True, kw_only=True)
class Known:
    """Outputs that cost a row nothing.

    Attributes:
        empty: ``(b, k)`` outputs of the background rows.
        full: ``(k,)`` output of the row explained.
    """

    empty: FloatArray
    full: FloatArray


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Values ``(players, k)`` and their standard errors (:func:`told_error`); zero errors where nothing was sampled."""

    values: FloatArray
    error: FloatArray


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Mixtures of one row.

    Attributes:
        masks: ``(m, players)`` players taken from the row.
        sources: ``(m,)`` background row that gives the others.
        finish: Outputs ``(m, k)`` of these mixtures and what is known -> the estimate.
        name: The estimator.
    """

    masks: BoolArray
    sources: IntArray
    finish: Callable[[FloatArray, Known], Estimate] = field(repr=False)
    name: str


def told_error(variance: FloatArray, freedom: float | FloatArray) -> FloatArray:
    """Standard errors of sampled values, of which 1.96 reach as far as a 95 % interval should however few the samples.

    A handful of samples often shows a player no interaction that it has, so variances are drawn up towards their
    mean over the players that move at all, which counts as four degrees of freedom; and few degrees of freedom
    have Student's quantiles, whose ratio to the normal one widens the error.

    Args:
        variance: ``(players, k)`` variances of the values.
        freedom: Degrees of freedom of each, or of each player's ``(players,)``; 1 or more.

    Source: Smyth (2004), Statistical Applications in Genetics and Molecular Biology 3, article 3 (moderated t).

    >>> told_error(np.array([[1.0], [1.0], [0.0]]), 1).round(3).ravel().tolist()
    [1.312, 1.312, 0.0]
    """
    free = np.broadcast_to(freedom, len(variance))
    moved = variance > 0.0
    mean = variance.sum(axis=0, keepdims=True) / np.maximum(moved.sum(axis=0, keepdims=True), 1)
    drawn = (free[:, None] * variance + _PRIOR_FREEDOM * mean) / (free[:, None] + _PRIOR_FREEDOM)
    kinds, which = np.unique(free + _PRIOR_FREEDOM, return_inverse=True)
    wider = np.array([student_reach(own) for own in kinds.tolist()])[which]
    return np.asarray(wider[:, None] * np.sqrt(np.where(moved, np.maximum(variance, drawn), 0.0)))


def nothing(players: int) -> Plan:
    """The plan of a row with one player or none: what is known settles it."""

    def finish(outputs: FloatArray, known: Known) -> Estimate:
        values = np.repeat((known.full - known.empty.mean(axis=0))[None, :], players, axis=0)
        return Estimate(values=values, error=np.zeros_like(values))

    return Plan(
        masks=np.zeros((0, players), dtype=np.bool_),
        sources=np.zeros(0, dtype=np.int64),
        finish=finish,
        name="exact",
    )
