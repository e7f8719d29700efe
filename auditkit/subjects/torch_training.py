"""Plain SGD for a :class:`~auditkit.subjects.recipes.TorchRecipe`: deterministic for its seed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.core.errors import AuditkitError
from auditkit.core.generators import preserved_generators
from auditkit.subjects.torch import plain_output


class SgdSettings(Protocol):
    """The settings that :func:`train_sgd` reads of a recipe."""

    @property
    def name(self) -> str:
        """Name of the recipe."""

    @property
    def epochs(self) -> int:
        """Passes over the rows."""

    @property
    def batch_size(self) -> int:
        """Rows of one step."""

    @property
    def learning_rate(self) -> float:
        """Step size."""

    @property
    def momentum(self) -> float:
        """Momentum."""

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
    shuffler = torch.Generator().manual_seed(seed)
    with preserved_generators(seed):
        module: torch.nn.Module = recipe.build(n_outputs).to(recipe.device)
        module.train()
        optimizer = torch.optim.SGD(module.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
        for _ in range(recipe.epochs):
            for batch in torch.split(torch.randperm(len(rows), generator=shuffler), recipe.batch_size):
                optimizer.zero_grad(set_to_none=True)
                loss = training_loss(plain_output(module(rows[batch]), recipe.name), target[batch])
                if not torch.isfinite(loss):
                    raise diverged(recipe.name)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return module.eval()


def training_loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean loss: squared error for float targets; cross-entropy for codes, binary for a single output."""
    if target.is_floating_point():
        return torch.nn.functional.mse_loss(outputs.reshape(len(target)), target)
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return torch.nn.functional.binary_cross_entropy_with_logits(
            outputs.reshape(len(target)), target.to(outputs.dtype)
        )
    return torch.nn.functional.cross_entropy(outputs, target)


def diverged(name: str) -> AuditkitError:
    """The error of a training whose loss is not finite."""
    return AuditkitError(
        "AK245",
        "the loss became NaN or infinite during training",
        where=f"recipe {name}",
        fix="lower learning_rate, or look at the inputs for missing and huge values",
    )
