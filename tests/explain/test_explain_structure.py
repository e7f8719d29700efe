"""Exact values from the structure of a model, against enumeration of the model itself; wrong structures are refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier

from auditkit.core.errors import AuditkitError
from auditkit.methods.explain import shapley_values
from auditkit.methods.explain.additivity import checked
from auditkit.methods.explain.column_owners import column_owners
from auditkit.methods.explain.game import make_game
from auditkit.methods.explain.shap_engine import explain_scores
from auditkit.methods.explain.structure_engine import explain_structure
from auditkit.methods.explain.tree_models import read_trees
from auditkit.methods.explain.tree_paths import _left_bits, met_bits, patterns, walk
from auditkit.methods.explain.tree_shap import _of_twins, _shares, tree_shapley
from auditkit.methods.explain.tree_table import Columns, Tree

F = 6


def data(classes, missing=False):
    x, y = make_classification(
        500, F, n_informative=5, n_redundant=0, n_classes=classes, n_clusters_per_class=1, random_state=2
    )
    rng = np.random.default_rng(0)
    if missing:
        x[rng.random(x.shape) < 0.15] = np.nan
    return x, y


def agrees(model, ask, x, limit=1e-9):
    """Values of the structure equal enumeration of the model; sums equal the model's own output."""
    rows, background = x[:6], x[200:230]
    game = make_game(ask, rows, background)
    found = explain_structure(game, model)
    assert found.status == "exact"
    assert found.params["precision"] == "double"
    truth = shapley_values(ask, rows, background, estimator="exact", budget=1)
    np.testing.assert_allclose(found.values, truth.values, atol=limit)
    assert found.diagnostics["additivity_residual"] <= limit * max(1.0, np.abs(found.prediction).max())
    np.testing.assert_allclose(found.base_values[0], truth.base_values[0], atol=limit)


CLASSIFIERS = [
    (DecisionTreeClassifier(random_state=0), "predict_proba", True),
    (ExtraTreeClassifier(random_state=0), "predict_proba", False),
    (RandomForestClassifier(6, random_state=0), "predict_proba", True),
    (ExtraTreesClassifier(6, max_depth=6, random_state=0), "predict_proba", True),
    (GradientBoostingClassifier(n_estimators=8, random_state=0), "decision_function", False),
    (HistGradientBoostingClassifier(max_iter=8, random_state=0), "decision_function", True),
    (
        AdaBoostClassifier(DecisionTreeClassifier(max_depth=3), n_estimators=6, random_state=0),
        "decision_function",
        False,
    ),
    (BaggingClassifier(n_estimators=5, max_features=0.7, random_state=0), "predict_proba", True),
    (make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)), "predict_proba", False),
    (
        make_pipeline(SimpleImputer(), GradientBoostingClassifier(n_estimators=5, random_state=0)),
        "decision_function",
        True,
    ),
]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("model", "output", "takes_missing"), CLASSIFIERS, ids=[type(row[0]).__name__ + row[1][:4] for row in CLASSIFIERS]
)
def test_every_tree_classifier(model, output, takes_missing, classes):
    for missing in (False, True) if takes_missing else (False,):
        x, y = data(classes, missing)
        model.fit(x, y)
        agrees(model, getattr(model, output), x)


@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeRegressor(random_state=0),
        RandomForestRegressor(5, random_state=0),
        ExtraTreesRegressor(5, random_state=0),
        GradientBoostingRegressor(n_estimators=8, random_state=0),
        HistGradientBoostingRegressor(max_iter=8, random_state=0),
        BaggingRegressor(n_estimators=5, random_state=0),
        LinearRegression(),
        make_pipeline(StandardScaler(), Ridge()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_every_regressor(model):
    x, y = data(2)
    target = 100.0 * x[:, 0] * x[:, 1] + y
    agrees(model.fit(x, target), model.predict, x, 1e-8)


def test_several_outputs_of_a_forest():
    x, _ = data(2)
    model = RandomForestRegressor(5, random_state=0).fit(x, x[:, :2] ** 2)
    agrees(model, model.predict, x)


def test_histogram_boosting_with_categories_numbered_and_named_and_missing():
    x, _ = data(2, missing=True)
    rng = np.random.default_rng(4)
    x[:, 2] = rng.integers(0, 7, len(x))
    y = (np.isin(x[:, 2], [1, 4, 6]) ^ (np.nan_to_num(x[:, 0]) > 0)).astype(int)
    numbered = HistGradientBoostingClassifier(max_iter=10, categorical_features=[2], random_state=0).fit(x, y)
    x[3, 2] = np.nan  # missing, though never so in training
    agrees(numbered, numbered.decision_function, x)

    table = pd.DataFrame(x, columns=list("abcdef"))
    table["c"] = pd.Categorical.from_codes(np.nan_to_num(x[:, 2]).astype(int), list("tuvwxyz"))
    named = HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(table, y)
    assert named.is_categorical_.any()
    agrees_table(named, named.decision_function, table)


def agrees_table(model, ask, table):
    rows = table.iloc[:5].reset_index(drop=True)
    background = table.iloc[200:215].reset_index(drop=True)
    found = explain_structure(make_game(ask, rows, background), model)
    truth = shapley_values(ask, rows, background, estimator="exact", budget=1)
    assert found.feature_names == tuple(table.columns)
    np.testing.assert_allclose(found.values, truth.values, atol=1e-9)


@pytest.mark.parametrize("last", ["forest", "line"])
def test_a_pipeline_with_one_hot_columns_gives_values_of_the_original_features(last):
    x, y = data(2)
    table = pd.DataFrame(x, columns=list("abcdef"))
    table["city"] = np.random.default_rng(1).choice(["oslo", "rome", "lima"], len(x))
    coder = make_column_transformer(
        (OneHotEncoder(sparse_output=True), ["city"]), (StandardScaler(), list("abc")), remainder="drop"
    )
    end = RandomForestClassifier(6, random_state=0) if last == "forest" else LogisticRegression()
    model = make_pipeline(coder, end).fit(table, y)
    agrees_table(model, model.predict_proba if last == "forest" else model.decision_function, table)


@pytest.mark.parametrize("place", ["a row explained", "a background row"])
def test_a_category_of_one_single_row_is_counted_for_its_own_feature(place):
    """Its one-hot column is constant in all the other rows; nothing but that row tells which feature it comes from."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=400), "b": rng.normal(size=400), "c": rng.choice(list("xyz"), 400)})
    table.loc[[399, 150 if place == "a row explained" else 250], "c"] = "rare"
    y = table["a"] + 0.5 * table["b"] + 5.0 * (table["c"] == "rare")
    coder = make_column_transformer((OneHotEncoder(), ["c"]), remainder="passthrough")
    model = make_pipeline(coder, LinearRegression()).fit(table, y)
    rows, background = table[:200].reset_index(drop=True), table[200:300].reset_index(drop=True)
    found = explain_structure(make_game(model.predict, rows, background), model)
    slope = dict(zip(coder.get_feature_names_out(), model[-1].coef_, strict=True))
    for j, feature in enumerate("ab"):
        truth = slope[f"remainder__{feature}"] * (rows[feature] - background[feature].mean())
        np.testing.assert_allclose(found.values[:, j, 0], truth, atol=1e-9)
    worth = {name[-1]: value for name, value in slope.items() if "_c_" in name} | {
        "rare": slope["onehotencoder__c_rare"]
    }
    own = rows["c"].map(worth) - background["c"].map(worth).mean()
    np.testing.assert_allclose(found.values[:, 2, 0], own, atol=1e-9)


def test_columns_are_placed_among_many_features_and_those_of_two_features_are_not():
    rng = np.random.default_rng(0)
    game = make_game(lambda x: x[:, 0], rng.normal(size=(5, 300)), rng.normal(size=(3, 300)))
    order = rng.permutation(300)

    def shuffled(x):
        return np.column_stack([x[:, order], np.ones(len(x)), x[:, :7] > 0])

    owners = column_owners(game, shuffled, shuffled(game.rows), shuffled(game.background))
    np.testing.assert_array_equal(owners[:300], order)
    np.testing.assert_array_equal(owners[301:], np.arange(7))
    for mix in (lambda x: x[:, 3] + x[:, 77], lambda x: np.maximum(x[:, 0], x[:, 299]), lambda x: x[:, 1] * x[:, 2]):

        def mixed(x, mix=mix):
            return np.column_stack([x, mix(x)])

        with pytest.raises(ValueError, match="a step before the model mixes features"):
            column_owners(game, mixed, mixed(game.rows), mixed(game.background))


def test_outputs_on_other_scales_have_limits_of_their_own():
    """A large output must not hide that a small one is not explained; tiny outputs are held to their own size."""
    x, y = data(2)
    forest = RandomForestRegressor(5, random_state=0).fit(
        x, np.column_stack([1e9 * x[:, 0], 1e-6 * x[:, 1], 1e-13 * y])
    )
    rows, background = x[:6], x[200:230]
    found = explain_structure(make_game(forest.predict, rows, background), forest)
    truth = shapley_values(forest.predict, rows, background, estimator="exact", budget=1)
    for output in range(3):
        size = np.abs(truth.values[:, :, output]).max()
        np.testing.assert_allclose(found.values[:, :, output], truth.values[:, :, output], atol=1e-9 * size)

    def bent(x):
        return forest.predict(x) + np.array([0.0, 0.0, 1e-14]) * np.sin(x[:, [2]])

    with pytest.raises(ValueError, match="not a sum over the trees"):
        explain_structure(make_game(bent, rows, background), forest)
    short = replace(truth, values=truth.values * np.array([1.0, 1.0, 0.9]))
    assert checked(truth).status == "exact"
    assert checked(short).status == "failed"


def test_values_that_cancel_to_nothing_are_not_failed_for_their_rounding():
    """A class that neither the rows nor the background get, though mixtures of them do."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, size=(300, 4)).astype(float)
    y = np.where((x[:, 0] == x[:, 1]) & (x[:, 2] != x[:, 3]), "rare", "common")
    model = RandomForestClassifier(7, random_state=0).fit(x, y)
    common = x[model.predict_proba(x)[:, 1] == 0.0]
    found = explain_scores(
        make_game(model.predict_proba, common[:5], common[50:52]),
        model=model,
        space="probability",
        column=None,
        budget=99,
    )
    assert np.abs(found.values).max() > 0.05
    assert found.params["engine"] == "shapley.trees"
    assert found.status == "exact"


def test_sentences_of_other_libraries_never_reach_a_note():
    """scikit-learn names the category that it does not know: a value of a row."""
    table = pd.DataFrame({"a": np.arange(60.0), "c": ["x", "y"] * 30})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["c"]), remainder="passthrough"), LinearRegression()
    )
    model.fit(table, table["a"])
    strange = table.assign(c="secret-town")
    game = make_game(lambda t: t["a"].to_numpy(), strange[:3], strange[30:40])
    found = explain_scores(game, model=model, space="value", column=None, budget=100)
    assert found.status == "exact"
    assert "secret-town" not in found.params["tried"]
    assert "structure: refused (ValueError)" in found.params["tried"]


@pytest.mark.parametrize("background", [1, 30, 64])
def test_trees_without_a_split_add_a_constant(background):
    """Alone a model that is worth the same everywhere, among others no more than a shift."""
    x, y = data(2)
    ends = x[:5], x[200 : 200 + background]
    alone = DecisionTreeClassifier(max_depth=2, min_impurity_decrease=1.0).fit(x, y)
    assert alone.tree_.node_count == 1
    found = explain_structure(make_game(alone.predict_proba, *ends), alone)
    assert found.status == "exact"
    assert not found.values.any()
    forest = RandomForestClassifier(20, max_depth=3, min_impurity_decrease=0.06, random_state=0).fit(x, y)
    assert 0 < sum(tree.tree_.node_count == 1 for tree in forest.estimators_) < 20
    found = explain_structure(make_game(forest.predict_proba, *ends), forest)
    truth = shapley_values(forest.predict_proba, *ends, estimator="exact", budget=1)
    np.testing.assert_allclose(found.values, truth.values, atol=1e-12)


def test_grouped_columns_move_together():
    x, y = data(2)
    model = RandomForestClassifier(8, random_state=0).fit(x, y)
    groups = [(0, 3), (1,), (2, 4, 5)]
    found = explain_structure(make_game(model.predict_proba, x[:5], x[100:140], groups), model)
    truth = shapley_values(model.predict_proba, x[:5], x[100:140], groups=groups, budget=10_000)
    np.testing.assert_allclose(found.values, truth.values, atol=1e-12)


def test_deep_trees_are_settled_alike_by_table_and_by_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(260, 20))
    model = DecisionTreeRegressor(random_state=0).fit(x, rng.normal(size=260))
    ensemble, _ = read_trees(model)
    found = tree_shapley(ensemble, x[:20], x[200:260], np.arange(20), 20)
    ours, pairs = "auditkit.methods.explain.tree_shap.", "auditkit.methods.explain.tree_pairs."
    alone = {"_TABLED_PLAYERS": 0}, {"_PAIR_COST": 1e9}, {"_PAIR_COST": 1e9, "_COUNTED_SETS": 0}
    for names in alone:  # pairs; tables, of rows that are counted set by set or row by row
        for cells in (2_000_000, 4_000):  # all at once, and in small parts
            with monkeypatch.context() as patch:
                for name, value in {**names, "_CELLS": cells, "_SETS": cells // 4}.items():
                    patch.setattr(ours + name, value)
                patch.setattr(pairs + "_PAIRS", cells // 4)
                other = tree_shapley(ensemble, x[:20], x[200:260], np.arange(20), 20)
                np.testing.assert_allclose(found, other, atol=1e-12)
    np.testing.assert_allclose(
        found.sum(axis=1)[:, 0], model.predict(x[:20]) - model.predict(x[200:260]).mean(), atol=1e-10
    )


@pytest.mark.parametrize("background", [1, 7, 64, 300])
@pytest.mark.parametrize(("depth", "players"), [(4, 20), (None, 20), (None, 4), (40, 40)])
def test_patterns_and_shares_of_leaves_are_those_of_their_paths(depth, players, background):
    """Each leaf's bits, and the rows that meet each set of its conditions, against walking every path."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(340, players))
    if depth == 40:  # one long chain: 40 players on the last path, asked one after the other
        x = np.tril(np.ones((41, 40)))[rng.permutation(np.arange(340) % 41)]
        target = x.sum(axis=1) + 2.0 ** (x.sum(axis=1) / 4.0)
    else:
        target = rng.normal(size=340)
    ensemble, _ = read_trees(DecisionTreeRegressor(max_depth=depth, random_state=0).fit(x, target))
    (tree,) = ensemble.trees
    player_of = rng.integers(0, players, size=players)  # several columns of one player
    rows = x[:background]
    walked = walk(tree, player_of)
    bits = met_bits(tree, Columns(rows), walked.again)
    expected = {}
    for path, value in _paths(tree, 0, ()):
        owners = list(dict.fromkeys(int(player_of[tree.feature[node]]) for node, _ in path))
        met = np.ones((len(owners), background), dtype=np.bool_)
        for node, left in path:
            goes = rows[:, tree.feature[node]].astype(np.float32) <= tree.threshold[node]
            met[owners.index(player_of[tree.feature[node]])] &= goes == left
        expected.setdefault((tuple(owners), float(value[0])), []).append(met.tolist())
    seen, twins = {}, 0
    for paths in walked.paths:
        for place, owners in enumerate(paths.players):
            found = patterns(bits[paths.steps[[place]].T], background)[0].astype(np.uint64)
            met = [(found >> np.uint64(i) & np.uint64(1)).astype(bool) for i in range(len(owners))]
            key = tuple(owners.tolist()), float(paths.value[place, 0])
            seen.setdefault(key, []).append(np.reshape(met, (len(owners), background)).tolist())
        twins += _shares_are_those_of_the_bits(paths, bits, background)
    assert seen.keys() == expected.keys()
    assert twins > 10 or depth is not None or players < 20
    for key, parts in expected.items():
        assert sorted(seen[key]) == sorted(parts)


def _shares_are_those_of_the_bits(paths, bits, b):
    """Counted set by set, row by row, and for a twin from its pair; the number of twins."""
    depth = paths.players.shape[1]
    if not 0 < depth <= 10:
        return 0
    met = np.unpackbits(bits[paths.steps.T], axis=2, count=b).astype(bool)
    sets = [[i for i in range(depth) if s >> i & 1] for s in range(2**depth)]
    truth = np.array([met[s].all(axis=0).mean(axis=1) for s in sets])
    for counted in (0, 16):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("auditkit.methods.explain.tree_shap._COUNTED_SETS", counted)
            np.testing.assert_allclose(_shares(bits[paths.steps.T], b), truth, atol=1e-12)
    second = np.flatnonzero(paths.twin >= 0)
    np.testing.assert_allclose(_of_twins(truth)[:, paths.twin[second]], truth[:, second], atol=1e-12)
    return len(second)


def _paths(tree, node, path):
    if tree.feature[node] < 0:
        yield path, tree.value[node]
        return
    yield from _paths(tree, tree.left[node], (*path, (node, True)))
    yield from _paths(tree, tree.right[node], (*path, (node, False)))


@pytest.mark.parametrize("players", [1, 7, 8, 9, 16, 17, 33, 62])
def test_patterns_are_the_bits_of_each_row(players):
    rng = np.random.default_rng(players)
    for rows in (1, 63, 64, 200):
        met = rng.random((players, 3, rows)) < 0.5
        packed = np.zeros((players, 3, 8 * -(-rows // 64)), dtype=np.uint8)
        packed[:, :, : -(-rows // 8)] = np.packbits(met, axis=2)
        expected = sum(met[player].astype(np.uint64) << player for player in range(players))
        np.testing.assert_array_equal(patterns(packed, rows), expected)


def test_a_path_of_more_features_than_a_pattern_has_bits_is_left_to_evaluation():
    x = np.eye(80)
    model = DecisionTreeRegressor(random_state=0).fit(x, np.arange(80.0))
    ensemble, _ = read_trees(model)
    with pytest.raises(ValueError, match="a path of a tree asks more than 62 features"):
        tree_shapley(ensemble, x[:2], x[:3], np.arange(80), 80)
    found = explain_scores(
        make_game(model.predict, x[:2], x[3:6]), model=model, space="value", column=None, budget=4000
    )
    assert "a path of a tree asks more than 62 features" in found.params["tried"]
    assert found.diagnostics["additivity_residual"] < 1e-9


@pytest.mark.parametrize("strict", [False, True])
def test_rows_at_and_beside_thresholds_take_the_side_that_double_precision_gives(strict):
    """Single-precision columns are compared with double thresholds; the engine compares in single precision."""
    rng = np.random.default_rng(0)
    cuts = np.concatenate([rng.normal(size=40), rng.normal(size=20).astype(np.float32), [0.0, 1e30, -1e-40, 1e300]])
    with np.errstate(over="ignore"):
        near = cuts.astype(np.float32)
    beside = np.concatenate(
        [near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf)), cuts]
    )
    rows = np.concatenate([beside, [np.nan]])[:, None]
    inner = len(cuts)
    tree = Tree(
        feature=np.r_[np.zeros(inner, dtype=np.int64), -1],
        threshold=np.r_[cuts, 0.0],
        left=np.zeros(inner + 1, dtype=np.int64),
        right=np.zeros(inner + 1, dtype=np.int64),
        value=np.zeros((inner + 1, 1)),
        missing_left=np.arange(inner + 1) % 2 == 0,
        strict=strict,
        single=True,
    )
    goes = tree.goes_left(Columns(rows))
    bits = np.unpackbits(met_bits(tree, Columns(rows), ()), axis=1).astype(bool)
    np.testing.assert_array_equal(bits[:inner, : len(rows)], goes[:-1])
    np.testing.assert_array_equal(bits[inner + 1 : -1, : len(rows)], ~goes[:-1])
    assert not bits[:, len(rows) :].any()
    for place, cut in enumerate(cuts):
        for row, value in enumerate(beside):
            with np.errstate(over="ignore"):
                seen = float(np.float32(value))
            assert goes[place, row] == (seen < cut if strict else seen <= cut), (value, cut)
        assert goes[place, -1] == (place % 2 == 0)
    assert not goes[-1].any()


def test_the_whole_background_counts_and_repeats_count_twice():
    x, y = data(2)
    model = GradientBoostingClassifier(n_estimators=10, random_state=0).fit(x, y)
    game = make_game(model.decision_function, x[:4], np.repeat(x[100:400], [1, 2, 3] * 100, axis=0))
    found = explain_structure(game, model)
    weighted = sum(
        explain_structure(make_game(model.decision_function, x[:4], x[100:400][k::3]), model).values * (k + 1) / 6
        for k in range(3)
    )
    np.testing.assert_allclose(found.values, weighted, atol=1e-12)


REFUSED = [
    (GradientBoostingClassifier(n_estimators=5), lambda m: m.predict_proba, "not a sum over the trees"),
    (AdaBoostClassifier(n_estimators=5), lambda m: m.predict_proba, "not a sum over the trees"),
    (LogisticRegression(), lambda m: lambda x: m.predict_proba(x) ** 2, "not a sum over the linear"),
    (make_pipeline(PCA(3), RandomForestClassifier(4)), lambda m: m.predict_proba, "a step before the model mixes"),
    (make_pipeline(PCA(3), LinearRegression()), lambda m: m.predict, "a step before the model mixes"),
]


@pytest.mark.parametrize(("model", "output", "why"), REFUSED, ids=range(len(REFUSED)))
def test_outputs_that_the_structure_does_not_give_are_refused_and_evaluated(model, output, why):
    x, y = data(2)
    ask = output(model.fit(x, y))
    game = make_game(ask, x[:4], x[200:220])
    with pytest.raises(ValueError, match=why):
        explain_structure(game, model)
    with pytest.raises(AuditkitError, match="AK465 no structure of this model gives its outputs"):
        explain_scores(game, model=model, space="value", column=None, budget=2000, engine="structure")
    found = explain_scores(game, model=model, space="value", column=None, budget=2000)
    assert found.params["engine"] == "shapley.exact"
    np.testing.assert_allclose(found.values, shapley_values(ask, x[:4], x[200:220], budget=2000).values, atol=1e-12)


def test_outputs_that_are_no_sum_of_trees_still_add_up():
    x, y = data(2)
    for model, output in (
        (AdaBoostRegressor(n_estimators=5), "predict"),
        (IsolationForest(n_estimators=10), "score_samples"),
    ):
        ask = getattr(model.fit(x, y), output)
        found = explain_scores(make_game(ask, x[:4], x[200:220]), model=model, space="value", column=None, budget=2000)
        assert found.status == "exact"
        assert found.diagnostics["additivity_residual"] < 1e-12


def test_planted_faults_are_caught():
    """One leaf moved, one threshold shifted, one feature swapped: none passes for the model."""
    x, y = data(2)
    model = GradientBoostingClassifier(n_estimators=4, random_state=0).fit(x, y)
    game = make_game(model.decision_function, x[:60], x[200:260])
    assert explain_structure(game, model).status == "exact"
    whole = read_trees(model)[0]
    for fault in ("value", "threshold", "feature"):
        tree = whole.trees[0]
        changed = getattr(tree, fault).copy()
        if fault == "value":
            changed[-1] += 1e-5
        elif fault == "threshold":
            changed[0] += 0.5
        else:
            changed[0] = (changed[0] + 1) % F
        wrong = replace(whole, trees=(replace(tree, **{fault: changed}), *whole.trees[1:]))

        def broken(_, wrong=wrong):
            return wrong, lambda inputs: np.asarray(inputs, dtype=np.float64)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("auditkit.methods.explain.structure_engine.read_trees", broken)
            with pytest.raises(ValueError, match="not a sum over the trees"):
                explain_structure(game, model)


@pytest.mark.parametrize("misread", ["rows", "background"])
def test_one_row_misread_is_caught(misread):
    """One row of 60 goes the wrong way at a split of each column: its own sum, or the background's mean, tells."""
    x, y = data(2)
    model = GradientBoostingRegressor(n_estimators=4, random_state=0).fit(x, y + x[:, 0])
    game = make_game(model.predict, x[:60], x[200:260])
    first = x[{"rows": 0, "background": 200}[misread]]

    def wrong(tree, columns, nodes):
        bits = _left_bits(tree, columns, nodes)
        bits[0, 0] ^= 128 * np.array_equal(columns.matrix[0], first)
        return bits

    assert explain_structure(game, model).status == "exact"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("auditkit.methods.explain.tree_paths._left_bits", wrong)
        with pytest.raises(ValueError, match="not a sum over the trees"):
            explain_structure(game, model)


def test_categorical_splits_of_boosters_through_their_public_tables():
    xgboost = pytest.importorskip("xgboost")
    lightgbm = pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    home = rng.integers(0, 6, 500)
    table = pd.DataFrame({"a": rng.normal(size=500), "home": pd.Categorical(np.array(list("uvwxyz"))[home])})
    table["b"], table.loc[rng.random(500) < 0.1, "home"] = rng.normal(size=500), np.nan
    y = (np.array([1, -1, 2, -2, 0, 1.5])[home] + table["a"] + rng.normal(0, 0.5, 500) > 0).astype(int)
    first = xgboost.XGBClassifier(
        n_estimators=12, max_depth=4, enable_categorical=True, tree_method="hist", max_cat_to_onehot=1, n_jobs=1
    ).fit(table, y)
    second = lightgbm.LGBMClassifier(n_estimators=12, verbose=-1, n_jobs=1, min_child_samples=5).fit(table, y)
    margins = (lambda m: first.predict(m, output_margin=True)), (lambda m: second.predict(m, raw_score=True))
    rows, background = table[:6].reset_index(drop=True), table[200:240].reset_index(drop=True)
    for model, margin, close in zip((first, second), margins, (1e-5, 1e-9), strict=True):
        assert read_trees(model)[0].trees[0].categories or read_trees(model)[0].trees[1].categories
        found = explain_structure(make_game(margin, rows, background), model)
        truth = shapley_values(margin, rows, background, estimator="exact", budget=1)
        np.testing.assert_allclose(found.values, truth.values, atol=close)
        assert np.abs(found.values[:, 1]).max() > 0.1


def test_boosters_through_their_public_tables():
    xgboost = pytest.importorskip("xgboost")
    lightgbm = pytest.importorskip("lightgbm")
    for classes in (2, 3):
        x, y = data(classes, missing=True)
        theirs = xgboost.XGBClassifier(n_estimators=10, max_depth=4).fit(x, y)

        def margin(m, model=theirs):
            return model.predict(m, output_margin=True)

        found = explain_structure(make_game(margin, x[:5], x[200:230]), theirs)
        assert found.params["precision"] == "single"
        truth = shapley_values(margin, x[:5], x[200:230], estimator="exact", budget=1)
        np.testing.assert_allclose(found.values, truth.values, atol=1e-5)
        light = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(x, y)
        agrees(light, lambda m, model=light: model.predict(m, raw_score=True), x)
