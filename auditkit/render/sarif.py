"""The verdict as SARIF 2.1.0, for code scanning: one result a rule, at its line of the policy."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import quote

from auditkit import __version__
from auditkit.core.verdict import RuleResult, Verdict

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render_sarif(verdict: Verdict, file: str | None = None) -> str:
    """SARIF of ``verdict``.

    A passed rule is a result of kind ``pass``, an inconclusive one of kind ``open``; what fails is an ``error``, or a
    ``warning`` where the policy only warns; a waived one is suppressed with its reason. What could not be measured
    is a notification of a run that was not successful.

    Args:
        verdict: What the policy says.
        file: The policy's path in the repository; its name where that is not known.

    Source: OASIS, Static Analysis Results Interchange Format (SARIF) 2.1.0, sections 3.20 and 3.27.
    """
    path = file or verdict.policy or "audit.toml"
    soft = verdict.settings.get("inconclusive") == "warn"
    driver = {"name": "auditkit", "version": __version__, "rules": [_rule(result) for result in verdict.results]}
    invocation = {
        "executionSuccessful": verdict.exit_code != 3,
        "exitCode": verdict.exit_code,
        "toolExecutionNotifications": [{"level": "error", "message": {"text": each}} for each in verdict.unmeasured],
    }
    if verdict.exit_code and not verdict.unmeasured and all(r.state in ("pass", "waived") for r in verdict.results):
        invocation["toolExecutionNotifications"] = [{"level": "error", "message": {"text": verdict.summary}}]
    run = {
        "tool": {"driver": driver},
        "invocations": [invocation],
        "results": [_result(result, index, path, soft) for index, result in enumerate(verdict.results)],
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1, allow_nan=False) + "\n"


def place_of(result: RuleResult, path: str) -> tuple[str, int, str]:
    """Path, line (1 where not known) and a fingerprint that stays the same while the rule keeps its id."""
    mark = hashlib.sha256(f"auditkit\0{path}\0{result.id}".encode("utf-8", "surrogatepass")).hexdigest()
    return path, result.line or 1, mark


def _rule(result: RuleResult) -> dict[str, Any]:
    short = f"{result.compare} of {result.metric} {result.limit}" if result.metric else result.id
    return {"id": result.id, "shortDescription": {"text": short}, "fullDescription": {"text": result.reason or short}}


def _result(result: RuleResult, index: int, path: str, soft: bool) -> dict[str, Any]:
    where, line, mark = place_of(result, path)
    uri = quote(where, safe="/")
    harmless = result.level == "warning" or (soft and result.state == "inconclusive")
    kind, level = {
        "pass": ("pass", "none"),
        "inconclusive": ("open", "none"),
    }.get(result.state, ("fail", "warning" if harmless and result.state != "error" else "error"))
    found: dict[str, Any] = {
        "ruleId": result.id,
        "ruleIndex": index,
        "kind": kind,
        "level": level,
        "message": {"text": f"{result.state}: {result.message}"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}}],
        "partialFingerprints": {"auditkitRule/v1": mark},
    }
    if result.state == "waived" and result.waiver is not None:
        told = f"{result.waiver.owner} ({result.waiver.ticket}) until {result.waiver.expires}: {result.waiver.reason}"
        found["suppressions"] = [{"kind": "external", "status": "accepted", "justification": told}]
    return found
