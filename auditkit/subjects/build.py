"""From the user's model and data to a :class:`Subject`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.registry import nearest
from auditkit.core.subject import Dataset, FloatArray, Model, Schema, Subject, Task, TrainingRecipe, take_rows
from auditkit.subjects.alignment import aligned, common_index, label_column, regression_target
from auditkit.subjects.callable import CallableModel, guess_output, two_columns
from auditkit.subjects.datasets import (
    finished,
    infer_modality,
    make_dataset,
    make_schema,
    plain_inputs,
    same_columns,
)
from auditkit.subjects.labels import class_names, encode_labels, label_name, positive_code
from auditkit.subjects.output_checks import checked_scores, checked_values, model_raised, row_count
from auditkit.subjects.predictions import SavedPredictions

PROBE_ROWS = 64
TASKS: tuple[str, ...] = get_args(Task)


def make_subject(
    model: Any,
    X: Any,
    y: Any,
    *,
    sensitive: Any = None,
    train: Any = None,
    weights: Any = None,
    clusters: Any = None,
    task: Task | None = None,
    positive: Any = None,
    schema: Any = None,
    recipe: TrainingRecipe | None = None,
    tokenizer: Any = None,
    device: str = "auto",
    name: str = "model",
    modality: str | None = None,
) -> Subject:
    """Model and data, checked and ready to audit.

    Args:
        model: A scikit-learn estimator or pipeline, a torch module, a callable, or a :class:`Model`.
        X: DataFrame, array (2-D table or token ids, 3-D or 4-D images) or list of texts to audit on.
        y: True labels or values; pandas objects are aligned to ``X`` by index, arrays by position.
        sensitive: Columns that name groups: DataFrame, Series, mapping, or names of columns of ``X``.
        train: ``(X_train, y_train)`` or ``(X_train, y_train, sensitive_train)``.
        weights: Positive row weights.
        clusters: The person or site of each row.
        task: ``binary``, ``multiclass`` or ``regression``; inferred from model and labels.
        positive: The positive class of a binary task; needed when it cannot be told.
        schema: Overrides of inferred feature kinds, e.g. ``{"zip": "categorical", "age": {"immutable": True}}``.
        recipe: How to train the model afresh.
        tokenizer: Texts -> token ids, for a torch module on texts.
        device: ``auto``, ``cpu`` or ``cuda``.
        name: The model's name on the card.
        modality: ``tabular``, ``image``, ``text`` or ``sequence`` where it cannot be told.

    Raises:
        UsageError: AK200 to AK225, one for each way in which these do not fit together.
        AuditkitError: AK210 to AK214 when the model fails on the first rows.
    """
    if task is not None and task not in TASKS:
        raise UsageError("AK216", f"there is no task {task!r}", fix=nearest(str(task), TASKS) or ", ".join(TASKS))
    inputs = plain_inputs(X)
    splits = _train_parts(train)
    index = common_index(inputs, y, sensitive, weights, clusters)
    y_plain = label_column(y, index, row_count(inputs), where="y")
    adapted = adapt_model(model, inputs, y_plain, task=task, tokenizer=tokenizer, device=device)
    found = _task_of(adapted, task)
    classes = tuple(adapted.classes)
    code = _positive(classes, positive, found)
    kind = infer_modality(inputs, modality, token_model=_takes_tokens(adapted))
    inputs = _ordered(inputs, adapted)

    def encode(where: str) -> Callable[[Any], npt.NDArray[Any]]:
        if found == "regression":
            return lambda values: regression_target(values, where=where)
        return lambda values: encode_labels(values, classes, where=where)

    test = make_dataset(inputs, y, encode("y"), modality=kind, sensitive=sensitive, weights=weights, clusters=clusters)
    training: Dataset | None = None
    if splits is not None:
        train_inputs = _ordered(plain_inputs(splits[0], where="train"), adapted)
        same_columns(inputs, train_inputs)
        training = make_dataset(train_inputs, splits[1], encode("train y"), modality=kind, sensitive=splits[2])
    probe(adapted, test)
    rules = make_schema([part.inputs for part in (training, test) if part is not None], kind, schema)
    return Subject(
        name=str(name),
        model=adapted,
        test=finished(test, rules, classes),
        task=found,
        train=None if training is None else finished(training, rules, classes),
        positive=code,
        recipe=_completed(recipe, adapted),
        tokenizer=tokenizer,
    )


def make_predictions_subject(
    y_true: Any,
    y_pred: Any = None,
    scores: Any = None,
    *,
    sensitive: Any = None,
    weights: Any = None,
    clusters: Any = None,
    task: Task | None = None,
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
    if y_pred is None and scores is None:
        raise UsageError("AK216", "there are neither decisions nor scores", fix="give y_pred= or scores=")
    n = len(y_true)
    if n == 0:
        raise UsageError("AK200", "y_true has no rows", where="y_true", fix="give at least one row")
    index = common_index(y_true, y_pred, scores, sensitive)
    truth = label_column(y_true, index, n, where="y_true")
    decided = None if y_pred is None else label_column(y_pred, index, n, where="y_pred")
    if scores is not None:
        scores = aligned(scores if hasattr(scores, "iloc") else np.asarray(scores), index, n, where="scores")
    if task is None:
        task = "regression" if _looks_continuous(truth) else None
    if task == "regression":
        values = regression_target(decided if decided is not None else scores, where="y_pred")
        model = SavedPredictions(
            checked_values(values, n, where="y_pred"), values[:, None], classes=(), score_space="value"
        )
        names: tuple[str, ...] = ()
    else:
        names = class_names(classes if classes is not None else _seen_labels(truth, decided))
        model = _saved_classes(decided, scores, names, positive, n)
    found = _task_of(model, task)
    code = _positive(names, positive, found)

    def encode(values: Any) -> npt.NDArray[Any]:
        if found == "regression":
            return regression_target(values, where="y_true")
        return encode_labels(values, names, where="y_true")

    rows = np.arange(n, dtype=np.int64)
    dataset = make_dataset(
        rows,
        truth,
        encode,
        modality="tabular",
        sensitive=sensitive,
        weights=weights,
        clusters=clusters,
    )
    return Subject(
        name=str(name),
        model=model,
        test=finished(dataset, Schema(), names),
        task=found,
        positive=code,
    )


def adapt_model(
    model: Any, inputs: Any, y: Any, *, task: Task | None = None, tokenizer: Any = None, device: str = "auto"
) -> Model:
    """The user's model behind the ``Model`` face; what it does not say is read off ``inputs`` and ``y``.

    Raises:
        UsageError: AK215 an object that cannot be adapted, and the errors of each adapter.
    """
    if isinstance(model, Model):
        return model
    if _is_torch_module(model):
        from auditkit.subjects.torch_build import torch_model

        return torch_model(model, inputs, y, task=task, tokenizer=tokenizer, device=device)
    if hasattr(model, "predict") and hasattr(model, "fit"):
        from auditkit.subjects.sklearn import SklearnModel

        return SklearnModel(model, task=task)
    if callable(model):
        return _callable_model(model, inputs, y, task)
    raise UsageError(
        "AK215",
        f"{type(model).__module__}.{type(model).__qualname__} is not a model that auditkit knows",
        fix="give a scikit-learn estimator, a torch module, or a function of the inputs",
    )


def probe(model: Model, dataset: Dataset) -> None:
    """Run the model on the first rows, so that a model and data that do not fit are told at once.

    Raises:
        AuditkitError: AK210 to AK214.
    """
    first = take_rows(dataset.inputs, np.arange(min(PROBE_ROWS, dataset.n), dtype=np.int64))
    n = row_count(first)
    try:
        decisions = np.asarray(model.predict(first))
        scores = None if model.score_space is None else model.predict_scores(first)
    except AuditkitError:
        raise
    except Exception as error:
        model_raised(error, first, where=model.kind)
    if decisions.shape != (n,):
        raise AuditkitError(
            "AK211", f"predict returned shape {decisions.shape} where {(n,)} was expected", where=model.kind
        )
    if scores is not None:
        checked_scores(scores, n, max(len(model.classes), 1), space=str(model.score_space), where=model.kind)


def _callable_model(function: Callable[[Any], Any], inputs: Any, y: Any, task: Task | None) -> CallableModel:
    if task == "regression" or (task is None and _looks_continuous(y)):
        return CallableModel(function, task="regression")
    own = getattr(function, "classes", None)
    classes = _seen_labels(y) if own is None else list(own)
    first = take_rows(inputs, np.arange(min(PROBE_ROWS, row_count(inputs)), dtype=np.int64))
    try:
        raw = function(first)
    except Exception as error:
        model_raised(error, first, where=f"callable {getattr(function, '__name__', '')}")
    output = guess_output(raw, row_count(first), np.asarray(y), own)
    width = np.asarray(raw).shape[1] if np.asarray(raw).ndim == 2 else None
    if own is None and width is not None and width not in (1, len(classes)):
        classes = _numbered(classes, width)
    return CallableModel(function, classes=classes, output=output)


def _numbered(seen: Sequence[Any], width: int) -> list[Any]:
    """``0 .. width-1`` when the labels seen are among these; else the classes must be given."""
    if all(isinstance(value, int | np.integer) and 0 <= value < width for value in seen):
        return list(range(width))
    raise UsageError(
        "AK217",
        f"the model has {width} outputs, but {len(seen)} labels occur in y",
        fix="wrap the model with classes=, in the order of its outputs",
    )


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


def _seen_labels(*columns: Any) -> list[Any]:
    """The distinct labels that occur, numbers by size, strings by alphabet."""
    import pandas as pd

    seen: dict[str, Any] = {}
    for column in columns:
        if column is None:
            continue
        for value in pd.unique(pd.Series(column).dropna()):
            seen.setdefault(label_name(value), value.item() if hasattr(value, "item") else value)
    labels = list(seen.values())
    try:
        return sorted(labels)
    except TypeError:
        return sorted(labels, key=label_name)


def _looks_continuous(y: Any) -> bool:
    """Whether labels are floats that no one would call classes: fractions, or more than 20 distinct values."""
    values = np.asarray(y)
    if values.dtype.kind != "f":
        return False
    finite = values[np.isfinite(values)]
    return bool((finite != np.floor(finite)).any()) or len(np.unique(finite)) > 20


def _task_of(model: Model, task: Task | None) -> Task:
    k = len(model.classes)
    found: Task = "regression" if k == 0 else ("binary" if k == 2 else "multiclass")
    if task is not None and task != found and not (task == "multiclass" and found == "binary"):
        raise UsageError(
            "AK216",
            f"task={task!r} does not fit the model, whose task is {found}",
            why=f"it has {k} classes" if k else "it returns values",
            fix=f'leave task= out, or pass task="{found}"',
        )
    return task or found


def _positive(classes: tuple[str, ...], positive: Any, task: Task) -> int | None:
    if task == "binary":
        return positive_code(classes, positive)
    if positive is not None:
        raise UsageError("AK209", f"positive= is for binary tasks; this one is {task}", fix="leave positive= out")
    return None


def _train_parts(train: Any) -> tuple[Any, Any, Any] | None:
    if train is None:
        return None
    if not isinstance(train, tuple | list) or len(train) not in (2, 3):
        raise UsageError("AK244", "train= is not a pair", where="train", fix="pass train=(X_train, y_train)")
    return train[0], train[1], (train[2] if len(train) == 3 else None)


def _ordered(inputs: Any, model: Model) -> Any:
    names = getattr(model, "feature_names", None)
    if names is None:
        return inputs
    from auditkit.subjects.sklearn import matched_columns

    return matched_columns(inputs, names, model.kind) if hasattr(inputs, "columns") else inputs


def _completed(recipe: Any, model: Model) -> Any:
    """The recipe with the classes of the model, where it leaves them open."""
    complete = getattr(recipe, "for_labels", None)
    return recipe if complete is None else complete(tuple(getattr(model, "labels", model.classes)))


def _takes_tokens(model: Model) -> bool:
    module = getattr(model, "module", None)
    if module is None or not _is_torch_module(module):
        return False
    import torch

    from auditkit.subjects.torch_state import has_layer

    return has_layer(module, torch.nn.Embedding, torch.nn.EmbeddingBag)


def _is_torch_module(model: Any) -> bool:
    return any(kind.__module__.startswith("torch.") and kind.__name__ == "Module" for kind in type(model).__mro__)
