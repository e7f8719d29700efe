"""What the methods ask for at the least, in one sentence each."""

from __future__ import annotations

import numpy as np

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray


def need_rows(*counts: int) -> None:
    """Refuse to explain no rows, or to compare with none.

    Raises:
        UsageError: AK500.
    """
    if 0 in counts:
        raise UsageError(
            "AK500", "there are no rows to explain, or the background is empty", fix="pass one row or more"
        )


def need_finite(values: FloatArray) -> None:
    """Refuse attributions with missing or infinite values, of which no mean can be taken.

    Raises:
        UsageError: AK500.
    """
    if not np.isfinite(values).all():
        raise UsageError(
            "AK500", "the attributions hold values that are not finite", fix="leave the rows out that hold them"
        )
