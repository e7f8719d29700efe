"""Count metrics of groups: a table of formulas on the cells, their variances and intervals.

Every metric is the mean of one or more rates ``(a . c) / (b . c)`` that are linear in the cells ``c`` above
and below the line, so that one delta-method formula serves all of them, for plain, weighted and
clustered rows alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts, Interval
from auditkit.stats.effective import Squares, corrected_rows, effective_rows
from auditkit.stats.intervals import z_value
from auditkit.stats.melded import exact_limits, melded_limits

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Direction = Literal["higher", "lower", "neutral"]
Coefficients = Mapping[str, float]
Quadratic = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class CountMetric:
    """One count metric.

    Attributes:
        name: The field's full name.
        formula: In terms of TP, FP, FN, TN.
        above: Coefficients of the four cells above the line.
        below: Coefficients below the line; ``below`` of a proportion counts its rows.
        denominator: What the rows below the line are, for messages.
        direction: Whether higher or lower is better, or neither.
        citation: Where the name and formula come from.
        pooled: Computed over all classes (one number), rather than one class against the rest.
    """

    name: str
    formula: str
    above: tuple[Coefficients, ...]
    below: tuple[Coefficients, ...]
    denominator: str
    direction: Direction
    citation: str
    pooled: bool = False


_ALL: Coefficients = {"tp": 1, "fp": 1, "fn": 1, "tn": 1}
_LABELLED: Coefficients = {"tp": 1, "fn": 1}
_UNLABELLED: Coefficients = {"fp": 1, "tn": 1}
_SELECTED: Coefficients = {"tp": 1, "fp": 1}
_REJECTED: Coefficients = {"fn": 1, "tn": 1}
_FAWCETT = "Fawcett (2006), An introduction to ROC analysis"
_VERMA = "Verma and Rubin (2018), Fairness definitions explained"


def _metric(
    name: str, formula: str, above: Coefficients, below: Coefficients, denominator: str, direction: Direction
) -> CountMetric:
    citation = _VERMA if name in ("selection_rate", "rejection_rate", "base_rate") else _FAWCETT
    return CountMetric(name, formula, (above,), (below,), denominator, direction, citation)


_TABLE: tuple[CountMetric, ...] = (
    _metric("selection_rate", "(TP + FP) / n", _SELECTED, _ALL, "rows", "neutral"),
    _metric("rejection_rate", "(FN + TN) / n", _REJECTED, _ALL, "rows", "neutral"),
    _metric("base_rate", "(TP + FN) / n", _LABELLED, _ALL, "rows", "neutral"),
    _metric("true_positive_rate", "TP / (TP + FN)", {"tp": 1}, _LABELLED, "positive labels", "higher"),
    _metric("false_positive_rate", "FP / (FP + TN)", {"fp": 1}, _UNLABELLED, "negative labels", "lower"),
    _metric("true_negative_rate", "TN / (FP + TN)", {"tn": 1}, _UNLABELLED, "negative labels", "higher"),
    _metric("false_negative_rate", "FN / (TP + FN)", {"fn": 1}, _LABELLED, "positive labels", "lower"),
    _metric("positive_predictive_value", "TP / (TP + FP)", {"tp": 1}, _SELECTED, "positive decisions", "higher"),
    _metric("negative_predictive_value", "TN / (TN + FN)", {"tn": 1}, _REJECTED, "negative decisions", "higher"),
    _metric("false_discovery_rate", "FP / (TP + FP)", {"fp": 1}, _SELECTED, "positive decisions", "lower"),
    _metric("false_omission_rate", "FN / (TN + FN)", {"fn": 1}, _REJECTED, "negative decisions", "lower"),
    _metric(
        "f1",
        "2 TP / (2 TP + FP + FN)",
        {"tp": 2},
        {"tp": 2, "fp": 1, "fn": 1},
        "rows that are positive by label or decision",
        "higher",
    ),
    _metric(
        "threat_score",
        "TP / (TP + FP + FN)",
        {"tp": 1},
        {"tp": 1, "fp": 1, "fn": 1},
        "rows that are positive by label or decision",
        "higher",
    ),
    CountMetric(
        "false_negative_share",
        "FN / (FN + FP); equal across groups exactly where FN / FP, the ratio of treatment equality, is",
        ({"fn": 1},),
        ({"fn": 1, "fp": 1},),
        "wrong decisions",
        "neutral",
        "Berk et al. (2021), Fairness in criminal justice risk assessments, treatment equality",
    ),
    CountMetric("accuracy", "(TP + TN) / n", ({"tp": 1, "tn": 1},), (_ALL,), "rows", "higher", _FAWCETT, pooled=True),
    CountMetric("error_rate", "(FP + FN) / n", ({"fp": 1, "fn": 1},), (_ALL,), "rows", "lower", _FAWCETT, pooled=True),
    CountMetric(
        "balanced_accuracy",
        "mean of the recalls of the classes",
        ({"tp": 1}, {"tn": 1}),
        (_LABELLED, _UNLABELLED),
        "rows of each label",
        "higher",
        "Brodersen et al. (2010), The balanced accuracy and its posterior distribution",
        pooled=True,
    ),
)

METRICS: Mapping[str, CountMetric] = {metric.name: metric for metric in _TABLE}

# A composite disparity is the largest of its parts' disparities.
COMPOSITES: Mapping[str, tuple[str, ...]] = {
    "equalized_odds": ("true_positive_rate", "false_positive_rate"),
    "conditional_use_accuracy": ("positive_predictive_value", "negative_predictive_value"),
    "decision_rates": ("selection_rate", "rejection_rate"),
}


@dataclass(frozen=True, kw_only=True)
class Rates:
    """One metric for every group of a :class:`Counts`.

    Attributes:
        value: ``(G,)``; NaN where undefined (never leaves this package: readers see ``None``).
        rows: ``(G,)`` rows below the line.
        parts: ``(G, J)`` the rates whose mean the value is.
        effective: ``(G, J)`` effective rows of each part.
        freedom: ``(G, J)`` degrees of freedom of each part's variance; infinite without clusters.
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

    @property
    def method(self) -> str:
        """How :meth:`limits` are made."""
        name = "clopper-pearson" if self.plain else "korn-graubard"
        return name if self.is_one_rate else f"mover-{name}"

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

    def directed_limits(
        self, left: IntArray, right: IntArray, kind: Literal["difference", "ratio"], level: float
    ) -> tuple[FloatArray, FloatArray] | None:
        """Exact limits ``(m,), (m,)`` of ``left - right`` or ``left / right``, or ``None`` for a mean of rates.

        Source: Fay, Proschan and Brittain (2015), Biometrics 71.
        """
        if not self.is_one_rate:
            return None
        return melded_limits(self.parts[:, 0], self.sizes(level)[:, 0], left, right, kind, level)

    def rough_limits(self, level: float, factor: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """Wilson's limits ``(G,), (G,)`` if each group had ``factor`` times its rows: fast, for planning."""
        scale = np.broadcast_to(np.asarray(factor, dtype=np.float64), self.value.shape)
        return _combined(self, *wilson_limits(self.parts, self.sizes(level) * scale[:, None], z_value(level)))

    def joined(self, other: Rates) -> Rates:
        """The groups of both, as if they were one table."""
        fields = ("value", "rows", "parts", "effective", "freedom")
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

    top, bottom = mass @ above.T, mass @ below.T
    rows = n @ (below > 0).any(axis=0)
    defined = np.asarray((n @ (below > 0).T > 0).all(axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.where(bottom > 0, top / bottom, np.nan)
        linear = (above - parts[..., None] * below) / bottom[..., None]
        spread = bottom**2 / quadratic(np.broadcast_to(below, (len(n), *below.shape)))
    variance = quadratic(np.nan_to_num(linear))
    variance = np.maximum(variance, _least_variance(counts, (above, below), parts, quadratic, n))
    effective, freedom = effective_rows(parts, variance, spread, counts.moment is not None)
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
    )


def rates_limits(asked: Sequence[tuple[Rates, float]]) -> list[tuple[FloatArray, FloatArray]]:
    """Limits ``(G,), (G,)`` of each of several metrics at its level, all in one go.

    Clopper and Pearson's exact limits of each part on its effective rows, combined for a mean of parts by MOVER.

    Source: Clopper and Pearson (1934); on effective rows: Korn and Graubard (1998); Zou and Donner (2008) for the
    combination.
    """
    if not asked:
        return []
    parts = np.concatenate([rates.parts.ravel() for rates, _ in asked])
    sizes = np.concatenate([rates.sizes(level).ravel() for rates, level in asked])
    level_of = np.repeat([level for _, level in asked], [rates.parts.size for rates, _ in asked])
    ends = np.cumsum([rates.parts.size for rates, _ in asked])[:-1]
    low, high = (np.split(limit, ends) for limit in exact_limits(parts, sizes, level_of))
    return [
        _combined(rates, one.reshape(rates.parts.shape), two.reshape(rates.parts.shape))
        for (rates, _), one, two in zip(asked, low, high, strict=True)
    ]


def rates_intervals(asked: Sequence[Rates], level: float) -> list[tuple[Interval | None, ...]]:
    """The interval of each group of each of several metrics, or ``None`` where there is none."""
    return [
        tuple(
            Interval(low=low, high=high, level=level, method=rates.method)
            if math.isfinite(low) and math.isfinite(high)
            else None
            for low, high in np.transpose(limits).tolist()
        )
        for rates, limits in zip(asked, rates_limits([(rates, level) for rates in asked]), strict=True)
    ]


def _combined(rates: Rates, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Limits of the mean of the parts, whose limits are ``low (G, J)`` and ``high (G, J)``."""
    count = rates.parts.shape[1]
    below = np.sqrt(((rates.parts - low) ** 2).sum(axis=1)) / count
    above = np.sqrt(((high - rates.parts) ** 2).sum(axis=1)) / count
    return np.maximum(rates.value - below, 0.0), np.minimum(rates.value + above, 1.0)


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
    kind = np.full((k, k), "tn", dtype="<U2")
    kind[positive, :] = "fn"
    kind[:, positive] = "fp"
    kind[positive, positive] = "tp"
    flat = kind.ravel()

    def weigh(coefficients: Coefficients) -> list[float]:
        return [float(coefficients.get(str(cell), 0.0)) for cell in flat]

    return np.array([weigh(c) for c in spec.above]), np.array([weigh(c) for c in spec.below])


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
    counts: Counts, shape: tuple[FloatArray, FloatArray], parts: FloatArray, quadratic: Quadratic, n: FloatArray
) -> FloatArray:
    """``(G, J)`` the least variance that each part can have, see :mod:`auditkit.stats.effective`.

    What is no share of rows (F1, whose hits count twice) has that of independent rows, whatever the clusters.
    """
    above, below = shape
    mass = n if counts.weight is None else np.asarray(counts.weight, dtype=np.float64).reshape(n.shape)
    second = n if counts.weight_sq is None else np.asarray(counts.weight_sq, dtype=np.float64).reshape(n.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        if not np.isin(below, (0.0, 1.0)).all():
            linear = np.nan_to_num((above - parts[..., None] * below) / (mass @ below.T)[..., None])
            weight = np.nan_to_num((second @ (below > 0).T) / (mass @ (below > 0).T))
            return np.asarray(np.einsum("gjc,gc->gj", linear**2, mass) * weight)
        every, hit, both = (
            quadratic(np.broadcast_to(side, (len(n), *side.shape))) for side in (below, above, above + below)
        )
        squares = Squares(second @ below.T, second @ above.T, every, hit, (both - every - hit) / 2.0)
        return np.nan_to_num(squares.least_variance(parts, mass @ below.T))


def _why_undefined(spec: CountMetric) -> str:
    return f"{spec.name} is undefined here: there are no {spec.denominator} to divide by"
