"""Where the randomness of a corruption comes from: one seeded stream for a whole batch."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.methods.robustness.corruptions.inversion import normal_numbers, photon_counts


class Draws(Protocol):
    """Random tensors; the first axis of every shape counts images."""

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Standard normal numbers."""

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Uniform numbers in [0, 1)."""

    def swings(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Uniform numbers in (-1, 1), in steps of at most 1/16384."""

    def impulses(self, shape: tuple[int, ...], share: float) -> torch.Tensor:
        """1 and -1 with probability ``share / 2`` each, 0 elsewhere."""

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> torch.Tensor:
        """Whole numbers from ``low`` up to, and not with, ``high``."""

    def photons(self, light: torch.Tensor, most: float) -> torch.Tensor:
        """Poisson counts with the means ``light * most``, where ``light`` is in [0, 1]."""


class SeededDraws:
    """Draws from one seed; the global generators are left alone.

    On the CPU most come from the bits of NumPy's SFC64, which is several times as quick as the generator of torch.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        self.source = np.random.SFC64(seed) if self.device.type == "cpu" else None

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Standard normal numbers; on the CPU as :func:`normal_numbers` has them."""
        if self.source is None:
            return torch.randn(shape, generator=self.generator, device=self.device)
        return normal_numbers(_bits(self.source, shape), self.source).view(shape)

    def uniform(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Uniform numbers in [0, 1)."""
        return torch.rand(shape, generator=self.generator, device=self.device)

    def swings(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Uniform numbers in (-1, 1); on the CPU the odd multiples of 1/32768, whose mean is 0."""
        if self.source is None:
            return self.uniform(shape).mul_(2.0).sub_(1.0)
        odd = (_bits(self.source, shape) | np.uint16(1)).view(np.int16)
        return torch.from_numpy(odd.astype(np.float32)).mul_(2.0**-15).view(shape)

    def impulses(self, shape: tuple[int, ...], share: float) -> torch.Tensor:
        """1 and -1 with probability ``share / 2`` each, 0 elsewhere; on the CPU rounded to a multiple of 2**-16."""
        if self.source is None:
            place = self.uniform(shape)
            return (place < share / 2).float().sub_((place >= 1.0 - share / 2).float())
        bits, half = _bits(self.source, shape), round(share * 2**15)
        signs = (bits < half).view(np.int8) - (bits >= 2**16 - half).view(np.int8)
        return torch.from_numpy(signs.astype(np.float32)).view(shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> torch.Tensor:
        """Whole numbers from ``low`` up to, and not with, ``high``."""
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def photons(self, light: torch.Tensor, most: float) -> torch.Tensor:
        """Poisson counts with the means ``light * most``."""
        if self.source is None:
            return torch.poisson(light * most, generator=self.generator)
        whole = light.flatten() * 255.0
        levels = torch.floor(whole + 1e-4)
        rest = whole.sub_(levels)
        counts = photon_counts(levels.int(), most, _bits(self.source, tuple(light.shape)), self.source)
        if len(rest) and float(rest.amax()) > 2e-4:
            # Between two bytes: Poisson counts add, so that what is left over is drawn apart.
            counts += torch.poisson(rest.clamp_min_(0.0).mul_(most / 255.0), generator=self.generator)
        return counts.view(light.shape)


def _bits(source: np.random.SFC64, shape: tuple[int, ...]) -> npt.NDArray[np.uint16]:
    """As many random numbers of 16 bits as the shape has places, in one row."""
    count = math.prod(shape)
    words: npt.NDArray[np.uint64] = source.random_raw(-(-count // 4))
    return words.view(np.uint16)[:count]
