"""Fairness of a ranking: exposure of groups, their share of the top places, and divergence from a proportional order.

Rows are ranked by falling score. Rows with the same score share their places: each gets the mean of what those
places give, which is what a random order among them would give on average.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.methods.fairness.gaps import Kind, disparities
from auditkit.methods.fairness.worst import Gap
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.folded import both_ways, undirected
from auditkit.stats.intervals import t_value, z_value
from auditkit.stats.resampling import resample_weights

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Places:
    """Rows in their order.

    Attributes:
        level: ``(n,)`` 0 for the rows with the highest score, 1 for the next ...
        group: ``(n,)`` group codes.
        groups: Number of groups.
    """

    level: IntArray
    group: IntArray
    groups: int


def places(scores: FloatArray, group: IntArray, groups: int) -> Places:
    """Levels of ``scores (n,)``, the highest first.

    >>> places(np.array([0.2, 0.9, 0.2]), np.array([0, 1, 1]), 2).level.tolist()
    [1, 0, 1]
    """
    _, rising = np.unique(scores, return_inverse=True)
    return Places(rising.max() - rising, group, groups)


def discounts(n: int) -> FloatArray:
    """Attention paid to places 1 to ``n``: ``1 / log2(1 + place)``.

    Source: Jarvelin and Kekalainen (2002), ACM TOIS 20; Singh and Joachims (2018), section 3.1.

    >>> discounts(3).round(3).tolist()
    [1.0, 0.631, 0.5]
    """
    return np.asarray(1.0 / np.log2(1.0 + np.arange(1, n + 1)))


def relative_exposure(ranked: Places, counts: FloatArray | None = None) -> FloatArray:
    """Mean exposure of each group over the mean exposure of all rows ``(G,)``; 1 everywhere is parity.

    Args:
        ranked: The rows.
        counts: ``(n,)`` whole numbers: how often each row is there (a resample); once by default.

    Source: Singh and Joachims (2018), Fairness of exposure in rankings, section 3.2.

    >>> order = places(np.array([3.0, 2.0, 1.0]), np.array([0, 1, 1]), 2)
    >>> relative_exposure(order).round(3).tolist()
    [1.408, 0.796]
    """
    table, each = _exposures(ranked, counts)
    mass = table.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (table * each[:, None]).sum(axis=0) / mass
    return np.asarray(means / ((table.sum(axis=1) * each).sum() / mass.sum()))


def top_chances(ranked: Places, top: int) -> FloatArray:
    """Chance ``(n,)`` that each row is among the ``top`` places; a fraction only where a tie crosses the border.

    >>> top_chances(places(np.array([3.0, 1.0, 1.0]), np.zeros(3, dtype=np.int64), 1), 2).tolist()
    [1.0, 0.5, 0.5]
    """
    size = np.bincount(ranked.level)
    before = np.cumsum(size) - size
    share = np.clip((top - before) / size, 0.0, 1.0)
    return np.asarray(share[ranked.level])


def ndkl(ranked: Places) -> float:
    """Divergence of the groups' shares in every prefix of the ranking from their shares of all rows, discounted.

    ``sum_i KL(D_i || D) / log2(1 + i) / sum_i 1 / log2(1 + i)``, in nats; 0 only if every prefix is proportional, which
    no finite ranking of several groups can be. Within a tie the expected prefix is taken.

    Source: Geyik, Ambler and Kenthapadi (2019), Fairness-aware ranking in search and recommendation systems, eq. 2.

    >>> order = places(np.array([4.0, 3.0, 2.0, 1.0]), np.array([0, 1, 0, 1]), 2)
    >>> round(ndkl(order), 4)
    0.2816
    """
    n = len(ranked.level)
    table = np.bincount(ranked.level * ranked.groups + ranked.group, minlength=(ranked.level.max() + 1) * ranked.groups)
    table = table.reshape(-1, ranked.groups).astype(np.float64)
    size = table.sum(axis=1)
    rows = np.repeat(table / size[:, None], size.astype(np.int64), axis=0)
    prefix = np.cumsum(rows, axis=0) / np.arange(1, n + 1)[:, None]
    whole = table.sum(axis=0) / n
    known = whole > 0
    part = np.clip(prefix[:, known], 0.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(part > 0, part * np.log(part / whole[known]), 0.0)
    weight = discounts(n)
    return max(float((terms.sum(axis=1) * weight).sum() / weight.sum()), 0.0)


@dataclass(frozen=True, slots=True)
class Resampled:
    """A quantity of each group ``value (G,)`` with bootstrap replicates ``draws (b, G)``, NaN where undefined.

    Attributes:
        value: The quantity, 1 on average.
        draws: Its replicates.
        least: ``(G,)`` variance that it would have if the places had nothing to do with the groups, each group drawn
            from all rows with replacement. By chance the few top places may hold no row of a group: its exposure and
            the spread of its replicates are then too small together, and its limits with them.
        whole: The same of all rows, which the places are shared among.
        units: ``(G,)`` rows (clusters) of each group: the spread of its replicates is an estimate from so many.
        acceleration: ``(G,)`` how fast the spread of the log grows with the log itself, for quantities whose limits are
            uneven on the log scale too: what divides by a mean of few rows is spread widely where it is large, and the
            spread seen where it came out small is too narrow.
    """

    value: FloatArray
    draws: FloatArray
    least: FloatArray
    whole: float
    units: IntArray
    acceleration: FloatArray | None = None

    def half(self, group: int, seen: float, level: float) -> float:
        """Half the interval of a group's log at ``level``, from the ``seen`` standard deviation of its replicates."""
        units = int(self.units[group])
        least = math.sqrt(max(float(self.least[group]) - self.whole, 0.0))
        return t_value(level, units - 1) * max(seen * math.sqrt(units / (units - 1)), least)

    def shift(self, group: int, logs: FloatArray, level: float) -> float:
        """How many standard deviations the limits of a group's log move up, from the replicates' ``logs``.

        The second-order difference between the limits of BCa and those that are even about the log: from the bias and
        the skewness of the replicates, and from the acceleration.

        Source: DiCiccio and Efron (1996), Bootstrap confidence intervals, Statistical Science 11, sections 2 and 4.
        """
        if self.acceleration is None:
            return 0.0
        spread, z = float(logs.std()), z_value(level)
        bias = (float(logs.mean()) - math.log(self.value[group])) / spread
        skewness = float((((logs - logs.mean()) / spread) ** 3).mean())
        return float(skewness * (z**2 + 1.0) / 6.0 + self.acceleration[group] * z**2 - bias)

    def pair_half(self, left: IntArray, right: IntArray, seen: FloatArray, level: float) -> FloatArray:
        """The same of the difference (of the logs) of two groups."""
        units = np.minimum(self.units[left], self.units[right])
        quantile = np.array([t_value(level, int(each) - 1) for each in units])
        spread = np.maximum(seen * np.sqrt(units / (units - 1)), np.sqrt(self.least[left] + self.least[right]))
        return np.asarray(quantile * spread)


def bootstrap_exposure(
    ranked: Places,
    rng: np.random.Generator,
    *,
    merit: FloatArray | None = None,
    clusters: IntArray | None = None,
    resamples: int = 200,
) -> Iterator[Resampled]:
    """Relative exposure, and with ``merit (n,)`` exposure for each unit of merit, over resampled rankings.

    Rows (or clusters) are drawn with replacement and ranked anew. The second quantity divides a group's relative
    exposure by its mean merit relative to that of all rows. A tenth of all limits from the replicates alone lie on the
    wrong side of the truth where 2.5 % should, which the least variance mends (``Resampled.least``).

    Source: Singh and Joachims (2018), section 4.2 (disparate treatment), for exposure against merit.
    """
    n = len(ranked.level)
    kept: tuple[list[FloatArray], list[FloatArray]] = ([], [])
    for block in resample_weights(rng, n, resamples, clusters=clusters):
        for counts in block:
            exposure = relative_exposure(ranked, counts)
            kept[0].append(exposure)
            if merit is not None:
                kept[1].append(exposure / _relative(merit, ranked, counts))
    exposure, attention = relative_exposure(ranked), _exposures(ranked, None)[1][ranked.level]
    attention = attention / attention.mean()
    units = _units(ranked, clusters)
    yield Resampled(exposure, np.array(kept[0]), *_least(attention, ranked, clusters), units)
    if merit is not None:
        deserved = merit / merit.mean() if merit.any() else merit
        value = exposure / _relative(merit, ranked, np.ones(n))
        least = _least(attention - deserved, ranked, clusters)
        yield Resampled(value, np.array(kept[1]), *least, units, _acceleration(attention, merit, ranked, clusters))


def _acceleration(attention: FloatArray, merit: FloatArray, ranked: Places, clusters: IntArray | None) -> FloatArray:
    """Acceleration ``(G,)`` of the log of each group's mean ``attention (n,)`` over its mean ``merit (n,)``: a sixth of
    the skewness of what each row (cluster) adds to it.

    Source: Efron (1987), Better bootstrap confidence intervals, JASA 82, section 6.
    """
    found = np.zeros(ranked.groups)
    for code in range(ranked.groups):
        own = ranked.group == code
        if not merit[own].any():
            continue
        pull = attention[own] / attention[own].mean() - merit[own] / merit[own].mean()
        if clusters is not None:
            pull = np.bincount(np.unique(clusters[own], return_inverse=True)[1], weights=pull)
        square = float((pull**2).sum())
        found[code] = float((pull**3).sum()) / (6.0 * square**1.5) if square > 0.0 else 0.0
    return found


def _units(ranked: Places, clusters: IntArray | None) -> IntArray:
    """Rows, or clusters, of each group ``(G,)``."""
    if clusters is None:
        return np.bincount(ranked.group, minlength=ranked.groups).astype(np.int64)
    return np.array([len(np.unique(clusters[ranked.group == code])) for code in range(ranked.groups)], dtype=np.int64)


def _least(each: FloatArray, ranked: Places, clusters: IntArray | None) -> tuple[FloatArray, float]:
    """Variance of the mean of ``each (n,)`` in groups ``(G,)`` of rows that are there by chance, and of all rows.

    Rows of a cluster stay together: their covariance is that of the pairs of rows of one cluster.
    """
    moved = each - each.mean()
    own = np.bincount(ranked.group, minlength=ranked.groups).astype(np.float64)
    single = float((moved**2).mean())
    if clusters is None:
        return single / own, single / len(each)
    _, code = np.unique(clusters, return_inverse=True)
    size, sums = np.bincount(code), np.bincount(code, weights=moved)
    pairs = float((size**2 - size).sum())
    shared = min(max((float((sums**2).sum()) - single * len(each)) / pairs, 0.0), single) if pairs else 0.0
    held = np.zeros((len(size), ranked.groups))
    np.add.at(held, (code, ranked.group), 1.0)
    together = (held**2).sum(axis=0) - own
    return (single + shared * together / own) / own, (single + shared * pairs / len(each)) / len(each)


def group_estimate(found: Resampled, group: int, n: int) -> Estimate:
    """One group's value with a Student interval on the log scale, its spread from the replicates.

    Where the quantity knows how uneven it is, the limit that lies too near is moved out; the other stays.
    """
    value, draws = float(found.value[group]), found.draws[:, group]
    if not math.isfinite(value):
        return undefined("the group has no merit to divide by", n)
    known = np.log(draws[np.isfinite(draws) & (draws > 0)])
    if found.units[group] < 2 or value <= 0.0 or len(known) < 0.95 * len(draws) or float(known.std()) <= 1e-12:
        return Estimate(value, n, None, "too few rows of the group for an interval")
    seen = float(known.std(ddof=1))

    def bounds(level: float) -> Interval:
        half, shift = found.half(group, seen, level), seen * found.shift(group, known, level)
        return Interval(
            low=value / math.exp(min(half + max(-shift, 0.0), 700.0)),
            high=value * math.exp(min(half + max(shift, 0.0), 700.0)),
            level=level,
            method="bootstrap-log-t-shifted" if shift else "bootstrap-log-t",  # the value is then not in the middle
            degrees_of_freedom=int(found.units[group]) - 1,
        )

    return Estimate(value, n, bounds)


def worst_pair(found: Resampled, kind: Kind, level: float = 0.95) -> Gap:
    """Worst difference or ratio over pairs of groups, whose values hang together because places are shared.

    Each pair's difference (or log ratio) has a Student interval with the spread of its own replicates, so the groups'
    dependence is in it. The far limit is the worst of the pairs', the near one is corrected for their number.

    Source: Berger (1982), Technometrics 24 (intersection-union); Efron and Tibshirani (1993), chapter 13.
    """
    value = found.value
    if len(value) < 2:
        return Gap(None, None, None, "there is only one group to compare")
    if not np.isfinite(value).all() or (kind == "ratio" and (value <= 0).any()):
        return Gap(None, None, None, "undefined in a group")
    left, right = np.triu_indices(len(value), 1)
    each = disparities(value, left.astype(np.int64), right.astype(np.int64), kind)
    worst = int(np.argmax(each) if kind == "difference" else np.argmin(each))
    pair, point = (int(left[worst]), int(right[worst])), float(each[worst])
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.log if kind == "ratio" else np.asarray
        center = scale(value)[left] - scale(value)[right]
        moved = scale(found.draws)[:, left] - scale(found.draws)[:, right]
    known = np.isfinite(moved)
    if (known.mean(axis=0) < 0.95).any():
        return Gap(point, None, pair, "a group has too few rows for an interval")
    spread = np.array([float(column[good].std(ddof=1)) for column, good in zip(moved.T, known.T, strict=True)])
    if (found.units < 2).any():
        return Gap(point, None, pair, "a group has too few rows for an interval")
    if (spread <= 1e-12).any():
        return Gap(point, None, pair, "a group never moves when resampled, so there is no interval")
    left, right = left.astype(np.int64), right.astype(np.int64)
    shared = 1.0 - (1.0 - level) / len(left)
    wide, closer, strict = (
        (center - half, center + half)
        for half in (found.pair_half(left, right, spread, at) for at in (level, shared, both_ways(shared)))
    )
    far = float(undirected(center, wide, strict, "difference", level)[1].max())
    near = float(undirected(center, closer, strict, "difference", shared)[0].max())
    low, high = (near, far) if kind == "difference" else (math.exp(-far), math.exp(-near))
    interval = Interval(
        low=min(low, point),
        high=max(high, point),
        level=level,
        method="bootstrap-simultaneous",
        degrees_of_freedom=int(found.units.min()) - 1,
    )
    return Gap(point, interval, pair)


def permuted(ranked: Places, rng: np.random.Generator, permutations: int) -> Iterator[tuple[float, float]]:
    """NDKL and the worst log ratio of exposures, first as observed, then with the groups shuffled over the places."""
    group = ranked.group
    for turn in range(permutations + 1):
        order = ranked if turn == 0 else Places(ranked.level, rng.permutation(group), ranked.groups)
        exposure = np.log(relative_exposure(order))
        yield ndkl(order), float(exposure.max() - exposure.min())


def _relative(merit: FloatArray, ranked: Places, counts: FloatArray) -> FloatArray:
    mass = np.bincount(ranked.group, weights=counts, minlength=ranked.groups)
    sums = np.bincount(ranked.group, weights=counts * merit, minlength=ranked.groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = sums / mass / (sums.sum() / mass.sum())
    return np.asarray(np.where(relative > 0, relative, np.nan))


def _exposures(ranked: Places, counts: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Rows by level and group ``(l, G)``, and the exposure of one row of each level ``(l,)``."""
    size = (int(ranked.level.max()) + 1) * ranked.groups
    table = np.bincount(ranked.level * ranked.groups + ranked.group, weights=counts, minlength=size)
    table = np.asarray(table.reshape(-1, ranked.groups), dtype=np.float64)
    held = np.rint(table.sum(axis=1)).astype(np.int64)
    ends = np.cumsum(held)
    upto = np.concatenate([[0.0], np.cumsum(discounts(int(ends[-1])))])
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(held > 0, (upto[ends] - upto[ends - held]) / held, 0.0)
    return np.asarray(table, dtype=np.float64), np.asarray(each, dtype=np.float64)
