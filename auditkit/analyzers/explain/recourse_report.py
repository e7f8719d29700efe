"""What was found for the rows decided against, as measurements, tables and a curve, over all rows and by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from auditkit.core.analyzer import Produced
from auditkit.core.evidence import Curve, Direction, Measurement, Scalar, Series, Table
from auditkit.core.subject import Dataset, FloatArray
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.gaps import largest_gap
from auditkit.stats.linearised import Design, mean, proportion
from auditkit.stats.medians import median_estimate

if TYPE_CHECKING:
    from auditkit.subjects.grid import TableGrid

SHARE, COST, CHANGES = "explain.recourse_share", "explain.recourse_cost", "explain.recourse_changes"
MEASURES = {
    SHARE: "Share of the rows decided otherwise for which a feasible change to the decision wanted was found.",
    f"{SHARE}.difference": "Largest gap in that share between two groups.",
    COST: "Median cost of the cheapest change found among the rows decided otherwise; a row without one counts as "
    "dearer than all others.",
    f"{COST}.difference": "Largest gap in that median between two groups.",
    CHANGES: "Mean number of features, or categories, in the cheapest change found.",
    f"{CHANGES}.difference": "Largest gap in that mean between two groups.",
}
_DIRECTIONS: Mapping[str, Direction] = {SHARE: "higher", COST: "lower", CHANGES: "lower"}
_SPANS: Mapping[str, float | None] = {SHARE: 1.0, COST: None, CHANGES: None}
_FEW = 10  # medians of fewer changes are not shown
_CURVE_ROWS, _POINTS = 30, 31


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """Rows decided otherwise ``x (n, f)``, their changed ``points (n, f)`` and ``cost (n,)``, infinite where none."""

    grid: TableGrid
    x: FloatArray
    points: FloatArray
    cost: FloatArray
    data: Dataset
    target: str
    level: float

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """``(n,)`` rows with a change."""
        return np.isfinite(self.cost)

    @property
    def unit(self) -> str:
        """What a cost of 1 is."""
        told = any(column.feature.scale is not None for column in self.grid.codec.columns)
        return "units of cost" if told else "standard deviations"


def reported(sought: Sought) -> Iterator[Produced]:
    """Shares, costs and numbers of changes; gaps between groups; what is changed and by how much."""
    everyone = np.ones(len(sought.cost), dtype=np.bool_)
    overall = _estimates(sought, everyone)
    yield from _measured(sought, overall, {})
    reach = _reach(sought.cost)
    lines = [_curve_line("all rows", sought.cost, reach)]
    rows: list[tuple[Scalar, ...]] = [("all rows", "", *_cells(overall, sought, everyone))]
    for column, values in sought.data.sensitive.items():
        groups = {str(name): values == name for name in np.unique(values)}
        found = {name: _estimates(sought, inside) for name, inside in groups.items()}
        for name, inside in groups.items():
            yield from _measured(sought, found[name], {column: name})
            rows.append((column, name, *_cells(found[name], sought, inside)))
            if inside.sum() >= _CURVE_ROWS:
                lines.append(_curve_line(f"{column}: {name}", sought.cost[inside], reach))
        if len(groups) > 1:
            yield from _gaps(sought, column, found)
    yield Curve(
        name="explain.recourse.within_cost",
        title=f"Rows that reach {sought.target} within a cost",
        x_label=f"cost ({sought.unit})",
        y_label="share of the rows decided otherwise",
        series=tuple(line for line in lines if line.x),
        note="A row without a change never gets there.",
    )
    yield Table(
        name="explain.recourse.groups",
        title=f"What it takes to reach {sought.target}, by group",
        columns=("column", "group", "rows", "share with a change", "median cost", "mean changes", "changed most often"),
        rows=tuple(rows),
        note=f"Cost in {sought.unit}; a change of a category counts as much as the schema says, or 1.",
    )
    yield _features(sought)


def _estimates(sought: Sought, inside: npt.NDArray[np.bool_]) -> dict[str, Estimate]:
    from auditkit.methods.explain.recourse_moves import changed_parts

    design = Design(sought.data.weights, sought.data.clusters).take(inside)
    cost, some = sought.cost[inside], sought.found[inside]
    count = changed_parts(sought.grid.space, sought.x[inside][some], sought.points[inside][some]).sum(axis=1)
    part = design.take(some)
    return {
        SHARE: proportion(some, design.weights, design.clusters),
        COST: median_estimate(cost, design, infinite="for more than half of the rows no change was found"),
        CHANGES: mean(count.astype(np.float64), part.weights, part.clusters, least=0.0)
        if some.any()
        else undefined("no change was found"),
    }


def _measured(sought: Sought, found: Mapping[str, Estimate], where: Mapping[str, str]) -> Iterator[Measurement]:
    for name, estimate in found.items():
        interval = estimate.interval(sought.level)
        yield Measurement(
            name=name,
            value=estimate.value,
            n=estimate.n,
            interval=interval,
            slice=dict(where),
            unit=sought.unit if name == COST else "",
            direction=_DIRECTIONS[name],
            bounds=(0.0, _SPANS[name]),
            reason=None if interval else estimate.reason or "these rows give no interval",
        )


def _gaps(sought: Sought, column: str, found: Mapping[str, Mapping[str, Estimate]]) -> Iterator[Measurement]:
    for name in (SHARE, COST, CHANGES):
        each = {group: estimates[name] for group, estimates in found.items()}
        # A group without a value is never passed over: the largest gap might be its own.
        absent = next((f"{group}: {e.reason}" for group, e in each.items() if e.value is None), None)
        gap = largest_gap(each, sought.level, _SPANS[name])
        yield Measurement(
            name=f"{name}.difference",
            value=None if absent else gap.value,
            n=gap.n,
            interval=None if absent else gap.interval,
            over=(column,),
            unit=sought.unit if name == COST else "",
            direction="lower",
            bounds=(0.0, _SPANS[name]),
            reason=f"undefined in a group of {column}, {absent}" if absent else gap.reason,
        )


def _cells(found: Mapping[str, Estimate], sought: Sought, inside: npt.NDArray[np.bool_]) -> tuple[Scalar, ...]:
    from auditkit.methods.explain.recourse_moves import changed_parts

    some = inside & sought.found
    often: str | None = None
    if some.sum() >= _FEW:
        share = changed_parts(sought.grid.space, sought.x[some], sought.points[some]).mean(axis=0)
        often = f"{part_names(sought.grid)[int(share.argmax())]} ({share.max():.0%})"
    return (int(inside.sum()), *(found[name].value for name in (SHARE, COST, CHANGES)), often)


def part_names(grid: TableGrid) -> tuple[str, ...]:
    """Names of the features that may change as numbers, then of the categories."""
    from auditkit.methods.explain.recourse_moves import part_columns

    names = []
    for columns in part_columns(grid.space):
        feature = grid.codec.columns[int(columns[0])].feature
        names.append(feature.group or feature.name if len(columns) > 1 else feature.name)
    return tuple(names)


def _features(sought: Sought) -> Table:
    """How often each feature is part of the cheapest change, and by how much, in its own unit."""
    from auditkit.methods.explain.recourse_moves import changed_parts, part_columns

    space, some = sought.grid.space, sought.found
    x, points = sought.x[some], sought.points[some]
    flags = changed_parts(space, x, points)
    numbers = len(part_columns(space)) - len(space.choices)
    rows: list[tuple[float, tuple[Scalar, ...]]] = []
    for part, (columns, name) in enumerate(zip(part_columns(space), part_names(sought.grid), strict=True)):
        own = flags[:, part]
        share = float(own.mean()) if len(own) else 0.0
        up: float | None = None
        by: float | None = None
        to: str | None = None
        if own.sum() >= _FEW and part < numbers:
            moved = points[own, columns[0]] - x[own, columns[0]]
            up, by = float((moved > 0).mean()), float(np.median(np.abs(moved)))
        elif own.sum() >= _FEW:
            to = _option(sought.grid, columns, points[own])
        unit = sought.grid.units[int(columns[0])]
        rows.append((share, (name, share, up, by, unit, to)))
    rows.sort(key=lambda row: -row[0])
    return Table(
        name="explain.recourse.features",
        title="What the cheapest changes change",
        columns=("feature", "share of changes", "of these upwards", "median change", "unit", "most often to"),
        rows=tuple(row for _, row in rows),
        note=f"{int(some.sum())} changes; medians of fewer than {_FEW} are left out.",
    )


def _option(grid: TableGrid, columns: npt.NDArray[np.int64], points: FloatArray) -> str:
    """The option that categories change to most often, by name."""
    options, counts = np.unique(points[:, columns], axis=0, return_counts=True)
    best = options[counts.argmax()]
    if len(columns) > 1:
        return grid.names[int(columns[int(best.argmax())])]
    names = grid.codec.categories[int(columns[0])]
    code = int(best[0])
    return names[code] if code < len(names) else ("yes" if code else "no")


def _reach(cost: FloatArray) -> FloatArray:
    """Costs at which the curve is drawn, the same for every group: evenly spaced, no row's own."""
    known = cost[np.isfinite(cost)]
    return np.linspace(0.0, float(np.quantile(known, 0.99)), _POINTS) if len(known) else np.zeros(0)


def _curve_line(name: str, cost: FloatArray, reach: FloatArray) -> Series:
    """Share of rows with a change at most so dear."""
    share = np.searchsorted(np.sort(cost), reach, side="right") / len(cost)
    return Series(name=name, x=tuple(reach.tolist()), y=tuple(share.tolist()))
