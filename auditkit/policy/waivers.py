"""Waivers: a named person's dated decision to accept a failure. Never over an error, never for ever."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace

from auditkit.core.verdict import RuleResult, State, Waived
from auditkit.policy.decide import Decision
from auditkit.policy.hints import nearest
from auditkit.policy.model import MAX_WAIVER_DAYS, Policy, Waiver


def waiver_fault(waiver: Waiver, decisions: Sequence[Decision], as_of: datetime.date) -> str | None:
    """Why a waiver may not be used on ``as_of``, or ``None``."""
    if waiver.expires < as_of:
        return f"its waiver ({waiver.ticket}, {waiver.owner}) expired on {waiver.expires}; renew or remove it"
    days = (waiver.expires - as_of).days
    if days > MAX_WAIVER_DAYS:
        return f"its waiver ({waiver.ticket}) runs {days} days ahead; at most {MAX_WAIVER_DAYS} are allowed"
    present = frozenset[str]().union(*(decision.groups for decision in decisions))
    unmatched = [group for group in waiver.groups if group not in present]
    if unmatched:
        return f"its waiver ({waiver.ticket}) names {', '.join(unmatched)}, which no comparison of the rule has"
    return None


def apply_waivers(
    result: RuleResult, decisions: Sequence[Decision], waivers: Sequence[Waiver], as_of: datetime.date
) -> RuleResult:
    """The result with failing and inconclusive comparisons covered by ``waivers`` marked as waived."""
    if not waivers:
        return result
    faults = [fault for fault in (waiver_fault(waiver, decisions, as_of) for waiver in waivers) if fault]
    if faults:
        return replace(result, state="error", message="; ".join(faults))
    if result.state in ("pass", "error"):
        note = "the waiver is not needed" if result.state == "pass" else "a waiver never covers an error"
        return replace(result, message=f"{result.message}; {note}")
    covered = []
    for decision in decisions:
        open_one = decision.comparison.state in ("fail", "inconclusive")
        if open_one and any(_covers(waiver, decision) for waiver in waivers):
            covered.append(replace(decision.comparison, state="waived"))
        else:
            covered.append(decision.comparison)
    left = [c for c in covered if c.state in ("fail", "inconclusive", "error")]
    first = waivers[0]
    result = replace(result, comparisons=tuple(covered), unlisted={})
    if left:
        worst: State = "fail" if any(c.state == "fail" for c in left) else "inconclusive"
        return replace(result, state=worst, message=f"beyond the waiver: {left[0].label}: {left[0].message}")
    return replace(
        result,
        state="waived",
        message=f"waived until {first.expires} by {first.owner} ({first.ticket}): {first.reason}; {result.message}",
        waiver=Waived(owner=first.owner, reason=first.reason, ticket=first.ticket, expires=first.expires.isoformat()),
    )


def unmatched_waivers(policy: Policy) -> list[RuleResult]:
    """An error result for every waiver that names no rule."""
    ids = [rule.id for rule in policy.rule]
    return [
        RuleResult(
            id=f"waiver of {waiver.rule}",
            metric="",
            compare="",
            limit="",
            state="error",
            message=f"a waiver names the rule {waiver.rule!r}, which does not exist; "
            + (nearest(waiver.rule, ids) or "remove it"),
        )
        for waiver in policy.waiver
        if waiver.rule not in ids
    ]


def _covers(waiver: Waiver, decision: Decision) -> bool:
    return not waiver.groups or any(group in decision.groups for group in waiver.groups)
