"""Measurements as CSV that a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io

from auditkit.core.evidence import Evidence, Measurement
from auditkit.render.redact import redact
from auditkit.render.text import clean

COLUMNS = (
    "analyzer name slice over params value low high level method n unit direction reason unreliable".split()  # noqa: SIM905
)


def render_csv(evidence: Evidence, min_cell: int | None = None) -> str:
    """One line a measurement of the shared copy of ``evidence``; a missing number is an empty cell.

    Args:
        evidence: The evidence, complete or redacted.
        min_cell: Smallest number of rows that may be shown; ``None`` for that of ``[card]``.

    Returns:
        CSV (RFC 4180, LF line ends) with a head line.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for outcome in redact(evidence, min_cell).outcomes:
        for measurement in outcome.measurements:
            writer.writerow([csv_text(outcome.analyzer), *_cells(measurement)])
    return stream.getvalue()


def csv_text(text: object) -> str:
    """``text`` as a cell that no spreadsheet reads as a formula: a leading ``= + - @`` gets an apostrophe.

    >>> csv_text("=1+1"), csv_text("plain"), csv_text(" @cmd")
    ("'=1+1", 'plain', "' @cmd")
    """
    shown = clean(text)
    return "'" + shown if shown.lstrip()[:1] in ("=", "+", "-", "@", "|", "%") else shown


def _cells(measurement: Measurement) -> list[object]:
    interval = measurement.interval
    return [
        csv_text(measurement.name),
        csv_text("; ".join(f"{column}={group}" for column, group in sorted(measurement.slice.items()))),
        csv_text("; ".join(measurement.over)),
        csv_text("; ".join(f"{name}={value}" for name, value in sorted(measurement.params.items()))),
        _number(measurement.value),
        _number(interval.low if interval else None),
        _number(interval.high if interval else None),
        _number(interval.level if interval else None),
        csv_text(interval.method) if interval else "",
        "" if measurement.n is None else measurement.n,
        csv_text(measurement.unit),
        measurement.direction,
        csv_text(measurement.reason or ""),
        csv_text(measurement.unreliable or ""),
    ]


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))
