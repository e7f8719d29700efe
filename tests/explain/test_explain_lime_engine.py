"""LIME, both engines: lime by hand as the reference of the batched one, and guards for what lime cannot take."""

import dataclasses
import random
import warnings

import numpy as np
import pandas as pd
import pytest
from lime.lime_base import LimeBase
from lime.lime_tabular import LimeTabularExplainer
from scipy.stats import ks_2samp

from auditkit.core.errors import UsageError
from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_step
from auditkit.methods.explain.agreement import top_overlap
from auditkit.methods.explain.lime_batched import batched_lime, explain_samples, surrogate_data
from auditkit.methods.explain.lime_engine import library_lime, lime_images, lime_texts
from auditkit.methods.explain.lime_sampling import draw, make_columns
from auditkit.methods.explain.lime_table import LimeTable
from auditkit.methods.explain.local_surrogate import fit_surrogate
from auditkit.subjects.build import make_subject

ENGINES = [batched_lime, library_lime]
DISCRETIZERS = ["quartile", "decile", "entropy", None]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(200, 7))
    reference[:, 2] = 4.0
    reference[:, 3] = rng.integers(0, 3, 200)
    reference[:, 5] = np.round(reference[:, 5])
    labels = (reference[:, 0] + reference[:, 1] > 0.3).astype(np.int64)
    return LimeTable(reference=reference, names=tuple("abcdefg"), categorical=(3,), labels=labels)


def score(matrix):
    return (2.0 * matrix[:, 0] - matrix[:, 1] + np.sin(matrix[:, 4]) + 3.0 * (matrix[:, 3] == 1))[:, None]


def explainer_of(table, selection="none"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LimeTabularExplainer(
            table.reference,
            mode="regression",
            training_labels=table.labels,
            categorical_features=[3],
            discretize_continuous=table.discretizer is not None,
            discretizer=table.discretizer or "quartile",
            feature_selection=selection,
            random_state=0,
        )


def samples_of(explainer, row, n):
    """lime's own samples: what the surrogate sees (scaled) and what the model sees."""
    data, inverse = explainer._LimeTabularExplainer__data_inverse(row, n)
    return (data - explainer.scaler.mean_) / explainer.scaler.scale_, inverse


@pytest.mark.parametrize("selection", ["none", "forward_selection", "highest_weights", "lasso_path", "auto"])
@pytest.mark.parametrize("discretizer", DISCRETIZERS)
def test_the_fit_is_limes_on_the_same_samples(table, discretizer, selection):
    table = dataclasses.replace(table, discretizer=discretizer)
    explainer = explainer_of(table, selection)
    columns = make_columns(table, *table.complete()[:2])
    for row in table.reference[:3]:
        data, inverse = samples_of(explainer, row, 600)
        outputs = score(inverse)
        distances = np.sqrt(((data - data[0]) ** 2).sum(axis=1))
        base = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / (0.75**2 * 7))), random_state=0)
        intercept, pairs, r2, _ = base.explain_instance_with_data(data, outputs, distances, 0, 4, selection)
        expected = np.zeros(7)
        for feature, weight in pairs:
            expected[feature] = weight
        # Our own coding of what the model saw, then our own fit.
        coded = np.column_stack(
            [
                c.coded(v) if c.counted else (v - c.mean[0]) / c.std[0]
                for c, v in zip(columns, inverse[1:].T, strict=True)
            ]
        )
        if discretizer is not None:
            # lime gives columns (and bins) without spread the value 0 instead of their own.
            coded[:, [2, 5]] = np.where(data[1:, [2, 5]] == 1, explainer.discretizer.discretize(row)[[2, 5]], -1.0)
        ours = surrogate_data(columns, row, coded)
        np.testing.assert_allclose(ours, data, atol=1e-12)
        fit = explain_samples(ours, outputs[:, 0], selection=selection, features=4)
        np.testing.assert_allclose(fit.weights, expected, atol=1e-12)
        assert fit.intercept == pytest.approx(intercept, abs=1e-12)
        assert fit.r2 == pytest.approx(r2, abs=1e-12)


@pytest.mark.parametrize("discretizer", ["quartile", "decile", "entropy"])
def test_bins_frequencies_and_moments_are_limes(table, discretizer):
    table = dataclasses.replace(table, discretizer=discretizer)
    explainer = explainer_of(table)
    for place, column in enumerate(make_columns(table, *table.complete()[:2])):
        np.testing.assert_array_equal(column.code, explainer.feature_values[place])
        np.testing.assert_allclose(column.share, explainer.feature_frequencies[place], rtol=1e-14)
        if place == 3:
            continue
        some = column.code.astype(int)
        theirs = explainer.discretizer
        for ours, lime in ((column.low, theirs.mins), (column.high, theirs.maxs), (column.mean, theirs.means)):
            np.testing.assert_allclose(ours, np.array(lime[place], dtype=float)[some], rtol=1e-14)
        np.testing.assert_allclose(column.std, np.array(theirs.stds[place])[some], rtol=1e-12)


@pytest.mark.parametrize("discretizer", DISCRETIZERS)
def test_samples_follow_limes_law(table, discretizer):
    table = dataclasses.replace(table, discretizer=discretizer)
    values, coded = draw(make_columns(table, *table.complete()[:2]), 20000, np.random.default_rng(1))
    _, inverse = samples_of(explainer_of(table), table.reference[0], 20001)
    for place in (0, 1, 3, 4, 6):
        assert ks_2samp(values[:, place], inverse[1:, place]).statistic < 0.02
    if discretizer is not None:
        # Every sample lies in the bin that it is counted in; a constant column keeps its value.
        columns = make_columns(table, *table.complete()[:2])
        for place in (0, 1, 4, 6):
            assert (columns[place].coded(values[:, place]) == coded[:, place]).mean() > 0.999
        np.testing.assert_allclose(values[:, 2], 4.0, atol=1e-8)


def test_both_engines_converge_to_the_same_weights(table):
    rows = table.reference[:3]
    ours = batched_lime(score, rows, table, samples=60000)
    own = batched_lime(score, rows, table, samples=60000, shared=False)
    theirs = library_lime(score, rows, table, samples=60000)
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=0.06)
    np.testing.assert_allclose(own.weights, theirs.weights, atol=0.06)
    np.testing.assert_allclose(ours.r2, theirs.r2, atol=0.02)
    assert (ours.n_evals, own.n_evals, theirs.n_evals) == (60002, 180000, 180000)


@pytest.mark.parametrize("engine", ENGINES)
def test_same_seed_same_bits_whatever_came_before(table, engine):
    rows = table.reference[:4]
    first = engine(score, rows, table, samples=200, seed=5)
    engine(score, rows, table, samples=50, seed=9)
    again = engine(score, rows, table, samples=200, seed=5)
    assert first.weights.tobytes() == again.weights.tobytes()
    assert first.r2.tobytes() == again.r2.tobytes()
    other = engine(score, rows, table, samples=200, seed=6)
    assert first.weights.tobytes() != other.weights.tobytes()
    # A row's answer does not depend on the rows explained before it.
    longer = engine(score, table.reference[:6], table, samples=200, seed=5)
    assert longer.weights[:4].tobytes() == first.weights.tobytes()


def test_the_library_engine_is_lime_called_by_hand(table):
    rows = table.reference[:1]
    ours = library_lime(score, rows, table, samples=300, seed=5)
    explainer = explainer_of(table)
    state = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([5, 0])))
    explainer.random_state = explainer.base.random_state = explainer.discretizer.random_state = state
    theirs = explainer.explain_instance(rows[0], lambda m: score(m)[:, 0], num_features=7, num_samples=300)
    expected = np.zeros(7)
    for feature, weight in theirs.local_exp[1]:
        expected[feature] = weight
    np.testing.assert_allclose(ours.weights[0], expected, atol=1e-12)
    assert ours.r2[0] == pytest.approx(theirs.score)


@pytest.mark.parametrize("engine", ENGINES)
def test_finds_what_the_model_uses_and_ignores_the_rest(table, engine):
    result = engine(score, table.reference[:20], table, samples=1500)
    size = np.abs(result.weights).mean(axis=0)
    assert set(np.argsort(-size)[:4]) == {0, 1, 3, 4}
    assert size[2] < 1e-12
    assert size[[5, 6]].max() < 0.2 * size[[0, 1, 3]].min()
    assert result.r2.mean() > 0.3
    attribution = result.attribution(table.names, "logit", 0)
    assert attribution.status == "unverified"
    np.testing.assert_allclose(attribution.prediction, score(table.reference[:20]))
    few = engine(score, table.reference[:5], table, samples=1500, selection="forward_selection", features=2)
    assert ((few.weights != 0).sum(axis=1) == 2).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_linear_model_fits_exactly_without_bins(table, engine):
    straight = dataclasses.replace(table, discretizer=None, categorical=())
    result = engine(lambda m: 2.0 * m[:, :1] - m[:, 1:2], table.reference[:3], straight, samples=500)
    # The ridge shrinks a little; weights are effects of one standard deviation.
    assert result.r2.min() > 0.99
    expected = np.zeros(7)
    expected[:2] = np.array([2.0, -1.0]) * table.reference[:, :2].std(axis=0)
    np.testing.assert_allclose(result.weights, np.tile(expected, (3, 1)), atol=0.1)


@pytest.mark.parametrize("engine", ENGINES)
def test_noise_has_a_poor_fit_and_a_constant_has_none(table, engine):
    rng = np.random.default_rng(1)
    result = engine(lambda m: rng.normal(size=(len(m), 1)), table.reference[:5], table, samples=800)
    assert result.r2.mean() < 0.1
    flat = engine(lambda m: np.full((len(m), 1), 0.25), table.reference[:2], table, samples=100)
    assert np.isnan(flat.r2).all()
    np.testing.assert_allclose(flat.weights, 0.0, atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_with_missing_values_are_skipped_and_counted(table, engine):
    rows = table.reference[:5].copy()
    rows[1, 4] = np.nan
    holey = table.reference.copy()
    holey[:30, 0] = np.nan
    result = engine(score, rows, dataclasses.replace(table, reference=holey), samples=100)
    assert result.rows.tolist() == [0, 2, 3, 4]
    assert result.skipped == 1
    assert result.reference_dropped == 30
    assert np.isfinite(result.weights).all()
    none = engine(score, np.full((2, 7), np.nan), table, samples=100)
    assert len(none.rows) == 0
    assert none.weights.shape == (0, 7)


@pytest.mark.parametrize("engine", ENGINES)
def test_targets_choose_the_output(table, engine):
    def two(matrix):
        return np.hstack([score(matrix), -score(matrix)])

    rows = np.repeat(table.reference[:1], 2, axis=0)
    result = engine(two, rows, table, samples=3000, targets=[0, 1])
    assert result.weights[0, 3] == pytest.approx(-result.weights[1, 3], rel=0.2)


@pytest.mark.parametrize("engine", ENGINES)
def test_faults_are_coded(table, engine):
    empty = LimeTable(reference=np.full((3, 7), np.nan), names=table.names)
    with pytest.raises(UsageError, match="AK505 no row of the reference table is complete"):
        engine(score, table.reference[:1], empty)
    with pytest.raises(UsageError, match="AK505 lime needs at least 10 samples a row, got 3"):
        engine(score, table.reference[:1], table, samples=3)
    with pytest.raises(UsageError, match="AK476 entropy bins are cut where the labels change"):
        engine(score, table.reference[:1], dataclasses.replace(table, discretizer="entropy", labels=None))


def test_an_unknown_selection_is_refused(table):
    with pytest.raises(UsageError, match="AK477 there is no feature selection 'best'"):
        batched_lime(score, table.reference[:1], table, samples=50, selection="best")


@pytest.mark.parametrize("engine", ENGINES)
def test_silent_and_generators_untouched(table, capsys, engine):
    before, numpy_before = random.getstate(), np.random.get_state()[1].tobytes()  # noqa: NPY002
    engine(score, table.reference[:2], table, samples=50)
    assert random.getstate() == before
    assert np.random.get_state()[1].tobytes() == numpy_before  # noqa: NPY002
    assert capsys.readouterr() == ("", "")


def test_overlap_of_the_largest():
    first = np.array([[5.0, -4.0, 1.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    second = np.array([[5.0, 0.0, 1.0, -4.0], [1.0, 2.0, 3.0, 4.0]])
    assert top_overlap(first, second, k=2).tolist() == [0.5, 1.0]


def test_what_has_no_weight_is_not_among_the_largest():
    """Of many zeros the first would always be taken: two explanations would agree on features that they both ignore."""
    sparse, noisy = np.zeros((1, 30)), np.full((1, 30), 0.1)
    sparse[0, [20, 25]] = 2.0, 1.0
    noisy[0, [20, 25]] = 1.0, 2.0
    assert top_overlap(sparse, sparse[:, ::-1]).tolist() == [0.0]
    assert top_overlap(sparse, 3.0 * sparse).tolist() == [1.0]
    assert top_overlap(sparse, noisy).tolist() == [0.4]
    assert np.isnan(top_overlap(np.zeros((1, 30)), np.zeros((1, 30)))[0])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_never_moves_has_no_weights(table, engine):
    """Rounding of a constant is not a weight: its ranking would be told as the stability of LIME."""
    still = engine(lambda m: np.full((len(m), 1), 0.7), table.reference[:3], table, samples=50)
    assert not still.weights.any()
    assert np.isnan(still.r2).all()
    assert engine(score, table.reference[:3], table, samples=50).weights.any()


# ---- texts and images


def mood(texts):
    return np.array([[("good" in t) - 2.0 * ("bad" in t) + 0.01 * len(t)] for t in map(str.lower, texts)])


def test_words_get_the_weights_of_the_model_and_empty_texts_are_left_out(capsys):
    texts = pd.Series(["a good plot and a bad end", "", None, "!!! ...", "good"], index=list("vwxyz"))
    found = lime_texts(mood, texts, samples=600, seed=3)
    assert [explanation.row for explanation in found] == [0, 4]
    weights = dict(zip(found[0].parts, found[0].weights, strict=True))
    assert weights["good"] == pytest.approx(1.0, abs=0.15)
    assert weights["bad"] == pytest.approx(-2.0, abs=0.15)
    assert abs(weights["plot"]) < 0.2
    assert found[0].r2 > 0.95
    assert found[0].output == mood(["a good plot and a bad end"])[0, 0]
    again = lime_texts(mood, list(texts), samples=600, seed=3)
    assert again[0].weights.tobytes() == found[0].weights.tobytes()
    assert capsys.readouterr() == ("", "")
    flat = lime_texts(lambda t: np.zeros((len(t), 1)), ["two words"], samples=50)
    assert np.isnan(flat[0].r2)


@pytest.mark.parametrize("segments", ["grid", "slic", "quickshift", "felzenszwalb"])
def test_segments_get_the_weights_of_the_model(segments, capsys):
    rng = np.random.default_rng(0)
    images = rng.random((2, 14, 14, 1)) * 0.2
    images[:, 2:6, 2:6] += 0.8
    images[1, 0, 0] = np.nan

    def corner(batch):
        assert batch.shape[1:] == (14, 14, 1)
        return batch[:, 2:6, 2:6, 0].max(axis=(1, 2))[:, None]

    found = lime_images(corner, images, samples=150, segments=segments)
    assert [explanation.row for explanation in found] == [0]
    parts, weights = found[0].segments, found[0].weights
    heat = weights[parts]
    if len(weights) > 1:
        assert heat[2:6, 2:6].max() == heat.max() > 0
    assert found[0].output == corner(images[:1])[0, 0]
    assert capsys.readouterr() == ("", "")


def test_images_of_odd_shapes_are_refused():
    with pytest.raises(UsageError, match="AK478 lime explains grey and colour images"):
        lime_images(lambda m: np.zeros((len(m), 1)), np.zeros((1, 8, 8, 2)), samples=20)


@pytest.mark.parametrize("discretizer", ["quartile", "decile", None])
def test_columns_of_whole_numbers_are_drawn_whole_and_in_the_bin_that_is_coded(discretizer):
    """A model that is handed whole numbers must see values of the bin that the surrogate is told of."""
    rng = np.random.default_rng(0)
    reference = np.stack([rng.poisson(4.0, 401), rng.normal(size=401), rng.poisson(4.0, 401) + 0.5], axis=1)
    table = LimeTable(reference=reference, names=tuple("abc"), discretizer=discretizer, whole=(0, 2))
    columns = make_columns(table, *table.complete()[:2])
    values, coded = draw(columns, 4000, np.random.default_rng(1))
    assert (values[:, 0] == np.rint(values[:, 0])).all()
    assert not (values[:, 2] == np.rint(values[:, 2])).any()  # halves are no whole numbers, whatever the schema says
    if discretizer is None:
        seen = (values[:, 0] - reference[:, 0].mean()) / reference[:, 0].std()
        np.testing.assert_allclose(coded[:, 0], seen, atol=1e-12)
    else:
        np.testing.assert_array_equal(columns[0].coded(values[:, 0]), coded[:, 0])
        loose, told = draw(make_columns(dataclasses.replace(table, whole=()), reference, None), 4000, rng)
        assert (columns[0].coded(np.rint(loose[:, 0])) != told[:, 0]).any()  # what rounding afterwards would do


def test_a_step_of_a_whole_number_is_described_without_a_rest():
    """Eligible from the row's own bin of the number of payments on: the surrogate sees just that, and fits it."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"payments": rng.poisson(4.0, 401), "noise": rng.normal(size=401)})
    edge = float(np.percentile(table["payments"], 75))

    class Step:
        classes_ = np.array([0, 1])

        def fit(self, rows, y):
            return self

        def predict_proba(self, rows):
            share = 0.9 * (rows["payments"].to_numpy() > edge)
            return np.stack([1.0 - share, share], axis=1)

        def predict(self, rows):
            return (self.predict_proba(rows)[:, 1] > 0.5).astype(int)

    top = table[table["payments"] > edge].head(20)
    subject = make_subject(Step(), top, np.arange(len(top)) % 2, train=(table, Step().predict(table)))
    plan = make_plan(["explain.lime"], {"explain.lime": {"seeds": 1}})
    outcome = run_step(subject, plan.steps[0], seed=0)
    (fit,) = [m for m in outcome.measurements if m.name == "explain.local_fidelity_r2"]
    assert fit.value > 0.999


@pytest.mark.parametrize(("samples", "columns"), [(120, 40), (40, 120), (60, 60)])
def test_the_surrogate_is_scikit_learns_ridge_with_fewer_samples_than_columns_too(samples, columns):
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(columns)
    data, weights = rng.normal(size=(samples, columns)), rng.random(samples)
    outputs = data[:, 0] - 2.0 * data[:, 1] + rng.normal(size=samples)
    own = fit_surrogate(data, outputs, weights)
    theirs = Ridge(alpha=1.0, solver="lsqr", tol=1e-14, max_iter=100_000).fit(data, outputs, sample_weight=weights)
    np.testing.assert_allclose(own.weights, theirs.coef_, atol=1e-9)
    assert own.intercept == pytest.approx(theirs.intercept_, abs=1e-9)
    assert own.r2 == pytest.approx(theirs.score(data, outputs, sample_weight=weights), abs=1e-9)


# ---- what the samples cannot tell


def weighted(matrix):
    return matrix @ np.array([5.0, 1.0, 0.0, 0.0])[:, None]


@pytest.mark.parametrize("discretizer", ["quartile", None])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_reference_of_like_rows_is_refused(engine, discretizer):
    """Samples around one row are one point: the row explained alone would be split among all its features."""
    rows = np.random.default_rng(0).normal(size=(20, 4))
    for reference, told in ((rows[:1], "one complete row"), (np.repeat(rows[:1], 3, axis=0), "3 complete rows, all")):
        table = LimeTable(reference=reference, names=tuple("abcd"), discretizer=discretizer)
        with pytest.raises(UsageError, match=f"AK505 the reference table has {told}") as caught:
            engine(weighted, rows, table, samples=50)
        assert "explain.shap" in str(caught.value)


@pytest.mark.parametrize("discretizer", ["quartile", None])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_constant_column_keeps_its_value_and_has_no_weight(engine, discretizer):
    """The model leans on it in the rows explained, which no sample tells; with or without it the rest is the same."""
    rng = np.random.default_rng(1)
    reference = np.column_stack([np.full(300, 2.0), rng.normal(size=(300, 3))])
    rows = reference[:4] + np.array([9.0, 0.0, 0.0, 0.0])
    seen = []

    def watched(matrix):
        seen.append(matrix[:, 0])
        return weighted(matrix)

    table = LimeTable(reference=reference, names=tuple("abcd"), discretizer=discretizer)
    found = engine(watched, rows, table, samples=4000)
    np.testing.assert_allclose(np.unique(np.round(np.concatenate(seen), 8)), [2.0, 11.0])
    assert not found.weights[:, 0].any()
    assert found.untold.tolist() == [[True, False, False, False]] * 4
    like = engine(weighted, reference[:4], table, samples=4000)
    np.testing.assert_allclose(found.weights[:, 1:], like.weights[:, 1:], atol=0.01 if engine is batched_lime else 0.2)
    assert (np.abs(found.weights[:, 1]) > 0.1).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_category_that_no_sample_has_is_untold_and_the_others_are_fitted_without_it(engine):
    rng = np.random.default_rng(2)
    reference = np.column_stack([rng.integers(0, 3, 400), rng.normal(size=(400, 2))]).astype(float)
    table = LimeTable(reference=reference, names=("kind", "x", "z"), categorical=(0,))
    rows = np.repeat(reference[:1], 2, axis=0)
    rows[1, 0] = 7.0

    def predict(matrix):
        return (40.0 * (matrix[:, 0] == 7.0) + 3.0 * (matrix[:, 0] == rows[0, 0]) + matrix[:, 1])[:, None]

    found = engine(predict, rows, table, samples=3000)
    assert found.untold.tolist() == [[False, False, False], [True, False, False]]
    assert found.weights[0, 0] == pytest.approx(3.0, abs=0.2)
    assert found.weights[1, 0] == 0.0  # half of 40 if the row alone told it
    np.testing.assert_allclose(found.weights[0, 1:], found.weights[1, 1:], atol=0.2)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_row_that_shares_nothing_with_the_samples_has_no_fit(engine):
    """Two reference rows make bins with nothing between them."""
    table = LimeTable(reference=np.array([[0.0] * 4, [1.0] * 4]), names=tuple("abcd"))
    found = engine(weighted, np.array([[0.5] * 4, [0.0, 0.5, 1.0, 0.5]]), table, samples=2000)
    assert found.untold.tolist() == [[True] * 4, [False, True, False, True]]
    assert not found.weights[0].any()
    assert np.isnan(found.r2[0])
    assert found.weights[1] == pytest.approx([-5.0, 0.0, 0.0, 0.0], abs=0.4)


def test_selection_passes_over_what_is_untold(table):
    reference = np.column_stack([np.full(200, 1.0), table.reference[:, [0, 1, 4]]])
    plain = LimeTable(reference=reference, names=tuple("abcd"))
    row = reference[:1] + np.array([3.0, 0.0, 0.0, 0.0])
    for selection in ("forward_selection", "highest_weights", "lasso_path"):
        found = batched_lime(
            lambda m: 9.0 * m[:, :1] + m[:, 1:2], row, plain, samples=2000, selection=selection, features=1
        )
        assert np.flatnonzero(found.weights[0]).tolist() == [1]
