"""The copy of the evidence that may be shared: small cells, raw pictures and what would reveal them withheld."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set

from auditkit.core.errors import AuditkitError
from auditkit.core.evidence import AnyArtifact, DataFacts, Evidence, Measurement, Outcome, RunFacts
from auditkit.core.schema import from_document, plain, seal, to_document
from auditkit.render.beside_limits import beside_limits
from auditkit.render.cells import SmallCells, small_cells
from auditkit.render.clusters import without_clusters
from auditkit.render.coarse import BY_SUBTRACTION, coarse, digits, rounded_to
from auditkit.render.groups import Group, counted_group, group_of
from auditkit.render.numerators import SIZES, lines_of, rounded_gaps, small_numerators
from auditkit.render.ordered import in_order
from auditkit.render.raw import asked_for, shows_rows, title_of
from auditkit.render.redact_artifacts import ranked, redact_artifact
from auditkit.render.redact_lines import hidden_lines, left_out, names_of
from auditkit.render.rounded_cells import gap_of
from auditkit.render.suppression import hidden_cells

MIN_CELL = 10


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
    withheld and its value is rounded so far that it does not tell them. What goes with a small count is chosen once
    for all tables of the same rows. Numbers over all rows are about no group and stay.

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
    cells = small_cells(evidence, min_cell)
    subject = dataclasses.replace(
        evidence.subject,
        test=_redact_facts(evidence.subject.test, min_cell, cells.sizes),
        train=None if evidence.subject.train is None else _redact_facts(evidence.subject.train, min_cell),
    )
    groups = evidence.subject.test.sensitive
    told = without_clusters(evidence, cells.closed)
    outcomes = tuple(
        _redact_outcome(outcome, small, cells, groups, min_cell, asked_for(evidence.card)) for outcome in told
    )
    copy = dataclasses.replace(
        evidence,
        subject=subject,
        outcomes=beside_limits(outcomes, told, evidence.policy),
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


def merge_small(counts: Mapping[str, int], min_cell: int, also: Iterable[str] = ()) -> dict[str, int]:
    """``counts`` with small entries, those of ``also``, and one more where needed, shown as one merged entry.

    >>> merge_small({"F": 400, "M": 380, "X": 4}, 10)
    {'F': 400, 'M + X (shown together: one has fewer than 10 rows)': 384}
    """
    names = list(counts)
    chosen = {names.index(name) for name in also if name in counts}
    values = [min(counts[name], min_cell - 1) if index in chosen else counts[name] for index, name in enumerate(names)]
    hidden = hidden_cells(values, [], min_cell)
    if len(hidden) == 1 or sum(counts[names[index]] for index in hidden) < min_cell:
        hidden = hidden_cells(values, [range(len(names))], min_cell)
    if not hidden:
        return dict(counts)
    kept = {name: counts[name] for index, name in enumerate(names) if index not in hidden}
    merged = [names[index] for index in sorted(hidden)]
    total = sum(counts[name] for name in merged)
    if total < min_cell or len(merged) < 2:
        return kept
    return {**kept, " + ".join(merged) + f" (shown together: one has fewer than {min_cell} rows)": total}


def _redact_facts(facts: DataFacts, min_cell: int, sizes: Set[Group] = frozenset()) -> DataFacts:
    return dataclasses.replace(
        facts,
        sensitive={
            column: merge_small(groups, min_cell, [name for name in groups if ((column, name),) in sizes])
            for column, groups in facts.sensitive.items()
        },
        label_counts=merge_small(facts.label_counts, min_cell),
    )


# Measurements -------------------------------------------------------------------------------------------


def _small_groups(evidence: Evidence, min_cell: int) -> frozenset[Group]:
    """Every group that the evidence shows to hold fewer than ``min_cell`` rows."""
    small: set[Group] = set()
    for column, groups in evidence.subject.test.sensitive.items():
        small |= {((column, name),) for name, size in groups.items() if 0 < size < min_cell}
    for counts in evidence.counts():
        for index, block in enumerate(counts.n):
            if counts.over and 0 < sum(map(sum, block)) < min_cell:
                small.add(counted_group(counts, index))
    for measurement in evidence.measurements():
        if measurement.name == "data.group_count" and measurement.slice and 0 < (measurement.value or 0) < min_cell:
            small.add(group_of(measurement))
    return frozenset(small)


def _redact_measurements(
    measurements: Sequence[Measurement], small: frozenset[Group], cells: SmallCells, min_cell: int
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
        if cells.tells(measurement):
            companions.add(index)
        if measurement.slice and not measurement.over and measurement.name not in SIZES:
            families[key].append(index)
        elif not measurement.over:
            wholes[key[:2]] = measurement.n if measurement.n_of == "rows" else None
    for family, members in families.items():
        companions |= _companions(measurements, members, hidden, min_cell)
        if 0 < left_out(wholes.get(family[:2]), (measurements[index].n for index in members)) < min_cell:
            companions |= set(sorted(set(members) - hidden, key=lambda index: measurements[index].n or 0)[:1])
    hidden |= _gaps(measurements, small, hidden)
    spared = {index for index, measurement in enumerate(measurements) if cells.spares(measurement)}
    companions |= small_numerators(measurements, hidden | companions | spared, min_cell)
    gaps = {index: rows for index, m in enumerate(measurements) if (rows := cells.gap_rows(m)) is not None}
    gaps |= rounded_gaps(measurements, companions - hidden)
    out = []
    for index, measurement in enumerate(measurements):
        if index in hidden or (index in companions and measurement.name in SIZES):
            reason = withheld_reason(min_cell) if index in hidden else BY_SUBTRACTION
            out.append(dataclasses.replace(measurement, value=None, n=None, interval=None, reason=reason))
        elif index in companions:
            out.append(_rounded_rate(measurement, cells, min_cell))
        elif index in gaps:
            gap = dataclasses.replace(measurement, n=gaps[index])
            out.append(_rounded_gap(gap, measurements, cells, min_cell))
        else:
            out.append(_six(measurement))
    return tuple(out)


def _rounded_rate(measurement: Measurement, cells: SmallCells, min_cell: int) -> Measurement:
    if not cells.of_cells(measurement):
        return coarse(measurement, min_cell)
    return rounded_to(measurement, cells.rounded.value(measurement))


def _rounded_gap(
    gap: Measurement, measurements: Sequence[Measurement], cells: SmallCells, min_cell: int
) -> Measurement:
    sides = cells.sides_of(gap, measurements)
    return coarse(gap, min_cell) if sides is None else rounded_to(gap, gap_of(gap, sides))


def _six(measurement: Measurement) -> Measurement:
    """Six significant digits: what any reader or check needs, and a smaller page."""
    interval = measurement.interval
    if interval is not None:
        low, high = digits(interval.low, 6), digits(interval.high, 6)
        interval = dataclasses.replace(interval, low=low, high=high)
    value = None if measurement.value is None else digits(measurement.value, 6)
    return dataclasses.replace(measurement, value=value, interval=interval)


def _gaps(measurements: Sequence[Measurement], small: frozenset[Group], hidden: set[int]) -> set[int]:
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


def _companions(measurements: Sequence[Measurement], members: list[int], hidden: set[int], min_cell: int) -> set[int]:
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
    cells: SmallCells,
    groups: Mapping[str, Mapping[str, int]],
    min_cell: int,
    shared_raw: frozenset[str],
) -> Outcome:
    artifacts: list[AnyArtifact] = []
    notes = list(outcome.notes)
    measurements = _redact_measurements(outcome.measurements, small, cells, min_cell)
    lines = hidden_lines(small, outcome.measurements, measurements, groups)
    names = {name: rows for group, rows in cells.counts.items() for name in names_of(group)}
    for artifact in outcome.artifacts:
        if shows_rows(artifact) and artifact.name not in shared_raw:
            notes.append(f"“{title_of(artifact)}” is left out of shared copies: it shows rows of the data.")
        else:
            artifacts += redact_artifact(ranked(artifact, measurements), cells, lines, names, min_cell)
    return dataclasses.replace(outcome, measurements=measurements, artifacts=tuple(artifacts), notes=tuple(notes))
