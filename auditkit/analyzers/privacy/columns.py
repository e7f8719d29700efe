"""Columns of one split by name: the model's inputs first, then the sensitive ones."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.subject import Dataset, FloatArray, IntArray


def column_names(data: Dataset) -> tuple[str, ...]:
    """Names of every column that :func:`column` can give; duplicates once."""
    inputs = [str(name) for name in data.inputs.columns] if hasattr(data.inputs, "columns") else list(data.schema.names)
    if data.modality != "tabular" or not _is_table(data):
        inputs = []
    return tuple(dict.fromkeys([*inputs, *data.sensitive]))


def column(data: Dataset, name: str) -> npt.NDArray[Any] | Any:
    """The column as a pandas Series (inputs that are a DataFrame) or an array ``(n,)``.

    Raises:
        UsageError: AK610 when there is no such column, with the nearest name.
    """
    names = column_names(data)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise UsageError(
            "AK610",
            f"there is no column {name!r} in the data",
            why=f"the nearest is {near[0]!r}" if near else f"there are {', '.join(names[:12]) or 'no named columns'}",
            fix='name columns of the data: [analyzer."privacy.table"] quasi_identifiers = ["age", "sex"]',
        )
    if hasattr(data.inputs, "columns"):
        places = [place for place, other in enumerate(data.inputs.columns) if str(other) == name]
        if places:
            return data.inputs.iloc[:, places[0]]
    elif name in data.schema.names and _is_table(data):
        return np.asarray(data.inputs)[:, data.schema.names.index(name)]
    return data.sensitive[name]


def as_numbers(values: Any) -> FloatArray | None:
    """The column as float64 with NaN for missing, or ``None`` where its values have no order."""
    import pandas as pd

    from auditkit.subjects.schema import seconds

    series = pd.Series(values)
    kinds = pd.api.types
    if kinds.is_datetime64_any_dtype(series.dtype) or kinds.is_timedelta64_dtype(series.dtype):
        return seconds(series)
    if isinstance(series.dtype, pd.CategoricalDtype) or kinds.is_bool_dtype(series.dtype):
        return None
    if not kinds.is_numeric_dtype(series.dtype):
        return None
    return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))


def as_codes(values: Any) -> IntArray:
    """The column as codes ``>= 0`` without gaps, in the order of the values where they have one, then missing."""
    import pandas as pd

    series = pd.Series(values)
    try:
        codes, found = pd.factorize(series, sort=True, use_na_sentinel=True)
    except TypeError:  # values of several kinds have no common order
        codes, found = pd.factorize(series, use_na_sentinel=True)
    return np.where(codes < 0, len(found), codes).astype(np.int64)


def _is_table(data: Dataset) -> bool:
    return hasattr(data.inputs, "columns") or getattr(data.inputs, "ndim", 0) == 2
