from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from auditkit.analyzers.fairness.scores import ANALYZER
from auditkit.core.evidence import Density
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.fairness import distances as d
from auditkit.stats.linearised import PLAIN, Design
from auditkit.subjects.build import make_predictions_subject


def rows(n=1200, seed=0, noise=0.0, shift=0.0):
    """Calibrated scores; those of F are blurred by ``noise`` and lowered by ``shift``."""
    rng = np.random.default_rng(seed)
    sex = rng.choice(["F", "M"], n)
    truth = rng.random(n)
    y = (rng.random(n) < truth).astype(int)
    blurred = np.where(rng.random(n) < noise, rng.random(n), truth)
    score = np.clip(np.where(sex == "F", blurred - shift, truth), 0, 1)
    return y, score, {"sex": sex}


def run(y, score, sensitive, **params):
    design = {name: params.pop(name) for name in ("weights", "clusters") if name in params}
    subject = make_predictions_subject(y, (score > 0.5).astype(int), score, sensitive=sensitive, **design)
    small = {"resamples": 60, "permutations": 39, **params}
    return run_step(subject, Step(name=ANALYZER.name, params=ANALYZER.params(**small), analyzer=ANALYZER))


def find(outcome, name, over=(), **where):
    return next(m for m in outcome.measurements if m.name == name and m.over == over and dict(m.slice) == where)


def masses(y, score, groups, design=PLAIN):
    levels = d.coarse_levels(score)
    return d.group_masses(levels, y == 1, groups, int(groups.max()) + 1, design), levels


# References.


@pytest.mark.parametrize("digits", [1, 2, 9])
def test_abroca_is_the_area_between_scikit_learns_curves(digits):
    rng = np.random.default_rng(digits)
    score = np.round(rng.random(400), digits)
    y, g = (rng.random(400) < score).astype(int), rng.integers(0, 2, 400)
    grid = np.linspace(0, 1, 200_001)
    curves = []
    for code in (0, 1):
        fpr, tpr, _ = sk.roc_curve(y[g == code], score[g == code], drop_intermediate=False)
        curves.append(np.interp(grid, fpr, tpr))
    expected = np.trapezoid(np.abs(curves[0] - curves[1]), grid)
    (one, two), levels = masses(y, score, g)
    assert d.curve_distance("abroca", one, two, levels.at) == pytest.approx(expected, abs=2e-6)


def test_abroca_sees_curves_that_cross_where_the_areas_are_equal():
    # Levels 0 1 2 3. One group: negatives in the middle. The other: positives in the middle. Both AUC are 0.5.
    outer, inner = np.array([1.0, 0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    for negative, positive in ((inner, outer), (outer, inner)):
        labels = [0] * 2 + [1] * 2
        assert sk.roc_auc_score(labels, [*np.flatnonzero(negative), *np.flatnonzero(positive)]) == 0.5
    assert d.curve_distance("abroca", np.stack([inner, outer]), np.stack([outer, inner]), np.arange(4.0)) == 0.5


def test_distances_of_distributions_equal_scipy():
    y, score, sensitive = rows(500, shift=0.2)
    g = (sensitive["sex"] == "M").astype(int)
    (one, two), levels = masses(y, score, g)
    a, b = score[g == 0], score[g == 1]
    # 500 scores are few enough to be levels of their own.
    assert d.curve_distance("ks", one, two, levels.at) == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert d.curve_distance("wasserstein", one, two, levels.at) == pytest.approx(stats.wasserstein_distance(a, b))


def test_many_scores_are_binned_and_change_little():
    y, score, sensitive = rows(5000, shift=0.2)
    g = (sensitive["sex"] == "M").astype(int)
    (one, two), levels = masses(y, score, g)
    assert len(levels.at) <= 512
    a, b = score[g == 0], score[g == 1]
    assert d.curve_distance("ks", one, two, levels.at) == pytest.approx(stats.ks_2samp(a, b).statistic, abs=0.005)
    assert d.curve_distance("wasserstein", one, two, levels.at) == pytest.approx(
        stats.wasserstein_distance(a, b), abs=0.005
    )


def test_estimates_by_group_equal_scikit_learn():
    y, score, sensitive = rows()
    outcome = run(y, score, sensitive, permutations=0)
    for name in "FM":
        m = sensitive["sex"] == name
        assert find(outcome, "fairness.roc_auc", sex=name).value == pytest.approx(sk.roc_auc_score(y[m], score[m]))
        assert find(outcome, "fairness.mean_score", sex=name).value == pytest.approx(score[m].mean())
        assert find(outcome, "fairness.mean_score_of_positives", sex=name).value == pytest.approx(
            score[m & (y == 1)].mean()
        )
        assert find(outcome, "fairness.mean_score_of_negatives", sex=name).value == pytest.approx(
            score[m & (y == 0)].mean()
        )
        assert find(outcome, "fairness.mean_overestimation", sex=name).value == pytest.approx((score - y)[m].mean())
    by = {name: find(outcome, "fairness.roc_auc", sex=name).value for name in "FM"}
    assert find(outcome, "fairness.roc_auc.difference", over=("sex",)).value == pytest.approx(abs(by["F"] - by["M"]))
    density = next(a for a in outcome.artifacts if isinstance(a, Density))
    assert [sum(row) for row in density.counts] == [(sensitive["sex"] == name).sum() for name in "FM"]


def test_weights_count_as_repeated_rows():
    y, score, sensitive = rows(200)
    twice = np.random.default_rng(0).integers(1, 4, 200)
    levels, g = d.coarse_levels(score), (sensitive["sex"] == "M").astype(np.int64)
    weighted = d.group_masses(levels, y == 1, g, 2, Design(twice.astype(float), None))
    at = np.repeat(np.arange(200), twice)
    repeated = d.group_masses(d.Levels(levels.code[at], levels.at), y[at] == 1, g[at], 2, PLAIN)
    assert np.array_equal(weighted, repeated)


# Uncertainty.


@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_intervals_of_distances_cover_the_truth(noise):
    big_y, big_score, big_groups = rows(150_000, seed=99, noise=noise)
    (one, two), levels = masses(big_y, big_score, (big_groups["sex"] == "M").astype(int))
    truth = {kind: d.curve_distance(kind, one, two, levels.at) for kind in ("abroca", "ks", "wasserstein")}
    missed, draws = dict.fromkeys(truth, 0), 40
    for draw in range(draws):
        y, score, sensitive = rows(300, seed=draw, noise=noise)
        outcome = run(y, score, sensitive, permutations=0)
        for kind, value in truth.items():
            name = "abroca" if kind == "abroca" else f"score_{kind}"
            interval = find(outcome, f"fairness.{name}", over=("sex",)).interval
            missed[kind] += not interval.low - 0.01 <= value <= interval.high + 0.01
    assert max(missed.values()) <= draws * 0.05 + 3 * (draws * 0.05 * 0.95) ** 0.5, missed


def test_copied_rows_told_as_clusters_do_not_narrow_intervals():
    y, score, sensitive = rows(150, noise=0.5)
    at = np.repeat(np.arange(150), 8)
    copies = (y[at], score[at], {"sex": sensitive["sex"][at]})

    def width(outcome):
        interval = find(outcome, "fairness.score_wasserstein", over=("sex",)).interval
        return interval.high - interval.low

    once, told = width(run(y, score, sensitive)), run(*copies, clusters=at)
    assert width(told) == pytest.approx(once, rel=0.25)
    assert width(run(*copies)) < 0.6 * once
    refused = find(told, "fairness.abroca_p_value", over=("sex",))
    assert (refused.value, refused.reason) == (
        None,
        "weighted or clustered rows are not exchangeable, so there is no permutation test",
    )


def test_the_permutation_test_holds_its_level_and_finds_a_planted_gap():
    p_values = []
    for seed in range(60):
        y, score, sensitive = rows(200, seed=seed)
        g = (sensitive["sex"] == "M").astype(np.int64)
        p_values.append(d.abroca_p_value(d.coarse_levels(score), y == 1, g, 2, np.random.default_rng(seed), 19))
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 60) ** 0.5
    assert np.mean(np.array(p_values) <= 0.5) > 0.25
    planted = find(run(*rows(2000, noise=0.8)), "fairness.abroca_p_value", over=("sex",))
    assert planted.value == pytest.approx(1 / 40)


# Planted faults and their clean twins.


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("roc_auc.difference", {"noise": 0.8}),
        ("abroca", {"noise": 0.8}),
        ("score_ks", {"shift": 0.3}),
        ("score_wasserstein", {"shift": 0.3}),
        ("mean_score.difference", {"shift": 0.3}),
        ("mean_score_of_positives.difference", {"shift": 0.3}),
        ("mean_overestimation.difference", {"shift": 0.3}),
        ("expected_calibration_error.difference", {"shift": 0.3}),
    ],
)
def test_a_planted_fault_is_seen_and_the_clean_twin_is_quiet(name, fault):
    planted = find(run(*rows(3000, **fault), permutations=0), f"fairness.{name}", over=("sex",))
    clean = find(run(*rows(3000), permutations=0), f"fairness.{name}", over=("sex",))
    assert planted.interval.low > 0.02
    assert clean.interval.low == 0.0


# What cannot be measured.


def test_a_group_without_a_label_makes_gaps_undefined_not_smaller():
    y, score, sensitive = rows(300)
    group = np.where(np.arange(300) < 20, "x", sensitive["sex"])
    y[:20] = 0
    outcome = run(y, score, {"sex": group})
    for name in ("roc_auc.difference", "mean_score_of_positives.difference", "abroca", "abroca_p_value"):
        found = find(outcome, f"fairness.{name}", over=("sex",))
        assert found.value is None, name
        assert found.reason
    assert find(outcome, "fairness.mean_score.difference", over=("sex",)).value is not None


def test_a_perfect_ranking_gives_no_false_certainty():
    y = np.array([0, 1] * 50)
    found = find(run(y, 0.2 + 0.6 * y, {"g": np.repeat(["a", "b"], 50)}), "fairness.abroca", over=("g",))
    assert (found.value, found.interval) == (0.0, None)
    assert "never moves when resampled" in found.reason


def test_one_group_and_too_many_groups():
    y, score, _ = rows(300)
    one = find(run(y, score, {"g": np.array(["a"] * 300)}), "fairness.abroca", over=("g",))
    assert one.reason == "there is only one group to compare"
    many = run(y, score, {"g": (np.arange(300) % 40).astype(str)})
    assert "g: 40 groups, more than max_groups = 24; left out." in many.notes


def test_a_draw_of_weighted_rows_is_told_and_plain_rows_are_all_compared():
    y, score, sensitive = rows()
    drawn = run(y, score, sensitive, max_rows=200, weights=np.linspace(1.0, 2.0, len(y)))
    assert any("200 of 1200 rows drawn at random" in note for note in drawn.notes)
    whole = run(y, score, sensitive, max_rows=200)
    assert not any("drawn at random" in note for note in whole.notes)
    assert find(whole, "fairness.abroca", over=("sex",)).n == 1200
