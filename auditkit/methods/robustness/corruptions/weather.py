"""Weather: snow, frost, fog and bright light."""

from __future__ import annotations

import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.methods.robustness.corruptions.blur import moved
from auditkit.methods.robustness.corruptions.draws import Draws
from auditkit.methods.robustness.corruptions.linear import enlarged
from auditkit.methods.robustness.corruptions.severities import Strength

_LUMA = (0.299, 0.587, 0.114)


def snow(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Flakes of thresholded noise, blown in a direction of their own for each image, on a whitened image."""
    mean, spread, zoom, least, radius, sigma, kept = strength
    height, width = x.shape[-2:]
    flakes = mean + spread * draws.normal((len(x), 1, height, width)).to(x.dtype)
    flakes = enlarged(flakes, zoom)
    flakes = torch.where(flakes < least, torch.zeros_like(flakes), flakes).clamp(0.0, 1.0)
    angle = -135.0 + 90.0 * draws.uniform((len(x),))
    flakes = torch.round(moved(flakes, int(radius), sigma, angle) * 255.0) / 255.0
    white = kept * x + (1.0 - kept) * torch.maximum(x, grey(x) * 1.5 + 0.5)
    return (white + flakes + torch.flip(flakes, (-2, -1))).clamp(0.0, 1.0)


def grey(x: torch.Tensor) -> torch.Tensor:
    """Brightness ``(n, 1, h, w)`` of grey or RGB images."""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor(_LUMA, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(dim=1, keepdim=True)


def fog(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """A cloud of ``strength[0]`` laid on, darkened so that the brightest value stays where it was."""
    brightest = x.amax(dim=(1, 2, 3), keepdim=True)
    cloud = plasma(len(x), tuple(x.shape[-2:]), strength[1], draws).to(x)[:, None]  # type: ignore[arg-type]
    total = brightest + strength[0]
    return ((x + strength[0] * cloud) * brightest / total).clamp(0.0, 1.0)


def plasma(n: int, size: tuple[int, int], decay: float, draws: Draws) -> torch.Tensor:
    """Clouds ``(n, h, w)`` in [0, 1] by the diamond-square rule on a torus; noise falls by ``decay`` a scale.

    Source: Fournier, Fussell and Carpenter (1982), Communications of the ACM 25.
    """
    side = 1 << (max(size) - 1).bit_length()
    field = torch.zeros((n, side, side), dtype=torch.float64)
    step, wild = side, 100.0

    def settled(total: torch.Tensor) -> torch.Tensor:
        swing = (2.0 * draws.uniform(tuple(total.shape)).double().cpu() - 1.0) * wild
        return total / 4.0 + wild * swing

    while step >= 2:
        half = step // 2
        corners = field[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        field[:, half::step, half::step] = settled(pairs + pairs.roll(-1, 2))
        middles, corners = field[:, half::step, half::step], field[:, ::step, ::step]
        field[:, ::step, half::step] = settled(middles + middles.roll(1, 1) + corners + corners.roll(-1, 2))
        field[:, half::step, ::step] = settled(middles + middles.roll(1, 2) + corners + corners.roll(-1, 1))
        step, wild = half, wild / decay
    field -= field.amin(dim=(1, 2), keepdim=True)
    field /= field.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    return field[:, : size[0], : size[1]]


def frost(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Ice laid on: ``strength[0]`` of the image and ``strength[1]`` of a crystal pattern that is drawn."""
    return blended(x, ice(x, draws), strength)


def blended(x: torch.Tensor, texture: torch.Tensor, strength: Strength) -> torch.Tensor:
    """``strength[0] * x + strength[1] * texture``, in range."""
    return (strength[0] * x + strength[1] * texture).clamp(0.0, 1.0)


def ice(x: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Crystals ``(n, c, h, w)``: needles in two directions over a ridged cloud, bluish, mean about 0.62, spread 0.13.

    The original corruption crops six photographs, which cannot be passed on; their mean brightness (0.65), spread
    (0.05 to 0.17) and tint set the pattern's.
    """
    n, channels, height, width = x.shape
    cloud = plasma(n, (height, width), 1.8, draws).to(x)[:, None]
    ridges = 1.0 - (2.0 * cloud - 1.0).abs()
    needles = torch.zeros_like(ridges)
    for turn in (0.0, 90.0):
        seeds = draws.normal((n, 1, height, width)).to(x)
        sharp = torch.where(seeds > 1.0, seeds, torch.zeros_like(seeds))
        angle = turn + 180.0 * draws.uniform((n,))
        needles = torch.maximum(needles, moved(sharp, max(3, min(height, width) // 16), 4.0, angle))
    pattern = ridges + needles
    spread, mean = pattern.std(dim=(2, 3), keepdim=True).clamp_min(1e-6), pattern.mean(dim=(2, 3), keepdim=True)
    pattern = (0.62 + 0.13 * (pattern - mean) / spread).clamp(0.0, 1.0)
    if channels == 1:
        return pattern
    tint = torch.tensor([0.9, 1.02, 1.08], dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (pattern * tint).clamp(0.0, 1.0)


def brightness(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """The value of HSV raised by ``strength[0]``; hue and saturation stay. Grey images are raised as they are."""
    value = x.amax(dim=1, keepdim=True)
    raised = (value + strength[0]).clamp(0.0, 1.0)
    return torch.where(value > 0, x * (raised / value.clamp_min(1e-12)), raised).clamp(0.0, 1.0)
