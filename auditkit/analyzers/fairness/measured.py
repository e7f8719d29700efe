"""One estimate as the measurement that says it: the same words for a missing interval in every analyzer here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

from auditkit.core.analyzer import Context, Note
from auditkit.core.evidence import Direction, Interval, Measurement
from auditkit.core.subject import IntArray
from auditkit.stats.estimate import Estimate
from auditkit.stats.linearised import Design


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


class OverGroups(Protocol):
    """What a gap or a distance between groups is, whatever made it."""

    @property
    def value(self) -> float | None:
        """The value, or ``None`` with a reason."""
        ...

    @property
    def interval(self) -> Interval | None:
        """Its interval, if there is one."""
        ...

    @property
    def reason(self) -> str | None:
        """Why the value or the interval is missing."""
        ...


def over_groups(
    name: str, found: OverGroups, column: str, n: int, *, top: float | None = 1.0, **fields: Any
) -> Measurement:
    """A gap or distance between the groups of ``column`` as its measurement, from 0 to ``top``.

    Args:
        name: Name of the measurement; the lower is better unless it ends in ``.ratio``.
        found: Value, interval and reason.
        column: The column whose groups are compared.
        n: Rows behind it.
        top: Largest value possible.
        fields: Further fields of the measurement, in the place of these.
    """
    direction: Direction = "higher" if name.endswith(".ratio") else "lower"
    own: dict[str, Any] = {"value": found.value, "interval": found.interval, "reason": found.reason}
    own |= {"n": n, "over": (column,), "bounds": (0.0, top), "direction": direction}
    return Measurement(name=name, **{**own, **fields})


def rows_of_curves(context: Context, design: Design, n: int, limit: int) -> tuple[IntArray, tuple[Note, ...]]:
    """The rows behind distances between groups' curves, and the note that tells of a draw.

    Of plain rows only counts are resampled, so all are taken; of weighted or clustered rows at most ``limit``.
    """
    picked = context.sample_rows(n, None if design.plain else limit)
    if len(picked) == n:
        return picked, ()
    return picked, (Note(f"Distances between groups are of {len(picked)} of {n} rows drawn at random."),)
