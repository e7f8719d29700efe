from __future__ import annotations

import json
import os
import subprocess
import sys

from auditkit.core.evidence import Outcome
from auditkit.core.schema import dumps
from auditkit.render.gitlab import render_gitlab
from auditkit.render.sarif import render_sarif

FAIR, UNFAIR = {"F": (2000, 4000), "M": (2000, 4000)}, {"F": (1000, 4000), "M": (2000, 4000)}
WAIVER = '[[waiver]]\nrule = "w"\nowner = "a@b"\nreason = "known"\nticket = "T"\nexpires = 2026-07-01\n'


def every_state(kit):
    text = (
        kit.rule(id="p", min=0.1)
        + kit.rule(id="f")
        + kit.rule(id="i", min=0.5)
        + kit.rule(id="e", over=["age"])
        + kit.rule(id="w")
        + kit.rule(id="soft", level="warning")
        + WAIVER
    )
    return kit.judge(kit.evidence(*kit.selected(**UNFAIR)), text)


def test_sarif_has_a_result_a_rule_with_kind_level_and_line(kit):
    document = json.loads(render_sarif(every_state(kit), "conf dir/audit.toml"))
    (run,) = document["runs"]
    assert document["version"] == "2.1.0"
    found = {r["ruleId"]: (r["kind"], r["level"]) for r in run["results"]}
    assert found == {
        "p": ("pass", "none"),
        "f": ("fail", "error"),
        "i": ("open", "none"),
        "e": ("fail", "error"),
        "w": ("fail", "error"),
        "soft": ("fail", "warning"),
    }
    for index, result in enumerate(run["results"]):
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["ruleIndex"] == index
        assert ("suppressions" in result) == (result["ruleId"] == "w")
        # A level other than none is allowed for kind fail alone (SARIF 2.1.0, 3.27.10).
        assert (result["level"] == "none") == (result["kind"] != "fail")
    second = run["results"][1]["locations"][0]["physicalLocation"]
    assert second == {"artifactLocation": {"uri": "conf%20dir/audit.toml"}, "region": {"startLine": 7}}
    assert len({r["partialFingerprints"]["auditkitRule/v1"] for r in run["results"]}) == 6
    assert run["invocations"][0]["executionSuccessful"] is False  # a rule is in error


def test_gitlab_has_an_issue_for_each_rule_that_does_not_pass(kit):
    issues = json.loads(render_gitlab(every_state(kit), "audit.toml"))
    assert [(i["severity"], i["description"].split(":")[0]) for i in issues] == [
        ("critical", "f fail"),
        ("major", "i inconclusive"),
        ("blocker", "e error"),
        ("info", "w waived"),
        ("minor", "soft fail"),
    ]
    assert issues[0]["location"] == {"path": "audit.toml", "lines": {"begin": 7}}
    assert len({i["fingerprint"] for i in issues}) == 5


def test_a_pass_is_clean_and_what_could_not_be_measured_is_not(kit):
    evidence = kit.evidence(*kit.selected(**FAIR))
    clean = kit.judge(evidence, kit.rule())
    assert json.loads(render_gitlab(clean)) == []
    (run,) = json.loads(render_sarif(clean))["runs"]
    assert run["invocations"][0] == {"executionSuccessful": True, "exitCode": 0, "toolExecutionNotifications": []}
    crashed = [Outcome(analyzer=f"a.{x}", version="1", status="failed", reason="boom") for x in "bc"]
    broken = kit.judge(kit.evidence(*kit.selected(**FAIR), others=crashed), kit.rule())
    issues = json.loads(render_gitlab(broken))
    assert [issue["severity"] for issue in issues] == ["blocker", "blocker"]
    assert len({issue["fingerprint"] for issue in issues}) == 2
    (run,) = json.loads(render_sarif(broken))["runs"]
    told = run["invocations"][0]["toolExecutionNotifications"]
    assert [each["message"]["text"] for each in told] == ["a.b failed: boom", "a.c failed: boom"]
    empty = kit.judge(evidence, "[groups]\n")
    assert json.loads(render_gitlab(empty))[0]["severity"] == "blocker"
    assert json.loads(render_sarif(empty))["runs"][0]["invocations"][0]["toolExecutionNotifications"]


def test_the_command_writes_both(kit, tmp_path):
    (tmp_path / "audit.toml").write_text(kit.rule())
    (tmp_path / "e.json").write_text(dumps(kit.evidence(*kit.selected(**UNFAIR))))
    run = subprocess.run(
        [sys.executable, "-m", "auditkit.cli.main", "gate", "e.json", "--policy", "audit.toml", "--quiet",
         "--output", "sarif=s.json,gitlab=g.json"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={**os.environ, "GITHUB_WORKSPACE": ""},
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (1, "fail\n"), run.stderr
    assert json.loads((tmp_path / "g.json").read_text())[0]["location"]["path"] == "audit.toml"
    (only,) = json.loads((tmp_path / "s.json").read_text())["runs"][0]["results"]
    assert only["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "audit.toml"
