"""How many threads a small training is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# This module's job is to set and restore torch's threads.
import torch  # noqa: TID253


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
