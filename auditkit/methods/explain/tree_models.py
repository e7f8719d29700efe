"""Fitted tree models of scikit-learn, XGBoost and LightGBM as plain arrays.

Nothing here is trusted: whoever uses an ensemble read here first compares it with the model itself, on rows, background
and mixtures of both. Histogram boosting has no public view of its trees, so its stored nodes are read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from auditkit.core.subject import FloatArray
from auditkit.methods.explain.tree_table import Ensemble, Tree, UnreadError


def read_trees(model: Any) -> tuple[Ensemble, Callable[[Any], FloatArray]] | None:
    """The ensemble inside a fitted model, and what turns the model's inputs into the trees' matrix; ``None`` if none.

    Leaf values are such that the model's additive output (probabilities of forests, raw scores of boosting, votes of
    AdaBoost) is an affine function of their sum.
    """
    encoders: list[Any] = []
    while hasattr(model, "steps"):
        encoders.extend(step for _, step in model.steps[:-1] if step not in (None, "passthrough"))
        model = model.steps[-1][1]
    read = _reader(model)
    if read is None:
        return None
    ensemble, own = read(model)

    def encode(inputs: Any) -> FloatArray:
        for step in encoders:
            inputs = step.transform(inputs)
        return own(inputs)

    return ensemble, encode


def _reader(model: Any) -> Callable[[Any], tuple[Ensemble, Callable[[Any], FloatArray]]] | None:
    if hasattr(model, "_predictors"):
        return _histogram
    if hasattr(model, "get_booster"):
        from auditkit.methods.explain.tree_boosters import read_xgboost

        return read_xgboost
    if hasattr(model, "booster_"):
        from auditkit.methods.explain.tree_boosters import read_lightgbm

        return read_lightgbm
    if hasattr(model, "tree_"):
        return _single
    members = np.ravel(np.asarray(getattr(model, "estimators_", ()), dtype=object))
    if len(members) and all(hasattr(member, "tree_") for member in members):
        return _members
    return None


def _plain(inputs: Any) -> FloatArray:
    if hasattr(inputs, "toarray"):
        inputs = inputs.toarray()
    return np.asarray(inputs, dtype=np.float64)


def _single(model: Any) -> tuple[Ensemble, Callable[[Any], FloatArray]]:
    value = _free(_leaf_values(model), model)
    return Ensemble(trees=(_sklearn_tree(model.tree_, value),), outputs=value.shape[1]), _plain


def _members(model: Any) -> tuple[Ensemble, Callable[[Any], FloatArray]]:
    """Forests and bagging (means), AdaBoost (weighted votes), gradient boosting (one column a class)."""
    grid = np.asarray(model.estimators_, dtype=object)
    columns = getattr(model, "estimators_features_", None)
    votes = getattr(model, "estimator_weights_", None)
    if grid.ndim == 2 and hasattr(model, "learning_rate") and votes is None:
        return _boosted(grid, float(model.learning_rate)), _plain
    trees = []
    for place, member in enumerate(grid.ravel()):
        value = _leaf_values(member)
        if votes is not None:
            value = np.eye(value.shape[1])[value.argmax(axis=1)] * float(votes[place])
        else:
            value = value / grid.size
        picked = None if columns is None else np.asarray(columns[place], dtype=np.int64)
        trees.append(_sklearn_tree(member.tree_, _free(value, member), picked))
    return Ensemble(trees=tuple(trees), outputs=trees[0].value.shape[1]), _plain


def _boosted(grid: Any, rate: float) -> Ensemble:
    trees = []
    for stage in grid:
        for column, member in enumerate(stage):
            value = np.zeros((member.tree_.node_count, len(stage)))
            value[:, column] = rate * member.tree_.value[:, 0, 0]
            trees.append(_sklearn_tree(member.tree_, value))
    return Ensemble(trees=tuple(trees), outputs=grid.shape[1])


def _leaf_values(member: Any) -> FloatArray:
    """``(nodes, k)``: class shares of a classifier, outputs of a regressor."""
    value = np.asarray(member.tree_.value, dtype=np.float64)
    if hasattr(member, "classes_"):
        if value.shape[1] != 1:
            raise UnreadError("trees of several labels at once")
        shares = value[:, 0, :]
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))
    return value[:, :, 0]


def _free(value: FloatArray, member: Any) -> FloatArray:
    """Leaf values without those of the first class: shares and votes of all classes sum to the same at every leaf."""
    return value[:, 1:] if hasattr(member, "classes_") and value.shape[1] > 1 else value


def _sklearn_tree(tree: Any, value: FloatArray, columns: Any = None) -> Tree:
    feature = np.where(tree.children_left < 0, -1, tree.feature).astype(np.int64)
    if columns is not None:
        feature = np.where(feature >= 0, columns[np.maximum(feature, 0)], -1)
    missing = getattr(tree, "missing_go_to_left", np.zeros(len(feature)))
    return Tree(
        feature=feature,
        threshold=np.asarray(tree.threshold, dtype=np.float64),
        left=tree.children_left.astype(np.int64),
        right=tree.children_right.astype(np.int64),
        value=value,
        missing_left=np.asarray(missing, dtype=np.bool_),
        single=True,
    )


def _histogram(model: Any) -> tuple[Ensemble, Callable[[Any], FloatArray]]:
    known, slot = model._bin_mapper.make_known_categories_bitsets()
    width = len(model._predictors[0])
    trees = []
    for stage in model._predictors:
        for column, predictor in enumerate(stage):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(np.bool_)
            value = np.zeros((len(nodes), width))
            value[leaf, column] = nodes["value"][leaf]
            asks = np.flatnonzero(~leaf & nodes["is_categorical"].astype(np.bool_))
            categories = {}
            for node in asks:
                goes = _bits(predictor.raw_left_cat_bitsets[nodes["bitset_idx"][node]])
                seen = _bits(known[slot[nodes["feature_idx"][node]]])
                categories[int(node)] = np.where(goes, 1, np.where(seen, 0, -1)).astype(np.int64)
            trees.append(
                Tree(
                    feature=np.where(leaf, -1, nodes["feature_idx"]).astype(np.int64),
                    threshold=nodes["num_threshold"].astype(np.float64),
                    left=nodes["left"].astype(np.int64),
                    right=nodes["right"].astype(np.int64),
                    value=value,
                    missing_left=nodes["missing_go_to_left"].astype(np.bool_),
                    categories=categories,
                )
            )
    coder = getattr(model, "_preprocessor", None)
    return Ensemble(trees=tuple(trees), outputs=width), (
        lambda inputs: _plain(coder.transform(inputs) if coder else inputs)
    )


def _bits(words: Any) -> Any:
    """256 flags of a bitset of eight 32-bit words."""
    flags = (np.asarray(words, dtype=np.uint32)[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    return flags.ravel().astype(np.bool_)
