"""What `print` shows of a record: a line or a few, never the whole of it."""

import numpy as np
import pytest

from auditkit.core.attribution import Attribution
from auditkit.core.evidence import Evidence, Interval, Measurement, Outcome, PlanFacts
from auditkit.core.printable import printable
from auditkit.core.verdict import Comparison, GateFailed, RuleResult, Verdict
from auditkit.report import Report
from subject_zoo import facts


def _evidence(name="model", numbers=3):
    measured = [Measurement(name="x.y", value=0.5, n=7, params={"i": i}) for i in range(numbers)]
    outcomes = (
        Outcome(analyzer="x", version="1", status="measured", measurements=measured),
        Outcome(analyzer="z", version="1", status="failed", reason="it crashed"),
    )
    return Evidence(subject=facts(name), plan=PlanFacts(seed=0, analyzers=()), outcomes=outcomes, digest="sha256:12")


def test_a_report_and_its_evidence_say_what_they_hold_in_a_line():
    evidence = _evidence(numbers=1200)
    told = "'model', 1,200 numbers of 2 analyzers (1 measured, 1 failed)"
    assert str(Report(evidence)).startswith(f"<Report: {told}; .table()")
    assert repr(evidence) == f"<Evidence: {told}, sha256:12>"
    assert [repr(each) for each in evidence.outcomes] == [
        "<Outcome of x: measured, 1,200 numbers>",
        "<Outcome of z: failed: it crashed>",
    ]


def test_hostile_names_cannot_command_the_terminal():
    hostile = "\x1b[2J\n\u202e"
    outcome = Outcome(analyzer=hostile, version="1", status="failed", reason=hostile)
    rule = RuleResult(id=hostile, metric="x.y", compare="value", limit="<= 0.1", state="fail", message=hostile)
    verdict = Verdict(state="fail", exit_code=1, results=(rule,), summary=hostile, as_of="2026-01-01")
    printed = [
        repr(Report(_evidence(hostile))),
        str(Measurement(name="a.b", value=1.0, slice={hostile: hostile})),
        repr(outcome),
        repr(verdict),
        *str(verdict).split("\n"),
    ]
    assert len(printed) == 6
    assert all(text.isprintable() for text in printed)
    assert printable(hostile, lines=True) == "\\x1b[2J\n\\u202e"


def test_a_verdict_prints_every_rule():
    found = Comparison(label="all rows", state="fail", value=0.3, message="m")
    rules = tuple(
        RuleResult(
            id=f"r{i}",
            metric="x.y",
            compare="value",
            limit="<= 0.1",
            state=state,
            message=f"found {i}",
            comparisons=(found,),
        )
        for i, state in enumerate(("pass", "fail", "error"))
    )
    verdict = Verdict(state="fail", exit_code=1, results=rules, summary="3 rules: 1 failed", as_of="2026-01-01")
    assert repr(verdict) == "<Verdict: FAIL (exit code 1): 3 rules: 1 failed>"
    lines = str(verdict).splitlines()
    assert lines[0] == "FAIL (exit code 1): 3 rules: 1 failed"
    assert [line.split() for line in lines[1:]] == [
        ["pass", "r0:", "found", "0"],
        ["fail", "r1:", "found", "1"],
        ["error", "r2:", "found", "2"],
    ]
    with pytest.raises(GateFailed) as stopped:
        verdict.raise_for_status()
    assert str(stopped.value).splitlines() == [lines[0], *lines[2:]]


@pytest.mark.parametrize(
    ("measurement", "printed"),
    [
        (
            Measurement(
                name="fairness.selection_rate",
                value=0.29783,
                n=3972,
                interval=Interval(low=0.28361, high=0.3122, method="m"),
                slice={"sex": "F"},
            ),
            "fairness.selection_rate|sex=F: 0.2978 [0.2836, 0.3122] at 95 % (n = 3,972)",
        ),
        (Measurement(name="a.b", value=None, reason="no rows"), "a.b: no value; no rows"),
        (Measurement(name="a.b", value=0.99996, n=3, bounds=(0.0, 1.0)), "a.b: 0.99996 (n = 3)"),
        (
            Measurement(
                name="a.b", value=99999.6, interval=Interval(low=99999.4, high=99999.8, method="m", level=0.999999)
            ),
            "a.b: 99999.6 [99999.4, 99999.8] at 99.9999 %",
        ),
        (
            Measurement(name="a.b", value=12.5, n=3, n_of="runs", unit="s", reason="exact", unreliable="it moved"),
            "a.b: 12.5 s (n = 3 runs); exact; unreliable: it moved",
        ),
    ],
)
def test_a_measurement_prints_its_number_with_what_it_rests_on(measurement, printed):
    assert str(measurement) == printed
    assert repr(measurement).startswith("Measurement(name=")


def test_an_attribution_prints_its_shape_and_status():
    values = np.zeros((20, 8, 8, 3))
    shown = Attribution(
        values=values,
        prediction=np.zeros((20, 3)),
        method="occlusion",
        output_space="logit",
        output_names=("a", "b", "c"),
        status="failed",
        diagnostics={"completeness_delta": 0.25},
        reason="it misses 0.25",
    )
    assert repr(shown) == (
        "<Attribution by occlusion: values 20 x 8 x 8 x 3 (logit); failed, completeness_delta 0.25; it misses 0.25>"
    )
