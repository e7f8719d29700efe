"""Rows that were counted as they were read, and not kept: distinct combinations with how often each occurred."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedRows:
    """Counts of ``c`` distinct combinations of groups, label, decision and score bin.

    The groups and the label of a combination stand in the data set that this belongs to, at the same position.

    Attributes:
        rows: ``(c,)`` rows of the combination.
        decided: ``(c,)`` class codes of its decision.
        bins: Equal bins of [0, 1] that scores of the positive class were put in; 0 without scores.
        score_bin: ``(c,)`` the bin, from 0.
        losses: ``log_loss`` and ``brier_score`` -> ``(c, 2)``: the sum over the rows, and the sum of squares.
    """

    rows: IntArray
    decided: IntArray
    bins: int = 0
    score_bin: IntArray
    losses: dict[str, FloatArray]

    @property
    def total(self) -> int:
        """All rows."""
        return int(self.rows.sum())

    def take(self, cells: npt.NDArray[np.bool_]) -> CountedRows:
        """Some of the combinations."""
        return CountedRows(
            rows=self.rows[cells],
            decided=self.decided[cells],
            bins=self.bins,
            score_bin=self.score_bin[cells],
            losses={name: sums[cells] for name, sums in self.losses.items()},
        )
