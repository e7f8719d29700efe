"""Baselines: the counts, measurements and hashes of an accepted audit, as a document to commit.

A baseline is written by ``auditkit baseline accept`` alone, with the reason for accepting it. Rules with ``baseline``
and ``max_increase`` compare later audits with it. It holds no rows, but the cells of small groups: it is as private as
the evidence it was made from.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from auditkit.core.errors import EvidenceError, PolicyError, UsageError
from auditkit.core.evidence import Counts, Evidence, Measurement, Outcome, PlanFacts
from auditkit.core.schema import digest_of, from_document, seal, to_document
from auditkit.methods.fairness.metric_table import COMPOSITES, METRICS

SCHEMA = "auditkit-baseline/1"


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """An accepted audit: what was measured, when and why it was accepted, and the digest of the whole evidence.

    ``pairs`` is the document of its joint cells with the audit judged, where both are of the same rows.
    """

    evidence: Evidence
    accepted: datetime.date
    reason: str
    of: str
    pairs: object = None


def make_baseline(evidence: Evidence, *, reason: str, accepted: datetime.date) -> dict[str, Any]:
    """The document to commit for ``evidence``.

    Raises:
        UsageError: AK419 without a reason, AK420 when the evidence is a redacted copy or holds nothing to compare.
    """
    if not reason.strip():
        raise UsageError("AK419", "a baseline needs a reason", fix='--reason "why this state is accepted"')
    if evidence.redacted:
        raise UsageError(
            "AK420",
            "a redacted copy cannot become a baseline",
            why="its small cells are missing",
            fix="give the private evidence.json",
        )
    outcomes = tuple(_compared(outcome) for outcome in evidence.outcomes if outcome.status == "measured")
    if not any(outcome.measurements or outcome.artifacts for outcome in outcomes):
        raise UsageError(
            "AK420", "nothing was measured, so there is nothing to compare with", fix="run the audit again"
        )
    kept = Evidence(
        subject=replace(evidence.subject, test=replace(evidence.subject.test, features=()), train=None, recipe=None),
        plan=PlanFacts(seed=evidence.plan.seed, analyzers=()),
        outcomes=outcomes,
    )
    return {
        "schema": SCHEMA,
        "accepted": accepted.isoformat(),
        "reason": reason.strip(),
        "of": evidence.digest or digest_of(evidence),
        "evidence": to_document(seal(kept)),
    }


def read_baseline(document: object, *, where: str) -> Baseline:
    """The baseline in a parsed document.

    Raises:
        PolicyError: AK418 when it is not a baseline, or was edited after it was accepted.
    """
    fix = "write it again with `auditkit baseline accept`"
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        raise PolicyError("AK418", "this is not a baseline", where=where, why=f"its schema is not {SCHEMA}", fix=fix)
    try:
        evidence = from_document(dict(document.get("evidence") or {}), where=where)
        accepted = datetime.date.fromisoformat(str(document.get("accepted")))
    except (EvidenceError, ValueError, TypeError) as error:
        why = error.what if isinstance(error, EvidenceError) else str(error)
        raise PolicyError("AK418", "the baseline is damaged", where=where, why=why, fix=fix) from error
    reason, of = str(document.get("reason") or ""), str(document.get("of") or "")
    if not evidence.digest or not reason or not of:
        raise PolicyError("AK418", "the baseline is damaged", where=where, why="it lacks its digest or reason", fix=fix)
    return Baseline(evidence=evidence, accepted=accepted, reason=reason, of=of, pairs=document.get("pairs"))


def _compared(outcome: Outcome) -> Outcome:
    """The counts and those measurements that counts do not give again."""
    counts = tuple(artifact for artifact in outcome.artifacts if isinstance(artifact, Counts))
    kept = tuple(m for m in outcome.measurements if not (counts and _from_counts(m)))
    return Outcome(
        analyzer=outcome.analyzer, version=outcome.version, status="measured", measurements=kept, artifacts=counts
    )


def _from_counts(m: Measurement) -> bool:
    name = m.name.removeprefix("fairness.").split(".", 1)[0]
    return m.family == "fairness" and (name in METRICS or name in COMPOSITES) and not m.unreliable
