"""Linear scikit-learn classifiers as torch recipes: the same functions, trained by plain SGD."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import AuditkitError
from auditkit.subjects.recipes import SklearnRecipe, TorchRecipe

EPOCHS, BATCH_SIZE, LEARNING_RATE = 30, 128, 0.1


@dataclass(frozen=True)
class FittedSteps:
    """The fitted steps of a pipeline before its classifier, then standardised columns: inputs -> float32 tensor."""

    steps: Any
    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    def __call__(self, inputs: Any) -> Any:
        """The prepared rows ``(n, width)`` as a torch tensor."""
        import torch

        return torch.from_numpy(((_dense(self.steps, inputs) - self.mean) / self.scale).astype(np.float32))


def linear_torch_recipe(recipe: SklearnRecipe, inputs: Any) -> TorchRecipe:
    """A torch recipe for the same linear functions as ``recipe``, a logistic regression or a pipeline that ends in one.

    The steps before the classifier are fitted once, on ``inputs``; its columns are then standardised, which leaves the
    set of linear functions as it is and lets one learning rate serve all columns. A penalty on the weights is not
    carried over: few passes of SGD from small weights take its place.

    Args:
        recipe: With :attr:`SklearnRecipe.is_linear`.
        inputs: The training inputs.

    Raises:
        AuditkitError: AK627 the steps before the classifier cannot be fitted without labels.
    """
    from sklearn.base import clone

    estimator = recipe.estimator
    steps = clone(estimator[:-1]) if hasattr(estimator, "steps") and len(estimator.steps) > 1 else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prepared = _dense(None if steps is None else steps.fit(inputs), inputs)
    except (TypeError, ValueError) as error:
        raise AuditkitError(
            "AK627",
            "the pipeline cannot be followed by private training",
            where=f"recipe {recipe.name}",
            why=f"its steps before the classifier could not be fitted without labels: {str(error)[:200]}",
            fix="pass recipe=auditkit.TorchRecipe(...)",
        ) from error
    scale = prepared.std(axis=0)
    ready = FittedSteps(steps, prepared.mean(axis=0), np.where(scale > 0.0, scale, 1.0))
    width = prepared.shape[1]

    def build(n_outputs: int) -> Any:
        from torch import nn

        return nn.Linear(width, n_outputs)

    return TorchRecipe(
        name=f"{recipe.name} by SGD",
        build=build,
        epochs=EPOCHS,
        batch_size=min(BATCH_SIZE, max(1, len(prepared) // 4)),
        learning_rate=LEARNING_RATE,
        prepare=lambda _: ready,
        labels=recipe.labels,
    )


def _dense(steps: Any, inputs: Any) -> npt.NDArray[np.float64]:
    made = inputs if steps is None else steps.transform(inputs)
    made = made.toarray() if hasattr(made, "toarray") else np.asarray(made)
    return made.reshape(len(made), -1).astype(np.float64)
