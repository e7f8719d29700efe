from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.subject import TorchTrainingRecipe, TrainingRecipe
from auditkit.subjects.build import make_subject
from auditkit.subjects.recipes import SklearnRecipe, TorchRecipe, seeded_estimator

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 4)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int64)


def build(n_outputs: int):
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, n_outputs))


def recipe(**changes) -> TorchRecipe:
    return TorchRecipe(**({"name": "r", "build": build, "epochs": 4, "batch_size": 32, "learning_rate": 0.2} | changes))


def table(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "x": rng.normal(100, 20, n),
            "k": rng.integers(0, 5, n),
            "home": rng.choice(["rent", "own", "other"], n),
            "flag": pd.array(rng.random(n) < 0.5, dtype="boolean"),
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
            "flat": 3.0,
        }
    )
    frame.loc[::7, "x"] = np.nan
    frame.loc[::11, "home"] = None
    frame.loc[::13, "flag"] = pd.NA
    return frame


def global_state():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002


def test_the_protocols_are_met() -> None:
    assert isinstance(recipe(), TorchTrainingRecipe)
    assert isinstance(SklearnRecipe(estimator=LogisticRegression()), TrainingRecipe)
    assert not isinstance(SklearnRecipe(estimator=LogisticRegression()), TorchTrainingRecipe)


def test_training_learns_and_is_deterministic_for_its_seed() -> None:
    before = global_state()
    first, again, other = (recipe().fit(X, Y, seed=seed) for seed in (1, 1, 2))
    assert global_state() == before
    assert (first.predict(X) == Y).mean() > 0.9
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    assert not first.module.training
    assert all(parameter.grad is None for parameter in first.module.parameters())


def test_sgd_is_that_of_a_plain_loop() -> None:
    one = recipe(build=lambda k: nn.Linear(4, k), epochs=1, batch_size=len(X), momentum=0.0)
    trained = one.fit(X, Y, seed=5).module
    with torch.random.fork_rng():
        torch.manual_seed(5)
        start = nn.Linear(4, 2)
    x = X.astype(np.float64)
    weight, bias = start.weight.detach().double().numpy(), start.bias.detach().double().numpy()
    z = x @ weight.T + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    error = (p - np.eye(2)[Y]) / len(X)
    assert np.allclose(trained.weight.detach().numpy(), weight - 0.2 * error.T @ x, atol=1e-6)
    assert np.allclose(trained.bias.detach().numpy(), bias - 0.2 * error.sum(axis=0), atol=1e-6)


def test_values_and_single_logits_are_trained_too() -> None:
    target = (X @ np.array([1.0, -2.0, 0.5, 0.0])).astype(float)
    line = recipe(build=lambda k: nn.Linear(4, k), epochs=30).fit(X, target, seed=0)
    assert line.classes == ()
    assert np.abs(line.predict(X) - target).mean() < 0.05
    single = recipe(build=lambda _: nn.Linear(4, 1), epochs=10).fit(X, Y, seed=0)
    assert single.classes == ("0", "1")
    assert (single.predict(X) == Y).mean() > 0.9


def test_the_default_preparation_is_fitted_on_the_training_rows_only() -> None:
    train, test = table(seed=1), table(seed=2).assign(home="castle")
    prepare = recipe().fit_preparation(train)
    rows = prepare(train).numpy()
    assert rows.dtype == np.float32
    assert rows.shape == (200, 8)  # x, k, 3 homes, flag, when, flat
    assert np.isfinite(rows).all()
    x = train["x"].to_numpy()
    mean, deviation = np.nanmean(x), np.nanstd(x)
    assert np.allclose(rows[1, 0], (x[1] - mean) / deviation, atol=1e-5)
    assert rows[0, 0] == 0.0  # missing takes the mean
    assert np.array_equal(rows[:, 2:5].sum(axis=1) == 0, train["home"].isna())
    assert rows[1, 2:5].tolist() == [float(train["home"][1] == name) for name in ("other", "own", "rent")]
    assert (rows[:, 7] == 0).all()  # a constant column is no division by zero
    other = prepare(test).numpy()
    assert (other[:, 2:5] == 0).all()  # unseen categories are no category
    assert np.allclose(other[1, 0], (test["x"][1] - mean) / deviation, atol=1e-5)
    with pytest.raises(UsageError, match="AK222 column 'note' is text"):
        recipe().fit_preparation(train.assign(note=[f"n{i}" for i in range(200)]))
    with pytest.raises(UsageError, match="AK245 texts have no default preparation"):
        recipe().fit_preparation(["a", "b"])


def test_a_table_model_takes_the_users_own_frame() -> None:
    train = table()
    y = (train["x"].fillna(100) > 100).astype(int).to_numpy()
    own = recipe(build=lambda k: nn.Linear(8, k), epochs=20)
    model = own.fit(train, y, seed=0)
    assert (model.predict(train) == y).mean() > 0.9
    subject = make_subject(model, train, y, train=(train, y), recipe=own)
    assert subject.recipe.labels == (0, 1)
    assert np.array_equal(subject.model.predict(subject.test.inputs), model.predict(train))


def test_a_recipe_keeps_every_class_of_the_subject() -> None:
    y3 = np.digitize(X[:, 0], [-0.5, 0.5])
    own = recipe()
    subject = make_subject(own.fit(X, y3, seed=0).module, X, y3, recipe=own)
    small = subject.recipe.fit(X[y3 < 2], y3[y3 < 2], seed=0)
    assert small.classes == ("0", "1", "2")
    assert small.predict_scores(X).shape == (300, 3)
    named = SklearnRecipe(estimator=LogisticRegression(), labels=("a", "b", "c"))
    part = named.fit(X[y3 != 1], y3[y3 != 1], seed=0)
    assert part.classes == ("a", "b", "c")
    assert (part.predict_scores(X)[:, 1] == 0).all()
    assert set(part.predict(X)) == {0, 2}


def test_token_ids_are_prepared_as_long() -> None:
    class Bag(nn.Module):
        def __init__(self, k) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(9, 4), nn.Linear(4, k)

        def forward(self, ids):
            return self.out(self.embed(ids).mean(dim=1))

    ids = RNG.integers(0, 9, (60, 5))
    own = recipe(build=Bag)
    before = global_state()
    assert own.fit_preparation(ids)(ids).dtype == torch.long
    assert global_state() == before
    assert own.fit(ids, ids[:, 0] % 2, seed=0).predict(ids).shape == (60,)
    assert recipe().fit_preparation(ids)(ids).dtype == torch.float32


def test_sklearn_recipes_are_deterministic_and_leave_the_estimator_alone() -> None:
    frame = table().drop(columns=["flag", "when"]).assign(x=1.0, home="rent")
    frame["x"] = RNG.normal(size=200)
    encode = ColumnTransformer([("home", OneHotEncoder(), ["home"])], remainder="passthrough")
    fitted = make_pipeline(encode, StandardScaler(), RandomForestClassifier(5)).fit(frame, frame["x"] > 0)
    own = SklearnRecipe(estimator=fitted)
    assert own.name == "Pipeline"
    y = (frame["x"] > 0).astype(int).to_numpy()
    subject = make_subject(fitted, frame, y == 1, recipe=own)
    assert subject.recipe.labels == (False, True)
    before = global_state()
    scores = [subject.recipe.fit(frame, y, seed=seed).predict_scores(frame) for seed in (3, 3, 4)]
    assert global_state() == before
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    assert fitted[-1].random_state is None
    states = seeded_estimator(make_pipeline(RandomForestClassifier(), LogisticRegression()), 1).get_params()
    assert states["randomforestclassifier__random_state"] != states["logisticregression__random_state"]


def test_an_estimator_without_random_state_is_seeded_too() -> None:
    class Noisy(RegressorMixin, BaseEstimator):
        def fit(self, X, y):
            self.value_ = np.random.normal()  # noqa: NPY002 - the fault under test
            return self

        def predict(self, X):
            return np.full(len(X), self.value_)

    own = SklearnRecipe(estimator=Noisy())
    values = [own.fit(X, X[:, 0].astype(float), seed=seed).predict(X)[0] for seed in (1, 1, 2)]
    assert values[0] == values[1] != values[2]


def test_training_that_fails_is_a_coded_error() -> None:
    with pytest.raises(AuditkitError, match="AK245 the loss became NaN or infinite"):
        recipe(learning_rate=1e30, build=lambda k: nn.Linear(4, k)).fit(X * 1e10, Y.astype(float), seed=0)
    with pytest.raises(AuditkitError, match=r"AK245 training the model afresh failed(.|\n)*ValueError"):
        SklearnRecipe(estimator=LinearRegression()).fit(np.full((3, 2), np.nan), np.ones(3), seed=0)
    with pytest.raises(UsageError, match="AK245 epochs of a recipe must be 1 or more"):
        recipe(epochs=0)
    with pytest.raises(UsageError, match="AK245 learning_rate must be above 0"):
        recipe(learning_rate=float("nan"))
