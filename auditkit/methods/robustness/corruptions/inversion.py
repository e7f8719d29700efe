"""Random numbers by inversion of their distribution function, read from tables by 16 random bits each.

Where 16 bits do not settle a number (the two outermost cells of the normal distribution, the cells of a Poisson
distribution in which its function takes a step), further bits do.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - this module exists to drive torch

# The unit interval is cut into this many cells for counts: more leave fewer with a step, fewer stay in the cache.
_CELLS = 2048
_LEVELS = 256

_Bits = npt.NDArray[np.uint16]


class _Table(NamedTuple):
    """What the counts are read from.

    ``counts (256 * cells,)`` holds the count of each level and cell, the type's largest number where a cell holds
    several; ``steps (256 * reach,)`` the distribution function, each level's raised by the level.
    """

    counts: npt.NDArray[np.uint8 | np.int16]
    steps: npt.NDArray[np.float64]
    reach: int


def normal_numbers(bits: _Bits, source: np.random.SFC64) -> torch.Tensor:
    """Standard normal numbers, float32, one for each of ``bits``.

    Each of 65,536 equally probable cells gives its mean, but for the two outermost, beyond 4.17, inside which is drawn
    again: the distribution function is nowhere more than 2**-16 off, the variance not more than 1e-6.
    """
    numbers = _normal_table().index_select(0, torch.from_numpy(bits.astype(np.int32)))
    outer = np.flatnonzero((bits + np.uint16(1)) < 2)
    if len(outer):
        from scipy.special import ndtri

        tail = ndtri((_fractions(source, len(outer)) + 2.0**-54) * 2.0**-16)
        numbers.numpy()[outer] = np.where(bits[outer] == 0, tail, -tail)
    return numbers


@functools.cache
def _normal_table() -> torch.Tensor:
    """``(65536,)`` the mean of a standard normal number in each of as many equally probable cells."""
    from scipy.special import ndtri

    ends = ndtri(np.arange(2**15 + 1) / 2**16)
    heights = np.exp(-0.5 * ends**2) / np.sqrt(2.0 * np.pi)
    lower = -np.diff(heights) * 2**16
    return torch.from_numpy(np.concatenate([lower, -lower[::-1]]).astype(np.float32))


def photon_counts(levels: torch.Tensor, most: float, bits: _Bits, source: np.random.SFC64) -> torch.Tensor:
    """Poisson counts with the means ``levels * most / 255``.

    Args:
        levels: ``(n,)`` int32 whole numbers from 0 to 255.
        most: Photons at the level 255.
        bits: ``(n,)`` random numbers of all values.
        source: Where the few further random numbers come from.

    Returns:
        ``(n,)`` float32 counts.
    """
    table = _count_table(most)
    cells = torch.from_numpy((bits & np.uint16(_CELLS - 1)).astype(np.int32)).add_(levels, alpha=_CELLS)
    read = torch.from_numpy(table.counts).index_select(0, cells)
    counts = read.float()
    unsettled = np.flatnonzero(read.numpy() == np.iinfo(table.counts.dtype).max)
    if len(unsettled):
        level, cell = np.divmod(cells.numpy()[unsettled], _CELLS)
        place = level + (cell + _fractions(source, len(level))) / _CELLS
        counts.numpy()[unsettled] = np.searchsorted(table.steps, place, side="right") - level * table.reach
    return counts


@functools.lru_cache(maxsize=8)
def _count_table(most: float) -> _Table:
    """The table for ``most`` photons at the level 255."""
    from scipy.special import pdtr

    reach = int(most + 12.0 * np.sqrt(most)) + 30
    means = np.arange(_LEVELS)[:, None] * (most / (_LEVELS - 1))
    steps = pdtr(np.arange(reach), means)
    steps[:, -1] = 1.0
    row = np.arange(_LEVELS)[:, None] * (_CELLS + 1)

    def passed(cell: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        held = np.bincount((row + cell.astype(np.int64)).ravel(), minlength=_LEVELS * (_CELLS + 1))
        return held.reshape(_LEVELS, _CELLS + 1).cumsum(axis=1)[:, :_CELLS]

    # The steps at or below the lower end of a cell, and those below its upper end.
    first, last = passed(np.ceil(steps * _CELLS)), passed(np.floor(steps * _CELLS))
    small: type[np.uint8 | np.int16] = np.uint8 if reach <= 255 else np.int16
    counts: npt.NDArray[np.uint8 | np.int16] = np.where(first == last, first, np.iinfo(small).max).astype(small)
    return _Table(counts.ravel(), (np.arange(_LEVELS)[:, None] + steps).ravel(), reach)


def _fractions(source: np.random.SFC64, count: int) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1) of 53 bits."""
    words: npt.NDArray[np.uint64] = source.random_raw(count)
    return np.asarray((words >> np.uint64(11)) * 2.0**-53, dtype=np.float64)
