"""Who is in the data, how often, and with which labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
import numpy.typing as npt

from auditkit.core.analyzer import Note, Produced
from auditkit.core.evidence import Measurement
from auditkit.core.subject import Subject
from auditkit.stats.coding import encode_groups, rows_by_group
from auditkit.stats.estimate import Estimate
from auditkit.stats.gaps import largest_gap
from auditkit.stats.linearised import Design, mean, proportion

COUNTED = "exact: a count of these rows, nothing is estimated"
MAX_CELLS = 200


def measured(
    name: str,
    estimate: Estimate,
    level: float,
    *,
    where: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    bounds: tuple[float | None, float | None] = (0.0, 1.0),
) -> Measurement:
    """A measurement of the data family from an estimate."""
    interval = estimate.interval(level)
    reason = None if interval else estimate.reason or "these rows give no interval"
    return Measurement(
        name=f"data.{name}",
        value=estimate.value,
        n=estimate.n,
        interval=interval,
        slice=dict(where or {}),
        params=dict(params or {}),
        bounds=bounds,
        reason=reason,
    )


def gap_between(
    name: str,
    column: str,
    groups: Mapping[str, Estimate],
    level: float,
    params: Mapping[str, str] | None = None,
    span: float | None = 1.0,
) -> Measurement:
    """The largest difference of ``data.<name>`` between the groups of ``column``."""
    gap = largest_gap(groups, level, span)
    return Measurement(
        name=f"data.{name}.difference",
        value=gap.value,
        n=gap.n,
        interval=gap.interval,
        over=(column,),
        params=dict(params or {}),
        direction="lower",
        bounds=(0.0, span),
        reason=gap.reason,
    )


def representation(subject: Subject, level: float, small_rows: int, small_share: float) -> Iterator[Produced]:
    """Rows and share of each group and each pair of groups; small ones are named."""
    columns, design = subject.test.sensitive, Design(subject.test.weights, subject.test.clusters)
    small: list[str] = []
    pairs_left_out: list[str] = []
    single = [(name,) for name in columns]
    coded = {name: encode_groups(values) for name, values in columns.items()}
    for over in (*single, *combinations(columns, 2)):
        codes = [coded[name] for name in over]
        joint = np.ravel_multi_index([code for _, code in codes], [len(names) for names, _ in codes])
        counts = np.bincount(joint, minlength=int(np.prod([len(names) for names, _ in codes])))
        if len(over) > 1 and len(counts) > MAX_CELLS:
            pairs_left_out.append(" and ".join(over))
            continue
        for cell, count in enumerate(counts):
            at = np.unravel_index(cell, [len(names) for names, _ in codes])
            where = {name: str(codes[i][0][at[i]]) for i, name in enumerate(over)}
            share = proportion(joint == cell, design.weights, design.clusters)
            yield measured("group_share", share, level, where=where)
            yield Measurement(
                name="data.group_count",
                value=float(count),
                n=int(count),
                slice=where,
                unit="rows",
                bounds=(0.0, None),
                reason=COUNTED,
            )
            if count < small_rows or (len(over) == 1 and (share.value or 0.0) < small_share):
                small.append(", ".join(f"{name} = {group}" for name, group in where.items()))
    if small:
        what = f"fewer than {small_rows} rows, or a group below {small_share:.0%}"
        yield Note(f"Small groups ({what}), on which every number is unsure: {'; '.join(small)}.")
    if pairs_left_out:
        yield Note(f"Intersections with more than {MAX_CELLS} cells are left out: {'; '.join(pairs_left_out)}.")


def label_balance(subject: Subject, level: float) -> Iterator[Produced]:
    """Base rates (mean label for regression) overall and by group, with the largest gap between groups."""
    test, design = subject.test, Design(subject.test.weights, subject.test.clusters)
    for name, params, values in _labels(subject):
        span = 1.0 if name == "base_rate" else None
        bounds = (0.0, 1.0) if name == "base_rate" else (None, None)
        yield measured(name, _average(values, design), level, params=params, bounds=bounds)
        for column, groups in test.sensitive.items():
            found = {group: _average(values[rows], design.take(rows)) for group, rows in rows_by_group(groups)}
            for group, estimate in found.items():
                yield measured(name, estimate, level, where={column: group}, params=params, bounds=bounds)
            if len(found) > 1:
                yield gap_between(name, column, found, level, params, span)


def _labels(subject: Subject) -> Iterator[tuple[str, dict[str, str], npt.NDArray[np.float64] | npt.NDArray[np.bool_]]]:
    if subject.task == "regression":
        yield "label_mean", {}, subject.test.y.astype(np.float64)
    elif subject.positive is not None:
        yield "base_rate", {}, subject.test.y == subject.positive
    else:
        for code, name in enumerate(subject.classes):
            yield "base_rate", {"class": name}, subject.test.y == code


def _average(values: npt.NDArray[np.float64] | npt.NDArray[np.bool_], design: Design) -> Estimate:
    if values.dtype == np.bool_:
        return proportion(values.astype(np.bool_), design.weights, design.clusters)
    return mean(values.astype(np.float64), design.weights, design.clusters)
