"""From a rule with a baseline to the changes that it is about: the families of both audits side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np

from auditkit.core.evidence import Evidence
from auditkit.methods.fairness.metrics import Rates
from auditkit.methods.fairness.paired import Pairing
from auditkit.methods.fairness.paired_scores import ScorePairing
from auditkit.policy.baseline import Baseline
from auditkit.policy.change import Change
from auditkit.policy.families import Family
from auditkit.policy.lookup import Settings, Unresolved
from auditkit.policy.measured import Measured
from auditkit.policy.model import Policy
from auditkit.policy.pairs import Pairs, read_pairs
from auditkit.policy.resolve import resolve


def resolve_change(
    settings: Settings, policy: Policy, evidence: Evidence, baseline: Baseline
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """The families of a rule with those of its baseline, and remarks.

    Raises:
        Unresolved: When the two cannot be compared, or there is nothing to compare.
        PolicyError: AK257 when the pairs beside the baseline are not those of the two audits.
    """
    _refuse_other_schema(evidence, baseline.evidence)
    pairs = _pairs_of(evidence, baseline)
    changes, remarks = changes_between(settings, policy, evidence, baseline.evidence, pairs)
    paired = all(change.pairing is not None for change in changes)
    return changes, (*remarks, _about(baseline, pairs, paired))


def changes_between(
    settings: Settings, policy: Policy, now: Evidence, then: Evidence, pairs: Pairs
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """The families of a rule in two audits of the same schema, on pairs where there are any, and remarks.

    Raises:
        Unresolved: When there is nothing to compare.
    """
    settings = replace(settings, from_cells=bool(pairs.tables))
    families, remarks = resolve(settings, policy, now)
    try:
        before, _ = resolve(replace(settings, small="inconclusive", min_n=0), policy, then)
    except Unresolved as missing:
        raise Unresolved(f"in the baseline: {missing}") from missing
    named = {family.label: family for family in before}
    return tuple(_beside(family, named, settings, pairs) for family in families), remarks


def _pairs_of(evidence: Evidence, baseline: Baseline) -> Pairs:
    if baseline.pairs is not None:
        return read_pairs(baseline.pairs, baseline.evidence, evidence, where="pairs")
    if evidence.subject.test.fingerprint != baseline.evidence.subject.test.fingerprint:
        return Pairs(reason="the rows are not the same")
    return Pairs(
        reason="the rows are the same, but a paired test needs the record of both audits ([run] keep_rows = true)"
    )


def _beside(family: Family, named: Mapping[str, Family], settings: Settings, pairs: Pairs) -> Change:
    then = named.get(family.label)
    if then is None:
        raise Unresolved(f"the baseline has nothing for {family.label!r}; it has {', '.join(named)}")
    only_now = [name for name in family.names if name not in then.names]
    only_then = [name for name in then.names if name not in family.names]
    if only_now or only_then:
        told = [
            f"{', '.join(names)} only {where}" for names, where in ((only_now, "now"), (only_then, "then")) if names
        ]
        raise Unresolved(
            f"{family.label}: the groups differ from the baseline's ({'; '.join(told)}); accept a new baseline"
        )
    order = [then.names.index(name) for name in family.names]
    base = then.estimates.take(order)
    keys = ("undefined", "unbounded")
    merged = {
        key: tuple(
            now or (f"in the baseline: {getattr(then, key)[index]}" if getattr(then, key)[index] else None)
            for now, index in zip(getattr(family, key), order, strict=True)
        )
        for key in keys
    }
    own = {field.name: getattr(family, field.name) for field in fields(Family)}
    small = family.small | (np.asarray(base.rows) < settings.min_n)
    pairing: Pairing | ScorePairing | None = None
    if isinstance(family.estimates, Rates) and isinstance(base, Rates):
        pairing = pairs.rates(family.estimates, base, settings.rule.where)
    elif isinstance(family.estimates, Measured) and isinstance(base, Measured) and family.kind != "ratio":
        pairing = pairs.measured(family.estimates, base)
    exact = family.exact and then.exact
    return Change(**{**own, **merged, "small": small, "exact": exact, "base": base, "pairing": pairing})


def _refuse_other_schema(now: Evidence, then: Evidence) -> None:
    facts = {
        "task": (now.subject.task, then.subject.task),
        "classes": (now.subject.classes, then.subject.classes),
        "positive class": (now.subject.positive, then.subject.positive),
        "sensitive columns": (tuple(now.subject.test.sensitive), tuple(then.subject.test.sensitive)),
        "use of row weights": (now.subject.test.weighted, then.subject.test.weighted),
    }
    for what, (one, two) in facts.items():
        if one != two:
            raise Unresolved(f"the {what} differs from the baseline's: {_shown(one)} now, {_shown(two)} then")


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _about(baseline: Baseline, pairs: Pairs, paired: bool) -> str:
    if paired:
        told = f"paired test: the same {pairs.rows:,} rows in both audits"
    elif pairs.known:
        told = "two-sample test, whose interval is wider: the rows are the same, but pairs do not give this quantity"
    else:
        told = f"two-sample test: {pairs.reason}"
    return f"baseline of {baseline.accepted} ({baseline.reason}); {told}"
