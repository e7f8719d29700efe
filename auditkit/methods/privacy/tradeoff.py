"""Trade-off functions: how well any test can tell two neighbouring trainings apart.

``f(a)`` is the smallest share of misses of a test whose share of false alarms is ``a``. Every function here
is symmetric (it is its own inverse), decreasing, convex, and errs on the side of less privacy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
TradeOff = Callable[[float], float]

_NORMAL = NormalDist()
_EDGE = 1e-16


def gaussian_tradeoff(mu: float) -> TradeOff:
    """``f(a) = Phi(Phi^-1(1 - a) - mu)``: telling ``N(0, 1)`` from ``N(mu, 1)``.

    One Gaussian step without sampling has ``mu = 1 / noise_multiplier``.

    Source: Dong, Roth and Su (2022), Gaussian differential privacy, definition 2.6.

    >>> round(gaussian_tradeoff(1.0)(0.05), 4)
    0.7405
    """

    def tradeoff(alarms: float) -> float:
        if alarms <= _EDGE:
            return 1.0 if alarms <= 0.0 else _NORMAL.cdf(-_NORMAL.inv_cdf(_EDGE) - mu)
        if alarms >= 1.0:
            return 0.0
        return _NORMAL.cdf(-_NORMAL.inv_cdf(alarms) - mu)

    return tradeoff


def approximate_dp_tradeoff(epsilon: float, delta: float) -> TradeOff:
    """All that an (epsilon, delta) guarantee says, without regard to how it is reached.

    Source: Kairouz, Oh and Viswanath (2015), theorem 2.1.

    >>> approximate_dp_tradeoff(0.0, 0.0)(0.3)
    0.7
    """
    return profile_tradeoff(Profile(epsilons=np.array([epsilon]), deltas=np.array([delta])))


@dataclass(frozen=True, eq=False)
class Profile:
    """A privacy profile: ``deltas[i]`` is an upper bound of delta at ``epsilons[i]``, both ``(k,)``."""

    epsilons: FloatArray
    deltas: FloatArray


def profile_tradeoff(profile: Profile) -> TradeOff:
    """The best trade-off function that a privacy profile implies: the upper envelope of its supporting lines."""
    growth = np.exp(profile.epsilons)
    room = 1.0 - profile.deltas

    def tradeoff(alarms: float) -> float:
        steep = float((room - growth * alarms).max())
        flat = float(((room - alarms) / growth).max())
        return max(0.0, steep, flat)

    return tradeoff


@functools.lru_cache(maxsize=64)
def dp_sgd_profile(noise_multiplier: float, sample_rate: float, steps: int) -> Profile:
    """Profile of noisy SGD with Poisson-sampled batches, adding or removing one row (pessimistic PLD)."""
    from auditkit.methods.privacy.accountants import pld_deltas

    epsilons = np.concatenate([np.linspace(0.0, 2.0, 41), np.linspace(2.1, 12.0, 100), np.linspace(13.0, 120.0, 108)])
    return Profile(epsilons=epsilons, deltas=pld_deltas(noise_multiplier, sample_rate, steps, epsilons))


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Delta of ``mu``-Gaussian privacy at ``epsilon``.

    Source: Balle and Wang (2018), theorem 8; Dong, Roth and Su (2022), corollary 2.13.

    >>> round(gaussian_delta(1.0, 1.0), 4)
    0.1269
    """
    if mu <= 0.0:
        return 0.0
    log_upper = _log_cdf(mu / 2.0 - epsilon / mu)
    log_ratio = epsilon + _log_cdf(-mu / 2.0 - epsilon / mu) - log_upper
    # As a product: the difference of the two is below the rounding of either where delta is tiny.
    return max(0.0, -math.exp(log_upper) * math.expm1(min(log_ratio, 0.0)))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of ``mu``-Gaussian privacy at ``delta``; the inverse of :func:`gaussian_delta`.

    >>> round(gaussian_epsilon(1.0, 1e-5), 3)
    4.377
    """
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    return _bisect(lambda epsilon: gaussian_delta(mu, epsilon) - delta, 0.0, mu * mu / 2.0 + 40.0 * mu)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The ``mu`` of the Gaussian mechanism that spends exactly (epsilon, delta).

    >>> round(gaussian_mu(4.377, 1e-5), 3)
    1.0
    """
    return _bisect(lambda mu: delta - gaussian_delta(mu, epsilon), 0.0, 10.0 + 2.0 * math.sqrt(epsilon) + 2.0 * epsilon)


def _bisect(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses 0; the side on which it is not positive."""
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if falling(middle) > 0.0 else (low, middle)
    return high


def _log_cdf(z: float) -> float:
    from scipy.special import log_ndtr

    return float(log_ndtr(z))
