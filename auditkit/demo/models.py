"""The demo's two models: a gradient-boosted pipeline on the raw table, a neural network that encodes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from auditkit.core.errors import MissingExtra
from auditkit.demo.loan import APPROVED, CATEGORICAL, DECLINED

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from auditkit.subjects.recipes import TorchRecipe

CLASSES = (DECLINED, APPROVED)
HIDDEN = 32


def require(*extras: tuple[str, str]) -> None:
    """Refuse early, with the pip line, when a package of an extra is absent.

    Args:
        extras: Pairs ``(extra, import name)``.

    Raises:
        MissingExtra: AK301.
    """
    import importlib.util

    for extra, package in extras:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra.of(extra, package)


def boosted_pipeline(seed: int = 0) -> Any:
    """An unfitted pipeline: one-hot encoding of the categories, histogram gradient boosting on the rest as it is."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    encode = ColumnTransformer(
        [("categories", OneHotEncoder(handle_unknown="ignore", sparse_output=False), list(CATEGORICAL))],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    boost = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.08, max_leaf_nodes=12, min_samples_leaf=40, random_state=seed
    )
    return Pipeline([("encode", encode), ("boost", boost)])


def mlp(n_features: int, n_outputs: int) -> torch.nn.Module:
    """A multilayer perceptron with two hidden layers."""
    from torch import nn

    return nn.Sequential(
        nn.Linear(n_features, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, n_outputs),
    )


def mlp_recipe(train: pd.DataFrame, *, epochs: int = 12) -> TorchRecipe:
    """How the network is trained: what the audit follows to train it again with differential privacy.

    The table is standardised and one-hot encoded by the recipe itself, fitted on its training rows.
    """
    from auditkit.subjects.preparation import fit_table_preparation
    from auditkit.subjects.recipes import TorchRecipe

    width = fit_table_preparation(train).width
    return TorchRecipe(
        name="loan MLP",
        build=lambda n_outputs: mlp(width, n_outputs),
        epochs=epochs,
        batch_size=128,
        learning_rate=0.05,
        momentum=0.9,
        labels=CLASSES,
    )
