"""Limits of means of values in a known range: closed form at the ends, simulation in between, how often they err."""

import numpy as np
import pytest
from scipy.stats import beta

from auditkit.stats.bounded import bounded_mean
from auditkit.stats.intervals import mean_interval


@pytest.mark.parametrize("level", [0.9, 0.95, 0.9999])
@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 2), (0, 5), (3, 7), (199, 200), (0, 3000), (2999, 3000)])
def test_yes_and_no_give_clopper_and_pearsons_limits(hits, n, level):
    values = np.r_[np.ones(hits), np.zeros(n - hits)]
    found = bounded_mean(values).interval(level)
    tail = (1 - level) / 2
    low = beta.ppf(tail, hits, n - hits + 1) if hits else 0.0
    high = beta.ppf(1 - tail, hits + 1, n - hits) if hits < n else 1.0
    assert (found.low, found.high) == pytest.approx((low, high), abs=3e-8)


def test_equal_values_have_a_bound_on_what_was_not_seen():
    # All n rows at 0.25 and one unseen row at the end: the end's share is beta(1, n).
    found = bounded_mean(np.full(40, 0.25)).interval(0.95)
    unseen = 1 - 0.025 ** (1 / 40)
    assert found.low == pytest.approx(0.25 * (1 - unseen), abs=1e-8)
    assert found.high == pytest.approx(0.25 + 0.75 * unseen, abs=1e-8)


def drawn_limits(values, weights, level, *, least=0.0, most=1.0, draws=400_000):
    """The definition itself, by random weights."""
    unseen = (weights**2).sum() / weights.sum()
    random = np.random.default_rng(3).standard_exponential((draws, len(values) + 1)) * np.append(weights, unseen)
    low, high = ((random @ np.append(values, end)) / random.sum(axis=1) for end in (least, most))
    return np.quantile(low, (1 - level) / 2), np.quantile(high, (1 + level) / 2)


def test_weighted_values_in_between_agree_with_the_definition():
    rng = np.random.default_rng(0)
    values, weights = rng.beta(2, 0.5, 12), rng.gamma(2.0, 1.0, 12)
    found = bounded_mean(values, weights)
    assert found.value == pytest.approx(np.average(values, weights=weights))
    interval = found.interval(0.95)
    assert (interval.low, interval.high) == pytest.approx(drawn_limits(values, weights, 0.95), abs=2e-3)


def test_changes_of_either_sign_agree_with_the_definition():
    changes = np.r_[np.zeros(20), 1.0, 1.0, -0.5, 0.25]
    interval = bounded_mean(changes, least=-1.0).interval(0.9)
    assert (interval.low, interval.high) == pytest.approx(drawn_limits(changes, np.ones(24), 0.9, least=-1.0), abs=2e-3)


def test_clusters_count_once_each():
    rng = np.random.default_rng(1)
    means = rng.random(15)
    once = bounded_mean(means).interval(0.95)
    # Each cluster's rows scatter around its mean; ten or a thousand of them tell no more.
    scatter = np.tile([-0.3, 0.3], 5) * np.minimum(means, 1 - means)[:, None]
    many = bounded_mean((means[:, None] + scatter).ravel(), clusters=np.repeat(np.arange(15), 10)).interval(0.95)
    assert (many.low, many.high) == pytest.approx((once.low, once.high), abs=1e-9)
    assert many.method == "gaffke-clustered"


def test_scale_of_weights_and_rows_that_weigh_nothing_change_nothing():
    values, weights = np.array([0.2, 0.9, 1.0, 0.4]), np.array([1.0, 2.0, 0.5, 0.0])
    found, other = (bounded_mean(values[:k], scale * weights[:k]) for k, scale in ((4, 1.0), (3, 1e6)))
    assert found.value == pytest.approx(other.value)
    assert found.interval(0.95).low == pytest.approx(other.interval(0.95).low, abs=1e-9)


def test_too_little_has_no_limits_and_says_so():
    assert bounded_mean(np.zeros(0)).reason == "no rows"
    alone = bounded_mean(np.array([0.2, 0.4]), clusters=np.zeros(2, dtype=np.int64))
    assert alone.interval(0.95) is None
    assert "one independent row" in alone.reason


def test_limits_lie_in_the_range_and_hold_the_mean_at_every_level():
    for values in (np.array([1.0]), np.array([0.0, 1.0]), np.full(9, 1.0), np.linspace(0, 1, 11)):
        for level in (0.5, 0.8, 0.99, 1 - 1e-9):
            found = bounded_mean(values).interval(level)
            assert 0.0 <= found.low <= values.mean() <= found.high <= 1.0


def misses(draw, truth, n, runs, seed):
    """How often each limit errs, of the limits here and of Student's: (low, high) of each."""
    rng = np.random.default_rng(seed)
    told = np.zeros(4)
    for _ in range(runs):
        values, weights, clusters = draw(rng, n)
        found = bounded_mean(values, weights, clusters).interval(0.95)
        student = mean_interval(values, weights, clusters)[1]
        told += [found.low > truth, found.high < truth, student.low > truth, student.high < truth]
    return told / runs


def rarely_hurt(rng, n):
    """Rows of which one in a hundred is right under a fifth of the shifts, and all others under each."""
    return np.where(rng.random(n) < 0.01, 0.2, 1.0), None, None


def mostly_right(rng, n):
    return rng.binomial(75, rng.beta(3, 0.1, n)) / 75, None, None


def weighted(rng, n):
    return rng.binomial(75, rng.beta(3, 0.1, n)) / 75, rng.gamma(2.0, 1.0, n), None


def clustered(rng, n):
    patients = np.repeat(np.arange(n // 4), 4)
    return rng.binomial(75, rng.beta(3, 0.1, n // 4)[patients]) / 75, None, patients


def test_student_errs_where_hardly_a_row_is_hurt_and_these_limits_do_not():
    low, high, student, _ = misses(rarely_hurt, 0.992, 200, 150, 0)
    assert max(low, high) <= 0.05
    assert student > 0.08


@pytest.mark.slow
@pytest.mark.parametrize("n", [40, 200])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [(rarely_hurt, 0.992), (mostly_right, 3 / 3.1), (weighted, 3 / 3.1), (clustered, 3 / 3.1)],
)
def test_each_limit_errs_at_most_as_often_as_it_says(draw, truth, n):
    low, high, student, _ = misses(draw, truth, n, 2000, 1)
    # 2.5 % and three standard errors of 2,000 runs.
    assert max(low, high) <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 2000)
    assert student > 0.025 + 3 * np.sqrt(0.025 * 0.975 / 2000)
