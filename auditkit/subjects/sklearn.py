"""scikit-learn estimators and whole pipelines behind the ``Model`` face."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.registry import nearest
from auditkit.core.subject import FloatArray, ScoreSpace, Task
from auditkit.subjects.fingerprint import fingerprint_of
from auditkit.subjects.labels import class_names, label_name
from auditkit.subjects.output_checks import (
    checked_scores,
    checked_values,
    decided_codes,
    model_raised,
    row_count,
)

TREE_MODELS = frozenset(
    {
        "DecisionTreeClassifier",
        "DecisionTreeRegressor",
        "ExtraTreeClassifier",
        "ExtraTreeRegressor",
        "RandomForestClassifier",
        "RandomForestRegressor",
        "ExtraTreesClassifier",
        "ExtraTreesRegressor",
        "GradientBoostingClassifier",
        "GradientBoostingRegressor",
        "HistGradientBoostingClassifier",
        "HistGradientBoostingRegressor",
    }
)


class SklearnModel:
    """A fitted estimator or pipeline: DataFrame in with its dtypes kept, decisions by its own ``predict``.

    Scores are ``predict_proba`` (probability), else ``decision_function`` (margin; binary: columns
    ``-m, +m``), else there are none. Nothing is changed after construction.

    Attributes:
        estimator: The user's own estimator.
        labels: The estimator's own class labels, in the order of ``classes``.
        feature_names: Column names it was fitted on, or ``None``.
    """

    classes: tuple[str, ...]
    score_space: ScoreSpace | None
    capabilities: frozenset[str]
    kind: str
    fingerprint: str | None

    def __init__(
        self, estimator: Any, *, task: Task | None = None, labels: Sequence[Any] | None = None, hashed: bool = True
    ) -> None:
        """Wrap ``estimator``.

        Args:
            estimator: A fitted classifier or regressor, or a pipeline that ends in one.
            task: Only to say ``regression`` for an estimator that does not say so itself.
            labels: All class labels, when the estimator was fitted on a part of them (retraining).
            hashed: Whether to compute the content hash.

        Raises:
            UsageError: AK215 not fitted, or neither classifier nor regressor; AK217 fewer than two classes.
        """
        kind = f"{type(estimator).__module__}.{type(estimator).__qualname__}"
        _require_fitted(estimator, kind)
        regression = task == "regression" or (task is None and _is_regressor(estimator))
        self.estimator = estimator
        self.kind = _public_name(kind)
        self.own_labels: tuple[Any, ...] = () if regression else _own_labels(estimator, kind)
        self.labels: tuple[Any, ...] = () if regression else tuple(self.own_labels if labels is None else labels)
        self.classes = () if regression else class_names(self.labels)
        self.score_space = "value" if regression else _score_space(estimator, len(self.own_labels))
        names = _attribute(estimator, "feature_names_in_")
        self.feature_names: tuple[str, ...] | None = None if names is None else tuple(str(name) for name in names)
        words = {"labels", "model", "inputs"}
        if self.score_space is not None:
            words.add("scores")
        if type(final_estimator(estimator)).__name__ in TREE_MODELS:
            words.add("trees")
        self.capabilities = frozenset(words)
        self.fingerprint = fingerprint_of(estimator) if hashed else None

    def predict(self, inputs: Any) -> npt.NDArray[Any]:
        """Decisions ``(n,)`` of the estimator's own ``predict``: int64 codes, float64 values for regression."""
        n = row_count(inputs)
        raw = self._call("predict", inputs)
        where = f"{self.kind}.predict"
        if not self.classes:
            return checked_values(raw, n, where=where)
        return decided_codes(raw, n, {name: code for code, name in enumerate(self.classes)}, where=where)

    def predict_scores(self, inputs: Any) -> FloatArray:
        """Scores ``(n, k)`` in :attr:`score_space`.

        Raises:
            UsageError: AK216 when the estimator gives labels only.
        """
        n = row_count(inputs)
        if self.score_space is None:
            raise UsageError("AK216", f"{self.kind} gives labels only, no scores", fix="use a model with predict_proba")
        if self.score_space == "value":
            return checked_values(self._call("predict", inputs), n, where=f"{self.kind}.predict")[:, None]
        k = len(self.own_labels)
        if self.score_space == "probability":
            where = f"{self.kind}.predict_proba"
            scores = checked_scores(self._call("predict_proba", inputs), n, k, space="probability", where=where)
            return self._all_columns(scores)
        where = f"{self.kind}.decision_function"
        raw = np.asarray(self._call("decision_function", inputs))
        if k == 2 and raw.shape == (n,):
            raw = np.stack([-raw, raw], axis=1)
        return checked_scores(raw, n, k, space="margin", where=where)

    def _all_columns(self, scores: FloatArray) -> FloatArray:
        """Probability 0 for the classes that the (re)trained estimator never saw."""
        if len(self.own_labels) == len(self.classes):
            return scores
        full = np.zeros((len(scores), len(self.classes)))
        full[:, [self.classes.index(label_name(label)) for label in self.own_labels]] = scores
        return full

    def _call(self, method: str, inputs: Any) -> Any:
        prepared = matched_columns(inputs, self.feature_names, self.kind)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return getattr(self.estimator, method)(prepared)
        except (Exception, SystemExit) as error:
            model_raised(error, inputs, where=f"{self.kind}.{method}")


def matched_columns(inputs: Any, names: tuple[str, ...] | None, where: str) -> Any:
    """``inputs`` with the columns ``names`` in that order.

    A DataFrame in another order is put in order; an array of the right width gets the names.

    Raises:
        UsageError: AK205 columns missing, AK206 columns that the model never saw, AK208 wrong width.
    """
    if names is None:
        return inputs
    if hasattr(inputs, "columns"):
        have = [str(column) for column in inputs.columns]
        if have == list(names):
            return inputs
        lacking = [name for name in names if name not in have]
        extra = [name for name in have if name not in names]
        if lacking:
            raise UsageError(
                "AK205",
                f"the model needs columns that are not there: {', '.join(map(repr, lacking[:8]))}",
                where=where,
                fix=nearest(lacking[0], extra) or "give the columns that the model was fitted on",
            )
        if extra:
            raise UsageError(
                "AK206",
                f"columns that the model never saw: {', '.join(map(repr, extra[:8]))}",
                where=where,
                why="it was fitted without them",
                fix="drop them from X; columns for groups belong in sensitive=",
            )
        return inputs[list(names)]
    array = np.asarray(inputs)
    if array.ndim != 2 or array.shape[1] != len(names):
        raise UsageError(
            "AK208",
            f"the model was fitted on a table of {len(names)} named columns; got an array of shape {array.shape}",
            where=where,
            fix="give a DataFrame with the model's columns",
        )
    import pandas as pd

    return pd.DataFrame(array, columns=list(names))


def final_estimator(estimator: Any) -> Any:
    """The last step of a pipeline, or the estimator itself."""
    steps = getattr(estimator, "steps", None)
    return final_estimator(steps[-1][1]) if isinstance(steps, list) and steps else estimator


def is_sklearn_estimator(model: Any) -> bool:
    """Whether ``model`` looks like a scikit-learn estimator (or one that follows its API)."""
    return hasattr(model, "predict") and hasattr(model, "get_params") and hasattr(model, "fit")


def _is_regressor(estimator: Any) -> bool:
    from sklearn.base import is_classifier, is_regressor

    if _attribute(estimator, "classes_") is not None:
        return False
    if not hasattr(estimator, "__sklearn_tags__"):  # it follows the API without the base class
        return getattr(estimator, "_estimator_type", None) == "regressor"
    return bool(is_regressor(estimator)) and not is_classifier(estimator)


def _require_fitted(estimator: Any, kind: str) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    if not hasattr(estimator, "__sklearn_tags__"):
        return  # not scikit-learn's own kind: its first prediction tells
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_is_fitted(estimator)
    except NotFittedError as error:
        raise UsageError(
            "AK215", f"{_public_name(kind)} is not fitted", fix="fit the model before auditing it"
        ) from error
    except TypeError as error:
        raise UsageError("AK215", f"{_public_name(kind)} is not a fitted estimator", why=str(error)) from error


def _own_labels(estimator: Any, kind: str) -> tuple[Any, ...]:
    classes = _attribute(estimator, "classes_")
    if classes is None:
        raise UsageError(
            "AK215",
            f"{_public_name(kind)} is neither a classifier with classes_ nor a regressor",
            fix='pass task="regression" if its predictions are values, or wrap it in a callable',
        )
    if isinstance(classes, list):
        raise UsageError("AK215", f"{_public_name(kind)} predicts several outputs; audit one at a time")
    return tuple(np.asarray(classes).tolist())


def _score_space(estimator: Any, k: int) -> ScoreSpace | None:
    if hasattr(estimator, "predict_proba"):
        return "probability"
    if not hasattr(estimator, "decision_function"):
        return None
    one_vs_one = getattr(final_estimator(estimator), "decision_function_shape", "ovr") == "ovo"
    return None if one_vs_one and k > 2 else "margin"


def _attribute(estimator: Any, name: str) -> Any:
    """An attribute that may be absent, or a property that refuses."""
    try:
        return getattr(estimator, name, None)
    except Exception:
        return None


def _public_name(kind: str) -> str:
    """``sklearn.linear_model._logistic.LogisticRegression`` without its private modules."""
    return ".".join(part for part in kind.split(".") if not part.startswith("_"))
