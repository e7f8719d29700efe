"""The inputs of both splits as one comparable form: a float matrix for tables, plain arrays or texts for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.subject import FloatArray, Subject
from auditkit.subjects.schema import seconds

_EXACT = 2.0**53  # whole numbers from here on do not survive float64


@dataclass(frozen=True, slots=True)
class Columns:
    """A table as numbers, coded alike in both splits.

    Attributes:
        names: Feature names.
        groups: The one-hot group of each feature, or ``None``.
        categorical: ``(f,)`` whether the numbers are codes without an order.
        test: ``(n, f)``; NaN is missing.
        train: The training rows in the same codes, or ``None``.
    """

    names: tuple[str, ...]
    groups: tuple[str | None, ...]
    categorical: npt.NDArray[np.bool_]
    test: FloatArray
    train: FloatArray | None


def has_inputs(subject: Subject) -> bool:
    """Whether there are real inputs, not only saved predictions."""
    return "inputs" in subject.model.capabilities


def table_of(subject: Subject) -> Columns | None:
    """The tabular inputs, or ``None`` for images, texts, token ids and saved predictions."""
    if subject.test.modality != "tabular" or not has_inputs(subject):
        return None
    splits = [subject.test.inputs] if subject.train is None else [subject.test.inputs, subject.train.inputs]
    if not hasattr(splits[0], "columns"):
        parts = [np.asarray(split, dtype=np.float64) for split in splits]
        names = subject.test.schema.names or tuple(f"x{place}" for place in range(parts[0].shape[1]))
        loose = np.zeros(parts[0].shape[1], dtype=np.bool_)
    else:
        coded = [_coded([split.iloc[:, place] for split in splits]) for place in range(splits[0].shape[1])]
        parts = [np.stack([column[0][i] for column in coded], axis=1) for i in range(len(splits))]
        names = tuple(str(name) for name in splits[0].columns)
        loose = np.array([column[1] for column in coded], dtype=np.bool_)
    features = {feature.name: feature for feature in subject.test.schema.features}
    groups = tuple(features[name].group if name in features else None for name in names)
    named = np.array([name in features and features[name].kind == "categorical" for name in names], dtype=np.bool_)
    return Columns(names, groups, loose | named, parts[0], parts[1] if len(parts) > 1 else None)


def _coded(parts: Sequence[Any]) -> tuple[list[FloatArray], bool]:
    """One column of each split as float64, and whether the numbers are codes of categories."""
    import pandas as pd

    test = pd.api.types
    dtypes = [part.dtype for part in parts]
    if all(test.is_datetime64_any_dtype(d) or test.is_timedelta64_dtype(d) for d in dtypes):
        return [seconds(part) for part in parts], False
    if all(test.is_numeric_dtype(d) and not isinstance(d, pd.CategoricalDtype) for d in dtypes):
        numbers = [part.to_numpy(dtype=np.float64, na_value=np.nan) for part in parts]
        large = any(bool((np.abs(number) >= _EXACT).any()) for number in numbers)
        if not (large and all(test.is_integer_dtype(d) for d in dtypes)):
            return numbers, False
    joined = np.concatenate([part.astype(object).to_numpy() for part in parts])
    codes = pd.factorize(joined, use_na_sentinel=True)[0].astype(np.float64)
    codes[codes < 0] = np.nan
    return np.split(codes, np.cumsum([len(part) for part in parts])[:-1]), True


def comparable_rows(subject: Subject, table: Columns | None) -> tuple[Any, Any | None]:
    """What makes rows of test and train equal: matrices, arrays of one dtype, or texts."""
    if table is not None:
        return table.test, table.train
    test = subject.test.inputs
    train = None if subject.train is None else subject.train.inputs
    if isinstance(test, list):
        return test, train
    if train is None:
        return np.asarray(test), None
    kind = np.result_type(np.asarray(test), np.asarray(train))
    return np.asarray(test).astype(kind, copy=False), np.asarray(train).astype(kind, copy=False)
