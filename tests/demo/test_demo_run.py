"""Each planted fault makes its rule fail, and the clean twin keeps every rule quiet."""

import dataclasses
import subprocess
import sys
import tomllib

import pytest

from auditkit.api import audit_subject, load_report
from auditkit.core.plan import make_plan
from auditkit.core.registry import discover, load
from auditkit.demo.loan import loan_splits
from auditkit.demo.run import N_TEST, N_TRAIN, REDUCED, demo_plan, demo_subject, policy_tables, policy_text

FAULTS = {"labels-by-sex", "selection-by-sex", "selection-gap-by-sex", "proxy-for-sex", "groups-are-represented"}
LEAKS = {"known-in-time", "no-single-feature"}
LIGHT = {"data.quality": {}, "fairness.groups": {"cross_check": False}, "explain.shap": {"max_rows": 40}}


def states(*, clean=False, leak=False):
    """Rule -> state for the rules on planted faults, by the analyzers that they need."""
    train, test = loan_splits(2000, 5000, seed=1, clean=clean, leak=leak)
    policy = policy_tables(policy_text("boosted"))
    policy["rule"] = [rule for rule in policy["rule"] if rule["id"] in FAULTS | LEAKS]
    subject = demo_subject("boosted", train, test, seed=1)
    report = audit_subject(subject, plan=make_plan(tuple(LIGHT), LIGHT), policy=policy)
    assert not report.evidence.unmeasured()
    return {result.id: result.state for result in report.gate(as_of=report.evidence.as_of).results}


def test_every_planted_fault_fails_its_rule_and_the_leak_is_not_seen_where_there_is_none():
    found = states()
    assert {rule for rule, state in found.items() if state == "fail"} == FAULTS
    assert {found[rule] for rule in LEAKS} == {"pass"}


def test_the_leak_is_found_when_it_is_switched_on():
    assert {rule for rule, state in states(leak=True).items() if state == "fail"} == FAULTS | LEAKS


def test_the_clean_twin_keeps_every_rule_quiet():
    assert set(states(clean=True).values()) == {"pass"}


@pytest.mark.parametrize("kind", ["boosted", "mlp"])
def test_every_rule_names_a_measured_quantity_and_its_reason(kind):
    known = {name for point in discover() for name in load(point).measures}
    text = policy_text(kind)
    rules = tomllib.loads(text)["rule"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["metric"] in known, rule["id"]
        assert rule["reason"], rule["id"]


@pytest.mark.parametrize("kind", ["boosted", "mlp"])
def test_the_plan_says_that_it_is_reduced(kind):
    plan = demo_plan(kind)
    assert plan.reduced == REDUCED
    assert all(step.fault is None for step in plan.steps)


def test_the_networks_table_is_numbers_fitted_on_the_training_rows_alone():
    train, test = loan_splits(400, 300, seed=0)
    subject = demo_subject("mlp", train, test)
    odd = dataclasses.replace(test, inputs=test.inputs.assign(housing="castle"))
    again = demo_subject("mlp", train, odd)
    columns = [name for name in again.test.inputs.columns if name.startswith("housing=")]
    assert columns == ["housing=mortgage", "housing=own", "housing=rent", "housing=missing"]
    assert not again.test.inputs[columns].to_numpy().any()
    assert not subject.test.inputs.isna().to_numpy().any()
    assert subject.model.fingerprint == again.model.fingerprint


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code"), [((), 1), (("--clean",), 0), (("--leak",), 1)])
def test_the_whole_demo(tmp_path, words, code):
    done = subprocess.run(
        [sys.executable, "-m", "auditkit.cli.main", "demo", "--out", str(tmp_path / "out"), *words],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for folder in (tmp_path / "out", tmp_path / "out" / "mlp"):
        report = load_report(folder / "evidence.json")
        assert not report.evidence.unmeasured()
        verdict = report.gate(folder / "audit.toml")
        assert verdict.exit_code == code, verdict.summary
        unsure = {result.id for result in verdict.results if result.state not in ("pass", "fail")}
        assert unsure <= ({"bears-noise"} if "--leak" in words else set())  # a leaked column that goes missing
        failed = {result.id for result in verdict.results if result.state == "fail"}
        expected = set() if "--clean" in words else FAULTS | (LEAKS if "--leak" in words else set())
        assert failed == expected
    assert (N_TRAIN, N_TEST) == (3000, 6000)
