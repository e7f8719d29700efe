"""Pairs: what two audits of the same rows say together, from their private records to the gate and to ``compare``.

``pair_up`` makes the sums that leave the records: joint cells of the decisions, and for scores and predictions the
variances and covariance of what was measured. ``pairs_document`` and ``read_pairs`` are how they travel beside a
baseline in the policy; ``read_pairs`` checks them against the two audits before anything is decided on them: the
margins of the joint cells must be the cells of both, the values must be the measured ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from auditkit.core.errors import AuditkitError, PolicyError
from auditkit.core.evidence import Counts, Evidence, Measurement
from auditkit.core.rows import RowsRecord, read_rows
from auditkit.methods.fairness.metrics import Rates
from auditkit.methods.fairness.paired import JointCounts, Pairing, joint_counts, pair_rates
from auditkit.methods.fairness.paired_scores import ScoredRows, ScorePairing, finite_pair, scored_pair
from auditkit.policy.families import ALL_ROWS
from auditkit.policy.measured import Measured
from auditkit.stats.linearised import Design
from auditkit.stats.paired import PairedEstimate
from auditkit.stats.scores import ranking_and_probabilities

SCHEMA = "auditkit-pairs/1"
_OPTIONAL = ("weight", "weight_sq", "moment")
# A value worked out again from the record is the measured one to this much.
_SAME = 1e-9


@dataclass(frozen=True)
class Pairs:
    """What two audits of the same rows say together, or the sentence why they say nothing.

    Attributes:
        tables: The joint cells of the decisions.
        scored: Key of a measurement -> it in both audits, for what decisions alone do not give.
    """

    tables: tuple[JointCounts, ...] = ()
    reason: str = ""
    scored: Mapping[str, PairedEstimate] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether there are any."""
        return bool(self.tables or self.scored)

    @property
    def rows(self) -> int:
        """Rows in both audits."""
        if self.tables:
            return int(self.tables[0].n.sum())
        return max((pair.n for pair in self.scored.values()), default=0)

    def measured(self, now: Measured, then: Measured) -> ScorePairing | None:
        """The pairing of measured values, or ``None`` unless every one of them has its pair."""
        found = [self.scored.get(m.key) for m in now.measurements]
        same = [m.key for m in now.measurements] == [m.key for m in then.measurements]
        pairs = tuple(pair for pair in found if pair is not None)
        return ScorePairing(now=now, then=then, pairs=pairs) if same and len(pairs) == len(found) else None

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
    for path, whose in ((base_rows, "BASE"), (head_rows, "HEAD")):
        if not path.is_file():
            return Pairs(reason=f"{whose} kept no record of its rows ({path.name}, [run] keep_rows = true)")
    return pair_up(base, read_rows(base_rows), head, read_rows(head_rows))


def pair_up(base: Evidence, then: RowsRecord, head: Evidence, now: RowsRecord) -> Pairs:
    """The joint cells of two audits of the same rows, or why they are not paired."""
    if not base.subject.test.fingerprint == head.subject.test.fingerprint == then.fingerprint == now.fingerprint:
        return Pairs(reason="the records are not of the same rows")
    same = len(then) == len(now) and np.array_equal(then.y, now.y) and list(then.groups) == list(now.groups)
    if not same or any(not np.array_equal(then.groups[c], now.groups[c]) for c in now.groups):
        return Pairs(reason="the records do not have the same labels and groups")
    tables = [table for table in head.counts() if table.name == "decisions"]
    joint: tuple[JointCounts, ...] = ()
    reason = "the records give nothing that both audits measured"
    if tables:
        try:
            joint = joint_counts(
                now.y, then.decided, now.decided, tables, now.groups, weights=now.weights, clusters=now.clusters
            )
        except AuditkitError as error:
            reason = error.what
        fault = _fault(joint, base, head)
        if fault:
            return Pairs(reason=fault)
    found = Pairs(tables=joint, scored=_scored(base, then, head, now))
    return found if found.known else Pairs(reason=reason)


def _scored(base: Evidence, then: RowsRecord, head: Evidence, now: RowsRecord) -> dict[str, PairedEstimate]:
    """What was measured of scores or predictions in both audits, and is the same worked out from the records."""
    one, two = _scored_rows(base, then), _scored_rows(head, now)
    before = {m.key: m for m in base.measurements()}
    found: dict[str, PairedEstimate] = {}
    for m in head.measurements():
        earlier = before.get(m.key)
        if m.value is None or earlier is None or earlier.value is None or m.over or not set(m.slice) <= set(now.groups):
            continue
        inside = np.ones(len(now), dtype=np.bool_)
        for column, name in m.slice.items():
            inside &= now.groups[column] == name
        pair = scored_pair(m.name, m.params, one.take(inside), two.take(inside))
        if pair is not None and finite_pair(pair) and _is_of(pair, earlier, m):
            found[m.key] = pair
    return found


def _scored_rows(evidence: Evidence, record: RowsRecord) -> ScoredRows:
    subject = evidence.subject
    positive = None if subject.positive is None else subject.classes.index(subject.positive)
    ranking, probabilities = None, None
    if record.scores is not None:
        ranking, probabilities = ranking_and_probabilities(record.scores, subject.score_space, positive)
    return ScoredRows(
        y=record.y,
        decided=record.decided,
        ranking=ranking,
        probabilities=probabilities,
        design=Design(record.weights, record.clusters),
        classes=subject.classes,
        positive=positive,
    )


def _is_of(pair: PairedEstimate, then: Measurement | None, now: Measurement | None) -> bool:
    """Whether a pair's values are those measured in both audits."""
    return all(
        m is not None and m.value is not None and math.isclose(value, m.value, rel_tol=_SAME, abs_tol=_SAME)
        for value, m in ((pair.then, then), (pair.now, now))
    )


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
    if not pairs.known:
        return {"schema": SCHEMA, "reason": pairs.reason}
    tables = []
    for table in pairs.tables:
        part: dict[str, Any] = {"over": list(table.over), "groups": [list(group) for group in table.groups]}
        part |= {"classes": table.k, "n": table.n.tolist()}
        part |= {key: getattr(table, key).tolist() for key in _OPTIONAL if getattr(table, key) is not None}
        tables.append(part)
    scored = {key: _plain_pair(pair) for key, pair in pairs.scored.items()}
    return {"schema": SCHEMA, "tables": tables, **({"scored": scored} if scored else {})}


def _plain_pair(pair: PairedEstimate) -> dict[str, float]:
    return {name: value for name, value in asdict(pair).items() if value != math.inf}


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
        scored = {str(key): PairedEstimate(**part) for key, part in (document.get("scored") or {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(where, str(error)[:200]) from error
    measured = [{m.key: m for m in evidence.measurements()} for evidence in (base, head)]
    other = [key for key, pair in scored.items() if not _is_of(pair, *(part.get(key) for part in measured))]
    fault = _fault(tables, base, head) or (f"{other[0]} is not what both audits measured" if other else "")
    if fault:
        raise _damaged(where, fault)
    return Pairs(tables=tables, scored=scored)


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
