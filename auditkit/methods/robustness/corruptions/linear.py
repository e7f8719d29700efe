"""Linear maps along the two axes of images, as matrices: smoothing and resampling of a batch in two products."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - this module exists to drive torch

FloatArray = npt.NDArray[np.float64]


# Rows of a banded matrix that are multiplied together: the fewer, the fewer zeros; the more, the fewer products.
_TOGETHER = 32


def along(images: torch.Tensor, rows: FloatArray | None, columns: FloatArray | None) -> torch.Tensor:
    """``rows @ image @ columns.T`` for each image and channel of ``(..., h, w)``; ``None`` leaves an axis alone."""
    if columns is not None:
        images = torch.cat([images[..., low:high] @ part.T for part, low, high in _bands(columns, images)], dim=-1)
    if rows is not None:
        images = torch.cat([part @ images[..., low:high, :] for part, low, high in _bands(rows, images)], dim=-2)
    return images


def _bands(matrix: FloatArray, like: torch.Tensor) -> list[tuple[torch.Tensor, int, int]]:
    """Some rows of the matrix at a time, cut to the columns ``low`` to ``high`` outside which they are zero."""
    bands = []
    for start in range(0, len(matrix), _TOGETHER):
        part = matrix[start : start + _TOGETHER]
        used = np.flatnonzero(part.any(axis=0))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        bands.append((torch.as_tensor(part[:, low:high], dtype=like.dtype, device=like.device), low, high))
    return bands


def smoothed(images: torch.Tensor, sigma: tuple[float, float], *, edge: str, cut: float) -> torch.Tensor:
    """Gaussian smoothing by ``sigma`` pixels (height, width); ``edge`` as in ``numpy.pad``; cut at ``cut`` sigma."""
    height, width = images.shape[-2:]
    return along(images, _gaussian(height, sigma[0], edge, cut), _gaussian(width, sigma[1], edge, cut))


@functools.lru_cache(maxsize=64)
def _gaussian(size: int, sigma: float, edge: str, cut: float) -> FloatArray:
    """The ``(size, size)`` matrix of a Gaussian filter."""
    radius = int(cut * sigma + 0.5)
    if radius == 0:
        return np.eye(size)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    source = np.pad(np.arange(size), radius, mode=edge)  # type: ignore[call-overload]
    matrix = np.zeros((size, size))
    for offset, weight in enumerate(kernel):
        np.add.at(matrix, (np.arange(size), source[offset : offset + size]), weight)
    return matrix


@functools.lru_cache(maxsize=64)
def box_matrix(size: int, to: int) -> FloatArray:
    """The ``(to, size)`` matrix that averages the whole pixels under each new, larger one."""
    scale = size / to
    reach = 0.5 * max(scale, 1.0)
    matrix = np.zeros((to, size))
    for place in range(to):
        center = (place + 0.5) * scale
        first, last = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), size)
        inside = [p for p in range(first, last) if -0.5 < (p - center + 0.5) / max(scale, 1.0) <= 0.5]
        matrix[place, inside] = 1.0 / len(inside)
    return matrix


def enlarged(images: torch.Tensor, factor: float) -> torch.Tensor:
    """The middle of ``(n, c, h, w)`` enlarged ``factor`` times, ends on ends, linearly, and trimmed to ``h x w``."""
    height, width = images.shape[-2:]
    part_h, part_w = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - part_h) // 2, (width - part_w) // 2
    part = images[..., top : top + part_h, left : left + part_w]
    size = (round(part_h * factor), round(part_w * factor))
    if size != (part_h, part_w):
        part = torch.nn.functional.interpolate(part, size=size, mode="bilinear", align_corners=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return part[..., top : top + height, left : left + width]
