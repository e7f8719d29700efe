"""One prediction pass per split, checked once, and what else analyzers of a run share."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import AuditkitError
from auditkit.core.subject import DecidesFromScores, FloatArray, Subject

Pass = tuple[FloatArray | None, npt.NDArray[Any]]


@dataclass
class PredictionCache:
    """``cache(split)`` gives ``(scores | None, decisions)``; the model is asked once per split.

    A pass that failed is remembered too: every later analyzer gets the same error at once.
    """

    subject: Subject
    _passes: dict[str, Pass | AuditkitError] = field(default_factory=dict, init=False, repr=False)
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """``make()``, or what it gave to the first that asked with this key; what raised is tried again."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def __call__(self, split: str) -> Pass:
        """Scores ``(n, k)`` and decisions ``(n,)`` of the ``test`` or ``train`` rows."""
        if split not in self._passes:
            try:
                self._passes[split] = predict_split(self.subject, split)
            except AuditkitError as error:
                self._passes[split] = error
        found = self._passes[split]
        if isinstance(found, AuditkitError):
            raise found
        return found


def predict_split(subject: Subject, split: str) -> Pass:
    """Ask the model for scores and decisions of a split, and check what it answers.

    Raises:
        AuditkitError: AK310 the model raised, AK311 wrong shape, AK312 not finite, AK313 a code that is no class.
    """
    model, data = subject.model, subject.split(split)
    try:
        scores = model.predict_scores(data.inputs) if model.score_space is not None else None
        if scores is not None and isinstance(model, DecidesFromScores):
            decisions: npt.NDArray[Any] = model.decide(scores)
        else:
            decisions = model.predict(data.inputs)
    except AuditkitError:
        raise
    except (Exception, SystemExit) as error:
        raise AuditkitError(
            "AK310",
            f"the model failed on the {split} rows",
            why=f"{type(error).__name__}: {str(error)[:300]}",
            fix="call the model on the same rows yourself; --debug shows where it fails",
        ) from error
    return _checked(subject, split, scores, np.asarray(decisions))


def _checked(subject: Subject, split: str, scores: FloatArray | None, decisions: npt.NDArray[Any]) -> Pass:
    n, width = subject.split(split).n, max(1, len(subject.classes))
    if scores is not None:
        scores = np.asarray(scores, dtype=np.float64)
        if scores.shape != (n, width):
            raise AuditkitError(
                "AK311",
                f"the model returned scores of shape {scores.shape} for {n} {split} rows, not {(n, width)}",
                fix="return one row a row and one column a class",
            )
        if not np.isfinite(scores).all():
            bad = int((~np.isfinite(scores)).any(axis=1).sum())
            raise AuditkitError(
                "AK312",
                f"the model's scores of {bad} {split} rows are NaN or infinite",
                fix="look for missing values in the features, or for a model that diverged in training",
            )
    if decisions.shape != (n,):
        raise AuditkitError(
            "AK311",
            f"the model returned decisions of shape {decisions.shape} for {n} {split} rows, not {(n,)}",
            fix="return one decision a row",
        )
    if subject.task == "regression":
        decisions = decisions.astype(np.float64)
        if not np.isfinite(decisions).all():
            raise AuditkitError("AK312", f"the model's predictions of some {split} rows are NaN or infinite")
        return scores, decisions
    decisions = decisions.astype(np.int64)
    if n and (decisions.min() < 0 or decisions.max() >= len(subject.classes)):
        raise AuditkitError(
            "AK313",
            f"the model decided a class code outside 0..{len(subject.classes) - 1}",
            fix="return positions in model.classes",
        )
    return scores, decisions
