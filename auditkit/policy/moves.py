"""What moved between two audits: every measurement of both, matched by its key, with the interval of its change.

Where both audits rest on the same rows and kept their private record of them, a change is tested on pairs, by the very
families that a rule with a baseline is judged by (``paired_moves.py``); all else as two samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Evidence, Interval, Measurement
from auditkit.policy.group_gaps import GroupGaps
from auditkit.policy.measured import Measured, is_exact
from auditkit.policy.paired_moves import GapMoves, PairedMoves
from auditkit.policy.share_moves import METHOD, ShareMoves

Moved = Literal["worse", "better", "changed", "maybe", "still", "lost", "new", "unknown"]
Limits = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Move:
    """One measurement of both audits.

    Attributes:
        state: ``worse``, ``better`` or (without a direction) ``changed``: the interval of the change excludes 0 after
            Holm's correction for everything compared; ``maybe``: it excludes 0 before that; ``still``: it does not;
            ``lost`` and ``new``: measured in one audit alone; ``unknown``: a value has no interval.
        change: Head less base.
        interval: Of the change, uncorrected.
        paired: Whether the change is tested on pairs of rows, not on two samples.
    """

    key: str
    state: Moved
    base: Measurement | None
    head: Measurement | None
    change: float | None = None
    interval: Interval | None = None
    paired: bool = False


def moves(
    base: Evidence,
    head: Evidence,
    *,
    confidence: float = 0.95,
    other_data: bool = False,
    pairs: PairedMoves | None = None,
) -> tuple[Move, ...]:
    """Every measurement of ``base`` or ``head`` with what became of it; the largest movements first.

    Without pairs the two values are taken as independent (shares by their exact limits, melded; all else by MOVER), so
    on the same rows the intervals are wider than they need be. The change of a gap or ratio of two groups has the
    interval that a rule with a baseline is judged by. Over more groups, each is the extreme of several: the change is
    bounded by the bounds of the two, at half the error each.

    Args:
        base, head: The two audits, or copies of them in which numbers are withheld.
        confidence: Two-sided level of the intervals.
        other_data: Compare audits of different rows too.
        pairs: What the records of both say together.

    Raises:
        UsageError: AK422 when the audits are of different data, classes or tasks (data: unless ``other_data``).

    Source: Zou and Donner (2008), Statistics in Medicine 27; Holm (1979), Scandinavian Journal of Statistics 6.
    """
    _refuse(base, head, other_data)
    before, after = ({m.key: m for m in part.measurements()} for part in (base, head))
    keys = list(dict.fromkeys((*before, *after)))
    both = [key for key in keys if key in before and key in after]
    ways = _Ways(ShareMoves((before[key], after[key]) for key in both), GapMoves(base, head), pairs,
                GroupGaps(base), GroupGaps(head))  # fmt: skip
    found = [_move(before.get(key), after.get(key), confidence, ways, key) for key in keys]
    return tuple(sorted(_corrected(found, confidence, ways), key=_order))


def remarks(base: Evidence, head: Evidence, found: Sequence[Move], pairs: PairedMoves | None = None) -> tuple[str, ...]:
    """What a reader must know of the comparison as a whole, in sentences."""
    said = []
    tested = [move for move in found if move.interval is not None]
    paired = sum(move.paired for move in tested)
    if base.subject.test.fingerprint != head.subject.test.fingerprint:
        said.append("Different rows: a change of the data shows like a change of the model.")
    elif paired:
        rest = f", the other {len(tested) - paired:,} as two samples" if paired < len(tested) else ""
        assert pairs is not None
        said.append(f"The same {pairs.rows:,} rows in both: {paired:,} changes are tested on pairs of rows{rest}.")
    else:
        none = "no change has limits on pairs of rows"
        why = "the records of both audits were not given" if pairs is None else pairs.reason or none
        told = "The same rows in both, but every change is tested as of two samples, with wider intervals"
        said.append(f"{told}: {why}.")
    marks = base.subject.model_fingerprint, head.subject.model_fingerprint
    if marks[0] is not None and marks[0] == marks[1]:
        said.append("The same model in both.")
    return tuple(said)


def _refuse(base: Evidence, head: Evidence, other_data: bool) -> None:
    one, two = base.subject, head.subject
    facts = {
        "task": (one.task, two.task),
        "classes": (one.classes, two.classes),
        "positive": (one.positive, two.positive),
    }
    for what, (a, b) in facts.items():
        if a != b:
            raise UsageError(
                "AK422",
                f"the two audits cannot be compared: they differ in {what}",
                why=f"{a} in BASE, {b} in HEAD",
                fix="compare audits of the same task",
            )
    if one.test.fingerprint != two.test.fingerprint and not other_data:
        raise UsageError(
            "AK422",
            "the two audits are of different rows",
            why=f"{one.test.n_rows} rows in BASE, {two.test.n_rows} in HEAD, with different contents",
            fix="audit both models on the same rows, or compare all the same with --allow-different-data",
        )


@dataclass(frozen=True, slots=True)
class _Ways:
    """How a change may be bounded: as of shares or gaps of two samples, or on pairs of rows."""

    shares: ShareMoves
    gaps: GapMoves
    pairs: PairedMoves | None
    then: GroupGaps
    now: GroupGaps

    def paired(self, base: Measurement, head: Measurement) -> bool:
        return self.pairs is not None and self.pairs.has(base, head)

    def limits(self, base: Measurement, head: Measurement, level: float) -> Limits | None:
        """Limits of head less base, on pairs where they are given.

        A gap over more than two groups has two sets of limits on pairs, at half the error each: of whichever pair of
        groups is the worst one, and those of two samples.
        """
        pairs = self.pairs
        if pairs is None or not self.paired(base, head):
            return self._apart(base, head, level)
        if pairs.comparisons(base) < 2 or not base.is_gap:
            return pairs.limits(base, level)
        half = 1.0 - (1.0 - level) / 2.0
        one, two = pairs.limits(base, half), self._two_samples(base, head, half)
        return one if two is None else (max(one[0], two[0]), min(one[1], two[1]))

    def _apart(self, base: Measurement, head: Measurement, level: float) -> Limits | None:
        if self.shares.has(base.key):
            return self.shares.limits(base.key, level)
        if base.is_gap and self.gaps.has(base, head):
            return self.gaps.limits(base, level)
        return self._two_samples(base, head, level)

    def _two_samples(self, base: Measurement, head: Measurement, level: float) -> Limits | None:
        """Limits joined from those of both: of a gap from its groups' numbers at half the error, where they tell it."""
        half = 1.0 - (1.0 - level) / 2.0
        if base.is_gap and (then := self.then.interval(base, half)) and (now := self.now.interval(head, half)):
            return now.low - then.high, now.high - then.low
        return change_limits(base, head, level)

    def method(self, base: Measurement, head: Measurement) -> str:
        if self.pairs is not None and self.paired(base, head):
            return self.pairs.method(base)
        if self.shares.has(base.key) or not base.is_gap:
            return METHOD if self.shares.has(base.key) else "mover"
        return self.gaps.method(base) if self.gaps.has(base, head) else "bonferroni"


def _move(base: Measurement | None, head: Measurement | None, confidence: float, ways: _Ways, key: str) -> Move:
    if base is None or base.value is None:
        both_missing = base is not None and (head is None or head.value is None)
        return Move(key=key, state="unknown" if both_missing or head is None or head.value is None else "new",
                    base=base, head=head)  # fmt: skip
    if head is None or head.value is None or (head.unreliable and not base.unreliable):
        return Move(key=key, state="lost", base=base, head=head)
    change = head.value - base.value
    paired, limits = ways.paired(base, head), ways.limits(base, head, confidence)
    if limits is None:
        state: Moved = "still" if change == 0.0 else "unknown"
        return Move(key=key, state=state, base=base, head=head, change=change)
    low, high = limits
    interval = None
    if not (is_exact(base) and is_exact(head)):
        interval = Interval(
            low=min(low, change), high=max(high, change), level=confidence, method=ways.method(base, head)
        )
    state = "maybe" if low > 0 or high < 0 else "still"
    return Move(key=key, state=state, base=base, head=head, change=change, interval=interval, paired=paired)


def change_limits(base: Measurement, head: Measurement, level: float) -> Limits | None:
    """Limits of head less base at two-sided ``level``, or ``None`` where one of them has no interval."""
    extreme = base.is_gap
    low, high = Measured(measurements=(base, head)).limits(1 - (1 - level) / 2 if extreme else level)
    then, now = base.value, head.value
    ends = [float(end) for end in (*low, *high)]
    if then is None or now is None or not all(map(math.isfinite, ends)):
        return None
    if extreme:
        return ends[1] - ends[2], ends[3] - ends[0]
    change = now - then
    return change - math.hypot(now - ends[1], ends[2] - then), change + math.hypot(ends[3] - now, then - ends[0])


def _corrected(found: list[Move], confidence: float, ways: _Ways) -> list[Move]:
    """``maybe`` made a movement where it stands after Holm over all that has an interval of its change."""
    total = sum(1 for move in found if move.interval is not None)
    found = list(found)
    waiting = [index for index, move in enumerate(found) if move.state == "maybe"]
    settled = 0
    while True:
        level = 1.0 - (1.0 - confidence) / max(total - settled, 1)
        fresh = [index for index in waiting if _beyond(found[index], level, ways)]
        if not fresh:
            return found
        for index in fresh:
            found[index] = replace(found[index], state=_named(found[index]))
        waiting = [index for index in waiting if index not in fresh]
        settled += sum(1 for index in fresh if found[index].interval is not None)


def _beyond(move: Move, level: float, ways: _Ways) -> bool:
    if move.base is None or move.head is None:
        return False
    limits = ways.limits(move.base, move.head, level)
    return limits is not None and (limits[0] > 0 or limits[1] < 0)


def _named(move: Move) -> Moved:
    direction = move.base.direction if move.base else "neutral"
    if direction == "neutral":
        return "changed"
    rose = (move.change or 0.0) > 0
    return "better" if rose == (direction == "higher") else "worse"


_FIRST: dict[str, int] = {
    name: place for place, name in enumerate(("worse", "lost", "changed", "better", "maybe", "unknown", "new", "still"))
}


def _order(move: Move) -> tuple[int, float, str]:
    size = abs(move.change or 0.0)
    half = (move.interval.high - move.interval.low) / 2 if move.interval else 0.0
    return _FIRST[move.state], -(size / half if half else size), move.key
