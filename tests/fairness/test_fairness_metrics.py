from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from auditkit.core.errors import UsageError
from auditkit.methods.fairness.counts import count_groups
from auditkit.methods.fairness.metric_table import METRICS
from auditkit.methods.fairness.metrics import group_rates

SKLEARN = {
    "selection_rate": lambda y, p, w: np.average(p, weights=w),
    "rejection_rate": lambda y, p, w: np.average(1 - p, weights=w),
    "threat_score": lambda y, p, w: sk.jaccard_score(y, p, sample_weight=w),
    "false_negative_share": lambda y, p, w: np.average(y[y != p], weights=None if w is None else w[y != p]),
    "base_rate": lambda y, p, w: np.average(y, weights=w),
    "true_positive_rate": lambda y, p, w: sk.recall_score(y, p, sample_weight=w),
    "false_positive_rate": lambda y, p, w: 1 - sk.recall_score(y, p, pos_label=0, sample_weight=w),
    "true_negative_rate": lambda y, p, w: sk.recall_score(y, p, pos_label=0, sample_weight=w),
    "false_negative_rate": lambda y, p, w: 1 - sk.recall_score(y, p, sample_weight=w),
    "positive_predictive_value": lambda y, p, w: sk.precision_score(y, p, sample_weight=w),
    "negative_predictive_value": lambda y, p, w: sk.precision_score(y, p, pos_label=0, sample_weight=w),
    "false_discovery_rate": lambda y, p, w: 1 - sk.precision_score(y, p, sample_weight=w),
    "false_omission_rate": lambda y, p, w: 1 - sk.precision_score(y, p, pos_label=0, sample_weight=w),
    "f1": lambda y, p, w: sk.f1_score(y, p, sample_weight=w),
    "accuracy": lambda y, p, w: sk.accuracy_score(y, p, sample_weight=w),
    "error_rate": lambda y, p, w: sk.zero_one_loss(y, p, sample_weight=w),
    "balanced_accuracy": lambda y, p, w: sk.balanced_accuracy_score(y, p, sample_weight=w),
}


def rows(n=600, seed=0, k=2):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    p = np.where(rng.random(n) < 0.7, y, rng.integers(0, k, n))
    return y, p, rng.choice(["a", "b", "c"], n, p=[0.6, 0.3, 0.1]), rng.random(n) + 0.2


def counted(y, p, g, **keys):
    return count_groups(y, p, {"g": g}, classes=("no", "yes"), positive=1, **keys)[1]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("weighted", [False, True])
def test_each_metric_equals_scikit_learn(metric, weighted):
    y, p, g, w = rows()
    rates = group_rates(counted(y, p, g, weights=w if weighted else None), metric)
    for index, (name,) in enumerate(rates.groups):
        m = g == name
        expected = SKLEARN[metric](y[m], p[m], w[m] if weighted else None)
        assert rates.value[index] == pytest.approx(expected, abs=1e-12)


def test_the_table_and_its_references_are_complete():
    assert set(SKLEARN) == set(METRICS)
    assert all(m.formula and m.citation and m.denominator for m in METRICS.values())


@pytest.mark.parametrize("positive", [0, 1])
def test_the_positive_class_is_the_one_named(positive):
    y, p, g, _ = rows()
    counts = count_groups(y, p, {"g": g}, classes=("no", "yes"), positive=positive)[0]
    assert group_rates(counts, "true_positive_rate").value[0] == pytest.approx(
        sk.recall_score(y, p, pos_label=positive)
    )


def test_multiclass_rates_are_one_against_the_rest():
    y, p, g, _ = rows(k=3)
    whole = count_groups(y, p, {"g": g}, classes=("x", "y", "z"))[0]
    for code in range(3):
        recall = sk.recall_score(y == code, p == code)
        assert group_rates(whole, "true_positive_rate", code).value[0] == pytest.approx(recall)
        assert group_rates(whole, "selection_rate", code).value[0] == pytest.approx((p == code).mean())
    assert group_rates(whole, "accuracy").value[0] == pytest.approx(sk.accuracy_score(y, p))
    assert group_rates(whole, "balanced_accuracy").value[0] == pytest.approx(sk.balanced_accuracy_score(y, p))
    with pytest.raises(UsageError, match="AK403 selection_rate needs a positive class"):
        group_rates(whole, "selection_rate")


def test_intervals_of_plain_proportions_equal_statsmodels():
    confint = pytest.importorskip("statsmodels.stats.proportion").proportion_confint
    y, p, g, _ = rows()
    counts = counted(y, p, g)
    for metric, below in (("selection_rate", lambda m: m), ("true_positive_rate", lambda m: m & (y == 1))):
        rates = group_rates(counts, metric)
        for index, (name,) in enumerate(rates.groups):
            m = below(g == name)
            low, high = confint(p[m].sum(), m.sum(), 0.1, method="beta")
            interval = rates.interval(index, 0.9)
            assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-10)
            assert rates.rows[index] == m.sum()


@pytest.mark.parametrize("metric", ["f1", "balanced_accuracy", "positive_predictive_value"])
@pytest.mark.parametrize("kind", ["plain", "weighted", "clustered"])
def test_the_variance_agrees_with_a_bootstrap(metric, kind):
    rng = np.random.default_rng(5)
    y, p, g, w = rows(n=400)
    clusters = np.arange(400) // 4
    if kind == "clustered":  # rows of a cluster are alike
        y, p = np.repeat(y[:100], 4), np.repeat(p[:100], 4)
    g[:] = "a"
    keys = {"weights": w} if kind == "weighted" else {"clusters": clusters} if kind == "clustered" else {}
    rates = group_rates(counted(y, p, g, **keys), metric)
    low, high = rates.rough_limits(0.95, 1.0)
    values = []
    for _ in range(600):
        if kind == "clustered":
            picks = (rng.integers(0, 100, 100)[:, None] * 4 + np.arange(4)).ravel()
        else:
            picks = rng.integers(0, 400, 400)
        values.append(
            group_rates(
                counted(y[picks], p[picks], g[picks], **({"weights": w[picks]} if kind == "weighted" else {})), metric
            ).value[0]
        )
    width = np.quantile(values, 0.975) - np.quantile(values, 0.025)
    assert (high - low)[0] == pytest.approx(width, rel=0.15)


def test_clusters_of_one_row_change_nothing_but_student_t():
    y, p, g, _ = rows()
    plain, clustered = counted(y, p, g), counted(y, p, g, clusters=np.arange(len(y)))
    one, two = (group_rates(c, "selection_rate") for c in (plain, clustered))
    assert np.allclose(one.effective * (one.rows - 1)[:, None] / one.rows[:, None], two.effective)
    assert one.interval(0, 0.95).method == "clopper-pearson"
    assert two.interval(0, 0.95).method == "korn-graubard-clustered"


def test_copying_every_row_does_not_make_intervals_narrower_when_clusters_are_told():
    y, p, g, _ = rows()
    once = group_rates(counted(y, p, g, clusters=np.arange(len(y))), "accuracy").limits(0.95)
    five = group_rates(
        counted(*(np.repeat(x, 5) for x in (y, p, g)), clusters=np.repeat(np.arange(len(y)), 5)), "accuracy"
    ).limits(0.95)
    naive = group_rates(counted(*(np.repeat(x, 5) for x in (y, p, g))), "accuracy").limits(0.95)
    assert np.allclose(once, five)
    assert ((naive[1] - naive[0]) < 0.6 * (five[1] - five[0])).all()


def test_thet_correction_equals_scipy():
    from scipy.stats import norm, t

    from auditkit.stats.effective import t_correction

    freedom = np.array([3.0, 5.0, 10.0, 50.0, np.inf, 1.0])
    z = norm.ppf(0.975)
    expected = [(z / t.ppf(0.975, v)) ** 2 for v in freedom[:4]] + [1.0, 0.0]
    assert t_correction(freedom, z) == pytest.approx(expected, rel=0.02)


def test_too_few_clusters_give_no_interval():
    y, p, g, _ = rows(n=40)
    rates = group_rates(counted(y, p, g, clusters=np.zeros(40, dtype=int)), "accuracy")
    assert np.isfinite(rates.value).all()
    assert rates.interval(0, 0.95) is None


# The places where libraries differ or go wrong in silence.


def test_a_rate_without_a_denominator_is_undefined_not_zero():
    y = np.array([1, 0, 0, 0])
    g = np.array(["a", "a", "b", "b"])
    rates = group_rates(counted(y, y, g), "true_positive_rate")
    assert rates.value[0] == 1.0
    assert np.isnan(rates.value[1])
    assert rates.undefined[1] == "true_positive_rate is undefined here: there are no positive labels to divide by"
    assert rates.interval(1, 0.95) is None


@pytest.mark.parametrize("metric", METRICS)
def test_perfect_and_constant_models_give_finite_rates_or_reasons(metric):
    y = np.array([0, 1] * 20)
    g = np.array(["a"] * 20 + ["b"] * 20)
    for p in (y, 1 - y, np.zeros(40, dtype=int), np.ones(40, dtype=int)):
        rates = group_rates(counted(y, p, g), metric)
        low, high = rates.limits(0.95)
        for index in range(2):
            if rates.undefined[index] is None:
                assert 0 <= low[index] <= rates.value[index] <= high[index] <= 1
                assert high[index] > low[index]
            else:
                assert np.isnan(rates.value[index])


def test_unknown_metric():
    y, p, g, _ = rows()
    with pytest.raises(UsageError, match="AK402 there is no count metric 'tpr'"):
        group_rates(counted(y, p, g), "tpr")
