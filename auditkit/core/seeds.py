"""Seeds: one integer for the run, an independent stream for each analyzer."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from auditkit.core.schema import canonical_json, plain


def analyzer_seed(seed: int, name: str, params: Mapping[str, object]) -> np.random.SeedSequence:
    """``SeedSequence([seed, crc32(name), crc32(params)])``: adding an analyzer changes no other's numbers."""
    params_crc = zlib.crc32(canonical_json(plain(params)).encode("ascii"))
    return np.random.SeedSequence([seed, zlib.crc32(name.encode("utf-8")), params_crc])


def seed_integer(sequence: np.random.SeedSequence) -> int:
    """A 63-bit integer drawn from ``sequence``, for libraries that take an integer seed."""
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
