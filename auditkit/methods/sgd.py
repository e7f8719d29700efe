"""Plain SGD on a torch module, in one place: what the recipe itself, robust training and private training share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import AuditkitError

Tensor = torch.Tensor
# (inputs, targets) of a batch -> its loss, with the graph to the module's weights.
BatchLoss = Callable[[Tensor, Tensor], Tensor]


class Descent(Protocol):
    """The settings that :func:`descend` reads."""

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


def descend(
    module: torch.nn.Module,
    x: Tensor,
    y: Tensor,
    settings: Descent,
    *,
    seed: int,
    loss: BatchLoss,
    watch: Callable[[], None] | None = None,
) -> str | None:
    """Train ``module`` in place by SGD on batches of rows that a generator of ``seed`` shuffles in each epoch.

    The same seed gives the same batches whatever the loss, so that trainings that differ in their loss alone are
    paired. The module is left in evaluation mode, without gradients.

    Args:
        module: On the device of ``x``.
        x: ``(n, ...)`` inputs.
        y: ``(n,)`` codes or values.
        settings: Epochs, batch size, learning rate and momentum.
        seed: Of the order of the rows.
        loss: Mean loss of a batch.
        watch: Called before every batch; may raise to stop.

    Returns:
        ``None``, or where training broke off because its loss was NaN or infinite.
    """
    shuffler = torch.Generator().manual_seed(seed % 2**63)
    module.train()
    optimizer = torch.optim.SGD(module.parameters(), lr=settings.learning_rate, momentum=settings.momentum)
    failed: str | None = None
    for epoch in range(settings.epochs):
        for rows in torch.split(torch.randperm(len(x), generator=shuffler), settings.batch_size):
            if watch is not None:
                watch()
            optimizer.zero_grad(set_to_none=True)
            value = loss(x[rows], y[rows])
            if not bool(torch.isfinite(value)):
                failed = f"the loss is NaN or infinite in pass {epoch + 1} of {settings.epochs}"
                break
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if failed is not None:
            break
    optimizer.zero_grad(set_to_none=True)
    module.eval()
    return failed


def training_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """Mean loss: squared error for float targets; cross-entropy for codes, binary for a single output."""
    if target.is_floating_point():
        return torch.nn.functional.mse_loss(outputs.reshape(len(target)), target)
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return torch.nn.functional.binary_cross_entropy_with_logits(
            outputs.reshape(len(target)), target.to(outputs.dtype)
        )
    return torch.nn.functional.cross_entropy(outputs, target)


def class_logits(output: Tensor, n_classes: int) -> Tensor:
    """Logits ``(n, k)``; a single-logit binary model gives the two columns ``0, z``.

    Raises:
        AuditkitError: AK573 when the output has another shape.
    """
    if output.dim() == 1:
        output = output[:, None]
    if output.dim() == 2 and output.shape[1] == 1 and n_classes == 2:
        return torch.cat([torch.zeros_like(output), output], dim=1)
    if output.dim() != 2 or output.shape[1] != n_classes:
        raise AuditkitError(
            "AK573",
            f"the recipe's model gives an output of shape {tuple(output.shape)} for {n_classes} classes",
            fix="return logits of shape (rows, classes) from the module that build() makes",
        )
    return output
