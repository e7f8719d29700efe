"""fairness.outcomes and its neighbours: against AIF360's values on fixed rows, loops, planted gaps and clean twins."""

import itertools
import math

import numpy as np
import pytest

from auditkit.analyzers.fairness.outcomes import ANALYZER
from auditkit.analyzers.fairness.scores import ANALYZER as SCORES
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.fairness import count_groups
from auditkit.methods.fairness.individual import benefits, coefficient_of_variation, inequality, theil_index
from auditkit.methods.fairness.outcomes import (
    bias_amplification,
    smoothed_differential_fairness,
    swapped,
    total_variation,
    worst_variation,
)
from auditkit.stats.linearised import Design
from auditkit.subjects.build import make_predictions_subject


def run(subject, analyzer=ANALYZER, **params):
    return run_step(subject, Step(name=analyzer.name, params=analyzer.params(**params), analyzer=analyzer))


def find(outcome, name, over=(), **where):
    found = [m for m in outcome.measurements if m.name == f"fairness.{name}" and m.over == over]
    return next(m for m in found if dict(m.slice) == where)


def fixed_rows():
    """The rows that AIF360 0.6.1 was asked about for the values below."""
    rng = np.random.default_rng(42)
    group = rng.choice(["a", "b", "c"], 400)
    y = (rng.random(400) < 0.3 + 0.2 * (group == "b")).astype(int)
    decided = np.where(rng.random(400) < 0.8, y, 1 - y)
    score = np.round(np.clip(0.3 + 0.4 * y + rng.normal(0, 0.2, 400), 0.01, 0.99), 3)
    return group, y, decided, score


def fixed_counts():
    group, y, decided, _ = fixed_rows()
    return count_groups(y, decided, {"g": group})[1]


# Values of AIF360.


def test_smoothed_differential_fairness_and_amplification_are_aif360s():
    counts = fixed_counts()
    assert smoothed_differential_fairness(counts) == pytest.approx(0.4318759880546881, abs=1e-12)
    assert smoothed_differential_fairness(swapped(counts)) == pytest.approx(0.5762844423698861, abs=1e-12)
    assert bias_amplification(counts)[0] == pytest.approx(-0.144408454315198, abs=1e-12)


def test_theil_index_and_coefficient_of_variation_are_aif360s():
    _, y, decided, _ = fixed_rows()
    benefit = benefits(y == 1, decided == 1)
    assert theil_index(benefit).value == pytest.approx(0.1223311269880266, abs=1e-12)
    total = inequality(benefit, np.zeros(400, dtype=np.int64), np.random.default_rng(0)).total
    assert total.value == pytest.approx(0.09352589698167588, abs=1e-12)
    assert coefficient_of_variation(total).value == pytest.approx(0.4324948484818654, abs=1e-12)


def test_generalized_rates_are_aif360s():
    group, y, decided, score = fixed_rows()
    outcome = run(make_predictions_subject(y, decided, score, sensitive={"g": group}), SCORES, resamples=40)
    false_positive = {"a": 0.30392783505154636, "b": 0.28669696969696973, "c": 0.29690217391304347}
    false_negative = {"a": 0.3104473684210525, "b": 0.28095522388059696, "c": 0.29802500000000004}
    for name in "abc":
        assert find(outcome, "mean_score_of_negatives", g=name).value == pytest.approx(false_positive[name], abs=1e-12)
        assert find(outcome, "mean_score_of_positives", g=name).value == pytest.approx(
            1 - false_negative[name], abs=1e-12
        )
    gap = find(outcome, "generalized_equalized_odds.difference", ("g",))
    assert gap.value == pytest.approx(max(np.ptp(list(v.values())) for v in (false_positive, false_negative)))
    assert gap.interval.low == 0.0


def test_demographic_disparity_averages_to_aif360s_conditional_one():
    group, y, decided, _ = fixed_rows()
    outcome = run(make_predictions_subject(y, decided, sensitive={"g": group}))
    shares = {name: find(outcome, "demographic_disparity", g=name) for name in "abc"}
    sizes = {name: (group == name).sum() for name in "abc"}
    assert sum(sizes[n] * shares[n].value for n in "abc") / 400 == pytest.approx(-0.00021754857379084337, abs=1e-12)
    assert sum(shares[n].value for n in "abc") == pytest.approx(0.0, abs=1e-12)


def test_trap_cancelling_average_predictive_value_takes_absolute_gaps():
    """AIF360: mean of the signed gaps in predictive value and false omission rate; here both count by size."""
    group, y, decided, _ = fixed_rows()
    two = np.where(group == "a", "a", "rest")
    outcome = run(make_predictions_subject(y, decided, sensitive={"g": two}))

    def rates(rows):
        return y[rows & (decided == 1)].mean(), y[rows & (decided == 0)].mean()

    (ppv_a, for_a), (ppv_r, for_r) = rates(two == "a"), rates(two == "rest")
    theirs = ((ppv_r - ppv_a) + (for_r - for_a)) / 2
    assert theirs == pytest.approx(0.1319376561312045, abs=1e-12)
    ours = find(outcome, "average_predictive_value.difference", ("g",))
    assert ours.value == pytest.approx((abs(ppv_r - ppv_a) + abs(for_r - for_a)) / 2, abs=1e-12)
    assert ours.interval.low <= ours.value <= ours.interval.high


# Other references.


def test_swapped_cells_of_clusters_are_those_of_swapped_columns():
    rng = np.random.default_rng(1)
    y, decided, group = (rng.integers(0, 2, 120) for _ in range(3))
    clusters, weights = np.arange(120) // 3, rng.random(120) + 0.5
    kwargs = {"weights": weights, "clusters": clusters, "classes": ("0", "1"), "positive": 1}
    here = swapped(count_groups(y, decided, {"g": group}, **kwargs)[1])
    there = count_groups(decided, y, {"g": group}, **kwargs)[1]
    np.testing.assert_allclose(here.n, there.n)
    np.testing.assert_allclose(here.moment, there.moment)
    np.testing.assert_allclose(here.weight_sq, there.weight_sq)


def test_distances_of_two_classes_are_known_gaps():
    group, y, decided, _ = fixed_rows()
    table = np.array(
        [[[((group == g) & (y == a) & (decided == b)).sum() for b in (0, 1)] for a in (0, 1)] for g in "abc"]
    )
    selection = [decided[group == g].mean() for g in "abc"]
    whole = worst_variation(table.sum(axis=1, keepdims=True).astype(float), True, np.random.default_rng(0))
    assert whole.value == pytest.approx(max(selection) - min(selection))
    odds = worst_variation(table.astype(float), True, np.random.default_rng(0))
    rates = [[decided[(group == g) & (y == a)].mean() for a in (0, 1)] for g in "abc"]
    assert odds.value == pytest.approx(
        max(np.abs(np.subtract(p, q)).mean() for p, q in itertools.combinations(rates, 2))
    )
    assert odds.interval.low <= odds.value <= odds.interval.high


def test_total_variation_is_half_the_sum_of_gaps_of_three_classes():
    assert total_variation(np.array([[2.0, 1, 1]]), np.array([[1.0, 1, 2]])) == pytest.approx(0.25)
    assert math.isnan(total_variation(np.array([[0.0, 0, 0]]), np.array([[1.0, 1, 2]])))


@pytest.mark.parametrize("truth", [0.0, 0.15])
def test_distance_intervals_cover(truth):
    rng = np.random.default_rng(2)
    one, two = np.array([0.5, 0.3, 0.2]), np.array([0.5 - truth, 0.3, 0.2 + truth])
    held = 0
    for _ in range(200):
        table = np.array([[rng.multinomial(150, one)], [rng.multinomial(80, two)]]).astype(float)
        interval = worst_variation(table, True, rng, resamples=100).interval
        held += interval.low <= truth <= interval.high
    assert held >= 200 * 0.95 - 3 * math.sqrt(200 * 0.05 * 0.95)


@pytest.mark.parametrize("seed", [3])
def test_theil_interval_covers(seed):
    rng = np.random.default_rng(seed)
    exact = theil_index(rng.choice([0.0, 1, 2], 2_000_000, p=[0.1, 0.8, 0.1])).value
    held = 0
    for _ in range(300):
        interval = theil_index(rng.choice([0.0, 1, 2], 300, p=[0.1, 0.8, 0.1])).interval(0.95)
        held += interval.low <= exact <= interval.high
    assert held >= 300 * 0.94 - 3 * math.sqrt(300 * 0.06 * 0.94)
    weighted = theil_index(np.array([0.0, 1, 2]), Design(np.array([1.0, 2, 1])))
    assert weighted.value == pytest.approx(theil_index(np.array([0.0, 1, 1, 2])).value)


# The analyzer.


def decisions(amplified, n=1500, seed=4):
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b"], n)
    y = (rng.random(n) < 0.5).astype(int)
    decided = np.where(rng.random(n) < 0.9, y, 1 - y)
    if amplified:
        decided = np.where((group == "b") & (rng.random(n) < 0.5), 0, decided)
    return make_predictions_subject(y, decided, sensitive={"g": group})


def test_planted_amplification_is_found_and_the_clean_twin_is_quiet():
    planted, clean = run(decisions(True)), run(decisions(False))
    assert find(planted, "bias_amplification", ("g",)).interval.low > 0.1
    assert find(clean, "bias_amplification", ("g",)).interval.low < 0.0
    assert find(planted, "demographic_disparity", g="b").interval.low > 0.1
    ends = find(clean, "demographic_disparity", g="b").interval
    assert ends.low < 0.0 < ends.high
    assert find(planted, "positive_decision_share", g="b").interval.high < 0.45


def test_three_classes_have_distances_and_weights_no_interval():
    rng = np.random.default_rng(5)
    group, y = rng.choice(["a", "b"], 600), rng.choice(["x", "y", "z"], 600)
    usual = np.where(rng.random(600) < 0.9, y, "z")
    decided = np.where((group == "b") & (y == "x") & (rng.random(600) < 0.8), "y", usual)
    planted = run(make_predictions_subject(y, decided, sensitive={"g": group}))
    assert find(planted, "error_distance", ("g",)).interval.low > 0.1
    assert find(planted, "decision_distance", ("g",)).interval.low > 0.1
    clean = run(make_predictions_subject(y, np.where(rng.random(600) < 0.9, y, "x"), sensitive={"g": group}))
    assert find(clean, "error_distance", ("g",)).interval.low < 0.03
    weighted = run(make_predictions_subject(y, decided, sensitive={"g": group}, weights=rng.random(600) + 0.5))
    assert "multinomial" in find(weighted, "error_distance", ("g",)).reason


def test_a_group_without_a_decision_is_smoothed_and_one_without_a_label_is_told():
    y, decided, group = [0, 1, 0, 1] * 5, [0, 1, 0, 0] * 5, ["a", "a", "b", "b"] * 5
    outcome = run(make_predictions_subject(y, decided, sensitive={"g": group}))
    smoothed = find(outcome, "smoothed_differential_fairness", ("g",))
    assert math.isfinite(smoothed.value)
    assert "may be 0" in smoothed.reason
    assert find(outcome, "average_predictive_value.difference", ("g",)).value is None
    alone = run(make_predictions_subject(y, decided, sensitive={"g": ["a"] * 20}))
    assert "only one group" in find(alone, "bias_amplification", ("g",)).reason


def test_log_loss_is_scikit_learns():
    from sklearn.metrics import log_loss

    group, y, decided, score = fixed_rows()
    outcome = run(make_predictions_subject(y, decided, score, sensitive={"g": group}), SCORES, resamples=40)
    for name in "abc":
        rows = group == name
        assert find(outcome, "log_loss", g=name).value == pytest.approx(log_loss(y[rows], score[rows]))
    assert find(outcome, "log_loss.difference", ("g",)).interval.low == 0.0
