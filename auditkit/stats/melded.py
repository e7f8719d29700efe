"""Exact limits of rates, of their differences and of their ratios, for arrays of groups and pairs.

A rate has Clopper and Pearson's limits. Each of them, as a function of its level, is a beta distribution: a lower
and an upper *confidence distribution*. The limits of a difference or ratio are quantiles of the difference or ratio of
a draw from the lower distribution of one rate and a draw from the upper distribution of the other ("melding").

No number of rows is too small, and no level too high: each one-sided limit of a rate errs at most as often as it says,
and those of differences and ratios were never seen to err more often, here (benchmarks/gate_coverage.py) and in the
paper; the test at a difference of 0 or a ratio of 1 is Fisher's exact one. Weighted and clustered rows come in as
effective rows (Korn and Graubard).

Source: Clopper and Pearson (1934); Korn and Graubard (1998), Survey Methodology 24; Fay, Proschan and Brittain (2015),
Biometrics 71, "Combining one-sample confidence procedures for inference in the two-sample case".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from auditkit.stats.beta import beta_logit_quantile, beta_quantile, log_beta, normal_quantile

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Kind = Literal["difference", "ratio"]

# The trapezoidal rule is all but exact for smooth functions under a normal density. The curves of fewer than 20 rows
# have kinks that matter, so they get more points.
_REACH = 6.5
_COARSE, _FINE, _FEW = 0.5, 0.125, 20.0
_STEPS = 40
_TOLERANCE = 1e-9
# A step from a log of the mass so near the goal leaves an error of the order of this squared, and of 1e-3 times this
# from reading the normal distribution off a table.
_NEAR = 1e-6
_CHUNK = 4096
_MOST_KEPT = 16_384
_KEPT: dict[tuple[int, float, float], tuple[FloatArray, FloatArray]] = {}
# Fewer hits than this, beside at least so many misses, are rounding and not a hit.
_NOTHING = 1e-9


def exact_limits(p: FloatArray, n: FloatArray, level: float | FloatArray) -> tuple[FloatArray, FloatArray]:
    """Clopper and Pearson's two-sided limits of rates ``p`` on ``n`` (effective) rows; NaN where ``n`` is not above 0.

    The level is that of all rates, or an array of each one's.

    >>> low, high = exact_limits(np.array([0.1, 0.0]), np.array([20.0, 20.0]), 0.95)
    >>> low.round(4).tolist(), high.round(4).tolist()
    ([0.0123, 0.0], [0.317, 0.1684])
    """
    tail = np.broadcast_to((1.0 - np.asarray(level)) / 2.0, p.shape)
    known = (n > 0) & np.isfinite(p)
    x = np.where(known, p * n, 0.0)
    rest = np.where(known, n - x, 0.0)
    low, high = np.zeros(p.shape), np.ones(p.shape)
    some, short = known & (x > _NOTHING), known & (rest > _NOTHING)
    # The upper limit is 1 less the lower limit of the misses.
    found = beta_quantile(
        np.concatenate([x[some], rest[short]]),
        np.concatenate([rest[some], x[short]]) + 1.0,
        np.concatenate([tail[some], tail[short]]),
    )
    low[some], high[short] = np.split(found, [int(some.sum())])
    high[short] = 1.0 - high[short]
    return np.where(known, np.minimum(low, p), np.nan), np.where(known, np.maximum(high, p), np.nan)


@dataclass(frozen=True, slots=True)
class Curves:
    """Quantile curves of the lower and upper confidence distributions of ``G`` rates.

    Attributes:
        z: ``(K,)`` normal scores, evenly spaced about 0.
        low, high: ``(G, K)`` logits of the quantiles at ``z``; infinite where the limit is
            always 0 or always 1.
        low_slope, high_slope: ``(G, K)`` change of the normal score by the logit, 0 where the limit is fixed.
    """

    z: FloatArray
    low: FloatArray
    high: FloatArray
    low_slope: FloatArray
    high_slope: FloatArray


def curves(p: FloatArray, n: FloatArray, step: float = _COARSE) -> Curves:
    """The curves of rates ``p (G,)`` on ``n (G,)`` effective rows, all above 0, at normal scores ``step`` apart.

    Those of the last rates are kept: gaps of one rate are asked for as difference and ratio, at several levels and
    between several groups, and all rest on the same curves.
    """
    count = round(_REACH / step)
    z = np.arange(-count, count + 1, dtype=np.float64) * step
    x = p * n
    low, low_slope = _kept_curves(x, n - x + 1.0, z)
    high, high_slope = _kept_curves(n - x, x + 1.0, z)
    # The upper distribution is that of the misses, turned round.
    return Curves(z, low, -high[:, ::-1], low_slope, high_slope[:, ::-1])


def _kept_curves(a: FloatArray, b: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """:func:`quantile_curve`, worked out once for each pair of parameters."""
    if not 0 < len(a) <= _MOST_KEPT:
        return quantile_curve(a, b, z)
    keys = [(len(z), one, two) for one, two in zip(a.tolist(), b.tolist(), strict=True)]
    held = {key: _KEPT.get(key) for key in keys}
    fresh = [key for key, found in held.items() if found is None]
    if fresh:
        _, one, two = np.array(fresh).T
        made = dict(zip(fresh, zip(*quantile_curve(one, two, z), strict=True), strict=True))
        held.update(made)
        if len(_KEPT) > _MOST_KEPT:
            _KEPT.clear()
        _KEPT.update(made)
    logits, slopes = zip(*[found for key in keys if (found := held[key]) is not None], strict=True)
    return np.array(logits), np.array(slopes)


def quantile_curve(a: FloatArray, b: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Logits ``(G, K)`` of the quantiles of ``Beta(a, b)`` at normal scores ``z``, and the slopes of ``z`` by them.

    Where ``a`` is 0 the variable is always 0: logits of minus infinity, slopes of 0.
    """
    logits, slopes = np.full((len(a), len(z)), -np.inf), np.zeros((len(a), len(z)))
    some = a > _NOTHING
    if not some.any():
        return logits, slopes
    one, two = a[some], b[some]
    tails = np.array([math.erfc(-score / math.sqrt(2.0)) / 2.0 for score in z.tolist()])
    eta = beta_logit_quantile(one[:, None], two[:, None], tails[None, :])
    log_low, log_high = -np.logaddexp(0.0, -eta), -np.logaddexp(0.0, eta)
    density = one[:, None] * log_low + two[:, None] * log_high - log_beta(one, two)[:, None]
    logits[some] = eta
    slopes[some] = np.exp(density + z**2 / 2.0 + math.log(2.0 * math.pi) / 2.0)
    return logits, slopes


def melded_limits(
    p: FloatArray,
    n: FloatArray,
    left: IntArray,
    right: IntArray,
    kind: Kind | Sequence[Kind],
    level: float | FloatArray,
    odds: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Two-sided limits ``(m,), (m,)`` of ``p[left] - p[right]`` or ``p[left] / p[right]``.

    Args:
        p: ``(G,)`` rates.
        n: ``(G,)`` their effective rows; pairs with a rate on no rows get NaN.
        left, right: ``(m,)`` groups compared.
        kind: ``difference`` or ``ratio``, of all pairs or of each; the upper limit of a ratio is infinite where the
            rate below has no hit.
        level: Two-sided confidence level, of all pairs or ``(m,)`` of each.
        odds: ``(G,)`` what is compared has this many times the odds of ``p``; ``p`` itself by default.

    >>> both = np.array([0.7, 0.2]), np.array([10.0, 10.0])
    >>> low, high = melded_limits(*both, np.array([0]), np.array([1]), "difference", 0.95)
    >>> low.round(3).tolist(), high.round(3).tolist()
    ([-0.031], [0.832])
    """
    found = np.full((2, len(left)), np.nan)
    tail = np.broadcast_to((1.0 - np.asarray(level)) / 2.0, left.shape)
    ratio = np.broadcast_to(np.asarray(kind) == "ratio", left.shape)
    known = (n > 0) & np.isfinite(p)
    few, known = np.minimum(n[left], n[right]) < _FEW, known[left] & known[right]
    odds = np.ones(len(p)) if odds is None else odds
    for wanted, step in ((few & known, _FINE), (~few & known, _COARSE)):
        if not wanted.any():
            continue
        one, two, (rates, rows, lifted) = _distinct(np.stack([p, n, odds], axis=1), left[wanted], right[wanted])
        of = _lifted(curves(rates, rows, step), lifted)
        for of_ratio, named in ((False, "difference"), (True, "ratio")):
            part = np.flatnonzero(ratio[wanted] == of_ratio)
            if len(part):
                at = np.flatnonzero(wanted)[part]
                found[:, at] = _both(of, one[part], two[part], named, tail[at])  # type: ignore[arg-type]
    return found[0], found[1]


def _distinct(rates: FloatArray, left: IntArray, right: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
    """The pairs as indices of the distinct ones among ``rates (G, c)``, and the columns of those."""
    distinct, where = np.unique(rates[np.concatenate([left, right])], axis=0, return_inverse=True)
    where = where.ravel()
    return where[: len(left)], where[len(left) :], np.ascontiguousarray(distinct.T)


def _lifted(known: Curves, odds: FloatArray) -> Curves:
    """The curves of rates with ``odds (G,)`` times the odds: on the logit scale they are the same, shifted."""
    if (odds == 1.0).all():
        return known
    shift = np.log(odds)[:, None]
    return replace(known, low=known.low + shift, high=known.high + shift)


def _both(known: Curves, left: IntArray, right: IntArray, kind: Kind, tail: FloatArray) -> FloatArray:
    # The upper limit is the lower one of the pair turned round.
    a, b, tails = np.concatenate([left, right]), np.concatenate([right, left]), np.concatenate([tail, tail])
    chunks = [slice(start, start + _CHUNK) for start in range(0, len(a), _CHUNK)]
    limits = np.concatenate([_lower(known, a[part], b[part], kind, tails[part]) for part in chunks])
    low, turned = limits[: len(left)], limits[len(left) :]
    if kind == "difference":
        return np.stack([low, -turned])
    with np.errstate(divide="ignore", over="ignore"):
        return np.stack([low, np.where(turned > 0, 1.0 / turned, np.inf)])


def _lower(known: Curves, left: IntArray, right: IntArray, kind: Kind, tail: FloatArray) -> FloatArray:
    low, high = known.low[left], known.high[right]
    nothing, everything = known.low_slope[left, 0] == 0, known.high_slope[right, 0] == 0
    wide = [_spread(part, known.z, kind) for part in (low, high)]
    # The curve of the wider rate is looked up, at points of the narrower one: the integrand is then smooth.
    first = ~nothing & ((wide[0] >= wide[1]) | everything)
    found = np.full(len(left), -1.0 if kind == "difference" else 0.0)
    second = ~first & ~everything & ~(nothing if kind == "ratio" else np.zeros_like(nothing))
    chosen = np.flatnonzero(first | second)
    if len(chosen):
        ahead = first[chosen, None]
        looked = np.where(ahead, low[chosen], high[chosen])
        slopes = np.where(ahead, known.low_slope[left[chosen]], known.high_slope[right[chosen]])
        points = _expit(np.where(ahead, high[chosen], low[chosen]))
        found[chosen] = _root((known.z, looked, slopes), points, kind, np.where(ahead, 1.0, -1.0), tail[chosen])
    return found


def _spread(logits: FloatArray, z: FloatArray, kind: Kind) -> FloatArray:
    at = np.searchsorted(z, [-1.0, 1.0])
    ends = _expit(logits[:, at[1]]), _expit(logits[:, at[0]])
    if kind == "difference":
        return np.asarray(ends[0] - ends[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.nan_to_num(np.log(ends[0]) - np.log(ends[1])))


def _root(
    curve: tuple[FloatArray, FloatArray, FloatArray],
    points: FloatArray,
    kind: Kind,
    signs: FloatArray,
    tail: FloatArray,
) -> FloatArray:
    """The value ``t`` (its log for a ratio) at which the melded distribution reaches ``tail``, by Newton on its log.

    The distribution function is log-concave in ``t``, so that after one step the iterates rise to the root.
    ``signs (m, 1)`` are 1 where the curve of the first rate is looked up and -1 where that of the second is.
    """
    nodes, logits, slopes = curve
    weights = np.exp(-(nodes**2) / 2.0)
    weights = weights / weights.sum()
    goal, floor = np.log(tail), -1.0 if kind == "difference" else -700.0
    t = np.maximum(_first(nodes, logits, points, kind, signs[:, 0] * normal_quantile(tail)), 0.999 * floor)
    below, above = np.full(len(t), floor), np.full(len(t), 700.0)
    open_ = np.arange(len(t))
    for _ in range(_STEPS):
        now, at, sign = t[open_], points[open_], signs[open_]
        moving = now[:, None]
        value = at + sign * moving if kind == "difference" else at * np.exp(sign * moving)
        z, slope = normal_scores(nodes, logits[open_], slopes[open_], value)
        mass = (normal_cdf(sign * z) * weights).sum(axis=1)
        with np.errstate(divide="ignore", over="ignore"):
            held = np.where(slope > 0.0, value, 0.5)
            moved = slope / (1.0 - held) / (held if kind == "difference" else 1.0)
        rate = (np.exp(-(z**2) / 2.0) * moved * weights).sum(axis=1) / math.sqrt(2.0 * math.pi)
        below[open_] = np.where(mass <= tail[open_], now, below[open_])
        above[open_] = np.where(mass > tail[open_], now, above[open_])
        with np.errstate(divide="ignore", invalid="ignore"):
            left = goal[open_] - np.log(mass)
            fresh = now + left * mass / rate
        outside = ~((fresh > below[open_]) & (fresh < above[open_]))  # also where there is no mass at all
        fresh = np.where(outside, (below[open_] + np.minimum(above[open_], 50.0)) / 2.0, fresh)
        t[open_] = fresh
        open_ = open_[(outside | (np.abs(left) > _NEAR)) & (np.abs(fresh - now) > _TOLERANCE)]
        if len(open_) == 0:
            break
    return t if kind == "difference" else np.exp(t)


def _first(nodes: FloatArray, logits: FloatArray, points: FloatArray, kind: Kind, z: FloatArray) -> FloatArray:
    """A first guess from the limits at the normal score ``z`` of the one and ``-z`` of the other (square-and-add)."""
    index, middle, other = np.clip(np.searchsorted(nodes, np.stack([z, 0.0 * z, -z])), 0, len(nodes) - 1)
    looked = _expit(np.take_along_axis(logits, np.stack([middle, index], axis=1), 1))
    fixed = np.take_along_axis(points, np.stack([middle, other], axis=1), 1)
    if kind == "ratio":
        looked, fixed = np.log(np.maximum(looked, 1e-300)), np.log(np.maximum(fixed, 1e-300))
    reach = np.hypot(looked[:, 1] - looked[:, 0], fixed[:, 1] - fixed[:, 0])
    return np.asarray(-np.sign(z) * (looked[:, 0] - fixed[:, 0]) - reach)


def normal_scores(
    nodes: FloatArray, logits: FloatArray, slopes: FloatArray, value: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Normal scores of ``value (m, K)`` under the curves ``(m, K)``, and their change by its logit, 0 outside (0, 1).

    Cubic Hermite interpolation in the logit; straight lines beyond the ends.
    """
    inside = (value > 0.0) & (value < 1.0)
    held = np.where(inside, value, 0.5)
    eta = np.log(held) - np.log1p(-held)
    rows, count = np.arange(len(logits))[:, None], len(nodes)
    offset = 4000.0 * rows
    keys = (np.clip(logits, -1500.0, 1500.0) + offset).ravel()
    place = np.searchsorted(keys, np.clip(eta, -1500.0, 1500.0) + offset) - rows * count - 1
    k = np.clip(place, 0, count - 2)
    x0, x1 = np.take_along_axis(logits, k, 1), np.take_along_axis(logits, k + 1, 1)
    d0, d1 = np.take_along_axis(slopes, k, 1), np.take_along_axis(slopes, k + 1, 1)
    width, step = x1 - x0, nodes[1] - nodes[0]
    s = (eta - x0) / width
    base = nodes[k]
    g0, g1 = d0 * width, d1 * width
    z = base + s * (g0 + s * ((3 * step - 2 * g0 - g1) + s * (g0 + g1 - 2 * step)))
    slope = (g0 + s * (2 * (3 * step - 2 * g0 - g1) + 3 * s * (g0 + g1 - 2 * step))) / width
    before, after = s < 0, s > 1
    z = np.where(before, base + d0 * (eta - x0), np.where(after, base + step + d1 * (eta - x1), z))
    slope = np.where(before, d0, np.where(after, d1, slope))
    scores = np.where(inside, np.clip(z, -30.0, 30.0), np.where(value <= 0.0, -30.0, 30.0))
    return np.asarray(scores, dtype=np.float64), np.where(inside, slope, 0.0)


@lru_cache(maxsize=1)
def _log_cdf() -> tuple[FloatArray, FloatArray]:
    grid = np.arange(-3000, 901, dtype=np.float64) * 0.01
    return grid, np.array([math.log(math.erfc(-z / math.sqrt(2.0)) / 2.0) for z in grid.tolist()])


def normal_cdf(z: FloatArray) -> FloatArray:
    """The normal distribution function with a relative error below 2e-5, also far out in the lower tail.

    >>> normal_cdf(np.array([-1.96, 0.0])).round(4).tolist()
    [0.025, 0.5]
    """
    grid, logs = _log_cdf()
    return np.asarray(np.exp(np.interp(z, grid, logs)))


def _expit(logit: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-logit)))
