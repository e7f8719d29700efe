"""A group of rows as one name for it, whatever order its columns were given in."""

from __future__ import annotations

from auditkit.core.evidence import Counts, Measurement

#: Columns and values, sorted by column; empty for all rows.
Group = tuple[tuple[str, str], ...]


def group_of(measurement: Measurement) -> Group:
    """The group that a measurement is about.

    >>> group_of(Measurement(name="a.b", value=1.0, slice={"sex": "F", "origin": "B"}))
    (('origin', 'B'), ('sex', 'F'))
    """
    return tuple(sorted(measurement.slice.items()))


def counted_group(counts: Counts, index: int) -> Group:
    """One group of ``counts``."""
    return tuple(sorted(zip(counts.over, counts.groups[index], strict=True)))
