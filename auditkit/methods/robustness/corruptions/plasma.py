"""Clouds by the diamond-square rule."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.methods.robustness.corruptions.draws import Draws

_Field = npt.NDArray[np.float32]
# Up to this length of a side all fields grow together, whose steps are then few; beyond, each on its own in the cache.
_COARSE = 128


def plasma(n: int, size: tuple[int, int], decay: float, draws: Draws) -> torch.Tensor:
    """Clouds ``(n, h, w)`` in [0, 1] on the CPU; on a torus, where the noise falls by ``decay`` a scale.

    Source: Fournier, Fussell and Carpenter (1982), Communications of the ACM 25.
    """
    side = 1 << (max(size) - 1).bit_length()
    # The first row and column stand again at the end, so that neighbours are found without wrapping round.
    coarse, wild = _grown(np.zeros((n, 2, 2), dtype=np.float32), 100.0, min(side, _COARSE), decay, draws)
    clouds = np.empty((n, *size), dtype=np.float32)
    for image in range(n):
        field, _ = _grown(coarse[image : image + 1], wild, side, decay, draws)
        least, most = field.min(), field.max()
        np.subtract(field[0, : size[0], : size[1]], least, out=clouds[image])
        clouds[image] /= max(most - least, np.float32(1e-12))
    return torch.from_numpy(clouds)


def _grown(field: _Field, wild: float, side: int, decay: float, draws: Draws) -> tuple[_Field, float]:
    """The field at ``side`` steps around, and the noise of the next scale."""
    while field.shape[1] <= side:
        field = _finer(field, wild, draws)
        wild /= decay
    return field, wild


def _finer(corners: _Field, wild: float, draws: Draws) -> _Field:
    """A field ``(n, 2m + 1, 2m + 1)`` at half the distance from one ``(n, m + 1, m + 1)``."""
    n, m = len(corners), corners.shape[1] - 1
    noise: _Field = draws.swings((n, 3 * m * m)).cpu().numpy().astype(np.float32, copy=False)
    noise *= np.float32(wild * wild)
    middle, top, left = (noise.reshape(n, 3, m, m)[:, part] for part in range(3))
    pairs = (corners[:, :-1] + corners[:, 1:]) * np.float32(0.25)
    middle += pairs[:, :, :-1]
    middle += pairs[:, :, 1:]
    quarter = middle * np.float32(0.25)
    corner = corners[:, :-1] * np.float32(0.25)
    left += pairs[:, :, :-1]
    for side, axis in ((top, 1), (left, 2)):
        side += quarter
        _add_former(side, quarter, axis)
    top += corner[:, :, :-1]
    top += corner[:, :, 1:]
    finer = np.empty((n, 2 * m + 1, 2 * m + 1), dtype=np.float32)
    inner = finer[:, :-1, :-1]
    inner[:, ::2, ::2], inner[:, 1::2, 1::2] = corners[:, :-1, :-1], middle
    inner[:, ::2, 1::2], inner[:, 1::2, ::2] = top, left
    finer[:, -1, :-1], finer[:, :, -1] = finer[:, 0, :-1], finer[:, :, 0]
    return finer


def _add_former(total: _Field, field: _Field, axis: int) -> None:
    """Add to each place the field one step before along the axis; before the first is the last."""
    total, field = np.moveaxis(total, axis, 0), np.moveaxis(field, axis, 0)
    total[1:] += field[:-1]
    total[0] += field[-1]
