"""Numbers of an evidence worked out again from what else it holds: counts, rows behind a share, values of groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from auditkit.core.errors import AuditkitError
from auditkit.core.evidence import Counts, Evidence, Interval, Measurement, Outcome
from auditkit.core.gap_names import metric_and_kind
from auditkit.render.coarse import hides
from auditkit.stats.estimate import Estimate
from auditkit.stats.intervals import clopper_pearson, wilson
from auditkit.stats.rebuilt import middle_of, rebuilt

if TYPE_CHECKING:
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    IntArray = npt.NDArray[np.int64]

Quantity = tuple[str, tuple[tuple[str, str], ...]]
State = Literal["holds", "differs", "value", "left"]
Source = Literal["counts", "rows", "groups", "interval"]
# Largest gap in complete evidence, and in a shared copy, whose numbers have six digits; relative above 1.
EXACT, ROUNDED = 1e-9, 2e-5

RATES = "fairness.groups"
SCORES = "performance"
MEANS: tuple[Literal["precision"], Literal["recall"], Literal["f1"]] = ("precision", "recall", "f1")
DECISIONS = frozenset({"accuracy", "balanced_accuracy", "precision", "recall", "f1"})

NO_INTERVAL = "has no interval, and nothing else in the evidence gives the value"
WITHHELD = "withheld or rounded in this copy, for the privacy of small groups"
ABSENT = "has no value; the evidence says why"
HIDDEN_COUNTS = "rests on counts that are withheld in this copy"
OTHER_RELEASE = "was made by another release, which works out this interval in another way"
_WHY = (
    ("bootstrap", "rests on resampled rows"),
    ("permutation", "rests on permuted rows"),
    ("trainings", "rests on training runs"),
    ("matched", "needs each row before and after the change"),
    ("auc", "needs every row's score"),
    ("delong", "needs every row's score"),
    ("order statistics", "needs every row's own value"),
)
_ROWS = "needs every row's own value"
_WEIGHTED = "rests on weighted or clustered rows that are not in the evidence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A number worked out again.

    ``interval`` is ``None`` where there is none, or where ``bounded`` is false and it is not known, for the reason
    ``lack``. What is not ``sure`` counts only where it agrees.
    """

    value: float
    interval: Interval | None
    source: Source
    bounded: bool = True
    lack: str = ""
    scale: float = 1.0
    sure: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What became of one number: ``holds``, ``differs``, only its ``value`` holds, or it was ``left``, with why."""

    key: str
    state: State
    interval: bool = False
    source: str = ""
    why: str = ""


def compared(evidence: Evidence) -> Iterator[Compared]:
    """Every measurement of ``evidence`` beside what the rest of the evidence gives for it."""
    tolerance = ROUNDED if evidence.redacted else EXACT
    plain = not evidence.subject.test.weighted and evidence.subject.test.n_clusters is None
    for outcome in evidence.outcomes:
        counted = _counted(outcome, evidence)
        # An earlier release gave shares score limits: its numbers and their gaps follow from those, not from counts.
        earlier = any(m.interval is not None and m.interval.method == "wilson" for m in outcome.measurements)
        for m in outcome.measurements:
            if m.value is None:
                yield Compared(key=m.key, state="left", why=WITHHELD if hides(m) else ABSENT)
            elif hides(m):
                yield Compared(key=m.key, state="left", why=WITHHELD)
            else:
                alone = _off_center(m) or _alone(m) if plain else None
                direct, apart = counted.get(m.key), alone or _gap(m, outcome, plain)
                again = apart or direct if earlier else direct or apart
                hidden = evidence.redacted and bool(evidence.subject.classes) and _of_counts(m, outcome)
                why = HIDDEN_COUNTS if hidden else _why(m, plain)
                yield _judged(m, again, tolerance, why)


def _of_counts(m: Measurement, outcome: Outcome) -> bool:
    decided = m.name.removeprefix("performance.").removesuffix(".difference") in DECISIONS
    rate = outcome.analyzer == RATES and m.interval is not None
    return rate or (outcome.analyzer == SCORES and decided)


def _judged(m: Measurement, again: Again | None, tolerance: float, lack: str) -> Compared:
    """One number beside what was worked out; ``lack`` is why that may be nothing."""
    if again is None:
        return Compared(key=m.key, state="left", why=lack)
    slack = tolerance * max(1.0, again.scale, abs(again.value))
    close = abs((m.value or 0.0) - again.value) <= slack
    why = "" if again.bounded else again.lack or lack
    if again.bounded and m.interval and again.interval and m.interval.method != again.interval.method:
        why = OTHER_RELEASE
    if not why:
        close = close and _same(m.interval, again.interval, slack)
    if not close and not again.sure:
        return Compared(key=m.key, state="left", why=_WEIGHTED)
    if not close:
        return Compared(key=m.key, state="differs", source=again.source, why=_told(m, again))
    state: State = "value" if why else "holds"
    return Compared(key=m.key, state=state, interval=not why and m.interval is not None, source=again.source, why=why)


def _same(one: Interval | None, two: Interval | None, slack: float) -> bool:
    if one is None or two is None:
        return one is two
    return abs(one.low - two.low) <= slack and abs(one.high - two.high) <= slack


def _told(m: Measurement, again: Again) -> str:
    def said(value: float | None, interval: Interval | None) -> str:
        ends = "" if interval is None else f" [{interval.low:.6g}, {interval.high:.6g}]"
        return f"{value:.6g}{ends}"

    follows = said(again.value, again.interval)
    return f"{said(m.value, m.interval)} is written, {follows} follows from the {again.source}"


def _why(m: Measurement, plain: bool) -> str:
    if m.interval is None:
        return NO_INTERVAL
    found = next((why for word, why in _WHY if word in m.interval.method), None)
    return found or (_ROWS if plain else _WEIGHTED)


# From counts --------------------------------------------------------------------------------------------


def _counted(outcome: Outcome, evidence: Evidence) -> dict[str, Again]:
    if outcome.analyzer == RATES:
        return _group_rates(outcome)
    if outcome.analyzer == SCORES:
        return _decisions(outcome, evidence)
    return {}


def _group_rates(outcome: Outcome) -> dict[str, Again]:
    """All that ``fairness.groups`` says of its counts, by the function that said it."""
    from auditkit.analyzers.fairness.groups import ANALYZER, GroupsParams, measured_from

    try:
        params = GroupsParams.model_validate(dict(outcome.params))
    except ValueError:
        return {}
    own = {m.key: m for m in outcome.measurements}
    found = {}
    for counts in outcome.artifacts:
        if not isinstance(counts, Counts) or len(counts.groups) > params.max_groups:
            continue
        try:
            made = list(measured_from(counts, params))
        except AuditkitError:
            continue
        for m in made:
            written = own.get(m.key)
            # Fewer rows in the counts than behind the number: groups were withheld from this copy.
            if written is not None and m.value is not None and m.n == written.n:
                known = outcome.version == ANALYZER.version
                found[m.key] = Again(
                    value=m.value, interval=m.interval, source="counts", bounded=known, lack=OTHER_RELEASE
                )
    return found


def _decisions(outcome: Outcome, evidence: Evidence) -> dict[str, Again]:
    """What ``performance`` says of decisions alone: of all rows, of each group whose cells are here, and the gaps."""
    from auditkit.analyzers.performance.metrics import ANALYZER
    from auditkit.stats.gaps import largest_gap

    found: dict[str, Again] = {}
    limits: dict[str, Any] = {"bounded": outcome.version == ANALYZER.version, "lack": OTHER_RELEASE}
    own, level = {m.key: m for m in outcome.measurements}, _level(outcome)
    for counts in evidence.counts():
        if counts.weight is not None or counts.moment is not None or len(counts.over) > 1:
            continue
        groups: dict[Quantity, dict[str, Estimate]] = {}
        for group, block in zip(counts.groups, counts.n, strict=True):
            for quantity, estimate in _estimates(np.array(block, dtype=np.int64), counts).items():
                groups.setdefault(quantity, {})["|".join(group)] = estimate
                if estimate.value is not None:
                    key = _key(quantity, "", slice=dict(zip(counts.over, group, strict=True)))
                    found[key] = Again(
                        value=estimate.value, interval=estimate.interval(level), source="counts", **limits
                    )
        for quantity, each in groups.items() if counts.over else ():
            key = _key(quantity, ".difference", over=counts.over)
            gap = largest_gap(each, level, 1.0)
            if gap.value is not None and key in own and own[key].n == gap.n:
                found[key] = Again(value=gap.value, interval=gap.interval, source="counts", **limits)
    return found


def _estimates(cells: IntArray, counts: Counts) -> dict[Quantity, Estimate]:
    from auditkit.methods.performance import counted

    found: dict[Quantity, Estimate] = {
        ("accuracy", ()): counted.share(int(np.trace(cells)), int(cells.sum()), "no rows"),
        ("balanced_accuracy", ()): counted.macro(cells, counts.classes, "recall"),
    }
    if counts.positive is not None:
        each = counted.class_estimates(cells, counts.positive)
        return found | {(kind, ()): estimate for kind, estimate in each.items()}
    for kind in MEANS:
        found[kind, (("average", "macro"),)] = counted.macro(cells, counts.classes, kind)
    for code, name in enumerate(counts.classes):
        each = counted.class_estimates(cells, code)
        found |= {(kind, (("class", name),)): estimate for kind, estimate in each.items()}
    return found


def _key(quantity: Quantity, suffix: str, **where: Any) -> str:
    name, params = quantity
    return Measurement(name=f"performance.{name}{suffix}", value=0.0, params=dict(params), **where).key


def _level(outcome: Outcome) -> float:
    level = outcome.params.get("confidence")
    return level if isinstance(level, float) else 0.95


# From the rows behind a share ----------------------------------------------------------------------------


def _alone(m: Measurement) -> Again | None:
    """A share with exact or Wilson limits: its value and its rows give them."""
    if m.interval is None or m.value is None or not m.n or m.interval.method not in ("wilson", "clopper-pearson"):
        return None
    hits = m.value * m.n
    whole = abs(hits - round(hits)) <= 1e-5 * max(1.0, hits)
    value = round(hits) / m.n if whole else m.value
    if m.interval.method == "wilson":
        return Again(value=value, interval=wilson(value, m.n, m.interval.level), source="rows", sure=whole)
    if not whole:
        return None
    return Again(value=value, interval=clopper_pearson(round(hits), m.n, m.interval.level), source="rows")


def _off_center(m: Measurement) -> Again | None:
    """The middle of an interval that is made around its value, where that is not the value."""
    middle = middle_of(m)
    if m.value is None or middle is None or abs(middle - m.value) <= ROUNDED * max(1.0, abs(m.value)):
        return None
    return Again(value=middle, interval=m.interval, source="interval")


# From the values of groups -------------------------------------------------------------------------------


def _gap(m: Measurement, outcome: Outcome, plain: bool) -> Again | None:
    """A difference or ratio from the groups that it ranges over; its interval where theirs can be had at any level."""
    base, _, kind = m.name.rpartition(".")
    if kind not in ("difference", "ratio") or not m.over or m.slice or m.value is None:
        return None
    groups = [o for o in outcome.measurements
              if o.name == base and o.slice.keys() == set(m.over) and o.params == m.params]  # fmt: skip
    values = [o.value for o in groups if o.value is not None and not hides(o)]
    # A group that was withheld, or of which only some columns are here, would change the gap.
    if len(values) < 2 or len(values) < len(groups) or sum(o.n or 0 for o in groups) != m.n:
        return None
    if kind == "ratio" and (min(values) < 0 or max(values) <= 0):
        return None
    value = max(values) - min(values) if kind == "difference" else min(values) / max(values)
    scale = max(map(abs, values))
    interval = _gap_interval(m, groups) if plain and m.interval is not None else None
    bounded = m.interval is None or interval is not None
    return Again(value=value, interval=interval, source="groups", bounded=bounded, scale=scale)


def _gap_interval(m: Measurement, groups: Sequence[Measurement]) -> Interval | None:
    """The interval of a gap from the estimates behind the groups' own numbers, as all gaps are bounded."""
    from auditkit.methods.fairness.expected_rates import CellRates
    from auditkit.methods.fairness.worst import simultaneous_gap

    each = [rebuilt(o) for o in groups]
    known = tuple(estimate for estimate in each if estimate is not None)
    if m.interval is None or len(known) < len(each):
        return None
    kind = metric_and_kind(m.name)[1] or "difference"
    found = simultaneous_gap(CellRates(known), kind, m.interval.level, bounds=(0.0, m.bounds[1])).interval
    return found if found is not None and found.method == m.interval.method else None
