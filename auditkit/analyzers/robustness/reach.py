"""Which points of an attack count: feasible, within eps in the norm asked for, and decided wrongly on a fresh pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from auditkit.analyzers.robustness.strikes import BoolArray, Norm
from auditkit.core.subject import FloatArray, IntArray

if TYPE_CHECKING:
    from auditkit.methods.robustness.feasible import Feasible

# Whole numbers and single precision may carry a point just out of its ball, or back over the boundary: it is then tried
# a little further in and, where cells are whole, rounded at random as well.
_INWARD = (1.0, 0.995, 0.99, 0.98, 0.97, 0.95, 0.9)
_ROUNDINGS = 6


@dataclass(frozen=True, kw_only=True)
class Struck:
    """Points as they count: feasible ``(n, f)``, who is fooled within eps, the distance, and rows decided in all."""

    points: FloatArray
    fooled: BoolArray
    distance: FloatArray
    asked: int


@dataclass(frozen=True, kw_only=True)
class Reach:
    """A ball in some norm of the scaled changes of all features, inside what is feasible."""

    space: Feasible
    norm: Norm

    def distance(self, x: FloatArray, points: FloatArray) -> FloatArray:
        """Norm of the scaled change of each row; infinite where a frozen feature changed.

        >>> from auditkit.methods.robustness.feasible import Feasible
        >>> space = Feasible(low=np.zeros(2), high=np.full(2, 9.0), scale=np.array([1.0, 2.0]), whole=np.zeros(2, bool))
        >>> x, points = np.array([[1.0, 2.0]]), np.array([[4.0, 10.0]])
        >>> [float(Reach(space=space, norm=norm).distance(x, points)[0]) for norm in ("linf", "l2", "l1")]
        [4.0, 5.0, 7.0]
        """
        largest = self.space.distance(x, points)
        if self.norm == "linf":
            return largest
        moved = np.nan_to_num(points - x)
        unit = np.where(moved == 0, 0.0, moved / np.where(self.space.scale > 0, self.space.scale, 1.0))
        size = np.linalg.norm(unit, ord=2 if self.norm == "l2" else 1, axis=-1)
        return np.asarray(np.where(np.isinf(largest), np.inf, size))

    def within(self, distance: FloatArray, eps: float) -> BoolArray:
        """Which distances are at most eps, but for rounding."""
        from auditkit.methods.robustness.feasible import SLACK

        return np.asarray(distance <= eps * (1.0 + SLACK) + SLACK)

    def violations(self, x: FloatArray, points: FloatArray, eps: float) -> int:
        """Rows that are not feasible or lie beyond eps; written apart from what brings them in."""
        if self.norm == "linf":
            return self.space.violations(x, points, eps)
        return int((~self.space.feasible(x, points, None) | ~self.within(self.distance(x, points), eps)).sum())

    def strike(
        self, decide: Callable[[FloatArray], IntArray], x: FloatArray, y: IntArray, points: FloatArray, eps: float
    ) -> Struck:
        """Bring ``points`` into the ball and decide them afresh.

        Args:
            decide: ``(m, f)`` points -> the user's own decisions.
            x: ``(n, f)`` clean rows.
            y: ``(n,)`` labels.
            points: ``(n, f)`` what an attack gave.
            eps: Radius.
        """
        from auditkit.methods.robustness.rescore import rescore

        if self.norm == "linf":
            found = rescore(decide, x, y, points, self.space, eps)
            return Struck(points=found.points, fooled=found.fooled, distance=found.distance, asked=len(x))
        best, fooled, held = x.copy(), np.zeros(len(x), dtype=np.bool_), np.zeros(len(x), dtype=np.bool_)
        whole, asked, rng = bool(self.space.whole.any()), 0, np.random.default_rng(0)
        for factor in _INWARD:
            for rounding in range(_ROUNDINGS if whole else 1):
                # Without whole cells a point inside the ball is the attack's own, and decided once.
                left = np.flatnonzero(~fooled if whole else ~held)
                if len(left) == 0:
                    break
                near = self._inside(x[left], points[left], factor * eps)
                if rounding:
                    near = near + np.where(
                        self.space.whole & (near != x[left]), rng.uniform(-0.5, 0.5, near.shape), 0.0
                    )
                tried = self.space.project(x[left], near, None)
                inside = self.within(self.distance(x[left], tried), eps)
                hit = inside & np.asarray(decide(tried) != y[left])
                taken = hit | (inside & ~held[left])
                best[left[taken]] = tried[taken]
                fooled[left[hit]], held[left[inside]] = True, True
                asked += len(left)
        return Struck(points=best, fooled=fooled, distance=self.distance(x, best), asked=asked)

    def _inside(self, x: FloatArray, points: FloatArray, eps: float) -> FloatArray:
        """Points drawn straight back towards the clean row where they lie beyond eps."""
        feasible = self.space.project(x, points, None)
        distance = self.distance(x, feasible)
        share = np.where(distance > eps, eps / np.where(distance > 0, distance, 1.0), 1.0)
        return np.asarray(np.where(feasible == x, x, x + (feasible - x) * share[:, None]))

    def blind(
        self,
        decide: Callable[[FloatArray], IntArray],
        x: FloatArray,
        y: IntArray,
        eps: float,
        *,
        draws: int,
        rng: np.random.Generator,
    ) -> Struck:
        """Blind noise on the surface of an l2 or l1 ball: the control that an attack must beat."""
        points, fooled = x.copy(), np.zeros(len(x), dtype=np.bool_)
        spent = 0
        for _ in range(draws):
            drawn = rng.normal(size=x.shape) if self.norm == "l2" else rng.laplace(size=x.shape)
            drawn *= self.space.mutable
            size = np.linalg.norm(drawn, ord=2 if self.norm == "l2" else 1, axis=1, keepdims=True)
            left = np.flatnonzero(~fooled)
            if len(left) == 0:
                break
            noise = drawn[left] * eps / np.where(size[left] > 0, size[left], 1.0) * self.space.scale
            found = self.strike(decide, x[left], y[left], x[left] + noise, eps)
            spent += found.asked
            points[left[found.fooled]], fooled[left[found.fooled]] = found.points[found.fooled], True
        return Struck(points=points, fooled=fooled, distance=self.distance(x, points), asked=spent)
