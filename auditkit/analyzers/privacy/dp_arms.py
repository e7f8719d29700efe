"""The arms of the comparison: one recipe, trained with and without privacy on the same rows and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from auditkit.analyzers.retraining import Data
from auditkit.core.analyzer import Context, Note
from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray, Subject, TorchTrainingRecipe

if TYPE_CHECKING:
    from auditkit.methods.privacy.accounting import Guarantee
    from auditkit.methods.privacy.dp_training import Settings

ATTACKED_ROWS, LEAK_ROWS = 500, 4096
NON_PRIVATE, CLIP_ONLY, PRIVATE, RECIPE = "non-private", "clip-only", "private", "recipe"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train: its name, its epsilon (the word ``inf`` without privacy) and its settings."""

    name: str
    epsilon: float | str
    settings: Settings
    guarantee: Guarantee | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What an arm's trainings did; ``decisions`` of ``None`` with why there are none.

    Attributes:
        decisions: ``(seeds, n)`` class codes of the test rows.
        attacked: ``(seeds, k)`` codes of the test rows :func:`part_of` under attack; ``None`` for token ids.
        leaks: For each seed the area under the membership attack's curve, with bounds.
    """

    arm: Arm
    decisions: IntArray | None
    attacked: IntArray | None = None
    leaks: tuple[tuple[float, float, float], ...] = ()
    failed: str | None = None
    gradient_gap: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the analyzer's settings and the recipe say together."""

    epsilons: tuple[float, ...]
    delta: float
    max_grad_norm: float
    batch_size: int
    learning_rate: float
    noise_multipliers: Mapping[float, float] = field(default_factory=dict)


def followed(subject: Subject) -> tuple[Subject, tuple[Note, ...]]:
    """The subject with a recipe that private training can follow; linear scikit-learn models become a torch recipe.

    Raises:
        AuditkitError: AK627 a pipeline whose steps need labels.
    """
    if isinstance(subject.recipe, TorchTrainingRecipe):
        return subject, ()
    from auditkit.subjects.linear import linear_torch_recipe
    from auditkit.subjects.recipes import SklearnRecipe

    assert isinstance(subject.recipe, SklearnRecipe)
    assert subject.train is not None
    recipe = linear_torch_recipe(subject.recipe, subject.train.inputs)
    note = Note(
        f"{subject.recipe.name!r} is trained here by SGD on standardised columns: the same linear functions, without "
        "its penalty on the weights."
    )
    return replace(subject, recipe=recipe), (note,)


def make_arms(recipe: TorchTrainingRecipe, choices: Choices, n: int) -> tuple[Arm, ...]:
    """The arms in the order of training: without privacy, clipped only, then from the largest epsilon down.

    Where the private arms use another batch size or learning rate than the recipe, the recipe's own
    training is one more arm.

    Raises:
        UsageError: AK560 delta, AK565 batch size, AK571 a given noise multiplier that spends too much.
        AuditkitError: AK562, AK563 from the accountants.
    """
    from auditkit.methods.privacy.accounting import check_delta, guarantee
    from auditkit.methods.privacy.dp_training import Settings

    check_delta(choices.delta, n)

    def settings(clip: float | None, noise: float) -> Settings:
        return Settings(
            epochs=recipe.epochs,
            batch_size=choices.batch_size,
            learning_rate=choices.learning_rate,
            momentum=float(getattr(recipe, "momentum", 0.0)),
            max_grad_norm=clip,
            noise_multiplier=noise,
        )

    matched = settings(None, 0.0)
    if choices.batch_size > n:
        raise UsageError(
            "AK565",
            f"the batch size {choices.batch_size} is larger than the {n} training rows",
            fix="set dp_batch_size to at most the number of training rows",
        )
    arms = [Arm(name=NON_PRIVATE, epsilon="inf", settings=matched)]
    arms.append(Arm(name=CLIP_ONLY, epsilon="inf", settings=settings(choices.max_grad_norm, 0.0)))
    if (choices.batch_size, choices.learning_rate) != (recipe.batch_size, recipe.learning_rate):
        own = Settings(
            epochs=recipe.epochs,
            batch_size=min(recipe.batch_size, n),
            learning_rate=recipe.learning_rate,
            momentum=matched.momentum,
            max_grad_norm=None,
        )
        arms.append(Arm(name=RECIPE, epsilon="inf", settings=own))
    for target in sorted(choices.epsilons, reverse=True):
        noise = _noise(target, choices, matched.steps(n), n)
        promise = guarantee(noise, n=n, batch_size=choices.batch_size, steps=matched.steps(n), delta=choices.delta)
        if promise.epsilon > target * 1.001:
            raise UsageError(
                "AK571",
                f"noise multiplier {noise:g} spends epsilon {promise.epsilon:.4g}, not {target:g}",
                where=f"noise_multipliers, {n} rows, {promise.steps} steps, sample rate {promise.sample_rate:.4g}",
                fix="leave noise_multipliers out: the accountant then finds the noise",
            )
        arms.append(
            Arm(name=PRIVATE, epsilon=target, settings=settings(choices.max_grad_norm, noise), guarantee=promise)
        )
    return tuple(arms)


def _noise(target: float, choices: Choices, steps: int, n: int) -> float:
    from auditkit.methods.privacy.accounting import noise_multiplier_for

    given = choices.noise_multipliers.get(target)
    if given is not None:
        return given
    return noise_multiplier_for(target, sample_rate=choices.batch_size / n, steps=steps, delta=choices.delta)


def train_arms(
    recipe: TorchTrainingRecipe, arms: tuple[Arm, ...], data: Data, context: Context, seeds: int, radius: float
) -> Iterator[Trial]:
    """Train every arm ``seeds`` times; the same seeds, hence the same weights and batches, in each arm."""
    from auditkit.methods.privacy.dp_training import dp_train, predict_codes

    own = [int(seed) for seed in context.rng.integers(0, 2**62, seeds)]
    for index, arm in enumerate(arms):
        decisions: list[IntArray] = []
        attacked: list[IntArray] = []
        leaks: list[tuple[float, float, float]] = []
        failures: list[str] = []
        gap: float | None = None
        notes: tuple[str, ...] = ()
        for position, seed in enumerate(own):
            context.check_deadline()
            trained = dp_train(
                lambda: recipe.build(data.n_classes),
                data.x,
                data.y,
                arm.settings,
                seed=seed,
                n_classes=data.n_classes,
                watch=context.check_deadline,
            )
            gap, notes = trained.gradient_gap, trained.notes
            if trained.failed:
                failures.append(trained.failed)
            else:
                decisions.append(predict_codes(trained.module, data.x_test, data.n_classes))
                if data.x_test.is_floating_point():
                    attacked.append(codes_under_attack(trained.module, data, radius))
                leaks.append(leak(trained.module, data))
            context.progress(index * seeds + position + 1, len(arms) * seeds)
        if failures:
            failed = f"{len(failures)} of {seeds} trainings failed: {failures[0]}"
            yield Trial(arm=arm, decisions=None, failed=failed, gradient_gap=gap, notes=notes)
            continue
        yield Trial(
            arm=arm,
            decisions=np.stack(decisions),
            attacked=np.stack(attacked) if attacked else None,
            leaks=tuple(leaks),
            gradient_gap=gap,
            notes=notes,
        )


def part_of(n: int, most: int) -> IntArray:
    """At most ``most`` of ``n`` rows, the same for every arm; the first ones of ordered data are not like the rest.

    >>> part_of(3, 5).tolist(), len(part_of(500, 50))
    ([0, 1, 2], 50)
    """
    drawn = np.random.default_rng(n).choice(n, size=most, replace=False) if n > most else np.arange(n)
    return np.sort(drawn).astype(np.int64)


def codes_under_attack(module: Any, data: Data, radius: float) -> IntArray:
    """Decisions ``(k,)`` on some test rows (:func:`part_of`) after ten steps of projected gradient ascent.

    They stay within ``radius``, which is in the units of the prepared inputs (standard deviations, for a table prepared
    by default).
    """
    from auditkit.methods.privacy.dp_training import predict_codes
    from auditkit.methods.robustness import pgd
    from auditkit.methods.sgd import class_logits

    rows = part_of(len(data.x_test), ATTACKED_ROWS)
    x, y = data.x_test[rows], data.y_test[rows]
    low, high = x.min() - radius, x.max() + radius
    result = pgd(
        lambda points: class_logits(module(points), data.n_classes),
        x,
        y,
        eps=radius,
        steps=10,
        bounds=(float(low), float(high)),
    )
    return predict_codes(module, result.adversarial, data.n_classes)


def leak(module: Any, data: Data) -> tuple[float, float, float]:
    """How well the loss tells training rows from test rows: area under the curve, and bounds of it."""
    import torch

    from auditkit.methods.privacy.canaries import log_odds
    from auditkit.methods.privacy.membership import membership_auc
    from auditkit.methods.sgd import class_logits

    scores = []
    with torch.no_grad():
        for x, y in ((data.x, data.y), (data.x_test, data.y_test)):
            rows = part_of(len(x), LEAK_ROWS)
            parts = zip(torch.split(x[rows], 4096), torch.split(y[rows], 4096), strict=True)
            scores += [log_odds(class_logits(module(a), data.n_classes), b).double().cpu().numpy() for a, b in parts]
    together = np.concatenate(scores)
    member = np.arange(len(together)) < min(len(data.x), LEAK_ROWS)
    area, interval = membership_auc(together, member)
    return (area, 0.0, 1.0) if interval is None else (area, interval.low, interval.high)


def correct(trial: Trial, y: IntArray) -> FloatArray:
    """``(seeds, n)``: 1 where the decision is the label."""
    assert trial.decisions is not None
    return np.asarray(trial.decisions == y[None, :], dtype=np.float64)
