"""One section for each family of analyzers, a third party's too."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from auditkit.core.evidence import Evidence, Measurement, Outcome
from auditkit.render.charts import Chart
from auditkit.render.charts.tables import CELLS
from auditkit.render.coarse import is_rounded
from auditkit.render.html.artifacts import artifact_figures
from auditkit.render.html.figures import Figure, figures
from auditkit.render.html.names import FAMILIES, HEADLINES, about, family_title, quantity, title
from auditkit.render.html.numbers import number_block, quantities
from auditkit.render.html.view import STATUSES, FamilyView, OutcomeView, Tile
from auditkit.render.numerals import count, number, setting, span
from auditkit.render.text import clean

_TILES = 4
_OPEN = 6
_FOLDED = 6
# Curves that tell the whole of a family at a glance, by the last part of their names.
_WHOLE = frozenset(
    {
        "roc",
        "reliability",
        "dp_frontier",
        "accuracy_by_eps",
        "membership_roc",
        "membership_shadow_roc",
        "predicted_actual",
        "permutation_importance",
    }
)
_KINDS = (
    *("headline", "curve", "density", "bars", "sweep", "pictures", "groups", "counts", "settings"),
    *("intersections", "bars by group", "sweep by group", "table"),
)


def anchors_of(evidence: Evidence) -> dict[tuple[int, int], str]:
    """A stable, unique id for every measurement, by outcome and position."""
    seen: dict[str, int] = {}
    out = {}
    for place, outcome in enumerate(evidence.outcomes):
        for index, measurement in enumerate(outcome.measurements):
            anchor = "m-" + hashlib.sha256(measurement.key.encode("utf-8", "replace")).hexdigest()[:10]
            seen[anchor] = seen.get(anchor, 0) + 1
            out[place, index] = anchor if seen[anchor] == 1 else f"{anchor}-{seen[anchor]}"
    return out


def slug(text: str) -> str:
    """Letters, digits and dashes, for an id.

    >>> slug("Fairness.Selection_rate <b>")
    'fairness-selection-rate-b'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"


def family_views(evidence: Evidence, ruled: frozenset[str], cells: int = CELLS) -> tuple[FamilyView, ...]:
    """The sections, built-in families first.

    Args:
        evidence: The shared copy.
        ruled: Metrics that rules of the policy look at; their charts come first.
        cells: Most cells of a chart's table that is a real ``<table>``.
    """
    anchors = anchors_of(evidence)
    order = [*FAMILIES, *sorted({outcome.family for outcome in evidence.outcomes} - set(FAMILIES))]
    views: list[FamilyView] = []
    for family in order:
        members = [(place, outcome) for place, outcome in enumerate(evidence.outcomes) if outcome.family == family]
        if members:
            view = _family(family, members, anchors, ruled)
            view = replace(view, charts=_with_cells(view.charts, cells), folded=_with_cells(view.folded, cells))
            alike = sum(other.anchor.partition("--")[0] == view.anchor for other in views)
            views.append(replace(view, anchor=f"{view.anchor}--{alike + 1}") if alike else view)
    return tuple(views)


def _family(
    family: str,
    members: Sequence[tuple[int, Outcome]],
    anchors: Mapping[tuple[int, int], str],
    ruled: frozenset[str],
) -> FamilyView:
    drawn: list[Figure] = []
    for _, outcome in members:
        for artifact in outcome.artifacts:
            drawn += artifact_figures(artifact, outcome.measurements)
        drawn += figures(outcome.measurements)
    charts = _ordered(drawn, ruled)
    first = [figure for figure in charts if figure.kind != "table"][:_OPEN]
    first += [figure for figure in charts if figure.kind == "table" and not figure.metric.endswith(".shared")][
        : max(0, min(2, _OPEN - len(first)))
    ]
    taken = {id(figure) for figure in first}
    rest = [figure for figure in charts if id(figure) not in taken]
    return FamilyView(
        anchor=f"family-{slug(family)}",
        title=family_title(family),
        question=FAMILIES[family][1] if family in FAMILIES else "Measured by an analyzer that is not part of auditkit.",
        tiles=_tiles(members, anchors, ruled),
        charts=tuple(figure.draw() for figure in first),
        folded=tuple(figure.draw() for figure in rest[:_FOLDED]),
        dropped=max(0, len(rest) - _FOLDED),
        outcomes=tuple(outcome_view(outcome, place, anchors) for place, outcome in members),
    )


def _with_cells(charts: Sequence[Chart], cells: int) -> tuple[Chart, ...]:
    return tuple(replace(chart, cells=cells) for chart in charts)


def _ordered(drawn: Sequence[Figure], ruled: frozenset[str]) -> list[Figure]:
    """The headline, then in turn a chart of what the policy looks at and one that tells the whole, then the rest.

    Among what the policy looks at the first intersection stands second.
    """
    ranked = sorted(enumerate(drawn), key=lambda pair: (_importance(pair[1], ruled), pair[0]))
    tiers: list[list[Figure]] = [[], [], [], []]
    for _, figure in ranked:
        tiers[_importance(figure, ruled)[0]].append(figure)
    looked_at = _crossing_second(tiers[1])
    turns = itertools.chain.from_iterable(itertools.zip_longest(looked_at, tiers[2]))
    return [*tiers[0], *(figure for figure in turns if figure is not None), *tiers[3]]


def _crossing_second(figures: Sequence[Figure]) -> list[Figure]:
    """The first intersection right after the first chart: what single columns hide is among the first things to see."""
    crossing = next((figure for figure in figures if figure.kind == "intersections"), None)
    if crossing is None:
        return list(figures)
    rest = [figure for figure in figures if figure is not crossing]
    return [*rest[:1], crossing, *rest[1:]]


def _importance(figure: Figure, ruled: frozenset[str]) -> tuple[int, int, int]:
    base = quantity(figure.metric)
    # What groups have in common is not the news: of fairness the quantities whose gaps are headlines come first.
    gaps = figure.metric.startswith("fairness.")
    known = next((rank for rank, name in enumerate(HEADLINES)
                  if name.split(".")[0] == base and gaps == ("." in name)), len(HEADLINES))  # fmt: skip
    whole = figure.kind == "density" or base in _WHOLE
    looked_at = figure.metric in ruled and figure.kind != "bars by group"
    rank = 0 if figure.kind == "headline" else 1 if looked_at else 2 if whole else 3
    return (rank, _KINDS.index(figure.kind), known)


def _tiles(
    members: Sequence[tuple[int, Outcome]], anchors: Mapping[tuple[int, int], str], ruled: frozenset[str]
) -> tuple[Tile, ...]:
    """The key numbers: over all rows, best known first, one of a name before a second of it.

    What has a value stands before what has none: the gap over one column may be withheld, and that over another not.

    Of several attacks, and of several trainings with privacy, the worst stands for its name: what leaks is what the
    strongest attack finds.
    """
    found: list[tuple[tuple[int, int, int, int], Measurement, str]] = []
    repeats: dict[str, int] = {}
    for place, outcome in members:
        for index, measurement in sorted(_worst_first(outcome.measurements), key=lambda item: item[1].value is None):
            if measurement.slice or "feature" in measurement.params:
                continue
            repeats[measurement.name] = repeats.get(measurement.name, 0) + 1
            name = quantity(measurement.name)
            base = measurement.name.rsplit(".", 1)[0] if measurement.over else measurement.name
            known = HEADLINES.index(name) if name in HEADLINES else len(HEADLINES)
            rank = (repeats[measurement.name], 0 if base in ruled else 1, known, len(found))
            found.append((rank, measurement, anchors[place, index]))
    gaps = [item for item in found if item[1].over]
    if gaps and gaps[0][1].family == "fairness":  # what groups have in common is not the news
        found = gaps
    found.sort(key=lambda item: item[0])
    return tuple(_tile(measurement, anchor) for _, measurement, anchor in found[:_TILES])


def _worst_first(measurements: Sequence[Measurement]) -> list[tuple[int, Measurement]]:
    """Positions and measurements in their order, but of one name of the privacy family the worst first."""
    first: dict[str, int] = {}
    for index, measurement in enumerate(measurements):
        first.setdefault(measurement.name, index)

    def place(item: tuple[int, Measurement]) -> tuple[int, float]:
        value, direction = item[1].value, item[1].direction
        if item[1].family != "privacy" or direction == "neutral":
            return first[item[1].name], 0.0
        sign = -1.0 if direction == "lower" else 1.0
        return first[item[1].name], math.inf if value is None else sign * value

    return sorted(enumerate(measurements), key=place)


def _tile(measurement: Measurement, anchor: str) -> Tile:
    detail = []
    if measurement.value is None:
        detail.append(clean(measurement.reason or ""))
    elif measurement.interval is not None:
        detail.append(span(measurement.interval))
    if is_rounded(measurement):
        detail.append("rounded")
    if measurement.n is not None:
        detail.append(f"n\u00a0{count(measurement.n)}" + ("" if measurement.n_of == "rows" else f" {measurement.n_of}"))
    if measurement.unit and measurement.value is not None:
        detail.insert(0, clean(measurement.unit, limit=24))
    what = about(measurement)
    return Tile(
        anchor=anchor,
        label=title(measurement.name),
        value=number(measurement.value),
        detail=", ".join(detail if what == "all rows" else [*detail, what]),
        warning=clean(measurement.unreliable or ""),
    )


def outcome_view(outcome: Outcome, place: int, anchors: Mapping[tuple[int, int], str]) -> OutcomeView:
    """One analyzer: what it is, what became of it, and every number it gave."""
    how = [f"Analyzer {clean(outcome.analyzer)} {clean(outcome.version)}".strip() + "."]
    if outcome.reference:
        how.append(f"Method: {clean(outcome.reference)}.")
    if outcome.params:
        how.append(f"Settings: {_settings(outcome.params)}.")
    if outcome.seed is not None:
        how.append(f"Seed {outcome.seed}.")
    return OutcomeView(
        name=clean(outcome.analyzer),
        anchor=f"analyzer-{slug(outcome.analyzer)}-{place}",
        title=clean(outcome.title) or clean(outcome.analyzer),
        status=outcome.status,
        word=STATUSES[outcome.status],
        reason=clean(outcome.reason or ""),
        how=" ".join(how),
        notes=tuple(clean(note) for note in outcome.notes),
        count=len(outcome.measurements),
        quantities=quantities(outcome, place, anchors),
    )


def with_numbers(view: FamilyView, own: AbstractSet[str]) -> FamilyView:
    """The same section with its numbers laid out; those of ``own`` get an element, and so an anchor, of their own."""
    return replace(view, outcomes=tuple(
        replace(outcome, numbers=number_block(f"{outcome.name} ({outcome.anchor})", outcome.quantities, own))
        if outcome.quantities else outcome for outcome in view.outcomes))  # fmt: skip


def _settings(params: Mapping[str, object]) -> str:
    return "; ".join(f"{clean(name)} {setting(value)}" for name, value in sorted(params.items()))
