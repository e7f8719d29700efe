"""Tables, curves, densities and counts as shared copies may show them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from auditkit.core.evidence import AnyArtifact, Counts, Curve, Density, Measurement, Scalar, Table
from auditkit.render.cells import SmallCells
from auditkit.render.clusters import tells_few_clusters
from auditkit.render.coarse import digits, hides, withholds
from auditkit.render.suppression import hidden_cells

_N_COLUMNS = frozenset({"n", "rows", "count", "n_rows", "support", "size"})


def redact_artifact(
    artifact: AnyArtifact,
    cells: SmallCells,
    lines: AbstractSet[str],
    names: Mapping[str, AbstractSet[int]],
    min_cell: int,
) -> list[AnyArtifact]:
    """What may be shown of an artifact: one or more in its place.

    Args:
        artifact: Any but one that shows rows of the data.
        cells: The counts that are withheld.
        lines: Names of the lines of a curve that must go.
        names: Names that groups of which counts are withheld may have, with those counts.
        min_cell: Smallest count that may be shown.
    """
    if isinstance(artifact, Counts):
        return _redact_counts(artifact, cells, min_cell)
    if isinstance(artifact, Table):
        return [_six_digits(_redact_table(artifact, names, min_cell))]
    if isinstance(artifact, Density):
        return [_redact_density(artifact, names, min_cell)]
    return [_redact_curve(artifact, lines)] if isinstance(artifact, Curve) else [artifact]


def ranked(artifact: AnyArtifact, shown: Sequence[Measurement]) -> AnyArtifact:
    """A table of the groups between which a quantity differs most, by the rates that are shown where some are rounded.

    No group is named where a rate is withheld or none differ: the order of the exact ones would tell more than they do.
    """
    if not isinstance(artifact, Table) or artifact.columns[:3] != ("quantity", "largest in", "smallest in"):
        return artifact
    column, rows = artifact.name.partition("_gaps_")[2], []
    for row in artifact.rows:
        members = [m for m in shown if m.name.rsplit(".", 1)[-1] == row[0] and m.slice.keys() == {column}]
        if any(map(hides, members)):
            told = sorted((m.value, m.slice[column]) for m in members if m.value is not None)
            known = not any(map(withholds, members))
            known = known and bool(told) and told[0][0] < told[-1][0]
            row = (row[0], *((told[-1][1], told[0][1]) if known else ("", "")), *row[3:])
        rows.append(row)
    return dataclasses.replace(artifact, rows=tuple(rows))


def _redact_curve(curve: Curve, lines: AbstractSet[str]) -> Curve:
    """The lines of groups that may be shown, to four digits: what a drawing needs, and no more of any row's score."""
    kept = []
    for series in curve.series:
        if series.name not in lines:
            y, low, high = (tuple(_digits(v, 4) for v in values) for values in (series.y, series.low, series.high))
            x = tuple(digits(v, 4) for v in series.x)
            kept.append(dataclasses.replace(series, x=x, y=y, low=low, high=high))
    return dataclasses.replace(curve, series=tuple(kept))


def _digits(value: float | None, count: int) -> float | None:
    return None if value is None else digits(value, count)


def _redact_counts(counts: Counts, cells: SmallCells, min_cell: int) -> list[AnyArtifact]:
    """The counts themselves when no cell is small; else the safe groups, and a table with the hidden cells empty.

    Second moments tell how many clusters there are: counts that have few of them are a table too.
    """
    k = len(counts.classes)
    values = [cell for block in counts.n for row in block for cell in row]
    hidden = cells.hidden_in(counts) if counts.over else _hidden_of_all(values, k, min_cell)
    told = frozenset(counts.over) in cells.closed or tells_few_clusters(counts, min_cell)
    if not hidden and not told:
        return [counts]
    safe = [g for g in range(len(counts.groups)) if not any(g * k * k <= index < (g + 1) * k * k for index in hidden)]
    safe = [] if told else safe
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
        note=f"Cells under {min_cell}, and those that would reveal them by subtraction, are withheld."
        if hidden
        else "",
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


def _hidden_of_all(values: list[int], k: int, min_cell: int) -> frozenset[int]:
    """Cells over all rows to withhold, given that the rows of each label and decision are shown."""
    lines = [[a * k + b for b in range(k)] for a in range(k)] + [[b * k + a for b in range(k)] for a in range(k)]
    return hidden_cells(values, lines, min_cell)


def _redact_table(table: Table, names: Mapping[str, AbstractSet[int]], min_cell: int) -> Table:
    sizes = [index for index, column in enumerate(table.columns) if column.strip().lower() in _N_COLUMNS]
    hidden = {place for place, row in enumerate(table.rows) if any(_is_small(row[index], min_cell) for index in sizes)}
    hidden |= {place for place, row in enumerate(table.rows) if _tells(row, names)}
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


def _six_digits(table: Table) -> Table:
    """A table whose numbers have six significant digits, as the measurements of a shared copy have."""
    rows = tuple(tuple(digits(cell, 6) if isinstance(cell, float) else cell for cell in row) for row in table.rows)
    return dataclasses.replace(table, rows=rows)


def _tells(row: tuple[Scalar, ...], names: Mapping[str, AbstractSet[int]]) -> bool:
    """Whether a row that names a group holds a withheld count of it."""
    counts = {cell for cell in row if isinstance(cell, int) and not isinstance(cell, bool) and cell}
    return any(not counts.isdisjoint(names[cell]) for cell in row if isinstance(cell, str) and cell in names)


def _least(row: tuple[Scalar, ...], sizes: list[int]) -> float:
    return min((float(cell) for cell in (row[i] for i in sizes) if isinstance(cell, int | float)), default=math.inf)


def _is_small(cell: Scalar, min_cell: int) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool) and 0 < cell < min_cell


def _redact_density(density: Density, names: Mapping[str, AbstractSet[int]], min_cell: int) -> Density:
    """Counts rounded to multiples of ``min_cell``; no colour where fewer rows were, and two digits of it elsewhere."""
    small = any(0 < cell < min_cell for row in density.counts for cell in row)
    small |= any(
        row in names and sum(cells) in names[row] for row, cells in zip(density.rows, density.counts, strict=True)
    )
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
