"""The verdict as workflow commands of GitHub Actions: annotations at the lines of the policy."""

from __future__ import annotations

from collections.abc import Sequence

from auditkit.core.verdict import RuleResult, Verdict

# GitHub shows ten annotations of a level for one step; the tenth says how many there are.
MOST = 9


def render_github(verdict: Verdict, file: str | None = None) -> str:
    """Annotations, one line each; empty when everything passed.

    Args:
        verdict: What the policy says.
        file: The policy's path in the repository; without it annotations stand at no line.

    Returns:
        ``::error``, ``::warning`` and ``::notice`` (waived) lines, at most ten of each: the worst first, then how
        many more there are. A verdict that does not pass gives at least one ``::error``.

    Source: GitHub documentation, Workflow commands for GitHub Actions.
    """
    soft = verdict.settings.get("inconclusive") == "warn"
    groups: dict[str, list[str]] = {"error": [], "warning": [], "notice": []}
    for result in sorted(verdict.results, key=lambda each: _RANK.get(each.state, 9)):
        level = _level(result, soft)
        if level:
            groups[level].append(_line(level, result, file))
    groups["error"] += [_command("error", {"title": "auditkit: not measured"}, each) for each in verdict.unmeasured]
    if verdict.exit_code and not groups["error"]:
        groups["error"].append(_command("error", {"title": f"auditkit: {verdict.state}"}, verdict.summary))
    lines = [line for level, found in groups.items() for line in _limited(level, found)]
    return "".join(f"{line}\n" for line in lines)


_RANK = {"error": 0, "fail": 1, "inconclusive": 2, "waived": 3}


def _level(result: RuleResult, soft: bool) -> str | None:
    if result.state == "pass":
        return None
    if result.state == "waived":
        return "notice"
    if result.state == "error":
        return "error"
    return "warning" if result.level == "warning" or (soft and result.state == "inconclusive") else "error"


def _line(level: str, result: RuleResult, file: str | None) -> str:
    place = {} if file is None else {"file": file, **({} if result.line is None else {"line": str(result.line)})}
    what = f"{result.compare} of {result.metric} {result.limit}: " if result.metric else ""
    return _command(level, {**place, "title": f"auditkit: {result.id} {result.state}"}, what + result.message)


def _limited(level: str, found: Sequence[str]) -> list[str]:
    if len(found) <= MOST:
        return list(found)
    return [*found[:MOST], _command(level, {"title": "auditkit"}, f"and {len(found) - MOST} more")]


def _command(level: str, properties: dict[str, str], message: str) -> str:
    """One workflow command.

    >>> _command("error", {"file": "a,b.toml", "line": "3"}, "50 % or more")
    '::error file=a%2Cb.toml,line=3::50 %25 or more'
    """
    told = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::{level} {told}::{_data(message)}"


def _data(text: str) -> str:
    """Escaped so that a name from the data can neither end the line nor start a command of its own."""
    shown = "".join(c if c.isprintable() or c in "\r\n" else "\ufffd" for c in text)
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
