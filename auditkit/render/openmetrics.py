"""The verdict as OpenMetrics text: what GitLab's metrics report and Prometheus read."""

from __future__ import annotations

from collections.abc import Iterator

from auditkit.core.verdict import Verdict
from auditkit.render.text import clean

_FAMILIES = (
    ("auditkit_exit_code", "Exit code of the gate: 0 pass, 1 fail, 3 error, 4 inconclusive."),
    ("auditkit_rule_passed", "1 where the rule passed, 0 where it did not; the state says how."),
    ("auditkit_rule_value", "Value that the rule compares with its limit."),
    ("auditkit_rule_low", "Lower end of the value's confidence interval."),
    ("auditkit_rule_high", "Upper end of the value's confidence interval."),
)


def render_openmetrics(verdict: Verdict) -> str:
    """The verdict's numbers as gauges; a value that is missing is left out, never 0.

    Source: OpenMetrics 1.0, text format; GitLab documentation, Metrics reports.
    """
    lines: list[str] = []
    for family, told in _FAMILIES:
        lines += [f"# TYPE {family} gauge", f"# HELP {family} {told}"]
        lines += [f"{family}{labels} {value}" for labels, value in _samples(family, verdict)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _samples(family: str, verdict: Verdict) -> Iterator[tuple[str, str]]:
    if family == "auditkit_exit_code":
        yield "", str(verdict.exit_code)
        return
    for result in verdict.results:
        if family == "auditkit_rule_passed":
            yield _labels(rule=result.id, state=result.state), "1" if result.state == "pass" else "0"
            continue
        seen: set[str] = set()
        for position, comparison in enumerate(result.comparisons):
            interval = comparison.interval
            value = {
                "auditkit_rule_value": comparison.value,
                "auditkit_rule_low": interval.low if interval else None,
                "auditkit_rule_high": interval.high if interval else None,
            }[family]
            label = clean(comparison.label)
            if label in seen:  # two samples of one name must differ in a label
                label = f"{label} ({position + 1})"
            seen.add(label)
            if value is not None:
                yield _labels(rule=result.id, compared=label), repr(float(value))


def _labels(**labels: str) -> str:
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + told + "}"


def _escaped(text: str) -> str:
    return clean(text).replace("\\", "\\\\").replace('"', '\\"')
