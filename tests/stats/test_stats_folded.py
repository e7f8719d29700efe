"""Limits of gaps without a direction: against roots found by scipy, and that each of them errs as often as it says."""

import numpy as np
import pytest
from scipy import optimize, stats

from auditkit.stats.folded import both_ways, is_open, undirected


def normal(point, level, error=1.0):
    half = stats.norm.isf((1 - level) / 2) * error
    return point - half, point + half


def folded(point, level, kind="difference"):
    plain, strict = normal(point, level), normal(point, both_ways(level))
    if kind == "ratio":
        point, plain, strict = np.exp(point), np.exp(plain), np.exp(strict)
    return undirected(point, plain, strict, kind, level)


@pytest.mark.parametrize("level", [0.9, 0.95, 0.9995])
def test_near_limits_are_where_the_chances_of_both_directions_add_up_to_the_error(level):
    half = stats.norm.isf((1 - level) / 4)
    for distance in half + np.array([1e-6, 0.01, 0.1, 0.4, 1.0, 2.5, 6.0]):

        def beyond(near, distance=distance):
            return stats.norm.sf(distance - near) + stats.norm.sf(distance + near) - (1 - level) / 2

        expected = optimize.brentq(beyond, 0.0, distance)
        for sign in (1.0, -1.0):
            low, high = folded(np.array([sign * distance]), level)
            assert low[0] == pytest.approx(expected, abs=2e-3)  # flat at 0: 1e-5 of a chance is 1e-3 of a width
            assert beyond(low[0]) == pytest.approx(0.0, abs=3e-5 * (1 - level))
            assert high[0] == pytest.approx(distance + stats.norm.isf((1 - level) / 2))
            # A ratio is folded at 1 as a difference is at 0, on the scale of logarithms.
            far, near = folded(np.array([sign * distance]), level, "ratio")
            assert (near[0], far[0]) == (pytest.approx(np.exp(-low[0])), pytest.approx(np.exp(-high[0])))


def test_close_to_no_gap_the_near_limit_is_no_gap_and_far_from_it_the_one_with_a_direction():
    points = np.array([0.0, 1.0, 2.2, 9.0])
    low, _ = folded(points, 0.95)
    assert low[:3].tolist() == [0.0, 0.0, 0.0]  # 2.2 is beyond 1.96 one way, and not beyond 2.24 either way
    assert low[3] == normal(points, 0.95)[0][3]
    assert is_open(points, normal(points, 0.95), "difference", 0.95).tolist() == [False, False, True, False]


def test_either_error_is_what_it_says_at_every_gap():
    """Half of 5 % on each side: exactly so under a normal distribution, near no gap and far from it."""
    rng = np.random.default_rng(0)
    draws = 200_000
    for gap in (0.0, 0.2, 0.5, 1.0, 3.0):
        low, high = folded(gap + rng.normal(size=draws), 0.95)
        below, above = (low > gap).mean(), (high < gap).mean()
        assert below == pytest.approx(0.025, abs=0.0012), gap
        assert above <= 0.0262, gap
    # With the limit that has a direction twice as many would find a gap where there is none.
    plain = normal(rng.normal(size=draws), 0.95)
    assert ((plain[0] > 0) | (plain[1] < 0)).mean() == pytest.approx(0.05, abs=0.002)


def test_what_is_undefined_or_unbounded_stays_so():
    nan, inf = np.nan, np.inf
    points = np.array([0.3, 0.0, 0.4, 0.7])
    plain = np.array([nan, 0.0, 0.1, 0.6]), np.array([nan, 0.5, inf, 0.7])
    strict = np.array([nan, 0.0, 0.05, 0.5]), np.array([nan, 0.6, inf, 0.7])
    low, high = undirected(points, plain, strict, "ratio", 0.95)
    assert np.isnan([low[0], high[0]]).all()
    assert (low[1], high[1]) == (0.0, pytest.approx(0.6))  # nothing beside something: which way is not known from it
    assert (low[2], high[2]) == (0.0, 1.0)  # no upper limit: the other may be the lower one by any factor
    assert (low[3], high[3]) == (0.6, pytest.approx(0.7))  # an interval without a width on the near side


def test_limits_that_are_not_normal_lie_between_those_at_the_whole_error_and_at_half_of_it():
    point, plain, strict = np.array([2.4]), (np.array([0.4]), np.array([4.4])), (np.array([0.0]), np.array([4.8]))
    low, _ = undirected(point, plain, strict, "difference", 0.95)
    share = (0.4 - low[0]) / 0.4
    assert 0.0 < share < 1.0
    even = 2.4 - np.array([2.0]), 2.4 + np.array([2.0])
    assert share == pytest.approx(
        (0.4 - undirected(point, even, (even[0] - 0.1, even[1]), "difference", 0.95)[0][0]) / 0.1
    )
