"""Beta quantiles, exact limits of rates and melded limits of their differences and ratios."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest
from scipy import optimize, special, stats
from statsmodels.stats.proportion import proportion_confint

from auditkit.stats.beta import beta_quantile
from auditkit.stats.melded import curves, exact_limits, melded_limits, normal_cdf

ONE, TWO = np.array([0]), np.array([1])


@pytest.mark.parametrize("module", ["beta", "melded"])
def test_documented_examples_hold(module):
    result = doctest.testmod(importlib.import_module(f"auditkit.stats.{module}"))
    assert (result.failed, result.attempted > 0) == (0, True)


def test_beta_quantiles_match_scipy_from_one_row_to_ten_millions():
    rng = np.random.default_rng(0)
    a = np.exp(rng.uniform(np.log(0.3), np.log(1e7), 2000))
    b = np.exp(rng.uniform(0.0, np.log(1e7), 2000))
    tail = np.exp(rng.uniform(np.log(1e-9), np.log(0.99), 2000))
    assert np.allclose(stats.beta.cdf(beta_quantile(a, b, tail), a, b) / tail, 1.0, rtol=1e-4)
    few = np.exp(rng.uniform(np.log(1e-4), 0.0, 300))  # what weights make of a hit, or of a miss
    for one, two in ((few, b[:300]), (b[:300], few)):
        assert np.allclose(beta_quantile(one, two, tail[:300]), stats.beta.ppf(tail[:300], one, two), rtol=1e-9)
    n = rng.integers(2, 3000, 300)
    x = rng.integers(1, n)
    ours = beta_quantile(x, n - x + 1.0, np.full(300, 0.025))
    assert np.allclose(ours, stats.beta.ppf(0.025, x, n - x + 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.9999])
def test_limits_of_rates_match_statsmodels(level):
    for k, n in ((0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (81, 263), (4999, 5000)):
        low, high = exact_limits(np.array([k / n]), np.array([float(n)]), level)
        assert (low[0], high[0]) == pytest.approx(proportion_confint(k, n, 1 - level, method="beta"), abs=1e-10)
    assert np.isnan(exact_limits(np.array([0.5]), np.array([0.0]), 0.95)).all()


def melded_by_integration(x, n, y, m, kind, tail):
    """The quantile of the difference or ratio of two beta variables, by quadrature and bracketing."""
    if x == 0 and kind == "ratio":
        return 0.0
    if x == 0:
        return -1.0 if y == m else -stats.beta.ppf(1 - tail, y + 1, m - y)
    lower = stats.beta(x, n - x + 1)
    if y == m:
        return lower.ppf(tail) - (1.0 if kind == "difference" else 0.0)
    upper = stats.beta(y + 1, m - y)

    # In probability, so that nothing of a narrow density is missed.
    nodes, weights = np.polynomial.legendre.leggauss(200)
    points = upper.ppf((nodes + 1) / 2)

    def reached(t):
        at = t + points if kind == "difference" else np.exp(t) * points
        return float(special.betainc(x, n - x + 1, np.clip(at, 0.0, 1.0)) @ weights / 2) - tail

    if kind == "difference":
        return optimize.brentq(reached, -1.0, 1.0, xtol=1e-9)
    return float(np.exp(optimize.brentq(reached, -40.0, 10.0, xtol=1e-9)))


@pytest.mark.parametrize("kind", ["difference", "ratio"])
def test_melded_limits_are_the_quantiles_that_they_are_said_to_be(kind):
    rng = np.random.default_rng(1)
    cases = [(1, 1, 0, 1), (0, 4, 4, 4), (2, 2, 0, 1), (0, 9, 3, 9), (7, 10, 2, 10), (30, 100, 450, 1000)]
    sizes = np.exp(rng.uniform(np.log(2), np.log(3000), (10, 2))).astype(int)
    cases += [(int(rng.integers(0, n + 1)), int(n), int(rng.integers(0, m + 1)), int(m)) for n, m in sizes]
    for index, (x, n, y, m) in enumerate(cases):
        tail = (0.05, 0.025, 0.0005)[index % 3]
        p, rows = np.array([x / n, y / m]), np.array([n, m], dtype=float)
        low, high = melded_limits(p, rows, ONE, TWO, kind, 1 - 2 * tail)
        turned = melded_by_integration(y, m, x, n, kind, tail)
        assert low[0] == pytest.approx(melded_by_integration(x, n, y, m, kind, tail), abs=1e-3), (x, n, y, m, tail)
        top = -turned if kind == "difference" else (1 / turned if turned > 0 else np.inf)
        assert high[0] == pytest.approx(top, rel=2e-3, abs=1e-3), (x, n, y, m, tail)


def test_the_difference_excludes_zero_exactly_where_fishers_test_rejects():
    for n, m in ((7, 9), (15, 15), (40, 25)):
        x, y = np.meshgrid(np.arange(n + 1), np.arange(m + 1), indexing="ij")
        p = np.concatenate([np.arange(n + 1) / n, np.arange(m + 1) / m])
        rows = np.concatenate([np.full(n + 1, float(n)), np.full(m + 1, float(m))])
        low, _ = melded_limits(p, rows, x.ravel(), n + 1 + y.ravel(), "difference", 0.95)
        fisher = stats.hypergeom.sf(x - 1, n + m, n, x + y).ravel()
        clear = np.abs(fisher - 0.025) > 1e-4
        assert ((low > 0) == (fisher < 0.025))[clear].all()


def test_a_limit_without_rows_is_unknown_and_zero_hits_leave_a_ratio_unbounded():
    low, high = melded_limits(np.array([0.5, np.nan]), np.array([9.0, 0.0]), ONE, TWO, "ratio", 0.95)
    assert np.isnan([low[0], high[0]]).all()
    low, high = melded_limits(np.array([0.5, 0.0]), np.array([10.0, 10.0]), ONE, TWO, "ratio", 0.95)
    assert low[0] > 0.5
    assert np.isinf(high[0])


def test_no_groups_have_no_curves_and_no_pairs_have_no_limits():
    none = np.zeros(0)
    found = curves(none, none)
    assert found.low.shape == found.high.shape == (0, len(found.z))
    places = none.astype(np.int64)
    for kind in ("difference", "ratio"):
        assert [limit.shape for limit in melded_limits(none, none, places, places, kind, 0.95)] == [(0,), (0,)]


def test_effective_rows_need_not_be_whole():
    p, left, right = np.array([0.3, 0.5]), ONE, TWO
    ends = [melded_limits(p, np.array([n, 2 * n]), left, right, "difference", 0.95) for n in (40.0, 40.5, 41.0)]
    assert ends[0][0] < ends[1][0] < ends[2][0]
    assert ends[0][1] > ends[1][1] > ends[2][1]


def test_the_normal_distribution_function_is_right_far_out():
    z = np.linspace(-25.0, 8.0, 500)
    assert np.allclose(normal_cdf(z) / stats.norm.cdf(z), 1.0, rtol=3e-5)
