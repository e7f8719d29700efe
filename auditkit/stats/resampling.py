"""Bootstrap of rows, clusters and counts, in blocks, from a generator that the caller seeds.

A statistic takes *row weights* and returns numbers, so that a resample is a matrix of counts, never a copy
of the data: ``statistic(weights (b, n)) -> (b, k)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.intervals import t_value

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Statistic = Callable[[FloatArray], FloatArray]

_BLOCK_CELLS = 4_000_000


def resample_weights(
    rng: np.random.Generator,
    n: int,
    resamples: int,
    *,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
) -> Iterator[FloatArray]:
    """Blocks ``(b, n)`` of row weights, ``resamples`` rows in all: how often each row (or its cluster) was drawn.

    Args:
        rng: Seeded generator; drawn from in a fixed order, whatever the block size holds.
        n: Rows of the data.
        resamples: Number of bootstrap resamples.
        weights: Row weights that multiply the counts.
        clusters: ``(n,)`` codes; whole clusters are drawn together.

    Source: Efron and Tibshirani (1993), chapter 6; clusters: Davison and Hinkley (1997), section 3.8.
    """
    codes = None if clusters is None else np.unique(clusters, return_inverse=True)[1]
    units = n if codes is None else int(codes.max()) + 1
    block = max(1, _BLOCK_CELLS // max(n, 1))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        picks = (np.bincount(rng.integers(0, units, units), minlength=units) for _ in range(size))
        drawn = np.stack(list(picks)).astype(np.float64)
        rows = drawn if codes is None else drawn[:, codes]
        yield rows if weights is None else rows * weights


def bootstrap(
    statistic: Statistic,
    n: int,
    rng: np.random.Generator,
    *,
    resamples: int = 1000,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
) -> FloatArray:
    """Replicates ``(resamples, k)`` of ``statistic``; undefined ones are NaN and are for the caller to count.

    >>> values = np.arange(5.0)
    >>> draws = bootstrap(lambda w: (w @ values / w.sum(axis=1))[:, None], 5, np.random.default_rng(0), resamples=20)
    >>> draws.shape
    (20, 1)
    """
    blocks = resample_weights(rng, n, resamples, weights=weights, clusters=clusters)
    return np.concatenate([np.atleast_2d(statistic(block)) for block in blocks], axis=0)


def multinomial_bootstrap(
    cells: FloatArray, statistic: Statistic, rng: np.random.Generator, *, resamples: int = 1000
) -> FloatArray:
    """Replicates ``(resamples, k)`` of a statistic of counts.

    Whole tables are drawn, so the cost does not grow with the number of rows.

    Args:
        cells: Counts, any shape; drawn as one multinomial of the same total.
        statistic: ``(resamples, cells.size) -> (resamples, k)``.
        rng: Seeded generator.
        resamples: Number of tables.

    Raises:
        ValueError: When the table is empty.
    """
    flat = np.asarray(cells, dtype=np.float64).ravel()
    total = float(flat.sum())
    if total <= 0.0:
        raise ValueError("bootstrap of an empty table")
    drawn = rng.multinomial(round(total), flat / total, size=resamples).astype(np.float64)
    return np.atleast_2d(statistic(drawn))


def expanded_tail(level: float, units: int) -> float:
    """Share of the replicates of a mean beyond each end of a percentile interval, as narrow as ``units`` make it.

    Replicates vary by ``(units - 1) / units`` of what a mean does, and have a normal law where Student's is due: few
    units need less than ``(1 - level) / 2`` beyond each end.

    Source: Hesterberg (2015), The American Statistician 69, section 5.3 (expanded percentile interval).

    >>> round(expanded_tail(0.95, 20), 4), round(expanded_tail(0.95, 100_000), 4)
    (0.0159, 0.025)
    """
    if units < 2:
        raise ValueError("one unit has no interval")
    return NormalDist().cdf(-math.sqrt(units / (units - 1)) * t_value(level, units - 1))


def percentile_interval(replicates: FloatArray, value: float, level: float = 0.95) -> Interval | None:
    """Percentile interval from replicates ``(b,)``, widened to hold ``value``; ``None`` when over 5 % are undefined.

    Source: Efron (1979).

    >>> round(percentile_interval(np.arange(101.0), 50.0, 0.9).low, 9)
    5.0
    """
    return _quantiles(replicates, value, level, ((1 - level) / 2, (1 + level) / 2), "bootstrap-percentile")


def bca_interval(replicates: FloatArray, value: float, jackknife: FloatArray, level: float = 0.95) -> Interval | None:
    """Bias-corrected and accelerated interval.

    Args:
        replicates: ``(b,)`` bootstrap replicates.
        value: The statistic on the data.
        jackknife: ``(units,)`` the statistic with one unit (row or cluster) left out at a time.
        level: Two-sided confidence level.

    Returns:
        The interval, or ``None`` when over 5 % of the replicates are undefined or the statistic never moved.

    Source: Efron (1987), JASA 82; Efron and Tibshirani (1993), section 14.3.
    """
    known = replicates[np.isfinite(replicates)]
    if len(known) == 0:
        return None
    share = (np.sum(known < value) + 0.5 * np.sum(known == value)) / len(known)
    if not 0.0 < share < 1.0:
        return None
    normal = NormalDist()
    bias = normal.inv_cdf(float(share))
    gaps = jackknife.mean() - jackknife
    scale = float((gaps**2).sum()) ** 1.5
    if scale == 0.0:
        return None
    speed = float((gaps**3).sum()) / (6.0 * scale)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        moved = bias + normal.inv_cdf(tail)
        if speed * moved >= 1.0:
            return None
        ends.append(normal.cdf(bias + moved / (1.0 - speed * moved)))
    return _quantiles(replicates, value, level, (ends[0], ends[1]), "bootstrap-bca")


def _quantiles(
    replicates: FloatArray, value: float, level: float, tails: tuple[float, float], method: str
) -> Interval | None:
    known = replicates[np.isfinite(replicates)]
    if len(known) == 0 or len(known) < 0.95 * len(replicates):
        return None
    low, high = (float(q) for q in np.quantile(known, tails))
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return Interval(low=min(low, value), high=max(high, value), level=level, method=method)
