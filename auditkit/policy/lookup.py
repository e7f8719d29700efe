"""Looking for what a rule names in the evidence, and saying why it is not there."""

from __future__ import annotations

from dataclasses import dataclass

from auditkit.core.evidence import Evidence, Measurement
from auditkit.methods.fairness.metric_table import METRICS
from auditkit.policy.hints import nearest
from auditkit.policy.model import Rule


class Unresolved(Exception):
    """A rule that finds nothing to judge; ``absent`` when what it asks for was never to be measured here."""

    def __init__(self, message: str, *, absent: bool = False) -> None:
        self.absent = absent
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A rule with its defaults filled in; ``from_cells`` takes from the counts what was measured elsewhere too."""

    rule: Rule
    metric: str
    reference: str
    decide: str
    confidence: float
    small: str
    min_n: int
    missing: str
    from_cells: bool = False


def matches(m: Measurement, settings: Settings, over: tuple[str, ...]) -> bool:
    """Whether ``m`` is what the rule names: a group's value (all rows' for ``over=()``), or one over columns.

    A value that is measured over the groups of a column (how well a feature tells them apart, say) is meant by a
    value rule with that ``over``, and by one without any.
    """
    rule = settings.rule
    if m.name != settings.metric:
        return False
    if m.over:
        ranged = not over or set(m.over) == set(over)
        return rule.compare == "value" and ranged and dict(m.slice) == dict(rule.where) and has_params(m, rule)
    inside = all(m.slice.get(column) == name for column, name in rule.where.items())
    return inside and set(m.slice) == {*over, *rule.where} and has_params(m, rule)


def has_params(m: Measurement, rule: Rule) -> bool:
    """Whether ``m`` has every param that the rule selects by; numbers are compared to rounding."""
    return all(name in m.params and _same(m.params[name], value) for name, value in rule.params.items())


def _same(one: object, two: object) -> bool:
    if (
        isinstance(one, bool)
        or isinstance(two, bool)
        or not (isinstance(one, int | float) and isinstance(two, int | float))
    ):
        return one == two
    return abs(one - two) <= 1e-9 * max(1.0, abs(one), abs(two))


def is_absent(metric: str, evidence: Evidence) -> bool:
    """Whether nothing failed: the metric's analyzers did not apply here or were not asked for."""
    family = metric.split(".", 1)[0]
    return not any(o.family == family and o.status in ("failed", "skipped") for o in evidence.outcomes)


def not_measured(metric: str, evidence: Evidence, rule: Rule | None = None, over: tuple[str, ...] = ()) -> str:
    """Why a metric is not there, and what to run."""
    same_name = evidence.by_name.get(metric, ())
    if same_name and rule is not None:
        asked = ", ".join([*(f"{k}={v}" for k, v in {**rule.where, **rule.params}.items()), *over]) or "all rows"
        seen = sorted({m.key for m in same_name})[:6]
        return f"no comparison matched: {metric} was not measured for {asked}; measured: {'; '.join(seen)}"
    family = metric.split(".", 1)[0]
    blocked = [o for o in evidence.outcomes if o.family == family and o.status != "measured"]
    # Those that would have measured it, where an outcome says so; the others have nothing to do with the rule.
    blocked = [o for o in blocked if metric in o.lacking] or [o for o in blocked if not o.lacking]
    if blocked:
        whose: dict[str, list[str]] = {}  # a model that crashes fails them all for one reason
        for o in blocked:
            whose.setdefault(f"{o.status.replace('_', ' ')}: {o.reason}", []).append(o.analyzer)
        told = "; ".join(f"{', '.join(names)} {why}" for why, names in whose.items())
        return f"{metric} was not measured: {told}"
    names = {*evidence.by_name} | {f"fairness.{name}" for name in METRICS}
    ran = any(o.family == family for o in evidence.outcomes)
    hint = None if metric in names or not ran else nearest(metric, names)
    advice = (
        "see `auditkit analyzers` for what is measured"
        if ran
        else f"{family} was not asked for: add `--only {family}`, or {family} to [run] analyzers"
    )
    return f"{metric} was not measured" + (f"; {hint}" if hint else "") + f" ({advice})"
