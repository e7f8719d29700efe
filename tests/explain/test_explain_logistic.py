"""Exact Shapley values of a logistic regression's probability, against enumeration of the model itself."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from auditkit.methods.explain import shapley_values
from auditkit.methods.explain.game import make_game
from auditkit.methods.explain.logistic import Logistic, _waves
from auditkit.methods.explain.shap_engine import explain_scores
from auditkit.methods.explain.structure_engine import explain_structure
from auditkit.methods.explain.tree_table import UnreadError


def table(features=7, scale=1.0):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, features)) * np.linspace(0.5, 2.0, features)
    return x, (scale * (x[:, 0] - x[:, 1] + 0.3 * rng.normal(size=300)) > 0).astype(int)


def of_class(model, column):
    return lambda rows: model.predict_proba(rows)[:, [column]]


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        LogisticRegression(C=1e5, fit_intercept=False),
        make_pipeline(StandardScaler(), LogisticRegression(C=30.0)),
        SGDClassifier(loss="log_loss", random_state=0),
    ],
    ids=["plain", "saturated, no intercept", "scaled", "gradient descent"],
)
@pytest.mark.parametrize("column", [0, 1])
def test_values_are_those_of_enumeration(model, column):
    x, y = table()
    ask = of_class(model.fit(x, y), column)
    rows, background = x[:6], x[100:125]
    found = explain_scores(
        make_game(ask, rows, background), model=model, space="probability", column=column, budget=100
    )
    truth = shapley_values(ask, rows, background, estimator="exact", budget=1)
    assert (found.status, found.method, found.std_error) == ("exact", "shapley.logistic", None)
    assert "control" not in found.params
    np.testing.assert_allclose(found.values, truth.values, atol=1e-9)
    np.testing.assert_allclose(found.base_values[0], truth.base_values[0], atol=1e-9)


@pytest.mark.parametrize("players", [1, 2, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
def test_every_number_of_players_and_any_size_of_log_odds(players, scale):
    rng = np.random.default_rng(players)
    line = Logistic(coefficients=scale * rng.normal(size=(1, players)), intercept=0.4 * scale)
    rows, background = rng.normal(size=(3, players)), rng.normal(size=(9, players))
    background[0] = rows[0]  # a pair without any difference
    values = line.shapley(rows, background, np.arange(players), players)

    def plain(m):
        return expit(m @ line.coefficients[0] + line.intercept)

    truth = shapley_values(plain, rows, background, estimator="exact", budget=1)
    np.testing.assert_allclose(values, truth.values, atol=1e-10)
    np.testing.assert_allclose(line.evaluate(background)[:, 0], plain(background), atol=1e-15)


def test_many_players_sum_to_what_is_explained_and_agree_with_walks():
    rng = np.random.default_rng(5)
    line = Logistic(coefficients=0.5 * rng.normal(size=(1, 61)), intercept=-0.2)
    rows, background = rng.normal(size=(2, 61)), rng.normal(size=(3, 61))
    values = line.shapley(rows, background, np.arange(61), 61)
    np.testing.assert_allclose(
        values.sum(axis=1), line.evaluate(rows) - line.evaluate(background).mean(axis=0), atol=1e-10
    )
    walked = shapley_values(line.evaluate, rows, background, estimator="permutation", budget=60_000)
    assert np.abs(values - walked.values).max() < 6 * walked.std_error.max()
    assert walked.std_error.max() < 0.1 * np.abs(values).max()


@pytest.mark.parametrize("reach", [0.0, 3.0, 250.0])
def test_the_waves_sum_to_the_sigmoid(reach):
    frequency, amplitude = _waves(reach)
    s = np.linspace(-reach, reach, 501)
    np.testing.assert_allclose(0.5 + np.sin(s[:, None] * frequency) @ amplitude, expit(s), atol=1e-10)


def test_columns_of_a_category_are_one_player():
    x, y = table()
    frame = pd.DataFrame(x[:, :4], columns=list("abcd")).assign(e=np.array(["u", "v", "w"])[np.arange(300) % 3])
    y = (y + (frame["e"] == "v")).clip(upper=1).to_numpy()
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["e"]), remainder="passthrough"), LogisticRegression(C=50.0)
    ).fit(frame, y)
    rows, background = frame[:4].reset_index(drop=True), frame[40:55].reset_index(drop=True)
    found = explain_structure(make_game(of_class(model, 1), rows, background), model)
    truth = shapley_values(of_class(model, 1), rows, background, estimator="exact", budget=1)
    assert found.method == "shapley.logistic"
    np.testing.assert_allclose(found.values, truth.values, atol=1e-9)


class Moved(LogisticRegression):
    """A logistic regression whose probability is another function of its log-odds."""

    def predict_proba(self, X):
        p = expit(self.decision_function(X) + 0.001 * np.asarray(X)[:, 0] ** 2)
        return np.column_stack([1.0 - p, p])


def test_a_probability_that_is_not_the_sigmoid_of_the_line_is_evaluated():
    x, y = table()
    model = Moved().fit(x, y)
    game = make_game(of_class(model, 1), x[:3], x[100:110])
    found = explain_scores(game, model=model, space="probability", column=1, budget=2000)
    assert found.method == "shapley.exact"
    assert "structure: refused (the output is not a sum over the linear" in found.params["tried"]
    truth = shapley_values(of_class(model, 1), x[:3], x[100:110], estimator="exact", budget=1)
    np.testing.assert_allclose(found.values, truth.values, atol=1e-12)


def test_what_would_take_too_long_is_sampled_and_says_so(monkeypatch):
    x, y = table(14)
    model = LogisticRegression().fit(x, y)
    game = make_game(of_class(model, 1), x[:3], x[100:150])
    monkeypatch.setattr("auditkit.methods.explain.logistic._MOST_CELLS", 1000)
    sampled = explain_scores(game, model=model, space="probability", column=1, budget=2000)
    monkeypatch.undo()
    exact = explain_scores(game, model=model, space="probability", column=1, budget=2000)
    assert (sampled.status, exact.status) == ("estimated", "exact")
    assert "exact values of so many probabilities would take too long" in sampled.params["tried"]
    assert sampled.params["control"] == "log-odds, shapley.linear"
    assert np.abs(sampled.values - exact.values).max() < 5 * sampled.std_error.max()


def test_log_odds_beyond_all_numbers_are_not_read():
    structure = Logistic(coefficients=np.array([[1e308, 2.0]]), intercept=0.0)
    rows, background = np.array([[10.0, 1.0]]), np.array([[0.0, 1.0], [2.0, 0.0]])
    with np.errstate(all="ignore"), pytest.raises(UnreadError, match="too long"):
        structure.shapley(rows, background, np.array([0, 1]), 2)


def test_thousands_of_columns_are_left_to_sampling_before_they_fill_the_memory():
    model = Logistic(coefficients=np.full((1, 2000), 0.01), intercept=0.0)
    one = np.ones((1, 2000))
    with pytest.raises(UnreadError, match="too long"):
        model.shapley(one, np.zeros((1, 2000)), np.arange(2000), 2000)
    few = Logistic(coefficients=np.full((1, 40), 0.01), intercept=0.0)
    values = few.shapley(one[:, :40], np.zeros((1, 40)), np.arange(40), 40)
    np.testing.assert_allclose(values[0, :, 0], (few.evaluate(one[:, :40])[0, 0] - 0.5) / 40)
