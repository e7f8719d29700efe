"""Standard errors of sampled Shapley values hold what they say at few samples."""

import numpy as np
import pytest

from auditkit.methods.explain import shapley_values


def three_way(matrix):
    """Interactions of three and five players, which one pair of walks often does not show; two players do nothing."""
    bent = np.tanh(3.0 * matrix)
    return 2.0 * sum(bent[:, 3 * i : 3 * i + 3].prod(axis=1) for i in range(4)) + bent[:, :5].prod(axis=1)


def smooth(matrix):
    mix = np.random.default_rng(9).normal(size=(14, 30))
    return np.tanh(matrix @ mix / 1.5) @ np.linspace(-1.0, 1.0, 30) + matrix[:, 2] * matrix[:, 3] * matrix[:, 4]


@pytest.mark.parametrize("game", [three_way, smooth])
@pytest.mark.parametrize(
    ("estimator", "b", "budget", "least"),
    [
        ("permutation", 20, 52, 0.93),
        ("permutation", 1, 78, 0.92),
        ("permutation", 2, 104, 0.88),
        ("permutation", 2, 208, 0.92),
        ("permutation", 5, 416, 0.88),
        ("linear_adjusted", 1, 56, 0.91),
        ("linear_adjusted", 1, 112, 0.92),
        ("linear_adjusted", 20, 1120, 0.9),
    ],
)
def test_two_standard_errors_hold_the_value_however_few_the_samples(game, estimator, b, budget, least):
    rng = np.random.default_rng(8)
    x, background = rng.normal(size=(1, 14)), rng.normal(size=(b, 14))
    truth = shapley_values(game, x, background, estimator="exact", budget=1).values
    many = np.repeat(x, 120, axis=0)
    result = shapley_values(game, many, background, estimator=estimator, budget=budget)
    inside = np.abs(result.values - truth) <= 1.96 * result.std_error + 1e-12
    assert inside.mean() > least
