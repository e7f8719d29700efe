"""LIME through its library: the same bits for a seed, guards for what it cannot take, and fit that means something."""

import dataclasses
import random
import warnings

import numpy as np
import pytest
from lime.lime_tabular import LimeTabularExplainer

from auditkit.core.errors import UsageError
from auditkit.methods.explain.lime_engine import LimeTable, lime_explanations, top_overlap


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(200, 7))
    reference[:, 2] = 4.0
    reference[:, 3] = rng.integers(0, 3, 200)
    return LimeTable(reference=reference, names=tuple("abcdefg"), categorical=(3,))


def score(matrix):
    return (2.0 * matrix[:, 0] - matrix[:, 1] + 3.0 * (matrix[:, 3] == 1))[:, None]


def test_same_seed_same_bits_whatever_came_before(table):
    rows = table.reference[:4]
    first = lime_explanations(score, rows, table, samples=200, seed=5)
    lime_explanations(score, rows, table, samples=50, seed=9)
    again = lime_explanations(score, rows, table, samples=200, seed=5)
    assert first.weights.tobytes() == again.weights.tobytes()
    assert first.r2.tobytes() == again.r2.tobytes()
    other = lime_explanations(score, rows, table, samples=200, seed=6)
    assert first.weights.tobytes() != other.weights.tobytes()
    # A row's answer does not depend on the rows explained before it.
    longer = lime_explanations(score, table.reference[:6], table, samples=200, seed=5)
    assert longer.weights[:4].tobytes() == first.weights.tobytes()


def test_agrees_with_lime_called_by_hand_on_the_same_samples(table):
    rows = table.reference[:1]
    ours = lime_explanations(score, rows, table, samples=300, seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = LimeTabularExplainer(
            table.reference, mode="regression", categorical_features=[3], feature_selection="none", random_state=0
        )
        state = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([5, 0])))
        explainer.random_state = explainer.base.random_state = explainer.discretizer.random_state = state
        theirs = explainer.explain_instance(rows[0], lambda m: score(m)[:, 0], num_features=7, num_samples=300)
    expected = np.zeros(7)
    for feature, weight in theirs.local_exp[1]:
        expected[feature] = weight
    np.testing.assert_allclose(ours.weights[0], expected, atol=1e-12)
    assert ours.r2[0] == pytest.approx(theirs.score)


def test_finds_what_the_model_uses_and_ignores_the_rest(table):
    result = lime_explanations(score, table.reference[:20], table, samples=800)
    size = np.abs(result.weights).mean(axis=0)
    assert set(np.argsort(-size)[:3]) == {0, 1, 3}
    assert size[2] == 0.0
    assert size[[4, 5, 6]].max() < 0.2 * size[[0, 1, 3]].min()
    assert result.r2.mean() > 0.3


def test_a_linear_model_fits_exactly_without_quartiles(table):
    straight = dataclasses.replace(table, discretize=False, categorical=())
    result = lime_explanations(lambda m: 2.0 * m[:, :1] - m[:, 1:2], table.reference[:3], straight, samples=500)
    # lime's ridge shrinks a little; weights are effects of one standard deviation.
    assert result.r2.min() > 0.99
    expected = np.zeros(7)
    expected[:2] = np.array([2.0, -1.0]) * table.reference[:, :2].std(axis=0)
    np.testing.assert_allclose(result.weights, np.tile(expected, (3, 1)), atol=0.1)


def test_noise_has_a_poor_fit(table):
    rng = np.random.default_rng(1)
    result = lime_explanations(lambda m: rng.normal(size=(len(m), 1)), table.reference[:5], table, samples=800)
    assert result.r2.mean() < 0.1


def test_rows_with_missing_values_are_skipped_and_counted(table):
    rows = table.reference[:5].copy()
    rows[1, 4] = np.nan
    holey = table.reference.copy()
    holey[:30, 0] = np.nan
    result = lime_explanations(
        score, rows, LimeTable(reference=holey, names=table.names, categorical=(3,)), samples=100
    )
    assert result.rows.tolist() == [0, 2, 3, 4]
    assert result.skipped == 1
    assert result.reference_dropped == 30
    assert np.isfinite(result.weights).all()


def test_targets_choose_the_output(table):
    def two(matrix):
        return np.hstack([score(matrix), -score(matrix)])

    rows = np.repeat(table.reference[:1], 2, axis=0)
    result = lime_explanations(two, rows, table, samples=1500, targets=[0, 1])
    assert result.weights[0, 3] == pytest.approx(-result.weights[1, 3], rel=0.2)


def test_faults_are_coded(table):
    empty = LimeTable(reference=np.full((3, 7), np.nan), names=table.names)
    with pytest.raises(UsageError, match="AK505 no row of the reference table is complete"):
        lime_explanations(score, table.reference[:1], empty)
    with pytest.raises(UsageError, match="AK505 lime needs at least 10 samples a row, got 3"):
        lime_explanations(score, table.reference[:1], table, samples=3)


def test_silent_and_generators_untouched(table, capsys):
    before, numpy_before = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    lime_explanations(score, table.reference[:2], table, samples=50)
    assert random.getstate() == before
    assert np.random.get_state()[1].tobytes() == numpy_before  # noqa: NPY002
    assert capsys.readouterr() == ("", "")


def test_overlap_of_the_largest():
    first = np.array([[5.0, -4.0, 1.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    second = np.array([[5.0, 0.0, 1.0, -4.0], [1.0, 2.0, 3.0, 4.0]])
    assert top_overlap(first, second, k=2).tolist() == [0.5, 1.0]
