"""``robustness.training``: what adversarial training, TRADES, fast adversarial training and noise buy and cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from auditkit.analyzers.retraining import Data, prepared_data
from auditkit.analyzers.robustness.trained_arms import Ring, Trial, make_lens, train_arms
from auditkit.analyzers.robustness.trained_report import arms_table, findings, frontier, measured, statements, told
from auditkit.core.analyzer import Analyzer, Context, Params, Produced
from auditkit.core.errors import AuditkitError, DeadlineReached, NotApplicable
from auditkit.core.evidence import Measurement
from auditkit.core.subject import IntArray, Subject, TorchTrainingRecipe

if TYPE_CHECKING:
    from auditkit.analyzers.robustness.arena import Grid
    from auditkit.analyzers.robustness.shifted import Shift
    from auditkit.analyzers.robustness.strikes import Budget
    from auditkit.methods.robustness.robust_training import RobustSettings

Way = Literal["standard", "pgd", "trades", "fast", "noise"]
TABLE_EPS, IMAGE_EPS = 0.1, 0.03


class TrainingParams(Params):
    """Settings of ``robustness.training``.

    Attributes:
        arms: Ways to train besides standard training, which is always there to compare with.
        seeds: Trainings of each arm.
        eps: Radius (linf) that is trained and attacked with: standard deviations of each numeric column (tables; 0.1
            when left out), fractions of the pixel range (images; 0.03).
        steps: Gradient steps of the attack in PGD training and TRADES.
        beta: Weight of the divergence in TRADES.
        noise: Standard deviation of the noise in noise augmentation, in units of eps's; ``None`` for eps.
        fast_step: Step of fast adversarial training, in multiples of eps.
        fast_random_start: Whether its step begins at a random point of the ball.
        engine: Loops of our own, or the trainers of the Adversarial Robustness Toolbox for pgd, trades and fast.
        attack: Attack that judges all arms; AutoAttack follows PGD, on the rows that still stand.
        attack_steps: Its gradient steps, more than ``steps``.
        attack_restarts: Its random starts.
        check_rows: Rows on which attacks that should agree are compared; 0 leaves these checks out.
        attacked_rows: Test rows attacked.
        corrupted_rows: Test rows corrupted.
        severities: Severities of the fifteen corruptions of images, each 1 to 5.
        max_rows: At most this many training rows.
        min_group_rows: Groups with fewer rows among those looked at have no number.
        freeze_sensitive: Keep columns named as sensitive where they are.
        level: Confidence level of the intervals.
    """

    arms: tuple[Way, ...] = ("pgd", "trades", "fast", "noise")
    seeds: int = Field(default=3, ge=1)
    eps: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    steps: int = Field(default=10, ge=1)
    beta: float = Field(default=6.0, ge=0.0, allow_inf_nan=False)
    noise: float | None = Field(default=None, ge=0.0, allow_inf_nan=False)
    fast_step: float = Field(default=1.25, gt=0.0, allow_inf_nan=False)
    fast_random_start: bool = True
    engine: Literal["own", "art"] = "own"
    attack: Literal["pgd", "autoattack-fast", "autoattack"] = "autoattack-fast"
    attack_steps: int = Field(default=50, ge=2)
    attack_restarts: int = Field(default=2, ge=1)
    check_rows: int = Field(default=50, ge=0)
    attacked_rows: int = Field(default=200, ge=1)
    corrupted_rows: int = Field(default=500, ge=1)
    severities: tuple[int, ...] = (1, 3, 5)
    max_rows: int = Field(default=20_000, ge=2)
    min_group_rows: int = Field(default=5, ge=1)
    freeze_sensitive: bool = True
    level: float = Field(default=0.95, gt=0.5, lt=1.0)

    @field_validator("arms")
    @classmethod
    def _once(cls, value: tuple[Way, ...]) -> tuple[Way, ...]:
        chosen = tuple(way for way in dict.fromkeys(value) if way != "standard")
        if not chosen:
            raise ValueError("arms names one or more of pgd, trades, fast and noise")
        return chosen

    @field_validator("severities")
    @classmethod
    def _known_severities(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(severity not in (1, 2, 3, 4, 5) for severity in value):
            raise ValueError("severities are numbers from 1 to 5")
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _stronger(self) -> TrainingParams:
        if self.attack_steps <= self.steps:
            raise ValueError(
                f"attack_steps = {self.attack_steps} must be more than steps = {self.steps}: a model is not judged by "
                "the attack that it was trained against"
            )
        return self


def run(subject: Subject, context: Context, params: TrainingParams) -> Iterator[Produced]:
    """Train arm by arm; each arm's numbers are yielded as soon as all of its models are examined."""
    from auditkit.analyzers.robustness.arena import make_grid

    context.check_deadline()
    grid = make_grid(subject.test, freeze_sensitive=params.freeze_sensitive)
    recipe = subject.recipe
    assert isinstance(recipe, TorchTrainingRecipe)
    data = prepared_data(subject, context, params.max_rows)
    if not data.x.is_floating_point():
        raise NotApplicable("AK540", "the recipe's model takes token ids, which small numeric changes mean nothing for")
    ring = _ring(subject, context, params, grid, data)
    arms = make_arms(recipe, params, subject.test.modality)
    yield from statements(subject, data, ring, arms, params)
    found: list[Measurement] = []
    try:
        for item in _measure(subject, context, params, data, ring, arms):
            if isinstance(item, Measurement):
                found.append(item)
            yield item
    except DeadlineReached:
        yield from _charts(found, subject, params)
        raise
    yield from _charts(found, subject, params)
    yield from findings(found)


def _measure(
    subject: Subject,
    context: Context,
    params: TrainingParams,
    data: Data,
    ring: Ring,
    arms: tuple[RobustSettings, ...],
) -> Iterator[Produced]:
    base: Trial | None = None
    for trial in train_arms(
        subject, context, data, ring, arms, seeds=params.seeds, budget=_budget(params), engine=params.engine
    ):
        base = base or trial
        yield from measured(base, trial, subject.test, ring, params)
        yield from told(trial, params)


def _charts(found: list[Measurement], subject: Subject, params: TrainingParams) -> Iterator[Produced]:
    assert subject.recipe is not None
    yield from frontier(found, subject.recipe.name)
    if found:
        yield arms_table(found, params)


def make_arms(recipe: TorchTrainingRecipe, params: TrainingParams, modality: str) -> tuple[RobustSettings, ...]:
    """Standard training, then the other arms, all by the recipe's own settings of SGD."""
    from auditkit.methods.robustness.robust_training import WAYS, RobustSettings

    eps = params.eps if params.eps is not None else (IMAGE_EPS if modality == "image" else TABLE_EPS)
    return tuple(
        RobustSettings(
            way=way,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            momentum=float(getattr(recipe, "momentum", 0.0)),
            eps=eps,
            steps=params.steps,
            step_size=params.fast_step * eps if way == "fast" and eps > 0 else None,
            random_start=params.fast_random_start if way == "fast" else True,
            beta=params.beta,
            noise=eps if params.noise is None else params.noise,
        )
        for way in WAYS
        if way == "standard" or way in params.arms
    )


def _budget(params: TrainingParams) -> Budget:
    from auditkit.analyzers.robustness.strikes import Budget

    return Budget(
        attack=params.attack,
        steps=params.attack_steps,
        restarts=params.attack_restarts,
        check_rows=params.check_rows,
        noise_draws=20,
        search_rounds=25,
        hopskipjump_rows=0,
        hopskipjump_steps=5,
        hopskipjump_queries=2000,
    )


def _ring(subject: Subject, context: Context, params: TrainingParams, grid: Grid, data: Data) -> Ring:
    from auditkit.analyzers.robustness.attacked import rows_at_most
    from auditkit.subjects.torch import plain_output

    assert subject.recipe is not None
    name = subject.recipe.name
    corrupted = context.sample_rows(subject.test.n, params.corrupted_rows)
    shifts, why = _shifts(subject, context, params, corrupted)
    return Ring(
        grid=grid,
        lens=make_lens(subject, data, grid),
        attacked=context.sample_rows(subject.test.n, rows_at_most(grid, params.attacked_rows)),
        corrupted=corrupted,
        shifts=tuple(shifts),
        why=why,
        output=lambda raw: plain_output(raw, name),
    )


def _shifts(
    subject: Subject, context: Context, params: TrainingParams, positions: IntArray
) -> tuple[list[Shift], str | None]:
    """The corruptions of images or of a table, the same for every model; or why there is none."""
    from auditkit.analyzers.robustness.corruptions import image_shifts
    from auditkit.methods.robustness.corruptions import NAMES as CORRUPTIONS

    if subject.test.modality != "image":
        return _table_shifts(subject, context, positions)
    try:
        return image_shifts(subject.test, positions, context, CORRUPTIONS, params.severities)[0], None
    except AuditkitError as error:
        return [], f"not corrupted: {error.what}"


def _table_shifts(subject: Subject, context: Context, positions: IntArray) -> tuple[list[Shift], str | None]:
    """Noise on numbers and swaps of categories, as ``robustness.noise`` makes them, with draws that every model shares.

    Missing values are left out: how they are filled is the recipe's preparation, which all arms have in common.
    """
    from auditkit.analyzers.robustness.shifted import Shift
    from auditkit.analyzers.robustness.table_noise import NoiseParams, corruptions_of_tables

    rows = subject.test.take(positions)
    kinds, notes = corruptions_of_tables(subject.test, rows, NoiseParams(missing_values=(), drift_columns=0))
    found = []
    for place, kind in enumerate(kinds):
        if not kind.severities:
            continue

        def make(level: int, place: int = place, kind: Any = kind) -> Any:
            stream = np.random.SeedSequence([context.seed % 2**32, place, level])
            return kind.make(kind.severities[level - 1], np.random.default_rng(stream))

        found.append(Shift(name=kind.name, severities=tuple(range(1, len(kind.severities) + 1)), make=make))
    return found, None if found else "; ".join(notes) or "there is nothing to corrupt"


ANALYZER = Analyzer(
    name="robustness.training",
    version="6",
    title="Training for robustness",
    summary="Clean, corrupted and robust accuracy of the training recipe with adversarial training and without.",
    reference="Madry et al. (2018); Zhang et al. (2019), TRADES; Wong et al. (2020), fast adversarial training",
    needs=frozenset({"model", "torch_recipe", "train", "classification", "inputs"}),
    measures={
        "robustness.training_accuracy": "Accuracy on the clean test rows of models trained afresh in this way.",
        "robustness.training_corrupted_accuracy": "Mean accuracy of these models over natural corruptions.",
        "robustness.training_robust_accuracy": "Accuracy of these models when each test row is changed by at most eps "
        "against the model, by an attack stronger than the one trained against.",
        "robustness.training_accuracy.difference": "Largest gap between groups in clean accuracy.",
        "robustness.training_corrupted_accuracy.difference": "Largest gap between groups under corruptions.",
        "robustness.training_robust_accuracy.difference": "Largest gap between groups in robust accuracy.",
        "robustness.training_accuracy_cost": "Clean accuracy of standard training minus that of this way, on the same "
        "rows and seeds.",
        "robustness.training_robustness_gain": "Robust accuracy of this way minus that of standard training, on the "
        "same rows and seeds.",
        "robustness.training_attack_gap": "Accuracy under the attack that training used minus robust accuracy; near "
        "the former, training has learnt to defeat its own attack only.",
        "robustness.training_deviation": "Standard deviation over trainings of the accuracy that params name.",
        "robustness.training_passes": "Passes of rows through the model in training, over those of standard training.",
    },
    params=TrainingParams,
    run=run,
    extra="torch",
    packages=("torch",),
    default=False,
    limits="Measures the recipe's model, which need not be the audited one; robust means within eps in linf alone.",
)
