"""Broken inputs: none of them may exit 0."""

from __future__ import annotations

import json

import numpy as np
import pytest

from auditkit.cli.main import main
from auditkit.core.evidence import Interval, Measurement, Outcome
from auditkit.core.schema import dumps, to_document

FAIR = {"F": (2000, 4000), "M": (2000, 4000)}
WAIVER = '[[waiver]]\nrule = "{}"\nowner = "a@b"\nreason = "known"\nticket = "T"\nexpires = {}\n'


def run_gate(folder, evidence, policy, *more):
    """The exit code of ``auditkit gate`` in this process."""
    source, target = folder / "evidence.json", folder / "audit.toml"
    source.write_bytes(evidence if isinstance(evidence, bytes) else evidence.encode())
    args = ["gate", str(source), "--as-of", "2026-06-01", *more]
    if policy is not None:
        target.write_bytes(policy if isinstance(policy, bytes) else policy.encode())
        args += ["--policy", str(target)]
    with pytest.raises(SystemExit) as left:
        main(args)
    return left.value.code


def test_the_intact_twin_of_every_case_below_exits_0(kit, tmp_path):
    assert run_gate(tmp_path, dumps(kit.evidence(*kit.selected(**FAIR))), kit.rule()) == 0


def value(name="robustness.accuracy", **keys):
    base = {"value": 0.9, "n": 100, "interval": Interval(low=0.85, high=0.95, level=0.95, method="m")}
    return Measurement(name=name, **{**base, **keys})


ROBUST = {"metric": "robustness.accuracy", "compare": "value", "over": None, "min": 0.5}
WORSE = {"compare": "difference", "min": None, "max": 0.1}

# What is wrong -> (policy text from the rule maker, exit code, words the reader must see)
POLICIES = {
    "no rules": (lambda r: "[defaults]\nconfidence = 0.95\n", 3, "There are no rules"),
    "empty rule list": (lambda r: "rule = []\n", 3, "There are no rules"),
    "empty file": (lambda r: "", 2, "holds no policy"),
    "only other sections": (lambda r: "[model]\npath = 'x'\n", 2, "holds no policy"),
    "not toml": (lambda r: "[[rule\n", 2, "cannot be read as TOML"),
    "not utf-8": (lambda r: b"\xff\xfe\x00[[rule]]", 2, "cannot be read as TOML"),
    "rules for rule": (lambda r: r().replace("[[rule]]", "[[rules]]") + "[groups]\n", 2, "did you mean 'rule'"),
    "typo in a key": (lambda r: r().replace("min", "mni"), 2, "did you mean 'min'"),
    "typo in compare": (lambda r: r(compare="ratios"), 2, "'ratio'"),
    "no limit": (lambda r: r(min=None), 2, "needs a limit"),
    "limit as words": (lambda r: r(min="high"), 2, "valid number"),
    "limit in percent": (lambda r: r(min=80), 2, "above 0 and at most 1"),
    "ratio limited from above": (lambda r: r(min=None, max=1.0), 2, "limited by min"),
    "difference limited from below": (lambda r: r(compare="difference", min=0.0), 2, "limited by max"),
    "same id twice": (lambda r: r() + r(), 2, "used twice"),
    "confidence 0": (lambda r: r(confidence=0.0), 2, "greater than 0.5"),
    "unknown version": (lambda r: "version = 9\n" + r(), 2, "version = 1"),
    "metric misspelt": (lambda r: r(metric="fairness.selecton_rate"), 2, "did you mean 'fairness.selection_rate'"),
    "metric of another library": (lambda r: r(metric="demographic_parity"), 2, "no analyzer measures"),
    "column misspelt": (lambda r: r(over=["sx"]), 3, "did you mean 'sex'"),
    "column absent": (lambda r: r(over=["age"]), 3, "no sensitive column 'age'"),
    "group absent in where": (lambda r: r(**WORSE, over=["race"], where={"sex": "X"}), 3, "no rows match where"),
    "reference is no group": (lambda r: r(reference="male"), 3, "the reference 'male' is not a group"),
    "rates both zero": (lambda r: r(metric="zero"), 2, "no analyzer measures"),
    "params of no metric": (lambda r: r(params={"eps": 1}), 3, "has no param 'eps'"),
    "class absent": (lambda r: r(params={"class": "perhaps"}), 3, "there is no class 'perhaps'"),
    "value of equalized odds": (lambda r: r(metric="equalized_odds", compare="value"), 3, "is a disparity"),
    "baseline without one": (lambda r: r(min=None, baseline="b", max_increase=0.1), 2, "'b' cannot be read"),
    "analyzer not run": (lambda r: r(**{**ROBUST, "metric": "privacy.epsilon"}), 3, "--only privacy"),
    "all groups too small": (lambda r: r(small="exclude", min_n=9999), 3, "left out as smaller"),
    "crossing not counted": (lambda r: r(over=["sex", "race", "site"]), 3, "was not counted"),
    "optional alone": (lambda r: r(**{**ROBUST, "optional": True}), 3, "No rule could be counted"),
    "warning in error": (lambda r: r(level="warning", over=["age"]), 3, "no sensitive column"),
    "waiver of no rule": (lambda r: r() + WAIVER.format("rr", "2026-07-01"), 3, "does not exist"),
    "waiver expired": (lambda r: r() + WAIVER.format("r", "2026-05-01"), 3, "expired on"),
    "waiver too long": (lambda r: r() + WAIVER.format("r", "2027-05-01"), 3, "at most 180"),
    "waiver without an owner": (lambda r: r() + WAIVER.format("r", "2026-07-01").replace("a@b", ""), 2, "owner"),
    "waiver without an end": (lambda r: r() + WAIVER.format("r", "2026-07-01").split("expires")[0], 2, "required"),
    "waiver of an absent group": (
        lambda r: r() + WAIVER.format("r", "2026-07-01") + 'groups = ["sex=Z"]\n',
        3,
        "which no comparison of the rule has",
    ),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_broken_policy_never_exits_0(kit, tmp_path, capsys, name):
    make, code, words = POLICIES[name]
    y, p, groups = kit.selected(**FAIR)
    groups = {**groups, "race": np.tile(["a", "b"], len(y) // 2), "site": np.tile(["1", "2"], len(y) // 2)}
    assert run_gate(tmp_path, dumps(kit.evidence(y, p, groups)), make(kit.rule)) == code
    shown = " ".join(capsys.readouterr().err.split())
    assert words in shown


def plain_json(kit, change):
    document = to_document(kit.evidence(*kit.selected(**FAIR)))
    change(document)
    return json.dumps(document)


def damaged(kit):
    return dumps(kit.evidence(*kit.selected(**FAIR)))


FILES = {
    "empty file": (lambda kit: "", "AK110"),
    "not json": (lambda kit: "{", "AK110"),
    "html": (lambda kit: "<html>", "AK110"),
    "binary": (lambda kit: b"\x80\x04\x95", "AK110"),
    "a list": (lambda kit: "[]", "AK111"),
    "no schema": (lambda kit: "{}", "AK111"),
    "newer schema": (lambda kit: plain_json(kit, lambda d: d.update(schema="auditkit-evidence/9")), "AK111"),
    "NaN": (lambda kit: damaged(kit).replace("4000", "NaN", 1), "AK110"),
    "cut short": (lambda kit: damaged(kit)[:-40], "AK110"),
    "edited": (lambda kit: damaged(kit).replace("2000", "2001", 1).replace("1000", "1001", 1), "AK113"),
    "cells missing": (lambda kit: plain_json(kit, lambda d: d["outcomes"][0]["artifacts"][1].pop("n")), "AK112"),
    "unknown field": (lambda kit: plain_json(kit, lambda d: d.update(outcomes=3)), "AK112"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_evidence_file_exits_2(kit, tmp_path, capsys, name):
    make, code = FILES[name]
    assert run_gate(tmp_path, make(kit), kit.rule()) == 2
    assert code in capsys.readouterr().err


def test_files_that_are_not_there(kit, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["gate", str(tmp_path / "none.json")])
    assert left.value.code == 2
    assert "AK411 the evidence cannot be read" in capsys.readouterr().err
    evidence = dumps(kit.evidence(*kit.selected(**FAIR)))
    assert run_gate(tmp_path, evidence, None, "--policy", str(tmp_path / "none.toml")) == 2
    assert "AK412" in capsys.readouterr().err
    assert run_gate(tmp_path, evidence, None) == 2
    assert "AK413 there is no policy to judge by" in capsys.readouterr().err


def no_positives(y, p, groups):
    return np.where(groups["sex"] == "F", 0, y), p, groups


# Rows or records that leave a rule nothing sound to stand on -> (evidence, rule)
EVIDENCE = {
    "a group without positive labels": (
        lambda k: k.evidence(*no_positives(*k.selected(**FAIR))),
        {"metric": "true_positive_rate"},
    ),
    "a group without negative decisions": (
        lambda k: k.evidence(*k.selected(F=(400, 400), M=(300, 400))),
        {"metric": "negative_predictive_value"},
    ),
    "nobody selected": (lambda k: k.evidence(*k.selected(F=(0, 400), M=(0, 400))), {}),
    "one group only": (lambda k: k.evidence(*k.selected(F=(200, 400))), {}),
    "one row": (lambda k: k.evidence(*k.selected(F=(1, 1))), {}),
    "one row a group": (lambda k: k.evidence(*k.selected(F=(1, 1), M=(1, 1))), {}),
    "one cluster": (lambda k: k.evidence(*k.selected(**FAIR), clusters=np.zeros(8000, dtype=int)), {}),
    "no sensitive columns": (lambda k: k.evidence(*k.selected(**FAIR)[:2], {}), {}),
    "redacted copy": (lambda k: k.replace(k.evidence(*k.selected(**FAIR)), redacted=True), {}),
    "fairness crashed": (lambda k: k.evidence(*k.selected(**FAIR), status="failed", reason="AK300 boom"), {}),
    "fairness skipped": (lambda k: k.evidence(*k.selected(**FAIR), status="skipped", reason="deadline"), {}),
    "fairness not applicable": (lambda k: k.evidence(*k.selected(**FAIR), status="not_applicable", reason="x"), {}),
    "another analyzer crashed": (
        lambda k: k.evidence(
            *k.selected(**FAIR), others=[Outcome(analyzer="a.b", version="1", status="failed", reason="boom")]
        ),
        {},
    ),
    "value missing": (
        lambda k: k.evidence(*k.selected(**FAIR), measurements=[value(value=None, interval=None, reason="no data")]),
        ROBUST,
    ),
    "value without an interval": (
        lambda k: k.evidence(*k.selected(**FAIR), measurements=[value(interval=None, reason="not computed")]),
        ROBUST,
    ),
    "value unreliable": (
        lambda k: k.evidence(*k.selected(**FAIR), measurements=[value(unreliable="the attack did not converge")]),
        ROBUST,
    ),
    "a rate marked unreliable": (
        lambda k: k.evidence(
            *k.selected(**FAIR), measurements=[value("fairness.selection_rate", unreliable="disagrees")]
        ),
        {},
    ),
    "one of several values missing": (
        lambda k: k.evidence(
            *k.selected(**FAIR),
            measurements=[
                value(params={"eps": 0.1}),
                value(params={"eps": 0.2}, value=None, interval=None, reason="crashed"),
            ],
        ),
        ROBUST,
    ),
}


@pytest.mark.parametrize("name", EVIDENCE)
def test_evidence_that_cannot_carry_the_rule_never_exits_0(kit, tmp_path, capsys, name):
    make, keys = EVIDENCE[name]
    code = run_gate(tmp_path, dumps(make(kit)), kit.rule(**keys))
    shown = capsys.readouterr()
    assert code == (4 if name == "one row a group" else 3), shown.err
    assert shown.out.strip() in ("error", "inconclusive")


def test_an_exit_code_of_this_table_is_checked_for_at_least_60_inputs():
    assert len(POLICIES) + len(FILES) + len(EVIDENCE) >= 60
