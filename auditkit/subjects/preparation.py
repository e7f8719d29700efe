"""Default preparation of inputs for a torch recipe: fitted on the training inputs only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray
from auditkit.subjects.schema import column_kind, seconds


@dataclass(frozen=True)
class NumericColumn:
    """Standardised by the training mean and deviation; a missing value takes the mean (0 after scaling)."""

    name: str
    mean: float
    scale: float


@dataclass(frozen=True)
class CategoryColumn:
    """One 0/1 column for each training category; missing and unseen values are all zeros."""

    name: str
    categories: tuple[Any, ...]


@dataclass(frozen=True)
class TablePreparation:
    """DataFrame -> float32 tensor ``(n, width)``: numbers standardised, categories one-hot."""

    columns: tuple[NumericColumn | CategoryColumn, ...]

    @property
    def width(self) -> int:
        """Number of columns of the tensor."""
        return sum(len(c.categories) if isinstance(c, CategoryColumn) else 1 for c in self.columns)

    def matrix(self, frame: Any) -> npt.NDArray[np.float32]:
        """The prepared rows ``(n, width)``."""
        parts = [_encoded(column, frame[column.name]) for column in self.columns]
        return np.concatenate(parts, axis=1).astype(np.float32) if parts else np.zeros((len(frame), 0), np.float32)

    def __call__(self, frame: Any) -> Any:
        """The prepared rows as a torch tensor."""
        import torch

        return torch.from_numpy(self.matrix(frame))


@dataclass(frozen=True)
class ArrayPreparation:
    """Array -> tensor, as it is: float32, or long for token ids."""

    tokens: bool = False

    def __call__(self, inputs: Any) -> Any:
        """The rows as a torch tensor."""
        import torch

        return torch.from_numpy(np.array(inputs, dtype=np.int64 if self.tokens else np.float32, order="C"))


def fit_table_preparation(frame: Any) -> TablePreparation:
    """Means, deviations and categories of the columns of ``frame``.

    Raises:
        UsageError: AK222 a text column, which has no default preparation.
    """
    columns: list[NumericColumn | CategoryColumn] = []
    for name in frame.columns:
        series = frame[name]
        kind = column_kind(series)
        if kind == "text":
            raise UsageError(
                "AK222",
                f"column {str(name)!r} is text and has no default preparation",
                fix="drop it, or pass TorchRecipe(prepare=...)",
            )
        if kind == "categorical":
            columns.append(CategoryColumn(name, tuple(_categories(series))))
            continue
        values = _numbers(series)
        present = values[np.isfinite(values)]
        mean = float(present.mean()) if present.size else 0.0
        deviation = float(present.std()) if present.size else 0.0
        columns.append(NumericColumn(name, mean, deviation if deviation > 0 else 1.0))
    return TablePreparation(tuple(columns))


def _categories(series: Any) -> list[Any]:
    values = list(series.dropna().unique())
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=str)


def _numbers(series: Any) -> FloatArray:
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(series.dtype) or pd.api.types.is_timedelta64_dtype(series.dtype):
        return seconds(series)
    return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))


def _encoded(column: NumericColumn | CategoryColumn, series: Any) -> FloatArray:
    if isinstance(column, NumericColumn):
        scaled = (_numbers(series) - column.mean) / column.scale
        return np.where(np.isfinite(scaled), scaled, 0.0)[:, None]
    import pandas as pd

    codes = pd.Index(column.categories, dtype=object).get_indexer(series.astype(object))
    return np.asarray(codes[:, None] == np.arange(len(column.categories))[None, :], dtype=np.float64)
