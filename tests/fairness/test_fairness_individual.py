from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from auditkit.analyzers.fairness.individual import ANALYZER
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.fairness.individual import benefits, consistency, inequality, similarity_space
from auditkit.stats.linearised import Design
from auditkit.subjects.build import make_predictions_subject, make_subject


def run(subject, **params):
    settings = ANALYZER.params(**{"resamples": 60, **params})
    return run_step(subject, Step(name=ANALYZER.name, params=settings, analyzer=ANALYZER))


def find(outcome, name, over=(), **where):
    return next(m for m in outcome.measurements if m.name == name and m.over == over and dict(m.slice) == where)


# Consistency.


def test_consistency_equals_a_loop_over_scikit_learns_neighbours():
    rng = np.random.default_rng(0)
    space, decided = rng.normal(size=(200, 3)), rng.integers(0, 2, 200).astype(float)
    queries, reference = np.arange(100), np.arange(100, 200)
    nearest = NearestNeighbors(n_neighbors=5).fit(space[reference]).kneighbors(space[queries], return_distance=False)
    means = decided[reference][nearest].mean(axis=1)
    expected = 1 - np.mean([abs(decided[query] - means[query]) for query in queries])
    found = consistency(space, decided, queries, reference)
    assert found.value == pytest.approx(expected)
    assert found.interval(0.95).low < expected < found.interval(0.95).high


def test_the_space_counts_a_category_as_one_standard_deviation():
    age, home = np.array([10.0, 30.0, np.nan, 20.0]), np.array([0.0, 1.0, 1.0, np.nan])
    space = similarity_space([(age, False), (home, True)], np.array([0, 1, 3]))
    spread = np.std([10, 30, 20])
    assert np.linalg.norm(space[0] - space[3]) == pytest.approx(np.hypot(10 / spread, 1.0))
    assert np.linalg.norm(space[1] - space[2]) == pytest.approx(np.hypot(10 / spread, 1.0))  # 30 against missing
    constant = similarity_space([(np.full(4, 7.0), False)], np.arange(4))
    assert np.isfinite(constant).all()


def test_few_rows_have_no_neighbours():
    found = consistency(np.zeros((4, 1)), np.zeros(4), np.array([0, 1]), np.array([2, 3]))
    assert found.value is None
    assert "5 neighbours need at least as many other rows" in found.reason


def table(n=1200, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"income": rng.normal(size=n), "age": rng.normal(size=n), "sex": rng.choice(["F", "M"], n)})
    y = (frame["income"] + 0.3 * rng.normal(size=n) > 0).astype(int).to_numpy()
    return frame, y


class Rule:
    """Decides by income, by chance, or by income and sex."""

    classes_ = np.array([0, 1])

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, frame):
        if self.kind == "chance":
            return (np.abs(np.sin(frame["income"].to_numpy() * 1e6)) > 0.5).astype(int)
        bar = np.where(frame["sex"].to_numpy() == "F", 0.5, 0.0) if self.kind == "sex" else 0.0
        return (frame["income"].to_numpy() > bar).astype(int)


def ruled(kind):
    frame, y = table()
    return make_subject(Rule(kind), frame, y, sensitive=["sex"], positive=1, task="binary")


def test_decisions_by_chance_are_inconsistent_and_those_by_merit_are_not():
    chance = find(run(ruled("chance")), "fairness.consistency")
    merit = find(run(ruled("merit")), "fairness.consistency")
    assert chance.interval.high < 0.65
    assert merit.interval.low > 0.85


# Counterfactual flips.


def test_a_model_that_uses_sex_flips_and_one_that_does_not_never_does():
    used, unused = ruled("sex"), ruled("merit")
    frame = used.test.inputs
    expected = ((frame["income"] > 0) & (frame["income"] <= 0.5)).mean()
    found = find(run(used), "fairness.counterfactual_flip_rate")
    assert found.value == pytest.approx(expected)
    assert found.interval.low > 0.1
    clean = find(run(unused), "fairness.counterfactual_flip_rate")
    assert clean.value == 0.0
    assert clean.interval.high < 0.01
    by = [find(run(used), "fairness.counterfactual_flip_rate", sex=name) for name in "FM"]
    assert sum(m.value * m.n for m in by) == pytest.approx(expected * len(frame))


def test_a_pipeline_on_categories_keeps_its_types():
    frame, y = table(400)
    frame["sex"] = frame["sex"].astype("category")
    y = np.where(frame["sex"] == "F", 0, y)
    encode = ColumnTransformer([("sex", OneHotEncoder(), ["sex"])], remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression()).fit(frame, y)
    found = find(run(make_subject(model, frame, y, sensitive=["sex"])), "fairness.counterfactual_flip_rate")
    swapped = frame.assign(sex=frame["sex"].map({"F": "M", "M": "F"}).astype(frame["sex"].dtype))
    assert found.value == pytest.approx((model.predict(swapped) != model.predict(frame)).mean())
    assert found.value > 0.2


def test_an_attribute_the_model_does_not_see_has_no_flip_rate():
    frame, y = table(200)
    model = LogisticRegression().fit(frame[["income", "age"]], y)
    outcome = run(make_subject(model, frame[["income", "age"]], y, sensitive={"sex": frame["sex"].to_numpy()}))
    found = find(outcome, "fairness.counterfactual_flip_rate")
    assert found.value is None
    assert found.reason == "sex is not an input of the model, so changing it changes nothing it sees"
    saved = run(make_predictions_subject(y, y, sensitive={"sex": frame["sex"].to_numpy()}))
    assert "there are no model inputs here" in find(saved, "fairness.counterfactual_flip_rate").reason
    assert any("Consistency is not measured" in note for note in saved.notes)


# Generalized entropy.


def drawn(n, seed, gap):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 3, n)
    y = rng.random(n) < 0.5
    decided = np.where(rng.random(n) < 0.8, y, ~y)
    decided = np.where((groups == 0) & (rng.random(n) < gap), False, decided)
    return benefits(y, decided), groups


def test_inequality_is_speichers_formula_and_splits_exactly():
    b, groups = drawn(500, 0, 0.3)
    found = inequality(b, groups, np.random.default_rng(0))
    mu = b.mean()
    assert found.total.value == pytest.approx(np.mean((b / mu) ** 2 - 1) / 2)
    means = np.array([b[groups == g].mean() for g in range(3)])[groups]
    assert found.between.value == pytest.approx(np.mean((means / mu) ** 2 - 1) / 2)
    within = sum(
        (groups == g).mean() * (b[groups == g].mean() / mu) ** 2
        * np.mean((b[groups == g] / b[groups == g].mean()) ** 2 - 1) / 2
        for g in range(3)
    )  # fmt: skip
    assert found.within.value == pytest.approx(within)


def test_weights_count_as_repeated_rows():
    b, groups = drawn(200, 1, 0.3)
    times = np.random.default_rng(2).integers(1, 4, 200)
    one = inequality(b, groups, np.random.default_rng(0), design=Design(times.astype(float), None))
    two = inequality(np.repeat(b, times), np.repeat(groups, times), np.random.default_rng(0))
    for part in ("total", "within", "between"):
        assert getattr(one, part).value == pytest.approx(getattr(two, part).value)


@pytest.mark.parametrize("gap", [0.0, 0.3])
def test_the_intervals_of_inequality_cover_the_truth(gap):
    truth = inequality(*drawn(400_000, 99, gap), np.random.default_rng(0), resamples=20)
    missed, draws = dict.fromkeys(("total", "within", "between"), 0), 120
    for seed in range(draws):
        found = inequality(*drawn(400, seed, gap), np.random.default_rng(seed), resamples=60)
        for part in missed:
            interval = getattr(found, part).interval(0.95)
            missed[part] += not interval.low <= getattr(truth, part).value <= interval.high
    assert max(missed.values()) <= draws * 0.05 + 3 * (draws * 0.05 * 0.95) ** 0.5, missed


def test_inequality_between_groups_is_seen_when_planted_and_not_in_the_clean_twin():
    planted = inequality(*drawn(3000, 0, 0.5), np.random.default_rng(0)).between.interval(0.95)
    clean = inequality(*drawn(3000, 0, 0.0), np.random.default_rng(0)).between.interval(0.95)
    assert planted.low > 0.003
    assert clean.low == 0.0


def test_without_any_benefit_inequality_is_undefined():
    y, nothing = np.ones(10, dtype=bool), np.zeros(10, dtype=bool)
    found = inequality(benefits(y, nothing), np.zeros(10, dtype=int), np.random.default_rng(0))
    assert (found.total.value, found.between.value) == (None, None)
    assert found.total.reason == "the mean benefit is 0, so inequality is undefined"


def test_a_perfect_model_has_no_inequality_and_says_that_it_has_no_interval():
    y = np.array([0, 1] * 50)
    found = find(run(make_predictions_subject(y, y, sensitive={"g": np.repeat(["a", "b"], 50)})),
                 "fairness.generalized_entropy")  # fmt: skip
    assert (found.value, found.interval, found.reason) == (0.0, None, "rows that do not vary give no interval")
