"""``fairness.scores``: whether scores rank, mean and promise the same in every group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from auditkit.analyzers.fairness.measured import measured, over_groups, rows_of_curves
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.evidence import Density, Direction, Measurement
from auditkit.core.subject import FloatArray, IntArray, Subject
from auditkit.stats.linearised import Design

if TYPE_CHECKING:
    from auditkit.methods.fairness.distances import GroupedScores, Kind, Levels
    from auditkit.stats.estimate import Estimate

# Name -> direction, bounds, one sentence.
_BY_GROUP: Mapping[str, tuple[Direction, tuple[float | None, float | None], str]] = {
    "roc_auc": ("higher", (0.0, 1.0), "Probability that a positive row of the group outranks a negative one of it."),
    "mean_score": ("neutral", (0.0, 1.0), "Mean probability given to the rows of the group."),
    "mean_score_of_positives": (
        "higher",
        (0.0, 1.0),
        "Mean probability given to rows with a positive label (generalized true positive rate).",
    ),
    "mean_score_of_negatives": (
        "lower",
        (0.0, 1.0),
        "Mean probability given to rows with a negative label (generalized false positive rate).",
    ),
    "log_loss": (
        "lower",
        (0.0, None),
        "Mean of minus the log of the probability given to the label, with probabilities kept 2.2e-16 from 0 and 1.",
    ),
    "mean_overestimation": (
        "neutral",
        (-1.0, 1.0),
        "Mean probability less the share of positive labels: above 0 means promised too much.",
    ),
    "expected_calibration_error": (
        "lower",
        (0.0, 1.0),
        "Mean absolute gap between stated and observed rates within the group, corrected for its bias.",
    ),
}
_DISTANCES: Mapping[str, str] = {
    "abroca": "Area between the ROC curves of the two groups that differ most.",
    "score_ks": "Largest gap between the cumulated score distributions of two groups (Kolmogorov-Smirnov).",
    "score_wasserstein": "Mean shift that would turn one group's score distribution into another's, worst pair.",
}
_P_VALUE = "fairness.abroca_p_value"
_GENERALIZED = "fairness.generalized_equalized_odds.difference"
# Largest difference possible, where it is not 1.
_SPANS: Mapping[str, float | None] = {"mean_overestimation": 2.0, "log_loss": None}


def _measures() -> dict[str, str]:
    found = {f"fairness.{name}": text for name, (_, _, text) in _BY_GROUP.items()}
    found |= {f"fairness.{name}.difference": f"Largest difference of {name} between two groups." for name in _BY_GROUP}
    found |= {f"fairness.{name}": text for name, text in _DISTANCES.items()}
    found[_GENERALIZED] = "Larger of the differences in mean score of positives and of negatives between two groups."
    found[_P_VALUE] = "Chance of so large an ABROCA if groups were exchangeable within each label (permutation test)."
    return found


class ScoresParams(Params):
    """Settings of ``fairness.scores``."""

    level: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided confidence level.")
    max_groups: int = Field(24, ge=2, description="Columns with more groups are left out.")
    calibration_bins: int = Field(15, ge=1, description="Most bins of the calibration error.")
    calibration_min_rows: int = Field(20, ge=1, description="Fewest rows of a calibration bin.")
    resamples: int = Field(200, ge=20, description="Bootstrap resamples of each group's curves.")
    permutations: int = Field(199, ge=0, description="Permutations of the ABROCA test; 0 leaves it out.")
    max_rows: int = Field(20_000, ge=1, description="Most rows behind the distances of weighted or clustered rows.")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Scores to rank by, probabilities (``None`` for margins) and labels of the positive class."""

    ranking: FloatArray
    probability: FloatArray | None
    positive: npt.NDArray[np.bool_]
    design: Design

    def take(self, rows: npt.NDArray[np.int64]) -> _Rows:
        """Some of the rows."""
        probability = None if self.probability is None else self.probability[rows]
        return _Rows(self.ranking[rows], probability, self.positive[rows], self.design.take(rows))


def run(subject: Subject, context: Context, params: ScoresParams) -> Iterator[Produced]:
    """Estimates by group and their gaps, then distances between groups, for each sensitive column."""
    from auditkit.stats.coding import encode_groups

    context.check_deadline()
    rows = _rows(subject, context)
    if rows.probability is None:
        yield Note("The scores are margins, not probabilities: means, calibration and Wasserstein are not measured.")
    yield from _measured(_estimates(rows, params), {}, params.level)
    picked, notes = rows_of_curves(context, rows.design, len(rows.positive), params.max_rows)
    yield from notes
    curves = _curves(rows.take(picked))
    columns = subject.test.sensitive
    for done, (column, values) in enumerate(columns.items()):
        context.check_deadline()
        names, codes = encode_groups(values)
        codes = codes.astype(np.int64)
        if len(names) > params.max_groups:
            yield Note(f"{column}: {len(names)} groups, more than max_groups = {params.max_groups}; left out.")
        else:
            yield from _column(column, names, codes, rows, params)
            yield from _distances(column, codes[picked], len(names), curves, context, params)
            if rows.probability is not None:
                yield _density(column, names, codes, rows.probability)
        context.progress(done + 1, len(columns))


def _rows(subject: Subject, context: Context) -> _Rows:
    from auditkit.stats.scores import ranking_and_probabilities

    positive = subject.positive
    if positive is None:
        raise ValueError("a binary subject has a positive class")
    ranking, probabilities = ranking_and_probabilities(context.scores(), subject.model.score_space, positive)
    probability = None if probabilities is None else probabilities[:, positive]
    design = Design(subject.test.weights, subject.test.clusters)
    return _Rows(ranking[:, positive], probability, subject.test.y == positive, design)


def _estimates(rows: _Rows, params: ScoresParams) -> dict[str, Estimate]:
    from auditkit.methods.performance.calibration import expected_calibration_error
    from auditkit.stats.estimate import undefined
    from auditkit.stats.linearised import mean
    from auditkit.stats.ranking import auc_estimate
    from auditkit.stats.scores import log_losses

    design, positive = rows.design, rows.positive
    found = {"roc_auc": auc_estimate(rows.ranking, positive, design.weights, design.clusters)}
    if rows.probability is None:
        return found
    found["mean_score"] = mean(rows.probability, design.weights, design.clusters, least=0.0)
    for name, side in (("positives", positive), ("negatives", ~positive)):
        part = design.take(side)
        found[f"mean_score_of_{name}"] = (
            mean(rows.probability[side], part.weights, part.clusters, least=0.0)
            if side.any()
            else undefined(f"there are no {name}")
        )
    losses = log_losses(np.where(positive, rows.probability, 1.0 - rows.probability))
    found["log_loss"] = mean(losses, design.weights, design.clusters, least=0.0)
    found["mean_overestimation"] = mean(rows.probability - positive, design.weights, design.clusters)
    found["expected_calibration_error"] = expected_calibration_error(
        rows.probability, positive, design, bins=params.calibration_bins, min_rows=params.calibration_min_rows
    )
    return found


def _measured(found: Mapping[str, Estimate], where: Mapping[str, str], level: float) -> Iterator[Measurement]:
    for name, estimate in found.items():
        direction, bounds, _ = _BY_GROUP[name]
        about = {"slice": dict(where), "direction": direction, "bounds": bounds}
        yield measured(f"fairness.{name}", estimate, level, clip=True, **about)


def _column(
    column: str, names: tuple[str, ...], codes: IntArray, rows: _Rows, params: ScoresParams
) -> Iterator[Produced]:
    from auditkit.stats.gaps import largest_gap

    groups = {name: _estimates(rows.take(np.flatnonzero(codes == code)), params) for code, name in enumerate(names)}
    for name, found in groups.items():
        yield from _measured(found, {column: name}, params.level)
    for quantity in next(iter(groups.values())):
        each = {name: found[quantity] for name, found in groups.items()}
        absent = next((e.reason for e in each.values() if e.value is None), None)
        span = _SPANS.get(quantity, 1.0)
        gap = largest_gap(each, params.level, span)
        # A group without a value is never passed over: the largest gap might be its own.
        told = f"undefined in a group of {column}: {absent}"
        missing = {} if absent is None else {"value": None, "interval": None, "reason": told}
        yield over_groups(f"fairness.{quantity}.difference", gap, column, gap.n, top=span, **missing)
    if rows.probability is not None:
        yield _generalized(column, groups, params.level, len(codes))


def _generalized(column: str, groups: Mapping[str, Mapping[str, Estimate]], level: float, n: int) -> Measurement:
    """Equalized odds of the scores themselves: the larger of two gaps, whose near limits share the error."""
    from auditkit.methods.fairness.expected_rates import CellRates
    from auditkit.methods.fairness.worst import Joint, joint_gaps

    positives, negatives = (
        CellRates(tuple(found[f"mean_score_of_{name}"] for found in groups.values()))
        for name in ("positives", "negatives")
    )
    gap = joint_gaps([Joint((positives, negatives), "difference", level)])[0]
    return over_groups(_GENERALIZED, gap, column, n)


@dataclass(frozen=True, slots=True)
class _Curves:
    """Rows whose curves are compared, and their scores on levels with the kinds of distance taken on each."""

    rows: _Rows
    scales: tuple[tuple[Levels, tuple[Kind, ...]], ...]


def _curves(rows: _Rows) -> _Curves:
    from auditkit.methods.fairness.distances import coarse_levels

    ranking = coarse_levels(rows.ranking)
    if rows.probability is None:
        return _Curves(rows, ((ranking, ("abroca", "ks")),))
    if np.array_equal(rows.probability, rows.ranking):
        return _Curves(rows, ((ranking, ("abroca", "ks", "wasserstein")),))
    return _Curves(rows, ((ranking, ("abroca", "ks")), (coarse_levels(rows.probability), ("wasserstein",))))


def _distances(
    column: str, codes: IntArray, groups: int, curves: _Curves, context: Context, params: ScoresParams
) -> Iterator[Measurement]:
    from auditkit.methods.fairness import distances as d

    rng, rows = context.rng, curves.rows
    for levels, kinds in curves.scales:
        scores = d.GroupedScores(levels, rows.positive, codes, groups, rows.design)
        found = d.worst_distances(
            kinds, scores, rng, resamples=params.resamples, level=params.level, before_group=context.check_deadline
        )
        for kind, distance in found.items():
            name = f"fairness.{kind if kind == 'abroca' else f'score_{kind}'}"
            yield over_groups(name, distance, column, len(codes))
        if "abroca" in kinds and params.permutations and groups > 1:
            context.check_deadline()
            yield _permuted(column, scores, rng, params.permutations)


def _permuted(column: str, scores: GroupedScores, rng: np.random.Generator, permutations: int) -> Measurement:
    from auditkit.methods.fairness.distances import abroca_p_value, defined

    value, reason = None, "a p-value has no interval"
    if not defined("abroca", scores.masses()).all():
        reason = "a group lacks a label, so its ROC curve is undefined"
    elif not scores.design.plain:
        reason = "weighted or clustered rows are not exchangeable, so there is no permutation test"
    else:
        value = abroca_p_value(scores.levels, scores.positive, scores.codes, scores.groups, rng, permutations)
    return Measurement(
        name=_P_VALUE,
        value=value,
        n=len(scores.codes),
        over=(column,),
        bounds=(0.0, 1.0),
        params={"permutations": permutations},
        reason=reason,
    )


def _density(column: str, names: tuple[str, ...], codes: IntArray, probability: FloatArray) -> Density:
    edges = np.linspace(0.0, 1.0, 21)
    counts = [np.histogram(probability[codes == code], bins=edges)[0] for code in range(len(names))]
    return Density(
        name=f"fairness.score_distribution.{column}",
        title=f"Probabilities given to the groups of {column}",
        x_label="probability of the positive class",
        rows=names,
        edges=tuple(edges.tolist()),
        counts=tuple(tuple(int(c) for c in row) for row in counts),
    )


ANALYZER = Analyzer(
    name="fairness.scores",
    version="5",
    title="Scores by group",
    summary="Whether the scores rank, mean and promise the same in every group, whatever the threshold.",
    reference=(
        "Gardner, Baker and Brooks (2019), LAK, slicing analysis; DeLong et al. (1988); Kleinberg, Mullainathan and "
        "Raghavan (2016), balance and calibration within groups"
    ),
    needs=frozenset({"scores", "sensitive", "binary"}),
    measures=_measures(),
    params=ScoresParams,
    run=run,
    limits=(
        "Distances are of at most 512 score levels; their interval is wide by design, as it bounds the error of each "
        "group's curve. Labels are taken as the truth."
    ),
)
