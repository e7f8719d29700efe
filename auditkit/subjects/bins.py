"""A number as groups: open bins whose borders stand in the names of the groups."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError


def binned(values: Any, borders: Sequence[float], *, where: str) -> npt.NDArray[Any]:
    """Names of the bins ``(n,)`` that ``values (n,)`` fall into; ``None`` where a value is missing.

    A bin holds its lower border and not its upper one. The borders are fixed by whoever asks, never by the data, so
    that two audits have the same groups.

    Args:
        values: Numbers, or text that reads as numbers.
        borders: One or more finite numbers in rising order.
        where: For errors.

    Raises:
        UsageError: AK440 a value is not a number; AK441 the borders do not rise.

    >>> binned([17, 18, 40, None, 65], [18, 65], where="age").tolist()
    ['under 18', '18 to under 65', '18 to under 65', None, '65 and over']
    """
    if not borders or not np.isfinite(borders).all() or any(b <= a for a, b in itertools.pairwise(borders)):
        raise UsageError("AK441", "the borders of bins must be finite and rise", where=where, why=f"given: {borders}")
    import pandas as pd

    column = pd.Series(np.asarray(values, dtype=object))
    column = column.where(~column.map(lambda value: isinstance(value, str) and not value.strip()), None)
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero(numbers.isna() & column.notna())
    if len(bad):
        raise UsageError(
            "AK440",
            f"{len(bad)} of {len(column)} values are not numbers, so they have no bin",
            where=where,
            fix="leave the column out of [data] bins, or mend those rows",
        )
    first = [f"under {borders[0]:g}"]
    names = [*first, *(f"{a:g} to under {b:g}" for a, b in itertools.pairwise(borders)), f"{borders[-1]:g} and over"]
    found = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    at = np.searchsorted(np.asarray(borders, dtype=np.float64), found, side="right")
    return np.array([None if np.isnan(v) else names[i] for v, i in zip(found, at.tolist(), strict=True)], dtype=object)
