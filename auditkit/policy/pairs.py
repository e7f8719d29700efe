"""Pairs: the joint cells of two audits of the same rows, from their private records to the gate.

``pair_up`` makes the document that travels beside a baseline in the policy: joint cells where both audits kept a record
of their rows, the reason where not. ``read_pairs`` checks such a document against the two audits before anything is
decided on it: the margins of the joint cells must be the cells of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auditkit.core.errors import AuditkitError, PolicyError
from auditkit.core.evidence import Counts, Evidence
from auditkit.core.rows import RowsRecord, read_rows
from auditkit.methods.fairness.metrics import Rates
from auditkit.methods.fairness.paired import JointCounts, Pairing, joint_counts, pair_rates
from auditkit.policy.families import ALL_ROWS

SCHEMA = "auditkit-pairs/1"
_OPTIONAL = ("weight", "weight_sq", "moment")


@dataclass(frozen=True)
class Pairs:
    """The joint cells of two audits, or the sentence why there are none."""

    tables: tuple[JointCounts, ...] = ()
    reason: str = ""

    @property
    def rows(self) -> int:
        """Rows in both audits."""
        return int(self.tables[0].n.sum()) if self.tables else 0

    def rates(self, now: Rates, then: Rates, where: Mapping[str, str]) -> Pairing | None:
        """The pairing of a metric in the groups of ``now`` and ``then``, or ``None`` without their joint cells."""
        table = self._table(now.over)
        if table is None:
            return None
        found = []
        for group in now.groups:
            source, name = table, group
            if group and group == tuple(ALL_ROWS for _ in group):  # all rows inside `where`, beside the groups
                whole = self._table(tuple(where))
                if whole is None:
                    return None
                source, name = whole, tuple(where[column] for column in whole.over)
            if name not in source.groups:
                return None
            found.append(source.take([source.groups.index(name)]))
        joint = found[0]
        for part in found[1:]:
            joint = joint.joined(part)
        return pair_rates(joint, now, then)

    def _table(self, over: tuple[str, ...]) -> JointCounts | None:
        return next((table for table in self.tables if set(table.over) == set(over)), None)


def pair_files(base: Evidence, base_rows: Path, head: Evidence, head_rows: Path) -> Pairs:
    """The pairs of two audits whose records of rows are files; a file that is absent is a reason, a broken one raises.

    Raises:
        EvidenceError: AK256 a record that cannot be read.
    """
    same = base.subject.test.fingerprint == head.subject.test.fingerprint
    if not same:
        return Pairs(reason="the rows are not the same")
    for path, whose in ((base_rows, "the baseline"), (head_rows, "this audit")):
        if not path.is_file():
            return Pairs(reason=f"the rows are the same, but {whose} kept no record of them ({path.name})")
    return pair_up(base, read_rows(base_rows), head, read_rows(head_rows))


def pair_up(base: Evidence, then: RowsRecord, head: Evidence, now: RowsRecord) -> Pairs:
    """The joint cells of two audits of the same rows, or why they are not paired."""
    if not base.subject.test.fingerprint == head.subject.test.fingerprint == then.fingerprint == now.fingerprint:
        return Pairs(reason="the records are not of the same rows")
    same = len(then) == len(now) and np.array_equal(then.y, now.y) and list(then.groups) == list(now.groups)
    if not same or any(not np.array_equal(then.groups[c], now.groups[c]) for c in now.groups):
        return Pairs(reason="the records do not have the same labels and groups")
    tables = [table for table in head.counts() if table.name == "decisions"]
    if not tables:
        return Pairs(reason="decisions were not counted")
    try:
        found = joint_counts(
            now.y, then.decided, now.decided, tables, now.groups, weights=now.weights, clusters=now.clusters
        )
    except AuditkitError as error:
        return Pairs(reason=error.what)
    fault = _fault(found, base, head)
    return Pairs(reason=fault) if fault else Pairs(tables=found)


def _fault(tables: tuple[JointCounts, ...], base: Evidence, head: Evidence) -> str:
    """Why joint cells are not those of the two audits, or nothing."""
    for evidence, side, whose in ((base, "then", "the baseline"), (head, "now", "this audit")):
        counted = {frozenset(counts.over): counts for counts in evidence.counts() if counts.name == "decisions"}
        for table in tables:
            counts = counted.get(frozenset(table.over))
            if counts is not None and not _same(counts, table, side):
                return f"the record of rows is not that of {whose}: its cells differ from the evidence"
    return ""


def _same(counts: Counts, table: JointCounts, side: str) -> bool:
    cells = table.then() if side == "then" else table.now()
    place = [counts.over.index(column) for column in table.over]
    own = {tuple(group[i] for i in place): np.asarray(n) for group, n in zip(counts.groups, counts.n, strict=True)}
    return set(own) == set(table.groups) and all(
        np.array_equal(own[group], cells[index]) for index, group in enumerate(table.groups)
    )


def pairs_document(pairs: Pairs) -> dict[str, Any]:
    """As plain data, to travel in the policy."""
    if not pairs.tables:
        return {"schema": SCHEMA, "reason": pairs.reason}
    tables = []
    for table in pairs.tables:
        part: dict[str, Any] = {"over": list(table.over), "groups": [list(group) for group in table.groups]}
        part |= {"classes": table.k, "n": table.n.tolist()}
        part |= {key: getattr(table, key).tolist() for key in _OPTIONAL if getattr(table, key) is not None}
        tables.append(part)
    return {"schema": SCHEMA, "tables": tables}


def read_pairs(document: object, base: Evidence, head: Evidence, *, where: str) -> Pairs:
    """The pairs in a parsed document, checked against both audits.

    Raises:
        PolicyError: AK257 when it is not such a document, or its cells are not those of the two audits.
    """
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        raise _damaged(where, f"its schema is not {SCHEMA}")
    if "tables" not in document:
        return Pairs(reason=str(document.get("reason") or "no reason was given"))
    if base.subject.test.fingerprint != head.subject.test.fingerprint:
        return Pairs(reason="the rows are not the same")
    try:
        tables = tuple(_table(part) for part in document["tables"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(where, str(error)[:200]) from error
    fault = _fault(tables, base, head)
    if fault:
        raise _damaged(where, fault)
    return Pairs(tables=tables)


def _table(part: Mapping[str, Any]) -> JointCounts:
    k, groups = int(part["classes"]), tuple(tuple(map(str, group)) for group in part["groups"])
    shape = (len(groups), k, k, k)
    square = (len(groups), k**3, k**3)
    optional = {
        key: np.asarray(part[key], dtype=np.float64).reshape(square if key == "moment" else shape)
        for key in _OPTIONAL
        if key in part
    }
    n = np.asarray(part["n"], dtype=np.int64).reshape(shape)
    return JointCounts(over=tuple(map(str, part["over"])), groups=groups, k=k, n=n, **optional)


def _damaged(where: str, why: str) -> PolicyError:
    return PolicyError(
        "AK257", "the pairs of the baseline are damaged", where=where, why=why, fix="judge from the records again"
    )
