"""What the audit itself has to say on ethics and caveats, beside the words of the owner."""

from __future__ import annotations

from auditkit.core.evidence import Evidence
from auditkit.core.verdict import Verdict
from auditkit.render.coarse import withholds
from auditkit.render.html.names import family_title
from auditkit.render.numerals import count
from auditkit.render.text import clean

_PEOPLE = ("fairness", "privacy", "data")
Said = tuple[tuple[str, str], ...]
_STATES = {"fail": "is broken", "error": "could not be judged", "inconclusive": "cannot be decided with these rows",
           "waived": "is broken under a waiver"}  # fmt: skip


def ethics_measured(evidence: Evidence, verdict: Verdict | None) -> Said:
    """Rules about people that do not hold, and which of those families were measured at all; (anchor, sentence)."""
    found: list[tuple[str, str]] = []
    rules = [result for result in verdict.results if result.metric.split(".")[0] in _PEOPLE] if verdict else []
    found += [("rules", f"The rule {clean(r.id)} {_STATES[r.state]}.") for r in rules if r.state != "pass"]
    held = sum(result.state == "pass" for result in rules)
    if held:
        found.append(("rules", f"{count(held)} of {count(len(rules))} rules on data, fairness and privacy hold."))
    if verdict is not None and not rules:
        found.append(("rules", "The policy has no rule on data, fairness or privacy."))
    measured = {outcome.family for outcome in evidence.outcomes if outcome.status == "measured"}
    absent = [family for family in ("fairness", "privacy") if family not in measured]
    return (*found, *(("", f"{family_title(family)} was not measured.") for family in absent))


def caveats_measured(evidence: Evidence) -> Said:
    """What a reader must not take from the numbers; (anchor, sentence)."""
    found: list[tuple[str, str]] = []
    total = count(len(evidence.outcomes))
    apart = sum(outcome.status == "not_applicable" for outcome in evidence.outcomes)
    if apart:
        verb = "does" if apart == 1 else "do"
        told = f"{count(apart)} of {total} analyzers {verb} not apply to this model or data; each says why."
        found.append(("not-measured", told))
    lost = sum(outcome.status in ("failed", "skipped") for outcome in evidence.outcomes)
    if lost:
        told = f"{count(lost)} of {total} analyzers were skipped or failed, so that what they measure is not known."
        found.append(("not-measured", told.replace("were", "was", 1) if lost == 1 else told))
    weak = sum(m.unreliable is not None for m in evidence.measurements())
    found += _numbers(
        weak,
        "failed a check of its own and must not be relied upon; it says why.",
        "failed a check of their own and must not be relied upon; each says why.",
    )
    bare = sum(m.value is not None and m.interval is None for m in evidence.measurements())
    found += _numbers(
        bare,
        "has no interval; where there is a reason, it stands beside it.",
        "have no interval; where there is a reason, it stands beside them.",
    )
    found += _numbers(
        sum(map(withholds, evidence.measurements())),
        "is withheld from this copy, because it would tell of very few people; the evidence that stays with its owner "
        "has it.",
        "are withheld from this copy, because they would tell of very few people; the evidence that stays with its "
        "owner has them all.",
    )
    if evidence.plan.reduced:
        found.append(("", f"Reduced plan: {clean(evidence.plan.reduced)}"))
    found.append(("", "All numbers are about the rows that were given to the audit; other rows may give others."))
    return tuple(found)


def _numbers(found: int, one: str, many: str) -> Said:
    if not found:
        return ()
    return (("", f"1 number {one}" if found == 1 else f"{count(found)} numbers {many}"),)
