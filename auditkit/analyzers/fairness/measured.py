"""One estimate as the measurement that says it: the same words for a missing interval in every analyzer here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from auditkit.core.evidence import Measurement
from auditkit.stats.estimate import Estimate


def measured(name: str, estimate: Estimate, level: float, *, clip: bool = False, **fields: Any) -> Measurement:
    """``estimate`` with its interval at ``level``, or with the reason why there is none.

    Args:
        name: Name of the measurement.
        estimate: The value with its standard error.
        level: Two-sided confidence level.
        clip: Cut the interval at ``bounds`` of ``fields``.
        fields: Further fields of the measurement; ``n`` is the estimate's unless given.
    """
    interval = estimate.interval(level)
    if clip and interval is not None:
        low, high = fields["bounds"]
        low = interval.low if low is None else max(interval.low, low)
        interval = replace(interval, low=low, high=interval.high if high is None else min(interval.high, high))
    reason = None if interval else estimate.reason or "these rows give no interval"
    return Measurement(name=name, value=estimate.value, interval=interval, reason=reason, **{"n": estimate.n, **fields})
