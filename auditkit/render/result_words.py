"""The states of a rule's comparisons in words, where its own sentence may not be shared."""

from __future__ import annotations

from collections.abc import Mapping

from auditkit.core.verdict import RuleResult, State

SAYS: Mapping[State, str] = {
    "pass": "it is inside the limit",
    "fail": "it is outside the limit",
    "inconclusive": "there are too few rows to decide",
    "error": "it could not be judged",
    "waived": "it is outside the limit, and waived",
}


def count_states(result: RuleResult) -> str:
    """How many of the comparisons of a rule are in each state that is not a pass."""
    tally = result.tally()
    total, parts = tally.total(), []
    told: tuple[tuple[State, str], ...] = (
        ("fail", "outside the limit"),
        ("inconclusive", "not settled"),
        ("error", "not judged"),
        ("waived", "outside the limit, and waived"),
    )
    for state, words in told:
        if tally[state]:
            parts.append(f"{tally[state]} of {total} comparisons {words}")
    return ", ".join(parts) or f"{total} of {total} comparisons inside the limit"
