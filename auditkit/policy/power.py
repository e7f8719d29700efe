"""How many rows would settle what is inconclusive."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from auditkit.policy.families import Family
from auditkit.stats.intervals import z_value

MOST_ROWS = 10**9
POWER_Z = 0.8416212335729143  # normal quantile of 0.8: settled in four of five repetitions


def smallest_rows(settled: Callable[[int], bool], start: int = 1, most: int = MOST_ROWS) -> int | None:
    """Smallest ``n`` in ``start .. most`` with ``settled(n)``, which must stay true once it is; ``None`` if none.

    >>> smallest_rows(lambda n: n >= 37)
    37
    """
    low, high = max(start, 1), max(start, 1)
    while not settled(high):
        if high >= most:
            return None
        low, high = high + 1, min(high * 2, most)
    while low < high:
        middle = (low + high) // 2
        if settled(middle):
            high = middle
        else:
            low = middle + 1
    return low


def rows_needed(
    family: Family,
    index: int,
    inside: Callable[[float, float], bool],
    outside: Callable[[float, float], bool],
    *,
    levels: tuple[float, float],
    found: tuple[float, float],
) -> int | None:
    """Rows in each group at which comparison ``index`` of ``family`` would be settled, at the rates seen.

    Settled with a power of about 80 %: the interval expected at those rows fits with 0.84 standard errors to
    spare. Without that, half of all repetitions would stay undecided.

    Groups that already have more keep what they have. Rows are all rows of a group, not only those below
    the line of the rate.

    Args:
        family: The estimates.
        index: Which comparison.
        inside: Whether limits ``(low, high)`` lie inside the rule's limit.
        outside: Whether they lie beyond it.
        levels: Two-sided levels of passing and of failing (the latter corrected for many comparisons).
        found: The limits of the comparison at the level of passing, as they are today; approximate limits say how
            they shrink with more rows.

    Source: Chow, Shao and Wang (2008), Sample Size Calculations in Clinical Research, section 3.2.

    Returns:
        ``None`` when no number of rows would settle it, e.g. when the value seen lies on the limit.
    """
    pair = family.only(index)
    rows = np.asarray(pair.estimates.rows, dtype=np.float64)
    if not (rows > 0).all():
        return None
    point = float(pair.values()[0])
    passing = inside(point, point)
    level = levels[0] if passing else levels[1]
    share = POWER_Z / z_value(level)

    today = [float(end[0]) - point for end in pair.rough_bounds(levels[0], 1.0)]
    shown = [
        (end - point) / arm if arm != 0.0 and math.isfinite(end - point) else 1.0
        for end, arm in zip(found, today, strict=True)
    ]

    def ends(n: float) -> tuple[float, ...]:
        rough = pair.rough_bounds(level, np.maximum(1.0, n / rows))
        return tuple(point + (float(end[0]) - point) * part for end, part in zip(rough, shown, strict=True))

    fixed = ends(float(MOST_ROWS))

    def settled(n: int) -> bool:
        # Only what more rows would shrink varies from one repetition to the next; a baseline's own noise stays.
        low, high = (
            # A product, which unlike a power may be infinite: limits of two rows are.
            end + share * math.copysign(math.sqrt(max((end - last) * (end + last - 2.0 * point), 0.0)), end - point)
            for end, last in zip(ends(n), fixed, strict=True)
        )
        return math.isfinite(low) and math.isfinite(high) and (inside if passing else outside)(low, high)

    needed = smallest_rows(settled, start=int(rows.min()))
    if needed is None:
        return None
    counted = rows / np.maximum(pair.totals, rows)
    return max(math.ceil(needed / float(part)) for part in counted)
