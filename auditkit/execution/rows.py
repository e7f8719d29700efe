"""Making the private record of rows from a subject and its cached predictions."""

from __future__ import annotations

import numpy as np

from auditkit.core.rows import RowsRecord
from auditkit.core.subject import Subject
from auditkit.execution.predictions import PredictionCache


def rows_of(subject: Subject, predictions: PredictionCache) -> RowsRecord | None:
    """The record of the test rows; ``None`` for rows that were counted as they were read."""
    data = subject.test
    if data.counted is not None:
        return None
    scores, decided = predictions("test")
    kind = np.float64 if subject.task == "regression" else np.int64
    return RowsRecord(
        fingerprint=data.fingerprint,
        y=np.asarray(data.y, dtype=kind),
        decided=np.asarray(decided, dtype=kind),
        groups={name: np.asarray(values).astype(np.str_) for name, values in data.sensitive.items()},
        weights=data.weights,
        clusters=data.clusters,
        scores=None if scores is None or subject.task == "regression" else np.asarray(scores, dtype=np.float64),
    )
