"""``explain.permuted_labels``: what does not depend on the labels is flagged, its honest twin is not."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeClassifier

import subject_zoo
from auditkit.analyzers.explain import permuted_labels
from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject
from auditkit.subjects.recipes import SklearnRecipe

SMALL = {"max_rows": 16, "max_background": 10, "lime_samples": 300}
NAME = "explain.randomisation_similarity"


class Fixed:
    """Says the same whatever it was fitted to: a rule that somebody wrote, dressed as a trained model."""

    classes_ = np.array([0, 1])

    def get_params(self, deep=True):
        return {}

    def set_params(self, **params):
        return self

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        p = 1 / (1 + np.exp(-np.asarray(x) @ np.array([1.0, -2.0, 0.5, 1.5, 0.0, -0.7])))
        return np.column_stack([1 - p, p])

    def predict(self, x):
        return (self.predict_proba(x)[:, 1] > 0.5).astype(int)


def data(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6))
    # Spreads that differ would keep absolute amounts in order whatever is learned.
    x[:, 0] *= 5.0
    y = (0.2 * x[:, 0] - 2.0 * x[:, 1] + 1.5 * x[:, 3] + rng.normal(0, 0.5, n) > 0).astype(int)
    return x, y


def subject_of(model, task="binary"):
    train, test = data(300, 0), data(80, 1)
    y_train, y_test = train[1], test[1]
    if task == "regression":
        y_train, y_test = train[0] @ np.arange(6.0), test[0] @ np.arange(6.0)
    fitted = model.fit(train[0], y_train)
    recipe = SklearnRecipe(estimator=model).for_labels((0, 1) if task == "binary" else ())
    return make_subject(fitted, test[0], y_test, train=(train[0], y_train), recipe=recipe, task=task)


def outcome_of(subject, **settings):
    plan = make_plan(["explain.permuted_labels"], {"explain.permuted_labels": {**SMALL, **settings}})
    return run_step(subject, plan.steps[0], seed=1)


def by_method(outcome, name=NAME):
    return {m.params["method"]: m for m in outcome.measurements if m.name == name}


def test_a_model_that_ignores_its_labels_is_flagged():
    outcome = outcome_of(subject_of(Fixed()))
    found = by_method(outcome)
    assert found["shap"].value == pytest.approx(1.0, abs=1e-9)
    assert found["lime"].value == pytest.approx(1.0, abs=1e-9)
    assert found["shap"].n == 5
    assert found["shap"].n_of == "random models"
    assert sum("survive training on permuted labels" in note for note in outcome.notes) == 2


@pytest.mark.parametrize("model", [HistGradientBoostingClassifier(max_iter=30), Ridge()], ids=["boosting", "line"])
def test_the_honest_twin_is_not(model):
    outcome = outcome_of(subject_of(model, task="regression" if isinstance(model, Ridge) else "binary"))
    assert outcome.status == "measured", outcome.reason
    for method, measured in by_method(outcome).items():
        assert measured.value < 0.5, method
        assert measured.interval.low < 0.3
        assert by_method(outcome, "explain.retraining_similarity")[method].value > 0.7
    assert not any("survive" in note for note in outcome.notes)


def test_an_explanation_that_ignores_the_model_is_flagged_beside_an_honest_one(monkeypatch):
    def spread(table, matrix, targets, samples):
        return matrix - matrix.mean(axis=0)

    monkeypatch.setattr(permuted_labels.PartedTable, "lime", spread)
    outcome = outcome_of(subject_of(HistGradientBoostingClassifier(max_iter=30)))
    assert by_method(outcome)["lime"].value == pytest.approx(1.0)
    assert by_method(outcome)["shap"].value < 0.5
    (flag,) = [note for note in outcome.notes if "survive" in note]
    assert flag.startswith("The LIME explanations")


def test_numbers_are_those_of_scipy_and_of_models_fitted_by_hand():
    """A line's Shapley values are slope times distance from the background; models are fitted without auditkit."""
    subject = subject_of(Ridge(), task="regression")
    labels = []

    class Spy(SklearnRecipe):
        def fit(self, inputs, y, seed, weights=None):
            labels.append((np.asarray(inputs), y))
            return super().fit(inputs, y, seed, weights)

    spied = dataclasses.replace(subject, recipe=Spy(estimator=Ridge()))
    outcome = outcome_of(spied, methods=["shap"], max_rows=80, max_background=300, draws=3, controls=1)
    train, test = subject.train.inputs, subject.test.inputs
    own = (test - train.mean(axis=0)) * Ridge().fit(train, subject.train.y).coef_
    by_hand = []
    for inputs, y in labels:
        theirs = (test - train.mean(axis=0)) * Ridge().fit(inputs, y).coef_
        by_hand.append(np.mean([spearmanr(a, b).statistic for a, b in zip(own, theirs, strict=True)]))
    assert all(sorted(y) == sorted(subject.train.y) and (y != subject.train.y).any() for _, y in labels[:3])
    np.testing.assert_array_equal(labels[3][1], subject.train.y)
    table = outcome.artifacts[0]
    np.testing.assert_allclose([row[3] for row in table.rows], by_hand, atol=1e-9)
    assert by_method(outcome)["shap"].value == pytest.approx(np.mean(by_hand[:3]), abs=1e-9)
    fits = [Ridge().fit(inputs, y).score(inputs, y) for inputs, y in labels]
    np.testing.assert_allclose([row[1] for row in table.rows], fits, atol=1e-9)


def test_models_that_learn_nothing_from_permuted_labels_are_no_proof():
    stump = DecisionTreeClassifier(min_impurity_decrease=0.05)
    outcome = outcome_of(subject_of(stump), methods=["shap"])
    measured = by_method(outcome)["shap"]
    assert measured.value is None
    assert "uses no feature" in measured.reason
    assert by_method(outcome, "explain.retraining_similarity")["shap"].value > 0.9


def test_several_classes_and_tables_with_categories():
    rng = np.random.default_rng(4)
    table = pd.DataFrame({name: rng.normal(size=400) for name in "abcd"} | {"home": rng.choice(["own", "rent"], 400)})
    y = np.digitize(table["a"] - table["b"] + (table["home"] == "own"), [-0.5, 0.8])
    table["home"] = table["home"].astype("category")
    model = HistGradientBoostingClassifier(max_iter=8, categorical_features="from_dtype").fit(table[:300], y[:300])
    recipe = SklearnRecipe(estimator=model).for_labels((0, 1, 2))
    subject = make_subject(
        model, table[300:].reset_index(drop=True), y[300:], train=(table[:300], y[:300]), recipe=recipe
    )
    outcome = outcome_of(subject, draws=2, controls=0, max_rows=8, max_train_rows=250)
    assert outcome.status == "measured", outcome.reason
    assert all(measured.value < 0.7 for measured in by_method(outcome).values())
    assert any("250 of the 300 training rows" in note for note in outcome.notes)


def test_without_a_recipe_it_says_how_to_give_one():
    outcome = outcome_of(subject_zoo.pipeline_subject())
    assert outcome.status == "not_applicable"
    assert "pass recipe=" in outcome.reason
    assert "[training]" in outcome.reason


def test_three_features_are_too_few_for_ranks():
    x, y = data(100, 0)
    model = DecisionTreeClassifier(max_depth=3, random_state=0).fit(x[:, :3], y)
    subject = make_subject(
        model, x[:, :3], y, train=(x[:, :3], y), recipe=SklearnRecipe(estimator=model).for_labels((0, 1))
    )
    outcome = outcome_of(subject)
    assert outcome.status == "not_applicable"
    assert "ranks of 3 features" in outcome.reason


@pytest.mark.parametrize(("share", "methods"), [(0.05, {"shap", "lime"}), (0.4, {"shap"})])
def test_lime_is_left_out_only_where_most_rows_hold_a_missing_value(share, methods):
    x, y = data(200, 0)
    x[np.random.default_rng(0).random(x.shape) < share] = np.nan
    model = HistGradientBoostingClassifier(max_iter=5).fit(x, y)
    subject = make_subject(model, x, y, train=(x, y), recipe=SklearnRecipe(estimator=model).for_labels((0, 1)))
    outcome = outcome_of(subject, draws=2, controls=0, max_rows=10)
    assert set(by_method(outcome)) == methods
    assert any("LIME is left out" in note for note in outcome.notes) == (methods == {"shap"})
    assert "10 test rows" in outcome.artifacts[0].note


def test_lime_alone_where_it_cannot_explain_is_not_applicable():
    x, y = data(200, 0)
    x[np.random.default_rng(0).random(x.shape) < 0.4] = np.nan
    model = HistGradientBoostingClassifier(max_iter=5).fit(x, y)
    subject = make_subject(model, x, y, train=(x, y), recipe=SklearnRecipe(estimator=model).for_labels((0, 1)))
    outcome = outcome_of(subject, draws=2, controls=0, max_rows=10, methods=("lime",))
    assert outcome.status == "not_applicable"
    assert "LIME is left out" in outcome.reason
