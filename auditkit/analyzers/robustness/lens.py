"""How a torch module's input follows from the rows as a matrix: what a gradient step means in the user's units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditkit.analyzers.robustness.arena import Grid
from auditkit.core.subject import FloatArray, IntArray

# Columns probed one by one, each for one pass of the preparation.
_PROBED = 2000


@dataclass(frozen=True, kw_only=True)
class Lens:
    """The map from the matrix to the module's tensor: coordinate ``k`` is ``gain[k] * x[:, column[k]] + offset[k]``.

    Attributes:
        column: ``(t,)`` the column that a coordinate of the tensor follows; -1 where it follows none that may change
            (a category, a column that is held).
        gain: ``(t,)``.
        offset: ``(t,)``.
        tensor: ``(n, *features)`` the rows as the module takes them.
    """

    column: IntArray
    gain: FloatArray
    offset: FloatArray
    tensor: Any

    def apply(self, x: FloatArray, flat: FloatArray) -> FloatArray:
        """The tensor's values, flat, for matrix rows ``x`` whose other coordinates are those of ``flat (n, t)``."""
        moved = x[:, self.column] * self.gain + self.offset
        return np.where((self.column < 0) | np.isnan(moved), flat, moved)

    def back(self, flat: FloatArray, x: FloatArray) -> FloatArray:
        """Matrix rows for tensor values ``flat``; what no coordinate tells, and missing cells, stay as in ``x``."""
        rows = x.copy()
        told = np.flatnonzero((self.column >= 0) & (self.gain != 0.0))
        rows[:, self.column[told]] = (flat[:, told] - self.offset[told]) / self.gain[told]
        return np.where(np.isnan(x), x, rows)

    def per_coordinate(self, values: FloatArray, otherwise: float) -> FloatArray:
        """Values of the columns ``(f,)`` or of cells ``(n, f)`` handed to the coordinates that follow them."""
        return np.asarray(np.where(self.column >= 0, values[..., self.column], otherwise))


def find_lens(grid: Grid, x: FloatArray, tensor: Callable[[Any], Any]) -> Lens | None:
    """The map of rows ``x (n, f)`` of the grid to ``tensor(inputs)``, or ``None`` where a column has none.

    Cells may be scaled and shifted, and columns that do not change may be encoded in any way. Where the preparation
    mixes columns that change, a gradient step has no image among feasible rows.
    """
    import torch

    if not len(x):
        return None
    found = tensor(grid.decode(x)).detach()
    if not found.is_floating_point():
        return None
    flat, slack = _flat(found), 64.0 * torch.finfo(found.dtype).eps
    if flat.shape == x.shape and np.isfinite(x).all():
        every = np.arange(x.shape[1], dtype=np.int64)
        for gain, offset in _candidate_maps(x, flat):
            if _fits(x, flat, gain, offset, slack):
                return Lens(column=every, gain=gain, offset=offset, tensor=found)
    if not grid.names or len(grid.names) > _PROBED:
        return None
    return _probed(grid, x, tensor, found, slack)


def _flat(tensor: Any) -> FloatArray:
    return np.asarray(tensor.reshape(len(tensor), -1).double().cpu().numpy())


def _fits(x: FloatArray, flat: FloatArray, gain: Any, offset: Any, slack: float) -> bool:
    error = np.abs(x * gain + offset - flat)
    return bool((error <= slack * (np.abs(x * gain) + np.abs(offset) + np.abs(flat))).all())


def _candidate_maps(x: FloatArray, flat: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    features = x.shape[1]
    maps = [(np.ones(features), np.zeros(features))]
    low, high = np.unravel_index(x.argmin(), x.shape), np.unravel_index(x.argmax(), x.shape)
    if x[high] > x[low]:
        gain = (flat[high] - flat[low]) / (x[high] - x[low])
        maps.append((np.full(features, gain), np.full(features, flat[low] - gain * x[low])))
    columns = np.arange(features)
    bottom, top = x.argmin(axis=0), x.argmax(axis=0)
    span = x[top, columns] - x[bottom, columns]
    rise = flat[top, columns] - flat[bottom, columns]
    slope = np.where(span > 0, rise / np.where(span > 0, span, 1.0), 1.0)
    maps.append((slope, flat[bottom, columns] - slope * x[bottom, columns]))
    return maps


def _probed(grid: Grid, x: FloatArray, tensor: Callable[[Any], Any], found: Any, slack: float) -> Lens | None:
    """Move one column at a time and see which coordinate of the tensor follows."""
    flat = _flat(found)
    width = flat.shape[1]
    column = np.full(width, -1, dtype=np.int64)
    gain, offset = np.zeros(width), np.zeros(width)
    for place in np.flatnonzero(grid.space.mutable):
        there = ~np.isnan(x[:, place])
        if not there.any():
            continue
        scale = float(grid.space.scale[place])
        moved = x[there].copy()
        moved[:, place] += max(1.0, np.round(scale)) if grid.space.whole[place] else scale
        before, after = flat[there], _flat(tensor(grid.decode(moved)).detach())
        if after.shape != before.shape:
            return None
        change = np.abs(after - before) > slack * (np.abs(after) + np.abs(before))
        followers = np.flatnonzero(change.any(axis=0))
        if not len(followers):
            continue
        only = int(followers[0])
        if len(followers) > 1 or column[only] >= 0:
            return None
        cells = np.concatenate([x[there, place], moved[:, place]])
        values = np.concatenate([before[:, only], after[:, only]])
        slope = float(np.mean(after[:, only] - before[:, only]) / np.mean(moved[:, place] - x[there, place]))
        start = float(np.mean(values - slope * cells))
        if not _fits(cells, values, slope, start, slack):
            return None
        column[only], gain[only], offset[only] = place, slope, start
    return Lens(column=column, gain=gain, offset=offset, tensor=found) if (column >= 0).any() else None
