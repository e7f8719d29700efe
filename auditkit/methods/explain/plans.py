"""What every estimator of Shapley values is: a plan of mixtures to evaluate, and how to read the outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.game import BoolArray


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
    """Values ``(players, k)`` and their standard errors; zero errors where nothing was sampled."""

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
