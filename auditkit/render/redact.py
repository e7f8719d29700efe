"""The copy of the evidence that may be shared: small cells, raw pictures and what would reveal them withheld."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

from auditkit.core.errors import AuditkitError
from auditkit.core.evidence import (
    AnyArtifact,
    Counts,
    Curve,
    DataFacts,
    Density,
    Evidence,
    Measurement,
    Outcome,
    RunFacts,
    Scalar,
    Table,
)
from auditkit.core.schema import from_document, plain, seal, to_document
from auditkit.render.coarse import BY_SUBTRACTION, coarse, digits
from auditkit.render.numerators import SIZES, lines_of, rounded_gaps, small_numerators
from auditkit.render.ordered import in_order
from auditkit.render.raw import asked_for, shows_rows, title_of
from auditkit.render.redact_lines import hidden_lines, left_out
from auditkit.render.suppression import hidden_cells

MIN_CELL = 10
_N_COLUMNS = frozenset({"n", "rows", "count", "n_rows", "support", "size"})

Group = tuple[tuple[str, str], ...]


def smallest_cell(evidence: Evidence) -> int:
    """The smallest count that shared copies may show: ``[card] min_cell``, else 10."""
    chosen = evidence.card.get("min_cell")
    return chosen if isinstance(chosen, int) and not isinstance(chosen, bool) and chosen >= 1 else MIN_CELL


def redact(evidence: Evidence, min_cell: int | None = None) -> Evidence:
    """The shared copy.

    Withheld: measurements over fewer than ``min_cell`` rows, counts cells from 1 to ``min_cell - 1``, group and
    label counts under ``min_cell``, pictures of rows of the data, times and machine facts; and whatever would
    give one of these by subtraction. Shares of a group that stand for fewer than ``min_cell`` of its rows are rounded.
    Where only the number of rows of a larger group would do that, its rows are
    withheld and its value is rounded so far that it does not tell them.

    Args:
        evidence: The complete record.
        min_cell: Smallest number of rows that may be shown, ``>= 1``; ``None`` for that of ``[card]``.

    Returns:
        New evidence with ``redacted`` set and its own digest. Redacting twice changes nothing.
    """
    if evidence.redacted:
        return evidence
    min_cell = smallest_cell(evidence) if min_cell is None else min_cell
    small = _small_groups(evidence, min_cell)
    subject = dataclasses.replace(
        evidence.subject,
        test=_redact_facts(evidence.subject.test, min_cell),
        train=None if evidence.subject.train is None else _redact_facts(evidence.subject.train, min_cell),
    )
    groups = evidence.subject.test.sensitive
    outcomes = tuple(
        _redact_outcome(outcome, small, groups, min_cell, asked_for(evidence.card)) for outcome in evidence.outcomes
    )
    copy = dataclasses.replace(
        evidence,
        subject=subject,
        outcomes=outcomes,
        policy=_redact_policy(evidence.policy, min_cell),
        redacted=True,
        run=RunFacts(),
        digest="",
    )
    return seal(in_order(copy))


WITHHELD_PAIRS = "the joint cells of the two audits are withheld in shared copies"


def _redact_policy(policy: Mapping[str, object] | None, min_cell: int) -> Mapping[str, object] | None:
    """The policy; the baselines in it are evidence of earlier audits and are redacted alike."""
    baselines = None if policy is None else policy.get("baseline")
    if policy is None or not isinstance(baselines, Mapping):
        return policy
    return {**policy, "baseline": {name: _redact_baseline(each, min_cell) for name, each in baselines.items()}}


def _redact_baseline(document: object, min_cell: int) -> object:
    try:
        inner = from_document(plain(document)["evidence"])
    except (AuditkitError, KeyError, TypeError):
        return {"withheld": "this baseline could not be read, so it is not shared"}
    kept = {**plain(document), "evidence": to_document(redact(inner, min_cell))}
    if "pairs" in kept:  # label by two decisions: smaller cells still than those of either audit
        kept["pairs"] = {"schema": kept["pairs"].get("schema"), "reason": WITHHELD_PAIRS}
    return kept


def withheld_reason(min_cell: int) -> str:
    """Why a number of a small group is not shown."""
    return f"withheld in shared copies: fewer than {min_cell} rows"


# Group and label counts ---------------------------------------------------------------------------------


def merge_small(counts: Mapping[str, int], min_cell: int) -> dict[str, int]:
    """``counts`` with small entries, and one more where needed, shown as one merged entry.

    >>> merge_small({"F": 400, "M": 380, "X": 4}, 10)
    {'F': 400, 'M + X (shown together: one has fewer than 10 rows)': 384}
    """
    names = list(counts)
    hidden = hidden_cells([counts[name] for name in names], [range(len(names))], min_cell)
    if not hidden:
        return dict(counts)
    kept = {name: counts[name] for index, name in enumerate(names) if index not in hidden}
    merged = [names[index] for index in sorted(hidden)]
    total = sum(counts[name] for name in merged)
    if total < min_cell or len(merged) < 2:
        return kept
    return {**kept, " + ".join(merged) + f" (shown together: one has fewer than {min_cell} rows)": total}


def _redact_facts(facts: DataFacts, min_cell: int) -> DataFacts:
    return dataclasses.replace(
        facts,
        sensitive={column: merge_small(groups, min_cell) for column, groups in facts.sensitive.items()},
        label_counts=merge_small(facts.label_counts, min_cell),
    )


# Measurements -------------------------------------------------------------------------------------------


def _small_groups(evidence: Evidence, min_cell: int) -> frozenset[Group]:
    """Every group that the evidence shows to hold fewer than ``min_cell`` rows."""
    small: set[Group] = set()
    for column, groups in evidence.subject.test.sensitive.items():
        small |= {((column, name),) for name, size in groups.items() if 0 < size < min_cell}
    for counts in evidence.counts():
        for group, block in zip(counts.groups, counts.n, strict=True):
            if counts.over and 0 < sum(map(sum, block)) < min_cell:
                small.add(tuple(sorted(zip(counts.over, group, strict=True))))
    for measurement in evidence.measurements():
        if measurement.name == "data.group_count" and measurement.slice and 0 < (measurement.value or 0) < min_cell:
            small.add(tuple(sorted(measurement.slice.items())))
    return frozenset(small)


def _redact_measurements(
    measurements: tuple[Measurement, ...], small: frozenset[Group], min_cell: int
) -> tuple[Measurement, ...]:
    """Each measurement as it may be shown: whole, rounded without its rows, or withheld."""
    hidden: set[int] = set()
    companions: set[int] = set()
    families: dict[tuple[object, ...], list[int]] = defaultdict(list)
    wholes: dict[tuple[object, ...], int | None] = {}
    for index, measurement in enumerate(measurements):
        group = set(measurement.slice.items())
        if _few(measurement, min_cell) or any(group >= set(tiny) for tiny in small):
            hidden.add(index)
        key = (measurement.name, tuple(sorted(measurement.params.items(), key=str)), tuple(sorted(measurement.slice)))
        if measurement.slice and not measurement.over:
            families[key].append(index)
        elif not measurement.over:
            wholes[key[:2]] = measurement.n if measurement.n_of == "rows" else None
    for family, members in families.items():
        companions |= _companions(measurements, members, hidden, min_cell)
        if 0 < left_out(wholes.get(family[:2]), (measurements[index].n for index in members)) < min_cell:
            companions |= set(sorted(set(members) - hidden, key=lambda index: measurements[index].n or 0)[:1])
    hidden |= _gaps(measurements, small, hidden)
    companions |= small_numerators(measurements, hidden | companions, min_cell)
    gaps = rounded_gaps(measurements, companions - hidden)
    out = []
    for index, measurement in enumerate(measurements):
        if index in hidden or (index in companions and measurement.name in SIZES):
            reason = withheld_reason(min_cell) if index in hidden else BY_SUBTRACTION
            out.append(dataclasses.replace(measurement, value=None, n=None, interval=None, reason=reason))
        elif index in companions:
            out.append(coarse(measurement, min_cell))
        elif index in gaps:
            out.append(coarse(dataclasses.replace(measurement, n=gaps[index]), min_cell))
        else:
            out.append(_six(measurement))
    return tuple(out)


def _six(measurement: Measurement) -> Measurement:
    """Six significant digits: what any reader or check needs, and a smaller page."""
    interval = measurement.interval
    if interval is not None:
        low, high = digits(interval.low, 6), digits(interval.high, 6)
        interval = dataclasses.replace(interval, low=low, high=high)
    return dataclasses.replace(measurement, value=_digits(measurement.value, 6), interval=interval)


def _gaps(measurements: tuple[Measurement, ...], small: frozenset[Group], hidden: set[int]) -> set[int]:
    """Disparities over columns of which a group is hidden: with the other group they would give its rate."""
    tiny = {frozenset(column for column, _ in group) for group in small}
    rates = {(measurements[index].name, frozenset(measurements[index].slice)) for index in hidden}
    named = {measurement.name for measurement in measurements if measurement.slice}
    found = set()
    for index, measurement in enumerate(measurements):
        columns = frozenset(measurement.over)
        base = measurement.name.rsplit(".", 1)[0]
        composite = base not in named and any(over == columns for _, over in rates)
        if columns and (columns in tiny or (base, columns) in rates or composite):
            found.add(index)
    return found


def _companions(measurements: tuple[Measurement, ...], members: list[int], hidden: set[int], min_cell: int) -> set[int]:
    """Members whose exact rows would give a hidden member by subtraction, along any of their columns."""
    inside = [index for index in members if index in hidden]
    if not inside or len(inside) == len(members):
        return set()
    sizes = [_size(measurements[index], index in hidden, min_cell) for index in members]
    return {members[position] for position in hidden_cells(sizes, lines_of(measurements, members), min_cell)} - hidden


def _few(measurement: Measurement, min_cell: int) -> bool:
    """Whether a number rests on so few rows of data that it must be withheld."""
    return measurement.n_of == "rows" and measurement.n is not None and 0 < measurement.n < min_cell


def _size(measurement: Measurement, hidden: bool, min_cell: int) -> int:
    rows = (measurement.n or 0) if measurement.n_of == "rows" else min_cell
    return min(max(rows, 1), min_cell - 1) if hidden else max(rows, min_cell)


# Artifacts ----------------------------------------------------------------------------------------------


def _redact_outcome(
    outcome: Outcome,
    small: frozenset[Group],
    groups: Mapping[str, Mapping[str, int]],
    min_cell: int,
    shared_raw: frozenset[str],
) -> Outcome:
    artifacts: list[AnyArtifact] = []
    notes = list(outcome.notes)
    measurements = _redact_measurements(outcome.measurements, small, min_cell)
    names = hidden_lines(small, outcome.measurements, measurements, groups)
    for artifact in outcome.artifacts:
        if shows_rows(artifact) and artifact.name not in shared_raw:
            notes.append(f"“{title_of(artifact)}” is left out of shared copies: it shows rows of the data.")
        elif isinstance(artifact, Counts):
            artifacts += _redact_counts(artifact, min_cell)
        elif isinstance(artifact, Table):
            artifacts.append(_redact_table(artifact, min_cell))
        elif isinstance(artifact, Density):
            artifacts.append(_redact_density(artifact, min_cell))
        elif isinstance(artifact, Curve):
            artifacts.append(_redact_curve(artifact, names))
        else:
            artifacts.append(artifact)
    return dataclasses.replace(outcome, measurements=measurements, artifacts=tuple(artifacts), notes=tuple(notes))


def _redact_curve(curve: Curve, small: frozenset[str]) -> Curve:
    """The lines of groups that may be shown, to four digits: what a drawing needs, and no more of any row's score."""
    kept = []
    for series in curve.series:
        if series.name not in small:
            y, low, high = (tuple(_digits(v, 4) for v in values) for values in (series.y, series.low, series.high))
            x = tuple(digits(v, 4) for v in series.x)
            kept.append(dataclasses.replace(series, x=x, y=y, low=low, high=high))
    return dataclasses.replace(curve, series=tuple(kept))


def _digits(value: float | None, count: int) -> float | None:
    return None if value is None else digits(value, count)


def _redact_counts(counts: Counts, min_cell: int) -> list[AnyArtifact]:
    """The counts themselves when no cell is small; else the safe groups, and a table with the hidden cells empty."""
    k = len(counts.classes)
    values = [cell for block in counts.n for row in block for cell in row]
    hidden = hidden_cells(values, _count_lines(counts), min_cell)
    if not hidden:
        return [counts]
    safe = [g for g in range(len(counts.groups)) if not any(g * k * k <= index < (g + 1) * k * k for index in hidden)]
    rows: list[tuple[Scalar, ...]] = []
    for index, value in enumerate(values):
        g, cell = divmod(index, k * k)
        y, p = divmod(cell, k)
        shown = None if index in hidden else value
        rows.append((*counts.groups[g], counts.classes[y], counts.classes[p], shown))
    table = Table(
        name=f"{counts.name}.shared",
        title="Rows by " + (", ".join(counts.over) + ", " if counts.over else "") + "label and decision",
        columns=(*counts.over, "label", "decision", "rows"),
        rows=tuple(rows),
        note=f"Cells under {min_cell}, and those that would reveal them by subtraction, are withheld.",
    )
    return [table] if not safe else [_keep_groups(counts, safe), table]


def _keep_groups(counts: Counts, groups: list[int]) -> Counts:
    return dataclasses.replace(
        counts,
        groups=tuple(counts.groups[g] for g in groups),
        n=tuple(counts.n[g] for g in groups),
        weight=None if counts.weight is None else tuple(counts.weight[g] for g in groups),
        weight_sq=None if counts.weight_sq is None else tuple(counts.weight_sq[g] for g in groups),
        moment=None if counts.moment is None else tuple(counts.moment[g] for g in groups),
    )


def _count_lines(counts: Counts) -> Iterable[list[int]]:
    """Cells whose sum is published: a group's rows, its labels, its decisions, and each cell over the groups."""
    k, total = len(counts.classes), len(counts.groups)
    for g in range(total):
        base = g * k * k
        yield list(range(base, base + k * k))
        for a in range(k):
            yield [base + a * k + b for b in range(k)]
            yield [base + b * k + a for b in range(k)]
    if total < 2:
        return
    for cell in range(k * k):
        yield [g * k * k + cell for g in range(total)]
        for column in range(len(counts.over)) if len(counts.over) > 1 else ():
            for name in sorted({group[column] for group in counts.groups}):
                yield [g * k * k + cell for g in range(total) if counts.groups[g][column] == name]


def _redact_table(table: Table, min_cell: int) -> Table:
    sizes = [index for index, column in enumerate(table.columns) if column.strip().lower() in _N_COLUMNS]
    hidden = {place for place, row in enumerate(table.rows) if any(_is_small(row[index], min_cell) for index in sizes)}
    if not hidden:
        return table
    if len(hidden) == 1:  # one row alone would follow from the total
        others = [place for place in range(len(table.rows)) if place not in hidden]
        hidden |= set(sorted(others, key=lambda place: _least(table.rows[place], sizes))[:1])
    rows: list[tuple[Scalar, ...]] = [
        tuple(None if isinstance(cell, int | float) else cell for cell in row) if place in hidden else row
        for place, row in enumerate(table.rows)
    ]
    note = (
        f"{table.note} Rows about fewer than {min_cell} rows of data, and what would give them, are withheld.".strip()
    )
    return dataclasses.replace(table, rows=tuple(rows), note=note)


def _least(row: tuple[Scalar, ...], sizes: list[int]) -> float:
    return min((float(cell) for cell in (row[i] for i in sizes) if isinstance(cell, int | float)), default=math.inf)


def _is_small(cell: Scalar, min_cell: int) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool) and 0 < cell < min_cell


def _redact_density(density: Density, min_cell: int) -> Density:
    """Counts rounded to multiples of ``min_cell``; no colour where fewer rows were, and two digits of it elsewhere."""
    small = any(0 < cell < min_cell for row in density.counts for cell in row)
    counts = tuple(tuple(min_cell * ((cell + min_cell // 2) // min_cell) for cell in row) for row in density.counts)
    counts = counts if small else density.counts
    color = tuple(
        tuple(
            None if shade is None or cell < min_cell else round(shade, 2)
            for cell, shade in zip(cells, shades, strict=True)
        )
        for cells, shades in zip(density.counts, density.color, strict=False)
    )
    note = f"{density.note} Counts are rounded to multiples of {min_cell}.".strip() if small else density.note
    return dataclasses.replace(density, counts=counts, color=color, note=note)
