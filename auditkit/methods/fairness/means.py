"""Means of a value (predictions, errors) in each group, with Student-t intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.intervals import mean_interval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class GroupMeans:
    """Mean of one value in every group; satisfies :class:`auditkit.methods.fairness.gaps.Estimates`."""

    value: FloatArray
    rows: IntArray
    samples: tuple[tuple[FloatArray, FloatArray | None, IntArray | None], ...]

    @property
    def fewest_freedom(self) -> float | None:
        """The fewest degrees of freedom of any group's mean."""
        units = [len(values) if clusters is None else len(np.unique(clusters)) for values, _, clusters in self.samples]
        return min(units) - 1.0 if min(units, default=0) > 1 else None

    def intervals(self, level: float) -> tuple[Interval | None, ...]:
        """The interval of each group; ``None`` below two rows or clusters."""
        return tuple(
            mean_interval(values, weights, clusters, level)[1] if len(values) else None
            for values, weights, clusters in self.samples
        )

    def limits(self, level: float, factor: FloatArray | float = 1.0) -> tuple[FloatArray, FloatArray]:
        """Student-t limits ``(G,), (G,)``, as if each group had ``factor`` times its rows; NaN below two rows."""
        low, high = np.full(len(self.rows), np.nan), np.full(len(self.rows), np.nan)
        shrink = 1.0 / np.sqrt(np.broadcast_to(np.asarray(factor, dtype=np.float64), low.shape))
        for index, interval in enumerate(self.intervals(level)):
            if interval is not None:
                mean = (interval.low + interval.high) / 2.0
                low[index] = mean - (mean - interval.low) * shrink[index]
                high[index] = mean + (interval.high - mean) * shrink[index]
        return low, high


def group_means(
    values: FloatArray,
    codes: IntArray,
    n_groups: int,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
) -> GroupMeans:
    """The (weighted) mean of ``values (n,)`` in each group ``0 .. n_groups - 1`` of ``codes (n,)``.

    >>> group_means(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 1]), 2).value.tolist()
    [2.0, 5.0]
    """
    samples = []
    for group in range(n_groups):
        rows = np.flatnonzero(codes == group)
        samples.append(
            (
                values[rows],
                None if weights is None else weights[rows],
                None if clusters is None else clusters[rows],
            )
        )
    means = [float(np.average(part, weights=mass)) if len(part) else np.nan for part, mass, _ in samples]
    return GroupMeans(
        value=np.array(means),
        rows=np.array([len(part) for part, _, _ in samples], dtype=np.int64),
        samples=tuple(samples),
    )
