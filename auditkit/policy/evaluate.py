"""Evidence and a policy in, a verdict out; nothing else is read, so the same inputs give the same verdict."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from auditkit.core.errors import PolicyError
from auditkit.core.evidence import Evidence
from auditkit.core.rounding import SAME, exactly
from auditkit.core.verdict import Comparison, RuleResult, State, Verdict
from auditkit.policy.decide import Decision, Decisions, decide, limit_of
from auditkit.policy.families import Family
from auditkit.policy.lookup import Settings, Unresolved
from auditkit.policy.model import Policy, Rule
from auditkit.policy.resolve import resolve, settle
from auditkit.policy.waivers import apply_waivers, unmatched_waivers

# A rule over very many groups keeps its worst comparisons; its message says how many there were.
MOST_COMPARISONS = 300
_RANK: dict[State, int] = {"error": 0, "fail": 1, "inconclusive": 2, "waived": 3, "pass": 4}


def evaluate(evidence: Evidence, policy: Policy, *, as_of: datetime.date) -> Verdict:
    """Judge ``evidence`` by ``policy`` on the date ``as_of``.

    Returns:
        A verdict that is a pass only when every rule that counts passed or was waived, at least one rule
        counted, and everything that was asked for could be measured.

    Source: three-state decisions as in two one-sided tests, Schuirmann (1987); intersection-union, Berger (1982).
    """
    results = [_judge(rule, index, policy, evidence, as_of) for index, rule in enumerate(policy.rule)]
    results += unmatched_waivers(policy)
    unmeasured = tuple(f"{outcome.analyzer} {outcome.status}: {outcome.reason}" for outcome in evidence.unmeasured())
    refusal = _refusal(evidence, policy, results)
    state, exit_code = overall_state(results, policy, bool(unmeasured) or refusal is not None)
    return Verdict(
        state=state,
        exit_code=exit_code,
        results=tuple(results),
        summary=refusal or _summary(results, unmeasured, policy),
        as_of=as_of.isoformat(),
        policy=policy.where,
        unmeasured=unmeasured,
        settings={
            "inconclusive": policy.defaults.inconclusive,
            "confidence": f"{policy.defaults.confidence:g}",
            "missing": policy.groups.missing,
        },
    )


def _judge(rule: Rule, index: int, policy: Policy, evidence: Evidence, as_of: datetime.date) -> RuleResult:
    settings = settle(rule, policy)
    blank = RuleResult(
        id=rule.id,
        metric=settings.metric,
        compare=rule.compare,
        limit=_limit_text(rule),
        limits=limit_of(rule).ends(),
        state="error",
        message="",
        level=rule.level,
        decide=settings.decide,
        confidence=settings.confidence,
        line=policy.rule_lines[index] if index < len(policy.rule_lines) else None,
        reason=rule.reason,
    )
    waivers = [waiver for waiver in policy.waiver if waiver.rule == rule.id]
    decisions: list[Decision] = []
    try:
        families, remarks = _families(settings, policy, evidence)
        _refuse_impossible(rule, families)
    except Unresolved as missing:
        result = _unresolved(blank, rule, missing)
    else:
        # A waiver looks at every comparison.
        found = decide(families, settings, None if waivers else MOST_COMPARISONS)
        decisions = found.shown
        result = _conclude(blank, found, remarks, settings)
    return apply_waivers(result, decisions, waivers, as_of)


def _families(settings: Settings, policy: Policy, evidence: Evidence) -> tuple[tuple[Family, ...], tuple[str, ...]]:
    """What a rule compares: its own families, or their change since its baseline."""
    name = settings.rule.baseline
    if name is None:
        return resolve(settings, policy, evidence)
    # Loaded only here: most policies have no baseline.
    from auditkit.policy.baseline import read_baseline
    from auditkit.policy.resolve_change import resolve_change

    if name not in policy.baseline:
        raise Unresolved(f"no baseline {name!r} was given to compare with, so the increase cannot be judged")
    try:
        return resolve_change(settings, policy, evidence, read_baseline(policy.baseline[name], where=name))
    except PolicyError as error:
        raise Unresolved(error.sentence()) from error


def _refuse_impossible(rule: Rule, families: Sequence[Family]) -> None:
    """A limit that no value can break, or none can keep, is a slip (10 for 10 %): the rule would decide nothing.

    Raises:
        Unresolved: When a limit lies outside what its metric can be.
    """
    spans = [family.span() for family in families]
    low, high = min(span[0] for span in spans), max(span[1] for span in spans)
    if rule.baseline is not None:
        low, high = -math.inf, high if rule.compare == "ratio" else high - low
    for end in limit_of(rule).ends():
        if low - SAME <= end <= high + SAME:
            continue
        what = rule.metric if rule.compare == "value" else f"the {rule.compare} of {rule.metric}"
        if rule.baseline is not None:
            what = f"how much worse {what} gets"
        ends = f"between {exactly(low)} and {exactly(high)}" if math.isfinite(low) else f"at most {exactly(high)}"
        if not math.isfinite(high):
            ends = f"at least {exactly(low)}"
        share = end / 100.0
        hint = f"; {exactly(end)} % is {exactly(share)}" if abs(end) > 1.0 and low <= share <= high <= 1.0 else ""
        raise Unresolved(f"the limit {exactly(end)} decides nothing: {what} is {ends}, always{hint}")


def _limit_text(rule: Rule) -> str:
    text = limit_of(rule).text()
    return text if rule.baseline is None else f"worse than {rule.baseline} by {text}"


def _unresolved(blank: RuleResult, rule: Rule, missing: Unresolved) -> RuleResult:
    if rule.optional and missing.absent:
        message = f"not counted: the rule is optional and does not apply here ({missing})"
        return replace(blank, state="inconclusive", level="warning", message=message)
    return replace(blank, message=str(missing))


def _told(worst: Comparison) -> str:
    """The label and the message of a comparison; a single group is not named twice."""
    names = [side.group for side in worst.sides]
    if len(names) == 1 and worst.label.endswith(names[0]) and worst.message.startswith(names[0] + " "):
        return worst.label.removesuffix(names[0]) + worst.message
    return f"{worst.label}: {worst.message}"


def _conclude(blank: RuleResult, found: Decisions, remarks: Sequence[str], settings: Settings) -> RuleResult:
    """The rule's state from its comparisons, and its first sentence from the worst one."""
    comparisons = [decision.comparison for decision in found.shown]
    state = min(found.tally, key=lambda each: _RANK[each])
    worst = comparisons[0]
    others, count = found.tally[state] - 1, found.tally.total()
    message = _told(worst)
    if count > 1:
        message += f" ({others} more like it of {count})" if others else f" (1 of {count})"
    for remark in remarks:
        message += f"; {remark}"
    if settings.decide == "point":
        message += "; decided on points, not on intervals"
    listed = tuple(comparisons[:MOST_COMPARISONS])
    unlisted = found.tally - Counter(comparison.state for comparison in listed)
    return replace(blank, state=state, message=message, comparisons=listed, unlisted=dict(unlisted))


def _refusal(evidence: Evidence, policy: Policy, results: Sequence[RuleResult]) -> str | None:
    """Why there can be no verdict at all, or ``None``."""
    if not policy.rule:
        return "There are no rules, so nothing was judged: add [[rule]] tables to the policy."
    if evidence.redacted:
        return "This is a redacted copy, whose small cells are missing: gate the private evidence.json instead."
    if all(_uncounted(result) for result in results):
        return "No rule could be counted: every one of them is optional and does not apply here."
    return None


def _uncounted(result: RuleResult) -> bool:
    return result.level == "warning" and result.message.startswith("not counted")


def overall_state(results: Sequence[RuleResult], policy: Policy, unmeasured: bool) -> tuple[State, int]:
    """The worst state that counts and the exit code, of rules judged by ``policy``: 3 > 1 > 4 > 0."""
    if unmeasured or any(result.state == "error" for result in results):
        return "error", 3
    counted = [result.state for result in results if result.level == "error"]
    if "fail" in counted:
        return "fail", 1
    if "inconclusive" in counted:
        return "inconclusive", 4 if policy.defaults.inconclusive == "fail" else 0
    return "pass", 0


def _summary(results: Sequence[RuleResult], unmeasured: Sequence[str], policy: Policy) -> str:
    """One sentence: the numbers, then the first rule that decided it."""
    hard = [result for result in results if result.level == "error" or result.state == "error"]
    soft = [result for result in results if result not in hard]
    counts = {state: [r for r in hard if r.state == state] for state in _RANK}
    words = {
        "error": "in error",
        "fail": "failed",
        "inconclusive": "inconclusive",
        "waived": "waived",
        "pass": "passed",
    }
    parts = [f"{len(found)} {words[state]}" for state, found in counts.items() if found]
    warned = [result for result in soft if result.state != "pass"]
    if warned:
        parts.append(f"{len(warned)} warning" + ("s" if len(warned) > 1 else ""))
    if len(soft) > len(warned):
        parts.append(f"{len(soft) - len(warned)} passed at warning level")
    sentence = f"{_plural(len(results), 'rule')}: " + ", ".join(parts)
    if unmeasured:
        sentence += f"; {_plural(len(unmeasured), 'analyzer')} could not measure ({unmeasured[0]})"
    first = next((found[0] for state, found in counts.items() if found and state != "pass"), None)
    if first is not None:
        sentence += f"; {first.id} {words[first.state]}: {first.message}"
    elif warned:
        sentence += f"; {warned[0].id}: {warned[0].message}"
    if policy.defaults.inconclusive == "warn" and counts["inconclusive"]:
        sentence += " (inconclusive rules only warn, by the policy's defaults)"
    return sentence.rstrip(".") + "."


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")
