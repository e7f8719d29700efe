"""Rules and verdicts in plain sentences."""

from __future__ import annotations

import re

from auditkit.core.verdict import Comparison, RuleResult, Verdict
from auditkit.render.charts import Limit
from auditkit.render.coarse import HIDDEN
from auditkit.render.html.names import label, title
from auditkit.render.numerals import count, number, setting, span
from auditkit.render.text import capitalised, clean

_NUMBER = re.compile(r"[-−+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_SETTINGS = re.compile(r"^(.*?)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)(?::\s*(.*))?$")


def limit_of(text: str) -> Limit | None:
    """The number in a limit such as ``<= 0.1`` with the side that it allows; ``None`` when it is not plain.

    >>> limit_of("<= 0.1")
    Limit(value=0.1, allowed='below')
    >>> limit_of("at least 0.8").allowed
    'above'
    """
    found = _NUMBER.findall(text)
    if len(found) != 1:
        return None
    value = float(found[0].replace("−", "-"))
    lowered = text.lower()
    if any(sign in lowered for sign in ("<", "≤", "max", "at most", "below", "no more")):
        return Limit(value=value, allowed="below")
    if any(sign in lowered for sign in (">", "≥", "min", "at least", "above", "no less")):
        return Limit(value=value, allowed="above")
    return None


def about_comparison(name: str) -> str:
    """What a comparison is about, without the brackets of the terminal.

    >>> about_comparison("sex (feature=store_card)"), about_comparison("(feature=age, method=shap): all rows")
    ('sex, feature store_card', 'feature age, method shap')
    """
    found = _SETTINGS.match(name)
    if not found:
        return clean(name)
    head, inside, tail = found.group(1).rstrip(":"), found.group(2).replace("=", " "), found.group(3) or ""
    parts = [part for part in (head, inside, tail) if part and part != "all rows"]
    return clean(", ".join(parts))


def rule_sentence(result: RuleResult) -> str:
    """What a rule found, in one plain sentence with its limit; the rule's own message where there is no number."""
    worst = _decisive(result)
    limit = limit_of(result.limit)
    if (
        worst is None
        or worst.value is None
        or limit is None
        or result.state == "error"
        or result.limit.startswith("worse")
    ):
        return capitalised(clean(result.message))
    demand = f"at most {setting(limit.value)} is allowed"
    if limit.allowed == "above":
        demand = f"at least {setting(limit.value)} is required"
    told = f"{_found(result, worst)}; {demand}."
    if result.state == "inconclusive":
        told += f" {why_undecided(worst, limit)}, so these rows cannot decide"
        told += f"; about {count(worst.n_needed)} would." if worst.n_needed else "."
    return told + _others(result)


def why_undecided(comparison: Comparison, limit: Limit) -> str:
    """Why an inconclusive comparison is not settled: by where its interval lies, which need not be across the limit.

    >>> from auditkit.core.evidence import Interval
    >>> found = Interval(low=0.11, high=0.3, level=0.95, method="melded")
    >>> one = Comparison(label="sex", state="inconclusive", value=0.2, message="", interval=found)
    >>> why_undecided(one, Limit(value=0.1, allowed="below"))
    'The interval lies beyond the limit, but not after the correction for many comparisons'
    """
    interval = comparison.interval
    if interval is None:
        return "Its interval is withheld in this copy" if HIDDEN in comparison.message else "There is no interval"
    below, above = interval.high < limit.value, interval.low > limit.value
    if not below and not above:
        return "The interval crosses the limit"
    if below == (limit.allowed == "below"):
        return "A group has fewer rows than the rule asks for"
    return "The interval lies beyond the limit, but not after the correction for many comparisons"


def _decisive(result: RuleResult) -> Comparison | None:
    """The comparison that shows the rule's state best: among those in that state, the one nearest to breaking it."""
    limit = limit_of(result.limit)
    wanted = ("fail", "waived") if result.state == "waived" else (result.state,)
    chosen = [c for c in result.comparisons if c.state in wanted and c.value is not None]
    if not chosen or limit is None:
        return chosen[0] if chosen else None
    sign = 1.0 if limit.allowed == "below" else -1.0
    return max(chosen, key=lambda c: (sign * (c.value or 0.0), c.label))


def _found(result: RuleResult, worst: Comparison) -> str:
    near = result.limits
    value = number(worst.value, near) + (f" ({span(worst.interval, near)})" if worst.interval else "")
    column, _, pair = worst.label.partition(": ")
    if result.compare in ("difference", "ratio") and len(worst.sides) == 2:
        where = f" by {clean(column)}" if pair else ""
        sides = [f"{number(side.value)} for {clean(side.group)}" for side in worst.sides]
        kind = "a difference" if result.compare == "difference" else "a ratio"
        return f"{title(result.metric)}{where} is {sides[0]} and {sides[1]}, {kind} of {value}"
    if result.compare in ("difference", "ratio"):
        return f"{title(result.metric)} {result.compare}, {about_comparison(worst.label)}: {value}"
    about = about_comparison(worst.label)
    return f"{title(result.metric)}{'' if about in ('', 'all rows') else f' for {about}'} is {value}"


def _others(result: RuleResult) -> str:
    tally = result.tally()
    alike, total = tally[result.state] - 1, tally.total()
    if result.state == "pass":
        return f" All {total} comparisons hold." if total > 1 else ""
    if alike < 1 or result.state == "waived":
        return ""
    what = "does not hold" if result.state == "fail" else "cannot be decided"
    if alike > 1:
        what = what.replace("does not", "do not")
    return f" {alike} more of {total} comparisons {what}."


def verdict_sentence(verdict: Verdict) -> str:
    """The verdict and what it comes from, in one or two sentences."""
    total = len(verdict.results)
    if not total:
        return capitalised(clean(verdict.summary)) or "The policy has no rules."
    counts = {state: sum(r.state == state for r in verdict.results)
              for state in ("fail", "error", "inconclusive", "waived", "pass")}  # fmt: skip
    words = {
        "fail": "is broken|are broken",
        "error": "could not be judged|could not be judged",
        "inconclusive": "cannot be decided with these rows|cannot be decided with these rows",
        "waived": "is broken under a waiver|are broken under a waiver",
        "pass": "holds|hold",
    }
    parts = [f"{n} {words[state].split('|')[n != 1]}" for state, n in counts.items() if n]
    if counts["pass"] == total:
        told = (
            f"{'The one rule' if total == 1 else f'All {total} rules'} of the policy hold{'s' if total == 1 else ''}."
        )
    else:
        told = f"Of {total} rule{'' if total == 1 else 's'}, {_listed(parts)}."
    if verdict.unmeasured:
        n = len(verdict.unmeasured)
        told += (
            f" {n} analyzer{'' if n == 1 else 's'} that {'was' if n == 1 else 'were'} asked for did not run to "
            f"{'its' if n == 1 else 'their'} end."
        )
    elif verdict.state in ("fail", "error", "inconclusive") and not any(
        counts[state] for state in ("fail", "error", "inconclusive")
    ):
        told += f" {capitalised(clean(verdict.summary))}"
    return told


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def demand_of(result: RuleResult) -> str:
    """What the rule asks, in words."""
    kind = {"difference": " difference between groups", "ratio": " ratio between groups"}.get(result.compare, "")
    limit = limit_of(result.limit)
    asked = clean(result.limit).replace("<=", "≤").replace(">=", "≥")
    if limit is not None:
        asked = f"at {'most' if limit.allowed == 'below' else 'least'} {setting(limit.value)}"
    return f"{capitalised(label(result.metric))}{kind}: {asked}"
