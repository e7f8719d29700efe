"""The change of an estimate on the same rows: against brute force, other libraries and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from auditkit.methods.fairness.paired_scores import ScoredRows, ScorePairing, scored_pair
from auditkit.policy.measured import Measured
from auditkit.stats.linearised import PLAIN, Design
from auditkit.stats.paired import auc_part, explained_part, mean_part, paired, root_part


def two_scores(n_pos, n_neg, areas, correlation, rng):
    """Two binormal scores of the same rows whose true areas under the curve are ``areas``."""
    lower = np.linalg.cholesky(np.array([[1.0, correlation], [correlation, 1.0]]))
    scores = rng.normal(size=(n_pos + n_neg, 2)) @ lower.T
    positive = np.arange(n_pos + n_neg) < n_pos
    scores[positive] += [math.sqrt(2.0) * stats.norm.ppf(area) for area in areas]
    return scores, positive


def kernel_covariance(scores, positive):
    """DeLong's covariance by its definition: every pair of a positive and a negative row, one by one."""
    areas, by_pos, by_neg = [], [], []
    for column in scores.T:
        psi = np.array([
            [1.0 if x > y else 0.5 if x == y else 0.0 for y in column[~positive]] for x in column[positive]
        ])  # fmt: skip
        areas.append(psi.mean())
        by_pos.append(psi.mean(axis=1))
        by_neg.append(psi.mean(axis=0))
    return areas, np.cov(by_pos) / len(by_pos[0]) + np.cov(by_neg) / len(by_neg[0])


@pytest.mark.parametrize(("n_pos", "n_neg"), [(7, 5), (20, 60), (2, 30)])
@pytest.mark.parametrize("ties", [False, True])
def test_areas_on_pairs_have_delongs_covariance(n_pos, n_neg, ties):
    scores, positive = two_scores(n_pos, n_neg, (0.7, 0.8), 0.6, np.random.default_rng(n_pos))
    scores = scores.round(0) if ties else scores
    areas, covariance = kernel_covariance(scores, positive)
    pair = paired(*(auc_part(column, positive, PLAIN) for column in scores.T), PLAIN)
    assert (pair.then, pair.now) == pytest.approx(areas)
    found = [[pair.variance_then, pair.covariance], [pair.covariance, pair.variance_now]]
    assert np.array(found) == pytest.approx(covariance, abs=1e-14)
    assert pair.freedom == min(n_pos, n_neg) - 1


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_means_of_errors_have_the_interval_of_the_paired_t_test(level):
    rng = np.random.default_rng(1)
    then = rng.gamma(2.0, 1.0, 40)
    now = then + rng.normal(0.1, 0.3, 40)
    pair = paired(mean_part(then), mean_part(now), PLAIN)
    ends = stats.ttest_rel(now, then).confidence_interval(level)
    assert pair.limits(level) == pytest.approx((ends.low, ends.high))
    both = stats.ttest_1samp(now + then, 0.0).confidence_interval(level)
    assert pair.limits(level, 1.0) == pytest.approx((both.low, both.high))


@pytest.mark.parametrize("quantity", ["auc", "auc weighted", "r2", "root"])
def test_variances_and_covariance_are_those_of_a_bootstrap_of_the_rows(quantity):
    rng = np.random.default_rng(2)
    scores, positive = two_scores(90, 160, (0.75, 0.8), 0.7, rng)
    weights = rng.gamma(4.0, 0.25, len(positive)) if "weighted" in quantity else None
    y = positive + rng.normal(0, 0.7, len(positive))

    def parts(rows):
        design = Design(None if weights is None else weights[rows])
        for column in scores.T:
            if quantity.startswith("auc"):
                yield auc_part(column[rows], positive[rows], design)
            elif quantity == "r2":
                yield explained_part(y[rows], column[rows], design)
            else:
                yield root_part(mean_part((y[rows] - column[rows]) ** 2, design))

    design = Design(weights)
    pair = paired(*parts(np.arange(len(y))), design)
    drawn = np.array([[part.value for part in parts(rng.integers(0, len(y), len(y)))] for _ in range(600)])
    assert (math.sqrt(pair.variance_then), math.sqrt(pair.variance_now)) == pytest.approx(drawn.std(axis=0), rel=0.15)
    assert pair.correlation == pytest.approx(np.corrcoef(drawn.T)[0, 1], abs=0.1)


def test_each_row_twice_in_one_cluster_says_no_more_than_once():
    scores, positive = two_scores(60, 80, (0.7, 0.8), 0.5, np.random.default_rng(3))
    once = paired(*(auc_part(column, positive, PLAIN) for column in scores.T), PLAIN)
    double, sides, design = (
        np.repeat(scores, 2, axis=0),
        np.repeat(positive, 2),
        Design(None, np.repeat(np.arange(140), 2)),
    )
    twice = paired(*(auc_part(column, sides, design) for column in double.T), design)
    assert twice.variance(-1.0) == pytest.approx(once.variance(-1.0), rel=0.03)
    assert twice.freedom == once.freedom


def test_models_that_no_row_tells_apart_are_still():
    values = np.arange(5.0)
    assert paired(mean_part(values), mean_part(values + 2.0), PLAIN).still
    assert paired(mean_part(values[:1]), mean_part(values[:1]), PLAIN).still
    assert not paired(mean_part(values), mean_part(values[::-1] * 1.1), PLAIN).still


# The quantities ------------------------------------------------------------------------------------------


def classified(n=300, k=2, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    raw = rng.normal(size=(n, k)) + 1.5 * np.eye(k)[y]
    probabilities = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    names = tuple("abc"[:k])
    return ScoredRows(y=y, decided=probabilities.argmax(axis=1), ranking=probabilities, probabilities=probabilities,
                      classes=names, positive=1 if k == 2 else None)  # fmt: skip


def test_values_are_scikit_learns():
    from sklearn import metrics

    rows = classified()
    positive, p = rows.y == 1, rows.probabilities[:, 1]
    expected = {
        "performance.roc_auc": metrics.roc_auc_score(positive, p),
        "performance.log_loss": metrics.log_loss(rows.y, rows.probabilities),
        "performance.brier_score": metrics.brier_score_loss(positive, p),
        "fairness.mean_score_of_positives": p[positive].mean(),
        "fairness.mean_overestimation": p.mean() - positive.mean(),
    }
    for name, value in expected.items():
        assert scored_pair(name, {}, rows, rows).now == pytest.approx(value, rel=1e-12), name
    many = classified(k=3)
    macro = scored_pair("performance.roc_auc", {"average": "macro"}, many, many).now
    assert macro == pytest.approx(metrics.roc_auc_score(many.y, many.probabilities, multi_class="ovr"))
    one = scored_pair("performance.roc_auc", {"class": "b"}, many, many).now
    assert one == pytest.approx(metrics.roc_auc_score(many.y == 1, many.probabilities[:, 1]))
    rng = np.random.default_rng(1)
    y = rng.normal(size=200)
    values = ScoredRows(y=y, decided=y + rng.normal(0.1, 0.5, 200))
    expected = {
        "performance.mean_absolute_error": metrics.mean_absolute_error(y, values.decided),
        "fairness.root_mean_squared_error": metrics.root_mean_squared_error(y, values.decided),
        "performance.r2": metrics.r2_score(y, values.decided),
        "fairness.mean_error": np.mean(values.decided - y),
    }
    for name, value in expected.items():
        assert scored_pair(name, {}, values, values).now == pytest.approx(value, rel=1e-9), name
    pinball = scored_pair("performance.pinball_loss", {"quantile": 0.2}, values, values).now
    assert pinball == pytest.approx(metrics.mean_pinball_loss(y, values.decided, alpha=0.2))


def test_what_pairs_do_not_give_is_none():
    rows = classified()
    assert scored_pair("performance.average_precision", {}, rows, rows) is None
    assert scored_pair("performance.roc_auc", {"class": "z"}, rows, rows) is None
    assert scored_pair("performance.roc_auc", {}, rows.take(rows.y == 1), rows.take(rows.y == 1)) is None
    assert scored_pair("performance.roc_auc", {}, rows.take(rows.y > 5), rows.take(rows.y > 5)) is None
    assert scored_pair("performance.pinball_loss", {}, rows, rows) is None


# Coverage ------------------------------------------------------------------------------------------------


def misses(n_pos, n_neg, areas, correlation, audits, seed=5):
    """Share of audits whose interval of the change of an area leaves out the truth, and three standard errors."""
    from auditkit.core.evidence import Measurement
    from auditkit.stats.ranking import auc

    rng, missed = np.random.default_rng(seed), 0
    for _ in range(audits):
        scores, positive = two_scores(n_pos, n_neg, areas, correlation, rng)
        pair = paired(*(auc_part(column, positive, PLAIN) for column in scores.T), PLAIN)
        if pair.still:
            continue
        sides = []
        for column in scores.T:
            value, interval = auc(column, positive)
            about = {"value": value, "interval": interval, "bounds": (0.0, 1.0)}
            sides.append(Measured(measurements=(Measurement(name="performance.roc_auc", n=n_pos + n_neg, **about),)))
        low, high = ScorePairing(then=sides[0], now=sides[1], pairs=(pair,)).limits(0.95)
        missed += not low[0] <= areas[1] - areas[0] <= high[0]
    return missed / audits, 3.0 * math.sqrt(0.05 * 0.95 / audits)


@pytest.mark.parametrize(
    ("n_pos", "n_neg", "areas", "correlation"), [(30, 60, (0.7, 0.8), 0.8), (20, 80, (0.95, 0.97), 0.9)]
)
def test_limits_of_the_change_of_an_area_hold_the_truth(n_pos, n_neg, areas, correlation):
    share, slack = misses(n_pos, n_neg, areas, correlation, 300)
    assert share <= 0.05 + slack


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(10, 10), (20, 80), (30, 200), (100, 100)])
@pytest.mark.parametrize("areas", [(0.7, 0.7), (0.8, 0.85), (0.95, 0.95), (0.95, 0.97)])
@pytest.mark.parametrize("correlation", [0.5, 0.9, 0.98])
def test_limits_of_the_change_of_an_area_hold_the_truth_in_many_settings(sizes, areas, correlation):
    share, slack = misses(*sizes, areas, correlation, 2000)
    assert share <= 0.055 + slack
