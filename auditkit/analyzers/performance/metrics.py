"""Analyzer ``performance``: how well the model does, overall and for each group, with an interval on every number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from pydantic import Field

from auditkit.analyzers.performance import charts
from auditkit.analyzers.performance.counted import cells_of, counted_charts, counted_estimates
from auditkit.analyzers.performance.rows import (
    QUANTITIES,
    Key,
    Rows,
    classification_estimates,
    regression_estimates,
    rows_of,
)
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.evidence import Measurement, Table
from auditkit.core.subject import Subject
from auditkit.stats.coding import rows_by_group
from auditkit.stats.estimate import Estimate, prepare
from auditkit.stats.gaps import largest_gaps


class PerformanceParams(Params):
    """Settings of ``performance``; counts are of bins, rows and points."""

    confidence: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided level of every interval.")
    calibration_bins: int = Field(15, ge=1, le=100, description="Most equal-mass bins of the calibration error.")
    calibration_min_rows: int = Field(20, ge=5, description="Fewest rows a calibration bin should have.")
    curve_points: int = Field(200, ge=10, le=2000, description="Most points of a curve.")
    curve_min_rows: int = Field(10, ge=1, description="Fewest rows of each class for a group to get a curve.")
    quantile: float = Field(0.5, gt=0.0, lt=1.0, description="Quantile of the pinball loss.")


def run(subject: Subject, context: Context, params: PerformanceParams) -> Iterator[Produced]:
    """Estimates overall, by group and the largest gap between groups; then curves and tables."""
    rows, notes = rows_of(subject, context)
    for note in notes:
        yield Note(note)
    overall = _estimates(subject, rows, params, per_class=True)
    yield from _measurements(overall, {}, params.confidence)
    columns = subject.test.sensitive
    parts = {column: list(rows_by_group(values)) for column, values in columns.items()}
    done, total = 1, 1 + sum(map(len, parts.values()))
    for column in columns:
        groups: dict[str, dict[Key, Estimate]] = {}
        for name, part in parts[column]:
            context.check_deadline()
            context.progress(done, total)
            groups[name] = _estimates(subject, rows.take(part), params, per_class=False)
            yield from _measurements(groups[name], {column: name}, params.confidence)
            done += 1
        yield from _gaps(column, groups, params.confidence)
    context.progress(total, total)
    yield from charts.draw(
        subject, rows, params.curve_points, params.curve_min_rows, _binning(params), params.confidence
    )


def run_counted(subject: Subject, context: Context, params: PerformanceParams) -> Iterator[Produced]:
    """The same from rows that were counted as they were read."""
    whole = cells_of(subject)
    yield from _measurements(counted_estimates(whole, per_class=True), {}, params.confidence)
    for column, values in subject.test.sensitive.items():
        context.check_deadline()
        groups = {str(name): counted_estimates(whole.take(values == name), False) for name in np.unique(values)}
        for name, found in groups.items():
            yield from _measurements(found, {column: name}, params.confidence)
        yield from _gaps(column, groups, params.confidence)
    yield from counted_charts(whole, params.curve_points, params.confidence)


def _binning(params: PerformanceParams) -> charts.Binning:
    return charts.Binning(params.calibration_bins, params.calibration_min_rows)


def _estimates(subject: Subject, rows: Rows, params: PerformanceParams, *, per_class: bool) -> dict[Key, Estimate]:
    if subject.task == "regression":
        return regression_estimates(rows, params.quantile)
    return classification_estimates(rows, params.calibration_bins, params.calibration_min_rows, per_class)


def _measurements(found: Mapping[Key, Estimate], where: Mapping[str, str], level: float) -> Iterator[Measurement]:
    prepare(found.values(), level)
    for (name, settings), estimate in found.items():
        direction, bounds, _ = QUANTITIES[name]
        interval = estimate.interval(level)
        reason = estimate.reason or (None if interval else "these rows give no interval")
        yield Measurement(
            name=f"performance.{name}",
            value=estimate.value,
            n=estimate.n,
            interval=interval,
            slice=dict(where),
            params=dict(settings),
            direction=direction,
            bounds=bounds,
            reason=None if interval else reason,
        )


def _gaps(column: str, groups: Mapping[str, Mapping[Key, Estimate]], level: float) -> Iterator[Produced]:
    """The largest gap of each quantity between the groups of ``column``, and the table that names the pair."""
    if len(groups) < 2:
        return
    cells = []
    keys = list(next(iter(groups.values())))
    spans = [_span(name) for name, _ in keys]
    gaps = largest_gaps([{group: found[key] for group, found in groups.items()} for key in keys], level, spans)
    for key, span, gap in zip(keys, spans, gaps, strict=True):
        name, settings = key
        left_out = [group for group, found in groups.items() if found[key].value is None]
        yield Measurement(
            name=f"performance.{name}.difference",
            value=gap.value,
            n=gap.n,
            interval=gap.interval,
            over=(column,),
            params=dict(settings),
            direction="lower",
            bounds=(0.0, span),
            reason=gap.reason,
        )
        about = f"{name} ({settings[0][1]})" if settings else name
        cells.append((about, gap.high_group, gap.low_group, ", ".join(left_out)))
    yield Table(
        name=f"performance_gaps_{column}",
        title=f"Between which groups of {column} performance differs most",
        columns=("quantity", "largest in", "smallest in", "undefined in"),
        rows=tuple(cells),
    )


def _span(name: str) -> float | None:
    """The largest gap possible of a quantity."""
    _, (low, high), _ = QUANTITIES[name]
    return high - low if low is not None and high is not None else None


ANALYZER = Analyzer(
    name="performance",
    version="5",
    title="Performance",
    summary="How well the model's own decisions and scores match the labels, overall and for each group.",
    reference="DeLong et al. (1988); Boyd et al. (2013); Kumar et al. (2019); Binder (1983)",
    needs=frozenset({"labels"}),
    measures={
        **{f"performance.{name}": sentence for name, (_, _, sentence) in QUANTITIES.items()},
        **{
            f"performance.{name}.difference": f"Largest gap between groups. {sentence}"
            for name, (_, _, sentence) in QUANTITIES.items()
        },
    },
    params=PerformanceParams,
    run=run,
    run_counted=run_counted,
    limits="Says how the model does on these rows; rows drawn from elsewhere may differ.",
)
