"""Gradient canaries through the training's own front door: a linear model whose weights are what was released.

Canary ``i`` is the row ``scale * e_i`` of a table as wide as there are canaries, and the model is linear
without bias from weights of 0. Its gradient then lies on its own coordinate alone and is far longer than any
clipping norm, so that the weights after training are the sum of the clipped canaries that were in, plus the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SCALE = 1000.0


def probe_rows(included: BoolArray) -> npt.NDArray[np.float32]:
    """``(included.sum(), m)``: the canaries whose coin says in."""
    return (SCALE * np.eye(len(included), dtype=np.float32))[included]


def linear_probe(width: int, n_outputs: int) -> Any:
    """The linear model, a ``torch.nn.Module`` with weights of 0."""
    import torch

    module = torch.nn.utils.skip_init(torch.nn.Linear, width, n_outputs, bias=False)  # type: ignore[no-untyped-call]
    torch.nn.init.zeros_(module.weight)
    return module


def probe_scores(module: Any, y: IntArray) -> FloatArray:
    """``(m,)``: weight of each canary's own class on its coordinate, minus the mean of the others.

    Args:
        module: The trained :func:`linear_probe`.
        y: ``(m,)`` codes of the canaries' labels.
    """
    weight = module.weight.detach().double().cpu().numpy()
    own = weight[y, np.arange(weight.shape[1])]
    return np.asarray(own - (weight.sum(axis=0) - own) / (len(weight) - 1), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Distance between canaries that were in and those that were out, in standard deviations of the noise.

    Attributes:
        mu: The estimate; one step with noise multiplier ``s`` has ``mu = 1 / s``.
        low: Lower bound at the confidence asked for, one-sided.
        high: Upper bound, one-sided.
        infinite: No noise at all was seen: ``mu`` and its bounds are then ``math.inf``. Scores that are all equal show
            neither noise nor canaries: ``mu`` is 0, and there is no upper bound.
        normal: p-value of the noise being normal (Kolmogorov-Smirnov); small: the bounds cannot be relied on.
    """

    mu: float
    low: float
    high: float
    infinite: bool
    normal: float


def gaussian_effect(scores: FloatArray, included: BoolArray, level: float = 0.95) -> Effect:
    """Exact bounds of the distance of two normal samples of equal variance, in standard deviations.

    Args:
        scores: ``(m,)``.
        included: ``(m,)`` the coins; at least two of each.
        level: Confidence of each bound.

    Source: Hedges and Olkin (1985), chapter 5: inversion of the noncentral t distribution.
    """
    inside, outside = scores[included], scores[~included]
    gap = float(inside.mean() - outside.mean())
    freedom = len(scores) - 2
    residuals = np.concatenate([inside - inside.mean(), outside - outside.mean()])
    spread = math.sqrt(float((residuals**2).sum()) / freedom)
    if spread == 0.0 and gap == 0.0:
        return Effect(mu=0.0, low=0.0, high=math.inf, infinite=False, normal=1.0)
    if spread <= 1e-6 * abs(gap):
        return Effect(mu=math.inf, low=math.inf, high=math.inf, infinite=True, normal=1.0)
    root = math.sqrt(len(inside) * len(outside) / len(scores))
    statistic = gap / spread * root
    low, high = (_noncentrality(statistic, freedom, chance) / root for chance in (level, 1.0 - level))
    from scipy.stats import kstest

    normal = float(kstest(residuals / spread, "norm").pvalue)
    return Effect(mu=max(0.0, gap / spread), low=max(0.0, low), high=max(0.0, high), infinite=False, normal=normal)


def effect_power(canaries: int, mu_true: float, mu_claimed: float, level: float) -> float:
    """Chance that :func:`gaussian_effect` puts its lower bound above ``mu_claimed`` when ``mu_true`` holds.

    >>> effect_power(1000, 1.0, 0.5, 0.95) > 0.99
    True
    """
    from scipy.stats import nct

    root, freedom = math.sqrt(canaries) / 2.0, canaries - 2
    threshold = nct.ppf(level, freedom, mu_claimed * root)
    return float(nct.sf(threshold, freedom, mu_true * root))


def canaries_needed(mu_true: float, mu_claimed: float, level: float, power: float = 0.99) -> int:
    """Canaries for :func:`effect_power` to reach ``power``, by the normal approximation."""
    from statistics import NormalDist

    normal = NormalDist()
    reach = normal.inv_cdf(level) + normal.inv_cdf(power)
    variance = 4.0 + max(mu_true, mu_claimed) ** 2 / 2.0
    return max(20, math.ceil(variance * (reach / (mu_true - mu_claimed)) ** 2))


def _noncentrality(statistic: float, freedom: int, chance: float) -> float:
    """The noncentrality under which a t statistic lies below ``statistic`` with probability ``chance``."""
    from scipy.optimize import brentq
    from scipy.special import nctdtr

    reach = 5.0 * math.sqrt(1.0 + statistic**2 / (2.0 * freedom))
    return float(brentq(lambda shift: nctdtr(freedom, shift, statistic) - chance, statistic - reach, statistic + reach))
