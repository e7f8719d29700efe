"""A subject of saved predictions, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, Schema, ScoreSpace, Subject
from auditkit.subjects.alignment import aligned, common_index, label_column, regression_target
from auditkit.subjects.callable import two_columns
from auditkit.subjects.datasets import finished, make_dataset
from auditkit.subjects.labels import class_names, encode_labels, label_name, positive_code
from auditkit.subjects.output_checks import checked_scores
from auditkit.subjects.predictions import SavedPredictions
from auditkit.subjects.tasks import known_task, looks_continuous, positive_of, seen_labels, task_of

# What saved scores of classes may be, and what is then measured.
SCORE_SPACES: dict[ScoreSpace, str] = {
    "probability": "shares of 1; everything",
    "logit": "log-odds; everything",
    "margin": "points on any scale, higher for the positive class (credit scores, risk deciles); what ranks rows alone",
}


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
    score_space: str = "probability",
    threshold: float | None = None,
    name: str = "predictions",
) -> Subject:
    """A subject of saved predictions, without a model.

    Args:
        y_true: True labels or values ``(n,)``.
        y_pred: The decisions ``(n,)``; without them, the largest score decides (binary: ``threshold`` and above).
        scores: ``(n,)`` of the positive class, or ``(n, k)`` in the order of ``classes``; values for regression.
        sensitive: Columns that name groups.
        weights: Positive row weights.
        clusters: The person or site of each row.
        task: Inferred from labels when left out.
        positive: The positive class of a binary task.
        classes: Class labels in the order of ``scores``; the sorted labels that occur when left out.
        score_space: What the scores of classes are: ``probability``, ``logit`` or ``margin``, see :data:`SCORE_SPACES`.
        threshold: The score, as saved, from which a row is decided as positive; 0.5, or 0 of log-odds, by default.
        name: The name on the card.

    Raises:
        UsageError: AK200 to AK220, AK246 to AK250, AK259.
    """
    wanted, space = known_task(task), _known_space(score_space, scores)
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
        if threshold is not None:
            check_threshold(threshold, "value", decided, scores)
        if space != "probability":
            raise UsageError(
                "AK259",
                f"score_space={space!r} says what scores of classes are, and these are values of a regression",
                where="score_space",
                fix='leave it out, or say task = "binary" or "multiclass" if y_true holds classes',
            )
        model = _saved_values(decided if decided is not None else scores)
    else:
        names = predicted_names(truth, decided, classes)
        check_pair(truth, decided, names, scores, positive if wanted != "multiclass" else None)
        cut = _known_threshold(threshold, space, decided, scores)
        model = _saved_classes(decided, scores, names, positive, space, cut)
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


def _known_space(space: str, scores: Any) -> ScoreSpace:
    known = next((own for own in SCORE_SPACES if own == space), None)
    if known is None:
        told = "; ".join(f"{own!r}: {what}" for own, what in SCORE_SPACES.items())
        raise UsageError("AK259", f"there is no score space {space!r}", where="score_space", fix=f"use one of {told}")
    if known != "probability" and scores is None:
        raise UsageError(
            "AK259", f"score_space={space!r} says what scores are, and there are none", where="score_space",
            fix="give scores= (or [data] score), or leave it out",
        )  # fmt: skip
    return known


def _known_threshold(threshold: float | None, space: ScoreSpace, decided: Any, scores: Any) -> float | None:
    """The score from which a row is decided as positive; ``None`` where the decisions are given."""
    if threshold is not None:
        check_threshold(threshold, space, decided, scores)
        return float(threshold)
    if decided is not None:
        return None
    if space == "margin":
        raise UsageError(
            "AK259",
            "scores on a scale of their own do not say which rows are decided as positive",
            where="score_space",
            fix="give threshold=, the score from which they are, or the decisions: y_pred= (or [data] prediction)",
        )
    return 0.5 if space == "probability" else 0.0


def check_threshold(threshold: float, space: ScoreSpace, decided: Any, scores: Any) -> None:
    """A threshold must cut one column of scores, within their range, where no decisions are given.

    Raises:
        UsageError: AK259.
    """
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number):
        why = "it is no number"
    elif decided is not None:
        why = "the decisions are given"
    elif space == "value" or scores is None or not (np.ndim(scores) == 1 or np.shape(scores)[1] == 1):
        why = "it cuts the one column of scores of the positive class, of two"
    elif not (0.0 < threshold < 1.0 if space == "probability" else np.isfinite(threshold)):
        why = "a probability is cut between 0 and 1" if space == "probability" else "it is no finite number"
    else:
        return
    raise UsageError(
        "AK259",
        f"threshold={threshold!r} does not apply",
        where="threshold",
        why=why,
        fix="give a score on the scale of those saved, and no decisions beside it, or leave it out",
    )


def _saved_classes(
    decided: Any, scores: Any, names: tuple[str, ...], positive: Any, space: ScoreSpace, threshold: float | None
) -> SavedPredictions:
    table: FloatArray | None = None
    code = positive_code(names, positive) if len(names) == 2 else 0
    if scores is not None:
        array = np.asarray(scores)
        n = len(array)
        if len(names) == 2 and array.shape in ((n,), (n, 1)):
            array = two_columns(_numbers(array).reshape(n), space)
            if code == 0:
                array = array[:, ::-1]
        table = _class_scores(array, n, names, space)
    if decided is not None:
        codes = encode_labels(decided, names, where="y_pred")
    elif table is not None and len(names) == 2 and threshold is not None:
        chosen = table[:, code] >= (table[:, 1 - code] + threshold if space == "logit" else threshold)
        codes = np.where(chosen, code, 1 - code).astype(np.int64)
    else:
        codes = np.argmax(np.asarray(table), axis=1).astype(np.int64)
    return SavedPredictions(codes, table, classes=names, score_space=space)


def predicted_names(truth: Any, decided: Any, classes: Sequence[Any] | None) -> tuple[str, ...]:
    """The class names, given or seen in labels and decisions.

    Raises:
        UsageError: AK217 two classes of one name; AK249 fewer than two classes occur.
    """
    seen = classes if classes is not None else seen_labels(truth, decided)
    if classes is None and len(seen) < 2:
        shown = f"only {label_name(seen[0])!r} occurs" if seen else "none occurs, they are all missing"
        raise UsageError(
            "AK249",
            f"of labels and decisions together {shown}; at least two classes are needed",
            where="y_true",
            why="without a second class there is nothing that a decision could get wrong",
            fix="audit rows of both classes, or name both: classes = [...]",
        )
    return class_names(seen)


def check_pair(truth: Any, decided: Any, names: tuple[str, ...], scores: Any, positive: Any) -> None:
    """Labels and decisions must be in one coding, and of two classes where one is named positive or has the scores.

    Raises:
        UsageError: AK246 they share no label; AK247 more than two classes.
    """
    parts = [("y_true", seen_labels(truth))] + ([] if decided is None else [("y_pred", seen_labels(decided))])
    found = {where: [label_name(label) for label in labels] for where, labels in parts}
    if len(found) == 2 and len(names) > 2 and all(found.values()) and not set(found["y_true"]) & set(found["y_pred"]):
        coded = {frozenset(names) for names in found.values()}
        if any(not group <= {"0", "1", "False", "True"} for group in coded):
            raise UsageError(
                "AK246",
                f"labels ({_listed(found['y_true'])}) and decisions ({_listed(found['y_pred'])}) share no value",
                where="y_pred",
                why="every decision would be counted as wrong",
                fix="write both in one coding, such as no/yes or 0/1",
            )
    single = scores is not None and np.asarray(scores).ndim == 1
    if len(names) < 3 or not (single or positive is not None):
        return
    odd = [name for name in found.get("y_pred", []) if name not in found["y_true"]]
    bare = [name.strip().casefold() for name in names]
    alike = [name for name, plain in zip(names, bare, strict=True) if bare.count(plain) > 1]
    extra = f"; only among the decisions: {_listed(odd)}" if odd else ""
    raise UsageError(
        "AK247",
        f"there are {len(names)} classes, {_listed(names)}, where one positive class or one score column needs two",
        where="y_pred" if odd else "y_true",
        why=f"labels hold {_listed(found['y_true'])}{extra}",
        fix=(f"{_listed(alike)} differ in blanks or capitals only: " if alike else "")
        + "mend or drop the rows of a value too many, or leave positive and the score out for several classes",
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (" ..." if len(names) > 5 else "")


def _numbers(array: npt.NDArray[Any]) -> FloatArray:
    try:
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "AK248", "scores are not numbers", where="scores", why=str(error)[:200], fix="give numbers, or no scores"
        ) from error


def _class_scores(array: npt.NDArray[Any], n: int, names: tuple[str, ...], space: ScoreSpace) -> FloatArray:
    """Scores ``(n, k)`` that are what ``space`` says.

    Raises:
        UsageError: AK248 missing, infinite, or not in 0 to 1 where probabilities are; AK250 one column a class is
            missing.
    """
    if array.shape != (n, len(names)):
        raise UsageError(
            "AK250",
            f"scores of shape {array.shape} for {n} rows and {len(names)} classes",
            where="scores",
            fix="give one column for each class, in the order of classes=",
        )
    values = _numbers(array)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise UsageError(
            "AK248",
            f"{int(bad.sum())} of {n} scores are missing or infinite",
            where="scores",
            fix="drop the rows without a score, or leave the score out",
        )
    outside = ((values < 0) | (values > 1)).any(axis=1)
    if space == "probability" and outside.any():
        given = values[:, -1] if len(names) == 2 else values
        low, high = float(given.min()), float(given.max())
        raise UsageError(
            "AK248",
            f"{int(outside.sum())} of {n} scores are not probabilities: they lie outside 0 to 1",
            where="scores",
            why=f"they range from {low:g} to {high:g}",
            fix='divide percentages by 100; say score_space = "logit" of log-odds, score_space = "margin" of points '
            "on any other scale, higher for the positive class",
        )
    return checked_scores(values, n, len(names), space=space, where="scores")
