"""The demo's two models: a gradient-boosted pipeline on the raw table, a neural network on the encoded one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from auditkit.core.errors import MissingExtra
from auditkit.demo.loan import APPROVED, BOOLEAN, CATEGORICAL, DECLINED, LEAKED, NUMERIC

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


def table_encoder(train: pd.DataFrame) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A function that turns a loan table into numbers: medians for gaps, one column ``name=level`` a category.

    Everything is fitted on ``train`` alone; a missing category is the level ``missing``. Scaling is left to the recipe.
    """
    import pandas as pd

    numeric = [name for name in (*NUMERIC, LEAKED) if name in train.columns]
    medians = train[numeric].median()
    levels = {name: sorted(train[name].dropna().unique()) for name in CATEGORICAL}

    def encode(table: pd.DataFrame) -> pd.DataFrame:
        parts = {name: table[name].fillna(medians[name]).astype("float64") for name in numeric}
        for name, known in levels.items():
            parts |= {f"{name}={level}": (table[name] == level).astype("float64") for level in known}
            if train[name].isna().any():
                parts[f"{name}=missing"] = table[name].isna().astype("float64")
        parts |= {name: table[name].astype("float64") for name in BOOLEAN}
        return pd.DataFrame(parts, index=table.index)

    return encode


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


def mlp_recipe(train: pd.DataFrame, *, epochs: int = 15) -> TorchRecipe:
    """How the network is trained: what the audit follows to train it again with differential privacy.

    The recipe itself standardises its inputs (an encoded table, or a raw one), fitted on its training rows.
    """
    from auditkit.subjects.preparation import fit_table_preparation
    from auditkit.subjects.recipes import TorchRecipe

    width = fit_table_preparation(train).width
    return TorchRecipe(
        name="loan MLP",
        build=lambda n_outputs: mlp(width, n_outputs),
        epochs=epochs,
        batch_size=128,
        learning_rate=0.02,
        momentum=0.9,
        labels=CLASSES,
    )
