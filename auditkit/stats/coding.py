"""Columns of groups as small integer codes with the names they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import MISSING_GROUP
from auditkit.stats.distinct import distinct, first_rows, hashed_places

IntArray = npt.NDArray[np.int64]
Coded = tuple[tuple[str, ...], npt.NDArray[Any]]

# Above this many rows hashing beats sorting.
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


def rows_by_group(values: Any) -> Iterator[tuple[str, IntArray]]:
    """Each group of ``values (n,)``, by name, with the positions of its rows.

    >>> [(name, rows.tolist()) for name, rows in rows_by_group(np.array(["b", "a", "b"]))]
    [('a', [1]), ('b', [0, 2])]
    """
    names, codes = encode_groups(values)
    yield from zip(names, rows_of_codes(codes, len(names)), strict=True)


def rows_of_codes(codes: npt.NDArray[Any], count: int) -> list[IntArray]:
    """The positions, in rising order, of the rows of each code 0 .. ``count - 1`` in ``codes (n,)``.

    >>> [rows.tolist() for rows in rows_of_codes(np.array([1, 0, 1]), 3)]
    [[1], [0, 2], []]
    """
    if count == 0:
        return []
    order = np.argsort(codes.astype(np.uint16) if count < _SMALL_RANGE else codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=count))[: count - 1])


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
    codes, found = distinct(array)
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

    Few distinct strings differ in the leading bits of their hashes, and many differ in all of them. Every row is
    compared with the string its code stands for, so a collision cannot pass unseen.
    """
    width = strings.dtype.itemsize // 4
    if width == 0:
        return None
    pairs = width % 2 == 0
    letters = strings.view(np.uint64 if pairs else np.uint32).reshape(len(strings), width // 2 if pairs else width)
    hashed = np.zeros(len(strings), dtype=np.uint64)
    for column in range(letters.shape[1]):
        hashed = (hashed ^ letters[:, column].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
    for coded in (hashed_places, lambda hashed: distinct(hashed)[0]):
        codes = coded(hashed)
        first = first_rows(codes, int(codes.max()) + 1)
        if _rows_equal(letters, letters[first], codes):
            return _sorted([str(name) for name in strings[first]], codes)
    return None


def _rows_equal(letters: npt.NDArray[Any], found: npt.NDArray[Any], codes: npt.NDArray[Any]) -> bool:
    return all(np.array_equal(found[:, column][codes], letters[:, column]) for column in range(letters.shape[1]))
