"""What :func:`count_groups` returns: a table of cells for each set of columns, additive over shards of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts

FloatArray = npt.NDArray[np.float64]
SCORE_BINS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreHistogram:
    """Rows of each group by label (rest, positive) and by score in equal bins of [0, 1]: ``n (G, 2, bins)``."""

    over: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    n: npt.NDArray[np.int64]

    def roc_auc(self) -> tuple[FloatArray, FloatArray]:
        """AUC of each group ``(G,)`` with scores of one bin as ties, and the bound on what the binning can change.

        NaN where a group lacks a class. The bound is half the share of pairs that fall into one bin.

        Source: Hanley and McNeil (1982) for the area as a share of pairs.
        """
        negative, positive = self.n[:, 0].astype(np.float64), self.n[:, 1].astype(np.float64)
        pairs = negative.sum(axis=1) * positive.sum(axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            area = np.where(pairs > 0, (positive * below).sum(axis=1) / pairs, np.nan)
            bound = np.where(pairs > 0, (positive * negative).sum(axis=1) / 2 / pairs, np.nan)
        return area, bound


@dataclass(frozen=True, slots=True)
class GroupCounts(Sequence[Counts]):
    """Cells of all rows, of each column and of their crossings: one :class:`Counts` each, in that order.

    Attributes:
        tables: One for each set of columns; ``tables[0]`` is all rows.
        histograms: The scores of the same groups, when scores were given.
    """

    tables: tuple[Counts, ...]
    histograms: tuple[ScoreHistogram, ...] = ()

    def __len__(self) -> int:
        return len(self.tables)

    @overload
    def __getitem__(self, index: int) -> Counts: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Counts]: ...

    def __getitem__(self, index: int | slice) -> Counts | Sequence[Counts]:
        return self.tables[index]

    def over(self, *columns: str) -> Counts:
        """The table over exactly these columns, in any order; without columns, that of all rows.

        Raises:
            UsageError: AK450 when these columns were not counted together.
        """
        for table in self.tables:
            if sorted(table.over) == sorted(columns):
                return table
        known = "; ".join(" x ".join(table.over) or "all rows" for table in self.tables)
        raise UsageError(
            "AK450",
            f"{' x '.join(columns)} was not counted",
            why=f"counted: {known}",
            fix="give the columns in groups=, and intersections= as many as are crossed",
        )

    def finest(self) -> Counts:
        """The table over all columns together.

        Raises:
            UsageError: AK450 when no table crosses all of them.
        """
        columns = {column for table in self.tables for column in table.over}
        return self.over(*sorted(columns))

    def __add__(self, other: GroupCounts) -> GroupCounts:
        """The counts of two shards of rows together."""
        if len(self.tables) != len(other.tables) or len(self.histograms) != len(other.histograms):
            raise UsageError("AK400", "counts over different columns, classes or weights cannot be added")
        return GroupCounts(
            tuple(merge_counts(one, two) for one, two in zip(self.tables, other.tables, strict=True)),
            tuple(_merge_histograms(one, two) for one, two in zip(self.histograms, other.histograms, strict=True)),
        )


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
            added[[names.index(group) for group in part.groups]] += np.asarray(values, dtype=dtype)
        return nested_tuples(added)

    return replace(
        first,
        groups=names,
        n=total("n"),
        weight=total("weight"),
        weight_sq=total("weight_sq"),
        moment=total("moment"),
    )


def _merge_histograms(first: ScoreHistogram, second: ScoreHistogram) -> ScoreHistogram:
    names = tuple(sorted({*first.groups, *second.groups}))
    added = np.zeros((len(names), *first.n.shape[1:]), dtype=np.int64)
    for part in (first, second):
        added[[names.index(group) for group in part.groups]] += part.n
    return ScoreHistogram(over=first.over, groups=names, n=added)


def nested_tuples(array: npt.NDArray[Any]) -> Any:
    """Nested tuples of plain numbers of ``array (G, a, b)``, as evidence holds them."""
    return tuple(tuple(map(tuple, block)) for block in array.tolist())
