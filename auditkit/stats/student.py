"""Quantiles of Student's t without scipy, whose import would be a third of what a gate on clustered rows takes.

The upper tail is half a regularised incomplete beta function, taken by its continued fraction, and the quantile
Newton's method on the log of the tail against the log of the quantile. That function is concave (the density of the log
of ``|t|`` is log-concave), so after one step the iterates come to the root from one side.

Source: Abramowitz and Stegun (1964), 26.7.1 and 26.7.5; Olver et al. (2010), NIST Handbook of Mathematical Functions,
8.17.4 and 8.17.22; Lentz (1976) for evaluating the fraction.
"""

from __future__ import annotations

import math
from statistics import NormalDist

_STEPS = 60
_TERMS = 500
# A step of Newton's method leaves an error of the order of its square.
_NEAR = 1e-8
_CLOSE = 1e-16
_TINY = 1e-300
# From here on the series leaves less than rounding, and log gamma itself more.
_LARGE = 20.0
# Quantiles are told up to e to this: their squares are numbers still.
_FARTHEST = 300.0


def t_quantile(tail: float, freedom: float) -> float:
    """``t`` with ``P(T > t) = tail`` for Student's t with ``freedom`` degrees of freedom.

    Args:
        tail: In (0, 0.5).
        freedom: Above 0, not necessarily whole. Below a hundredth or so the quantile is beyond e^300, and that is told.

    >>> round(t_quantile(0.025, 10), 6), round(t_quantile(0.025, 1), 4)
    (2.228139, 12.7062)
    """
    log_t = _log_start(tail, freedom)
    if log_t == _FARTHEST:
        return math.exp(log_t)
    goal = math.log(tail)
    step_up = _log_gamma_step(freedom / 2.0)
    scale = step_up - 0.5 * math.log(math.pi * freedom)
    for _ in range(_STEPS):
        log_tail = _log_tail(log_t, freedom, step_up)
        # The density of log t at t, over the tail: how fast the log of the tail falls.
        density = scale + log_t - 0.5 * (freedom + 1.0) * math.log1p(math.exp(2.0 * log_t) / freedom)
        step = (log_tail - goal) * math.exp(log_tail - density)
        step = min(max(step, -5.0), 5.0)
        log_t = min(log_t + step, _FARTHEST)
        if abs(step) <= _NEAR:
            break
    return math.exp(log_t)


def _log_start(tail: float, freedom: float) -> float:
    """Log of a first guess: the normal score bent by two terms in ``1 / freedom``, or the tail's power law."""
    z = -NormalDist().inv_cdf(tail)
    if freedom >= 3.0:
        bent = z + (z**3 + z) / (4.0 * freedom) + (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / (96.0 * freedom**2)
        return math.log(bent)
    return min(max(math.log(z), 0.5 * math.log(freedom) - math.log(2.0 * tail) / freedom), _FARTHEST)


def _log_tail(log_t: float, freedom: float, step_up: float) -> float:
    """Log of ``P(T > e^log_t)``; ``step_up`` is ``log(gamma((freedom + 1) / 2) / gamma(freedom / 2))``."""
    square = math.exp(2.0 * log_t) / freedom
    a, b = freedom / 2.0, 0.5
    x, rest = 1.0 / (1.0 + square), square / (1.0 + square)
    log_x, log_rest = -math.log1p(square), 2.0 * log_t - math.log(freedom) - math.log1p(square)
    scale = step_up - 0.5 * math.log(math.pi)
    front = math.exp(a * log_x + b * log_rest + scale)
    if x < (a + 1.0) / (a + b + 2.0):
        return a * log_x + b * log_rest + scale + math.log(_fraction(a, b, x) / (2.0 * a))
    return math.log1p(-front * _fraction(b, a, rest) / b) - math.log(2.0)


def _log_gamma_step(a: float) -> float:
    """``log(gamma(a + 1/2) / gamma(a))``; Olver et al. (2010), 5.11.13."""
    if a < _LARGE:
        return math.lgamma(a + 0.5) - math.lgamma(a)
    series = -1.0 / 8.0, 1.0 / 192.0, -1.0 / 640.0, 17.0 / 14336.0
    return 0.5 * math.log(a) + sum(term / a ** (2 * order + 1) for order, term in enumerate(series))


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of ``I_x(a, b) a B(a, b) / (x^a (1 - x)^b)``, quick for ``x < (a + 1) / (a + b + 2)``."""
    above, below = 1.0, 1.0 / _away(1.0 - (a + b) * x / (a + 1.0))
    found = below
    for m in range(1, _TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        below, above = 1.0 / _away(1.0 + even * below), _away(1.0 + even / above)
        found *= below * above
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        below, above = 1.0 / _away(1.0 + odd * below), _away(1.0 + odd / above)
        change = below * above
        found *= change
        if abs(change - 1.0) <= _CLOSE:
            break
    return found


def _away(value: float) -> float:
    """``value``, kept away from 0."""
    return value if abs(value) > _TINY else _TINY
