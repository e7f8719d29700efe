"""``explain.disparity`` end to end: another reason for another group is caught, the twin is quiet."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_step
from auditkit.render.html.figures import figures
from auditkit.subjects.build import make_subject

SETTINGS = {"max_rows": 300, "max_background": 20, "budget": 64, "permutations": 399}
SHARE, SIGNED = "explain.share_at_equal_score.difference", "explain.attribution_at_equal_score.difference"


class Scorer:
    """Looks at debt for group B where others are judged by income; both have the same law, so scores do not differ."""

    classes_ = np.array([0, 1])

    def __init__(self, planted, classes=2):
        self.planted, self.classes_ = planted, np.arange(classes)

    def fit(self, table, y):
        return self

    def predict_proba(self, table):
        other = self.planted & (table["branch"].to_numpy() == "B")
        margin = 1.5 * np.where(other, -table["debt"], table["income"]) + 0.6 * table["years"]
        p = 1 / (1 + np.exp(-margin.to_numpy()))
        if len(self.classes_) == 2:
            return np.column_stack([1 - p, p])
        return np.column_stack([(1 - p) * 0.7, (1 - p) * 0.3, p])

    def predict(self, table):
        return self.classes_[self.predict_proba(table).argmax(axis=1)]


def applicants(planted, n=400, seed=0, classes=2, tilted=False):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {name: rng.normal(size=n) for name in ("income", "debt", "years")} | {"branch": rng.choice(["A", "B"], n)}
    )
    group = table["branch"].to_numpy()
    model = Scorer(planted, classes)
    if tilted:  # groups whose scores differ, and nothing else
        score = model.predict_proba(table)[:, -1]
        group = np.where(rng.random(n) < score, "B", "A")
    y = model.predict(table)
    y[:classes] = np.arange(classes)
    return make_subject(model, table, y, sensitive=pd.DataFrame({"group": group}), task=None)


def outcome_of(subject, **settings):
    plan = make_plan(["explain.disparity"], {"explain.disparity": {**SETTINGS, **settings}})
    return run_step(subject, plan.steps[0], seed=3)


def by_feature(outcome, name):
    return {m.params["feature"]: m for m in outcome.measurements if m.name == name and "feature" in m.params}


def overall(outcome):
    (found,) = [m for m in outcome.measurements if m.name.endswith("p_value") and "feature" not in m.params]
    return found


def test_other_reasons_for_one_group_are_caught_and_named():
    outcome = outcome_of(applicants(planted=True))
    gaps, p_values = by_feature(outcome, SHARE), by_feature(outcome, "explain.disparity_p_value")
    assert overall(outcome).value == 1 / 400
    for feature in ("income", "debt"):
        assert gaps[feature].interval.low > 0.15
        assert p_values[feature].value == 1 / 400
    assert p_values["years"].value > 0.05
    table = next(a for a in outcome.artifacts if a.name == "explain.disparity.share.group")
    assert {row[0]: row[1] for row in table.rows}["debt"] == "B"
    assert {row[0]: row[1] for row in table.rows}["income"] == "A"
    drawn = {figure.metric for figure in figures(outcome.measurements)}
    assert {SHARE, SIGNED} <= drawn
    assert "explain.disparity_p_value" not in drawn  # the longest bars would be of what was not found


@pytest.mark.parametrize("tilted", [False, True])
def test_the_twin_is_quiet_also_where_scores_differ(tilted):
    outcome = outcome_of(applicants(planted=False, tilted=tilted))
    assert overall(outcome).value > 0.05
    assert all(gap.interval.low < 0.03 for gap in by_feature(outcome, SHARE).values())
    assert any("less a line in it within each bin" in note for note in outcome.notes)


def test_a_column_of_the_group_itself_pushes_its_groups_apart():
    """Equal sizes hide opposite signs: the signed gap shows them."""
    subject = applicants(planted=False)
    rng = np.random.default_rng(5)
    table = subject.test.inputs.assign(card=np.where(subject.test.inputs["branch"] == "B", 1.0, 0.0))

    class WithCard(Scorer):
        def predict_proba(self, frame):
            margin = np.log(super().predict_proba(frame)[:, 1] / super().predict_proba(frame)[:, 0])
            p = 1 / (1 + np.exp(-(margin - 1.2 * frame["card"].to_numpy())))
            return np.column_stack([1 - p, p])

    y = rng.integers(0, 2, len(table))
    planted = make_subject(WithCard(False), table, y, sensitive=pd.DataFrame({"group": table["branch"]}))
    outcome = outcome_of(planted)
    signed = by_feature(outcome, SIGNED)["card"]
    assert signed.interval.low > 0.05
    assert signed.unit == "probability"
    assert by_feature(outcome, "explain.disparity_p_value")["card"].value == 1 / 400


def test_several_classes_are_binned_by_the_decision():
    outcome = outcome_of(applicants(planted=True, classes=3))
    assert overall(outcome).value == 1 / 400
    assert not by_feature(outcome, SIGNED)
    assert any("score of the class decided" in note for note in outcome.notes)
    assert overall(outcome_of(applicants(planted=False, classes=3))).value > 0.05


def test_small_groups_weights_and_clusters_are_told():
    subject = applicants(planted=True)
    weighted = dataclasses.replace(subject, test=dataclasses.replace(subject.test, weights=np.linspace(1, 2, 400)))
    outcome = outcome_of(weighted)
    assert overall(outcome).value is None
    assert "weighted rows are not exchangeable" in overall(outcome).reason
    assert by_feature(outcome, SHARE)["debt"].interval.low > 0.15
    clustered = dataclasses.replace(
        subject, test=dataclasses.replace(subject.test, clusters=np.arange(400, dtype=np.int64) // 2)
    )
    assert overall(outcome_of(clustered)).value < 0.01
    group = np.where(np.arange(400) < 6, "tiny", "rest")
    alone = dataclasses.replace(subject, test=dataclasses.replace(subject.test, sensitive={"group": group}))
    outcome = outcome_of(alone)
    assert overall(outcome).value is None
    assert "fewer than two groups" in overall(outcome).reason
    assert any("are left out: tiny." in note for note in outcome.notes)


def test_a_rule_on_the_gap_passes_the_twin_and_fails_the_planted_model():
    import auditkit

    rule = {"id": "same-reasons", "metric": "explain.share_at_equal_score", "compare": "difference", "over": ["group"],
            "params": {"feature": "debt"}, "max": 0.15}  # fmt: skip
    states = {}
    for planted in (True, False):
        subject = applicants(planted)
        report = auditkit.audit(
            Scorer(planted), subject.test.inputs, subject.test.y, sensitive=pd.DataFrame(subject.test.sensitive),
            analyzers={"explain.disparity": SETTINGS}, progress=False,
        )  # fmt: skip
        states[planted] = report.gate({"version": 1, "rule": [rule]}).state
    assert states == {True: "fail", False: "pass"}
