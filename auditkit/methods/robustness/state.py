"""Leave no trace: run a model under attack, then give back its mode, gradients, buffers and every random generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from auditkit.core.generators import preserved_generators

if TYPE_CHECKING:
    from torch import nn


def module_of(model: Any) -> nn.Module | None:
    """The torch module behind ``model``: itself, or the ``module`` of the object whose method it is."""
    from torch import nn

    if isinstance(model, nn.Module):
        return model
    owner = getattr(model, "__self__", None)
    found = owner if isinstance(owner, nn.Module) else getattr(owner, "module", None)
    return found if isinstance(found, nn.Module) else None


@contextmanager
def undisturbed(model: Any) -> Iterator[nn.Module | None]:
    """Evaluate ``model`` in eval mode and give everything back bitwise: mode, buffers, gradients, generators.

    Batch norm in train mode would both change its running statistics and make a row's answer depend on the
    rows beside it, so an attack always looks at the model in eval mode.
    """
    module = module_of(model)
    if module is None:
        with preserved_generators():
            yield None
        return
    import torch

    modes = [(part, part.training) for part in module.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    gradients = [(parameter, parameter.grad, parameter.requires_grad) for parameter in module.parameters()]
    kept = [None if grad is None else grad.detach().clone() for _, grad, _ in gradients]
    with preserved_generators():
        try:
            module.eval()
            yield module
        finally:
            for part, training in modes:
                part.training = training
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
                for (parameter, grad, requires), content in zip(gradients, kept, strict=True):
                    parameter.requires_grad_(requires)
                    parameter.grad = grad
                    if grad is not None and content is not None:
                        grad.copy_(content)
