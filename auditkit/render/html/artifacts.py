"""Charts of artifacts: curves, densities, pictures, counts and tables of any analyzer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from auditkit.core.evidence import Artifact, Counts, Curve, Density, ImageGrid, Measurement, Scalar, Table, TokenRows
from auditkit.render.charts import (
    Chart,
    Line,
    TokenLine,
    confusion_matrix,
    density_chart,
    line_chart,
    picture_grid,
    token_chart,
    token_lines_chart,
)
from auditkit.render.charts.pictures import tile_from_base64
from auditkit.render.charts.tables import table_markup
from auditkit.render.html.figures import Draw, Figure
from auditkit.render.html.findings import curve_finding, density_finding
from auditkit.render.numerals import count, scalar
from auditkit.render.raw import TOKEN_COLUMNS
from auditkit.render.text import clean

_TABLE_ROWS = 200
_LINES = 6


def artifact_figures(artifact: Artifact, measurements: Sequence[Measurement] = ()) -> list[Figure]:
    """The charts of one artifact, none for an empty one; ``measurements`` are those of the same analyzer."""
    if isinstance(artifact, Curve):
        return [Figure(draw, artifact.name, "curve") for draw in _curves(artifact, measurements)]
    if isinstance(artifact, Density):
        return [Figure(partial(_density, artifact), artifact.name, "density")] if artifact.rows else []
    if isinstance(artifact, ImageGrid):
        return [Figure(draw, artifact.name, "pictures") for draw in _pictures(artifact)]
    if isinstance(artifact, TokenRows):
        return [Figure(partial(_tokens, artifact), artifact.name, "pictures")] if artifact.rows else []
    if isinstance(artifact, Counts):
        if artifact.over:
            return [Figure(partial(_group_cells, artifact), artifact.name, "table")] if artifact.groups else []
        return [Figure(draw, artifact.name, "counts") for draw in _counts(artifact)]
    return [Figure(partial(_table, artifact), artifact.name, "table")] if artifact.rows else []


def _curves(curve: Curve, measurements: Sequence[Measurement]) -> list[Draw]:
    square = any(word in curve.name.lower() for word in ("roc", "reliability", "calibration"))
    # An analyzer may give y = x as a line of its own; it is a mark to read by, not something measured.
    given = next((s.name for s in curve.series if len(s.x) == 2 and s.x == s.y), None)
    lines = [Line(name=s.name, x=s.x, y=s.y, low=s.low, high=s.high) for s in curve.series
             if s.x and not (len(s.x) == 2 and s.x == s.y)]  # fmt: skip
    finding = curve_finding(curve, measurements)
    out: list[Draw] = []
    for start in range(0, len(lines), _LINES):
        part = lines[start : start + _LINES]
        x, y = clean(curve.x_label), clean(curve.y_label)
        out.append(partial(line_chart, part, finding, x_label=x, y_label=y, diagonal=given or square, note=curve.note))
    return out


def _density(density: Density) -> Chart:
    return density_chart(density.rows, density.edges, density.counts, density_finding(density),
                         label=clean(density.x_label), color=density.color, note=density.note)  # fmt: skip


def _pictures(grid: ImageGrid) -> list[Draw]:
    tiles = [tile_from_base64(p.label, p.height, p.width, p.pixels, p.palette) for p in grid.pictures]
    good = [tile for tile in tiles if tile is not None]
    lost = len(tiles) - len(good)
    note = f"{grid.note} {lost} pictures could not be read." if lost else grid.note
    across = None if lost else grid.across
    return [partial(picture_grid, good, grid.title, note=note, across=across)] if good else []


def _tokens(texts: TokenRows) -> Chart:
    lines = [TokenLine(label=row.label, tokens=row.tokens, values=row.values) for row in texts.rows]
    return token_lines_chart(lines, texts.title, unit=texts.unit, note=texts.note)


def _counts(counts: Counts) -> list[Draw]:
    """The confusion matrix of all rows."""
    if not counts.classes or len(counts.classes) > 24 or not counts.n:
        return []
    if not sum(map(sum, counts.n[0])):
        return []
    return [partial(confusion_matrix, counts.classes, counts.n[0])]


def _group_cells(counts: Counts) -> Chart:
    rows: tuple[tuple[Scalar, ...], ...] = tuple(
        (*group, counts.classes[y], counts.classes[p], block[y][p])
        for group, block in zip(counts.groups, counts.n, strict=True)
        for y in range(len(counts.classes))
        for p in range(len(counts.classes))
    )
    over = ", ".join(counts.over)
    return _table(Table(name=counts.name, title=f"Rows by {over}, label and decision",
                        columns=(*counts.over, "label", "decision", "rows"), rows=rows))  # fmt: skip


def _table(table: Table) -> Chart:
    if table.columns[:2] == TOKEN_COLUMNS:
        weights = [row[1] if isinstance(row[1], int | float) else None for row in table.rows]
        return token_chart([scalar(row[0]) for row in table.rows], weights, table.title, note=table.note)
    rows = tuple(tuple(scalar(cell) for cell in row) for row in table.rows[:_TABLE_ROWS])
    more = len(table.rows) - _TABLE_ROWS
    note = (
        f"{table.note} The first {_TABLE_ROWS} of {count(len(table.rows))} rows are shown." if more > 0 else table.note
    )
    columns = tuple(clean(column) or "column" for column in table.columns)
    return Chart(title=clean(table.title), drawing=table_markup(clean(table.title), columns, rows), note=clean(note))
