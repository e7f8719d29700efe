"""Group x label x decision cells: one pass over the rows, from which every count metric follows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# A moment matrix has k^4 numbers a group; beyond this it would outweigh the data.
MAX_CLASSES_WITH_CLUSTERS = 12
_CHUNK = 1 << 16


def count_groups(  # noqa: PLR0913 - one keyword for each thing known of the rows
    y_true: IntArray,
    y_pred: IntArray,
    groups: Mapping[str, npt.NDArray[Any]],
    *,
    classes: Sequence[str],
    positive: int | None = None,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
    intersections: int = 1,
) -> list[Counts]:
    """Cells of all rows, of each column of ``groups``, and of their intersections.

    Args:
        y_true: ``(n,)`` true class codes in ``0 .. k - 1``.
        y_pred: ``(n,)`` decided class codes in ``0 .. k - 1``.
        groups: Column name -> ``(n,)`` group names.
        classes: The ``k`` class names.
        positive: Code of the positive class (binary), or ``None``.
        weights: ``(n,)`` positive row weights.
        clusters: ``(n,)`` codes of the person or site of a row.
        intersections: Largest number of columns crossed: 1 for the columns alone, 2 for pairs too ...

    Returns:
        One :class:`Counts` for all rows (``over=()``), then one a set of columns. Groups are sorted by
        name; a combination of groups without rows has no cells.

    Raises:
        UsageError: AK400 lengths, codes or weights are wrong; AK401 too many classes for clustered rows.

    >>> counts = count_groups(np.array([0, 1, 1]), np.array([0, 1, 0]), {"sex": np.array(["F", "F", "M"])},
    ...                       classes=("no", "yes"), positive=1)
    >>> counts[1].groups, counts[1].n
    ((('F',), ('M',)), (((1, 0), (0, 1)), ((0, 0), (1, 0))))
    """
    k = len(classes)
    _check(y_true, y_pred, groups, k, weights, clusters)
    cell = np.asarray(y_true, dtype=np.int64) * k + np.asarray(y_pred, dtype=np.int64)
    coded = {name: encode_groups(values) for name, values in groups.items()}
    made = []
    for depth in range(min(intersections, len(coded)) + 1):
        for over in itertools.combinations(coded, depth):
            names, codes = _cross([coded[column] for column in over], len(cell))
            made.append(
                Counts(
                    name="decisions",
                    over=over,
                    groups=names,
                    classes=tuple(classes),
                    positive=positive,
                    **_cells(codes * (k * k) + cell, len(names), k, weights, clusters),
                )
            )
    return made


def merge_counts(first: Counts, second: Counts) -> Counts:
    """The counts of two shards of rows together.

    With clusters the shards must not share a cluster: second moments add only across clusters.

    Raises:
        UsageError: AK400 when columns, classes or the kind of counts differ.
    """
    same = (
        (first.over, first.classes, first.positive) == (second.over, second.classes, second.positive)
        and (first.weight is None) == (second.weight is None)
        and (first.moment is None) == (second.moment is None)
    )
    if not same:
        raise UsageError("AK400", "counts over different columns, classes or weights cannot be added")
    names = tuple(sorted({*first.groups, *second.groups}))

    def total(field: str) -> Any:
        parts = [getattr(part, field) for part in (first, second)]
        if parts[0] is None:
            return None
        shape = np.asarray(parts[0][0]).shape
        dtype = np.int64 if field == "n" else np.float64
        added = np.zeros((len(names), *shape), dtype=dtype)
        for part, values in zip((first, second), parts, strict=True):
            for group, block in zip(part.groups, values, strict=True):
                added[names.index(group)] += np.asarray(block, dtype=dtype)
        return _tuples(added)

    return replace(
        first,
        groups=names,
        n=total("n"),
        weight=total("weight"),
        weight_sq=total("weight_sq"),
        moment=total("moment"),
    )


def encode_groups(values: npt.NDArray[Any]) -> tuple[tuple[str, ...], IntArray]:
    """Sorted distinct names of ``values (n,)`` and the code of each row."""
    strings = np.ascontiguousarray(values if values.dtype.kind == "U" else values.astype(str))
    if len(strings) > 10_000:
        fast = _encode_hashed(strings)
        if fast is not None:
            return fast
    names, codes = np.unique(strings, return_inverse=True)
    return tuple(str(name) for name in names), codes.astype(np.int64)


def _encode_hashed(strings: npt.NDArray[Any]) -> tuple[tuple[str, ...], IntArray] | None:
    """:func:`encode_groups` through a 64-bit hash of each string; ``None`` on a collision.

    Sorting integers is several times faster than sorting strings. Every row is compared with the string its
    code stands for, so a collision cannot pass unseen.
    """
    width = strings.dtype.itemsize // 4
    if width == 0:
        return None
    letters = strings.view(np.uint32).reshape(len(strings), width)
    hashed = np.zeros(len(strings), dtype=np.uint64)
    for column in range(width):
        hashed = (hashed ^ letters[:, column].astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
    _, first, codes = np.unique(hashed, return_index=True, return_inverse=True)
    found = strings[first]
    if not np.array_equal(found[codes], strings):
        return None
    order = np.argsort(found, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return tuple(str(name) for name in found[order]), rank[codes]


def _cross(columns: list[tuple[tuple[str, ...], IntArray]], n: int) -> tuple[tuple[tuple[str, ...], ...], IntArray]:
    """Names and row codes of the combinations of groups that have rows."""
    if not columns:
        return ((),), np.zeros(n, dtype=np.int64)
    code = np.zeros(n, dtype=np.int64)
    size = 1
    for names, codes in columns:
        code = code * len(names) + codes
        size *= len(names)
    if size <= max(4 * n, 1 << 16):
        present = np.flatnonzero(np.bincount(code, minlength=size))
        dense = np.zeros(size, dtype=np.int64)
        dense[present] = np.arange(len(present))
        codes = dense[code]
    else:
        present, codes = np.unique(code, return_inverse=True)
    positions = np.unravel_index(present, tuple(len(names) for names, _ in columns))
    labels = tuple(
        tuple(names[int(index)] for (names, _), index in zip(columns, combination, strict=True))
        for combination in zip(*positions, strict=True)
    )
    return labels, codes


def _cells(
    flat: IntArray, n_groups: int, k: int, weights: FloatArray | None, clusters: IntArray | None
) -> dict[str, Any]:
    """The cell fields of :class:`Counts` from row positions ``flat`` in the ``(G, k, k)`` table."""
    size, shape = n_groups * k * k, (n_groups, k, k)
    fields: dict[str, Any] = {"n": _tuples(np.bincount(flat, minlength=size).reshape(shape))}
    if weights is not None:
        fields["weight"] = _tuples(np.bincount(flat, weights=weights, minlength=size).reshape(shape))
        fields["weight_sq"] = _tuples(np.bincount(flat, weights=weights**2, minlength=size).reshape(shape))
    if clusters is not None:
        fields["moment"] = _tuples(_moments(flat, n_groups, k * k, weights, clusters))
    return fields


def _moments(flat: IntArray, n_groups: int, cells: int, weights: FloatArray | None, clusters: IntArray) -> FloatArray:
    """``(G, cells, cells)``: sums over clusters of the outer product of the cluster's cell vector."""
    group = flat // cells
    _, code = np.unique(clusters, return_inverse=True)
    pairs, pair = np.unique(group * (int(code.max()) + 1) + code, return_inverse=True)
    pair_group = pairs // (int(code.max()) + 1)
    order = np.argsort(pair, kind="stable")
    pair, cell = pair[order], (flat % cells)[order]
    mass = np.ones(len(flat)) if weights is None else weights[order]
    moments = np.zeros((n_groups, cells, cells))
    for start in range(0, len(pairs), _CHUNK):
        stop = min(start + _CHUNK, len(pairs))
        low, high = np.searchsorted(pair, [start, stop])
        index = (pair[low:high] - start) * cells + cell[low:high]
        vectors = np.bincount(index, weights=mass[low:high], minlength=(stop - start) * cells)
        vectors = vectors.reshape(stop - start, cells)
        for g in np.unique(pair_group[start:stop]):
            rows = vectors[pair_group[start:stop] == g]
            moments[g] += rows.T @ rows
    return moments


def _check(
    y_true: IntArray,
    y_pred: IntArray,
    groups: Mapping[str, npt.NDArray[Any]],
    k: int,
    weights: FloatArray | None,
    clusters: IntArray | None,
) -> None:
    n = len(y_true)
    parts = {"y_pred": y_pred, **groups, "weights": weights, "clusters": clusters}
    wrong = [name for name, part in parts.items() if part is not None and len(part) != n]
    if wrong:
        raise UsageError("AK400", f"{', '.join(wrong)} and y_true differ in length", fix="give one value a row")
    if n == 0:
        raise UsageError("AK400", "there are no rows to count")
    for name, codes in (("y_true", y_true), ("y_pred", y_pred)):
        if codes.dtype.kind not in "iu" or int(codes.min()) < 0 or int(codes.max()) >= k:
            raise UsageError(
                "AK400",
                f"{name} must hold integer class codes from 0 to {k - 1}",
                why="labels as strings, missing or unknown labels would be counted as wrong decisions",
            )
    if weights is not None and not (np.all(np.isfinite(weights)) and np.all(weights > 0)):
        raise UsageError("AK400", "weights must be finite and above 0")
    if clusters is not None and k > MAX_CLASSES_WITH_CLUSTERS:
        raise UsageError(
            "AK401",
            f"clustered rows with {k} classes: at most {MAX_CLASSES_WITH_CLUSTERS} are supported",
            why="each group then needs k^4 second moments",
            fix="audit without clusters, or group the classes",
        )


def _tuples(array: npt.NDArray[Any]) -> Any:
    """Nested tuples of plain numbers, as evidence holds them."""

    def freeze(part: Any) -> Any:
        return tuple(freeze(item) for item in part) if isinstance(part, list) else part

    return freeze(array.tolist())
