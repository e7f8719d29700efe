"""How well a table hides the people in it: equivalence classes, k-anonymity, l-diversity, t-closeness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_MOST = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Anonymity:
    """What the equivalence classes of a table say.

    Attributes:
        n: Rows.
        k: Rows of the smallest class: the table is k-anonymous.
        n_classes: Classes.
        n_unique: Rows that are alone in their class.
    """

    n: int
    k: int
    n_classes: int
    n_unique: int

    @property
    def mean_risk(self) -> float:
        """Mean over rows of ``1 / size of the row's class``: the share of rows that would be found by someone who knows
        the quasi-identifiers of everybody in the table and guesses within the class (prosecutor risk)."""
        return self.n_classes / self.n


def equivalence_classes(columns: Sequence[IntArray]) -> IntArray:
    """Class of each row: rows with equal values in every column share one.

    Args:
        columns: Codes ``(n,)`` of each quasi-identifier, ``>= 0``; a missing value is a code of its own.

    Returns:
        ``(n,)`` codes from 0 without gaps.

    Raises:
        ValueError: Without columns or rows, on columns of different lengths, or on a negative code.

    >>> equivalence_classes([np.array([0, 0, 1]), np.array([5, 5, 5])]).tolist()
    [0, 0, 1]
    """
    if not columns or not len(columns[0]):
        raise ValueError("equivalence classes need at least one column and one row")
    if len({len(column) for column in columns}) > 1:
        raise ValueError("the columns differ in length")
    classes = np.zeros(len(columns[0]), dtype=np.int64)
    size = 1
    for column in columns:
        if column.min() < 0:
            raise ValueError("codes must not be negative")
        width = int(column.max()) + 1
        if size * width >= _MOST:
            classes, size = _dense(classes, size)
        classes = classes * width + column
        size *= width
    return _dense(classes, size)[0]


def _dense(codes: IntArray, size: int) -> tuple[IntArray, int]:
    """The same classes, numbered without gaps; by a table of marks where that is smaller than sorting."""
    if size <= 8 * len(codes):
        seen = np.zeros(size, dtype=np.int64)
        seen[codes] = 1
        numbers = np.cumsum(seen) - 1
        return numbers[codes], int(numbers[-1]) + 1
    found, dense = np.unique(codes, return_inverse=True)
    return dense.astype(np.int64, copy=False).ravel(), len(found)


def anonymity(classes: IntArray) -> Anonymity:
    """k-anonymity and uniqueness of a table.

    Args:
        classes: ``(n,)`` from :func:`equivalence_classes`.

    Source: Sweeney (2002), k-anonymity: a model for protecting privacy, section 3.

    >>> anonymity(np.array([0, 0, 1])).k
    1
    """
    sizes = np.bincount(classes)
    return Anonymity(n=len(classes), k=int(sizes.min()), n_classes=len(sizes), n_unique=int((sizes == 1).sum()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """Diversity of a sensitive attribute within classes.

    Attributes:
        distinct: Fewest different values in a class (distinct l-diversity).
        entropy: ``exp`` of the smallest entropy in a class (entropy l-diversity), between 1 and ``distinct``.
        n_exposed: Rows in classes with one value only: their value is known without finding the row.
    """

    distinct: int
    entropy: float
    n_exposed: int


def l_diversity(classes: IntArray, sensitive: IntArray) -> Diversity:
    """How many values of ``sensitive`` hide a row within its class.

    Args:
        classes: ``(n,)`` from :func:`equivalence_classes`.
        sensitive: ``(n,)`` codes ``>= 0`` of the attribute to be kept secret.

    Source: Machanavajjhala, Kifer, Gehrke and Venkitasubramaniam (2007), l-diversity, definitions 3.1 and 4.1.

    >>> l_diversity(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2])).distinct
    1
    """
    classes_of, _, counts = _pairs(classes, sensitive)
    sizes = np.bincount(classes)
    distinct = np.bincount(classes_of)
    share = counts / sizes[classes_of]
    entropy = np.bincount(classes_of, weights=-share * np.log(share))
    return Diversity(
        distinct=int(distinct.min()),
        entropy=float(np.exp(max(entropy.min(), 0.0))),
        n_exposed=int(sizes[distinct == 1].sum()),
    )


def t_closeness(classes: IntArray, sensitive: IntArray, *, ordered: bool = False) -> float:
    """Largest distance between the distribution of ``sensitive`` in a class and in the whole table.

    Args:
        classes: ``(n,)`` from :func:`equivalence_classes`.
        sensitive: ``(n,)`` codes ``>= 0``; where ``ordered``, in the order of the values.
        ordered: Earth mover's distance over the order of the values (their ranks, as in the source) instead of the
            equal distance between any two, which is half the total variation.

    Returns:
        A number in [0, 1]: 0 where every class looks like the whole table.

    Source: Li, Li and Venkatasubramanian (2007), t-Closeness, sections 4.1 and 4.2.

    >>> t_closeness(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    0.5
    """
    values = np.unique(sensitive, return_inverse=True)[1].astype(np.int64).ravel()
    classes_of, value_of, counts = _pairs(classes, values)
    sizes = np.bincount(classes)
    whole = np.bincount(values) / len(values)
    inside = counts / sizes[classes_of]
    if ordered:
        return _ordered_distance(classes_of, value_of, inside, whole)
    gaps = np.bincount(classes_of, weights=np.abs(inside - whole[value_of]) - whole[value_of])
    return float(0.5 * (1.0 + gaps.max()))


def _pairs(classes: IntArray, values: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Class, value and rows of each (class, value) that occurs, in this order."""
    width = int(values.max()) + 1
    found, counts = np.unique(classes * width + values, return_counts=True)
    return found // width, found % width, counts


def _ordered_distance(classes_of: IntArray, value_of: IntArray, inside: FloatArray, whole: FloatArray) -> float:
    """Largest ``sum_i |F_class(i) - F(i)| / (m - 1)``, summed over the stretches on which ``F_class`` is constant."""
    m = len(whole)
    if m == 1:
        return 0.0
    steps = np.cumsum(whole)[:-1]  # F at every value but the last, where both are 1
    sums = np.concatenate([[0.0], np.cumsum(steps)])
    total = np.cumsum(inside)
    first = np.flatnonzero(np.diff(classes_of, prepend=-1))
    before = np.concatenate([[0.0], total])[first]
    level = total - np.repeat(before, np.diff(first, append=len(classes_of)))
    end = np.append(value_of[1:], m - 1)
    end[np.append(first[1:], len(classes_of)) - 1] = m - 1
    start = np.minimum(value_of, m - 1)
    # Where F crosses the level within the stretch: below it the level is above F, beyond it F is above the level.
    cross = np.clip(np.searchsorted(steps, level), start, end)
    gap = level * (cross - start) - (sums[cross] - sums[start]) + (sums[end] - sums[cross]) - level * (end - cross)
    # Before a class's first value its own F is 0.
    gap[first] += sums[value_of[first]]
    return float(np.bincount(classes_of, weights=gap).max() / (m - 1))
