"""Code that draws from the global generators, run so that nobody else sees a difference."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# This module's job is to save and restore torch's generators.
import torch  # noqa: TID253


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, the global generators of ``random``, numpy and torch start at ``seed``; after, they are as before."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    cuda = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=cuda):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed % 2**63)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def threads_for(work: int, device: torch.device) -> Iterator[None]:
    """One thread inside when ``work`` (numbers touched in a batch) is small: more would only wait for each other.

    With one thread, sums are also made in the same order on every machine.
    """
    before = torch.get_num_threads()
    if device.type != "cpu" or work > 10_000_000 or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
