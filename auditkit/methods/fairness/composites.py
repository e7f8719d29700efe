"""Disparities of several rates at once: equalized odds, average odds, sufficiency, differential fairness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts
from auditkit.methods.fairness.gaps import Compared, Kind, disparities, limits_of, pair_method, pairs
from auditkit.methods.fairness.metrics import Rates, group_rates
from auditkit.methods.fairness.worst import NOT_ASKED, Gap, Joint, joint_gaps, with_limits

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
    counts: Counts, name: str, compare: Kind = "difference", level: float | None = 0.95, class_code: int | None = None
) -> Gap:
    """The composite disparity ``name`` over all pairs of groups, with a simultaneous interval.

    A maximum shares the error of its near limits between the parts; a mean adds the parts' limits at half the error
    each (Bonferroni), which holds whatever ties the parts together. Without a level the value comes alone.

    Raises:
        UsageError: AK453 unknown composite, or the ratio of a mean.
    """
    return composite_gaps(counts, [(name, compare)], level, class_code)[0]


def composite_gaps(
    counts: Counts, asked: Sequence[tuple[str, Kind]], level: float | None = 0.95, class_code: int | None = None
) -> list[Gap]:
    """:func:`composite_gap` of each, with all exact limits of the maxima worked out in one go."""
    for name, compare in asked:
        if name not in COMPOSITE_SPECS:
            raise UsageError("AK453", f"there is no composite {name!r}", fix=f"one of {', '.join(COMPOSITE_SPECS)}")
        if COMPOSITE_SPECS[name].how == "mean" and compare == "ratio":
            raise UsageError("AK453", f"{name} is a mean of differences; it has no ratio", fix="use difference")
    parts = dict.fromkeys(part for name, _ in asked for part in COMPOSITE_SPECS[name].parts)
    rates = {part: group_rates(counts, part, class_code) for part in parts}
    of = {name: tuple(rates[part] for part in COMPOSITE_SPECS[name].parts) for name, _ in asked}
    maxima = [Joint(of[name], compare, level) for name, compare in asked if COMPOSITE_SPECS[name].how == "max"]
    found = iter(joint_gaps(maxima))
    return [next(found) if COMPOSITE_SPECS[name].how == "max" else mean_gap(of[name], level) for name, _ in asked]


def mean_gap(rates: Sequence[Rates], level: float | None) -> Gap:
    """The largest, over pairs of groups, of the mean absolute difference of several rates."""
    undefined = next((reason for part in rates for reason in part.undefined if reason), None)
    if len(rates[0].value) < 2:
        return Gap(None, None, None, "there is only one group to compare")
    if undefined:
        return Gap(None, None, None, undefined)
    left, right = pairs(rates[0])
    each = np.mean([disparities(part.value, left, right, "difference") for part in rates], axis=0)
    worst = int(np.argmax(each))
    gap = Gap(float(each[worst]), None, (int(left[worst]), int(right[worst])))
    if level is None:
        return replace(gap, reason=NOT_ASKED)
    shared, m = (1 - level) / len(rates), len(left)
    errors = (shared / m, shared)
    found = limits_of([Compared(part, left, right, "difference", 1 - error) for error in errors for part in rates])
    near, far = found[: len(rates)], found[len(rates) :]
    low = float(np.mean([ends[0] for ends in near], axis=0).max())
    high = float(np.mean([ends[1] for ends in far], axis=0).max())
    gap = with_limits(gap, Compared(rates[0], left, right, "difference", level), (low, high))
    if gap.interval is None:
        return gap
    return replace(gap, interval=replace(gap.interval, method=pair_method(rates[0], "bonferroni")))
