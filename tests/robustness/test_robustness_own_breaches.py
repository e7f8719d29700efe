"""Rows that break a rule or leave the bounds before any change: attacked like the others, and told."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from auditkit.analyzers.robustness.adversarial import ANALYZER, AdversarialParams
from auditkit.analyzers.robustness.feasible import ANALYZER as FEASIBLE
from auditkit.analyzers.robustness.feasible import FeasibleParams
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject

RUNS = [
    (ANALYZER, AdversarialParams(eps=(2.0,), hopskipjump_rows=0)),
    (FEASIBLE, FeasibleParams(costs=(4.0,), rounds=3)),
]
NAMES = {"robustness.adversarial": "robustness.accuracy", "robustness.feasible": "robustness.feasible_accuracy"}


def table(n=80):
    """Paid at most what is owed, which the second half of the rows breaks; the decision rests on both."""
    rng = np.random.default_rng(0)
    owed = rng.uniform(2.0, 4.0, n)
    paid = owed + np.where(np.arange(n) < n // 2, -1.0, 1.0) * rng.uniform(0.1, 1.0, n)
    return pd.DataFrame({"owed": owed, "paid": paid})


def audited(analyzer, params, frame, **schema):
    y = (frame["owed"] + frame["paid"] > 6.0).astype(int)
    model = LogisticRegression(C=100.0).fit(frame, y)
    group = np.where(frame["paid"] > frame["owed"], "broken", "kept")
    subject = make_subject(model, frame, y, positive=1, sensitive={"rule": group}, **schema)
    outcome = run_step(subject, Step(name=analyzer.name, params=params, analyzer=analyzer))
    assert outcome.status == "measured", outcome.reason
    return outcome


def accuracy(outcome, **where):
    name = NAMES[outcome.analyzer]
    (found,) = [m.value for m in outcome.measurements if m.name == name and dict(m.slice) == where]
    return found


@pytest.mark.parametrize(("analyzer", "params"), RUNS, ids=lambda part: getattr(part, "name", ""))
def test_a_row_that_breaks_its_own_rule_is_attacked_and_told(analyzer, params):
    frame = table()
    outcome = audited(analyzer, params, frame, constraints=["paid <= owed"])
    told = [note for note in outcome.notes if "break a rule" in note]
    assert told == [
        "40 of 80 rows break a rule of the schema (paid <= owed) as they are: it need only not be broken further. They "
        "are attacked like the others."
    ]
    # Both columns may fall together, so that every row on the upper side has a change that breaks the rule no further.
    assert accuracy(outcome, rule="broken") < 0.2
    quiet = audited(analyzer, params, frame, constraints=["paid <= 3*owed"])
    assert not [note for note in quiet.notes if "as they are" in note]


@pytest.mark.parametrize(("analyzer", "params"), RUNS, ids=lambda part: getattr(part, "name", ""))
def test_a_row_outside_the_bounds_is_attacked_and_told(analyzer, params):
    frame = table()
    outcome = audited(analyzer, params, frame, schema={"owed": {"low": 2.5}})
    count = int((frame["owed"] < 2.5).sum())
    assert any(
        note.startswith(f"{count} of 80 rows leave the bounds of a column as they are") for note in outcome.notes
    )
    assert accuracy(outcome) < 0.5


def test_what_eps_stands_for_is_told_in_the_units_of_each_column():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"income": rng.normal(0, 20, 100), "children": rng.integers(0, 4, 100), "sex": ["f", "m"] * 50}
    )
    y = (frame["income"] > 0).astype(int)
    kept = make_column_transformer(("passthrough", ["income", "children"]))
    model = make_pipeline(kept, LogisticRegression()).fit(frame, y)
    subject = make_subject(
        model,
        frame,
        y,
        positive=1,
        sensitive=["sex"],
        schema={"income": {"unit": "EUR"}, "children": {"scale": 1.5}},
    )
    params = AdversarialParams(eps=(0.5, 1.0), hopskipjump_rows=0)
    outcome = run_step(subject, Step(name=ANALYZER.name, params=params, analyzer=ANALYZER))
    (shown,) = [a for a in outcome.artifacts if a.name == "robustness.adversarial.units"]
    spread = float(frame["income"].std(ddof=0))
    assert [row[0] for row in shown.rows] == ["income", "children"]
    assert shown.rows[0][1:3] == pytest.approx((0.5 * spread, spread), rel=1e-3)
    assert shown.rows[0][3] == "EUR"
    # One and a half of a child is one; three quarters of one is none.
    assert shown.rows[1][1:] == (0.0, 1.0, "as in the table")


def test_a_group_below_the_limit_has_no_line_in_the_chart():
    frame = table()
    y = (frame["owed"] + frame["paid"] > 6.0).astype(int)
    groups = {"site": np.array(["only"] + ["a", "b"] * 39 + ["a"])}
    subject = make_subject(LogisticRegression().fit(frame, y), frame, y, positive=1, sensitive=groups)
    params = AdversarialParams(eps=(0.5,), hopskipjump_rows=0, min_group_rows=5)
    outcome = run_step(subject, Step(name=ANALYZER.name, params=params, analyzer=ANALYZER))
    (chart,) = [a for a in outcome.artifacts if a.name == "robustness.accuracy_by_eps"]
    assert [series.name for series in chart.series] == ["all rows", "site: a", "site: b"]
    assert {dict(m.slice).get("site") for m in outcome.measurements} == {None, "a", "b"}
