"""Membership inference with shadow models: how a row's score compares with what it gets where it was in or out.

Scores are log-odds of the true class (or margins): ``own (n,)`` of the model under attack, ``shadow (m, n)`` of models
trained by the same recipe on known halves of the rows, ``inside (m, n)`` whether a row was in a model's training.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import AuditkitError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# With fewer models a side than this, one variance is shared by all rows.
_OWN_VARIANCE = 32
_CERTAIN = 600.0
_SPREAD = 1e-12


def halves(n: int, models: int, rng: np.random.Generator, strata: IntArray | None = None) -> BoolArray:
    """Which rows each shadow model is trained on, ``(models, n)``: a random half and its complement, again and again.

    Every row is in exactly half of the models, and all are trained on as many rows, of each stratum too (but for
    an odd row). Rows are paired at random within their stratum, and a coin says which of the two is in.

    Args:
        n: Rows; even.
        models: Even, at least 4.
        rng: Source of randomness.
        strata: ``(n,)`` codes, say of the classes.

    >>> halves(4, 4, np.random.default_rng(0)).sum(axis=0).tolist()
    [2, 2, 2, 2]
    """
    if n % 2 or models % 2 or models < 4 or n < 4:
        raise ValueError(f"rows and shadow models must be even and at least 4, got {n} and {models}")
    inside = np.zeros((models, n), dtype=np.bool_)
    for pair in range(models // 2):
        order = np.lexsort((rng.random(n), np.zeros(n, np.int64) if strata is None else strata))
        coin = rng.random(n // 2) < 0.5
        inside[2 * pair, order[0::2]], inside[2 * pair, order[1::2]] = coin, ~coin
        inside[2 * pair + 1] = ~inside[2 * pair]
    return inside


def finite_scores(own: FloatArray, shadow: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same scores with those of probabilities that are exactly 0 or 1 drawn in, so that moments exist.

    A model of few leaves or trees says 0 and 1; their log-odds are set half an odds beyond the largest that is seen.
    """
    everything = np.concatenate([own[None, :], shadow])
    ordinary = np.abs(everything[np.abs(everything) < _CERTAIN])
    limit = (float(ordinary.max()) if ordinary.size else 0.0) + math.log(2.0)
    clipped = np.clip(everything, -limit, limit)
    return clipped[0], clipped[1:]


def lira_offline(own: FloatArray, shadow: FloatArray, inside: BoolArray) -> FloatArray:
    """Standardised distance ``(n,)`` of the score above those of models that were not trained on the row.

    It orders rows as the published ``1 - P(Z > score)`` does, and keeps apart those where that rounds to 1.

    Source: Carlini et al. (2022), Membership inference attacks from first principles, section VI.A.
    """
    mean, spread = _gaussian(shadow, ~inside)
    return np.asarray((own - mean) / spread, dtype=np.float64)


def lira_online(own: FloatArray, shadow: FloatArray, inside: BoolArray) -> FloatArray:
    """Log likelihood ratio ``(n,)`` of the score between models trained on the row and models that were not.

    Gaussians with the row's own means; below 32 models a side one variance is shared by all rows.

    Source: Carlini et al. (2022), algorithm 1 and section VI.B.
    """
    mean_in, spread_in = _gaussian(shadow, inside)
    mean_out, spread_out = _gaussian(shadow, ~inside)
    ratio = _log_normal(own, mean_in, spread_in) - _log_normal(own, mean_out, spread_out)
    return np.asarray(ratio, dtype=np.float64)


def rmia(own: FloatArray, shadow: FloatArray, inside: BoolArray) -> FloatArray:
    """Log of the probability of the true class over its mean over models half of which saw the row, ``(n,)``.

    The attack's published score is the share of other rows ``z`` whose ratio the row's own exceeds ``gamma`` times.
    For one model that is a rising function of the ratio, so that the ratio ranks the rows the same way, and it also
    ranks those that exceed all ``z``; :func:`rmia_shares` is the score itself.

    Source: Zarifzadeh, Liu and Shokri (2024), Low-cost high-power membership inference attacks, equation 2 and
    section 3 (online).
    """
    usual = 0.5 * (_mean_probability(shadow, inside) + _mean_probability(shadow, ~inside))
    return np.asarray(_log_sigmoid(own) - np.log(np.maximum(usual, 1e-300)), dtype=np.float64)


def rmia_shares(log_ratio: FloatArray, population: FloatArray, gamma: float = 1.0) -> FloatArray:
    """Share ``(n,)`` of ``population`` log ratios ``(z,)`` that each row exceeds by more than ``log(gamma)``.

    Source: Zarifzadeh, Liu and Shokri (2024), equation 1.

    >>> rmia_shares(np.array([0.0, 1.0]), np.array([-1.0, 0.5]), gamma=1.0).tolist()
    [0.5, 1.0]
    """
    ordered = np.sort(population)
    return np.asarray(np.searchsorted(ordered, log_ratio - math.log(gamma), side="left") / len(ordered))


def bavaria(own: FloatArray, shadow: FloatArray, inside: BoolArray) -> FloatArray:
    """Log ratio ``(n,)`` of the Student-t predictive densities of a row's score, trained on it against not.

    Each row and side has a normal-inverse-gamma posterior: a flat prior on the mean, and on the variance an inverse
    gamma whose two numbers are matched to the moments of all rows' log variances, so that few models borrow their
    variance from all rows and many keep their own.

    Source: Braennvall (2026), Exponential-family membership inference (BaVarIA-t); the prior by Smyth (2004), Linear
    models and empirical Bayes methods, section 6.2.
    """
    ratio = _log_predictive(own, shadow, inside) - _log_predictive(own, shadow, ~inside)
    return np.asarray(ratio, dtype=np.float64)


def check_shadows(shadow: FloatArray, inside: BoolArray) -> None:
    """Refuse shadow scores that no attack can use.

    Raises:
        AuditkitError: AK621 a score that is no number, AK622 fewer than two models a side for some row.
    """
    if not np.isfinite(shadow).all():
        raise AuditkitError(
            "AK621",
            f"{int((~np.isfinite(shadow)).any(axis=1).sum())} of {len(shadow)} shadow models give scores that are no "
            "numbers",
            why="their training diverged",
            fix="lower the learning rate of the recipe",
        )
    fewest = int(min(inside.sum(axis=0).min(), (~inside).sum(axis=0).min()))
    if fewest < 2:
        raise AuditkitError(
            "AK622",
            f"some row was in or out of only {fewest} shadow models, and a spread takes two",
            fix="train at least 4 shadow models, each on half of the rows",
        )


def _moments(shadow: FloatArray, chosen: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Number of chosen models, mean, and sum of squared deviations of each row, all ``(n,)``."""
    count = chosen.sum(axis=0).astype(np.float64)
    mean = np.where(chosen, shadow, 0.0).sum(axis=0) / count
    return count, mean, np.where(chosen, (shadow - mean) ** 2, 0.0).sum(axis=0)


def _gaussian(shadow: FloatArray, chosen: BoolArray) -> tuple[FloatArray, FloatArray]:
    count, mean, squares = _moments(shadow, chosen)
    if count.min() < _OWN_VARIANCE:
        variance = np.full(len(mean), squares.sum() / (count - 1.0).sum())
    else:
        variance = squares / (count - 1.0)
    return mean, np.sqrt(variance) + _SPREAD


def _log_normal(x: FloatArray, mean: FloatArray, spread: FloatArray) -> FloatArray:
    return np.asarray(-0.5 * ((x - mean) / spread) ** 2 - np.log(spread))


def _mean_probability(shadow: FloatArray, chosen: BoolArray) -> FloatArray:
    likely = np.exp(_log_sigmoid(shadow))
    return np.asarray(np.where(chosen, likely, 0.0).sum(axis=0) / chosen.sum(axis=0))


def _log_sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(-np.logaddexp(0.0, -x), dtype=np.float64)


def _log_predictive(own: FloatArray, shadow: FloatArray, chosen: BoolArray) -> FloatArray:
    from scipy.special import gammaln

    count, mean, squares = _moments(shadow, chosen)
    freedom_before, variance_before = _variance_prior(squares, count - 1.0)
    freedom = freedom_before + count - 1.0
    variance = (freedom_before * variance_before + squares) / freedom
    scale = np.sqrt(variance * (1.0 + 1.0 / count)) + _SPREAD
    t = (own - mean) / scale
    heights = gammaln((freedom + 1.0) / 2.0) - gammaln(freedom / 2.0) - 0.5 * np.log(freedom * math.pi) - np.log(scale)
    return np.asarray(heights - 0.5 * (freedom + 1.0) * np.log1p(t**2 / freedom))


def _variance_prior(squares: FloatArray, freedom: FloatArray) -> tuple[float, float]:
    """Degrees of freedom and variance of the scaled inverse chi-square that the rows' variances come from."""
    from scipy.special import digamma, polygamma

    logs = np.log(np.maximum(squares / freedom, _SPREAD))
    centred = logs - digamma(freedom / 2.0) + np.log(freedom / 2.0)
    excess = float(centred.var(ddof=1) - polygamma(1, freedom / 2.0).mean())
    # An excess of nothing says that all rows have one variance.
    half = _inverse_trigamma(excess) if excess > 1e-6 else 1e6
    return 2.0 * half, float(np.exp(centred.mean() + digamma(half) - math.log(half)))


def _inverse_trigamma(value: float) -> float:
    """The ``x`` with ``trigamma(x) = value``, by Newton steps on ``1 / trigamma``, which is nearly straight."""
    from scipy.special import polygamma

    x = 0.5 + 1.0 / value
    for _ in range(50):
        height = float(polygamma(1, x))
        step = height * (1.0 - height / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x
