"""Memory that a training frees in one step and needs again in the next."""

from __future__ import annotations

# This module's job is to have torch allocate.
import torch  # noqa: TID253

# The largest block that changes how the GNU C library keeps memory is 32 MB.
_BLOCK = 2**25 - 2**16


def keep_freed_memory() -> None:
    """Have the process keep up to 64 MB that it frees instead of giving it back and asking for it anew in every step.

    Without, clearing pages takes up to a third of a step whose tensors hold some megabytes. The GNU C library raises
    its thresholds to the size of a large block that is freed; the block here is never touched. Elsewhere nothing
    changes.

    Source: mallopt(3), M_MMAP_THRESHOLD.
    """
    torch.empty(_BLOCK, dtype=torch.uint8)
