"""Evidence and verdict as Markdown that no name can turn into markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from auditkit.core.evidence import Evidence, Measurement
from auditkit.core.verdict import RuleResult, Verdict
from auditkit.render.html.about import sections_after, sections_before
from auditkit.render.html.judged import ORDER
from auditkit.render.html.names import FAMILIES, about, family_title, title
from auditkit.render.html.view import STATES, STATUSES, Section
from auditkit.render.numerals import MISSING, count, number, sentence, span
from auditkit.render.shared import shared_copy
from auditkit.render.text import clean
from auditkit.render.unmeasured import with_one_reason

_SPECIAL = re.compile(r"([\\`*_{}\[\]|~>$^])|^(\s*)([-+=#!]|\d+[.)](?=\s|$))")
_SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "?", "error": "!", "waived": "⚑"}


def render_markdown(evidence: Evidence, verdict: Verdict | None = None) -> str:
    """The card as Markdown: verdict, rules, details, and every number with its interval and n.

    Shows only what the shared copy holds, as the HTML card does.

    Args:
        evidence: The evidence, complete or redacted.
        verdict: What a policy says about it, if there is one.
    """
    shared, judged = shared_copy(evidence, verdict)
    head = md(evidence.card.get("title") or shared.subject.name) or "model"
    lines = [f"# {head}", "", *verdict_lines(judged)]
    for section in sections_before(shared, judged):
        lines += _section(section)
    lines += _families(shared)
    for section in sections_after(shared, judged):
        lines += _section(section)
    lines += ["", "## Provenance", "", f"- Evidence: {md(shared.digest)}", f"- Schema: {md(shared.schema)}",
              f"- Seed: {shared.plan.seed}"]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _section(section: Section) -> list[str]:
    """The owner's words, what was measured beside them, and facts."""
    lines = ["", f"## {md(section.title)}", ""]
    for item in section.prose:
        lines += [f"### {md(item.title)}", ""] if item.title else []
        lines += [md(part) + "\n" for part in item.paragraphs] or ["*Not stated.*", ""]
    lines += [f"- {md(text)}" for _, text in section.measured]
    return [*lines, *(f"- {md(term)}: {md(text)}" for term, text in section.facts)]


def md(text: object) -> str:
    r"""``text`` on one line with everything that Markdown or HTML would read escaped.

    >>> md("a|b <b>*x*</b>")
    'a\\|b &lt;b&gt;\\*x\\*&lt;/b&gt;'
    """
    shown = clean(text).replace("&", "&amp;").replace("<", "&lt;")
    shown = _SPECIAL.sub(_escape, shown)
    # Bare addresses would become links: a space of no width keeps them text.
    return re.sub(r"(?i)(https?|ftp|www)(://|\.)", r"\1&#8203;\2", shown.replace("@", "&#64;"))


def _escape(match: re.Match[str]) -> str:
    anywhere, space, first = match.groups()
    if anywhere is not None:
        return "&gt;" if anywhere == ">" else "\\" + anywhere
    return f"{space}{first[:-1]}\\{first[-1]}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; its cells must be escaped already."""
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def verdict_lines(verdict: Verdict | None) -> list[str]:
    """The verdict, its rules and every comparison, line by line."""
    if verdict is None:
        return [f"**{STATES['none'][0]}.** {STATES['none'][1]}", ""]
    lines = [f"**{STATES[verdict.state][0]}.** {md(verdict.summary)}", ""]
    if verdict.as_of:
        lines += [f"As of {md(verdict.as_of)}.", ""]
    if verdict.unmeasured:
        told = "; ".join(md(name) for name in with_one_reason(verdict.unmeasured))
        lines += [f"Asked for and not measured: {told}.", ""]
    ordered = sorted(verdict.results, key=lambda result: ORDER.index(result.state))
    rows = [
        (f"{_SIGNS[r.state]} {STATES[r.state][0]}", md(r.id), md(r.metric), md(r.limit), md(r.message)) for r in ordered
    ]
    lines += ["## Rules", "", *_table(("State", "Rule", "Metric", "Limit", "Why"), rows)]
    for result in ordered:
        if result.comparisons:
            lines += [f"### {md(result.id)}", "", *_table(_HEADS, _comparisons(result))]
        if result.unlisted:
            lines += [f"The {len(result.comparisons)} worst of {count(result.tally().total())} comparisons.", ""]
    return lines


_HEADS = ("Compared", "Groups", "Value", "Interval", "State", "Rows needed")


def _comparisons(result: RuleResult) -> Iterable[Sequence[str]]:
    for comparison in result.comparisons:
        near = result.limits_of_sides(comparison)
        sides = "; ".join(
            f"{md(side.group)} {number(side.value, near)} ({span(side.interval, near)}), n {count(side.n)}"
            for side in comparison.sides
        )
        yield (
            md(comparison.label),
            sides or f"n {count(comparison.n)}",
            number(comparison.value, result.limits),
            span(comparison.interval, result.limits),
            STATES[comparison.state][0],
            count(comparison.n_needed),
        )


def _families(evidence: Evidence) -> list[str]:
    lines: list[str] = []
    for family in [*FAMILIES, *sorted({outcome.family for outcome in evidence.outcomes} - set(FAMILIES))]:
        members = [outcome for outcome in evidence.outcomes if outcome.family == family]
        if members:
            lines += ["", f"## {md(family_title(family))}", ""]
        for outcome in members:
            state = "" if outcome.status == "measured" else f" ({STATUSES[outcome.status]}: {md(outcome.reason)})"
            lines += [f"### {md(outcome.title or outcome.analyzer)}{state}", ""]
            lines += [f"- {md(note)}" for note in outcome.notes] + ([""] if outcome.notes else [])
            if outcome.measurements:
                lines += _table(("Quantity", "Of what", "Value (interval), n", "Note"), map(_row, outcome.measurements))
    return lines


def _row(measurement: Measurement) -> Sequence[str]:
    notes = [f"not to be relied upon: {measurement.unreliable}"] if measurement.unreliable else []
    notes += [measurement.reason] if measurement.reason else []
    value = sentence(measurement) if measurement.value is not None else MISSING
    return md(title(measurement.name)), md(about(measurement)), md(value), md("; ".join(notes))
