"""Shapley values against the permutation formula, closed forms and games with known values."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.methods.explain.game import make_game
from auditkit.methods.explain.shapley import explain_game, shapley_values


def brute_force(predict, row, background):
    """The definition: mean gain of a player over all orders, worth averaged over the background."""
    f = len(row)

    def worth(members):
        mixed = background.copy()
        mixed[:, list(members)] = row[list(members)]
        return predict(mixed).mean(axis=0)

    total = 0.0
    for order in itertools.permutations(range(f)):
        gains = np.zeros((f, len(worth(()))))
        for place, player in enumerate(order):
            gains[player] = worth(order[: place + 1]) - worth(order[:place])
        total = total + gains
    return total / math.factorial(f)


def interacting(matrix):
    a, b, c, d = matrix.T
    return np.stack([a * b + np.sin(3 * c) * d, np.exp(a / 2) - b * c * d], axis=1)


@pytest.fixture
def rows():
    rng = np.random.default_rng(4)
    return rng.normal(size=(3, 4)), rng.normal(size=(7, 4))


def test_exact_equals_the_definition_over_all_orders(rows):
    x, background = rows
    result = shapley_values(interacting, x, background, budget=10_000)
    assert result.status == "exact"
    for i in range(len(x)):
        np.testing.assert_allclose(result.values[i], brute_force(interacting, x[i], background), atol=1e-12)


def test_exact_does_not_depend_on_the_batch_size(rows):
    x, background = rows
    whole = shapley_values(interacting, x, background, budget=10_000)
    tiny = shapley_values(interacting, x, background, budget=10_000, batch_size=3)
    np.testing.assert_allclose(whole.values, tiny.values, atol=1e-14)


def tangled(matrix):
    return np.tanh(matrix.prod(axis=1) + matrix.sum(axis=1))[:, None] + np.abs(matrix).max(axis=1)[:, None]


@pytest.mark.parametrize("pairs", [5, 42], ids=["part of the background", "rounds over all of it"])
def test_permutation_sampling_is_unbiased_and_its_standard_error_honest(rows, pairs):
    x, background = rows
    truth = shapley_values(tangled, x, background, estimator="exact", budget=1).values
    errors, claimed = [], []
    for seed in range(120):
        result = shapley_values(tangled, x, background, estimator="permutation", budget=6 * pairs, seed=seed)
        assert result.status == "estimated"
        assert result.diagnostics["additivity_residual"] < 1e-10
        errors.append(result.values - truth)
        claimed.append(result.std_error)
    errors, claimed = np.array(errors), np.array(claimed)
    spread = errors.std(axis=0)
    # Unbiased: means within four of their own standard errors.
    assert (np.abs(errors.mean(axis=0)) < 4.0 * spread / np.sqrt(120) + 1e-12).all()
    ratio = np.sqrt((claimed**2).mean(axis=0)) / spread
    # Whole rounds: the right size. A part of the background, drawn without replacement: an upper bound.
    assert np.median(ratio) > 0.85
    assert np.median(ratio) < (1.15 if pairs == 42 else 4.0)


def test_antithetic_pairs_are_exact_for_interactions_of_two(rows):
    x, background = rows

    def pairwise(matrix):
        return matrix[:, 0] * matrix[:, 1] - np.sin(matrix[:, 2]) * matrix[:, 3]

    sampled = shapley_values(pairwise, x, background, estimator="permutation", budget=6 * 7)
    np.testing.assert_allclose(
        sampled.values, shapley_values(pairwise, x, background, budget=10_000).values, atol=1e-12
    )


def test_standard_error_shrinks_with_the_budget(rows):
    x, background = rows
    small = shapley_values(tangled, x, background, estimator="permutation", budget=6 * 70, seed=1)
    large = shapley_values(tangled, x, background, estimator="permutation", budget=6 * 70 * 16, seed=1)
    assert large.std_error.mean() < 0.4 * small.std_error.mean()


def test_base_value_is_the_mean_over_the_whole_background_even_when_walks_start_from_a_part_of_it(rows):
    x, _ = rows
    background = np.random.default_rng(0).normal(size=(500, 4))
    result = shapley_values(interacting, x, background, estimator="permutation", budget=6 * 10)
    np.testing.assert_allclose(result.base_values[0], interacting(background).mean(axis=0), atol=1e-12)
    assert result.diagnostics["additivity_residual"] < 1e-10
    assert result.params["background_use"] == (
        "each row's walks start from 10 of 500 background rows; the base value is over all 500"
    )


def test_features_that_the_model_ignores_get_exactly_nothing_from_a_part_of_the_background(rows):
    x, _ = rows
    background = np.random.default_rng(0).normal(size=(500, 4))
    result = shapley_values(lambda m: np.exp(m[:, 2]), x, background, estimator="permutation", budget=6 * 4)
    assert np.abs(result.values[:, [0, 1, 3]]).max() == 0.0
    np.testing.assert_allclose(result.values[:, 2, 0], np.exp(x[:, 2]) - np.exp(background[:, 2]).mean(), atol=1e-12)


def test_budget_is_model_evaluations_a_row(rows):
    x, background = rows
    seen = 0

    def counted(matrix):
        nonlocal seen
        seen += len(matrix)
        return interacting(matrix)

    result = shapley_values(counted, x, background, estimator="permutation", budget=100)
    assert seen == result.n_evals
    assert seen - len(background) - len(x) <= 100 * len(x)


def test_linear_model_by_permutation_is_exact_after_whole_rounds():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(20, 1))
    x, background = rng.normal(size=(2, 20)), rng.normal(size=(5, 20))
    result = shapley_values(lambda m: m @ weights, x, background, budget=38 * 5)
    closed = (x - background.mean(axis=0))[:, :, None] * weights[None]
    np.testing.assert_allclose(result.values, closed, atol=1e-12)


def test_groups_enter_together():
    rng = np.random.default_rng(1)
    x, background = rng.normal(size=(2, 4)), rng.normal(size=(6, 4))
    game = make_game(interacting, x, background, [(0, 2), (1,), (3,)])
    result = explain_game(game, budget=10_000)

    def worth(row, members):
        columns = [c for g in members for c in ((0, 2), (1,), (3,))[g]]
        mixed = background.copy()
        mixed[:, columns] = row[columns]
        return interacting(mixed).mean(axis=0)

    for i, row in enumerate(x):
        for player in range(3):
            gains = []
            for order in itertools.permutations(range(3)):
                before = order[: order.index(player)]
                gains.append(worth(row, (*before, player)) - worth(row, before))
            np.testing.assert_allclose(result.values[i, player], np.mean(gains, axis=0), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), f=st.integers(1, 5), b=st.integers(1, 4))
def test_axioms_hold_for_random_games(seed, f, b):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(f, 3))
    mixing[-1] = 0.0 if f > 1 else mixing[-1]  # the last feature is ignored by the model

    def predict(matrix):
        return np.tanh(matrix @ mixing).prod(axis=1)

    x, background = rng.normal(size=(2, f)), rng.normal(size=(b, f))
    result = shapley_values(predict, x, background, budget=10_000)
    total = result.base_values + result.values.sum(axis=1)
    np.testing.assert_allclose(total[:, 0], predict(x), atol=1e-12)
    if f > 1:
        assert np.abs(result.values[:, -1]).max() < 1e-14


def test_one_row_background_constant_features_and_missing_values():
    def predict(matrix):
        return np.where(np.isnan(matrix[:, 0]), 5.0, matrix[:, 0]) + matrix[:, 1]

    x = np.array([[np.nan, 1.0], [2.0, 1.0]])
    background = np.array([[1.0, 1.0]])
    result = shapley_values(predict, x, background, budget=100)
    np.testing.assert_allclose(result.values[:, :, 0], [[4.0, 0.0], [1.0, 0.0]])
    assert result.background_hash.startswith("sha256:")


def test_same_seed_same_bits_and_another_seed_differs(rows):
    x, background = rows
    first, again, other = (
        shapley_values(interacting, x, background, estimator="permutation", budget=60, seed=s) for s in (3, 3, 4)
    )
    assert first.values.tobytes() == again.values.tobytes()
    assert first.values.tobytes() != other.values.tobytes()


def test_a_model_that_changes_its_mind_fails_the_check():
    calls = itertools.count()

    def moody(matrix):
        return matrix.sum(axis=1) + next(calls)

    result = shapley_values(moody, np.ones((1, 3)), np.zeros((4, 3)), estimator="permutation", budget=8)
    # The rows are asked again here by the caller: what was attributed no longer adds up to that.
    from dataclasses import replace

    from auditkit.methods.explain.additivity import checked

    late = checked(replace(result, prediction=moody(np.ones((1, 3)))[:, None]))
    assert late.status == "failed"
    assert "miss the model's own output" in late.reason


def test_faults_are_coded(rows):
    x, background = rows
    with pytest.raises(UsageError, match="AK500 rows .* must be matrices with the same columns"):
        shapley_values(interacting, x, background[:, :3], budget=100)
    with pytest.raises(UsageError, match="AK500 there are no rows to explain, or the background is empty"):
        shapley_values(interacting, x, background[:0], budget=100)
    with pytest.raises(UsageError, match="AK500 a budget of 5 evaluations a row is too small for 4 features"):
        shapley_values(interacting, x, background, estimator="permutation", budget=5)
    with pytest.raises(AuditkitError, match=r"AK501 the model gave outputs of shape \(3, 2, 1\)"):
        shapley_values(lambda m: np.zeros((3, 2, 1)), x, background, budget=1000)
    with pytest.raises(AuditkitError, match="AK502 the model gave outputs that are not finite"):
        shapley_values(lambda m: np.full(len(m), np.inf), x, background, budget=1000)
    with pytest.raises(UsageError, match="AK500 feature groups must hold every column exactly once"):
        make_game(interacting, x, background, [(0, 1), (1, 2, 3)])
