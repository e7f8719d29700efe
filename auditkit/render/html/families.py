"""One section for each family of analyzers, a third party's too."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from auditkit.core.evidence import Evidence, Measurement, Outcome
from auditkit.render.html.artifacts import artifact_figures
from auditkit.render.html.figures import Figure, figures
from auditkit.render.html.names import FAMILIES, HEADLINES, about, family_title, quantity, title
from auditkit.render.html.view import STATUSES, Fact, FamilyView, NumberRow, OutcomeView, Tile
from auditkit.render.numerals import count, number, setting, span, with_unit
from auditkit.render.text import clean

_TILES = 6
_OPEN = 6
_FOLDED = 6
USUAL_LEVEL = 0.95
# Curves that tell the whole of a family at a glance, by the last part of their names.
_WHOLE = frozenset({"roc", "reliability", "dp_frontier", "accuracy_by_eps", "membership_roc", "predicted_actual"})
_KINDS = (
    *("headline", "curve", "density", "bars", "sweep", "pictures", "groups", "counts", "settings"),
    *("intersections", "sweep by group", "table"),
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


def family_views(evidence: Evidence, ruled: frozenset[str]) -> tuple[FamilyView, ...]:
    """The sections, built-in families first.

    Args:
        evidence: The shared copy.
        ruled: Metrics that rules of the policy look at; their charts come first.
    """
    anchors = anchors_of(evidence)
    order = [*FAMILIES, *sorted({outcome.family for outcome in evidence.outcomes} - set(FAMILIES))]
    views: list[FamilyView] = []
    for family in order:
        members = [(place, outcome) for place, outcome in enumerate(evidence.outcomes) if outcome.family == family]
        if members:
            view = _family(family, members, anchors, ruled)
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
            drawn += artifact_figures(artifact)
        drawn += figures(outcome.measurements)
    ordered = sorted(enumerate(drawn), key=lambda pair: (_importance(pair[1], ruled), pair[0]))
    charts = [figure for _, figure in ordered]
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
        charts=tuple(figure.chart for figure in first),
        folded=tuple(figure.chart for figure in rest[:_FOLDED]),
        dropped=max(0, len(rest) - _FOLDED),
        outcomes=tuple(outcome_view(outcome, place, anchors) for place, outcome in members),
    )


def fewer_charts(view: FamilyView, stand: int, folded: int) -> FamilyView:
    """The same section with at most ``stand`` charts open and ``folded`` below them, the first ones kept."""
    rest = (*view.charts[stand:], *view.folded)
    return replace(view, charts=view.charts[:stand], folded=rest[:folded],
                   dropped=view.dropped + max(0, len(rest) - folded))  # fmt: skip


def _importance(figure: Figure, ruled: frozenset[str]) -> tuple[int, int, int]:
    base = quantity(figure.metric)
    known = next((rank for rank, name in enumerate(HEADLINES) if name.split(".")[0] == base), len(HEADLINES))
    whole = figure.kind in ("headline", "density") or base in _WHOLE
    return (0 if whole or figure.metric in ruled else 1, _KINDS.index(figure.kind), known)


def _tiles(
    members: Sequence[tuple[int, Outcome]], anchors: Mapping[tuple[int, int], str], ruled: frozenset[str]
) -> tuple[Tile, ...]:
    """The key numbers: over all rows, best known first, one of a name before a second of it."""
    found: list[tuple[tuple[int, int, int, int], Measurement, str]] = []
    repeats: dict[str, int] = {}
    for place, outcome in members:
        for index, measurement in enumerate(outcome.measurements):
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


def _tile(measurement: Measurement, anchor: str) -> Tile:
    detail = []
    if measurement.value is None:
        detail.append(clean(measurement.reason or ""))
    elif measurement.interval is not None:
        detail.append(f"{span(measurement.interval)}")
    if measurement.n is not None:
        detail.append(f"n {count(measurement.n)}" + ("" if measurement.n_of == "rows" else f" {measurement.n_of}"))
    return Tile(
        anchor=anchor,
        label=title(measurement.name),
        about=about(measurement),
        value=number(measurement.value),
        unit=clean(measurement.unit, limit=24) if measurement.value is not None else "",
        detail=", ".join(detail),
        warning=clean(measurement.unreliable or ""),
    )


def outcome_view(outcome: Outcome, place: int, anchors: Mapping[tuple[int, int], str]) -> OutcomeView:
    """One analyzer: what it is, what became of it, and every number it gave."""
    facts: list[Fact] = [("Analyzer", f"{clean(outcome.analyzer)} {clean(outcome.version)}".strip())]
    if outcome.reference:
        facts.append(("Method", clean(outcome.reference)))
    if outcome.params:
        facts.append(("Settings", _settings(outcome.params)))
    if outcome.seed is not None:
        facts.append(("Seed", str(outcome.seed)))
    return OutcomeView(
        name=clean(outcome.analyzer),
        anchor=f"analyzer-{slug(outcome.analyzer)}-{place}",
        title=clean(outcome.title) or clean(outcome.analyzer),
        status=outcome.status,
        word=STATUSES[outcome.status],
        reason=clean(outcome.reason or ""),
        facts=tuple(facts),
        notes=tuple(clean(note) for note in outcome.notes),
        numbers=tuple(_number_row(m, anchors[place, index]) for index, m in enumerate(outcome.measurements)),
    )


def _settings(params: Mapping[str, object]) -> str:
    return "; ".join(f"{clean(name)} {setting(value)}" for name, value in sorted(params.items()))


def _number_row(measurement: Measurement, anchor: str) -> NumberRow:
    interval = measurement.interval
    how = ""
    if interval is not None:
        how = clean(interval.method) + ("" if interval.level == USUAL_LEVEL else f", {_level(interval.level)} %")
    notes = []
    if measurement.unreliable:
        notes.append(f"Not to be relied upon: {clean(measurement.unreliable)}")
    if measurement.reason:
        notes.append(clean(measurement.reason))
    return NumberRow(
        anchor=anchor,
        label=title(measurement.name),
        about=about(measurement),
        value=with_unit(measurement.value, measurement.unit),
        interval=span(interval),
        n=count(measurement.n) + ("" if measurement.n_of == "rows" else f" {measurement.n_of}"),
        how=how,
        note="; ".join(notes),
    )


def _level(level: float) -> str:
    return f"{100.0 * level:.4f}".rstrip("0").rstrip(".")


def names_used(evidence: Evidence) -> Iterable[str]:
    """The names of all measurements, each once, in order."""
    return dict.fromkeys(measurement.name for measurement in evidence.measurements())
