"""Membership inference from decisions alone: rows that were trained on stand further from the border of their class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def label_only_scores(
    decide: Callable[[Any], npt.NDArray[Any]],
    inputs: Any,
    y: IntArray,
    *,
    copies: int,
    rng: np.random.Generator,
    watch: Callable[[], None] | None = None,
) -> FloatArray:
    """Share ``(n,)`` of ``copies`` noisy copies of each row, and the row itself, that are decided as its label.

    The noise grows from a twentieth to twice a column's standard deviation (and the share of replaced categories
    with it), so that the share measures how far off the border of the class is.

    Args:
        decide: Inputs -> class codes.
        inputs: DataFrame, ``(n, ...)`` array or list of str.
        y: ``(n,)`` true class codes.
        copies: Noisy copies of each row; the model decides ``copies + 1`` times ``n`` rows.
        rng: Source of randomness.
        watch: Called before every copy; may raise to stop.

    Source: Choquette-Choo, Tramer, Carlini and Papernot (2021), Label-only membership inference attacks, section 3.4
    (random noise); the growing noise is ours.
    """
    right = (np.asarray(decide(inputs)) == y).astype(np.float64)
    for strength in np.geomspace(0.05, 2.0, copies):
        if watch is not None:
            watch()
        right += np.asarray(decide(noisy_copy(inputs, float(strength), rng))) == y
    return np.asarray(right / (copies + 1.0))


def noisy_copy(inputs: Any, strength: float, rng: np.random.Generator) -> Any:
    """``inputs`` with noise: of ``strength`` standard deviations on fractions, by replacement on everything else.

    Whole numbers, categories, flags, dates, tokens and words are replaced by those of another row with chance
    ``min(strength / 2, 0.9)``. Missing numbers stay missing.

    >>> noisy_copy(["a b"], 2.0, np.random.default_rng(0))[0].split()[0] in ("a", "b")
    True
    """
    swap = min(strength / 2.0, 0.9)
    if isinstance(inputs, list):
        words = np.array(" ".join(str(text) for text in inputs).split() or ["-"])
        return [_swapped_words(str(text), words, swap, rng) for text in inputs]
    if hasattr(inputs, "iloc"):
        columns = [_noisy_column(inputs.iloc[:, at], strength, swap, rng) for at in range(inputs.shape[1])]
        import pandas as pd

        return pd.concat(columns, axis=1) if columns else inputs
    array = np.asarray(inputs)
    if array.dtype.kind == "f":
        spread = np.nanstd(array.astype(np.float64), axis=0)
        return (array + strength * spread * rng.standard_normal(array.shape)).astype(array.dtype)
    flat = array.reshape(len(array), -1)
    other = flat[rng.integers(0, len(flat), flat.shape), np.arange(flat.shape[1])]
    return np.where(rng.random(flat.shape) < swap, other, flat).reshape(array.shape)


def _noisy_column(column: Any, strength: float, swap: float, rng: np.random.Generator) -> Any:
    if getattr(column.dtype, "kind", "O") == "f":
        spread = float(column.std()) if column.notna().sum() > 1 else 0.0
        return (column + strength * spread * rng.standard_normal(len(column))).astype(column.dtype)
    other = np.where(rng.random(len(column)) < swap, rng.integers(0, len(column), len(column)), np.arange(len(column)))
    return column.iloc[other].set_axis(column.index)


def _swapped_words(text: str, words: npt.NDArray[Any], swap: float, rng: np.random.Generator) -> str:
    own = text.split()
    taken = rng.random(len(own)) < swap
    return " ".join(str(rng.choice(words)) if out else word for word, out in zip(own, taken, strict=True))
