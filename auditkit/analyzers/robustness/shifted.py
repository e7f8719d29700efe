"""Rows decided under many shifts: accuracy by shift and severity, the mean over all, by group, and its gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.robustness.estimates import LEVEL, Estimate, Rows, groups_of_enough, paired_mean, proportion
from auditkit.core.analyzer import Context, Note
from auditkit.core.evidence import Curve, Interval, Measurement, Scalar, Series
from auditkit.core.subject import Dataset, IntArray, StrArray, Subject
from auditkit.stats.estimate import Estimate as LevelledEstimate
from auditkit.stats.gaps import largest_gap
from auditkit.stats.intervals import exact_share, mean_interval
from auditkit.stats.replication import independent_rows

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
    drop = UNMOVED if share is None else _drop_estimate(result.clean.astype(np.float64) - share, result.rows)
    yield Measurement(
        name=f"robustness.{word}_drop",
        value=drop.value,
        n=n,
        interval=clipped(drop.interval, -1.0, 1.0),
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
        shown = ", ".join(few[:8]) + (f" and {len(few) - 8} more" if len(few) > 8 else "")
        yield Note(f"Changed fewer than half of the rows: {shown}. The other rows count as they were.")


def _by_group(result: Shifted, share: npt.NDArray[np.float64], name: str, min_group_rows: int) -> Iterator[Measurement]:
    """The mean of each group, and the largest gap between the groups of a column."""
    for column, kept in groups_of_enough(result.groups, min_group_rows):
        for group, member in kept.items():
            estimate = share_estimate(share[member], result.rows.where(member))
            yield _accuracy(name, estimate, int(member.sum()), result.params, {column: group})
        if len(kept) < 2:
            continue
        gap = largest_gap(
            {group: _levelled(share[member], result.rows.where(member)) for group, member in kept.items()},
            LEVEL,
            span=1.0,
        )
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
    if len(values) == 0:
        return Estimate(value=None, interval=None, reason="no rows")
    interval = _share_interval(values, rows, LEVEL)
    mean = mean_interval(values, rows.weights, rows.clusters, LEVEL)[0]
    return Estimate(value=mean, interval=interval, reason=None if interval else "one cluster only")


def _share_interval(values: npt.NDArray[np.float64], rows: Rows, level: float) -> Interval | None:
    """Student's interval; where all values are alike, exact limits: values in [0, 1] vary at most as yes and no."""
    mean, found = mean_interval(values, rows.weights, rows.clusters, level)
    if found is not None and found.high - found.low > 1e-9:
        return clipped(found, 0.0, 1.0)
    size = independent_rows(len(values), rows.weights, rows.clusters)
    if rows.clusters is not None and size < 2:
        return None
    return exact_share(min(max(mean, 0.0), 1.0), size, level)


def _drop_estimate(values: npt.NDArray[np.float64], rows: Rows) -> Estimate:
    """Mean of values in [-1, 1] with Student's interval; where all are alike, exact limits.

    Then the share of rows that could have another value is at most that of which none was seen, and such a row may be
    as far off as -1 or 1.
    """
    found = paired_mean(values, rows)
    size = independent_rows(len(values), rows.weights, rows.clusters)
    if found.value is None or found.interval is not None or size < 2:
        return found
    other = exact_share(0.0, size, LEVEL)
    assert other is not None
    low, high = (found.value + other.high * (end - found.value) for end in (-1.0, 1.0))
    return Estimate(value=found.value, interval=replace(other, low=low, high=high, method="clopper-pearson, all alike"))


def clipped(interval: Interval | None, low: float, high: float) -> Interval | None:
    """The interval cut at the bounds of its quantity."""
    if interval is None:
        return None
    return replace(interval, low=min(max(interval.low, low), high), high=max(min(interval.high, high), low))


def _levelled(values: npt.NDArray[np.float64], rows: Rows) -> LevelledEstimate:
    mean = mean_interval(values, rows.weights, rows.clusters, LEVEL)[0]
    return LevelledEstimate(mean, len(values), lambda level: _share_interval(values, rows, level))


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
