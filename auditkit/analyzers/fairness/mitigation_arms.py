"""The arms of ``fairness.mitigation``: each gives the chance of a positive decision for every test row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.fairness.positive_scores import positive_scores
from auditkit.core.analyzer import Context
from auditkit.core.errors import AuditkitError, DeadlineReached
from auditkit.core.evidence import Scalar
from auditkit.core.subject import (
    Dataset,
    FloatArray,
    IntArray,
    Subject,
    TrainingRecipe,
    WeightedTrainingRecipe,
)

if TYPE_CHECKING:
    from auditkit.methods.fairness.mitigation import Constraint

AS_IS, RETRAINED = "as it is", "trained afresh"
THRESHOLDS, REDUCTION, DECORRELATED = "ThresholdOptimizer", "ExponentiatedGradient", "CorrelationRemover"


@dataclass(frozen=True, slots=True)
class Task:
    """What is mitigated: one sensitive column, under one constraint, with the training rows drawn for it."""

    subject: Subject
    column: str
    constraint: Constraint
    rows: IntArray
    train_groups: npt.NDArray[np.str_]
    tolerances: tuple[float, ...]
    alphas: tuple[float, ...]
    rounds: int

    @property
    def train(self) -> Dataset:
        """The training split."""
        return self.subject.split("train")

    @property
    def labels(self) -> IntArray:
        """``(m,)`` 1 for a positive label of the drawn training rows."""
        return np.asarray(self.train.y[self.rows] == self.subject.positive, dtype=np.int64)

    @property
    def test_groups(self) -> npt.NDArray[np.str_]:
        """``(n,)`` group names of the test rows."""
        return self.subject.test.sensitive[self.column]


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to decide: its name, its setting, and its chances on the test rows, or why it failed."""

    name: str
    setting: Mapping[str, Scalar] = field(default_factory=dict)
    chance: FloatArray | None = None
    failed: str | None = None
    note: str = ""


def recipe_of(subject: Subject) -> TrainingRecipe | None:
    """The subject's recipe, or that of its own scikit-learn estimator."""
    if subject.recipe is not None:
        return subject.recipe
    estimator = getattr(subject.model, "estimator", None)
    if estimator is None or not hasattr(estimator, "get_params"):
        return None
    from auditkit.subjects.recipes import SklearnRecipe

    return SklearnRecipe(estimator=estimator, labels=tuple(getattr(subject.model, "labels", ())) or None)


def make_arms(task: Task, context: Context) -> Iterator[Arm]:
    """The model as it is, then every way to mitigate that this subject allows; one that fails says why."""
    subject = task.subject
    yield Arm(AS_IS, chance=(context.decisions() == subject.positive).astype(np.float64))
    for tolerance in task.tolerances if task.constraint == "demographic_parity" else (0.0,):
        yield _tried(Arm(THRESHOLDS, {"tolerance": tolerance}), _thresholds(task, context, tolerance), context)
    recipe = recipe_of(subject)
    if recipe is None:
        why = "there is no recipe to train the model afresh; pass recipe="
        yield Arm(REDUCTION, failed=why)
        yield Arm(DECORRELATED, failed=why)
        return
    yield _tried(Arm(RETRAINED), _retrained(task, context, recipe), context)
    for tolerance in task.tolerances:
        yield _tried(Arm(REDUCTION, {"tolerance": tolerance}), _reduced(task, context, recipe, tolerance), context)
    for alpha in task.alphas:
        yield _tried(Arm(DECORRELATED, {"alpha": alpha}), _decorrelated(task, context, recipe, alpha), context)


Made = tuple[FloatArray, str]


def _tried(arm: Arm, make: Callable[[], Made], context: Context) -> Arm:
    context.check_deadline()
    try:
        chance, note = make()
    except DeadlineReached:
        raise
    except AuditkitError as error:
        return replace(arm, failed=error.what + (f": {error.why}" if error.why else ""))
    except Exception as error:  # a fault inside fairlearn or a user's estimator is this arm's, not the audit's
        return replace(arm, failed=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    return replace(arm, chance=chance, note=note)


def _thresholds(task: Task, context: Context, tolerance: float) -> Callable[[], Made]:
    def make() -> Made:
        from auditkit.methods.fairness.mitigation import group_thresholds

        subject = task.subject
        train = (positive_scores(subject, context, "train")[task.rows], task.labels, task.train_groups)
        test = (positive_scores(subject, context, "test"), task.test_groups)
        found = group_thresholds(train, test, task.constraint, tolerance)
        return found.chance, f"draws at random in {found.randomised} groups" if found.randomised else ""

    return make


def _retrained(task: Task, context: Context, recipe: TrainingRecipe) -> Callable[[], Made]:
    def make() -> Made:
        from auditkit.core.subject import take_rows

        model = recipe.fit(take_rows(task.train.inputs, task.rows), task.train.y[task.rows], context.seed)
        return _chance(model.predict(task.subject.test.inputs), task.subject), ""

    return make


def _reduced(task: Task, context: Context, recipe: TrainingRecipe, tolerance: float) -> Callable[[], Made]:
    def make() -> Made:
        from auditkit.core.subject import take_rows
        from auditkit.methods.fairness.mitigation import exponentiated_gradient

        if not isinstance(recipe, WeightedTrainingRecipe):
            raise AuditkitError("AK437", f"the recipe {recipe.name} cannot be trained on weighted rows")
        recipe.weight_name()
        positive = task.subject.positive
        assert positive is not None
        inputs = {"train": take_rows(task.train.inputs, task.rows), "test": task.subject.test.inputs}

        def train(labels: IntArray, weights: FloatArray) -> Callable[[str], IntArray]:
            context.check_deadline()
            codes = np.where(labels == 1, positive, 1 - positive)
            # Rows of weight 0 are left out: some estimators refuse them, none learns from them.
            used = np.flatnonzero(weights > 0.0)
            model = recipe.fit(take_rows(inputs["train"], used), codes[used], context.seed, weights[used])
            known: dict[str, IntArray] = {}

            def decide(split: str) -> IntArray:
                if split not in known:
                    known[split] = (model.predict(inputs[split]) == positive).astype(np.int64)
                return known[split]

            return decide

        found = exponentiated_gradient(
            train, task.labels, task.train_groups, task.constraint, tolerance=tolerance, rounds=task.rounds
        )
        chance = np.broadcast_to(found.chance, (task.subject.test.n,)).copy()
        return chance, f"mixes {found.mixed} models of {found.trainings} trainings"

    return make


def _decorrelated(task: Task, context: Context, recipe: TrainingRecipe, alpha: float) -> Callable[[], Made]:
    def make() -> Made:
        from auditkit.core.subject import take_rows

        train, test, changed, total = _without_correlation(
            take_rows(task.train.inputs, task.rows), task.subject.test, task, alpha
        )
        model = recipe.fit(train, task.train.y[task.rows], context.seed)
        return _chance(model.predict(test), task.subject), f"changes {changed} of {total} columns"

    return make


def _without_correlation(train: Any, test: Dataset, task: Task, alpha: float) -> tuple[Any, Any, int, int]:
    """Inputs whose numeric columns carry no linear trace of the group; the sensitive column itself is held constant."""
    from auditkit.methods.fairness.mitigation import remove_correlation

    if test.modality != "tabular":
        raise AuditkitError("AK435", "correlations are removed from the numeric columns of a table; this is none")
    groups = (task.train_groups, task.test_groups)
    if not hasattr(train, "columns"):
        first, second = (np.asarray(part, dtype=np.float64) for part in (train, test.inputs))
        after = remove_correlation((first, groups[0]), (second, groups[1]), alpha)
        kept = np.asarray(train).dtype if np.asarray(train).dtype.kind == "f" else np.dtype(np.float64)
        return after[0].astype(kept), after[1].astype(kept), first.shape[1], first.shape[1]
    kinds = {feature.name: feature.kind for feature in test.schema.features}
    itself = [name for name in train.columns if str(name) == task.column]
    numeric = [n for n in train.columns if kinds.get(str(n)) in ("numeric", "integer") and n not in itself]
    if not numeric:
        raise AuditkitError("AK435", "the table has no numeric column to remove correlations from")
    tables = train.copy(), test.inputs.copy()
    columns = [part[numeric].astype("float64").to_numpy(dtype=np.float64, na_value=np.nan) for part in tables]
    after = remove_correlation((columns[0], groups[0]), (columns[1], groups[1]), alpha)
    for part, values in zip(tables, after, strict=True):
        for position, name in enumerate(numeric):
            part[name] = values[:, position]
        for name in itself if alpha == 1.0 else ():
            part[name] = _most_common(train[name], len(part), part.index)
    return *tables, len(numeric), train.shape[1]


def _most_common(column: Any, n: int, index: Any) -> Any:
    import pandas as pd

    return pd.Series([column.mode().iloc[0]] * n, index=index).astype(column.dtype)


def _chance(decisions: npt.NDArray[Any], subject: Subject) -> FloatArray:
    return np.asarray(decisions == subject.positive, dtype=np.float64)
