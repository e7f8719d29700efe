"""fairness.regression: against numpy, scikit-learn and holisticai's published examples; planted gaps, a clean twin."""

import math

import numpy as np
import pytest
from sklearn.metrics import r2_score

from auditkit.analyzers.fairness.regression import ANALYZER
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.fairness.regression import (
    Rows,
    bounded_group_loss,
    correlation,
    jain_index,
    no_disparate_impact_share,
    r2,
    root_mean_squared_error,
    standardised_difference,
)
from auditkit.stats.estimate import Estimate
from auditkit.stats.linearised import PLAIN, Design, mean
from auditkit.subjects.build import make_predictions_subject


def run(subject, **params):
    settings = ANALYZER.params(**{"resamples": 60, **params})
    return run_step(subject, Step(name=ANALYZER.name, params=settings, analyzer=ANALYZER))


def find(outcome, name, over=(), **where):
    found = [m for m in outcome.measurements if m.name == f"fairness.{name}" and m.over == over]
    return next(m for m in found if dict(m.slice) == where)


def wages(shift=0.0, noise=1.0, n=1200, seed=0):
    """Predictions for group b are ``shift`` too high and ``noise`` times as far off."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b", "c"], n)
    true = rng.gamma(9.0, 1.0, n)
    off = rng.normal(0, 0.8, n) * np.where(group == "b", noise, 1.0)
    predicted = np.maximum(true + off + shift * (group == "b"), 0.1)
    return make_predictions_subject(true, predicted, sensitive={"g": group})


def drawn(n=300, seed=1):
    rng = np.random.default_rng(seed)
    true = rng.normal(5, 2, n)
    return Rows(true + rng.normal(0, 1, n), true, Design(rng.integers(1, 4, n).astype(float)))


# References.


def test_values_equal_numpy_and_scikit_learn_with_weights_as_repeats():
    rows = drawn()
    repeat = np.repeat(np.arange(300), rows.design.weights.astype(int))
    predicted, true = rows.predicted[repeat], rows.true[repeat]
    assert root_mean_squared_error(rows).value == pytest.approx(math.sqrt(((predicted - true) ** 2).mean()))
    assert r2(rows).value == pytest.approx(r2_score(true, predicted))
    assert correlation(rows).value == pytest.approx(np.corrcoef(predicted, true)[0, 1])
    assert jain_index(rows.true**2, rows.design).value == pytest.approx((true**2).mean() ** 2 / (true**4).mean())


HALVES = np.repeat([0, 1], 50)
STRAIGHT, CUBE = np.linspace(-1, 1, 50), np.linspace(-1, 1, 50) ** 3


def test_published_examples_of_holisticai():
    """Values of its documentation; its ratios are of group a to b, ours the lower over the higher."""
    group_a = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    predicted = np.array([0.8, 0.9, 0.2, 0.1, 0.7, 0.9, 0.8, 0.6, 0.3, 0.5])
    outcome = run(make_predictions_subject(predicted + 0.5, predicted, sensitive={"g": group_a.astype(str)}))
    assert find(outcome, "mean_prediction.ratio", ("g",)).value == pytest.approx(0.7894736842)
    both = np.concatenate([STRAIGHT, STRAIGHT])
    true = np.concatenate([STRAIGHT**2, CUBE])
    outcome = run(make_predictions_subject(true, both, sensitive={"g": HALVES.astype(str)}))
    assert find(outcome, "root_mean_squared_error.ratio", ("g",)).value == pytest.approx(1 / 2.7471209467641367)
    assert find(outcome, "mean_absolute_error.ratio", ("g",)).value == pytest.approx(1 / 2.084201388888889)
    true = np.concatenate([STRAIGHT, STRAIGHT**2])
    outcome = run(make_predictions_subject(true, np.concatenate([STRAIGHT, CUBE]), sensitive={"g": HALVES.astype(str)}))
    assert find(outcome, "correlation.difference", ("g",)).value == pytest.approx(1.0)
    # Its grids of 150 thresholds against our exact curves.
    assert find(outcome, "prediction_ks", ("g",)).value == pytest.approx(0.20, abs=0.011)
    assert find(outcome, "statistical_parity_auc", ("g",)).value == pytest.approx(0.12106666, abs=0.005)
    predicted = np.array([0.8, 0.9, 0.2, 0.1, 0.2, 0.9, 0.3, 0.6, 0.3, 0.5])
    effect = standardised_difference(predicted, 1 - group_a, 2, PLAIN, 0.95)
    sizes, spread = np.array([4, 6]), [predicted[group_a == g].std() for g in (1, 0)]
    theirs = math.sqrt(((sizes - 1) * np.square(spread)).sum() / 8)  # variances of the sample, not of the population
    ours = math.sqrt((sizes * np.square(spread)).sum() / 8)
    assert effect.value == pytest.approx(0.1166919931983158 * theirs / ours)


def test_no_disparate_impact_share_by_brute_force():
    rng = np.random.default_rng(2)
    values, codes = rng.normal(size=60) + 0.8 * (np.arange(60) % 2), np.arange(60) % 2
    order = np.argsort(-values)
    ratios = []
    for top in range(1, 61):
        rates = [np.isin(np.flatnonzero(codes == g), order[:top]).mean() for g in (0, 1)]
        ratios.append(min(rates) / max(rates))
    last_uneven = max(top for top, ratio in enumerate(ratios, 1) if ratio < 0.8 - 1e-12)
    found = no_disparate_impact_share(values, codes, 2, grid=60)
    assert found.share == pytest.approx((last_uneven + 1) / 60)
    assert found.threshold == pytest.approx(values[order[last_uneven]])


@pytest.mark.parametrize("quantity", ["r2", "correlation", "rmse", "d", "jain"])
def test_intervals_cover(quantity):
    """Share of 300 simulated samples whose interval holds the value of two million rows."""
    rng = np.random.default_rng(3)

    def sample(n):
        true = rng.normal(3, 1, n)
        return Rows(true + rng.normal(0, 0.7, n), true)

    def measured(rows):
        if quantity == "d":
            codes = np.arange(len(rows.true)) % 2
            gap = standardised_difference(rows.predicted + 0.6 * codes, codes, 2, PLAIN, 0.95)
            return Estimate(gap.value, 0, lambda level: gap.interval)
        if quantity == "jain":
            return jain_index(np.abs(rows.predicted))
        return {"r2": r2, "correlation": correlation, "rmse": root_mean_squared_error}[quantity](rows)

    exact = measured(sample(2_000_000)).value
    intervals = [measured(sample(200)).interval(0.95) for _ in range(300)]
    held = sum(i.low <= exact <= i.high for i in intervals)
    assert held >= 300 * 0.94 - 3 * math.sqrt(300 * 0.06 * 0.94)


def test_bounded_group_loss_is_the_worst_group_with_limits_for_the_largest():
    rng = np.random.default_rng(4)
    groups = {name: mean(rng.gamma(2.0, scale, 100), least=0.0) for name, scale in (("a", 1.0), ("b", 1.1), ("c", 0.2))}
    found, worst = bounded_group_loss(groups)
    assert found.value == max(e.value for e in groups.values()) == groups[worst].value
    interval = found.interval(0.95)
    assert interval.high == max(e.interval(0.95).high for e in groups.values())
    assert interval.low < groups[worst].interval(0.95).low


# The analyzer.


def test_planted_shift_and_noise_are_found():
    outcome = run(wages(shift=1.5, noise=2.0))
    assert find(outcome, "root_mean_squared_error.ratio", ("g",)).interval.high < 0.6
    assert find(outcome, "r2.difference", ("g",)).interval.low > 0.1
    assert find(outcome, "standardised_difference", ("g",)).interval.low > 0.2
    assert find(outcome, "statistical_parity_auc", ("g",)).interval.low > 0.02
    assert find(outcome, "prediction_ks", ("g",)).interval.low > 0.05
    loss = [m for m in outcome.measurements if m.name == "fairness.bounded_group_loss"]
    assert {m.params["loss"] for m in loss} == {"absolute", "root_squared"}
    assert all(m.interval.low > 1.2 for m in loss)


def test_clean_twin_is_quiet():
    outcome = run(wages())
    for name in ("root_mean_squared_error.difference", "r2.difference", "correlation.difference"):
        assert find(outcome, name, ("g",)).interval.low == 0.0, name
    for name in ("standardised_difference", "statistical_parity_auc", "prediction_ks"):
        assert find(outcome, name, ("g",)).interval.low == 0.0, name
    assert find(outcome, "root_mean_squared_error.ratio", ("g",)).interval.high > 0.95
    assert find(outcome, "no_disparate_impact_share", ("g",)).value < 0.9


def test_degenerate_groups_are_undefined_with_a_reason():
    true, predicted = np.array([1.5, 1.5, 1.5, 2.25, 3.1, 4]), np.array([1.5, 2.5, 3.5, 2, 3, 4.5])
    outcome = run(make_predictions_subject(true, predicted, sensitive={"g": ["a"] * 3 + ["b"] * 3}))
    assert find(outcome, "r2", g="a").value is None
    assert "targets that vary" in find(outcome, "r2.difference", ("g",)).reason
    assert find(outcome, "root_mean_squared_error", g="a").value == pytest.approx(math.sqrt(5 / 3))
    negative = run(make_predictions_subject(true, -predicted, sensitive={"g": ["a"] * 3 + ["b"] * 3}))
    assert "negative" in find(negative, "mean_prediction.ratio", ("g",)).reason
