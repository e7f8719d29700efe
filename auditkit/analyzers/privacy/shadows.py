"""Shadow models of a subject: trained by its recipe on known halves of the attacked rows, and what they say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.analyzer import Context
from auditkit.core.errors import AuditkitError
from auditkit.core.subject import FloatArray, IntArray, Subject, TrainingRecipe, take_rows

BoolArray = npt.NDArray[np.bool_]
FEWEST_ROWS, FEWEST_OF_CLASS = 40, 4


@dataclass(frozen=True, kw_only=True)
class Shadows:
    """What the shadow models say, and how they came about.

    Attributes:
        scores: ``(models, n)`` log-odds (or margins) of the true class.
        inside: ``(models, n)`` whether the row was in that model's training.
        margin: Whether the scores are margins, which are no probabilities.
        told: A sentence on how they were trained.
    """

    scores: FloatArray
    inside: BoolArray
    margin: bool
    told: str


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The attacked rows: inputs and class codes, training rows first."""

    inputs: Any
    y: IntArray
    n_train: int


def shadow_recipe(subject: Subject, asked: bool) -> TrainingRecipe | None:
    """How to train the audited model afresh: its own scikit-learn estimator where there is one, else the recipe.

    A recipe for another kind of model (a network beside an audited forest, for private training) makes weaker
    shadows than the estimator itself. Without any recipe the estimator is trained only when ``asked``.
    """
    from auditkit.subjects.recipes import SklearnRecipe, TorchRecipe

    estimator = getattr(subject.model, "estimator", None)
    recipe = subject.recipe
    own = estimator is not None and hasattr(estimator, "get_params")
    if own and (isinstance(recipe, TorchRecipe) or (recipe is None and asked)):
        return SklearnRecipe(estimator=estimator, labels=tuple(getattr(subject.model, "labels", ())) or None)
    return recipe


def pool_rows(subject: Subject, train: IntArray, test: IntArray) -> Pool:
    """The attacked rows of both splits in one, training rows first."""
    assert subject.train is not None
    first, second = take_rows(subject.train.inputs, train), take_rows(subject.test.inputs, test)
    y = np.concatenate([subject.train.y[train], subject.test.y[test]])
    return Pool(inputs=_joined(first, second), y=y, n_train=len(train))


def train_shadows(recipe: TrainingRecipe, pool: Pool, models: int, context: Context, classes: Sequence[str]) -> Shadows:
    """Train ``models`` shadow models, all together where the recipe allows it, and score every row by each.

    Raises:
        AuditkitError: AK620 too few rows, AK621 diverged, AK623 scores that no attack can use.
    """
    from auditkit.methods.privacy.shadow_attacks import check_shadows, halves

    _check_rows(pool, classes)
    rng = context.rng
    inside = halves(len(pool.y), models, rng, pool.y)
    seeds = [int(seed) for seed in rng.integers(0, 2**31, models)]
    subsets = np.stack([np.flatnonzero(own) for own in inside])
    scores, space, how = _scored(recipe, pool, subsets, seeds, context)
    check_shadows(scores, inside)
    told = (
        f"{models} shadow models were trained by {recipe.name!r} {how}, each on a random half ({subsets.shape[1]}) of "
        f"the {len(pool.y)} attacked rows; each row was in exactly half of them."
    )
    return Shadows(scores=scores, inside=inside, margin=space == "margin", told=told)


def _check_rows(pool: Pool, classes: Sequence[str]) -> None:
    found = np.bincount(pool.y, minlength=len(classes))
    rarest = int(np.where(found > 0, found, found.max()).argmin())
    if len(pool.y) < FEWEST_ROWS or found[rarest] < FEWEST_OF_CLASS:
        raise AuditkitError(
            "AK620",
            "the data is too small for shadow models",
            why=f"{len(pool.y)} rows, {int(found[rarest])} of class {classes[rarest]!r}; halves are trained on, "
            f"which takes at least {FEWEST_ROWS} rows and {FEWEST_OF_CLASS} of each class",
            fix="give more rows, or set shadows = 0",
        )


def _scored(
    recipe: TrainingRecipe, pool: Pool, subsets: IntArray, seeds: list[int], context: Context
) -> tuple[FloatArray, str | None, str]:
    """Scores ``(models, n)``, the space they are in, and how the models were trained."""
    from auditkit.subjects.recipes import TorchRecipe

    # A subclass with a training of its own (a private one, say) is followed, not replaced.
    if isinstance(recipe, TorchRecipe) and type(recipe).fit is TorchRecipe.fit:
        scores, how = _torch_scores(recipe, pool, subsets, seeds, context)
        return scores, "logit", how
    from auditkit.methods.privacy.membership import attack_scores

    found, space = [], None
    for at, (subset, seed) in enumerate(zip(subsets, seeds, strict=True)):
        context.check_deadline()
        model = recipe.fit(take_rows(pool.inputs, subset), pool.y[subset], seed)
        space = model.score_space
        if space is None:
            raise AuditkitError("AK623", "the shadow models give decisions only, and no scores")
        own = model.predict_scores(pool.inputs)
        found.append(attack_scores(own, pool.y, own.argmax(axis=1), space)["loss"])
        context.progress(at + 1, len(seeds))
    return np.stack(found), space, "one after another"


def _torch_scores(
    recipe: Any, pool: Pool, subsets: IntArray, seeds: list[int], context: Context
) -> tuple[FloatArray, str]:
    import torch

    from auditkit.methods.privacy.membership import attack_scores
    from auditkit.methods.threads import threads_for
    from auditkit.subjects.torch_stacked import train_sgd_stacked

    prepare = recipe.fit_preparation(take_rows(pool.inputs, np.arange(pool.n_train)))
    rows = prepare(pool.inputs)
    outputs = recipe.n_outputs(pool.y)

    def watch(done: int, total: int) -> None:
        context.check_deadline()
        context.progress(done, total)

    with threads_for(recipe.batch_size * _size(recipe, outputs), rows.device):
        modules, reason = train_sgd_stacked(
            recipe, (rows, pool.y), subsets, n_outputs=outputs, seeds=seeds, watch=watch
        )
        found = []
        with torch.no_grad():
            for module in modules:
                logits = np.concatenate(
                    [_logits(module(part)) for part in torch.split(rows.to(recipe.device), 4096)]
                ).astype(np.float64)
                found.append(attack_scores(logits, pool.y, logits.argmax(axis=1), "logit")["loss"])
    how = "together in one batched computation" if reason is None else f"one after another ({reason})"
    return np.stack(found), how


def _size(recipe: Any, outputs: int) -> int:
    from auditkit.core.generators import preserved_generators

    with preserved_generators(0):
        return sum(parameter.numel() for parameter in recipe.build(outputs).parameters())


def _logits(raw: Any) -> npt.NDArray[Any]:
    """``(rows, k)`` logits of what a module returned; one column becomes ``0, z``."""
    from auditkit.subjects.torch import plain_output

    logits = plain_output(raw, "shadow model").cpu().numpy()
    logits = logits.reshape(len(logits), -1)
    found: npt.NDArray[Any] = np.concatenate([0.0 * logits, logits], axis=1) if logits.shape[1] == 1 else logits
    return found


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, list):
        return [*first, *second]
    if not hasattr(first, "columns"):
        return np.concatenate([np.asarray(first), np.asarray(second)])
    import pandas as pd

    second = second.set_axis(first.columns, axis=1)
    for at, dtype in enumerate(first.dtypes):
        # Categories of both, so that the column is still one of categories when they are joined.
        if isinstance(dtype, pd.CategoricalDtype):
            levels = pd.api.types.union_categoricals(
                [first.iloc[:, at], second.iloc[:, at].astype("category")], ignore_order=True
            ).categories
            both = pd.CategoricalDtype(levels, ordered=dtype.ordered)
            name = first.columns[at]
            first, second = first.astype({name: both}), second.astype({name: both})
    return pd.concat([first, second], ignore_index=True)
