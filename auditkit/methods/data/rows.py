"""Rows that occur twice, and rows that occur both in training and in test data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def row_digests(rows: Sequence[str] | npt.NDArray[Any]) -> npt.NDArray[np.void]:
    """One 16-byte digest ``(n,)`` for each text, or for each row of an array of any shape ``(n, ...)``.

    Equal rows have equal digests: minus zero counts as zero and every NaN as the same missing value. Two
    different rows of a million collide with a chance below 1e-26.

    >>> found = row_digests(np.array([[1.0, -0.0], [1.0, 0.0], [2.0, 0.0]]))
    >>> bool(found[0] == found[1]), bool(found[0] == found[2])
    (True, False)
    """
    if isinstance(rows, np.ndarray):
        flat = rows.reshape(len(rows), -1)
        if flat.dtype.kind == "f":
            flat = flat + 0.0
            flat[np.isnan(flat)] = np.nan
        parts = (row.tobytes() for row in np.ascontiguousarray(flat))
    else:
        parts = (text.encode("utf-8", "surrogatepass") for text in rows)
    digests = b"".join(hashlib.blake2b(part, digest_size=16).digest() for part in parts)
    return np.frombuffer(digests, dtype="V16")


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows that repeat an earlier row, and rows that have a twin with another label; masks ``(n,)``."""

    repeats: BoolArray
    conflicts: BoolArray


def find_duplicates(digests: npt.NDArray[np.void], y: npt.NDArray[Any]) -> Duplicates:
    """Repeated rows of one split, and among them those whose labels disagree.

    Args:
        digests: ``(n,)`` from :func:`row_digests`.
        y: ``(n,)`` labels.

    >>> digests = row_digests(["a", "b", "a"])
    >>> find_duplicates(digests, np.array([0, 0, 1])).conflicts.tolist()
    [True, False, True]
    """
    first, codes = np.unique(digests, return_index=True, return_inverse=True)[1:]
    repeats = np.ones(len(digests), dtype=np.bool_)
    repeats[first] = False
    label = np.unique(y, return_inverse=True)[1]
    pairs = np.unique(np.stack([codes, label]), axis=1)
    labels_of = np.bincount(pairs[0], minlength=len(first))
    return Duplicates(repeats, labels_of[codes] > 1)


def shared_rows(digests: npt.NDArray[np.void], others: npt.NDArray[np.void]) -> BoolArray:
    """Whether each row ``(n,)`` occurs among the other rows too."""
    return np.asarray(np.isin(digests, others), dtype=np.bool_)
