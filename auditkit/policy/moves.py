"""What moved between two audits: every measurement of both, matched by its key, with the interval of its change."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Evidence, Interval, Measurement
from auditkit.policy.families import Measured, is_exact

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
    """

    key: str
    state: Moved
    base: Measurement | None
    head: Measurement | None
    change: float | None = None
    interval: Interval | None = None


def moves(base: Evidence, head: Evidence, *, confidence: float = 0.95, other_data: bool = False) -> tuple[Move, ...]:
    """Every measurement of ``base`` or ``head`` with what became of it; the largest movements first.

    The two values are taken as independent (MOVER), so on the same rows the intervals are wider than they need be.
    Gaps and ratios over groups are extremes of several values: their change is bounded by the bounds of the two,
    at half the error each.

    Raises:
        UsageError: AK422 when the audits are of different data, classes or tasks (data: unless ``other_data``).

    Source: Zou and Donner (2008), Statistics in Medicine 27; Holm (1979), Scandinavian Journal of Statistics 6.
    """
    _refuse(base, head, other_data)
    before, after = ({m.key: m for m in part.measurements()} for part in (base, head))
    keys = list(dict.fromkeys((*before, *after)))
    found = [_move(key, before.get(key), after.get(key), confidence) for key in keys]
    return tuple(sorted(_corrected(found, confidence), key=_order))


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


def _move(key: str, base: Measurement | None, head: Measurement | None, confidence: float) -> Move:
    if base is None or base.value is None:
        both_missing = base is not None and (head is None or head.value is None)
        return Move(key=key, state="unknown" if both_missing or head is None or head.value is None else "new",
                    base=base, head=head)  # fmt: skip
    if head is None or head.value is None or (head.unreliable and not base.unreliable):
        return Move(key=key, state="lost", base=base, head=head)
    change = head.value - base.value
    limits = change_limits(base, head, confidence)
    if limits is None:
        state: Moved = "still" if change == 0.0 else "unknown"
        return Move(key=key, state=state, base=base, head=head, change=change)
    low, high = limits
    interval = None
    if not (is_exact(base) and is_exact(head)):
        interval = Interval(low=min(low, change), high=max(high, change), level=confidence, method=_method(base))
    state = "maybe" if low > 0 or high < 0 else "still"
    return Move(key=key, state=state, base=base, head=head, change=change, interval=interval)


def change_limits(base: Measurement, head: Measurement, level: float) -> Limits | None:
    """Limits of head less base at two-sided ``level``, or ``None`` where one of them has no interval."""
    extreme = _is_extreme(base)
    low, high = Measured(measurements=(base, head)).limits(1 - (1 - level) / 2 if extreme else level)
    then, now = base.value, head.value
    ends = [float(end) for end in (*low, *high)]
    if then is None or now is None or not all(map(math.isfinite, ends)):
        return None
    if extreme:
        return ends[1] - ends[2], ends[3] - ends[0]
    change = now - then
    return change - math.hypot(now - ends[1], ends[2] - then), change + math.hypot(ends[3] - now, then - ends[0])


def _corrected(found: list[Move], confidence: float) -> list[Move]:
    """``maybe`` made a movement where it stands after Holm over all that has an interval of its change."""
    total = sum(1 for move in found if move.interval is not None)
    found = list(found)
    waiting = [index for index, move in enumerate(found) if move.state == "maybe"]
    settled = 0
    while True:
        level = 1.0 - (1.0 - confidence) / max(total - settled, 1)
        fresh = [index for index in waiting if _beyond(found[index], level)]
        if not fresh:
            return found
        for index in fresh:
            found[index] = replace(found[index], state=_named(found[index]))
        waiting = [index for index in waiting if index not in fresh]
        settled += sum(1 for index in fresh if found[index].interval is not None)


def _beyond(move: Move, level: float) -> bool:
    limits = change_limits(move.base, move.head, level) if move.base and move.head else None
    return limits is not None and (limits[0] > 0 or limits[1] < 0)


def _named(move: Move) -> Moved:
    direction = move.base.direction if move.base else "neutral"
    if direction == "neutral":
        return "changed"
    rose = (move.change or 0.0) > 0
    return "better" if rose == (direction == "higher") else "worse"


def _is_extreme(m: Measurement) -> bool:
    return bool(m.over) and m.name.endswith((".difference", ".ratio"))


def _method(m: Measurement) -> str:
    return "bonferroni" if _is_extreme(m) else "mover"


_FIRST: dict[str, int] = {
    name: place for place, name in enumerate(("worse", "lost", "changed", "better", "maybe", "unknown", "new", "still"))
}


def _order(move: Move) -> tuple[int, float, str]:
    size = abs(move.change or 0.0)
    half = (move.interval.high - move.interval.low) / 2 if move.interval else 0.0
    return _FIRST[move.state], -(size / half if half else size), move.key
