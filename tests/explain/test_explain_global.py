"""Global views end to end: a leaked column is first, a clean twin has none, effects are those of the model."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject

SMALL = {"max_rows": 120, "max_background": 20, "budget": 256, "permutation_rows": 200}


def outcome_of(subject, **settings):
    plan = make_plan(["explain.global"], {"explain.global": {**SMALL, **settings}})
    outcome = run_step(subject, plan.steps[0], seed=3)
    assert outcome.status == "measured", outcome.reason
    return outcome


def found(outcome, measurement):
    return [m for m in outcome.measurements if m.name == f"explain.{measurement}"]


def subject_with(leak):
    rng = np.random.default_rng(0)
    n = 600
    table = pd.DataFrame(
        {
            "income": rng.normal(30, 8, n),
            "debt": rng.normal(10, 4, n),
            "receipt": rng.normal(size=n),
            "region": pd.Categorical(rng.choice(["north", "south"], n)),
            "unused": rng.normal(size=n),
        }
    )
    y = np.where((table["income"] - 30) / 8 - (table["debt"] - 10) / 4 + rng.normal(0, 0.8, n) > 0, "yes", "no")
    if leak:
        table["receipt"] = np.where(y == "yes", 3.0, -3.0) + rng.normal(0, 0.5, n)
    encode = make_column_transformer((OneHotEncoder(), ["region"]), ("drop", ["unused"]), remainder="passthrough")
    model = make_pipeline(encode, HistGradientBoostingClassifier(max_iter=15, random_state=0))
    model.fit(table[:300], y[:300])
    return make_subject(model, table[300:], y[300:], train=(table[:300], y[:300]), positive="yes")


@pytest.fixture(scope="module")
def clean():
    return outcome_of(subject_with(False))


def test_a_leaked_column_is_ranked_first_and_the_clean_twin_has_none(clean):
    leaked = found(outcome_of(subject_with(True)), "permutation_importance")
    assert leaked[0].params["feature"] == "receipt"
    assert leaked[0].interval.low > 0.3
    assert max(m.interval.high for m in leaked[1:]) < leaked[0].interval.low
    quiet = {m.params["feature"]: m for m in found(clean, "permutation_importance")}
    assert quiet["receipt"].interval.high < 0.1
    assert quiet["income"].interval.low > 0.05
    assert quiet["debt"].interval.low > 0.05


def test_a_feature_that_the_model_never_sees_has_an_interval_of_what_was_not_seen(clean):
    (unused,) = [m for m in found(clean, "permutation_importance") if m.params["feature"] == "unused"]
    assert unused.value == 0.0
    assert unused.interval.high == pytest.approx(1 - 0.025 ** (1 / 200), abs=1e-6)
    assert unused.interval.low == -unused.interval.high
    assert unused.interval.method == "gaffke"


def test_a_change_never_seen_is_bounded_by_the_rows_that_count():
    """Ten rows that weigh a thousand and ninety that weigh one are not a hundred rows."""
    from auditkit.analyzers.explain.shuffled import loss_of
    from auditkit.core.subject import Dataset
    from auditkit.methods.explain.permuted import Shuffled

    def upper(**design):
        data = Dataset(inputs=np.zeros((100, 1)), y=np.zeros(100, dtype=np.int64), **design)
        lost = Shuffled(losses=np.zeros((1, 100)), parts=np.zeros((1, 100)), noise=np.zeros(1))
        return loss_of("unused", lost, 0, data, "accuracy").interval.high

    few = np.where(np.arange(100) < 10, 1000.0, 1.0)
    kish = few.sum() ** 2 / (few**2).sum()
    assert upper() == pytest.approx(1 - 0.025 ** (1 / 100))
    assert upper(weights=few) == pytest.approx(1 - 0.025 ** (1 / kish), rel=2e-3)
    assert upper(clusters=np.repeat(np.arange(20), 5)) == pytest.approx(1 - 0.025 ** (1 / 20), rel=1e-6)


def test_effects_show_no_value_of_a_row_and_follow_the_model(clean):
    curves = {a.name.rsplit(".", 1)[1]: a for a in clean.artifacts if a.kind == "curve"}
    assert {"income", "debt"} <= set(curves)
    assert "region" not in curves
    income = {series.name: series for series in curves["income"].series}
    assert set(income) == {"accumulated local effects", "partial dependence", "mean Shapley value"}
    for series in income.values():
        assert series.y[-1] > series.y[0] + 0.3
        assert len(series.low) == len(series.x)
    debt = {series.name: series for series in curves["debt"].series}
    assert all(series.y[-1] < series.y[0] - 0.3 for series in debt.values())
    values = subject_with(False).test.inputs["income"].to_numpy()
    assert not np.isin(income["partial dependence"].x, values).any()


def test_whole_numbers_are_asked_about_as_whole_numbers():
    """A column of counts cannot hold 3.4: asked about there it would be told of 3, and a line would have bends."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.integers(18, 40, 400), "z": rng.normal(size=400)})
    y = 2.0 * table["age"] + table["z"]
    model = LinearRegression().fit(table, y)
    outcome = outcome_of(make_subject(model, table[:200], y[:200], train=(table[200:], y[200:]), task="regression"))
    slopes = {"age": 2.0, "z": 1.0}
    curves = [a for a in outcome.artifacts if hasattr(a, "series")]
    assert {curve.x_label for curve in curves} == set(slopes)
    for curve in curves:
        for line in curve.series:
            steps = np.diff(line.y) / np.diff(line.x)
            np.testing.assert_allclose(steps, slopes[curve.x_label], atol=1e-9, err_msg=f"{curve.name} {line.name}")


def test_signed_means_add_up_to_the_mean_move(clean):
    signed = found(clean, "mean_signed_attribution")
    assert len(signed) == 5
    assert all(m.params["output"] == "yes" for m in signed)
    assert all(m.interval.low <= m.value <= m.interval.high for m in signed)


def test_a_line_has_no_interactions_and_a_product_has():
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(200, 3)), columns=list("abc"))
    y = 2 * x["a"] + x["b"]
    straight = make_subject(LinearRegression().fit(x, y), x, y.to_numpy(), train=(x, y.to_numpy()))
    outcome = outcome_of(straight)
    strengths = found(outcome, "interaction_strength")
    assert set(strengths[0].params.values()) == {"a", "b"}
    assert max(m.value for m in strengths if m.value is not None) < 1e-6
    lost = {m.params["feature"]: m for m in found(outcome, "permutation_importance")}
    assert lost["a"].params["metric"] == "r2"
    assert lost["a"].value == pytest.approx(2 * 4 * x["a"].var() / y.var(), rel=0.15)

    from auditkit.subjects.callable import CallableModel

    product = CallableModel(lambda t: (t["a"] * t["b"]).to_numpy(), task="regression")
    outcome = outcome_of(make_subject(product, x, (x["a"] * x["b"]).to_numpy(), train=(x, y.to_numpy())))
    first = found(outcome, "interaction_strength")[0]
    assert set(first.params.values()) == {"a", "b"}
    assert first.interval.low > 0.6


def test_r2_lost_is_that_of_the_weighted_rows_whatever_the_engine():
    """scikit-learn's R2 takes the weighted variance of the labels too; each shuffle is asked anew."""
    rng = np.random.default_rng(2)
    x = pd.DataFrame(rng.normal(size=(300, 2)), columns=list("ab"))
    y = (2 * x["a"] + x["b"] + rng.normal(0, 1, 300)).to_numpy()
    weights = np.where(x["a"] > 0.5, 5.0, 1.0)
    model = LinearRegression().fit(x, y)
    lost = {}
    for name, own in (("weighted", weights), ("plain", None)):
        outcome = outcome_of(make_subject(model, x, y, weights=own), permutation_rows=1000, repeats=40)
        lost[name] = {m.params["feature"]: m.value for m in found(outcome, "permutation_importance")}
        base, moved = model.score(x, y, own), {}
        for column in x:
            scores = []
            for _ in range(200):
                copy = x.assign(**{column: rng.permutation(x[column])})
                scores.append(model.score(copy, y, own))
            moved[column] = base - np.mean(scores)
        assert lost[name] == pytest.approx(moved, rel=0.02), name
    assert abs(lost["weighted"]["a"] / lost["plain"]["a"] - 1) > 0.1


@pytest.mark.parametrize("weighted", [False, True])
def test_intervals_of_r2_lost_cover_that_of_the_population(weighted):
    """Numerator and variance come from the same rows: an interval of one alone is off by what they share."""
    from auditkit.analyzers.explain.shuffled import loss_of
    from auditkit.core.subject import Dataset
    from auditkit.methods.explain.permuted import permutation_losses
    from auditkit.stats.linearised import Design

    rng = np.random.default_rng(0)

    def drawn(n):
        x = rng.normal(size=(n, 2))
        y = 2 * x[:, 0] + x[:, 1] + rng.normal(0, 1, n)
        return x, y, np.where(x[:, 0] > 0.5, 5.0, 1.0) if weighted else np.ones(n)

    def squares(x, y):
        return (2 * x[:, 0] + x[:, 1] - np.tile(y, len(x) // len(y))) ** 2

    x, y, weights = drawn(400_000)
    gap = squares(np.column_stack([rng.permutation(x[:, 0]), x[:, 1]]), y) - squares(x, y)
    truth = np.average(gap, weights=weights) / np.cov(y, aweights=weights)
    inside = []
    for _ in range(300):
        x, y, weights = drawn(150)
        data = Dataset(inputs=x, y=y, modality="tabular", weights=weights if weighted else None)
        design = Design(data.weights, None)
        lost = permutation_losses(lambda many, y=y: squares(many, y), x, [(0,)], rng, 3, design)
        one = loss_of("a", lost, 0, data, "r2")
        inside.append(one.interval.low <= truth <= one.interval.high)
    assert 0.92 < np.mean(inside) < 0.98  # with the variance taken as known, and unweighted: 0.88


def test_labels_that_do_not_vary_have_no_r2_to_lose():
    from auditkit.subjects.callable import CallableModel

    x = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 2)), columns=list("ab"))
    model = CallableModel(lambda t: t["a"].to_numpy(), task="regression")
    outcome = outcome_of(make_subject(model, x, np.full(80, 0.1)))  # the variance of 0.1 comes out as 2e-34
    for one in found(outcome, "permutation_importance"):
        assert (one.value, one.reason) == (None, "all labels are the same")


def test_parts_of_the_rows_are_no_first_rows():
    """Rows ordered by a switch that turns the model on: the first fifty of them know nothing of it."""
    from auditkit.subjects.callable import CallableModel

    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(600, 2)), columns=list("ab")).assign(late=np.repeat([0.0, 1.0], [300, 300]))
    model = CallableModel(lambda t: (3.0 * t["late"] * t["a"] + t["b"]).to_numpy(), task="regression")
    y = 3.0 * x["late"] * x["a"] + x["b"]
    slopes, strengths = {}, {}
    for name, order in (("in order", np.arange(600)), ("mixed", rng.permutation(600))):
        table = x.iloc[order].reset_index(drop=True)
        outcome = outcome_of(make_subject(model, table, y.iloc[order].to_numpy()), max_rows=200, pair_rows=40)
        (line,) = [
            line
            for curve in outcome.artifacts
            if curve.name == "explain.global.effect.a"
            for line in curve.series
            if line.name == "partial dependence"
        ]
        slopes[name] = np.polyfit(line.x, line.y, 1)[0]
        strengths[name] = {
            frozenset(m.params.values()): m.value for m in found(outcome, "interaction_strength") if m.value is not None
        }[frozenset({"a", "late"})]
    assert slopes == pytest.approx({"in order": 1.5, "mixed": 1.5}, abs=0.4)
    assert strengths["in order"] == pytest.approx(strengths["mixed"], abs=0.15)


def test_a_model_that_never_moves_has_no_interactions_and_no_loss():
    from auditkit.subjects.callable import CallableModel

    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(100, 3)), columns=list("abc"))
    model = CallableModel(lambda t: np.full((len(t), 2), 0.5), classes=(0, 1), output="probability")
    outcome = outcome_of(make_subject(model, x, np.arange(100) % 2, train=(x, np.arange(100) % 2), positive=1))
    assert all(m.value is None and "moves the output" in m.reason for m in found(outcome, "interaction_strength"))
    assert all(m.value == 0.0 for m in found(outcome, "permutation_importance"))


COLOURS = {"red": 0.0, "blue": 1.0, "green": 3.0}


def coloured(kind, rare=4):
    """Rows of a colour, its one-hot twin and a number; a callable that knows the colours' worth."""
    from auditkit.subjects.callable import CallableModel

    rng = np.random.default_rng(5)
    colour = np.array(["red"] * 60 + ["blue"] * 50 + ["green"] * 40 + ["grey"] * rare)
    table = pd.DataFrame({"x": rng.normal(size=len(colour)), "y": rng.normal(size=len(colour)), "colour": colour})
    table = table.sample(frac=1.0, random_state=0).reset_index(drop=True)
    worth = {**COLOURS, "grey": 9.0}

    def of(t):
        return t["colour"].map(worth).to_numpy(dtype=float)

    if kind == "one-hot":
        hot = pd.get_dummies(table["colour"], prefix="colour", prefix_sep="=", dtype=float)
        table = pd.concat([table[["x", "y"]], hot], axis=1)

        def of(t):
            return sum(t[f"colour={name}"].to_numpy() * value for name, value in worth.items())

    schema = {f"colour={name}": {"kind": "onehot", "group": "colour"} for name in worth} if kind == "one-hot" else None
    return table, of, schema, CallableModel


@pytest.mark.parametrize("kind", ["category", "one-hot"])
def test_categories_are_told_one_by_one_and_rare_ones_not_at_all(kind):
    table, of, schema, wrap = coloured(kind)
    model = wrap(lambda t: of(t) + t["x"].to_numpy(), task="regression")
    y = of(table) + table["x"].to_numpy()
    subject = make_subject(model, table, y, train=(table, y), schema=schema)
    outcome = outcome_of(subject, max_rows=200, max_background=200, effect_rows=400, budget=10_000)
    (told,) = [a for a in outcome.artifacts if a.name.startswith("explain.global.categories")]
    assert told.name == "explain.global.categories.colour"
    short = [str(row[0]).removeprefix("colour=") for row in told.rows]
    assert short[::2] == ["red", "blue", "green"]  # grey has four rows
    everyone = of(table).mean()
    middle = np.mean(list(COLOURS.values()))
    for name, (_, how, effect, low, high) in zip(short, told.rows, strict=True):
        if how == "mean Shapley value":
            assert effect == pytest.approx(COLOURS[name] - everyone, abs=1e-6)
        else:
            assert how == "partial dependence"
            assert effect == pytest.approx(COLOURS[name] - middle, abs=1e-6)
        assert low <= effect <= high


@pytest.mark.parametrize("kind", ["category", "one-hot"])
def test_a_category_interacts_as_one_feature(kind):
    table, of, schema, wrap = coloured(kind)
    for planted in (True, False):
        model = wrap(
            lambda t, planted=planted: of(t) * (t["x"].to_numpy() if planted else 1.0) + t["y"].to_numpy(),
            task="regression",
        )
        y = np.asarray(model.predict(table), dtype=float)
        outcome = outcome_of(make_subject(model, table, y, train=(table, y), schema=schema), paired_features=3)
        strengths = {frozenset(m.params.values()): m for m in found(outcome, "interaction_strength")}
        assert set(strengths) == {frozenset(pair) for pair in (("x", "y"), ("x", "colour"), ("y", "colour"))}
        both = strengths[frozenset(("x", "colour"))]
        if planted:
            assert both.interval.low > 0.3
        else:
            assert both.value < 1e-6


def test_rounding_in_every_row_is_no_change_and_a_small_true_change_is_one():
    from auditkit.analyzers.explain.shuffled import loss_of
    from auditkit.methods.explain.permuted import Shuffled

    rng = np.random.default_rng(5)
    y = rng.normal(size=100)
    data = make_subject(lambda x: x[:, 0], np.c_[y], y, task="regression").test
    drift = rng.normal(size=100)
    moved = [Shuffled(losses=s * drift[None], parts=s * drift[None], noise=np.zeros(1)) for s in (1e-17, 1e-6)]
    rounded, small = (loss_of("a", lost, 0, data, "r2") for lost in moved)
    assert (rounded.value, rounded.interval) == (0.0, None)
    assert rounded.reason == "no prediction moved when the feature was shuffled"
    assert small.interval.low <= small.value <= small.interval.high
    assert small.value == pytest.approx(1e-6 * drift.mean() / y.var())
