"""Tables of counts beside one another and beside the rows that were tested."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from auditkit.core.evidence import Counts, Evidence


def counts_at_odds(evidence: Evidence) -> tuple[int, tuple[str, ...]]:
    """How many tables of counts were compared with that of all rows, and what is wrong with which."""
    tables = list(evidence.counts())
    whole = next((np.array(table.n[0], dtype=np.int64) for table in tables if not table.over and table.n), None)
    if whole is None:
        return 0, ()
    wrong = []
    facts = evidence.subject.test
    for table in tables:
        name = f"{table.name} over {' x '.join(table.over) or 'all rows'}"
        total = np.array(table.n, dtype=np.int64).reshape(-1, *whole.shape).sum(axis=0)
        # A shared copy may lack groups, so that its sums may fall short of all rows but never exceed them.
        at_odds = (total > whole).any() if evidence.redacted and table.over else (total != whole).any()
        if at_odds:
            wrong.append(f"{name}: its cells do not add up to those of all rows")
        if not table.over and int(total.sum()) != facts.n_rows:
            wrong.append(f"{name}: {int(total.sum()):,} rows are counted and {facts.n_rows:,} were tested")
        wrong += _sizes_at_odds(table, facts.sensitive) if len(table.over) == 1 else []
    return len(tables), tuple(dict.fromkeys(wrong))


def _sizes_at_odds(table: Counts, sizes: Mapping[str, Mapping[str, int]]) -> list[str]:
    (column,) = table.over
    return [
        f"{table.name} over {column}: {group[0]!r} has {rows:,} rows there and {sizes[column][group[0]]:,} in the data"
        for group, block in zip(table.groups, table.n, strict=True)
        if group[0] in sizes.get(column, {}) and (rows := sum(map(sum, block))) != sizes[column][group[0]]
    ]
