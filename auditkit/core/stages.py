"""Progress of an analyzer that works in parts, as one bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from auditkit.core.analyzer import Context

# What the whole is told in: fine enough for the shortest part to be seen.
WHOLE = 1000


class Stages:
    """Parts of known weight, one after the other; each tells how far it is by a share, and the deadline is looked at.

    >>> told = []
    >>> context = Context(sequence=None, predictions=None, progress=lambda done, total: told.append((done, total)))
    >>> stages = Stages(context, [1, 3])
    >>> stages.end(); stages.reach(0.5); stages.end()
    >>> told
    [(250, 1000), (625, 1000), (1000, 1000)]
    """

    def __init__(self, context: Context, weights: Sequence[float]) -> None:
        self.context = context
        self._ends = [sum(weights[: place + 1]) / sum(weights) for place in range(len(weights))]
        self._part = 0
        self._told = 0

    def reach(self, share: float) -> None:
        """The part in hand is done to the share in [0, 1]; what was told is never taken back.

        Raises:
            DeadlineReached: AK320.
        """
        self.context.check_deadline()
        before = self._ends[self._part - 1] if self._part else 0.0
        done = round(WHOLE * (before + min(share, 1.0) * (self._ends[self._part] - before)))
        if done > self._told:
            self._told = done
            self.context.progress(done, WHOLE)

    def inside(self) -> Context:
        """The context of the part in hand: what is told to it of progress moves this bar."""
        return replace(self.context, progress=lambda done, total: self.reach(done / max(total, 1)))

    def ticks(self, expected: float) -> Callable[[], None]:
        """To be called at each of about ``expected`` steps of the part in hand; further ones wait for its end."""
        seen = 0

        def tick() -> None:
            nonlocal seen
            seen += 1
            self.reach(seen / max(expected, 1.0))

        return tick

    def end(self) -> None:
        """The part in hand is done."""
        self.reach(1.0)
        self._part = min(self._part + 1, len(self._ends) - 1)
