"""Saved scores that are no probabilities: points of a scorecard, and log-odds."""

import functools

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

import auditkit

NEED_SHARES = ("performance.log_loss", "performance.brier_score", "performance.expected_calibration_error")


@functools.cache
def drawn():
    rng = np.random.default_rng(5)
    sex = rng.choice(["F", "M"], 900)
    z = rng.normal(0.3 * (sex == "M"), 1.2)
    y = (rng.random(900) < expit(z)).astype(int)
    return y, z, sex


def audited(scores, space, decisions=None):
    y, z, sex = drawn()
    return auditkit.audit_predictions(
        np.where(y == 1, "repaid", "lost"),
        np.where(z > 0, "repaid", "lost") if decisions is None else decisions,
        scores=scores,
        score_space=space,
        positive="repaid",
        sensitive={"sex": sex},
        analyzers={"performance": {}, "fairness.scores": {"resamples": 20, "permutations": 19}},
        progress=False,
    )


def value(report, name, **groups):
    (found,) = report.select(name, **groups)
    return found.value


def test_points_are_ranked_by_and_never_taken_for_shares():
    y, z, sex = drawn()
    points = np.round(600 + 40 * z).astype(int)
    report = audited(points, "margin")
    assert value(report, "performance.roc_auc") == pytest.approx(roc_auc_score(y, points), abs=1e-12)
    assert value(report, "performance.average_precision") == pytest.approx(
        average_precision_score(y, points), abs=1e-12
    )
    for group in "FM":
        rows = sex == group
        expected = roc_auc_score(y[rows], points[rows])
        assert value(report, "performance.roc_auc", sex=group) == pytest.approx(expected, abs=1e-12)
        assert value(report, "fairness.roc_auc", sex=group) == pytest.approx(expected, abs=1e-12)
    names = set(report.evidence.by_name)
    assert not names & set(NEED_SHARES)
    assert not [name for name in names if "calibration" in name or "mean_score" in name]
    notes = [note for outcome in report.evidence.outcomes for note in outcome.notes]
    assert sum("margins, not probabilities" in note for note in notes) == 2
    rule = {"id": "calibrated", "metric": "performance.expected_calibration_error", "max": 0.05}
    assert report.gate({"rule": [rule]}).exit_code == 3
    assert "probability of the positive class" not in report.to_html()


def test_log_odds_are_worth_what_their_probabilities_are():
    y, z, _ = drawn()
    report, twin = audited(z, "logit"), audited(expit(z), "probability")
    assert value(report, "performance.log_loss") == pytest.approx(log_loss(y, expit(z)), abs=1e-9)
    assert value(report, "performance.brier_score") == pytest.approx(brier_score_loss(y, expit(z)), abs=1e-9)
    assert set(report.evidence.by_name) == set(twin.evidence.by_name)
    for name in NEED_SHARES:
        assert value(report, name) == pytest.approx(value(twin, name), abs=1e-9)
