"""Many ROC curves at a time, and the areas between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_BLOCK = 32  # pairs of curves at a time: what is computed of them stays in the cache


@dataclass(frozen=True, slots=True)
class Roc:
    """ROC curves: false positive rates ``x (..., k)`` and true positive rates ``y (..., k)`` from (0, 0) to (1, 1).

    Between two neighbouring points a curve is straight; a score that only positive labels have is a step straight up.
    """

    x: FloatArray
    y: FloatArray

    def __getitem__(self, which: Any) -> Roc:
        """Some of the curves, by an index of the leading axes."""
        return Roc(self.x[which], self.y[which])


def roc_curves(positive: npt.NDArray[Any], negative: npt.NDArray[Any]) -> Roc:
    """The curves of masses ``(..., l)`` of each label at the levels of a rising score, as the threshold falls.

    Raises:
        ValueError: When a curve lacks a class.
    """
    return Roc(_rates(negative), _rates(positive))


def _rates(mass: npt.NDArray[Any]) -> FloatArray:
    total = np.zeros((*mass.shape[:-1], mass.shape[-1] + 1))
    np.cumsum(mass[..., ::-1], axis=-1, out=total[..., 1:])
    if not (total[..., -1] > 0).all():
        raise ValueError("a ROC curve needs both classes")
    total /= total[..., -1:]
    return total


def areas_between(one: Roc, two: Roc) -> FloatArray:
    """Areas ``(b,)`` between curves ``(b, k)``, pair by pair, exactly; either may be one curve ``(k,)`` for all."""
    size = one.x.shape[-1]
    count = max(curve.x.shape[0] if curve.x.ndim > 1 else 1 for curve in (one, two))
    found = np.empty(count)
    for start in range(0, count, _BLOCK):
        part = slice(start, start + _BLOCK)
        first, second = (curve[part] if curve.x.ndim > 1 else curve for curve in (one, two))
        places = np.empty((len(found[part]), 2 * size))
        places[:, :size], places[:, size:] = first.x, second.x
        found[part] = _areas(first, second, places)
    return found


def _areas(one: Roc, two: Roc, places: FloatArray) -> FloatArray:
    """Areas between curves whose points lie at ``places (b, 2k)``, those of ``one`` first."""
    count, size = places.shape
    order = np.argsort(places, axis=-1, kind="stable")
    grid = places.ravel()[order + size * np.arange(count)[:, None]]
    left, width = grid[:, :-1], np.diff(grid, axis=-1)
    # Of the points left of each piece so many are the first curve's; where points tie the piece has no width.
    passed = np.cumsum(order[:, :-1] < size // 2, axis=-1)
    (height, rise), (other_height, other_rise) = (
        _lines(curve, points - 1) for curve, points in ((one, passed), (two, np.arange(1, size) - passed))
    )
    height -= other_height
    rise -= other_rise
    gap = height + rise * left
    end = gap + rise * width
    total = np.abs(gap) + np.abs(end)
    # Lines that cross zero leave two triangles, which is this much less than the trapezium of their heights.
    less = np.divide(gap * end, total, out=np.zeros_like(total), where=gap * end < 0)
    return np.asarray(np.einsum("ij,ij->i", width, total / 2 + less))


def _lines(curve: Roc, point: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Of the pieces that begin at ``point (b, j)``: the height at a rate of 0, if drawn on to there, and the slope."""
    run = np.diff(curve.x, axis=-1)
    slope = np.divide(np.diff(curve.y, axis=-1), run, out=np.zeros_like(run), where=run > 0)
    height = curve.y[..., :-1] - curve.x[..., :-1] * slope
    piece = np.clip(point, 0, run.shape[-1] - 1)
    if run.ndim > 1:
        piece += run.shape[-1] * np.arange(len(run))[:, None]
    return height.ravel()[piece], slope.ravel()[piece]
