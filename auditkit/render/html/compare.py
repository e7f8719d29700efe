"""Two audits side by side as a page: what moved beyond its interval, and everything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from auditkit.core.evidence import Evidence, Interval, Measurement
from auditkit.core.verdict import Verdict
from auditkit.render.charts import Chart, Key, Markup, Row, interval_chart
from auditkit.render.charts.rows import State
from auditkit.render.charts.tables import table_markup
from auditkit.render.html.card import icon, page_of
from auditkit.render.html.names import FAMILIES, about, family_title, label, title
from auditkit.render.html.view import STATES
from auditkit.render.numerals import MISSING, count, number, span
from auditkit.render.text import clean

# State of a movement -> words, in the order of the page.
WORDS = {
    "worse": "worse",
    "lost": "no longer measured",
    "changed": "changed",
    "better": "better",
    "maybe": "beyond its own interval, but not after the correction for many comparisons",
    "new": "measured in the second audit alone",
    "unknown": "without an interval in both",
    "still": "not beyond its interval",
}
_MOVED = ("worse", "lost", "changed", "better")
_PANELS = {"worse": "fail", "changed": "inconclusive", "better": "pass", "still": "pass"}
_HEADS = {"worse": "Worse", "changed": "Changed", "better": "Better", "still": "No movement"}
_ROWS = 16
# The states of drawn rows, as charts know them, in words.
_STATES: dict[State, str] = {"fail": "worse", "pass": "better", "inconclusive": "changed"}
_COLUMNS = (
    "Quantity",
    "Of what",
    "First",
    "Interval",
    "n",
    "Second",
    "Interval",
    "n",
    "Change",
    "Its interval",
    "Tested on",
)


Verdicts = tuple[Verdict | None, Verdict | None]


class Movement(Protocol):
    """One measurement of both audits, as ``auditkit.policy.moves`` finds it."""

    @property
    def key(self) -> str:
        """The measurement's identity."""

    @property
    def state(self) -> str:
        """One of :data:`WORDS`."""

    @property
    def base(self) -> Measurement | None:
        """It in the first audit."""

    @property
    def head(self) -> Measurement | None:
        """It in the second audit."""

    @property
    def change(self) -> float | None:
        """Second less first."""

    @property
    def interval(self) -> Interval | None:
        """Of the change."""

    @property
    def paired(self) -> bool:
        """Whether it is tested on pairs of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareView:
    """The whole page, as finished words and charts."""

    title: str
    lede: str
    state: str
    word: str
    sentence: str
    icon: Markup
    tallies: tuple[str, ...]
    remarks: tuple[str, ...]
    charts: tuple[Chart, ...]
    facts: Markup
    rules: Markup | None
    tables: tuple[tuple[str, str, Markup, bool], ...]


def render_compare(
    pair: tuple[Evidence, Evidence],
    moves: Sequence[Movement],
    verdicts: Verdicts = (None, None),
    remarks: Sequence[str] = (),
) -> str:
    """The page.

    Args:
        pair: The shared copies of both audits (see :func:`auditkit.render.redact.redact`), the older one first.
        moves: What became of each measurement of these copies.
        verdicts: What the policy of each says, as it may be shared.
        remarks: What a reader must know of the comparison as a whole, in sentences.

    Raises:
        ValueError: One of the two is not a shared copy.
    """
    if not all(evidence.redacted for evidence in pair):
        raise ValueError("a page of two audits takes their shared copies: redact them first")
    return page_of("compare.html", view=_view(pair, moves, verdicts, remarks)).rstrip("\n") + "\n"


def overall(moves: Sequence[Movement]) -> str:
    """One word for all: ``worse`` (or no longer measured), else ``changed``, ``better`` or ``still``."""
    states = {move.state for move in moves}
    if states & {"worse", "lost"}:
        return "worse"
    return next((word for word in ("changed", "better") if word in states), "still")


def _view(
    pair: tuple[Evidence, Evidence], moves: Sequence[Movement], verdicts: Verdicts, remarks: Sequence[str]
) -> CompareView:
    word = overall(moves)
    counts = {state: sum(move.state == state for move in moves) for state in WORDS}
    moved = sum(counts[state] for state in _MOVED)
    sentence = f"Of {count(len(moves))} numbers, {count(moved)} moved beyond their interval"
    sentence += f", {count(counts['worse'] + counts['lost'])} of them for the worse." if moved else "."
    names = [clean(evidence.card.get("title") or evidence.subject.name, limit=120) or "model" for evidence in pair]
    return CompareView(
        title=names[1],
        lede=f"Compared with {names[0] if names[0] != names[1] else 'an earlier audit of the same name'}.",
        state=_PANELS[word],
        word=_HEADS[word],
        sentence=sentence,
        icon=icon(_PANELS[word]),
        tallies=tuple(f"{count(n)} {WORDS[state]}" for state, n in counts.items() if n),
        remarks=tuple(remarks),
        charts=_charts(moves),
        facts=_facts(pair),
        rules=_rules(verdicts),
        tables=_tables(moves),
    )


def _charts(moves: Sequence[Movement]) -> tuple[Chart, ...]:
    """For each family the changes that count, largest first, with their intervals and a line at no change."""
    found = []
    counted = [move for move in moves if move.state in ("worse", "changed", "better") and move.change is not None]
    families = list(dict.fromkeys(_family(move) for move in counted))
    for family in sorted(families, key=lambda name: (list(FAMILIES).index(name) if name in FAMILIES else 99, name)):
        members = [move for move in counted if _family(move) == family]
        rows = [_row(move) for move in members[:_ROWS]]
        states = {state: sum(move.state == state for move in members) for state in ("worse", "better", "changed")}
        parts = ", ".join(f"{n} {state}" for state, n in states.items() if n)
        more = f" The {_ROWS} largest are drawn." if len(members) > _ROWS else ""
        finding = f"{family_title(family)}: {parts}.{more}"
        chart = interval_chart(rows, finding, label="change", reference=0.0, states=_STATES)
        keys = (*chart.keys[:-1], Key(css="ak-key-reference", label="no change"))
        found.append(replace(chart, keys=keys, cells=0))
    return tuple(found)


def _family(move: Movement) -> str:
    return move.key.split(".", 1)[0]


def _row(move: Movement) -> Row:
    m = move.head or move.base
    name = move.key if m is None else f"{label(m.name)}, {about(m)}"
    ends = (None, None) if move.interval is None else (move.interval.low, move.interval.high)
    state: State = "fail" if move.state == "worse" else "pass" if move.state == "better" else "inconclusive"
    return Row(label=clean(name), value=move.change, low=ends[0], high=ends[1], note=WORDS[move.state], state=state)


def _facts(pair: tuple[Evidence, Evidence]) -> Markup:
    def facts(evidence: Evidence) -> dict[str, str]:
        subject = evidence.subject
        return {
            "Model": clean(subject.name),
            "Kind": clean(subject.model_kind),
            "Model fingerprint": clean(subject.model_fingerprint or "none", limit=26),
            "Test rows": count(subject.test.n_rows),
            "Test data": clean(subject.test.fingerprint or "none", limit=26),
            "Seed": str(evidence.plan.seed),
            "Judged as of": clean(evidence.as_of or MISSING),
            "Shared copy": clean(evidence.digest, limit=26),
        }

    first, second = (facts(evidence) for evidence in pair)
    rows = [(name, first[name], second[name], "" if first[name] == second[name] else "differs") for name in first]
    return table_markup("both audits", ("", "First", "Second", ""), rows, 0)


def _rules(verdicts: Verdicts) -> Markup | None:
    first, second = ({} if v is None else {result.id: result for result in v.results} for v in verdicts)
    ids = list(dict.fromkeys((*second, *first)))
    if not ids:
        return None
    rows = []
    for name in ids:
        states = [STATES[side[name].state][0] if name in side else MISSING for side in (first, second)]
        rows.append((clean(name), *states, "" if states[0] == states[1] else "differs"))
    rows.sort(key=lambda row: row[3] == "")
    return table_markup("rules in both audits", ("Rule", "First", "Second", ""), rows, 0)


def _tables(moves: Sequence[Movement]) -> tuple[tuple[str, str, Markup, bool], ...]:
    out = []
    for state, words in WORDS.items():
        members = [move for move in moves if move.state == state]
        if members:
            table = table_markup(f"numbers that are {words}", _COLUMNS, [_cells(move) for move in members], 0)
            out.append((f"moves-{state}", f"{count(len(members))} {words}", table, state in _MOVED))
    return tuple(out)


def _cells(move: Movement) -> tuple[str, ...]:
    m = move.head or move.base
    name, what = (clean(move.key), "") if m is None else (title(m.name), about(m))
    sides = [cell for side in (move.base, move.head) for cell in _side(side)]
    change = MISSING if move.change is None else ("+" if move.change > 0 else "") + number(move.change)
    tested = MISSING if move.interval is None else "pairs" if move.paired else "two samples"
    return name, what, *sides, change, span(move.interval), tested


def _side(m: Measurement | None) -> tuple[str, str, str]:
    return (MISSING, MISSING, MISSING) if m is None else (number(m.value), span(m.interval), count(m.n))
