"""LIME: local linear surrogates, how well they fit, and whether they say the same thing twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
from pydantic import Field

from auditkit.analyzers.explain.explained import (
    TOO_FEW,
    background_rows,
    encoded_background,
    explained_outputs,
    whole_columns,
)
from auditkit.analyzers.explain.lime_measures import fidelity, stability, untold
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Measurement, Scalar, Table
from auditkit.core.subject import FloatArray, IntArray, Subject, take_rows
from auditkit.methods.explain.importance import Importance, importance
from auditkit.methods.explain.lime_table import LimeResult, LimeTable, unusable

MEASURES = {
    "explain.local_fidelity_r2": "Mean weighted R2 of the linear surrogates: how well they describe the model nearby.",
    "explain.stability_top5_overlap": "Share of a row's five largest features (words, segments) on which seeds agree.",
    "explain.mean_absolute_attribution": "Mean absolute surrogate weight of a feature.",
}

CODED = ("categorical", "boolean", "onehot")


class LimeParams(Params):
    """Settings of ``explain.lime``."""

    engine: Literal["batched", "lime"] = Field(
        default="batched", description="auditkit's batched engine, or the lime package (tables)"
    )
    max_rows: int = Field(default=100, ge=1, description="most test rows explained (texts and images: a tenth of it)")
    max_reference: int = Field(default=2000, ge=2, description="most reference rows that shape the samples (tables)")
    samples: int = Field(default=5000, ge=10, description="perturbed rows behind an explanation")
    shared_samples: bool = Field(
        default=True,
        description="one set of perturbed rows a seed for all rows, so that the model sees it once; a set of its own "
        "for each row costs about six times as much",
    )
    seeds: int = Field(default=3, ge=1, description="seeds whose explanations are compared")
    discretizer: Literal["quartile", "decile", "entropy", "none"] = Field(
        default="quartile", description="bins of continuous features; none: standardised values"
    )
    selection: Literal["none", "auto", "forward_selection", "highest_weights", "lasso_path"] = Field(
        default="none", description="how the features of a surrogate are chosen"
    )
    features: int | None = Field(default=None, ge=1, description="features chosen; all when left out")
    segments: Literal["grid", "quickshift", "slic", "felzenszwalb"] = Field(
        default="grid", description="segments of an image"
    )
    max_features: int = Field(default=50, ge=1, description="features reported, the largest first")


def run(subject: Subject, context: Context, params: LimeParams) -> Iterator[Produced]:
    """Explain a sample of rows under several seeds; report fit, stability and, for tables, weights."""
    if subject.test.modality == "tabular":
        yield from _table_run(subject, context, params)
    elif subject.test.modality in ("text", "image"):
        yield from _parts_run(subject, context, params)
    else:
        raise NotApplicable(
            "AK480", "lime leaves out words, and token ids have none", fix="pass the texts and tokenizer="
        )


def _seeds(context: Context, params: LimeParams) -> tuple[int, ...]:
    return tuple(context.seed % 2**31 + extra for extra in range(params.seeds))


def _targets(subject: Subject, context: Context, rows: IntArray) -> list[int]:
    """The output explained of each row: that of the decided class where there are several."""
    if subject.task != "multiclass":
        return [0] * len(rows)
    return [int(code) for code in context.decisions()[rows]]


def _parts_run(subject: Subject, context: Context, params: LimeParams) -> Iterator[Produced]:
    from auditkit.analyzers.explain.lime_parts import AsGiven, image_explanations, parts_measured, text_explanations

    rows = context.sample_rows(subject.test.n, max(1, params.max_rows // 10))
    samples = max(10, params.samples // 10)
    explained = explained_outputs(subject, context, AsGiven, "score", params.seeds * len(rows) * samples)
    targets, seeds = _targets(subject, context, rows), _seeds(context, params)
    if subject.test.modality == "text":
        found = text_explanations(subject, explained, rows, targets, samples, seeds)
    else:
        found = image_explanations(subject, explained, rows, targets, samples, seeds, params.segments)
    yield from parts_measured(found, subject, rows, {"method": "lime", "samples": samples})


def _table_run(subject: Subject, context: Context, params: LimeParams) -> Iterator[Produced]:
    from auditkit.subjects.codec import make_codec

    rows = context.sample_rows(subject.test.n, params.max_rows)
    codec = make_codec(subject.test, *([] if subject.train is None else [subject.train]))
    reference, sentence = encoded_background(subject, context, codec, params.max_reference)
    shared = params.engine == "batched" and params.shared_samples
    evaluations = params.seeds * (len(rows) + params.samples if shared else len(rows) * params.samples)
    explained = explained_outputs(subject, context, codec, "score", evaluations)
    why = unusable(reference)
    if why is not None:
        raise NotApplicable(why.code, why.what, fix=why.fix)
    names = tuple(codec.names)
    table = LimeTable(
        reference=reference,
        names=names,
        categorical=tuple(
            j
            for j, (coded, kind) in enumerate(zip(codec.categorical, codec.kinds, strict=True))
            if coded or kind in CODED
        ),
        discretizer=None if params.discretizer == "none" else params.discretizer,
        labels=_labels(subject, context, params),
        whole=whole_columns(codec),
    )
    matrix = np.asarray(codec.encode(take_rows(subject.test.inputs, rows)), dtype=np.float64)
    targets = _targets(subject, context, rows)
    found = [_engine(params, explained.predict, matrix, table, targets, seed) for seed in _seeds(context, params)]
    first = found[0]
    yield Note(sentence.replace("background", "reference table"))
    if shared:
        yield Note("All rows share the perturbed rows of a seed; intervals cover the choice of rows, not of these.")
    if first.skipped or first.reference_dropped:
        yield Note(
            f"{first.skipped} of {len(rows):,} rows and {first.reference_dropped} of {len(reference):,} reference rows "
            "hold a missing value and were left out: lime cannot sample around them."
        )
    if len(first.rows) == 0:
        raise NotApplicable(
            "AK506",
            "every sampled row holds a missing value, which lime cannot sample around",
            fix="use explain.shap, which takes missing values as they are",
        )
    # A row that the samples of any seed do not tell is left out of all, or its zeros would count as disagreement.
    told = ~np.any([result.untold.all(axis=1) for result in found], axis=0)
    yield from untold(first.untold | ~told[:, None], names)
    if not told.any():
        raise NotApplicable(
            "AK507",
            "no sampled row shares a bin or category with the rows that lime draws around the reference table",
            fix="pass train= with rows like those explained",
        )
    data = subject.test.take(rows[first.rows[told]])
    weights = [result.weights[told] for result in found]
    identity: dict[str, Scalar] = {"method": "lime", "samples": params.samples}
    yield from fidelity(first.r2[told], data, identity)
    yield stability([list(amounts) for amounts in weights], data, identity, "features")
    summary = importance(np.abs(weights[0]), context.rng, weights=data.weights, clusters=data.clusters)
    order = np.argsort(-summary.mean_absolute, kind="stable")[: params.max_features]
    yield from _features(summary, names, order, data.n)
    signed = np.average(weights[0], axis=0, weights=data.weights)
    yield _table(first.r2[told], summary, signed, names, order, params)


def _engine(
    params: LimeParams,
    predict: Callable[[FloatArray], FloatArray],
    matrix: FloatArray,
    table: LimeTable,
    targets: list[int],
    seed: int,
) -> LimeResult:
    settings: dict[str, Any] = {
        "samples": params.samples,
        "seed": seed,
        "targets": targets,
        "selection": params.selection,
        "features": params.features,
    }
    if params.engine == "batched":
        from auditkit.methods.explain.lime_batched import batched_lime

        return batched_lime(predict, matrix, table, shared=params.shared_samples, **settings)
    from auditkit.methods.explain.lime_engine import library_lime

    return library_lime(predict, matrix, table, **settings)


def _labels(subject: Subject, context: Context, params: LimeParams) -> IntArray | None:
    """Class codes of the reference rows, where bins are cut by them."""
    if params.discretizer != "entropy" or subject.task == "regression":
        return None
    data = subject.split("test" if subject.train is None else "train")
    return np.asarray(data.y[background_rows(context, data.n, params.max_reference)], dtype=np.int64)


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
            reason=None if interval else TOO_FEW,
        )


def _table(
    r2: FloatArray,
    summary: Importance,
    signed: FloatArray,
    names: tuple[str, ...],
    order: IntArray,
    params: LimeParams,
) -> Table:
    bins = {"quartile": "quartile", "decile": "decile", "entropy": "bin"}.get(params.discretizer)
    unit = f"lying in the row's own {bins}" if bins else "one standard deviation"
    fitted = r2[np.isfinite(r2)]
    fit = f"mean R2 {float(fitted.mean()):.2f}" if len(fitted) else "nothing to fit"
    rows: list[tuple[Scalar, ...]] = []
    for j in order:
        interval = summary.mean_absolute_intervals[j]
        low, high = (interval.low, interval.high) if interval else (None, None)
        rows.append((names[j], float(summary.mean_absolute[j]), low, high, float(signed[j])))
    return Table(
        name="explain.lime.features",
        title="Weights of the local linear surrogates",
        columns=("feature", "mean |weight|", "low", "high", "mean signed"),
        rows=tuple(rows),
        note=f"{len(r2)} rows; {fit}. A continuous feature's weight is the effect of {unit}.",
    )


ANALYZER = Analyzer(
    name="explain.lime",
    version="6",
    title="LIME",
    summary="Local linear surrogates of the model's score, with their fit and their stability across seeds.",
    reference="Ribeiro, Singh and Guestrin (2016), Why Should I Trust You?",
    needs=frozenset({"model", "scores", "inputs"}),
    measures=MEASURES,
    params=LimeParams,
    run=run,
    extra="explain",
    packages=("lime", "sklearn"),
    limits="A surrogate with a low R2 does not describe the model, whatever its weights say.",
)
