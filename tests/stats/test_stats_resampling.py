"""Bootstrap against scipy, closed forms and brute force."""

import numpy as np
import pytest
from scipy import stats

from auditkit.stats.resampling import (
    bca_interval,
    bootstrap,
    multinomial_bootstrap,
    percentile_interval,
    resample_weights,
)


def _weighted_mean(values):
    return lambda w: (w @ values / w.sum(axis=1))[:, None]


def test_replicates_have_the_standard_error_of_the_mean():
    values = np.random.default_rng(0).exponential(size=400)
    draws = bootstrap(_weighted_mean(values), 400, np.random.default_rng(1), resamples=2000)
    assert draws.shape == (2000, 1)
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.06)
    assert draws.mean() == pytest.approx(values.mean(), abs=0.01)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_intervals_of_scipys_own_replicates_are_scipys(method):
    """Fed with scipy's replicates, the limits are scipy's: bias, acceleration and quantiles alike."""
    values = np.random.default_rng(2).exponential(size=25)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method=method, rng=4)
    draws = theirs.bootstrap_distribution
    jackknife = (values.sum() - values) / 24
    ours = percentile_interval(draws, values.mean())
    if method == "BCa":
        plain, ours = ours, bca_interval(draws, values.mean(), jackknife)
        assert ours.high > plain.high + 0.01  # skewed to the right: BCa leans right
    limits = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((limits.low, limits.high), abs=1e-6)


def test_own_replicates_agree_with_scipys():
    values = np.random.default_rng(2).exponential(size=60)
    draws = bootstrap(_weighted_mean(values), 60, np.random.default_rng(3), resamples=6000)[:, 0]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=6000, method="percentile", rng=4).confidence_interval
    ours = percentile_interval(draws, values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


def test_clusters_are_drawn_whole_and_weights_multiply():
    clusters = np.array([5, 5, 9, 9, 9])
    for block in resample_weights(np.random.default_rng(0), 5, 50, clusters=clusters):
        assert np.array_equal(block[:, 0], block[:, 1])
        assert np.array_equal(block[:, 2], block[:, 4])
        assert np.array_equal(block[:, 0] + block[:, 2], np.full(50, 2.0))
    weights = np.arange(1.0, 6.0)
    plain = next(resample_weights(np.random.default_rng(0), 5, 50))
    heavy = next(resample_weights(np.random.default_rng(0), 5, 50, weights=weights))
    assert np.array_equal(heavy, plain * weights)
    assert np.array_equal(plain.sum(axis=1), np.full(50, 5.0))


def test_block_size_does_not_change_the_draws(monkeypatch):
    values = np.arange(30.0)
    whole = bootstrap(_weighted_mean(values), 30, np.random.default_rng(7), resamples=100)
    monkeypatch.setattr("auditkit.stats.resampling._BLOCK_CELLS", 70)
    assert np.array_equal(bootstrap(_weighted_mean(values), 30, np.random.default_rng(7), resamples=100), whole)


def test_tables_are_drawn_with_the_multinomial_covariance():
    cells = np.array([[50.0, 10.0], [20.0, 20.0]])
    draws = multinomial_bootstrap(cells, lambda tables: tables, np.random.default_rng(0), resamples=20000)
    p = cells.ravel() / 100
    assert np.allclose(draws.sum(axis=1), 100)
    assert np.allclose(np.cov(draws.T), 100 * (np.diag(p) - np.outer(p, p)), atol=0.6)
    with pytest.raises(ValueError, match="empty table"):
        multinomial_bootstrap(np.zeros((2, 2)), lambda tables: tables, np.random.default_rng(0))


def test_undefined_replicates_refuse_rather_than_shrink():
    draws = np.r_[np.full(10, np.nan), np.linspace(0, 1, 90)]
    assert percentile_interval(draws, 0.5) is None
    assert percentile_interval(np.r_[np.nan, np.linspace(0, 1, 99)], 0.5) is not None
    assert percentile_interval(np.full(5, np.nan), 0.5) is None
    assert bca_interval(np.full(50, 2.0), 2.0, np.full(5, 2.0)) is None
    assert bca_interval(np.full(50, 1.0), 2.0, np.arange(5.0)) is None
    assert bca_interval(np.array([]), 2.0, np.arange(5.0)) is None
