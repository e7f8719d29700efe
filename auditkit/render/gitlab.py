"""The verdict as a GitLab Code Quality report: an issue for each rule that does not pass."""

from __future__ import annotations

import json

from auditkit.core.verdict import RuleResult, Verdict
from auditkit.render.sarif import place_of


def render_gitlab(verdict: Verdict, file: str | None = None) -> str:
    """The report as JSON; an empty list when everything passed.

    Severity: ``blocker`` for an error and for what could not be measured, ``critical`` for a failure, ``major`` for an
    inconclusive rule, ``minor`` for a warning, ``info`` for a waived one. A verdict that does not pass is never empty.

    Args:
        verdict: What the policy says.
        file: The policy's path in the repository; its name where that is not known.

    Source: GitLab documentation, Code Quality report format.
    """
    path = file or verdict.policy or "audit.toml"
    soft = verdict.settings.get("inconclusive") == "warn"
    issues = [_issue(r, path, _severity(r, soft)) for r in verdict.results if r.state != "pass"]
    issues += [_issue(_bare("not measured", each), path, "blocker") for each in verdict.unmeasured]
    if verdict.exit_code and not any(issue["severity"] in ("blocker", "critical", "major") for issue in issues):
        issues.append(_issue(_bare("verdict", verdict.summary), path, "blocker"))
    return json.dumps(issues, indent=1, allow_nan=False) + "\n"


def _severity(result: RuleResult, soft: bool) -> str:
    if result.state == "error":
        return "blocker"
    if result.state == "waived":
        return "info"
    if result.level == "warning" or (soft and result.state == "inconclusive"):
        return "minor"
    return "critical" if result.state == "fail" else "major"


def _bare(name: str, message: str) -> RuleResult:
    return RuleResult(id=name, metric="", compare="", limit="", state="error", message=message)


def _issue(result: RuleResult, path: str, severity: str) -> dict[str, object]:
    where, line, mark = place_of(result, path)
    if not result.metric:  # several of these share an id
        mark = place_of(_bare(f"{result.id} {result.message}", ""), path)[2]
    return {
        "description": f"{result.id} {result.state}: {result.message}",
        "check_name": f"auditkit/{result.metric or result.id}",
        "fingerprint": mark,
        "severity": severity,
        "location": {"path": where, "lines": {"begin": line}},
    }
