"""Features that give away a sensitive column (proxies) or the label (leaks)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.data.inputs import Columns
from auditkit.core.analyzer import Context, Note, Produced
from auditkit.core.errors import MissingExtra
from auditkit.core.evidence import MISSING_GROUP, Measurement, Table
from auditkit.core.subject import FloatArray, IntArray, Subject
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.linearised import Design
from auditkit.stats.predictability import (
    Target,
    cross_validated_auc,
    feature_auc,
    folded_rank_correlation,
    largest,
    target_of,
)

ALL = "(all features)"


@dataclass(frozen=True, slots=True)
class Limits:
    """Level of intervals, most rows looked at, fewest rows of a group that is predicted."""

    level: float
    max_rows: int
    joint_max_rows: int
    min_group_rows: int


def proxies(subject: Subject, table: Columns, context: Context, limits: Limits) -> Iterator[Produced]:
    """AUC of telling the groups of each sensitive column apart, by each feature and by all of them together."""
    for column, values in subject.test.sensitive.items():
        known = np.flatnonzero(values != MISSING_GROUP)
        found_target = _target(subject, context, values[known], known, limits)
        if found_target is None:
            yield Note(
                f"No proxy strength for {column}: fewer than two groups of {limits.min_group_rows} rows or more."
            )
            continue
        target, rows = found_target
        itself = _is_the_column(table, column)
        if itself.any():
            names = ", ".join(name for name, same in zip(table.names, itself, strict=True) if same)
            yield Note(f"{column} is itself a feature of the model ({names}); it is left out of its own proxies.")
        found: dict[str, Estimate] = {}
        for place, feature in enumerate(table.names):
            context.check_deadline()
            if not itself[place]:
                found[feature] = feature_auc(table.test[rows, place], bool(table.categorical[place]), target)
        together = _joint(table, ~itself, target, rows, context, limits)
        for feature, estimate in {**found, ALL: together}.items():
            yield _measurement("proxy_auc", feature, estimate, limits.level, over=(column,))
        yield _ranking(f"proxies_{column}", f"Features that tell the groups of {column} apart", found, limits.level)
        yield from _said(found, f"features tell the groups of {column} apart", limits.level)


def leaks(subject: Subject, table: Columns, context: Context, limits: Limits) -> Iterator[Produced]:
    """AUC (regression: rank correlation) of predicting the label by each feature alone."""
    y = subject.test.y
    found: dict[str, Estimate] = {}
    name = "target_leakage_auc"
    if subject.task == "regression":
        name = "target_leakage_correlation"
        rows = context.sample_rows(subject.test.n, limits.max_rows)
        for column in np.flatnonzero(~table.categorical):
            found[table.names[column]] = folded_rank_correlation(table.test[rows, column], y[rows].astype(np.float64))
        if subject.test.clusters is not None:
            reason = "clustered rows: this rank correlation has no honest interval"
            found = {key: Estimate(e.value, e.n, None, e.reason or reason) for key, e in found.items()}
        if table.categorical.any():
            yield Note("Rank correlation with the target is measured for numbers, not for categories.")
    else:
        labels = np.array(subject.classes)[y]
        found_target = _target(subject, context, labels, np.arange(subject.test.n, dtype=np.int64), limits)
        if found_target is None:
            yield Note(f"No leakage check: fewer than two classes of {limits.min_group_rows} rows or more.")
            return
        target, rows = found_target
        for place, feature in enumerate(table.names):
            context.check_deadline()
            found[feature] = feature_auc(table.test[rows, place], bool(table.categorical[place]), target)
    for feature, estimate in found.items():
        yield _measurement(name, feature, estimate, limits.level)
    if found:
        yield _ranking("target_leakage", "Features that predict the label alone", found, limits.level)


def _target(
    subject: Subject, context: Context, values: npt.NDArray[np.str_], rows: IntArray, limits: Limits
) -> tuple[Target, IntArray] | None:
    """Groups large enough to be told apart, and the rows used."""
    picked = context.sample_rows(len(rows), limits.max_rows)
    part = rows[picked]
    design = Design(subject.test.weights, subject.test.clusters).take(part)
    target = target_of(values[picked], context.rng, min_rows=limits.min_group_rows, design=design)
    return None if target is None else (target, part)


def _joint(
    table: Columns, wanted: npt.NDArray[np.bool_], target: Target, rows: IntArray, context: Context, limits: Limits
) -> Estimate:
    """All features together, by a small boosted-tree model out of fold."""
    if importlib.util.find_spec("sklearn") is None:
        return undefined(MissingExtra.of("sklearn", "scikit-learn").sentence())
    usable = wanted & ~np.all(np.isnan(table.test), axis=0)
    if not usable.any():
        return undefined("there is no feature left")
    from auditkit.methods.joint_model import out_of_fold_probabilities

    context.check_deadline()
    part = context.sample_rows(len(rows), limits.joint_max_rows)
    design, fold, codes = target.design.take(part), target.fold[part], target.codes[part]
    matrix: FloatArray = table.test[np.ix_(rows[part], np.flatnonzero(usable))]
    probabilities = out_of_fold_probabilities(matrix, codes, fold, context.seed, design.weights, context.check_deadline)
    sides = [
        cross_validated_auc(probabilities[:, code], codes == code, fold, design) for code in range(len(target.names))
    ]
    return largest(sides)


def _is_the_column(table: Columns, column: str) -> npt.NDArray[np.bool_]:
    """Features that are the sensitive column itself, or its one-hot columns."""
    wanted = column.casefold()
    return np.array(
        [
            name.casefold() == wanted or (group or "").casefold() == wanted
            for name, group in zip(table.names, table.groups, strict=True)
        ],
        dtype=np.bool_,
    )


def _measurement(name: str, feature: str, estimate: Estimate, level: float, over: tuple[str, ...] = ()) -> Measurement:
    interval = estimate.interval(level)
    return Measurement(
        name=f"data.{name}",
        value=estimate.value,
        n=estimate.n,
        interval=interval,
        over=over,
        params={"feature": feature},
        direction="lower",
        bounds=(0.0, 1.0),
        reason=None if interval else estimate.reason or "these rows give no interval",
    )


def _corrected_low(found: Mapping[str, Estimate], level: float) -> dict[str, float | None]:
    """Lower limits after Bonferroni over the features."""
    strict = 1.0 - (1.0 - level) / max(len(found), 1)
    intervals = {feature: estimate.interval(strict) for feature, estimate in found.items()}
    return {feature: interval.low if interval else None for feature, interval in intervals.items()}


def _ranking(name: str, title: str, found: Mapping[str, Estimate], level: float) -> Table:
    lows = _corrected_low(found, level)
    order = sorted(found, key=lambda feature: -(found[feature].value or 0.0))
    return Table(
        name=name,
        title=title,
        columns=("feature", "value", "lower limit after correction", "n"),
        rows=tuple((feature, found[feature].value, lows[feature], found[feature].n) for feature in order),
        note=f"{len(found)} features were looked at: lower limits at {level:.0%} hold for all at once (Bonferroni).",
    )


def _said(found: Mapping[str, Estimate], what: str, level: float) -> Iterator[Note]:
    lows = _corrected_low(found, level)
    sure = [feature for feature, low in lows.items() if low is not None and low > 0.5]
    sure.sort(key=lambda feature: -(found[feature].value or 0.0))
    named = f": {', '.join(sure[:8])}" if sure else ""
    yield Note(f"{len(sure)} of {len(found)} {what} better than chance, after Bonferroni{named}.")
