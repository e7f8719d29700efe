"""``data.quality`` through the runner: each planted fault with its clean twin, and odd inputs."""

import numpy as np
import pandas as pd
import pytest

from auditkit.analyzers.data.quality import ANALYZER, QualityParams
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_predictions_subject, make_subject

STEP = Step(name="data.quality", params=QualityParams(), analyzer=ANALYZER)


def _ones(X):
    return np.zeros(len(X), dtype=int)


def _loans(n=1500, faults=(), seed=0):
    """Loan rows whose features know nothing of sex or of the label, but for the faults planted."""
    rng = np.random.default_rng(seed)
    share = 0.05 if "minority" in faults else 0.5
    sex = np.where(rng.random(n) < share, "F", "M")
    y = (rng.random(n) < np.where((sex == "F") & ("harsh" in faults), 0.2, 0.5)).astype(int)
    X = pd.DataFrame(
        {
            "income": rng.normal(size=n).round(6),
            "region": rng.choice(list("abcdef"), n),
            "job": rng.choice(["x", "y"], n),
            "opened": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10**8, n), unit="s"),
            "member": rng.random(n) < 0.5,
        }
    )
    if "proxy" in faults:
        X["height"] = rng.normal(size=n) - 2.0 * (sex == "F")
        X["title"] = np.where(rng.random(n) < 0.9, np.where(sex == "F", "Ms", "Mr"), "Dr")
    if "leak" in faults:
        X["settled"] = y + 0.1 * rng.normal(size=n)
    if "missing" in faults:
        X.loc[(sex == "F") & (rng.random(n) < 0.4), "income"] = np.nan
    elif "even_missing" in faults:
        X.loc[rng.random(n) < 0.2, "income"] = np.nan
    if "repeats" in faults:
        X.iloc[:150] = X.iloc[150:300].to_numpy()
    return X, y, pd.Series(sex, name="sex")


def _run(faults=(), overlap=0, **more):
    X, y, sex = _loans(faults=faults, **more)
    train, labels, _ = _loans(faults=faults, seed=1)
    if overlap:
        train = pd.concat([train, X.iloc[:overlap]], ignore_index=True)
        labels = np.r_[labels, y[:overlap]]
    subject = make_subject(_ones, X, y, sensitive=sex, train=(train, labels), positive=1, task="binary", device="cpu")
    outcome = run_step(subject, STEP)
    assert outcome.status == "measured", outcome.reason
    return outcome


def _get(outcome, name, where=None, over=(), **params):
    found = [
        m
        for m in outcome.measurements
        if m.name == f"data.{name}" and dict(m.slice) == (where or {}) and m.over == over and dict(m.params) == params
    ]
    assert len(found) == 1, (name, where, params, len(found))
    return found[0]


@pytest.fixture(scope="module")
def clean():
    return _run()


def test_clean_twin_is_quiet(clean):
    assert _get(clean, "base_rate.difference", over=("sex",)).interval.low == 0.0
    assert _get(clean, "train_test_overlap").value == 0.0
    assert _get(clean, "duplicate_share", split="test").value == 0.0
    assert _get(clean, "constant_columns").value == 0.0
    for m in clean.measurements:
        assert m.interval or m.reason.startswith("exact"), m
    assert not any("Small groups" in note for note in clean.notes)
    assert any("0 of 5 features tell the groups of sex apart" in note for note in clean.notes)
    for m in clean.measurements:
        if m.name in ("data.proxy_auc", "data.target_leakage_auc"):
            assert m.interval.low <= 0.515, m
            assert m.interval.high < 0.6, m
    assert {m.name for m in clean.measurements} <= set(ANALYZER.measures)


def test_harsher_labels_for_one_group_are_seen():
    outcome = _run(["harsh"])
    assert _get(outcome, "base_rate.difference", over=("sex",)).interval.low > 0.2
    assert _get(outcome, "base_rate", {"sex": "F"}).interval.high < 0.3


def test_proxies_are_seen_alone_and_together(clean):
    outcome = _run(["proxy"])
    for feature in ("height", "title", "(all features)"):
        assert _get(outcome, "proxy_auc", over=("sex",), feature=feature).interval.low > 0.85
    assert _get(outcome, "proxy_auc", over=("sex",), feature="job").interval.low <= 0.515
    assert any("2 of 7" in note and "height" in note and "title" in note for note in outcome.notes)
    table = next(a for a in outcome.artifacts if a.name == "proxies_sex")
    assert {table.rows[0][0], table.rows[1][0]} == {"height", "title"}


def test_leaked_column_is_seen_and_its_neighbours_are_not():
    outcome = _run(["leak"])
    assert _get(outcome, "target_leakage_auc", feature="settled").interval.low > 0.95
    assert _get(outcome, "target_leakage_auc", feature="income").interval.high < 0.6


def test_five_percent_minority_is_named():
    outcome = _run(["minority"])
    assert _get(outcome, "group_share", {"sex": "F"}).interval.high < 0.1
    assert any("Small groups" in note and "sex = F" in note for note in outcome.notes)


def test_duplicates_and_overlap_are_counted():
    outcome = _run(["repeats"], overlap=90)
    assert _get(outcome, "duplicate_share", split="test").value == pytest.approx(0.1)
    assert _get(outcome, "conflicting_label_share", split="test").value > 0.05
    overlap = _get(outcome, "train_test_overlap")
    assert overlap.value >= 90 / 1500
    assert overlap.interval.low > 0.04
    assert _get(outcome, "train_test_overlap_count").value == overlap.value * 1500


def test_missingness_that_differs_by_group_is_seen_and_even_missingness_is_not():
    harmed, even = _run(["missing"]), _run(["even_missing"])
    assert _get(harmed, "missing_share.difference", over=("sex",), feature="income").interval.low > 0.3
    assert _get(even, "missing_share.difference", over=("sex",), feature="income").interval.low == 0.0
    assert _get(even, "incomplete_row_share").value == pytest.approx(0.2, abs=0.04)
    assert _get(even, "missing_share", feature="income").value > 0
    assert _get(even, "missing_share", feature="job").value == 0


def test_odd_columns_intersections_and_the_column_itself():
    X, y, sex = _loans()
    X["sex"] = sex
    X["flat"] = 1.0
    X["id"] = [f"row {i}" for i in range(len(X))]
    X["huge"] = np.int64(2**60) + np.arange(len(X))
    age = np.where(np.arange(len(X)) < 30, "old", "young")
    subject = make_subject(
        _ones, X, y, sensitive={"sex": sex.to_numpy(), "age": age}, positive=1, task="binary", device="cpu"
    )
    outcome = run_step(subject, STEP)
    assert outcome.status == "measured", outcome.reason
    assert _get(outcome, "constant_columns").value == 1.0
    assert _get(outcome, "constant_columns").n_of == "columns"  # a count of columns is no small cell of people
    assert _get(outcome, "high_cardinality_columns").value >= 1.0
    flat = _get(outcome, "proxy_auc", over=("sex",), feature="flat")
    assert (flat.value, flat.interval.low) == (0.5, 0.5)
    assert flat.interval.high < 0.51
    assert not [m for m in outcome.measurements if m.over == ("sex",) and m.params.get("feature") == "sex"]
    assert any("sex is itself a feature" in note for note in outcome.notes)
    pair = _get(outcome, "group_count", {"sex": "F", "age": "old"})
    assert pair.value == ((sex == "F") & (age == "old")).sum()
    assert any("no training data" in note for note in outcome.notes)


def test_whole_numbers_beyond_a_floats_reach_are_not_called_duplicates():
    X = pd.DataFrame({"id": np.int64(2**60) + np.arange(200)})
    outcome = run_step(make_subject(_ones, X, np.arange(200) % 2, positive=1, task="binary", device="cpu"), STEP)
    assert _get(outcome, "duplicate_share", split="test").value == 0.0


def test_overlap_is_found_across_dtypes():
    X = pd.DataFrame({"a": np.arange(100), "b": pd.Categorical(["u", "v"] * 50)})
    train = pd.DataFrame({"a": np.arange(50, 150).astype(float), "b": ["u", "v"] * 50})
    y = np.arange(100) % 2
    subject = make_subject(_ones, X, y, train=(train, y), positive=1, task="binary", device="cpu")
    assert _get(run_step(subject, STEP), "train_test_overlap").value == 0.5


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_images_and_texts_keep_what_still_makes_sense(kind):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (60, 8, 8)).astype(np.uint8)
    X[1] = X[0]
    train = rng.integers(0, 255, (40, 8, 8)).astype(np.uint8)
    train[0] = X[5]
    if kind == "texts":
        X, train = [str(x.tolist()) for x in X], [str(x.tolist()) for x in train]
    y, labels = np.arange(60) % 2, np.arange(40) % 2
    sex = np.array(["F", "M", "M"] * 20)
    subject = make_subject(
        _ones, X, y, sensitive={"sex": sex}, train=(train, labels), positive=1, task="binary", device="cpu"
    )
    outcome = run_step(subject, STEP)
    assert outcome.status == "measured", outcome.reason
    assert _get(outcome, "duplicate_share", split="test").value == pytest.approx(1 / 60)
    assert _get(outcome, "train_test_overlap_count").value == 1.0
    assert _get(outcome, "group_share", {"sex": "F"}).value == pytest.approx(1 / 3)
    assert any("not a table" in note for note in outcome.notes)


def test_saved_predictions_give_representation_and_labels_only():
    _, y, sex = _loans(faults=["harsh"])
    outcome = run_step(make_predictions_subject(y, y, sensitive=sex, positive=1), STEP)
    assert outcome.status == "measured", outcome.reason
    assert {m.name for m in outcome.measurements} <= {
        "data.group_share",
        "data.group_count",
        "data.base_rate",
        "data.base_rate.difference",
    }
    assert any("saved predictions only" in note for note in outcome.notes)


def test_regression_multiclass_and_missing_sensitive_values():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=400), "b": rng.choice(list("uv"), 400)})
    race = np.where(rng.random(400) < 0.05, None, rng.choice(["p", "q", "r"], 400))
    X["hint"] = np.where(race == "p", 1.0, 0.0) + 0.3 * rng.normal(size=400)
    X["unasked"] = np.where(pd.isna(race), 5.0, 0.0) + rng.normal(size=400)  # tells only who gave no answer
    y = X["a"] * 3 + (race == "p")
    outcome = run_step(
        make_subject(lambda X: np.zeros(len(X)), X, y, sensitive={"race": race}, task="regression", device="cpu"), STEP
    )
    assert outcome.status == "measured", outcome.reason
    assert _get(outcome, "target_leakage_correlation", feature="a").interval.low > 0.9
    assert _get(outcome, "label_mean", {"race": "(missing)"}).n > 0
    assert _get(outcome, "proxy_auc", over=("race",), feature="hint").interval.low > 0.9
    assert _get(outcome, "proxy_auc", over=("race",), feature="a").interval.low == 0.5
    assert _get(outcome, "proxy_auc", over=("race",), feature="unasked").interval.low == 0.5
    labels = rng.integers(0, 3, 400)
    outcome = run_step(
        make_subject(lambda X: labels[: len(X)], X, labels, sensitive={"race": race}, task="multiclass", device="cpu"),
        STEP,
    )
    assert outcome.status == "measured", outcome.reason
    assert len([m for m in outcome.measurements if m.name == "data.base_rate" and not m.slice]) == 3
    assert _get(outcome, "target_leakage_auc", feature="a").interval.low <= 0.515


def test_without_sklearn_the_joint_strength_says_what_to_install(monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "sklearn" else real(name, *a))
    joint = _get(_run(), "proxy_auc", over=("sex",), feature="(all features)")
    assert joint.value is None
    assert 'pip install "auditkit[sklearn]"' in joint.reason


def test_clusters_weights_and_reproducibility():
    X, y, sex = _loans(n=600)
    more = {"weights": np.where(sex == "F", 2.0, 1.0), "clusters": np.arange(600) // 3}
    subject = make_subject(_ones, X, y, sensitive=sex, positive=1, task="binary", device="cpu", **more)
    first = run_step(subject, STEP)
    assert first.status == "measured", first.reason
    assert first == run_step(subject, STEP)
    assert "cluster" in _get(first, "group_share", {"sex": "F"}).interval.method
    share = 2.0 * (sex == "F").sum() / (2.0 * (sex == "F").sum() + (sex == "M").sum())
    assert _get(first, "group_share", {"sex": "F"}).value == pytest.approx(share)
