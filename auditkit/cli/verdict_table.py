"""The verdict on a terminal or in a CI log: one block a rule, its worst comparisons first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from auditkit.core.verdict import Comparison, RuleResult, State, Verdict
from auditkit.render.unmeasured import with_one_reason

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_ROOMY = 72
SHOWN = 3
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


def print_verdict(verdict: Verdict, console: Console) -> None:
    """Print ``verdict`` for people: warnings and waived rules first, then the rest in the policy's order."""
    from rich.text import Text

    icons = icons_for(console)
    for result in sorted(verdict.results, key=lambda each: 0 if shown_state(each) in ("warning", "waived") else 1):
        word = shown_state(result)
        head = Text(f"{icons[word]} {_word(result)}", style=_STYLES[word])
        head.append(f"  {plain_text(result.id)}", style="bold")
        if result.metric:
            head.append(
                f": {result.compare} of {plain_text(result.metric)} {plain_text(result.limit)}", style="default"
            )
        console.print(head)
        if result.comparisons:
            console.print(_comparisons(result, icons, console.width))
    if verdict.results:
        console.print()
    for line, style in _sentences(verdict):
        console.print(Text(plain_text(line), style=style))
    head = Text(f"{icons[verdict.state]} {verdict.state.upper()}", style=_STYLES[verdict.state])
    head.append(f" (exit code {verdict.exit_code})  {plain_text(_brief(verdict.summary))}", style="default")
    console.print(head)


def _comparisons(result: RuleResult, icons: dict[str, str], width: int) -> Table:
    """The rule's worst comparisons: state, columns, rate of each group with n, value with interval,
    and where it is inconclusive the rows in each group that would settle it."""
    from rich.table import Table
    from rich.text import Text

    needed = any(comparison.n_needed is not None for comparison in result.comparisons[:SHOWN])
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("  state", no_wrap=True, width=16)
    table.add_column("over", overflow="fold", min_width=8)
    table.add_column("rate (n)", overflow="fold", min_width=14)
    value = "worse by" if result.limit.startswith("worse than ") else result.compare
    percent = f"{result.confidence * 100:g}"
    # A number is never cut: on a narrow screen its interval goes to the next line.
    table.add_column(f"{value} [{percent} %]".replace("[", "\\["), no_wrap=width >= _ROOMY, overflow="fold")
    if needed:
        table.add_column("needs n", justify="right", no_wrap=True, min_width=7)
    for comparison in result.comparisons[:SHOWN]:
        near = result.limits_of_sides(comparison)
        groups = " vs ".join(side.group for side in comparison.sides)
        scope = comparison.label.removesuffix(groups).removesuffix(": ")
        rates = "\n".join(
            f"{plain_text(side.group)} {_number(side.value, near)} ({_count(side.n)})" for side in comparison.sides
        )
        cells = [
            Text(f"  {icons[comparison.state]} {comparison.state}", style=_STYLES[comparison.state]),
            Text(plain_text(scope)),
            Text(rates),
            Text(_value(comparison, result.limits)),
        ]
        table.add_row(*cells, *([Text("" if comparison.n_needed is None else f"{comparison.n_needed:,}")] * needed))
    hidden = result.tally() - Counter(comparison.state for comparison in result.comparisons[:SHOWN])
    if hidden:
        table.add_row(Text("  and"), Text(_tally(hidden), style="dim"))
    return table


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
