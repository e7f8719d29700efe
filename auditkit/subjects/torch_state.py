"""Borrowing a torch module: eval mode for a while, then everything bitwise as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch  # noqa: TID253 - this module exists to drive torch


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every submodule's own train/eval flag and torch's RNG states are as before."""
    flags = [(part, part.training) for part in module.modules()]
    cuda = _on_cuda(module)
    cpu_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if cuda else None
    try:
        for part, _ in flags:
            part.training = False
        yield
    finally:
        for part, flag in flags:
            part.training = flag
        torch.set_rng_state(cpu_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


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


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global torch, numpy and ``random`` generators on ``seed`` inside, and as before afterwards."""
    import random

    import numpy as np

    before = (torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002 - saved to be restored
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    try:
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - user code may draw from it
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])  # noqa: NPY002 - restored
        random.setstate(before[2])
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


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


def _on_cuda(module: torch.nn.Module) -> bool:
    return torch.cuda.is_available() and module_device(module) == "cuda"
