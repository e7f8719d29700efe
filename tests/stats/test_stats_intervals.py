"""Intervals against published tables, other libraries, root finding and simulation."""

import doctest
import importlib
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from auditkit.core.evidence import Interval
from auditkit.stats import intervals, melded
from auditkit.stats.effective import effective_rows
from auditkit.stats.estimate import Estimate, Share, mapped, prepare, undefined
from auditkit.stats.gaps import largest_gap, largest_gaps
from auditkit.stats.linearised import expected_proportion, logit_bounds, mean, proportion, t_value, variance_of

LEVELS = (0.8, 0.9, 0.95, 0.99)
shares = st.floats(0.0, 1.0)
sizes = st.integers(1, 5000)


@pytest.mark.parametrize(
    "module", ["intervals", "ranking", "multiplicity", "estimate", "linearised", "gaps", "resampling", "mean_shares"]
)
def test_documented_examples_hold(module):
    result = doctest.testmod(importlib.import_module(f"auditkit.stats.{module}"))
    assert result.failed == 0
    assert result.attempted > 0 or module in {"estimate", "ranking"}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (3, 20), (20, 20), (81, 263), (15, 148), (4999, 5000)])
def test_wilson_and_exact_match_statsmodels(k, n, level):
    ours = intervals.wilson(k / n, n, level)
    assert (ours.low, ours.high) == pytest.approx(proportion_confint(k, n, 1 - level, method="wilson"), abs=1e-12)
    exact = intervals.clopper_pearson(k, n, level)
    assert (exact.low, exact.high) == pytest.approx(proportion_confint(k, n, 1 - level, method="beta"), abs=1e-9)


def worst_misses(limits, n):
    """The largest chance that a limit of a share of ``n`` rows leaves out the truth, by listing every outcome."""
    from scipy.stats import binom

    truth = np.linspace(0.002, 0.998, 499)
    chance = binom.pmf(np.arange(n + 1)[:, None], n, truth)
    found = [limits(k) for k in range(n + 1)]
    low, high = np.array([(i.low, i.high) for i in found]).T[:, :, None]
    return max((chance * (low > truth)).sum(axis=0).max(), (chance * (high < truth)).sum(axis=0).max())


@pytest.mark.parametrize("n", [5, 20, 60, 300])
def test_exact_limits_miss_at_most_as_often_as_they_say_and_score_limits_do_not(n):
    assert worst_misses(lambda k: intervals.exact_share(k / n, n), n) <= 0.025 + 1e-9
    assert worst_misses(lambda k: intervals.wilson(k / n, n), n) > 0.04


def test_exact_limits_of_effective_rows_are_quantiles_of_the_beta_distribution():
    from scipy.stats import beta

    found = intervals.exact_share(0.3, 33.4, 0.9, "korn-graubard")
    assert found.low == pytest.approx(beta.ppf(0.05, 0.3 * 33.4, 0.7 * 33.4 + 1))
    assert found.high == pytest.approx(beta.ppf(0.95, 0.3 * 33.4 + 1, 0.7 * 33.4))
    assert found.method == "korn-graubard"
    assert intervals.exact_share(0.3, 0.0) is None


def test_differences_of_shares_are_those_of_the_gate():
    from auditkit.methods.fairness.counts import count_groups
    from auditkit.methods.fairness.table import disparity

    decided = np.r_[np.arange(70) < 56, np.arange(80) < 48].astype(int)
    counts = count_groups(decided, decided, {"g": np.repeat(["a", "b"], [70, 80])})
    ours, usual = intervals.share_difference(56 / 70, 70, 48 / 80, 80), disparity(counts, "selection_rate").interval
    assert ours.high == pytest.approx(usual.high)
    assert intervals.share_difference(0.5, 0, 0.5, 3) is None


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    # Newcombe (1998) Statistics in Medicine 17:857-872, Table I, method 3 (score).
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_matches_published_table(k, n, low, high):
    ours = intervals.wilson(k / n, n)
    assert (round(ours.low, 4), round(ours.high, 4)) == (low, high)


@pytest.mark.parametrize(
    ("a", "m", "b", "n", "low", "high"),
    # Newcombe (1998) Statistics in Medicine 17:873-890, Table II, method 10, contrasts (a) to (h).
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (0, 10, 0, 10, -0.2775, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0),
        (10, 10, 0, 10, 0.6075, 1.0),
    ],
)
def test_newcombe_matches_published_table(a, m, b, n, low, high):
    ours = intervals.newcombe_difference(a / m, m, b / n, n)
    assert (round(ours.low, 4), round(ours.high, 4)) == (low, high)
    swapped = intervals.newcombe_difference(b / n, n, a / m, m)
    assert (swapped.low, swapped.high) == pytest.approx((-ours.high, -ours.low))


@given(st.integers(0, 400), st.integers(1, 400), st.integers(0, 400), st.integers(1, 400))
@settings(max_examples=100, deadline=None)
def test_newcombe_matches_statsmodels(a, m, b, n):
    a, b = min(a, m), min(b, n)
    ours = intervals.newcombe_difference(a / m, m, b / n, n)
    theirs = confint_proportions_2indep(a, m, b, n, method="newcomb", compare="diff")
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=1e-9)


def _fieller_root(p1, n1, p2, n2, side):
    """The ratio at which the MOVER limit of ``p1 - r p2`` is 0, by bracketing: no shared algebra."""
    a = proportion_confint(p1 * n1, n1, method="wilson")
    b = proportion_confint(p2 * n2, n2, method="wilson")

    def limit(r):
        if side == "low":
            return p1 - r * p2 - math.hypot(p1 - a[0], r * (b[1] - p2))
        return p1 - r * p2 + math.hypot(a[1] - p1, r * (p2 - b[0]))

    return optimize.brentq(limit, 0.0, 1e7, xtol=1e-13)


@pytest.mark.parametrize(
    ("a", "m", "b", "n"),
    [
        (30, 100, 50, 100),
        (5, 50, 10, 60),
        (9, 10, 1, 10),
        (20, 25, 1, 30),
        (3, 20, 2, 8),
        (50, 50, 1, 4),
        (18, 20, 1, 6),
    ],
)
def test_ratio_limits_are_the_roots_of_their_equation(a, m, b, n):
    ours = intervals.mover_ratio(a / m, m, b / n, n)
    assert ours.low == pytest.approx(_fieller_root(a / m, m, b / n, n, "low"), rel=1e-6)
    assert ours.high == pytest.approx(_fieller_root(a / m, m, b / n, n, "high"), rel=1e-6)


def test_ratio_lower_limit_survives_a_wide_denominator():
    """1 of 10: the denominator's upper limit is above twice its estimate, where the textbook form divides by <= 0."""
    assert intervals.wilson(0.1, 10).high > 0.2
    assert intervals.mover_ratio(0.9, 10, 0.1, 10).low > 1.0


def test_ratio_is_refused_where_it_has_no_bound():
    assert intervals.mover_ratio(0.5, 10, 0.0, 10) is None
    assert intervals.mover_ratio(0.0, 10, 0.5, 10).low == 0.0


@given(shares, sizes, shares, sizes, st.sampled_from(LEVELS))
@settings(max_examples=300, deadline=None)
def test_values_lie_inside_their_intervals(p, n, q, m, level):
    for found, value in (
        (intervals.wilson(p, n, level), p),
        (intervals.newcombe_difference(p, n, q, m, level), p - q),
        (intervals.mover_ratio(p, n, q, m, level), p / q if q > 0 else 0.0),
    ):
        if found is not None:
            assert found.low - 1e-12 <= value <= found.high + 1e-12


@given(shares, sizes)
@settings(max_examples=100, deadline=None)
def test_wilson_is_symmetric(p, n):
    one, other = intervals.wilson(p, n), intervals.wilson(1 - p, n)
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-9)


def test_no_rows_give_no_interval():
    assert intervals.wilson(0.5, 0) is None
    assert intervals.clopper_pearson(0, 0) is None
    assert intervals.newcombe_difference(0.5, 0, 0.5, 10) is None
    with pytest.raises(ValueError, match="mean of no rows"):
        intervals.mean_interval(np.array([]))


def test_mean_matches_statsmodels_and_clusters_match_a_summary():
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    theirs = DescrStatsW(values).tconfint_mean()
    for value, ours in (intervals.mean_interval(values), (values.mean(), mean(values).interval(0.95))):
        assert value == pytest.approx(values.mean())
        assert (ours.low, ours.high) == pytest.approx(theirs, abs=1e-12)
    # Equal clusters: the mean of the cluster means with its own t interval.
    clusters = np.repeat(np.arange(10), 4)
    means = DescrStatsW(values.reshape(10, 4).mean(axis=1)).tconfint_mean()
    for ours in (intervals.mean_interval(values, clusters=clusters)[1], mean(values, None, clusters).interval(0.95)):
        assert (ours.low, ours.high) == pytest.approx(means, abs=1e-12)


def test_t_quantiles_match_scipy():
    for freedom in (1, 2, 7, 300, 5000):
        assert t_value(0.95, freedom) == pytest.approx(
            stats.t.ppf(0.975, freedom), abs=2e-3 if freedom == 5000 else 1e-9
        )


def test_plain_proportion_is_exact_and_doubled_clusters_change_nothing():
    hits = np.array([True] * 30 + [False] * 70)
    assert proportion(hits).interval(0.95) == intervals.clopper_pearson(30, 100)
    # Every row twice, tied together by a cluster: the same information as the rows once.
    twice = proportion(np.repeat(hits, 2), clusters=np.repeat(np.arange(100), 2)).interval(0.95)
    once = proportion(hits, clusters=np.arange(100)).interval(0.95)
    assert (twice.low, twice.high) == pytest.approx((once.low, once.high))
    blind = proportion(np.repeat(hits, 2)).interval(0.95)
    assert blind.high - blind.low < 0.8 * (twice.high - twice.low)


def test_extreme_shares_of_clusters_count_clusters_not_rows():
    all_hits = np.ones(100, dtype=bool)
    clustered = proportion(all_hits, clusters=np.repeat(np.arange(5), 20)).interval(0.95)
    assert clustered.low < intervals.clopper_pearson(5, 5).low + 1e-9
    assert clustered.high == 1.0
    assert proportion(np.zeros(0, dtype=bool)).reason == "no rows"


def test_single_cluster_has_no_interval():
    assert proportion(np.array([True, False]), clusters=np.array([7, 7])).interval(0.95) is None
    assert mean(np.array([1.0, 2.0]), clusters=np.array([7, 7])).interval(0.95) is None
    assert variance_of(np.array([0.3]))[0] == 0.0


def test_estimates_keep_their_value_inside_and_map_limits():
    off = Estimate(0.5, 3, lambda level: Interval(low=0.5 + 1e-12, high=0.6, level=level, method="m"))
    assert off.interval(0.95).low == 0.5
    root = mapped(
        Estimate(4.0, 9, lambda level: Interval(low=1.0, high=9.0, level=level, method="m")), math.sqrt, "root"
    )
    assert (root.value, root.interval(0.9).low, root.interval(0.9).high) == (2.0, 1.0, 3.0)
    assert undefined("why").interval(0.95) is None
    assert mapped(undefined("why"), math.sqrt, "root").reason == "why"


def test_logit_bounds_fall_back_to_rows_at_the_edge():
    edge = logit_bounds(1.0, 0.0, 50, 12.0, "logit")(0.95)
    assert (edge.low, edge.method) == (pytest.approx(intervals.clopper_pearson(12, 12).low), "exact-smaller-class")
    assert logit_bounds(0.5, 0.01, 1, 12.0, "logit")(0.95) is None


def _shares_estimate(p, n):
    return Estimate(p, n, lambda level: intervals.wilson(p, n, level))


def test_gap_of_two_groups_is_newcombe_folded_at_zero():
    gap = largest_gap({"a": _shares_estimate(0.8, 70), "b": _shares_estimate(0.6, 80)}, span=1.0)
    assert (gap.value, gap.high_group, gap.low_group) == (pytest.approx(0.2), "a", "b")
    assert round(gap.interval.high, 4) == 0.3339
    # Either group may be the higher one: the lower limit lies where the chances of both add up to the error.
    strict = confint_proportions_2indep(56, 70, 48, 80, method="newcomb", alpha=0.025)
    assert strict[0] < gap.interval.low < 0.0524
    width = (0.2 - confint_proportions_2indep(56, 70, 48, 80, method="newcomb")[0]) / stats.norm.isf(0.025)
    beyond = stats.norm.sf(0.2 - gap.interval.low, scale=width) + stats.norm.sf(0.2 + gap.interval.low, scale=width)
    assert beyond == pytest.approx(0.025, abs=2e-4)
    assert gap.interval.method == "mover-worst-pair"


def test_gap_needs_two_groups_with_intervals():
    assert largest_gap({"a": _shares_estimate(0.8, 70), "b": undefined("x")}).reason.startswith("fewer than two")
    bare = largest_gap({"a": _shares_estimate(0.8, 70), "b": Estimate(0.5, 4)})
    assert bare.value == pytest.approx(0.3)
    assert bare.interval is None
    assert "no interval" in bare.reason


def _exact_estimate(p, n):
    return Estimate(p, n, lambda level: intervals.exact_share(p, n, level), share=Share(p, lambda _: n))


@pytest.mark.parametrize("estimate", [_shares_estimate, _exact_estimate])
@pytest.mark.parametrize(("groups", "size", "gap"), [(2, 200, 0.0), (8, 100, 0.0), (8, 100, 0.15)])
def test_each_limit_of_the_largest_gap_holds(groups, size, gap, estimate):
    rng = np.random.default_rng(3)
    truth = np.full(groups, 0.35)
    truth[-1] += gap
    low = high = 0
    runs = 250
    for _ in range(runs):
        drawn = rng.binomial(size, truth) / size
        found = largest_gap({str(i): estimate(p, size) for i, p in enumerate(drawn)}).interval
        low, high = low + (found.low > gap), high + (found.high < gap)
    assert max(low, high) <= runs * 0.025 + 3 * math.sqrt(runs * 0.025 * 0.975)


def test_the_largest_gap_of_shares_is_that_of_fishers_test():
    """Melded limits exclude no gap where Fisher's exact test does not: at half the error, for a gap either way."""
    for hits in range(5, 13):
        found = largest_gap({"a": _exact_estimate(14 / 20, 20), "b": _exact_estimate(hits / 25, 25)})
        p = stats.fisher_exact([[14, 6], [hits, 25 - hits]], alternative="greater").pvalue
        assert (found.interval.low > 0) == (p < 0.0125), hits
        assert found.interval.method == "melded-worst-pair"


def test_gaps_asked_for_together_are_those_asked_for_alone():
    """Shares of rows, of F1's odds and of clusters, means, and what has no interval: none sees another's numbers."""
    rng = np.random.default_rng(11)
    clusters = np.repeat(np.arange(9), 5)
    double = Estimate(0.7, 20, None, share=Share(0.5, lambda _: 20.0, odds=2.0))
    asked = [
        {"a": _exact_estimate(0.7, 20), "b": _exact_estimate(0.2, 25), "c": _exact_estimate(0.0, 4)},
        {"a": _shares_estimate(0.8, 70), "b": _shares_estimate(0.6, 80)},
        {"a": double, "b": replace(double, value=0.1, share=Share(0.05, lambda _: 60.0, odds=2.0))},
        {"a": undefined("x"), "b": _exact_estimate(0.5, 8)},
        {"a": Estimate(0.5, 4), "b": _shares_estimate(0.6, 80)},
        {"a": _exact_estimate(0.5, 8), "b": replace(double, share=Share(0.5, lambda _: 0.0))},
        {name: proportion(rng.random(45) < 0.4, clusters=clusters) for name in "abcd"},
    ]
    spans = [1.0, 1.0, None, 1.0, 1.0, 1.0, 0.5]
    for level in (0.9, 0.99):
        together = largest_gaps(asked, level, spans)
        for groups, span, found in zip(asked, spans, together, strict=True):
            alone = largest_gap(groups, level, span)
            assert (found.value, found.high_group, found.n, found.reason) == (
                alone.value,
                alone.high_group,
                alone.n,
                alone.reason,
            )
            assert (found.interval is None) == (alone.interval is None)
            if found.interval is not None:
                assert replace(found.interval, low=0.0, high=1.0) == replace(alone.interval, low=0.0, high=1.0)
                assert found.interval.low == pytest.approx(alone.interval.low, abs=1e-12)
                assert found.interval.high == pytest.approx(alone.interval.high, abs=1e-12)
    assert [gap.interval is None for gap in together] == [False, False, False, True, True, True, False]
    assert largest_gaps([], 0.95, []) == []


def test_limits_kept_ahead_are_clopper_and_pearsons():
    asked = [(0.0, 7.0), (0.3, 10.0), (0.5, 2.5), (1.0, 900.0)]
    prepare(
        [*(_exact_estimate(p, n) for p, n in asked), undefined("x"), Estimate(0.5, 3, share=Share(0.5, lambda _: 0.0))],
        0.93,
    )
    for p, n in asked:
        found = intervals.exact_share(p, n, 0.93, "told")
        low = stats.beta.ppf(0.035, p * n, n - p * n + 1) if p > 0 else 0.0
        high = stats.beta.ppf(0.965, p * n + 1, n - p * n) if p < 1 else 1.0
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-10), pytest.approx(high, abs=1e-10))
        assert found.method == "told"
        other = intervals.exact_share(p, n, 0.5)
        assert other.high - other.low < found.high - found.low


def test_limits_are_the_same_bits_alone_and_in_company(monkeypatch):
    """What else was measured before must not change a number, nor the digest of an audit."""
    rng = np.random.default_rng(6)
    n = rng.integers(1, 400, 60)
    asked = [(int(hits) / int(rows), float(rows)) for hits, rows in zip(rng.integers(0, n + 1), n, strict=True)]
    monkeypatch.setattr(intervals, "_KEPT", {})
    monkeypatch.setattr(intervals, "_MOST_KEPT", 20)
    together = intervals.keep_limits(asked[:30], 0.95) | intervals.keep_limits(asked, 0.95)
    assert len(together) == len(set(asked)), "none is lost where what is kept runs over"
    for p, rows in asked:
        intervals._KEPT.clear()
        alone = intervals.exact_share(p, rows, 0.95)
        assert (alone.low, alone.high) == together[p, rows, 0.95]
    pairs = [{"a": _exact_estimate(*one), "b": _exact_estimate(*two)} for one, two in itertools.pairwise(asked)]
    found = largest_gaps(pairs, 0.95, [1.0] * len(pairs))
    for groups, gap in zip(pairs, found, strict=True):
        melded._KEPT.clear()
        assert largest_gap(groups, 0.95, 1.0) == gap


@pytest.mark.parametrize("p", [0.02, 0.2, 0.5])
def test_clustered_proportion_covers_where_the_plain_one_does_not(p):
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(60), 8)
    covered = plain = 0
    runs = 300
    for _ in range(runs):
        chance = rng.beta(p * 3, (1 - p) * 3, 60)
        hits = rng.random(480) < np.repeat(chance, 8)
        found = proportion(hits, clusters=clusters).interval(0.95)
        covered += found.low <= p <= found.high
        blind = proportion(hits).interval(0.95)
        plain += blind.low <= p <= blind.high
    assert covered / runs >= 0.92
    assert plain / runs < 0.9


def test_weighted_proportion_covers():
    rng = np.random.default_rng(5)
    covered = 0
    runs = 400
    for _ in range(runs):
        group = rng.random(150) < 0.3
        hits = rng.random(150) < np.where(group, 0.6, 0.1)
        found = proportion(hits, np.where(group, 4.0, 1.0)).interval(0.95)
        truth = (0.3 * 4 * 0.6 + 0.7 * 0.1) / (0.3 * 4 + 0.7)
        covered += found.low <= truth <= found.high
    assert covered / runs >= 0.925


def test_a_variance_of_nothing_but_rounding_counts_the_rows_that_there_are():
    limits = proportion_confint(1, 4, 0.05, method="beta")
    share, four = np.array([0.25]), np.array([4.0])
    for variance in (0.0, 1e-34, 1e-20):
        rows, _ = effective_rows(share, np.array([variance]), four)
        found = intervals.exact_share(0.25, float(rows[0]), 0.95)
        assert (found.low, found.high) == pytest.approx(limits, abs=1e-10)
    rows, _ = effective_rows(share, np.array([1e-6]), four)
    seen = intervals.exact_share(0.25, float(rows[0]), 0.95)
    assert seen.high - seen.low == pytest.approx(2 * 1.959964e-3, rel=2e-3)


def test_an_expected_proportion_is_a_mean_with_the_limits_of_its_rows():
    """Against scipy: the mean of [0, 1] values has Clopper and Pearson's limits on p (1 - p) / variance rows."""
    rng = np.random.default_rng(8)
    chance = np.clip(rng.normal(0.3, 0.3, 200), 0, 1)
    p = chance.mean()
    rows = p * (1 - p) / (chance.var() / 199)
    rows *= (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 199)) ** 2
    limits = stats.beta.ppf(0.025, p * rows, rows - p * rows + 1), stats.beta.ppf(0.975, p * rows + 1, rows - p * rows)
    found = expected_proportion(chance).interval(0.95)
    assert (found.low, found.high) == pytest.approx(limits, abs=1e-6)
    hits = rng.random(50) < 0.2
    assert expected_proportion(hits.astype(float)).interval(0.9) == proportion(hits).interval(0.9)
