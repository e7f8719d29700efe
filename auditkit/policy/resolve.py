"""From a rule to the estimates it is about, out of the evidence alone; or the sentence why there are none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from auditkit.core.errors import AuditkitError
from auditkit.core.evidence import MISSING_GROUP, Counts, Evidence, Measurement
from auditkit.methods.fairness.metric_table import COMPOSITES, METRICS
from auditkit.methods.fairness.metrics import group_rates
from auditkit.policy.families import ALL_ROWS, Family, comparisons_of
from auditkit.policy.hints import nearest
from auditkit.policy.lookup import Settings, Unresolved, has_params, is_absent, matches, not_measured
from auditkit.policy.measured import Measured, is_exact
from auditkit.policy.model import Compare, Policy, Rule
from auditkit.policy.told_gaps import as_told

# Measured elsewhere too, but also a function of the cells of a binary task.
SAME_FROM_COUNTS: Mapping[str, str] = {
    "performance.accuracy": "accuracy",
    "performance.balanced_accuracy": "balanced_accuracy",
    "performance.precision": "positive_predictive_value",
    "performance.recall": "true_positive_rate",
    "performance.f1": "f1",
}


def settle(rule: Rule, policy: Policy) -> Settings:
    """Fill in what the rule leaves to ``[defaults]`` and ``[groups]``."""
    defaults = policy.defaults
    min_n = defaults.min_n if rule.min_n is None else rule.min_n
    bare = rule.metric in METRICS or rule.metric in COMPOSITES
    return Settings(
        rule=rule,
        metric=f"fairness.{rule.metric}" if bare else rule.metric,
        reference=rule.reference or policy.groups.reference,
        decide=rule.decide or defaults.decide,
        confidence=rule.confidence or defaults.confidence,
        small=rule.small or defaults.small,
        min_n=min_n,
        missing=policy.groups.missing,
    )


def resolve(settings: Settings, policy: Policy, evidence: Evidence) -> tuple[tuple[Family, ...], tuple[str, ...]]:
    """The families that a rule compares, and remarks on what was left out.

    Raises:
        Unresolved: When there is nothing to compare.
    """
    rule = settings.rule
    families: list[Family] = []
    remarks: list[str] = []
    for over in _column_sets(settings, policy, evidence):
        found = _from_counts(settings, over, evidence)
        if found is None:
            found = _from_measurements(settings, over, evidence, policy)
        families += found
    if not families:
        raise Unresolved(f"no comparison matched for {settings.metric}")
    kept = []
    for family in families:
        trimmed, remark = _trim(family, settings)
        remarks += [remark] if remark else []
        if trimmed is not None:
            kept.append(trimmed)
    if not any(len(family.left) for family in kept):
        detail = "; ".join(remarks) or "there is only one group"
        raise Unresolved(f"no comparison matched for {rule.compare} of {settings.metric}: {detail}")
    return tuple(kept), tuple(remarks)


def _column_sets(settings: Settings, policy: Policy, evidence: Evidence) -> list[tuple[str, ...]]:
    rule, known = settings.rule, tuple(evidence.subject.test.sensitive)
    named = (*rule.over, *rule.where, *policy.groups.by)
    unknown = [column for column in dict.fromkeys(named) if column not in known]
    if unknown and known:
        hints = "; ".join(filter(None, (nearest(column, known) for column in unknown)))
        raise Unresolved(
            f"no sensitive column {', '.join(map(repr, unknown))} in the evidence (it has {', '.join(known)})"
            + (f"; {hints}" if hints else "")
        )
    if not known and (named or rule.compare != "value"):
        raise Unresolved("the evidence has no sensitive columns; run the audit with [data] sensitive", absent=True)
    if rule.over or rule.compare == "value":
        return [rule.over]
    columns = [column for column in (policy.groups.by or known) if column not in rule.where]
    depths = range(1, min(policy.groups.intersections, len(columns)) + 1)
    return [over for depth in depths for over in itertools.combinations(columns, depth)]


def _from_counts(settings: Settings, over: tuple[str, ...], evidence: Evidence) -> list[Family] | None:
    """Families of a count metric, or ``None`` when counts do not give this metric."""
    rule, metric = settings.rule, settings.metric.removeprefix("fairness.")
    if not settings.metric.startswith("fairness.") or metric not in {**METRICS, **COMPOSITES}:
        metric = SAME_FROM_COUNTS.get(settings.metric, "")
        named = () if settings.from_cells else evidence.by_name.get(settings.metric, ())
        measured = any(matches(m, settings, over) for m in named)
        if not metric or measured or len(evidence.subject.classes) != 2:
            return None
    if metric in COMPOSITES and rule.compare == "value":
        raise Unresolved(f'{metric} is a disparity: use compare = "difference" or "ratio"')
    _refuse_unreliable(metric, evidence)
    counts = [part for part in evidence.counts() if set(part.over) == {*over, *rule.where}]
    if not counts:
        if not any(part.over for part in evidence.counts()):  # no group was ever counted
            raise Unresolved(not_measured(settings.metric, evidence), absent=is_absent(settings.metric, evidence))
        label = " x ".join((*over, *rule.where))
        raise Unresolved(
            f'the crossing {label} was not counted; raise intersections in [analyzer."fairness.groups"] and run again'
        )
    chosen = _select(counts[0], settings)
    families = []
    for name in COMPOSITES.get(metric, (metric,)):
        for code, tag in _classes(chosen, name, rule):
            families.append(_count_family(chosen, name, code, tag, settings, over, evidence))
    return families


def _select(counts: Counts, settings: Settings) -> Counts:
    """The groups that ``where`` leaves."""
    rule = settings.rule
    keep = [
        index
        for index, group in enumerate(counts.groups)
        if all(dict(zip(counts.over, group, strict=True))[column] == name for column, name in rule.where.items())
    ]
    if not keep:
        where = ", ".join(f"{column}={name}" for column, name in rule.where.items())
        raise Unresolved(f"no rows match where: {where}")
    return _take(counts, keep)


def _take(counts: Counts, keep: Sequence[int]) -> Counts:
    def pick(field: Any) -> Any:
        return None if field is None else tuple(field[index] for index in keep)

    return replace(
        counts,
        groups=pick(counts.groups),
        n=pick(counts.n),
        weight=pick(counts.weight),
        weight_sq=pick(counts.weight_sq),
        moment=pick(counts.moment),
    )


def _classes(counts: Counts, metric: str, rule: Rule) -> list[tuple[int | None, str]]:
    wanted = rule.params.get("class")
    other = [key for key in rule.params if key != "class"]
    if other:
        raise Unresolved(f"{metric} has no param {', '.join(map(repr, other))}")
    if wanted is None and (METRICS[metric].pooled or counts.positive is not None):
        return [(counts.positive, "")]
    if METRICS[metric].pooled:
        raise Unresolved(f"{metric} is one number over all classes; remove params")
    if wanted is None:
        return [(code, name) for code, name in enumerate(counts.classes)]
    if wanted not in counts.classes:
        raise Unresolved(f"there is no class {wanted!r}; classes: {', '.join(counts.classes)}")
    return [(counts.classes.index(str(wanted)), str(wanted))]


def _count_family(
    counts: Counts,
    metric: str,
    code: int | None,
    tag: str,
    settings: Settings,
    over: tuple[str, ...],
    evidence: Evidence,
) -> Family:
    kept = [
        index
        for index, group in enumerate(counts.groups)
        if settings.missing == "group" or MISSING_GROUP not in _named(counts, group, over).values()
    ]
    counts = _take(counts, kept)
    slices: list[Mapping[str, str]] = [dict(zip(counts.over, group, strict=True)) for group in counts.groups]
    names = [_label(_named(counts, group, over)) for group in counts.groups]
    if settings.rule.compare != "value" and settings.reference == "overall":
        counts = _with_overall(counts, settings.rule, evidence)
        slices.append({})
        names.append(ALL_ROWS)
    rates = group_rates(counts, metric, code)
    size = len(counts.classes) ** 2
    parts = [f"{metric.replace('_', ' ')}, " if settings.metric.removeprefix("fairness.") in COMPOSITES else ""]
    parts += [_scope(over, settings.rule), f" [class {tag}]" if tag else ""]
    low, _ = rates.limits(settings.confidence)
    return _family(
        label="".join(parts),
        columns=(*over, *settings.rule.where),
        settings=settings,
        names=tuple(names),
        slices=tuple(slices),
        estimates=rates,
        undefined=rates.undefined,
        unbounded=tuple(None if np.isfinite(x) else "too few rows or clusters for an interval" for x in low),
        totals=np.asarray(counts.n, dtype=np.int64).reshape(-1, size).sum(axis=1),
        direction=METRICS[metric].direction,
    )


def _with_overall(counts: Counts, rule: Rule, evidence: Evidence) -> Counts:
    """``counts`` with the cells of all rows (inside ``where``) as one more group at the end."""
    base = next((part for part in evidence.counts() if set(part.over) == set(rule.where)), None)
    if base is None:
        raise Unresolved("the counts of all rows are not in the evidence; run fairness.groups again")
    whole = _take(base, [base.groups.index(tuple(rule.where[column] for column in base.over))])

    def joined(field: str) -> Any:
        first, second = getattr(counts, field), getattr(whole, field)
        return None if first is None or second is None else (*first, *second)

    fields = {field: joined(field) for field in ("n", "weight", "weight_sq", "moment")}
    return replace(counts, groups=(*counts.groups, tuple(ALL_ROWS for _ in counts.over)), **fields)


def _from_measurements(settings: Settings, over: tuple[str, ...], evidence: Evidence, policy: Policy) -> list[Family]:
    rule = settings.rule
    every = found = [m for m in evidence.by_name.get(settings.metric, ()) if matches(m, settings, over)]
    if settings.missing == "exclude" and over:
        found = [m for m in found if MISSING_GROUP not in [m.slice.get(column) for column in over]]
    if not found:
        ready = _ready_made(settings, over, evidence)
        if ready:
            return ready
        raise Unresolved(
            not_measured(settings.metric, evidence, rule, over), absent=is_absent(settings.metric, evidence)
        )
    families = []
    for tags, members in _by_params(found):
        if rule.compare != "value" and settings.reference == "overall":
            members = [*members, _overall_of(settings, tags, evidence)]
        family = _measured_family(settings, over, tags, members, rule.compare)
        whole = len(found) == len(every)
        families.append(as_told(family, members, settings, policy, evidence) if whole else family)
    return families


def _ready_made(settings: Settings, over: tuple[str, ...], evidence: Evidence) -> list[Family]:
    """Disparities that were measured as such, where the groups' own values were not.

    A rule on a value finds what ranges over the groups of a column by itself, such as ``data.proxy_auc``.
    """
    rule = settings.rule
    if rule.compare != "value" and settings.reference not in ("pairwise", "best"):
        return []
    name = settings.metric if rule.compare == "value" else f"{settings.metric}.{rule.compare}"
    found = [
        m
        for m in evidence.by_name.get(name, ())
        if set(m.over) == set(over) and dict(m.slice) == dict(rule.where) and has_params(m, rule)
    ]
    return [_measured_family(settings, over, tags, members, "value") for tags, members in _by_params(found)]


def _measured_family(
    settings: Settings, over: tuple[str, ...], tags: str, members: Sequence[Measurement], kind: Compare
) -> Family:
    unreliable = [m for m in members if m.unreliable]
    if unreliable:
        first = unreliable[0]
        told = [f"{name} {value}" for name, value in sorted({**first.slice, **first.params}.items())]
        what = f"{first.name} ({', '.join(told)})" if told else first.name
        raise Unresolved(f"{what} is not to be relied upon: {first.unreliable}")
    parts = [_scope(over or members[0].over, settings.rule), f" ({tags})" if tags else ""]
    return _family(
        label="".join(parts).strip(),
        columns=(*(over or members[0].over), *settings.rule.where),
        settings=settings,
        names=tuple(_label({c: m.slice[c] for c in over}) if m.slice and not m.over else ALL_ROWS for m in members),
        slices=tuple(m.slice for m in members),
        estimates=Measured(measurements=tuple(members)),
        undefined=tuple(m.reason if m.value is None else None for m in members),
        unbounded=tuple(
            None if m.interval or is_exact(m) else (m.reason or "it was measured without an interval") for m in members
        ),
        totals=np.array([m.n or 0 for m in members], dtype=np.int64),
        direction=members[0].direction,
        exact=all(is_exact(m) for m in members),
        kind=kind,
    )


def _family(*, settings: Settings, kind: Compare | None = None, **fields: Any) -> Family:
    kind = kind or settings.rule.compare
    names, estimates = fields["names"], fields["estimates"]
    try:
        left, right, tests = comparisons_of(kind, estimates, names, settings.reference)
    except AuditkitError as error:
        raise Unresolved(f"{fields['label']}: {error.what} ({error.why})") from error
    small = np.asarray(estimates.rows) < settings.min_n
    return Family(kind=kind, left=left, right=right, tests=tests, small=small, **fields)


def _trim(family: Family, settings: Settings) -> tuple[Family | None, str | None]:
    """Leave out comparisons with groups under ``min_n`` where the rule says ``small = "exclude"``."""
    if settings.small != "exclude" or not family.small.any():
        return family, None
    keep = ~(family.small[family.left] | family.small[family.right])
    names = [
        f"{name} (n = {int(rows)})"
        for name, rows, small in zip(family.names, family.estimates.rows, family.small, strict=True)
        if small
    ]
    remark = f"{family.label}: left out as smaller than min_n = {settings.min_n}: {', '.join(names)}"
    if not keep.any():
        return None, remark
    kept = int(keep.sum())
    tests = min(family.tests, max(kept, 1))
    return replace(family, left=family.left[keep], right=family.right[keep], tests=tests), remark


def _by_params(found: Iterable[Measurement]) -> list[tuple[str, list[Measurement]]]:
    """Measurements that differ in their group alone, with the params (and columns) that they share."""
    sets: dict[tuple[str, tuple[str, ...]], list[Measurement]] = {}
    for m in found:
        tags = ", ".join(f"{name}={value}" for name, value in sorted(m.params.items()))
        sets.setdefault((tags, m.over), []).append(m)
    return [(tags, members) for (tags, _), members in sets.items()]


def _overall_of(settings: Settings, tags: str, evidence: Evidence) -> Measurement:
    whole = [m for m in evidence.by_name.get(settings.metric, ()) if matches(m, settings, ())]
    for found, members in _by_params(whole):
        if found == tags:
            return members[0]
    raise Unresolved(f"{settings.metric} was not measured over all rows, so there is no overall reference")


def _refuse_unreliable(metric: str, evidence: Evidence) -> None:
    parts = COMPOSITES.get(metric, (metric,))
    for name in evidence.by_name:
        if not (name.startswith("fairness.") and name.split(".")[1] in parts):
            continue
        for m in evidence.by_name[name]:
            if m.unreliable:
                raise Unresolved(f"{m.key} is not to be relied upon: {m.unreliable}")


def _named(counts: Counts, group: tuple[str, ...], over: tuple[str, ...]) -> dict[str, str]:
    return {column: name for column, name in zip(counts.over, group, strict=True) if column in over}


def _label(group: Mapping[str, str]) -> str:
    return " x ".join(group.values()) if group else ALL_ROWS


def _scope(over: tuple[str, ...], rule: Rule) -> str:
    """The columns compared and the rows that ``where`` leaves."""
    where = ", ".join(f"{column}={name}" for column, name in rule.where.items())
    return " where ".join(part for part in (" x ".join(over), where) if part)
