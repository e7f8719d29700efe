"""What a table allows: kinds, bounds, frozen cells and units; projection onto it, and the check that it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Distances are compared after one division by the scale, so allow for its rounding.
SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasible:
    """The feasible points of each row of a numeric matrix.

    Attributes:
        low: ``(f,)`` smallest value of each feature.
        high: ``(f,)`` largest value.
        scale: ``(f,)`` size of one unit of distance (a standard deviation, say); 0 freezes the feature.
        whole: ``(f,)`` features that hold whole numbers only.
    """

    low: FloatArray
    high: FloatArray
    scale: FloatArray
    whole: BoolArray

    def __post_init__(self) -> None:
        if not (len(self.low) == len(self.high) == len(self.scale) == len(self.whole)):
            raise UsageError("AK535", "low, high, scale and whole differ in length")
        if not np.isfinite(self.scale).all() or (self.scale < 0).any():
            raise UsageError("AK535", "scale must be finite and 0 or more in every feature")

    @property
    def mutable(self) -> BoolArray:
        """Features that may change at all."""
        return (self.scale > 0) & (self.low < self.high)

    def box(self, x: FloatArray, eps: float | None) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest feasible value of every cell of ``x (n, f)`` within ``eps`` (``None``: no limit).

        Missing cells and frozen features stay where they are; a clean value outside the bounds widens them to
        itself, so that the clean point is always feasible.
        """
        low = np.minimum(np.where(np.isnan(self.low), -np.inf, self.low), x)
        high = np.maximum(np.where(np.isnan(self.high), np.inf, self.high), x)
        if eps is not None:
            low, high = np.maximum(low, x - eps * self.scale), np.minimum(high, x + eps * self.scale)
        whole = self.whole & (x == np.round(x))
        low = np.where(whole, np.minimum(np.ceil(low - SLACK), x), low)
        high = np.where(whole, np.maximum(np.floor(high + SLACK), x), high)
        frozen = ~self.mutable | np.isnan(x) | (self.whole & ~whole)
        return np.where(frozen, x, low), np.where(frozen, x, high)

    def project(self, x: FloatArray, candidates: FloatArray, eps: float | None) -> FloatArray:
        """The feasible point nearest to each candidate, cell by cell; a candidate's NaN falls back to the clean cell.

        Args:
            x: ``(n, f)`` clean rows.
            candidates: ``(n, f)`` or ``(n, c, f)`` points.
            eps: Radius in the largest scaled change of any feature, or ``None``.

        >>> space = Feasible(low=np.zeros(3), high=np.full(3, 9.0), scale=np.array([1.0, 1.0, 0.0]),
        ...                  whole=np.array([False, True, False]))
        >>> space.project(np.array([[1.0, 2.0, 3.0]]), np.array([[8.0, 3.4, 8.0]]), 0.5).tolist()
        [[1.5, 2.0, 3.0]]
        """
        low, high = self.box(x, eps)
        if candidates.ndim == 3:
            x, low, high = x[:, None, :], low[:, None, :], high[:, None, :]
        points = np.where(np.isnan(candidates), x, candidates)
        points = np.where(self.whole, np.round(points), points)
        return np.asarray(np.clip(points, low, high), dtype=np.float64)

    def distance(self, x: FloatArray, points: FloatArray) -> FloatArray:
        """Largest scaled change of any feature, for each row; infinite where a frozen feature changed."""
        moved = np.abs(points - x)
        moved = np.where(np.isnan(x) & np.isnan(points), 0.0, np.where(np.isnan(moved), np.inf, moved))
        safe = np.where(self.scale > 0, self.scale, 1.0)
        scaled = np.where(moved == 0, 0.0, np.where(self.mutable, moved / safe, np.inf))
        return np.asarray(scaled.max(axis=-1, initial=0.0), dtype=np.float64)

    def violations(self, x: FloatArray, points: FloatArray, eps: float | None) -> int:
        """Rows of ``points (n, f)`` that are not feasible; written apart from :meth:`project` to check it."""
        wrong = self.distance(x, points) > (np.inf if eps is None else eps * (1 + SLACK) + SLACK)
        wrong |= np.isinf(self.distance(x, points))
        changed = ~((points == x) | (np.isnan(points) & np.isnan(x)))
        outside = changed & ((points < self.low - SLACK) | (points > self.high + SLACK))
        beyond = outside & ~((points >= np.minimum(self.low, x)) & (points <= np.maximum(self.high, x)))
        broken = changed & self.whole & (points != np.round(points))
        return int((wrong | beyond.any(axis=-1) | broken.any(axis=-1)).sum())
