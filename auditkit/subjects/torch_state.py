"""Borrowing a torch module: eval mode for a while, then everything bitwise as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.core.generators import preserved_generators


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every submodule's own train/eval flag and the global generators are as before."""
    flags = [(part, part.training) for part in module.modules()]
    with preserved_generators():
        try:
            for part, _ in flags:
                part.training = False
            yield
        finally:
            for part, flag in flags:
                part.training = flag


@contextmanager
def borrowed(module: torch.nn.Module) -> Iterator[None]:
    """:func:`evaluating` without gradients, and with the module's buffers restored if the forward changed them."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        with evaluating(module), torch.no_grad():
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                if buffer.shape == before.shape and not torch.equal(buffer, before):
                    buffer.copy_(before)


def module_device(module: torch.nn.Module) -> str:
    """``cpu`` or ``cuda``: where the first parameter or buffer lives."""
    first = next(iter([*module.parameters(), *module.buffers()]), None)
    return "cpu" if first is None else str(first.device.type)


def module_dtype(module: torch.nn.Module) -> torch.dtype:
    """The dtype of the first floating-point parameter; float32 when there is none."""
    for parameter in module.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.float32


def has_layer(module: torch.nn.Module, *kinds: Any) -> bool:
    """Whether any submodule is one of ``kinds``."""
    return any(isinstance(part, kinds) for part in module.modules())
