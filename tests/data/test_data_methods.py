"""Duplicates, overlap and predictability against brute force, scipy, sklearn and simulation."""

import doctest
import importlib

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from auditkit.methods.data.rows import find_duplicates, row_digests, shared_rows
from auditkit.methods.joint_model import out_of_fold_probabilities
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.intervals import wilson
from auditkit.stats.linearised import Design
from auditkit.stats.predictability import (
    cross_validated_auc,
    feature_auc,
    fold_codes,
    folded_auc,
    folded_rank_correlation,
    largest,
    out_of_fold_rates,
    target_of,
)
from auditkit.stats.ranking import auc


@pytest.mark.parametrize("module", ["methods.data.rows", "stats.predictability"])
def test_documented_examples_hold(module):
    result = doctest.testmod(importlib.import_module(f"auditkit.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("kind", ["table", "images", "texts", "tokens"])
def test_repeats_and_overlap_match_brute_force(kind):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 3, (120, 4)).astype(float)
    rows[rng.random((120, 4)) < 0.1] = np.nan
    others = rng.integers(0, 4, (80, 4)).astype(float)
    if kind == "images":
        rows, others = np.nan_to_num(rows).reshape(120, 2, 2), others.reshape(80, 2, 2)
    if kind == "tokens":
        rows, others = np.nan_to_num(rows).astype(int), others.astype(int)
    if kind == "texts":
        rows, others = [str(row) for row in rows], [str(row) for row in others]
    y = rng.integers(0, 2, 120)
    keys = [repr(np.asarray(row).tolist()) for row in rows]
    found = find_duplicates(row_digests(rows), y)
    assert found.repeats.tolist() == [key in keys[:i] for i, key in enumerate(keys)]
    labels = {key: {y[i] for i, other in enumerate(keys) if other == key} for key in keys}
    assert found.conflicts.tolist() == [len(labels[key]) > 1 for key in keys]
    theirs = {repr(np.asarray(row).tolist()) for row in others}
    assert shared_rows(row_digests(rows), row_digests(others)).tolist() == [key in theirs for key in keys]


def test_folded_auc_matches_sklearn_either_way_round():
    rng = np.random.default_rng(1)
    target = rng.random(300) < 0.3
    values = rng.integers(0, 9, 300) - 2.0 * target
    values[::7] = np.nan
    known = ~np.isnan(values)
    area = roc_auc_score(target[known], values[known])
    assert area < 0.5
    up, down = folded_auc(values, target), folded_auc(-values, target)
    assert up.value == down.value == pytest.approx(1 - area, abs=1e-12)
    assert up.n == known.sum()
    plain = auc(-values[known], target[known])[1]
    assert (up.interval(0.95).low, up.interval(0.95).high) == pytest.approx((plain.low, plain.high))
    assert (down.interval(0.95).low, down.interval(0.95).high) == pytest.approx((plain.low, plain.high))
    assert "both classes" in folded_auc(values, np.zeros(300, bool)).reason


def test_noise_is_not_taken_for_a_proxy():
    """Numbers and categories that know nothing: 0.5 is inside the interval as often as it should be."""
    rng = np.random.default_rng(2)
    numbers = categories = 0
    runs = 200
    for _ in range(runs):
        target = rng.random(300) < 0.2
        target[:8] = True
        numbers += folded_auc(rng.normal(size=300), target).interval(0.95).low == 0.5
        fold = fold_codes(target.astype(np.int64), 5, rng)
        rates = out_of_fold_rates(rng.integers(0, 12, 300), target, fold)
        found = cross_validated_auc(rates, target, fold).interval(0.95)
        categories += found.low <= 0.5 <= found.high
    assert numbers / runs >= 0.91
    assert categories / runs >= 0.91


def test_useless_categories_average_one_half_within_folds():
    rng = np.random.default_rng(3)
    within, pooled = [], []
    for _ in range(150):
        target = rng.random(200) < 0.5
        fold = fold_codes(target.astype(np.int64), 5, rng)
        rates = out_of_fold_rates(rng.integers(0, 5, 200), target, fold)
        within.append(cross_validated_auc(rates, target, fold).value)
        pooled.append(roc_auc_score(target, rates))
    error = np.std(within) / 150**0.5
    assert abs(np.mean(within) - 0.5) < 3.5 * error
    assert np.mean(pooled) < np.mean(within)


def test_out_of_fold_rates_match_brute_force_and_never_see_their_own_row():
    rng = np.random.default_rng(4)
    categories, target, fold = rng.integers(0, 4, 60), rng.random(60) < 0.4, rng.integers(0, 3, 60)
    rates = out_of_fold_rates(categories, target, fold, prior=5.0)
    for i in range(60):
        other = fold != fold[i]
        same = other & (categories == categories[i])
        overall = target[other].mean()
        assert rates[i] == pytest.approx((target[same].sum() + 5 * overall) / (same.sum() + 5))
    flipped = target.copy()
    flipped[0] = ~flipped[0]
    again = out_of_fold_rates(categories, flipped, fold, prior=5.0)
    assert np.array_equal(again[fold == fold[0]], rates[fold == fold[0]])


def test_cross_validated_auc_is_the_mean_of_fold_aucs():
    rng = np.random.default_rng(5)
    target, fold, scores = rng.random(200) < 0.4, np.arange(200) % 4, rng.normal(size=200)
    areas = [roc_auc_score(target[fold == f], scores[fold == f]) for f in range(4)]
    assert cross_validated_auc(scores, target, fold).value == pytest.approx(np.mean(areas))
    assert "fewer than two folds" in cross_validated_auc(scores, fold == 0, fold).reason


def test_folds_are_balanced_and_keep_clusters_whole():
    rng = np.random.default_rng(6)
    strata = (rng.random(203) < 0.1).astype(np.int64)
    fold = fold_codes(strata, 5, rng)
    for stratum in (0, 1):
        sizes = np.bincount(fold[strata == stratum], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    clusters = rng.integers(0, 30, 203)
    fold = fold_codes(strata, 5, rng, clusters)
    assert all(len(np.unique(fold[clusters == c])) == 1 for c in np.unique(clusters))


def test_largest_of_noise_keeps_one_half_inside():
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(150):
        groups = rng.integers(0, 6, 300)
        values = rng.normal(size=300)
        found = largest([folded_auc(values, groups == g) for g in range(6)])
        inside += found.interval(0.95).low == 0.5
    assert inside / 150 >= 0.93
    assert largest([undefined("nothing here")]).reason == "nothing here"
    assert largest([]).reason == "there is nothing to compare"
    lone = Estimate(0.7, 5, lambda level: wilson(0.7, 5, level))
    assert largest([lone, undefined("x")]) is lone


def test_rank_correlation_matches_scipy_and_covers():
    rng = np.random.default_rng(8)
    x = rng.normal(size=90)
    y = -x + rng.normal(size=90)
    x[::9] = np.nan
    known = ~np.isnan(x)
    found = folded_rank_correlation(x, y)
    assert found.value == pytest.approx(-spearmanr(x[known], y[known]).statistic, abs=1e-12)
    assert found.interval(0.95).low < found.value < found.interval(0.95).high
    quiet = sum(
        folded_rank_correlation(rng.normal(size=60), rng.normal(size=60)).interval(0.95).low == 0.0 for _ in range(200)
    )
    assert quiet / 200 >= 0.92
    assert "four rows" in folded_rank_correlation(np.ones(20), np.arange(20.0)).reason


def test_joint_model_finds_what_no_single_feature_shows():
    """An exclusive-or of two features: each alone is noise, both together say all; shuffled, they say nothing."""
    rng = np.random.default_rng(9)
    matrix = rng.random((500, 3))
    target = ((matrix[:, 0] > 0.5) ^ (matrix[:, 1] > 0.5)).astype(np.int64)
    fold = fold_codes(target, 5, rng)
    assert folded_auc(matrix[:, 0], target == 1).interval(0.95).low == 0.5
    joint = out_of_fold_probabilities(matrix, target, fold, 0)
    assert np.allclose(joint.sum(axis=1), 1.0)
    assert cross_validated_auc(joint[:, 1], target == 1, fold).interval(0.95).low > 0.9
    noise = rng.permutation(target)
    joint = out_of_fold_probabilities(matrix, noise, fold, 0)
    found = cross_validated_auc(joint[:, 1], noise == 1, fold).interval(0.95)
    assert found.low <= 0.5 <= found.high


def test_clusters_widen_the_cross_validated_interval():
    rng = np.random.default_rng(10)
    site = np.repeat(np.arange(40), 8)
    target = site % 2 == 0
    scores = np.repeat(rng.normal(size=40), 8) + 0.1 * rng.normal(size=320)
    fold = fold_codes(target.astype(np.int64), 4, rng, site)
    tied = cross_validated_auc(scores, target, fold, Design(None, site)).interval(0.95)
    loose = cross_validated_auc(scores, target, fold).interval(0.95)
    assert "clustered" in tied.method
    assert tied.high - tied.low > 1.5 * (loose.high - loose.low)


@pytest.mark.parametrize("lost_by", ["one group", "nobody", "all alike"])
def test_that_a_number_is_missing_may_give_a_group_away(lost_by):
    rng = np.random.default_rng(3)
    n = 600
    group = rng.choice(["a", "b"], n)
    values = rng.normal(size=n)
    chance = {"one group": np.where(group == "a", 0.4, 0.02), "nobody": 0.0, "all alike": 0.2}[lost_by]
    values[rng.random(n) < chance] = np.nan
    target = target_of(group, rng, min_rows=20)
    found = feature_auc(values, False, target)
    if lost_by == "one group":
        absent = np.isnan(values)
        assert found.value == pytest.approx(roc_auc_score(group == "a", absent), abs=1e-12)
        assert found.interval(0.95).low > 0.6
    else:
        assert found.interval(0.95).low == 0.5


def test_groups_to_tell_apart():
    rng = np.random.default_rng(4)
    values = np.array(["a"] * 40 + ["b"] * 40 + ["c"] * 5)
    target = target_of(values, rng, min_rows=20)
    assert target.names == ("a", "b")
    assert target.codes.tolist() == [0] * 40 + [1] * 40 + [2] * 5
    assert target_of(values[:45], rng, min_rows=20) is None
    assert target_of(values[:40], rng, min_rows=20) is None
    assert feature_auc(np.full(85, np.nan), False, target).value == 0.5
    assert feature_auc(np.arange(85.0), False, target).value == 1.0
    assert feature_auc(np.zeros(85), True, target).value == 0.5


def test_small_fits_run_on_one_thread_and_give_the_others_back():
    import sklearn.ensemble  # noqa: F401  its OpenMP is there to be limited
    from threadpoolctl import threadpool_info, threadpool_limits

    from auditkit.methods.one_thread import one_openmp_thread

    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}

    with threadpool_limits(limits=2, user_api="openmp"):
        before = threads()
        with one_openmp_thread():
            assert threads() == {1}
        assert threads() == before == {2}
