"""Gradient explanations of torch models: integrated gradients and saliency, with completeness and sanity checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from auditkit.analyzers.explain.attributed import WORDS, Method, agreement, attribute_all, methods_for
from auditkit.analyzers.explain.explained import TOO_FEW
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.evidence import Measurement, Scalar
from auditkit.core.subject import Dataset, FloatArray, Subject, take_rows
from auditkit.methods.explain.additivity import rounding_of
from auditkit.methods.explain.importance import importance
from auditkit.stats.intervals import mean_interval

if TYPE_CHECKING:
    from auditkit.analyzers.explain.differentiated import GradientInputs
    from auditkit.core.attribution import Attribution

MEASURES = {
    "explain.completeness_delta": "Largest gap between the sum of a row's attributions and the change they explain.",
    "explain.mean_absolute_attribution": "Mean absolute attribution of a feature (tables).",
    "explain.attribution_share": "A feature's part of all absolute attributions (tables, integrated gradients).",
    "explain.attribution_concentration": "Share of the absolute attribution held by the top tenth of the inputs.",
    "explain.method_agreement": "Mean rank correlation of two methods' absolute attributions of a row.",
    "explain.randomisation_similarity": "Rank correlation with explanations of n copies that have random weights; of "
    "methods with a sign and 8 parts or more without the sign that a copy gives all rows of an output.",
}

_NOTHING = "every attribution is zero: the output does not depend on the inputs here"
_NOTHING_TO_COMPARE = "attributions are constant or have fewer than four inputs, or random weights move no output"


class SaliencyParams(Params):
    """Settings of ``explain.saliency``."""

    methods: tuple[Method, ...] | None = Field(
        default=None, description="methods beside integrated gradients; by the kind of input when left out"
    )
    show_rows: int = Field(
        default=0, ge=0, le=24, description="images or texts shown one by one with their explanations; raw rows of data"
    )
    max_rows: int = Field(default=100, ge=1, description="most test rows explained")
    max_background: int = Field(default=500, ge=1, description="most rows behind the mean that paths start from")
    tolerance: float = Field(default=0.01, gt=0.0, lt=1.0, description="completeness gap accepted, as a share")
    max_steps: int = Field(default=256, ge=2, description="most steps of a path")
    draws: int = Field(default=5, ge=0, description="randomised copies of the model for the sanity check")
    sanity_rows: int = Field(default=32, ge=2, description="rows of the sanity check")
    survives_above: float = Field(default=0.5, gt=0.0, lt=1.0, description="similarity that is flagged")
    max_features: int = Field(default=50, ge=1, description="features reported, the largest first")


def run(subject: Subject, context: Context, params: SaliencyParams) -> Iterator[Produced]:
    """Several explanations of a sample of rows, their summaries, their agreement, and the randomisation check."""
    from auditkit.analyzers.explain.differentiated import gradient_inputs

    inputs = gradient_inputs(subject, context, params.max_rows, params.max_background)
    for sentence in inputs.notes:
        yield Note(sentence)
    data = subject.test.take(inputs.rows)
    methods = methods_for(params.methods, inputs)
    found, notes = attribute_all(subject.model, context, inputs, methods, params.tolerance, params.max_steps)
    yield from notes
    for method, attribution in found.items():
        if "completeness_delta" in attribution.diagnostics:
            yield _completeness(method, attribution, params)
        if attribution.status == "failed":
            yield Note(f"The {WORDS[method]} attributions failed their check: {attribution.reason}.")
    for method, attribution in found.items():
        yield from _summaries(method, attribution, inputs, data, context, params)
    yield from agreement(found, inputs, data)
    yield from _artifacts(found, inputs, subject, context, params)
    yield from _sanity(subject, context, params, inputs, tuple(method for method in methods if method in found))


def _completeness(method: str, attribution: Attribution, params: SaliencyParams) -> Measurement:
    delta = attribution.diagnostics["completeness_delta"]
    finite = np.isfinite(delta)
    steps = attribution.diagnostics.get("steps")
    at = f", at {int(steps)} steps at most" if steps is not None else ""
    return Measurement(
        name="explain.completeness_delta",
        value=delta if finite else None,
        n=len(attribution.values),
        params={"method": method, "relative_tolerance": params.tolerance},
        unit=attribution.output_space,
        direction="lower",
        bounds=(0.0, None),
        reason=f"exact: the largest gap over the rows explained{at}" if finite else "the attributions are not finite",
        unreliable=attribution.reason if attribution.status == "failed" else None,
    )


def _summaries(
    method: str,
    attribution: Attribution,
    inputs: GradientInputs,
    data: Dataset,
    context: Context,
    params: SaliencyParams,
) -> Iterator[Measurement]:
    """Per feature for tables; how concentrated the attributions are for all."""
    from auditkit.methods.explain.randomisation import concentration

    magnitude = inputs.magnitude(attribution)
    unreliable = attribution.reason if attribution.status == "failed" else None
    if not np.isfinite(magnitude).all():
        yield Measurement(
            name="explain.attribution_concentration",
            value=None,
            params={"method": method},
            reason="the attributions are not finite",
        )
        return
    if magnitude.shape[1] >= 10:
        yield _concentration(method, concentration(magnitude), data, unreliable)
    if not inputs.names:
        return
    rounding = rounding_of(attribution.prediction)
    summary = importance(magnitude, context.rng, weights=data.weights, clusters=data.clusters, rounding=rounding)
    order = np.argsort(-summary.mean_absolute, kind="stable")[: params.max_features]
    for j in order:
        identity: dict[str, Scalar] = {"method": method, "feature": inputs.names[j]}
        interval, share_interval = summary.mean_absolute_intervals[j], summary.share_intervals[j]
        lacking = TOO_FEW
        yield Measurement(
            name="explain.mean_absolute_attribution",
            value=float(summary.mean_absolute[j]),
            n=len(magnitude),
            interval=interval,
            params=identity,
            unit=attribution.output_space,
            bounds=(0.0, None),
            reason=None if interval else lacking,
            unreliable=unreliable,
        )
        if method != "integrated_gradients":
            continue
        yield Measurement(
            name="explain.attribution_share",
            value=None if summary.share is None else float(summary.share[j]),
            n=len(magnitude),
            interval=share_interval,
            params=identity,
            bounds=(0.0, 1.0),
            reason=_NOTHING if summary.share is None else (None if share_interval else lacking),
            unreliable=unreliable,
        )


def _concentration(method: str, shares: FloatArray, data: Dataset, unreliable: str | None) -> Measurement:
    kept = np.flatnonzero(np.isfinite(shares)).astype(np.int64)
    shares, some = shares[kept], data.take(kept)
    value, interval = mean_interval(shares, some.weights, some.clusters) if len(kept) else (None, None)
    if interval is not None:
        interval = dataclasses.replace(interval, low=max(interval.low, 0.0), high=min(interval.high, 1.0))
    reason = None if interval else TOO_FEW
    return Measurement(
        name="explain.attribution_concentration",
        value=value,
        n=len(shares),
        interval=interval,
        params={"method": method},
        bounds=(0.0, 1.0),
        reason=_NOTHING if value is None else reason,
        unreliable=unreliable,
    )


def _artifacts(
    found: dict[str, Attribution], inputs: GradientInputs, subject: Subject, context: Context, params: SaliencyParams
) -> Iterator[Produced]:
    from auditkit.analyzers.explain.differentiated import feature_table, mean_maps, position_curve
    from auditkit.analyzers.explain.shown_rows import image_rows, text_rows
    from auditkit.analyzers.explain.vocabulary import token_words, tokenizer_of

    if inputs.names:
        yield feature_table(found, inputs, subject.test.take(inputs.rows).weights)
        return
    decided = context.decisions()[inputs.rows]
    if inputs.embedding is not None:
        if params.show_rows and np.isfinite(found["integrated_gradients"].values).all():
            ids = inputs.tensor.cpu().numpy()[: params.show_rows]
            texts = take_rows(subject.test.inputs, inputs.rows[: len(ids)])
            pairs = zip(ids, texts, strict=True)
            words = tuple(token_words(tokenizer_of(subject), row, text, inputs.special) for row, text in pairs)
            yield text_rows(found, inputs, subject, decided, words)
        yield position_curve(found, inputs)
    elif subject.test.modality == "image":
        if params.show_rows:
            yield image_rows(found, inputs, subject, decided, params.show_rows)
        if subject.task == "regression":
            return
        grid = mean_maps(found, inputs, decided, subject.classes)
        if grid is None:
            yield Note("No class has ten explained rows, so no mean saliency map is shown.")
        else:
            yield grid


def _sanity(
    subject: Subject, context: Context, params: SaliencyParams, inputs: GradientInputs, methods: tuple[Method, ...]
) -> Iterator[Produced]:
    """Adebayo's test: explanations must change when the weights are random."""
    from auditkit.analyzers.explain.differentiated import randomisation_similarities

    if params.draws == 0:
        return
    for (method, scope), values in randomisation_similarities(subject.model, context, inputs, params, methods).items():
        value, interval = mean_interval(values) if len(values) else (None, None)
        if interval is not None:
            interval = dataclasses.replace(interval, low=max(interval.low, -1.0), high=min(interval.high, 1.0))
        lacking = "an interval needs two randomised copies or more"
        reason = _NOTHING_TO_COMPARE if value is None else lacking
        yield Measurement(
            name="explain.randomisation_similarity",
            value=value,
            n=len(values),
            n_of="random models",
            interval=interval,
            params={"method": method, "scope": scope},
            direction="lower",
            bounds=(-1.0, 1.0),
            reason=None if interval else reason,
        )
        if interval is not None and interval.low > params.survives_above:
            yield Note(
                f"The {method.replace('_', ' ')} explanations survive random weights ({scope.replace('_', ' ')}; rank "
                f"correlation {value:.2f}): they say little about what the model learned."
            )


ANALYZER = Analyzer(
    name="explain.saliency",
    version="12",
    title="Saliency, paths and occlusion",
    summary="Gradient, path and occlusion explanations: complete, agreeing with one another, unlike random weights?",
    reference="Sundararajan, Taly and Yan (2017), Axiomatic Attribution for Deep Networks; Adebayo et al. (2018)",
    needs=frozenset({"gradients", "inputs", "scores"}),
    measures=MEASURES,
    params=SaliencyParams,
    run=run,
    extra="explain",
    packages=("torch", "captum"),
    limits="Binary models: the log-odds of the positive class; several classes: the logit of the decided class.",
)
