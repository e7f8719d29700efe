"""Weather: snow, frost, fog and bright light."""

from __future__ import annotations

import functools

import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.methods.robustness.corruptions.blur import moved
from auditkit.methods.robustness.corruptions.draws import Draws, SeededDraws
from auditkit.methods.robustness.corruptions.linear import enlarged
from auditkit.methods.robustness.corruptions.plasma import plasma
from auditkit.methods.robustness.corruptions.severities import Strength

_LUMA = (0.299, 0.587, 0.114)
_TINT = (0.9, 1.02, 1.08)
# As many as the original corruption has photographs.
_SHEETS = 6
# Values of images in fog that are reckoned with together, to stay in a cache.
_TOGETHER = 160_000


def snow(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Flakes of thresholded noise, blown in a direction of their own for each image, on a whitened image."""
    mean, spread, zoom, least, radius, sigma, kept = strength
    height, width = x.shape[-2:]
    flakes = draws.normal((len(x), 1, height, width)).to(x.dtype).mul_(spread).add_(mean)
    flakes = enlarged(flakes, zoom)
    flakes = torch.threshold_(flakes, least, 0.0).clamp_(0.0, 1.0)
    angle = -135.0 + 90.0 * draws.uniform((len(x),))
    flakes = moved(flakes, int(radius), sigma, angle).mul_(255.0).round_().div_(255.0)
    flakes += torch.flip(flakes, (-2, -1))
    # kept * x + (1 - kept) * max(x, 1.5 * grey + 0.5), with the flakes on top.
    light = grey(x).mul(1.5 * (1.0 - kept)).add_(0.5 * (1.0 - kept))
    return torch.maximum(x * (1.0 - kept), light).add_(x, alpha=kept).add_(flakes).clamp_(0.0, 1.0)


def grey(x: torch.Tensor) -> torch.Tensor:
    """Brightness ``(n, 1, h, w)`` of grey or RGB images."""
    if x.shape[1] == 1:
        return x
    red, green, blue = torch.split(x, 1, dim=1)
    return torch.mul(red, _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def fog(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """A cloud of ``strength[0]`` laid on, darkened so that the brightest value stays where it was."""
    clouds = plasma(len(x), (x.shape[-2], x.shape[-1]), strength[1], draws).to(x)[:, None]
    some = max(1, _TOGETHER // max(x[:1].numel(), 1))
    for image, cloud in zip(torch.split(x, some), torch.split(clouds, some), strict=True):
        brightest = image.amax(dim=(1, 2, 3), keepdim=True)
        kept = brightest / (brightest + strength[0])
        image.mul_(kept).add_(cloud.mul_(kept * strength[0])).clamp_(0.0, 1.0)
    return x


def frost(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Ice laid on: ``strength[0]`` of the image and ``strength[1]`` of a part of one of six sheets of ice.

    The original corruption crops six photographs, which cannot be passed on. Here the six are drawn, once for a size of
    image; which of them an image gets, and where it is cut out, is drawn for each image as in the original.
    """
    n, channels, height, width = x.shape
    sheets = _sheets(height, width)
    parts = []
    for which, down, right in draws.uniform((n, 3)).tolist():
        sheet = sheets[int(which * len(sheets))]
        top, left = int(down * (sheet.shape[0] - height + 1)), int(right * (sheet.shape[1] - width + 1))
        parts.append(sheet[top : top + height, left : left + width])
    ice = torch.stack(parts)[:, None].to(x) if parts else x[:, :1].clone()
    return blended(x, ice.div_(255.0), strength, _TINT if channels == 3 else (1.0,))


def blended(
    x: torch.Tensor, texture: torch.Tensor, strength: Strength, tint: tuple[float, ...] = (1.0,)
) -> torch.Tensor:
    """``strength[0] * x + strength[1] * texture``, in range; each channel of the texture times its ``tint`` if grey."""
    x.mul_(strength[0])
    if len(tint) == 1:
        return x.add_(texture, alpha=strength[1]).clamp_(0.0, 1.0)
    for channel, share in enumerate(tint):
        x[:, channel].add_((texture[:, 0] * share).clamp_(max=1.0), alpha=strength[1])
    return x.clamp_(0.0, 1.0)


@functools.lru_cache(maxsize=4)
def _sheets(height: int, width: int) -> torch.Tensor:
    """Crystals ``(6, 2 * h, 2 * w)`` in bytes: needles in two directions over a ridged cloud, mean 0.62, spread 0.13.

    The photographs' mean brightness (0.65), spread (0.05 to 0.17) and bluish tint set the pattern's.
    """
    draws, size = SeededDraws(0), (2 * height, 2 * width)
    cloud = plasma(_SHEETS, size, 1.8, draws)[:, None]
    ridges = 1.0 - (2.0 * cloud - 1.0).abs_()
    needles = torch.zeros_like(ridges)
    for turn in (0.0, 90.0):
        seeds = torch.threshold_(draws.normal((_SHEETS, 1, *size)), 1.0, 0.0)
        angle = turn + 180.0 * draws.uniform((_SHEETS,))
        needles = torch.maximum(needles, moved(seeds, max(3, min(height, width) // 16), 4.0, angle))
    pattern = (ridges + needles)[:, 0]
    spread, mean = pattern.std(dim=(1, 2), keepdim=True).clamp_min(1e-6), pattern.mean(dim=(1, 2), keepdim=True)
    return (0.62 + 0.13 * (pattern - mean) / spread).mul_(255.0).round_().clamp_(0.0, 255.0).to(torch.uint8)


def brightness(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """The value of HSV raised by ``strength[0]``; hue and saturation stay. Grey images are raised as they are."""
    value = x.amax(dim=1, keepdim=True)
    raised = (value + strength[0]).clamp_(0.0, 1.0)
    return torch.where(value > 0, x * (raised / value.clamp_min(1e-12)), raised).clamp_(0.0, 1.0)
