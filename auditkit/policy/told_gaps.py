"""The gate judges a gap by the interval that the card tells of it.

Where the groups' own numbers give that interval (shares on their rows, means on theirs), every pair of groups is judged
by them. Where they do not (means of rates, resampled ones, groups that share places), the gap that was measured over
all groups is judged itself, with the two groups that it lies between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from auditkit.core.evidence import Evidence, Measurement
from auditkit.methods.fairness.gaps import Kind, disparities, pairs
from auditkit.policy.families import Family
from auditkit.policy.group_gaps import gives
from auditkit.policy.lookup import Settings, Unresolved
from auditkit.policy.measured import Measured
from auditkit.policy.model import Policy
from auditkit.stats.rebuilt import ROUNDED


def as_told(
    family: Family, members: Sequence[Measurement], settings: Settings, policy: Policy, evidence: Evidence
) -> Family:
    """``family`` of the ``members``, or its worst pair alone with the interval of the gap that was measured over them.

    Raises:
        Unresolved: When that gap is not to be relied upon.
    """
    gap = _measured_gap(settings, members, evidence) if _is_whole(family, settings, policy) else None
    if gap is None or family.kind == "value":
        return family
    if gap.unreliable:
        raise Unresolved(f"{gap.key} is not to be relied upon: {gap.unreliable}")
    if not is_needed(members, gap, family.kind):
        return family
    each = family.values()
    alone = family.only(int(np.nanargmax(each) if family.kind == "difference" else np.nanargmin(each)))
    assert isinstance(alone.estimates, Measured)
    small = np.full(len(alone.names), bool(family.small.any()))
    return replace(
        alone, estimates=replace(alone.estimates, gap=gap, several=len(family.names) > 2), small=small, tests=1
    )


def is_needed(groups: Sequence[Measurement], gap: Measurement, kind: Kind) -> bool:
    """Whether a ``gap`` that was measured over ``groups`` is to be judged itself: their own numbers do not give its
    interval.

    >>> from auditkit.core.evidence import Interval
    >>> groups = [Measurement(name="m", value=value, n=100, slice={"g": str(value)}) for value in (0.2, 0.3)]
    >>> held = Interval(low=0.0, high=0.2, method="bootstrap")
    >>> is_needed(groups, Measurement(name="m.difference", value=0.1, interval=held, over=("g",)), "difference")
    True
    """
    if gap.interval is None or gap.value is None:
        return False
    own = Measured(measurements=tuple(groups))
    each = disparities(own.value, *pairs(own), kind)
    worst = math.nan
    if np.isfinite(each).any():
        worst = float(np.nanmax(each) if kind == "difference" else np.nanmin(each))
    if not abs(worst - gap.value) <= ROUNDED * max(1.0, abs(gap.value)):
        return False  # it is no gap of these values
    return not gives(own, gap, kind)


def _is_whole(family: Family, settings: Settings, policy: Policy) -> bool:
    """Whether a rule is on the gap over all groups: no one reference, no group left out, none waived by name."""
    rule = settings.rule
    return (
        len(family.names) > 1
        and rule.baseline is None
        and settings.reference in ("pairwise", "best")
        and all(reason is None for reason in family.undefined)
        and not (settings.small == "exclude" and bool(family.small.any()))
        and not (len(family.names) > 2 and any(waiver.rule == rule.id and waiver.groups for waiver in policy.waiver))
    )


def _measured_gap(settings: Settings, members: Sequence[Measurement], evidence: Evidence) -> Measurement | None:
    rule, params = settings.rule, dict(members[0].params)
    columns = set(members[0].slice) - set(rule.where)
    found = [
        m
        for m in evidence.by_name.get(f"{settings.metric}.{rule.compare}", ())
        if set(m.over) == columns and dict(m.slice) == dict(rule.where) and dict(m.params) == params
    ]
    return found[0] if len(found) == 1 else None
