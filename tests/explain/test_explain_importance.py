"""Summaries over rows: intervals that cover, clusters and weights that count, strips that add up."""

import numpy as np
import pytest

from auditkit.methods.explain.agreement import rank_correlations
from auditkit.methods.explain.importance import attribution_density, importance
from auditkit.methods.explain.randomisation import concentration


def test_intervals_cover_the_truth_at_their_level():
    rng = np.random.default_rng(0)
    covered = np.zeros(2)
    for _ in range(300):
        magnitude = np.abs(rng.normal(size=(80, 3))) * np.array([1.0, 2.0, 0.5])
        result = importance(magnitude, rng, draws=300)
        means, shares = result.mean_absolute_intervals[1], result.share_intervals[1]
        covered += [means.low <= 2 * np.sqrt(2 / np.pi) <= means.high, shares.low <= 2 / 3.5 <= shares.high]
    # Binomial error of a 95 % level over 300 trials is 1.3 points; the percentile bootstrap is a little narrow.
    assert (covered / 300 > 0.90).all()
    assert (covered / 300 < 0.99).all()


@pytest.mark.parametrize("n", [8, 20, 50])
def test_few_rows_have_as_wide_intervals_as_they_need(n):
    inside = []
    for seed in range(400):
        rng = np.random.default_rng([seed, n])
        result = importance(rng.uniform(0.0, 1.0, size=(n, 2)), rng, draws=1000)
        inside.append(
            [
                [mean.low <= 0.5 <= mean.high, share.low <= 0.5 <= share.high]
                for mean, share in zip(result.mean_absolute_intervals, result.share_intervals, strict=True)
            ]
        )
    assert (np.mean(inside, axis=(0, 1)) > 0.92).all()


def test_clusters_widen_the_interval_and_repeated_rows_do_not_count_twice():
    rng = np.random.default_rng(0)
    once = np.abs(rng.normal(size=(40, 2)))
    thrice = np.repeat(once, 3, axis=0)
    clusters = np.repeat(np.arange(40), 3)
    honest = importance(thrice, np.random.default_rng(1), clusters=clusters)
    single = importance(once, np.random.default_rng(1))
    assert honest.units == 40
    assert honest.mean_absolute_intervals[0].method == "cluster-bootstrap-percentile"
    assert honest.mean_absolute_intervals[0].low == pytest.approx(single.mean_absolute_intervals[0].low)
    naive = importance(thrice, np.random.default_rng(1))
    width = [r.mean_absolute_intervals[0].high - r.mean_absolute_intervals[0].low for r in (honest, naive)]
    assert width[0] > 1.4 * width[1]


def test_weights_count_as_rows():
    magnitude = np.array([[1.0, 0.0], [3.0, 4.0]])
    weighted = importance(magnitude, np.random.default_rng(0), weights=np.array([1.0, 3.0]))
    repeated = importance(magnitude[[0, 1, 1, 1]], np.random.default_rng(0))
    np.testing.assert_allclose(weighted.mean_absolute, repeated.mean_absolute)


def test_one_row_has_no_interval_and_zero_attributions_no_share():
    one = importance(np.array([[1.0, 2.0]]), np.random.default_rng(0))
    assert one.mean_absolute_intervals == (None, None)
    zero = importance(np.zeros((5, 2)), np.random.default_rng(0))
    assert zero.share is None
    assert zero.share_intervals == (None, None)


def test_density_counts_every_row_and_colours_by_rank():
    values = np.array([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
    features = np.array([[1.0, np.nan], [5.0, np.nan], [9.0, np.nan]])
    density = attribution_density("d", "t", values, features, ("a", "b"), bins=3)
    assert density.counts == ((1, 1, 1), (0, 3, 0))
    assert density.color == ((0.0, 0.5, 1.0), (None, None, None))
    assert len(density.edges) == 4


def test_rank_correlations_equal_scipys():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, (6, 9)).astype(float), rng.normal(size=(6, 9))
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlations(first, second), expected, atol=1e-12)
    assert len(rank_correlations(np.ones((1, 4)), second[:1, :4])) == 0


def test_concentration():
    rows = np.vstack([np.eye(20)[0], np.ones(20), np.zeros(20)])
    np.testing.assert_allclose(concentration(rows), [1.0, 0.1, np.nan])
