"""``fairness.regression``: errors, fit and level of predicted values by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from auditkit.analyzers.fairness.measured import measured, over_groups, rows_of_curves
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.evidence import Direction, Measurement
from auditkit.core.subject import IntArray, Subject
from auditkit.stats.linearised import Design

if TYPE_CHECKING:
    from auditkit.methods.fairness.distances import GroupedScores
    from auditkit.methods.fairness.regression import Rows

# Name -> direction, bounds, unit, sentence; then which disparities are published.
_BY_GROUP: Mapping[str, tuple[Direction, tuple[float | None, float | None], str, str]] = {
    "root_mean_squared_error": ("lower", (0.0, None), "target", "Root of the mean squared error within the group."),
    "r2": ("higher", (None, 1.0), "", "Share of the group's own variance that the predictions explain."),
    "correlation": ("higher", (-1.0, 1.0), "", "Pearson correlation of prediction and true value within the group."),
}
_KINDS: Mapping[str, tuple[str, ...]] = {
    "root_mean_squared_error": ("difference", "ratio"),
    "mean_absolute_error": ("ratio",),
    "r2": ("difference",),
    "correlation": ("difference",),
}
_SAID = {"difference": "Largest difference", "ratio": "Smallest ratio"}
_MEASURES = {
    **{f"fairness.{name}": text for name, (_, _, _, text) in _BY_GROUP.items()},
    **{
        f"fairness.{name}.{kind}": f"{_SAID[kind]} of {name} between two groups."
        for name, kinds in _KINDS.items()
        for kind in kinds
    },
    "fairness.mean_prediction.ratio": "Smallest ratio of two groups' mean predictions, where none is negative.",
    "fairness.bounded_group_loss": "Largest mean loss of any group (Agarwal et al. 2019).",
    "fairness.standardised_difference": "Largest difference of mean predictions in standard deviations within groups.",
    "fairness.prediction_ks": "Largest gap in selection of two groups at any threshold (Kolmogorov-Smirnov).",
    "fairness.statistical_parity_auc": "Mean gap in selection over all top shares, worst pair of groups.",
    "fairness.no_disparate_impact_share": "Smallest top share from which on selection ratios are at least 0.8.",
    "fairness.jain_index": "How even predicted over true values are; 1 is even. Positive values only.",
}


class RegressionParams(Params):
    """Settings of ``fairness.regression``."""

    level: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided confidence level.")
    max_groups: int = Field(24, ge=2, description="Columns with more groups are left out.")
    resamples: int = Field(200, ge=20, description="Bootstrap resamples of each group's predictions.")
    max_rows: int = Field(20_000, ge=2, description="Most rows behind the distances of weighted or clustered rows.")


def run(subject: Subject, context: Context, params: RegressionParams) -> Iterator[Produced]:
    """Every sensitive column: quantities by group, their gaps, distances of the predictions."""
    from auditkit.methods.fairness.distances import GroupedScores, coarse_levels
    from auditkit.methods.fairness.regression import Rows, jain_index
    from auditkit.stats.coding import encode_groups
    from auditkit.stats.ranking import midranks

    context.check_deadline()
    test = subject.test
    design = Design(test.weights, test.clusters)
    rows = Rows(np.asarray(context.decisions(), dtype=np.float64), np.asarray(test.y, dtype=np.float64), design)
    if (rows.true > 0).all() and (rows.predicted >= 0).all():
        estimate = jain_index(rows.predicted / rows.true, design)
        yield measured("fairness.jain_index", estimate, params.level, direction="higher", bounds=(0.0, 1.0))
    picked, notes = rows_of_curves(context, design, len(rows.true), params.max_rows)
    yield from notes
    # Ranks from 0 to 1: the area between two cumulated distributions is then over the top shares of all rows.
    levels = coarse_levels((midranks(rows.predicted[picked]) - 0.5) / len(picked))
    part, nothing = design.take(picked), np.zeros(len(picked), dtype=bool)
    for done, (column, values) in enumerate(test.sensitive.items()):
        context.check_deadline()
        names, codes = encode_groups(values)
        codes = codes.astype(np.int64)
        if len(names) > params.max_groups:
            yield Note(f"{column}: {len(names)} groups, more than max_groups = {params.max_groups}; left out.")
            continue
        yield from _quantities(column, names, codes, rows, params.level)
        yield from _levels(column, names, codes, rows, params.level)
        scores = GroupedScores(levels, nothing, codes[picked], len(names), part)
        yield from _distances(column, scores, context, params)
        context.progress(done + 1, len(test.sensitive))


def _quantities(
    column: str, names: tuple[str, ...], codes: IntArray, rows: Rows, level: float
) -> Iterator[Measurement]:
    from auditkit.methods.fairness import regression as r
    from auditkit.methods.fairness.expected_rates import CellRates
    from auditkit.methods.fairness.worst import simultaneous_gap

    quantities = {
        "root_mean_squared_error": r.root_mean_squared_error,
        "mean_absolute_error": r.mean_absolute_error,
        "r2": r.r2,
        "correlation": r.correlation,
    }
    n = len(codes)
    for name, quantity in quantities.items():
        found = r.by_group(quantity, rows, codes, names)
        if name in _BY_GROUP:
            direction, bounds, unit, _ = _BY_GROUP[name]
            about: dict[str, Any] = {"direction": direction, "bounds": bounds, "unit": unit}
            for group, estimate in found.items():
                yield measured(f"fairness.{name}", estimate, level, slice={column: group}, **about)
        cells = CellRates(tuple(found.values()))
        lacking = next((e.reason for e in found.values() if e.value is None), None)
        for kind in _KINDS[name]:
            top = 1.0 if kind == "ratio" else 2.0 if name == "correlation" else None
            gap = simultaneous_gap(cells, "ratio" if kind == "ratio" else "difference", level, bounds=(0.0, top))
            unit = "target" if name == "root_mean_squared_error" and kind == "difference" else ""
            told = f"undefined in a group: {lacking}" if gap.value is None and lacking else gap.reason
            yield over_groups(f"fairness.{name}.{kind}", gap, column, n, top=top, unit=unit, reason=told)
        if name in ("root_mean_squared_error", "mean_absolute_error"):
            loss = {"root_mean_squared_error": "root_squared", "mean_absolute_error": "absolute"}[name]
            worst, _ = r.bounded_group_loss(found, level)
            yield Measurement(
                name="fairness.bounded_group_loss",
                value=worst.value,
                n=worst.n,
                interval=worst.interval(level),
                over=(column,),
                params={"loss": loss},
                unit="target",
                direction="lower",
                bounds=(0.0, None),
                reason=worst.reason,
            )


def _levels(column: str, names: tuple[str, ...], codes: IntArray, rows: Rows, level: float) -> Iterator[Measurement]:
    from auditkit.methods.fairness.expected_rates import CellRates
    from auditkit.methods.fairness.regression import no_disparate_impact_share, standardised_difference
    from auditkit.methods.fairness.worst import Gap, simultaneous_gap
    from auditkit.stats.linearised import mean

    n = len(codes)
    if (rows.predicted >= 0).all():
        means = []
        for code in range(len(names)):
            own = np.flatnonzero(codes == code)
            part = rows.design.take(own)
            means.append(mean(rows.predicted[own], part.weights, part.clusters, least=0.0))
        gap = simultaneous_gap(CellRates(tuple(means)), "ratio", level)
    else:
        gap = Gap(None, None, None, "some predictions are negative, so a ratio of means says nothing")
    yield over_groups("fairness.mean_prediction.ratio", gap, column, n)
    effect = standardised_difference(rows.predicted, codes, len(names), rows.design, level)
    yield over_groups("fairness.standardised_difference", effect, column, n, top=None)
    share, reason = None, "weighted rows are not ranked"
    if rows.design.weights is None:
        share = no_disparate_impact_share(rows.predicted, codes, len(names)).share if len(names) > 1 else None
        reason = "a border found on a grid of shares has no interval" if share else "no share is even"
    yield Measurement(
        name="fairness.no_disparate_impact_share",
        value=share,
        n=n,
        over=(column,),
        direction="lower",
        bounds=(0.0, 1.0),
        reason=reason,
    )


def _distances(column: str, scores: GroupedScores, context: Context, params: RegressionParams) -> Iterator[Measurement]:
    from auditkit.methods.fairness.distances import worst_distances

    found = worst_distances(
        ("ks", "wasserstein"),
        scores,
        context.rng,
        resamples=params.resamples,
        level=params.level,
        before_group=context.check_deadline,
    )
    yield over_groups("fairness.prediction_ks", found["ks"], column, len(scores.codes))
    yield over_groups("fairness.statistical_parity_auc", found["wasserstein"], column, len(scores.codes))


ANALYZER = Analyzer(
    name="fairness.regression",
    version="3",
    title="Predicted values by group",
    summary="Whether predicted values are as right, as well ordered and as high in every group.",
    reference=(
        "Agarwal, Dudik and Wu (2019), Fair regression; Cohen (1988), section 2.2; Feldman et al. (2015) for the 0.8 "
        "of disparate impact"
    ),
    needs=frozenset({"labels", "sensitive", "regression"}),
    measures=_MEASURES,
    params=RegressionParams,
    run=run,
    limits=(
        "Differences in mean prediction may be differences in what is predicted. Means and squared errors with long "
        "tails have intervals that are too short in small groups."
    ),
)
