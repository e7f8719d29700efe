"""How much of the evidence is drawn: a page stays light to load and to read aloud, and no number is lost.

Every measurement is in a table of text, which costs its analyzer one element. What is left of the budget goes to
charts, one of each family in turn, and then to an anchor of its own for each measurement; one without is reached by
the anchor of its quantity.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from auditkit.core.evidence import Evidence
from auditkit.render.charts import Chart
from auditkit.render.charts.tables import CELLS
from auditkit.render.html.families import with_numbers
from auditkit.render.html.view import CardView, FamilyView

SIZE = 640_000
SLACK = 1_500
# For charts and anchors of a page whose tables alone take about that size or more: no page is without a drawing.
LEAST = 60_000
NODES = 3_990
OPEN = 6
MOST = 12
# So many measurements get an anchor of their own before more charts are drawn.
OWN = 150
LARGE = 250
_ELEMENT = re.compile(r"<[a-z]")
_ANCHOR_BYTES = 30


def cells_of(evidence: Evidence) -> int:
    """The largest table that is a real ``<table>``: none on the page of a large audit, where elements are scarce."""
    return 0 if sum(1 for _ in evidence.measurements()) > LARGE else CELLS


def fitted(view: CardView, page: Callable[[CardView], str]) -> str:
    """The page with as many charts and anchors as :data:`NODES` elements and :data:`SIZE` bytes (or :data:`LEAST` more
    than its tables take) allow.

    Args:
        view: Everything that could be shown.
        page: The page of a view.
    """
    linked = [tile.anchor for family in view.families for tile in family.tiles]
    order = _anchors(view, linked)
    bare = page(_shown(view, [0] * len(view.families), frozenset(linked)))
    nodes, size = elements(bare), len(bare.encode())
    want = min(len(order), OWN)
    left = [NODES - nodes - want - 5 * len(view.families), max(SIZE - size, LEAST) - SLACK - want * _ANCHOR_BYTES]
    drawn = _drawn(view.families, left)
    own = len(linked) + max(0, want + min(left[0], left[1] // _ANCHOR_BYTES))
    return page(_shown(view, drawn, frozenset(order[:own])))


def elements(page: str) -> int:
    """Elements of a page, its inert copy of the evidence left out."""
    return len(_ELEMENT.findall(page.partition('<script type="application/json"')[0]))


def _drawn(families: tuple[FamilyView, ...], left: list[int]) -> list[int]:
    """How many charts of each family fit: the first of each, then the second of each, and so on; reduces ``left``."""
    drawn = [0] * len(families)
    full: set[int] = set()
    for turn in range(MOST):
        for index, family in enumerate(families):
            charts = (*family.charts, *family.folded)
            if index in full or turn >= len(charts):
                continue
            nodes, size = _cost(charts[turn])
            if nodes > left[0] or size > left[1]:
                full.add(index)
                continue
            left[0] -= nodes
            left[1] -= size
            drawn[index] += 1
    return drawn


def _cost(chart: Chart) -> tuple[int, int]:
    text = chart.figure().text
    return len(_ELEMENT.findall(text)), len(text.encode())


def _shown(view: CardView, drawn: list[int], own: frozenset[str]) -> CardView:
    families = (_fewer(family, count) for family, count in zip(view.families, drawn, strict=True))
    return replace(view, families=tuple(with_numbers(family, own) for family in families))


def _fewer(view: FamilyView, count: int) -> FamilyView:
    charts = (*view.charts, *view.folded)
    dropped = view.dropped + max(0, len(charts) - count)
    return replace(view, charts=charts[:count][:OPEN], folded=charts[:count][OPEN:], dropped=dropped)


def _anchors(view: CardView, linked: list[str]) -> list[str]:
    """Anchors of all measurements: what the page links to, then numbers over all rows, then the rest."""
    lines = [line for family in view.families for outcome in family.outcomes for quantity in outcome.quantities
             for line in quantity.lines]  # fmt: skip
    whole = [anchor for anchor, cells in lines if cells[0].startswith("all rows")]
    return list(dict.fromkeys([*linked, *whole, *(anchor for anchor, _ in lines)]))
