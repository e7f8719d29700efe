"""Every measurement of an analyzer as lined-up text: one element a number at most, so that thousands stay light."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from auditkit.core.evidence import Measurement, Outcome
from auditkit.render.charts.svg import Child, Markup, element, joined, text_lines
from auditkit.render.charts.tables import column_widths, laid_out, region
from auditkit.render.html.names import about, title
from auditkit.render.numerals import count, number, parameters, span
from auditkit.render.text import clean

USUAL_LEVEL = 0.95
COLUMNS = ("Of what", "Value", "Interval", "n", "Note")
_RIGHT = (False, True, False, True, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """All measurements of one name: a heading and a line for each, with its anchor."""

    anchor: str
    head: str
    lines: tuple[tuple[str, tuple[str, ...]], ...]


def quantities(outcome: Outcome, place: int, anchors: Mapping[tuple[int, int], str]) -> tuple[Quantity, ...]:
    """The measurements of an outcome by name, in the order of their first."""
    named: dict[str, list[tuple[str, Measurement]]] = {}
    for index, measurement in enumerate(outcome.measurements):
        named.setdefault(measurement.name, []).append((anchors[place, index], measurement))
    return tuple(_quantity(place, name, members) for name, members in named.items())


def _quantity(place: int, name: str, members: Sequence[tuple[str, Measurement]]) -> Quantity:
    measurements = [m for _, m in members]
    first = measurements[0]
    shared = {key: value for key, value in first.params.items()
              if all(key in m.params and m.params[key] == value for m in measurements)}  # fmt: skip
    unit = clean(first.unit, limit=24) if all(m.unit == first.unit for m in measurements) else None
    methods = {_method(m) for m in measurements if m.interval is not None}
    method = methods.pop() if len(methods) == 1 else None
    told = [title(name)]
    if unit:
        told.append(f"in {unit}")
    if shared and len(members) > 1:
        told.append(parameters(shared))
    if method:
        told.append(f"interval by {method}")
    digest = hashlib.sha256(f"{place}\0{name}".encode("utf-8", "replace")).hexdigest()[:8]
    return Quantity(
        anchor=f"q-{digest}",
        head=", ".join(told),
        lines=tuple((anchor, _cells(m, shared if len(members) > 1 else {}, unit, method)) for anchor, m in members),
    )


def _cells(m: Measurement, shared: Mapping[str, object], unit: str | None, method: str | None) -> tuple[str, ...]:
    notes = []
    if m.unreliable:
        notes.append(f"Not to be relied upon: {clean(m.unreliable)}")
    if m.reason:
        notes.append(clean(m.reason))
    if m.interval is not None and method is None:
        notes.append(f"interval by {_method(m)}")
    value = number(m.value)
    if unit is None and m.unit and m.value is not None:
        value += f" {clean(m.unit, limit=24)}"
    n = count(m.n) + ("" if m.n_of == "rows" else f" {clean(m.n_of, limit=24)}")
    return about(m, without=shared), value, span(m.interval), n, "; ".join(notes)


def _method(m: Measurement) -> str:
    if m.interval is None:
        return ""
    level = f"{100.0 * m.interval.level:.4f}".rstrip("0").rstrip(".")
    return clean(m.interval.method) + ("" if m.interval.level == USUAL_LEVEL else f", {level} %")


def number_block(name: str, members: Sequence[Quantity], own: AbstractSet[str]) -> Markup:
    """All numbers of an analyzer.

    Args:
        name: The analyzer.
        members: Its quantities.
        own: Anchors of the measurements that get an element of their own; the others are reached by the anchor of
            their quantity.
    """
    widths = column_widths([COLUMNS, *(cells for quantity in members for _, cells in quantity.lines)])
    parts: list[Child] = [element("b", text_lines("\n".join(laid_out(COLUMNS, widths, (False,) * len(COLUMNS)))))]
    for quantity in members:
        parts += [text_lines("\n\n"), element("b", quantity.head, id=quantity.anchor, class_="q")]
        loose: list[str] = []
        for anchor, cells in quantity.lines:
            text = "\n".join(laid_out(cells, widths, _RIGHT))
            if anchor not in own:
                loose.append("\n" + text)
                continue
            parts += [text_lines("".join(loose) + "\n"), element("span", text_lines(text), id=anchor)]
            loose = []
        parts.append(text_lines("".join(loose)))
    return region(f"all numbers of {name}", element("pre", joined(*parts)), COLUMNS)
