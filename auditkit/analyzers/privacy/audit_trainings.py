"""Trainings under audit: auditkit's own private training by the recipe, or whatever the recipe itself does."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.analyzer import Context
from auditkit.core.errors import AuditkitError
from auditkit.core.subject import FloatArray, IntArray, Subject, TorchTrainingRecipe, take_rows

BoolArray = npt.NDArray[np.bool_]
_FIELDS = frozenset({"build", "epochs", "batch_size", "prepare"})


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is said to be spent, and what that rests on where it is known.

    Attributes:
        n: Number of training rows that it speaks of.
        named: The round number that measurements and charts call it by.
        noise_multiplier: Standard deviation of the noise over the clipping norm, or ``None`` when not told.
        sample_rate: Expected share of the rows in a batch.
        steps: Number of batches.
    """

    n: int
    named: float
    epsilon: float
    delta: float
    noise_multiplier: float | None
    sample_rate: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training on tensors: the module to start from, the rows, and the noise that the claim speaks of.

    Attributes:
        one_step: A single step on all rows instead of the claim's steps on sampled ones.
        noiseless: Leave the noise away: the fault that a positive control plants.
    """

    module: Any
    x: Any
    y: IntArray
    claim: Claim
    seed: int
    one_step: bool = False
    noiseless: bool = False


# A training under audit gives the trained module.
Training = Callable[[Job], Any]


@dataclass(frozen=True, kw_only=True)
class Released:
    """What the guesser saw: scores of all canaries ``(m,)``; and their coins, which it did not see."""

    scores: FloatArray
    included: BoolArray

    def __post_init__(self) -> None:
        if not np.isfinite(self.scores).all():
            raise AuditkitError(
                "AK553",
                "the audited training gave no model",
                why=f"it gives scores that are no numbers on {int((~np.isfinite(self.scores)).sum())} canaries",
            )


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """Canary rows: as the recipe takes them, as its module takes them (torch recipes), and their labels ``(m,)``."""

    inputs: Any
    x: Any
    y: IntArray


def own_training(context: Context, n_classes: int, clip: float, learning_rate: float, momentum: float) -> Training:
    """Auditkit's private training, as ``privacy.dp_training`` does it."""
    import torch

    from auditkit.methods.privacy.dp_training import Settings, dp_train

    def train(job: Job) -> Any:
        n = len(job.y)
        batch = float(n) if job.one_step else job.claim.sample_rate * n
        steps = 1 if job.one_step else job.claim.steps
        settings = Settings(
            epochs=steps * batch / n,
            batch_size=batch,
            learning_rate=learning_rate,
            momentum=momentum,
            max_grad_norm=clip,
            noise_multiplier=0.0 if job.noiseless else job.claim.noise_multiplier or 0.0,
        )
        trained = dp_train(
            lambda: copy.deepcopy(job.module),
            job.x,
            torch.as_tensor(job.y, device=job.x.device),
            settings,
            seed=job.seed,
            n_classes=n_classes,
            watch=context.check_deadline,
        )
        if trained.failed:
            raise AuditkitError("AK553", "the audited training gave no model", why=trained.failed)
        return trained.module

    return train


def recipe_training(recipe: Any) -> Training:
    """The recipe's own ``fit``, on other rows and from another module, with its batch size scaled to their number."""

    def train(job: Job) -> Any:
        n = len(job.y)
        changes: dict[str, Any] = {"batch_size": n if job.one_step else max(1, round(job.claim.sample_rate * n))}
        if job.one_step:
            changes["epochs"] = 1
        replaced = dataclasses.replace(
            recipe, build=lambda _: copy.deepcopy(job.module).train(), prepare=lambda _: _as_it_is, **changes
        )
        return replaced.fit(job.x, job.y, job.seed).module

    return train


def is_replaceable(recipe: Any) -> bool:
    """Whether a torch recipe is a dataclass whose module, passes, batch size and preparation can be set."""
    names = {field.name for field in dataclasses.fields(recipe)} if dataclasses.is_dataclass(recipe) else set()
    return names >= _FIELDS and isinstance(recipe, TorchTrainingRecipe)


def make_canaries(subject: Subject, context: Context, count: int, rng: np.random.Generator) -> Canaries:
    """Rows whose columns are shuffled apart, with labels drawn evenly."""
    from auditkit.methods.privacy.canaries import canary_inputs

    recipe, train = subject.recipe, subject.train
    assert train is not None
    inputs = canary_inputs(train.inputs, count, rng)
    y = rng.integers(0, len(subject.classes), count).astype(np.int64)
    if not isinstance(recipe, TorchTrainingRecipe):
        return Canaries(inputs=inputs, x=None, y=y)
    import torch

    x = torch.as_tensor(recipe.fit_preparation(train.inputs)(inputs), device=context.device)
    return Canaries(inputs=inputs, x=x.float() if x.is_floating_point() else x, y=y)


def initial_module(recipe: TorchTrainingRecipe, x: Any, n_classes: int, seed: int, ready: bool) -> Any:
    """A fresh module, with its layers replaced for private training when ``ready``; its weights are no secret."""
    from auditkit.core.generators import preserved_generators
    from auditkit.methods.privacy.dp_model import dp_ready

    with preserved_generators(seed):
        module = recipe.build(n_classes).to(x.device)
        return dp_ready(module, x[:16])[0].eval() if ready else module.eval()


def audit_inputs(
    train: Training, initial: Any, canaries: Canaries, included: BoolArray, job: Job, n_classes: int
) -> Released:
    """The recipe's module, trained from known weights on the canaries that are in: the final model tells."""
    import torch

    from auditkit.methods.privacy.canaries import decoded_scores

    x, y = canaries.x, canaries.y
    inside = torch.from_numpy(np.flatnonzero(included)).to(x.device)
    final = train(dataclasses.replace(job, module=initial, x=x[inside], y=y[included]))
    scores = decoded_scores(final.eval(), initial, x, torch.as_tensor(y, device=x.device), n_classes)
    return Released(scores=scores, included=included)


def audit_probe(
    train: Training, count: int, rng: np.random.Generator, job: Job, device: str, n_classes: int
) -> Released:
    """A linear model of orthogonal canaries, trained by the same training: its final weights tell."""
    import torch

    from auditkit.methods.privacy.canaries import coins
    from auditkit.methods.privacy.probe import linear_probe, probe_rows, probe_scores

    included, y = coins(count, rng), rng.integers(0, 2, count).astype(np.int64)
    rows = torch.from_numpy(probe_rows(included)).to(device)
    probe = linear_probe(count, n_classes).to(device)
    final = train(dataclasses.replace(job, module=probe, x=rows, y=y[included]))
    return Released(scores=probe_scores(final, y), included=included)


def audit_black_box(subject: Subject, canaries: Canaries, included: BoolArray, seed: int) -> Released:
    """Any recipe, fitted on the canaries that are in; each scored by the final model's log-odds of its label."""
    from auditkit.methods.privacy.membership import attack_scores

    recipe, y = subject.recipe, canaries.y
    assert recipe is not None
    model = recipe.fit(take_rows(canaries.inputs, np.flatnonzero(included)), y[included], seed)
    scores = model.predict_scores(canaries.inputs) if model.score_space else None
    found = attack_scores(scores, y, np.asarray(model.predict(canaries.inputs)), model.score_space)
    return Released(scores=found.get("loss", found["correctness"]), included=included)


def _as_it_is(tensor: Any) -> Any:
    return tensor
