"""The head of the quantitative analyses: how much was measured over all rows, by group and by intersection."""

from __future__ import annotations

from auditkit.core.evidence import Evidence
from auditkit.render.charts.tables import table_markup
from auditkit.render.html.names import FAMILIES, family_title
from auditkit.render.html.view import STATUSES, Section
from auditkit.render.numerals import MISSING, count
from auditkit.render.text import clean

_HEADS = ("Family", "All rows", "By group", "By intersection", "Analyzers")


def analyses_section(evidence: Evidence) -> Section:
    """A table of families: numbers over all rows, by one column, by several, and what became of their analyzers."""
    present = dict.fromkeys(outcome.family for outcome in evidence.outcomes)
    order = [*(family for family in FAMILIES if family in present), *sorted(set(present) - set(FAMILIES))]
    rows = []
    for family in order:
        outcomes = [outcome for outcome in evidence.outcomes if outcome.family == family]
        sizes = [len(m.slice) or len(m.over) for outcome in outcomes for m in outcome.measurements]
        states = [outcome.status for outcome in outcomes]
        told = ", ".join(_told(states.count(status), word) for status, word in STATUSES.items() if status in states)
        cells = [sum(size == 0 for size in sizes), sum(size == 1 for size in sizes), sum(size > 1 for size in sizes)]
        rows.append((clean(family_title(family)), *(count(n) if n else MISSING for n in cells), told))
    table = table_markup("what was measured in each family", _HEADS, rows)
    return Section(anchor="analyses", title="Quantitative analyses", more=(("", table),) if rows else ())


def _told(times: int, word: str) -> str:
    return f"{times} {word if times == 1 else word.replace('does not', 'do not')}"
