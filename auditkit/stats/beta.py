"""Quantiles of the beta distribution for arrays, without scipy: the gate needs exact limits of many rates at once.

The lower tail is a Gauss-Legendre integral of the density, and the quantile Newton's method on the log of the tail
against the log of the quantile. That function is concave (the density of the log of a beta variable is log-concave), so
after one step the iterates rise to the root. The cost does not depend on the parameters, and so not on the number of
rows. Parameters below 1, which only weighted or clustered rows bring, bend the density into a pole: those go to scipy.

Source: Olver et al. (2010), NIST Handbook of Mathematical Functions, section 8.17; Abramowitz and Stegun (1964),
26.5.22.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_NODES = 40
_STEPS = 60
_TOLERANCE = 1e-11
# The log of a tail is concave in the log of the quantile and bends by the order of its slope squared: a step from so
# near leaves an error of the order of this squared.
_NEAR = 2e-6
# The density has fallen by e^-35 or more after this many of its own e-folds and standard deviations.
_DECAY = 35.0
_REACH = 9.0
# More effective rows than these come of a variance that is nothing but rounding.
MOST_ROWS = 1e12


def beta_quantile(a: FloatArray, b: FloatArray, tail: FloatArray) -> FloatArray:
    """``x`` with ``P(X <= x) = tail`` for ``X ~ Beta(a, b)``, element by element.

    Args:
        a, b: Positive parameters, any shapes that broadcast.
        tail: Probabilities in (0, 1).

    >>> beta_quantile(np.array([1.0]), np.array([4.0]), np.array([0.0975])).round(9).tolist()
    [0.025320566]
    """
    return np.asarray(_expit(beta_logit_quantile(a, b, tail)))


def beta_logit_quantile(a: FloatArray, b: FloatArray, tail: FloatArray) -> FloatArray:
    """The logit of :func:`beta_quantile`, accurate at both ends."""
    # Once for each pair of parameters, however many tails are asked of it.
    scale = log_beta(*np.broadcast_arrays(a, b))
    a, b, tail, scale = (np.asarray(part, dtype=np.float64) for part in np.broadcast_arrays(a, b, tail, scale))
    shape = a.shape
    a, b, tail = a.ravel(), b.ravel(), tail.ravel()
    scale, poles = scale.ravel(), np.minimum(a, b) < 1.0
    found = np.empty(len(a))
    for part, logit in ((~poles, _smooth_logit), (poles, _pole_logit)):
        if part.any():
            found[part] = logit(a[part], b[part], tail[part], scale[part])
    return found.reshape(shape)


def _pole_logit(a: FloatArray, b: FloatArray, tail: FloatArray, scale: FloatArray) -> FloatArray:
    """The logit by scipy, imported only where it is needed; the log of each end from the tail on its own side."""
    from scipy.special import betainccinv, betaincinv

    below = _log_or_power(betaincinv(a, b, tail), a, np.log(tail) + scale)
    above = _log_or_power(betainccinv(b, a, tail), b, np.log1p(-tail) + scale)
    return below - above


def _log_or_power(x: FloatArray, a: FloatArray, mass: FloatArray) -> FloatArray:
    """Log of the quantile ``x``; where that is all but 0 the tail is ``x^a / (a B(a, b))``, and ``mass`` the log of the
    tail times ``B(a, b)``."""
    tiny = x < 1e-200
    return np.where(tiny, (mass + np.log(a)) / a, np.log(np.where(tiny, 1.0, x)))


def _smooth_logit(a: FloatArray, b: FloatArray, tail: FloatArray, scale: FloatArray) -> FloatArray:
    flip = tail > 0.5
    one, two = np.where(flip, b, a), np.where(flip, a, b)
    y = _log_quantile(one, two, np.where(flip, 1.0 - tail, tail), scale)
    logit = y - np.log(-np.expm1(y))
    return np.asarray(np.where(flip, -logit, logit))


def log_beta(a: FloatArray, b: FloatArray) -> FloatArray:
    """Log of the beta function, element by element."""
    lgamma = math.lgamma
    pairs = zip(np.ravel(a).tolist(), np.ravel(b).tolist(), strict=True)
    return np.array([lgamma(p) + lgamma(q) - lgamma(p + q) for p, q in pairs]).reshape(np.shape(a))


def normal_quantile(tail: FloatArray) -> FloatArray:
    """The normal score below which ``tail`` lies, element by element; few distinct values cost as little as one."""
    inverse = NormalDist().inv_cdf
    known = {level: inverse(level) for level in set(tail.tolist())}
    return np.array([known[level] for level in tail.tolist()])


def _log_quantile(a: FloatArray, b: FloatArray, tail: FloatArray, scale: FloatArray) -> FloatArray:
    """Log of the quantile for tails of at most a half; ``scale`` is the log of the beta function."""
    y = _start(a, b, tail, scale)
    goal = np.log(tail)
    open_ = np.arange(len(a))
    for _ in range(_STEPS):
        found, slope = _log_tail(a[open_], b[open_], y[open_], scale[open_])
        left = goal[open_] - found
        step = np.clip(left / slope, -5.0, 5.0)
        y[open_] = np.minimum(y[open_] + step, -1e-16)
        open_ = open_[(np.abs(left) > _NEAR) & (np.abs(step) > _TOLERANCE)]
        if len(open_) == 0:
            break
    return y


def _log_tail(a: FloatArray, b: FloatArray, y: FloatArray, scale: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Log of ``P(X <= e^y)`` and its derivative by ``y``.

    With ``t = x e^-w`` the integrand is ``e^(-a w) (1 - t)^(b - 1)``: smooth for all ``a``, and as good as 0 beyond
    ``reach``.
    """
    nodes, weights = _legendre()
    x = np.exp(y)
    reach = _DECAY / a + _REACH * np.sqrt(b / (a * (a + b + 1)))
    w = reach[:, None] * nodes
    logs = (b - 1)[:, None] * np.log1p(-x[:, None] * np.exp(-w)) - a[:, None] * w
    density = (b - 1) * np.log1p(-x)
    # Summed row by row: a product of matrices rounds a row by how many there are, and limits must not hang on that.
    tail = np.log((np.exp(logs - density[:, None]) * weights).sum(axis=1) * reach)
    return np.asarray(tail + density + a * y - scale), np.asarray(np.exp(-tail))


@lru_cache(maxsize=1)
def _legendre() -> tuple[FloatArray, FloatArray]:
    """Nodes and weights of Gauss and Legendre on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    return (nodes + 1) / 2, weights / 2


def _start(a: FloatArray, b: FloatArray, tail: FloatArray, scale: FloatArray) -> FloatArray:
    """Log of a first guess of the quantile."""
    z = -normal_quantile(tail)
    with np.errstate(all="ignore"):
        # Power law near 0, which is exact for b = 1 and close where few hits are behind the parameters.
        power = (np.log(tail) + np.log(a) + scale) / a
        one, two = 1 / (2 * a - 1), 1 / (2 * b - 1)
        h = 2 / (one + two)
        w = z * np.sqrt(h + (z * z - 3) / 6) / h - (two - one) * ((z * z - 3) / 6 + 5 / 6 - 2 / (3 * h))
        normal = -np.log1p(b / a * np.exp(2 * w))
        good = (a > 1) & (b > 1) & np.isfinite(normal)
        y = np.where(good, normal, power)
    return np.asarray(np.clip(np.nan_to_num(y, nan=-1.0), -1e5, -1e-12))


def _expit(logit: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-logit)))
