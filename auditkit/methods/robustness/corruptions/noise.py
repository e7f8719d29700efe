"""Noise of a sensor: Gaussian, shot and impulse noise."""

from __future__ import annotations

import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.methods.robustness.corruptions.draws import Draws
from auditkit.methods.robustness.corruptions.severities import Strength


def gaussian_noise(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Independent normal noise of the standard deviation ``strength[0]``."""
    return x.add_(draws.normal(tuple(x.shape)), alpha=strength[0]).clamp_(0.0, 1.0)


def shot_noise(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Poisson noise of ``strength[0]`` photons at full brightness."""
    return draws.photons(x, strength[0]).div_(strength[0]).clamp_(0.0, 1.0)


def impulse_noise(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Salt and pepper: the share ``strength[0]`` of the values becomes 0 or 1."""
    # What is lifted or lowered by 2 ends at 1 or 0.
    return x.add_(draws.impulses(tuple(x.shape), strength[0]), alpha=2.0).clamp_(0.0, 1.0)
