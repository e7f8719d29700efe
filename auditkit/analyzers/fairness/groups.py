"""``fairness.groups``: what each group gets, and how far apart the groups are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from auditkit.analyzers.fairness.composites import MEASURES, composites, treatment_ratios, within
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts, Interval, Measurement, Table
from auditkit.core.generators import preserved_generators
from auditkit.core.subject import Subject

if TYPE_CHECKING:
    from auditkit.methods.fairness.metric_table import CountMetric
    from auditkit.methods.fairness.metrics import Rates
    from auditkit.methods.fairness.worst import Gap

_RATES: Mapping[str, str] = {
    "selection_rate": "Share of rows that the model decides as positive.",
    "rejection_rate": "Share of rows that the model decides as negative.",
    "base_rate": "Share of rows whose label is positive.",
    "true_positive_rate": "Share of positive labels that the model decides as positive.",
    "false_positive_rate": "Share of negative labels that the model decides as positive.",
    "true_negative_rate": "Share of negative labels that the model decides as negative.",
    "false_negative_rate": "Share of positive labels that the model decides as negative.",
    "positive_predictive_value": "Share of positive decisions whose label is positive.",
    "negative_predictive_value": "Share of negative decisions whose label is negative.",
    "false_discovery_rate": "Share of positive decisions whose label is negative.",
    "false_omission_rate": "Share of negative decisions whose label is positive.",
    "threat_score": "True positives among rows that are positive by label or by decision (Jaccard index).",
    "false_negative_share": "Share of wrong decisions that miss a positive label (treatment equality).",
    "f1": "Harmonic mean of precision and recall.",
    "accuracy": "Share of rows decided as labelled.",
    "error_rate": "Share of rows decided otherwise than labelled.",
    "balanced_accuracy": "Mean of the recalls of the classes.",
}
_MEANS: Mapping[str, str] = {
    "mean_prediction": "Mean of the predicted values.",
    "mean_error": "Mean of predicted less true value; above 0 means predicted too high.",
    "mean_absolute_error": "Mean absolute difference of predicted and true value.",
}
_CROSS_CHECK = "fairness.crosscheck_max_deviation"
_AGREEMENT = 1e-9


def _measures() -> dict[str, str]:
    sentences = {f"fairness.{name}": text for name, text in {**_RATES, **_MEANS}.items()}
    for name in (*_RATES, *_MEANS):
        sentences[f"fairness.{name}.difference"] = f"Largest absolute difference of {name} between two groups."
    for name in _RATES:
        sentences[f"fairness.{name}.ratio"] = f"Smallest ratio of {name} between two groups, lower over higher."
    sentences.update(MEASURES)
    sentences[_CROSS_CHECK] = "Largest deviation from fairlearn's MetricFrame on the same rows; must be rounding only."
    return sentences


class GroupsParams(Params):
    """Settings of ``fairness.groups``."""

    metrics: tuple[str, ...] = Field(tuple(_RATES), description="Count metrics to measure.")
    intersections: int = Field(2, ge=1, le=4, description="Largest number of sensitive columns crossed.")
    level: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided confidence level.")
    given: str | None = Field(
        None, description="A sensitive column within whose groups the others are compared too (conditional parity)."
    )
    max_groups: int = Field(200, ge=2, description="Columns or crossings with more groups give counts only.")
    sufficient: int = Field(30, ge=1, description="Groups with fewer rows are called insufficient; none is dropped.")
    cross_check: bool = Field(True, description="Recompute on a sample of rows through fairlearn, if installed.")
    cross_check_rows: int = Field(2000, ge=1, description="Rows of that sample.")

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in metrics if name not in _RATES]
        if unknown or not metrics:
            raise ValueError(f"unknown metrics {unknown}; choose from {', '.join(_RATES)}")
        return metrics


def run(subject: Subject, context: Context, params: GroupsParams) -> Iterator[Produced]:
    """Counts, rates, differences and ratios of every sensitive column and crossing."""
    context.check_deadline()
    if subject.task == "regression":
        yield from _means(subject, context, params)
    else:
        yield from _rates(subject, context, params)


def _rates(subject: Subject, context: Context, params: GroupsParams) -> Iterator[Produced]:
    from auditkit.methods.fairness.counts import count_groups

    data, decisions = subject.test, context.decisions()
    _check_given(subject, params)
    counts = count_groups(
        data.y,
        decisions,
        data.sensitive,
        classes=subject.classes,
        positive=subject.positive,
        weights=data.weights,
        clusters=data.clusters,
        intersections=params.intersections,
    )
    yield from counts
    distrust, produced = _cross_check(subject, context, params)
    yield from produced
    yield from _all_measured(counts, context, params, distrust)


def run_counted(subject: Subject, context: Context, params: GroupsParams) -> Iterator[Produced]:
    """The same from rows that were counted as they were read."""
    from auditkit.methods.fairness.counts import count_cells

    data = subject.test
    assert data.counted is not None
    _check_given(subject, params)
    counts = count_cells(
        data.y,
        data.counted.decided,
        data.sensitive,
        data.counted.rows,
        classes=subject.classes,
        positive=subject.positive,
        intersections=params.intersections,
    )
    yield from counts
    yield Note(f"The {data.n:,} rows were counted as they were read; fairlearn, which needs them all, was not asked.")
    yield from _all_measured(counts, context, params, None)


def _check_given(subject: Subject, params: GroupsParams) -> None:
    sensitive = subject.test.sensitive
    if params.given is not None and (params.given not in sensitive or params.intersections < 2):
        raise UsageError(
            "AK455",
            f"given = {params.given!r} cannot be conditioned on",
            why=f"sensitive columns: {', '.join(sensitive)}; intersections = {params.intersections}",
            fix="name a sensitive column and cross at least two",
        )


def _all_measured(
    counts: Sequence[Counts], context: Context, params: GroupsParams, distrust: str | None
) -> Iterator[Produced]:
    yield from _crossing_notes(counts, params)
    for done, part in enumerate(counts):
        context.check_deadline()
        if len(part.groups) <= params.max_groups:
            for measurement in measured_from(part, params):
                yield replace(measurement, unreliable=distrust) if distrust else measurement
            if len(part.over) == 2 and params.given in part.over:
                yield from _given(part, params)
        context.progress(done + 1, len(counts))
    yield _definitions(params)


def measured_from(counts: Counts, params: GroupsParams) -> Iterator[Measurement]:
    """Every rate, disparity and composite that the cells of one column or crossing give."""
    from auditkit.methods.fairness.metric_table import METRICS
    from auditkit.methods.fairness.metrics import rates_intervals

    asked = _rates_of(counts, params)
    intervals = rates_intervals([rates for rates, _ in asked], params.level)
    gaps = _disparities(asked, params.level) if counts.over else [()] * len(asked)
    for (rates, tags), known, between in zip(asked, intervals, gaps, strict=True):
        for index, group in enumerate(rates.groups):
            value, undefined = float(rates.value[index]), rates.undefined[index]
            interval = None if undefined else known[index]
            yield Measurement(
                name=f"fairness.{rates.metric}",
                value=None if undefined else value,
                n=int(rates.rows[index]),
                interval=interval,
                slice=dict(zip(counts.over, group, strict=True)),
                params=tags,
                direction=METRICS[rates.metric].direction,
                bounds=(0.0, 1.0),
                reason=undefined or (None if interval else "too few rows or clusters for an interval"),
            )
        yield from between
    for rates, tags in asked:
        if rates.metric == "false_negative_share":
            yield from treatment_ratios(counts, rates, params.level, tags)
    if counts.over:
        for code, tags in _positives(counts, METRICS["true_positive_rate"]):
            yield from composites(counts, params.metrics, params.level, code, tags)


def _rates_of(counts: Counts, params: GroupsParams) -> list[tuple[Rates, dict[str, str]]]:
    """Each metric of the groups, for each class that it takes as positive, with the params that name the class."""
    from auditkit.methods.fairness.metric_table import METRICS
    from auditkit.methods.fairness.metrics import group_rates

    return [
        (group_rates(counts, name, code), tags)
        for name in params.metrics
        for code, tags in _positives(counts, METRICS[name])
    ]


def _given(counts: Counts, params: GroupsParams) -> Iterator[Measurement]:
    """Disparities within each group of the ``given`` column (conditional parity)."""
    for where, part in within(counts, params.given or ""):
        for between in _disparities(_rates_of(part, params), params.level):
            for measurement in between:
                yield replace(measurement, slice=where)


def _disparities(asked: Sequence[tuple[Rates, dict[str, str]]], level: float) -> list[tuple[Measurement, ...]]:
    """The difference and the ratio of each of the rates."""
    from auditkit.methods.fairness.worst import Question, simultaneous_gaps

    questions = [Question(rates, kind, level) for rates, _ in asked for kind in ("difference", "ratio")]
    gaps = simultaneous_gaps(questions)
    return [
        tuple(
            _disparity(f"fairness.{rates.metric}.{kind}", gap, rates.over, rates.rows, tags)
            for kind, gap in (("difference", difference), ("ratio", ratio))
        )
        for (rates, tags), difference, ratio in zip(asked, gaps[::2], gaps[1::2], strict=True)
    ]


def _disparity(
    name: str, gap: Gap, over: tuple[str, ...], rows: Any, tags: Mapping[str, str], top: float | None = 1.0
) -> Measurement:
    interval: Interval | None = gap.interval
    return Measurement(
        name=name,
        value=gap.value,
        n=int(rows.sum()),
        interval=interval,
        over=over,
        params=tags,
        direction="higher" if name.endswith(".ratio") else "lower",
        bounds=(0.0, top),
        reason=gap.reason,
    )


def _positives(counts: Counts, spec: CountMetric) -> list[tuple[int | None, dict[str, str]]]:
    """The classes to take as positive, each with the params that name it."""
    if spec.pooled or counts.positive is not None:
        return [(counts.positive, {})]
    return [(code, {"class": name}) for code, name in enumerate(counts.classes)]


def _cross_check(subject: Subject, context: Context, params: GroupsParams) -> tuple[str | None, list[Produced]]:
    """Why our rates are not to be trusted, if fairlearn disagrees; and what to put on record."""
    if not params.cross_check:
        return None, [Note("The cross-check through fairlearn was switched off.")]
    try:
        with preserved_generators():  # libraries draw from the global generator while they are imported
            from auditkit.methods.fairness.fairlearn_engine import cross_check
    except ImportError:
        return None, [Note("fairlearn is not installed, so the rates were not cross-checked: auditkit[fairness].")]
    from auditkit.methods.fairness.counts import count_groups

    data = subject.test
    rows = context.sample_rows(data.n, params.cross_check_rows)
    # Several classes: the check takes the first against the rest, which exercises the same cells.
    positive = 0 if subject.positive is None else subject.positive
    y_true, y_pred = ((codes[rows] == positive).astype("int64") for codes in (data.y, context.decisions()))
    groups = {name: values[rows] for name, values in data.sensitive.items()}
    weights = None if data.weights is None else data.weights[rows]
    counts = count_groups(
        y_true,
        y_pred,
        groups,
        classes=("rest", "positive"),
        positive=1,
        weights=weights,
        intersections=min(params.intersections, 2),
    )
    try:
        found = cross_check([part for part in counts if len(part.groups) <= 50], y_true, y_pred, groups, weights)
    except Exception as error:
        # A fault inside fairlearn says nothing about our numbers, but the card must not claim a check.
        reason = f"fairlearn could not be run on these rows: {type(error).__name__}: {str(error)[:200]}"
        return None, [Measurement(name=_CROSS_CHECK, value=None, n=len(rows), reason=reason)]
    distrust = None
    if found.deviation > _AGREEMENT:
        distrust = f"fairlearn disagrees by {found.deviation:.3g} ({found.where}) on {len(rows):,} rows"
    return distrust, [
        Measurement(
            name=_CROSS_CHECK,
            value=found.deviation,
            n=len(rows),
            direction="lower",
            bounds=(0.0, 1.0),
            params={"engine": "fairlearn", "numbers": found.compared},
            reason="exact: a comparison of two computations on the same rows",
            unreliable=distrust,
        )
    ]


def _crossing_notes(counts: Sequence[Counts], params: GroupsParams) -> Iterator[Note]:
    for part in counts:
        label = " x ".join(part.over)
        sizes = [sum(map(sum, block)) for block in part.n]
        # Names without their rows: a note may be shared, and a small group's size may not.
        few = [" x ".join(group) for group, n in zip(part.groups, sizes, strict=True) if n < params.sufficient]
        if part.over and few and len(part.groups) <= params.max_groups:
            more = f" and {len(few) - 8} more" if len(few) > 8 else ""
            yield Note(
                f"{label}: insufficient, with fewer than {params.sufficient} rows: {'; '.join(few[:8])}{more}. "
                "Their rates are shown with intervals as wide as that makes them; none is dropped."
            )
        if len(part.groups) > params.max_groups:
            yield Note(f"{label}: {len(part.groups)} groups, more than max_groups = {params.max_groups}; counts only.")
        if len(part.over) > 1:
            full = math.prod(len({group[i] for group in part.groups}) for i in range(len(part.over)))
            if full > len(part.groups):
                yield Note(f"{label}: {full - len(part.groups)} of {full} combinations have no rows.")


def _definitions(params: GroupsParams) -> Table:
    from auditkit.methods.fairness.metric_table import METRICS

    specs = [METRICS[name] for name in params.metrics]
    return Table(
        name="fairness.definitions",
        title="How each rate is defined",
        columns=("rate", "formula", "counted over", "better", "source"),
        rows=tuple((s.name, s.formula, s.denominator, s.direction, s.citation) for s in specs),
        note="Differences are absolute, between 0 and 1; ratios are the lower rate over the higher one.",
    )


def _means(subject: Subject, context: Context, params: GroupsParams) -> Iterator[Produced]:
    import numpy as np

    from auditkit.methods.fairness.counts import encode_groups
    from auditkit.methods.fairness.means import group_means
    from auditkit.methods.fairness.worst import simultaneous_gap

    data, predicted = subject.test, np.asarray(context.decisions(), dtype=np.float64)
    values = {
        "mean_prediction": predicted,
        "mean_error": predicted - data.y,
        "mean_absolute_error": np.abs(predicted - data.y),
    }
    # Groups joined by a character that no name holds, so that crossings share one encoder.
    separator = "\x1f"
    depths = range(1, min(params.intersections, len(data.sensitive)) + 1)
    sets = [over for depth in depths for over in itertools.combinations(data.sensitive, depth)]
    for done, over in enumerate([(), *sets]):
        context.check_deadline()
        joined = np.array([separator.join(row) for row in zip(*(data.sensitive[c] for c in over), strict=True)])
        names, codes = encode_groups(joined) if over else (("",), np.zeros(data.n, dtype=np.int64))
        if len(names) > params.max_groups:
            yield Note(
                f"{' x '.join(over)}: {len(names)} groups, more than max_groups = {params.max_groups}; left out."
            )
            continue
        for name, column in values.items():
            means = group_means(column, codes, len(names), data.weights, data.clusters)
            for index, (joined_name, interval) in enumerate(zip(names, means.intervals(params.level), strict=True)):
                yield Measurement(
                    name=f"fairness.{name}",
                    value=float(means.value[index]),
                    n=int(means.rows[index]),
                    interval=interval,
                    slice=dict(zip(over, joined_name.split(separator), strict=True)) if over else {},
                    unit="target",
                    direction="lower" if name == "mean_absolute_error" else "neutral",
                    reason=None if interval else "too few rows or clusters for an interval",
                )
            if over:
                gap = simultaneous_gap(means, "difference", params.level, bounds=(0.0, None))
                yield replace(_disparity(f"fairness.{name}.difference", gap, over, means.rows, {}, None), unit="target")
        context.progress(done + 1, len(sets) + 1)


ANALYZER = Analyzer(
    name="fairness.groups",
    version="5",
    title="Rates by group",
    summary="What each group and intersection of groups gets from the model, and how far apart they are.",
    reference="Barocas, Hardt and Narayanan (2023), Fairness and Machine Learning, chapter 3; Fay et al. (2015)",
    needs=frozenset({"labels", "sensitive"}),
    measures=_measures(),
    params=GroupsParams,
    run=run,
    run_counted=run_counted,
    limits=(
        "Groups are compared as if independent; a cluster that spans groups makes the intervals of gaps approximate. "
        "Labels are taken as the truth."
    ),
)
