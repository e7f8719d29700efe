"""count_groups, group_metrics, disparity and bootstrap_metrics as people call them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from auditkit.core.errors import UsageError
from auditkit.methods.fairness import bootstrap_metrics, count_groups, disparity, group_metrics
from auditkit.methods.fairness.composites import COMPOSITE_SPECS, composite_gap
from auditkit.methods.fairness.metric_table import COMPOSITES, METRICS
from auditkit.methods.fairness.metrics import group_rates


def rows(n=500, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    p = np.where(rng.random(n) < 0.7, y, 1 - y)
    return y, p, {"sex": rng.choice(["F", "M"], n), "race": rng.choice(["a", "b", "c"], n)}, rng.random(n)


def selected(successes, sizes):
    p = np.concatenate([np.arange(n) < k for k, n in zip(successes, sizes, strict=True)]).astype(int)
    return count_groups(1 - p, p, {"g": np.repeat([f"g{i}" for i in range(len(sizes))], sizes)})


def test_the_name_of_the_function_is_not_taken_by_a_module():
    code = "import auditkit.policy.evaluate, auditkit.methods.fairness as f; print(callable(f.disparity))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


# Labels of any type.


@pytest.mark.parametrize(
    ("false", "true", "positive"),
    [(0, 1, None), (False, True, None), (-1, 1, None), ("no", "yes", "yes"), (1, 2, 2), (0.0, 1.0, None)],
)
def test_labels_of_any_type_give_the_same_rates(false, true, positive):
    y, p, groups, _ = rows()
    plain = group_metrics(count_groups(y, p, groups, intersections=2))
    other = group_metrics(
        count_groups(
            np.where(y == 1, true, false), np.where(p == 1, true, false), groups, intersections=2, positive=positive
        )
    )
    assert np.array_equal(plain.array, other.array)


def test_string_labels_without_a_positive_class_are_refused_not_zero():
    labels = np.array(["yes", "no", "yes", "no"])
    counts = count_groups(labels, labels, {"g": ["a", "a", "b", "b"]})
    with pytest.raises(UsageError, match="AK403 selection_rate needs a positive class"):
        disparity(counts, "selection_rate")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"y_true": [0, 1, None, 1]}, "AK451 y_true has missing labels"),
        ({"y_pred": [0.0, 1.0, np.nan, 1.0]}, "AK451 y_pred has missing labels"),
        ({"y_pred": [0.2, 0.7, 0.1, 1.0]}, "AK451 y_pred holds fractions, not labels"),
        ({"y_true": ["a", "b", "a", "b"]}, "AK451 y_true .a, b. and y_pred .0, 1. share no label"),
        ({"y_true": [[0], [1], [1], [0]]}, "AK451 y_true must have one dimension"),
        ({"positive": "yes"}, "AK451 positive='yes' is not a label"),
        ({"scores": [0.1, 0.2, 0.3, 1.2]}, "AK452 scores must be one probability"),
        ({"scores": [0.1, np.nan, 0.3, 0.2]}, "AK452 scores must be one probability"),
        ({"weights": [1, 1, 1, -1]}, "AK400 weights must be finite and above 0"),
        ({"groups": {"g": ["a"]}}, "AK400 g and y_true differ in length"),
        ({"groups": pd.DataFrame([[1, 2]] * 4, columns=["a", "a"])}, "AK450 two columns of groups have the same name"),
    ],
)
def test_rows_that_cannot_be_counted_are_refused(change, match):
    arguments = {"y_true": [0, 1, 1, 0], "y_pred": [0, 1, 0, 0], "groups": {"g": ["a", "a", "b", "b"]}, **change}
    first = [arguments.pop(name) for name in ("y_true", "y_pred", "groups")]
    with pytest.raises(UsageError, match=match):
        count_groups(*first, **arguments)


# Columns of any type.


def test_group_columns_of_any_type_give_the_same_cells():
    y, p, groups, _ = rows(12_000)
    names, codes = np.unique(groups["race"], return_inverse=True)
    expected = count_groups(y, p, {"g": groups["race"]})[1]
    for column in (
        groups["race"].astype(object),
        pd.Series(groups["race"]),
        pd.Series(groups["race"]).astype("category"),
        pd.Series(groups["race"]).astype("category").cat.add_categories(["unused"]),
    ):
        assert count_groups(y, p, {"g": column})[1] == expected
    for numbers in (codes, codes + 7, codes * 100_000, codes.astype(np.int8) - 1):
        found = count_groups(y, p, numbers)[1]
        order = [found.groups.index((str(numbers[groups["race"] == name][0]),)) for name in names]
        assert tuple(found.n[i] for i in order) == expected.n


@pytest.mark.parametrize(
    "column",
    [
        np.array(["a", None, "b", np.nan], dtype=object),
        pd.Series(["a", None, "b", None]),
        pd.Series(["a", None, "b", None]).astype("category"),
        pd.array([1, None, 2, None], dtype="Int64"),
        np.array([1.0, np.nan, 2.0, np.nan]),
    ],
)
def test_missing_values_are_a_group_of_their_own(column):
    counts = count_groups([0, 1, 1, 0], [0, 1, 0, 0], {"g": column})[1]
    assert len(counts.groups) == 3
    assert counts.n[counts.groups.index(("(missing)",))] == ((1, 0), (0, 1))


def test_a_data_frame_names_the_columns():
    y, p, groups, _ = rows()
    counts = count_groups(y, p, pd.DataFrame(groups), intersections=2)
    assert [table.over for table in counts] == [(), ("sex",), ("race",), ("sex", "race")]
    assert counts.over("race", "sex") is counts.finest()
    with pytest.raises(UsageError, match="AK450 age was not counted"):
        counts.over("age")
    with pytest.raises(UsageError, match="AK450 race x sex was not counted"):
        group_metrics(count_groups(y, p, groups))


@pytest.mark.parametrize("levels", [2, 300])
def test_sums_of_one_table_equal_a_count_of_each(levels, monkeypatch):
    rng = np.random.default_rng(3)
    y, p = rng.integers(0, 2, (2, 900))
    groups = {"a": rng.integers(0, levels, 900), "b": rng.choice(["x", "y"], 900), "c": rng.integers(0, 3, 900)}
    once = count_groups(y, p, groups, intersections=2, weights=rng.random(900) + 0.1)
    monkeypatch.setattr("auditkit.methods.fairness.counts._WHOLE_TABLE", 0)
    rng = np.random.default_rng(3)
    y, p = rng.integers(0, 2, (2, 900))
    groups = {"a": rng.integers(0, levels, 900), "b": rng.choice(["x", "y"], 900), "c": rng.integers(0, 3, 900)}
    each = count_groups(y, p, groups, intersections=2, weights=rng.random(900) + 0.1)
    for one, two in zip(once, each, strict=True):
        assert (one.groups, one.n) == (two.groups, two.n)
        assert np.allclose(one.weight, two.weight)
        assert np.allclose(one.weight_sq, two.weight_sq)


# Metrics and disparities.


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_table_equals_the_rates_one_by_one(seed, n, weighted):
    rng = np.random.default_rng(seed)
    y, p, g = rng.integers(0, 2, n), rng.integers(0, 2, n), rng.integers(0, 4, n)
    table = group_metrics(count_groups(y, p, g, weights=rng.random(n) + 0.1 if weighted else None))
    for name in table.metrics:
        one = group_rates(table.counts, name)
        assert np.allclose(table.array[table.metrics.index(name)], one.value, atol=1e-14, equal_nan=True)
        assert [value is None for value in table.values(name).values()] == [bool(why) for why in one.undefined]


def test_several_classes_have_pooled_metrics_or_one_against_the_rest():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, (2, 300))
    counts = count_groups(y, p, rng.integers(0, 2, 300))
    assert set(group_metrics(counts).metrics) == {name for name, spec in METRICS.items() if spec.pooled}
    recall = group_metrics(counts, ["true_positive_rate"], class_code=2).values("true_positive_rate")
    assert recall == group_metrics(counts, class_code=2).values("true_positive_rate")


def test_references():
    counts = selected((10, 40, 60), (100, 100, 200))
    by = {reference: disparity(counts, "selection_rate", "difference", reference) for reference in
          ("pairwise", "best", "largest", "overall", "g2")}  # fmt: skip
    assert by["pairwise"].value == pytest.approx(0.3)
    assert by["best"].value == pytest.approx(0.3)
    assert by["largest"].value == by["g2"].value == pytest.approx(0.2)
    assert by["overall"].value == pytest.approx(110 / 400 - 0.1)
    assert [(pair.group, pair.reference) for pair in by["best"].pairs] == [("g0", "g1"), ("g2", "g1")]
    assert {pair.reference for pair in by["overall"].pairs} == {"all rows"}
    assert len(by["overall"].pairs) == 3
    worst = by["largest"].pairs[0]
    assert (worst.group_value, worst.reference_value, worst.group_n, worst.reference_n) == (0.1, 0.3, 100, 200)
    with pytest.raises(UsageError, match="AK404 the reference 'x' is not a group"):
        disparity(counts, "selection_rate", reference="x")
    with pytest.raises(UsageError, match="AK453 compare='gap' is unknown"):
        disparity(counts, "selection_rate", "gap")


def test_the_overall_rate_of_clustered_rows_needs_the_counts_of_all_rows():
    y, p, groups, _ = rows()
    counts = count_groups(y, p, {"sex": groups["sex"]}, clusters=np.arange(500) // 5)
    assert disparity(counts, "accuracy", reference="overall").interval is not None
    with pytest.raises(UsageError, match="AK450 clustered counts of all rows"):
        disparity(counts[1], "accuracy", reference="overall")


@pytest.mark.parametrize("metric", ["true_positive_rate", "equalized_odds", "average_odds"])
def test_an_undefined_rate_makes_the_disparity_undefined(metric):
    counts = count_groups([1, 0, 0, 0], [1, 0, 0, 0], {"g": ["a", "a", "b", "b"]})
    found = disparity(counts, metric)
    assert found.value is None
    assert found.reason


def test_composites():
    y, p, groups, _ = rows(2000)
    p = np.where((groups["sex"] == "F") & (np.arange(2000) % 3 == 0), 0, p)
    counts = count_groups(y, p, {"sex": groups["sex"]})
    table = group_metrics(counts)
    gap = {name: abs(np.subtract(*table.array[table.metrics.index(name)])) for name in table.metrics}
    assert disparity(counts, "equalized_odds").value == max(gap["true_positive_rate"], gap["false_positive_rate"])
    assert disparity(counts, "average_odds").value == pytest.approx(
        (gap["true_positive_rate"] + gap["false_positive_rate"]) / 2
    )
    assert disparity(counts, "conditional_use_accuracy").value == max(
        gap["positive_predictive_value"], gap["negative_predictive_value"]
    )
    assert disparity(counts, "decision_rates", "ratio").value == min(
        disparity(counts, "selection_rate", "ratio").value, disparity(counts, "rejection_rate", "ratio").value
    )
    with pytest.raises(UsageError, match="AK453 average_odds is a mean of differences"):
        disparity(counts, "average_odds", "ratio")
    with pytest.raises(UsageError, match="AK453 equalized_odds is compared over all pairs"):
        disparity(counts, "equalized_odds", reference="best")
    assert {name: spec.parts for name, spec in COMPOSITE_SPECS.items() if spec.how == "max"} == dict(COMPOSITES)
    assert all(spec.formula and spec.citation for spec in COMPOSITE_SPECS.values())


@pytest.mark.parametrize("name", ["average_odds", "conditional_use_accuracy", "decision_rates"])
@pytest.mark.parametrize("gap", [0.0, 0.2])
def test_the_interval_of_a_composite_covers_the_truth(name, gap):
    rng = np.random.default_rng(1)
    n, groups, draws, missed = 200, 3, 250, 0
    # P(decide 1 | label 1) = .8, less in group 0; P(decide 1 | label 0) = .2; labels 1 half the time.
    tpr = np.array([0.8 - gap, 0.8, 0.8])
    truth = {
        "average_odds": gap / 2,
        "conditional_use_accuracy": max(
            abs(0.8 - (0.8 - gap) / (1.0 - gap)), abs(0.8 - 0.8 / (0.8 + 0.2 + gap))
        ),
        "decision_rates": gap / 2,
    }[name]  # fmt: skip
    g = np.repeat(np.arange(groups), n)
    for _ in range(draws):
        y = rng.random(n * groups) < 0.5
        p = rng.random(n * groups) < np.where(y, tpr[g], 0.2)
        interval = composite_gap(count_groups(y, p, g)[1], name).interval
        missed += not interval.low - 1e-12 <= truth <= interval.high + 1e-12
    assert missed <= draws * 0.05 + 3 * (draws * 0.05 * 0.95) ** 0.5


# Score histograms.


def test_the_auc_of_a_histogram_is_within_its_bound_of_the_exact_one():
    y, _, groups, score = rows(3000)
    score = np.clip(score + 0.3 * y, 0, 1) ** 2
    counts = count_groups(y, (score > 0.5).astype(int), groups, scores=score, intersections=2)
    assert [h.over for h in counts.histograms] == [t.over for t in counts]
    histogram = counts.histograms[1]
    area, bound = histogram.roc_auc()
    for index, (name,) in enumerate(histogram.groups):
        mask = groups["sex"] == name
        exact = sk.roc_auc_score(y[mask], score[mask])
        assert abs(area[index] - exact) <= bound[index] + 1e-12
        assert bound[index] < 1e-3
        assert histogram.n[index].sum() == mask.sum()


def test_shards_add_up():
    y, p, groups, score = rows()
    one, two = (
        count_groups(y[s], p[s], {k: v[s] for k, v in groups.items()}, scores=score[s], intersections=2)
        for s in (slice(0, 3), slice(3, None))
    )
    both = count_groups(y, p, groups, scores=score, intersections=2)
    added = one + two
    assert added.tables == both.tables
    assert all(np.array_equal(a.n, b.n) for a, b in zip(added.histograms, both.histograms, strict=True))
    with pytest.raises(UsageError, match="AK400 counts over different columns"):
        one + count_groups(y, p, {"sex": groups["sex"]})


# Bootstrap.


def test_the_bootstrap_agrees_with_resampled_rows():
    y, p, groups, _ = rows(400)
    g = groups["race"]
    names = ("selection_rate", "true_positive_rate", "balanced_accuracy", "f1")
    found = bootstrap_metrics(count_groups(y, p, g), names, rng=np.random.default_rng(0), resamples=2000)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(600):
        pick = rng.integers(0, 400, 400)
        drawn.append(group_metrics(count_groups(y[pick], p[pick], g[pick]), names).array)
    base = found.reference
    drawn = np.array(drawn)
    for limits, values in (
        (found.by_group, drawn),
        (found.difference, drawn - drawn[:, :, base : base + 1]),
        (found.ratio, drawn / drawn[:, :, base : base + 1]),
    ):
        expected = np.quantile(values, [0.025, 0.975], axis=0)
        width = (expected[1] - expected[0]).max()
        assert np.abs(limits[0] - expected[0]).max() < 0.15 * width
        assert np.abs(limits[1] - expected[1]).max() < 0.15 * width


def test_quantiles_of_the_bootstrap_are_numpys():
    from auditkit.methods.fairness.bootstrap import _limits

    values = np.random.default_rng(0).normal(size=(3, 4, 501))
    low, high = _limits(values, 0.9)
    assert np.allclose(low, np.quantile(values, 0.05, axis=-1))
    assert np.allclose(high, np.quantile(values, 0.95, axis=-1))
    values[0, 0, :20] = np.nan
    assert np.isfinite(_limits(values, 0.9)[0][0, 0])
    assert _limits(values, 0.9)[0][0, 0] == pytest.approx(np.nanquantile(values[0, 0], 0.05))
    values[0, 0, :60] = np.nan
    assert np.isnan(_limits(values, 0.9)[0][0, 0])


def test_weighted_and_clustered_cells_are_not_drawn():
    y, p, groups, w = rows()
    for known in ({"weights": w + 0.1}, {"clusters": np.arange(500) // 2}):
        with pytest.raises(UsageError, match="AK454 cells of weighted or clustered rows"):
            bootstrap_metrics(count_groups(y, p, groups["sex"], **known), rng=np.random.default_rng(0))


@pytest.mark.parametrize("reference", ["pairwise", "best", "largest", "overall", "a"])
@pytest.mark.parametrize("compare", ["difference", "ratio"])
def test_values_without_intervals_are_those_with(compare, reference):
    rng = np.random.default_rng(3)
    counts = count_groups(rng.integers(0, 2, 400), rng.integers(0, 2, 400), {"g": rng.choice(list("abc"), 400)})
    names = ["true_positive_rate", "balanced_accuracy", *(["equalized_odds"] if reference == "pairwise" else [])]
    for name in names:
        alone, full = (disparity(counts, name, compare, reference, level=level) for level in (None, 0.95))
        assert alone.value == full.value
        assert alone.interval is None
        assert full.interval is not None
        assert alone.reason == "no interval was asked for"
        assert [pair.value for pair in alone.pairs] == [pair.value for pair in full.pairs]
        assert all(pair.interval is None for pair in alone.pairs)
