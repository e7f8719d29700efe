"""What the table explainers explain: the model's own scores, as a function of a matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from auditkit.core.analyzer import Context
from auditkit.core.subject import FloatArray, IntArray, ScoreSpace, Subject, take_rows

Space = Literal["score", "logit"]

# Why a mean over rows has no interval.
TOO_FEW = "an interval needs two rows (or clusters) or more"
# Two-sided confidence of the intervals beside the numbers, where no setting changes it.
LEVEL = 0.95
_SMALLEST_PROBABILITY = 1e-6


@dataclass(frozen=True, kw_only=True)
class Explained:
    """The explained outputs.

    Attributes:
        predict: Encoded matrix ``(m, f)`` -> outputs ``(m, k)`` of the user's model on decoded rows.
        outputs: Scores of the cached pass ``(n, classes)`` -> the same outputs ``(n, k)``.
        names: Names of the ``k`` outputs.
        space: The space of the outputs.
        column: The class explained (binary), else ``None``.
    """

    predict: Callable[[FloatArray], FloatArray]
    outputs: Callable[[FloatArray], FloatArray]
    names: tuple[str, ...]
    space: ScoreSpace
    column: int | None


def explained_outputs(subject: Subject, context: Context, codec: Any, wanted: Space, evaluations: int) -> Explained:
    """The score of the positive class (binary), of every class (multiclass) or the value (regression).

    Args:
        subject: The subject.
        context: Its deadline is looked at before, and progress told after, every pass of the model.
        codec: The table codec of the subject's inputs.
        wanted: ``score`` as the model gives it, or ``logit`` (log-odds; log probability for several classes).
        evaluations: Model evaluations expected in all, for progress.
    """
    space: ScoreSpace = subject.model.score_space or "value"
    column = _positive(subject)
    to_logit = wanted == "logit" and space == "probability"
    logits = space == "logit" or to_logit

    def outputs(scores: FloatArray) -> FloatArray:
        if to_logit:
            scores = np.log(np.clip(scores, _SMALLEST_PROBABILITY, 1.0))
        if column is None:
            return scores
        # Log-odds: one of the two logits alone may be constant (a module with a single logit).
        return scores[:, [column]] - scores[:, [1 - column]] if logits else scores[:, [column]]

    done = 0

    def predict(matrix: FloatArray) -> FloatArray:
        nonlocal done
        context.check_deadline()
        scores = subject.model.predict_scores(codec.decode(matrix))
        done += len(matrix)
        context.progress(min(done, evaluations), max(evaluations, 1))
        return outputs(scores)

    if subject.task == "regression":
        names: tuple[str, ...] = ("value",)
    else:
        names = tuple(subject.classes) if column is None else (subject.classes[column],)
    return Explained(predict=predict, outputs=outputs, names=names, space="logit" if logits else space, column=column)


def encoded_background(subject: Subject, context: Context, codec: Any, limit: int) -> tuple[FloatArray, str]:
    """At most ``limit`` encoded rows of the training data (of the test data when there is none), and a sentence."""
    split = "test" if subject.train is None else "train"
    data = subject.split(split)
    rows = background_rows(context, data.n, limit)
    matrix = np.asarray(codec.encode(take_rows(data.inputs, rows)), dtype=np.float64)
    word = "training" if split == "train" else "test"
    sentence = f"The background is {len(rows):,} of the {data.n:,} {word} rows."
    if data.n == 1:
        sentence = f"The background is the only {word} row."
    if split == "test":
        sentence += " There is no training data, so the rows explained are compared with rows of the test data."
    return matrix, sentence


def background_rows(context: Context, n: int, limit: int) -> IntArray:
    """At most ``limit`` of ``n`` rows, from a stream of their own."""
    return _drawn(context, n, limit, 1)


def few_rows(context: Context, n: int, limit: int) -> IntArray:
    """At most ``limit`` of the ``n`` rows of a sample, from a stream of their own.

    The rows of a sample stand in the order of the data: its first ones are the first of the data, not a sample.
    """
    return _drawn(context, n, limit, 10)


def _drawn(context: Context, n: int, limit: int, stream: int) -> IntArray:
    if n <= limit:
        return np.arange(n, dtype=np.int64)
    rng = np.random.default_rng([context.seed, stream])
    return np.sort(rng.choice(n, size=limit, replace=False)).astype(np.int64)


def whole_columns(codec: Any) -> tuple[int, ...]:
    """Encoded columns that take whole numbers only."""
    return tuple(place for place, kind in enumerate(codec.kinds) if kind == "integer")


def stand_in_columns(
    column: str, names: tuple[str, ...], groups: tuple[str | None, ...]
) -> np.typing.NDArray[np.bool_]:
    """``(f,)`` features that are the sensitive column itself, or its one-hot columns."""
    wanted = column.casefold()
    same = [wanted in (name.casefold(), (group or "").casefold()) for name, group in zip(names, groups, strict=True)]
    return np.array(same, dtype=np.bool_)


def _positive(subject: Subject) -> int | None:
    if subject.task != "binary":
        return None
    return 1 if subject.positive is None else subject.positive
