"""From membership scores to measurements, a table, a curve and the ranks of the most exposed rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.analyzer import Note, Produced
from auditkit.core.evidence import OVERALL, Curve, Measurement, Series, Table
from auditkit.core.subject import FloatArray, IntArray, StrArray

BoolArray = npt.NDArray[np.bool_]
FEWEST = 10
_CLUSTERED = "rows of one cluster are alike: no interval holds for them"
BY_SHADOWS = ("lira-offline", "lira-online", "rmia", "bavaria")
# Attacks whose score has two values have no threshold to move.
_BINARY = ("correctness",)


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """The attacked rows, training rows first: which are members, their clusters and groups."""

    member: BoolArray
    clusters: IntArray | None
    groups: Mapping[str, StrArray]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One attack's scores, larger for a row that looks trained on; ``rows`` where it attacked not all of them."""

    name: str
    scores: FloatArray
    rows: IntArray | None = None

    def of(self, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Values of all rows -> of the rows that this attack attacked."""
        return values if self.rows is None else values[self.rows]


def overall(attack: Attack, attacked: Attacked, rates: Sequence[float], level: float) -> Iterator[Measurement]:
    """AUC and true positive rates over all rows."""
    everyone = np.ones(len(attack.scores), dtype=np.bool_)
    yield _area(attack, attacked, everyone, OVERALL, level)
    if attack.name not in _BINARY:
        for rate in rates:
            yield _found(attack, attacked, everyone, OVERALL, rate, level)


def by_group(attack: Attack, attacked: Attacked, rates: Sequence[float], level: float) -> Iterator[Produced]:
    """The same for each group of each sensitive column, and which group is the most exposed."""
    for column, everyones in attacked.groups.items():
        values = attack.of(everyones)
        areas = []
        for group in np.unique(values):
            rows = np.asarray(values == group)
            areas.append(_area(attack, attacked, rows, {column: str(group)}, level))
            yield areas[-1]
            if attack.name not in _BINARY and rates:
                yield _found(attack, attacked, rows, {column: str(group)}, max(rates), level)
        yield from _most_exposed_group(attack, column, areas)


def _most_exposed_group(attack: Attack, column: str, areas: Sequence[Measurement]) -> Iterator[Note]:
    known = [m for m in areas if m.value is not None and m.interval is not None]
    if len(known) < 2:
        return
    most = max(known, key=lambda m: m.value or 0.0)
    least = min(known, key=lambda m: m.value or 0.0)
    assert most.interval is not None
    assert least.interval is not None
    apart = most.interval.low > least.interval.high
    yield Note(
        f"By {column}, the {attack.name} attack tells the training rows of {most.slice[column]!r} best (AUC "
        f"{most.value:.3f}) and those of {least.slice[column]!r} worst ({least.value:.3f}); the intervals "
        f"{'do not overlap: one group is more exposed' if apart else 'overlap: no difference is shown'}."
    )


def charts(made: Sequence[Attack], attacked: Attacked, rates: Sequence[float], level: float) -> Iterator[Produced]:
    """One table of the rates of all attacks, one chart of the threshold attacks and one of those with shadow models."""
    from auditkit.methods.privacy.membership import thinned_roc, tpr_at_fpr

    rows: list[tuple[str | float | int | None, ...]] = []
    lines: dict[bool, list[Series]] = {False: [], True: []}
    for attack in made:
        if attack.name in _BINARY:
            continue
        member = np.asarray(attack.of(attacked.member), dtype=np.bool_)
        false, true = thinned_roc(attack.scores, member)
        lines[attack.name in BY_SHADOWS].append(
            Series(name=attack.name, x=tuple(false.tolist()), y=tuple(true.tolist()))
        )
        for rate in rates:
            found = tpr_at_fpr(attack.scores, member, rate, level)
            bounds = (None, None) if attacked.clusters is not None else (found.interval.low, found.interval.high)
            rows.append((attack.name, rate, found.value, found.false_positives, int((~member).sum()), *bounds))
    if rows:
        yield Table(
            name="privacy.membership_tpr",
            title="Members found at low false positive rates",
            columns=("attack", "false positive rate", "found", "false positives", "non-members", "low", "high"),
            rows=tuple(rows),
        )
    for shadows, own in lines.items():
        if own:
            yield _roc(own, shadows)


def _roc(lines: list[Series], shadows: bool) -> Curve:
    return Curve(
        name="privacy.membership_shadow_roc" if shadows else "privacy.membership_roc",
        title="Membership attacks with shadow models" if shadows else "Membership attacks by a threshold",
        x_label="false positive rate (test rows taken for training rows)",
        y_label="true positive rate (training rows found)",
        series=(Series(name="blind", x=(0.0, 1.0), y=(0.0, 1.0)), *lines),
    )


def exposed(attack: Attack, attacked: Attacked, count: int) -> Iterator[Table]:
    """How far the most exposed training rows stand out, by rank; which rows they are is not told."""
    if attack.name in _BINARY:
        return
    member = np.asarray(attack.of(attacked.member), dtype=np.bool_)
    inside, outside = np.sort(attack.scores[member])[::-1][:count], np.sort(attack.scores[~member])
    alike = len(outside) - np.searchsorted(outside, inside, side="left")
    yield Table(
        name="privacy.most_exposed",
        title="Most exposed training rows",
        columns=("rank", "unseen rows that score as high", "share of unseen rows"),
        rows=tuple((at + 1, int(found), float(found / len(outside))) for at, found in enumerate(alike)),
        note=f"By the {attack.name} attack. 0 means that no unseen row looks as trained on as this one. Which rows "
        "these are is not told.",
    )


def unmade(names: Sequence[str], rates: Sequence[float], reason: str | None, n: int) -> Iterator[Measurement]:
    """Numbers that an attack which was asked for and not made would have given; none without a ``reason``."""
    if reason is None:
        return
    for name in names:
        for more in ({}, *({"fpr": rate} for rate in rates)):
            yield Measurement(
                name="privacy.membership_tpr" if more else "privacy.membership_auc",
                value=None,
                n=n,
                params={"attack": name, **more},
                direction="lower",
                bounds=(0.0, 1.0),
                reason=reason,
            )


def _area(attack: Attack, attacked: Attacked, rows: BoolArray, where: Mapping[str, str], level: float) -> Measurement:
    from auditkit.methods.privacy.membership import membership_auc

    member = np.asarray(attack.of(attacked.member), dtype=np.bool_)[rows]
    inside, outside = int(member.sum()), int((~member).sum())
    value, interval, reason = None, None, None
    if min(inside, outside) < FEWEST:
        reason = f"{inside} members and {outside} non-members; at least {FEWEST} of each are needed"
    else:
        clusters = None
        if attacked.clusters is not None:
            clusters = np.asarray(attack.of(attacked.clusters), dtype=np.int64)[rows]
        value, interval = membership_auc(attack.scores[rows], member, clusters, level)
        reason = None if interval is not None else "no variance is seen, so that there is no interval"
    return Measurement(
        name="privacy.membership_auc",
        value=value,
        n=inside + outside,
        interval=interval,
        slice=where,
        params={"attack": attack.name},
        direction="lower",
        bounds=(0.0, 1.0),
        reason=reason,
    )


def _found(
    attack: Attack, attacked: Attacked, rows: BoolArray, where: Mapping[str, str], rate: float, level: float
) -> Measurement:
    from auditkit.methods.privacy.membership import tpr_at_fpr

    member = np.asarray(attack.of(attacked.member), dtype=np.bool_)[rows]
    inside, outside = int(member.sum()), int((~member).sum())
    value, interval, reason = None, None, None
    if min(inside, outside) < FEWEST:
        reason = f"{inside} members and {outside} non-members; at least {FEWEST} of each are needed"
    else:
        found = tpr_at_fpr(attack.scores[rows], member, rate, level)
        value, reason = found.value, found.reason
        interval = found.interval
        if attacked.clusters is not None:
            interval, reason = None, reason or _CLUSTERED
    return Measurement(
        name="privacy.membership_tpr",
        value=value,
        n=inside + outside,
        interval=interval,
        slice=where,
        params={"attack": attack.name, "fpr": rate},
        direction="lower",
        bounds=(0.0, 1.0),
        reason=reason,
    )
