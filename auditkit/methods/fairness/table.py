"""Every count metric of every group at once, and one disparity with its interval: the short way in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts, Interval
from auditkit.methods.fairness.composites import COMPOSITE_SPECS, composite_gap
from auditkit.methods.fairness.gaps import Compared, Kind, disparities, disparity_limits, pair_method, pairs
from auditkit.methods.fairness.group_counts import GroupCounts
from auditkit.methods.fairness.metric_table import METRICS
from auditkit.methods.fairness.metrics import Rates, group_rates, metric_vectors
from auditkit.methods.fairness.worst import NOT_ASKED, Gap, extreme_limits, simultaneous_gap, with_limits

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
ALL_ROWS = "all rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetrics:
    """Count metrics of every group of one set of columns.

    Attributes:
        metrics: ``(M,)`` names.
        groups: ``(G,)`` groups in the order of ``over``.
        array: ``(M, G)`` values, NaN where undefined.
        counts: The cells, from which intervals are computed when asked for.
        class_code: The class taken as positive.
    """

    over: tuple[str, ...]
    metrics: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    array: FloatArray
    counts: Counts
    class_code: int | None

    def values(self, metric: str) -> dict[tuple[str, ...], float | None]:
        """Group -> value of ``metric``; ``None`` where it is undefined."""
        row = self.array[self.metrics.index(metric)].tolist()
        return {group: None if math.isnan(value) else value for group, value in zip(self.groups, row, strict=True)}

    def rates(self, metric: str) -> Rates:
        """``metric`` with the rows behind it, its intervals and why it is undefined where it is."""
        return group_rates(self.counts, metric, self.class_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two groups compared: their values and rows, and the disparity with its own pairwise interval."""

    group: str
    reference: str
    group_value: float | None
    reference_value: float | None
    group_n: int
    reference_n: int
    value: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disparity:
    """The worst disparity over all pairs with an interval valid for the worst of them, and every pair.

    ``value`` is ``None`` with a ``reason`` when any rate compared is undefined.
    """

    metric: str
    compare: Kind
    reference: str
    value: float | None
    interval: Interval | None
    pairs: tuple[Pair, ...]
    reason: str | None = None


def group_metrics(
    counts: Counts | GroupCounts, metrics: Sequence[str] | None = None, *, class_code: int | None = None
) -> GroupMetrics:
    """Count metrics of every group.

    Args:
        counts: One table of cells, or all of :func:`count_groups` (then the crossing of all columns).
        metrics: Names; all that the classes allow by default.
        class_code: The class taken as positive against the rest; ``counts.positive`` by default.

    Raises:
        UsageError: AK402 unknown metric; AK403 no positive class; AK450 columns were not crossed.

    >>> from auditkit.methods.fairness import count_groups
    >>> table = group_metrics(count_groups([0, 1, 1, 0], [0, 1, 0, 0], ["F", "F", "M", "M"]))
    >>> table.values("true_positive_rate"), table.values("positive_predictive_value")
    ({('F',): 1.0, ('M',): 0.0}, {('F',): 1.0, ('M',): None})
    """
    table = counts.finest() if isinstance(counts, GroupCounts) else counts
    code = table.positive if class_code is None else class_code
    known = code is not None
    names = tuple(metrics or (name for name, spec in METRICS.items() if known or spec.pooled))
    k = len(table.classes)
    cells = np.asarray(table.n if table.weight is None else table.weight, dtype=np.float64).reshape(-1, k * k)
    return GroupMetrics(
        over=table.over,
        metrics=names,
        groups=table.groups,
        array=metric_values(cells, names, k, code).T,
        counts=table,
        class_code=code,
    )


def metric_values(cells: FloatArray, metrics: tuple[str, ...], k: int, positive: int | None) -> FloatArray:
    """Values ``(..., M)`` of count metrics of ``cells (..., k*k)``, NaN where undefined.

    The point estimates alone, all metrics by one matrix product: what a resampling loop needs.
    """
    weights, parts = _stacked(metrics, k, positive)
    sums = cells @ weights
    half = weights.shape[1] // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = sums[..., :half] / np.where(sums[..., half:] > 0, sums[..., half:], np.nan)
    if half == len(metrics):
        return np.asarray(rates)
    return np.asarray(np.add.reduceat(rates, np.cumsum((0, *parts[:-1])), axis=-1) / np.array(parts, dtype=float))


@lru_cache(maxsize=256)
def _stacked(metrics: tuple[str, ...], k: int, positive: int | None) -> tuple[FloatArray, tuple[int, ...]]:
    """``(k*k, 2 J)`` coefficients, all parts above the line and then all below it; parts of each metric."""
    pairs_ = [metric_vectors(name, k, positive) for name in metrics]
    above, below = (np.concatenate([pair[side] for pair in pairs_]) for side in (0, 1))
    return np.concatenate([above, below]).T.copy(), tuple(len(pair[0]) for pair in pairs_)


def disparity(
    counts: Counts | GroupCounts,
    metric: str,
    compare: Kind = "difference",
    reference: str = "pairwise",
    *,
    level: float | None = 0.95,
    class_code: int | None = None,
) -> Disparity:
    """The worst difference or ratio of ``metric`` between groups.

    Args:
        counts: One table of cells, or all of :func:`count_groups` (then the crossing of all columns).
        metric: A count metric, or a composite such as ``equalized_odds``.
        compare: ``difference`` (absolute, 0 is parity) or ``ratio`` (lower over higher, 1 is parity).
        reference: ``pairwise``, ``best``, ``largest``, ``overall`` or the name of a group.
        level: Two-sided confidence level; ``None`` for values without intervals, which is far cheaper.
        class_code: The class taken as positive against the rest; ``counts.positive`` by default.

    The interval of the worst is simultaneous: valid although the worst pair was picked from the data. With ``best`` the
    pairs are each group and the one seen best; the interval allows for any group being the best one.
    With ``overall`` groups are compared with all rows, which they are part of, as if apart: the
    interval is then wider than it need be.

    Raises:
        UsageError: AK402 unknown metric; AK403 no positive class; AK404 the reference is not a group; AK450 columns
            were not crossed; AK453 a composite with a reference, or an unknown comparison.

    >>> from auditkit.methods.fairness import count_groups
    >>> counts = count_groups([0, 1] * 50, [0, 1] * 25 + [0, 0] * 25, ["F"] * 50 + ["M"] * 50)
    >>> disparity(counts, "selection_rate").value
    0.5
    """
    table = counts.finest() if isinstance(counts, GroupCounts) else counts
    if compare not in ("difference", "ratio"):
        raise UsageError("AK453", f"compare={compare!r} is unknown", fix="use difference or ratio")
    if metric in COMPOSITE_SPECS:
        if reference != "pairwise":
            raise UsageError("AK453", f"{metric} is compared over all pairs", fix='leave reference="pairwise"')
        gap = composite_gap(table, metric, compare, level, class_code)
        return Disparity(
            metric=metric,
            compare=compare,
            reference=reference,
            value=gap.value,
            interval=gap.interval,
            pairs=(),
            reason=gap.reason,
        )
    if reference == "overall":
        table = _with_overall(counts, table)
    rates = group_rates(table, metric, class_code)
    names = [" x ".join(group) or ALL_ROWS for group in table.groups]
    lower = METRICS[metric].direction == "lower"
    anchor = ALL_ROWS if reference == "overall" else reference
    left, right = pairs(rates, anchor, names=names, lower_is_better=lower)
    gap = (
        simultaneous_gap(rates, compare, level)
        if reference in ("pairwise", "best")  # the best is picked from the data, so all pairs count
        else _worst_of(rates, left, right, compare, level)
    )
    if reference == "best" and gap.value is not None:
        each = disparities(rates.value, left, right, compare)
        gap = replace(gap, value=float(np.nanmax(each) if compare == "difference" else np.nanmin(each)))
    return Disparity(
        metric=metric,
        compare=compare,
        reference=reference,
        value=gap.value,
        interval=gap.interval,
        pairs=_pairs(rates, names, left, right, compare, level),
        reason=gap.reason,
    )


def _worst_of(rates: Rates, left: IntArray, right: IntArray, compare: Kind, level: float | None) -> Gap:
    """The worst of a fixed set of pairs: far limits as they are, near limits corrected for their number."""
    value = rates.value
    if len(left) == 0:
        return Gap(None, None, None, "there is only one group to compare")
    undefined = next((reason for reason in rates.undefined if reason), None)
    each = disparities(value, left, right, compare)
    if undefined or not np.isfinite(each).all():
        return Gap(None, None, None, undefined or "the ratio of two rates that are both 0 is undefined")
    worst = int(np.argmax(each) if compare == "difference" else np.argmin(each))
    point, pair = float(each[worst]), (int(left[worst]), int(right[worst]))
    if level is None:
        return Gap(point, None, pair, NOT_ASKED)
    compared = Compared(rates, left, right, compare, level)
    return with_limits(Gap(point, None, pair), compared, extreme_limits([compared], [len(left)])[0])


def _pairs(
    rates: Rates, names: Sequence[str], left: IntArray, right: IntArray, compare: Kind, level: float | None
) -> tuple[Pair, ...]:
    each = disparities(rates.value, left, right, compare)
    low, high = (
        disparity_limits(rates, left, right, compare, level) if level is not None else (np.full(len(left), np.nan),) * 2
    )

    def plain(value: Any) -> float | None:
        return float(value) if math.isfinite(value) else None

    found = []
    for index, (a, b) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        value, ends = plain(each[index]), (plain(low[index]), plain(high[index]))
        interval = None
        if level is not None and value is not None and ends[0] is not None and ends[1] is not None:
            interval = Interval(
                low=min(ends[0], value), high=max(ends[1], value), level=level, method=pair_method(rates)
            )
        found.append(
            Pair(
                group=names[a],
                reference=names[b],
                group_value=plain(rates.value[a]),
                reference_value=plain(rates.value[b]),
                group_n=int(rates.rows[a]),
                reference_n=int(rates.rows[b]),
                value=value,
                interval=interval,
            )
        )
    return tuple(found)


def _with_overall(counts: Counts | GroupCounts, table: Counts) -> Counts:
    """``table`` with the cells of all rows as one more group at the end."""
    label = (ALL_ROWS, *("" for _ in table.over[1:]))
    if table.moment is not None and not isinstance(counts, GroupCounts):
        raise UsageError("AK450", "clustered counts of all rows are not in this table", fix="pass all of count_groups")
    fields: dict[str, Any] = {}
    for field in ("n", "weight", "weight_sq", "moment"):
        held = getattr(table, field)
        if held is not None and isinstance(counts, GroupCounts):
            fields[field] = (*held, *getattr(counts.over(), field))
        elif held is not None:
            total = np.asarray(held).sum(axis=0)
            fields[field] = (*held, tuple(tuple(row) for row in total.tolist()))
    return replace(table, groups=(*table.groups, label), **fields)
