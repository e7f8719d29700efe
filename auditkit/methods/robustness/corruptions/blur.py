"""Blur: out of focus, through frosted glass, by motion and by zooming."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.methods.robustness.corruptions.draws import Draws
from auditkit.methods.robustness.corruptions.linear import FloatArray, IntArray, along_lines, enlarging_matrix, smoothed
from auditkit.methods.robustness.corruptions.severities import Strength


def defocus_blur(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Convolution with a disk of radius ``strength[0]`` whose rim is softened by ``strength[1]``; edges mirrored."""
    twice = len(_disk(*strength)) // 2 * 2
    height, width = x.shape[-2:]
    size = _quick_length(height + twice), _quick_length(width + twice)
    seen = torch.fft.rfft2(_mirrored(x, twice // 2, size)).mul_(_spectrum(strength, size, x.dtype, x.device))
    product: torch.Tensor = torch.fft.irfft2(seen, s=size)
    return product[..., twice : twice + height, twice : twice + width].clamp(0.0, 1.0)


@functools.lru_cache(maxsize=16)
def _spectrum(strength: Strength, size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The Fourier transform of the disk, which is symmetric: correlation and convolution are the same."""
    kernel = _disk(*strength)
    weights = torch.zeros(size, dtype=dtype, device=device)
    weights[: len(kernel), : len(kernel)] = torch.as_tensor(kernel, dtype=dtype, device=device)
    spectrum: torch.Tensor = torch.fft.rfft2(weights)
    return spectrum


def _quick_length(least: int) -> int:
    """The smallest multiple of 16 from ``least`` on without a prime above 5: Fourier transforms of others are slow.

    >>> [_quick_length(n) for n in (7, 236, 241)]
    [16, 240, 256]
    """
    length = -(-least // 16) * 16
    while 30 ** length.bit_length() % length:
        length += 16
    return length


def _mirrored(x: torch.Tensor, before: int, size: tuple[int, int]) -> torch.Tensor:
    """Images with ``before`` rows and columns mirrored in front, and as many behind as make them ``size`` large."""
    after = [end - before - length for end, length in zip(size, x.shape[-2:], strict=True)]
    if max(before, *after) < min(x.shape[-2:]):
        return torch.nn.functional.pad(x, (before, after[1], before, after[0]), mode="reflect")
    rows, columns = (
        torch.as_tensor(np.pad(np.arange(length), (before, behind), mode="reflect"), device=x.device)
        for length, behind in zip(x.shape[-2:], after, strict=True)
    )
    return x[..., rows, :][..., columns]


@functools.lru_cache(maxsize=16)
def _disk(radius: float, rim: float) -> FloatArray:
    """A disk that sums to 1, smoothed by a Gaussian of 3 x 3 pixels (5 x 5 above a radius of 8)."""
    reach, soft = (8, 1) if radius <= 8 else (int(radius), 2)
    line = np.arange(-reach, reach + 1)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float64)
    disk /= disk.sum()
    gauss = np.exp(-0.5 * (np.arange(-soft, soft + 1) / rim) ** 2)
    gauss /= gauss.sum()
    for axis in (0, 1):
        mirrored = np.pad(disk, [(soft, soft) if place == axis else (0, 0) for place in (0, 1)], mode="reflect")
        disk = sum(w * np.take(mirrored, np.arange(k, k + len(line)), axis=axis) for k, w in enumerate(gauss))
    used = np.flatnonzero(disk.max(axis=0) > 0)
    return np.asarray(disk[used[0] : used[-1] + 1, used[0] : used[-1] + 1], dtype=np.float64)


def glass_blur(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """Smoothing, then pixels that take the colour of near ones in turn, then smoothing again.

    In one pass each pixel, from the last to the first, becomes what a random pixel at most ``strength[1]`` away is at
    that time. Which original pixel that is in the end is a chain of references; it is followed by doubling, for all
    images at once.
    """
    sigma, reach, passes = strength[0], int(strength[1]), int(strength[2])
    height, width = x.shape[-2:]
    seen = torch.floor(smoothed(x, (sigma, sigma), edge="edge", cut=4.0) * 255.0 + 1e-3) / 255.0
    flat = seen.flatten(2)
    for _ in range(passes):
        source = _glass_sources(len(x), height, width, reach, draws).to(x.device)
        flat = torch.gather(flat, 2, source[:, None].expand_as(flat))
    return smoothed(flat.view_as(x), (sigma, sigma), edge="edge", cut=4.0).clamp(0.0, 1.0)


def _glass_sources(n: int, height: int, width: int, reach: int, draws: Draws) -> torch.Tensor:
    """``(n, h * w)`` which original pixel each pixel shows after one pass."""
    rows, columns = (torch.arange(max(size - reach, reach), reach, -1) for size in (height, width))
    place = (rows[:, None] * width + columns).flatten()
    step = draws.integers(-reach, reach, (n, len(place), 2)).cpu()
    source = torch.arange(height * width).repeat(n, 1)
    if not len(place):
        return source
    source[:, place] = place + step[..., 1] * width + step[..., 0]
    # A pixel that was passed over before shows what it became then: the reference goes on from there.
    passed = torch.zeros(height * width, dtype=torch.bool)
    passed[place] = True
    onward = passed[source] & (source > torch.arange(height * width))
    while bool(onward.any()):
        source, onward = (
            torch.where(onward, torch.gather(source, 1, source), source),
            onward & torch.gather(onward, 1, source),
        )
    return source


def motion_blur(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """A camera that moves in a direction of its own for each image, within 45 degrees of the horizontal."""
    angle = -45.0 + 90.0 * draws.uniform((len(x),))
    return moved(x, int(strength[0]), strength[1], angle).clamp_(0.0, 1.0)


def moved(x: torch.Tensor, radius: int, sigma: float, angle: torch.Tensor) -> torch.Tensor:
    """Half a Gaussian of ``2 * radius + 1`` taps along the direction ``angle (n,)`` in degrees; edges repeated.

    Taps that are farther away than the image is large are left out.
    """
    height, width = x.shape[-2:]
    taps = np.arange(2 * radius + 1)
    weights = np.exp(-(taps**2) / (2.0 * sigma**2))
    weights /= weights.sum()
    result = torch.empty_like(x)
    for image, degrees in enumerate(angle.tolist()):
        sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        down, right = np.ceil(taps * sine - 0.5).astype(int), np.ceil(taps * cosine - 0.5).astype(int)
        outside = (np.abs(down) >= height) | (np.abs(right) >= width)
        used = int(outside.argmax()) if outside.any() else len(taps)
        result[image] = _summed(x[image], down[:used], right[:used], weights)
    return result


def _summed(image: torch.Tensor, down: IntArray, right: IntArray, weights: FloatArray) -> torch.Tensor:
    """The weighted sum of an image ``(c, h, w)`` and of itself seen ``down`` and ``right`` of each pixel."""
    channels, height, width = image.shape
    top, bottom, left, far = (max(int(end), 0) for end in (-down.min(), down.max(), -right.min(), right.max()))
    padded = torch.nn.functional.pad(image[None], (left, far, top, bottom), mode="replicate")[0]
    # In rows of one length laid end to end, every step is one distance: what wraps round falls into the margin.
    tall, line = padded.shape[1:]
    flat, total = padded.flatten(), image.new_empty(padded.numel())
    count = ((channels - 1) * tall + height - 1) * line + width
    starts, shares, out = ((top + down) * line + left + right).tolist(), weights.tolist(), total[:count]
    torch.mul(flat[starts[0] : starts[0] + count], shares[0], out=out)
    for start, share in zip(starts[1:], shares[1:], strict=False):
        out.add_(flat[start : start + count], alpha=share)
    return total.view(channels, tall, line)[:, :height, :width]


@functools.lru_cache(maxsize=16)
def _factors(most: float, step: float) -> tuple[float, ...]:
    return tuple(np.arange(1.0, most, step).tolist())


def zoom_blur(x: torch.Tensor, strength: Strength, draws: Draws) -> torch.Tensor:
    """The mean of the image and of its middle enlarged step by step up to ``strength[0]``."""
    factors = _factors(*strength)
    height, width = x.shape[-2:]
    lines = x.flatten(0, 1).transpose(0, 1).contiguous()
    total = lines.clone()
    for factor in factors:
        total += along_lines(lines, enlarging_matrix(height, factor), enlarging_matrix(width, factor))
    return total.div_(len(factors) + 1).clamp_(0.0, 1.0).transpose(0, 1).reshape(x.shape)
