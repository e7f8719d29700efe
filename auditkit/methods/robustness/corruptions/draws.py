"""Where the randomness of a corruption comes from: one seeded stream for a whole batch."""

from __future__ import annotations

from typing import Protocol

import torch  # noqa: TID253 - this module exists to drive torch


class Draws(Protocol):
    """Random tensors; the first axis of every shape counts images."""

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Standard normal numbers."""

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Uniform numbers in [0, 1)."""

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> torch.Tensor:
        """Whole numbers from ``low`` up to, and not with, ``high``."""

    def poisson(self, mean: torch.Tensor) -> torch.Tensor:
        """Poisson counts with the means given."""


class SeededDraws:
    """Draws of one ``torch.Generator``; the global generators are left alone."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(device=self.device).manual_seed(seed)

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Uniform numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> torch.Tensor:
        """Whole numbers from ``low`` up to, and not with, ``high``."""
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def poisson(self, mean: torch.Tensor) -> torch.Tensor:
        """Poisson counts with the means given."""
        return torch.poisson(mean, generator=self.generator)
