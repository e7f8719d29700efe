"""``explain.proxies``: which features stand in for a sensitive column, and how much the model uses them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from auditkit.analyzers.explain.attributions import AttributedRows, AttributionParams, attributed_rows
from auditkit.analyzers.explain.explained import TOO_FEW, stand_in_columns
from auditkit.analyzers.explain.shap import NOTHING_MOVES
from auditkit.core.analyzer import Analyzer, Context, Note, Produced
from auditkit.core.errors import MissingExtra
from auditkit.core.evidence import MISSING_GROUP, Interval, Measurement, Scalar, Table
from auditkit.core.stages import Stages
from auditkit.core.subject import FloatArray, IntArray, StrArray, Subject, take_rows
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.linearised import Design
from auditkit.stats.predictability import Target, cross_validated_auc, feature_auc, largest, target_of

USE = "explain.proxy_use"
FEATURES = "explain.group_auc_of_features"
REASONS = "explain.group_auc_of_attributions"
MEASURES = {
    USE: "How well the feature tells the groups of the column apart (2 AUC - 1) times its share of the attributions: "
    "0 where it tells nothing or is not used, 1 where the model uses nothing but a copy of the column.",
    FEATURES: "How well all features together tell the groups of the column apart: 0.5 not at all, 1 always.",
    REASONS: "How well the attributions of a row tell its group: 0.5 where the groups have the same reasons "
    "(equal treatment).",
}
_ROUNDING = 1e-9  # a smaller part of the attributions is none


class ProxiesParams(AttributionParams):
    """Settings of ``explain.proxies``; with the first five as in ``explain.shap`` nothing is explained twice."""

    level: float = Field(0.95, gt=0.5, lt=1.0, description="two-sided confidence level")
    strength_rows: int = Field(20_000, ge=100, description="most test rows for the strength of single features")
    joint_rows: int = Field(3_000, ge=100, description="most test rows for all features together")
    min_group_rows: int = Field(20, ge=10, description="fewest rows of a group that is told apart")
    max_features: int = Field(50, ge=1, description="features reported, the most used proxies first")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Feature:
    """One feature as people know it: a column, or a one-hot group as one category."""

    name: str
    columns: IntArray
    categorical: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """How much the model uses each feature: shares ``(f,)`` with intervals, or ``None`` where nothing is used."""

    share: FloatArray | None
    intervals: tuple[Interval | None, ...]


def run(subject: Subject, context: Context, params: ProxiesParams) -> Iterator[Produced]:
    """Strength of every feature times its use, then what all features and all attributions tell together."""
    stages = Stages(context, (1, 1))
    context.check_deadline()
    found = attributed_rows(subject, stages.inside(), params)
    stages.end()
    yield Note(found.background)
    if found.unreliable:
        yield Note(f"The attributions failed their check: {found.unreliable}.")
    features = _features(found)
    use = _use(found, features, context, params.level)
    rows = context.sample_rows(subject.test.n, params.strength_rows)
    matrix = _matrix(subject, rows)
    columns = len(subject.test.sensitive)
    for done, (column, values) in enumerate(subject.test.sensitive.items()):
        context.check_deadline()
        yield from _column(subject, context, params, (column, values[rows], matrix, rows), found, features, use)
        stages.reach((2 * done + 1) / (2 * columns))
        yield from _equal_treatment(column, found, context, params)
        stages.reach((done + 1) / columns)


def _features(found: AttributedRows) -> tuple[_Feature, ...]:
    """One-hot columns come together: the model is told one thing by them."""
    places: dict[str, list[int]] = {}
    for place, (name, group) in enumerate(zip(found.names, found.groups, strict=True)):
        places.setdefault(f"group {group}" if group else f"column {name}", []).append(place)
    features = []
    for key, columns in places.items():
        name = key.partition(" ")[2]
        single = len(columns) == 1
        kind = bool(found.categorical[columns[0]]) if single else True
        features.append(
            _Feature(name=found.names[columns[0]] if single else name, columns=np.array(columns), categorical=kind)
        )
    return tuple(features)


def _use(found: AttributedRows, features: tuple[_Feature, ...], context: Context, level: float) -> _Use:
    from auditkit.methods.explain.additivity import rounding_of
    from auditkit.methods.explain.importance import importance

    values = found.attribution.values
    size = np.stack([np.abs(values[:, f.columns].sum(axis=1)).mean(axis=1) for f in features], axis=1)
    summary = importance(
        np.nan_to_num(size),
        context.rng,
        weights=found.data.weights,
        clusters=found.data.clusters,
        rounding=rounding_of(found.attribution.prediction),
        level=(1.0 + level) / 2.0,  # half of the error for the share, half for the strength
    )
    return _Use(share=summary.share, intervals=summary.share_intervals)


def _matrix(subject: Subject, rows: IntArray) -> FloatArray:
    from auditkit.subjects.codec import make_codec

    codec = make_codec(subject.test, *([] if subject.train is None else [subject.train]))
    return np.asarray(codec.encode(take_rows(subject.test.inputs, rows)), dtype=np.float64)


def _values(matrix: FloatArray, feature: _Feature) -> FloatArray:
    if len(feature.columns) == 1:
        return matrix[:, feature.columns[0]]
    part = matrix[:, feature.columns]
    # Whole rows are told apart: none of the columns set is a category of its own.
    codes = np.unique(np.nan_to_num(part), axis=0, return_inverse=True)[1].reshape(-1)
    return np.where(np.isnan(part).any(axis=1), np.nan, codes)


def _column(
    subject: Subject,
    context: Context,
    params: ProxiesParams,
    about: tuple[str, StrArray, FloatArray, IntArray],
    found: AttributedRows,
    features: tuple[_Feature, ...],
    use: _Use,
) -> Iterator[Produced]:
    column, values, matrix, rows = about
    known = np.flatnonzero(values != MISSING_GROUP)
    design = Design(subject.test.weights, subject.test.clusters).take(rows[known])
    target = target_of(values[known], context.rng, min_rows=params.min_group_rows, design=design)
    if target is None:
        reason = f"fewer than two groups of {params.min_group_rows} rows or more"
        yield _joint_measurement(FEATURES, column, undefined(reason, len(known)), params.level, None)
        return
    own = stand_in_columns(column, found.names, found.groups)
    itself = {f.name for f in features if own[f.columns].all()}
    if itself:
        yield Note(f"{column} is itself a feature of the model: {', '.join(sorted(itself))}.")
    matrix = matrix[known]
    strength: dict[str, Estimate] = {}
    for feature in features:
        context.check_deadline()
        strength[feature.name] = feature_auc(_values(matrix, feature), feature.categorical, target)
    yield from _products(column, features, strength, use, found, params, itself)
    together = _told_together(matrix[:, ~own], target, context, params.joint_rows)
    yield _joint_measurement(FEATURES, column, together, params.level, None)


def _products(
    column: str,
    features: tuple[_Feature, ...],
    strength: Mapping[str, Estimate],
    use: _Use,
    found: AttributedRows,
    params: ProxiesParams,
    itself: set[str],
) -> Iterator[Produced]:
    """Strength times use of each feature, the largest first, and the table of both factors."""
    lines: list[tuple[float, Measurement, tuple[Scalar, ...]]] = []
    for place, feature in enumerate(features):
        estimate = strength[feature.name]
        share = None if use.share is None else float(use.share[place])
        share = 0.0 if share is not None and share < _ROUNDING else share
        value, interval = _product(estimate, share, use.intervals[place], params.level)
        reason = NOTHING_MOVES if share is None else estimate.reason
        measurement = Measurement(
            name=USE,
            value=value,
            n=len(found.rows),
            interval=interval,
            over=(column,),
            params={"method": "shap", "feature": feature.name},
            direction="lower",
            bounds=(0.0, 1.0),
            reason=None if interval else reason or TOO_FEW,
            unreliable=found.unreliable,
        )
        told = estimate.interval(params.level)
        name = f"{feature.name} (the column itself)" if feature.name in itself else feature.name
        ends = (None, None) if told is None else (told.low, told.high)
        low_high = (None, None) if interval is None else (interval.low, interval.high)
        line = (name, estimate.value, *ends, share, value, *low_high)
        lines.append((-1.0 if value is None else value, measurement, line))
    lines.sort(key=lambda line: -line[0])
    lines = lines[: params.max_features]
    yield from (measurement for _, measurement, _ in lines)
    yield Table(
        name=f"explain.proxies.{column}",
        title=f"Features that tell the groups of {column} apart, times how much the model uses them",
        columns=("feature", "AUC", "low", "high", "share of attributions", "strength x use", "low ", "high "),
        rows=tuple(line for _, _, line in lines),
        note=f"AUC on {max(e.n for e in strength.values())} rows, attributions of {len(found.rows)} rows.",
    )


def _product(
    strength: Estimate, share: float | None, use: Interval | None, level: float
) -> tuple[float | None, Interval | None]:
    """``(2 AUC - 1) * share``; both limits at half of the error each, so that their products hold at ``level``."""
    if strength.value is None or share is None:
        return None, None
    value = max(2.0 * strength.value - 1.0, 0.0) * share
    told = strength.interval((1.0 + level) / 2.0)
    if told is None or use is None:
        return value, None
    low, high = max(2.0 * told.low - 1.0, 0.0) * use.low, max(2.0 * told.high - 1.0, 0.0) * use.high
    ends = (min(low if low >= _ROUNDING else 0.0, value), min(max(high, value), 1.0))
    freedom = told.degrees_of_freedom
    return value, Interval(
        low=ends[0], high=ends[1], level=level, method="product-bonferroni", degrees_of_freedom=freedom
    )


def _told_together(matrix: FloatArray, target: Target, context: Context, most: int) -> Estimate:
    """All columns together, by a small boosted-tree model out of fold."""
    if importlib.util.find_spec("sklearn") is None:
        return undefined(MissingExtra.of("sklearn", "scikit-learn").sentence())
    usable = ~np.all(np.isnan(matrix), axis=0)
    if not usable.any():
        return undefined("there is no feature left")
    from auditkit.methods.joint_model import out_of_fold_probabilities

    context.check_deadline()
    part = context.sample_rows(len(matrix), most)
    design, fold, codes = target.design.take(part), target.fold[part], target.codes[part]
    chances = out_of_fold_probabilities(
        matrix[part][:, usable], codes, fold, context.seed, design.weights, context.check_deadline
    )
    sides: list[npt.NDArray[np.bool_]] = [codes == code for code in range(len(target.names))]
    return largest([cross_validated_auc(chances[:, k], side, fold, design) for k, side in enumerate(sides)])


def _equal_treatment(
    column: str, found: AttributedRows, context: Context, params: ProxiesParams
) -> Iterator[Measurement]:
    """AUC of telling groups apart by attributions alone."""
    values = found.data.sensitive[column]
    known = np.flatnonzero(values != MISSING_GROUP)
    design = Design(found.data.weights, found.data.clusters).take(known)
    target = target_of(values[known], context.rng, min_rows=params.min_group_rows, design=design)
    if target is None:
        reason = f"fewer than two groups of {params.min_group_rows} rows or more among the rows explained"
        estimate = undefined(reason, len(known))
    else:
        reasons = np.nan_to_num(found.attribution.values[known].reshape(len(known), -1))
        estimate = _told_together(reasons, target, context, len(known))
    yield _joint_measurement(REASONS, column, estimate, params.level, found.unreliable)


def _joint_measurement(name: str, column: str, estimate: Estimate, level: float, unreliable: str | None) -> Measurement:
    interval = estimate.interval(level)
    return Measurement(
        name=name,
        value=estimate.value,
        n=estimate.n,
        interval=interval,
        over=(column,),
        params={"method": "shap"} if name == REASONS else {},
        direction="lower",
        bounds=(0.0, 1.0),
        reason=None if interval else estimate.reason or "these rows give no interval",
        unreliable=unreliable,
    )


ANALYZER = Analyzer(
    name="explain.proxies",
    version="6",
    title="Proxies in use",
    summary="Which features stand in for a sensitive column, weighed by how much the model uses them.",
    reference=(
        "LeDell, Petersen and van der Laan (2015) for the AUC; Lundberg and Lee (2017) for the use; Mougan et al. "
        "(2023), Beyond demographic parity: redefining equal treatment, for the AUC of attributions"
    ),
    needs=frozenset({"model", "scores", "tabular", "inputs", "sensitive"}),
    measures=MEASURES,
    params=ProxiesParams,
    run=run,
    extra="explain",
    packages=("shap",),
    limits="A feature may be proxy and legitimate reason at once; one made of several features shows in the joint AUC.",
)
