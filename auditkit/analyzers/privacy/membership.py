"""``privacy.membership``: can an outsider tell from the model's answer that a row was trained on?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, field_validator

from auditkit.analyzers.privacy.membership_report import (
    BY_SHADOWS,
    FEWEST,
    Attack,
    Attacked,
    by_group,
    charts,
    exposed,
    overall,
    unmade,
)
from auditkit.analyzers.privacy.rows import shared_rows, train_groups
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import AuditkitError, DeadlineReached
from auditkit.core.subject import FloatArray, IntArray, Subject
from auditkit.methods.privacy.art_membership import ArtModel


def _rates(value: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(value)) != len(value) or not all(0.0 < rate < 1.0 for rate in value):
        raise ValueError(f"false positive rates must be above 0, below 1 and each there once, got {value}")
    return value


class MembershipParams(Params):
    """Settings of ``privacy.membership``.

    Attributes:
        max_rows: At most this many training rows, and as many test rows.
        shadows: Shadow models to train, even: ``None`` for 16 where a recipe is given; 0 for none. A number
            also trains an audited scikit-learn estimator afresh without a recipe.
        copies: Noisy copies of each row for a model that gives labels only.
        art: Learned attacks of the Adversarial Robustness Toolbox to run as well: ``rf``, ``gb``, ``lr``, ``dt``,
            ``knn``, ``svm`` or ``nn``. Each learns from half of the rows and attacks the others.
        false_positive_rates: Where the true positive rate is read off.
        exposed_rows: How many of the most exposed training rows are listed, by rank only.
        level: Confidence level of the intervals.
    """

    max_rows: int = Field(default=20_000, ge=FEWEST)
    shadows: int | None = Field(default=None, ge=0)
    copies: int = Field(default=20, ge=1)
    art: tuple[ArtModel, ...] = ()
    false_positive_rates: Annotated[tuple[float, ...], AfterValidator(_rates)] = (0.01, 0.001)
    exposed_rows: int = Field(default=10, ge=1)
    level: float = Field(default=0.95, gt=0.5, lt=1.0)

    @field_validator("shadows")
    @classmethod
    def _even(cls, value: int | None) -> int | None:
        if value is not None and (value % 2 or value == 2):
            raise ValueError(f"shadows must be 0, or even and at least 4 (each half has its complement), got {value}")
        return value


def run(subject: Subject, context: Context, params: MembershipParams) -> Iterator[Produced]:
    """Attack the model with its training rows as members and its test rows as non-members."""
    context.check_deadline()
    train, test, notes = _rows(subject, context, params)
    yield from notes
    attacked = _attacked(subject, train, test)
    made: list[Attack] = []
    try:
        for item in _attacks(subject, context, params, (train, test)):
            if not isinstance(item, Attack):
                yield item
                continue
            made.append(item)
            yield from overall(item, attacked, params.false_positive_rates, params.level)
    except DeadlineReached:
        yield from charts(made, attacked, params.false_positive_rates, params.level)
        raise
    yield from charts(made, attacked, params.false_positive_rates, params.level)
    chosen = _strongest(made)
    for attack in {id(item): item for item in (chosen, made[0])}.values():
        yield from by_group(attack, attacked, params.false_positive_rates, params.level)
    yield from exposed(chosen, attacked, params.exposed_rows)
    yield from _statements(subject, made)


def _strongest(made: list[Attack]) -> Attack:
    """The attack by which groups and rows are compared: fixed beforehand, not the one that found most."""
    named = {attack.name: attack for attack in made}
    return next((named[name] for name in ("rmia", "lira-online", "label-noise") if name in named), made[0])


def _statements(subject: Subject, made: list[Attack]) -> Iterator[Note]:
    yield Note(
        "Members are training rows and non-members test rows: where the two differ in more than having been trained "
        "on (collected later, cleaned differently), the attack also sees that difference."
    )
    if any(attack.name in BY_SHADOWS for attack in made):
        yield Note(
            "Shadow models give each row a measure of its own, but one threshold still cuts all rows: rates at low "
            "false positive rates say how many rows of this model stand out, not how often one given row would."
        )
    else:
        yield Note(
            "A threshold attack is a lower bound on what leaks: stronger attacks with shadow models may find more "
            "(pass recipe=, or set shadows for a scikit-learn estimator). 0.5 is a blind attack; the rows at the "
            "lowest false positive rates are those truly exposed."
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
                f"{int(in_train.sum()):,} of {subject.test.n:,} test rows also occur among the training rows; they and "
                f"the {int(in_test.sum()):,} training rows like them were left out: they are members and non-members "
                "at once."
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


def _attacked(subject: Subject, train: IntArray, test: IntArray) -> Attacked:
    assert subject.train is not None
    clusters = None
    if subject.test.clusters is not None or subject.train.clusters is not None:
        first, second = (
            np.arange(data.n) + offset if data.clusters is None else data.clusters
            for data, offset in ((subject.train, 1 << 40), (subject.test, 1 << 41))
        )
        clusters = np.concatenate([first[train], second[test]])
    groups = train_groups(subject.train, subject.test)
    return Attacked(
        member=np.arange(len(train) + len(test)) < len(train),
        clusters=clusters,
        groups={
            name: np.concatenate([values[train], subject.test.sensitive[name][test]]) for name, values in groups.items()
        },
    )


def _attacks(
    subject: Subject, context: Context, params: MembershipParams, rows: tuple[IntArray, IntArray]
) -> Iterator[Attack | Produced]:
    """Attack by attack: thresholds, learned ones, decisions under noise, shadow models."""
    from auditkit.methods.privacy.membership import attack_scores

    assert subject.train is not None
    answers = [
        (context.predictions(split), data, own)
        for split, data, own in (("train", subject.train, rows[0]), ("test", subject.test, rows[1]))
    ]
    y = np.concatenate([data.y[own] for _, data, own in answers])
    decisions = np.concatenate([decided[own] for (_, decided), _, own in answers])
    parts = [scores[own] for (scores, _), _, own in answers if scores is not None]
    scores = np.concatenate(parts) if len(parts) == len(answers) else None
    found = attack_scores(scores, y, decisions, subject.model.score_space)
    for name, own in found.items():
        yield Attack(name=name, scores=own)
    context.check_deadline()
    if scores is None:
        yield _label_only(subject, context, params, rows)
    elif params.art:
        yield from _art(scores, y, rows, context, params)
    if params.shadows != 0:
        yield from _by_shadows(subject, context, params, rows, found.get("loss"))


def _label_only(
    subject: Subject, context: Context, params: MembershipParams, rows: tuple[IntArray, IntArray]
) -> Attack:
    from auditkit.analyzers.privacy.shadows import pool_rows
    from auditkit.methods.privacy.label_only import label_only_scores

    pool = pool_rows(subject, *rows)
    scores = label_only_scores(
        subject.model.predict, pool.inputs, pool.y, copies=params.copies, rng=context.rng, watch=context.check_deadline
    )
    return Attack(name="label-noise", scores=scores)


def _art(
    scores: FloatArray, y: IntArray, rows: tuple[IntArray, IntArray], context: Context, params: MembershipParams
) -> Iterator[Attack]:
    from auditkit.methods.privacy.art_membership import art_black_box

    member = np.arange(len(y)) < len(rows[0])
    for model in params.art:
        context.check_deadline()
        chance, attacked = art_black_box(scores, y, member, model=model, seed=context.seed % 2**31)
        yield Attack(name=f"art-{model}", scores=chance, rows=np.flatnonzero(attacked))


def _by_shadows(
    subject: Subject,
    context: Context,
    params: MembershipParams,
    rows: tuple[IntArray, IntArray],
    loss: FloatArray | None,
) -> Iterator[Attack | Produced]:
    from auditkit.analyzers.privacy.shadows import pool_rows, shadow_recipe, train_shadows
    from auditkit.methods.privacy import shadow_attacks

    recipe = shadow_recipe(subject, asked=params.shadows is not None)
    reason = None
    if recipe is None:
        reason = "there is no recipe to train shadow models; pass recipe=" if params.shadows else None
    elif loss is None:
        reason = "the model gives labels only, and shadow models are compared by scores" if params.shadows else None
    if recipe is None or loss is None:
        yield from unmade(BY_SHADOWS, params.false_positive_rates, reason, sum(map(len, rows)))
        return
    # Halves take an even number of rows: one of the larger side is set aside.
    total, kept = sum(map(len, rows)), None
    if total % 2:
        larger = len(rows[0]) >= len(rows[1])
        rows = (rows[0][1:], rows[1]) if larger else (rows[0], rows[1][:-1])
        kept = np.arange(1, total) if larger else np.arange(total - 1)
    pool = pool_rows(subject, *rows)
    try:
        shadows = train_shadows(recipe, pool, params.shadows or 16, context, subject.classes)
        if shadows.margin != (subject.model.score_space == "margin"):
            raise AuditkitError("AK623", "the audited model and the shadow models give scores of different kinds")
    except DeadlineReached:
        raise
    except AuditkitError as error:
        yield from unmade(BY_SHADOWS, params.false_positive_rates, str(error), len(pool.y))
        return
    yield Note(shadows.told + f" The audited model was trained on {subject.train.n if subject.train else 0} rows.")
    own, shadow = shadow_attacks.finite_scores(loss if kept is None else loss[kept], shadows.scores)
    attack = Attack(name="", scores=own, rows=kept)
    yield replace(attack, name="lira-offline", scores=shadow_attacks.lira_offline(own, shadow, shadows.inside))
    yield replace(attack, name="lira-online", scores=shadow_attacks.lira_online(own, shadow, shadows.inside))
    if shadows.margin:
        why = "the models give margins, which are no probabilities"
        yield from unmade(("rmia",), params.false_positive_rates, why, len(pool.y))
    else:
        yield replace(attack, name="rmia", scores=shadow_attacks.rmia(own, shadow, shadows.inside))
    yield replace(attack, name="bavaria", scores=shadow_attacks.bavaria(own, shadow, shadows.inside))


ANALYZER = Analyzer(
    name="privacy.membership",
    version="3",
    title="Membership inference",
    summary="How well attacks tell training rows from rows the model never saw: thresholds on its answers, and "
    "comparison with shadow models trained with and without each row.",
    reference="Yeom et al. (2018), Privacy risk in machine learning; Carlini et al. (2022), Membership inference "
    "attacks from first principles (LiRA); Zarifzadeh, Liu and Shokri (2024), Low-cost high-power membership inference "
    "attacks (RMIA); Braennvall (2026), Exponential-family membership inference (BaVarIA); Choquette-Choo et al. "
    "(2021), Label-only membership inference attacks",
    needs=frozenset({"model", "labels", "train", "classification"}),
    measures={
        "privacy.membership_auc": "Chance that the attack ranks a training row above an unseen row; 0.5 is blind.",
        "privacy.membership_tpr": "Share of training rows found by an attack that takes at most the share fpr of "
        "unseen rows for trained on.",
    },
    params=MembershipParams,
    run=run,
    limits="Attacks find leaks and never prove that there are none: a lower bound on what leaks.",
)
