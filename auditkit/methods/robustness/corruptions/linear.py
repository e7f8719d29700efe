"""Linear maps along the two axes of images, as matrices: smoothing and resampling of a batch in two products."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - this module exists to drive torch

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


# Columns in use by the rows of a banded matrix that are multiplied together: the fewer, the fewer zeros; the more, the
# fewer products.
_ACROSS = 48


class Banded:
    """A matrix whose rows are zero but near the diagonal; some rows at a time, cut to the columns that they use."""

    def __init__(self, matrix: FloatArray) -> None:
        self.matrix = matrix
        across = np.count_nonzero(matrix.any(axis=0)) / max(len(matrix), 1)
        self.together = int(np.clip(_ACROSS / max(across, 1e-9), 8, 96))
        self._cut: dict[tuple[torch.dtype, torch.device], list[tuple[torch.Tensor, int, int]]] = {}

    def parts(self, like: torch.Tensor) -> list[tuple[torch.Tensor, int, int]]:
        """Rows of the matrix, and the columns ``low`` to ``high`` outside which they are zero; made once a device."""
        key = like.dtype, like.device
        if key not in self._cut:
            starts = range(0, len(self.matrix), self.together)
            self._cut[key] = [_part(self.matrix[start : start + self.together], like) for start in starts]
        return self._cut[key]


def _part(rows: FloatArray, like: torch.Tensor) -> tuple[torch.Tensor, int, int]:
    used = np.flatnonzero(rows.any(axis=0))
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    return torch.as_tensor(rows[:, low:high], dtype=like.dtype, device=like.device), low, high


def along(images: torch.Tensor, rows: Banded | None, columns: Banded | None) -> torch.Tensor:
    """``rows @ image @ columns.T`` for each image and channel of ``(..., h, w)``; ``None`` leaves an axis alone."""
    if rows is None:
        return images if columns is None else _along_columns(images, columns)
    planes = images.reshape(-1, *images.shape[-2:]).transpose(0, 1).contiguous()
    done = along_lines(planes, rows, columns).transpose(0, 1).contiguous()
    return done.view(*images.shape[:-2], *done.shape[-2:])


def along_lines(lines: torch.Tensor, rows: Banded, columns: Banded | None) -> torch.Tensor:
    """The same for planes ``(h, planes, w)`` that lie line by line, which makes the products few and large."""
    flat = lines.view(len(lines), -1)
    result = flat.new_empty((len(rows.matrix), flat.shape[1]))
    for (part, low, high), out in zip(rows.parts(lines), torch.split(result, rows.together), strict=True):
        torch.mm(part, flat[low:high], out=out)
    done = result.view(-1, *lines.shape[1:])
    return done if columns is None else _along_columns(done, columns)


def _along_columns(images: torch.Tensor, columns: Banded) -> torch.Tensor:
    flat = images.reshape(-1, images.shape[-1])
    result = flat.new_empty((len(flat), len(columns.matrix)))
    for (part, low, high), out in zip(columns.parts(images), torch.split(result, columns.together, dim=1), strict=True):
        torch.mm(flat[:, low:high], part.T, out=out)
    return result.view(*images.shape[:-1], -1)


def smoothed(images: torch.Tensor, sigma: tuple[float, float], *, edge: str, cut: float) -> torch.Tensor:
    """Gaussian smoothing by ``sigma`` pixels (height, width); ``edge`` as in ``numpy.pad``; cut at ``cut`` sigma."""
    height, width = images.shape[-2:]
    return along(images, _gaussian(height, sigma[0], edge, cut), _gaussian(width, sigma[1], edge, cut))


@functools.lru_cache(maxsize=64)
def _gaussian(size: int, sigma: float, edge: str, cut: float) -> Banded:
    """The ``(size, size)`` matrix of a Gaussian filter."""
    radius = int(cut * sigma + 0.5)
    if radius == 0:
        return Banded(np.eye(size))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    source = np.pad(np.arange(size), radius, mode=edge)  # type: ignore[call-overload]
    matrix = np.zeros((size, size))
    for offset, weight in enumerate(kernel):
        np.add.at(matrix, (np.arange(size), source[offset : offset + size]), weight)
    return Banded(matrix)


@functools.lru_cache(maxsize=64)
def box_matrix(size: int, to: int) -> Banded:
    """The ``(to, size)`` matrix that averages the whole pixels under each new, larger one."""
    scale = size / to
    reach = 0.5 * max(scale, 1.0)
    matrix = np.zeros((to, size))
    for place in range(to):
        center = (place + 0.5) * scale
        first, last = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), size)
        inside = [p for p in range(first, last) if -0.5 < (p - center + 0.5) / max(scale, 1.0) <= 0.5]
        matrix[place, inside] = 1.0 / len(inside)
    return Banded(matrix)


@functools.lru_cache(maxsize=256)
def enlarging_matrix(size: int, factor: float) -> Banded:
    """The ``(size, size)`` matrix that enlarges the middle of a line ``factor`` times, ends on ends, and trims it."""
    part = math.ceil(size / factor)
    whole = round(part * factor)
    place = np.arange(whole) * ((part - 1) / max(whole - 1, 1))
    left = np.minimum(place.astype(int), max(part - 2, 0))
    matrix = np.zeros((whole, size))
    first = (size - part) // 2
    np.add.at(matrix, (np.arange(whole), first + left), 1.0 - (place - left))
    np.add.at(matrix, (np.arange(whole), first + np.minimum(left + 1, part - 1)), place - left)
    trim = (whole - size) // 2
    return Banded(matrix[trim : trim + size])


def enlarged(images: torch.Tensor, factor: float) -> torch.Tensor:
    """The middle of ``(n, c, h, w)`` enlarged ``factor`` times, ends on ends, linearly, and trimmed to ``h x w``."""
    height, width = images.shape[-2:]
    return along(images, enlarging_matrix(height, factor), enlarging_matrix(width, factor))
