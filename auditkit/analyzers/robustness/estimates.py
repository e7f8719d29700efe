"""Estimates with intervals for rows that may be weighted or clustered."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.core.subject import Dataset, FloatArray, IntArray
from auditkit.stats.estimate import Estimate as LevelledEstimate
from auditkit.stats.intervals import mean_interval
from auditkit.stats.linearised import proportion as share_of

LEVEL = 0.95
_MOSTLY_STANDING = "half of the attacked rows or more were never fooled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Which rows a number is about, with their weights and clusters."""

    positions: IntArray
    weights: FloatArray | None
    clusters: IntArray | None

    @classmethod
    def of(cls, data: Dataset, positions: IntArray) -> Rows:
        """The rows at ``positions`` of a data set."""
        return cls(
            positions=positions,
            weights=None if data.weights is None else data.weights[positions],
            clusters=None if data.clusters is None else data.clusters[positions],
        )

    def where(self, keep: npt.NDArray[np.bool_]) -> Rows:
        """Only the rows marked in ``keep``."""
        return Rows(
            positions=self.positions[keep],
            weights=None if self.weights is None else self.weights[keep],
            clusters=None if self.clusters is None else self.clusters[keep],
        )


def groups_of_enough(
    groups: Mapping[str, npt.NDArray[np.str_]], least: int
) -> Iterator[tuple[str, dict[str, npt.NDArray[np.bool_]]]]:
    """For each sensitive column its groups of at least ``least`` rows, by name, each as the rows that belong to it.

    Args:
        groups: Column -> ``(n,)`` the group of each row looked at.
        least: Fewest rows of a group.

    >>> [(column, sorted(found)) for column, found in groups_of_enough({"sex": np.array(["f", "m", "f"])}, 2)]
    [('sex', ['f'])]
    """
    for column, values in groups.items():
        members = {group: np.asarray(values == group) for group in sorted(set(values.tolist()))}
        yield column, {group: member for group, member in members.items() if int(member.sum()) >= least}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its interval, or the reason for what is missing."""

    value: float | None
    interval: Interval | None
    reason: str | None = None

    @classmethod
    def at(cls, found: LevelledEstimate, level: float = LEVEL) -> Estimate:
        """An estimate that has an interval at any level, at one."""
        return cls(value=found.value, interval=found.interval(level), reason=found.reason)


def levelled_proportion(hits: npt.NDArray[np.bool_], rows: Rows) -> LevelledEstimate:
    """Weighted share of ``hits`` with exact limits at any level (:func:`auditkit.stats.linearised.proportion`)."""
    return share_of(hits, rows.weights, rows.clusters)


def proportion(hits: npt.NDArray[np.bool_], rows: Rows, level: float = LEVEL) -> Estimate:
    """The same at one level."""
    return Estimate.at(levelled_proportion(hits, rows), level)


def paired_mean(values: FloatArray, rows: Rows) -> Estimate:
    """Weighted mean with a Student-t interval; a spread of zero gives no interval and says so."""
    if len(values) == 0:
        return Estimate(value=None, interval=None, reason="no rows")
    mean, interval = mean_interval(values, rows.weights, rows.clusters, LEVEL)
    if interval is None:
        return Estimate(value=mean, interval=None, reason="fewer than two rows or clusters")
    if interval.low == interval.high:
        return Estimate(value=mean, interval=None, reason="every row has the same value, which bounds nothing")
    return Estimate(value=mean, interval=interval)


def median(values: FloatArray, rows: Rows | None = None) -> Estimate:
    """Median of values that may be infinite (never fooled), with a distribution-free interval.

    Plain rows: order statistics. Weighted or clustered rows (``rows``): the weighted median, and Woodruff's interval,
    whose ends are the quantiles at the limits of the share of rows at or below the median.

    Source: Conover (1999), Practical Nonparametric Statistics, section 3.2; Woodruff (1952), JASA 47.

    >>> median(np.array([1.0, 2.0, 3.0])).value
    2.0
    """
    n = len(values)
    if n == 0:
        return Estimate(value=None, interval=None, reason="no row was attacked")
    if rows is not None and (rows.weights is not None or rows.clusters is not None):
        return _weighted_median(values, rows)
    ordered = np.sort(values)
    middle = float((ordered[(n - 1) // 2] + ordered[n // 2]) / 2.0)
    if not math.isfinite(middle):
        return Estimate(value=None, interval=None, reason=_MOSTLY_STANDING)
    from scipy.stats import binom

    rank = int(binom.ppf((1.0 - LEVEL) / 2.0, n, 0.5))
    if rank == 0:
        return Estimate(value=middle, interval=None, reason=f"{n} rows are too few for an interval of the median")
    low, high = float(ordered[rank - 1]), float(ordered[n - rank])
    return _median_between(middle, low, high, "order statistics of the median")


def _weighted_median(values: FloatArray, rows: Rows) -> Estimate:
    """The median by weight, and Woodruff's interval on the effective number of independent rows."""
    order = np.argsort(values, kind="stable")
    weights = np.ones(len(values)) if rows.weights is None else rows.weights
    reached = np.cumsum(weights[order]) / weights.sum()

    def quantile(share: float) -> float:
        # Rounding of the sums must not decide where a share of exactly one half lies.
        first, last = (min(int(np.searchsorted(reached, share + shift)), len(order) - 1) for shift in (-1e-12, 1e-12))
        return float((values[order[first]] + values[order[last]]) / 2.0)

    middle = quantile(0.5)
    if not math.isfinite(middle):
        return Estimate(value=None, interval=None, reason=_MOSTLY_STANDING)
    share = proportion(values <= middle, rows).interval
    if share is None:
        return Estimate(value=middle, interval=None, reason="one cluster only")
    half = (share.high - share.low) / 2.0
    if half >= 0.5:
        return Estimate(value=middle, interval=None, reason="too few rows or clusters for an interval of the median")
    return _median_between(middle, quantile(0.5 - half), quantile(0.5 + half), "woodruff")


def _median_between(middle: float, low: float, high: float, method: str) -> Estimate:
    if not math.isfinite(high):
        return Estimate(value=middle, interval=None, reason="the upper limit lies among rows that were never fooled")
    interval = Interval(low=min(low, middle), high=max(high, middle), level=LEVEL, method=method)
    return Estimate(value=middle, interval=interval)
