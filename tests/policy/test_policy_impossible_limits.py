"""A limit that lies outside what its metric can be is a slip, and never a pass."""

import datetime

import numpy as np
import pytest

import auditkit


@pytest.fixture(scope="module")
def report():
    """Regression-like numbers are unbounded above, rates are not: 300 rows, two groups far apart."""
    rng = np.random.default_rng(2)
    n = 300
    sex = np.where(np.arange(n) % 2, "F", "M")
    label = rng.integers(0, 2, n)
    decided = np.where(sex == "F", 0, label)
    return auditkit.audit_predictions(
        label, decided, scores=np.clip(0.2 + 0.6 * decided + rng.normal(0, 0.05, n), 0, 1),
        sensitive={"sex": sex}, positive=1, progress=False, analyzers=["performance", "fairness.groups"],
    )  # fmt: skip


def judged(report, **rule):
    return report.gate({"version": 1, "rule": [{"id": "r", "reason": "x", **rule}]})


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (
            {"metric": "fairness.selection_rate", "compare": "difference", "max": 10},
            "the limit 10 decides nothing: the difference of fairness.selection_rate is between 0 and 1, always; "
            "10 % is 0.1",
        ),
        ({"metric": "performance.accuracy", "min": 80}, "performance.accuracy is between 0 and 1, always; 80 % is 0.8"),
        ({"metric": "performance.accuracy", "min": -0.5}, "the limit -0.5 decides nothing"),
        ({"metric": "performance.accuracy", "max": 1.5}, "the limit 1.5 decides nothing"),
        ({"metric": "performance.log_loss", "min": -1}, "performance.log_loss is at least 0, always"),
        ({"metric": "performance.roc_auc", "compare": "difference", "max": 5, "over": ["sex"]}, "5 % is 0.05"),
        ({"metric": "performance.accuracy", "min": 0.5, "max": 90}, "90 % is 0.9"),
    ],
)
def test_it_is_an_error(report, rule, told):
    verdict = judged(report, **rule)
    assert (verdict.state, verdict.exit_code) == ("error", 3)
    assert told in verdict.results[0].message


@pytest.mark.parametrize(
    ("rule", "state"),
    [
        ({"metric": "fairness.selection_rate", "compare": "difference", "max": 0.1}, "fail"),
        ({"metric": "fairness.selection_rate", "compare": "difference", "max": 1}, "pass"),
        ({"metric": "performance.accuracy", "min": 0}, "pass"),
        ({"metric": "performance.log_loss", "max": 10}, "pass"),
        ({"metric": "performance.log_loss", "compare": "difference", "max": 25, "over": ["sex"]}, "pass"),
    ],
)
def test_limits_that_can_be_broken_or_are_the_ends_themselves_are_judged(report, rule, state):
    assert judged(report, **rule).state == state


def test_an_increase_larger_than_the_metric_has_room_for_is_an_error(report):
    from auditkit.policy.baseline import make_baseline

    base = make_baseline(report.evidence, reason="first", accepted=datetime.date(2026, 11, 1))
    rule = {"metric": "performance.accuracy", "baseline": "b"}
    document = {"version": 1, "baseline": {"b": base}, "rule": [{"id": "r", "reason": "x", "max_increase": 5, **rule}]}
    verdict = report.gate(document)
    assert verdict.state == "error"
    assert "5 % is 0.05" in verdict.results[0].message
