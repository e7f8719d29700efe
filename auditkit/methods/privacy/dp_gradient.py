"""Sums of clipped per-row gradients by the fastest engine that is right for a module, which a loop over rows checks.

``ghost`` is ours: one backward pass, for modules made of layers that :mod:`auditkit.methods.privacy.dp_layers` knows.
``opacus`` forms every row's gradient, by hooks where opacus has a rule for the layer and by functorch elsewhere.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

# This module's job is to drive opacus's gradient hooks.
import torch  # noqa: TID253
from opacus import GradSampleModule  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.nn.modules.dropout import _DropoutNd  # noqa: TID253

from auditkit.core.errors import AuditkitError
from auditkit.methods.privacy.dp_ghost import NotFollowed, ghost_applies, ghost_clipper
from auditkit.methods.sgd import class_logits

Engine = Literal["ghost", "opacus"]
# Rows -> the clipped sum of their gradients, a tensor a parameter, and their summed loss.
ClippedSum = Callable[[torch.Tensor, torch.Tensor], tuple[list[torch.Tensor], float]]

TOLERANCE = 1e-4
_ROWS = 8
# How far weights are moved for the second comparison: as far as the model bears.
_MOVES = (0.1, 0.01, 0.001)


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


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The engine that is right for a module, and how far it is from a loop over single rows.

    Attributes:
        gap: Largest difference relative to the largest entry of the gradient.
    """

    engine: Engine
    gap: float


@contextmanager
def clipping(
    module: nn.Module, parameters: Sequence[nn.Parameter], engine: Engine, limit: float, n_classes: int
) -> Iterator[ClippedSum]:
    """How to get sums of per-row gradients, each scaled down to the length ``limit``; hooks are gone afterwards."""
    if engine == "ghost":
        with ghost_clipper(module, parameters) as clipper:

            def by_ghost(x: torch.Tensor, y: torch.Tensor) -> tuple[list[torch.Tensor], float]:
                clipper.forget()
                loss = summed_loss(module, x, y, n_classes)
                return clipper.clipped_sum(loss, len(x), limit)[0], float(loss.detach())

            yield by_ghost
        return
    with hooked(module) as wrapped:

        def by_rows(x: torch.Tensor, y: torch.Tensor) -> tuple[list[torch.Tensor], float]:
            loss = row_gradients(wrapped, x, y, n_classes, parameters)
            samples: list[torch.Tensor] = [_sample(parameter) for parameter in parameters]
            flat = [sample.reshape(len(x), -1) for sample in samples]
            norms = torch.stack([part.norm(dim=1) for part in flat]).norm(dim=0)
            scale = (limit / norms.clamp_min(1e-12)).clamp(max=1.0)
            sums = [(scale @ part).reshape(p.shape) for part, p in zip(flat, parameters, strict=True)]
            for parameter in parameters:
                parameter.grad = None
                setattr(parameter, "grad_sample", None)  # noqa: B010
            return sums, loss

        yield by_rows


def check_gradients(module: nn.Module, x: torch.Tensor, y: torch.Tensor, n_classes: int) -> Checked:
    """Choose the engine, and compare one clipped batch by it with a loop over its rows.

    The clipping norm is the median norm of the rows, so that about half of them are clipped. Dropout is
    off for the comparison. It is made twice: with the weights as they are and with all of them moved a little, because
    a branch that starts at 0 hides what is wrong with it until it is trained.

    Raises:
        AuditkitError: AK566 a layer that no engine follows; AK569 when the difference is above 1e-4 of the
            largest entry, or when the comparison cannot be made.
    """
    with _full_precision(x.device):
        return _check_gradients(module, x[:_ROWS], y[:_ROWS], n_classes)


def _check_gradients(module: nn.Module, x: torch.Tensor, y: torch.Tensor, n_classes: int) -> Checked:
    if not trainable(module):
        raise AuditkitError(
            "AK566", "the model has no trainable parameter", fix="set requires_grad = True in the recipe's build()"
        )
    cases = [_case(_without_dropout(copy.deepcopy(module)), x, y, n_classes)]
    for share in _MOVES:
        moved = _case(_moved(_without_dropout(copy.deepcopy(module)), share), x, y, n_classes)
        # Where the move saturates the model, gradients are rounding: a smaller one is made.
        if bool(torch.isfinite(moved.expected).all()) and moved.limit > 0.01 * cases[0].limit:
            cases.append(moved)
            break
    engines: tuple[Engine, ...] = ("ghost", "opacus") if ghost_applies(module) else ("opacus",)
    gap = float("inf")
    for engine in engines:
        try:
            gap = max(_gap(engine, case, x, y, n_classes) for case in cases)
        except NotFollowed:
            continue
        if gap <= TOLERANCE:
            return Checked(engine=engine, gap=gap)
    raise AuditkitError(
        "AK569",
        "the clipped gradient of a batch is not the sum of its rows' clipped gradients",
        why=f"it differs from a loop over single rows by {gap:.2g} of its largest entry, above {TOLERANCE:g}",
        fix="keep rows apart in forward(), and the batch on the first axis of every tensor",
    )


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A module, a clipping norm and the clipped sum that a loop over the rows gives."""

    module: nn.Module
    limit: float
    expected: torch.Tensor


def _case(plain: nn.Module, x: torch.Tensor, y: torch.Tensor, n_classes: int) -> _Case:
    with torch.no_grad():
        if not torch.equal(plain(x), plain(x)):
            raise AuditkitError(
                "AK569",
                "per-row gradients cannot be checked: the model draws random numbers outside nn.Dropout",
                fix="use nn.Dropout layers for all randomness in forward()",
            )
    try:
        rows = torch.stack([_flat_gradient(plain, x[i : i + 1], y[i : i + 1], n_classes) for i in range(len(x))])
    except (RuntimeError, ValueError, IndexError) as error:
        raise AuditkitError(
            "AK569",
            "per-row gradients cannot be checked: the model does not take a single row",
            why=str(error),
            fix="keep the batch on the first axis of every tensor, and rows apart, in forward()",
        ) from error
    norms = rows.norm(dim=1)
    limit = float(norms.median())
    return _Case(module=plain, limit=limit, expected=_clipped_sum(rows, norms, limit))


def _gap(engine: Engine, case: _Case, x: torch.Tensor, y: torch.Tensor, n_classes: int) -> float:
    got = _by_engine(engine, copy.deepcopy(case.module), x, y, n_classes, case.limit)
    return float((got - case.expected).abs().max() / (case.expected.abs().max() + 1e-12))


def _moved(module: nn.Module, share: float) -> nn.Module:
    """Every weight moved by a ``share`` of its tensor's size; those of a tensor of zeros by five of a usual start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            size = float(parameter.double().square().mean().sqrt())
            usual = 1.0 / math.sqrt(parameter[0].numel()) if parameter.dim() > 1 else 1.0
            drawn = torch.randn(parameter.shape, generator=generator).to(parameter.device, parameter.dtype)
            parameter.add_(drawn, alpha=share * (size or 5.0 * usual))
    return module


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


def _by_engine(
    engine: Engine, module: nn.Module, x: torch.Tensor, y: torch.Tensor, n_classes: int, limit: float
) -> torch.Tensor:
    parameters = trainable(module)
    try:
        with clipping(module, parameters, engine, limit, n_classes) as clipped:
            sums, _ = clipped(x, y)
    except (RuntimeError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise AuditkitError("AK566", "per-row gradients of the model cannot be computed", why=str(error)) from error
    return torch.cat([part.reshape(-1) for part in sums])


def _sample(parameter: nn.Parameter) -> torch.Tensor:
    sample = getattr(parameter, "grad_sample", None)
    if not isinstance(sample, torch.Tensor):
        raise AuditkitError(
            "AK566",
            "a trainable parameter takes no part in the output, or is used in a way that opacus does not follow",
            fix="remove it, or set requires_grad = False on it, in the recipe's build()",
        )
    return sample


def _clipped_sum(rows: torch.Tensor, norms: torch.Tensor, limit: float) -> torch.Tensor:
    return (rows * (limit / norms.clamp_min(1e-12)).clamp(max=1.0)[:, None]).sum(dim=0)


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
