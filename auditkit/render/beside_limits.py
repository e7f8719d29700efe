"""Rounded disparities beside the limits of the policy: what failed must not read as what would have passed."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from auditkit.core.evidence import Measurement, Outcome
from auditkit.core.gap_names import KINDS
from auditkit.core.rounding import keeps_side
from auditkit.render.coarse import is_rounded

ACROSS = "withheld in shared copies: rounded, it would lie across the limit that it is judged by"


def beside_limits(
    shared: Sequence[Outcome], exact: Sequence[Outcome], policy: Mapping[str, object] | None
) -> tuple[Outcome, ...]:
    """``shared`` outcomes in which no disparity is rounded across a limit that a rule sets for it.

    Args:
        shared, exact: The same outcomes, rounded and not.
        policy: The policy as it is embedded in the evidence, if there is one.
    """
    limits = _limits(policy)
    if not limits:
        return tuple(shared)
    return tuple(
        dataclasses.replace(
            outcome,
            measurements=tuple(
                _beside(m, before.value, limits.get(m.name, ()))
                for m, before in zip(outcome.measurements, whole.measurements, strict=True)
            ),
        )
        for outcome, whole in zip(shared, exact, strict=True)
    )


def _beside(m: Measurement, exact: float | None, limits: Sequence[float]) -> Measurement:
    if not m.over or not is_rounded(m) or m.value is None or exact is None or keeps_side(m.value, exact, limits):
        return m
    return dataclasses.replace(m, value=None, n=None, interval=None, reason=ACROSS)


def _limits(policy: Mapping[str, object] | None) -> Mapping[str, Sequence[float]]:
    """Disparity -> the limits of rules on it."""
    found: dict[str, list[float]] = defaultdict(list)
    rules: Any = (policy or {}).get("rule") or ()
    for rule in rules:
        metric = str(rule.get("metric", ""))
        ends = [float(rule[key]) for key in ("min", "max") if isinstance(rule.get(key), int | float)]
        for kind in KINDS:
            if rule.get("compare") == kind:
                found[f"{metric if '.' in metric else f'fairness.{metric}'}.{kind}"] += ends
        if metric.endswith(KINDS):
            found[metric] += ends
    return found
