"""A linear scikit-learn model as a torch recipe: the same function, compared with and without privacy."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("opacus")

from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from auditkit.analyzers.privacy.dp_training import ANALYZER, DpTrainingParams
from auditkit.core.capability import missing
from auditkit.core.errors import AuditkitError
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject
from auditkit.subjects.linear import linear_torch_recipe
from auditkit.subjects.recipes import SklearnRecipe


def table(n, seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"income": rng.normal(40_000, 9_000, n), "age": rng.integers(20, 70, n)})
    frame["town"] = rng.choice(["north", "south", "island"], n)
    merit = (frame.income - 40_000) / 9_000 - (frame.age - 45) / 15 + (frame.town == "north") + rng.logistic(size=n)
    return frame, np.where(merit > 0.3, "yes", "no")


def pipeline(last):
    return make_pipeline(
        make_column_transformer((OneHotEncoder(), ["town"]), (StandardScaler(), ["income", "age"])), last
    )


@pytest.fixture(scope="module")
def splits():
    return table(3000, 0), table(1500, 1)


@pytest.mark.parametrize("last", [LogisticRegression(C=100.0), SGDClassifier(loss="log_loss", random_state=0)])
def test_the_torch_recipe_learns_the_function_of_the_scikit_learn_model(splits, last):
    (x, y), (x_test, _) = splits
    model = pipeline(LogisticRegression(C=100.0)).fit(x, y)
    recipe = SklearnRecipe(estimator=pipeline(last), labels=("no", "yes"))
    assert recipe.is_linear
    fitted = linear_torch_recipe(recipe, x).fit(x, (y == "yes").astype(np.int64), seed=0)
    ours, theirs = fitted.predict_scores(x_test), model.decision_function(x_test)
    gap = ours[:, 1] - ours[:, 0]
    assert np.corrcoef(gap, theirs)[0, 1] > 0.998
    assert (fitted.predict(x_test) == (model.predict(x_test) == "yes")).mean() > 0.98


def test_private_training_of_a_logistic_regression_is_compared(splits):
    (x, y), test = splits
    model = pipeline(LogisticRegression()).fit(x, y)
    sensitive = test[0][["town"]]
    subject = make_subject(
        model, *test, sensitive=sensitive, train=(x, y, x[["town"]]), recipe=SklearnRecipe(estimator=model)
    )
    params = DpTrainingParams(epsilons=(8.0,), seeds=1, noise_multipliers={"8": 1.2})
    outcome = run_step(subject, Step(name=ANALYZER.name, params=params, analyzer=ANALYZER), seed=3)
    assert outcome.status == "measured", outcome.reason
    rates = {m.params["arm"]: m.value for m in outcome.measurements if m.name == "privacy.dp_accuracy" and not m.slice}
    assert rates["non-private"] == pytest.approx(model.score(*test), abs=0.02)
    assert rates["private"] > rates["non-private"] - 0.05
    assert any("'Pipeline by SGD'" in note for note in outcome.notes)
    assert any("same linear functions" in note for note in outcome.notes)


def test_other_models_are_not_followed(splits):
    (x, y), test = splits
    forest = pipeline(RandomForestClassifier(3)).fit(x, y)
    recipe = SklearnRecipe(estimator=forest)
    assert not recipe.is_linear
    assert not SklearnRecipe(estimator=SGDClassifier()).is_linear
    lacking = missing(ANALYZER.needs, make_subject(forest, *test, train=(x, y), recipe=recipe))
    assert "scikit-learn logistic regression" in lacking
    asks = SklearnRecipe(estimator=make_pipeline(SelectKBest(k=1), LogisticRegression()))
    with pytest.raises(AuditkitError, match="AK627 the pipeline cannot be followed by private training"):
        linear_torch_recipe(asks, x[["income", "age"]])
