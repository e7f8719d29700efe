"""Digital faults: low contrast, elastic deformation, coarse pixels and JPEG compression."""

from __future__ import annotations

import math

import numpy as np
import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.methods.robustness.corruptions.draws import Draws
from auditkit.methods.robustness.corruptions.linear import along, box_matrix, smoothed
from auditkit.methods.robustness.corruptions.severities import Strength


def contrast(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Each channel shrunk towards its mean to ``strength[0]`` of its contrast."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    return ((x - mean) * strength[0] + mean).clamp(0.0, 1.0)


def elastic_transform(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Pixels displaced by a smooth random field, after a random affine map where ``strength[3]`` is above 0.

    Source: Simard, Steinkraus and Platt (2003), ICDAR.
    """
    size, smooth, bound, shift = strength
    height, width = x.shape[-2:]
    rows, columns = _mesh(x)
    if shift > 0:
        x = _sampled(x, *_affine(x, shift, draws), mirror_edge=True)
    if size > 0:
        limit = bound * height
        fields = []
        for _ in range(2):
            field = limit * (2.0 * draws.uniform((len(x), 1, height, width)).to(x) - 1.0)
            fields.append(smoothed(field, (smooth * height, smooth * width), edge="symmetric", cut=3.0)[:, 0] * size)
        x = _sampled(x, rows + fields[1], columns + fields[0], mirror_edge=False)
    return x.clamp(0.0, 1.0)


def _mesh(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column numbers ``(1, h, w)``."""
    height, width = x.shape[-2:]
    rows = torch.arange(height, dtype=x.dtype, device=x.device)[None, :, None].expand(1, height, width)
    columns = torch.arange(width, dtype=x.dtype, device=x.device)[None, None, :].expand(1, height, width)
    return rows, columns


def _affine(x: torch.Tensor, shift: float, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each pixel comes from when three points around the middle move by up to ``shift`` of the height."""
    height, width = x.shape[-2:]
    middle = torch.tensor([width // 2, height // 2], dtype=torch.float64)
    reach = float(min(height, width) // 3)
    before = middle + reach * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    moves = (2.0 * draws.uniform((len(x), 3, 2)).double().cpu() - 1.0) * (shift * height)
    ones = torch.ones((len(x), 3, 1), dtype=torch.float64)
    # after @ inverse = before: the map is read backwards, from where a pixel is to where it was.
    back = torch.linalg.lstsq(torch.cat([before + moves, ones], dim=2), before.expand(len(x), 3, 2)).solution.to(x)
    rows, columns = _mesh(x)
    a = back[:, :, :, None, None]
    return (
        columns * a[:, 0, 1] + rows * a[:, 1, 1] + a[:, 2, 1],
        columns * a[:, 0, 0] + rows * a[:, 1, 0] + a[:, 2, 0],
    )


def _sampled(x: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, *, mirror_edge: bool) -> torch.Tensor:
    """Bilinear values at ``(rows, columns)``; beyond the edge mirrored at the outer pixels' middle or at their rim."""
    height, width = x.shape[-2:]
    if mirror_edge:
        grid = torch.stack([2 * columns / max(width - 1, 1) - 1, 2 * rows / max(height - 1, 1) - 1], dim=-1)
    else:
        grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    grid = grid.expand(len(x), *grid.shape[1:])
    return torch.nn.functional.grid_sample(
        x, grid, mode="bilinear", padding_mode="reflection", align_corners=mirror_edge
    )


def pixelate(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Boxes of pixels averaged down to the share ``strength[0]`` of the size, and blown up again."""
    height, width = x.shape[-2:]
    low, narrow = max(int(height * strength[0]), 1), max(int(width * strength[0]), 1)
    small = _rounded(along(x, None, box_matrix(width, narrow)))
    small = _rounded(along(small, box_matrix(height, low), None))
    rows = ((torch.arange(height, device=x.device) + 0.5) * low / height).long()
    columns = ((torch.arange(width, device=x.device) + 0.5) * narrow / width).long()
    return small.index_select(-1, columns).index_select(-2, rows)


def _rounded(x: torch.Tensor) -> torch.Tensor:
    """Values in whole steps of 1/255."""
    return (x * 255.0).add_(0.5).floor_().div_(255.0)


# Tables K.1 and K.2 of the JPEG standard (ITU-T T.81), row by row.
# fmt: off
_LUMINANCE = np.array([
    [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
], dtype=np.float64)
_CHROMINANCE = np.full((8, 8), 99.0)
_CHROMINANCE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
# fmt: on
_WAVES = np.array(
    [
        [math.sqrt((1 if k == 0 else 2) / 8) * math.cos((2 * j + 1) * k * math.pi / 16) for j in range(8)]
        for k in range(8)
    ]
)


def jpeg_compression(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """What baseline JPEG of the quality ``strength[0]`` leaves: colour at half the resolution, blocks of 8 x 8 rounded.

    Source: ITU-T T.81 (1992), annexes A and K; ITU-T T.871 (2011) for the colours; the scaling of the tables by quality
    is that of the Independent JPEG Group.
    """
    quality = int(strength[0])
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    luminance, chrominance = (
        np.clip(np.floor((table * scale + 50.0) / 100.0), 1.0, 255.0) for table in (_LUMINANCE, _CHROMINANCE)
    )
    height, width = x.shape[-2:]
    whole = torch.round(x * 255.0)
    if x.shape[1] == 1:
        return _blocks_rounded(_padded(whole, 8), luminance)[..., :height, :width] / 255.0
    red, green, blue = _padded(whole, 16).unbind(1)
    light = torch.round(0.299 * red + 0.587 * green + 0.114 * blue)
    colours = [
        torch.round(-0.168735892 * red - 0.331264108 * green + 0.5 * blue + 128.0),
        torch.round(0.5 * red - 0.418687589 * green - 0.081312411 * blue + 128.0),
    ]
    light = _blocks_rounded(light[:, None], luminance)[:, 0]
    halves = torch.stack(colours, dim=1)
    halves = torch.nn.functional.avg_pool2d(halves, 2)
    # Halves are rounded down and up in turn along a row.
    bias = torch.arange(halves.shape[-1], device=x.device) % 2 * 0.25 + 0.25
    halves = _blocks_rounded(torch.floor(halves + bias), chrominance)
    halves = halves[..., : -(-height // 2), : -(-width // 2)]
    full = torch.nn.functional.interpolate(halves, scale_factor=2, mode="bilinear", align_corners=False)
    first, second = (torch.round(full)[..., :height, :width] - 128.0).unbind(1)
    light = light[..., :height, :width]
    rgb = torch.stack(
        [light + 1.402 * second, light - 0.344136286 * first - 0.714136286 * second, light + 1.772 * first], dim=1
    )
    return torch.round(rgb).clamp(0.0, 255.0) / 255.0


def _padded(x: torch.Tensor, block: int) -> torch.Tensor:
    """Edges repeated up to whole blocks."""
    height, width = x.shape[-2:]
    return torch.nn.functional.pad(x, (0, -width % block, 0, -height % block), mode="replicate")


def _blocks_rounded(planes: torch.Tensor, table: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> torch.Tensor:
    """Planes of whole blocks in [0, 255] after the cosine transform was rounded to steps of ``table``."""
    n, channels, height, width = planes.shape
    # Rows and columns of a block at once, as one product with 64 numbers.
    waves = torch.as_tensor(np.kron(_WAVES, _WAVES), dtype=planes.dtype, device=planes.device)
    steps = torch.as_tensor(table.reshape(-1), dtype=planes.dtype, device=planes.device)
    blocks = (planes - 128.0).view(n, channels, height // 8, 8, width // 8, 8).permute(0, 1, 2, 4, 3, 5)
    rounded = (blocks.reshape(-1, 64) @ waves.T).div_(steps).round_().mul_(steps)
    back = (rounded @ waves).add_(128.0).round_().clamp_(0.0, 255.0).view(blocks.shape)
    return back.permute(0, 1, 2, 4, 3, 5).reshape(n, channels, height, width)
