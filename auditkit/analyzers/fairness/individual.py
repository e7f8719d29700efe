"""``fairness.individual``: similar rows, unequal benefits, and what a decision owes to the sensitive value itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from auditkit.analyzers.fairness.measured import measured
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.capability import missing
from auditkit.core.evidence import MISSING_GROUP, Direction, Measurement
from auditkit.core.subject import Subject
from auditkit.stats.linearised import Design

if TYPE_CHECKING:
    from auditkit.stats.estimate import Estimate

_MEASURES = {
    "fairness.consistency": "One less the mean gap of a row's decision from its nearest neighbours' (1 is the best).",
    "fairness.generalized_entropy": "Inequality of the benefits of decisions, alpha = 2 (0 is equality).",
    "fairness.coefficient_of_variation": "Standard deviation of the benefits of decisions over their mean.",
    "fairness.theil_index": "Inequality of the benefits of decisions, alpha = 1 (0 is equality).",
    "fairness.generalized_entropy_within": "Part of that inequality that lies within the groups of the column.",
    "fairness.generalized_entropy_between": "Part of that inequality that lies between the groups of the column.",
    "fairness.counterfactual_flip_rate": (
        "Share of rows whose decision changes for some other value of the sensitive input, all else left as it is."
    ),
}
_FLIP = "fairness.counterfactual_flip_rate"


class IndividualParams(Params):
    """Settings of ``fairness.individual``."""

    level: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided confidence level.")
    neighbours: int = Field(5, ge=1, description="Nearest rows that a row is compared with.")
    max_rows: int = Field(5000, ge=2, description="Rows used for neighbours and for changed sensitive values.")
    max_values: int = Field(20, ge=2, description="Columns with more values are not changed.")
    resamples: int = Field(200, ge=20, description="Bootstrap resamples of the part between groups.")


def run(subject: Subject, context: Context, params: IndividualParams) -> Iterator[Produced]:
    """Generalized entropy from the decisions, then what needs inputs and a model that can be asked again."""
    context.check_deadline()
    yield from _inequality(subject, context, params)
    context.progress(1, 3)
    lacking = missing({"inputs", "tabular"}, subject)
    if lacking:
        yield Note(f"Consistency is not measured: {lacking}.")
    else:
        context.check_deadline()
        yield from _consistency(subject, context, params)
    context.progress(2, 3)
    lacking = missing({"inputs", "model", "tabular"}, subject)
    for column in subject.test.sensitive:
        context.check_deadline()
        yield from _flips(subject, column, context, params, lacking)
    context.progress(3, 3)


def _inequality(subject: Subject, context: Context, params: IndividualParams) -> Iterator[Measurement]:
    from auditkit.methods.fairness.individual import benefits, coefficient_of_variation, inequality, theil_index
    from auditkit.stats.coding import encode_groups

    test, positive = subject.test, subject.positive
    benefit = benefits(test.y == positive, context.decisions() == positive)
    design, rng = Design(test.weights, test.clusters), context.rng
    for index, (column, values) in enumerate(test.sensitive.items()):
        codes = encode_groups(values)[1].astype(np.int64)
        found = inequality(benefit, codes, rng, design=design, resamples=params.resamples)
        if index == 0:
            yield _measured("fairness.generalized_entropy", found.total, params.level)
            yield _measured("fairness.coefficient_of_variation", coefficient_of_variation(found.total), params.level)
            yield _measured("fairness.theil_index", theil_index(benefit, design), params.level)
        yield _measured("fairness.generalized_entropy_within", found.within, params.level, over=(column,))
        yield _measured("fairness.generalized_entropy_between", found.between, params.level, over=(column,))


def _consistency(subject: Subject, context: Context, params: IndividualParams) -> Iterator[Measurement]:
    from auditkit.methods.fairness.individual import consistency, similarity_space
    from auditkit.subjects.codec import make_codec

    test = subject.test
    rows = context.sample_rows(test.n, params.max_rows)
    data = test.take(rows)
    codec = make_codec(test)
    matrix = codec.encode(data.inputs)
    columns = [
        (matrix[:, at], kind in ("categorical", "boolean", "onehot"))
        for at, (name, kind) in enumerate(zip(codec.names, codec.kinds, strict=True))
        if name not in test.sensitive
    ]
    order = context.rng.permutation(len(rows))
    reference, queries = np.sort(order[: len(rows) // 2]), np.sort(order[len(rows) // 2 :])
    decided = (context.decisions()[rows] == subject.positive).astype(np.float64)
    estimate = consistency(
        similarity_space(columns, reference) if columns else np.zeros((len(rows), 1)),
        decided,
        queries.astype(np.int64),
        reference.astype(np.int64),
        neighbours=params.neighbours,
        design=Design(data.weights, data.clusters),
    )
    tags = {"neighbours": params.neighbours}
    yield _measured("fairness.consistency", estimate, params.level, params=tags, direction="higher", top=1.0)


def _flips(
    subject: Subject, column: str, context: Context, params: IndividualParams, lacking: str | None
) -> Iterator[Produced]:
    from auditkit.stats.linearised import proportion

    def nothing(reason: str) -> Measurement:
        return Measurement(name=_FLIP, value=None, params={"column": column}, reason=reason)

    inputs = subject.test.inputs
    if lacking or column not in getattr(inputs, "columns", ()):
        yield nothing(lacking or f"{column} is not an input of the model, so changing it changes nothing it sees")
        return
    rows = context.sample_rows(subject.test.n, params.max_rows)
    data = subject.test.take(rows)
    rows = rows[data.sensitive[column] != MISSING_GROUP]
    data = subject.test.take(rows)
    values = list(inputs[column].dropna().unique())
    if not 2 <= len(values) <= params.max_values or len(rows) == 0:
        yield nothing(f"{column} has {len(values)} values; 2 to {params.max_values} can be changed for one another")
        return
    decided = context.decisions()[rows]
    flipped = np.zeros(len(rows), dtype=bool)
    for value in values:
        context.check_deadline()
        flipped |= subject.model.predict(_with_value(data.inputs, column, value)) != decided
    design = Design(data.weights, data.clusters)
    tags = {"column": column}
    whole = proportion(flipped, design.weights, design.clusters)
    yield _measured(_FLIP, whole, params.level, params=tags, top=1.0)
    for group in sorted(set(data.sensitive[column].tolist())):
        own = np.flatnonzero(data.sensitive[column] == group)
        part = design.take(own)
        estimate = proportion(flipped[own], part.weights, part.clusters)
        yield _measured(_FLIP, estimate, params.level, where={column: str(group)}, params=tags, top=1.0)


def _with_value(inputs: Any, column: str, value: object) -> Any:
    """A copy of the table with one value in all of ``column``, of the same type as before."""
    import pandas as pd

    changed = inputs.copy()
    changed[column] = pd.Series([value] * len(changed), index=changed.index).astype(inputs[column].dtype)
    return changed


def _measured(  # noqa: PLR0913 - what a measurement says besides its estimate
    name: str,
    estimate: Estimate,
    level: float,
    *,
    where: Mapping[str, str] | None = None,
    over: tuple[str, ...] = (),
    params: Mapping[str, str | int] | None = None,
    direction: Direction = "lower",
    top: float | None = None,
) -> Measurement:
    return measured(
        name,
        estimate,
        level,
        slice=dict(where or {}),
        over=over,
        params=dict(params or {}),
        direction=direction,
        bounds=(0.0, top),
    )


ANALYZER = Analyzer(
    name="fairness.individual",
    version="2",
    title="Individual fairness",
    summary="Whether similar rows are decided alike, how unequal benefits are, and what the sensitive value does.",
    reference=(
        "Zemel et al. (2013), consistency; Speicher et al. (2018), generalized entropy; Kusner et al. (2017) for the "
        "idea of counterfactual fairness"
    ),
    needs=frozenset({"labels", "sensitive", "binary"}),
    measures=_MEASURES,
    params=IndividualParams,
    run=run,
    limits=(
        "Similarity is distance in standardised inputs without the sensitive columns, which is a choice. The flip rate "
        "changes the sensitive input alone: what follows from it in other inputs stays as it was, so 0 does not prove "
        "that the attribute plays no part."
    ),
)
