"""Changes of shares between two audits as of two samples, by the limits that a rule with a baseline is judged by."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from auditkit.core.evidence import Measurement
from auditkit.stats.melded import melded_limits
from auditkit.stats.rebuilt import rebuilt

METHOD = "melded"


class ShareMoves:
    """Exact limits of head less base for every measurement that is a share in both, worked out in one go.

    Args:
        pairs: The measurement in the base and in the head.

    Source: Fay, Proschan and Brittain (2015), Biometrics 71.
    """

    def __init__(self, pairs: Iterable[tuple[Measurement, Measurement]]) -> None:
        self._at: dict[str, int] = {}
        self._shares = []
        self._found: dict[float, tuple[list[float], list[float]]] = {}
        for base, head in pairs:
            each = [None if estimate is None else estimate.share for estimate in (rebuilt(base), rebuilt(head))]
            known = [share for share in each if share is not None]
            if len(known) == len(each):
                self._at[base.key] = len(self._at)
                self._shares += known

    def has(self, key: str) -> bool:
        """Whether the measurement ``key`` is a share in both."""
        return key in self._at

    def limits(self, key: str, level: float) -> tuple[float, float]:
        """Limits of its change at two-sided ``level``."""
        if level not in self._found:
            then = np.arange(0, len(self._shares), 2)
            value, rows, odds = np.array([[share.value, share.rows(level), share.odds] for share in self._shares]).T
            low, high = melded_limits(value, rows, then + 1, then, "difference", level, odds)
            self._found[level] = low.tolist(), high.tolist()
        bottom, top = self._found[level]
        return bottom[self._at[key]], top[self._at[key]]
