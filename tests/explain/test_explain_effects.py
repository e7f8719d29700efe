"""Effects, interactions and permutation importance: closed forms, scikit-learn, loops; intervals that cover."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import partial_dependence as sklearn_dependence
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression

from auditkit.core.errors import UsageError
from auditkit.methods.explain.effects import (
    Rows,
    accumulated_local_effects,
    bin_means,
    binned_means,
    partial_dependence,
)
from auditkit.methods.explain.interactions import pair_effects
from auditkit.methods.explain.permuted import permutation_losses

RNG = np.random.default_rng(0)


def test_grid_points_are_means_of_ten_rows_or_more():
    values = RNG.normal(size=137)
    grid = bin_means(values, 12)
    assert len(grid) == 12
    assert not np.isin(grid, values).any()
    assert grid.min() > values.min()
    assert grid.max() < values.max()
    assert bin_means(np.array([0.0] * 95 + [1.0] * 5)).tolist() == []
    assert bin_means(np.array([0.0] * 50 + [1.0] * 50)).tolist() == [0.0, 1.0]


def ale_by_loop(outputs, matrix, column, grid):
    """Accumulated local effects, row by row."""
    sums, counts = np.zeros(len(grid) - 1), np.zeros(len(grid) - 1)
    for row in matrix:
        cell = 0
        while cell < len(grid) - 2 and row[column] >= grid[cell + 1]:
            cell += 1
        low, high = row.copy(), row.copy()
        low[column], high[column] = grid[cell], grid[cell + 1]
        sums[cell] += outputs(high[None])[0] - outputs(low[None])[0]
        counts[cell] += 1
    line = np.concatenate([[0.0], np.cumsum(sums / np.maximum(counts, 1))])
    return line - ((line[1:] + line[:-1]) / 2 * counts).sum() / counts.sum()


def model(m):
    return 2.0 * m[:, 0] + m[:, 1] ** 2 + m[:, 0] * m[:, 2]


def test_ale_equals_a_loop_and_its_closed_form_where_features_are_correlated():
    x = RNG.normal(size=(300, 3))
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]  # partial dependence would be about combinations that never occur
    grid = bin_means(x[:, 0])
    effect = accumulated_local_effects(model, Rows(matrix=x), 0, grid, np.random.default_rng(0))
    np.testing.assert_allclose(effect.y, ale_by_loop(model, x, 0, grid), atol=1e-12)
    additive = accumulated_local_effects(lambda m: 2.0 * m[:, 0] + m[:, 1] ** 3, Rows(matrix=x), 0, grid, RNG)
    np.testing.assert_allclose(np.diff(additive.y), 2.0 * np.diff(grid), atol=1e-12)
    assert np.ptp(additive.high - additive.low) < 1e-9  # only where the line is centred is unsure
    assert (effect.low <= effect.y).all()
    assert (effect.y <= effect.high).all()


def test_ale_with_whole_number_weights_equals_repeated_rows():
    x = RNG.normal(size=(60, 3))
    weights = RNG.integers(1, 4, 60)
    grid = bin_means(x[:, 0])
    weighted = accumulated_local_effects(model, Rows(matrix=x, weights=weights.astype(float)), 0, grid, RNG)
    repeated = accumulated_local_effects(model, Rows(matrix=np.repeat(x, weights, axis=0)), 0, grid, RNG)
    np.testing.assert_allclose(weighted.y, repeated.y, atol=1e-12)


def test_bands_of_ale_cover_the_effect_of_the_population():
    grid = np.array([-1.0, -0.3, 0.3, 1.0])
    truth = accumulated_local_effects(
        model, Rows(matrix=np.random.default_rng(99).normal(size=(60_000, 3))), 0, grid, RNG, draws=2
    ).y
    inside = []
    for seed in range(60):
        rows = Rows(matrix=np.random.default_rng(seed).normal(size=(80, 3)))
        effect = accumulated_local_effects(model, rows, 0, grid, np.random.default_rng(seed), draws=200)
        inside.append((effect.low <= truth) & (truth <= effect.high))
    assert np.mean(inside) > 0.87


def test_partial_dependence_equals_scikit_learns():
    x = RNG.normal(size=(80, 3))
    forest = RandomForestRegressor(n_estimators=10, random_state=0).fit(x, model(x))
    grid = bin_means(x[:, 1], 6)
    ours = partial_dependence(forest.predict, Rows(matrix=x), 1, grid)
    theirs = sklearn_dependence(
        forest, x, features=[1], custom_values={1: grid}, method="brute", kind="average"
    )["average"][0]  # fmt: skip
    np.testing.assert_allclose(ours.y, theirs - theirs.mean(), atol=1e-10)


def test_binned_means_are_means_of_the_nearest_rows():
    feature = np.r_[RNG.normal(size=120), np.nan]
    values = np.r_[feature[:-1] * 3.0, 99.0]
    grid = bin_means(feature[:-1], 8)
    effect = binned_means(values, feature, grid, Rows(matrix=np.zeros((121, 1))))
    bins = [[f for f in feature if abs(f - point) == np.abs(f - grid).min()] for point in grid]
    bins = [near for near in bins if len(near) >= 10]
    np.testing.assert_allclose(effect.x, [np.mean(near) for near in bins])
    np.testing.assert_allclose(effect.y, [3.0 * np.mean(near) for near in bins])  # a line stays a line
    assert effect.rows == 120


def test_a_bin_whose_rows_weigh_nothing_is_left_out():
    feature, weights = np.repeat([0.0, 1.0, 2.0], 10), np.repeat([1.0, 0.0, 2.0], 10)
    effect = binned_means(feature, feature, np.array([0.0, 1.0, 2.0]), Rows(matrix=np.zeros((30, 1)), weights=weights))
    assert effect.x.tolist() == effect.y.tolist() == [0.0, 2.0]


def test_interactions_of_additive_and_multiplied_features():
    x = np.random.default_rng(0).normal(size=(60, 3))  # its own, whatever tests ran before
    ones = np.ones((1, 60))
    pairs = pair_effects(lambda m: m[:, 0] * m[:, 1] + 0.5 * m[:, 2], x, [(0,), (1,), (2,)])
    found = {(p.first, p.second): p.strength(ones)[0] for p in pairs}
    assert found[0, 1] > 0.9
    assert found[0, 2] < 0.15
    assert found[1, 2] < 0.15
    (still,) = pair_effects(lambda m: np.zeros(len(m)), x, [(0,), (1,)])
    assert np.isnan(still.strength(ones)[0])


def test_h_equals_its_definition_by_loops():
    x = RNG.normal(size=(9, 3))

    def dependence(row, columns):
        copies = x.copy()
        copies[:, columns] = row[columns]
        return model(copies).mean()

    centred = {}
    for columns in ([0], [2], [0, 2]):
        values = np.array([dependence(row, columns) for row in x])
        centred[tuple(columns)] = values - values.mean()
    gap = centred[0, 2] - centred[(0,)] - centred[(2,)]
    (pair,) = pair_effects(model, x, [(0,), (2,)])
    expected = np.sqrt((gap**2).sum() / (centred[0, 2] ** 2).sum())
    assert pair.strength(np.ones((1, 9)))[0] == pytest.approx(expected)


@pytest.mark.parametrize("constant", [0.0, 0.3, 1e6])
def test_a_pair_that_the_model_ignores_has_no_strength(constant):
    """Means of the same numbers differ in their last digit: 1e-17 over 1e-17 is not a strength of 1."""
    x = RNG.normal(size=(30, 4))
    (ignored,) = pair_effects(lambda m: constant + 0.3 * m[:, 2] + 0.1 * m[:, 3], x, [(0,), (1,)])
    assert np.isnan(ignored.strength(np.ones((1, 30)))[0])
    (used,) = pair_effects(lambda m: constant + m[:, 0] * m[:, 1], x, [(0,), (1,)])
    assert used.strength(np.ones((1, 30)))[0] > 0.5


def test_h_with_whole_number_weights_equals_repeated_rows():
    x, weights = RNG.normal(size=(20, 3)), RNG.integers(1, 5, 20)
    again = np.repeat(x, weights, axis=0)
    (few,) = pair_effects(model, x, [(0,), (2,)], weights.astype(float))
    (many,) = pair_effects(model, again, [(0,), (2,)])
    (plain,) = pair_effects(model, x, [(0,), (2,)])
    expected = many.strength(np.ones((1, len(again))))[0]
    assert few.strength(weights[None, :].astype(float))[0] == pytest.approx(expected, rel=1e-9)
    assert abs(plain.strength(weights[None, :].astype(float))[0] - expected) > 1e-3


def test_permutation_importance_of_a_line_has_a_closed_form_and_matches_scikit_learn():
    x = RNG.normal(size=(600, 3))
    y = x @ np.array([2.0, 1.0, 0.0]) + RNG.normal(0, 0.1, 600)
    line = LinearRegression().fit(x, y)

    def losses(many):
        return (line.predict(many) - np.tile(y, len(many) // len(y))) ** 2

    ours = permutation_losses(losses, x, [(0,), (1,), (2,)], np.random.default_rng(0), 30).losses.mean(axis=1) / y.var()
    theirs = permutation_importance(line, x, y, n_repeats=30, random_state=0).importances_mean
    np.testing.assert_allclose(ours, theirs, rtol=0.03, atol=1e-4)
    np.testing.assert_allclose(ours[0], 2 * line.coef_[0] ** 2 * x[:, 0].var() / y.var(), rtol=0.03)


def test_features_that_belong_together_are_shuffled_together():
    code = RNG.integers(0, 3, 90)
    x = np.eye(3)[code]
    asked = []

    def losses(many):
        asked.append(many)
        return np.zeros(len(many))

    permutation_losses(losses, x, [(0, 1, 2)], np.random.default_rng(0), 2)
    assert (asked[1].sum(axis=1) == 1).all()
    with pytest.raises(UsageError, match="two rows"):
        permutation_losses(losses, x[:1], [(0,)], RNG)
