"""Does a copy that is shared hold anything of single people: small cells, rows of data, strings like personal data?

This looks at the copy itself and shares no code with what withholds: a fault there shows here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from auditkit.core.evidence import Counts, Curve, DataFacts, Evidence, Measurement, Table

State = Literal["holds", "differs", "not recomputed"]
Found = tuple[str, State, str]

SHOWN = 5
LONG = 40
_SIZES = ("n", "rows", "count", "n_rows", "support", "size")


def shared_checks(evidence: Evidence, min_cell: int, raw: frozenset[str]) -> Iterator[Found]:
    """What was looked for in a shared copy, and what was found; nothing for a complete record.

    Args:
        evidence: The copy in a card, or one that was written to be shared.
        min_cell: Smallest number of rows that it may tell.
        raw: Names of artifacts that the owner asked to share although they show rows.
    """
    if not evidence.redacted:
        return
    small = list(_small_cells(evidence, min_cell))
    yield _told("small cells", small, f"no number rests on fewer than {min_cell} rows")
    rows = [artifact.name for artifact in evidence.artifacts() if _shows_rows(artifact) and artifact.name not in raw]
    yield _told("rows of data", rows, "no picture or text of a row is in it" if not raw else "only those asked for")
    try:
        personal = list(_personal(evidence))
    except ImportError:
        yield ("personal data", "not recomputed", 'its patterns need pip install "auditkit[privacy]"')
        return
    yield _told("personal data", personal, "no name, value or cell looks like it")


def _told(what: str, found: list[str], good: str) -> Found:
    if not found:
        return (what, "holds", good)
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (what, "differs", "; ".join(found[:SHOWN]) + more)


def _small_cells(evidence: Evidence, min_cell: int) -> Iterator[str]:
    def is_small(n: object) -> bool:
        return isinstance(n, int) and not isinstance(n, bool) and 0 < n < min_cell

    for m in evidence.measurements():
        if m.value is not None and m.n_of == "rows" and is_small(m.n):
            yield f"{m.name} of {_slice(m)} rests on {m.n} rows"
    for artifact in evidence.artifacts():
        if isinstance(artifact, Counts):
            hit = sum(is_small(cell) for block in artifact.n for row in block for cell in row)
        elif isinstance(artifact, Table):
            sizes = [at for at, column in enumerate(artifact.columns) if column.strip().lower() in _SIZES]
            hit = sum(any(is_small(row[at]) for at in sizes) for row in artifact.rows)
        else:
            continue
        if hit:
            yield f"{artifact.name} has {hit} counts of 1 to {min_cell - 1}"
    for split, facts in _splits(evidence):
        counts: Mapping[str, Mapping[str, int]] = {**facts.sensitive, "label": facts.label_counts}
        small = [(column, group, n) for column, groups in counts.items() for group, n in groups.items() if is_small(n)]
        yield from (f"{split} rows with {column} {group!r}: {n}" for column, group, n in small)


def _splits(evidence: Evidence) -> Iterator[tuple[str, DataFacts]]:
    yield "test", evidence.subject.test
    if evidence.subject.train is not None:
        yield "train", evidence.subject.train


def _slice(m: Measurement) -> str:
    return ", ".join(f"{column}={group}" for column, group in m.slice.items()) or "all rows"


def _shows_rows(artifact: object) -> bool:
    """Pictures and tokens of a row, by what they say of themselves; tables that list tokens in order."""
    if getattr(artifact, "raw", False):
        return True
    return isinstance(artifact, Table) and artifact.columns[:2] == ("token", "attribution")


def _personal(evidence: Evidence) -> Iterator[str]:
    from auditkit.methods.privacy.personal_data import by_values

    for place, texts in _strings(evidence).items():
        for long in (False, True):
            found = by_values(sorted(text for text in texts if (len(text) > LONG) == long), within=long)
            for match in found:
                yield f"{place}: looks like {match.kind}"


def _strings(evidence: Evidence) -> Mapping[str, set[str]]:
    """Every string that comes from data, by where it stands; what the owner wrote in ``[card]`` is the owner's."""
    found: dict[str, set[str]] = {}
    for place, text in (*_of_numbers(evidence), *_of_artifacts(evidence), *_of_facts(evidence)):
        if isinstance(text, str):
            found.setdefault(place, set()).add(text)
    return found


def _of_numbers(evidence: Evidence) -> Iterator[tuple[str, object]]:
    for m in evidence.measurements():
        yield from ((f"groups of {column}", group) for column, group in m.slice.items())
        yield from ((f"{key} of {m.name}", value) for key, value in m.params.items())


def _of_artifacts(evidence: Evidence) -> Iterator[tuple[str, object]]:
    for outcome in evidence.outcomes:
        yield from ((f"notes of {outcome.analyzer}", note) for note in outcome.notes)
    for artifact in evidence.artifacts():
        if isinstance(artifact, Table):
            for row in artifact.rows:
                yield from (
                    (f"{column} in {artifact.name}", cell) for column, cell in zip(artifact.columns, row, strict=True)
                )
        elif isinstance(artifact, Curve):
            yield from ((f"lines of {artifact.name}", line.name) for line in artifact.series)


def _of_facts(evidence: Evidence) -> Iterator[tuple[str, object]]:
    for split, facts in _splits(evidence):
        for column, groups in facts.sensitive.items():
            yield from ((f"{split} groups of {column}", group) for group in groups)
        yield from ((f"{split} labels", label) for label in facts.label_counts)
    yield from (("names of columns", feature.name) for feature in evidence.subject.test.features)
