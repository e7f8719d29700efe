"""Clipped per-row gradients from opacus, and the check of them against a loop over single rows."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# This module's job is to drive opacus's gradient hooks.
import torch  # noqa: TID253
from opacus import GradSampleModule  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.nn.modules.dropout import _DropoutNd  # noqa: TID253

from auditkit.core.errors import AuditkitError

TOLERANCE = 1e-4
_ROWS = 8


def class_logits(output: torch.Tensor, n_classes: int) -> torch.Tensor:
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


def summed_loss(module: nn.Module, x: torch.Tensor, y: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Cross-entropy summed over rows."""
    return nn.functional.cross_entropy(class_logits(module(x), n_classes), y, reduction="sum")


@contextmanager
def hooked(module: nn.Module) -> Iterator[Any]:
    """``module`` with opacus's hooks, which leave per-row gradients behind each backward pass."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wrapped = GradSampleModule(module, batch_first=True, loss_reduction="sum")
        except Exception as error:
            raise AuditkitError(
                "AK566",
                "the model has a layer that differentially private training does not support",
                why=str(error),
                fix="replace the layer in the recipe's build()",
            ) from error
        try:
            yield wrapped
        finally:
            wrapped.remove_hooks()


def row_gradients(
    wrapped: Any, x: torch.Tensor, y: torch.Tensor, n_classes: int, parameters: Sequence[nn.Parameter]
) -> float:
    """Leave ``(rows, *shape)`` gradients in each parameter's ``grad_sample``; return the summed loss.

    A batch without rows never reaches the model (many layers refuse it): its gradients are empty.
    """
    if len(x) == 0:
        for parameter in parameters:
            setattr(parameter, "grad_sample", parameter.new_zeros((0, *parameter.shape)))  # noqa: B010
        return 0.0
    loss = summed_loss(wrapped, x, y, n_classes)
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach())


def check_gradients(module: nn.Module, x: torch.Tensor, y: torch.Tensor, n_classes: int) -> float:
    """Compare one clipped batch by opacus with a loop over its rows.

    The clipping norm is the median norm of the rows, so that about half of them are clipped. Dropout is
    off for the comparison.

    Returns:
        The largest difference relative to the largest entry of the gradient.

    Raises:
        AuditkitError: AK569 when it is above 1e-4, or when the comparison cannot be made.
    """
    with _full_precision(x.device):
        return _check_gradients(module, x[:_ROWS], y[:_ROWS], n_classes)


def _check_gradients(module: nn.Module, x: torch.Tensor, y: torch.Tensor, n_classes: int) -> float:
    plain = _without_dropout(copy.deepcopy(module))
    with torch.no_grad():
        if not torch.equal(plain(x), plain(x)):
            raise AuditkitError(
                "AK569",
                "per-row gradients cannot be checked: the model draws random numbers outside nn.Dropout",
                fix="use nn.Dropout layers for all randomness in forward()",
            )
    rows = torch.stack([_flat_gradient(plain, x[i : i + 1], y[i : i + 1], n_classes) for i in range(len(x))])
    norms = rows.norm(dim=1)
    limit = float(norms.median())
    expected = _clipped_sum(rows, norms, limit)
    got = _by_hooks(_without_dropout(copy.deepcopy(module)), x, y, n_classes, limit)
    gap = float((got - expected).abs().max() / (expected.abs().max() + 1e-12))
    if not gap <= TOLERANCE:
        raise AuditkitError(
            "AK569",
            "the clipped gradient of a batch is not the sum of its rows' clipped gradients",
            why=f"it differs from a loop over single rows by {gap:.2g} of its largest entry, above {TOLERANCE:g}",
            fix="keep rows apart in forward(), and the batch on the first axis of every tensor",
        )
    return gap


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Convolutions on a GPU round to 10 bits by default, which the comparison would take for a fault."""
    if device.type != "cuda":
        yield
        return
    flags = torch.backends.cudnn
    with flags.flags(enabled=flags.enabled, benchmark=False, deterministic=flags.deterministic, allow_tf32=False):
        yield


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that are trained."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _by_hooks(module: nn.Module, x: torch.Tensor, y: torch.Tensor, n_classes: int, limit: float) -> torch.Tensor:
    parameters = trainable(module)
    with hooked(module) as wrapped:
        try:
            row_gradients(wrapped, x, y, n_classes, parameters)
        except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
            raise AuditkitError("AK566", "per-row gradients of the model cannot be computed", why=str(error)) from error
        samples = [getattr(parameter, "grad_sample", None) for parameter in parameters]
    if any(sample is None or not isinstance(sample, torch.Tensor) for sample in samples):
        raise AuditkitError(
            "AK566",
            "a trainable parameter takes no part in the output, or is used in a way that opacus does not follow",
            fix="remove it, or set requires_grad = False on it, in the recipe's build()",
        )
    rows = torch.cat([sample.reshape(len(x), -1) for sample in samples if sample is not None], dim=1)
    return _clipped_sum(rows, rows.norm(dim=1), limit)


def _clipped_sum(rows: torch.Tensor, norms: torch.Tensor, limit: float) -> torch.Tensor:
    return (rows * (limit / (norms + 1e-12)).clamp(max=1.0)[:, None]).sum(dim=0)


def _flat_gradient(module: nn.Module, x: torch.Tensor, y: torch.Tensor, n_classes: int) -> torch.Tensor:
    parameters = trainable(module)
    grads = torch.autograd.grad(summed_loss(module, x, y, n_classes), parameters, allow_unused=True)
    pairs = zip(grads, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in pairs])


def _without_dropout(module: nn.Module) -> nn.Module:
    module.train()
    for layer in module.modules():
        if isinstance(layer, _DropoutNd):
            layer.eval()
    return module
