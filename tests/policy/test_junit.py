from __future__ import annotations

from xml.etree import ElementTree

from auditkit.core.evidence import Outcome
from auditkit.render.junit import render_junit

FAIR, UNFAIR = {"F": (2000, 4000), "M": (2000, 4000)}, {"F": (1000, 4000), "M": (2000, 4000)}
WAIVER = '[[waiver]]\nrule = "w"\nowner = "a@b"\nreason = "known"\nticket = "T"\nexpires = 2026-07-01\n'


def cases(verdict):
    root = ElementTree.fromstring(render_junit(verdict))
    suite = root.find("testsuite")
    found = {case.get("name"): case for case in suite.findall("testcase")}
    for kind in ("failure", "error", "skipped"):
        counted = sum(case.find(kind) is not None for case in found.values())
        attribute = {"failure": "failures", "error": "errors", "skipped": "skipped"}[kind]
        assert suite.get(attribute) == root.get(attribute) == str(counted)
    assert suite.get("tests") == str(len(found))
    return found


def test_one_case_a_rule_with_the_state_as_its_kind(kit):
    text = (
        kit.rule(id="p", min=0.1)
        + kit.rule(id="f")
        + kit.rule(id="i", min=0.5)
        + kit.rule(id="e", over=["age"])
        + kit.rule(id="w")
        + kit.rule(id="soft", level="warning")
        + WAIVER
    )
    found = cases(kit.judge(kit.evidence(*kit.selected(**UNFAIR)), text))
    kinds = {name: [child.tag for child in case if child.tag != "system-out"] for name, case in found.items()}
    assert kinds == {
        "p": [],
        "f": ["failure"],
        "i": ["failure"],
        "e": ["error"],
        "w": ["skipped"],
        "soft": ["skipped"],
    }
    assert found["i"].find("failure").get("type") == "inconclusive"
    assert found["f"].find("failure").get("type") == "fail"
    assert "sex: F vs M" in found["f"].find("failure").text
    assert (found["f"].get("file"), found["f"].get("line")) == ("audit.toml", "7")


def test_a_verdict_that_does_not_pass_is_never_a_green_file(kit):
    evidence = kit.evidence(*kit.selected(**FAIR))
    empty = cases(kit.judge(evidence, "[groups]\n"))
    assert empty["verdict"].find("error") is not None
    redacted = cases(kit.judge(kit.replace(evidence, redacted=True), kit.rule()))
    assert redacted["verdict"].find("error") is not None
    crashed = Outcome(analyzer="a.b", version="1", status="failed", reason="boom")
    found = cases(kit.judge(kit.evidence(*kit.selected(**FAIR), others=[crashed]), kit.rule()))
    assert found["a.b"].find("error").get("message") == "a.b failed: boom"


def test_inconclusive_rules_that_only_warn_are_skipped(kit):
    evidence = kit.evidence(*kit.selected(F=(10, 25), M=(14, 25)))
    found = cases(kit.judge(evidence, '[defaults]\ninconclusive = "warn"\n' + kit.rule()))
    assert found["r"].find("skipped").get("message").startswith("warning, inconclusive: ")


def test_the_same_verdict_gives_the_same_bytes(kit):
    verdict = kit.judge(kit.evidence(*kit.selected(**FAIR)), kit.rule())
    assert render_junit(verdict) == render_junit(verdict)
