"""Count metrics of groups: a table of formulas on the cells, their variances and intervals.

Every metric is the mean of one or more rates ``(a . c) / (b . c)`` that are linear in the cells ``c`` above
and below the line, so that one delta-method formula serves all of them, for plain, weighted and
clustered rows alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts, Interval
from auditkit.methods.fairness.metric_table import METRICS, Coefficients, CountMetric
from auditkit.stats.effective import Squares, Turning, corrected_rows, effective_rows
from auditkit.stats.intervals import z_value
from auditkit.stats.mean_shares import correlations, mean_limits, mean_method
from auditkit.stats.melded import exact_limits, melded_limits

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Quadratic = Callable[[FloatArray], FloatArray]
# Shares, their effective rows, and how many times the odds of each share those of the value are; all ``(G,)``.
Exact = tuple[FloatArray, FloatArray, FloatArray]
_OTHER_WAY = {"tp": "fn", "fn": "tp", "fp": "tn", "tn": "fp"}


@dataclass(frozen=True, kw_only=True)
class Rates:
    """One metric for every group of a :class:`Counts`.

    Attributes:
        value: ``(G,)``; NaN where undefined (never leaves this package: readers see ``None``).
        rows: ``(G,)`` rows below the line.
        parts: ``(G, J)`` the rates whose mean the value is.
        effective: ``(G, J)`` effective rows of each part (of the share behind it, where ``odds`` is not 1).
        freedom: ``(G, J)`` degrees of freedom of each part's variance; infinite without clusters.
        correlation: ``(G, J, J)`` of the parts over clusters; ``None`` where no two parts have a row in common.
        odds: The odds of each part are this many times those of the share that has the exact limits.
        undefined: Why the value of a group is undefined, or ``None``.
        plain: Whether effective rows are rows: neither weights nor clusters.
        over: The columns that the groups are groups of.
        code: The class taken as positive, where one is.
    """

    metric: str
    groups: tuple[tuple[str, ...], ...]
    value: FloatArray
    rows: IntArray
    parts: FloatArray
    effective: FloatArray
    freedom: FloatArray
    undefined: tuple[str | None, ...]
    plain: bool = True
    over: tuple[str, ...] = ()
    code: int | None = None
    correlation: FloatArray | None = None
    odds: float = 1.0

    @property
    def method(self) -> str:
        """How :meth:`limits` are made."""
        clustered = "-clustered" if np.isfinite(self.freedom).any() else ""
        name = "clopper-pearson" if self.plain else f"korn-graubard{clustered}"
        name = name if self.odds == 1.0 else f"{name}-mapped"
        return name if self.is_one_rate else mean_method(name)

    @property
    def fewest_freedom(self) -> float | None:
        """The fewest degrees of freedom behind any group's limits; ``None`` without clusters."""
        known = self.freedom[np.isfinite(self.freedom) & (self.freedom > 0.0)]
        return float(known.min()) if known.size else None

    @property
    def shares(self) -> FloatArray:
        """``(G, J)`` the shares that have the exact limits: the parts themselves, but for F1."""
        return times_odds(self.parts, 1.0 / self.odds)

    def sizes(self, level: float) -> FloatArray:
        """``(G, J)`` effective rows for limits at ``level``: with clusters, scaled by ``(z / t)^2`` for Student's t."""
        return corrected_rows(self.effective, self.freedom, level)

    def limits(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Interval limits ``(G,), (G,)`` at two-sided ``level``; NaN where there is no value or interval."""
        return rates_limits([(self, level)])[0]

    @property
    def is_one_rate(self) -> bool:
        """Whether the value is a rate itself, and no mean of rates."""
        return bool(self.parts.shape[1] == 1)

    def exact(self, level: float) -> Exact | None:
        """The shares with exact limits at ``level`` that the values are; ``None`` for means of rates."""
        if not self.is_one_rate:
            return None
        return self.shares[:, 0], self.sizes(level)[:, 0], np.full(len(self.value), self.odds)

    def directed_limits(
        self, left: IntArray, right: IntArray, kind: Literal["difference", "ratio"], level: float
    ) -> tuple[FloatArray, FloatArray] | None:
        """Exact limits ``(m,), (m,)`` of ``left - right`` or ``left / right``, or ``None`` for a mean of rates.

        Source: Fay, Proschan and Brittain (2015), Biometrics 71.
        """
        exact = self.exact(level)
        return None if exact is None else melded_limits(*exact[:2], left, right, kind, level, exact[2])

    def rough_limits(self, level: float, factor: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """Wilson's limits ``(G,), (G,)`` if each group had ``factor`` times its rows: fast, for planning."""
        scale = np.broadcast_to(np.asarray(factor, dtype=np.float64), self.value.shape)
        return _combined(self, *wilson_limits(self.shares, self.sizes(level) * scale[:, None], z_value(level)))

    def joined(self, other: Rates) -> Rates:
        """The groups of both, as if they were one table."""
        fields = ["value", "rows", "parts", "effective", "freedom"]
        if self.correlation is not None and other.correlation is not None:
            fields.append("correlation")
        arrays: dict[str, Any] = {n: np.concatenate([getattr(self, n), getattr(other, n)]) for n in fields}
        return replace(
            self,
            groups=(*self.groups, *other.groups),
            undefined=(*self.undefined, *other.undefined),
            plain=self.plain and other.plain,
            **arrays,
        )

    def take(self, groups: Sequence[int]) -> Rates:
        """The same for some of the groups."""
        index = list(groups)
        return replace(
            self,
            groups=tuple(self.groups[group] for group in index),
            value=self.value[index],
            rows=self.rows[index],
            parts=self.parts[index],
            effective=self.effective[index],
            freedom=self.freedom[index],
            correlation=None if self.correlation is None else self.correlation[index],
            undefined=tuple(self.undefined[group] for group in index),
        )

    def interval(self, group: int, level: float) -> Interval | None:
        """The interval of one group, or ``None``."""
        return self.take([group]).intervals(level)[0]

    def intervals(self, level: float) -> tuple[Interval | None, ...]:
        """The interval of each group, or ``None`` where there is none."""
        return rates_intervals([self], level)[0]


def group_rates(counts: Counts, metric: str, class_code: int | None = None) -> Rates:
    """The ``metric`` of every group of ``counts``, with its variance by the delta method.

    Args:
        counts: The cells.
        metric: A name of :data:`METRICS`.
        class_code: The class taken as positive; ``None`` for ``counts.positive``. Pooled metrics ignore it.

    Raises:
        UsageError: AK402 unknown metric; AK403 no positive class.

    Source: Binder (1983) for the linearised variance; Korn and Graubard (1998) for effective rows.
    """
    k = len(counts.classes)
    code = counts.positive if class_code is None else class_code
    above, below = metric_vectors(metric, k, code)
    spec = METRICS[metric]
    n = np.asarray(counts.n, dtype=np.float64).reshape(-1, k * k)
    mass = n if counts.weight is None else np.asarray(counts.weight, dtype=np.float64).reshape(-1, k * k)
    quadratic = _quadratic(counts, n)

    # The share behind the metric, of rows that each count once.
    hits, every = above / spec.odds, below - above + above / spec.odds
    top, bottom = mass @ hits.T, mass @ every.T
    rows = n @ (below > 0).any(axis=0)
    defined = np.asarray((n @ (below > 0).T > 0).all(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(bottom > 0, top / bottom, np.nan)
        linear = np.nan_to_num((hits - shares[..., None] * every) / bottom[..., None])
        spread = bottom**2 / quadratic(np.broadcast_to(every, (len(n), *every.shape)))
    variance = np.maximum(quadratic(linear), _least_variance(counts, (hits, every), shares, quadratic, n))
    turning = _turning(counts, spec, code, shares, quadratic, n)
    if turning is not None:
        variance = np.maximum(variance, turning.least_variance(bottom))
        spread = turning.spread(shares, bottom, spread)
    effective, freedom = effective_rows(shares, variance, spread, counts.moment is not None)
    parts = times_odds(shares, spec.odds)
    return Rates(
        metric=metric,
        groups=counts.groups,
        value=np.where(defined, parts.mean(axis=1), np.nan),
        rows=rows.astype(np.int64),
        parts=parts,
        effective=effective,
        freedom=freedom,
        undefined=tuple(None if good else _why_undefined(spec) for good in defined),
        plain=counts.weight is None and counts.moment is None,
        over=counts.over,
        code=code,
        correlation=_correlation(counts, linear),
        odds=spec.odds,
    )


def times_odds(share: FloatArray, odds: float) -> FloatArray:
    """``share`` with its odds multiplied by ``odds``.

    >>> times_odds(np.array([0.5, 1.0]), 2.0).round(4).tolist()
    [0.6667, 1.0]
    """
    return share if odds == 1.0 else np.asarray(odds * share / (1.0 + (odds - 1.0) * share))


def rates_limits(asked: Sequence[tuple[Rates, float]]) -> list[tuple[FloatArray, FloatArray]]:
    """Limits ``(G,), (G,)`` of each of several metrics at its level, all in one go.

    Clopper and Pearson's exact limits of each part on its effective rows, combined for a mean of parts by MOVER.

    Source: Clopper and Pearson (1934); on effective rows: Korn and Graubard (1998); Zou and Donner (2008) for the
    combination.
    """
    if not asked:
        return []
    shares = np.concatenate([rates.shares.ravel() for rates, _ in asked])
    sizes = np.concatenate([rates.sizes(level).ravel() for rates, level in asked])
    level_of = np.repeat([level for _, level in asked], [rates.parts.size for rates, _ in asked])
    ends = np.cumsum([rates.parts.size for rates, _ in asked])[:-1]
    low, high = (np.split(limit, ends) for limit in exact_limits(shares, sizes, level_of))
    return [
        _combined(rates, one.reshape(rates.parts.shape), two.reshape(rates.parts.shape))
        for (rates, _), one, two in zip(asked, low, high, strict=True)
    ]


def rates_intervals(asked: Sequence[Rates], level: float) -> list[tuple[Interval | None, ...]]:
    """The interval of each group of each of several metrics, or ``None`` where there is none."""
    return [
        tuple(
            Interval(low=low, high=high, level=level, method=rates.method, degrees_of_freedom=freedom)
            if math.isfinite(low) and math.isfinite(high)
            else None
            for (low, high), freedom in zip(np.transpose(limits).tolist(), _counted(rates), strict=True)
        )
        for rates, limits in zip(asked, rates_limits([(rates, level) for rates in asked]), strict=True)
    ]


def _counted(rates: Rates) -> list[float | None]:
    """Degrees of freedom of each group, the fewest of its parts; ``None`` without clusters."""
    return [least if math.isfinite(least) else None for least in rates.freedom.min(axis=1).tolist()]


def _combined(rates: Rates, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Limits of the mean of the parts, from those of the shares behind them, ``low (G, J)`` and ``high (G, J)``."""
    return mean_limits(rates.parts, times_odds(low, rates.odds), times_odds(high, rates.odds), rates.correlation)


def wilson_limits(p: FloatArray, n: FloatArray, z: float) -> tuple[FloatArray, FloatArray]:
    """Wilson's score limits, element by element; NaN where ``n`` is not above 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.where(n > 0, n, np.nan)
        shrink = 1.0 + z * z / n
        center = (p + z * z / (2 * n)) / shrink
        half = z / shrink * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low = np.where(p <= 0, 0.0, np.maximum(center - half, 0.0))
        high = np.where(p >= 1, 1.0, np.minimum(center + half, 1.0))
    low, high = np.where(np.isnan(n), np.nan, low), np.where(np.isnan(n), np.nan, high)
    return np.minimum(low, p), np.maximum(high, p)


def metric_vectors(metric: str, k: int, positive: int | None) -> tuple[FloatArray, FloatArray]:
    """``(J, k*k)`` coefficients above and below the line, over cells ``label * k + decision``.

    Raises:
        UsageError: AK402 unknown metric; AK403 no positive class.
    """
    if metric not in METRICS:
        raise UsageError("AK402", f"there is no count metric {metric!r}", fix=f"one of {', '.join(METRICS)}")
    spec = METRICS[metric]
    if spec.pooled and (k > 2 or positive is None):
        return _pooled_vectors(spec.name, k)
    if positive is None:
        raise UsageError("AK403", f"{spec.name} needs a positive class", fix="name it with positive=")
    if not 0 <= positive < k:
        raise UsageError("AK403", f"the positive class code {positive} is not one of {k} classes")
    flat = _kinds(k, positive)

    def weigh(coefficients: Coefficients) -> list[float]:
        return [float(coefficients.get(cell, 0.0)) for cell in flat]

    return np.array([weigh(c) for c in spec.above]), np.array([weigh(c) for c in spec.below])


def _kinds(k: int, positive: int) -> list[str]:
    """Which of the four cells of one class against the rest each of the ``k * k`` cells belongs to."""
    kind = np.full((k, k), "tn", dtype="<U2")
    kind[positive, :] = "fn"
    kind[:, positive] = "fp"
    kind[positive, positive] = "tp"
    return [str(cell) for cell in kind.ravel()]


def _pooled_vectors(name: str, k: int) -> tuple[FloatArray, FloatArray]:
    right = np.eye(k).ravel()
    if name == "balanced_accuracy":
        rows = np.repeat(np.eye(k), k, axis=1)
        return rows * right, rows
    return (right if name == "accuracy" else 1.0 - right)[None, :], np.ones((1, k * k))


def _quadratic(counts: Counts, n: FloatArray) -> Quadratic:
    """``u -> u' M u`` per group and part, ``M`` the second moments of the cells, for ``u (G, J, k*k)``."""
    if counts.moment is not None:
        moment = np.asarray(counts.moment, dtype=np.float64)
        return lambda u: np.asarray(np.einsum("gjc,gcd,gjd->gj", u, moment, u, optimize=True))
    second = n if counts.weight_sq is None else np.asarray(counts.weight_sq, dtype=np.float64).reshape(n.shape)
    return lambda u: np.asarray(np.einsum("gjc,gc->gj", u**2, second))


def _least_variance(
    counts: Counts, shape: tuple[FloatArray, FloatArray], shares: FloatArray, quadratic: Quadratic, n: FloatArray
) -> FloatArray:
    """``(G, J)`` the least variance that each share can have, see :mod:`auditkit.stats.effective`."""
    hits, every = shape
    mass = n if counts.weight is None else np.asarray(counts.weight, dtype=np.float64).reshape(n.shape)
    second = n if counts.weight_sq is None else np.asarray(counts.weight_sq, dtype=np.float64).reshape(n.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole, hit, both = (
            quadratic(np.broadcast_to(side, (len(n), *side.shape))) for side in (every, hits, every + hits)
        )
        squares = Squares(second @ every.T, second @ hits.T, whole, hit, (both - whole - hit) / 2.0)
        return np.nan_to_num(squares.least_variance(shares, mass @ every.T))


def _turning(
    counts: Counts, spec: CountMetric, code: int | None, shares: FloatArray, quadratic: Quadratic, n: FloatArray
) -> Turning | None:
    """How each group's share moves as its clusters turn, arrays ``(G, 1)``; ``None`` where decisions do not choose the
    rows below the line, or rows are independent."""
    if counts.moment is None or code is None or spec.pooled:
        return None
    kinds = _kinds(len(counts.classes), code)
    now, turned = (
        np.array([[of.get(kind, 0.0) for kind in each] for of in (spec.above[0], spec.below[0])], dtype=np.float64)
        for each in (kinds, [_OTHER_WAY[kind] for kind in kinds])
    )
    if np.array_equal(now[1], turned[1]):
        return None
    mass = n if counts.weight is None else np.asarray(counts.weight, dtype=np.float64).reshape(n.shape)
    second = n if counts.weight_sq is None else np.asarray(counts.weight_sq, dtype=np.float64).reshape(n.shape)
    # Hits, and rows that each count once, of the share behind the metric.
    (hits, below), (other_hits, other_below) = (
        (side[0] / spec.odds, side[1] - side[0] + side[0] / spec.odds) for side in (now, turned)
    )
    move = np.nan_to_num(np.abs(hits - other_hits - shares * (below - other_below)))
    right, positive = (np.array([float(kind in of) for kind in kinds]) for of in (("tp", "tn"), ("tp", "fn")))
    total = mass.sum(axis=1, keepdims=True)
    spread = np.zeros_like(move)
    for label in (positive, 1.0 - positive):
        failed = (mass @ (label * (1.0 - right))) / np.maximum(mass @ label, 1e-300)
        spread += move * label * np.sqrt(failed * (1.0 - failed))[:, None]

    def square(side: FloatArray) -> FloatArray:
        return quadratic(np.broadcast_to(side, (len(n), 1, len(kinds))))

    whole, hit, both = square(np.ones(len(kinds))), square(right), square(1.0 + right)
    own = second.sum(axis=1, keepdims=True), (second @ right)[:, None]
    return Turning(
        right=(mass @ right)[:, None] / np.maximum(total, 1e-300),
        total=total,
        squares=Squares(*own, whole, hit, (both - whole - hit) / 2.0),
        moved=(mass * move).sum(axis=1, keepdims=True),
        clusters=quadratic(move[:, None, :]),
        spread_rows=(second * spread**2).sum(axis=1, keepdims=True),
        spread_clusters=quadratic(spread[:, None, :]),
    )


def _correlation(counts: Counts, linear: FloatArray) -> FloatArray | None:
    """``(G, J, J)`` correlations of the parts, which share clusters but no rows."""
    if counts.moment is None or linear.shape[1] == 1:
        return None
    moment = np.asarray(counts.moment, dtype=np.float64)
    return correlations(np.einsum("gjc,gcd,gkd->gjk", linear, moment, linear, optimize=True))


def _why_undefined(spec: CountMetric) -> str:
    return f"{spec.name} is undefined here: there are no {spec.denominator} to divide by"
