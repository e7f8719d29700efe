"""Sampled Shapley values of probabilities, steadied by those of the log-odds, against enumeration."""

import dataclasses

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from auditkit.methods.explain.control import Control
from auditkit.methods.explain.game import make_game
from auditkit.methods.explain.shap_engine import explain_scores
from auditkit.methods.explain.shapley import explain_game

FEATURES = 9


def table():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(600, FEATURES))
    z = x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] - 1.0
    return x, (rng.random(600) < 1.0 / (1.0 + np.exp(-z))).astype(int)


X, Y = table()


def game_of(model, rows=8, background=30):
    return make_game(lambda m: model.predict_proba(m)[:, [1]], X[:rows], X[300 : 300 + background])


def log_odds(p):
    return np.log(p) - np.log1p(-p)


def enumerated(game, of=lambda p: p):
    """Shapley values by the definition: every set, every background row, weights from factorials."""
    from itertools import combinations
    from math import factorial

    n, f = game.rows.shape
    worth = {}
    for size in range(f + 1):
        for members in combinations(range(f), size):
            mixed = np.repeat(game.background[None], n, axis=0)
            for j in members:
                mixed[:, :, j] = game.rows[:, None, j]
            out = of(np.asarray(game.predict(mixed.reshape(-1, f))))
            worth[frozenset(members)] = out.reshape(n, len(game.background)).mean(axis=1)
    values = np.zeros((n, f))
    for members, v in worth.items():
        for j in set(range(f)) - members:
            weight = factorial(len(members)) * factorial(f - len(members) - 1) / factorial(f)
            values[:, j] += weight * (worth[members | {j}] - v)
    return values[:, :, None]


@pytest.fixture(scope="module")
def boosted():
    model = GradientBoostingClassifier(n_estimators=40, random_state=0).fit(X, Y)
    game = game_of(model)
    return game, enumerated(game), Control(of=log_odds, values=enumerated(game, log_odds))


@pytest.mark.parametrize(
    ("estimator", "budget"),
    [("permutation", 100), ("permutation", 600), ("leverage", 1200), ("linear_adjusted", 1500)],
)
def test_a_control_makes_estimates_better_and_leaves_them_unbiased(boosted, estimator, budget):
    game, exact, control = boosted
    errors = {}
    for name, own in (("plain", None), ("steadied", control)):
        found = [explain_game(game, estimator=estimator, budget=budget, seed=s, control=own) for s in range(25)]
        misses = np.stack([each.values - exact for each in found])
        errors[name] = float(np.sqrt((misses**2).mean()))
        for each in found:
            np.testing.assert_allclose(each.values.sum(axis=1), exact.sum(axis=1), atol=1e-12)
        if own is not None:
            told = np.sqrt(np.mean([each.std_error**2 for each in found], axis=0))
            scale = misses.std(axis=0) / np.sqrt(25)
            if estimator != "leverage":  # a regression on few coalitions is a little off by itself
                assert np.abs(misses.mean(axis=0) / np.maximum(scale, 1e-12)).max() < 5.0
            assert np.sqrt((misses**2).mean()) < 1.3 * np.sqrt((told**2).mean())
    assert errors["steadied"] < 0.75 * errors["plain"]


def test_wrong_values_of_the_control_are_caught_by_the_sum(boosted):
    game, _, control = boosted
    wrong = control.values.copy()
    wrong[3, 2] += 0.5
    planted = explain_game(
        game, budget=300, estimator="permutation", control=dataclasses.replace(control, values=wrong)
    )
    clean = explain_game(game, budget=300, estimator="permutation", control=control)
    assert (planted.status, clean.status) == ("failed", "estimated")


def test_a_probability_in_single_precision_is_steadied_and_sums_to_the_model():
    model = GradientBoostingClassifier(n_estimators=20, random_state=0).fit(X, Y)

    def single(m):
        return model.predict_proba(m)[:, [1]].astype(np.float32)

    game = make_game(single, X[:8], X[300:330])
    found = explain_scores(game, model=model, space="probability", column=1, budget=300)
    plain = explain_scores(game, model=model, space="probability", column=1, budget=300, engine="shapley")
    assert found.params["control"] == "log-odds, shapley.trees"
    assert "structure: refused" in found.params["tried"]
    exact = enumerated(game)
    assert np.abs(found.values - exact).mean() < 0.8 * np.abs(plain.values - exact).mean()
    assert found.diagnostics["additivity_residual"] < 1e-12
    assert found.status == "estimated"


def test_a_probability_that_is_another_function_of_the_trees_has_no_control():
    """Its log-odds bend by far more than rounding."""
    model = GradientBoostingClassifier(n_estimators=20, random_state=0).fit(X, Y)
    game = make_game(lambda m: model.predict_proba(m)[:, [1]] ** 1.1, X[:3], X[300:330])
    found = explain_scores(game, model=model, space="probability", column=1, budget=300)
    assert "control" not in found.params


def test_nothing_steadies_what_is_enumerated():
    model = GradientBoostingClassifier(n_estimators=20, random_state=0).fit(X, Y)
    found = explain_scores(game_of(model, rows=2), model=model, space="probability", column=1, budget=100_000)
    assert found.status == "exact"
    assert "control" not in found.params


def test_a_control_that_is_not_finite_changes_nothing(boosted):
    game, _, control = boosted
    endless = Control(of=lambda p: np.full_like(p, np.inf), values=control.values)
    with_it = explain_game(game, budget=300, estimator="permutation", control=endless)
    without = explain_game(game, budget=300, estimator="permutation")
    np.testing.assert_array_equal(with_it.values, without.values)
    np.testing.assert_array_equal(with_it.std_error, without.std_error)


@pytest.mark.parametrize(
    ("model", "space", "engine", "control"),
    [
        (HistGradientBoostingClassifier(max_iter=20), "probability", "auto", True),
        (GradientBoostingClassifier(n_estimators=20), "probability", "auto", True),
        (make_pipeline(StandardScaler(), GradientBoostingClassifier(n_estimators=20)), "probability", "auto", True),
        (LogisticRegression(), "probability", "auto", False),  # exact
        (LogisticRegression(), "probability", "shapley", False),
        (GaussianNB(), "probability", "auto", False),
        (RandomForestClassifier(n_estimators=10, random_state=0), "probability", "auto", False),
        (LogisticRegression(), "logit", "auto", False),
    ],
)
def test_probabilities_of_sums_are_steadied_and_nothing_else(model, space, engine, control):
    model.fit(X, Y)
    game = game_of(model, rows=3)
    if space == "logit":
        game = dataclasses.replace(game, predict=lambda m: log_odds(model.predict_proba(m)[:, [1]]))
    found = explain_scores(game, model=model, space=space, column=1, budget=300, engine=engine)
    assert ("control" in found.params) == control
    if control:
        plain = explain_scores(game, model=model, space=space, column=1, budget=300, engine="shapley")
        exact = enumerated(game)
        assert np.abs(found.values - exact).mean() < np.abs(plain.values - exact).mean()
        assert found.std_error.mean() < 0.8 * plain.std_error.mean()
