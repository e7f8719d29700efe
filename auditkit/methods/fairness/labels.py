"""What the caller gives as groups and labels: columns by name, and labels as codes of one set of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.stats.coding import encode_groups

IntArray = npt.NDArray[np.int64]


def group_columns(groups: Any) -> dict[str, Any]:
    """``groups`` as column name -> values: a mapping, a DataFrame, a named Series, or one plain array.

    Raises:
        UsageError: AK450 when two columns have one name.
    """
    if isinstance(groups, Mapping):
        return {str(name): values for name, values in groups.items()}
    if hasattr(groups, "columns"):
        names = [str(name) for name in groups.columns]
        if len(set(names)) < len(names):
            raise UsageError("AK450", "two columns of groups have the same name", fix="rename one of them")
        return {name: groups.iloc[:, position] for position, name in enumerate(names)}
    name = getattr(groups, "name", None)
    return {"group" if name is None else str(name): groups}


def encode_labels(
    y_true: Any, y_pred: Any, positive: Any
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], tuple[str, ...], int | None]:
    """Class codes of labels and decisions of any type, the class names, and the code of ``positive``.

    Booleans, ``0/1`` and ``-1/1`` have 1 as the positive class; for any other labels there is none until it is named.

    Raises:
        UsageError: AK451 when a label is missing, is a fraction, ``positive`` is not a label, or labels and decisions
            have no value in common.
    """
    true, pred = _label_values(y_true, "y_true"), _label_values(y_pred, "y_pred")
    if _is_binary(true) and _is_binary(pred):
        both = ("False", "True") if true.dtype.kind == pred.dtype.kind == "b" else ("0", "1")
        return true.astype(np.uint8), pred.astype(np.uint8), both, _positive_code(both, positive)
    (true_names, true_codes), (pred_names, pred_codes) = encode_groups(true), encode_groups(pred)
    if true_names and pred_names and not set(true_names) & set(pred_names):
        raise UsageError(
            "AK451",
            f"y_true ({', '.join(true_names[:4])}) and y_pred ({', '.join(pred_names[:4])}) share no label",
            why="every decision would be counted as wrong",
            fix="give labels and decisions in the same coding",
        )
    numeric = true.dtype.kind in "iu" and pred.dtype.kind in "iu"
    classes = tuple(sorted({*true_names, *pred_names}, key=int if numeric else None))
    place = {name: code for code, name in enumerate(classes)}
    codes = [
        np.array([place[name] for name in names], dtype=np.int64)[part]
        for names, part in ((true_names, true_codes), (pred_names, pred_codes))
    ]
    return codes[0], codes[1], classes, _positive_code(classes, positive)


def _is_binary(array: npt.NDArray[Any]) -> bool:
    # The bits that any value has: at most 1 only if every value is 0 or 1, in one pass.
    kind = array.dtype.kind
    return kind == "b" or (kind in "iu" and len(array) > 0 and 0 <= int(np.bitwise_or.reduce(array)) <= 1)


def _positive_code(classes: tuple[str, ...], positive: Any) -> int | None:
    if positive is None:
        known = classes in (("0", "1"), ("-1", "1"), ("False", "True"))
        return 1 if known else None
    if isinstance(positive, (bool, np.bool_, int, np.integer)) and positive in (0, 1) and str(positive) not in classes:
        positive = bool(positive) if "True" in classes else int(positive)
    if str(positive) not in classes:
        raise UsageError("AK451", f"positive={positive!r} is not a label", why=f"labels: {', '.join(classes)}")
    return classes.index(str(positive))


def _label_values(values: Any, name: str) -> npt.NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1:
        raise UsageError("AK451", f"{name} must have one dimension, not {array.ndim}", fix="give one label a row")
    if array.dtype.kind == "O":
        kinds = {type(value) for value in array.tolist()}
        if kinds <= {bool, np.bool_}:
            array = array.astype(bool)
        elif kinds <= {int, np.int64, bool}:
            array = array.astype(np.int64)
        elif kinds <= {float, int}:
            array = array.astype(np.float64)
        elif any(kind in (float, type(None)) or kind.__name__ in ("NAType", "NaTType") for kind in kinds):
            raise UsageError("AK451", f"{name} has missing labels", fix="leave out the rows without a label")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise UsageError("AK451", f"{name} has missing labels", fix="leave out the rows without a label")
        if not (array == np.round(array)).all():
            raise UsageError("AK451", f"{name} holds fractions, not labels", fix="pass scores as scores=")
        array = array.astype(np.int64)
    return array
