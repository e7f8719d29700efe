"""The verdict as JUnit XML, which every CI system shows: one test case a rule."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree as Xml

from auditkit.core.verdict import RuleResult, Verdict

# What XML 1.0 refuses, escaped or not; what it allows takes Python fourteen times as long to compile.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def render_junit(verdict: Verdict) -> str:
    """JUnit XML of ``verdict``.

    A failed rule is a ``failure``, an inconclusive one a ``failure`` of type ``inconclusive``, an error an
    ``error``; a waived rule, and one that only warns, is ``skipped`` with its message. Analyzers that could
    not measure are errors. A verdict that does not pass never gives a file without a failure or an error.
    """
    cases = [_case(result, verdict) for result in verdict.results]
    cases += [_unmeasured(sentence) for sentence in verdict.unmeasured]
    if verdict.exit_code and not any(case.find(kind) is not None for case in cases for kind in ("failure", "error")):
        cases.append(_whole(verdict))
    suite = Xml.Element(
        "testsuite",
        name="auditkit gate",
        tests=str(len(cases)),
        failures=str(_having(cases, "failure")),
        errors=str(_having(cases, "error")),
        skipped=str(_having(cases, "skipped")),
        timestamp=f"{_clean(verdict.as_of)}T00:00:00",
        time="0",
    )
    properties = Xml.SubElement(suite, "properties")
    facts = {"state": verdict.state, "exit_code": str(verdict.exit_code), "summary": verdict.summary}
    for name, value in {**facts, "policy": verdict.policy, "as_of": verdict.as_of}.items():
        Xml.SubElement(properties, "property", name=name, value=_clean(value))
    suite.extend(cases)
    suites = Xml.Element("testsuites", {key: suite.attrib[key] for key in ("tests", "failures", "errors", "skipped")})
    suites.append(suite)
    Xml.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(suites, encoding="unicode") + "\n"


def _case(result: RuleResult, verdict: Verdict) -> Xml.Element:
    case = Xml.Element("testcase", classname=f"auditkit.{_clean(result.metric) or 'policy'}", name=_clean(result.id))
    case.set("time", "0")
    if result.line is not None:
        case.set("file", _clean(verdict.policy))
        case.set("line", str(result.line))
    message, body = _clean(result.message), _clean(_details(result))
    harmless = result.level == "warning" or (
        result.state == "inconclusive" and verdict.settings.get("inconclusive") == "warn"
    )
    if result.state == "error":
        Xml.SubElement(case, "error", type="error", message=message).text = body
    elif result.state == "waived":
        Xml.SubElement(case, "skipped", message=message)
    elif result.state in ("fail", "inconclusive") and harmless:
        Xml.SubElement(case, "skipped", message=f"warning, {result.state}: {message}")
    elif result.state in ("fail", "inconclusive"):
        Xml.SubElement(case, "failure", type=result.state, message=message).text = body
    Xml.SubElement(case, "system-out").text = body
    return case


def _unmeasured(sentence: str) -> Xml.Element:
    name, _, _ = sentence.partition(" ")
    case = Xml.Element("testcase", classname="auditkit.measured", name=_clean(name), time="0")
    Xml.SubElement(case, "error", type="unmeasured", message=_clean(sentence))
    return case


def _whole(verdict: Verdict) -> Xml.Element:
    case = Xml.Element("testcase", classname="auditkit", name="verdict", time="0")
    Xml.SubElement(case, "error", type=verdict.state, message=_clean(verdict.summary))
    return case


def _details(result: RuleResult) -> str:
    lines = [f"{result.compare} of {result.metric} {result.limit}"] if result.metric else []
    lines += [f"{comparison.state}: {comparison.label}: {comparison.message}" for comparison in result.comparisons[:50]]
    more = result.tally().total() - min(len(result.comparisons), 50)
    if more:
        lines.append(f"... and {more} more")
    if result.reason:
        lines.append(f"rule: {result.reason}")
    return "\n".join(lines)


def _having(cases: Iterable[Xml.Element], kind: str) -> int:
    return sum(1 for case in cases if case.find(kind) is not None)


def _clean(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
