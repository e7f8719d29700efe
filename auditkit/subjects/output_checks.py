"""What a model returned, checked: shapes, finite numbers, probabilities, known labels."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from auditkit.core.errors import AuditkitError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.subjects.labels import label_name

PROBABILITY_TOLERANCE = 1e-3


def checked_scores(raw: Any, n: int, k: int, *, space: str, where: str) -> FloatArray:
    """``raw`` as finite float64 scores ``(n, k)``.

    Raises:
        AuditkitError: AK211 wrong shape, AK213 NaN or infinity, AK214 not probabilities.
    """
    scores = np.asarray(raw)
    if scores.shape != (n, k):
        raise AuditkitError(
            "AK211",
            f"the model returned scores of shape {scores.shape} where {(n, k)} was expected",
            where=where,
            why=f"there are {n} rows and {k} score columns",
            fix="return one row of scores for each input row, one column for each class",
        )
    try:
        scores = scores.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise AuditkitError("AK211", "the model's scores are not numbers", where=where, why=str(error)) from error
    _refuse_not_finite(scores, where)
    if space == "probability" and n:
        off = np.abs(scores.sum(axis=1) - 1.0) > PROBABILITY_TOLERANCE
        off |= (scores < -PROBABILITY_TOLERANCE).any(axis=1) | (scores > 1.0 + PROBABILITY_TOLERANCE).any(axis=1)
        if off.any():
            raise AuditkitError(
                "AK214",
                f"{int(off.sum())} of {n} rows of scores are not probabilities",
                where=where,
                why="each row must lie in [0, 1] and sum to 1",
                fix="return probabilities, or declare the scores as logits",
            )
    return scores


def checked_values(raw: Any, n: int, *, where: str) -> FloatArray:
    """``raw`` as finite float64 regression values ``(n,)``; ``(n, 1)`` is accepted.

    Raises:
        AuditkitError: AK211 wrong shape, AK213 NaN or infinity.
    """
    values = np.asarray(raw)
    if values.shape == (n, 1):
        values = values[:, 0]
    if values.shape != (n,):
        raise AuditkitError(
            "AK211",
            f"the model returned values of shape {values.shape} where {(n,)} was expected",
            where=where,
            fix="return one value for each input row",
        )
    try:
        values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise AuditkitError("AK211", "the model's values are not numbers", where=where, why=str(error)) from error
    _refuse_not_finite(values, where)
    return values


def decided_codes(raw: Any, n: int, lookup: dict[str, int], *, where: str) -> IntArray:
    """Class codes ``(n,)`` of the labels that the model predicted.

    Raises:
        AuditkitError: AK211 wrong shape, AK212 a label that is not a class.
    """
    labels = np.asarray(raw)
    if labels.shape == (n, 1):
        labels = labels[:, 0]
    if labels.shape != (n,):
        raise AuditkitError(
            "AK211",
            f"the model returned decisions of shape {labels.shape} where {(n,)} was expected",
            where=where,
            fix="return one label for each input row",
        )
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    import pandas as pd

    codes, uniques = pd.factorize(labels, use_na_sentinel=False)
    names = [label_name(value) for value in uniques]
    unknown = [name for name in names if name not in lookup]
    if unknown:
        raise AuditkitError(
            "AK212",
            f"the model decided for labels that are not among its classes: {', '.join(map(repr, unknown[:5]))}",
            where=where,
            why=f"its classes are {', '.join(map(repr, list(lookup)[:20]))}",
        )
    return np.asarray(np.array([lookup[name] for name in names])[codes], dtype=np.int64)


def model_raised(error: Exception | SystemExit, inputs: Any, *, where: str) -> NoReturn:
    """Turn whatever the user's model raised into AK210, naming the columns that are the likely cause, if any.

    ``sys.exit`` in a model counts as raising: otherwise its exit code would be taken for the audit's own.
    """
    if isinstance(error, AuditkitError):
        raise error
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:300] + " ..."
    cause, fix = _likely_cause(inputs, text)
    why = cause + (f"{type(error).__name__}: {text}" if text else type(error).__name__)
    raise AuditkitError("AK210", "the model raised an error", where=where, why=why, fix=fix) from error


def _likely_cause(inputs: Any, text: str) -> tuple[str, str]:
    """What in the inputs a model commonly fails on, ending in ``"; "``, and how that is mended."""
    for columns, told, fix in (
        (repeated_columns(inputs), "two columns have the same name: ", "rename one of them, here and in training"),
        (
            missing_columns(inputs),
            "there are missing values in ",
            "impute them in the model's pipeline, or drop the rows",
        ),
        (
            infinite_columns(inputs),
            "there are infinite values in ",
            "clip them in the model's pipeline, or drop the rows",
        ),
        (
            text_columns(inputs) if "could not convert" in text else [],
            "these columns hold text: ",
            "give the types that the model was fitted on, or encode text inside its pipeline",
        ),
        (date_columns(inputs), "these columns hold dates: ", "turn dates into numbers in the model's pipeline"),
    ):
        if columns:
            return f"{told}{_listed(columns)}; ", fix
    return "", "call the model on these inputs by hand: they must look as they did in training"


def repeated_columns(inputs: Any) -> list[str]:
    """Names that more than one column of a DataFrame has."""
    names = getattr(inputs, "columns", None)
    return [] if names is None else sorted({str(name) for name in names[names.duplicated()]})


def missing_columns(inputs: Any) -> list[str]:
    """Names of the columns of a DataFrame or 2-D array that hold missing values."""
    if hasattr(inputs, "isna") and hasattr(inputs, "columns"):
        mask = inputs.isna().to_numpy().any(axis=0)
        return [str(name) for name, bad in zip(inputs.columns, mask, strict=True) if bad]
    return _places_where(np.isnan, inputs)


def infinite_columns(inputs: Any) -> list[str]:
    """Names of the columns of a DataFrame or 2-D array that hold infinite values."""
    if hasattr(inputs, "select_dtypes"):
        numbers = inputs.select_dtypes("number")
        mask = np.isinf(numbers.to_numpy(dtype=np.float64, na_value=np.nan)).any(axis=0)
        return [str(name) for name, bad in zip(numbers.columns, mask, strict=True) if bad]
    return _places_where(np.isinf, inputs)


def _places_where(test: np.ufunc, inputs: Any) -> list[str]:
    """Columns of a 2-D array of floats in which the test holds somewhere, by their places."""
    if isinstance(inputs, np.ndarray) and inputs.ndim == 2 and inputs.dtype.kind == "f":
        return [f"column {place}" for place in np.flatnonzero(test(inputs).any(axis=0))]
    return []


def text_columns(inputs: Any) -> list[str]:
    """Names of the columns of a DataFrame that hold neither numbers, truth values nor times."""
    return _columns_of_kind(inputs, "OSU")


def date_columns(inputs: Any) -> list[str]:
    """Names of the columns of a DataFrame that hold dates or durations."""
    return _columns_of_kind(inputs, "Mm")


def _columns_of_kind(inputs: Any, wanted: str) -> list[str]:
    if not (hasattr(inputs, "dtypes") and hasattr(inputs, "columns")):
        return []
    kinds = [getattr(kind, "kind", "O") for kind in inputs.dtypes]
    return [str(name) for name, kind in zip(inputs.columns, kinds, strict=True) if kind in wanted]


def _listed(columns: list[str]) -> str:
    return ", ".join(columns[:8]) + (" ..." if len(columns) > 8 else "")


def row_count(inputs: Any) -> int:
    """Number of rows of a DataFrame, array or list."""
    shape = getattr(inputs, "shape", None)
    return int(shape[0]) if shape is not None and len(shape) else len(inputs)


def _refuse_not_finite(values: FloatArray, where: str) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        rows = int(bad.reshape(len(values), -1).any(axis=1).sum())
        raise AuditkitError(
            "AK213",
            f"the model returned NaN or infinity for {rows} of {len(values)} rows",
            where=where,
            fix="look at those rows' inputs: overflow and missing values are the usual cause",
        )
