"""Disparities of several rates at once: equalized odds, average odds, sufficiency, differential fairness."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts, Interval
from auditkit.methods.fairness.gaps import (
    Gap,
    Kind,
    disparities,
    disparity_limits,
    largest_gap,
    pair_method,
    pairs,
    simultaneous_gap,
)
from auditkit.methods.fairness.metrics import Rates, group_rates

FloatArray = npt.NDArray[np.float64]
How = Literal["max", "mean"]


@dataclass(frozen=True, slots=True)
class Composite:
    """How the disparities of several rates make one: the largest of them, or their mean within a pair of groups."""

    parts: tuple[str, ...]
    how: How
    formula: str
    citation: str


COMPOSITE_SPECS: Mapping[str, Composite] = {
    "equalized_odds": Composite(
        ("true_positive_rate", "false_positive_rate"),
        "max",
        "larger of the disparities in true and in false positive rate",
        "Hardt, Price and Srebro (2016), Equality of opportunity in supervised learning",
    ),
    "average_odds": Composite(
        ("true_positive_rate", "false_positive_rate"),
        "mean",
        "mean of the absolute differences in true and in false positive rate, worst pair of groups",
        "Bellamy et al. (2018), AI Fairness 360, average absolute odds difference",
    ),
    "conditional_use_accuracy": Composite(
        ("positive_predictive_value", "negative_predictive_value"),
        "max",
        "larger of the disparities in positive and in negative predictive value",
        "Berk et al. (2021), Fairness in criminal justice risk assessments",
    ),
    "decision_rates": Composite(
        ("selection_rate", "rejection_rate"),
        "max",
        "larger of the disparities in selection and in rejection rate; minus the log of its ratio is the epsilon of "
        "differential fairness",
        "Foulds et al. (2020), An intersectional definition of fairness",
    ),
}


def composite_gap(
    counts: Counts, name: str, compare: Kind = "difference", level: float = 0.95, class_code: int | None = None
) -> Gap:
    """The composite disparity ``name`` over all pairs of groups, with a simultaneous interval.

    A maximum shares the error of its near limits between the parts; a mean adds the parts' limits at half the error
    each (Bonferroni), which holds whatever ties the parts together.

    Raises:
        UsageError: AK453 unknown composite, or the ratio of a mean.
    """
    if name not in COMPOSITE_SPECS:
        raise UsageError("AK453", f"there is no composite {name!r}", fix=f"one of {', '.join(COMPOSITE_SPECS)}")
    spec = COMPOSITE_SPECS[name]
    rates = [group_rates(counts, part, class_code) for part in spec.parts]
    if spec.how == "mean":
        if compare == "ratio":
            raise UsageError("AK453", f"{name} is a mean of differences; it has no ratio", fix="use difference")
        return mean_gap(rates, level)

    def gaps(at: float) -> list[Gap]:
        return [simultaneous_gap(part, compare, at) for part in rates]

    return largest_gap(gaps(level), gaps, level) if compare == "difference" else _smallest_ratio(gaps, level)


def mean_gap(rates: Sequence[Rates], level: float) -> Gap:
    """The largest, over pairs of groups, of the mean absolute difference of several rates."""
    undefined = next((reason for part in rates for reason in part.undefined if reason), None)
    if len(rates[0].value) < 2:
        return Gap(None, None, None, "there is only one group to compare")
    if undefined:
        return Gap(None, None, None, undefined)
    left, right = pairs(rates[0])
    each = np.mean([disparities(part.value, left, right, "difference") for part in rates], axis=0)
    worst = int(np.argmax(each))
    shared, m = (1 - level) / len(rates), len(left)

    def limits(error: float) -> tuple[FloatArray, FloatArray]:
        found = [disparity_limits(p, left, right, "difference", 1 - error) for p in rates]
        return np.mean([low for low, _ in found], axis=0), np.mean([high for _, high in found], axis=0)

    low, high = float(limits(shared / (2 * m))[0].max()), float(limits(shared)[1].max())
    point, pair = float(each[worst]), (int(left[worst]), int(right[worst]))
    if not (math.isfinite(low) and math.isfinite(high)):
        return Gap(point, None, pair, "a group has too few rows or clusters for an interval")
    method = pair_method(rates[0], "bonferroni")
    interval = Interval(low=min(low, point), high=max(min(high, 1.0), point), level=level, method=method)
    return Gap(point, interval, pair)


def _smallest_ratio(gaps: Callable[[float], list[Gap]], level: float) -> Gap:
    """The smallest of several ratios: the far limit is the smallest of theirs, near limits share the error."""
    found = gaps(level)
    undefined = next((gap for gap in found if gap.value is None), None)
    if undefined is not None:
        return Gap(None, None, None, undefined.reason)
    worst = min(found, key=lambda gap: 1.0 if gap.value is None else gap.value)
    strict = gaps(1 - (1 - level) / len(found))
    far = [gap.interval.low for gap in found if gap.interval is not None]
    near = [gap.interval.high for gap in strict if gap.interval is not None]
    if len(far) < len(found) or len(near) < len(found) or worst.value is None:
        return Gap(worst.value, None, worst.pair, "a group has too few rows or clusters for an interval")
    method = worst.interval.method if worst.interval else "melded-simultaneous"
    interval = Interval(low=min(min(far), worst.value), high=max(min(near), worst.value), level=level, method=method)
    return Gap(worst.value, interval, worst.pair)
