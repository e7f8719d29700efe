"""What the page's templates lay out: records of finished words and charts, no logic left to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from auditkit.render.charts import Chart, Markup
from auditkit.render.html.numbers import Quantity

Fact = tuple[str, str]

# State -> word, sentence of the verdict, SVG path of its icon in a 24 x 24 box.
STATES: dict[str, tuple[str, str, str]] = {
    "pass": ("Passed", "Every rule of the policy holds.", "M6.5 12.5l3.8 3.8 7.2-8"),
    "fail": ("Failed", "At least one rule of the policy is broken.", "M7.8 7.8l8.4 8.4M16.2 7.8l-8.4 8.4"),
    "inconclusive": (
        "Not enough evidence",
        "Some rule can be neither confirmed nor refuted with these rows.",
        "M9.2 9.6a2.9 2.9 0 1 1 4.3 2.6c-1 .6-1.5 1.1-1.5 2.2M12 17.3v.2",
    ),
    "error": ("Not judged", "Some rule could not be judged at all.", "M12 6.8v6.4M12 16.9v.2"),
    "waived": ("Waived", "A broken rule is covered by a waiver.", "M9 18V6.5M9 7h7.5l-2 3 2 3H9"),
    "none": ("Measured, not judged", "There is no policy, so nothing was judged.", "M7 9.5h10M7 14.5h10"),
}

STATUSES = {
    "measured": "measured",
    "not_applicable": "does not apply",
    "skipped": "skipped",
    "failed": "failed to run",
}

# The parts whose first number says something of the model, and not of the rows or of an explanation's arithmetic.
_TOLD_FIRST = frozenset({"family-performance", "family-fairness", "family-robustness", "family-privacy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One line under the verdict: a rule that did not pass."""

    anchor: str
    state: str
    word: str
    id: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many rules are in one state."""

    state: str
    word: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView:
    """The first screen; ``passed`` are anchor and id of the rules that hold, beside ``more_passed`` others."""

    state: str
    word: str
    sentence: str
    reasons: tuple[Reason, ...] = ()
    more: int = 0
    tallies: tuple[Tally, ...] = ()
    passed: tuple[tuple[str, str], ...] = ()
    more_passed: int = 0
    policy: str = ""
    unmeasured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """One rule with everything that it looked at."""

    anchor: str
    id: str
    state: str
    word: str
    message: str
    demand: str
    how: str
    compared: Markup | None = None
    chart: Chart | None = None
    reason: str = ""
    waiver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One key number."""

    anchor: str
    label: str
    value: str
    detail: str
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeView:
    """One analyzer; ``quantities`` are laid out as ``numbers`` once it is known which get an anchor of their own."""

    name: str
    anchor: str
    title: str
    status: str
    word: str
    reason: str
    how: str
    notes: tuple[str, ...] = ()
    count: int = 0
    quantities: tuple[Quantity, ...] = ()
    numbers: Markup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyView:
    """One family's section."""

    anchor: str
    title: str
    question: str
    tiles: tuple[Tile, ...] = ()
    charts: tuple[Chart, ...] = ()
    folded: tuple[Chart, ...] = ()
    dropped: int = 0
    outcomes: tuple[OutcomeView, ...] = ()

    @property
    def absent(self) -> tuple[str, ...]:
        """Analyzers that do not apply, those of one reason together with why."""
        titles: dict[str, list[str]] = {}
        for outcome in self.outcomes:
            if outcome.status == "not_applicable":
                titles.setdefault(outcome.reason.rstrip("."), []).append(outcome.title)
        return tuple(f"{', '.join(named)}: {why}" for why, named in titles.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Prose:
    """What the owner of the model says under a heading; ``missing`` names the key to fill in."""

    title: str
    paragraphs: tuple[str, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of a model card: the owner's prose and, beside it, what was measured."""

    anchor: str
    title: str
    prose: tuple[Prose, ...] = ()
    facts: tuple[Fact, ...] = ()
    measured: tuple[tuple[str, str], ...] = ()
    charts: tuple[Chart, ...] = ()
    more: tuple[tuple[str, Markup], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """The whole page."""

    title: str
    lede: str
    facts: tuple[Fact, ...]
    verdict: VerdictView
    rules: tuple[RuleView, ...]
    before: tuple[Section, ...]
    analyses: Section
    families: tuple[FamilyView, ...]
    after: tuple[Section, ...]
    unmeasured: tuple[OutcomeView, ...]
    glossary: tuple[Fact, ...]
    provenance: tuple[Fact, ...]
    min_cell: int
    icons: dict[str, Markup] = field(default_factory=dict)
    banners: tuple[str, ...] = ()
    embedded: Markup | None = None
    embedded_verdict: Markup | None = None
    embedded_note: str = ""

    @property
    def first_numbers(self) -> tuple[tuple[str, Tile], ...]:
        """Of a page that judges nothing, the title and first key number of each part that tells of the model."""
        if self.verdict.state != "none":
            return ()
        parts = [family for family in self.families if family.anchor in _TOLD_FIRST]
        return tuple((family.title, family.tiles[0]) for family in parts if family.tiles)

    @property
    def contents(self) -> tuple[tuple[str, str, bool], ...]:
        """Anchor, heading and whether it is a part of the one before, for the contents list."""
        entries = [("rules", f"Rules ({len(self.rules)})", False)] if self.rules else []
        entries += [(section.anchor, section.title, False) for section in (*self.before, self.analyses)]
        entries += [(family.anchor, family.title, True) for family in self.families]
        entries += [(section.anchor, section.title, False) for section in self.after]
        if self.unmeasured:
            entries.append(("not-measured", f"Not measured ({len(self.unmeasured)})", False))
        return (*entries, ("reading", "How to read this", False), ("provenance", "Provenance", False))
