"""The verdict on a terminal or in a CI log: one block a rule, its worst comparisons first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from auditkit.core.verdict import Comparison, RuleResult, Side, State, Verdict
from auditkit.render.unmeasured import with_one_reason

if TYPE_CHECKING:
    from rich.console import Console

_INDENT = 2
SHOWN = 3
# Of a policy of very many rules, so many have their comparisons shown; what did not pass comes first.
_FULL = 24
# What the one side of a value over all rows is called.
WHOLE = "all rows"
_ICONS = {"pass": "\u2713", "fail": "\u2717", "inconclusive": "?", "error": "!", "waived": "~", "warning": "\u25b2"}
_PLAIN_ICONS = {"pass": "+", "fail": "x", "inconclusive": "?", "error": "!", "waived": "~", "warning": "^"}
_STYLES = {
    "pass": "green",
    "fail": "bold red",
    "inconclusive": "yellow",
    "error": "bold magenta",
    "waived": "cyan",
    "warning": "yellow",
}
# Escape sequences and control characters in names could repaint the screen; so could bidirectional overrides.
_ESCAPES = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x1b."
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]",
    re.DOTALL,
)


def plain_text(text: str) -> str:
    r"""``text`` without terminal escapes, control characters and direction overrides, on one line.

    >>> plain_text("M\x1b[31male\x07")
    'Male'
    """
    return _ESCAPES.sub("", text).replace("\n", " ").replace("\t", " ").replace("::", ": :")


def writable(text: str, console: Console) -> str:
    """:func:`plain_text` in what the terminal can write: others would be escaped later, and columns not line up."""
    encoding = console.encoding or "utf-8"
    return plain_text(text).encode(encoding, "backslashreplace").decode(encoding)


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Print ``verdict`` for people: warnings and waived rules first, then the rest in the policy's order."""
    from rich.text import Text

    icons = icons_for(console)
    results = sorted(verdict.results, key=lambda each: 0 if shown_state(each) in ("warning", "waived") else 1)
    full = set(sorted(range(len(results)), key=lambda place: results[place].state == "pass")[:_FULL])
    for place, result in enumerate(results):
        word = shown_state(result)
        head = Text(f"{icons[word]} {_word(result)}", style=_STYLES[word])
        head.append(f"  {writable(result.id, console)}", style="bold")
        if result.metric:
            what = writable(f"{result.compare} of {result.metric} {result.limit}", console)
            head.append(f": {what}", style="default")
        console.print(head)
        if result.comparisons and place in full:
            _print_comparisons(result, icons, console)
    if verdict.results:
        console.print()
    if len(verdict.results) > _FULL:
        left = len(verdict.results) - _FULL
        console.print(f"The comparisons of {left} more rules are in the card, and in --output json=FILE.", style="dim")
    for line, style in _sentences(verdict):
        console.print(Text(writable(line, console), style=style))
    head = Text(f"{icons[verdict.state]} {verdict.state.upper()}", style=_STYLES[verdict.state])
    head.append(f" (exit code {verdict.exit_code})  {writable(_brief(verdict.summary), console)}", style="default")
    console.print(head)


def _print_comparisons(result: RuleResult, icons: dict[str, str], console: Console) -> None:
    """The rule's worst comparisons: state, columns, rate of each group with n, value with interval,
    and where it is inconclusive the rows in each group that would settle it."""
    from rich.text import Text

    from auditkit.cli.tables import Column, print_rows

    shown = result.comparisons[:SHOWN]
    needed = any(comparison.n_needed is not None for comparison in shown)
    told = _told_of_sides(shown)
    value = "worse by" if result.limit.startswith("worse than ") else result.compare
    columns = [
        Column("state"),
        Column("over", least=8),
        Column("n", right=True) if told == "n" else Column(told, least=14),
        Column(f"{value} [{result.confidence * 100:g} %]"),
        *([Column("needs n", right=True)] if needed else []),
    ]
    rows = []
    for comparison in shown:
        near = result.limits_of_sides(comparison)
        groups = " vs ".join(side.group for side in comparison.sides)
        scope = comparison.label.removesuffix(groups).removesuffix(": ") or (WHOLE if told == "n" else "")
        rates = "\n".join(writable(_side(side, told, near), console) for side in comparison.sides)
        cells = [
            Text(f"{icons[comparison.state]} {comparison.state}", style=_STYLES[comparison.state]),
            Text(writable(scope, console)),
            Text(rates),
            Text(_value(comparison, result.limits)),
        ]
        rows.append([*cells, *([Text("" if comparison.n_needed is None else f"{comparison.n_needed:,}")] * needed)])
    print_rows(console, columns, rows, indent=_INDENT)
    hidden = result.tally() - Counter(comparison.state for comparison in shown)
    if hidden:
        console.print(Text(f"{' ' * _INDENT}and {_tally(hidden)}", style="dim"))


def _told_of_sides(comparisons: Sequence[Comparison]) -> Literal["rate (n)", "group (n)", "n"]:
    """What to tell of the groups behind a value: one that is that of the one group, or of all rows, is not repeated."""
    if any(len(each.sides) != 1 or each.sides[0].value != each.value for each in comparisons):
        return "rate (n)"
    return "n" if all(each.sides[0].group == WHOLE for each in comparisons) else "group (n)"


def _side(side: Side, told: str, near: tuple[float, ...]) -> str:
    if told == "n":
        return _count(side.n).removeprefix("n=")
    value = "" if told == "group (n)" else f" {_number(side.value, near)}"
    return f"{side.group}{value} ({_count(side.n)})"


def shown_state(result: RuleResult) -> str:
    """The state, or ``warning`` for a rule that only warns and does not pass."""
    return "warning" if result.level == "warning" and result.state in ("fail", "inconclusive") else result.state


def _word(result: RuleResult) -> str:
    word = shown_state(result).upper()
    return f"{word} ({result.state})" if word == "WARNING" else word


def _value(comparison: Comparison, limits: tuple[float, ...]) -> str:
    from auditkit.render.numerals import ends, in_ascii

    value, interval = _number(comparison.value, limits), comparison.interval
    if interval is None:
        return value
    low, high = (in_ascii(end) for end in ends(interval.low, interval.high, limits))
    return f"{value} [{low}, {high}]"


def _sentences(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """What numbers alone do not say: why a rule is in error, warned, waived, or decided on points."""
    for result in verdict.results:
        if shown_state(result) in ("warning", "waived"):
            yield f"{result.id}: {result.message}", _STYLES[shown_state(result)]
    for result in verdict.results:
        if result.state == "error":
            place = f"{verdict.policy}:{result.line}: " if result.line else ""
            yield f"{place}{result.id}: {result.message}", _STYLES["error"]
        elif result.decide == "point":
            yield f"{result.id}: decided on the point estimate; its uncertainty was not looked at.", "yellow"
    for sentence in with_one_reason(verdict.unmeasured):
        yield f"not measured: {sentence}", _STYLES["error"]


def _tally(counts: Counter[State]) -> str:
    return ", ".join(f"{count} more {state}" for state, count in counts.items())


def _number(value: float | None, limits: tuple[float, ...] = ()) -> str:
    from auditkit.render.numerals import in_ascii, number

    return "undefined" if value is None else in_ascii(number(value, limits))


def _count(n: int | None) -> str:
    return "n unknown" if n is None else f"n={n:,}"


def _brief(summary: str, most: int = 400) -> str:
    return summary if len(summary) <= most else summary[: most - 3] + "..."


def icons_for(console: Console) -> dict[str, str]:
    """A sign for each state, in letters and marks that the terminal can show."""
    return _ICONS if _can_show(console) else _PLAIN_ICONS


def _can_show(console: Console) -> bool:
    try:
        "".join(_ICONS.values()).encode(console.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
