"""Disparities of several rates at once, and parity within the groups of a legitimate column, from the same cells."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from auditkit.core.evidence import Counts, Measurement

if TYPE_CHECKING:
    from auditkit.methods.fairness.gaps import Kind
    from auditkit.methods.fairness.worst import Gap

MEASURES: Mapping[str, str] = {
    "fairness.equalized_odds.difference": (
        "Larger of the differences in true and in false positive rate (Hardt et al. 2016)."
    ),
    "fairness.equalized_odds.ratio": "Smaller of the ratios of true and of false positive rates.",
    "fairness.average_odds.difference": "Mean of the absolute differences in true and in false positive rate.",
    "fairness.conditional_use_accuracy.difference": (
        "Larger of the differences in positive and in negative predictive value (Berk et al. 2021)."
    ),
    "fairness.differential_fairness": (
        "Largest absolute log ratio, over both decisions, of the rates of two groups; 0 is parity (Foulds et al. 2020)."
    ),
    "fairness.treatment_ratio": "Missed positives for each false alarm, FN / FP (treatment equality).",
}
# What is worked out for each table; differential fairness is read off the last.
_ASKED: tuple[tuple[str, Kind], ...] = (
    ("equalized_odds", "difference"),
    ("equalized_odds", "ratio"),
    ("average_odds", "difference"),
    ("conditional_use_accuracy", "difference"),
    ("decision_rates", "ratio"),
)


def composites(
    counts: Counts, metrics: Sequence[str], level: float, code: int | None, tags: Mapping[str, str]
) -> Iterator[Measurement]:
    """Composite disparities of one table whose parts are all among ``metrics``."""
    from auditkit.methods.fairness.composites import COMPOSITE_SPECS, composite_gaps
    from auditkit.methods.fairness.metrics import group_rates

    def rows(name: str) -> int:
        return sum(int(group_rates(counts, part, code).rows.sum()) for part in COMPOSITE_SPECS[name].parts)

    asked = [pair for pair in _ASKED if set(COMPOSITE_SPECS[pair[0]].parts) <= set(metrics)]
    for (name, compare), gap in zip(asked, composite_gaps(counts, asked, level, code), strict=True):
        if name == "decision_rates":
            yield _differential(gap, counts, level, rows("decision_rates") // 2, tags)
            continue
        yield Measurement(
            name=f"fairness.{name}.{compare}",
            value=gap.value,
            n=rows(name),
            interval=gap.interval,
            over=counts.over,
            params=tags,
            direction="higher" if compare == "ratio" else "lower",
            bounds=(0.0, 1.0),
            reason=gap.reason,
        )


def _differential(gap: Gap, counts: Counts, level: float, n: int, tags: Mapping[str, str]) -> Measurement:
    """Minus the log of the smallest ratio of decision rates; undefined where a group never has a decision."""
    value = None if not gap.value else max(-math.log(gap.value), 0.0)
    reason, interval = gap.reason, None
    if gap.value == 0.0:
        reason = "a group never has one of the decisions, so the log ratio is infinite"
    elif value is not None and gap.interval is not None and gap.interval.low > 0.0:
        low, high = -math.log(gap.interval.high), -math.log(gap.interval.low)
        low, high = max(min(low, value), 0.0), max(high, value)
        interval = replace(gap.interval, low=low, high=high, method="mover-log-ratio")
    elif value is not None:
        reason = "the ratio may be 0 within its interval, so the log ratio has no upper limit"
    return Measurement(
        name="fairness.differential_fairness",
        value=value,
        n=n,
        interval=interval,
        over=counts.over,
        params=tags,
        direction="lower",
        bounds=(0.0, None),
        reason=reason,
    )


def treatment_ratios(counts: Counts, rates: Any, level: float, tags: Mapping[str, str]) -> Iterator[Measurement]:
    """FN / FP of each group from ``rates`` of ``false_negative_share``; its limits are those of the share, mapped."""
    intervals = rates.intervals(level)
    for index, group in enumerate(rates.groups):
        share, reason = float(rates.value[index]), rates.undefined[index]
        value = None if reason or share >= 1.0 else share / (1.0 - share)
        if value is None and not reason:
            reason = "there are no false positives to divide by"
        interval = None if value is None else intervals[index]
        if interval is not None and interval.high < 1.0:
            low, high = (end / (1.0 - end) for end in (interval.low, interval.high))
            interval = replace(interval, low=low, high=high, method=f"{interval.method}-odds")
        elif value is not None:
            interval, reason = None, "too few wrong decisions for an interval"
        yield Measurement(
            name="fairness.treatment_ratio",
            value=value,
            n=int(rates.rows[index]),
            interval=interval,
            slice=dict(zip(counts.over, group, strict=True)),
            params=tags,
            bounds=(0.0, None),
            reason=reason,
        )


def within(counts: Counts, column: str) -> Iterator[tuple[dict[str, str], Counts]]:
    """The table cut by the groups of ``column``: ``({column: group}, cells of the other columns)``."""
    at = counts.over.index(column)
    for level in sorted({group[at] for group in counts.groups}):
        kept = [index for index, group in enumerate(counts.groups) if group[at] == level]
        fields = {
            name: None if (held := getattr(counts, name)) is None else tuple(held[index] for index in kept)
            for name in ("n", "weight", "weight_sq", "moment")
        }
        groups = tuple(tuple(p for i, p in enumerate(counts.groups[index]) if i != at) for index in kept)
        over = tuple(name for name in counts.over if name != column)
        yield {column: level}, replace(counts, over=over, groups=groups, **fields)  # type: ignore[arg-type]
