"""Recipes: how to train a model afresh, for comparisons, shadow models and private training."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.subject import Model


@dataclass(frozen=True, kw_only=True)
class TorchRecipe:
    """A torch module and plain SGD settings: cross-entropy for classes, squared error for values.

    Attributes:
        name: A name for the card.
        build: Number of outputs -> a freshly initialised ``torch.nn.Module``.
        epochs: Passes over the training rows.
        batch_size: Rows of one step.
        learning_rate: Step size of SGD.
        momentum: Momentum of SGD.
        prepare: Training inputs -> a fitted callable that turns inputs into the module's tensor. By
            default: tables standardised and one-hot encoded, arrays as they are.
        labels: All class labels in order of their codes; filled in by ``make_subject``.
        device: Where to train.
    """

    name: str
    build: Callable[[int], Any]
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    prepare: Callable[[Any], Callable[[Any], Any]] | None = None
    labels: tuple[Any, ...] | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        for field, low in (("epochs", 1), ("batch_size", 1)):
            if getattr(self, field) < low:
                raise UsageError("AK245", f"{field} of a recipe must be {low} or more", where=self.name)
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0) or not 0 <= self.momentum < 1:
            raise UsageError(
                "AK245", "learning_rate must be above 0 and momentum in [0, 1)", where=f"recipe {self.name}"
            )

    def for_labels(self, labels: tuple[Any, ...]) -> TorchRecipe:
        """The same recipe for these class labels, unless it names its own."""
        return self if self.labels is not None or not labels else dataclasses.replace(self, labels=labels)

    def fit_preparation(self, inputs: Any) -> Callable[[Any], Any]:
        """A callable ``inputs -> tensor`` fitted on these training inputs only."""
        if self.prepare is not None:
            return self.prepare(inputs)
        from auditkit.subjects.preparation import ArrayPreparation, fit_table_preparation

        if hasattr(inputs, "columns"):
            return fit_table_preparation(inputs)
        if isinstance(inputs, list):
            raise UsageError("AK245", "texts have no default preparation", fix="pass TorchRecipe(prepare=...)")
        return ArrayPreparation(tokens=self._takes_tokens(np.asarray(inputs)))

    def n_outputs(self, y: npt.NDArray[Any]) -> int:
        """Number of outputs for targets ``y``: the classes, or 1 for values."""
        if np.asarray(y).dtype.kind == "f":
            return 1
        return len(self.labels) if self.labels is not None else max(int(np.max(y)) + 1, 2)

    def fit(self, inputs: Any, y: npt.NDArray[Any], seed: int) -> Model:
        """Train on ``inputs`` and codes (or values) ``y``; the same seed gives the same module.

        The global random generators are as before afterwards.

        Raises:
            AuditkitError: AK245 when the loss is not finite.
        """
        from auditkit.subjects.torch import TorchModel
        from auditkit.subjects.torch_training import train_sgd

        prepared = self.fit_preparation(inputs)
        outputs = self.n_outputs(y)
        module = train_sgd(self, prepared(inputs), np.asarray(y), outputs, seed)
        # A plain array preparation is what TorchModel does by itself: leave it out, so that the model
        # takes the same inputs as a bare module.
        from auditkit.subjects.preparation import ArrayPreparation

        prepare = None if isinstance(prepared, ArrayPreparation) else prepared
        if np.asarray(y).dtype.kind == "f":
            return TorchModel(module, task="regression", prepare=prepare, output="logit")
        labels = self.labels if self.labels is not None else tuple(range(outputs))
        return TorchModel(module, classes=labels, prepare=prepare, output="logit")

    def _takes_tokens(self, inputs: npt.NDArray[Any]) -> bool:
        if inputs.ndim != 2 or inputs.dtype.kind not in "iu":
            return False
        import torch

        from auditkit.core.generators import preserved_generators
        from auditkit.subjects.torch_state import has_layer

        with preserved_generators(0):
            return has_layer(self.build(2), torch.nn.Embedding, torch.nn.EmbeddingBag)


@dataclass(frozen=True, kw_only=True)
class SklearnRecipe:
    """Clone a scikit-learn estimator, set every ``random_state`` it has, fit it.

    Attributes:
        estimator: An estimator or pipeline, fitted or not; it is only cloned.
        labels: Class labels in order of their codes; filled in by ``make_subject``.
        name: A name for the card; the class of the estimator when left out.
    """

    estimator: Any
    labels: tuple[Any, ...] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", type(self.estimator).__name__)

    @property
    def is_linear(self) -> bool:
        """Whether it trains a logistic regression, alone or at the end of a pipeline, which torch can train as well."""
        last = self.estimator
        while hasattr(last, "steps"):
            last = last.steps[-1][1]
        kind = type(last).__name__
        return kind == "LogisticRegression" or (kind == "SGDClassifier" and last.loss == "log_loss")

    def for_labels(self, labels: tuple[Any, ...]) -> SklearnRecipe:
        """The same recipe for these class labels, unless it names its own."""
        return self if self.labels is not None or not labels else dataclasses.replace(self, labels=labels)

    def fit(self, inputs: Any, y: npt.NDArray[Any], seed: int, weights: npt.NDArray[np.float64] | None = None) -> Model:
        """A clone fitted on ``inputs`` and codes (or values) ``y``; the same seed gives the same model.

        ``weights (n,)`` are handed to the estimator, or to the last step of a pipeline.

        Raises:
            AuditkitError: AK245 when fitting raises; AK437 when the estimator takes no row weights.
        """
        from sklearn.base import clone

        from auditkit.subjects.sklearn import SklearnModel

        target = np.asarray(y)
        regression = target.dtype.kind == "f"
        if not regression and self.labels is not None:
            target = np.array(self.labels)[target]
        fresh = seeded_estimator(clone(self.estimator), seed)
        extra = {} if weights is None else {self.weight_name(): weights}
        state = np.random.get_state()  # noqa: NPY002 - an estimator without random_state draws from it
        try:
            np.random.seed(seed % 2**32)  # noqa: NPY002
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fresh.fit(inputs, target, **extra)
        except (Exception, SystemExit) as error:
            raise AuditkitError(
                "AK245",
                "training the model afresh failed",
                where=f"recipe {self.name}",
                why=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            ) from error
        finally:
            np.random.set_state(state)  # noqa: NPY002
        if regression:
            return SklearnModel(fresh, task="regression", hashed=False)
        return SklearnModel(fresh, labels=self.labels, hashed=False)

    def weight_name(self) -> str:
        """The name under which ``fit`` takes row weights.

        Raises:
            AuditkitError: AK437 when there is none.
        """
        from sklearn.utils.validation import has_fit_parameter

        estimator, prefix = self.estimator, ""
        while hasattr(estimator, "steps"):
            name, estimator = estimator.steps[-1]
            prefix += f"{name}__"
        if not has_fit_parameter(estimator, "sample_weight"):
            raise AuditkitError("AK437", f"{type(estimator).__name__} cannot be trained on weighted rows")
        return f"{prefix}sample_weight"


def seeded_estimator(estimator: Any, seed: int) -> Any:
    """``estimator`` with each of its ``random_state`` parameters, nested ones too, drawn from ``seed``."""
    names = sorted(
        name for name in estimator.get_params(deep=True) if name == "random_state" or name.endswith("__random_state")
    )
    states = np.random.SeedSequence(seed).generate_state(max(len(names), 1), np.uint32)
    if names:
        estimator.set_params(**{name: int(state >> 1) for name, state in zip(names, states, strict=False)})
    return estimator
