"""A subject of saved predictions, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, Schema, Subject
from auditkit.subjects.alignment import aligned, common_index, label_column, regression_target
from auditkit.subjects.callable import two_columns
from auditkit.subjects.datasets import finished, make_dataset
from auditkit.subjects.labels import class_names, encode_labels, positive_code
from auditkit.subjects.output_checks import checked_scores
from auditkit.subjects.predictions import SavedPredictions
from auditkit.subjects.tasks import known_task, looks_continuous, positive_of, seen_labels, task_of


def make_predictions_subject(  # noqa: PLR0913 - the public surface
    y_true: Any,
    y_pred: Any = None,
    scores: Any = None,
    *,
    sensitive: Any = None,
    weights: Any = None,
    clusters: Any = None,
    task: str | None = None,
    positive: Any = None,
    classes: Sequence[Any] | None = None,
    name: str = "predictions",
) -> Subject:
    """A subject of saved predictions, without a model.

    Args:
        y_true: True labels or values ``(n,)``.
        y_pred: The decisions ``(n,)``; without them, the largest score decides (binary: 0.5 and above).
        scores: Probabilities: ``(n,)`` of the positive class, or ``(n, k)`` in the order of ``classes``;
            values for regression.
        sensitive: Columns that name groups.
        weights: Positive row weights.
        clusters: The person or site of each row.
        task: Inferred from labels when left out.
        positive: The positive class of a binary task.
        classes: Class labels in the order of ``scores``; the sorted labels that occur when left out.
        name: The name on the card.

    Raises:
        UsageError: AK200 to AK220.
    """
    wanted = known_task(task)
    n = len(y_true)
    if y_pred is None and scores is None:
        raise UsageError("AK216", "there are neither decisions nor scores", fix="give y_pred= or scores=")
    if n == 0:
        raise UsageError("AK200", "y_true has no rows", where="y_true", fix="give at least one row")
    index = common_index(y_true, y_pred, scores, sensitive)
    truth = label_column(y_true, index, n, where="y_true")
    decided = None if y_pred is None else label_column(y_pred, index, n, where="y_pred")
    if scores is not None:
        scores = aligned(scores if hasattr(scores, "iloc") else np.asarray(scores), index, n, where="scores")
    if wanted == "regression" or (wanted is None and classes is None and looks_continuous(truth)):
        model = _saved_values(decided if decided is not None else scores)
    else:
        names = class_names(classes if classes is not None else seen_labels(truth, decided))
        model = _saved_classes(decided, scores, names, positive, n)
    found = task_of(model, wanted)

    def encode(values: Any) -> npt.NDArray[Any]:
        if found == "regression":
            return regression_target(values, where="y_true")
        return encode_labels(values, model.classes, where="y_true")

    rows = np.arange(n, dtype=np.int64)
    dataset = make_dataset(
        rows, truth, encode, modality="tabular", sensitive=sensitive, weights=weights, clusters=clusters
    )
    return Subject(
        name=str(name),
        model=model,
        test=finished(dataset, Schema(), model.classes),
        task=found,
        positive=positive_of(model.classes, positive, found),
    )


def _saved_values(values: Any) -> SavedPredictions:
    array = np.asarray(values)
    column = regression_target(array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array, where="y_pred")
    return SavedPredictions(column, column[:, None], classes=(), score_space="value")


def _saved_classes(decided: Any, scores: Any, names: tuple[str, ...], positive: Any, n: int) -> SavedPredictions:
    table: FloatArray | None = None
    if scores is not None:
        array = np.asarray(scores)
        if len(names) == 2 and array.shape in ((n,), (n, 1)):
            array = two_columns(array.reshape(n), "probability")
            if positive_code(names, positive) == 0:
                array = array[:, ::-1]
        table = checked_scores(array, n, len(names), space="probability", where="scores")
    if decided is not None:
        codes = encode_labels(decided, names, where="y_pred")
    elif table is not None and len(names) == 2:
        code = positive_code(names, positive)
        codes = np.where(table[:, code] >= 0.5, code, 1 - code).astype(np.int64)
    else:
        codes = np.argmax(np.asarray(table), axis=1).astype(np.int64)
    return SavedPredictions(codes, table, classes=names, score_space="probability")
