"""Trees of XGBoost and LightGBM, read through their public tables of nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from auditkit.core.subject import FloatArray
from auditkit.methods.explain.tree_table import Ensemble, Tree, UnreadError

_OTHER_CODES = 1024  # beyond the largest that a split names; a code further out counts as missing, which the check sees


def read_xgboost(model: Any) -> tuple[Ensemble, Callable[[Any], FloatArray]]:
    """The raw margin of an ``XGBClassifier`` or ``XGBRegressor``, up to a constant, in single precision.

    A categorical split sends the categories that it names to ``Yes`` and all others to ``No``.

    Raises:
        UnreadError: A tree whose nodes are not numbered in a row.
    """
    table = model.get_booster().trees_to_dataframe()
    width = _width(model)
    parallel = int(model.get_xgb_params().get("num_parallel_tree") or 1)
    last = getattr(model, "best_iteration", None) if model.get_params().get("early_stopping_rounds") else None
    names = list(model.get_booster().feature_names or [f"f{j}" for j in range(model.n_features_in_)])
    trees = []
    for number, part in table.groupby("Tree"):
        if last is not None and int(number) >= (last + 1) * width * parallel:
            break
        part = part.sort_values("Node")
        if not np.array_equal(part["Node"], np.arange(len(part))):
            raise UnreadError("the nodes of a tree are not numbered in a row")
        leaf = (part["Feature"] == "Leaf").to_numpy()
        value = np.zeros((len(part), width))
        value[leaf, int(number) // parallel % width] = part["Gain"].to_numpy()[leaf]
        left, right, lost = (_children(part[name]) for name in ("Yes", "No", "Missing"))
        named = part.get("Category", [])
        trees.append(
            Tree(
                feature=np.array([-1 if end else names.index(f) for f, end in zip(part["Feature"], leaf, strict=True)]),
                threshold=part["Split"].to_numpy(dtype=np.float32).astype(np.float64),
                left=left,
                right=right,
                value=value,
                missing_left=lost == left,
                categories={node: _table(codes) for node, codes in enumerate(named) if isinstance(codes, list)},
                strict=True,
                single=True,
            )
        )
    return Ensemble(trees=tuple(trees), outputs=width, single=True), _coded


def read_lightgbm(model: Any) -> tuple[Ensemble, Callable[[Any], FloatArray]]:
    """The raw score of an ``LGBMClassifier`` or ``LGBMRegressor``.

    A categorical split sends the categories that it names left, all others and missing ones right.

    Raises:
        UnreadError: Zeros that count as missing, which are not read.
    """
    table = model.booster_.trees_to_dataframe()
    split = table["split_feature"].notna()
    if (table.loc[split, "missing_type"] == "Zero").any():
        raise UnreadError("missing zeros of LightGBM are not read")
    width = _width(model)
    names = list(model.booster_.feature_name())
    best = int(getattr(model, "best_iteration_", 0) or 0)
    trees = []
    for number, part in table.groupby("tree_index"):
        if best > 0 and int(number) >= best * width:
            break
        index = {name: place for place, name in enumerate(part["node_index"])}
        leaf = part["split_feature"].isna().to_numpy()
        value = np.zeros((len(part), width))
        value[leaf, int(number) % width] = part["value"].to_numpy(dtype=np.float64)[leaf]
        named = (part["decision_type"] == "==").to_numpy()
        sets = {int(node): part["threshold"].iloc[node] for node in np.flatnonzero(named)}
        threshold = part["threshold"].where(~named, None).to_numpy(dtype=np.float64)
        # Without missing values in training a missing value counts as zero.
        as_zero = (part["missing_type"] == "None").to_numpy()
        goes_left = np.where(as_zero, threshold >= 0.0, (part["missing_direction"] == "left").to_numpy()) & ~named
        trees.append(
            Tree(
                feature=np.array(
                    [-1 if end else names.index(f) for f, end in zip(part["split_feature"], leaf, strict=True)]
                ),
                threshold=threshold,
                left=np.array([index.get(name, -1) for name in part["left_child"]], dtype=np.int64),
                right=np.array([index.get(name, -1) for name in part["right_child"]], dtype=np.int64),
                value=value,
                missing_left=goes_left.astype(np.bool_),
                categories={node: _table(map(int, str(codes).split("||"))) for node, codes in sets.items()},
            )
        )
    known = model.booster_.dump_model(num_iteration=1).get("pandas_categorical") or None
    return Ensemble(trees=tuple(trees), outputs=width), partial(_coded, known=known)


def _width(model: Any) -> int:
    classes = getattr(model, "n_classes_", 0) or 0
    return int(classes) if classes > 2 else 1


def _children(column: Any) -> Any:
    return np.array([-1 if name != name else int(str(name).split("-")[1]) for name in column], dtype=np.int64)


def _table(codes: Iterable[int]) -> Any:
    """Codes -> 1 for those named, 0 for the others, some beyond the largest too."""
    named = np.fromiter(codes, dtype=np.int64)
    table = np.zeros(int(named.max(initial=0)) + _OTHER_CODES, dtype=np.int8)
    table[named] = 1
    return table


def _coded(inputs: Any, known: list[list[Any]] | None = None) -> FloatArray:
    """Rows as numbers: categories by their code, in the order of ``known`` where the library kept its own."""
    if not hasattr(inputs, "columns"):
        return _matrix(inputs)
    import pandas as pd

    lists = iter(known or [])
    columns = []
    for place in range(inputs.shape[1]):
        column = inputs.iloc[:, place]
        if isinstance(column.dtype, pd.CategoricalDtype):
            kept = next(lists, None)
            codes = (column if kept is None else column.cat.set_categories(kept)).cat.codes.to_numpy(dtype=np.float64)
            columns.append(np.where(codes < 0.0, np.nan, codes))
        else:
            columns.append(column.to_numpy(dtype=np.float64))
    return np.column_stack(columns)


def _matrix(inputs: Any) -> FloatArray:
    return np.asarray(inputs.toarray() if hasattr(inputs, "toarray") else inputs, dtype=np.float64)
