"""fairness.mitigation: the arms do what their papers say, changes are paired, a gap narrows and none is invented."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from auditkit.analyzers.fairness.mitigation import ANALYZER
from auditkit.core.errors import AuditkitError
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.fairness.expected_rates import Cells, expected_change, expected_gap, expected_rate, gap_change
from auditkit.methods.fairness.mitigation import exponentiated_gradient, group_thresholds, remove_correlation
from auditkit.stats.linearised import Design


def run(subject, params=None):
    return run_step(subject, Step(name=ANALYZER.name, params=ANALYZER.params(**(params or {})), analyzer=ANALYZER))


def loans(n, seed, bias):
    """Merit is alike in both groups; history is a proxy of sex, and labels are biased by ``bias``."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["F", "M"], n)
    merit = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "merit": merit,
            "history": (sex == "M") * 1.0 + rng.normal(0, 0.5, n),
            "home": rng.choice(["rent", "own"], n),
        }
    )
    y = (merit + bias * (sex == "M") - bias / 2 + rng.normal(0, 0.7, n) > 0).astype(int)
    return frame, np.where(y == 1, "yes", "no"), pd.DataFrame({"sex": sex})


def subject_of(bias, model=None, train_sensitive=True, n=1500):
    from auditkit.subjects.build import make_subject

    train, y_train, sex_train = loans(n, 1, bias)
    test, y_test, sex_test = loans(n, 2, bias)
    encode = make_column_transformer((OneHotEncoder(), ["home"]), (StandardScaler(), ["merit", "history"]))
    model = make_pipeline(encode, model or LogisticRegression())
    model.fit(train, y_train)
    return make_subject(
        model,
        test,
        y_test,
        sensitive=sex_test,
        train=(train, y_train, sex_train) if train_sensitive else (train, y_train),
        positive="yes",
    )


@pytest.fixture(scope="module")
def biased():
    return run(subject_of(2.0), params={"rounds": 6, "tolerances": [0.01, 0.1]})


@pytest.fixture(scope="module")
def clean():
    return run(subject_of(0.0), params={"rounds": 4, "tolerances": [0.05]})


def pick(outcome, name, arm, **setting):
    found = [
        m
        for m in outcome.measurements
        if m.name == name and m.params["arm"] == arm and all(m.params.get(k) == v for k, v in setting.items())
    ]
    assert len(found) == 1, [m.params for m in found]
    return found[0]


GAP = "fairness.mitigated_selection_rate.difference"
CHANGE = "fairness.mitigated_selection_rate_change.difference"


@pytest.mark.parametrize(
    ("arm", "setting"),
    [
        ("ThresholdOptimizer", {"tolerance": 0.01}),
        ("ExponentiatedGradient", {"tolerance": 0.01}),
        ("CorrelationRemover", {"alpha": 1.0}),
    ],
)
def test_planted_bias_is_narrowed_by_every_arm(biased, arm, setting):
    base, after = pick(biased, GAP, "as it is"), pick(biased, GAP, arm, **setting)
    assert base.interval.low > 0.3
    assert after.value < 0.12
    change = pick(biased, CHANGE, arm, **setting)
    assert change.value == pytest.approx(after.value - base.value, abs=1e-12)
    assert change.interval.high < 0.0
    cost = pick(biased, "fairness.mitigated_accuracy_change", arm, **setting)
    assert cost.value < 0.0, "labels are biased, so parity must cost accuracy"
    assert any("sex:" in note and "moves the gap" in note for note in biased.notes)


def test_a_wider_tolerance_costs_less(biased):
    strict, loose = (
        [pick(biased, name, arm, tolerance=t).value for name in (GAP, "fairness.mitigated_accuracy")]
        for t in (0.01, 0.1)
        for arm in ("ThresholdOptimizer",)
    )
    assert strict[0] < loose[0]
    assert strict[1] < loose[1]


def test_clean_twin_has_no_gap_to_narrow(clean):
    assert pick(clean, GAP, "as it is").interval.low <= 0.0
    assert any("no gap is shown that could be narrowed" in note for note in clean.notes)
    assert not any("moves the gap" in note for note in clean.notes)
    assert clean.measurements


def test_retraining_alone_changes_nothing_here(biased):
    change = pick(biased, CHANGE, "trained afresh")
    assert change.value == 0.0
    assert change.interval.low < 0.0 < change.interval.high


def test_table_and_frontier_hold_every_arm(biased):
    table, curve = (next(a for a in biased.artifacts if a.kind == kind) for kind in ("table", "curve"))
    assert [row[0] for row in table.rows].count("ThresholdOptimizer") == 2
    assert {s.name for s in curve.series} == {row[0] for row in table.rows}
    base = next(s for s in curve.series if s.name == "as it is")
    assert base.low[0] < base.y[0] < base.high[0]


def test_a_model_without_row_weights_fails_one_arm_by_name():
    outcome = run(
        subject_of(2.0, KNeighborsClassifier(), n=400),
        params={"tolerances": [0.05], "alphas": [1.0]},
    )
    lacking = pick(outcome, GAP, "ExponentiatedGradient")
    assert lacking.value is None
    assert "KNeighborsClassifier cannot be trained on weighted rows" in lacking.reason
    assert pick(outcome, GAP, "ThresholdOptimizer").value is not None


def test_training_rows_without_groups_are_not_applicable():
    outcome = run(subject_of(2.0, train_sensitive=False, n=200))
    assert outcome.status == "not_applicable"
    assert "pass train=(X_train, y_train, sensitive_train)" in outcome.reason


def test_an_unknown_column_is_named():
    outcome = run(subject_of(2.0, n=200), params={"columns": ["race"]})
    assert outcome.status == "failed"
    assert "AK433 'race' is not a sensitive column" in outcome.reason


def test_equalized_odds_arms():
    outcome = run(
        subject_of(4.0, n=2500),
        params={"constraint": "equalized_odds", "tolerances": [0.02], "rounds": 5, "alphas": []},
    )
    name = "fairness.mitigated_equalized_odds.difference"
    assert pick(outcome, name, "ThresholdOptimizer").value < pick(outcome, name, "as it is").value - 0.2
    change = pick(outcome, "fairness.mitigated_equalized_odds_change.difference", "ExponentiatedGradient")
    assert change.interval.high < 0.0


def scored(seed=0, n=600):
    rng = np.random.default_rng(seed)
    groups = rng.choice(["a", "b", "c"], n)
    y = (rng.random(n) < 0.3 + 0.2 * (groups == "b")).astype(np.int64)
    return np.round(y * 0.5 + rng.normal(0, 0.6, n) + 0.3 * (groups == "b"), 1), y, groups


@pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds"])
def test_thresholds_are_the_average_of_fairlearns_own_draws(constraint):
    from fairlearn.postprocessing import ThresholdOptimizer

    scores, y, groups = scored()
    found = group_thresholds((scores, y, groups), (scores, groups), constraint)

    class Given(BaseEstimator):
        def fit(self, X, y=None):
            return self

        def __sklearn_is_fitted__(self):
            return True

        def predict(self, X):
            return np.asarray(X)[:, 0]

    theirs = ThresholdOptimizer(
        estimator=Given(), constraints=constraint, objective="accuracy_score", prefit=True, predict_method="predict"
    ).fit(scores[:, None], y, sensitive_features=groups)
    draws = np.mean(
        [theirs.predict(scores[:, None], sensitive_features=groups, random_state=s) for s in range(400)], axis=0
    )
    assert found.randomised >= 1
    assert np.abs(draws - found.chance).max() < 5 * 0.5 / np.sqrt(400)
    if constraint == "demographic_parity":
        rates = [found.chance[groups == g].mean() for g in "abc"]
        assert max(rates) - min(rates) < 1e-9


def test_thresholds_beat_every_other_parity_rule_of_their_kind():
    """Brute force: no choice of one plain threshold a group with nearly equal rates is more accurate on these rows."""
    scores, y, groups = scored(3, 150)
    chance = group_thresholds((scores, y, groups), (scores, groups)).chance
    ours = np.where(y == 1, chance, 1 - chance).mean()
    best = 0.0
    for cuts in itertools.product(*([*np.unique(scores[groups == g]), np.inf] for g in "abc")):
        decided = np.concatenate([scores[groups == g] >= cut for g, cut in zip("abc", cuts, strict=True)])
        rates = [(scores[groups == g] >= cut).mean() for g, cut in zip("abc", cuts, strict=True)]
        if max(rates) - min(rates) < 1e-9:
            best = max(best, (decided == np.concatenate([y[groups == g] for g in "abc"])).mean())
    assert ours >= best - 1e-9


def test_unseen_groups_and_single_labels_are_refused():
    scores, y, groups = scored()
    with pytest.raises(AuditkitError, match="no row of z"):
        group_thresholds((scores, y, groups), (scores[:1], np.array(["z"])))
    with pytest.raises(AuditkitError, match="no row of z"):
        remove_correlation((scores[:, None], groups), (scores[:1, None], np.array(["z"])))
    y[groups == "a"] = 1
    with pytest.raises(AuditkitError, match="training rows of a all have one label"):
        group_thresholds((scores, y, groups), (scores, groups))


def test_reduction_meets_its_tolerance_on_a_problem_of_two_features():
    rng = np.random.default_rng(5)
    groups = rng.choice(["a", "b"], 800)
    x = np.column_stack([(groups == "b") + rng.normal(0, 0.8, 800), rng.normal(size=800)])
    y = (x.sum(axis=1) + rng.normal(0, 0.5, 800) > 0.5).astype(np.int64)

    def train(labels, weights):
        model = LogisticRegression().fit(x, labels, sample_weight=weights)
        return lambda split: model.predict(x)

    found = exponentiated_gradient(train, y, groups, tolerance=0.02, rounds=20)
    gap = abs(found.chance[groups == "a"].mean() - found.chance[groups == "b"].mean())
    before = train(y, np.ones(800))("test")
    assert abs(before[groups == "a"].mean() - before[groups == "b"].mean()) > 0.3
    assert gap < 0.06
    assert found.trainings >= found.mixed >= 2


def test_decorrelated_columns_have_no_linear_trace_and_missing_stays_missing():
    rng = np.random.default_rng(6)
    groups = rng.choice(["a", "b", "c"], 300)
    columns = rng.normal(size=(300, 2)) + (groups == "b")[:, None] * [1.0, -2.0] + (groups == "c")[:, None] * 3.0
    columns[::7, 1] = np.nan
    after, _ = remove_correlation((columns, groups), (columns[:5], groups[:5]))
    assert np.isnan(after).tolist() == np.isnan(columns).tolist()
    for column in after.T:
        known = np.isfinite(column)
        means = [column[known & (groups == g)].mean() for g in "abc"]
        assert np.ptp(means) < 1e-10
    half, _ = remove_correlation((columns, groups), (columns, groups), alpha=0.5)
    np.testing.assert_allclose(half, (after + columns) / 2, atol=1e-12)


def test_mitigation_for_one_column_leaves_the_other_sensitive_columns_in_the_model():
    """Race has nothing to do with sex here and decides the label: an arm for sex that drops it would pay for both."""
    from auditkit.subjects.build import make_subject

    def drawn(seed, n=800):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame({"sex": rng.integers(0, 2, n), "race": rng.integers(0, 2, n), "x": rng.normal(size=n)})
        y = (3.0 * frame["race"] + frame["sex"] + 0.3 * rng.normal(size=n) > 2.0).astype(int)
        return frame, y, frame[["sex", "race"]].astype(str)

    (train, y_train, by_train), (test, y_test, by_test) = drawn(1), drawn(2)
    model = LogisticRegression().fit(train, y_train)
    subject = make_subject(model, test, y_test, sensitive=by_test, train=(train, y_train, by_train), positive=1)
    outcome = run(subject, params={"rounds": 2, "tolerances": [0.1], "alphas": [1.0]})
    accuracy = {
        m.params["column"]: m.value
        for m in outcome.measurements
        if m.name == "fairness.mitigated_accuracy" and m.params["arm"] == "CorrelationRemover"
    }
    assert accuracy["sex"] > 0.95, "the label follows race"
    assert accuracy["race"] < 0.8, "which is what the arm for race takes away"


def test_expected_gap_is_the_mean_of_draws_and_of_plain_rules_the_usual_gap():
    rng = np.random.default_rng(7)
    chance, groups = rng.random(500), rng.integers(0, 3, 500)
    rates = [chance[groups == g].mean() for g in range(3)]
    assert expected_gap(chance, Cells(groups, 3)).value == pytest.approx(max(rates) - min(rates), abs=1e-12)
    hard = (chance > 0.6).astype(float)
    from auditkit.methods.fairness import count_groups, disparity

    counts = count_groups(hard.astype(int), hard.astype(int), {"g": groups.astype(str)})
    usual = disparity(counts, "selection_rate")
    ours = expected_gap(hard, Cells(groups, 3))
    assert ours.value == pytest.approx(usual.value, abs=1e-12)
    assert (ours.interval.low, ours.interval.high) == pytest.approx((usual.interval.low, usual.interval.high), abs=1e-9)
    assert ours.interval.method == usual.interval.method == "melded-worst-pair"
    assert expected_rate(chance).interval(0.95).high > chance.mean()


def test_gap_change_by_hand_with_weights():
    groups = np.array([0, 0, 0, 1, 1, 1])
    before, after = np.array([1, 1, 0, 0, 0, 1.0]), np.array([1, 0.5, 0, 0, 1, 1.0])
    weights = np.array([1, 2, 1, 1, 1, 2.0])

    def gap(p):
        rates = [np.average(p[groups == g], weights=weights[groups == g]) for g in (0, 1)]
        return abs(rates[0] - rates[1])

    found = gap_change(before, after, Cells(groups, 2), Design(weights))
    assert found.value == pytest.approx(gap(after) - gap(before), abs=1e-12)


def test_the_interval_of_a_gaps_change_by_loops():
    """Covariances a row at a time, then the largest and least difference over all ordered pairs of groups."""
    rng = np.random.default_rng(10)
    groups, n = np.repeat([0, 1, 2], [40, 60, 30]), 130
    before, after = (rng.random(n) < 0.5).astype(float), rng.choice([0.0, 0.3, 1.0], n)
    own = [np.flatnonzero(groups == g) for g in range(3)]
    rates = [(before[rows].mean(), after[rows].mean()) for rows in own]
    spread = []
    for rows, rate in zip(own, rates, strict=True):
        total = np.zeros((2, 2))
        for row in rows:
            moved = np.array([before[row], after[row]]) - rate
            total += n / (n - 1) * np.outer(moved, moved) / len(rows) ** 2
        for corner in itertools.product((0.0, 1.0), repeat=2):
            moved = np.array(corner) - rate
            total += 0.5 * np.outer(moved, moved) / (len(rows) + 2) ** 2
        spread.append(total)
    pairs = list(itertools.permutations(range(3), 2))
    t = stats.t.ppf(1 - 0.025 / len(pairs), 29)
    points, lows, highs = {}, {}, {}
    for one, two in itertools.product(pairs, pairs):  # the pair under the second rule, that under the first
        weights = np.zeros((3, 2))
        weights[[*two], 0] += np.array([-1.0, 1.0])
        weights[[*one], 1] += np.array([1.0, -1.0])
        value = sum(weights[g] @ rates[g] for g in range(3))
        half = t * math.sqrt(sum(weights[g] @ spread[g] @ weights[g] for g in range(3)))
        points[one, two], lows[one, two], highs[one, two] = value, value - half, value + half

    def minimax(of):
        return max(min(of[one, two] for two in pairs) for one in pairs)

    found = gap_change(before, after, Cells(groups, 3))
    low = max(minimax(lows), min(lows[pair, pair] for pair in pairs))
    high = min(minimax(highs), max(highs[pair, pair] for pair in pairs))
    interval = found.interval(0.95)
    assert found.value == pytest.approx(minimax(points), abs=1e-12)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


def test_the_change_of_plain_rules_agrees_with_mcnemars_exact_test():
    base = np.repeat([1.0, 0.0], [60, 40])
    for up, down in ((0, 0), (5, 0), (6, 0), (9, 2), (10, 2), (12, 4), (30, 20)):
        after = base.copy()
        after[60 : 60 + up], after[:down] = 1.0, 0.0
        found = expected_change(base, after)
        interval = found.interval(0.95)
        rejected = up + down > 0 and stats.binomtest(up, up + down).pvalue < 0.05
        assert found.value == pytest.approx((up - down) / 100)
        assert (interval.low > 0 or interval.high < 0) == rejected, (up, down)
        assert interval.low < interval.high


@pytest.mark.parametrize("weighted", [False, True])
def test_the_change_of_randomised_rules_is_gaffkes_by_drawing(weighted):
    rng = np.random.default_rng(11)
    before, after = (rng.random(80) < 0.6).astype(float), rng.choice([0.0, 0.5, 1.0], 80)
    w = rng.uniform(1, 3, 80) if weighted else np.ones(80)
    mass = np.append(w, (w**2).sum() / w.sum()) * rng.exponential(size=(40_000, 81))
    found = expected_change(before, after, Design(w) if weighted else Design()).interval(0.95)
    drawn = [mass @ np.append(after - before, end) / mass.sum(axis=1) for end in (-1.0, 1.0)]
    limits = np.quantile(drawn[0], 0.025), np.quantile(drawn[1], 0.975)
    assert (found.low, found.high) == pytest.approx(limits, abs=4e-3)


def test_a_change_that_hardly_ever_happens_is_not_bounded_by_the_rows_that_were_seen():
    """Of 200 rows one in a hundred changes: Student's upper limit of the mean is too low when none or few do."""
    rng = np.random.default_rng(12)
    over = [0, 0]
    for _ in range(300):
        after = (rng.random(200) < 0.01).astype(float)
        over[0] += expected_change(np.zeros(200), after).interval(0.95).high < 0.01
        over[1] += after.mean() + stats.t.ppf(0.975, 199) * after.std(ddof=1) / math.sqrt(200) < 0.01
    assert over[0] <= 300 * 0.025 + 3 * math.sqrt(300 * 0.025 * 0.975)
    assert over[1] > 300 * 0.06


@pytest.mark.parametrize("truth", [(0.5, 0.2, 0.45), (0.5, 0.5, 0.5), (0.9, 0.98, 0.95)])
def test_gap_change_covers(truth):
    """The paired interval of the change holds its truth in at least 94 of 100 simulated audits."""
    rng = np.random.default_rng(8)
    truth = np.array(truth)
    shift = np.array([-0.1, 0.02, 0.0])
    exact = np.ptp(truth + shift) - np.ptp(truth)
    groups = np.repeat([0, 1, 2], [60, 150, 300])
    held = 0
    for _ in range(200):
        u = rng.random(len(groups))
        # One uniform number for both rules: decisions on a row hang together.
        before, after = (u < truth[groups]).astype(float), (u < (truth + shift)[groups]).astype(float)
        interval = gap_change(before, after, Cells(groups, 3)).interval(0.95)
        held += interval.low - 1e-12 <= exact <= interval.high + 1e-12
    assert held >= 0.94 * 200 - 3 * np.sqrt(200 * 0.06 * 0.94)


def test_an_unpaired_interval_would_be_wider():
    rng = np.random.default_rng(9)
    groups = np.repeat([0, 1], 500)
    u = rng.random(1000)
    before, after = (u < 0.5 - 0.1 * groups).astype(float), (u < 0.52 - 0.1 * groups).astype(float)
    shuffled = np.concatenate([rng.permutation(after[groups == g]) for g in (0, 1)])
    widths = []
    for other in (after, shuffled):
        interval = gap_change(before, other, Cells(groups, 2)).interval(0.95)
        widths.append(interval.high - interval.low)
    assert widths[0] < 0.5 * widths[1]
