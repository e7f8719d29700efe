from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy import stats

from auditkit.analyzers.fairness.groups import ANALYZER
from auditkit.core.evidence import Counts
from auditkit.core.plan import Step
from auditkit.core.subject import Dataset, Subject
from auditkit.execution.runner import run_step
from auditkit.testing import check_analyzer


class Fixed:
    """A model whose input is its decision."""

    score_space = None
    capabilities = frozenset({"labels"})
    kind = "fixed"
    fingerprint = None

    def __init__(self, classes):
        self.classes = classes

    def predict(self, inputs):
        return inputs[:, 0].astype(np.int64) if self.classes else inputs[:, 0]

    def predict_scores(self, inputs):
        raise NotImplementedError


def subject(task="binary", n=600, seed=0, gap=0.0, **data):
    rng = np.random.default_rng(seed)
    sex = rng.choice(["F", "M"], n)
    race = rng.choice(["a", "b", "(missing)"], n, p=[0.8, 0.17, 0.03])
    if task == "regression":
        y = rng.normal(size=n)
        decided = y + rng.normal(size=n) - gap * (sex == "F")
        classes, positive = (), None
    else:
        k = 2 if task == "binary" else 3
        y = rng.integers(0, k, n)
        decided = np.where(rng.random(n) < 0.7, y, rng.integers(0, k, n))
        decided = np.where((sex == "F") & (rng.random(n) < gap), 0, decided)
        classes, positive = ("no", "yes", "more")[:k], 1 if k == 2 else None
    test = Dataset(inputs=decided[:, None].astype(float), y=y, sensitive={"sex": sex, "race": race}, **data)
    return Subject(name="s", model=Fixed(classes), test=test, task=task, positive=positive)


def run(of, **params):
    return run_step(of, Step(name=ANALYZER.name, params=ANALYZER.params(**params), analyzer=ANALYZER))


def find(outcome, name, over=(), **where):
    return next(m for m in outcome.measurements if m.name == name and m.over == over and dict(m.slice) == where)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_it_keeps_the_contract(task):
    outcome = check_analyzer(ANALYZER, subject(task, n=300), params={"cross_check_rows": 200})
    assert {m.name for m in outcome.measurements} <= set(ANALYZER.measures)


def test_rates_of_every_group_and_crossing_are_those_of_the_rows():
    s = subject()
    outcome = run(s)
    y, p = s.test.y, s.test.inputs[:, 0]
    sex, race = s.test.sensitive["sex"], s.test.sensitive["race"]
    for where in ({}, {"sex": "F"}, {"race": "(missing)"}, {"sex": "M", "race": "b"}):
        mask = np.ones(len(y), dtype=bool)
        for column, name in where.items():
            mask &= {"sex": sex, "race": race}[column] == name
        assert find(outcome, "fairness.selection_rate", **where).value == pytest.approx(p[mask].mean())
        tpr = find(outcome, "fairness.true_positive_rate", **where)
        assert tpr.value == pytest.approx(p[mask & (y == 1)].mean())
        assert tpr.n == (mask & (y == 1)).sum()
    overs = [a.over for a in outcome.artifacts if isinstance(a, Counts)]
    assert overs == [(), ("sex",), ("race",), ("sex", "race")]


def test_a_planted_gap_is_found_and_the_clean_twin_stays_quiet():
    planted = find(run(subject(gap=0.5, n=2000)), "fairness.selection_rate.difference", over=("sex",))
    clean = find(run(subject(n=2000)), "fairness.selection_rate.difference", over=("sex",))
    assert planted.interval.low > 0.15
    assert clean.interval.low == 0.0


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@pytest.mark.parametrize("weighted", [False, True])
def test_fairlearn_agrees_to_rounding(task, weighted):
    weights = np.random.default_rng(1).random(600) + 0.1 if weighted else None
    outcome = run(subject(task, weights=weights))
    check = find(outcome, "fairness.crosscheck_max_deviation")
    assert check.value < 1e-12
    assert check.params["numbers"] >= 40
    assert not any(m.unreliable for m in outcome.measurements)


def test_disagreement_with_fairlearn_makes_every_rate_unreliable(monkeypatch):
    from auditkit.methods.fairness import fairlearn_engine

    real = fairlearn_engine.group_rates

    def shifted(counts, metric):
        import dataclasses

        rates = real(counts, metric)
        return dataclasses.replace(rates, value=rates.value + 1e-6)

    monkeypatch.setattr(fairlearn_engine, "group_rates", shifted)
    outcome = run(subject())
    assert find(outcome, "fairness.crosscheck_max_deviation").value == pytest.approx(1e-6)
    assert all("fairlearn disagrees by 1e-06" in m.unreliable for m in outcome.measurements)


def test_without_fairlearn_the_note_says_that_nothing_was_cross_checked(monkeypatch):
    monkeypatch.setitem(sys.modules, "auditkit.methods.fairness.fairlearn_engine", None)
    outcome = run(subject())
    assert outcome.status == "measured"
    assert any("fairlearn is not installed" in note for note in outcome.notes)
    assert not [m for m in outcome.measurements if m.name == "fairness.crosscheck_max_deviation"]


def test_a_crash_inside_fairlearn_is_on_record_and_no_check_is_claimed(monkeypatch):
    from auditkit.methods.fairness import fairlearn_engine

    def broken(*args, **kwargs):
        raise RuntimeError("boom")

    monkeypatch.setattr(fairlearn_engine, "MetricFrame", broken)
    check = find(run(subject()), "fairness.crosscheck_max_deviation")
    assert check.value is None
    assert "fairlearn could not be run on these rows: RuntimeError: boom" in check.reason


def test_regression_means_and_gaps_equal_scipy():
    s = subject("regression", gap=0.6)
    outcome = run(s)
    error = s.test.inputs[:, 0] - s.test.y
    female = error[s.test.sensitive["sex"] == "F"]
    measured = find(outcome, "fairness.mean_error", sex="F")
    low, high = stats.t.interval(0.95, len(female) - 1, loc=female.mean(), scale=stats.sem(female))
    assert (measured.value, measured.interval.low, measured.interval.high) == pytest.approx((female.mean(), low, high))
    gap = find(outcome, "fairness.mean_error.difference", over=("sex",))
    male = error[s.test.sensitive["sex"] == "M"]
    welch = stats.ttest_ind(male, female, equal_var=False).confidence_interval(0.95)
    assert gap.value == pytest.approx(male.mean() - female.mean())
    assert gap.interval.high == pytest.approx(welch.high, abs=0.005)
    assert gap.interval.low > 0.25
    assert find(run(subject("regression")), "fairness.mean_error.difference", over=("sex",)).interval.low == 0.0


def test_undefined_rates_and_gaps_carry_their_reason():
    s = subject(n=60)
    y = np.where(s.test.sensitive["sex"] == "F", 0, s.test.y)
    s = Subject(
        name="s",
        model=s.model,
        test=Dataset(inputs=s.test.inputs, y=y, sensitive={"sex": s.test.sensitive["sex"]}),
        task="binary",
        positive=1,
    )
    outcome = run(s)
    rate = find(outcome, "fairness.true_positive_rate", sex="F")
    assert rate.value is None
    assert "there are no positive labels" in rate.reason
    gap = find(outcome, "fairness.equalized_odds.difference", over=("sex",))
    assert gap.value is None
    assert gap.reason == "undefined in 1 of 2 groups"


def test_too_many_groups_give_counts_only_and_say_so():
    s = subject(n=300)
    s.test.sensitive["zip"] = np.array([f"z{i % 150}" for i in range(300)])
    outcome = run(s, max_groups=100, intersections=1)
    assert any(isinstance(a, Counts) and a.over == ("zip",) for a in outcome.artifacts)
    assert "zip: 150 groups, more than max_groups = 100; counts only." in outcome.notes
    assert not [m for m in outcome.measurements if "zip" in m.slice or "zip" in m.over]


def test_empty_crossings_are_told():
    s = subject(n=200)
    s.test.sensitive["race"] = np.where(s.test.sensitive["sex"] == "F", "a", "b")
    assert "sex x race: 2 of 4 combinations have no rows." in run(s).notes


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"unknown metrics \['tpr'\]"):
        ANALYZER.params(metrics=("tpr",))


def test_small_groups_are_called_insufficient_shown_and_never_dropped():
    s = subject(n=300)
    outcome = run(s)
    told = next(note for note in outcome.notes if note.startswith("race: insufficient, with fewer than 30 rows"))
    assert "(missing)" in told
    rows = int((s.test.sensitive["race"] == "(missing)").sum())
    shown = next(
        m
        for m in outcome.measurements
        if m.name == "fairness.selection_rate" and dict(m.slice) == {"race": "(missing)"}
    )
    assert shown.n == rows < 30
    assert str(rows) not in told.split(": ", 2)[2].split(".")[0]
    assert shown.interval.high - shown.interval.low > 0.15
    assert not any("insufficient" in note for note in run(s, sufficient=1).notes)
