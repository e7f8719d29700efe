"""One number a row that rises with the positive class."""

from __future__ import annotations

import numpy as np

from auditkit.core.analyzer import Context
from auditkit.core.subject import FloatArray, Subject


def positive_scores(subject: Subject, context: Context, split: str) -> FloatArray:
    """``(n,)`` scores that rise with the positive class; the decision itself where the model gives no scores."""
    positive = subject.positive
    scores, decisions = context.predictions(split)
    if scores is None or positive is None:
        return np.asarray(decisions == positive, dtype=np.float64)
    if subject.model.score_space == "logit":
        return np.asarray(scores[:, positive] - scores[:, 1 - positive])
    return scores[:, positive]
