"""One corruption of a batch of images, by name and severity."""

from __future__ import annotations

from collections.abc import Callable

import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.core.errors import UsageError
from auditkit.core.registry import nearest
from auditkit.methods.robustness.corruptions import blur, digital, jpeg, noise, weather
from auditkit.methods.robustness.corruptions.draws import Draws, SeededDraws
from auditkit.methods.robustness.corruptions.severities import LARGE_FROM, NAMES, STRENGTHS, Size, Strength

# What it makes of float32 images, which it may overwrite.
Corruption = Callable[[torch.Tensor, Strength, Draws], torch.Tensor]
# Values of one chunk of images. On the CPU a few temporaries of this size stay in its caches (the many small steps of
# fog are better shared by more images); elsewhere they fit into any memory.
_VALUES, _VALUES_FOG, _VALUES_ELSEWHERE = 320_000, 2_400_000, 8_000_000

CORRUPTIONS: dict[str, Corruption] = {
    name: getattr(module, name)
    for module in (noise, blur, weather, digital, jpeg)
    for name in NAMES
    if hasattr(module, name)
}


def corrupt(
    images: torch.Tensor,
    name: str,
    severity: int,
    *,
    size: Size | None = None,
    seed: int = 0,
    draws: Draws | None = None,
) -> torch.Tensor:
    """Images under one corruption.

    Args:
        images: ``(n, c, h, w)`` floating-point grey (``c = 1``) or RGB (``c = 3``) images in [0, 1], on any device.
        name: One of :data:`NAMES`.
        severity: 1 to 5.
        size: Strengths for ``large`` (ImageNet-C) or ``small`` images (CIFAR-10-C); by the shorter side when left out.
        seed: Seed of the random corruptions.
        draws: Randomness from elsewhere, instead of ``seed``.

    Returns:
        A new tensor of the same shape, dtype and device, in [0, 1].

    Raises:
        UsageError: AK578 no such corruption or severity; AK579 not grey or RGB images in [0, 1].

    Source: Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to common corruptions and
    perturbations", section 3 and appendix B. Frost is drawn here where the original crops photographs.

    >>> faint = corrupt(torch.tensor([[[[0.2, 0.8]]]]), "contrast", 5, size="small")
    >>> [round(value, 3) for value in faint.flatten().tolist()]
    [0.455, 0.545]
    """
    if name not in CORRUPTIONS:
        raise UsageError("AK578", f"there is no corruption {name!r}", fix=nearest(name, NAMES) or ", ".join(NAMES))
    if severity not in (1, 2, 3, 4, 5):
        raise UsageError("AK578", f"a severity is 1, 2, 3, 4 or 5, got {severity!r}")
    _check(images)
    if not images.numel():
        return torch.empty_like(images)
    size = size or ("large" if min(images.shape[-2:]) >= LARGE_FROM else "small")
    source = draws or SeededDraws(seed, images.device)
    strength = STRENGTHS[size][name][severity - 1]
    values = _VALUES_ELSEWHERE if images.device.type != "cpu" else _VALUES_FOG if name == "fog" else _VALUES
    chunk = max(1, values // max(images[:1].numel(), 1))
    result = torch.empty_like(images, dtype=torch.float32, memory_format=torch.contiguous_format)
    with torch.no_grad():
        for part, out in zip(torch.split(images.detach(), chunk), torch.split(result, chunk), strict=True):
            corrupted = CORRUPTIONS[name](out.copy_(part), strength, source)
            if corrupted is not out:
                out.copy_(corrupted)
    return result.to(images.dtype)


def _check(images: torch.Tensor) -> None:
    why = None
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        why = f"they are {images.dtype} of shape {tuple(images.shape)}"
    elif not images.numel():
        return
    else:
        # One pass; a value that is no number is both the least and the largest.
        least, largest = (float(end) for end in torch.aminmax(images))
        if not 0.0 <= least <= largest <= 1.0:
            why = f"they reach from {least:g} to {largest:g}"
    if why is not None:
        raise UsageError(
            "AK579",
            "corruptions take grey or RGB images (n, c, h, w) of floats in [0, 1]",
            where="images",
            why=why,
            fix="divide by the range of the pixels, channels first",
        )
