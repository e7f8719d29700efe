"""Saved predictions in the place of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, ScoreSpace
from auditkit.subjects.fingerprint import fingerprint_parts


class SavedPredictions:
    """Decisions (and scores) of rows that were predicted elsewhere.

    The inputs are row positions; only those rows have an answer. Capabilities are ``labels`` and, with
    scores, ``scores``: nothing that would need the model itself.

    Attributes:
        decisions: ``(n,)`` int64 codes, or float64 values.
        scores: ``(n, k)`` or ``None``.
    """

    classes: tuple[str, ...]
    score_space: ScoreSpace | None
    capabilities: frozenset[str]
    kind: str
    fingerprint: str | None

    def __init__(
        self,
        decisions: npt.NDArray[Any],
        scores: FloatArray | None,
        *,
        classes: tuple[str, ...],
        score_space: ScoreSpace | None,
    ) -> None:
        self.decisions = decisions
        self.scores = scores
        self.classes = classes
        self.score_space = score_space if scores is not None else None
        self.capabilities = frozenset({"labels"} | ({"scores"} if scores is not None else set()))
        self.kind = "saved predictions"
        self.fingerprint = fingerprint_parts(
            [("decisions", decisions), ("scores", scores), ("classes", classes), ("space", self.score_space)]
        )

    def predict(self, inputs: Any) -> npt.NDArray[Any]:
        """The saved decisions of these row positions."""
        return self.decisions[self._rows(inputs)]

    def predict_scores(self, inputs: Any) -> FloatArray:
        """The saved scores of these row positions.

        Raises:
            UsageError: AK216 when no scores were saved, AK226 rows that were not.
        """
        if self.scores is None:
            raise UsageError("AK216", "no scores were saved, only decisions", fix="give scores= (or [data] score)")
        return self.scores[self._rows(inputs)]

    def _rows(self, inputs: Any) -> npt.NDArray[np.int64]:
        rows = np.asarray(inputs)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or (rows.size and not 0 <= rows.min() <= rows.max() < self.n):
            raise UsageError(
                "AK226",
                "there is no model here: only the saved rows have predictions",
                fix="audit the model itself to ask it about other rows",
            )
        return rows.astype(np.int64)

    @property
    def n(self) -> int:
        """Number of saved rows."""
        return len(self.decisions)
