"""Simulated shifts of a medical scanner: exposure, shading, sharpness, resolution and noise.

No strength here is that of a device; they are steps to see where a model gives way. A change of scanner in earnest is
measured on images of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.core.errors import UsageError
from auditkit.core.registry import nearest
from auditkit.methods.robustness.corruptions.draws import Draws, SeededDraws
from auditkit.methods.robustness.corruptions.linear import along, box_matrix, smoothed

# What the five numbers of each shift are stands in its function.
STRENGTHS: dict[str, tuple[float, float, float, float, float]] = {
    "gain": (0.1, 0.2, 0.3, 0.4, 0.5),
    "gamma": (0.1, 0.2, 0.35, 0.5, 0.7),
    "bias_field": (0.1, 0.2, 0.3, 0.45, 0.6),
    "blur": (0.01, 0.02, 0.03, 0.045, 0.06),
    "resampling": (0.85, 0.7, 0.55, 0.45, 0.35),
    "rician_noise": (0.02, 0.04, 0.06, 0.09, 0.12),
    "poisson_noise": (400.0, 200.0, 100.0, 50.0, 25.0),
}
NAMES: tuple[str, ...] = tuple(STRENGTHS)


def scanner_shift(images: torch.Tensor, name: str, severity: int, *, seed: int = 0) -> torch.Tensor:
    """Images under one simulated shift.

    Args:
        images: ``(n, c, h, w)`` floats in [0, 1]; the channels of an image shift together, except in noise.
        name: One of :data:`NAMES`.
        severity: 1 to 5.
        seed: Seed of what is random; each image has its own draw.

    Returns:
        A new tensor of the same shape, dtype and device, in [0, 1].

    Raises:
        UsageError: AK578 no such shift or severity; AK579 not images in [0, 1].

    Source: the kinds of shift of MedMNIST-C (Di Salvo et al. 2024); Rician noise: Gudbjartsson and Patz (1995).

    >>> darker = scanner_shift(torch.full((1, 1, 2, 2), 0.5), "gain", 1, seed=1)
    >>> sorted({round(value, 3) for value in darker.flatten().tolist()}) in ([0.452], [0.553])
    True
    """
    if name not in _SHIFTS:
        raise UsageError("AK578", f"there is no scanner shift {name!r}", fix=nearest(name, NAMES) or ", ".join(NAMES))
    if severity not in (1, 2, 3, 4, 5):
        raise UsageError("AK578", f"a severity is 1, 2, 3, 4 or 5, got {severity!r}")
    if images.ndim != 4 or not images.is_floating_point() or not bool(((images >= 0) & (images <= 1)).all()):
        raise UsageError("AK579", "scanner shifts take images (n, c, h, w) of floats in [0, 1]", where="images")
    with torch.no_grad():
        single = images.detach().float()
        shifted = _SHIFTS[name](single, STRENGTHS[name][severity - 1], SeededDraws(seed, images.device))
        return shifted.clamp(0.0, 1.0).to(images.dtype)


def _signs(x: torch.Tensor, draws: Draws) -> torch.Tensor:
    """``(n, 1, 1, 1)`` +1 or -1 for each image."""
    return torch.where(draws.uniform((len(x), 1, 1, 1)) < 0.5, -1.0, 1.0)


def _gain(x: torch.Tensor, strength: float, draws: Draws) -> torch.Tensor:
    """Brightness times ``exp(+-strength)``."""
    return x * torch.exp(strength * _signs(x, draws))


def _gamma(x: torch.Tensor, strength: float, draws: Draws) -> torch.Tensor:
    """Brightness to the power ``exp(+-strength)``."""
    return x ** torch.exp(strength * _signs(x, draws))


def _bias_field(x: torch.Tensor, strength: float, draws: Draws) -> torch.Tensor:
    """Brightness times ``exp(strength * f)``, where ``f`` is a random quadratic of the place, scaled to [-1, 1]."""
    height, width = x.shape[-2:]
    down = torch.linspace(-1, 1, height, device=x.device)[:, None].expand(height, width)
    right = torch.linspace(-1, 1, width, device=x.device)[None].expand(height, width)
    terms = torch.stack([down, right, down * right, down**2, right**2])
    field = (draws.normal((len(x), 5))[:, :, None, None] * terms).sum(dim=1, keepdim=True)
    field = field - field.mean(dim=(2, 3), keepdim=True)
    return x * torch.exp(strength * field / field.abs().amax(dim=(2, 3), keepdim=True).clamp_min(1e-12))


def _blur(x: torch.Tensor, strength: float, draws: Draws) -> torch.Tensor:
    """A Gaussian point spread of ``strength`` times the shorter side."""
    sigma = strength * min(x.shape[-2:])
    return smoothed(x, (sigma, sigma), edge="edge", cut=4.0)


def _resampling(x: torch.Tensor, strength: float, draws: Draws) -> torch.Tensor:
    """Boxes of pixels averaged down to ``strength`` of the resolution, and linearly up again."""
    height, width = x.shape[-2:]
    low, narrow = max(math.floor(height * strength), 1), max(math.floor(width * strength), 1)
    small = along(x, box_matrix(height, low), box_matrix(width, narrow))
    return torch.nn.functional.interpolate(small, size=(height, width), mode="bilinear", align_corners=False)


def _rician_noise(x: torch.Tensor, strength: float, draws: Draws) -> torch.Tensor:
    """The magnitude of a complex signal with normal noise of the standard deviation ``strength`` in both parts (MR)."""
    real, imaginary = (strength * draws.normal(tuple(x.shape)) for _ in range(2))
    return torch.sqrt((x + real) ** 2 + imaginary**2)


def _poisson_noise(x: torch.Tensor, strength: float, draws: Draws) -> torch.Tensor:
    """Counting noise of ``strength`` photons at full brightness (X-ray, CT, nuclear medicine)."""
    return draws.photons(x, strength) / strength


_SHIFTS: dict[str, Callable[[torch.Tensor, float, Draws], torch.Tensor]] = {
    "gain": _gain,
    "gamma": _gamma,
    "bias_field": _bias_field,
    "blur": _blur,
    "resampling": _resampling,
    "rician_noise": _rician_noise,
    "poisson_noise": _poisson_noise,
}
