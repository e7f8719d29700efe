"""How LIME draws rows around a reference table: bins, their frequencies, and truncated normals within them.

The law is that of lime's tabular explainer; the draws are our own, one uniform number a cell: it chooses the bin and,
within it, the quantile of a normal cut off at the bin's edges. Where all values of a bin are the same the sample is
that value (lime gives such a feature the value 0). A feature that counts takes whole numbers only, where lime draws
from the line between them: such a value is rounded before a model sees it, and may then lie in another bin than coded.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.lime_table import LimeTable

_SMALLEST_SPREAD = 1e-11
_PERCENTILES = {"quartile": (25, 50, 75), "decile": (10, 20, 30, 40, 50, 60, 70, 80, 90)}


@dataclass(frozen=True, kw_only=True)
class Column:
    """The law of one feature.

    Attributes:
        cuts: ``(c,)`` inner edges of the bins (value <= cut goes left); empty for categories and without bins.
        share: ``(k,)`` frequency of each bin or category that occurs; empty for a continuous feature without bins.
        code: ``(k,)`` number of the bin, or code of the category.
        low, high, mean, std: ``(k,)`` edges and moments of the bins; of the whole column without bins ``(1,)``, where
            a column of one value has the scale 1.
        binned: Whether the feature is cut into bins.
        ends: ``(2, k)`` least and largest reference value of each bin where only whole numbers are drawn (without bins
            ``(2, 0)``), else ``None``.
    """

    cuts: FloatArray
    share: FloatArray
    code: FloatArray
    low: FloatArray
    high: FloatArray
    mean: FloatArray
    std: FloatArray
    binned: bool
    ends: FloatArray | None = None

    @property
    def counted(self) -> bool:
        """Whether the surrogate sees "as in the row" (bins, categories) rather than a standardised value."""
        return len(self.share) > 0

    @property
    def constant(self) -> bool:
        """Whether the reference holds one value alone, so that no sample has another."""
        return bool(self.low[0] == self.high[-1])

    def coded(self, values: FloatArray) -> FloatArray:
        """Bin numbers of values (categories as they are)."""
        return np.asarray(np.searchsorted(self.cuts, values) if self.binned else values, dtype=np.float64)


def make_columns(table: LimeTable, reference: FloatArray, labels: IntArray | None) -> tuple[Column, ...]:
    """The law of every feature of complete ``reference`` rows ``(b, f)``."""
    columns = []
    for place in range(reference.shape[1]):
        values = reference[:, place]
        whole = place in table.whole and bool((values == np.rint(values)).all())
        if place in table.categorical:
            code, count = np.unique(values, return_counts=True)
            nothing = np.zeros(len(code))
            columns.append(_column(nothing[:0], count / len(values), code, (code, code, code, nothing), binned=False))
        elif table.discretizer is None:
            mean, std = values.mean(keepdims=True), values.std(keepdims=True)
            low, high = values.min(keepdims=True), values.max(keepdims=True)
            # A column whose spread is rounding counts as constant, with scale 1, as in a StandardScaler.
            if std[0] <= 10 * np.finfo(np.float64).eps * max(abs(float(mean[0])), 1.0):
                low, high, std = mean, mean, np.ones(1)
            moments = (low, high, mean, std)
            line = _column(values[:0], values[:0], values[:0], moments, binned=False)
            columns.append(dataclasses.replace(line, ends=np.empty((2, 0)) if whole else None))
        else:
            columns.append(_binned(values, _cuts(values, table.discretizer, labels), whole))
    return tuple(columns)


def draw(columns: tuple[Column, ...], samples: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """``samples`` rows of the law. A constant column keeps its value (lime moves it by a standard normal without bins).

    Returns:
        Values ``(samples, f)`` in the model's own units, and what the surrogate codes ``(samples, f)``: bin numbers,
        categories, or standardised values.
    """
    from scipy.special import ndtri

    values = np.empty((len(columns), samples))
    coded = np.empty((len(columns), samples))
    uniform = rng.random((len(columns), samples))
    for place, column in enumerate(columns):
        u = uniform[place]
        if not column.counted:
            coded[place] = 0.0 if column.constant else ndtri(np.maximum(u, np.finfo(np.float64).tiny))
            values[place] = coded[place] * column.std[0] + column.mean[0]
            if column.ends is not None:
                np.rint(values[place], out=values[place])
                coded[place] = (values[place] - column.mean[0]) / column.std[0]
            continue
        ends = np.cumsum(column.share)
        ends[-1] = 1.0
        pick = _bins_of(u, ends)
        coded[place] = column.code[pick]
        values[place] = _within(column, pick, u, ends) if column.binned else coded[place]
        if column.ends is not None:
            np.clip(np.rint(values[place]), *column.ends[:, pick], out=values[place])
    return np.ascontiguousarray(values.T), np.ascontiguousarray(coded.T)


def _bins_of(u: FloatArray, ends: FloatArray) -> npt.NDArray[np.intp]:
    """Bins that uniform numbers fall into; a few comparisons beat a binary search."""
    if len(ends) > 12:
        return np.searchsorted(ends, u, side="right")
    pick = np.zeros(len(u), dtype=np.intp)
    for end in ends[:-1]:
        pick += u >= end
    return pick


def _within(column: Column, pick: npt.NDArray[np.intp], u: FloatArray, ends: FloatArray) -> FloatArray:
    """Truncated normals in the bins ``pick`` from the rest of the uniform numbers that chose them.

    The quantile is a straight line in ``u`` within a bin, so that one multiplication and one inverse normal do.
    """
    from scipy.special import ndtr, ndtri

    low, high = (column.low - column.mean) / column.std, (column.high - column.mean) / column.std
    p = ndtr(low)
    slope = (ndtr(high) - p) / column.share
    z = slope[pick]
    z *= u
    z += (p - slope * (ends - column.share))[pick]
    ndtri(z, out=z)
    z *= column.std[pick]
    z += column.mean[pick]
    # Rounding at the outermost edges alone.
    return np.asarray(np.clip(z, column.low[0], column.high[-1], out=z))


def _column(
    cuts: FloatArray,
    share: FloatArray,
    code: FloatArray,
    moments: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    *,
    binned: bool,
) -> Column:
    low, high, mean, std = moments
    return Column(cuts=cuts, share=share, code=code, low=low, high=high, mean=mean, std=std, binned=binned)


def _binned(values: FloatArray, cuts: FloatArray, whole: bool) -> Column:
    bins = np.searchsorted(cuts, values)
    code, count = np.unique(bins, return_counts=True)
    edges = np.concatenate([[values.min()], cuts, [values.max()]])
    low, high = edges[:-1][code], edges[1:][code]
    inside = [values[bins == b] for b in code]
    mean = np.array([part.mean() for part in inside])
    std = np.array([part.std() for part in inside]) + _SMALLEST_SPREAD
    found = _column(cuts, count / len(values), code.astype(np.float64), (low, high, mean, std), binned=True)
    ends = np.array([[part.min() for part in inside], [part.max() for part in inside]])
    return dataclasses.replace(found, ends=ends if whole else None)


def _cuts(values: FloatArray, discretizer: str, labels: IntArray | None) -> FloatArray:
    if discretizer in _PERCENTILES:
        return np.unique(np.percentile(values, _PERCENTILES[discretizer]))
    from sklearn.tree import DecisionTreeClassifier

    tree: Any = DecisionTreeClassifier(criterion="entropy", max_depth=3, random_state=0)
    tree = tree.fit(values[:, None], labels).tree_
    found = tree.threshold[tree.children_left > -1]
    return np.unique(found) if len(found) else np.array([np.median(values)])
