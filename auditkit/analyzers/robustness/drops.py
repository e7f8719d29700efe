"""The drop of a share on the same rows, with exact limits of matched pairs, which many drops work out together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.robustness.estimates import LEVEL, Rows
from auditkit.core.evidence import Interval
from auditkit.stats.estimate import Estimate as LevelledEstimate
from auditkit.stats.estimate import undefined
from auditkit.stats.linearised import Design
from auditkit.stats.matched import matched_limits


@dataclass(frozen=True, slots=True)
class Drop:
    """Shares of ``n`` rows that were right before alone and after alone, and how many independent rows they are worth.

    With weights these are Kish's effective rows at the weighted shares; with clusters as many as there are clusters,
    which is the least that their rows can be worth.
    """

    lost: float
    won: float
    worth: float
    n: int

    @classmethod
    def of(cls, before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_], rows: Rows) -> Drop:
        """From hits ``(n,)`` before and after the change."""
        if len(before) == 0:
            return cls(0.0, 0.0, 0.0, 0)
        weights = np.ones(len(before)) if rows.weights is None else rows.weights
        total = float(weights.sum())
        lost, won = (float(weights[one & ~other].sum()) / total for one, other in ((before, after), (after, before)))
        return cls(lost, won, Design(rows.weights, rows.clusters).units(len(before)), len(before))


class DropLimits:
    """Limits of drops, worked out once each: those of many together take a fraction of the time of one by one.

    Source: Fay and Lumbard (2021), Statistics in Medicine 40 (:mod:`auditkit.stats.matched`).
    """

    def __init__(self) -> None:
        self._known: dict[tuple[float, float, float, float], Interval] = {}

    def prepare(self, drops: Iterable[Drop], level: float = LEVEL) -> None:
        """Work out the limits at ``level`` of those drops that have rows and are not known yet."""
        wanted = {(drop.lost, drop.won, drop.worth) for drop in drops if drop.n}
        fresh = sorted(key for key in wanted if (*key, level) not in self._known)
        if fresh:
            lost, won, worth = np.array(fresh, dtype=np.float64).T
            low, high = matched_limits(lost, won, worth, level)
            for key, least, most in zip(fresh, low.tolist(), high.tolist(), strict=True):
                self._known[*key, level] = Interval(low=least, high=most, level=level, method="matched-melded")

    def estimate(self, drop: Drop) -> LevelledEstimate:
        """The drop with its limits at any level."""
        if not drop.n:
            return undefined("no rows")

        def bounds(level: float) -> Interval:
            self.prepare([drop], level)
            return self._known[drop.lost, drop.won, drop.worth, level]

        return LevelledEstimate(drop.lost - drop.won, drop.n, bounds)
