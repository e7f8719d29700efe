"""What a table allows, on its matrix: kinds, bounds, frozen cells, directions, categories, linear rules and units.

Attacks, noise and counterfactuals share this record: :meth:`Feasible.project` makes points feasible, and
:meth:`Feasible.violations`, written apart from it, checks that they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

# Distances are compared after one division by the scale, so allow for its rounding.
SLACK = 1e-9
# Sweeps of projections onto linear rules; what is not inside by then goes back to the clean row.
_SWEEPS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A category that may change as a whole.

    Attributes:
        columns: Its columns: one that holds a code, or those of a one-hot group.
        options: ``(k, len(columns))`` what it may be.
        cost: What a change costs, in units of distance.
    """

    columns: IntArray
    options: FloatArray
    cost: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Linear rules ``matrix @ row <= most``, with ``texts`` for people; a rule with a missing cell does not bind."""

    matrix: FloatArray
    most: FloatArray
    texts: tuple[str, ...]

    def excess(self, points: FloatArray) -> FloatArray:
        """``(..., c)`` by how much points ``(..., f)`` break each rule; 0 where they keep it."""
        used = self.matrix != 0.0
        missing = (np.isnan(points)[..., None, :] & used).any(axis=-1)
        reach = np.nan_to_num(points) @ self.matrix.T
        size = np.abs(np.nan_to_num(points)) @ np.abs(self.matrix).T + np.abs(self.most)
        over = np.where(reach - self.most > SLACK * (1.0 + size), reach - self.most, 0.0)
        return np.asarray(np.where(missing, 0.0, over), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feasible:
    """The feasible points of each row of a numeric matrix.

    Attributes:
        low: ``(f,)`` smallest value of each feature.
        high: ``(f,)`` largest value.
        scale: ``(f,)`` size of one unit of distance (a standard deviation, say); 0 freezes the feature as a number.
        whole: ``(f,)`` features that hold whole numbers only.
        falls: ``(f,)`` features that may become smaller; all when left out.
        rises: ``(f,)`` features that may become larger; all when left out.
        choices: Categories that may change; their columns have scale 0.
        rules: Linear rules between the features.
    """

    low: FloatArray
    high: FloatArray
    scale: FloatArray
    whole: BoolArray
    falls: BoolArray | None = None
    rises: BoolArray | None = None
    choices: tuple[Choice, ...] = ()
    rules: Rules | None = field(default=None)

    def __post_init__(self) -> None:
        if not (len(self.low) == len(self.high) == len(self.scale) == len(self.whole)):
            raise UsageError("AK535", "low, high, scale and whole differ in length")
        if not np.isfinite(self.scale).all() or (self.scale < 0).any():
            raise UsageError("AK535", "scale must be finite and 0 or more in every feature")
        if any((self.scale[choice.columns] > 0).any() for choice in self.choices):
            raise UsageError("AK535", "the columns of a category must have scale 0")

    @property
    def mutable(self) -> BoolArray:
        """Features that may change as numbers."""
        return (self.scale > 0) & (self.low < self.high)

    def box(self, x: FloatArray, eps: float | None) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest feasible value of every cell of ``x (n, f)`` within ``eps`` (``None``: no limit).

        Missing cells, categories and frozen features stay where they are; a clean value outside the bounds widens them
        to itself, so that the clean point is always feasible.
        """
        low = np.minimum(np.where(np.isnan(self.low), -np.inf, self.low), x)
        high = np.maximum(np.where(np.isnan(self.high), np.inf, self.high), x)
        if eps is not None:
            low, high = np.maximum(low, x - eps * self.scale), np.minimum(high, x + eps * self.scale)
        low = low if self.falls is None else np.where(self.falls, low, x)
        high = high if self.rises is None else np.where(self.rises, high, x)
        whole = self.whole & (x == np.round(x))
        low = np.where(whole, np.minimum(np.ceil(low - SLACK), x), low)
        high = np.where(whole, np.maximum(np.floor(high + SLACK), x), high)
        frozen = ~self.mutable | np.isnan(x) | (self.whole & ~whole)
        return np.where(frozen, x, low), np.where(frozen, x, high)

    def project(self, x: FloatArray, candidates: FloatArray, eps: float | None) -> FloatArray:
        """A feasible point near each candidate; a candidate's NaN falls back to the clean cell.

        Cell by cell it is the nearest feasible value. A category goes to the nearest of the options that the directions
        of its columns leave it, or back where a change costs more than ``eps``. A point that breaks a linear rule is
        moved along that rule, and the row goes back to the clean one where that does not help. A rule that the clean
        row itself breaks may stay broken by as much.

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
        points = np.asarray(np.clip(points, low, high), dtype=np.float64)
        for choice in self.choices:
            points[..., choice.columns] = self._chosen(choice, x, candidates, eps)
        return points if self.rules is None else self._within_rules(x, points, low, high)

    def _chosen(self, choice: Choice, x: FloatArray, candidates: FloatArray, eps: float | None) -> FloatArray:
        """What the category becomes at each candidate."""
        clean = np.broadcast_to(x, candidates.shape)[..., choice.columns]
        wanted = candidates[..., choice.columns]
        if eps is not None and choice.cost > eps * (1.0 + SLACK) + SLACK:
            return clean
        reached = self._reached(choice, clean)
        gap = ((np.nan_to_num(wanted)[..., None, :] - choice.options) ** 2).sum(axis=-1)
        nearest = choice.options[np.where(reached, gap, np.inf).argmin(axis=-1)]
        stays = (wanted == clean).all(axis=-1) | np.isnan(wanted).any(axis=-1) | ~reached.any(axis=-1)
        return np.where(stays[..., None], clean, nearest)

    def _reached(self, choice: Choice, clean: FloatArray) -> BoolArray:
        """``(..., k)`` the options whose every column moves from ``clean (..., c)`` in a direction that it may."""
        change = choice.options - clean[..., None, :]
        falls = True if self.falls is None else self.falls[choice.columns]
        rises = True if self.rises is None else self.rises[choice.columns]
        return np.asarray(((change == 0) | ((change < 0) & falls) | ((change > 0) & rises)).all(axis=-1))

    def _within_rules(self, x: FloatArray, points: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
        """Points moved along each rule that they break; back to the clean row where that does not help."""
        rules = self.rules
        assert rules is not None
        allowed = rules.excess(x)
        low, high = np.broadcast_to(low, points.shape), np.broadcast_to(high, points.shape)
        for _ in range(_SWEEPS):
            broken = rules.excess(points) > allowed
            if not broken.any():
                return points
            for place, row in enumerate(rules.matrix):
                over = np.maximum(rules.excess(points)[..., place] - allowed[..., place], 0.0)
                room = np.where(row > 0, points > low, points < high) & (row != 0.0) & self.mutable
                gradient = np.where(room, row * self.scale**2, 0.0)
                size = (gradient * row).sum(axis=-1)
                step = np.where(size > 0, over / np.where(size > 0, size, 1.0), 0.0)
                moved = points - step[..., None] * gradient
                # A whole number goes on to the next one on the side that keeps the rule.
                onward = np.where(gradient > 0, np.floor(moved + SLACK), np.ceil(moved - SLACK))
                moved = np.where(self.whole & (gradient != 0) & (step > 0)[..., None], onward, moved)
                points = np.where(gradient != 0.0, np.clip(moved, low, high), points)
        still = np.asarray((rules.excess(points) > allowed).any(axis=-1))
        return np.asarray(np.where(still[..., None], x, points), dtype=np.float64)

    def _parts(self, x: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Scaled change of each feature ``(..., f)``, infinite where forbidden; cost of each category ``(..., g)``."""
        still = (points == x) | (np.isnan(x) & np.isnan(points))
        # An infinite cell that stays has not moved, though the difference is no number.
        moved = np.abs(np.where(still, 0.0, points) - np.where(still, 0.0, x))
        moved = np.where(np.isnan(moved), np.inf, moved)
        safe = np.where(self.scale > 0, self.scale, 1.0)
        scaled = np.where(moved == 0, 0.0, np.where(self.mutable, moved / safe, np.inf))
        costs = [(moved[..., c.columns] != 0).any(axis=-1) * c.cost for c in self.choices]
        for choice in self.choices:
            scaled[..., choice.columns] = np.where(np.isinf(moved[..., choice.columns]), np.inf, 0.0)
        return scaled, np.stack(costs, axis=-1) if costs else np.zeros((*scaled.shape[:-1], 0))

    def distance(self, x: FloatArray, points: FloatArray) -> FloatArray:
        """Largest scaled change of any feature, for each row; infinite where a frozen feature changed."""
        scaled, costs = self._parts(x, points)
        return np.asarray(
            np.maximum(scaled.max(axis=-1, initial=0.0), costs.max(axis=-1, initial=0.0)), dtype=np.float64
        )

    def cost(self, x: FloatArray, points: FloatArray) -> FloatArray:
        """Sum of the scaled changes of all features, for each row; infinite where a frozen feature changed.

        >>> space = Feasible(low=np.zeros(2), high=np.full(2, 9.0), scale=np.array([2.0, 0.0]), whole=np.zeros(2, bool),
        ...                  choices=(Choice(columns=np.array([1]), options=np.array([[0.0], [1.0]]), cost=3.0),))
        >>> space.cost(np.array([[1.0, 0.0]]), np.array([[2.0, 1.0]])).tolist()
        [3.5]
        """
        scaled, costs = self._parts(x, points)
        return np.asarray(scaled.sum(axis=-1) + costs.sum(axis=-1), dtype=np.float64)

    def violations(self, x: FloatArray, points: FloatArray, eps: float | None) -> int:
        """Rows of ``points (n, f)`` that are not feasible; written apart from :meth:`project` to check it."""
        return int((~self.feasible(x, points, eps)).sum())

    def feasible(self, x: FloatArray, points: FloatArray, eps: float | None) -> BoolArray:
        """``(n,)`` which rows of ``points (n, f)`` are feasible, by looking at each rule in turn."""
        wrong = self.distance(x, points) > (np.inf if eps is None else eps * (1 + SLACK) + SLACK)
        wrong |= np.isinf(self.distance(x, points))
        changed = ~((points == x) | (np.isnan(points) & np.isnan(x)))
        outside = changed & ((points < self.low - SLACK) | (points > self.high + SLACK))
        beyond = outside & ~((points >= np.minimum(self.low, x)) & (points <= np.maximum(self.high, x)))
        broken = changed & self.whole & (points != np.round(points))
        if self.falls is not None:
            broken |= (points < x) & ~self.falls
        if self.rises is not None:
            broken |= (points > x) & ~self.rises
        wrong |= beyond.any(axis=-1) | broken.any(axis=-1)
        for choice in self.choices:
            known = (points[:, None, choice.columns] == choice.options).all(axis=-1).any(axis=-1)
            wrong = wrong | (changed[:, choice.columns].any(axis=-1) & ~known)
        if self.rules is not None:
            for row, most in zip(self.rules.matrix, self.rules.most, strict=True):
                used = np.flatnonzero(row)
                now, before = points[:, used] @ row[used], x[:, used] @ row[used]
                size = 1.0 + np.abs(points[:, used]) @ np.abs(row[used]) + abs(most)
                wrong |= (now > most + 2 * SLACK * size) & (now > before + 2 * SLACK * size)
        return np.asarray(~wrong)
