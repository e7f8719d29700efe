"""LIME on tables: local linear surrogates, how well they fit, and whether they say the same thing twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from auditkit.analyzers.explain.explained import encoded_background, explained_outputs
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Measurement, Scalar, Table
from auditkit.core.subject import Dataset, IntArray, Subject, take_rows
from auditkit.methods.explain.importance import Importance, importance
from auditkit.stats.intervals import mean_interval, wilson

if TYPE_CHECKING:
    from auditkit.methods.explain.lime_engine import LimeResult

MEASURES = {
    "explain.local_fidelity_r2": "Mean weighted R2 of the linear surrogates: how well they describe the model nearby.",
    "explain.stability_top5_overlap": "Share of a row's five largest features that two seeds agree on, on average.",
    "explain.mean_absolute_attribution": "Mean absolute surrogate weight of a feature.",
}

CODED = ("categorical", "boolean", "onehot")
_TOP = 5


class LimeParams(Params):
    """Settings of ``explain.lime``."""

    max_rows: int = Field(default=40, ge=1, description="most test rows explained (twice, with two seeds)")
    max_reference: int = Field(default=500, ge=2, description="most reference rows that shape the samples")
    samples: int = Field(default=1000, ge=10, description="model evaluations a row and seed")
    discretize: bool = Field(default=True, description="quartiles of continuous features, as lime does by default")
    max_features: int = Field(default=50, ge=1, description="features reported, the largest first")


def run(subject: Subject, context: Context, params: LimeParams) -> Iterator[Produced]:
    """Explain a sample of rows under two seeds; report fit, stability and weights."""
    from auditkit.methods.explain.lime_engine import LimeTable, lime_explanations
    from auditkit.subjects.codec import make_codec

    rows = context.sample_rows(subject.test.n, params.max_rows)
    codec = make_codec(subject.test, *([] if subject.train is None else [subject.train]))
    reference, sentence = encoded_background(subject, context, codec, params.max_reference)
    explained = explained_outputs(subject, context, codec, "score", 2 * len(rows) * params.samples)
    names = tuple(codec.names)
    table = LimeTable(
        reference=reference,
        names=names,
        categorical=tuple(j for j, coded in enumerate(codec.categorical) if coded or codec.kinds[j] in CODED),
        discretize=params.discretize,
    )
    matrix = np.asarray(codec.encode(take_rows(subject.test.inputs, rows)), dtype=np.float64)
    targets = context.decisions()[rows] if subject.task == "multiclass" else np.zeros(len(rows), dtype=np.int64)
    seeds = (context.seed % 2**31, context.seed % 2**31 + 1)
    first, second = (
        lime_explanations(explained.predict, matrix, table, samples=params.samples, seed=seed, targets=list(targets))
        for seed in seeds
    )
    yield Note(sentence.replace("background", "reference table"))
    if first.skipped or first.reference_dropped:
        yield Note(
            f"{first.skipped} of {len(rows)} rows and {first.reference_dropped} of {len(reference)} reference rows "
            "hold a missing value and were left out: lime cannot sample around them."
        )
    if len(first.rows) == 0:
        raise NotApplicable(
            "AK506",
            "every sampled row holds a missing value, which lime cannot sample around",
            fix="use explain.shap, which takes missing values as they are",
        )
    data = subject.test.take(rows[first.rows])
    yield _fidelity(first, data, params)
    yield _stability(first, second, data, params)
    summary = importance(np.abs(first.weights), context.rng, weights=data.weights, clusters=data.clusters)
    order = np.argsort(-summary.mean_absolute, kind="stable")[: params.max_features]
    yield from _features(summary, names, order, len(first.rows))
    yield _table(first, summary, names, order, params)


def _fidelity(result: LimeResult, data: Dataset, params: LimeParams) -> Measurement:
    value, interval = mean_interval(result.r2, data.weights, data.clusters)
    if interval is not None:
        interval = dataclasses.replace(interval, high=min(interval.high, 1.0))
    return Measurement(
        name="explain.local_fidelity_r2",
        value=value,
        n=len(result.r2),
        interval=interval,
        params={"method": "lime", "samples": params.samples},
        direction="higher",
        bounds=(None, 1.0),
        reason=None if interval else "an interval needs two rows (or clusters) or more",
    )


def _stability(first: LimeResult, second: LimeResult, data: Dataset, params: LimeParams) -> Measurement:
    """Wilson interval on rows (or clusters): an overlap lies in [0, 1] and varies at most as much as a proportion."""
    from auditkit.methods.explain.lime_engine import top_overlap

    n, features = first.weights.shape
    identity: dict[str, Scalar] = {"method": "lime", "samples": params.samples}
    if features <= _TOP:
        return Measurement(
            name="explain.stability_top5_overlap",
            value=None,
            n=n,
            params=identity,
            direction="higher",
            bounds=(0.0, 1.0),
            reason=f"the table has {features} features: its five largest are always the same",
        )
    value, _ = mean_interval(top_overlap(first.weights, second.weights, _TOP), data.weights, data.clusters)
    units = n if data.clusters is None else len(np.unique(data.clusters))
    if data.weights is not None:
        units = min(units, float(data.weights.sum()) ** 2 / float((data.weights**2).sum()))
    return Measurement(
        name="explain.stability_top5_overlap",
        value=value,
        n=n,
        interval=wilson(min(max(value, 0.0), 1.0), units),
        params=identity,
        direction="higher",
        bounds=(0.0, 1.0),
    )


def _features(summary: Importance, names: tuple[str, ...], order: IntArray, n: int) -> Iterator[Measurement]:
    for j in order:
        interval = summary.mean_absolute_intervals[j]
        yield Measurement(
            name="explain.mean_absolute_attribution",
            value=float(summary.mean_absolute[j]),
            n=n,
            interval=interval,
            params={"method": "lime", "feature": names[j]},
            bounds=(0.0, None),
            reason=None if interval else "an interval needs two rows (or clusters) or more",
        )


def _table(
    result: LimeResult, summary: Importance, names: tuple[str, ...], order: IntArray, params: LimeParams
) -> Table:
    unit = "lying in the row's own quartile" if params.discretize else "one standard deviation"
    rows: list[tuple[Scalar, ...]] = []
    for j in order:
        interval = summary.mean_absolute_intervals[j]
        low, high = (interval.low, interval.high) if interval else (None, None)
        signed = float(result.weights[:, j].mean())
        rows.append((names[j], float(summary.mean_absolute[j]), low, high, signed))
    return Table(
        name="explain.lime.features",
        title="Weights of the local linear surrogates",
        columns=("feature", "mean |weight|", "low", "high", "mean signed"),
        rows=tuple(rows),
        note=f"{len(result.rows)} rows; mean R2 {float(result.r2.mean()):.2f}. A continuous feature's weight is the "
        f"effect of {unit}.",
    )


ANALYZER = Analyzer(
    name="explain.lime",
    version="1",
    title="LIME",
    summary="Local linear surrogates of the model's score, with their fit and their stability across seeds.",
    reference="Ribeiro, Singh and Guestrin (2016), Why Should I Trust You?",
    needs=frozenset({"model", "scores", "tabular", "inputs"}),
    measures=MEASURES,
    params=LimeParams,
    run=run,
    extra="explain",
    packages=("lime",),
    limits="A surrogate with a low R2 does not describe the model, whatever its weights say.",
)
