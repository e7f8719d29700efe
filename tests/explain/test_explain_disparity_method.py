"""Gaps at equal score and their test: against regressions, lists of all arrangements, and simulations."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from auditkit.methods.explain.disparity import (
    disparity_test,
    largest_gaps,
    levelled,
    one_row_a_cluster,
    pair_gaps,
    score_bins,
)
from auditkit.stats.linearised import Design
from auditkit.stats.permutation import arrangement_count, stratified_permutation_test


def drawn(n=60, groups=2, bins=4, f=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, f)), rng.integers(0, groups, n), rng.integers(0, bins, n), rng


@pytest.mark.parametrize("weighted", [False, True])
def test_gap_is_the_coefficient_of_a_regression_with_a_constant_for_each_bin(weighted):
    values, groups, bins, rng = drawn()
    weights = rng.uniform(0.5, 3.0, len(groups)) if weighted else np.ones(len(groups))
    found = pair_gaps(values, groups, bins, (0, 1), Design(weights if weighted else None, None))
    design = np.column_stack([groups == 0, *(bins == b for b in np.unique(bins))]).astype(float)
    root = np.sqrt(weights)[:, None]
    coefficients = np.linalg.lstsq(design * root, values * root, rcond=None)[0]
    assert np.allclose(found.gap, coefficients[0], rtol=0, atol=1e-12)
    assert np.allclose(found.means[0] - found.means[1], found.gap)


@pytest.mark.parametrize("weighted", [False, True])
def test_gap_at_equal_score_is_the_coefficient_of_a_regression_with_a_constant_and_a_slope_for_each_bin(weighted):
    values, groups, bins, rng = drawn()
    score = rng.normal(groups * 0.7, 1.0)
    score[bins == 3] = 0.25  # a bin of one score has no slope
    weights = rng.uniform(0.5, 3.0, len(groups)) if weighted else np.ones(len(groups))
    found = pair_gaps(values, groups, bins, (0, 1), Design(weights if weighted else None, None), score)
    constants = [bins == b for b in range(4)]
    design = np.column_stack([groups == 0, *constants, *(own * score for own in constants[:3])]).astype(float)
    root = np.sqrt(weights)[:, None]
    coefficients = np.linalg.lstsq(design * root, values * root, rcond=None)[0]
    assert np.allclose(found.gap, coefficients[0], rtol=0, atol=1e-12)
    assert np.allclose(found.means[0] - found.means[1], found.gap)


def test_the_error_at_equal_score_in_one_bin_is_that_of_hc2():
    values, groups, _, rng = drawn(n=40, f=2)
    score = rng.normal(groups * 0.5, 1.0)
    found = pair_gaps(values, groups, np.zeros(40, dtype=int), (0, 1), score=score)
    design = np.column_stack([groups == 0, groups == 1, score]).astype(float)
    inverse = np.linalg.inv(design.T @ design)
    hat = design @ inverse @ design.T
    residual = values - hat @ values
    read = np.array([1.0, -1.0, 0.0]) @ inverse @ design.T
    expected = np.sqrt((read**2 / (1.0 - np.diag(hat))) @ residual**2)
    assert np.allclose(found.error, expected, rtol=1e-12)


def test_values_that_are_a_line_in_the_score_have_no_gap_at_equal_score():
    _, groups, bins, rng = drawn()
    score = rng.normal(groups * 0.7, 1.0)
    values = np.column_stack([3.0 * score, 2.0 - score])
    assert np.abs(pair_gaps(values, groups, bins, (0, 1)).gap).min() > 0.1
    assert np.abs(pair_gaps(values, groups, bins, (0, 1), score=score).gap).max() < 1e-12
    tested = disparity_test(values, groups, bins, rng, score=score, permutations=99)
    assert tested.p_values.tolist() == [1.0, 1.0]


def test_a_line_is_taken_out_of_each_bin_and_none_out_of_a_small_one():
    values, _, bins, rng = drawn()
    bins[:3] = 9
    score = rng.normal(size=60)
    left = levelled(values, score, bins)
    assert np.array_equal(left[:3], values[:3])
    for b in range(4):
        own = bins == b
        slope, constant = np.polyfit(score[own], values[own], 1)
        line = np.outer(score[own], slope) + constant
        assert np.allclose(left[own], values[own] - line + values[own].mean(axis=0), rtol=0, atol=1e-12)


def test_one_bin_is_welch():
    values, groups, _, _ = drawn(f=1)
    found = pair_gaps(values, groups, np.zeros(len(groups), dtype=int), (0, 1))
    welch = scipy.stats.ttest_ind(values[groups == 0, 0], values[groups == 1, 0], equal_var=False)
    assert math.isclose(found.gap[0] / found.error[0], welch.statistic, rel_tol=1e-12)
    assert math.isclose(found.freedom[0], welch.df, rel_tol=1e-12)


def test_rows_that_come_twice_as_clusters_change_no_error():
    values, groups, bins, _ = drawn(n=400, bins=3)
    once = pair_gaps(values, groups, bins, (0, 1))
    twice = [np.repeat(part, 2, axis=0) for part in (values, groups, bins)]
    naive = pair_gaps(*twice, (0, 1))
    honest = pair_gaps(*twice, (0, 1), Design(None, np.repeat(np.arange(400), 2)))
    assert np.allclose(honest.gap, once.gap)
    assert np.allclose(honest.error, once.error, rtol=0.02)
    assert np.all(naive.error < 0.75 * once.error)


def test_bins_with_one_group_and_cells_of_one_row():
    values = np.array([[1.0], [5.0], [3.0], [4.0], [100.0]])
    groups, bins = np.array([0, 0, 1, 1, 0]), np.array([0, 0, 0, 0, 1])
    found = pair_gaps(values, groups, bins, (0, 1))
    assert found.gap.tolist() == [-0.5]  # the bin that holds one group alone says nothing
    assert found.rows == 4
    assert pair_gaps(values, groups, np.arange(5), (0, 1)) is None
    alone = pair_gaps(values[[0, 2]], groups[[0, 2]], np.zeros(2, dtype=int), (0, 1))
    (gap,) = largest_gaps([alone])
    assert alone.gap.tolist() == [-2.0]
    assert np.isnan(alone.error).all()
    assert gap.interval is None
    assert (gap.value, gap.more, gap.less, gap.means) == (2.0, 1, 0, (3.0, 1.0))


def test_a_lone_row_takes_the_variance_of_its_groups_other_cells():
    values = np.array([[0.0], [2.0], [1.0], [1.0], [7.0], [3.0], [5.0]])
    groups, bins = np.array([0, 0, 1, 1, 0, 1, 1]), np.array([0, 0, 0, 0, 1, 1, 1])
    found = pair_gaps(values, groups, bins, (0, 1))
    first, second = 1.0 / (1.0 + 2 / 3), (2 / 3) / (1.0 + 2 / 3)
    # group 0: variance 2 in bin 0 on two rows, carried over to the lone row of bin 1; group 1: 0 and 2.
    expected = first**2 * (2 / 2 + 0) + second**2 * (2 / 2) + second**2 * 2.0
    assert math.isclose(found.error[0] ** 2, expected, rel_tol=1e-12)


def test_bins_share_equal_scores_and_grow_with_rows():
    assert len(np.unique(score_bins(np.repeat([0.2, 0.7], 50)))) == 2
    assert len(np.unique(score_bins(np.random.default_rng(0).random(200)))) == 12
    assert len(np.unique(score_bins(np.random.default_rng(0).random(20_000)))) == 36
    assert score_bins(np.ones(7)).tolist() == [0] * 7


def naive_arrangements(labels, strata):
    """Every permutation of rows that keeps strata, as a set of label rows."""
    parts = [np.flatnonzero(strata == s) for s in np.unique(strata)]
    out = set()
    for orders in itertools.product(*(itertools.permutations(labels[rows]) for rows in parts)):
        arranged = np.array(labels)
        for rows, order in zip(parts, orders, strict=True):
            arranged[rows] = order
        out.add(tuple(arranged.tolist()))
    return np.array(sorted(out))


def test_all_arrangements_are_listed_and_p_values_are_their_shares():
    values, _, _, rng = drawn(n=9, f=4, seed=3)
    labels, strata = np.array([0, 0, 1, 1, 0, 1, 1, 2, 0]), np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])

    def statistics(rows):
        return np.stack([np.abs((rows == 0) @ v - (rows == 1) @ v) for v in values.T], axis=1)

    every = naive_arrangements(labels, strata)
    assert arrangement_count(labels, strata, 10_000) == len(every) == 6 * 30
    tested = stratified_permutation_test(labels, strata, statistics, rng, permutations=200)
    assert tested.exact
    assert tested.arrangements == len(every)
    all_values, observed = statistics(every), statistics(labels[None])[0]
    assert np.allclose(tested.p_values, (all_values >= observed - 1e-9).mean(axis=0), atol=1e-15)
    # Westfall and Young by their definition: the k-th largest against the largest of itself and all below.
    order = np.argsort(-observed)
    stepped = [(all_values[:, order[k:]].max(axis=1) >= observed[order[k]] - 1e-9).mean() for k in range(4)]
    assert np.allclose(tested.adjusted[order], np.maximum.accumulate(stepped), atol=1e-15)
    assert math.isclose(tested.overall, stepped[0])


def test_one_stratum_agrees_with_scipy():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=5), rng.normal(0.8, size=6)
    values, labels = np.concatenate([a, b]), np.repeat([0, 1], [5, 6])

    def statistics(rows):
        return np.abs((rows == 0) @ values / 5 - (rows == 1) @ values / 6)[:, None]

    reference = scipy.stats.permutation_test(
        (a, b), lambda x, y: abs(x.mean() - y.mean()), n_resamples=np.inf, alternative="greater", vectorized=False
    )
    found = stratified_permutation_test(labels, np.zeros(11, dtype=int), statistics, rng, permutations=999)
    assert found.exact
    assert math.isclose(found.p_values[0], reference.pvalue, rel_tol=1e-12)
    drawn_ = stratified_permutation_test(labels, np.zeros(11, dtype=int), statistics, rng, permutations=400)
    assert not drawn_.exact
    assert abs(drawn_.p_values[0] - reference.pvalue) < 4 * math.sqrt(reference.pvalue / 400)


def test_a_drawn_p_value_is_never_zero():
    values = np.repeat([0.0, 1.0], 40)
    labels = np.repeat([0, 1], 40)
    one = np.zeros(80, dtype=int)
    tested = stratified_permutation_test(
        labels, one, lambda rows: (rows @ values)[:, None], np.random.default_rng(0), permutations=99
    )
    assert tested.p_values.tolist() == [0.01]


def test_labels_move_within_strata_only():
    labels, strata = np.random.default_rng(0).integers(0, 3, 300), np.arange(300) % 7
    seen = []

    def statistics(rows):
        seen.append(rows)
        return np.zeros((len(rows), 1))

    stratified_permutation_test(labels, strata, statistics, np.random.default_rng(1), permutations=50)
    for rows in seen[1:]:
        for stratum in range(7):
            own = strata == stratum
            assert (np.sort(rows[:, own], axis=1) == np.sort(labels[own])).all()
    assert (seen[1] != labels).any()


def shares(score, rng, f=4):
    """Shares of attributions that change with the score and with nothing else."""
    raw = np.exp(rng.normal(0, 0.5, (len(score), f)) + np.outer(score, np.linspace(-0.5, 0.5, f)))
    return raw / raw.sum(axis=1, keepdims=True)


def test_scores_that_differ_do_not_flag_and_without_bins_they_would():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 2, 800)
    score = rng.normal(groups * 1.0, 1.0)
    values = shares(score, rng)
    binned = disparity_test(values, groups, score_bins(score), rng, permutations=499)
    pooled = disparity_test(values, groups, np.zeros(800, dtype=int), rng, permutations=499)
    assert pooled.overall == 1 / 500
    assert binned.overall > 0.05


def test_a_group_with_other_reasons_is_found_and_named():
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 3, 600)
    score = rng.normal(groups * 0.5, 1.0)
    values = shares(score, rng)
    values[groups == 2, 1] *= 2.0
    values /= values.sum(axis=1, keepdims=True)
    bins = score_bins(score)
    tested = disparity_test(values, groups, bins, rng, permutations=499)
    pairs = [pair_gaps(values, groups, bins, pair) for pair in ((0, 1), (0, 2), (1, 2))]
    gap = largest_gaps(pairs, span=1.0)[1]
    assert tested.adjusted[1] == tested.overall == 1 / 500
    assert gap.more == 2
    assert gap.interval.low > 0.05


def test_the_lower_limit_allows_for_both_directions_of_every_pair():
    """At no gap each of the two directions of each pair may be taken for one: together they err in 2.5 % of cases."""
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(400):
        values, groups = rng.normal(size=(120, 1)), np.arange(120) % 2
        (gap,) = largest_gaps([pair_gaps(values, groups, np.zeros(120, dtype=int), (0, 1))])
        found += gap.interval.low > 0.0
    assert found <= 400 * 0.025 + 3 * math.sqrt(400 * 0.025 * 0.975)
    values[groups == 1] += 3.0
    one = pair_gaps(values, groups, np.zeros(120, dtype=int), (0, 1))
    (gap,) = largest_gaps([one])
    assert gap.interval.low == pytest.approx(
        gap.value - scipy.stats.t.ppf(1 - 0.0125, one.freedom[0]) * one.error[0], rel=1e-6
    )
    assert gap.interval.high == pytest.approx(
        gap.value + scipy.stats.t.ppf(0.975, one.freedom[0]) * one.error[0], rel=1e-6
    )


def test_features_that_never_move_are_not_found():
    rng = np.random.default_rng(2)
    values = np.column_stack([np.zeros(80), rng.normal(size=80)])
    tested = disparity_test(values, np.arange(80) % 2, np.arange(80) // 20, rng, permutations=99)
    assert tested.p_values[0] == tested.adjusted[0] == 1.0


def test_one_row_a_cluster():
    clusters = np.array([5, 5, 5, 2, 9, 9])
    picked = one_row_a_cluster(clusters, np.random.default_rng(0))
    assert sorted(clusters[picked].tolist()) == [2, 5, 9]


def led(score, rng, noise, curved=False):
    """Attributions of a model that one feature leads: they sum to the score, or follow it along a curve."""
    rest = rng.normal(0, noise, (len(score), 2))
    return np.column_stack([(np.exp(score / 2) if curved else score) - rest.sum(axis=1), rest])


def test_a_score_that_one_feature_leads_gives_no_gap_with_many_rows():
    """The groups of a bin score a little differently, which many rows show where values follow the score closely."""
    found, without = [], []
    for seed in range(40):
        rng = np.random.default_rng([seed, 5])
        groups = (rng.random(4000) < 0.4).astype(int)
        score = rng.normal(groups * 1.0, 1.0)
        values, bins = led(score, rng, noise=0.03, curved=True), score_bins(score)
        for scored, into in ((score, found), (None, without)):
            gaps = pair_gaps(values, groups, bins, (0, 1), score=scored)
            into.append(gaps.gap[0] / gaps.error[0])
    assert np.mean(without) < -1.2
    assert abs(np.mean(found)) < 4 / math.sqrt(40)


def test_a_disparity_beside_a_leading_feature_is_found_at_equal_score():
    rng = np.random.default_rng(6)
    groups = (rng.random(800) < 0.4).astype(int)
    score = rng.normal(groups * 1.0, 1.0)
    values = led(score, rng, noise=0.1)
    moved = 0.05 * (groups == 1)
    values[:, 1] += moved
    values[:, 0] -= moved
    bins = score_bins(score)
    tested = disparity_test(values, groups, bins, rng, score=score, permutations=499)
    (first, second, third) = largest_gaps([pair_gaps(values, groups, bins, (0, 1), score=score)])
    assert tested.adjusted[:2].tolist() == [1 / 500, 1 / 500]
    assert tested.adjusted[2] > 0.05
    assert first.interval.low > 0.0
    assert second.interval.low < 0.05 < second.interval.high
    assert (first.more, second.more, third.interval.low) == (0, 1, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("curved", [False, True])
@pytest.mark.parametrize(("n", "noise"), [(100, 0.1), (400, 0.1), (2000, 0.1), (8000, 0.1), (2000, 0.02)])
def test_the_level_holds_where_attributions_follow_the_score_closely(n, noise, curved):
    runs, found = 400, []
    for seed in range(runs):
        rng = np.random.default_rng([seed, n, 11])
        groups = (rng.random(n) < 0.4).astype(int)
        score = rng.normal(groups * 1.0, 1.0)
        values = led(score, rng, noise, curved)
        tested = disparity_test(values, groups, score_bins(score), rng, score=score, permutations=99)
        found.append(tested.overall)
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3.0 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "share"), [(100, 0.15), (400, 0.05), (2000, 0.01), (2000, 0.4)])
def test_intervals_at_equal_score_cover_with_few_rows_of_a_group_that_varies_more(n, share):
    hits, runs = [], 600
    for seed in range(runs):
        rng = np.random.default_rng([seed, n, 12])
        groups = (rng.random(n) < share).astype(int)
        score = rng.normal(groups * 1.0, 1.0)
        values = led(score, rng, 0.2) + (groups == 1)[:, None] * (0.3 + rng.normal(0, 0.3, (n, 3)))
        found = pair_gaps(values, groups, score_bins(score), (0, 1), score=score)
        if groups.sum() >= 8:  # of fewer, each may be alone in its bin
            hits.append([gap.interval.low <= 0.3 <= gap.interval.high for gap in largest_gaps([found])])
    assert len(hits) > 0.9 * runs
    assert np.mean(hits) > 0.95 - 0.02 - 3 * math.sqrt(0.95 * 0.05 / runs)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "shift"), [(200, 0.0), (200, 1.0), (1000, 1.0), (3000, 1.0)])
def test_p_values_are_uniform_where_groups_differ_in_score_alone(n, shift):
    runs, found = 300, []
    for seed in range(runs):
        rng = np.random.default_rng([seed, n])
        groups = (rng.random(n) < 0.4).astype(int)
        score = rng.normal(groups * shift, 1.0)
        tested = disparity_test(shares(score, rng), groups, score_bins(score), rng, permutations=199)
        found.append(tested.overall)
    for level in (0.05, 0.2, 0.5):
        seen = np.mean(np.array(found) <= level)
        assert abs(seen - level) < 4 * math.sqrt(level * (1 - level) / runs), (level, seen)


@pytest.mark.slow
@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_cover_the_true_gap(clustered):
    truth, hits, runs = 0.3, 0, 600
    for seed in range(runs):
        rng = np.random.default_rng([seed, 77])
        n = 240
        groups, clusters = rng.integers(0, 2, n), None
        noise = rng.standard_t(5, n)
        score = rng.normal(groups * 0.8, 1.0)
        if clustered:
            clusters = np.arange(n) // 3
            groups = groups[clusters * 3]
            score = score[clusters * 3]
            noise = 0.7 * noise[clusters * 3] + 0.7 * noise
        values = (0.2 * (score > 0) + truth * (groups == 1) + noise)[:, None]
        gaps = pair_gaps(values, groups, score_bins(score), (0, 1), Design(None, clusters))
        (gap,) = largest_gaps([gaps])
        hits += gap.interval.low <= truth <= gap.interval.high
    assert hits / runs > 0.95 - 4 * math.sqrt(0.95 * 0.05 / runs)
