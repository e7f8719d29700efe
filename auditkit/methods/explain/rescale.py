"""DeepLift's rescale rule at every call of an activation or a max pooling, whether a module makes it or a function.

Rows and their baselines pass side by side, as one batch. On the way back an activation hands on the slope of the line
between a row and its baseline in place of its own; a max pooling hands each window's change to the places of its two
maxima. No layer is hooked: activations may be functions, be used twice, or work in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch  # noqa: TID253 - this module works inside torch
from torch.nn import functional  # noqa: TID253

from auditkit.methods.explain.differentiable import Forward

_ACTIVATIONS = (
    "celu",
    "elu",
    "gelu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "softplus",
    "softsign",
    "tanh",
)
_POOLINGS = tuple(f"{kind}max_pool{axes}d" for kind in ("", "adaptive_") for axes in (1, 2, 3))
_ROUNDINGS = 8.0  # changes below so many roundings of what changes are none
_WITHOUT_INDICES = 6  # most arguments in order that do not ask for the places of the maxima


def rescaled(forward: Forward, inputs: torch.Tensor, baseline: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """DeepLift values ``(n, ...)`` of the target outputs.

    What is neither a line nor known here (products of two signals, layer normalisation, attention, recurrence) keeps
    its own slopes, and the values then miss the change of the output.

    Args:
        forward: Runs the module; outputs ``(m, k)``. Rows are first in all that passes through it.
        inputs: ``(n, ...)``.
        baseline: ``(n, ...)`` where each row's change starts.
        targets: ``(n,)`` output explained.

    Source: Shrikumar, Greenside and Kundaje (2017), sections 3.2 and 3.5.1; of poolings Lundberg and Lee (2017), 4.2.
    """
    both = torch.cat([inputs, baseline]).detach().requires_grad_(True)
    copies = both.clone()  # no leaf: a module may begin with writing into its input
    with _Rescaling():
        outputs = forward(copies)
    explained = outputs[: len(inputs)].gather(1, targets[:, None]).sum()
    (slopes,) = torch.autograd.grad(explained, both)
    return (inputs - baseline) * slopes[: len(inputs)]


class _Rescaling(torch.overrides.TorchFunctionMode):
    """Puts the rules in the place of activations and max poolings."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        settings = dict(kwargs or {})
        if args and isinstance(args[0], torch.Tensor) and args[0].ndim and len(args[0]) % 2 == 0:
            if func in _ELEMENTWISE:
                return _activated(func, args, settings)
            if func in _PLACED and len(args) <= _WITHOUT_INDICES and not settings.pop("return_indices", False):
                placed, axes = _PLACED[func]
                return _pooled(args[0], lambda x: placed(x, *args[1:], **settings), axes)
        return func(*args, **(kwargs or {}))


def _activated(func: Callable[..., Any], args: Any, settings: dict[str, Any]) -> torch.Tensor:
    inputs, *others = args
    overwrites = settings.pop("inplace", False) or func.__name__.endswith("_")

    def plain(x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = func(x.clone() if overwrites else x, *others, **settings)
        return found

    return _bent(inputs, plain) if not overwrites else inputs.copy_(_bent(inputs.clone(), plain))


class _Activation(torch.autograd.Function):
    """A function of single numbers, whose slope is that between a row and its baseline."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, plain: Callable[..., Any]) -> torch.Tensor:
        outputs: torch.Tensor = plain(inputs)
        ctx.plain = plain
        ctx.save_for_backward(inputs, outputs)
        return outputs

    @staticmethod
    def backward(ctx: Any, arriving: torch.Tensor) -> tuple[torch.Tensor, None]:
        inputs, outputs = ctx.saved_tensors
        (rows, base), (after, before) = inputs.chunk(2), outputs.chunk(2)
        change, still = rows - base, _unchanged(rows, base)
        with torch.enable_grad():
            point = rows.detach().requires_grad_(True)
            (own,) = torch.autograd.grad(ctx.plain(point).sum(), point)
        slope = torch.where(still, own, (after - before) / torch.where(still, 1.0, change))
        return _only_rows(slope * arriving.chunk(2)[0]), None


class _Pooling(torch.autograd.Function):
    """The maximum of windows, whose change goes to where the row and its baseline have their maxima."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, placed: Callable[..., Any], axes: int) -> torch.Tensor:
        outputs, places = placed(inputs)
        ctx.axes = axes
        ctx.save_for_backward(inputs, outputs, places)
        found: torch.Tensor = outputs
        return found

    @staticmethod
    def backward(ctx: Any, arriving: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        inputs, outputs, places = ctx.saved_tensors
        (rows, base), (after, before), (ours, theirs) = inputs.chunk(2), outputs.chunk(2), places.chunk(2)
        higher, first = torch.maximum(after, before), arriving.chunk(2)[0]
        moved = torch.zeros_like(rows).flatten(-ctx.axes)
        for place, gain in ((ours, higher - before), (theirs, after - higher)):
            moved.scatter_add_(-1, place.flatten(-ctx.axes), (first * gain).flatten(-ctx.axes))
        still = _unchanged(rows, base)
        slope = torch.where(still, 0.0, moved.reshape(rows.shape) / torch.where(still, 1.0, rows - base))
        return _only_rows(slope), None, None


def _unchanged(rows: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Where a row is at its baseline, to rounding."""
    return (rows - base).abs() <= _ROUNDINGS * torch.finfo(rows.dtype).eps * (rows.abs() + base.abs())


def _only_rows(slopes: torch.Tensor) -> torch.Tensor:
    """Slopes of the rows, and none of the baselines, which stay where they are."""
    return torch.cat([slopes, torch.zeros_like(slopes)])


def _spellings(name: str) -> Iterator[Any]:
    """A function as torch offers it: in ``torch``, in ``torch.nn.functional``, as a method, and in place."""
    for room in (torch, functional, torch.Tensor):
        for spelling in (name, f"{name}_"):
            if hasattr(room, spelling):
                yield getattr(room, spelling)


_ELEMENTWISE = frozenset(spelling for name in _ACTIVATIONS for spelling in _spellings(name))
_PLACED: dict[Any, tuple[Callable[..., Any], int]] = {
    spelling: (getattr(functional, f"{name}_with_indices"), int(name[-2]))
    for name in _POOLINGS
    for spelling in _spellings(name)
}
_bent: Callable[..., torch.Tensor] = _Activation.apply
_pooled: Callable[..., torch.Tensor] = _Pooling.apply
