"""The arms of the comparison: one recipe trained in several ways on the same rows and seeds, each model examined."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.retraining import Data
from auditkit.core.analyzer import Context
from auditkit.core.errors import NotApplicable
from auditkit.core.subject import FloatArray, IntArray, Subject, TorchTrainingRecipe, take_rows

if TYPE_CHECKING:
    from auditkit.analyzers.robustness.arena import Grid
    from auditkit.analyzers.robustness.lens import Lens
    from auditkit.analyzers.robustness.shifted import Shift
    from auditkit.analyzers.robustness.strikes import Budget
    from auditkit.methods.robustness.robust_training import Lesson, RobustSettings

BoolArray = npt.NDArray[np.bool_]
Engine = Literal["own", "art"]

# What each arm is called on the card.
NAMES: dict[str, str] = {
    "standard": "standard",
    "pgd": "pgd adversarial training",
    "trades": "trades",
    "fast": "fast adversarial training",
    "noise": "noise augmentation",
}
ATTACKED = ("pgd", "trades", "fast")
_LENS_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What an arm's trainings gave; every array of ``None`` has its reason in ``failed`` or ``why``.

    Attributes:
        settings: How it was trained.
        right: ``(seeds, n)`` right on the clean test rows.
        corrupted: ``(seeds, c)`` share of the corruptions under which a row is decided rightly.
        standing: ``(seeds, m)`` right within eps of the row under the attack of the audit.
        own: ``(seeds, m)`` right under the attack that training used; ``None`` where it used none.
        overfitted: Trainings with catastrophic overfitting.
        failed: Why there is no usable model.
        unreliable: Which self-checks of the attack failed, and in how many trainings.
    """

    settings: RobustSettings
    right: BoolArray | None = None
    corrupted: FloatArray | None = None
    standing: BoolArray | None = None
    own: BoolArray | None = None
    overfitted: int = 0
    failed: str | None = None
    unreliable: str | None = None
    label: str = ""

    @property
    def arm(self) -> str:
        """The arm's name."""
        return self.settings.way


@dataclass(frozen=True, kw_only=True)
class Ring:
    """Where the arms meet: the threat in the user's units, the rows looked at, and the corruptions.

    Attributes:
        grid: The test data as a matrix.
        lens: How the prepared tensor follows from it.
        attacked: Positions of the test rows that are attacked.
        corrupted: Positions of those that are corrupted.
        shifts: The corruptions; empty where there is none, ``why`` then says so.
        output: What a module returns -> its tensor of logits.
    """

    grid: Grid
    lens: Lens
    attacked: IntArray
    corrupted: IntArray
    shifts: tuple[Shift, ...]
    why: str | None
    output: Callable[[Any], Any]


def make_lens(subject: Subject, data: Data, grid: Grid) -> Lens:
    """How the recipe's prepared tensor follows from the columns that an attacker may change.

    Raises:
        NotApplicable: AK584 the preparation mixes these columns, so that eps has no meaning in the user's units.
    """
    import torch

    from auditkit.analyzers.robustness.arena import make_grid
    from auditkit.analyzers.robustness.lens import find_lens

    assert subject.train is not None
    train = subject.train.take(data.rows[:_LENS_ROWS])
    own = make_grid(train, must_move=False) if train.modality == "tabular" else grid
    lens = find_lens(own, own.encode(train.inputs), lambda inputs: torch.as_tensor(data.prepare(inputs)).float())
    if lens is None:
        raise NotApplicable(
            "AK584",
            "the recipe's preparation mixes or bends the columns that an attack may change",
            why="a step in the prepared inputs then stands for no change of the row in its own units",
            fix="pass TorchRecipe(prepare=...) that scales each number by itself, or leave prepare out",
        )
    return lens


def ball(ring: Ring, tensor: Any, inputs: Any) -> dict[str, Any]:
    """Bounds and scale of prepared rows, as ``train_robust`` takes them: what the grid allows, in the tensor's units.

    Whole numbers and columns that may only rise are not held to that in training, which so trains against a little
    more than the audit's attack may do.

    Args:
        ring: Grid and lens.
        tensor: ``(n, *features)`` prepared rows.
        inputs: The same rows as the user has them.
    """
    import torch

    space, lens = ring.grid.space, ring.lens
    scale = lens.per_coordinate(space.scale, 0.0)[None] * np.abs(lens.gain)
    ends = np.stack([lens.per_coordinate(part, np.nan) * lens.gain + lens.offset for part in (space.low, space.high)])
    least, most = (part.reshape(-1).double().cpu().numpy() for part in (tensor.amin(dim=0), tensor.amax(dim=0)))
    low, high = np.fmin(ends.min(axis=0), least), np.fmax(ends.max(axis=0), most)
    if ring.grid.names:
        missing = np.isnan(ring.grid.encode(inputs))
        if missing.any():
            scale = scale * ~(missing[:, lens.column] & (lens.column >= 0))

    def shaped(values: FloatArray) -> Any:
        rows = torch.as_tensor(np.atleast_2d(values).copy(), dtype=tensor.dtype, device=tensor.device)
        return rows.reshape(-1, *tensor.shape[1:])

    bounds = (torch.minimum(shaped(low), tensor.amin(dim=0)), torch.maximum(shaped(high), tensor.amax(dim=0)))
    return {"bounds": bounds, "scale": shaped(scale)}


def train_arms(  # noqa: PLR0913 - the parts of a comparison, bound once by the analyzer
    subject: Subject,
    context: Context,
    data: Data,
    ring: Ring,
    arms: tuple[RobustSettings, ...],
    *,
    seeds: int,
    budget: Budget,
    engine: Engine,
) -> Iterator[Trial]:
    """Train every arm ``seeds`` times on the same seeds, hence the same weights and batches, and examine each model."""
    from auditkit.methods.robustness.robust_training import Lesson

    assert subject.train is not None
    own = [int(seed) for seed in context.rng.integers(0, 2**62, seeds)]
    kept = take_rows(subject.train.inputs, data.rows)
    training = Lesson(x=data.x, y=data.y, n_classes=data.n_classes, output=ring.output, **ball(ring, data.x, kept))
    test_rows = take_rows(subject.test.inputs, ring.attacked)
    under = data.x_test[ring.attacked]
    testing = replace(training, x=under, y=data.y_test[ring.attacked], **ball(ring, under, test_rows))
    for index, arm in enumerate(arms):
        seen: list[_Seen] = []
        failures: list[str] = []
        for position, seed in enumerate(own):
            context.check_deadline()
            trained = _train(subject, data, arm, seed, training, engine, context)
            if trained.failed:
                failures.append(trained.failed)
            else:
                seen.append(_examined(subject, context, data, ring, arm, trained.module, testing, budget, seed))
            context.progress(index * seeds + position + 1, len(arms) * seeds)
        if failures:
            failed = f"{len(failures)} of {seeds} trainings failed: {failures[0]}; lower the learning rate"
            yield Trial(settings=arm, failed=failed)
        else:
            yield _trial(arm, seen)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """One trained model, examined."""

    right: BoolArray
    corrupted: FloatArray | None
    standing: BoolArray
    own: BoolArray | None
    unreliable: str | None
    label: str


def _trial(arm: RobustSettings, seen: list[_Seen]) -> Trial:
    from auditkit.methods.robustness.robust_training import overfitted

    doubts = [one.unreliable for one in seen if one.unreliable]
    corrupted = [one.corrupted for one in seen if one.corrupted is not None]
    own = [one.own for one in seen if one.own is not None]
    return Trial(
        settings=arm,
        right=np.stack([one.right for one in seen]),
        corrupted=np.stack(corrupted) if corrupted else None,
        standing=np.stack([one.standing for one in seen]),
        own=np.stack(own) if own else None,
        overfitted=sum(one.own is not None and overfitted(one.own, one.standing) for one in seen),
        unreliable=f"in {len(doubts)} of {len(seen)} trainings, {doubts[0]}" if doubts else None,
        label=seen[0].label,
    )


def _train(
    subject: Subject,
    data: Data,
    arm: RobustSettings,
    seed: int,
    training: Lesson,
    engine: Engine,
    context: Context,
) -> Any:
    from auditkit.methods.robustness.robust_training import train_robust

    recipe = subject.recipe
    assert isinstance(recipe, TorchTrainingRecipe)
    train: Callable[..., Any] = train_robust
    if engine == "art" and arm.way in ATTACKED and not arm.plain:
        from auditkit.methods.robustness.art_training import train_with_toolbox

        train = train_with_toolbox
    return train(lambda: recipe.build(data.n_classes), training, arm, seed=seed, watch=context.check_deadline)


def _examined(  # noqa: PLR0913 - one private seam between training and measuring
    subject: Subject,
    context: Context,
    data: Data,
    ring: Ring,
    arm: RobustSettings,
    module: Any,
    testing: Lesson,
    budget: Budget,
    seed: int,
) -> _Seen:
    """Clean, corrupted and attacked decisions of one trained model, by the same code as for the audited model."""
    import torch

    from auditkit.analyzers.robustness.attacked import attack_rows
    from auditkit.analyzers.robustness.shifted import decide_under
    from auditkit.core.generators import preserved_generators
    from auditkit.methods.robustness.robust_training import training_points
    from auditkit.subjects.torch import TorchModel

    model = TorchModel(module, classes=subject.classes, prepare=data.prepare, output="logit")
    own_subject = replace(subject, model=model)
    scores = model.predict_scores(subject.test.inputs)
    decisions = model.decide(scores)
    quiet = replace(context, predictions=lambda split: (scores, decisions), progress=lambda done, total: None)
    with preserved_generators():
        attacked, _ = attack_rows(own_subject, quiet, budget, ring.grid, ring.attacked, (arm.eps,))
        shifted = decide_under(own_subject, quiet, ring.corrupted, list(ring.shifts), {}) if ring.shifts else None
    own = None
    if arm.way in ATTACKED and not arm.plain:
        points = training_points(module, testing, arm, seed=seed)
        with torch.no_grad():
            found = model.logits(points).argmax(dim=1)
        own = np.asarray((found == testing.y).cpu().numpy(), dtype=np.bool_)
    return _Seen(
        right=np.asarray(decisions == subject.test.y),
        corrupted=None if shifted is None else shifted.share,
        standing=attacked.standing(arm.eps),
        own=own,
        unreliable=attacked.unreliable,
        label=attacked.strike.label,
    )
