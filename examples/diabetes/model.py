"""Progression of diabetes after a year (442 patients, Efron et al. 2004, shipped with scikit-learn)."""

import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

TARGET = "progression"


def _tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    bunch = load_diabetes(as_frame=True, scaled=False)
    # The source codes sex as 1 and 2 and does not say which is which.
    sex = bunch.data["sex"].map({1.0: "sex 1", 2.0: "sex 2"})
    table = bunch.data.assign(sex=sex, **{TARGET: bunch.target})
    train, test = train_test_split(table, test_size=0.5, random_state=0)
    return train, test


def train_table() -> pd.DataFrame:
    """The half that the model is trained on."""
    return _tables()[0]


def test_table() -> pd.DataFrame:
    """The other half."""
    return _tables()[1]


def build() -> Pipeline:
    """A ridge regression on everything but sex."""
    train = train_table()
    model = make_pipeline(StandardScaler(), RidgeCV())
    return model.fit(train.drop(columns=[TARGET, "sex"]), train[TARGET])
