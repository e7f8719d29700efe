"""``fairness.outcomes``: who gets the decisions, and whether the model widens the gaps that the labels have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.evidence import Counts, Interval, Measurement
from auditkit.core.subject import IntArray, Subject
from auditkit.stats.linearised import Design

if TYPE_CHECKING:
    from auditkit.methods.fairness.distances import Distance

_MEASURES: Mapping[str, str] = {
    "fairness.positive_decision_share": "Share of all positive decisions that go to the group.",
    "fairness.demographic_disparity": (
        "The group's share of the negative decisions less its share of the positive ones; above 0 it is rejected more."
    ),
    "fairness.smoothed_differential_fairness": (
        "Largest absolute log ratio of the smoothed rates of either decision (Foulds et al. 2020)."
    ),
    "fairness.bias_amplification": "Differential fairness of the decisions less that of the labels; above 0 is added.",
    "fairness.average_predictive_value.difference": (
        "Mean of the absolute differences in positive and in negative predictive value, worst pair."
    ),
    "fairness.decision_effect_size": (
        "Largest difference of selection rates in standard deviations within groups (Cohen's d)."
    ),
    "fairness.decision_distance": "Largest total variation distance between two groups' distributions of decisions.",
    "fairness.error_distance": "Largest mean distance, over labels, between what two groups of a label are decided as.",
}


class OutcomesParams(Params):
    """Settings of ``fairness.outcomes``."""

    level: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided confidence level.")
    max_groups: int = Field(50, ge=2, description="Columns with more groups are left out.")
    resamples: int = Field(400, ge=50, description="Multinomial tables behind the intervals of distances.")


def run(subject: Subject, context: Context, params: OutcomesParams) -> Iterator[Produced]:
    """Every sensitive column by itself, from its cells."""
    from auditkit.methods.fairness.counts import count_groups, encode_groups

    context.check_deadline()
    test, decisions = subject.test, context.decisions()
    counts = count_groups(
        test.y,
        decisions,
        test.sensitive,
        classes=subject.classes,
        positive=subject.positive,
        weights=test.weights,
        clusters=test.clusters,
    )
    for done, part in enumerate(part for part in counts if part.over):
        context.check_deadline()
        (column,) = part.over
        if len(part.groups) > params.max_groups:
            yield Note(f"{column}: {len(part.groups)} groups, more than max_groups = {params.max_groups}; left out.")
            continue
        if subject.positive is not None:
            names, codes = encode_groups(test.sensitive[column])
            groups, taken = codes.astype(np.int64), decisions == subject.positive
            design = Design(test.weights, test.clusters)
            yield from _shares(column, names, groups, taken, design, params.level)
            yield from _binary(part, column, params.level)
            yield _effect(column, groups, len(names), taken, design, params.level)
        if subject.positive is None or len(part.classes) > 2:
            yield from _distances(part, column, context, params)
        context.progress(done + 1, len(test.sensitive))


def _shares(
    column: str, names: tuple[str, ...], codes: IntArray, taken: IntArray, design: Design, level: float
) -> Iterator[Measurement]:
    from auditkit.stats.linearised import proportion

    sides = np.flatnonzero(taken), np.flatnonzero(~taken)
    for code, name in enumerate(names):
        shares = [
            proportion(codes[rows] == code, design.take(rows).weights, design.take(rows).clusters) for rows in sides
        ]
        values, found = [s.value for s in shares], [s.interval(level) for s in shares]
        n = int((codes == code).sum())
        yield Measurement(
            name="fairness.positive_decision_share",
            value=values[0],
            n=len(sides[0]),
            interval=found[0],
            slice={column: name},
            bounds=(0.0, 1.0),
            reason=None if found[0] else shares[0].reason or "no row is decided as positive",
        )
        value, interval, reason = None, None, "all rows have the same decision"
        if values[0] is not None and values[1] is not None:
            value, reason = values[1] - values[0], "too few rows or clusters for an interval"
            if found[0] is not None and found[1] is not None:
                interval = _disparity_interval(
                    (values[1], values[0]), (found[1], found[0]), (len(sides[1]), len(sides[0])), design, level
                )
        yield Measurement(
            name="fairness.demographic_disparity",
            value=value,
            n=n,
            interval=interval,
            slice={column: name},
            bounds=(-1.0, 1.0),
            reason=None if interval else reason,
        )


def _disparity_interval(
    shares: tuple[float, float], own: tuple[Interval, Interval], rows: tuple[int, int], design: Design, level: float
) -> Interval | None:
    """Of the first share less the second: melded from exact limits; not of plain rows, MOVER of their own."""
    from auditkit.stats.gaps import pair_limits
    from auditkit.stats.intervals import fewest_degrees_of_freedom, share_difference

    if design.plain:
        return share_difference(shares[0], float(rows[0]), shares[1], float(rows[1]), level)
    gap = shares[0] - shares[1]
    low, high = pair_limits((shares[0], own[0].low, own[0].high), (shares[1], own[1].low, own[1].high))
    return Interval(
        low=max(min(low, gap), -1.0),
        high=min(max(high, gap), 1.0),
        level=level,
        method="mover",
        degrees_of_freedom=fewest_degrees_of_freedom(own),
    )


def _binary(part: Counts, column: str, level: float) -> Iterator[Measurement]:
    from auditkit.methods.fairness import outcomes as o
    from auditkit.methods.fairness.composites import mean_gap
    from auditkit.methods.fairness.metrics import group_rates

    n = int(np.asarray(part.n).sum())
    if len(part.groups) < 2:
        for name in ("smoothed_differential_fairness", "bias_amplification", "average_predictive_value.difference"):
            reason = "there is only one group to compare"
            yield Measurement(name=f"fairness.{name}", value=None, n=n, over=(column,), reason=reason)
        return
    smoothed, limits = o.smoothed_differential_fairness(part), o.differential_limits(part, level)
    interval = limits and replace(limits, low=max(min(limits.low, smoothed), 0.0), high=max(limits.high, smoothed))
    unbounded = "the ratio may be 0 within its interval, so the log ratio has no upper limit"
    yield Measurement(
        name="fairness.smoothed_differential_fairness",
        value=smoothed,
        n=n,
        interval=interval,
        over=(column,),
        direction="lower",
        bounds=(0.0, None),
        reason=None if interval else unbounded,
    )
    added, added_interval = o.bias_amplification(part, level)
    yield Measurement(
        name="fairness.bias_amplification",
        value=added,
        n=n,
        interval=added_interval,
        over=(column,),
        direction="lower",
        reason=None if added_interval else unbounded,
    )
    gap = mean_gap(
        [group_rates(part, name) for name in ("positive_predictive_value", "negative_predictive_value")], level
    )
    yield Measurement(
        name="fairness.average_predictive_value.difference",
        value=gap.value,
        n=n,
        interval=gap.interval,
        over=(column,),
        direction="lower",
        bounds=(0.0, 1.0),
        reason=gap.reason,
    )


def _effect(column: str, codes: IntArray, count: int, taken: IntArray, design: Design, level: float) -> Measurement:
    from auditkit.methods.fairness.regression import standardised_difference

    gap = standardised_difference(np.asarray(taken, dtype=np.float64), codes, count, design, level)
    return Measurement(
        name="fairness.decision_effect_size",
        value=gap.value,
        n=len(codes),
        interval=gap.interval,
        over=(column,),
        direction="lower",
        bounds=(0.0, None),
        reason=gap.reason,
    )


def _distances(part: Counts, column: str, context: Context, params: OutcomesParams) -> Iterator[Measurement]:
    """Distances of whole distributions; for a positive class and another they are gaps of ``fairness.groups``."""
    from auditkit.methods.fairness import outcomes as o

    plain = part.weight is None and part.moment is None
    for name, tables in (
        ("decision_distance", o.decision_distributions(part)),
        ("error_distance", o.error_distributions(part)),
    ):
        found: Distance = o.worst_variation(tables, plain, context.rng, level=params.level, resamples=params.resamples)
        yield Measurement(
            name=f"fairness.{name}",
            value=found.value,
            n=int(np.asarray(part.n).sum()),
            interval=found.interval,
            over=(column,),
            direction="lower",
            bounds=(0.0, 1.0),
            reason=found.reason,
        )


ANALYZER = Analyzer(
    name="fairness.outcomes",
    version="2",
    title="Who gets the decisions",
    summary="Shares of the decisions, what the model adds to the labels' gaps, and distances over several classes.",
    reference=(
        "Foulds et al. (2020), An intersectional definition of fairness; Wachter et al. (2021), Why fairness cannot be "
        "automated (demographic disparity); Denis et al. (2021) for several classes"
    ),
    needs=frozenset({"labels", "sensitive", "classification"}),
    measures=_MEASURES,
    params=OutcomesParams,
    run=run,
    limits="Labels are taken as the truth: amplification is measured against them, and they may be biased themselves.",
)
