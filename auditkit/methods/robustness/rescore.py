"""Score an attack's points again on the user's own model; believe nothing that the attack says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.methods.robustness.feasible import SLACK, BoolArray, Feasible, FloatArray

IntArray = npt.NDArray[np.int64]
Decide = Callable[[FloatArray], IntArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """An attack's points, made feasible and decided afresh.

    Attributes:
        points: ``(n, f)`` feasible points.
        fooled: ``(n,)`` the decision at the point differs from the label.
        distance: ``(n,)`` largest scaled change of any feature.
        moved: Share of rows whose point differs from the clean row.
        violations: Rows whose point, as the attack gave it, was not feasible.
    """

    points: FloatArray
    fooled: BoolArray
    distance: FloatArray
    moved: float
    violations: int

    @property
    def invalid(self) -> str | None:
        """Why the attack says nothing about robustness, or ``None``."""
        if len(self.points) == 0:
            return "no row was attacked"
        if self.moved == 0.0:
            return "the attack moved no row, so that no row was fooled says nothing about the model"
        return None

    def success(self, eps: float) -> BoolArray:
        """Rows fooled within ``eps``: a minimum-norm attack does not know of eps, so its distance is judged here."""
        return np.asarray(self.fooled & (self.distance <= eps * (1 + SLACK) + SLACK))


def rescore(
    decide: Decide, x: FloatArray, y: IntArray, points: FloatArray, space: Feasible, eps: float | None = None
) -> Rescored:
    """Project ``points`` to what is feasible, decide them afresh, and measure how far they went.

    Args:
        decide: ``(m, f)`` points -> ``(m,)`` decisions of the user's model.
        x: ``(n, f)`` clean rows.
        y: ``(n,)`` labels.
        points: ``(n, f)`` what the attack returned, of any floating dtype.
        space: What is feasible.
        eps: Radius to project into; ``None`` for minimum-norm attacks.

    >>> space = Feasible(low=np.zeros(1), high=np.ones(1), scale=np.ones(1), whole=np.zeros(1, dtype=bool))
    >>> still = rescore(lambda z: np.zeros(len(z), dtype=np.int64), np.zeros((2, 1)), np.zeros(2, dtype=np.int64),
    ...                 np.zeros((2, 1)), space)
    >>> still.invalid
    'the attack moved no row, so that no row was fooled says nothing about the model'
    """
    raw = np.asarray(points, dtype=np.float64)
    broken = space.violations(x, raw, eps)
    feasible = space.project(x, raw, eps)
    distance = space.distance(x, feasible)
    fooled = decide(feasible) != y if len(x) else np.zeros(0, dtype=np.bool_)
    return Rescored(
        points=feasible,
        fooled=np.asarray(fooled, dtype=np.bool_),
        distance=distance,
        moved=float((distance > 0).mean()) if len(x) else 0.0,
        violations=broken,
    )
