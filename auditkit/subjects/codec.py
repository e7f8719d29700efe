"""A table as a float matrix and back, so that methods can move rows of any dtype about.

Categories (and numbers that the schema calls categorical) become codes, missing values NaN, booleans 0 and 1,
datetimes seconds. Decoding gives the
columns and dtypes of the data set; a round trip returns the same values, or encoding refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.subject import Dataset, Feature, FloatArray
from auditkit.subjects.labels import label_name
from auditkit.subjects.schema import infer_schema, seconds

_EXACT = 2.0**53  # whole numbers below this survive float64


@dataclass(frozen=True)
class ColumnCode:
    """How one column is coded.

    Attributes:
        feature: The feature of the schema.
        label: The column's own label (not always a string).
        dtype: The column's dtype.
        how: ``number``, ``boolean``, ``time`` or ``category``.
        values: Raw categories in the order of their codes.
        missing: What a missing value was in this column: ``None``, NaN or NaT.
    """

    feature: Feature
    label: Any
    dtype: Any
    how: str
    values: tuple[Any, ...] = ()
    missing: Any = None


@dataclass(frozen=True)
class TabularCodec:
    """Encoder and decoder of tables with the columns of one data set.

    ``frame`` is False for ndarray inputs of dtype ``dtype``; then encoding is a cast to float64.
    """

    columns: tuple[ColumnCode, ...]
    frame: bool
    dtype: Any = None

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in column order."""
        return tuple(column.feature.name for column in self.columns)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Feature kinds in column order."""
        return tuple(column.feature.kind for column in self.columns)

    @property
    def categorical(self) -> npt.NDArray[np.bool_]:
        """``(f,)`` whether a column holds category codes, which have no order."""
        return np.array([column.how == "category" for column in self.columns], dtype=np.bool_)

    @property
    def categories(self) -> tuple[tuple[str, ...], ...]:
        """Names of the categories of each column in the order of their codes; empty for the others."""
        return tuple(tuple(label_name(value) for value in column.values) for column in self.columns)

    @property
    def low(self) -> FloatArray:
        """``(f,)`` smallest value of each column; ``-inf`` where unknown."""
        return np.array([_bound(column, "low") for column in self.columns])

    @property
    def high(self) -> FloatArray:
        """``(f,)`` largest value of each column; ``inf`` where unknown."""
        return np.array([_bound(column, "high") for column in self.columns])

    @property
    def immutable(self) -> npt.NDArray[np.bool_]:
        """``(f,)`` whether the schema forbids to change a column."""
        return np.array([column.feature.immutable for column in self.columns], dtype=np.bool_)

    def encode(self, inputs: Any) -> FloatArray:
        """The matrix ``(n, f)`` of a table with these columns.

        Raises:
            UsageError: AK205 other columns, AK227 unseen categories or values that a float cannot hold.
        """
        if not self.frame:
            return np.array(inputs, dtype=np.float64)
        if [str(name) for name in inputs.columns] != list(self.names):
            raise UsageError(
                "AK205",
                "the table does not have the columns of the data set",
                where="codec",
                fix="give the same columns in the same order",
            )
        matrix = np.empty((len(inputs), len(self.columns)))
        for place, column in enumerate(self.columns):
            matrix[:, place] = _encode(column, inputs.iloc[:, place])
        return matrix

    def decode(self, matrix: npt.NDArray[Any]) -> Any:
        """The table ``(n, f)`` of a matrix: columns and dtypes as in the data set, rows numbered from 0.

        Integer columns are rounded, booleans cut at 0.5, category codes rounded.

        Raises:
            UsageError: AK228 a category code that does not exist, or a missing value in a column that has none.
        """
        matrix = np.asarray(matrix, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != len(self.columns):
            raise UsageError("AK228", f"a matrix of {len(self.columns)} columns is expected, got shape {matrix.shape}")
        if not self.frame:
            whole = np.dtype(self.dtype).kind in "iub"
            if whole and np.isnan(matrix).any():
                raise _no_missing("the array", self.dtype)
            return (np.rint(matrix) if whole else matrix).astype(self.dtype)
        import pandas as pd

        blocks, others = self._blocks
        parts = [_numbers(self.columns, places, matrix[:, places]) for places in blocks]
        parts += [_decode(self.columns[place], matrix[:, place]) for place in others]
        table = pd.concat(parts, axis=1) if len(parts) > 1 else pd.DataFrame(parts[0])
        order = np.argsort([*chain.from_iterable(blocks), *others], kind="stable")
        if (np.diff(order) < 0).any():
            table = table.iloc[:, order]
        table.columns = pd.Index([column.label for column in self.columns])
        return table

    @cached_property
    def _blocks(self) -> tuple[list[list[int]], list[int]]:
        """Places of plain numbers, those of a dtype together, and of other columns. Columns made one by one are
        most of the time that a cheap model takes for a table of many."""
        blocks: dict[Any, list[int]] = {}
        others: list[int] = []
        for place, column in enumerate(self.columns):
            plain = column.how == "number" and isinstance(column.dtype, np.dtype) and column.dtype.kind in "fiu"
            (blocks.setdefault(column.dtype, []) if plain else others).append(place)
        return list(blocks.values()), others


def make_codec(dataset: Dataset, *others: Dataset) -> TabularCodec:
    """The codec of a tabular data set.

    Args:
        dataset: Its columns, dtypes and schema are used.
        others: More splits with the same columns, whose categories must be known too (the training data).

    Raises:
        UsageError: AK208 for data that is not a table.
    """
    if dataset.modality != "tabular" or np.ndim(dataset.inputs) != 2:
        raise UsageError("AK208", "only tables have a codec", why=f"the data is of modality {dataset.modality}")
    tables = [dataset.inputs, *(other.inputs for other in others)]
    schema = dataset.schema if dataset.schema.features else infer_schema(tables)
    if not hasattr(dataset.inputs, "columns"):
        columns = tuple(
            ColumnCode(feature, feature.name, dataset.inputs.dtype, "number") for feature in schema.features
        )
        return TabularCodec(columns, frame=False, dtype=dataset.inputs.dtype)
    names = list(dataset.inputs.columns)
    parts = [[table.iloc[:, place] for table in tables] for place in range(len(names))]
    coded = [
        _column_code(feature, label, series)
        for feature, label, series in zip(schema.features, names, parts, strict=True)
    ]
    return TabularCodec(tuple(coded), frame=True)


def _column_code(feature: Feature, label: Any, parts: Sequence[Any]) -> ColumnCode:
    import pandas as pd

    dtype = parts[0].dtype
    test = pd.api.types
    if isinstance(dtype, pd.CategoricalDtype):
        return ColumnCode(feature, label, dtype, "category", tuple(dtype.categories), np.nan)
    if test.is_bool_dtype(dtype):
        return ColumnCode(feature, label, dtype, "boolean")
    if test.is_datetime64_any_dtype(dtype) or test.is_timedelta64_dtype(dtype):
        return ColumnCode(feature, label, dtype, "time")
    if test.is_numeric_dtype(dtype) and feature.kind not in ("categorical", "text"):
        return ColumnCode(feature, label, dtype, "number")
    values: dict[Any, None] = {}
    missing: Any = np.nan
    for series in parts:
        absent = series.isna().to_numpy()
        if absent.any():
            missing = series.iloc[int(np.flatnonzero(absent)[0])]
        values |= dict.fromkeys(series.dropna().unique())
    return ColumnCode(feature, label, dtype, "category", tuple(_sorted(values)), missing)


def _encode(column: ColumnCode, series: Any) -> FloatArray:
    import pandas as pd

    absent = np.asarray(series.isna(), dtype=np.bool_)
    if column.how == "category":
        codes = pd.Index(column.values, dtype=object).get_indexer(series.astype(object)).astype(np.float64)
        unseen = (codes < 0) & ~absent
        if unseen.any():
            value = series.iloc[int(np.flatnonzero(unseen)[0])]
            raise UsageError(
                "AK227",
                f"column {column.feature.name!r} holds a category that the data set does not: {label_name(value)!r}",
                where="codec",
                fix="make the codec from every split that is encoded",
            )
        return np.where(absent, np.nan, codes)
    if column.how == "time":
        values = seconds(series)
        if not (_time_column(column, values).reset_index(drop=True).equals(series.reset_index(drop=True))):
            raise UsageError(
                "AK227",
                f"column {column.feature.name!r} holds times that seconds in a float cannot hold",
                where="codec",
                why="times finer than a microsecond, or before 1834 or after 2106 to the microsecond, would be changed",
                fix="round the column to seconds",
            )
        return values
    numbers: FloatArray = series.to_numpy(dtype=np.float64, na_value=np.nan)
    if pd.api.types.is_integer_dtype(column.dtype) and bool((np.abs(numbers) >= _EXACT).any()):
        raise UsageError(
            "AK227",
            f"column {column.feature.name!r} holds integers too large for a float",
            where="codec",
            fix="turn identifiers into strings, or drop the column",
        )
    return numbers


def _numbers(columns: tuple[ColumnCode, ...], places: list[int], values: FloatArray) -> Any:
    """Columns of numbers of one dtype of numpy's."""
    import pandas as pd

    dtype = columns[places[0]].dtype
    if dtype.kind in "iu":
        absent = np.isnan(values).any(axis=0)
        if absent.any():
            raise _no_missing(f"column {columns[places[int(absent.argmax())]].feature.name!r}", dtype)
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return pd.DataFrame(values.astype(dtype, copy=False), copy=False)


def _decode(column: ColumnCode, values: FloatArray) -> Any:
    import pandas as pd

    dtype = column.dtype
    absent = np.isnan(values)
    if column.how == "category":
        return _category_column(column, values, absent)
    if column.how == "time":
        return _time_column(column, values)
    whole = column.how == "boolean" or pd.api.types.is_integer_dtype(dtype)
    if whole and not isinstance(dtype, np.dtype):
        plain = (values >= 0.5) if column.how == "boolean" else np.rint(np.where(absent, 0.0, values)).astype(np.int64)
        return pd.Series(plain).astype(dtype).mask(absent)
    if whole and absent.any():
        raise _no_missing(f"column {column.feature.name!r}", dtype)
    if column.how == "boolean":
        return pd.Series(values >= 0.5)
    return pd.Series(values).astype(dtype).mask(absent)


def _category_column(column: ColumnCode, values: FloatArray, absent: npt.NDArray[np.bool_]) -> Any:
    import pandas as pd

    codes = np.rint(np.where(absent, -1.0, values)).astype(np.int64)
    if ((codes < 0) & ~absent).any() or (codes >= len(column.values)).any():
        raise UsageError(
            "AK228",
            f"column {column.feature.name!r} has {len(column.values)} categories; another code was given",
            where="codec",
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        return pd.Series(pd.Categorical.from_codes(codes, dtype=column.dtype))
    table = np.empty(len(column.values) + 1, dtype=object)
    for code, value in enumerate(column.values):
        table[code] = value
    table[-1] = column.missing
    return pd.Series(table[codes], dtype=column.dtype)


def _time_column(column: ColumnCode, values: FloatArray) -> Any:
    import pandas as pd

    absent = np.isnan(values)
    micro = np.rint(np.where(absent, 0.0, values) * 1e6).astype(np.int64)
    if pd.api.types.is_timedelta64_dtype(column.dtype):
        spans = micro.astype("timedelta64[us]")
        spans[absent] = np.timedelta64("NaT")
        return pd.Series(spans).astype(column.dtype)
    stamps = micro.astype("datetime64[us]")
    stamps[absent] = np.datetime64("NaT")
    series = pd.Series(stamps)
    if getattr(column.dtype, "tz", None) is not None:
        series = series.dt.tz_localize("UTC").dt.tz_convert(column.dtype.tz)
    return series.astype(column.dtype)


def _bound(column: ColumnCode, side: str) -> float:
    if column.how == "category":
        return 0.0 if side == "low" else float(max(len(column.values) - 1, 0))
    value = getattr(column.feature, side)
    if value is not None:
        return float(value)
    return -np.inf if side == "low" else np.inf


def _sorted(values: dict[Any, None]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=lambda value: (type(value).__name__, str(value)))


def _no_missing(what: str, dtype: Any) -> UsageError:
    return UsageError(
        "AK228", f"{what} of {dtype} cannot hold a missing value", where="codec", fix="leave that column complete"
    )
