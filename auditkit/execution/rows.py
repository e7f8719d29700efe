"""Making the private record of rows from a subject and its cached predictions."""

from __future__ import annotations

import numpy as np

from auditkit.core.rows import RowsRecord
from auditkit.core.subject import Subject
from auditkit.execution.predictions import PredictionCache


def rows_of(subject: Subject, predictions: PredictionCache) -> RowsRecord | None:
    """The record of the test rows; ``None`` for regression, and for rows that were counted as they were read."""
    data = subject.test
    if subject.task == "regression" or data.counted is not None:
        return None
    _, decided = predictions("test")
    return RowsRecord(
        fingerprint=data.fingerprint,
        y=np.asarray(data.y, dtype=np.int64),
        decided=np.asarray(decided, dtype=np.int64),
        groups={name: np.asarray(values).astype(np.str_) for name, values in data.sensitive.items()},
        weights=data.weights,
        clusters=data.clusters,
    )
