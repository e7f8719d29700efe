"""Group x label x decision cells: one pass over the rows, from which every count metric follows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts
from auditkit.methods.fairness.group_counts import (
    SCORE_BINS,
    GroupCounts,
    ScoreHistogram,
    merge_counts,
    nested_tuples,
)
from auditkit.methods.fairness.labels import encode_labels, group_columns
from auditkit.stats.coding import Coded, encode_groups

__all__ = ["GroupCounts", "count_cells", "count_groups", "encode_groups", "merge_counts"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# A moment matrix has k^4 numbers a group; beyond this it would outweigh the data.
MAX_CLASSES_WITH_CLUSTERS = 12
_CHUNK = 1 << 16
# Cells of the crossing of all columns up to which one table is counted and summed for the others.
_WHOLE_TABLE = 1 << 17


def count_groups(  # noqa: PLR0913 - one keyword for each thing known of the rows
    y_true: Any,
    y_pred: Any,
    groups: Any,
    *,
    scores: Any = None,
    weights: Any = None,
    intersections: int = 1,
    classes: Sequence[str] | None = None,
    positive: Any = None,
    clusters: IntArray | None = None,
) -> GroupCounts:
    """Cells of all rows, of each column of ``groups``, and of their intersections.

    Args:
        y_true: ``(n,)`` labels; with ``classes``, class codes in ``0 .. k - 1``.
        y_pred: ``(n,)`` decisions, coded likewise.
        groups: Column name -> ``(n,)`` group names or codes; or a DataFrame, or one array.
        scores: ``(n,)`` probabilities of the positive class, for the histograms.
        weights: ``(n,)`` positive row weights.
        intersections: Largest number of columns crossed: 1 for the columns alone, 2 for pairs too ...
        classes: The ``k`` class names, when labels are already codes.
        positive: The positive label; with ``classes``, its code. 1 of ``0/1``, ``-1/1`` and booleans needs no telling.
        clusters: ``(n,)`` codes of the person or site of a row.

    Returns:
        One :class:`Counts` for all rows (``over=()``), then one a set of columns. Groups are sorted by
        name; a combination of groups without rows has no cells.

    Raises:
        UsageError: AK400 lengths, codes or weights are wrong; AK401 too many classes for clustered rows;
            AK450 columns; AK451 labels; AK452 scores.

    >>> counts = count_groups([0, 1, 1], [0, 1, 0], {"sex": ["F", "F", "M"]})
    >>> counts[1].groups, counts[1].n
    ((('F',), ('M',)), (((1, 0), (0, 1)), ((0, 0), (1, 0))))
    """
    columns = group_columns(groups)
    coded_here = classes is None
    if classes is None:
        y_true, y_pred, classes, positive = encode_labels(y_true, y_pred, positive)
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    weights = None if weights is None else np.asarray(weights, dtype=np.float64)
    k = len(classes)
    _check_rows(y_true, y_pred, columns, k, weights, clusters)
    if not coded_here:
        _check_codes(y_true, y_pred, k)
    small: Any = np.uint8 if k * k <= 256 else np.int64
    cell = y_true.astype(small, copy=False) * small(k) + y_pred.astype(small, copy=False)
    coded = {name: encode_groups(values, absent=True) for name, values in columns.items()}
    fields = {"classes": tuple(classes), "positive": positive}
    depths = range(min(intersections, len(coded)) + 1)
    sets = [over for depth in depths for over in itertools.combinations(coded, depth)]
    shape = tuple(len(names) for names, _ in coded.values())
    if clusters is None and math.prod(shape) * k * k <= _WHOLE_TABLE:
        tables = _marginals(cell, coded, sets, k, weights, fields)
    else:
        tables = []
        for over in sets:
            names, codes = _cross([coded[column] for column in over], len(cell))
            cells = _cells(codes * (k * k) + cell, len(names), k, weights, clusters)
            tables.append(Counts(name="decisions", over=over, groups=names, **fields, **cells))
    if scores is None:
        return GroupCounts(tuple(tables))
    if positive is None:
        raise UsageError("AK452", "scores need a positive class", fix="name it with positive=")
    is_positive = y_true == positive
    histograms = [_histogram(scores, is_positive, over, [coded[column] for column in over]) for over in sets]
    return GroupCounts(tuple(tables), tuple(histograms))


def count_cells(
    y_true: IntArray,
    y_pred: IntArray,
    groups: Mapping[str, Any],
    rows: IntArray,
    *,
    classes: Sequence[str],
    positive: int | None,
    intersections: int = 1,
) -> GroupCounts:
    """:func:`count_groups` of combinations that occur ``rows`` times each, without writing the rows out.

    Args:
        y_true: ``(c,)`` class codes of the combinations.
        y_pred: ``(c,)`` class codes of their decisions.
        groups: Column name -> ``(c,)`` group names.
        rows: ``(c,)`` rows of each combination.
        classes: Names of the classes.
        positive: Code of the positive class.
        intersections: Largest number of columns crossed.

    >>> both = count_cells(np.array([0, 1]), np.array([1, 1]), {}, np.array([3, 4]), classes=("n", "y"), positive=1)
    >>> both[0].n
    (((0, 3), (0, 4)),)
    """
    k = len(classes)
    cell = np.asarray(y_true, dtype=np.int64) * k + y_pred
    coded = {name: encode_groups(values) for name, values in groups.items()}
    depths = range(min(intersections, len(coded)) + 1)
    tables = []
    for over in (over for depth in depths for over in itertools.combinations(coded, depth)):
        names, codes = _cross([coded[column] for column in over], len(cell))
        n = np.zeros(len(names) * k * k, dtype=np.int64)
        np.add.at(n, codes * (k * k) + cell, rows)
        cells = nested_tuples(n.reshape(len(names), k, k))
        tables.append(
            Counts(name="decisions", over=over, groups=names, classes=tuple(classes), positive=positive, n=cells)
        )
    return GroupCounts(tuple(tables))


def _marginals(
    cell: npt.NDArray[Any],
    coded: Mapping[str, Coded],
    sets: Sequence[tuple[str, ...]],
    k: int,
    weights: FloatArray | None,
    fields: Mapping[str, Any],
) -> list[Counts]:
    """One pass over the rows for the crossing of all columns; every other table is a sum of its cells."""
    shape = tuple(len(names) for names, _ in coded.values())
    size = math.prod(shape) * k * k
    small: Any = np.uint8 if size <= 256 else np.uint16 if size <= 1 << 16 else np.int64
    flat = cell.astype(small, copy=False)
    stride = k * k
    for length, (_, codes) in zip(shape[::-1], list(coded.values())[::-1], strict=True):
        flat = flat + codes.astype(small, copy=False) * small(stride if length > 1 else 0)
        stride *= length
    whole = {"n": _bincount(flat, size)}
    if weights is not None:
        whole["weight"] = np.bincount(flat, weights=weights, minlength=size)
        whole["weight_sq"] = np.bincount(flat, weights=weights**2, minlength=size)
    whole = {name: array.reshape(*shape, k, k) for name, array in whole.items()}
    order, tables = list(coded), []
    for over in sets:
        gone = tuple(axis for axis, column in enumerate(order) if column not in over)
        part = {name: array.sum(axis=gone).reshape(-1, k, k) for name, array in whole.items()}
        present = np.flatnonzero(part["n"].any(axis=(1, 2)))
        positions = np.unravel_index(present, tuple(len(coded[column][0]) for column in over)) if over else ()
        names = [[coded[column][0][i] for i in at.tolist()] for column, at in zip(over, positions, strict=True)]
        groups = tuple(zip(*names, strict=True)) if over else ((),)
        cells = {name: nested_tuples(array[present]) for name, array in part.items()}
        tables.append(Counts(name="decisions", over=over, groups=groups, **fields, **cells))
    return tables


def _bincount(flat: npt.NDArray[Any], size: int) -> IntArray:
    """``np.bincount`` in chunks that stay in the cache while they are widened to native integers."""
    total = np.zeros(size, dtype=np.int64)
    for start in range(0, len(flat), _CHUNK):
        total += np.bincount(flat[start : start + _CHUNK], minlength=size)
    return total


def _histogram(
    scores: Any, positive: npt.NDArray[np.bool_], over: tuple[str, ...], columns: list[Coded]
) -> ScoreHistogram:
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != positive.shape or not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise UsageError(
            "AK452", "scores must be one probability from 0 to 1 a row", fix="give the positive class's probabilities"
        )
    names, codes = _cross(columns, len(values))
    bins = np.minimum((values * SCORE_BINS).astype(np.int64), SCORE_BINS - 1)
    flat = (codes * 2 + positive) * SCORE_BINS + bins
    n = np.bincount(flat, minlength=len(names) * 2 * SCORE_BINS).reshape(len(names), 2, SCORE_BINS)
    return ScoreHistogram(over=over, groups=names, n=n)


def _cross(columns: list[Coded], n: int) -> tuple[tuple[tuple[str, ...], ...], IntArray]:
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
    fields: dict[str, Any] = {"n": nested_tuples(np.bincount(flat, minlength=size).reshape(shape))}
    if weights is not None:
        fields["weight"] = nested_tuples(np.bincount(flat, weights=weights, minlength=size).reshape(shape))
        fields["weight_sq"] = nested_tuples(np.bincount(flat, weights=weights**2, minlength=size).reshape(shape))
    if clusters is not None:
        fields["moment"] = nested_tuples(_moments(flat, n_groups, k * k, weights, clusters))
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


def _check_rows(
    y_true: npt.NDArray[Any],
    y_pred: npt.NDArray[Any],
    groups: Mapping[str, Any],
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
    if weights is not None and not (np.all(np.isfinite(weights)) and np.all(weights > 0)):
        raise UsageError("AK400", "weights must be finite and above 0")
    if clusters is not None and k > MAX_CLASSES_WITH_CLUSTERS:
        raise UsageError(
            "AK401",
            f"clustered rows with {k} classes: at most {MAX_CLASSES_WITH_CLUSTERS} are supported",
            why="each group then needs k^4 second moments",
            fix="audit without clusters, or group the classes",
        )


def _check_codes(y_true: npt.NDArray[Any], y_pred: npt.NDArray[Any], k: int) -> None:
    for name, codes in (("y_true", y_true), ("y_pred", y_pred)):
        if codes.dtype.kind not in "iu" or int(codes.min()) < 0 or int(codes.max()) >= k:
            raise UsageError(
                "AK400",
                f"{name} must hold integer class codes from 0 to {k - 1}",
                why="labels as strings, missing or unknown labels would be counted as wrong decisions",
            )
