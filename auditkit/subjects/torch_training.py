"""Plain SGD for a :class:`~auditkit.subjects.recipes.TorchRecipe`: deterministic for its seed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.core.errors import AuditkitError
from auditkit.core.generators import preserved_generators
from auditkit.methods.sgd import Descent, descend
from auditkit.methods.sgd import training_loss as training_loss
from auditkit.subjects.torch import plain_output


class SgdSettings(Descent, Protocol):
    """The settings that :func:`train_sgd` reads of a recipe."""

    @property
    def name(self) -> str:
        """Name of the recipe."""

    @property
    def device(self) -> str:
        """Where to train."""

    def build(self, n_outputs: int, /) -> Any:
        """A fresh module."""


def train_sgd(
    recipe: SgdSettings, rows: torch.Tensor, y: npt.NDArray[Any], n_outputs: int, seed: int
) -> torch.nn.Module:
    """Train a fresh module on ``rows (n, ...)`` and codes or values ``y (n,)``; returned in eval mode.

    Rows are shuffled in each epoch by a generator of their own. The global random generators, which
    initialisation and dropout use, are set from ``seed`` and afterwards as before.

    Raises:
        AuditkitError: AK245 the loss is NaN or infinite.
    """
    values = y.dtype.kind == "f"
    target = torch.from_numpy(np.array(y, dtype=np.float32 if values else np.int64)).to(recipe.device)
    rows = rows.to(recipe.device)
    with preserved_generators(seed):
        module: torch.nn.Module = recipe.build(n_outputs).to(recipe.device)
        failed = descend(
            module,
            rows,
            target,
            recipe,
            seed=seed,
            loss=lambda x, labels: training_loss(plain_output(module(x), recipe.name), labels),
        )
    if failed is not None:
        raise diverged(recipe.name)
    return module


def diverged(name: str) -> AuditkitError:
    """The error of a training whose loss is not finite."""
    return AuditkitError(
        "AK245",
        "the loss became NaN or infinite during training",
        where=f"recipe {name}",
        fix="lower learning_rate, or look at the inputs for missing and huge values",
    )
