"""The evidence: plain frozen records of what was measured, and how surely.

Everything that auditkit publishes (card, verdict, JUnit ...) is a pure function of one
:class:`Evidence`. Records hold only strings, numbers, booleans, ``None`` and tuples or mappings
of those, so that they survive JSON unchanged. No NaN or infinity is accepted anywhere: a value
that is missing is ``None`` with a ``reason``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import cached_property
from math import ceil, inf, isfinite, log10
from typing import Annotated, Literal, get_args

from pydantic import Discriminator, GetPydanticSchema

from auditkit.core.artifacts import Counts as Counts
from auditkit.core.artifacts import Curve as Curve
from auditkit.core.artifacts import Density as Density
from auditkit.core.artifacts import Estimated as Estimated
from auditkit.core.artifacts import Scalar as Scalar
from auditkit.core.artifacts import Series as Series
from auditkit.core.artifacts import Table as Table
from auditkit.core.artifacts import finite
from auditkit.core.gap_names import metric_and_kind
from auditkit.core.printable import printable
from auditkit.core.rounding import general
from auditkit.core.shown import ImageGrid as ImageGrid
from auditkit.core.shown import Picture as Picture
from auditkit.core.shown import TokenRow as TokenRow
from auditkit.core.shown import TokenRows as TokenRows
from auditkit.core.unread import ByName

SCHEMA_ID = "auditkit-evidence/1"

Status = Literal["measured", "not_applicable", "skipped", "failed"]
Direction = Literal["higher", "lower", "neutral"]

OVERALL: Mapping[str, str] = {}
MISSING_GROUP = "(missing)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval: ``low <= high``, two-sided at ``level`` in (0, 1), by ``method``.

    ``degrees_of_freedom`` are those of Student's t, where the limits rest on it: rows or clusters less one as a rule,
    the fewest of any group where the limits of several are joined. Without them the same limits at another level could
    not be told. In shared copies those of numbers whose rows are withheld are told no further than that there are so
    many or more.
    """

    low: float
    high: float
    method: str
    level: float = 0.95
    degrees_of_freedom: float | None = None

    def __post_init__(self) -> None:
        if self.degrees_of_freedom is not None:
            if not 0.0 < self.degrees_of_freedom < inf:
                raise ValueError(f"degrees of freedom must be finite and above 0, got {self.degrees_of_freedom}")
            # One way to write a number: a digest must be the same before and after a file.
            object.__setattr__(self, "degrees_of_freedom", float(self.degrees_of_freedom))
        if -inf < self.low <= self.high < inf and 0.0 < self.level < 1.0:
            return
        if not (isfinite(self.low) and isfinite(self.high)):
            raise ValueError(f"interval ends must be finite, got {self.low!r} and {self.high!r}")
        if not self.low <= self.high:
            raise ValueError(f"interval low {self.low} is above high {self.high}")
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"interval level must be in (0, 1), got {self.level}")

    def __str__(self) -> str:
        low, high = (general(end, least=self.digits) for end in (self.low, self.high))
        return f"[{low}, {high}] at {100.0 * self.level:.10g} %"

    @property
    def digits(self) -> int:
        """Significant digits that tell its ends apart: two of its width, four or more."""
        largest, width = max(abs(self.low), abs(self.high)), self.high - self.low
        return min(max(4, ceil(log10(largest / width)) + 2), 15) if width > 0.0 else 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One measured quantity.

    Attributes:
        name: ``family.quantity``; disparities end in ``.difference`` or ``.ratio``.
        value: The point estimate, or ``None`` with a ``reason``.
        n: Number of rows, or of what ``n_of`` names, that the value rests on.
        interval: Its confidence interval, when there is one.
        slice: Which rows, as column -> group; empty for all rows.
        over: The columns that a disparity ranges over.
        params: What else identifies the number, e.g. attack, norm and eps.
        unit: Unit of the value; empty for a pure number.
        direction: Whether ``higher`` or ``lower`` is better, or ``neutral``.
        bounds: Smallest and largest value possible; ``None`` where unbounded.
        reason: Why the value is missing, or why the interval is.
        unreliable: Why the number must not be relied upon; a rule on it is an ERROR.
        n_of: What ``n`` counts where it is not rows of data (training runs, random draws ...); such a number
            says nothing about a small group and is never withheld for its ``n``.
    """

    name: str
    value: float | None
    n: int | None = None
    interval: Interval | None = None
    slice: Mapping[str, str] = field(default_factory=dict)
    over: tuple[str, ...] = ()
    params: Mapping[str, Scalar] = field(default_factory=dict)
    unit: str = ""
    direction: Direction = "neutral"
    bounds: tuple[float | None, float | None] = (None, None)
    reason: str | None = None
    unreliable: str | None = None
    n_of: str = "rows"

    def __post_init__(self) -> None:
        if self.value is not None and not isfinite(self.value):
            raise ValueError(f"{self.name} value must be finite or None with a reason, got {self.value!r}")
        for param in self.params.values():
            if isinstance(param, float):
                finite(param, f"{self.name} param")
        for bound in self.bounds:
            if bound is not None and not isfinite(bound):
                raise ValueError(f"{self.name} bound must be finite or None, got {bound!r}")
        if self.value is None and not self.reason:
            raise ValueError(f"{self.name} has no value and no reason")

    def __str__(self) -> str:
        """The number with its interval and rows in a line; ``repr`` tells all."""
        bounds = [bound for bound in self.bounds if bound is not None]
        digits = 4 if self.interval is None else self.interval.digits
        value = "no value" if self.value is None else f"{general(self.value, bounds, digits)} {self.unit}".strip()
        interval = f" {self.interval}" if self.interval else ""
        rows = "" if self.n is None else f" (n = {self.n:,}{'' if self.n_of == 'rows' else f' {self.n_of}'})"
        told = [why for why in (self.reason, self.unreliable and f"unreliable: {self.unreliable}") if why]
        return printable(f"{self.key}: {value}{interval}{rows}{''.join(f'; {why}' for why in told)}")

    @property
    def family(self) -> str:
        """The part of the name before the first dot."""
        return self.name.split(".", 1)[0]

    @property
    def columns(self) -> frozenset[str]:
        """The columns whose groups it is of, or ranges over; none where it is of all rows."""
        return frozenset({*self.slice, *self.over})

    @property
    def is_gap(self) -> bool:
        """Whether it is a difference or ratio that was measured over groups."""
        return bool(self.over) and metric_and_kind(self.name)[1] is not None

    @property
    def rests_on_clusters(self) -> bool:
        """Whether limits of groups rest on a number of clusters: on degrees of freedom that are not rows less one."""
        counted = None if self.interval is None else self.interval.degrees_of_freedom
        return bool(self.slice or self.over) and counted is not None and counted != (self.n or 0) - 1

    @property
    def key(self) -> str:
        """A stable identity: the name, the slice, the columns and the params."""
        parts = [self.name]
        parts += [f"{column}={group}" for column, group in sorted(self.slice.items())]
        if self.over:
            parts.append("over=" + "+".join(self.over))
        parts += [f"{name}:{value}" for name, value in sorted(self.params.items())]
        return "|".join(parts)


Artifact = Table | Curve | Density | ImageGrid | TokenRows | Counts
AnyArtifact = Annotated[Artifact, Discriminator("kind")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What all measurements of a name in an outcome have in common: in the JSON it is written once."""

    bounds: tuple[float | None, float | None] | None = None
    direction: Direction | None = None
    unit: str | None = None

    def __post_init__(self) -> None:
        for bound in self.bounds or ():
            finite(bound, "shared bound")

    def fill(self, measurement: Measurement) -> None:
        """Put it into a ``measurement`` that was just read and that nobody holds yet, where that has the default."""
        if self.bounds is not None and measurement.bounds == (None, None):
            object.__setattr__(measurement, "bounds", self.bounds)
        if self.direction is not None and measurement.direction == "neutral":
            object.__setattr__(measurement, "direction", self.direction)
        if self.unit is not None and not measurement.unit:
            object.__setattr__(measurement, "unit", self.unit)


_AS_TUPLE = GetPydanticSchema(lambda _, handler: handler.generate_schema(tuple[Measurement, ...]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one analyzer. Nothing that was asked for is ever left out of the evidence.

    Attributes:
        meanings: Measurement name -> what the analyzer says of it, one plain sentence.
        lacking: Where it was not measured to the end, the names of what it would have measured and did not.
        quantities: Measurement name -> what its measurements share; given by readers of JSON alone, and not kept.
    """

    analyzer: str
    version: str
    status: Status
    reason: str | None = None
    measurements: Annotated[Sequence[Measurement], _AS_TUPLE] = ()
    artifacts: tuple[AnyArtifact, ...] = ()
    params: Mapping[str, object] = field(default_factory=dict)
    seed: int | None = None
    title: str = ""
    reference: str = ""
    notes: tuple[str, ...] = ()
    meanings: Mapping[str, str] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()
    quantities: InitVar[Mapping[str, Shared] | None] = None

    def __post_init__(self, quantities: Mapping[str, Shared] | None) -> None:
        for measurement in self.measurements if quantities else ():
            shared = quantities.get(measurement.name) if quantities else None
            if shared is not None:
                shared.fill(measurement)
        if self.status != "measured" and not self.reason:
            raise ValueError(f"{self.analyzer}: a {self.status} outcome needs a reason")

    def __repr__(self) -> str:
        said = f": {self.reason}" if self.reason else f", {len(self.measurements):,} numbers"
        return printable(f"<Outcome of {self.analyzer}: {self.status.replace('_', ' ')}{said}>")

    @property
    def family(self) -> str:
        """The part of the analyzer's name before the first dot."""
        return self.analyzer.split(".", 1)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureFacts:
    """A feature's name and kind, as audited; no values."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFacts:
    """Shape and content hash of one split; group sizes of each sensitive column."""

    fingerprint: str
    n_rows: int
    modality: str
    features: tuple[FeatureFacts, ...] = ()
    sensitive: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    label_counts: Mapping[str, int] = field(default_factory=dict)
    weighted: bool = False
    n_clusters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectFacts:
    """What was audited: hashes, shapes and versions; no paths, no user names, no rows."""

    name: str
    task: str
    model_kind: str
    model_fingerprint: str | None
    classes: tuple[str, ...]
    positive: str | None
    score_space: str | None
    capabilities: tuple[str, ...]
    test: DataFacts
    train: DataFacts | None = None
    recipe: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedAnalyzer:
    """One analyzer of the plan with its parameters; ``asked`` when it was named, not run by default."""

    name: str
    params: Mapping[str, object] = field(default_factory=dict)
    asked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFacts:
    """The plan as run: seed, and the analyzers in order."""

    seed: int
    analyzers: tuple[PlannedAnalyzer, ...]
    reduced: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """Times and machine facts: kept beside the evidence but outside its digest."""

    started: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    python: str = ""
    platform: str = ""
    device: str = ""
    resumed: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The private, complete record of one audit.

    Attributes:
        policy: The policy document (``[groups]``, ``[defaults]``, ``[[rule]]``, ``[[waiver]]``) as plain data.
        as_of: The ISO date that the policy's waivers are judged on.
        card: The prose of ``[card]``.
        redacted: True on the shared copy that a card embeds.
        digest: ``sha256:...`` of the canonical JSON without ``run`` and ``digest``.
    """

    subject: SubjectFacts
    plan: PlanFacts
    outcomes: tuple[Outcome, ...]
    policy: Mapping[str, object] | None = None
    as_of: str | None = None
    card: Mapping[str, object] = field(default_factory=dict)
    redacted: bool = False
    run: RunFacts = field(default_factory=RunFacts)
    digest: str = ""
    schema: str = SCHEMA_ID

    def told(self) -> str:
        """What was audited, and how much was measured, in a line."""
        numbers = sum(1 for _ in self.measurements())
        return f"{self.subject.name!r}, {numbers:,} numbers of {len(self.outcomes)} analyzers ({self.tally()})"

    def tally(self) -> str:
        """How many analyzers came to which end: ``18 measured, 4 not applicable``."""
        each = Counter(outcome.status for outcome in self.outcomes)
        return ", ".join(f"{each[status]} {status.replace('_', ' ')}" for status in get_args(Status) if each[status])

    def __repr__(self) -> str:
        return f"<Evidence: {self.told()}, {self.digest or 'no digest'}>"

    @cached_property
    def meanings(self) -> Mapping[str, str]:
        """Measurement name -> what its analyzer says of it."""
        return {name: sentence for outcome in self.outcomes for name, sentence in outcome.meanings.items()}

    def measurements(self) -> Iterator[Measurement]:
        """Every measurement of every outcome, in order."""
        for outcome in self.outcomes:
            yield from outcome.measurements

    @cached_property
    def by_name(self) -> Mapping[str, Sequence[Measurement]]:
        """Every measurement under its name, in order: what looks for one name need not go through all."""
        return ByName([outcome.measurements for outcome in self.outcomes])

    def unmeasured(self) -> tuple[Outcome, ...]:
        """Outcomes that must not pass unseen: those that failed, and those that were asked for and skipped."""
        asked = {step.name for step in self.plan.analyzers if step.asked}
        return tuple(
            outcome
            for outcome in self.outcomes
            if outcome.status == "failed" or (outcome.status == "skipped" and outcome.analyzer in asked)
        )

    def artifacts(self) -> Iterator[Artifact]:
        """Every artifact of every outcome, in order."""
        for outcome in self.outcomes:
            yield from outcome.artifacts

    def counts(self) -> Iterator[Counts]:
        """Every counts artifact, in order."""
        return (artifact for artifact in self.artifacts() if isinstance(artifact, Counts))
