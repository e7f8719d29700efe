"""``explain.permuted_labels``: do explanations of a table depend on the labels that the model was trained on?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from auditkit.analyzers.explain.attributions import AttributionParams
from auditkit.analyzers.explain.explained import encoded_background, explained_outputs, few_rows
from auditkit.analyzers.explain.partwise import (
    LIME,
    SHAPLEY,
    PartedTable,
    decided_targets,
    joined_columns,
    without_lime,
)
from auditkit.core.analyzer import Analyzer, Context, Note, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Measurement, Scalar, Table
from auditkit.core.subject import FloatArray, IntArray, Model, Subject, TrainingRecipe, take_rows
from auditkit.methods.explain.agreement import rank_correlations
from auditkit.stats.intervals import mean_interval

MEASURES = {
    "explain.randomisation_similarity": "Rank correlation with explanations of n models that were trained on permuted "
    "labels: near 0 for explanations that say what was learned.",
    "explain.retraining_similarity": "Rank correlation with explanations of n models that were trained afresh on the "
    "true labels: what the recipe agrees with itself, the control.",
}
_FEWEST_RANKED = 4
_SCOPE = "labels"
_METHODS = {"shap": SHAPLEY, "lime": LIME}
_CONSTANT = "attributions are constant: one of the models compared uses no feature on these rows"
_TOO_FEW = "an interval needs two models or more"


class PermutedLabelsParams(AttributionParams):
    """Settings of ``explain.permuted_labels``."""

    max_rows: int = Field(default=32, ge=2, description="most test rows explained, for every model")
    max_background: int = Field(default=50, ge=1, description="most background rows; all of them are used")
    max_train_rows: int = Field(default=5000, ge=10, description="most training rows that a model is trained on")
    draws: int = Field(default=5, ge=2, description="models trained on permuted labels")
    controls: int = Field(default=2, ge=0, description="models trained on the true labels with other seeds")
    methods: tuple[Literal["shap", "lime"], ...] = Field(
        default=("shap", "lime"), min_length=1, description="explanations compared"
    )
    lime_samples: int = Field(default=2000, ge=10, description="samples of LIME")
    survives_above: float = Field(default=0.5, gt=0.0, lt=1.0, description="similarity that is flagged")


@dataclass(frozen=True, kw_only=True)
class _Twin:
    """A model trained afresh: on permuted labels or not, how well it fits its own labels, and how similar it is."""

    permuted: bool
    fit: float
    signed: dict[str, float | None]
    absolute: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class _Explainer:
    """Signed amounts of the same rows for any model of the subject's kind."""

    explain: Callable[[Model], tuple[dict[str, FloatArray], dict[str, str | None]]]
    rows: int
    note: str
    without_lime: str | None


def run(subject: Subject, context: Context, params: PermutedLabelsParams) -> Iterator[Produced]:
    """Explain rows by the user's model and by models trained afresh on permuted and on true labels; compare by rank."""
    assert subject.train is not None
    assert subject.recipe is not None
    explainer = _explainer(subject, context, params)
    yield Note(explainer.note)
    own, failed = explainer.explain(subject.model)
    if explainer.without_lime is not None and "lime" in params.methods:
        if not own:
            raise NotApplicable(
                "AK506",
                "LIME is the only method asked for, and cannot explain these rows",
                why=explainer.without_lime.rstrip("."),
                fix="compare Shapley values too",
            )
        yield Note(explainer.without_lime)
    kept = context.sample_rows(subject.train.n, params.max_train_rows)
    if len(kept) < subject.train.n:
        yield Note(f"Every model was trained on the same {len(kept)} of the {subject.train.n:,} training rows.")
    twins: list[_Twin] = []
    total = params.draws + params.controls
    rng = np.random.default_rng([context.seed, 2])
    for number in range(total):
        context.check_deadline()
        permuted = number < params.draws
        y = subject.train.y[kept]
        labels = y[rng.permutation(len(y))] if permuted else y
        twins.append(_twin(subject.recipe, take_rows(subject.train.inputs, kept), labels, permuted,
                           int(rng.integers(2**31)), explainer, own))  # fmt: skip
        context.progress(number + 1, total)
    yield from _report(own, twins, failed, params)
    yield _table(own, twins, explainer.rows)


def _explainer(subject: Subject, context: Context, params: PermutedLabelsParams) -> _Explainer:
    """The rows, the background and the settings that all models share.

    Raises:
        NotApplicable: AK465 too few features for ranks.
    """
    from auditkit.subjects.codec import make_codec

    assert subject.train is not None
    codec = make_codec(subject.test, subject.train)
    players = joined_columns(tuple(codec.names), tuple(column.feature.group for column in codec.columns))
    if len(players) < _FEWEST_RANKED:
        raise NotApplicable("AK465", f"ranks of {len(players)} features say too little; {_FEWEST_RANKED} are needed")
    rows, matrix = _rows(subject, context, codec, params.max_rows)
    background, sentence = encoded_background(subject, context, codec, params.max_background)
    targets = decided_targets(subject, context, rows)
    silent = dataclasses.replace(context, progress=lambda done, total: None)

    def explain(model: Model) -> tuple[dict[str, FloatArray], dict[str, str | None]]:
        of = dataclasses.replace(subject, model=model)
        table = PartedTable(
            explained=explained_outputs(of, silent, codec, params.space, 1),
            codec=codec,
            background=background,
            players=players,
            model=getattr(model, "estimator", None),
            params=params,
            seed=context.seed % 2**31,
        )
        return _amounts(table, matrix, targets, params)

    return _Explainer(explain=explain, rows=len(rows), note=sentence, without_lime=without_lime(matrix, background))


def _rows(subject: Subject, context: Context, codec: Any, limit: int) -> tuple[IntArray, FloatArray]:
    """Test rows and their codes; those without a missing value, which LIME can explain too, where most are such."""
    rows = context.sample_rows(subject.test.n, 2 * limit)
    matrix = np.asarray(codec.encode(take_rows(subject.test.inputs, rows)), dtype=np.float64)
    complete = np.flatnonzero(np.isfinite(matrix).all(axis=1))
    usable = complete if 2 * len(complete) >= len(rows) else np.arange(len(rows))
    kept = usable[few_rows(context, len(usable), limit)]
    return rows[kept], matrix[kept]


def _amounts(
    table: PartedTable, matrix: FloatArray, targets: IntArray, params: PermutedLabelsParams
) -> tuple[dict[str, FloatArray], dict[str, str | None]]:
    found: dict[str, FloatArray] = {}
    failed: dict[str, str | None] = {}
    if "shap" in params.methods:
        found["shap"], failed["shap"] = table.shapley(matrix, targets)
    if "lime" in params.methods:
        weights = table.lime(matrix, targets, params.lime_samples)
        if weights is not None:
            found["lime"] = weights
    return found, failed


def _twin(
    recipe: TrainingRecipe,
    inputs: object,
    labels: np.typing.NDArray[np.generic],
    permuted: bool,
    seed: int,
    explainer: _Explainer,
    own: dict[str, FloatArray],
) -> _Twin:
    model = recipe.fit(inputs, labels, seed)
    theirs, _ = explainer.explain(model)
    return _Twin(
        permuted=permuted,
        fit=_fit(np.asarray(model.predict(inputs)), labels),
        signed={method: similarity(own[method], theirs[method]) for method in own},
        absolute={method: similarity(np.abs(own[method]), np.abs(theirs[method])) for method in own},
    )


def similarity(first: FloatArray, second: FloatArray) -> float | None:
    """Mean over rows of the rank correlation of two ``(n, p)`` explanations; ``None`` where none is defined."""
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return None
    found = rank_correlations(first, second)
    return float(found.mean()) if len(found) else None


def _fit(decided: np.typing.NDArray[np.generic], labels: np.typing.NDArray[np.generic]) -> float:
    """Share of its own training labels that a model gives back, or R2 of its own training values."""
    if labels.dtype.kind != "f":
        return float((decided == labels).mean())
    values = np.asarray(labels, dtype=np.float64)
    total = float(((values - values.mean()) ** 2).sum())
    return 1.0 - float(((values - np.asarray(decided, dtype=np.float64)) ** 2).sum()) / total if total > 0.0 else 0.0


def _report(
    own: dict[str, FloatArray], twins: list[_Twin], failed: dict[str, str | None], params: PermutedLabelsParams
) -> Iterator[Produced]:
    for method in own:
        for permuted, name in ((True, "explain.randomisation_similarity"), (False, "explain.retraining_similarity")):
            chosen = [twin.signed[method] for twin in twins if twin.permuted == permuted]
            if not chosen:
                continue
            measured = _measurement(name, method, chosen, failed.get(method))
            yield measured
            low = measured.interval.low if measured.interval else None
            if permuted and low is not None and low > params.survives_above:
                yield Note(
                    f"The {_METHODS[method]} explanations survive training on permuted labels (rank correlation "
                    f"{measured.value:.2f}): they say little about what the model learned from its labels."
                )


def _measurement(name: str, method: str, chosen: list[float | None], failed: str | None) -> Measurement:
    known = np.array([value for value in chosen if value is not None], dtype=np.float64)
    # A model that has no ranks to compare is no evidence of change, so all must have them.
    whole = len(known) == len(chosen)
    value, interval = mean_interval(known) if whole else (None, None)
    if interval is not None:
        interval = dataclasses.replace(interval, low=max(interval.low, -1.0), high=min(interval.high, 1.0))
    reason = None if interval else _TOO_FEW
    return Measurement(
        name=name,
        value=value,
        n=len(known),
        n_of="random models" if name == "explain.randomisation_similarity" else "models trained afresh",
        interval=interval,
        params={"method": method, "scope": _SCOPE},
        direction="lower" if name == "explain.randomisation_similarity" else "higher",
        bounds=(-1.0, 1.0),
        reason=reason if whole else _CONSTANT,
        unreliable=f"the Shapley values of the user's model failed their check: {failed}" if failed else None,
    )


def _table(own: dict[str, FloatArray], twins: list[_Twin], rows: int) -> Table:
    kinds = {True: "permuted labels", False: "true labels"}
    lines: list[tuple[Scalar, ...]] = [
        (kinds[twin.permuted], twin.fit, _METHODS[method], twin.signed[method], twin.absolute[method])
        for twin in twins
        for method in own
    ]
    return Table(
        name="explain.permuted_labels.models",
        title="Explanations of models trained afresh, beside those of the model audited",
        columns=("trained on", "fit to these labels", "explanation", "rank correlation", "of absolute amounts"),
        rows=tuple(lines),
        note=f"One line a model and explanation, {rows} test rows. Fit is the share of its own training labels that "
        "the model gives back (R2 of values). Absolute amounts stay alike where the features differ in spread, "
        "whatever was learned; so the signed ones are judged.",
    )


ANALYZER = Analyzer(
    name="explain.permuted_labels",
    version="4",
    title="Explanations and permuted labels",
    summary="Do Shapley values and LIME change when the model is trained afresh on permuted labels, as they must?",
    reference="Adebayo et al. (2018), Sanity Checks for Saliency Maps, section 4 (data randomisation)",
    needs=frozenset({"model", "scores", "tabular", "inputs", "train", "retrain"}),
    measures=MEASURES,
    params=PermutedLabelsParams,
    run=run,
    extra="explain",
    packages=("shap", "lime"),
    default=False,
    limits="A model that hardly fits permuted labels leaves little to compare: see how well each model fits its own.",
)
