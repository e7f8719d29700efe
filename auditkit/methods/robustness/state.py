"""Leave no trace: run a model under attack, then give back its mode, gradients, buffers and every random generator."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def preserved_generators(seed: int | None = None) -> Iterator[None]:
    """Give back the state of the global generators (random, numpy, torch on every device) on the way out.

    Args:
        seed: When given, the global numpy and ``random`` generators are seeded with it inside, so that a library
            that draws from them is reproducible.
    """
    state = random.getstate(), np.random.get_state()  # noqa: NPY002 - the legacy global state is what is kept
    torch = sys.modules.get("torch")
    cpu = torch.random.get_rng_state() if torch else None
    cuda = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else None
    if seed is not None:
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - ART draws from the legacy global generator
    try:
        yield
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
        if torch and cpu is not None:
            torch.random.set_rng_state(cpu)
        if torch and cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


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
