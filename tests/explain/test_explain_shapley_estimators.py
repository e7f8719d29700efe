"""Every sampling estimator against games with exact values; tables, groups, budgets and bad input."""

import warnings

import numpy as np
import pandas as pd
import pytest
from explain.shapley_games import GroupedGame, relative_error, rows_and_background

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.methods.explain import shapley_values
from auditkit.methods.explain.leverage import Design, make_design, regress

KINDS = ("near-additive", "moderate", "strong")


@pytest.mark.parametrize("kind", KINDS)
def test_the_game_of_reference_agrees_with_its_definition_and_auto_comes_close(kind):
    game = GroupedGame(kind)
    x, background = rows_and_background(4, 5)
    truth = game.exact(x, background)
    np.testing.assert_allclose(truth.sum(axis=1), game(x) - game(background).mean(), atol=1e-12)
    result = shapley_values(game, x, background, budget=4000)
    assert result.method == "shapley.leverage"
    assert (
        relative_error(result.values[:, :, 0], truth) < {"near-additive": 0.002, "moderate": 0.02, "strong": 0.06}[kind]
    )


@pytest.mark.parametrize(
    ("estimator", "b", "budget"),
    [
        ("leverage", 1, 300),
        ("leverage", 8, 1200),
        ("triples", 1, 400),
        ("triples", 2, 1600),
        ("linear_adjusted", 1, 400),
        ("linear_adjusted", 4, 1600),
    ],
)
def test_estimates_are_unbiased_and_their_standard_errors_honest(estimator, b, budget):
    game = GroupedGame("strong")
    x, background = rows_and_background(1, b)
    truth = game.exact(x, background)[0]
    many = np.repeat(x, 150, axis=0)  # a row's sample depends on its position: 150 independent samples
    result = shapley_values(game, many, background, estimator=estimator, budget=budget)
    assert result.status == "estimated"
    assert result.diagnostics["additivity_residual"] < 1e-10
    error = result.values[:, :, 0] - truth
    spread = error.std(axis=0)
    # Regression is consistent rather than unbiased: its bias must be small beside its spread.
    assert (np.abs(error.mean(axis=0)) < 0.35 * spread).all()
    ratio = np.sqrt((result.std_error[:, :, 0] ** 2).mean(axis=0)) / spread
    assert 0.85 < np.median(ratio) < 1.3
    inside = np.abs(error) < 1.96 * result.std_error[:, :, 0]
    assert 0.92 < inside.mean() <= 0.995


def test_a_tree_surrogate_is_exact_in_sum_beats_the_line_where_features_interact_and_claims_what_it_misses():
    game = GroupedGame("strong")
    x, background = rows_and_background(2, 1)
    truth = game.exact(x, background)
    trees = shapley_values(game, x, background, estimator="tree_adjusted", budget=1600)
    line = shapley_values(game, x, background, estimator="linear_adjusted", budget=1600)
    assert trees.method == "shapley.tree_adjusted"
    assert trees.diagnostics["additivity_residual"] < 1e-10
    error = trees.values[:, :, 0] - truth
    assert relative_error(trees.values[:, :, 0], truth) < 0.8 * relative_error(line.values[:, :, 0], truth)
    assert 0.75 < np.sqrt((trees.std_error**2).mean() / (error**2).mean()) < 1.35
    assert (np.abs(error) < 1.96 * trees.std_error[:, :, 0]).mean() > 0.85
    again = shapley_values(game, x[:1], background, estimator="tree_adjusted", budget=1600, batch_size=70)
    np.testing.assert_allclose(again.values, trees.values[:1], atol=1e-12)


def test_permutations_with_few_pairs_do_not_claim_too_much():
    game = GroupedGame("strong")
    x, background = rows_and_background(40, 1)
    result = shapley_values(game, x, background, estimator="permutation", budget=480)
    error = result.values[:, :, 0] - game.exact(x, background)
    claimed = result.std_error[:, :, 0]
    assert 0.95 < np.sqrt((claimed**2).mean() / (error**2).mean()) < 1.4
    assert (np.abs(error) < 1.96 * claimed).mean() > 0.85  # eight pairs: the tails are those of Student's t


def test_regressing_each_background_row_beats_coalitions_on_the_whole_background():
    """The same evaluations spent the two ways; the twin is Leverage SHAP itself."""
    game = GroupedGame("strong")
    x, background = rows_and_background(8, 25)
    truth = game.exact(x, background)
    ours = shapley_values(game, x, background, estimator="leverage", budget=6400).values[:, :, 0]
    whole = np.empty_like(ours)
    for i, row in enumerate(x):
        design = make_design(30, 1, 128, np.random.default_rng(i))
        both = np.concatenate([design.masks[0], ~design.masks[0]])
        worth = game(np.where(both[:, None], row, background).reshape(-1, 30)).reshape(256, 25).mean(axis=1)
        total = np.array([[game(row[None])[0] - game(background).mean()]])
        whole[i] = regress(design, (worth[:128] - worth[128:])[None, :, None], total).values[:, 0]
    assert relative_error(ours, truth) < 0.65 * relative_error(whole, truth)


@pytest.mark.parametrize("kind", KINDS)
def test_triples_need_half_of_what_leverage_errs_at_equal_evaluations(kind):
    game = GroupedGame(kind)
    x, background = rows_and_background(8, 1)
    truth = game.exact(x, background)

    def error(name, budget):
        found = [shapley_values(game, x, background, estimator=name, budget=budget, seed=seed) for seed in range(3)]
        return np.sqrt(np.mean([relative_error(one.values[:, :, 0], truth) ** 2 for one in found]))

    assert error("triples", 400) < 0.96 * error("leverage", 400)
    assert error("triples", 1600) < 0.6 * error("leverage", 1600)
    assert shapley_values(game, x, background, budget=400).method == "shapley.triples"
    assert shapley_values(game, x, background, budget=300).method == "shapley.leverage"


def test_triples_are_not_sought_among_very_many_players():
    rng = np.random.default_rng(0)
    for players, method in ((64, "shapley.triples"), (65, "shapley.leverage")):
        x, background = rng.normal(size=(1, players)), rng.normal(size=(1, players))
        assert shapley_values(lambda m: m[:, 0] * m[:, 1], x, background, budget=12 * players).method == method


def test_triples_find_the_players_that_interact_and_invent_none():
    rng = np.random.default_rng(1)
    x, background = rng.normal(size=(2, 20)), rng.normal(size=(1, 20))
    three, two = [3, 7, 11], [5, 6]

    def plain(m):
        return np.sin(m[:, :3]).sum(axis=1) + m[:, 5] * m[:, 6]

    def tangled(m):
        return plain(m) + m[:, three].prod(axis=1)

    truth = np.zeros((2, 20))
    truth[:, :3] = np.sin(x[:, :3]) - np.sin(background[:, :3])
    truth[:, two] = _exact(lambda m: m.prod(axis=1), x[:, two], background[:, two])
    found = shapley_values(plain, x, background, estimator="triples", budget=400)
    np.testing.assert_allclose(found.values[:, :, 0], truth, atol=1e-9)
    assert found.std_error.max() < 1e-8
    truth[:, three] = _exact(lambda m: m.prod(axis=1), x[:, three], background[:, three])
    gaps = [
        np.abs(shapley_values(tangled, x, background, estimator=name, budget=400).values[:, :, 0] - truth).max()
        for name in ("triples", "leverage")
    ]
    assert gaps[0] < 0.2 * gaps[1]


def _exact(game, x, background):
    """By every order of entering, on the players given alone."""
    from itertools import permutations

    values = np.zeros(x.shape)
    orders = list(permutations(range(x.shape[1])))
    for order in orders:
        mixed = np.repeat(background, len(x), axis=0)
        before = game(mixed)
        for player in order:
            mixed[:, player] = x[:, player]
            after = game(mixed)
            values[:, player] += (after - before) / len(orders)
            before = after
    return values


def test_leverage_is_exact_for_additive_and_pairwise_games_and_with_every_size_listed():
    rng = np.random.default_rng(0)
    x, background = rng.normal(size=(2, 6)), rng.normal(size=(3, 6))

    def pairwise(m):
        return m[:, 0] * m[:, 1] - np.sin(m[:, 2]) * m[:, 3] + np.exp(m[:, 4])

    def tangled(m):
        return np.tanh(m.prod(axis=1) + m.sum(axis=1)) + np.abs(m).max(axis=1)

    for game, budget in ((pairwise, 72), (tangled, 62 * 3)):
        truth = shapley_values(game, x, background, estimator="exact", budget=1)
        found = shapley_values(game, x, background, estimator="leverage", budget=budget)
        np.testing.assert_allclose(found.values, truth.values, atol=1e-9)
        assert found.std_error.max() < 1e-8


@pytest.mark.parametrize("estimator", ["leverage", "triples", "permutation", "linear_adjusted", "auto"])
def test_same_bits_for_a_seed_whatever_the_batch_size_and_the_other_rows(estimator):
    def game(m):  # every output depends on its own row alone, to the last bit
        return np.sin(m).cumsum(axis=1)[:, -1] * m[:, 0] + m[:, 1] * m[:, 2] * m[:, 3]

    rng = np.random.default_rng(3)
    x, background = rng.normal(size=(5, 14)), rng.normal(size=(3, 14))
    whole = shapley_values(game, x, background, estimator=estimator, budget=640, seed=9)
    for rows, size in ((x, 7), (x, 100_000), (x[:2], None)):
        part = shapley_values(game, rows, background, estimator=estimator, budget=640, seed=9, batch_size=size)
        assert part.values.tobytes() == whole.values[: len(rows)].tobytes()
        assert part.std_error.tobytes() == whole.std_error[: len(rows)].tobytes()
    other = shapley_values(game, x, background, estimator=estimator, budget=640, seed=10)
    assert other.values.tobytes() != whole.values.tobytes()


@pytest.mark.parametrize("estimator", ["leverage", "permutation", "linear_adjusted", "triples"])
def test_the_budget_is_never_passed_and_is_counted(estimator):
    game = GroupedGame("moderate")
    x, background = rows_and_background(3, 4)
    seen = 0

    def counted(m):
        nonlocal seen
        seen += len(m)
        return game(m)

    result = shapley_values(counted, x, background, estimator=estimator, budget=1501)
    assert seen == result.n_evals
    assert 1350 * 3 < seen - 7 <= 1501 * 3


def test_spending_stops_where_the_standard_error_is_reached():
    game = GroupedGame("moderate")
    x, background = rows_and_background(6, 2)
    loose = shapley_values(game, x, background, budget=16_000, stop_at=0.02)
    assert loose.std_error.max() <= 0.02
    assert loose.params["rows_within"] == 6
    tight = shapley_values(game, x, background, budget=16_000, stop_at=1e-9)
    assert tight.params["rows_within"] == 0
    assert loose.n_evals < 0.5 * tight.n_evals <= 0.5 * (16_000 * 6 + 8)
    assert relative_error(tight.values[:, :, 0], game.exact(x, background)) < 0.01
    plain = shapley_values(game, x, background, budget=16_000)
    assert tight.std_error.mean() < 1.3 * plain.std_error.mean()


def table(n, seed):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "city": pd.Categorical(rng.choice(["oslo", "rome", "lima"], n), categories=["lima", "oslo", "rome"]),
            "age": pd.array(rng.integers(18, 80, n), dtype="Int64"),
            "income": rng.lognormal(3, 1, n),
            "member": rng.random(n) < 0.5,
            "since": pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
        }
    )


def test_tables_reach_the_model_with_their_dtypes_and_values_equal_those_of_the_coded_matrix():
    rows, background = table(4, 0), table(6, 1)
    rows.loc[0, "age"] = pd.NA
    seen = set()

    def model(frame):
        seen.add(tuple(str(dtype) for dtype in frame.dtypes))
        age = frame["age"].astype("Float64").fillna(40.0).to_numpy(dtype=float)
        day = (frame["since"] - pd.Timestamp("2020-01-01")).dt.days.to_numpy()
        return frame["city"].cat.codes.to_numpy() * age / 50 + np.log(frame["income"]) * frame["member"] + day / 100.0

    def coded(frame):
        age = frame["age"].astype("Float64").to_numpy(dtype=float, na_value=np.nan)
        day = (frame["since"] - pd.Timestamp("2020-01-01")).dt.days
        return np.column_stack([frame["city"].cat.codes, age, frame["income"], frame["member"], day]).astype(float)

    def same(m):
        age = np.where(np.isnan(m[:, 1]), 40.0, m[:, 1])
        return m[:, 0] * age / 50 + np.log(m[:, 2]) * m[:, 3] + m[:, 4] / 100.0

    result = shapley_values(model, rows, background, budget=1000)
    assert result.status == "exact"
    assert seen == {tuple(str(dtype) for dtype in rows.dtypes)}
    assert result.feature_names == ("city", "age", "income", "member", "since")
    np.testing.assert_allclose(result.values, shapley_values(same, coded(rows), coded(background), budget=1000).values)


def test_tables_that_differ_are_refused():
    rows, background = table(2, 0), table(3, 1)
    with pytest.raises(UsageError, match="AK461 rows and background have other columns"):
        shapley_values(len, rows[rows.columns[::-1]], background, budget=10)
    with pytest.raises(UsageError, match="AK461 column 'income' is float32 in the rows and float64 in the background"):
        shapley_values(len, rows.astype({"income": "float32"}), background, budget=10)
    with pytest.raises(UsageError, match="AK461 one of rows and background is a table, the other a matrix"):
        shapley_values(len, rows, np.zeros((2, 5)), budget=10)


def test_one_hot_columns_enter_together():
    rng = np.random.default_rng(5)
    x, background = rng.normal(size=(3, 8)), rng.normal(size=(4, 8))

    def model(m):
        return m[:, :3].prod(axis=1) * m[:, 3] + m[:, 4:].sum(axis=1)

    result = shapley_values(model, x, background, budget=5000, groups=[(0, 1, 2), (3,), (4,), (5, 6, 7)])
    assert result.values.shape == (3, 4, 1)
    assert result.feature_names == ("x0+x1+x2", "x3", "x4", "x5+x6+x7")
    # A product of two independent players, averaged over the background: half of each of its two marginal gains.
    left, right = x[:, :3].prod(axis=1), x[:, 3]
    other, away = background[:, :3].prod(axis=1), background[:, 3]
    gain = 0.5 * ((left[:, None] - other) * away + (left[:, None] - other) * right[:, None])
    np.testing.assert_allclose(result.values[:, 0, 0], gain.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(
        result.values[:, 3, 0], (x[:, 5:] - background[:, 5:].mean(axis=0)).sum(axis=1), atol=1e-12
    )


def test_constant_features_are_worth_exactly_nothing_and_cost_nothing():
    rng = np.random.default_rng(6)
    x, background = rng.normal(size=(3, 30)), rng.normal(size=(4, 30))
    x[:, 5:], background[:, 5:] = 2.5, 2.5
    x[:, 7], background[:, 7] = np.nan, np.nan
    result = shapley_values(lambda m: np.nansum(m, axis=1) * m[:, 0], x, background, budget=200)
    assert result.status == "exact"
    assert np.abs(result.values[:, 5:]).max() == 0.0
    same = shapley_values(lambda m: np.nansum(m, axis=1), background[:1], background[:1], budget=10)
    assert np.abs(same.values).max() == 0.0


def test_two_thousand_features():
    rng = np.random.default_rng(7)
    weights = rng.normal(size=2000)
    x, background = rng.normal(size=(1, 2000)), rng.normal(size=(1, 2000))
    with pytest.raises(
        UsageError, match="AK500 a budget of 2048 .* too small for 2000 features\n  fix: give at least 7996"
    ):
        shapley_values(lambda m: m @ weights, x, background, budget=2048)
    result = shapley_values(lambda m: m @ weights, x, background, budget=7996)
    np.testing.assert_allclose(result.values[0, :, 0], (x - background)[0] * weights, atol=1e-9)


def test_labels_and_refused_missing_values_are_told():
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(8)
    x = rng.normal(size=(50, 3))
    named = LogisticRegression().fit(x, np.where(x[:, 0] > 0, "yes", "no"))
    coded = LogisticRegression().fit(x, (x[:, 0] > 0).astype(int))
    for model in (named, coded):
        with pytest.raises(AuditkitError, match="AK463 the model gave .* values, which look like labels"):
            shapley_values(model.predict, x[:2], x[10:], budget=1000)
    holes = x[:2].copy()
    holes[1, 1] = np.nan
    with pytest.raises(AuditkitError, match="AK464 the model refuses rows with missing values"):
        shapley_values(lambda m: coded.predict_proba(m), holes, x[10:], budget=1000)
    with pytest.raises(ZeroDivisionError):  # any other fault of the model stays what it is
        shapley_values(lambda m: 1 / 0, x[:2], x[10:], budget=1000)


def test_faults_of_settings_are_coded():
    x = np.eye(4)
    with pytest.raises(UsageError, match="AK500 there is no estimator 'kernel'"):
        shapley_values(len, x, x, estimator="kernel", budget=10)
    with pytest.raises(UsageError, match="AK500 stop_at is -1"):
        shapley_values(len, x, x, budget=10, stop_at=-1)
    with pytest.raises(UsageError, match="AK500 batch_size is 0"):
        shapley_values(len, x, x, budget=10, batch_size=0)
    wide = np.random.default_rng(0).normal(size=(2, 25))
    with pytest.raises(UsageError, match="AK500 25 players are too many to enumerate"):
        shapley_values(lambda m: m.sum(axis=1), wide, -wide, estimator="exact", budget=10)
    with pytest.raises(UsageError, match="(?s)AK500 a budget of 60 .* give at least 100 for estimator='leverage'"):
        shapley_values(lambda m: m.sum(axis=1), wide, -wide, estimator="leverage", budget=60)


def test_nothing_is_warned_of():
    game = GroupedGame("moderate")
    x, background = rows_and_background(2, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for estimator in ("auto", "permutation", "linear_adjusted"):
            shapley_values(game, x, background, estimator=estimator, budget=1000)


def test_values_sum_to_the_worth_where_a_rows_coalitions_repeat():
    """Repeats leave the regression of a background row with directions that nothing measures, and rounding in them."""
    rng = np.random.default_rng(0)
    few = rng.random((8, 6, 10)) < 0.5
    design = Design(masks=np.repeat(few, 4, axis=1), weights=np.ones((8, 24)), listed=0)
    phi = rng.normal(size=10) * 1000.0
    odd = ((2.0 * design.masks - 1.0) @ phi)[..., None]
    found = regress(design, odd, np.full((8, 1), phi.sum()))
    assert abs(found.values.sum() - phi.sum()) < 1e-10 * np.abs(phi).sum()
    assert np.isfinite(found.error).all()
