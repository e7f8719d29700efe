"""The distinct values of a column and which of them each row holds, without pandas where the column is none of it."""

from __future__ import annotations

from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

# Rows of a table of 64-bit hashes by their leading bits: far more than there are groups in a column.
_BUCKETS = 1 << 16


def distinct(values: Any) -> tuple[npt.NDArray[np.int64], list[Any]]:
    """The place ``(n,)`` of each row's value among the distinct values, and those, in order of appearance.

    A missing value (``None``, NaN, NaT, pandas' NA) has the place -1. What compares equal is one value: 1, 1.0 and
    True.

    Args:
        values: One-dimensional: an array of any dtype, or a pandas column.

    Raises:
        TypeError: A value that cannot be hashed, such as a list.

    >>> distinct(np.array(["b", None, "a", "b"], dtype=object))
    (array([ 0, -1,  1,  0]), ['b', 'a'])
    """
    if not isinstance(values, np.ndarray) and hasattr(values, "factorize"):
        codes, found = values.factorize()
        return np.asarray(codes, dtype=np.int64), list(found)
    array = np.asarray(values)
    return _of_objects(array.tolist()) if array.dtype.kind in "OUST" else _of_numbers(array)


def hashed_places(hashed: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """The place ``(n,)`` of each of ``hashed (n,)`` among those with the same leading bits, by order of appearance.

    Two values may share a place: whoever asks compares what was hashed.
    """
    return _of_buckets((hashed >> np.uint64(64 - 16)).astype(np.int64))[0]


def first_rows(codes: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """The first row ``(count,)`` of each code 0 .. ``count - 1`` in ``codes (n,)``; -1 where it has none.

    >>> first_rows(np.array([1, 0, 1]), 3).tolist()
    [1, 0, -1]
    """
    first = np.full(count, -1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return first


def _of_objects(items: list[Any]) -> tuple[npt.NDArray[np.int64], list[Any]]:
    found = [value for value in dict.fromkeys(items) if not _is_missing(value)]
    place = {value: code for code, value in enumerate(found)}
    codes = np.fromiter(map(place.get, items, repeat(-1)), dtype=np.int64, count=len(items))
    return codes, found


def _of_buckets(bucket: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The place ``(n,)`` of each of some small numbers by order of appearance, and the row where each appears first."""
    first = first_rows(bucket, _BUCKETS)
    filled = np.flatnonzero(first >= 0)
    order = filled[np.argsort(first[filled])]
    place = np.zeros(_BUCKETS, dtype=np.int64)
    place[order] = np.arange(len(order))
    return np.asarray(place[bucket]), first[order]


def _of_numbers(array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], list[Any]]:
    if array.dtype.kind in "biu" and len(array) and int(array.max()) - int(array.min()) < _BUCKETS:
        numbers = array if array.dtype == np.uint64 else array.astype(np.int64)
        codes, first = _of_buckets((numbers - numbers.min()).astype(np.int64))
        return codes, list(array[first])
    found, first, codes = np.unique(array, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    order = order[~_absent(found[order])]
    place = np.full(len(found), -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[codes], list(found[order])


def _absent(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.asarray(values != values)  # NaN and NaT alone differ from themselves


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas' NA has no truth value
        return True
