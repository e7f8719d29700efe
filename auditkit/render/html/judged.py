"""The verdict and its rules, in words and charts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from auditkit.core.evidence import Evidence
from auditkit.core.verdict import Comparison, RuleResult, State, Verdict
from auditkit.render.charts import Chart, Limit, Row, interval_chart
from auditkit.render.html.names import label, title
from auditkit.render.html.view import (
    STATES,
    ComparisonView,
    Fact,
    Reason,
    RuleView,
    SideView,
    Tally,
    VerdictView,
)
from auditkit.render.numerals import MISSING, count, number, span
from auditkit.render.text import capitalised, clean

ORDER = ("fail", "error", "inconclusive", "waived", "pass")
_SHOWN = 6
_CHART_ROWS = 24
_NUMBER = re.compile(r"[-−+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_TALLY = {"pass": "passed", "fail": "failed", "inconclusive": "not enough evidence", "error": "not judged",
          "waived": "waived"}  # fmt: skip


def verdict_view(verdict: Verdict | None, anchors: Mapping[int, str]) -> VerdictView:
    """The first screen: the state, why, and how many rules are in each state."""
    if verdict is None:
        word, sentence, _ = STATES["none"]
        return VerdictView(state="none", word=word, sentence=sentence)
    word, fallback, _ = STATES[verdict.state]
    order = sorted(range(len(verdict.results)), key=lambda i: (_rank(verdict.results[i]), i))
    bad = [i for i in order if verdict.results[i].state != "pass"]
    reasons = tuple(
        Reason(
            anchor=anchors[i],
            state=verdict.results[i].state,
            word=_word(verdict.results[i]),
            id=clean(verdict.results[i].id),
            message=capitalised(clean(verdict.results[i].message)),
        )
        for i in bad[:_SHOWN]
    )
    tallies = tuple(
        Tally(state=state, word=_TALLY[state], count=sum(result.state == state for result in verdict.results))
        for state in ("pass", "fail", "inconclusive", "error", "waived")
    )
    return VerdictView(
        state=verdict.state,
        word=word,
        sentence=clean(verdict.summary) or fallback,
        reasons=reasons,
        more=max(0, len(bad) - _SHOWN),
        tallies=tallies,
        policy=_policy(verdict),
        unmeasured=tuple(clean(name) for name in verdict.unmeasured),
    )


def _rank(result: RuleResult) -> int:
    warning = 10 if result.level == "warning" and result.state != "pass" else 0
    return ORDER.index(result.state) + (warning if result.state != "pass" else 100)


def _word(result: RuleResult) -> str:
    word = STATES[result.state][0]
    return f"{word} (warning)" if result.level == "warning" and result.state in ("fail", "inconclusive") else word


def _policy(verdict: Verdict) -> str:
    rules = f"{len(verdict.results)} rule" + ("" if len(verdict.results) == 1 else "s")
    inside = not verdict.policy or verdict.policy.startswith("the ")
    named = "the policy in the evidence, " if inside else f"policy {clean(verdict.policy)}, "
    return f"{named}{rules}, as of {clean(verdict.as_of)}" if verdict.as_of else f"{named}{rules}"


def rule_views(verdict: Verdict | None, anchors: Mapping[int, str], evidence: Evidence) -> tuple[RuleView, ...]:
    """Every rule, those that did not pass first."""
    if verdict is None:
        return ()
    order = sorted(range(len(verdict.results)), key=lambda i: (_rank(verdict.results[i]), i))
    return tuple(_rule(verdict.results[i], anchors[i], evidence) for i in order)


def _rule(result: RuleResult, anchor: str, evidence: Evidence) -> RuleView:
    decide = "the interval" if result.decide == "interval" else "the estimate"
    facts: list[Fact] = [
        ("Metric", clean(result.metric)),
        ("Decided on", f"{decide}, confidence {number(100 * result.confidence)} %"),
    ]
    if result.line is not None:
        facts.append(("Line in the policy", str(result.line)))
    waiver = ""
    if result.waiver is not None:
        held = result.waiver
        waiver = f"Waived by {clean(held.owner)} until {clean(held.expires)}, ticket {clean(held.ticket)}: "
        waiver += clean(held.reason)
    return RuleView(
        anchor=anchor,
        id=clean(result.id),
        state=result.state,
        word=_word(result),
        message=capitalised(clean(result.message)),
        demand=_demand(result),
        head=capitalised(result.compare) if result.compare in ("difference", "ratio") else "Value",
        limit=_limit_text(result.limit),
        comparisons=tuple(_comparison(comparison, result.message) for comparison in result.comparisons),
        facts=tuple(facts),
        chart=_chart(result),
        reason=clean(result.reason),
        waiver=waiver,
        warning=result.level == "warning",
    )


def _demand(result: RuleResult) -> str:
    kind = {"difference": " difference between groups", "ratio": " ratio between groups"}.get(result.compare, "")
    return f"{title(result.metric)}{kind}: {_limit_text(result.limit)}"


def _limit_text(limit: str) -> str:
    return clean(limit).replace("<=", "≤").replace(">=", "≥")


def _comparison(comparison: Comparison, said: str) -> ComparisonView:
    sides = tuple(
        SideView(group=clean(side.group), value=number(side.value), interval=span(side.interval), n=count(side.n))
        for side in comparison.sides
    )
    needed = comparison.n_needed
    return ComparisonView(
        label=clean(comparison.label) + (" (exploratory)" if comparison.exploratory else ""),
        state=comparison.state,
        word=STATES[comparison.state][0],
        value=number(comparison.value),
        interval=span(comparison.interval),
        n=count(comparison.n),
        needed=MISSING if needed is None else f"{count(needed)}",
        message="" if comparison.message in said else capitalised(clean(comparison.message)),
        sides=sides,
    )


def limit_of(text: str, comparisons: tuple[Comparison, ...] = ()) -> Limit | None:
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


def _chart(result: RuleResult) -> Chart | None:
    """Each comparison with its interval against the limit."""
    if result.state == "pass":
        return None  # the table says it
    limit = limit_of(result.limit)
    shown = [comparison for comparison in result.comparisons if comparison.value is not None]
    if limit is None or not shown:
        return None
    rows = [
        Row(
            label=clean(comparison.label),
            value=comparison.value,
            low=comparison.interval.low if comparison.interval else None,
            high=comparison.interval.high if comparison.interval else None,
            n=comparison.n,
            state=comparison.state,
        )
        for comparison in shown[:_CHART_ROWS]
    ]
    finding = _finding([comparison.state for comparison in result.comparisons], result.decide)
    if len(shown) > _CHART_ROWS:
        finding += f" The first {_CHART_ROWS} are drawn."
    kind = {"difference": "difference of ", "ratio": "ratio of "}.get(result.compare, "")
    chart = interval_chart(rows, finding, label=kind + label(result.metric), limit=limit)
    return replace(chart, rows=())  # the table of comparisons stands right below


def _finding(states: list[State], decide: str) -> str:
    """Where the comparisons lie, in one sentence."""
    outside = sum(state in ("fail", "waived") for state in states)
    unsure = sum(state in ("inconclusive", "error") for state in states)
    if len(states) == 1:
        what = "The whole interval" if decide == "interval" else "The estimate"
        if unsure:
            return "The interval crosses the limit."
        return f"{what} lies {'outside' if outside else 'inside'} the limit."
    inside = len(states) - outside - unsure
    parts = [f"{n} {words}" for n, words in ((outside, "outside"), (unsure, "undecided"), (inside, "inside")) if n]
    return f"Of {len(states)} comparisons with the limit: {', '.join(parts)}."
