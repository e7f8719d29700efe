"""Columns of groups and labels as small integer codes with the names they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import MISSING_GROUP

IntArray = npt.NDArray[np.int64]
Coded = tuple[tuple[str, ...], npt.NDArray[Any]]

# Above this many rows a hash table beats sorting, and importing pandas pays for itself.
_MANY_ROWS = 10_000
_SMALL_RANGE = 1 << 16


def encode_groups(values: Any, *, absent: bool = False) -> Coded:
    """Sorted distinct names of ``values (n,)`` and the code of each row; a missing value is ``(missing)``.

    With ``absent`` small integers may name groups that have no rows, which saves a pass over the rows.
    Integers, booleans, strings, objects and pandas columns (categorical and Arrow ones by their own codes).

    >>> encode_groups(np.array(["b", "a", "b"]))
    (('a', 'b'), array([1, 0, 1]))
    """
    if hasattr(values, "cat") and hasattr(values.cat, "categories"):
        return _sorted([str(name) for name in values.cat.categories], np.asarray(values.cat.codes))
    if hasattr(values, "factorize") and not isinstance(values, np.ndarray):
        codes, found = values.factorize()
        return _sorted([str(name) for name in found], codes)
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        return _encode_integers(array, absent)
    if array.dtype.kind == "O":
        return _encode_objects(array)
    strings = np.ascontiguousarray(array if array.dtype.kind == "U" else _as_strings(array))
    if len(strings) > _MANY_ROWS:
        fast = _encode_hashed(strings)
        if fast is not None:
            return fast
    names, codes = np.unique(strings, return_inverse=True)
    return tuple(str(name) for name in names), codes.astype(np.int64)


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


def _encode_integers(array: npt.NDArray[Any], absent: bool) -> Coded:
    """Codes of integers or booleans, by a table where their range is small."""
    if len(array) == 0:
        return (), np.zeros(0, dtype=np.int64)
    label = {}
    if array.dtype.kind == "b":
        array, label, absent = array.view(np.uint8), {0: "False", 1: "True"}, False
    if absent and (digits := _digits(array)):
        return digits, array.astype(np.uint8)
    low, high = int(array.min()), int(array.max())
    if high - low >= _SMALL_RANGE:
        found, codes = np.unique(array, return_inverse=True)
        return _sorted([str(value) for value in found.tolist()], codes)
    shifted = array if low == 0 else array - low
    if high - low < 256:
        shifted = shifted.astype(np.uint8)
    present = np.flatnonzero(np.bincount(shifted, minlength=high - low + 1))
    names = [label.get(int(value) + low, str(int(value) + low)) for value in present]
    if len(present) == high - low + 1 and names == sorted(names):
        return tuple(names), shifted
    order = sorted(range(len(names)), key=names.__getitem__)
    table = np.zeros(high - low + 1, dtype=np.uint8 if len(names) < 256 else np.int64)
    table[present[order]] = np.arange(len(order))
    return tuple(names[position] for position in order), table[shifted]


def _digits(array: npt.NDArray[Any]) -> tuple[str, ...]:
    """Names 0, 1 ... of one-digit codes, whose order is that of their names; empty for anything else."""
    bits = int(np.bitwise_or.reduce(array))
    return tuple(str(value) for value in range(bits + 1)) if 0 <= bits < 10 else ()


def _encode_objects(array: npt.NDArray[Any]) -> Coded:
    """Codes of Python objects: by identity of their text, with ``None`` and NaN as the missing group."""
    import pandas as pd

    codes, found = pd.factorize(array)
    return _sorted([str(value) for value in found], codes)


def _sorted(names: list[str], codes: npt.NDArray[Any]) -> Coded:
    """Codes renumbered by sorted, distinct names, names without rows left out; -1 is the missing group."""
    if len(codes) == 0:
        return (), np.zeros(0, dtype=np.int64)
    names = [*names, MISSING_GROUP]
    codes = np.where(codes < 0, len(names) - 1, codes)
    present = np.flatnonzero(np.bincount(codes, minlength=len(names)))
    distinct = sorted({names[position] for position in present.tolist()})
    place = {name: code for code, name in enumerate(distinct)}
    table = np.zeros(len(names), dtype=np.uint8 if len(distinct) < 256 else np.int64)
    table[present] = [place[names[position]] for position in present.tolist()]
    return tuple(distinct), table[codes]


def _as_strings(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    strings = array.astype(str)
    if array.dtype.kind == "f":
        strings = np.where(np.isnan(array), MISSING_GROUP, strings)
    return strings


def _encode_hashed(strings: npt.NDArray[Any]) -> Coded | None:
    """:func:`encode_groups` through a 64-bit hash of each string; ``None`` on a collision.

    Hashed integers go through a hash table many times faster than strings are sorted. Every row is compared with the
    string its code stands for, so a collision cannot pass unseen.
    """
    width = strings.dtype.itemsize // 4
    if width == 0:
        return None
    import pandas as pd

    letters = strings.view(np.uint32).reshape(len(strings), width)
    hashed = np.zeros(len(strings), dtype=np.uint64)
    for column in range(width):
        hashed = (hashed ^ letters[:, column].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
    codes, _ = pd.factorize(hashed)
    first = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    found = strings[first]
    if not _rows_equal(letters, letters[first], codes):
        return None
    return _sorted([str(name) for name in found], codes)


def _rows_equal(letters: npt.NDArray[np.uint32], found: npt.NDArray[np.uint32], codes: npt.NDArray[Any]) -> bool:
    return all(np.array_equal(found[:, column][codes], letters[:, column]) for column in range(letters.shape[1]))
