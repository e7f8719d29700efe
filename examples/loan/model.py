"""The loan table of `auditkit demo`, audited in full: see auditkit/demo/loan.py for its generator and its faults."""

from typing import Any

import pandas as pd

import auditkit
from auditkit.demo.loan import TARGET, loan_splits
from auditkit.demo.models import boosted_pipeline, mlp_recipe

N_TRAIN, N_TEST = 6000, 8000


def _table(place: int) -> pd.DataFrame:
    split = loan_splits(N_TRAIN, N_TEST)[place]
    return split.inputs.assign(**{TARGET: split.y}, **{name: split.sensitive[name] for name in split.sensitive})


def train_table() -> pd.DataFrame:
    """Rows that the model is trained on: features, `sex`, `origin`, `decision`."""
    return _table(0)


def test_table() -> pd.DataFrame:
    """An independent draw."""
    return _table(1)


def build() -> Any:
    """The gradient-boosted pipeline; it is not given sex or origin."""
    train = loan_splits(N_TRAIN, N_TEST)[0]
    return boosted_pipeline().fit(train.inputs, train.y)


def recipe() -> auditkit.TorchRecipe:
    """A neural network of the same table: what private training would cost it."""
    return mlp_recipe(loan_splits(N_TRAIN, N_TEST)[0].inputs)
