"""How many rows would settle what is inconclusive."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from auditkit.policy.families import Family

MOST_ROWS = 10**9


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
) -> int | None:
    """Rows in each group at which comparison ``index`` of ``family`` would be settled, at the rates seen.

    Groups that already have more keep what they have. Rows are all rows of a group, not only those below
    the line of the rate.

    Args:
        family: The estimates.
        index: Which comparison.
        inside: Whether limits ``(low, high)`` lie inside the rule's limit.
        outside: Whether they lie beyond it.
        levels: Two-sided levels of passing and of failing (the latter corrected for many comparisons).

    Returns:
        ``None`` when no number of rows would settle it, e.g. when the value seen lies on the limit.
    """
    ends = sorted({int(family.left[index]), int(family.right[index])})
    rows = np.asarray(family.estimates.rows, dtype=np.float64)
    if any(rows[end] <= 0 for end in ends):
        return None
    point = float(family.values()[index])
    passing = inside(point, point)
    level = levels[0] if passing else levels[1]

    def settled(n: int) -> bool:
        factor = np.ones(len(rows))
        for end in ends:
            factor[end] = max(1.0, n / rows[end])
        low, high = family.bounds(level, factor)
        ends_known = math.isfinite(low[index]) and math.isfinite(high[index])
        return bool(ends_known and (inside if passing else outside)(float(low[index]), float(high[index])))

    found = smallest_rows(settled, start=int(min(rows[end] for end in ends)))
    if found is None:
        return None
    shares = [float(rows[end]) / max(float(family.totals[end]), float(rows[end])) for end in ends]
    return max(math.ceil(found / share) for share in shares)
