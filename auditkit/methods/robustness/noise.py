"""Natural corruptions of tables, images and token sequences: seeded, batched, and inside what is feasible."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.methods.robustness.feasible import BoolArray, Feasible, FloatArray

IntArray = npt.NDArray[np.int64]


def gaussian_cells(x: FloatArray, space: Feasible, severity: float, rng: np.random.Generator) -> FloatArray:
    """Gaussian noise of ``severity`` times each feature's scale; whole numbers rounded, bounds and frozen cells kept.

    Args:
        x: ``(n, f)`` rows; missing cells stay missing.
        space: What is feasible.
        severity: Standard deviation of the noise in units of ``space.scale``; 0 changes nothing.
        rng: Source of the noise.
    """
    _require_severity(severity)
    noise = rng.standard_normal(x.shape) * (severity * space.scale)
    return space.project(x, x + noise, None)


def drifted(x: FloatArray, place: int, size: float, space: Feasible) -> FloatArray:
    """The column at ``place`` shifted in every row by ``size`` times its scale, inside what is feasible.

    No other column follows: where a rule ties it to another, it goes as far as the rule allows.

    >>> space = Feasible(low=np.zeros(2), high=np.full(2, 9.0), scale=np.full(2, 2.0), whole=np.zeros(2, dtype=bool))
    >>> drifted(np.array([[1.0, 5.0], [8.0, 5.0]]), 0, 1.0, space).tolist()
    [[3.0, 5.0], [9.0, 5.0]]
    """
    moved = x.copy()
    moved[:, place] += size * space.scale[place]
    alone = dataclasses.replace(space, scale=np.where(np.arange(x.shape[1]) == place, space.scale, 0.0))
    return alone.project(x, moved, None)


def missing_cells(x: FloatArray, columns: BoolArray, share: float, rng: np.random.Generator) -> FloatArray:
    """NaN in each cell of ``columns (f,)`` with probability ``share`` in [0, 1], independently."""
    _require_share(share)
    hit = (rng.random(x.shape) < share) & columns
    return np.where(hit, np.nan, x)


def swapped_levels(x: FloatArray, groups: Sequence[IntArray], share: float, rng: np.random.Generator) -> FloatArray:
    """Another level, seen in the data, for each categorical cell with probability ``share``.

    Args:
        x: ``(n, f)`` rows.
        groups: Column positions that hold one category: one position for a coded column, several for a one-hot
            group, which then changes as a whole.
        share: Probability that a row's category is replaced by a different one, each other level equally likely.
        rng: Source of the draws.

    >>> swapped_levels(np.array([[0.0], [1.0]]), [np.array([0])], 1.0, np.random.default_rng(0)).ravel().tolist()
    [1.0, 0.0]
    """
    _require_share(share)
    changed = x.copy()
    for columns in groups:
        part = x[:, columns]
        present = ~np.isnan(part).any(axis=1)
        hit = (rng.random(len(x)) < share) & present
        steps = rng.random(len(x))
        levels, code = np.unique(part[present], axis=0, return_inverse=True)
        if len(levels) < 2:
            continue
        codes = np.zeros(len(x), dtype=np.int64)
        codes[present] = code.reshape(-1)
        other = (codes + 1 + (steps * (len(levels) - 1)).astype(np.int64)) % len(levels)
        changed[np.ix_(hit, columns)] = levels[other[hit]]
    return changed


def gaussian_pixels(
    images: FloatArray, severity: float, bounds: tuple[float, float], rng: np.random.Generator
) -> FloatArray:
    """Gaussian noise of ``severity`` times the pixel range, clipped to it."""
    _require_severity(severity)
    low, high = bounds
    noisy = images + rng.standard_normal(images.shape) * (severity * (high - low))
    return np.asarray(np.clip(noisy, low, high), dtype=np.float64)


def blurred(images: FloatArray, sigma: float, axes: tuple[int, int]) -> FloatArray:
    """Gaussian blur of ``sigma`` pixels along the two ``axes``, edges reflected; 0 changes nothing.

    The kernel is cut at four sigma and sums to 1, so that a constant image stays as it is.
    """
    _require_severity(sigma)
    radius = math.ceil(4.0 * sigma)
    if radius == 0:
        return images.copy()
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    result = images
    for axis in axes:
        padding = [(radius, radius) if place == axis else (0, 0) for place in range(images.ndim)]
        padded = np.pad(result, padding, mode="symmetric")
        size = images.shape[axis]
        result = np.zeros_like(images)
        for offset, weight in enumerate(kernel):
            result = result + weight * np.take(padded, np.arange(offset, offset + size), axis=axis)
    return result


def brightened(images: FloatArray, severity: float, bounds: tuple[float, float]) -> FloatArray:
    """Pixels raised by ``severity`` times their range, clipped to it."""
    low, high = bounds
    return np.asarray(np.clip(images + severity * (high - low), low, high), dtype=np.float64)


def faded(images: FloatArray, severity: float, bounds: tuple[float, float]) -> FloatArray:
    """Contrast lowered: each image shrunk towards its own mean by the share ``severity`` in [0, 1]."""
    _require_share(severity)
    mean = images.reshape(len(images), -1).mean(axis=1).reshape(-1, *[1] * (images.ndim - 1))
    return np.asarray(np.clip(mean + (1.0 - severity) * (images - mean), *bounds), dtype=np.float64)


def replaced_tokens(tokens: IntArray, share: float, rng: np.random.Generator) -> IntArray:
    """Each token replaced with probability ``share`` by a different one, drawn from the tokens of the data.

    A run of two or more equal tokens at either end of a row is taken for padding and left alone.

    Args:
        tokens: ``(n, length)`` token ids.
        share: Probability of a replacement, in [0, 1].
        rng: Source of the draws.

    >>> replaced_tokens(np.array([[1, 2, 1, 0, 0]]), 1.0, np.random.default_rng(0)).tolist()
    [[2, 1, 2, 0, 0]]
    """
    _require_share(share)
    padding = _padding(tokens)
    pool = np.sort(tokens[~padding])
    if pool.size == 0:
        return tokens.copy()
    # A token's own kind takes the places from first to last of the pool; a draw from the others jumps over them.
    first, last = (np.searchsorted(pool, tokens, side=side) for side in ("left", "right"))
    others = len(pool) - (last - first)
    hit = (rng.random(tokens.shape) < share) & ~padding & (others > 0)
    drawn = (rng.random(tokens.shape) * others).astype(np.int64)
    drawn += np.where(drawn >= first, last - first, 0)
    return np.where(hit, pool[np.minimum(drawn, len(pool) - 1)], tokens)


def _padding(tokens: IntArray) -> BoolArray:
    """Cells of a run of two or more equal tokens at the end or the beginning of a row."""
    return _run(tokens) | _run(tokens[:, ::-1])[:, ::-1]


def _run(tokens: IntArray) -> BoolArray:
    """Cells of a run of two or more equal tokens at the end of a row."""
    same = tokens[:, ::-1] == tokens[:, -1:]
    run = np.logical_and.accumulate(same, axis=1)[:, ::-1]
    return np.asarray(run & (run.sum(axis=1) >= 2)[:, None])


def _require_severity(severity: float) -> None:
    if not math.isfinite(severity) or severity < 0:
        raise UsageError("AK550", f"a severity must be finite and 0 or more, got {severity}")


def _require_share(share: float) -> None:
    if not 0.0 <= share <= 1.0:
        raise UsageError("AK550", f"a share must be in [0, 1], got {share}")
