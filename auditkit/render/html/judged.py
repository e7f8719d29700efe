"""The verdict and its rules, in words and charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from auditkit.core.verdict import Comparison, RuleResult, Verdict
from auditkit.render.charts import Chart, Limit, Markup, Row, interval_chart
from auditkit.render.charts.tables import CELLS, table_markup
from auditkit.render.html.names import label
from auditkit.render.html.plain import (
    about_comparison,
    demand_of,
    limit_of,
    rule_sentence,
    verdict_sentence,
    why_undecided,
)
from auditkit.render.html.view import STATES, Reason, RuleView, Tally, VerdictView
from auditkit.render.numerals import MISSING, count, number, span
from auditkit.render.text import clean
from auditkit.render.unmeasured import with_one_reason

ORDER = ("fail", "error", "inconclusive", "waived", "pass")
_SHOWN = 6
_NAMED = 20
_CHART_ROWS = 8
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
    held = [i for i in order if verdict.results[i].state == "pass"]
    listed, named = _fitting(len(bad), _SHOWN), _fitting(len(held), _NAMED)
    reasons = tuple(
        Reason(
            anchor=anchors[i],
            state=verdict.results[i].state,
            word=_word(verdict.results[i]),
            id=clean(verdict.results[i].id),
            message=rule_sentence(verdict.results[i]),
        )
        for i in bad[:listed]
    )
    tallies = tuple(
        Tally(state=state, word=_TALLY[state], count=sum(result.state == state for result in verdict.results))
        for state in ("pass", "fail", "inconclusive", "error", "waived")
    )
    return VerdictView(
        state=verdict.state,
        word=word,
        sentence=verdict_sentence(verdict) or fallback,
        reasons=reasons,
        more=max(0, len(bad) - listed),
        tallies=tallies,
        passed=tuple((anchors[i], clean(verdict.results[i].id)) for i in held[:named]),
        more_passed=max(0, len(held) - named),
        policy=_policy(verdict),
        unmeasured=with_one_reason([clean(name) for name in verdict.unmeasured]),
    )


def _fitting(count: int, most: int) -> int:
    """How many of ``count`` are listed: one more takes no more room than saying so."""
    return count if count == most + 1 else most


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


def rule_views(verdict: Verdict | None, anchors: Mapping[int, str], cells: int = CELLS) -> tuple[RuleView, ...]:
    """Every rule, those that did not pass first; tables of more than ``cells`` cells are lined-up text."""
    if verdict is None:
        return ()
    order = sorted(range(len(verdict.results)), key=lambda i: (_rank(verdict.results[i]), i))
    return tuple(_rule(verdict.results[i], anchors[i], cells) for i in order)


def _rule(result: RuleResult, anchor: str, cells: int) -> RuleView:
    how = [f"Metric: {clean(result.metric)}"] if result.metric else []
    decide = "its whole interval" if result.decide == "interval" else "its estimate"
    how.append(f"decided on {decide}, at {number(100 * result.confidence)} % confidence")
    if result.unlisted:
        how.append(f"the {len(result.comparisons)} worst of {count(result.tally().total())} comparisons listed")
    if result.line is not None:
        how.append(f"line {result.line} of the policy")
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
        message=rule_sentence(result),
        demand=demand_of(result),
        how=", ".join(how) + ".",
        compared=_compared(result, cells),
        chart=_chart(result),
        reason=clean(result.reason),
        waiver=waiver,
    )


def _compared(result: RuleResult, cells: int) -> Markup | None:
    """Every comparison as a table: the rates behind it, the interval, the limit, the state, the rows needed."""
    if not result.comparisons:
        return None
    sides = max(len(comparison.sides) for comparison in result.comparisons)
    value = result.compare.capitalize() if result.compare in ("difference", "ratio") else "Value"
    heads = ["Compared", *(["Group: rate (interval), n"] * sides if sides > 1 else []), value, "Interval", "n",
             "State", "Rows needed", "Remark"]  # fmt: skip
    rows = [_cells(comparison, result, sides if sides > 1 else 0) for comparison in result.comparisons]
    kept = [index for index in range(len(heads)) if any(row[index] not in ("", MISSING) for row in rows)]
    shown = [[row[i] for i in kept] for row in rows]
    return table_markup(f"comparisons of {result.id}", [heads[i] for i in kept], shown, cells)


def _cells(comparison: Comparison, result: RuleResult, sides: int) -> list[str]:
    rates = [f"{clean(side.group)}: {number(side.value)} ({span(side.interval)}), n {count(side.n)}"
             for side in comparison.sides[:sides]]  # fmt: skip
    told = comparison.value is None or comparison.state == "error" or comparison.interval is None
    remark = clean(comparison.message) if told and comparison.message not in result.message else ""
    return [
        about_comparison(comparison.label) + (" (exploratory)" if comparison.exploratory else ""),
        *(rates + [MISSING] * (sides - len(rates))),
        number(comparison.value, result.limits),
        span(comparison.interval, result.limits),
        count(comparison.n),
        STATES[comparison.state][0],
        count(comparison.n_needed),
        remark,
    ]


def _chart(result: RuleResult) -> Chart | None:
    """Each comparison against the limit, the worst first; of a rule that holds, the table is enough."""
    if result.state == "pass":
        return None
    limit = limit_of(result.limit)
    shown = [comparison for comparison in result.comparisons if comparison.value is not None]
    if limit is None or not shown:
        return None
    sign = -1.0 if limit.allowed == "below" else 1.0
    shown.sort(key=lambda comparison: (sign * (comparison.value or 0.0), comparison.label))
    names = [about_comparison(comparison.label) for comparison in shown[:_CHART_ROWS]]
    shared = _shared_start(names)
    rows = [
        Row(
            label=name[len(shared) :],
            value=comparison.value,
            low=comparison.interval.low if comparison.interval else None,
            high=comparison.interval.high if comparison.interval else None,
            n=comparison.n,
            state=comparison.state,
        )
        for name, comparison in zip(names, shown, strict=False)
    ]
    finding = _finding(result, limit)
    if len(shown) > _CHART_ROWS:
        finding += f" The {_CHART_ROWS} nearest to breaking it are drawn."
    kind = {"difference": "difference of ", "ratio": "ratio of "}.get(result.compare, "")
    by = f" ({shared.rstrip(' ,:')})" if shared else ""
    chart = interval_chart(rows, finding, label=kind + label(result.metric) + by, limit=limit)
    return replace(chart, rows=())  # the table of comparisons stands right below


def _shared_start(names: list[str]) -> str:
    """The words, ending in a space, that all ``names`` begin with; none for a single name.

    >>> _shared_start(["origin: island", "origin: north"]), _shared_start(["sex: F vs M"])
    ('origin: ', '')
    >>> _shared_start(["site: ward 1 vs ward 2", "site: ward 1 vs ward 3"])
    'site: '
    """
    if len(names) < 2:
        return ""
    start = min(names)
    while not all(name.startswith(start) for name in names):
        start = start[:-1]
    colon = start.rfind(": ")
    return start[: colon + 2] if colon >= 0 else start[: start.rfind(" ") + 1]


def _finding(result: RuleResult, limit: Limit) -> str:
    """Where the comparisons lie, in one sentence."""
    tally, comparisons = result.tally(), result.comparisons
    total, outside = tally.total(), tally["fail"] + tally["waived"]
    unsure, unjudged = tally["inconclusive"], tally["error"]
    if total == 1:
        if unjudged:
            return "It could not be judged."
        if unsure:
            return why_undecided(comparisons[0], limit) + "."
        what = "The whole interval" if result.decide == "interval" and comparisons[0].interval else "The estimate"
        return f"{what} lies {'outside' if outside else 'inside'} the limit."
    inside = total - outside - unsure - unjudged
    told = ((outside, "outside"), (unsure, "undecided"), (unjudged, "not judged"), (inside, "inside"))
    parts = [f"{n} {words}" for n, words in told if n]
    return f"Of {total} comparisons with the limit: {', '.join(parts)}."
