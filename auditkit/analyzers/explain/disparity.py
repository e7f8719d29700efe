"""``explain.disparity``: does the model lean on other features for other groups, at equal score?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from auditkit.analyzers.explain.attributions import AttributedRows, AttributionParams, attributed_rows
from auditkit.core.analyzer import Analyzer, Context, Note, Produced
from auditkit.core.evidence import Measurement, Scalar, Table
from auditkit.core.stages import Stages
from auditkit.core.subject import FloatArray, IntArray, StrArray, Subject
from auditkit.stats.linearised import Design

if TYPE_CHECKING:
    from auditkit.methods.explain.disparity import LargestGap
    from auditkit.stats.permutation import PermutationResult

SHARE = "explain.share_at_equal_score.difference"
SIGNED = "explain.attribution_at_equal_score.difference"
P_VALUE = "explain.disparity_p_value"
MEASURES = {
    SHARE: "Largest gap between two groups in the feature's part of a row's attributions, among rows of equal score.",
    SIGNED: "Largest gap between two groups in how far the feature moves the score, up or down, at equal score.",
    P_VALUE: "Chance of so large a gap in any feature if groups of equal score were exchangeable; with a feature "
    "named, the same for it, corrected for all features looked at.",
}


class DisparityParams(AttributionParams):
    """Settings of ``explain.disparity``; with the first five as in ``explain.shap`` nothing is explained twice."""

    level: float = Field(0.95, gt=0.5, lt=1.0, description="two-sided confidence level")
    bins: int | None = Field(None, ge=1, description="score bins; by default 3 n^(1/4), at least 5")
    permutations: int = Field(1999, ge=19, description="most exchanges of groups; all of them where there are fewer")
    min_group_rows: int = Field(15, ge=2, description="smaller groups among the rows explained are left out, and named")
    max_features: int = Field(30, ge=1, description="features reported, the largest gaps first; all are tested")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compared:
    """The rows compared, of one sensitive column: codes of the groups that are large enough, and what they show."""

    column: str
    groups: tuple[str, ...]
    codes: IntArray
    bins: IntArray
    score: FloatArray
    share: FloatArray
    signed: FloatArray | None
    design: Design


def run(subject: Subject, context: Context, params: DisparityParams) -> Iterator[Produced]:
    """Compare groups of each sensitive column within bins of the model's output."""
    stages = Stages(context, (9, 1))
    context.check_deadline()
    found = attributed_rows(subject, stages.inside(), params)
    stages.end()
    rows = _rows_that_move(found)
    yield Note(found.background)
    if len(rows) < len(found.rows):
        yield Note(f"{len(found.rows) - len(rows)} rows whose score no feature moves are left out.")
    bins, score = _bins(subject, context, found, rows, params.bins)
    what = "the model's output" if len(found.outputs) == 1 else "the score of the class decided"
    yield Note(
        f"{len(rows):,} rows are compared within {len(np.unique(bins))} bins of {what}, "
        "less a line in it within each bin."
    )
    if found.unreliable:
        yield Note(f"The attributions failed their check: {found.unreliable}.")
    for done, (column, values) in enumerate(found.data.sensitive.items()):
        context.check_deadline()
        yield from _column(column, values[rows], found, rows, (bins, score), context, params)
        stages.reach((done + 1) / len(found.data.sensitive))


def _rows_that_move(found: AttributedRows) -> IntArray:
    """Rows with attributions above rounding: shares of nothing are undefined."""
    from auditkit.methods.explain.additivity import rounding_of

    total = found.magnitude.sum(axis=1)
    return np.flatnonzero(np.isfinite(total) & (total > rounding_of(found.attribution.prediction))).astype(np.int64)


def _bins(
    subject: Subject, context: Context, found: AttributedRows, rows: IntArray, bins: int | None
) -> tuple[IntArray, FloatArray]:
    """Bins of the output explained, and it; of several outputs, that of the class decided, in the rows decided so."""
    from auditkit.methods.explain.disparity import score_bins

    output = found.attribution.prediction[rows]
    if output.shape[1] == 1:
        return score_bins(output[:, 0], bins), output[:, 0]
    codes, score = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows))
    if len(rows) == 0:
        return codes, score
    decided = np.asarray(context.decisions()[found.rows[rows]], dtype=np.int64)
    for label in np.unique(decided):
        own = decided == label
        score[own] = output[own, label]
        codes[own] = 1 + codes.max() + score_bins(score[own], bins)
    return codes, score


def _column(
    column: str,
    values: StrArray,
    found: AttributedRows,
    rows: IntArray,
    binned: tuple[IntArray, FloatArray],
    context: Context,
    params: DisparityParams,
) -> Iterator[Produced]:
    names, codes, sizes = np.unique(values, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(sizes >= params.min_group_rows)
    small = names[sizes < params.min_group_rows].tolist()  # without their sizes: notes are shared as they are
    if small:
        yield Note(f"{column}: groups of fewer than {params.min_group_rows} rows are left out: {', '.join(small)}.")
    if len(kept) < 2:
        yield _whole(column, None, len(values), "fewer than two groups have enough rows among those explained", found)
        return
    inside = np.isin(codes, kept)
    magnitude = found.magnitude[rows[inside]]
    one = found.attribution.values.shape[2] == 1
    compared = _Compared(
        column=column,
        groups=tuple(str(names[g]) for g in kept),
        codes=np.searchsorted(kept, codes[inside]).astype(np.int64),
        bins=binned[0][inside],
        score=binned[1][inside],
        share=magnitude / magnitude.sum(axis=1, keepdims=True),
        signed=found.attribution.values[rows[inside], :, 0] if one else None,
        design=Design(found.data.weights, found.data.clusters).take(rows[inside]),
    )
    tested, reason = _tested(compared, context, params)
    yield _whole(column, tested, len(compared.codes), reason, found)
    yield from _reported(compared, tested, found, params)


def _tested(
    compared: _Compared, context: Context, params: DisparityParams
) -> tuple[PermutationResult | None, str | None]:
    """The test of shares and signed attributions together, on rows that may be exchanged."""
    from auditkit.methods.explain.disparity import disparity_test, one_row_a_cluster

    if compared.design.weights is not None:
        return None, "weighted rows are not exchangeable, so there is no permutation test"
    rng = context.rng
    picked = np.arange(len(compared.codes))
    if compared.design.clusters is not None:
        picked = one_row_a_cluster(compared.design.clusters, rng)
    if len(np.unique(compared.codes[picked])) < 2:
        return None, "fewer than two groups have independent rows"
    parts = [compared.share] if compared.signed is None else [compared.share, compared.signed]
    values = np.concatenate(parts, axis=1)[picked]
    tested = disparity_test(
        values,
        compared.codes[picked],
        compared.bins[picked],
        rng,
        score=compared.score[picked],
        permutations=params.permutations,
    )
    if tested.arrangements < 2:
        return None, "no bin of the score holds two groups, so nothing can be exchanged"
    return tested, None


def _whole(
    column: str, tested: PermutationResult | None, n: int, reason: str | None, found: AttributedRows
) -> Measurement:
    return _p_value(column, None if tested is None else tested.overall, n, reason, {"method": "shap"}, found)


def _p_value(
    column: str, value: float | None, n: int, reason: str | None, about: dict[str, Scalar], found: AttributedRows
) -> Measurement:
    return Measurement(
        name=P_VALUE,
        value=value,
        n=n,
        over=(column,),
        params=about,
        direction="higher",
        bounds=(0.0, 1.0),
        reason=reason or "a p-value has no interval",
        unreliable=found.unreliable,
    )


def _reported(
    compared: _Compared, tested: PermutationResult | None, found: AttributedRows, params: DisparityParams
) -> Iterator[Produced]:
    """Gaps, their p-values and one table for each quantity."""
    from auditkit.methods.explain.disparity import largest_gaps, pair_gaps

    quantities: list[tuple[str, FloatArray, float | None, str]] = [(SHARE, compared.share, 1.0, "")]
    if compared.signed is not None:
        quantities.append((SIGNED, compared.signed, None, found.space))
    f = len(found.names)
    adjusted = None if tested is None else tested.adjusted.reshape(-1, f)
    shown: set[int] = set()
    for place, (name, values, span, unit) in enumerate(quantities):
        pairs = []
        apart = None
        for pair in combinations(range(len(compared.groups)), 2):
            gaps = pair_gaps(values, compared.codes, compared.bins, pair, compared.design, compared.score)
            if gaps is None:
                apart = f"no bin of the score holds both {compared.groups[pair[0]]} and {compared.groups[pair[1]]}"
            else:
                pairs.append(gaps)
        largest = largest_gaps(pairs, params.level, span) if pairs else []
        order = sorted(range(len(largest)), key=lambda j: -largest[j].value)[: params.max_features]
        shown |= set(order)
        for j in order:
            yield _gap(name, found.names[j], largest[j], compared, apart, unit, found)
        if order:
            own = None if adjusted is None else adjusted[place]
            yield _table(name, compared, largest, order, own, found, tested)
    if adjusted is not None:
        for j in sorted(shown):
            about: dict[str, Scalar] = {"method": "shap", "feature": found.names[j]}
            yield _p_value(compared.column, float(adjusted[:, j].min()), len(compared.codes), None, about, found)


def _gap(
    name: str,
    feature: str,
    gap: LargestGap,
    compared: _Compared,
    apart: str | None,
    unit: str,
    found: AttributedRows,
) -> Measurement:
    lacking = None if gap.interval else "too few rows in the bins that hold both groups for an interval"
    return Measurement(
        name=name,
        # Two groups that were never compared might differ most.
        value=None if apart else gap.value,
        n=len(compared.codes),
        interval=None if apart else gap.interval,
        over=(compared.column,),
        params={"method": "shap", "feature": feature},
        unit=unit,
        direction="lower",
        bounds=(0.0, 1.0 if name == SHARE else None),
        reason=apart or lacking,
        unreliable=found.unreliable,
    )


def _table(
    name: str,
    compared: _Compared,
    largest: list[LargestGap],
    order: list[int],
    adjusted: FloatArray | None,
    found: AttributedRows,
    tested: PermutationResult | None,
) -> Table:
    what = "share of attributions" if name == SHARE else "attribution"
    rows: list[tuple[Scalar, ...]] = []
    for j in order:
        gap = largest[j]
        rows.append(
            (
                found.names[j],
                compared.groups[gap.more],
                gap.means[0],
                compared.groups[gap.less],
                gap.means[1],
                gap.value,
                gap.interval.low if gap.interval else None,
                gap.interval.high if gap.interval else None,
                None if adjusted is None else float(adjusted[j]),
            )
        )
    note = "Groups are compared within bins of the score, less a line in the score within each bin."
    if tested is not None:
        how = "all" if tested.exact else "drawn"
        note += f" P-values from {tested.arrangements} exchanges ({how}), corrected for all features (step-down maxT)."
    return Table(
        name=f"explain.disparity.{'share' if name == SHARE else 'signed'}.{compared.column}",
        title=f"Mean {what} of each feature at equal score, for the groups of {compared.column} that differ most",
        columns=("feature", "more for", "mean", "less for", "mean ", "difference", "low", "high", "p, corrected"),
        rows=tuple(rows),
        note=note,
    )


ANALYZER = Analyzer(
    name="explain.disparity",
    version="6",
    title="Reasons by group",
    summary="Whether the model leans on other features for other groups among rows of equal score.",
    reference=(
        "Lundberg (2020), Explaining quantitative measures of fairness; Phipson and Smyth (2010) and Westfall and "
        "Young (1993) for the test; Cochran (1954) for the bins; Freedman and Lane (1983) for the line within them"
    ),
    needs=frozenset({"model", "scores", "tabular", "inputs", "sensitive"}),
    measures=MEASURES,
    params=DisparityParams,
    run=run,
    extra="explain",
    packages=("shap",),
    limits=(
        "Groups of equal score may differ in their features, and then in their reasons, without any fault of the "
        "model: a gap says where to look. Rows of very different scores share no bin and are not compared. A "
        "line may not follow the model through the outermost bin of a score with a long tail: of 1,000 rows with log-"
        "normal scores and groups 1.5 standard deviations apart, a test at 0.05 found a gap in 12 % where there was "
        "none."
    ),
)
