"""AUC, ROC, ranks and adjusted p-values against brute force, scipy, sklearn and statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sk_roc_curve
from statsmodels.stats.multitest import multipletests

from auditkit.stats.multiplicity import benjamini_hochberg, holm
from auditkit.stats.ranking import auc, auc_estimate, auc_parts, midranks, placements, roc_curve, tpr_at_fpr

tied = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60)


def _arrays(rows):
    scores = np.array([score for score, _ in rows], dtype=np.float64)
    return scores, np.array([label for _, label in rows])


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=50))
def test_midranks_match_scipy(values):
    array = np.array(values, dtype=np.float64)
    assert np.array_equal(midranks(array), rankdata(array))


@given(tied)
@settings(max_examples=200, deadline=None)
def test_auc_is_the_share_of_ordered_pairs(rows):
    scores, positive = _arrays(rows)
    if positive.all() or not positive.any():
        with pytest.raises(ValueError, match="AUC needs both classes"):
            auc(scores, positive)
        assert "needs both classes" in auc_estimate(scores, positive).reason
        return
    pairs = np.subtract.outer(scores[positive], scores[~positive])
    brute = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    area, interval = auc(scores, positive)
    assert area == pytest.approx(brute, abs=1e-12)
    assert interval is None or interval.low <= area <= interval.high
    flipped = auc(-scores, positive)
    assert flipped[0] == pytest.approx(1 - area, abs=1e-12)
    if interval is not None:
        assert flipped[1].low == pytest.approx(1 - interval.high, abs=1e-9)
    v10, v01 = placements(scores, positive)
    assert np.allclose(v10, ((pairs > 0) + 0.5 * (pairs == 0)).mean(axis=1))
    assert np.allclose(v01, ((pairs > 0) + 0.5 * (pairs == 0)).mean(axis=0))


def test_weighted_auc_matches_sklearn_and_counts_repeats():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 8, 80).astype(float), rng.random(80) < 0.4
    weights = rng.integers(1, 4, 80)
    area, interval = auc(scores, positive, weights=weights.astype(float))
    assert area == pytest.approx(roc_auc_score(positive, scores, sample_weight=weights), abs=1e-12)
    assert interval is not None
    # Whole-number weights held together by clusters are the repeated rows.
    repeated = np.repeat(np.arange(80), weights)
    again = auc(scores[repeated], positive[repeated], clusters=repeated)
    assert again[0] == pytest.approx(area, abs=1e-12)
    assert (again[1].low, again[1].high) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_parts_give_delongs_variance():
    rng = np.random.default_rng(1)
    scores, positive = rng.normal(size=500), rng.random(500) < 0.3
    scores[positive] += 0.8
    v10, v01 = placements(scores, positive)
    delong = v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01)
    area, parts = auc_parts(scores, positive)
    assert (parts**2).sum() == pytest.approx(delong, rel=0.02)
    assert parts[positive].sum() == pytest.approx(0, abs=1e-12)
    assert area == pytest.approx(roc_auc_score(positive, scores), abs=1e-12)


@pytest.mark.parametrize(("n", "shift"), [(60, 0.0), (80, 1.0), (200, 2.0)])
def test_auc_interval_covers(n, shift):
    rng = np.random.default_rng(2)
    from statistics import NormalDist

    truth = NormalDist().cdf(shift / 2**0.5)
    covered = 0
    runs = 400
    for _ in range(runs):
        positive = np.arange(n) < n // 3
        _, found = auc(rng.normal(size=n) + shift * positive, positive)
        covered += found.low <= truth <= found.high
    assert covered / runs >= 0.925


def test_clustered_auc_covers_where_the_plain_one_does_not():
    rng = np.random.default_rng(6)
    clusters = np.repeat(np.arange(40), 10)
    covered = blind = 0
    runs = 200
    for _ in range(runs):
        site = np.repeat(rng.normal(size=40), 10)
        positive = np.repeat(np.arange(40) % 2 == 0, 10)
        scores = site + 0.3 * rng.normal(size=400)
        found = auc(scores, positive, clusters=clusters)[1]
        covered += found.low <= 0.5 <= found.high
        plain = auc(scores, positive)[1]
        blind += plain.low <= 0.5 <= plain.high
    assert covered / runs >= 0.92
    assert blind / runs < 0.7


@pytest.mark.parametrize("scores", [np.array([1.0, 2, 3, 4]), np.array([5.0, 5, 5, 5])])
def test_degenerate_scores_keep_an_honest_interval(scores):
    area, interval = auc(scores, np.array([False, False, True, True]))
    assert interval.method == "exact-smaller-class"
    assert interval.high - interval.low > 0.5
    assert interval.low <= area <= interval.high


def test_one_row_in_a_class_has_no_interval():
    assert auc(np.array([1.0, 2, 3]), np.array([True, False, False]))[1] is None
    assert "one row" in auc_estimate(np.array([1.0, 2, 3]), np.array([True, False, False])).reason


@given(tied)
@settings(max_examples=100, deadline=None)
def test_roc_matches_sklearn(rows):
    scores, positive = _arrays(rows)
    if positive.all() or not positive.any():
        return
    ours = roc_curve(scores, positive)
    theirs = sk_roc_curve(positive, scores, drop_intermediate=False)
    for mine, other in zip(ours, theirs, strict=True):
        assert np.allclose(mine[1:], other[1:])
    best, false_positives, _ = tpr_at_fpr(scores, positive, 0.2)
    assert best == pytest.approx(theirs[1][theirs[0] <= 0.2].max())
    assert false_positives <= 0.2 * (~positive).sum() + 1e-9


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_match_statsmodels(values):
    p = np.array(values)
    assert np.allclose(holm(p), multipletests(p, method="holm")[1])
    assert np.allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])
