"""What the page's templates lay out: records of finished words and charts, no logic left to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from auditkit.render.charts import Chart, Markup

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
    """The first screen."""

    state: str
    word: str
    sentence: str
    reasons: tuple[Reason, ...] = ()
    more: int = 0
    tallies: tuple[Tally, ...] = ()
    policy: str = ""
    unmeasured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SideView:
    """One rate that a rule compared."""

    group: str
    value: str
    interval: str
    n: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonView:
    """One line of a rule's table."""

    label: str
    state: str
    word: str
    value: str
    interval: str
    n: str
    needed: str
    message: str
    sides: tuple[SideView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """One rule with everything that it looked at."""

    anchor: str
    id: str
    state: str
    word: str
    message: str
    demand: str
    head: str
    limit: str
    comparisons: tuple[ComparisonView, ...]
    facts: tuple[Fact, ...] = ()
    chart: Chart | None = None
    reason: str = ""
    waiver: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One key number."""

    anchor: str
    label: str
    about: str
    value: str
    unit: str
    detail: str
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRow:
    """One measurement in the table of all numbers."""

    anchor: str
    label: str
    about: str
    value: str
    interval: str
    n: str
    how: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeView:
    """One analyzer."""

    name: str
    anchor: str
    title: str
    status: str
    word: str
    reason: str
    facts: tuple[Fact, ...]
    notes: tuple[str, ...] = ()
    numbers: tuple[NumberRow, ...] = ()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Prose:
    """A heading with what the owner of the model says under it; ``missing`` names the key to fill in."""

    title: str
    paragraphs: tuple[str, ...]
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataView:
    """One split of the data."""

    title: str
    facts: tuple[Fact, ...]
    prose: Prose
    groups: tuple[Chart, ...] = ()
    features: Chart | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardView:
    """The whole page."""

    title: str
    lede: str
    facts: tuple[Fact, ...]
    verdict: VerdictView
    contents: tuple[tuple[str, str, str], ...]
    rules: tuple[RuleView, ...]
    details: tuple[Fact, ...]
    prose: tuple[Prose, ...]
    data: tuple[DataView, ...]
    families: tuple[FamilyView, ...]
    unmeasured: tuple[OutcomeView, ...]
    glossary: tuple[Fact, ...]
    provenance: tuple[Fact, ...]
    min_cell: int
    icons: dict[str, Markup] = field(default_factory=dict)
    banners: tuple[str, ...] = ()
    embedded: Markup | None = None
    embedded_note: str = ""
