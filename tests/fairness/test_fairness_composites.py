"""What fairness.groups adds on composites, treatment ratios and parity within a column."""

from __future__ import annotations

import math

import numpy as np
import pytest

from auditkit.analyzers.fairness.composites import within
from auditkit.analyzers.fairness.groups import ANALYZER
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.fairness import count_groups
from auditkit.subjects.build import make_predictions_subject


def run(y, p, sensitive, **params):
    subject = make_predictions_subject(y, p, sensitive=sensitive)
    step = Step(name=ANALYZER.name, params=ANALYZER.params(cross_check=False, **params), analyzer=ANALYZER)
    return run_step(subject, step)


def find(outcome, name, over=(), **where):
    return next(m for m in outcome.measurements if m.name == name and m.over == over and dict(m.slice) == where)


def rows(n=4000, gap=0.0, seed=0):
    rng = np.random.default_rng(seed)
    sex, region = rng.choice(["F", "M"], n), rng.choice(["N", "S"], n)
    y = rng.integers(0, 2, n)
    p = np.where(rng.random(n) < 0.7, y, 1 - y)
    p = np.where((sex == "F") & (rng.random(n) < gap), 0, p)
    return y, p, {"sex": sex, "region": region}


@pytest.mark.parametrize("gap", [0.0, 0.4])
def test_composites_see_a_planted_gap_and_not_its_clean_twin(gap):
    outcome = run(*rows(gap=gap))
    for name in ("equalized_odds.difference", "average_odds.difference", "conditional_use_accuracy.difference"):
        assert (find(outcome, f"fairness.{name}", over=("sex",)).interval.low > 0.02) == (gap > 0), name
    assert (find(outcome, "fairness.differential_fairness", over=("sex",)).interval.low > 0.1) == (gap > 0)
    assert (find(outcome, "fairness.equalized_odds.ratio", over=("sex",)).interval.high < 0.9) == (gap > 0)


def test_differential_fairness_is_the_worst_log_ratio_over_both_decisions():
    y, p, sensitive = rows(gap=0.3)
    found = find(run(y, p, sensitive), "fairness.differential_fairness", over=("sex",))
    f, m = (p[sensitive["sex"] == name].mean() for name in "FM")
    assert found.value == pytest.approx(max(abs(math.log(f / m)), abs(math.log((1 - f) / (1 - m)))))
    assert found.interval.low <= found.value <= found.interval.high


def test_differential_fairness_is_undefined_where_a_group_never_has_a_decision():
    y, p = np.array([0, 1] * 20), np.array([0, 1] * 10 + [0] * 20)
    found = find(run(y, p, {"g": np.repeat(["a", "b"], 20)}), "fairness.differential_fairness", over=("g",))
    assert found.value is None
    assert found.reason == "a group never has one of the decisions, so the log ratio is infinite"


def test_the_treatment_ratio_is_misses_for_each_false_alarm():
    y, p, sensitive = rows()
    outcome = run(y, p, sensitive)
    mask = sensitive["sex"] == "F"
    found = find(outcome, "fairness.treatment_ratio", sex="F")
    assert found.value == pytest.approx((mask & (y > p)).sum() / (mask & (y < p)).sum())
    share = find(outcome, "fairness.false_negative_share", sex="F").interval
    assert found.interval.low == pytest.approx(share.low / (1 - share.low))
    never = find(
        run(np.array([0, 1, 1] * 9), np.zeros(27, int), {"g": np.array(["a"] * 27)}), "fairness.treatment_ratio"
    )
    assert (never.value, never.reason) == (None, "there are no false positives to divide by")


def test_conditional_parity_sees_through_simpsons_paradox():
    """Women apply where few are taken: unequal over all, equal within each department."""
    sex = np.repeat(["F", "M"], 1000)
    unit = np.r_[np.repeat(["hard", "easy"], [800, 200]), np.repeat(["hard", "easy"], [200, 800])]
    p = np.zeros(2000, dtype=int)
    for name in "FM":
        for department, rate in (("hard", 0.2), ("easy", 0.7)):
            at = np.flatnonzero((sex == name) & (unit == department))
            p[at[: int(rate * len(at))]] = 1
    outcome = run(np.arange(2000) % 2, p, {"sex": sex, "unit": unit}, given="unit")
    assert find(outcome, "fairness.selection_rate.difference", over=("sex",)).value == pytest.approx(0.3)
    for department in ("hard", "easy"):
        within_it = find(outcome, "fairness.selection_rate.difference", over=("sex",), unit=department)
        assert within_it.value == pytest.approx(0.0)
        assert within_it.n == 1000
    p[(sex == "F") & (unit == "easy")] = 0
    planted = run(np.arange(2000) % 2, p, {"sex": sex, "unit": unit}, given="unit")
    assert find(planted, "fairness.selection_rate.difference", over=("sex",), unit="easy").interval.low > 0.5


def test_a_column_that_is_not_there_cannot_be_conditioned_on():
    outcome = run(*rows(200), given="age")
    assert outcome.status == "failed"
    assert "AK455 given = 'age' cannot be conditioned on" in outcome.reason


def test_cuts_of_a_table_are_the_counts_of_those_rows():
    y, p, sensitive = rows(300)
    keys = {"weights": np.random.default_rng(0).random(300) + 0.1, "clusters": np.arange(300) // 3}
    whole = count_groups(y, p, sensitive, intersections=2, **keys).finest()
    for where, part in within(whole, "region"):
        mask = sensitive["region"] == where["region"]
        expected = count_groups(
            y[mask], p[mask], {"sex": sensitive["sex"][mask]}, **{k: v[mask] for k, v in keys.items()}
        )[1]
        assert (part.over, part.groups, part.n) == (expected.over, expected.groups, expected.n)
        assert np.allclose(part.moment, expected.moment)
