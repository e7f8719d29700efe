"""Shap where it is right, direct evaluation where it is not; both against the user's own model."""

import random
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, make_classification, make_regression
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from auditkit.core.errors import AuditkitError
from auditkit.methods.explain.game import make_game
from auditkit.methods.explain.shap_engine import explain_scores
from auditkit.methods.explain.shapley import shapley_values
from auditkit.methods.explain.tree_cells import cell_centres

F = 6


@pytest.fixture(scope="module")
def table():
    return make_classification(400, F, n_informative=4, n_redundant=0, random_state=3)


def proba(model, column=1):
    return lambda matrix: model.predict_proba(matrix)[:, [column]]


def game_of(predict, x):
    return make_game(predict, x[:8], x[200:225], [(j,) for j in range(x.shape[1])])


def exact(predict, x):
    return shapley_values(predict, x[:8], x[200:225], estimator="exact", budget=1).values


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(15, max_depth=5, random_state=0),
        ExtraTreesClassifier(15, max_depth=5, random_state=0),
        DecisionTreeClassifier(max_depth=5, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_tree_shap_equals_enumeration_on_probabilities(model, table):
    x, y = table
    model.fit(x, y)
    result = explain_scores(
        game_of(proba(model), x), model=model, space="probability", column=1, budget=512, engine="shap"
    )
    assert result.params["engine"] == "shap.TreeExplainer"
    assert result.status == "exact"
    np.testing.assert_allclose(result.values, exact(proba(model), x), atol=1e-6)


def log_odds(model, sign=1.0):
    return lambda matrix: sign * model.decision_function(matrix)[:, None]


@pytest.mark.parametrize(("column", "sign"), [(1, 1.0), (0, -1.0)])
def test_boosted_trees_in_log_odds_for_either_class(table, column, sign):
    x, y = table
    model = GradientBoostingClassifier(n_estimators=15, random_state=0).fit(x, y)
    predict = log_odds(model, sign)
    result = explain_scores(game_of(predict, x), model=model, space="logit", column=column, budget=512, engine="shap")
    assert result.params["engine"] == "shap.TreeExplainer"
    np.testing.assert_allclose(result.values, exact(predict, x), atol=1e-6)


def test_boosted_probabilities_get_their_own_shapley_values_not_rescaled_margins(table):
    import shap

    x, y = table
    model = GradientBoostingClassifier(n_estimators=15, random_state=0).fit(x, y)
    result = explain_scores(game_of(proba(model), x), model=model, space="probability", column=1, budget=4000)
    np.testing.assert_allclose(result.values, exact(proba(model), x), atol=1e-10)
    rescaled = shap.TreeExplainer(model, x[200:225], model_output="probability").shap_values(x[:8])
    total = rescaled.sum(axis=1) - result.values[:, :, 0].sum(axis=1)
    assert np.abs(total).max() < 1e-6
    assert np.abs(rescaled - result.values[:, :, 0]).max() > 0.01


def test_a_forest_explains_either_class(table):
    x, y = table
    model = RandomForestClassifier(10, max_depth=4, random_state=0).fit(x, y)
    result = explain_scores(
        game_of(proba(model, 0), x), model=model, space="probability", column=0, budget=512, engine="shap"
    )
    assert result.params["engine"] == "shap.TreeExplainer"
    np.testing.assert_allclose(result.values, exact(proba(model, 0), x), atol=1e-6)


def test_linear_models_equal_the_closed_form(table):
    x, y = table
    model = LogisticRegression().fit(x, y)
    result = explain_scores(
        game_of(lambda m: model.decision_function(m)[:, None], x),
        model=model,
        space="logit",
        column=1,
        budget=512,
        engine="shap",
    )
    assert result.params["engine"] == "shap.LinearExplainer"
    closed = (x[:8] - x[200:225].mean(axis=0)) * model.coef_[0]
    np.testing.assert_allclose(result.values[:, :, 0], closed, atol=1e-10)


def test_regression_trees_and_lines():
    x, y = make_regression(300, F, random_state=0)
    for model, engine in (
        (GradientBoostingRegressor(n_estimators=20, random_state=0), "shap.TreeExplainer"),
        (LinearRegression(), "shap.LinearExplainer"),
    ):
        model.fit(x, y)

        def predict(matrix, model=model):
            return model.predict(matrix)[:, None]

        result = explain_scores(game_of(predict, x), model=model, space="value", column=None, budget=512, engine="shap")
        assert result.params["engine"] == engine
        np.testing.assert_allclose(result.values, exact(predict, x), rtol=1e-5, atol=1e-4)


def test_rows_next_to_a_threshold_take_the_models_own_branch():
    """On the rows as they are shap misses the model's output; on the middle of the same cells it does not."""
    import shap

    x, y = load_diabetes(return_X_y=True)
    model = GradientBoostingRegressor(random_state=0).fit(x[:300], y[:300])

    def predict(matrix):
        return model.predict(matrix)[:, None]

    game = make_game(predict, x[300:400], x[:100], [(j,) for j in range(x.shape[1])])
    result = explain_scores(game, model=model, space="value", column=None, budget=512, engine="shap")
    assert result.params["engine"] == "shap.TreeExplainer"
    assert result.diagnostics["additivity_residual"] < 1e-5
    plain = shap.TreeExplainer(model, x[:100])
    total = plain.shap_values(x[300:400], check_additivity=False).sum(axis=1) + plain.expected_value
    assert np.abs(total - predict(x[300:400])[:, 0]).max() > 1.0


def test_cell_centres_change_no_prediction():
    x, y = load_diabetes(return_X_y=True)
    for model in (
        GradientBoostingRegressor(n_estimators=20, random_state=0),
        RandomForestRegressor(10, random_state=0),
        DecisionTreeRegressor(random_state=0),
    ):
        model.fit(x[:300], y[:300])
        np.testing.assert_array_equal(model.predict(cell_centres(model, x)), model.predict(x))
    assert cell_centres(LinearRegression().fit(x, y), x) is None


@pytest.mark.parametrize("space", ["probability", "logit"])
def test_histogram_boosting_where_shap_misses_falls_back_and_sums_match(space):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, F))
    x[:, 0] = rng.integers(0, 6, 800)
    y = ((np.isin(x[:, 0], [1, 4]) ^ (x[:, 1] * x[:, 2] > 0)) | (x[:, 3] > 1.5)).astype(int)
    model = HistGradientBoostingClassifier(max_iter=40, categorical_features=[0], random_state=0).fit(x, y)

    def predict(matrix):
        return (
            model.predict_proba(matrix)[:, [1]] if space == "probability" else model.decision_function(matrix)[:, None]
        )

    result = explain_scores(game_of(predict, x), model=model, space=space, column=1, budget=4000)
    assert result.params["engine"] == ("shapley.exact" if space == "probability" else "shapley.trees")
    assert ("is not a sum over the trees" in result.params["tried"]) == (space == "probability")
    theirs = explain_scores(game_of(predict, x), model=model, space=space, column=1, budget=512, engine="shap")
    assert theirs.status == "failed"
    np.testing.assert_allclose(result.base_values + result.values.sum(axis=1), predict(x[:8]), atol=1e-10)
    np.testing.assert_allclose(result.values, exact(predict, x), atol=1e-10)


def test_shap_alone_on_interventional_histogram_boosting_is_shown_as_failed(table):
    x, y = table
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(x, y)

    def predict(matrix):
        return model.decision_function(matrix)[:, None]

    result = explain_scores(game_of(predict, x), model=model, space="logit", column=1, budget=512, engine="shap")
    assert result.status == "failed"
    assert "miss the model's own output" in result.reason or "is off by" in result.reason


@pytest.mark.parametrize(
    ("model", "engine"),
    [
        (AdaBoostClassifier(n_estimators=5, random_state=0), "shapley.exact"),
        (BaggingClassifier(n_estimators=4, random_state=0), "shapley.trees"),
        (make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)), "shapley.trees"),
        (LogisticRegression(), "shapley.logistic"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_models_that_shap_refuses_have_exact_values(model, engine, table):
    x, y = table
    model.fit(x, y)
    result = explain_scores(game_of(proba(model), x), model=model, space="probability", column=1, budget=4000)
    assert result.params["engine"] == engine
    np.testing.assert_allclose(result.values, exact(proba(model), x), atol=1e-10)


def test_multiclass_boosting_and_forest():
    x, y = make_classification(400, F, n_informative=5, n_redundant=0, n_classes=3, random_state=0)
    for model, engine in (
        (GradientBoostingClassifier(n_estimators=5, random_state=0), "shapley.exact"),
        (RandomForestClassifier(8, max_depth=5, random_state=0), "shapley.trees"),
    ):
        model.fit(x, y)
        result = explain_scores(
            game_of(model.predict_proba, x), model=model, space="probability", column=None, budget=4000
        )
        assert result.params["engine"] == engine
        np.testing.assert_allclose(result.values, exact(model.predict_proba, x), atol=1e-6)


def test_the_whole_background_is_used_beyond_shaps_hundred_rows(table):
    x, y = table
    model = RandomForestClassifier(5, max_depth=4, random_state=0).fit(x, y)
    game = make_game(proba(model), x[:3], x[50:350], [(j,) for j in range(F)])
    result = explain_scores(game, model=model, space="probability", column=1, budget=512, engine="shap")
    assert result.params["engine"] == "shap.TreeExplainer"
    np.testing.assert_allclose(result.base_values[0, 0], model.predict_proba(x[50:350])[:, 1].mean(), atol=1e-7)


def test_an_engine_that_explains_another_model_is_dropped(table):
    x, y = table
    model = RandomForestClassifier(5, max_depth=4, random_state=0).fit(x, y)
    other = RandomForestClassifier(5, max_depth=4, random_state=1).fit(x, 1 - y)
    result = explain_scores(game_of(proba(model), x), model=other, space="probability", column=1, budget=4000)
    assert result.params["engine"] == "shapley.exact"
    assert "is not a sum over the trees: it is off by" in result.params["tried"]


def test_values_swapped_between_features_still_add_up_but_fail_the_spot_check(table, monkeypatch):
    import shap

    x, y = table
    model = RandomForestClassifier(15, max_depth=5, random_state=0).fit(x, y)
    honest = shap.TreeExplainer.shap_values
    monkeypatch.setattr("auditkit.methods.explain.shap_engine.structures_of", lambda model: None)
    monkeypatch.setattr("auditkit.methods.explain.structure_engine.structures_of", lambda model: None)
    monkeypatch.setattr(shap.TreeExplainer, "shap_values", lambda *a, **k: honest(*a, **k)[:, ::-1])
    result = explain_scores(game_of(proba(model), x), model=model, space="probability", column=1, budget=4000)
    assert result.params["engine"] == "shapley.exact"
    assert "beyond sampling error" in result.params["tried"]


def test_engine_shap_without_an_engine_says_so(table):
    x, y = table
    model = AdaBoostClassifier(n_estimators=3, random_state=0).fit(x, y)
    with pytest.raises(AuditkitError, match="AK503 shap has no engine for this model"):
        explain_scores(game_of(proba(model), x), model=model, space="probability", column=1, budget=512, engine="shap")


def test_silent_and_global_generators_untouched(table, capsys):
    x, y = table
    model = RandomForestClassifier(5, max_depth=4, random_state=0).fit(x, y)
    before, numpy_before = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explain_scores(game_of(proba(model), x), model=model, space="probability", column=1, budget=512)
    assert random.getstate() == before
    assert np.random.get_state()[1].tobytes() == numpy_before  # noqa: NPY002
    assert caught == []
    assert capsys.readouterr() == ("", "")
