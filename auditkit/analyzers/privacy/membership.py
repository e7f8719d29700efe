"""``privacy.membership``: can an outsider tell from the model's answer that a row was trained on?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from auditkit.analyzers.privacy.rows import shared_rows, train_groups
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import AuditkitError
from auditkit.core.evidence import OVERALL, Curve, Measurement, Series, Table
from auditkit.core.subject import FloatArray, IntArray, StrArray, Subject

FEWEST = 10


class MembershipParams(Params):
    """Settings of ``privacy.membership``.

    Attributes:
        max_rows: At most this many training rows, and as many test rows.
        false_positive_rates: Where the true positive rate is read off.
        level: Confidence level of the intervals.
    """

    max_rows: int = Field(default=20_000, ge=FEWEST)
    false_positive_rates: tuple[float, ...] = (0.01, 0.001)
    level: float = Field(default=0.95, gt=0.5, lt=1.0)


@dataclass(frozen=True)
class _Attacked:
    """Attack name -> scores of all rows, members first; which rows are members, their clusters and groups."""

    scores: Mapping[str, FloatArray]
    member: npt.NDArray[np.bool_]
    clusters: IntArray | None
    groups: Mapping[str, StrArray]


def run(subject: Subject, context: Context, params: MembershipParams) -> Iterator[Produced]:
    """Attack the model with its training rows as members and its test rows as non-members."""
    context.check_deadline()
    train, test, notes = _rows(subject, context, params)
    yield from notes
    attacked = _attack(subject, context, train, test)
    yield from _overall(attacked, context, params)
    yield from _by_group(attacked, params)
    yield Note(
        "Members are training rows and non-members test rows: where the two differ in more than having been trained "
        "on (collected later, cleaned differently), the attack also sees that difference."
    )
    yield Note(
        "A threshold attack is a lower bound on what leaks: stronger attacks with shadow models may find more. "
        "0.5 is a blind attack; the rows at the lowest false positive rates are those truly exposed."
    )
    if subject.test.weights is not None:
        yield Note("Row weights play no part here: the attack is on rows, each once.")


def _rows(subject: Subject, context: Context, params: MembershipParams) -> tuple[IntArray, IntArray, list[Note]]:
    """Positions of members in train and of non-members in test, without rows that are in both."""
    assert subject.train is not None
    in_test, in_train = shared_rows(subject.train.inputs, subject.test.inputs)
    train, test = np.flatnonzero(~in_test), np.flatnonzero(~in_train)
    notes = []
    if in_train.any():
        notes.append(
            Note(
                f"{int(in_train.sum())} of {subject.test.n} test rows also occur among the training rows; they and "
                f"the {int(in_test.sum())} training rows like them were left out: they are members and non-members at "
                "once."
            )
        )
    if min(len(train), len(test)) < FEWEST:
        raise AuditkitError(
            "AK572",
            f"{len(train)} members and {len(test)} non-members are left once rows in both splits are set aside",
            why=f"the attack needs at least {FEWEST} of each",
            fix="give test rows that the model was not trained on",
        )
    rng = context.rng
    chosen = [
        np.sort(rng.choice(rows, params.max_rows, replace=False)) if len(rows) > params.max_rows else rows
        for rows in (train, test)
    ]
    return chosen[0].astype(np.int64), chosen[1].astype(np.int64), notes


def _attack(subject: Subject, context: Context, train: IntArray, test: IntArray) -> _Attacked:
    from auditkit.methods.privacy.membership import attack_scores

    assert subject.train is not None
    parts = []
    for split, data, rows in (("train", subject.train, train), ("test", subject.test, test)):
        scores, decisions = context.predictions(split)
        chosen = None if scores is None else scores[rows]
        parts.append(attack_scores(chosen, data.y[rows], decisions[rows], subject.model.score_space))
    clusters = None
    if subject.test.clusters is not None or subject.train.clusters is not None:
        first, second = (
            np.arange(data.n) + offset if data.clusters is None else data.clusters
            for data, offset in ((subject.train, 1 << 40), (subject.test, 1 << 41))
        )
        clusters = np.concatenate([first[train], second[test]])
    groups = train_groups(subject.train, subject.test)
    return _Attacked(
        scores={name: np.concatenate([parts[0][name], parts[1][name]]) for name in parts[0]},
        member=np.arange(len(train) + len(test)) < len(train),
        clusters=clusters,
        groups={
            name: np.concatenate([values[train], subject.test.sensitive[name][test]]) for name, values in groups.items()
        },
    )


def _overall(attacked: _Attacked, context: Context, params: MembershipParams) -> Iterator[Produced]:
    from auditkit.methods.privacy.membership import thinned_roc, tpr_at_fpr

    everyone = np.ones(len(attacked.member), dtype=bool)
    non_members = int((~attacked.member).sum())
    rows: list[tuple[str | float | int | None, ...]] = []
    lines = [Series(name="blind", x=(0.0, 1.0), y=(0.0, 1.0))]
    for done, (attack, scores) in enumerate(attacked.scores.items()):
        context.check_deadline()
        yield _area(attacked, attack, everyone, OVERALL, params.level)
        if attack == "correctness":
            continue
        false, true = thinned_roc(scores, attacked.member)
        lines.append(Series(name=attack, x=tuple(false.tolist()), y=tuple(true.tolist())))
        for rate in params.false_positive_rates:
            found = tpr_at_fpr(scores, attacked.member, rate, params.level)
            clustered = (
                None if attacked.clusters is None else "rows of one cluster are alike: no interval holds for them"
            )
            yield Measurement(
                name="privacy.membership_tpr",
                value=found.value,
                n=len(scores),
                interval=None if clustered else found.interval,
                params={"attack": attack, "fpr": rate},
                direction="lower",
                bounds=(0.0, 1.0),
                reason=found.reason or clustered,
            )
            bounds = (None, None) if clustered else (found.interval.low, found.interval.high)
            rows.append((attack, rate, found.value, found.false_positives, non_members, *bounds))
        context.progress(done + 1, len(attacked.scores))
    if rows:
        yield Table(
            name="privacy.membership_tpr",
            title="Members found at low false positive rates",
            columns=("attack", "false positive rate", "found", "false positives", "non-members", "low", "high"),
            rows=tuple(rows),
        )
    if len(lines) > 1:
        yield Curve(
            name="privacy.membership_roc",
            title="Membership attack",
            x_label="false positive rate (test rows taken for training rows)",
            y_label="true positive rate (training rows found)",
            series=tuple(lines),
        )


def _by_group(attacked: _Attacked, params: MembershipParams) -> Iterator[Produced]:
    attack = next(iter(attacked.scores))
    for column, values in attacked.groups.items():
        for group in np.unique(values):
            yield _area(attacked, attack, values == group, {column: str(group)}, params.level)


def _area(
    attacked: _Attacked, attack: str, rows: npt.NDArray[np.bool_], where: Mapping[str, str], level: float
) -> Measurement:
    from auditkit.methods.privacy.membership import membership_auc

    member = attacked.member[rows]
    inside, outside = int(member.sum()), int((~member).sum())
    value, interval, reason = None, None, None
    if min(inside, outside) < FEWEST:
        reason = f"{inside} members and {outside} non-members; at least {FEWEST} of each are needed"
    else:
        clusters = None if attacked.clusters is None else attacked.clusters[rows]
        value, interval = membership_auc(attacked.scores[attack][rows], member, clusters, level)
        reason = None if interval is not None else "no variance is seen, so that there is no interval"
    return Measurement(
        name="privacy.membership_auc",
        value=value,
        n=inside + outside,
        interval=interval,
        slice=where,
        params={"attack": attack},
        direction="lower",
        bounds=(0.0, 1.0),
        reason=reason,
    )


ANALYZER = Analyzer(
    name="privacy.membership",
    version="1",
    title="Membership inference",
    summary="How well thresholds on the model's answers tell training rows from rows it never saw.",
    reference="Yeom et al. (2018), Privacy risk in machine learning; Carlini et al. (2022), Membership inference "
    "attacks from first principles",
    needs=frozenset({"model", "labels", "train", "classification"}),
    measures={
        "privacy.membership_auc": "Chance that the attack ranks a training row above an unseen row; 0.5 is blind.",
        "privacy.membership_tpr": "Share of training rows found by an attack that takes at most the share fpr of "
        "unseen rows for trained on.",
    },
    params=MembershipParams,
    run=run,
    limits="Threshold attacks only: a lower bound on what leaks.",
)
