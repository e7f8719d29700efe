"""``privacy.audit``: is the claimed epsilon true? A lower bound that holds with confidence, beside the claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from auditkit.analyzers.privacy.audit_report import (
    chart,
    findings,
    measure,
    probes_needed,
    statements,
    table,
    verdicts,
)
from auditkit.analyzers.privacy.audit_trainings import (
    Claim,
    Job,
    Released,
    Training,
    audit_black_box,
    audit_inputs,
    audit_probe,
    initial_module,
    is_replaceable,
    make_canaries,
    own_training,
    recipe_training,
)
from auditkit.analyzers.privacy.epsilons import Epsilons
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.evidence import Measurement
from auditkit.core.subject import Subject, TorchTrainingRecipe

Kind = Literal["inputs", "weights", "gradients"]


class AuditParams(Params):
    """Settings of ``privacy.audit``.

    Attributes:
        claimed_epsilon: What the recipe's own ``fit`` is said to spend; ``None``: auditkit's private training by
            the recipe is audited instead, as ``privacy.dp_training`` does it, for each of ``epsilons``.
        noise_multiplier: Noise over clipping norm behind ``claimed_epsilon``, where it is known.
        epsilons: Claims of auditkit's own training to put to the test.
        delta: ``None`` for the smaller of 1e-5 and 1/(10 n).
        audits: ``inputs``: canary rows, final model. ``weights``: gradient canaries, final weights.
            ``gradients``: gradient canaries, one released step.
        canaries: Canary rows of ``inputs``.
        probe_canaries: Canaries of ``weights``, and of each step of ``gradients``.
        max_grad_norm: Clipping norm of auditkit's own training.
        dp_batch_size: Expected batch size of auditkit's own training; ``None`` for the recipe's.
        dp_learning_rate: ``None`` for the recipe's.
        max_rows: At most this many training rows.
        level: Confidence with which no true claim of the whole audit is refuted.
    """

    claimed_epsilon: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    noise_multiplier: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    epsilons: Epsilons = Field(default=(8.0, 1.0), min_length=1)
    delta: float | None = Field(default=None, gt=0.0, lt=1.0)
    audits: tuple[Kind, ...] = Field(default=("inputs", "weights", "gradients"), min_length=1)
    canaries: int = Field(default=200, ge=40)
    probe_canaries: int = Field(default=3000, ge=40)
    max_grad_norm: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    dp_batch_size: int | None = Field(default=None, ge=1)
    dp_learning_rate: float | None = Field(default=None, gt=0.0)
    max_rows: int = Field(default=20_000, ge=2)
    level: float = Field(default=0.99, gt=0.5, lt=1.0)

    @model_validator(mode="after")
    def _noise_of_a_claim(self) -> AuditParams:
        if self.noise_multiplier is not None and self.claimed_epsilon is None:
            raise ValueError("noise_multiplier belongs to a claim: set claimed_epsilon as well")
        return self


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """The claims, the training under audit (``None``: only as a black box), and one whose noise can be left away."""

    claims: tuple[Claim, ...]
    train: Training | None
    control: Training | None
    own: bool
    level: float


Attempt = Callable[[Claim, bool], Released]


def run(subject: Subject, context: Context, params: AuditParams) -> Iterator[Produced]:
    """Audit by audit: train with canaries, guess the coins, bound epsilon; a noiseless training is the control."""
    context.check_deadline()
    plan = _plan(subject, context, params)
    yield from statements(subject, plan.claims, plan.own, params.level)
    measured: list[Measurement] = []
    failures: list[str] = []
    rng = context.rng
    for kind in params.audits:
        attempt = _attempt(kind, subject, context, params, plan, rng)
        if attempt is None:
            yield Note(
                f"The audit by {kind} was not made: it needs a torch recipe that is a dataclass with build, epochs, "
                "batch_size and prepare, such as auditkit.TorchRecipe."
            )
            continue
        for item in _audit(kind, _told(attempt, kind, context, params, plan), plan, failures):
            measured += [item] if isinstance(item, Measurement) else []
            yield item
    for item in verdicts(plan.claims, measured, failures[0] if failures else None):
        measured.append(item)
        yield item
    yield from chart(measured)
    yield table(measured, plan.claims)
    yield from findings(measured, plan.claims)


def _controlled(kind: Kind, plan: _Plan) -> bool:
    """Whether an audit has a training without noise beside it."""
    return plan.control is not None and kind != "gradients"


def _told(attempt: Attempt, kind: Kind, context: Context, params: AuditParams, plan: _Plan) -> Attempt:
    """The attempt, which looks at the deadline before each training and tells progress over all audits after it."""
    trainings = [len(plan.claims) + _controlled(one, plan) for one in params.audits]
    done = sum(trainings[: params.audits.index(kind)])

    def told(claim: Claim, noiseless: bool) -> Released:
        nonlocal done
        context.check_deadline()
        done += 1
        try:
            return attempt(claim, noiseless)
        finally:
            context.progress(done, sum(trainings))

    return told


def _audit(kind: Kind, attempt: Attempt, plan: _Plan, failures: list[str]) -> Iterator[Produced]:
    """One control without noise, then every claim."""
    control = None
    if _controlled(kind, plan):
        try:
            control = attempt(plan.claims[0], True)
        except AuditkitError as error:
            if error.code != "AK553":
                raise
            yield Note(f"The control of the audit by {kind} gave no model: {error.why}")
    for claim in plan.claims:
        try:
            released = attempt(claim, False)
        except AuditkitError as error:
            if error.code != "AK553":
                raise
            failures.append(f"the audited training gave no model: {error.why}")
            yield Note(f"Epsilon {claim.named:g}, audit by {kind}: {failures[-1]}.")
            continue
        yield from measure(kind, claim, released, control, plan.level)


def _attempt(
    kind: Kind, subject: Subject, context: Context, params: AuditParams, plan: _Plan, rng: np.random.Generator
) -> Attempt | None:
    """How to train once for this kind of audit and score its canaries; fresh coins at every call."""
    from auditkit.methods.privacy.canaries import coins

    n_classes = len(subject.classes)

    def job(claim: Claim, noiseless: bool) -> Job:
        seed = int(rng.integers(0, 2**62))
        none = np.zeros(0, np.int64)
        return Job(
            module=None, x=None, y=none, claim=claim, seed=seed, noiseless=noiseless, one_step=kind == "gradients"
        )

    def chosen(noiseless: bool) -> Training:
        train = plan.control if noiseless else plan.train
        assert train is not None
        return train

    def probes(claim: Claim, noiseless: bool) -> Released:
        times = probes_needed(claim, plan.level, params.probe_canaries) if kind == "gradients" else 1
        parts = []
        for _ in range(times):
            context.check_deadline()
            parts.append(
                audit_probe(
                    chosen(noiseless), params.probe_canaries, rng, job(claim, noiseless), context.device, n_classes
                )
            )
        return Released(
            scores=np.concatenate([part.scores for part in parts]),
            included=np.concatenate([part.included for part in parts]),
        )

    if kind != "inputs":
        return None if plan.train is None else probes
    canaries = make_canaries(subject, context, params.canaries, rng)
    recipe = subject.recipe
    if plan.train is None or not isinstance(recipe, TorchTrainingRecipe):
        return lambda claim, noiseless: audit_black_box(
            subject, canaries, coins(params.canaries, rng), int(rng.integers(0, 2**31))
        )
    seed = int(rng.integers(0, 2**62))
    modules = {ready: initial_module(recipe, canaries.x, n_classes, seed, ready) for ready in {plan.own, True}}

    def inputs(claim: Claim, noiseless: bool) -> Released:
        initial = modules[plan.own or noiseless]
        included = coins(params.canaries, rng)
        return audit_inputs(chosen(noiseless), initial, canaries, included, job(claim, noiseless), n_classes)

    return inputs


def _plan(subject: Subject, context: Context, params: AuditParams) -> _Plan:
    from auditkit.methods.privacy.accounting import check_delta, default_delta

    recipe, train = subject.recipe, subject.train
    assert train is not None
    n = min(train.n, params.max_rows)
    delta = default_delta(n) if params.delta is None else params.delta
    check_delta(delta, n)
    own: Training | None = None
    if isinstance(recipe, TorchTrainingRecipe):
        rate = params.dp_learning_rate or recipe.learning_rate
        momentum = float(getattr(recipe, "momentum", 0.0))
        own = own_training(context, len(subject.classes), params.max_grad_norm, rate, momentum)
    if params.claimed_epsilon is not None:
        claim = _given_claim(recipe, params, params.claimed_epsilon, n, delta)
        theirs = recipe_training(recipe) if is_replaceable(recipe) else None
        control = own if theirs is not None else None
        return _Plan(claims=(claim,), train=theirs, control=control, own=False, level=_level(params, 1))
    if not isinstance(recipe, TorchTrainingRecipe):
        raise UsageError(
            "AK554",
            "there is no claim to audit",
            why="auditkit's own private training follows torch recipes only, and no epsilon is claimed for this one",
            fix="set claimed_epsilon to what the recipe is said to spend",
        )
    claims = _own_claims(recipe, params, n, delta)
    return _Plan(claims=claims, train=own, control=own, own=True, level=_level(params, len(claims)))


def _given_claim(recipe: Any, params: AuditParams, epsilon: float, n: int, delta: float) -> Claim:
    batch = min(int(getattr(recipe, "batch_size", n)), n)
    # A pass may leave out the last part of a batch, or draw rows at a rate of one over its batches: what is compared
    # with the claim must not be more than any of these spends.
    steps = max(1, int(getattr(recipe, "epochs", 1)) * (n // batch))
    rate = 1.0 / math.ceil(n / batch)
    claim = Claim(
        n=n,
        named=epsilon,
        epsilon=epsilon,
        delta=delta,
        noise_multiplier=params.noise_multiplier,
        sample_rate=rate,
        steps=steps,
    )
    _check_arithmetic(claim, n)
    return claim


def _own_claims(recipe: TorchTrainingRecipe, params: AuditParams, n: int, delta: float) -> tuple[Claim, ...]:
    from auditkit.methods.privacy.accounting import guarantee, noise_multiplier_for

    batch = params.dp_batch_size or recipe.batch_size
    if batch > n:
        raise UsageError(
            "AK565",
            f"the batch size {batch} is larger than the {n} training rows",
            fix="set dp_batch_size to at most the number of training rows",
        )
    steps = max(1, round(recipe.epochs * n / batch))
    claims = []
    for target in sorted(params.epsilons, reverse=True):
        noise = noise_multiplier_for(target, sample_rate=batch / n, steps=steps, delta=delta)
        spent = guarantee(noise, n=n, batch_size=batch, steps=steps, delta=delta).epsilon
        claims.append(
            Claim(
                n=n,
                named=target,
                epsilon=spent,
                delta=delta,
                noise_multiplier=noise,
                sample_rate=batch / n,
                steps=steps,
            )
        )
    return tuple(claims)


def _check_arithmetic(claim: Claim, n: int) -> None:
    """A claim that its own noise does not carry needs no audit."""
    if claim.noise_multiplier is None:
        return
    from auditkit.methods.privacy.accounting import guarantee

    spent = guarantee(
        claim.noise_multiplier, n=n, batch_size=claim.sample_rate * n, steps=claim.steps, delta=claim.delta
    ).epsilon
    if spent > claim.epsilon * 1.01 + 0.02:
        raise AuditkitError(
            "AK555",
            f"noise multiplier {claim.noise_multiplier:g} spends epsilon {spent:.4g}, not {claim.epsilon:g} as claimed",
            where=f"{n} rows, {claim.steps} steps, sample rate {claim.sample_rate:.4g}, delta {claim.delta:g}",
            fix="claim what the accountant gives, or add noise",
        )


def _level(params: AuditParams, claims: int) -> float:
    """Each test's confidence, so that all hold together with ``params.level`` (Bonferroni).

    The two bounds from guesses are tests on one count, the stricter of which decides; released steps have a
    second test of their own.
    """
    tests = claims * (len(set(params.audits)) + ("gradients" in params.audits))
    return 1.0 - (1.0 - params.level) / tests


ANALYZER = Analyzer(
    name="privacy.audit",
    version="2",
    title="Is epsilon true?",
    summary="A lower bound on epsilon from trainings with canaries, beside the epsilon that is claimed.",
    reference="Steinke, Nasr and Jagielski (2023), Privacy auditing with one (1) training run; Mahloujifar, Melis and "
    "Chaudhuri (2025), Auditing f-differential privacy in one run; Nasr et al. (2023), Tight auditing",
    needs=frozenset({"model", "train", "retrain", "classification"}),
    measures={
        "privacy.epsilon_claimed": "Epsilon that the training is said to spend.",
        "privacy.epsilon_lower_bound": "Epsilon that the training spends at least, at the confidence told.",
        "privacy.epsilon_excess": "Largest lower bound of an audit minus the claim; above 0 the claim is false.",
        "privacy.audit_accuracy": "Share of right guesses on whether a canary was in the training; 0.5 is blind.",
        "privacy.audit_power": "Chance that this audit refutes the claim when the noise is half of what is claimed, or "
        "whether it did without noise.",
        "privacy.noise_multiplier_seen": "Noise over clipping norm of one step, as seen in what it released.",
    },
    params=AuditParams,
    run=run,
    extra="privacy",
    packages=("opacus", "dp_accounting"),
    # It trains several models, and without ``claimed_epsilon`` it says nothing about the user's own: only when asked.
    default=False,
    limits="Refutes or fails to refute; never proves an epsilon.",
)
