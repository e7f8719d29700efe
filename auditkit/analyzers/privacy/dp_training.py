"""``privacy.dp_training``: what differential privacy would cost this recipe, overall and by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import Field, field_validator

from auditkit.analyzers.privacy.dp_arms import (
    CLIP_ONLY,
    LEAK_ROWS,
    NON_PRIVATE,
    PRIVATE,
    Arm,
    Choices,
    Trial,
    followed,
    make_arms,
    train_arms,
)
from auditkit.analyzers.privacy.dp_report import (
    BASELINES,
    accuracy,
    advice,
    arms_table,
    cost,
    findings,
    frontier,
    leakage,
    robustness,
    selection_rate,
    spent,
)
from auditkit.analyzers.privacy.epsilons import Epsilons
from auditkit.analyzers.retraining import Data, prepared_data, slices
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import DeadlineReached
from auditkit.core.evidence import Measurement
from auditkit.core.subject import Subject, TorchTrainingRecipe


class DpTrainingParams(Params):
    """Settings of ``privacy.dp_training``.

    Attributes:
        epsilons: The epsilons to train for; training without privacy is always there to compare with.
        seeds: Trainings of each arm.
        delta: ``None`` for the smaller of 1e-5 and 1/(10 n).
        max_grad_norm: Length to which each row's gradient is clipped.
        noise_multipliers: Epsilon -> noise multiplier, where known from before; the accountant checks it.
        max_rows: At most this many training rows.
        dp_batch_size: Expected batch size; ``None`` for the recipe's.
        dp_learning_rate: ``None`` for the recipe's.
        robustness_eps: Largest change of a prepared input under attack (standard deviations, for tables).
        level: Confidence level of the intervals.
    """

    epsilons: Epsilons = Field(default=(8.0, 3.0, 1.0, 0.5), min_length=1)
    seeds: int = Field(default=3, ge=1)
    delta: float | None = Field(default=None, gt=0.0, lt=1.0)
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    noise_multipliers: Mapping[str, float] = Field(default_factory=dict)
    max_rows: int = Field(default=20_000, ge=2)
    dp_batch_size: int | None = Field(default=None, ge=1)
    dp_learning_rate: float | None = Field(default=None, gt=0.0)
    robustness_eps: float = Field(default=0.1, gt=0.0, allow_inf_nan=False)
    level: float = Field(default=0.95, gt=0.5, lt=1.0)

    @field_validator("noise_multipliers")
    @classmethod
    def _noises(cls, value: Mapping[str, float]) -> Mapping[str, float]:
        for key, noise in value.items():
            if not _is_number(key) or not 0.0 < noise < float("inf"):
                raise ValueError(
                    f'noise_multipliers maps an epsilon to a number above 0, as "8" = 0.9; got {key} = {noise}'
                )
        return value


def run(subject: Subject, context: Context, params: DpTrainingParams) -> Iterator[Produced]:
    """Account first, then train arm by arm; each arm's numbers are yielded as soon as it is trained."""
    context.check_deadline()
    subject, told = followed(subject)
    yield from told
    recipe = subject.recipe
    assert isinstance(recipe, TorchTrainingRecipe)
    data = prepared_data(subject, context, params.max_rows)
    choices = _choices(recipe, params, data.n)
    arms = make_arms(recipe, choices, data.n)
    for arm in arms:
        if arm.guarantee is not None:
            yield from spent(arm)
    yield from _statements(subject, recipe, arms, data, params)
    yield from advice(recipe, choices, data.n)
    measured: list[Measurement] = []
    try:
        for item in _measure(subject, context, params, arms, data):
            if isinstance(item, Measurement):
                measured.append(item)
            yield item
    except DeadlineReached:
        yield from _charts(subject, recipe, measured, arms, params)
        raise
    yield from _charts(subject, recipe, measured, arms, params)
    yield from findings(measured, tuple(subject.test.sensitive))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _choices(recipe: TorchTrainingRecipe, params: DpTrainingParams, n: int) -> Choices:
    from auditkit.methods.privacy.accounting import default_delta

    return Choices(
        epsilons=params.epsilons,
        delta=default_delta(n) if params.delta is None else params.delta,
        max_grad_norm=params.max_grad_norm,
        batch_size=params.dp_batch_size or recipe.batch_size,
        learning_rate=params.dp_learning_rate or recipe.learning_rate,
        noise_multipliers={float(key): noise for key, noise in params.noise_multipliers.items()},
    )


def _measure(
    subject: Subject, context: Context, params: DpTrainingParams, arms: tuple[Arm, ...], data: Data
) -> Iterator[Produced]:
    recipe, test, where = subject.recipe, subject.test, slices(subject.test)
    assert isinstance(recipe, TorchTrainingRecipe)
    bases: list[Trial] = []
    told: set[str] = set()
    clustered = test.clusters is not None or (subject.train is not None and subject.train.clusters is not None)
    for trial in train_arms(recipe, arms, data, context, params.seeds, params.robustness_eps):
        yield from accuracy(trial, test, where, params.level)
        yield from robustness(trial, test, params.robustness_eps, params.level)
        yield from leakage(trial, min(data.n, LEAK_ROWS) + min(test.n, LEAK_ROWS), clustered)
        if subject.task == "binary" and subject.positive is not None:
            yield from selection_rate(trial, test, subject.positive, where, params.level)
        for base in bases:
            if trial.arm.name in (PRIVATE, CLIP_ONLY) and (trial.arm.name == PRIVATE or base.arm.name == NON_PRIVATE):
                yield from cost(base, trial, test, where, params.level)
        if trial.arm.name in BASELINES:
            bases.append(trial)
        for text in trial.notes:
            if text not in told:
                told.add(text)
                yield Note(text)
        if trial.arm.name == CLIP_ONLY and trial.gradient_gap is not None:
            yield Note(
                "Before every training one clipped batch was compared with a loop over its single rows: they agree to "
                f"{trial.gradient_gap:.1g} of the largest entry."
            )


def _charts(
    subject: Subject,
    recipe: TorchTrainingRecipe,
    measured: list[Measurement],
    arms: tuple[Arm, ...],
    params: DpTrainingParams,
) -> Iterator[Produced]:
    yield from frontier(measured, tuple(subject.test.sensitive), recipe.name)
    if measured:
        yield arms_table(measured, arms, params.seeds)


def _statements(
    subject: Subject, recipe: TorchTrainingRecipe, arms: tuple[Arm, ...], data: Data, params: DpTrainingParams
) -> Iterator[Note]:
    """What the numbers are about, and what the guarantee rests on."""
    yield Note(
        f"These numbers are about models trained afresh by the recipe {recipe.name!r} on {data.n} rows, {params.seeds} "
        f"times each, with Poisson-sampled batches; the audited model ({subject.model.kind}) is not measured here, "
        "and no epsilon is claimed for it."
    )
    used = arms[0].settings
    yield Note(
        f"The recipe as used: {used.epochs:g} passes, batches of {used.batch_size:g} rows expected, plain SGD with "
        f"learning rate {used.learning_rate:g} and momentum {used.momentum:g}, gradients clipped to "
        f"{params.max_grad_norm:g}, cross-entropy loss."
    )
    for arm in arms:
        if arm.guarantee is not None:
            yield Note(f"Epsilon {arm.epsilon:g}: {arm.guarantee.sentence()}")
    if subject.test.clusters is not None:
        yield Note(
            "Epsilon protects one row, and the rows come in clusters: for a person with m training rows it is m "
            "times as large, with a larger delta."
        )
    yield Note(
        "Not covered by epsilon: the preparation of the inputs (scales, category levels), which is fitted on the "
        "training rows, and the choice of the recipe's settings. Noise comes from a seeded generator so that the audit "
        "can be repeated; a model to be released needs secret noise."
    )
    yield Note(
        "Three arms share initial weights and batches: without privacy, clipping without noise, and private. Costs are "
        "paired by seed and test row, so that they are not those of a longer training or of other batches."
    )


ANALYZER = Analyzer(
    name="privacy.dp_training",
    version="5",
    title="Differentially private training",
    summary="Accuracy of the training recipe with differential privacy and without, overall and by group.",
    reference="Abadi et al. (2016), Deep learning with differential privacy; Gopi et al. (2021) for the accountant",
    needs=frozenset({"model", "private_recipe", "train", "classification"}),
    measures={
        "privacy.dp_accuracy": "Accuracy on the test rows of models trained afresh by the recipe at this epsilon.",
        "privacy.dp_accuracy_cost": "Accuracy without privacy minus accuracy with it, on the same test rows and seeds.",
        "privacy.dp_robust_accuracy": "Accuracy on up to 500 test rows when each prepared input is changed by at most "
        "eps against the model.",
        "privacy.dp_membership_auc": "Chance that the loss ranks a training row above a test row; 0.5 is blind.",
        "privacy.dp_selection_rate": "Share of test rows that the freshly trained models decide as the positive class.",
        "privacy.epsilon": "Epsilon that the training spends, from the accountant; the one in params was asked for.",
        "privacy.noise_multiplier": "Standard deviation of the noise over the clipping norm.",
    },
    params=DpTrainingParams,
    run=run,
    extra="privacy",
    packages=("opacus",),
    limits="Measures the recipe's model, which need not be the audited one.",
)
