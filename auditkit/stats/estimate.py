"""An estimate: a value, the rows behind it, and its interval at any level, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from auditkit.core.evidence import Interval
from auditkit.stats.intervals import keep_limits

Bounds = Callable[[float], Interval | None]


@dataclass(frozen=True, slots=True)
class Share:
    """A share with exact limits on effective rows, behind an estimate.

    Attributes:
        value: The share.
        rows: ``rows(level)`` gives the effective rows for limits at that level.
        odds: The estimate's odds are this many times the share's: 2 for F1, whose share is that of the rows which are
            hits among those that are, or were decided as, the class.
    """

    value: float
    rows: Callable[[float], float]
    odds: float = 1.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point estimate whose interval can be asked for at any level.

    Attributes:
        value: The point estimate, or ``None`` with a ``reason``.
        n: Rows the value rests on.
        bounds: ``bounds(level)`` gives the two-sided interval; ``None`` where there is none.
        reason: Why the value, or the interval, is missing.
        share: The share behind the estimate, where there is one: gaps then have exact limits too.
    """

    value: float | None
    n: int
    bounds: Bounds | None = None
    reason: str | None = None
    share: Share | None = None
    _told: dict[float, Interval | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def interval(self, level: float) -> Interval | None:
        """The interval at ``level``, widened by rounding error so that it always holds the value; kept once told."""
        if level not in self._told:
            self._told[level] = self._interval(level)
        return self._told[level]

    def _interval(self, level: float) -> Interval | None:
        if self.value is None or self.bounds is None:
            return None
        found = self.bounds(level)
        if found is None or found.low <= self.value <= found.high:
            return found
        low, high = min(found.low, self.value), max(found.high, self.value)
        return replace(found, low=low, high=high)


def prepare(estimates: Iterable[Estimate], level: float) -> None:
    """Work out the exact limits of all shares among ``estimates`` in one go, ahead of their intervals one by one."""
    known = [(share.value, share.rows(level)) for estimate in estimates if (share := estimate.share) is not None]
    keep_limits([(value, rows) for value, rows in known if rows > 0], level)


def undefined(reason: str, n: int = 0) -> Estimate:
    """An estimate that cannot be made, with the sentence that says why."""
    return Estimate(None, n, None, reason)


def mapped(estimate: Estimate, change: Callable[[float], float], method: str) -> Estimate:
    """``change`` (increasing) applied to the value and to both limits; ``method`` names the result.

    >>> mapped(Estimate(4.0, 9), lambda v: v**0.5, "root").value
    2.0
    """
    if estimate.value is None:
        return estimate

    def bounds(level: float) -> Interval | None:
        found = estimate.interval(level)
        if found is None:
            return None
        return replace(found, low=change(found.low), high=change(found.high), method=f"{found.method}-{method}")

    return Estimate(change(estimate.value), estimate.n, bounds, estimate.reason)
