"""Means over rows and trainings: coverage where both vary, and honest edges."""

import numpy as np
import pytest

from auditkit.stats.intervals import clopper_pearson, mean_interval
from auditkit.stats.replication import replicated_difference, replicated_rate


def simulate(rng, trainings=3, n=200, rate=0.8, seed_sd=0.05, row_sd=0.25):
    chance = np.clip(rate + rng.normal(0, seed_sd, (trainings, 1)) + rng.normal(0, row_sd, (1, n)), 0, 1)
    return (rng.random((trainings, n)) < chance).astype(float)


@pytest.mark.parametrize(("trainings", "seed_sd"), [(3, 0.0), (3, 0.05), (5, 0.1)])
def test_rate_interval_covers_over_rows_and_trainings(trainings, seed_sd):
    rng = np.random.default_rng(1)
    truth = simulate(rng, 4000, 4000, seed_sd=seed_sd).mean()
    hits = 0
    for _ in range(300):
        mean, interval = replicated_rate(simulate(rng, trainings, seed_sd=seed_sd))
        assert interval.low <= mean <= interval.high
        hits += interval.low <= truth <= interval.high
    assert hits >= 276


def test_ignoring_the_trainings_would_not_cover():
    """The planted fault: an interval over rows alone misses the truth far more often than 5 %."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        outcomes = simulate(rng, 3, 1000, seed_sd=0.1, row_sd=0.0)
        interval = clopper_pearson(int(outcomes.sum()), outcomes.size)
        hits += interval.low <= 0.8 <= interval.high
    assert hits < 150


def test_difference_interval_covers():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        shared = rng.normal(0, 0.1, (1, 200))
        first, second = ((rng.random((3, 200)) < np.clip(p + shared, 0, 1)).astype(float) for p in (0.75, 0.6))
        _, interval = replicated_difference(first, second)
        hits += interval.low <= 0.15 <= interval.high
    assert hits >= 276


def test_a_single_training_is_over_rows_alone():
    outcomes = (np.arange(100) < 80).astype(float)[None, :]
    mean, interval = replicated_rate(outcomes)
    assert mean == 0.8
    assert interval.method == "korn-graubard over rows"
    usual = clopper_pearson(80, 100)
    assert interval.low == pytest.approx(usual.low, abs=0.005)
    assert interval.high == pytest.approx(usual.high, abs=0.005)


def test_weights_and_clusters_are_those_of_the_mean():
    rng = np.random.default_rng(3)
    first, second = (rng.random((1, 60)) < 0.7).astype(float), (rng.random((1, 60)) < 0.5).astype(float)
    weights, clusters = rng.random(60) + 0.5, np.repeat(np.arange(12), 5)
    mean, interval = replicated_difference(first, second, weights, clusters)
    expected, usual = mean_interval((first - second)[0], weights, clusters)
    assert mean == pytest.approx(expected)
    assert (interval.low, interval.high) == pytest.approx((usual.low, usual.high))


def test_perfect_and_identical_arms_are_not_certain():
    ones = np.ones((3, 40))
    mean, interval = replicated_rate(ones)
    assert (mean, interval.high) == (1.0, 1.0)
    assert interval.low == pytest.approx(clopper_pearson(40, 40).low)
    gap, around = replicated_difference(ones, ones)
    assert gap == 0.0
    assert -0.15 < around.low < -0.05
    assert around.high == -around.low
    with pytest.raises(ValueError, match="no outcomes"):
        replicated_rate(np.ones((0, 4)))


@pytest.mark.parametrize("seed", range(12))
def test_rounding_of_weighted_sums_is_no_precision(seed):
    """All right in all trainings, or all lost: weighted sums differ by rounding, which says nothing on precision."""
    rng = np.random.default_rng(seed)
    n, trainings = int(rng.integers(2, 60)), int(rng.integers(1, 6))
    weights = rng.random(n) + 0.01
    clusters = rng.integers(0, max(n // 3, 2), n) if seed % 2 else None
    rows = weights.sum() ** 2 / (weights**2).sum()
    if clusters is not None:
        rows = min(rows, len(np.unique(clusters)))
    reach = 1 - 0.025 ** (1 / rows)  # Clopper and Pearson's limit where nothing was hit
    ones = np.ones((trainings, n))
    mean, interval = replicated_rate(ones, weights, clusters)
    assert mean == 1.0
    assert interval.low == pytest.approx(1 - reach, rel=1e-6)
    mean, interval = replicated_difference(0.1 * ones, 0.3 * ones, weights, clusters)
    assert interval.low == pytest.approx(-0.2 - reach, rel=1e-6) or interval.low == -1.0
    one_row, _ = replicated_rate(np.where(np.arange(n) == 0, 0.0, ones), weights, clusters)
    assert one_row < 1.0
    values = np.full(n, rng.normal() / 3.0)
    mean, interval = mean_interval(values, weights, clusters)
    assert interval is None or interval.low == interval.high == mean
    assert mean == pytest.approx(values[0], rel=1e-12)
    varied = mean_interval(values + np.where(np.arange(n) == 0, 1e-6, 0.0), weights, clusters)[1]
    assert varied is None or varied.low < varied.high
