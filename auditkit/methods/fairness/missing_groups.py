"""What a disparity can be when the group of some rows is unknown: sharp bounds over every way to fill it in.

Nothing is assumed about why values are missing; only that each row belongs to one of the groups that are seen.
With ``h`` hits among ``d`` rows of a group and ``H`` hits and ``M`` misses without one, the group's rate can be
anything from ``h / (d + M)`` to ``(h + H) / (d + H)``.

Source: Manski (2003), Partial Identification of Probability Distributions, chapter 1; Kallus, Mao and Zhou (2022),
Assessing algorithmic fairness with unobserved protected class, Management Science 68.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.methods.fairness.expected_rates import CellRates
from auditkit.methods.fairness.gaps import Kind
from auditkit.stats.linearised import PLAIN, Design, proportion
from auditkit.stats.melded import melded_limits

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Tally:
    """Hits ``(G,)`` and rows ``(G,)`` of the groups that are known; hits and misses of rows without a group."""

    hits: FloatArray
    rows: FloatArray
    free_hits: float
    free_misses: float


@dataclass(frozen=True, slots=True)
class Region:
    """The least and the largest disparity that some filling-in gives, and an interval that covers both."""

    best: float | None
    worst: float | None
    interval: Interval | None = None
    reason: str | None = None


def tally(hit: BoolArray, codes: IntArray, count: int, design: Design = PLAIN) -> Tally:
    """Counts (or sums of weights) of ``hit (n,)`` by ``codes (n,)``, ``-1`` where the group is unknown."""
    w = design.masses(len(hit))
    known = codes != UNKNOWN
    return Tally(
        np.bincount(codes[known], weights=(w * hit)[known], minlength=count).astype(np.float64),
        np.bincount(codes[known], weights=w[known], minlength=count).astype(np.float64),
        float((w * hit)[~known].sum()),
        float((w * ~hit)[~known].sum()),
    )


def disparity_bounds(cells: Tally, kind: Kind = "difference") -> tuple[float, float]:
    """Least and most uneven value of the disparity over all ways to fill in the unknown groups.

    The most uneven one gives every free hit to one group and every free miss to another. For the least uneven one,
    all rates must lie in a band from ``t`` to ``u``. Groups below ``t`` then need ``sum max(0, (t d - h) / (1 - t))``
    free hits, those above ``u`` need ``sum max(0, (h - u d) / u)`` free misses, and the rate of all rows lies in the
    band. These conditions also suffice, because the sets of fillings that put one group in the band all have the same
    four edge directions, so that their sum has no others. ``t`` and ``u`` are thus found apart. Rows may be split (as
    weights allow); with whole rows the least disparity is larger by less than one row.

    Returns:
        ``(best, worst)``: for a difference the smallest and the largest, for a ratio the largest and the smallest.

    >>> cells = Tally(np.array([30.0, 20.0]), np.array([50.0, 50.0]), 5.0, 5.0)
    >>> [round(v, 4) for v in disparity_bounds(cells)]
    [0.0909, 0.2727]
    """
    low, high = rate_ranges(cells)
    gaps = high[:, None] - low[None, :]
    np.fill_diagonal(gaps, -np.inf)
    overall = (cells.hits.sum() + cells.free_hits) / (cells.rows.sum() + cells.free_hits + cells.free_misses)
    bottom = min(_level(cells.hits, cells.rows, cells.free_hits), overall)
    top = max(1.0 - _level(cells.rows - cells.hits, cells.rows, cells.free_misses), overall)
    if kind == "difference":
        return float(max(top - bottom, 0.0)), float(gaps.max())
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(high[:, None] > 0, low[None, :] / high[:, None], np.nan)
    np.fill_diagonal(ratios, np.nan)
    return float(bottom / top) if top > 0 else np.nan, float(np.nanmin(ratios)) if top > 0 else np.nan


def rate_ranges(cells: Tally) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest rate ``(G,), (G,)`` that each group can have."""
    return cells.hits / (cells.rows + cells.free_misses), (cells.hits + cells.free_hits) / (
        cells.rows + cells.free_hits
    )


def disparity_region(
    hit: BoolArray, codes: IntArray, count: int, kind: Kind = "difference", design: Design = PLAIN, level: float = 0.95
) -> Region:
    """Bounds of a disparity with an interval that covers all of them and the sampling error.

    A group's highest rate is the share of hits among its rows and the free hits, its lowest that among its rows and
    the free misses. Of two groups these are shares of disjoint rows, so that pairs have exact limits (melded).
    The far limit is the worst of the pairs'; the near one uses that every disparity is at least one group's lowest
    rate less another's highest, corrected for the directed pairs. With nothing missing it is the usual interval.

    Args:
        hit: ``(n,)`` what the rate counts.
        codes: ``(n,)`` groups ``0 .. count - 1``, ``-1`` unknown.
        count: Number of groups.
        kind: ``difference`` or ``ratio``.
        design: Weights and clusters.
        level: Two-sided level.

    Source: as above; Fay, Proschan and Brittain (2015); Berger (1982); Imbens and Manski (2004), Econometrica 72, on
    intervals that cover the region.
    """
    if count < 2:
        return Region(None, None, reason="there is only one group to compare")
    cells = tally(hit, codes, count, design)
    if (cells.rows == 0).any():
        return Region(None, None, reason="a group has no row that the rate counts")
    best, worst = disparity_bounds(cells, kind)
    if not np.isfinite([best, worst]).all():
        return Region(None, None, reason="the ratio of two rates that are both 0 is undefined")
    free = codes == UNKNOWN
    lows, highs = (
        CellRates(tuple(proportion(hit[r], design.take(r).weights, design.take(r).clusters) for r in rows))
        for rows in (
            [np.flatnonzero((codes == g) | (free & ~hit)) for g in range(count)],
            [np.flatnonzero((codes == g) | (free & hit)) for g in range(count)],
        )
    )
    strict = 1 - (1 - level) / (count * (count - 1))
    if not np.isfinite([*lows.limits(strict), *highs.limits(strict)]).all():
        return Region(best, worst, None, "a group has too few rows or clusters for an interval")
    ends = _far(lows, highs, kind, level), _near(lows, highs, kind, strict)
    if kind == "difference":
        low, high = min(max(ends[1], 0.0), best), max(min(ends[0], 1.0), worst)
    else:
        low, high = min(max(ends[0], 0.0), worst), max(min(ends[1], 1.0), best)
    return Region(best, worst, Interval(low=low, high=high, level=level, method="partial-identification-melded"))


def _level(hits: FloatArray, rows: FloatArray, free: float) -> float:
    """The highest ``t`` to which ``free`` hits can lift every rate: ``sum max(0, (t d - h) / (1 - t)) = free``."""
    rate = np.sort(hits / rows)
    order = np.argsort(hits / rows)
    h, d = np.cumsum(hits[order]), np.cumsum(rows[order])
    # With the k lowest groups lifted to t: t D - H = free (1 - t), so t = (free + H) / (D + free).
    t = (free + h) / (d + free)
    upto = np.append(rate[1:], 1.0)
    fits = np.flatnonzero(t <= upto + 1e-15)
    return float(t[fits[0]]) if len(fits) else 1.0


def _far(lows: CellRates, highs: CellRates, kind: Kind, level: float) -> float:
    """Limit on the side of the worst filling-in: one group as high, another as low as they can be."""
    found = _limits(highs, lows, kind, level)
    return float(found[1].max()) if kind == "difference" else float(np.nan_to_num(found[0], nan=0.0).min())


def _near(lows: CellRates, highs: CellRates, kind: Kind, level: float) -> float:
    """Limit on the side of the best one: no filling-in brings one group's lowest rate below another's highest."""
    found = _limits(lows, highs, kind, level)
    if kind == "difference":
        return float(found[0].max())
    return float(np.minimum(np.nan_to_num(found[1], nan=1.0, posinf=1.0), 1.0).min())


def _limits(first: CellRates, second: CellRates, kind: Kind, level: float) -> tuple[FloatArray, FloatArray]:
    """Exact limits over ordered pairs of ``first[i] - second[j]``, or of ``second[j] / first[i]``."""
    i, j = np.nonzero(~np.eye(len(first.value), dtype=bool))
    j = j + len(first.value)
    both = [side for side in (first.exact(level), second.exact(level)) if side is not None]
    shares, rows, odds = (np.concatenate(pair) for pair in zip(*both, strict=True))
    return melded_limits(shares, rows, *((i, j) if kind == "difference" else (j, i)), kind, level, odds)
