"""Performance quantities against scikit-learn, numerical derivatives, and simulated coverage."""

import doctest
import importlib
import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from auditkit.methods.performance import calibration, classification, counted, curves, regression, scores
from auditkit.stats.linearised import Design, t_value
from auditkit.stats.ranking import auc_parts
from auditkit.stats.scores import softmax

NAMES = ("a", "b", "c", "d")
MODULES = ("classification", "scores", "calibration", "regression", "curves")


@pytest.mark.parametrize("module", MODULES)
def test_documented_examples_hold(module):
    result = doctest.testmod(importlib.import_module(f"auditkit.methods.performance.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def _rows(seed, n=200, k=4):
    rng = np.random.default_rng(seed)
    y = np.r_[np.arange(k), rng.integers(0, k, n - k)]
    decided = np.where(rng.random(n) < 0.6, y, rng.integers(0, k, n))
    raw = rng.random((n, k)).round(1) + 0.05 + 0.5 * np.eye(k)[y]
    return y, decided, raw / raw.sum(axis=1, keepdims=True), rng.integers(1, 5, n).astype(float)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_decision_metrics_match_sklearn(seed, weighted):
    y, decided, _, weights = _rows(seed)
    w = weights if weighted else None
    design = Design(w)
    close = {"abs": 1e-12}
    assert classification.accuracy(y, decided, design).value == pytest.approx(
        sk.accuracy_score(y, decided, sample_weight=w), **close
    )
    assert classification.balanced_accuracy(y, decided, NAMES, design).value == pytest.approx(
        sk.balanced_accuracy_score(y, decided, sample_weight=w), **close
    )
    for kind, theirs in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        macro = theirs(y, decided, average="macro", sample_weight=w)
        assert classification.macro(y, decided, NAMES, kind, design).value == pytest.approx(macro, **close)
        single = theirs(y, decided, average=None, sample_weight=w)
        ours = [getattr(classification, kind)(y, decided, code, design).value for code in range(4)]
        assert ours == pytest.approx(single, **close)
    assert np.array_equal(classification.confusion(y, decided, 4, w), sk.confusion_matrix(y, decided, sample_weight=w))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_score_metrics_match_sklearn(seed, weighted):
    y, _, probabilities, weights = _rows(seed)
    w = weights if weighted else None
    design = Design(w)
    positive, ranked = y == 2, probabilities[:, 2]
    close = {"abs": 1e-12}
    assert scores.roc_auc(ranked, positive, design).value == pytest.approx(
        sk.roc_auc_score(positive, ranked, sample_weight=w), **close
    )
    assert scores.average_precision(ranked, positive, design).value == pytest.approx(
        sk.average_precision_score(positive, ranked, sample_weight=w), **close
    )
    assert scores.macro_roc_auc(probabilities, y, NAMES, design).value == pytest.approx(
        np.mean([sk.roc_auc_score(y == c, probabilities[:, c], sample_weight=w) for c in range(4)]), **close
    )
    assert scores.macro_average_precision(probabilities, y, NAMES, design).value == pytest.approx(
        np.mean([sk.average_precision_score(y == c, probabilities[:, c], sample_weight=w) for c in range(4)]), **close
    )
    assert scores.log_loss(probabilities, y, design).value == pytest.approx(
        sk.log_loss(y, probabilities, sample_weight=w), **close
    )
    assert scores.brier_score(probabilities, y, None, design).value == pytest.approx(
        sk.brier_score_loss(y, probabilities, sample_weight=w, labels=[0, 1, 2, 3], scale_by_half=False), **close
    )
    two = np.stack([1 - ranked, ranked], axis=1)
    assert scores.brier_score(two, positive.astype(int), 1, design).value == pytest.approx(
        sk.brier_score_loss(positive, ranked, sample_weight=w), **close
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_regression_metrics_match_sklearn(weighted):
    rng = np.random.default_rng(0)
    y, w = rng.normal(size=150), rng.random(150) + 0.1 if weighted else None
    predicted, design = y + rng.normal(size=150), Design(w)
    pairs = (
        (regression.r2(y, predicted, design), sk.r2_score(y, predicted, sample_weight=w)),
        (regression.mean_absolute_error(y, predicted, design), sk.mean_absolute_error(y, predicted, sample_weight=w)),
        (
            regression.root_mean_squared_error(y, predicted, design),
            sk.root_mean_squared_error(y, predicted, sample_weight=w),
        ),
        (
            regression.pinball_loss(y, predicted, 0.9, design),
            sk.mean_pinball_loss(y, predicted, sample_weight=w, alpha=0.9),
        ),
    )
    for ours, theirs in pairs:
        assert ours.value == pytest.approx(theirs, abs=1e-12)
        assert ours.interval(0.95).low < ours.value < ours.interval(0.95).high


def _derivative(function, n, row):
    """Influence by moving one row's weight a little: shares nothing with the formulas."""
    step = 1e-5
    up, down = np.ones(n), np.ones(n)
    up[row] += step
    down[row] -= step
    return (function(up) - function(down)) / (2 * step)


@pytest.mark.parametrize("kind", ["average_precision", "roc_auc"])
def test_parts_are_the_derivatives_of_sklearns_metric(kind):
    y, _, probabilities, _ = _rows(7, n=60)
    positive, ranked = y == 1, probabilities[:, 1]
    if kind == "average_precision":
        parts = scores._precision_parts(ranked, positive, np.ones(60))[1]

        def theirs(w):
            return sk.average_precision_score(positive, ranked, sample_weight=w)
    else:
        parts = auc_parts(ranked, positive)[1]

        def theirs(w):
            return sk.roc_auc_score(positive, ranked, sample_weight=w)

    for row in range(0, 60, 7):
        assert parts[row] == pytest.approx(_derivative(theirs, 60, row), abs=1e-7)
    assert parts.sum() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", ["recall", "precision", "f1"])
@pytest.mark.parametrize("clustered", [False, True])
def test_classes_are_correlated_as_the_derivatives_of_sklearns_scores_are(kind, clustered, monkeypatch):
    y, decided, _, _ = _rows(7, n=60)
    clusters = np.random.default_rng(1).integers(0, 20, 60) if clustered else np.arange(60)
    score = getattr(sk, f"{kind}_score")
    moved = [_derivative(lambda w: score(y, decided, average=None, sample_weight=w), 60, row) for row in range(60)]
    sums = np.array([np.array(moved)[clusters == c].sum(axis=0) for c in range(60)])
    error = np.maximum(np.sqrt((sums**2).sum(axis=0)), 1e-100)
    theirs = sums.T @ sums / np.outer(error, error)
    monkeypatch.setattr(classification, "_CELLS", 12)  # three clusters at a time
    ours = classification.clustered_correlation(y, decided, 4, kind, Design(None, clusters))
    assert ours == pytest.approx(theirs, abs=1e-6)
    if not clustered:
        cells = classification.confusion(y, decided, 4)
        found = classification.class_correlation(cells, cells, kind)
        assert (found is None) == (kind != "f1")
        assert (np.diag(np.diag(theirs)) if found is None else found) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("metric", ["r2", "root_mean_squared_error"])
def test_regression_standard_errors_are_those_of_sklearns_derivatives(metric):
    """Targets far from their mean, so that the spread of the targets matters for R2 as much as the residuals."""
    rng = np.random.default_rng(12)
    y = rng.normal(size=80) ** 3
    predicted = 0.5 * y + 0.5 * rng.normal(size=80)
    theirs = {"r2": sk.r2_score, "root_mean_squared_error": sk.root_mean_squared_error}[metric]
    parts = np.array([_derivative(lambda w: theirs(y, predicted, sample_weight=w), 80, row) for row in range(80)])
    error = np.sqrt(80 / 79 * (parts**2).sum())
    found = getattr(regression, metric)(y, predicted)
    value, interval = found.value, found.interval(0.95)
    ratio, change = (1 - value, error) if metric == "r2" else (value**2, 2 * value * error)
    half = t_value(0.95, 79) * change / ratio
    expected = [ratio * np.exp(half), ratio * np.exp(-half)]
    ours = [1 - interval.low, 1 - interval.high] if metric == "r2" else [interval.high**2, interval.low**2]
    assert ours == pytest.approx(expected, rel=1e-5)


def _coverage(draw, estimate, truth, runs=250):
    inside = 0
    for _ in range(runs):
        found = estimate(*draw()).interval(0.95)
        inside += found.low <= truth <= found.high
    return inside / runs


@pytest.mark.parametrize(("n", "prevalence", "shift"), [(100, 0.1, 1.0), (300, 0.3, 2.0)])
def test_average_precision_interval_covers(n, prevalence, shift):
    rng = np.random.default_rng(1)

    def draw(size=n):
        positive = rng.random(size) < prevalence
        positive[:3] = True
        return rng.normal(size=size) + shift * positive, positive

    ranked, positive = draw(400_000)
    truth = sk.average_precision_score(positive, ranked)
    assert _coverage(draw, scores.average_precision, truth) >= 0.9


@pytest.mark.parametrize("kind", ["recall", "f1"])
def test_macro_intervals_cover(kind):
    rng = np.random.default_rng(2)

    def draw(n=200):
        y = np.r_[np.arange(4), rng.integers(0, 4, n - 4)]
        return y, np.where(rng.random(n) < 0.8, y, rng.integers(0, 4, n))

    truth = classification.macro(*draw(400_000), NAMES, kind).value
    assert _coverage(draw, lambda y, d: classification.macro(y, d, NAMES, kind), truth) >= 0.915


@pytest.mark.parametrize("metric", ["r2", "root_mean_squared_error", "mean_absolute_error"])
def test_regression_intervals_cover(metric):
    rng = np.random.default_rng(3)

    def draw(n=60):
        x = rng.normal(size=n)
        return x + 0.5 * rng.normal(size=n), x

    truth = {"r2": 0.8, "root_mean_squared_error": 0.5, "mean_absolute_error": 0.5 * (2 / np.pi) ** 0.5}[metric]
    assert _coverage(draw, getattr(regression, metric), truth) >= 0.9


def _calibrated(rng, n, slope=1.0):
    z = 2 * rng.normal(size=n)
    return 1 / (1 + np.exp(-z)), rng.random(n) < 1 / (1 + np.exp(-slope * z))


@pytest.mark.parametrize("n", [200, 2000])
def test_calibrated_model_is_not_accused(n):
    """The plug-in error of a calibrated model is far from 0; ours has 0 in its interval."""
    rng = np.random.default_rng(4)
    held, values, plug_ins = 0, [], []
    for _ in range(150):
        p, y = _calibrated(rng, n)
        found = calibration.expected_calibration_error(p, y)
        held += found.interval(0.95).low == 0.0
        values.append(found.value)
        plug_ins.append(calibration.plug_in_calibration_error(calibration.bin_rows(p, y)))
    assert held / 150 >= 0.95
    assert np.mean(values) < 0.7 * np.mean(plug_ins)


def test_overconfident_model_is_accused_and_interval_covers():
    rng = np.random.default_rng(5)
    p, y = _calibrated(rng, 600_000, slope=0.5)
    truth = calibration.plug_in_calibration_error(calibration.bin_rows(p, y))
    assert truth > 0.09
    lows = []

    def draw():
        return _calibrated(rng, 1500, slope=0.5)

    for _ in range(60):
        found = calibration.expected_calibration_error(*draw())
        lows.append(found.interval(0.95).low)
        assert found.value == pytest.approx(truth, abs=0.05)
    assert min(lows) > 0.02
    assert _coverage(draw, calibration.expected_calibration_error, truth, 150) >= 0.95


def test_bins_hold_equal_mass_and_never_split_ties():
    rng = np.random.default_rng(6)
    counts = np.bincount(calibration.equal_mass_bins(rng.random(1500), 15))
    assert len(counts) == 15
    assert counts.min() >= 99
    tied = rng.integers(0, 4, 500) / 4
    codes = calibration.equal_mass_bins(tied, 15)
    assert codes.max() == 3
    assert all(len(np.unique(codes[tied == value])) == 1 for value in np.unique(tied))
    assert calibration.equal_mass_bins(np.full(10, 0.3), 5).tolist() == [0] * 10


def test_all_hit_bins_do_not_claim_certainty():
    """40 rows at 0.9 that all came true: the gap of 0.1 may well be luck."""
    found = calibration.expected_calibration_error(np.full(40, 0.9), np.ones(40, dtype=bool))
    assert found.interval(0.95).low == 0.0
    assert found.interval(0.95).high > 0.15


def test_clusters_widen_every_interval():
    y, decided, probabilities, _ = _rows(8, n=120)
    take = np.repeat(np.arange(120), 5)
    tied, loose = Design(None, take), Design()
    y, decided, probabilities = y[take], decided[take], probabilities[take]
    ranked, positive = probabilities[:, 0], y == 0
    values = y.astype(float)
    for estimate in (
        lambda d: classification.accuracy(y, decided, d),
        lambda d: classification.f1(y, decided, 1, d),
        lambda d: classification.macro(y, decided, NAMES, "f1", d),
        lambda d: scores.roc_auc(ranked, positive, d),
        lambda d: scores.macro_roc_auc(probabilities, y, NAMES, d),
        lambda d: scores.average_precision(ranked, positive, d),
        lambda d: scores.log_loss(probabilities, y, d),
        lambda d: calibration.expected_calibration_error(ranked, positive, d),
        lambda d: regression.r2(values, decided.astype(float), d),
        lambda d: regression.root_mean_squared_error(values, decided.astype(float), d),
    ):
        wide, narrow = estimate(tied), estimate(loose)
        if "triangle" not in wide.interval(0.95).method:  # its bias correction grows with the noise
            assert wide.value == pytest.approx(narrow.value)
        one, other = wide.interval(0.95), narrow.interval(0.95)
        assert one.high - one.low > 1.6 * (other.high - other.low)
        assert "cluster" in one.method


def test_limits_of_a_brier_score_stay_in_its_range():
    wrong, right = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.1, 0.8, 0.1], [0.0, 0.0, 1.0]])
    binary = scores.brier_score(wrong, np.array([1, 1]), 1).interval(0.95)
    several = scores.brier_score(right, np.array([0, 1]), None).interval(0.95)
    assert (binary.low, binary.high, several.low, several.high) == (0.0, 1.0, 0.0, 2.0)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 4))
@example(717, 4, 2)  # a variance that is nothing but rounding
@settings(max_examples=150, deadline=None)
def test_values_lie_inside_and_nothing_is_nan(seed, n, k):
    rng = np.random.default_rng(seed)
    y, decided = rng.integers(0, k, n), rng.integers(0, k, n)
    ranked = rng.integers(0, 4, (n, k)).astype(float)
    probabilities = softmax(ranked)
    design = Design(rng.random(n) + 0.1 if seed % 2 else None, rng.integers(0, 5, n) if seed % 3 == 0 else None)
    names = NAMES[:k]
    for found in (
        classification.accuracy(y, decided, design),
        classification.precision(y, decided, 0, design),
        classification.recall(y, decided, 0, design),
        classification.f1(y, decided, 0, design),
        *(classification.macro(y, decided, names, kind, design) for kind in ("recall", "precision", "f1")),
        scores.roc_auc(ranked[:, 0], y == 0, design),
        scores.macro_roc_auc(ranked, y, names, design),
        scores.average_precision(ranked[:, 0], y == 0, design),
        scores.macro_average_precision(ranked, y, names, design),
        scores.log_loss(probabilities, y, design),
        scores.brier_score(probabilities, y, None, design),
        calibration.expected_calibration_error(probabilities[:, 0], y == 0, design),
        regression.r2(y.astype(float), decided.astype(float), design),
        regression.root_mean_squared_error(y.astype(float), decided.astype(float), design),
    ):
        if found.value is None:
            assert found.reason
            continue
        assert np.isfinite(found.value)
        interval = found.interval(0.95)
        assert interval is None or interval.low <= found.value <= interval.high


def test_undefined_says_why():
    y, decided = np.array([0, 0, 1]), np.array([0, 0, 0])
    assert "decided as the class" in classification.precision(y, decided, 1).reason
    assert "rows of the class" in classification.recall(y, decided, 2).reason
    assert "F1 needs" in classification.f1(y, decided, 2).reason
    assert "class 'c' has no rows" in classification.balanced_accuracy(y, decided, ("a", "b", "c")).reason
    assert "'b' was never decided" in classification.macro(y, decided, ("a", "b"), "precision").reason
    assert "both classes" in scores.average_precision(np.ones(3), np.ones(3, dtype=bool)).reason
    assert "class 'b' has no rows" in scores.macro_roc_auc(np.ones((2, 2)), np.zeros(2, dtype=int), ("a", "b")).reason
    assert "all equal" in regression.r2(np.ones(3), np.arange(3.0)).reason
    assert "two rows" in regression.r2(np.ones(1), np.ones(1)).reason
    perfect = regression.r2(np.arange(3.0), np.arange(3.0))
    assert perfect.value == 1.0
    assert "no residual" in perfect.reason

    assert (
        "class 'c' has no rows"
        in scores.macro_average_precision(np.ones((2, 3)), np.array([0, 1]), ("a", "b", "c")).reason
    )


def test_certain_and_wrong_stays_finite_as_in_sklearn():
    probabilities, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 1])
    assert scores.log_loss(probabilities, y).value == pytest.approx(sk.log_loss(y, probabilities, labels=[0, 1]))


@pytest.mark.parametrize("weighted", [False, True])
def test_curves_match_sklearn(weighted):
    y, _, probabilities, weights = _rows(9, n=150)
    positive, ranked = y == 0, probabilities[:, 0]
    w = weights if weighted else None
    steps = curves.cumulate(ranked, positive, w)
    fpr, tpr, _ = sk.roc_curve(positive, ranked, sample_weight=w, drop_intermediate=False)
    assert np.allclose(steps.fpr, fpr)
    assert np.allclose(steps.tpr, tpr)
    precision, recall, _ = sk.precision_recall_curve(positive, ranked, sample_weight=w)
    ours = curves.precision_recall(steps)
    assert np.allclose(ours[0], recall[:-1][::-1])
    assert np.allclose(ours[1], precision[:-1][::-1])


def test_sweep_matches_brute_force():
    y, _, probabilities, _ = _rows(10, n=80)
    positive, ranked = y == 0, probabilities[:, 0]
    at = np.linspace(0, 1, 37)
    swept = curves.sweep_thresholds(curves.cumulate(ranked, positive), at)
    for i, threshold in enumerate(at):
        chosen = ranked >= threshold
        assert swept.tpr[i] == pytest.approx((chosen & positive).sum() / positive.sum())
        assert swept.fpr[i] == pytest.approx((chosen & ~positive).sum() / (~positive).sum())
        assert swept.selection_rate[i] == pytest.approx(chosen.mean())
        assert swept.accuracy[i] == pytest.approx((chosen == positive).mean())
        if chosen.any():
            assert swept.precision[i] == pytest.approx(positive[chosen].mean())
        else:
            assert np.isnan(swept.precision[i])


def test_own_threshold_is_found_or_refused():
    ranked = np.array([0.1, 0.3, 0.6, 0.8])
    assert curves.own_threshold(ranked, ranked >= 0.5) == (0.3, 0.6)
    assert curves.own_threshold(ranked, np.array([True, False, True, False])) is None
    assert curves.own_threshold(ranked, np.ones(4, dtype=bool)) is None


def test_thinned_curve_keeps_its_ends_and_its_shape():
    x = np.linspace(0, 1, 10_000)
    y = x**0.1  # steep at the start
    at = curves.thin(x, y, 200)
    assert len(at) <= 200
    assert (at[0], at[-1]) == (0, 9999)
    assert np.abs(np.interp(x, x[at], y[at]) - y).max() < 0.02


def test_binned_predictions_and_residual_quantiles():
    rng = np.random.default_rng(11)
    predicted = rng.normal(size=400)
    y = predicted + 1.0 + 0.1 * rng.normal(size=400)
    binned = curves.predicted_against_actual(y, predicted)
    assert len(binned.predicted) == 10
    assert binned.n.sum() == 400
    for center, actual in zip(binned.predicted, binned.actual, strict=True):
        assert actual.value == pytest.approx(center + 1.0, abs=0.1)
    assert curves.residual_quantiles(y, predicted, np.array([0.5]))[0] == pytest.approx(-1.0, abs=0.05)


def true_roc(x):
    """Of normal scores one standard deviation apart."""
    return scipy.stats.norm.cdf(scipy.stats.norm.ppf(x) + 1.0)


def curve_of(rng, m, n):
    scores = np.concatenate([rng.normal(1.0, 1.0, m), rng.normal(0.0, 1.0, n)])
    return curves.cumulate(scores, np.arange(m + n) < m)


def test_roc_band_is_the_union_of_what_its_boxes_allow():
    """Against the definition, threshold by threshold: no box may be contradicted by a curve that rises."""
    for m, n in ((30, 45), (200, 8), (1, 300)):
        steps = curve_of(np.random.default_rng(m), m, n)
        up, across = (math.sqrt(math.log(2 / (1 - math.sqrt(0.9))) / (2 * rows)) for rows in (m, n))
        low, high = curves.roc_band(steps, 0.9)
        for at, x in enumerate(steps.fpr):
            below = [t - up for t, f in zip(steps.tpr, steps.fpr, strict=True) if min(f + across, 1.0) <= x]
            above = [t + up for t, f in zip(steps.tpr, steps.fpr, strict=True) if max(f - across, 0.0) >= x]
            assert low[at] == pytest.approx(max([0.0, *below]), abs=1e-12)
            assert high[at] == pytest.approx(min([1.0, *above]), abs=1e-12)


@pytest.mark.parametrize(("m", "n"), [(40, 60), (150, 25)])
def test_roc_band_holds_the_whole_true_curve_as_often_as_it_says(m, n):
    rng = np.random.default_rng(5)
    held = {0.95: 0, 0.02: 0}
    for _ in range(300):
        steps = curve_of(rng, m, n)
        truth = true_roc(steps.fpr)
        for level in held:
            low, high = curves.roc_band(steps, level)
            held[level] += bool(((low <= truth + 1e-12) & (truth <= high + 1e-12)).all())
    assert held[0.95] >= 0.95 * 300 - 3 * math.sqrt(300 * 0.95 * 0.05)
    assert held[0.02] < 0.95 * 300  # a band that says less holds less: the count can tell them apart


def test_roc_band_narrows_with_rows_and_stays_about_the_curve():
    widths = []
    for rows in (200, 5000):
        steps = curve_of(np.random.default_rng(1), rows, rows)
        low, high = curves.roc_band(steps)
        assert (low <= steps.tpr).all()
        assert (steps.tpr <= high).all()
        assert (np.diff(low) >= 0).all()
        assert (np.diff(high) >= 0).all()
        widths.append(float((high - low).mean()))
    assert widths[1] < 0.3 * widths[0]


def test_a_curve_from_bins_is_the_curve_of_rows_that_lie_at_their_bins():
    rng = np.random.default_rng(3)
    positive = np.arange(400) < 150
    place = rng.integers(0, 20, 400) + 2 * positive
    sides = [np.bincount(place[mask], minlength=24) for mask in (positive, ~positive)]
    binned, exact = counted.cumulate_bins(*sides), curves.cumulate(place.astype(float), positive)
    kept = np.isin(binned.fpr + 7 * binned.tpr, exact.fpr + 7 * exact.tpr)
    assert kept.all(), "bins without rows add no new point"
    for x, y, low, high in zip(binned.fpr, binned.tpr, *curves.roc_band(binned), strict=True):
        at = np.flatnonzero((exact.fpr == x) & (exact.tpr == y))[0]
        assert (low, high) == tuple(side[at] for side in curves.roc_band(exact))
