"""Shapley values of the model's scores: which features it leans on, for whom, and proof that they add up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from auditkit.analyzers.explain.attributions import (
    STEADIED,
    AttributedRows,
    AttributionParams,
    attributed_rows,
    least_budget,
)
from auditkit.analyzers.explain.explained import TOO_FEW
from auditkit.core.analyzer import Analyzer, Context, Note, Produced
from auditkit.core.attribution import Attribution
from auditkit.core.evidence import Measurement, Scalar, Table
from auditkit.core.subject import Dataset, FloatArray, IntArray, Subject
from auditkit.methods.explain.additivity import rounding_of
from auditkit.methods.explain.importance import Importance, attribution_density, importance

MEASURES = {
    "explain.mean_absolute_attribution": "How far a feature moves the score of a row, up or down, on average.",
    "explain.attribution_share": "A feature's part of all attributions: 1 means that the model uses nothing else.",
    "explain.additivity_residual": "Largest gap between base value plus attributions and the model's own score.",
    "explain.relative_standard_error": "Mean standard error of the attributions as a share of their mean size.",
}

NOTHING_MOVES = "no feature moves the model's score on these rows by more than a millionth of it, which may be rounding"
_STRIPS = 15


class ShapParams(AttributionParams):
    """Settings of ``explain.shap``."""

    max_features: int = Field(default=50, ge=1, description="features reported, the largest first")
    max_group_features: int = Field(default=15, ge=0, description="features reported for each group")


def run(subject: Subject, context: Context, params: ShapParams) -> Iterator[Produced]:
    """Explain a sample of test rows, check the sums, then summarise over features and groups."""
    found = attributed_rows(subject, context, params)
    data, names, attribution = found.data, found.names, found.attribution
    yield from _notes(subject, found, params.budget)
    yield from _checks(attribution, found.space)
    magnitude = found.magnitude
    rounding = rounding_of(attribution.prediction)
    summary = importance(magnitude, context.rng, weights=data.weights, clusters=data.clusters, rounding=rounding)
    order = np.argsort(-summary.mean_absolute, kind="stable")[: params.max_features]
    yield from _features(attribution, found.space, summary, names, order)
    yield from _groups(context, data, magnitude, attribution, names, order[: params.max_group_features])
    yield _table(attribution, summary, names, order, data.weights)
    yield _density(found, order[:_STRIPS])


def _notes(subject: Subject, found: AttributedRows, budget: int) -> Iterator[Note]:
    attribution, names = found.attribution, found.names
    yield Note(found.background)
    engine = str(attribution.params["engine"])
    tried = str(attribution.params["tried"])
    text = f"Engine: {engine}; {attribution.params['background_use']}; {attribution.n_evals:,} model evaluations."
    yield Note(text + (f" Dropped: {tried}." if tried else ""))
    if "control" in attribution.params:
        yield Note(f'{STEADIED} With space = "logit" the log-odds themselves are explained, exactly.')
    if least_budget(len(names)) > budget and attribution.std_error is not None:
        yield Note(
            f"{len(names)} features need more than {budget} evaluations a row; {least_budget(len(names))} were used."
        )
    if len(found.outputs) > 1:
        yield Note(f"Attributions are means over the {len(found.outputs)} class scores.")
    sensitive = [name for name in names if name in subject.test.sensitive]
    if sensitive:
        yield Note(f"Features that are sensitive columns themselves: {', '.join(sensitive)}.")
    if attribution.status == "failed":
        yield Note(f"These attributions failed their check: {attribution.reason}.")


def _checks(attribution: Attribution, space: str) -> Iterator[Measurement]:
    n = len(attribution.values)
    params: dict[str, Scalar] = {"method": "shap", "engine": str(attribution.params["engine"])}
    residual = attribution.diagnostics.get("additivity_residual")
    yield Measurement(
        name="explain.additivity_residual",
        value=residual,
        n=n,
        params=params,
        unit=space,
        direction="lower",
        bounds=(0.0, None),
        reason="the largest gap over the rows explained, each of which the model was asked for: no interval"
        if residual is not None
        else attribution.reason,
        unreliable=_unreliable(attribution),
    )
    if attribution.std_error is not None:
        size = float(np.abs(attribution.values).mean())
        moved = size > rounding_of(attribution.prediction)
        yield Measurement(
            name="explain.relative_standard_error",
            value=float(attribution.std_error.mean()) / size if moved else None,
            n=n,
            params=params,
            direction="lower",
            bounds=(0.0, None),
            reason="itself a statement of uncertainty, so without an interval" if moved else NOTHING_MOVES,
            unreliable=_unreliable(attribution),
        )


def _unreliable(attribution: Attribution) -> str | None:
    return attribution.reason if attribution.status == "failed" else None


def _features(
    attribution: Attribution, space: str, summary: Importance, names: tuple[str, ...], order: IntArray
) -> Iterator[Measurement]:
    n, unreliable = len(attribution.values), _unreliable(attribution)
    for j in order:
        identity: dict[str, Scalar] = {"method": "shap", "feature": names[j]}
        interval = summary.mean_absolute_intervals[j]
        yield Measurement(
            name="explain.mean_absolute_attribution",
            value=float(summary.mean_absolute[j]),
            n=n,
            interval=interval,
            params=identity,
            unit=space,
            bounds=(0.0, None),
            reason=None if interval else TOO_FEW,
            unreliable=unreliable,
        )
        yield _share(summary, int(j), n, identity, {}, unreliable)


def _share(
    summary: Importance,
    j: int,
    n: int,
    identity: dict[str, Scalar],
    where: dict[str, str],
    unreliable: str | None,
) -> Measurement:
    interval = summary.share_intervals[j]
    share = None if summary.share is None else float(summary.share[j])
    reason = None if interval else TOO_FEW
    return Measurement(
        name="explain.attribution_share",
        value=share,
        n=n,
        interval=interval,
        slice=where,
        params=identity,
        bounds=(0.0, 1.0),
        reason=NOTHING_MOVES if share is None else reason,
        unreliable=unreliable,
    )


def _groups(
    context: Context,
    data: Dataset,
    magnitude: FloatArray,
    attribution: Attribution,
    names: tuple[str, ...],
    order: IntArray,
) -> Iterator[Measurement]:
    """The same shares within each group: does the model lean on other features for other people?"""
    rng = np.random.default_rng([context.seed, 2])
    for column, values in data.sensitive.items():
        for group in np.unique(values):
            inside = values == group
            summary = importance(
                magnitude[inside],
                rng,
                weights=None if data.weights is None else data.weights[inside],
                clusters=None if data.clusters is None else data.clusters[inside],
                rounding=rounding_of(attribution.prediction),
            )
            for j in order:
                identity: dict[str, Scalar] = {"method": "shap", "feature": names[j]}
                where = {column: str(group)}
                yield _share(summary, int(j), int(inside.sum()), identity, where, _unreliable(attribution))


def _table(
    attribution: Attribution, summary: Importance, names: tuple[str, ...], order: IntArray, weights: FloatArray | None
) -> Table:
    one = attribution.values.shape[2] == 1
    signed = np.average(attribution.values[:, :, 0], axis=0, weights=weights) if one else None
    rows: list[tuple[Scalar, ...]] = []
    for j in order:
        interval = summary.mean_absolute_intervals[j]
        rows.append(
            (
                names[j],
                float(summary.mean_absolute[j]),
                interval.low if interval else None,
                interval.high if interval else None,
                None if summary.share is None else float(summary.share[j]),
                None if signed is None else float(signed[j]),
            )
        )
    return Table(
        name="explain.shap.features",
        title="What the model's score rests on",
        columns=("feature", "mean |attribution|", "low", "high", "share", "mean signed"),
        rows=tuple(rows),
        note=f"{len(attribution.values)} rows; status {attribution.status}; engine {attribution.params['engine']}.",
    )


def _density(found: AttributedRows, order: IntArray) -> Produced:
    # One strip a feature: the only output, or the one whose attributions vary most.
    values = found.attribution.values
    k = int(np.abs(values).sum(axis=(0, 1)).argmax())
    return attribution_density(
        "explain.shap.density",
        f"Attributions to the score of {found.outputs[k]!r}",
        np.nan_to_num(values[:, order, k]),
        found.matrix[:, order],
        tuple(found.names[j] for j in order),
    )


ANALYZER = Analyzer(
    name="explain.shap",
    version="7",
    title="Shapley values",
    summary="How much each feature moves the model's score, checked to add up to the score itself.",
    reference="Lundberg and Lee (2017), A Unified Approach to Interpreting Model Predictions; Shapley (1953)",
    needs=frozenset({"model", "scores", "tabular", "inputs"}),
    measures=MEASURES,
    params=ShapParams,
    run=run,
    extra="explain",
    packages=("shap",),
    limits="Absent features take the values of background rows, also in combinations that never occur together.",
)
