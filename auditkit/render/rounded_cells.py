"""Rates of groups with a withheld cell, from cells that are rounded so that they still add up to the sums shown.

Where the rows of a group by label and by decision may be shown, its four cells have one unknown left: of how many
positives were missed, all follow. That number is rounded to a multiple of the smallest count that may be shown, and
every rate of the group is that of the rounded cells: they agree with one another, and tell no more than the rounding.
What would be rounded to none is a quarter of a step instead, and no cell is rounded to an empty one: nobody shall read
that none were missed where some may have been.

Source: Cox (1987), A constructive procedure for unbiased controlled rounding, JASA 82; Hundepool et al. (2012),
Statistical Disclosure Control, section 4.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from auditkit.core.evidence import Measurement
from auditkit.render.groups import Group, group_of

#: Wrong and right decisions: true negatives, false positives, false negatives, true positives.
Cells = tuple[int, int, int, int]
#: Rates of the groups that a disparity is between: as measured, and as shown.
Sides = tuple[Sequence[float | None], Sequence[float | None]]
# Groups of so many rows or more are shown to three decimals.
_MANY = 1000
# A disparity that is the worse of those of two rates.
_WORST: Mapping[str, tuple[str, ...]] = {"equalized_odds": ("true_positive_rate", "false_positive_rate")}
# Disparities that are of several rates of cells.
_OF_SEVERAL = frozenset({*_WORST, "average_odds", "conditional_use_accuracy", "average_predictive_value"})
# How often sums of sums are gone through: columns, crossed columns, and back.
_ROUNDS = 4
_Parts = tuple[float, float]

# What each rate is of the cells: what is counted, and of what.
_RATES: Mapping[str, Callable[[int, int, int, int], tuple[_Parts, ...]]] = {
    "true_positive_rate": lambda tn, fp, fn, tp: ((tp, tp + fn),),
    "false_negative_rate": lambda tn, fp, fn, tp: ((fn, tp + fn),),
    "true_negative_rate": lambda tn, fp, fn, tp: ((tn, tn + fp),),
    "false_positive_rate": lambda tn, fp, fn, tp: ((fp, tn + fp),),
    "positive_predictive_value": lambda tn, fp, fn, tp: ((tp, tp + fp),),
    "false_discovery_rate": lambda tn, fp, fn, tp: ((fp, tp + fp),),
    "negative_predictive_value": lambda tn, fp, fn, tp: ((tn, tn + fn),),
    "false_omission_rate": lambda tn, fp, fn, tp: ((fn, tn + fn),),
    "f1": lambda tn, fp, fn, tp: ((2 * tp, 2 * tp + fp + fn),),
    "threat_score": lambda tn, fp, fn, tp: ((tp, tp + fp + fn),),
    "false_negative_share": lambda tn, fp, fn, tp: ((fn, fn + fp),),
    "treatment_ratio": lambda tn, fp, fn, tp: ((fn, fp),),
    "accuracy": lambda tn, fp, fn, tp: ((tp + tn, tn + fp + fn + tp),),
    "error_rate": lambda tn, fp, fn, tp: ((fp + fn, tn + fp + fn + tp),),
    "balanced_accuracy": lambda tn, fp, fn, tp: ((tp, tp + fn), (tn, tn + fp)),
}
_SAME = {"recall": "true_positive_rate", "precision": "positive_predictive_value", "specificity": "true_negative_rate"}


def of_cells(name: str) -> bool:
    """Whether a measurement of this name is a rate of the cells of its group."""
    return _quantity(name) in _RATES


def of_cells_between(name: str) -> bool:
    """Whether a disparity of this name is between rates of the cells of groups, or a mean or the worst of such."""
    base, _, kind = name.rpartition(".")
    return kind in _GAPS and (of_cells(base) or _quantity(base) in _OF_SEVERAL)


def rate(name: str, cells: Cells) -> float | None:
    """The rate called ``name`` of ``cells``; ``None`` where it is of no rows, or not known.

    >>> rate("performance.recall", (21, 20, 8, 65)), rate("a.accuracy", (1, 1, 1, 1)), rate("a.f1", (1, 0, 0, 0))
    (0.8904109589041096, 0.5, None)
    """
    parts = _RATES[_quantity(name)](*cells) if of_cells(name) else ()
    if not parts or any(not below for _, below in parts):
        return None
    return sum(above / below for above, below in parts) / len(parts)


def _quantity(name: str) -> str:
    last = name.rsplit(".", 1)[-1]
    return _SAME.get(last, last)


@dataclass(frozen=True, slots=True)
class RoundedCells:
    """The cells of groups as counted, and as rounded where that tells too little about any."""

    true: Mapping[Group, Cells]
    shown: Mapping[Group, Cells]

    def value(self, measurement: Measurement) -> float | None:
        """A rate of the group from its rounded cells; ``None`` where it is not the rate of the cells counted."""
        name, group, exact = measurement.name, group_of(measurement), measurement.value
        if exact is None or group not in self.shown:
            return None
        counted = rate(name, self.true[group])
        if counted is None or abs(counted - exact) > 1e-5 * max(1.0, abs(exact)):
            return None
        found = rate(name, self.shown[group])
        return None if found is None else _told(found, 2 if sum(self.shown[group]) < _MANY else 3)


def _told(found: float, places: int) -> float:
    """A rate to so many decimals; to more where it would become 0 or 1, and is neither.

    >>> _told(0.86301, 2), _told(0.99889, 2), _told(1.0, 2)
    (0.86, 0.999, 1.0)
    """
    near = round(found, places)
    return near if near not in (0.0, 1.0) or near == found else _told(found, places + 1)


NO_CELLS = RoundedCells(true={}, shown={})


def round_cells(
    true: Mapping[Group, Cells],
    others: Mapping[Group, tuple[int, int]],
    sums: Iterable[Sequence[Group]],
    missed: int,
    step: int,
) -> RoundedCells:
    """Round the cells of the groups ``true`` together.

    Args:
        true: Group -> cells, of groups whose sums are shown and whose cells are not.
        others: Every other group -> the fewest and most missed positives that it can have.
        sums: Groups whose missed positives add up to a number that can be known: ``(whole, part, part ...)``, the whole
            being ``()`` where it is all rows.
        missed: Missed positives of all rows.
        step: The smallest count that may be shown.

    Returns:
        Rounded cells, of the groups for which what is shown of the others leaves enough values; no groups at all where
        the sums alone leave too few.
    """
    lines = [tuple(line) for line in sums]
    shown = {group: _rounded(cells, step) for group, cells in true.items()}
    while narrow := _narrow({**others, **_spans(true, shown, step)}, lines, missed, step):
        if narrow.isdisjoint(shown):
            return NO_CELLS
        shown = {group: fn for group, fn in shown.items() if group not in narrow}
    return RoundedCells(true=true, shown={group: _moved(true[group], fn) for group, fn in shown.items()})


def _spans(true: Mapping[Group, Cells], shown: Mapping[Group, int], step: int) -> dict[Group, tuple[int, int]]:
    """The fewest and most missed positives of each group: those that its sums allow, and what is shown."""
    spans = {}
    for group, cells in true.items():
        low, high = _span(cells)
        if group in shown:
            alike = _nearest(cells[2], step)[1]
            low, high = max(low, alike.start), min(high, alike.stop - 1)
        spans[group] = low, high
    return spans


def _span(cells: Cells) -> tuple[int, int]:
    """The fewest and most missed positives that the sums allow."""
    tn, fp, fn, tp = cells
    return max(0, fn - fp), min(fn + tp, fn + tn)


def _nearest(fn: int, step: int) -> tuple[int, range]:
    """The multiple of ``step`` that is nearest, the smaller of two, with all numbers of which it is.

    >>> _nearest(5, 10), _nearest(6, 10)
    ((0, range(0, 6)), (10, range(6, 16)))
    """
    found = step * max(0, (fn + (step - 1) // 2) // step)
    return found, range(max(0, found - (step - 1) // 2), found + step // 2 + 1)


def _rounded(cells: Cells, step: int) -> int:
    low, high = _span(cells)
    if high - low > 1:  # no cell becomes empty
        low, high = low + 1, high - 1
    return min(max(_nearest(cells[2], step)[0] or step // 4, low), high)


def _moved(cells: Cells, fn: int) -> Cells:
    more = fn - cells[2]
    return cells[0] - more, cells[1] + more, fn, cells[3] - more


def _narrow(
    spans: dict[Group, tuple[int, int]], lines: Sequence[tuple[Group, ...]], missed: int, step: int
) -> frozenset[Group]:
    """Members of a sum that leaves one of them, whose number is not known, fewer values than half of ``step``."""
    unknown = {group for group, span in spans.items() if _width(span)}
    for _ in range(_ROUNDS):
        for line in lines:
            _tighten(spans, line, missed)
    tight = {group for group in unknown if _width(spans[group]) < step // 2}
    return frozenset(member for line in lines if not tight.isdisjoint(line) for member in line if member in unknown)


def _width(span: tuple[int, int]) -> int:
    return span[1] - span[0]


def _tighten(spans: dict[Group, tuple[int, int]], line: Sequence[Group], missed: int) -> None:
    """Keep of each member's values those that the others leave: the first is the sum of the rest."""
    whole, *parts = line
    if any(part not in spans for part in parts) or (whole and whole not in spans):
        return
    low, high = spans[whole] if whole else (missed, missed)
    lows, highs = sum(spans[part][0] for part in parts), sum(spans[part][1] for part in parts)
    for part in parts:
        a, b = spans[part]
        spans[part] = (max(a, low - (highs - b)), min(b, high - (lows - a)))
    if whole:
        spans[whole] = (max(low, lows), min(high, highs))


def parts_of(gap: Measurement) -> tuple[str, ...]:
    """The names of the rates that a disparity is of: one, or those of which it is the worst."""
    base = gap.name.rsplit(".", 1)[0]
    family, _, last = base.rpartition(".")
    return tuple(f"{family}.{name}" for name in _WORST[last]) if last in _WORST else (base,)


def gap_of(gap: Measurement, sides: Sequence[Sides]) -> float | None:
    """What rates differ by as shown, where the ``gap`` measured is what they differ by exactly; else ``None``.

    A rate that is not defined takes no part; one that is withheld leaves the gap unknown.
    """
    of = _GAPS.get(gap.name.rsplit(".", 1)[-1])
    if of is None or gap.value is None:
        return None
    exact, shown = [], []
    for measured, told in sides:
        pairs = [(a, b) for a, b in zip(measured, told, strict=True) if a is not None]
        rates = [b for _, b in pairs if b is not None]
        if len(rates) < max(2, len(pairs)):
            return None
        exact.append(of([a for a, _ in pairs]))
        shown.append(of(rates))
    worst = max if of is _difference else min
    return round(worst(shown), 3) if exact and abs(worst(exact) - gap.value) < 1e-9 else None


def _difference(rates: Sequence[float]) -> float:
    return max(rates) - min(rates)


def _ratio(rates: Sequence[float]) -> float:
    return min(rates) / max(rates) if max(rates) > 0.0 else math.nan


_GAPS = {"difference": _difference, "ratio": _ratio}
