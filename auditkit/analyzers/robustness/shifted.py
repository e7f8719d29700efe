"""Rows decided under many shifts: accuracy by shift and severity, the mean over all, by group, and its gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.robustness.estimates import LEVEL, Estimate, Rows, groups_of_enough, proportion
from auditkit.core.analyzer import Context, Note, first_of
from auditkit.core.evidence import Curve, Measurement, Scalar, Series
from auditkit.core.subject import Dataset, IntArray, StrArray, Subject
from auditkit.stats.bounded import bounded_mean
from auditkit.stats.gaps import largest_gap

BoolArray = npt.NDArray[np.bool_]
Make = Callable[[int], Any]
UNMOVED = Estimate(value=None, interval=None, reason="no row looked at is changed by it, so that nothing was tried")


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One way to change the inputs; ``make(severity)`` gives inputs for the model at severity 1, 2 ..."""

    name: str
    severities: tuple[int, ...]
    make: Make


@dataclass(frozen=True, kw_only=True)
class Shifted:
    """Who was right, clean and under each shift.

    Attributes:
        rows: The rows looked at.
        groups: Sensitive column -> group of each row.
        clean: ``(n,)`` right on the clean rows.
        hits: Shift -> ``(n, severities)`` right under it.
        severities: Shift -> its severities.
        changed: Shift -> rows that it changed at each severity. Where it changed none, its accuracy is the clean one
            and says nothing, so that it has no value and no part in any mean.
        params: What identifies all of these numbers.
    """

    rows: Rows
    groups: Mapping[str, StrArray]
    clean: BoolArray
    hits: Mapping[str, BoolArray]
    severities: Mapping[str, tuple[int, ...]]
    changed: Mapping[str, tuple[int, ...]]
    params: Mapping[str, Scalar]

    def told(self, name: str) -> BoolArray:
        """``(n, severities that changed a row)`` right under one shift."""
        return np.asarray(self.hits[name][:, np.array(self.changed[name]) > 0])

    @property
    def share(self) -> npt.NDArray[np.float64] | None:
        """``(n,)`` each row's share of right decisions, every shift alike; ``None`` where no shift changed a row."""
        told = [self.told(name) for name in self.hits]
        parts = [hit.mean(axis=1) for hit in told if hit.shape[1]]
        return np.asarray(np.mean(parts, axis=0)) if parts else None


def rounding(data: Dataset) -> float:
    """What may differ between images that are the same but for single precision: 1e-6 of the range of their pixels."""
    from auditkit.analyzers.robustness.arena import pixel_range

    if data.modality != "image" or np.asarray(data.inputs).dtype.kind != "f":
        return 0.0
    low, high = pixel_range(data)
    return 1e-6 * (high - low)


def rows_changed(before: Any, after: Any, slack: float = 0.0) -> BoolArray:
    """``(n,)`` rows of a table, of images or of texts that differ; two missing cells are alike.

    Args:
        before: Rows as they were.
        after: The same rows, changed or not.
        slack: Differences of up to this between floats count as none.

    >>> rows_changed(["a", "b"], ["a", "B"]).tolist()
    [False, True]
    """
    if hasattr(before, "iloc"):
        changed = np.zeros(len(before), dtype=np.bool_)
        for place in range(before.shape[1]):
            old, new = (table.iloc[:, place].to_numpy(dtype=object) for table in (before, after))
            gone, lost = (table.iloc[:, place].isna().to_numpy() for table in (before, after))
            there = ~(gone | lost)
            changed |= gone != lost
            changed[there] |= np.asarray(old[there] != new[there], dtype=np.bool_)
        return changed
    if isinstance(before, list):
        return np.array([old != new for old, new in zip(before, after, strict=True)], dtype=np.bool_)
    first, second = np.asarray(before), np.asarray(after)
    differ = first != second
    if first.dtype.kind == "f":
        differ &= ~(np.isnan(first) & np.isnan(second))
    if slack > 0.0:
        differ &= ~(np.abs(first - second) <= slack)
    return np.asarray(differ.reshape(len(first), -1).any(axis=1))


def decide_under(
    subject: Subject,
    context: Context,
    positions: IntArray,
    shifts: list[Shift],
    params: Mapping[str, Scalar],
) -> Shifted:
    """Let the model decide the rows at ``positions`` of the test data under each shift and severity."""
    from auditkit.core.generators import preserved_generators

    data: Dataset = subject.test.take(positions)
    slack = rounding(subject.test)
    hits: dict[str, BoolArray] = {}
    changed: dict[str, tuple[int, ...]] = {}
    total, done = sum(len(shift.severities) for shift in shifts), 0
    for shift in shifts:
        columns, moved = [], []
        for severity in shift.severities:
            context.check_deadline()
            inputs = shift.make(severity)
            moved.append(int(rows_changed(data.inputs, inputs, slack).sum()))
            with preserved_generators():
                columns.append(np.asarray(subject.model.predict(inputs)) == data.y)
            done += 1
            context.progress(done, total)
        hits[shift.name], changed[shift.name] = np.stack(columns, axis=1), tuple(moved)
    return Shifted(
        rows=Rows.of(subject.test, positions),
        groups=data.sensitive,
        clean=np.asarray(context.decisions()[positions] == data.y),
        hits=hits,
        severities={shift.name: shift.severities for shift in shifts},
        changed=changed,
        params=params,
    )


def accuracy_measures(
    result: Shifted, word: str, min_group_rows: int, families: Mapping[str, tuple[str, ...]] | None = None
) -> Iterator[Measurement | Curve | Note]:
    """The mean accuracy over all shifts, its drop, by group, its gap, accuracy at each severity, and a curve.

    Args:
        result: Who was right.
        word: The part of the names, e.g. ``corruption`` for ``robustness.corruption_accuracy``.
        min_group_rows: Smaller groups are left out.
        families: Name -> shifts that share a line of the curve; each shift has its own when left out.
    """
    single, mean = f"robustness.{word}_accuracy", f"robustness.mean_{word}_accuracy"
    n, share = len(result.clean), result.share
    yield _accuracy(mean, share_estimate(share, result.rows), n, result.params)
    drop = UNMOVED
    if share is not None:
        change = result.clean.astype(np.float64) - share
        drop = Estimate.at(bounded_mean(change, result.rows.weights, result.rows.clusters, least=-1.0))
    yield Measurement(
        name=f"robustness.{word}_drop",
        value=drop.value,
        n=n,
        interval=drop.interval,
        params=result.params,
        direction="lower",
        bounds=(-1.0, 1.0),
        reason=drop.reason,
    )
    if share is not None:
        yield from _by_group(result, share, mean, min_group_rows)
    for name, hit in result.hits.items():
        for place, severity in enumerate(result.severities[name]):
            params = {**result.params, word: name, "severity": severity}
            found = proportion(hit[:, place], result.rows) if result.changed[name][place] else UNMOVED
            yield _accuracy(single, found, n, params)
        told = result.told(name)
        mine = share_estimate(told.mean(axis=1) if told.shape[1] else None, result.rows)
        yield _accuracy(mean, mine, n, {**result.params, word: name})
    yield _curve(result, word, families or {name.replace("_", " "): (name,) for name in result.hits})
    yield from _few_changed(result)


def _few_changed(result: Shifted) -> Iterator[Note]:
    """Shifts that leave most rows as they are: little of their accuracy is under change."""
    n = len(result.clean)
    few = [
        f"{name.replace('_', ' ')} {severity} ({rows} of {n})"
        for name, changed in result.changed.items()
        for severity, rows in zip(result.severities[name], changed, strict=True)
        if 2 * rows < n
    ]
    if few:
        yield Note(f"Changed fewer than half of the rows: {first_of(few)}. The other rows count as they were.")


def _by_group(result: Shifted, share: npt.NDArray[np.float64], name: str, min_group_rows: int) -> Iterator[Measurement]:
    """The mean of each group, and the largest gap between the groups of a column."""
    for column, kept in groups_of_enough(result.groups, min_group_rows):
        for group, member in kept.items():
            estimate = share_estimate(share[member], result.rows.where(member))
            yield _accuracy(name, estimate, int(member.sum()), result.params, {column: group})
        if len(kept) < 2:
            continue
        parts = {group: (share[member], result.rows.where(member)) for group, member in kept.items()}
        means = {group: bounded_mean(values, own.weights, own.clusters) for group, (values, own) in parts.items()}
        gap = largest_gap(means, LEVEL, span=1.0)
        yield Measurement(
            name=f"{name}.difference",
            value=gap.value,
            n=gap.n,
            interval=gap.interval,
            over=(column,),
            params=result.params,
            direction="lower",
            bounds=(0.0, 1.0),
            reason=gap.reason,
        )


def share_estimate(values: npt.NDArray[np.float64] | None, rows: Rows) -> Estimate:
    """Mean of values in [0, 1] with its interval in [0, 1]; ``None`` for values under shifts that changed no row."""
    if values is None:
        return UNMOVED
    return Estimate.at(bounded_mean(values, rows.weights, rows.clusters))


def _accuracy(
    name: str, estimate: Estimate, n: int, params: Mapping[str, Scalar], group: Mapping[str, str] | None = None
) -> Measurement:
    return Measurement(
        name=name,
        value=estimate.value,
        n=n,
        interval=estimate.interval,
        slice=group or {},
        params=params,
        direction="higher",
        bounds=(0.0, 1.0),
        reason=estimate.reason,
    )


def _curve(result: Shifted, word: str, families: Mapping[str, tuple[str, ...]]) -> Curve:
    """Accuracy against severity, from 0 (clean): all shifts together, and each family of them."""
    lines = [("mean of all", _mean_over(result, tuple(result.hits)))]
    kept = {family: tuple(name for name in names if name in result.hits) for family, names in families.items()}
    lines += [(family, _mean_over(result, names)) for family, names in kept.items() if names]
    clean = proportion(result.clean, result.rows)
    series = []
    for name, levels in lines:
        found = [clean, *(share_estimate(values, result.rows) for values in levels)]
        series.append(
            Series(
                name=name,
                x=tuple(float(place) for place in range(len(found))),
                y=tuple(e.value for e in found),
                low=tuple(e.interval.low if e.interval else None for e in found) if name == "mean of all" else (),
                high=tuple(e.interval.high if e.interval else None for e in found) if name == "mean of all" else (),
            )
        )
    return Curve(
        name=f"robustness.{word}_accuracy",
        title=f"Accuracy by severity of {word}",
        x_label="severity (0 is clean)",
        y_label="accuracy",
        series=tuple(series),
    )


def _mean_over(result: Shifted, names: tuple[str, ...]) -> list[npt.NDArray[np.float64] | None]:
    """Each row's share of right decisions over some shifts at each severity; the last where a shift has fewer."""
    top = max(result.hits[name].shape[1] for name in names)
    levels: list[npt.NDArray[np.float64] | None] = []
    for level in range(top):
        places = {name: min(level, result.hits[name].shape[1] - 1) for name in names}
        told = [result.hits[name][:, place] for name, place in places.items() if result.changed[name][place]]
        levels.append(np.asarray(np.mean(told, axis=0)) if told else None)
    return levels
