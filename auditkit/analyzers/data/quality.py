"""Analyzer ``data.quality``: what is missing, repeated, shared with training, unbalanced, or gives too much away."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import Field

from auditkit.analyzers.data.inputs import Columns, comparable_rows, has_inputs, table_of
from auditkit.analyzers.data.predictors import Limits, leaks, proxies
from auditkit.analyzers.data.representation import (
    COUNTED,
    gap_between,
    label_balance,
    measured,
    representation,
)
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.evidence import Measurement, Table
from auditkit.core.subject import Subject
from auditkit.methods.data.rows import find_duplicates, row_digests, shared_rows
from auditkit.stats.coding import rows_by_group
from auditkit.stats.linearised import Design, proportion


class QualityParams(Params):
    """Settings of ``data.quality``; counts are of rows and columns."""

    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided level of every interval.")
    small_group_rows: int = Field(50, ge=1, description="Groups with fewer rows are named as small.")
    small_group_share: float = Field(0.1, ge=0.0, le=1.0, description="Groups below this share are named as small.")
    max_rows: int = Field(20_000, ge=100, description="Most rows for the strength of single features.")
    joint_max_rows: int = Field(5_000, ge=100, description="Most rows for the model of all features together.")
    min_group_rows: int = Field(20, ge=10, description="Fewest rows of a group, or class, that is predicted.")
    high_cardinality: int = Field(50, ge=2, description="Most categories before a column counts as high-cardinality.")


def run(subject: Subject, context: Context, params: QualityParams) -> Iterator[Produced]:
    """Representation and labels first, then what needs the inputs."""
    steps = 5
    if subject.test.sensitive:
        yield from representation(subject, params.confidence, params.small_group_rows, params.small_group_share)
    else:
        yield Note("There are no sensitive columns, so representation and proxies are not measured.")
    context.progress(1, steps)
    context.check_deadline()
    yield from label_balance(subject, params.confidence)
    if not has_inputs(subject):
        yield Note(
            "There are saved predictions only: missing values, duplicates, overlap, proxies and leaks are not measured."
        )
        return
    context.progress(2, steps)
    context.check_deadline()
    table = table_of(subject)
    yield from _repeated(subject, table, params.confidence)
    context.progress(3, steps)
    if table is None:
        yield Note(
            f"The inputs are not a table ({subject.test.modality}), so columns, proxies and leaks are not measured."
        )
        return
    yield from _missing(subject, table, params.confidence)
    yield from _odd_columns(table, params.high_cardinality)
    limits = Limits(params.confidence, params.max_rows, params.joint_max_rows, params.min_group_rows)
    context.progress(4, steps)
    yield from leaks(subject, table, context, limits)
    yield from proxies(subject, table, context, limits)
    context.progress(steps, steps)


def _repeated(subject: Subject, table: Columns | None, level: float) -> Iterator[Produced]:
    """Duplicates within each split, labels that disagree, and rows shared by train and test."""
    test_rows, train_rows = comparable_rows(subject, table)
    digests = {"test": row_digests(test_rows)}
    if train_rows is not None:
        digests["train"] = row_digests(train_rows)
    for split, found in digests.items():
        twins = find_duplicates(found, subject.split(split).y)
        for name, mask in (("duplicate_share", twins.repeats), ("conflicting_label_share", twins.conflicts)):
            yield Measurement(
                name=f"data.{name}",
                value=float(mask.mean()),
                n=len(mask),
                params={"split": split},
                direction="lower",
                bounds=(0.0, 1.0),
                reason="exact: a share of these very rows; how often rows repeat depends on how many there are",
            )
    if train_rows is None:
        yield Note("There is no training data, so overlap with it is not measured.")
        return
    shared = shared_rows(digests["test"], digests["train"])
    design = Design(None, subject.test.clusters)
    overlap = proportion(shared, design.weights, design.clusters)
    yield measured("train_test_overlap", overlap, level)
    yield Measurement(
        name="data.train_test_overlap_count",
        value=float(shared.sum()),
        n=len(shared),
        unit="rows",
        direction="lower",
        bounds=(0.0, None),
        reason=COUNTED,
    )


def _missing(subject: Subject, table: Columns, level: float) -> Iterator[Produced]:
    """Missing share of each column; by group where a column misses any."""
    design = Design(subject.test.weights, subject.test.clusters)
    absent = np.isnan(table.test)
    holes = [int(place) for place in np.flatnonzero(absent.any(axis=0))]
    incomplete = np.asarray(absent.any(axis=1), dtype=np.bool_)
    yield measured("incomplete_row_share", proportion(incomplete, design.weights, design.clusters), level)
    for place, feature in enumerate(table.names):
        share = proportion(absent[:, place], design.weights, design.clusters)
        yield measured("missing_share", share, level, params={"feature": feature})
    for column, values in subject.test.sensitive.items():
        groups = list(rows_by_group(values))
        for place in holes:
            about = {"feature": table.names[place]}
            found = {}
            for group, rows in groups:
                part = design.take(rows)
                found[group] = proportion(absent[rows, place], part.weights, part.clusters)
                yield measured("missing_share", found[group], level, where={column: group}, params=about)
            if len(found) > 1:
                yield gap_between("missing_share", column, found, level, about)


def _odd_columns(table: Columns, high: int) -> Iterator[Produced]:
    """Columns without any variation, and categories too many to learn from."""
    cells, constant, crowded = [], 0, 0
    for place, feature in enumerate(table.names):
        values = table.test[:, place]
        distinct = len(np.unique(values[~np.isnan(values)]))
        if distinct <= 1:
            constant += 1
            cells.append((feature, "constant", distinct))
        elif table.categorical[place] and distinct > high:
            crowded += 1
            cells.append((feature, "high cardinality", distinct))
    for name, count in (("constant_columns", constant), ("high_cardinality_columns", crowded)):
        yield Measurement(
            name=f"data.{name}",
            value=float(count),
            n=len(table.names),
            n_of="columns",
            unit="columns",
            direction="lower",
            bounds=(0.0, None),
            reason="exact: a count of these columns, nothing is estimated",
        )
    if cells:
        yield Table(
            name="odd_columns",
            title="Columns that say nothing, or too much",
            columns=("feature", "what", "distinct values"),
            rows=tuple(cells),
        )


ANALYZER = Analyzer(
    name="data.quality",
    version="5",
    title="Data quality",
    summary="What is missing, repeated, shared with training, unbalanced, or gives away a group or the label.",
    reference="LeDell, Petersen and van der Laan (2015); Nadeau and Bengio (2003); Korn and Graubard (1998)",
    needs=frozenset(),
    measures={
        "data.group_share": "Share of the rows that belong to the group.",
        "data.group_count": "Rows that belong to the group.",
        "data.base_rate": "Share of the rows whose label is the positive class (multiclass: the class named).",
        "data.base_rate.difference": "Largest gap in that share between groups.",
        "data.label_mean": "Mean target.",
        "data.label_mean.difference": "Largest gap in the mean target between groups.",
        "data.duplicate_share": "Share of the rows of the split whose inputs repeat an earlier row.",
        "data.conflicting_label_share": "Share of the rows of the split that have a twin with another label.",
        "data.train_test_overlap": "Share of the test rows whose inputs also occur in the training rows.",
        "data.train_test_overlap_count": "Test rows whose inputs also occur in the training rows.",
        "data.incomplete_row_share": "Share of the rows with a missing value in any feature.",
        "data.missing_share": "Share of the rows in which the feature is missing.",
        "data.missing_share.difference": "Largest gap in that share between groups.",
        "data.constant_columns": "Features that hold one value only.",
        "data.high_cardinality_columns": "Features with very many categories.",
        "data.proxy_auc": "How well the feature tells the groups of the column apart: 0.5 not at all, 1 always "
        "(more than two groups: the group told apart best).",
        "data.target_leakage_auc": "How well the feature alone predicts the label: 0.5 not at all, 1 always.",
        "data.target_leakage_correlation": "Absolute rank correlation of the feature with the target.",
    },
    params=QualityParams,
    run=run,
    limits="Numbers are judged by rank: a feature whose middle values matter shows only in all features together.",
)
