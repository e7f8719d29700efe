"""Where the same name means different things: one test a trap. fairlearn is run; the documented formulas of AIF360,
aequitas, holisticai and jurity are written out by hand on the same cells."""

from __future__ import annotations

import math
import warnings

import fairlearn.metrics as fl
import numpy as np
import pandas as pd
import pytest

from auditkit.core.errors import UsageError
from auditkit.methods.fairness import count_groups, disparity, group_metrics


def cells(**groups):
    """Rows of groups given as ``name=(tp, fp, fn, tn)``."""
    y, p, g = [], [], []
    for name, (tp, fp, fn, tn) in groups.items():
        y += [1] * tp + [0] * fp + [1] * fn + [0] * tn
        p += [1] * tp + [1] * fp + [0] * fn + [0] * tn
        g += [name] * (tp + fp + fn + tn)
    return np.array(y), np.array(p), np.array(g)


def test_trap_sign_a_difference_is_never_negative_and_a_ratio_never_above_one():
    y, p, g = cells(privileged=(20, 10, 20, 50), unprivileged=(30, 20, 10, 40))  # the "unprivileged" are better off
    counts = count_groups(y, p, g)
    aif360_difference, aif360_impact = 0.5 - 0.3, 0.5 / 0.3  # unprivileged - privileged, unprivileged / privileged
    assert disparity(counts, "selection_rate").value == pytest.approx(abs(aif360_difference))
    assert disparity(counts, "selection_rate", "ratio").value == pytest.approx(1 / aif360_impact)
    assert fl.demographic_parity_difference(y, p, sensitive_features=g) == pytest.approx(0.2)
    assert fl.demographic_parity_ratio(y, p, sensitive_features=g) == pytest.approx(0.6)


def test_trap_band_one_and_a_fifth_is_not_the_inverse_of_four_fifths():
    y, p, g = cells(a=(41, 0, 0, 59), b=(50, 0, 0, 50))
    rate = dict(zip("ab", (0.41, 0.5), strict=True))
    forward = rate["b"] / rate["a"]
    assert not 0.8 <= forward <= 1.2  # holisticai and jurity: outside their band
    assert 0.8 <= forward <= 1 / 0.8  # aequitas: inside its band
    assert disparity(count_groups(y, p, g), "selection_rate", "ratio").value == pytest.approx(0.82)


def test_trap_equalized_odds_is_the_larger_gap_and_average_odds_never_cancels():
    # TPR 0.8 and 0.5, FPR 0.2 and 0.5: the gaps have opposite signs.
    y, p, g = cells(a=(80, 20, 20, 80), b=(50, 50, 50, 50))
    counts = count_groups(y, p, g)
    assert disparity(counts, "equalized_odds").value == pytest.approx(0.3)
    assert fl.equalized_odds_difference(y, p, sensitive_features=g) == pytest.approx(0.3)
    assert fl.equalized_odds_difference(y, p, sensitive_features=g, agg="mean") == pytest.approx(0.3)
    aif360_average_odds_difference = ((0.5 - 0.2) + (0.5 - 0.8)) / 2
    assert aif360_average_odds_difference == pytest.approx(0.0)  # parity, says the cancelling mean
    assert disparity(counts, "average_odds").value == pytest.approx(0.3)


def test_trap_equalized_odds_mean_of_fairlearn_takes_its_worst_pairs_apart():
    """fairlearn means the largest gap in each rate; ours is the mean gap of one pair of groups, so never larger."""
    y, p, g = cells(a=(90, 50, 10, 50), b=(50, 50, 50, 50), c=(50, 90, 50, 10))
    theirs = fl.equalized_odds_difference(y, p, sensitive_features=g, agg="mean")
    assert theirs == pytest.approx(0.4)
    assert disparity(count_groups(y, p, g), "average_odds").value == pytest.approx(0.4)
    y, p, g = cells(a=(90, 50, 10, 50), b=(50, 50, 50, 50), c=(70, 90, 30, 10))
    theirs = fl.equalized_odds_difference(y, p, sensitive_features=g, agg="mean")
    ours = disparity(count_groups(y, p, g), "average_odds").value
    assert (theirs, ours) == (pytest.approx(0.4), pytest.approx(0.3))


def test_trap_names_ppr_of_aequitas_is_not_the_selection_rate():
    y, p, g = cells(a=(30, 10, 0, 10), b=(10, 10, 0, 130))
    aequitas = {"ppr": 40 / 60, "pprev": 40 / 50}  # share of all positive decisions; share of the group
    assert group_metrics(count_groups(y, p, g)).values("selection_rate")[("a",)] == pytest.approx(aequitas["pprev"])
    assert aequitas["ppr"] != pytest.approx(aequitas["pprev"])


def test_trap_two_groups_a_third_group_is_not_averaged_away():
    y, p, g = cells(white=(50, 0, 0, 50), black=(10, 0, 0, 90), asian=(90, 0, 0, 10))
    lumped = (10 + 90) / 200  # AIF360, holisticai, jurity: everyone who is not in the privileged group
    assert abs(lumped - 0.5) == 0.0
    assert disparity(count_groups(y, p, g), "selection_rate").value == pytest.approx(0.8)


@pytest.mark.parametrize("flip", [False, True])
def test_trap_undefined_a_group_without_positives_is_neither_parity_nor_violation(flip):
    groups = {"a": (5, 0, 0, 5), "b": (0, 0, 0, 10)}
    y, p, g = cells(**(dict(reversed(groups.items())) if flip else groups))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A perfect model: fairlearn puts 0 for the undefined rate and finds the greatest violation there is.
        assert fl.equalized_odds_difference(y, p, sensitive_features=g) == 1.0
    # AIF360: max() of a number and NaN, which keeps whichever comes first.
    assert max(0.0, math.nan) == 0.0
    assert math.isnan(max(math.nan, 0.0))
    found = disparity(count_groups(y, p, g), "equalized_odds")
    assert (found.value, found.interval) == (None, None)
    assert "undefined in 1 of 2 groups" in found.reason


def test_trap_undefined_nobody_selected_has_no_ratio():
    y, p, g = cells(a=(0, 0, 5, 5), b=(0, 0, 5, 5))
    counts = count_groups(y, p, g)
    assert disparity(counts, "selection_rate").value == 0.0
    assert disparity(counts, "selection_rate", "ratio").value is None
    # Privileged rate 0: AIF360 says infinity, aequitas fills in 10, jurity returns a count. Ours is 0, the worst.
    y, p, g = cells(privileged=(0, 0, 5, 5), other=(5, 0, 0, 5))
    assert disparity(count_groups(y, p, g), "selection_rate", "ratio").value == 0.0


def test_trap_string_labels_are_refused_where_fairlearn_finds_parity():
    y, p, g = cells(a=(5, 0, 0, 5), b=(0, 0, 5, 5))
    words = np.array(["no", "yes"])
    assert fl.demographic_parity_difference(words[y], words[p], sensitive_features=g) == 0.0  # it is 0.5
    counts = count_groups(words[y], words[p], g)
    with pytest.raises(UsageError, match="AK403 selection_rate needs a positive class"):
        disparity(counts, "selection_rate")
    assert disparity(count_groups(words[y], words[p], g, positive="yes"), "selection_rate").value == 0.5


def test_trap_missing_attribute_is_a_group_with_its_own_rate():
    y, p, g = cells(a=(5, 0, 0, 5), b=(5, 0, 0, 5), missing=(0, 0, 5, 5))
    g = np.where(g == "missing", None, g.astype(object))
    with pytest.raises(ValueError, match="(?i)missing|nan|none"):
        fl.demographic_parity_difference(y, p, sensitive_features=pd.Series(g))
    found = disparity(count_groups(y, p, g), "selection_rate")
    assert found.value == 0.5
    assert {pair.reference for pair in found.pairs} | {pair.group for pair in found.pairs} == {"a", "b", "(missing)"}


def test_trap_empty_intersections_and_unused_categories_are_no_groups():
    y, p = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    frame = pd.DataFrame({"sex": ["F", "F", "M", "M"], "race": ["a", "a", "b", "b"]})
    theirs = fl.MetricFrame(metrics=fl.selection_rate, y_true=y, y_pred=p, sensitive_features=frame)
    assert theirs.by_group.isna().sum() == 2
    assert count_groups(y, p, frame, intersections=2).finest().groups == (("F", "a"), ("M", "b"))


def test_trap_order_the_verdict_does_not_hang_on_the_order_of_rows_or_groups():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, (2, 300))
    g = rng.choice(["a", "b", "c"], 300)
    swap, order = {"a": "c", "b": "b", "c": "a"}, rng.permutation(300)
    first = disparity(count_groups(y, p, g), "equalized_odds")
    second = disparity(count_groups(y[order], p[order], np.array([swap[v] for v in g[order]])), "equalized_odds")
    assert (first.value, first.interval) == (second.value, second.interval)


def test_trap_threshold_the_first_that_passes_may_be_undone_by_the_next():
    """holisticai scans quantiles from the top and stops at the first even selection; ours asks larger ones too."""
    from auditkit.methods.fairness.regression import no_disparate_impact_share

    values = np.arange(100.0)[::-1]
    codes = np.array([0, 1] + [0] * 24 + [1] * 24 + [0, 1] * 25)
    for v in np.linspace(1.0, 0.0, 100):
        chosen = values >= np.quantile(values, v)
        a, b = (chosen[codes == g].mean() for g in (0, 1))
        if b > 0 and 0.8 < a / b < 1.2:
            break
    later = values >= values[20]
    assert chosen.mean() == pytest.approx(0.02)
    assert later[codes == 0].mean() > 10 * later[codes == 1].mean()  # the next thresholds are as uneven as can be
    ours = no_disparate_impact_share(values, codes, 2, grid=100).share
    assert ours > 0.4
    for top in range(round(ours * 100), 101):
        rates = [(values[codes == g] >= np.sort(values)[-top]).mean() for g in (0, 1)]
        assert min(rates) >= 0.8 * max(rates) - 1e-12


def test_trap_empty_label_of_a_group_is_undefined_not_spread_evenly():
    """holisticai adds 1e-32 to every cell, so that a label without rows has decisions spread over all classes."""
    from auditkit.methods.fairness.outcomes import error_distributions, worst_variation

    y = np.array(["x", "y", "z", "x", "y", "x", "y"])
    groups = np.array(["a", "a", "a", "a", "b", "b", "b"])  # group b has no z
    counts = count_groups(y, y, {"g": groups})[1]
    theirs = error_distributions(counts) + 1e-32
    rates = theirs / theirs.sum(axis=2, keepdims=True)
    assert np.abs(rates[0] - rates[1]).sum() / 6 == pytest.approx(2 / 9)  # all decisions are right
    found = worst_variation(error_distributions(counts), True, np.random.default_rng(0))
    assert found.value is None
    assert "undefined in 1 of 2 groups" in (found.reason or "")


def test_published_example_of_multiclass_statistical_parity():
    from auditkit.methods.fairness.outcomes import decision_distributions, worst_variation

    groups = np.array(list("AAAABBBBCC"))
    decided, y = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0]), np.array([0, 1, 1, 0, 1, 0, 2, 1, 2, 1])
    counts = count_groups(y, decided, {"g": groups})[1]
    found = worst_variation(decision_distributions(counts), True, np.random.default_rng(0))
    assert found.value == pytest.approx(0.5)  # holisticai's documentation


def test_trap_pooling_cohens_d_pools_unbiased_variances():
    """holisticai weighs population variances by n - 1; Cohen pools sums of squares over n - 2."""
    from auditkit.methods.fairness.regression import standardised_difference
    from auditkit.stats.linearised import PLAIN

    group = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    decided = np.array([1.0, 1, 0, 0, 1, 1, 0, 1, 1, 1])
    spreads = [decided[group == g].var() for g in (1, 0)]
    theirs = (0.5 - 5 / 6) / math.sqrt((3 * spreads[0] + 5 * spreads[1]) / 8)
    assert theirs == pytest.approx(-0.7844645405527363)
    ours = (0.5 - 5 / 6) / math.sqrt((4 * spreads[0] + 6 * spreads[1]) / 8)
    assert standardised_difference(decided, group, 2, PLAIN, 0.95).value == pytest.approx(abs(ours))


def test_treatment_equality_is_judged_as_a_share():
    y, p, g = cells(a=(10, 4, 8, 10), b=(10, 10, 5, 10))
    share = group_metrics(count_groups(y, p, g)).values("false_negative_share")
    ratios = {name: value / (1 - value) for name, value in share.items()}
    assert ratios == {("a",): pytest.approx(8 / 4), ("b",): pytest.approx(5 / 10)}


MATCHING = {
    "selection_rate": fl.selection_rate,
    "true_positive_rate": fl.true_positive_rate,
    "false_positive_rate": fl.false_positive_rate,
    "true_negative_rate": fl.true_negative_rate,
    "false_negative_rate": fl.false_negative_rate,
}


def test_fairlearn_agrees_on_thousands_of_random_and_adversarial_numbers():
    rng = np.random.default_rng(0)
    compared = 0
    for trial in range(60):
        n, k = int(rng.integers(2, 80)), int(rng.integers(1, 9))
        y, p = rng.random((2, n)) < rng.choice([0.0, 0.02, 0.5, 0.98, 1.0], (2, 1))
        y, p, g = y.astype(int), p.astype(int), rng.integers(0, k, n)
        w = rng.random(n) + 0.01 if trial % 2 else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            frame = fl.MetricFrame(
                metrics=MATCHING,
                y_true=y,
                y_pred=p,
                sensitive_features=g,
                sample_params=None if w is None else {name: {"sample_weight": w} for name in MATCHING},
            ).by_group
        counts = count_groups(y, p, g, weights=w)
        table = group_metrics(counts, tuple(MATCHING))
        for name in MATCHING:
            for (group,), value in table.values(name).items():
                if value is not None:
                    assert value == pytest.approx(frame[name].loc[int(group)], abs=1e-12)
                    compared += 1
    assert compared > 800
