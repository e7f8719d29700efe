"""The ``performance`` analyzer through the runner: planted faults, clean twins, bad input."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from auditkit.analyzers.performance.metrics import ANALYZER, PerformanceParams
from auditkit.core.evidence import Counts, Curve
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_predictions_subject, make_subject


def _run(subject, **params):
    return run_step(subject, Step(name="performance", params=PerformanceParams(**params), analyzer=ANALYZER))


def _get(outcome, name, where=None, over=(), **params):
    found = [
        m
        for m in outcome.measurements
        if m.name == f"performance.{name}"
        and dict(m.slice) == (where or {})
        and m.over == over
        and dict(m.params) == params
    ]
    assert len(found) == 1, (name, where, len(found))
    return found[0]


def _artifact(outcome, name):
    return next(a for a in outcome.artifacts if a.name == name)


def _loans(n=3000, flipped=0.0, seed=0):
    """Scores that are right by construction, with the labels of group F flipped at a rate."""
    rng = np.random.default_rng(seed)
    sex = np.where(rng.random(n) < 0.4, "F", "M")
    z = 1.5 * rng.normal(size=n)
    p = 1 / (1 + np.exp(-z))
    y = rng.random(n) < p
    flip = (sex == "F") & (rng.random(n) < flipped)
    y = np.where(flip, ~y, y).astype(int)
    return y, p, sex


def _predictions(y, p, sex, **more):
    return make_predictions_subject(y, (p >= 0.5).astype(int), p, sensitive={"sex": sex}, positive=1, **more)


def test_every_number_matches_sklearn_overall_and_by_group():
    y, p, sex = _loans()
    outcome = _run(_predictions(y, p, sex))
    assert outcome.status == "measured", outcome.reason
    d = (p >= 0.5).astype(int)
    theirs = {
        "accuracy": lambda r: sk.accuracy_score(y[r], d[r]),
        "balanced_accuracy": lambda r: sk.balanced_accuracy_score(y[r], d[r]),
        "precision": lambda r: sk.precision_score(y[r], d[r]),
        "recall": lambda r: sk.recall_score(y[r], d[r]),
        "f1": lambda r: sk.f1_score(y[r], d[r]),
        "roc_auc": lambda r: sk.roc_auc_score(y[r], p[r]),
        "average_precision": lambda r: sk.average_precision_score(y[r], p[r]),
        "log_loss": lambda r: sk.log_loss(y[r], p[r]),
        "brier_score": lambda r: sk.brier_score_loss(y[r], p[r]),
    }
    groups = {"": np.ones(len(y), bool), "F": sex == "F", "M": sex == "M"}
    for name, metric in theirs.items():
        values = {}
        for group, rows in groups.items():
            ours = _get(outcome, name, {"sex": group} if group else None)
            values[group] = ours.value
            assert ours.value == pytest.approx(metric(rows), abs=1e-12)
            assert ours.interval.low <= ours.value <= ours.interval.high
            assert ours.n > 0
        gap = _get(outcome, f"{name}.difference", over=("sex",))
        assert gap.value == pytest.approx(abs(values["F"] - values["M"]), abs=1e-12)
    assert {m.name for m in outcome.measurements} <= set(ANALYZER.measures)


def test_planted_harm_to_one_group_is_seen_and_the_twin_is_quiet():
    harmed = _run(_predictions(*_loans(flipped=0.25)))
    clean = _run(_predictions(*_loans(flipped=0.0)))
    for name in ("accuracy", "roc_auc", "brier_score", "log_loss"):
        assert _get(harmed, f"{name}.difference", over=("sex",)).interval.low > 0.02
        assert _get(clean, f"{name}.difference", over=("sex",)).interval.low == 0.0
    assert _get(harmed, "expected_calibration_error", {"sex": "F"}).interval.low > 0.01
    assert _get(clean, "expected_calibration_error", {"sex": "F"}).interval.low == 0.0


def test_weighted_and_clustered_rows_say_so_in_the_method():
    y, p, sex = _loans(600)
    take = np.repeat(np.arange(600), 4)
    plain = _run(_predictions(y, p, sex))
    tied = _run(_predictions(y[take], p[take], sex[take], clusters=take))
    blind = _run(_predictions(y[take], p[take], sex[take]))
    for name in ("accuracy", "roc_auc", "average_precision", "log_loss", "f1"):
        wide, narrow, truth = (_get(o, name).interval for o in (tied, blind, plain))
        assert "cluster" in wide.method
        assert wide.high - wide.low == pytest.approx(truth.high - truth.low, rel=0.1)
        assert narrow.high - narrow.low < 0.6 * (wide.high - wide.low)
    moment = np.array(_artifact(tied, "confusion").moment[0])
    assert np.trace(moment) == 600 * 16  # each cluster holds 4 rows of one cell
    weights = np.where(sex == "F", 3.0, 1.0)
    weighted = _run(_predictions(y, p, sex, weights=weights))
    assert _get(weighted, "roc_auc").value == pytest.approx(sk.roc_auc_score(y, p, sample_weight=weights))
    cells = _artifact(weighted, "confusion")
    decided = (p >= 0.5).astype(int)
    assert np.allclose(cells.weight[0], sk.confusion_matrix(y, decided, sample_weight=weights))
    assert np.allclose(cells.weight_sq[0], sk.confusion_matrix(y, decided, sample_weight=weights**2))


def test_curves_are_thinned_and_mark_the_models_own_threshold():
    y, p, sex = _loans()
    decided = (p >= 0.3).astype(int)
    outcome = _run(make_predictions_subject(y, decided, p, sensitive={"sex": sex}, positive=1))
    for artifact in outcome.artifacts:
        if isinstance(artifact, Curve):
            assert all(len(series.x) <= 200 for series in artifact.series)
    own = next(s for s in _artifact(outcome, "thresholds").series if s.name == "the model's own decision")
    assert own.x[0] == pytest.approx(0.3, abs=0.005)
    assert own.y[0] == pytest.approx(decided.mean())
    assert "threshold of about 0.3" in _artifact(outcome, "thresholds").note
    assert [s.name for s in _artifact(outcome, "roc_sex").series] == ["F", "M"]
    bins = _artifact(outcome, "reliability_bins")
    assert sum(row[1] for row in bins.rows) == len(y)
    table = _artifact(outcome, "confusion")
    assert isinstance(table, Counts)
    assert np.array_equal(table.n[0], sk.confusion_matrix(y, decided))


def test_multiclass_is_macro_with_each_class():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=1000).fit(X, y)
    outcome = _run(make_subject(model, X, y, device="cpu"))
    assert outcome.status == "measured", outcome.reason
    assert _get(outcome, "f1", average="macro").value == pytest.approx(
        sk.f1_score(y, model.predict(X), average="macro")
    )
    auc = sk.roc_auc_score(y, model.predict_proba(X), multi_class="ovr")
    assert _get(outcome, "roc_auc", average="macro").value == pytest.approx(auc, abs=1e-12)
    assert sum(m.name == "performance.recall" and "class" in m.params for m in outcome.measurements) == 3


def test_margins_and_labels_leave_things_out_and_say_so():
    X, y = load_iris(return_X_y=True)
    y = (y == 2).astype(int)
    model = LinearSVC(max_iter=5000).fit(X, y)
    outcome = _run(make_subject(model, X, y, positive=1, device="cpu"))
    assert _get(outcome, "roc_auc").value == pytest.approx(sk.roc_auc_score(y, model.decision_function(X)))
    assert not [m for m in outcome.measurements if m.name == "performance.log_loss"]
    assert any("margins" in note for note in outcome.notes)
    labels = _run(make_predictions_subject(y, model.predict(X), positive=1))
    assert labels.status == "measured"
    assert not [m for m in labels.measurements if m.name == "performance.roc_auc"]
    assert any("labels only" in note for note in labels.notes)


class _Logits:
    """Two logits so far apart that their probabilities are all exactly 0 or 1."""

    classes = ("no", "yes")
    score_space = "logit"
    capabilities = frozenset({"labels", "scores", "model", "inputs"})
    kind = "logits"
    fingerprint = None

    def predict(self, X):
        return (np.asarray(X)[:, 0] > 0).astype(np.int64)

    def predict_scores(self, X):
        z = np.asarray(X, dtype=np.float64)[:, 0]
        return np.stack([-800.0 - z, 800.0 + z], axis=1)


def test_saturated_logits_are_ranked_by_their_difference():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 1))
    y = np.where(X[:, 0] + rng.normal(size=300) > 0, "yes", "no")
    outcome = _run(make_subject(_Logits(), X, y, positive="yes", device="cpu"))
    assert outcome.status == "measured", outcome.reason
    assert _get(outcome, "roc_auc").value == pytest.approx(sk.roc_auc_score(y == "yes", X[:, 0]), abs=1e-12)
    # The probabilities that those logits give: 1 for "yes", whatever the row.
    assert _get(outcome, "brier_score").value == pytest.approx((y == "no").mean())


def test_regression_by_group():
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=800), "b": rng.normal(size=800)})
    sex = np.where(rng.random(800) < 0.5, "F", "M")
    y = X["a"] + rng.normal(size=800) * np.where(sex == "F", 2.0, 0.5)
    model = LinearRegression().fit(X, y)
    outcome = _run(make_subject(model, X, y, sensitive={"sex": sex}, device="cpu"), quantile=0.9)
    assert outcome.status == "measured", outcome.reason
    assert _get(outcome, "r2").value == pytest.approx(sk.r2_score(y, model.predict(X)))
    assert _get(outcome, "pinball_loss", quantile=0.9).value == pytest.approx(
        sk.mean_pinball_loss(y, model.predict(X), alpha=0.9)
    )
    assert _get(outcome, "mean_absolute_error.difference", over=("sex",)).interval.low > 0.8
    assert len(_artifact(outcome, "residual_quantiles").rows) == 7
    assert len(_artifact(outcome, "predicted_actual").series[0].x) == 10


@pytest.mark.parametrize("fault", ["one class", "constant scores", "tiny group", "never positive"])
def test_bad_input_is_a_reason_not_a_number(fault):
    y, p, sex = _loans(200)
    if fault == "one class":
        y = np.zeros(200, int)
    if fault == "constant scores":
        p = np.full(200, 0.5)
    if fault == "tiny group":
        sex[0] = "X"
    d = np.zeros(200, int) if fault == "never positive" else (p >= 0.5).astype(int)
    subject = make_predictions_subject(y, d, p, sensitive={"sex": sex}, positive=1, classes=[0, 1])
    outcome = _run(subject)
    assert outcome.status == "measured", outcome.reason
    if fault == "one class":
        assert "both classes" in _get(outcome, "roc_auc").reason
        assert any("one class only" in note for note in outcome.notes)
    if fault == "constant scores":
        auc = _get(outcome, "roc_auc")
        assert auc.value == 0.5
        assert auc.interval.high - auc.interval.low > 0.1
    if fault == "tiny group":
        lone = _get(outcome, "roc_auc", {"sex": "X"})
        assert (lone.value, lone.n) == (None, 1)
        assert "both classes" in lone.reason
        assert any("No ROC curve for sex = X" in note for note in outcome.notes)
    if fault == "never positive":
        assert "decided as the class" in _get(outcome, "precision").reason
        assert "one decision only" in _artifact(outcome, "thresholds").note


def test_same_seed_gives_the_same_outcome():
    subject = _predictions(*_loans(400))
    assert _run(subject) == _run(subject)


def _box_band(y, p, level=0.95):
    """The band by its definition, threshold by threshold, on the rows of one curve."""
    up, across = (np.sqrt(np.log(2 / (1 - np.sqrt(level))) / (2 * n)) for n in (y.sum(), (~y).sum()))
    points = [((p[~y] >= t).mean(), (p[y] >= t).mean()) for t in [np.inf, *np.unique(p)[::-1]]]
    low = {x: max([0.0, *(b - up for a, b in points if min(a + across, 1.0) <= x)]) for x, _ in points}
    high = {x: min([1.0, *(b + up for a, b in points if max(a - across, 0.0) >= x)]) for x, _ in points}
    return low, high


def test_the_roc_curve_of_each_group_has_the_band_of_its_own_rows():
    y, p, sex = _loans()
    curve = _artifact(
        _run(make_predictions_subject(y, (p >= 0.5).astype(int), p, sensitive={"sex": sex}, positive=1)), "roc_sex"
    )
    assert "Each band holds for the whole of its own curve at once" in curve.note
    for series in curve.series:
        rows = sex == series.name
        low, high = _box_band(y[rows] == 1, np.round(p[rows], 12))
        assert len(series.low) == len(series.x) > 20
        assert series.low == pytest.approx([low[min(low, key=lambda at: abs(at - x))] for x in series.x], abs=1e-9)
        assert series.high == pytest.approx([high[min(high, key=lambda at: abs(at - x))] for x in series.x], abs=1e-9)


@pytest.mark.parametrize(
    ("design", "why"), [({"weights": "w"}, "these are weighted"), ({"clusters": "c"}, "these belong to clusters")]
)
def test_a_roc_curve_without_a_band_says_why(design, why):
    y, p, sex = _loans()
    columns = {"w": np.linspace(0.5, 2.0, len(y)), "c": np.arange(len(y)) // 3}
    chosen = {key: columns[value] for key, value in design.items()}
    outcome = _run(make_predictions_subject(y, (p >= 0.5).astype(int), p, sensitive={"sex": sex}, positive=1, **chosen))
    for name in ("roc", "roc_sex"):
        curve = _artifact(outcome, name)
        assert curve.note.startswith("No band")
        assert curve.note.endswith(f"{why}.")
        assert not any(series.low for series in curve.series)
