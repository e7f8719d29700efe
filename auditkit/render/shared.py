"""The one way to what may leave the house: evidence and verdict as every shared output shows them."""

from __future__ import annotations

import datetime
import weakref
from collections.abc import Iterator

from auditkit.core.evidence import Evidence, Measurement
from auditkit.core.verdict import Verdict
from auditkit.render.clusters import clustered_in
from auditkit.render.numerals import parameters, scalar
from auditkit.render.redact import redact, smallest_cell
from auditkit.render.redact_verdict import redact_verdict, rounded_disparities, rounded_groups, withheld_disparities
from auditkit.render.text import clean

_LAST: list[tuple[weakref.ref[Evidence], Evidence]] = []


def shared_copy(evidence: Evidence, verdict: Verdict | None = None) -> tuple[Evidence, Verdict | None]:
    """``evidence`` and ``verdict`` with what small groups would give away withheld.

    Args:
        evidence: The evidence, complete or redacted.
        verdict: What a policy says about it, if there is one.
    """
    shared = _copy(evidence)
    return shared, None if verdict is None else _withheld(verdict, shared)


def shared_verdict(evidence: Evidence, verdict: Verdict) -> Verdict:
    """``verdict`` as it may be shared; ``evidence`` is that which it judges, complete or redacted."""
    return _withheld(verdict, _copy(evidence))


def _copy(evidence: Evidence) -> Evidence:
    """The shared copy; the last one is kept while its evidence lives, since card and outputs of one run ask for it."""
    if evidence.redacted:
        return evidence
    if _LAST and _LAST[0][0]() is evidence:
        return _LAST[0][1]
    shared = redact(evidence)
    _LAST[:] = [(weakref.ref(evidence, lambda _: _LAST.clear()), shared)]
    return shared


def _withheld(verdict: Verdict, shared: Evidence) -> Verdict:
    return redact_verdict(
        verdict,
        smallest_cell(shared),
        withheld_disparities(shared),
        rounded_groups(shared),
        rounded_disparities(shared),
        clustered_in(shared, smallest_cell(shared)),
    )


def known(evidence: Evidence) -> Iterator[Measurement]:
    """Measurements that have a value and may be relied upon; formats that cannot say why a number is missing, or that
    it must not be trusted, show these alone."""
    return (m for m in evidence.measurements() if m.value is not None and m.unreliable is None)


def slice_words(measurement: Measurement) -> str:
    """``origin=B; sex=F``, or ``over sex`` for a disparity; empty for all rows.

    >>> slice_words(Measurement(name="a.b", value=1.0, slice={"sex": "F", "origin": "B"}))
    'origin=B; sex=F'
    """
    parts = [f"{clean(column)}={clean(group)}" for column, group in sorted(measurement.slice.items())]
    if measurement.over:
        parts.append("over " + " x ".join(clean(column) for column in measurement.over))
    return "; ".join(parts)


def metric_words(measurement: Measurement) -> str:
    """The measurement's name with its parameters: ``robustness.accuracy (attack pgd, eps 0.03)``."""
    told = parameters(measurement.params)
    return f"{clean(measurement.name)} ({told})" if told else clean(measurement.name)


def card_text(evidence: Evidence, key: str) -> str:
    """The owner's prose under ``key`` of ``[card]``, clean; empty when there is none."""
    return prose_text(evidence.card.get(key))


def prose_text(value: object) -> str:
    """What an owner wrote, clean: text and numbers as they stand, such as a version, lists joined by commas.

    >>> prose_text(2026), prose_text(" Any decision. "), prose_text(None)
    ('2026', 'Any decision.', '')
    """
    if value is None:
        return ""
    written = isinstance(value, str | int | float) and not isinstance(value, bool)
    return clean(value, limit=20_000, lines=True).strip() if written else scalar(value)


def audit_date(evidence: Evidence) -> str:
    """The date the audit was judged on, as ``YYYY-MM-DD``; empty when there is none, or it is no date."""
    try:
        return datetime.date.fromisoformat(evidence.as_of or "").isoformat()
    except ValueError:
        return ""
