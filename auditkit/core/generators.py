"""The global random generators, left as they were found."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def preserved_generators(seed: int | None = None) -> Iterator[None]:
    """Restore the global generators of ``random``, numpy and (when loaded) torch, also after an error.

    Args:
        seed: When given, they start from it inside, so that a library which draws from them gives the same answer
            at every call.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002 - the global generator is what is preserved
    torch = sys.modules.get("torch")
    torch_state = None if torch is None else torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch is not None and torch.cuda.is_initialized() else None
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries draw from it
            if torch is not None:
                torch.manual_seed(seed % 2**63)
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        if torch is not None and torch_state is not None:
            torch.set_rng_state(torch_state)
            if cuda_states is not None:
                torch.cuda.set_rng_state_all(cuda_states)
