from __future__ import annotations

import numpy as np
import pytest

from auditkit.core.errors import UsageError
from auditkit.methods.fairness.counts import count_groups
from auditkit.methods.fairness.gaps import Compared, disparities, disparity_limits, mover_limits, pairs
from auditkit.methods.fairness.metrics import group_rates
from auditkit.methods.fairness.worst import (
    Joint,
    Question,
    extreme_limits,
    joint_gaps,
    simultaneous_gap,
    simultaneous_gaps,
)
from auditkit.stats.intervals import mover_ratio


def selection(successes, sizes):
    """Rates of groups with the given numbers of positive decisions."""
    p = np.concatenate([np.arange(n) < k for k, n in zip(successes, sizes, strict=True)]).astype(int)
    g = np.repeat([f"g{i:02d}" for i in range(len(sizes))], sizes)
    counts = count_groups(np.zeros(len(p), dtype=int), p, {"g": g}, classes=("n", "y"), positive=1)[1]
    return group_rates(counts, "selection_rate")


PAIRS = [((56, 70), (48, 80)), ((0, 30), (5, 40)), ((10, 10), (3, 20)), ((1, 500), (9, 20))]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_wilson_limits_give_newcombes_difference(a, b):
    confint = pytest.importorskip("statsmodels.stats.proportion").confint_proportions_2indep
    rates = selection((a[0], b[0]), (a[1], b[1]))
    low, high = confint(a[0], a[1], b[0], b[1], method="newcomb", compare="diff", alpha=0.05, correction=False)
    left, right = pairs(rates)
    near, far = mover_limits(rates.value, rates.rough_limits(0.95, 1.0), left, right, "difference")
    assert far[0] == pytest.approx(max(abs(low), abs(high)), abs=1e-10)
    assert near[0] == pytest.approx(0.0 if low <= 0 <= high else min(abs(low), abs(high)), abs=1e-10)


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("kind", ["difference", "ratio"])
def test_disparities_of_two_groups_have_melded_limits_folded_at_parity(a, b, kind):
    rates = selection((a[0], b[0]), (a[1], b[1]))
    left, right = pairs(rates)
    near, far = disparity_limits(rates, left, right, kind, 0.95)
    # A difference: draws from the two confidence distributions, by simulation of order statistics.
    rng = np.random.default_rng(0)

    def draws(x, n, upper):
        one, two = (x + 1, n - x) if upper else (x, n - x + 1)
        return np.full(60_000, float(upper)) if two == 0 or one == 0 else rng.beta(one, two, 60_000)

    (x, n), (y, m) = sorted((a, b), key=lambda part: part[0] / part[1])
    low, high = (draws(x, n, False), draws(y, m, True)), (draws(x, n, True), draws(y, m, False))
    if kind == "difference":
        ends = np.quantile(low[0] - low[1], 0.025), np.quantile(high[0] - high[1], 0.975)
        expected = (0.0 if ends[1] >= 0 else -ends[1], -ends[0])
    else:
        ends = np.quantile(low[0] / low[1], 0.025), np.quantile(high[0] / high[1], 0.975)
        expected = (min(ends[0], 1 / ends[1]), min(ends[1], 1.0))
    assert (near[0], far[0]) == pytest.approx(expected, abs=8e-3)


@pytest.mark.parametrize(("a", "b"), [((40, 100), (60, 100)), ((5, 50), (30, 60)), ((99, 100), (999, 1000))])
def test_the_ratio_of_two_groups_solves_fiellers_equation(a, b):
    rates = selection((a[0], b[0]), (a[1], b[1]))
    left, right = pairs(rates)
    limits = rates.rough_limits(0.95, 1.0)
    low, high = mover_limits(rates.value, limits, left, right, "ratio")
    other = mover_ratio(a[0] / a[1], a[1], b[0] / b[1], b[1])
    assert high[0] == pytest.approx(min(other.high, 1.0), abs=1e-9)
    # The folded lower limit, by definition: the root of (p - r q)^2 = (p - l)^2 + r^2 (u - q)^2 below p / q.
    p, q = rates.value
    bottom, u = limits[0][0], limits[1][1]
    r = low[0]
    if r < 1 / other.high - 1e-12 or other.high <= 1:
        assert (p - r * q) ** 2 == pytest.approx((p - bottom) ** 2 + r**2 * (u - q) ** 2, rel=1e-9)


@pytest.mark.parametrize("kind", ["difference", "ratio"])
def test_the_worst_pair_is_found_without_working_out_every_pair(kind):
    """The shortcut over pairs gives what the exact limits of all pairs give."""
    rng = np.random.default_rng(2)
    for groups, n, spread in ((3, 15, 0.0), (8, 60, 0.0), (8, 60, 0.3), (12, 400, 0.1)):
        sizes = rng.integers(n, 3 * n, groups)
        rates = selection(rng.binomial(sizes, 0.3 + spread * rng.random(groups)) + 1, sizes + 1)
        left, right = pairs(rates)
        low, high = extreme_limits([Compared(rates, left, right, kind, 0.95)], [2 * len(left)])[0]
        plain = disparity_limits(rates, left, right, kind, 0.95)
        strict = disparity_limits(rates, left, right, kind, 1 - 0.05 / (2 * len(left)))
        expected = (strict[0].max(), plain[1].max()) if kind == "difference" else (plain[0].min(), strict[1].min())
        assert (low, high) == pytest.approx(expected, abs=1e-9)


def test_differences_are_absolute_and_ratios_are_at_most_one():
    value, one, two = np.array([0.6, 0.5]), np.array([0, 1]), np.array([1, 0])
    assert disparities(value, one, two, "difference").tolist() == pytest.approx([0.1, 0.1])
    assert disparities(value, one, two, "ratio").tolist() == pytest.approx([5 / 6, 5 / 6])


def test_the_ratio_of_nothing_to_something_is_zero_and_of_nothing_to_nothing_undefined():
    assert disparities(np.array([0.0, 0.5]), np.array([0]), np.array([1]), "ratio")[0] == 0.0
    gap = simultaneous_gap(selection((0, 0), (50, 50)), "ratio")
    assert gap.value is None
    assert gap.reason == "the ratio of two rates that are both 0 is undefined"


def test_a_third_group_is_never_averaged_away():
    gap = simultaneous_gap(selection((50, 50, 10), (100, 100, 100)), "difference")
    assert gap.value == pytest.approx(0.4)
    assert gap.pair in ((0, 2), (1, 2))


def test_references():
    rates = selection((10, 40, 30), (100, 100, 200))
    names = ("g00", "g01", "g02")
    assert pairs(rates)[0].tolist() == [0, 0, 1]
    assert set(pairs(rates, "best")[1].tolist()) == {1}
    assert set(pairs(rates, "best", lower_is_better=True)[1].tolist()) == {0}
    assert set(pairs(rates, "largest")[1].tolist()) == {2}
    assert set(pairs(rates, "g02", names=names)[1].tolist()) == {2}
    with pytest.raises(UsageError, match="AK404 the reference 'F' is not a group"):
        pairs(rates, "F", names=names)


@pytest.mark.parametrize(("groups", "n", "gap"), [(2, 100, 0.0), (6, 100, 0.0), (6, 500, 0.1), (12, 100, 0.2)])
def test_the_interval_of_the_largest_gap_covers_the_truth(groups, n, gap):
    rng = np.random.default_rng(groups * n)
    truth = np.full(groups, 0.4)
    truth[0] -= gap
    draws, missed = 80, {"difference": 0, "ratio": 0}
    true = {"difference": gap, "ratio": truth.min() / truth.max()}
    for _ in range(draws):
        rates = selection(rng.binomial(n, truth), [n] * groups)
        for kind in missed:
            interval = simultaneous_gap(rates, kind).interval
            missed[kind] += not interval.low - 1e-12 <= true[kind] <= interval.high + 1e-12
    allowed = draws * 0.05 + 3 * (draws * 0.05 * 0.95) ** 0.5
    assert max(missed.values()) <= allowed, missed


def test_a_planted_gap_is_seen_and_its_clean_twin_is_not():
    planted = simultaneous_gap(selection((100, 250, 250), (500, 500, 500)), "difference")
    clean = simultaneous_gap(selection((250, 250, 251), (500, 500, 500)), "difference")
    assert planted.interval.low > 0.15
    assert clean.interval.low == 0.0
    assert clean.interval.high < 0.1


def test_the_larger_of_two_gaps():
    small, big = selection((50, 55), (100, 100)), selection((20, 80), (100, 100))
    gap = joint_gaps([Joint((small, big), "difference", 0.95)])[0]
    alone = simultaneous_gap(big, "difference")
    assert gap.value == pytest.approx(0.6)
    assert gap.interval.low == pytest.approx(simultaneous_gap(big, "difference", 0.975).interval.low)
    assert gap.interval.low < alone.interval.low
    assert gap.interval.high == pytest.approx(alone.interval.high)


def test_the_smaller_of_two_ratios():
    near, far = selection((50, 55), (100, 100)), selection((20, 80), (100, 100))
    gap = joint_gaps([Joint((near, far), "ratio", 0.95)])[0]
    assert gap.value == pytest.approx(0.25)
    assert gap.interval.low == pytest.approx(simultaneous_gap(far, "ratio").interval.low)
    assert gap.interval.high == pytest.approx(simultaneous_gap(far, "ratio", 0.975).interval.high)


def test_gaps_asked_together_are_those_asked_one_by_one():
    rng = np.random.default_rng(8)
    tables = [selection(rng.integers(0, 40, groups), rng.integers(40, 400, groups)) for groups in (2, 3, 7)]
    tables.append(selection((0, 0, 3), (9, 8, 10)))
    asked = [
        Question(rates, kind, level) for rates in tables for kind in ("difference", "ratio") for level in (0.9, 0.99)
    ]
    for question, gap in zip(asked, simultaneous_gaps(asked), strict=True):
        alone = simultaneous_gap(question.estimates, question.kind, question.level)
        assert (gap.value, gap.pair, gap.reason) == (alone.value, alone.pair, alone.reason)
        assert gap.interval.low == pytest.approx(alone.interval.low, abs=1e-12)
        assert gap.interval.high == pytest.approx(alone.interval.high, abs=1e-12)
