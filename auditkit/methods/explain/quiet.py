"""A quiet room for libraries that print, warn, or draw from the global random generators."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

from auditkit.core.generators import preserved_generators


@contextlib.contextmanager
def quiet(seed: int | None = None) -> Iterator[None]:
    """Swallow prints and warnings; restore the global generators of ``random``, numpy and torch afterwards.

    Args:
        seed: When given, the global generators start from it inside, so that a library
            that draws from them gives the same answer at every call.
    """
    with (
        preserved_generators(seed),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
