"""Tiny deterministic subjects that tests of every room share."""

from __future__ import annotations

import functools

import numpy as np


def table(n: int = 400, seed: int = 0):
    """A mixed DataFrame with labels that depend on income, age and nothing else; sex and region are apart."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "income": rng.normal(50.0, 15.0, n),
            "age": rng.integers(18, 80, n),
            "home": rng.choice(["rent", "own", "other"], n),
            "noise": rng.normal(size=n),
        }
    )
    merit = (frame["income"] - 50) / 15 + (frame["age"] - 49) / 40 + rng.normal(0, 0.7, n)
    y = (merit > 0).astype(int).to_numpy()
    sensitive = pd.DataFrame({"sex": rng.choice(["F", "M"], n), "region": rng.choice(["N", "S", "W"], n)})
    return frame, y, sensitive


@functools.cache
def pipeline_subject():
    """A scikit-learn pipeline on a mixed DataFrame, with train data and sensitive columns."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    from auditkit.subjects.build import make_subject

    train, y_train, train_sensitive = table(400, seed=1)
    test, y_test, sensitive = table(300, seed=2)
    encode = ColumnTransformer([("home", OneHotEncoder(), ["home"])], remainder="passthrough")
    model = make_pipeline(encode, GradientBoostingClassifier(n_estimators=20, max_depth=2, random_state=0))
    model.fit(train, y_train)
    return make_subject(
        model, test, y_test, sensitive=sensitive, train=(train, y_train, train_sensitive), name="tiny pipeline"
    )


def _xor(n: int, seed: int):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    y = ((x[:, 0] + 0.5 * x[:, 1] + 0.3 * rng.normal(size=n)) > 0).astype(np.int64)
    return x, y


def build_mlp(n_outputs: int):
    """A two-layer perceptron on four features."""
    import torch

    return torch.nn.Sequential(torch.nn.Linear(4, 12), torch.nn.ReLU(), torch.nn.Linear(12, n_outputs))


def mlp_recipe():
    """Five quick epochs of plain SGD for :func:`build_mlp`."""
    from auditkit.subjects.recipes import TorchRecipe

    return TorchRecipe(name="tiny MLP", build=build_mlp, epochs=5, batch_size=32, learning_rate=0.1)


@functools.cache
def mlp_subject():
    """A trained torch MLP on four numeric features with train data, sensitive columns and a recipe."""
    from auditkit.subjects.build import make_subject

    x_train, y_train = _xor(300, 3)
    x_test, y_test = _xor(200, 4)
    recipe = mlp_recipe()
    module = recipe.fit(x_train, y_train, seed=0).module
    sex = np.where(np.random.default_rng(5).random(200) < 0.5, "F", "M")
    return make_subject(
        module, x_test, y_test, sensitive={"sex": sex}, train=(x_train, y_train), recipe=recipe, name="tiny MLP"
    )


@functools.cache
def regression_subject():
    """A linear regression on a numeric table."""
    from sklearn.linear_model import LinearRegression

    from auditkit.subjects.build import make_subject

    rng = np.random.default_rng(6)
    x = rng.normal(size=(300, 3))
    y = x @ np.array([1.0, -2.0, 0.5]) + rng.normal(0, 0.5, 300)
    model = LinearRegression().fit(x[:150], y[:150])
    sex = np.where(rng.random(150) < 0.5, "F", "M")
    return make_subject(model, x[150:], y[150:], sensitive={"sex": sex}, train=(x[:150], y[:150]), name="tiny line")


@functools.cache
def predictions_subject():
    """Saved predictions only."""
    from auditkit.subjects.build import make_predictions_subject

    rng = np.random.default_rng(8)
    score = rng.random(500)
    y = (rng.random(500) < score).astype(int)
    sex = np.where(rng.random(500) < 0.5, "F", "M")
    return make_predictions_subject(y, (score > 0.5).astype(int), score, sensitive={"sex": sex})


@functools.cache
def image_subject():
    """A linear torch model on grey images of 8 x 8 pixels whose class is where they are bright; sex is apart."""
    import torch

    from auditkit.subjects.build import make_subject
    from auditkit.subjects.torch import TorchModel

    rng = np.random.default_rng(8)
    y = rng.integers(2, size=120)
    images = rng.uniform(0.2, 0.6, size=(120, 1, 8, 8)).astype(np.float32)
    images[y == 1, :, :, 4:] += 0.3
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    with torch.no_grad():
        side = torch.where(torch.arange(64) % 8 >= 4, 0.5, -0.5)
        module[1].weight.copy_(torch.stack([-side, side]))
        module[1].bias.copy_(torch.tensor([1.2, -1.2]))
    sex = rng.choice(["F", "M"], 120)
    return make_subject(TorchModel(module, classes=(0, 1)), images, y, positive=1, sensitive={"sex": sex}, name="image")


@functools.cache
def text_subject():
    """A pipeline on short texts with train data and its own estimator as the recipe."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from auditkit.subjects.build import make_subject
    from auditkit.subjects.recipes import SklearnRecipe

    rng = np.random.default_rng(6)
    y = rng.integers(0, 2, 160)
    words = np.array([f"word{at}" for at in range(80)])
    texts = [" ".join(["good" if label else "bad", *rng.choice(words, 5)]) for label in y]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts[:100], y[:100])
    return make_subject(
        pipeline, texts[100:], y[100:], train=(texts[:100], y[:100]), recipe=SklearnRecipe(estimator=pipeline)
    )


def facts(name="model", n_rows=50):
    """What evidence says of a subject of which nothing but labels is known."""
    from auditkit.core.evidence import DataFacts, SubjectFacts

    return SubjectFacts(
        name=name,
        task="binary",
        model_kind="fixed",
        model_fingerprint=None,
        classes=("no", "yes"),
        positive="yes",
        score_space=None,
        capabilities=("labels",),
        test=DataFacts(fingerprint="sha256:0", n_rows=n_rows, modality="tabular"),
    )
