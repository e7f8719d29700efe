"""Which rows of two splits are the same, and which group a training row belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.subject import Dataset, StrArray
from auditkit.subjects.alignment import sensitive_columns


def shared_rows(train: Any, test: Any) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """For each row of ``train`` and of ``test``, whether its inputs also occur in the other split."""
    first, second = _row_keys(train, test)
    return np.isin(first, second), np.isin(second, first)


def train_groups(train: Dataset, test: Dataset) -> Mapping[str, StrArray]:
    """Sensitive columns of the training rows: as given, else those among the model's own input columns."""
    if train.sensitive:
        return {name: values for name, values in train.sensitive.items() if name in test.sensitive}
    if not hasattr(train.inputs, "columns"):
        return {}
    columns = [str(column) for column in train.inputs.columns]
    names = [name for name in test.sensitive if columns.count(name) == 1]
    found = sensitive_columns(names, train.inputs, None, train.n, where="train") if names else {}
    # A column of the same name that was grouped or renamed for the test rows is not the same column.
    return {name: values for name, values in found.items() if set(test.sensitive[name]) & set(values)}


def _row_keys(train: Any, test: Any) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """One hash a row; equal inputs have equal hashes whatever the two splits' dtypes."""
    import pandas as pd

    if isinstance(train, list):
        joined = pd.DataFrame({"text": [*train, *test]})
    elif hasattr(train, "columns"):
        joined = pd.concat([train.set_axis(range(train.shape[1]), axis=1), test.set_axis(range(test.shape[1]), axis=1)])
    else:
        joined = pd.DataFrame(np.concatenate([train.reshape(len(train), -1), test.reshape(len(test), -1)]))
    keys = pd.util.hash_pandas_object(joined, index=False).to_numpy()
    return keys[: len(train)], keys[len(train) :]
