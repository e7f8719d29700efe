"""The verdict of a policy over evidence: plain frozen records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from auditkit.core.evidence import Interval
from auditkit.core.printable import printable

State = Literal["pass", "fail", "inconclusive", "error", "waived"]
Level = Literal["error", "warning"]

EXIT_CODES: Mapping[str, int] = {"pass": 0, "waived": 0, "fail": 1, "error": 3, "inconclusive": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the rates compared: the group, its rate with the rows behind it."""

    group: str
    value: float | None
    n: int | None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One thing that a rule looked at: a value, or a pair of groups.

    Attributes:
        label: What was looked at, e.g. ``sex: F vs M``.
        value: The value, gap or ratio compared with the limit.
        interval: Its interval at the rule's confidence.
        n_needed: Rows per group (or in all) that would settle an inconclusive one, when that can be said.
        message: One sentence: what was found and why this state.
        columns: The columns whose groups are compared, those of ``where`` among them; none of all rows.
        fewest_before: The fewest rows, hits, misses or clusters behind the baseline's numbers; never in shared copies.
    """

    label: str
    state: State
    value: float | None
    message: str
    interval: Interval | None = None
    sides: tuple[Side, ...] = ()
    columns: tuple[str, ...] = ()
    fewest_before: float | None = None
    n: int | None = None
    n_needed: int | None = None
    exploratory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waived:
    """The waiver that covers a rule's failures."""

    owner: str
    reason: str
    ticket: str
    expires: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """One rule's state with every comparison behind it.

    ``limit`` is what the rule demands, in words, ``limits`` the numbers in it; ``line`` is its line in the policy file.
    Of very many comparisons the worst are listed; ``unlisted`` says how many more there are in each state.
    """

    id: str
    metric: str
    compare: str
    limit: str
    state: State
    message: str
    limits: tuple[float, ...] = ()
    level: Level = "error"
    decide: str = "interval"
    confidence: float = 0.95
    comparisons: tuple[Comparison, ...] = ()
    unlisted: Mapping[State, int] = field(default_factory=dict)
    waiver: Waived | None = None
    line: int | None = None
    reason: str = ""

    def limits_of_sides(self, comparison: Comparison) -> tuple[float, ...]:
        """The limits that the sides of a comparison are judged by: a single side is what a limit is for."""
        return self.limits if len(comparison.sides) == 1 else ()

    def tally(self) -> Counter[State]:
        """How many comparisons there are in each state, listed or not."""
        return Counter(comparison.state for comparison in self.comparisons) + Counter(self.unlisted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The policy's answer.

    Attributes:
        state: The worst state that counts: error, then fail, then inconclusive, else pass.
        exit_code: 0 pass, 1 a rule failed, 3 a rule is in error or something asked for could not be
            measured, 4 inconclusive (when the policy says that inconclusive fails).
        results: One for each rule, in the order of the policy.
        summary: One sentence for the first line of the card and of the terminal.
    """

    state: State
    exit_code: int
    results: tuple[RuleResult, ...]
    summary: str
    as_of: str
    policy: str = ""
    unmeasured: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Verdict: {self._first_line()}>"

    def __str__(self) -> str:
        """The answer, and under it each rule with what was found."""
        return self.told(self.results)

    def told(self, results: Iterable[RuleResult]) -> str:
        """The answer, and under it a line for each of ``results``."""
        rules = (printable(f"  {each.state:12} {each.id}: {each.message}") for each in results)
        return "\n".join([self._first_line(), *rules])

    def _first_line(self) -> str:
        return printable(f"{self.state.upper()} (exit code {self.exit_code}): {self.summary}")

    def _repr_html_(self) -> str:
        from auditkit.core.notebook import html_of

        return html_of(self)

    def raise_for_status(self) -> None:
        """Raise :class:`GateFailed` unless the exit code is 0."""
        if self.exit_code:
            raise GateFailed(self)


class GateFailed(Exception):
    """Raised by :meth:`Verdict.raise_for_status`; carries the verdict, and says which rules did not pass."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        super().__init__(verdict.told(each for each in verdict.results if each.state not in ("pass", "waived")))
