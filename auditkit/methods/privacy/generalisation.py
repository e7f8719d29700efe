"""Coarser versions of a table's columns, and the least coarsening that hides every row among enough others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.methods.privacy.anonymity import equivalence_classes

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

SHARES = (0.01, 0.05, 0.2)
STEPS = (32, 16, 8, 4, 2)
HIDDEN = "left out"
# Beyond this the span of the values would overflow.
_HUGE = 1e307


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One version of a column: what was done to it, and its codes ``(n,)``."""

    told: str
    codes: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """A column from as given (first) to left out (last)."""

    name: str
    levels: tuple[Level, ...]


def numeric_hierarchy(name: str, values: FloatArray) -> Hierarchy:
    """A numeric column, then in steps of a round width, each about twice the last, then left out.

    Args:
        name: The column.
        values: ``(n,)``; NaN is missing, and a value of its own at every level but the last. So are infinite values.
    """
    present = values[np.abs(values) < _HUGE]
    levels = [Level(told="as given", codes=_codes(values))]
    if len(present) and present.max() > present.min():
        spread = float(present.max() - present.min())
        smallest = float(np.min(np.diff(np.unique(present))))
        widths = dict.fromkeys(_round_width(spread / step) for step in STEPS)
        levels += [
            Level(told=f"in steps of {width:g}", codes=_codes(_steps(values, width)))
            for width in widths
            if smallest < width < spread
        ]
    return Hierarchy(name=name, levels=(*levels, _left_out(len(values))))


def _steps(values: FloatArray, width: float) -> FloatArray:
    """Number of the step of ``width`` that each value lies in; huge ones as they are."""
    with np.errstate(over="ignore"):
        return np.where(np.abs(values) < _HUGE, np.floor(values / width), values)


def categorical_hierarchy(name: str, codes: IntArray) -> Hierarchy:
    """A column of categories, then with the rare ones joined, then left out.

    Args:
        name: The column.
        codes: ``(n,)`` codes ``>= 0`` without gaps; a missing value is a category too.
    """
    counts = np.bincount(codes)
    levels = [Level(told="as given", codes=codes.astype(np.int64))]
    seen = len(counts)
    for share in SHARES:
        common = counts >= share * len(codes)
        left = int(common.sum()) + int(not common.all())
        if 1 < left < seen:
            joined = np.where(common, np.arange(len(counts)), len(counts))[codes]
            levels.append(Level(told=f"categories under {share:.0%} joined", codes=_codes(joined)))
            seen = left
    return Hierarchy(name=name, levels=(*levels, _left_out(len(codes))))


def _left_out(n: int) -> Level:
    return Level(told=HIDDEN, codes=np.zeros(n, dtype=np.int64))


def _codes(values: npt.NDArray[np.generic]) -> IntArray:
    codes: IntArray = np.unique(values, return_inverse=True)[1].astype(np.int64).ravel()
    return codes


def _round_width(width: float) -> float:
    """The next of 1, 2, 5 times a power of ten.

    >>> _round_width(3.1), _round_width(0.07), _round_width(200.0)
    (5.0, 0.1, 200.0)
    """
    power = 10.0 ** math.floor(math.log10(width))
    return float(next(base * power for base in (1.0, 2.0, 5.0, 10.0) if base * power >= width * (1 - 1e-12)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Generalised:
    """A coarsened table.

    Attributes:
        levels: Position of each column's level in its hierarchy.
        classes: ``(n,)`` equivalence classes.
        suppressed: ``(n,)`` rows to leave out, those still in classes smaller than ``k``.
    """

    levels: tuple[int, ...]
    classes: IntArray
    suppressed: npt.NDArray[np.bool_]


def generalise(hierarchies: Sequence[Hierarchy], k: int, most_suppressed: float) -> Generalised:
    """Coarsen columns until at most ``most_suppressed`` of the rows lie in classes of fewer than ``k`` rows.

    Greedy: each step coarsens the one column that hides most of these rows for the levels it gives up, then columns
    that turn out to be coarser than needed are made finer again, the last first. The result is a suggestion, not the
    optimum, which is NP-hard to find (Meyerson and Williams 2004).

    Args:
        hierarchies: The columns with their levels.
        k: Rows wanted in every class, at least 2.
        most_suppressed: Largest share of rows, in [0, 1), that may be left out instead.

    Source: after Sweeney (2002), Achieving k-anonymity privacy protection (Datafly), section 4.
    """
    allowed = int(most_suppressed * len(hierarchies[0].levels[0].codes))
    chosen = [0] * len(hierarchies)
    state = _state(hierarchies, chosen, k)
    while state.suppressed.sum() > allowed:
        best, gain = None, -1.0
        for place, hierarchy in enumerate(hierarchies):
            for level in range(chosen[place] + 1, len(hierarchy.levels)):
                tried = _state(hierarchies, _with(chosen, place, level), k)
                given_up = (level - chosen[place]) / (len(hierarchy.levels) - 1)
                found = (state.suppressed.sum() - tried.suppressed.sum()) / given_up
                if found > gain:
                    best, gain = tried, float(found)
        if best is None:  # one class of all rows, and too few of them
            break
        chosen, state = list(best.levels), best
    for place in reversed(range(len(chosen))):
        while chosen[place]:
            tried = _state(hierarchies, _with(chosen, place, chosen[place] - 1), k)
            if tried.suppressed.sum() > allowed:
                break
            chosen, state = list(tried.levels), tried
    return state


def kept_classes(found: Generalised) -> IntArray:
    """The classes of the rows that are kept, without gaps."""
    return _codes(found.classes[~found.suppressed])


def _with(chosen: Sequence[int], place: int, level: int) -> list[int]:
    return [level if at == place else old for at, old in enumerate(chosen)]


def _state(hierarchies: Sequence[Hierarchy], chosen: Sequence[int], k: int) -> Generalised:
    columns = [h.levels[level].codes for h, level in zip(hierarchies, chosen, strict=True)]
    classes = equivalence_classes(columns)
    return Generalised(levels=tuple(chosen), classes=classes, suppressed=np.bincount(classes)[classes] < k)
