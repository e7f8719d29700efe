"""``explain.recourse`` end to end: known costs, a group that pays more, what may not change, what is not found."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject

SETTINGS = {"max_rows": 120}


class Line:
    """Approves where income less a penalty for holders of the card reaches 1; income has a standard deviation of 1."""

    classes_ = np.array(["no", "yes"])

    def __init__(self, penalty):
        self.penalty = penalty

    def fit(self, table, y):
        return self

    def margin(self, table):
        return table["income"].to_numpy() - self.penalty * (table["card"] == "held").to_numpy() - 1.0

    def predict_proba(self, table):
        p = 1 / (1 + np.exp(-self.margin(table)))
        return np.column_stack([1 - p, p])

    def predict(self, table):
        return self.classes_[(self.margin(table) > 0).astype(int)]


def applicants(n=500, seed=0):
    rng = np.random.default_rng(seed)
    sex = rng.choice(["F", "M"], n)
    income = rng.normal(size=n)
    table = pd.DataFrame(
        {"income": (income - income.mean()) / income.std(), "card": np.where(sex == "F", "held", "none")}
    )
    return table, sex


def subject_of(model, schema=None, **settings):
    table, sex = applicants(**settings)
    y = model.predict(table)
    return make_subject(
        model, table, y, sensitive=pd.DataFrame({"sex": sex}), positive="yes",
        schema={"card": {"immutable": True}} if schema is None else schema,
    )  # fmt: skip


def outcome_of(subject, **settings):
    plan = make_plan(["explain.recourse"], {"explain.recourse": {**SETTINGS, **settings}})
    return run_step(subject, plan.steps[0], seed=2)


def found(outcome, name, group=None):
    where = {} if group is None else {"sex": group}
    (one,) = [m for m in outcome.measurements if m.name == name and dict(m.slice) == where]
    return one


def test_the_cost_of_a_line_is_its_distance_and_the_penalised_group_pays_more():
    subject = subject_of(Line(0.8))
    outcome = outcome_of(subject, max_rows=10_000)
    table, sex = subject.test.inputs, subject.test.sensitive["sex"]
    need = -Line(0.8).margin(table)
    for group in ("F", "M"):
        own = (sex == group) & (need >= 0)
        # Who needs more than the largest income seen has no recourse.
        reach = need[own] <= table["income"].max() - table["income"].to_numpy()[own]
        assert found(outcome, "explain.recourse_share", group).value == pytest.approx(reach.mean())
        cost = np.where(reach, need[own], np.inf)
        assert found(outcome, "explain.recourse_cost", group).value == pytest.approx(np.median(cost), abs=1e-3)
    gap = found(outcome, "explain.recourse_cost.difference")
    assert gap.over == ("sex",)
    assert gap.interval.low > 0.2
    assert gap.unit == "standard deviations"


def test_the_twin_is_quiet():
    outcome = outcome_of(subject_of(Line(0.0)), max_rows=10_000)
    gap = found(outcome, "explain.recourse_cost.difference")
    assert gap.interval.low == 0.0
    assert found(outcome, "explain.recourse_share.difference").interval.low == 0.0


def test_a_rule_on_the_gap_in_cost():
    import auditkit

    rule = {"id": "recourse", "metric": "explain.recourse_cost", "compare": "difference", "over": ["sex"], "max": 0.5}
    states = {}
    for penalty in (1.2, 0.0):
        subject = subject_of(Line(penalty), n=900)
        report = auditkit.audit(
            Line(penalty), subject.test.inputs, Line(penalty).predict(subject.test.inputs), positive="yes",
            sensitive=pd.DataFrame(subject.test.sensitive), schema={"card": {"immutable": True}},
            analyzers={"explain.recourse": {"max_rows": 10_000}}, progress=False,
        )  # fmt: skip
        states[penalty] = report.gate({"version": 1, "rule": [rule]}).state
    assert states == {1.2: "fail", 0.0: "pass"}


def test_a_category_that_may_change_is_changed_where_that_is_cheaper():
    outcome = outcome_of(subject_of(Line(3.0), schema={"card": {"scale": 0.5}, "income": {"unit": "thousand"}}))
    table = next(a for a in outcome.artifacts if a.name == "explain.recourse.features")
    rows = {row[0]: row for row in table.rows}
    assert rows["card"][5] == "none"
    assert rows["income"][2] == 1.0
    assert rows["income"][4] == "thousand"
    assert found(outcome, "explain.recourse_cost").unit == "units of cost"
    assert found(outcome, "explain.recourse_share").value == 1.0


def test_what_may_not_change_is_said_and_a_table_that_is_all_held_does_not_apply():
    subject = subject_of(Line(0.5), schema={"card": {"immutable": True}, "income": {"moves": "up"}})
    outcome = outcome_of(subject)
    assert any("Held: card." in note for note in outcome.notes)
    assert any("income may only rise" in note for note in outcome.notes)
    held = subject_of(Line(0.5), schema={"card": {"immutable": True}, "income": {"immutable": True}})
    outcome = outcome_of(held)
    assert outcome.status == "not_applicable"
    assert "AK541" in outcome.reason
    assert any("holds no column as immutable" in note for note in outcome_of(subject_of(Line(0.5), schema={})).notes)


@pytest.mark.parametrize("moves", ["up", "any"])
def test_a_category_with_a_direction_leaves_the_other_ways_open(moves):
    """Giving up a degree would do, but degrees only rise: every row has the dearer way of more income."""

    class Either:
        classes_ = np.array(["no", "yes"])

        def fit(self, table, y):
            return self

        def predict(self, table):
            return self.classes_[(~table["degree"] | (table["income"] > 9.0)).astype(int)]

    rng = np.random.default_rng(0)
    table = pd.DataFrame({"income": rng.uniform(0, 10, 200), "degree": rng.random(200) < 0.5})
    y = Either().predict(table)
    subject = make_subject(Either(), table, y, positive="yes", schema={"degree": {"moves": moves}})
    outcome = outcome_of(subject)
    assert found(outcome, "explain.recourse_share").value == 1.0
    assert not any("did not hold" in note for note in outcome.notes)
    away = (9.0 - table["income"][y == "no"]) / table["income"].std(ddof=0)
    cost = np.median(away if moves == "up" else np.minimum(away, 1.0))
    assert found(outcome, "explain.recourse_cost").value == pytest.approx(cost, abs=1e-3)


def test_rows_without_recourse_are_counted_and_make_the_median_undefined():
    falling = {"card": {"immutable": True}, "income": {"moves": "down"}}
    outcome = outcome_of(subject_of(Line(0.5), schema=falling))
    share, cost = found(outcome, "explain.recourse_share"), found(outcome, "explain.recourse_cost")
    assert share.value == 0.0
    assert share.interval.high > 0.0
    assert cost.value is None
    assert "no change was found" in cost.reason
    assert found(outcome, "explain.recourse_cost.difference").value is None


def test_what_does_not_hold_when_asked_again_counts_as_none():
    class Known(Line):
        """Decides by its scores on the rows it knows, and never approves another."""

        known: frozenset = frozenset()

        def predict(self, table):
            plain = super().predict(table)
            if not self.known:
                return plain
            return np.where([value in self.known for value in table["income"]], plain, "no")

    model = Known(0.5)
    subject = subject_of(model)
    model.known = frozenset(subject.test.inputs["income"])
    outcome = outcome_of(subject)
    assert found(outcome, "explain.recourse_share").value == 0.0
    assert any("did not hold when checked again" in note for note in outcome.notes)


def test_the_class_wanted():
    subject = subject_of(Line(0.5))
    assert found(outcome_of(subject, target="no"), "explain.recourse_share").value > 0.9
    wrong = outcome_of(subject, target="maybe")
    assert wrong.status == "failed"
    assert "AK652" in wrong.reason
    nobody = dataclasses.replace(subject, test=subject.test.take(np.flatnonzero(subject.test.y == 1)))
    assert "AK651" in outcome_of(nobody).reason

    class Three(Line):
        classes_ = np.array(["no", "perhaps", "yes"])

        def predict_proba(self, table):
            two = super().predict_proba(table)
            return np.column_stack([0.6 * two[:, 0], 0.4 * two[:, 0], two[:, 1]])

        def predict(self, table):
            return self.classes_[self.predict_proba(table).argmax(axis=1)]

    table, sex = applicants()
    y = Three(0.5).predict(table)
    y[:3] = ["no", "perhaps", "yes"]
    several = make_subject(Three(0.5), table, y, sensitive=pd.DataFrame({"sex": sex}))
    assert "AK653" in outcome_of(several).reason
    assert found(outcome_of(several, target="yes"), "explain.recourse_share").value > 0.9


def test_a_model_of_labels_alone():
    class Labels(Line):
        predict_proba = property()

    outcome = outcome_of(subject_of(Labels(0.8)), max_rows=60)
    assert found(outcome, "explain.recourse_share").value > 0.9


def test_the_curve_is_the_share_within_a_cost_and_shows_no_row():
    subject = subject_of(Line(0.8))
    outcome = outcome_of(subject, max_rows=10_000)
    (curve,) = [a for a in outcome.artifacts if a.kind == "curve"]
    assert [series.name for series in curve.series] == ["all rows", "sex: F", "sex: M"]
    table = subject.test.inputs
    need = -Line(0.8).margin(table)
    own = (subject.test.sensitive["sex"] == "F") & (need >= 0)
    reach = need[own] <= table["income"].max() - table["income"].to_numpy()[own]
    cost = np.where(reach, need[own], np.inf)
    line = curve.series[1]
    assert np.allclose(line.y, [(cost <= x - 1e-3).mean() for x in line.x], atol=0.02)
    assert np.allclose(np.diff(line.x), line.x[1])
