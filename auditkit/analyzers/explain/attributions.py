"""Shapley values of a sample of test rows, computed once a run for every analyzer that asks with the same settings."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from auditkit.analyzers.explain.explained import encoded_background, explained_outputs
from auditkit.core.analyzer import Context, Params
from auditkit.core.attribution import Attribution
from auditkit.core.seeds import analyzer_seed
from auditkit.core.subject import Dataset, FloatArray, IntArray, ScoreSpace, Subject, take_rows

STEADIED = (
    "Probabilities are no sum over the parts of this model, but their log-odds are: the exact values of those "
    "steady what is sampled."
)


class AttributionParams(Params):
    """Settings that decide which Shapley values are computed; analyzers with the same ones share them."""

    max_rows: int = Field(default=200, ge=1, description="most test rows explained")
    max_background: int = Field(default=100, ge=1, description="most background rows; all of them are used")
    budget: int = Field(default=2048, ge=8, description="model evaluations a row where values are sampled")
    engine: Literal["auto", "structure", "shap", "shapley"] = Field(
        default="auto",
        description="the model's own trees or line, shap, or evaluations alone; auto: the first that proves right",
    )
    space: Literal["score", "logit"] = Field(
        default="score", description="what is explained: the scores or their logits"
    )


@dataclass(frozen=True, kw_only=True)
class AttributedRows:
    """The rows explained and their attributions.

    Attributes:
        rows: ``(n,)`` positions of the rows in the test data.
        data: Those rows.
        matrix: ``(n, f)`` the rows encoded as numbers.
        categorical: ``(f,)`` whether a column of ``matrix`` holds codes of categories.
        names: ``(f,)`` feature names.
        groups: ``(f,)`` the one-hot group of each feature, or ``None``.
        attribution: Values ``(n, f, k)``, checked against the scores of the cached pass.
        space: The space of the ``k`` outputs.
        outputs: Names of the ``k`` outputs.
        background: A sentence on the background rows.
    """

    rows: IntArray
    data: Dataset
    matrix: FloatArray
    categorical: np.typing.NDArray[np.bool_]
    names: tuple[str, ...]
    groups: tuple[str | None, ...]
    attribution: Attribution
    space: ScoreSpace
    outputs: tuple[str, ...]
    background: str

    @property
    def magnitude(self) -> FloatArray:
        """``(n, f)`` absolute attributions, mean over the outputs."""
        return np.asarray(np.abs(self.attribution.values).mean(axis=2), dtype=np.float64)

    @property
    def unreliable(self) -> str | None:
        """Why nothing that rests on the attributions may be relied on, if so."""
        return self.attribution.reason if self.attribution.status == "failed" else None


def attributed_rows(subject: Subject, context: Context, params: AttributionParams) -> AttributedRows:
    """The attributions that these settings ask for: those of an earlier analyzer of the run, or computed now.

    They have a random stream of their own, so they are the same whichever analyzer asks first.
    """
    wanted = {name: getattr(params, name) for name in AttributionParams.model_fields}
    settings = AttributionParams.model_validate(wanted)
    sequence = analyzer_seed(context.run_seed, "explain.attributions", settings.model_dump(mode="json"))
    own = dataclasses.replace(context, sequence=sequence)
    found: AttributedRows = context.once(
        ("explain.attributions", settings.model_dump_json()), lambda: _attributed(subject, own, settings)
    )
    return found


def _attributed(subject: Subject, context: Context, params: AttributionParams) -> AttributedRows:
    from auditkit.subjects.codec import make_codec

    rows = context.sample_rows(subject.test.n, params.max_rows)
    codec = make_codec(subject.test, *([] if subject.train is None else [subject.train]))
    background, sentence = encoded_background(subject, context, codec, params.max_background)
    explained = explained_outputs(subject, context, codec, params.space, len(rows) * params.budget)
    matrix = np.asarray(codec.encode(take_rows(subject.test.inputs, rows)), dtype=np.float64)
    from auditkit.methods.explain.additivity import checked
    from auditkit.methods.explain.game import make_game
    from auditkit.methods.explain.shap_engine import explain_scores

    players = [(j,) for j in range(matrix.shape[1])]
    game = make_game(explained.predict, matrix, background, players, inputs=codec.decode)
    attribution = explain_scores(
        game,
        model=getattr(subject.model, "estimator", None),
        space=explained.space,
        column=explained.column,
        budget=max(params.budget, least_budget(matrix.shape[1])),
        seed=context.seed % 2**32,
        engine=params.engine,
    )
    # Checked against the cached scores of the original rows, so that encoding is checked too.
    clean = explained.outputs(context.scores()[rows])
    return AttributedRows(
        rows=rows,
        data=subject.test.take(rows),
        matrix=matrix,
        categorical=codec.categorical,
        names=tuple(codec.names),
        groups=tuple(column.feature.group for column in codec.columns),
        attribution=checked(dataclasses.replace(attribution, prediction=clean)),
        space=explained.space,
        outputs=explained.names,
        background=sentence,
    )


def least_budget(features: int) -> int:
    """Model evaluations a row of two antithetic pairs of walks: the least that gives a standard error."""
    return 4 * (features - 1)
