"""Tumours from 30 measurements of cell nuclei (Wisconsin diagnostic data, shipped with scikit-learn)."""

import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

TARGET = "diagnosis"


def _tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    bunch = load_breast_cancer(as_frame=True)
    table = bunch.data.assign(**{TARGET: bunch.target_names[bunch.target]})
    train, test = train_test_split(table, test_size=0.5, random_state=0, stratify=table[TARGET])
    return train, test


def train_table() -> pd.DataFrame:
    """The half that the model is trained on."""
    return _tables()[0]


def test_table() -> pd.DataFrame:
    """The other half."""
    return _tables()[1]


def build() -> Pipeline:
    """A scaled logistic regression."""
    train = train_table()
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(train.drop(columns=TARGET), train[TARGET])
