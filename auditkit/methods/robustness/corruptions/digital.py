"""Digital faults: low contrast, elastic deformation and coarse pixels."""

from __future__ import annotations

import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.methods.robustness.corruptions.draws import Draws
from auditkit.methods.robustness.corruptions.linear import along, box_matrix, smoothed
from auditkit.methods.robustness.corruptions.severities import Strength


def contrast(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Each channel shrunk towards its mean to ``strength[0]`` of its contrast."""
    mean = x.mean(dim=(2, 3), keepdim=True)
    return x.mul_(strength[0]).add_(mean, alpha=1.0 - strength[0]).clamp_(0.0, 1.0)


def elastic_transform(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Pixels displaced by a smooth random field, after a random affine map where ``strength[3]`` is above 0.

    Source: Simard, Steinkraus and Platt (2003), ICDAR.
    """
    size, smooth, bound, shift = strength
    height, width = x.shape[-2:]
    if shift > 0:
        x = _sampled(x, _affine_grid(x, shift, draws), mirror_edge=True)
    if size > 0:
        fields = [draws.swings((len(x), 1, height, width)).to(x) for _ in range(2)]
        away = smoothed(torch.cat(fields, dim=1), (smooth * height, smooth * width), edge="symmetric", cut=3.0)
        # From pixels to the coordinates of a sampling grid, whose ends are the rims of the outer pixels.
        rows, columns = _lines(x, mirror_edge=False)
        grid = x.new_empty((len(x), height, width, 2))
        torch.add(columns[None, None, :], away[:, 0], alpha=2.0 * size * bound * height / width, out=grid[..., 0])
        torch.add(rows[None, :, None], away[:, 1], alpha=2.0 * size * bound, out=grid[..., 1])
        x = _sampled(x, grid, mirror_edge=False)
    return x.clamp(0.0, 1.0)


def _lines(x: torch.Tensor, *, mirror_edge: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows ``(h,)`` and columns ``(w,)`` on a scale whose -1 and 1 are the outer pixels' middles, or their rims."""
    lines = []
    for length in x.shape[-2:]:
        place = torch.arange(length, dtype=x.dtype, device=x.device)
        lines.append(2 * place / max(length - 1, 1) - 1 if mirror_edge else (2 * place + 1) / length - 1)
    return lines[0], lines[1]


def _affine_grid(x: torch.Tensor, shift: float, draws: Draws) -> torch.Tensor:
    """Where each pixel comes from when three points around the middle move by up to ``shift`` of the height."""
    height, width = x.shape[-2:]
    middle = torch.tensor([width // 2, height // 2], dtype=torch.float64)
    reach = float(min(height, width) // 3)
    before = middle + reach * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    moves = (2.0 * draws.uniform((len(x), 3, 2)).double().cpu() - 1.0) * (shift * height)
    ones = torch.ones((len(x), 3, 1), dtype=torch.float64)
    # after @ inverse = before: the map is read backwards, from where a pixel is to where it was.
    back = torch.linalg.lstsq(torch.cat([before + moves, ones], dim=2), before.expand(len(x), 3, 2)).solution
    # Onto the scale from the middle of the first pixel, -1, to that of the last, 1.
    back = back * torch.tensor([2.0 / max(width - 1, 1), 2.0 / max(height - 1, 1)], dtype=torch.float64)
    back[:, 2] -= 1.0
    a = back.to(x)
    rows, columns = (torch.arange(length, dtype=x.dtype, device=x.device) for length in (height, width))
    grid = x.new_empty((len(x), height, width, 2))
    for axis in range(2):
        down = rows * a[:, 1, axis, None] + a[:, 2, axis, None]
        torch.add(down[:, :, None], (columns * a[:, 0, axis, None])[:, None, :], out=grid[..., axis])
    return grid


def _sampled(x: torch.Tensor, grid: torch.Tensor, *, mirror_edge: bool) -> torch.Tensor:
    """Bilinear values at ``grid (n, h, w, 2)``; beyond the edge mirrored at the outer pixels' middle or their rim."""
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
    """Values in whole steps of 1/255, in place."""
    return x.mul_(255.0).add_(0.5).floor_().div_(255.0)
