"""Columns that go with the rows: labels, sensitive columns, weights, clusters; aligned or refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import MISSING_GROUP
from auditkit.core.registry import nearest
from auditkit.core.subject import FloatArray, IntArray, StrArray
from auditkit.stats.distinct import distinct
from auditkit.subjects.labels import label_name

MAX_GROUPS = 50


def common_index(*columns: Any) -> Any:
    """The index of the first of ``columns`` that has one, or ``None``: the rows that the others follow."""
    for column in columns:
        if hasattr(column, "iloc"):
            return column.index
    return None


def aligned(values: Any, index: Any, n: int, *, where: str) -> Any:
    """``values`` in the order of the rows.

    pandas objects follow ``index`` (put in order when theirs is a permutation of it); anything else goes
    by position.

    Raises:
        UsageError: AK201 lengths differ, AK202 the indexes do not match.
    """
    length = len(values)
    if length != n:
        raise UsageError(
            "AK201", f"{where} has {length} rows where X has {n}", where=where, fix="give one for each row"
        )
    if index is None or not hasattr(values, "iloc") or values.index.equals(index):
        return values
    unique = values.index.is_unique and index.is_unique
    if unique and len(values.index.intersection(index)) == n:
        return values.reindex(index)
    raise UsageError(
        "AK202",
        f"the index of {where} does not match the index of X",
        where=where,
        why="rows are matched by index, and " + ("the two differ" if unique else "an index with repeats cannot be"),
        fix=f"give both the same index, or pass {where}.to_numpy() to match by position",
    )


def label_column(y: Any, index: Any, n: int, *, where: str) -> Any:
    """Labels as a 1-D array or Series in the order of the rows.

    Raises:
        UsageError: AK201, AK202, AK208 more than one column.
    """
    if isinstance(y, list | tuple):
        y = np.array(y, dtype=object) if any(isinstance(item, str) or item is None for item in y) else np.asarray(y)
    if hasattr(y, "columns"):
        if y.shape[1] != 1:
            raise UsageError(
                "AK208", f"{where} has {y.shape[1]} columns; one is expected", fix="give one target column"
            )
        y = y.iloc[:, 0]
    if not hasattr(y, "iloc"):
        y = _from_tensor(y)
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            raise UsageError(
                "AK208",
                f"{where} has shape {y.shape}; one label for each row is expected",
                fix="turn one-hot labels into class labels, e.g. y.argmax(axis=1)",
            )
    return aligned(y, index, n, where=where)


def sensitive_columns(sensitive: Any, inputs: Any, index: Any, n: int, *, where: str) -> Mapping[str, StrArray]:
    """Sensitive columns as strings; a missing or empty value is the group ``(missing)``.

    Args:
        sensitive: DataFrame, Series, mapping of name to column, one column, or names of columns of ``inputs``.
        inputs: The model's inputs, where the names are looked up.
        index: Index of the rows, or ``None``.
        n: Number of rows.
        where: Name of the argument, for messages.

    Raises:
        UsageError: AK201, AK202, AK205 unknown column name, AK218 no name, or too many groups to be groups.
    """
    if sensitive is None:
        return {}
    return {
        name: _groups(name, aligned(values, index, n, where=where), where)
        for name, values in _named(sensitive, inputs, where).items()
    }


def column_names(sensitive: Any, inputs: Any, *, where: str = "sensitive") -> tuple[str, ...]:
    """The columns of ``inputs`` that ``sensitive`` names; empty when it is something else.

    Raises:
        UsageError: AK205 a name that is not there.
    """
    wanted = [sensitive] if isinstance(sensitive, str) else sensitive
    if not _are_names(wanted, inputs):
        return ()
    unknown = [name for name in wanted if name not in inputs.columns]
    if unknown:
        raise UsageError(
            "AK205",
            f"X has no column {unknown[0]!r}",
            where=where,
            fix=nearest(unknown[0], [str(name) for name in inputs.columns]) or "name columns of X",
        )
    return tuple(wanted)


def row_weights(weights: Any, index: Any, n: int, *, where: str = "weights") -> FloatArray | None:
    """Positive finite weights ``(n,)``, or ``None``.

    Raises:
        UsageError: AK201, AK202, AK219.
    """
    if weights is None:
        return None
    column = aligned(weights if hasattr(weights, "iloc") else np.asarray(weights), index, n, where=where)
    try:
        values = np.asarray(column, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise UsageError("AK219", "the weights are not numbers", where=where, why=str(error)) from error
    if values.shape != (n,):
        raise UsageError(
            "AK219", f"the weights have shape {np.shape(column)}", where=where, fix="give one for each row"
        )
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        raise UsageError(
            "AK219",
            f"{int(bad.sum())} of {n} weights are missing, zero, negative or infinite",
            where=where,
            fix="drop the rows of weight 0, and give every other row a positive weight",
        )
    return values


def cluster_codes(clusters: Any, index: Any, n: int, *, where: str = "clusters") -> IntArray | None:
    """Codes ``(n,)`` of the cluster of each row, in order of appearance, or ``None``.

    Raises:
        UsageError: AK201, AK202, AK220 missing values.
    """
    if clusters is None:
        return None
    column = clusters if hasattr(clusters, "iloc") else np.asarray(clusters)
    codes, _ = distinct(aligned(column, index, n, where=where))
    missing = int((codes < 0).sum())
    if missing:
        raise UsageError("AK220", f"{missing} of {n} rows have no cluster", where=where, fix="give each row a cluster")
    return codes


def regression_target(values: Any, *, where: str) -> FloatArray:
    """Finite float64 target ``(n,)``.

    Raises:
        UsageError: AK203 missing or infinite, AK204 not numbers.
    """
    try:
        target = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError("AK204", "the target of a regression is not numbers", where=where, why=str(error)) from error
    bad = int((~np.isfinite(target)).sum())
    if bad:
        raise UsageError(
            "AK203", f"{bad} of {len(target)} target values are missing or infinite", where=where, fix="drop those rows"
        )
    return target


def _named(sensitive: Any, inputs: Any, where: str) -> dict[str, Any]:
    names = column_names(sensitive, inputs, where=where)
    if names:
        return {name: inputs[name] for name in names}
    if hasattr(sensitive, "columns"):
        headers = [str(name) for name in sensitive.columns]
        if len(set(headers)) != len(headers):
            raise UsageError("AK207", "two sensitive columns have the same name", where=where, fix="rename one of them")
        return {name: sensitive.iloc[:, place] for place, name in enumerate(headers)}
    if isinstance(sensitive, Mapping):
        return {
            str(name): values if hasattr(values, "iloc") else np.asarray(values, dtype=object)
            for name, values in sensitive.items()
        }
    if hasattr(sensitive, "iloc"):
        return {str(sensitive.name) if sensitive.name is not None else "sensitive": sensitive}
    array = np.asarray(sensitive, dtype=object)
    if array.ndim != 1:
        raise UsageError(
            "AK218", "sensitive columns need names", where=where, fix='pass a DataFrame, or {"sex": ..., "race": ...}'
        )
    return {"sensitive": array}


def _are_names(sensitive: Any, inputs: Any) -> bool:
    """Whether a list of strings names columns of ``inputs``, rather than being a column itself."""
    if not isinstance(sensitive, list | tuple) or not sensitive or not hasattr(inputs, "columns"):
        return False
    strings = all(isinstance(name, str) for name in sensitive)
    return strings and (len(sensitive) != len(inputs) or sensitive[0] in inputs.columns)


def _groups(name: str, values: Any, where: str) -> StrArray:
    codes, uniques = distinct(values)
    names = [label_name(value) for value in uniques]
    names = [MISSING_GROUP if not text.strip() else text for text in names]
    if len(set(names)) > MAX_GROUPS:
        raise UsageError(
            "AK218",
            f"sensitive column {name!r} has {len(set(names))} distinct values; at most {MAX_GROUPS} can be groups",
            where=where,
            why=_why_many(uniques),
            fix=f'bin it: [data] bins = {{{name} = [25, 45, 65]}}, or pandas.cut(df["{name}"], [0, 25, 45, 65, 120])'
            if _are_numbers(uniques)
            else "name a column of a few groups, or merge the rare ones",
        )
    absent = [MISSING_GROUP] if (codes < 0).any() else []
    table: npt.NDArray[np.str_] = np.array([*names, *absent], dtype=np.str_)
    return table[codes] if len(codes) else np.zeros(0, dtype=np.str_)


def _are_numbers(uniques: Any) -> bool:
    return all(isinstance(value, int | float | np.number) for value in uniques)


def _why_many(uniques: Any) -> str:
    if _are_numbers(uniques):
        return "a number is not a group"
    return f"it looks like a name or an identifier: {', '.join(repr(label_name(value)) for value in uniques[:3])} ..."


def _from_tensor(values: Any) -> Any:
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values
