"""A rule since a baseline tells nothing of few rows, hits or clusters that the baseline counted."""

import datetime
import functools

import numpy as np
import pytest

import auditkit
from auditkit.cli.verify import verified
from auditkit.policy.baseline import make_baseline
from auditkit.render.shared import shared_copy

METRICS = ("fairness.selection_rate", "fairness.true_positive_rate")


def audited(few, seed, policy=None, clusters=None):
    """Groups A and B of 400 rows, and X of ``few``."""
    rng = np.random.default_rng(seed)
    sex = np.repeat(["A", "B", "X"], [400, 400, few])
    score = rng.random(len(sex))
    return auditkit.audit_predictions(
        (rng.random(len(sex)) < score).astype(int), (score > 0.5).astype(int), sensitive={"sex": sex}, positive=1,
        progress=False, policy=policy, clusters=None if clusters is None else clusters(sex, rng),
        analyzers={"fairness.groups": {"cross_check": False}},
    )  # fmt: skip


@functools.cache
def judged(few):
    document = make_baseline(audited(few, 1).evidence, reason="first release", accepted=datetime.date(2026, 1, 1))
    keys = {"baseline": "first", "max_increase": 0.9, "over": ["sex"], "min_n": 0}
    rules = [{**keys, "id": f"{name}-{kind}", "metric": name, "compare": kind} for name in METRICS
             for kind in ("value", "difference")]  # fmt: skip
    return audited(400, 2, {"rule": rules, "baseline": {"first": document}})


def told_of_x(report, shared):
    verdict = shared_copy(report.evidence, report.verdict())[1] if shared else report.verdict()
    return [each for result in verdict.results for each in result.comparisons if "X" in each.label]


def test_numbers_of_few_rows_of_the_baseline_are_withheld():
    complete, shown = told_of_x(judged(7), False), told_of_x(judged(7), True)
    assert len(complete) == len(shown) == 6
    assert all("in the baseline" in each.message and each.value is not None for each in complete)
    for each in shown:
        assert (each.value, each.interval, each.sides, each.fewest_before) == (None, None, (), None)
        assert "withheld" in each.message
    assert [each.state for each in shown] == [each.state for each in complete]
    page = judged(7).to_html()
    told = [each.message.partition(" in the baseline")[0].rpartition(" ")[2] for each in complete]
    assert all(f"{number} in the baseline" not in page for number in told)


def test_numbers_of_many_rows_of_the_baseline_stay():
    complete, shown = told_of_x(judged(400), False), told_of_x(judged(400), True)
    assert [(each.value, each.interval, each.message) for each in shown] == [
        (each.value, each.interval, each.message) for each in complete
    ]
    assert all(each.fewest_before is None for each in shown)


@pytest.mark.parametrize("few", [7, 400])
def test_such_cards_are_verified(few, tmp_path):
    page = tmp_path / "card.html"
    page.write_text(judged(few).to_html(), encoding="utf-8")
    states = {check.what: check.state for check in verified(page)[0]}
    assert states["verdict"] == states["page"] == "holds"


def test_few_clusters_of_the_baseline_are_told_by_no_change():
    def few(sex, rng):
        return np.where(sex == "X", rng.integers(0, 5, len(sex)), rng.integers(5, 65, len(sex)))

    document = make_baseline(
        audited(400, 3, clusters=few).evidence, reason="first release", accepted=datetime.date(2026, 1, 1)
    )
    rule = {"baseline": "first", "max_increase": 0.9, "over": ["sex"], "min_n": 0, "compare": "value"}
    rules = [{**rule, "id": f"at-{level}", "metric": METRICS[0], "confidence": level} for level in (0.95, 0.99)]
    report = audited(400, 4, {"rule": rules, "baseline": {"first": document}})
    assert all(each.interval for each in told_of_x(report, False))
    assert not any(each.interval or each.value for each in told_of_x(report, True))
