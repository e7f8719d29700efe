"""From the user's model and data to a :class:`Subject`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.subject import Dataset, Model, Subject, TrainingRecipe
from auditkit.subjects.adapt import adapt_model, probe, takes_tokens
from auditkit.subjects.alignment import column_names, common_index, label_column, regression_target
from auditkit.subjects.datasets import (
    finished,
    infer_modality,
    make_dataset,
    make_schema,
    plain_inputs,
    same_columns,
)
from auditkit.subjects.labels import encode_labels
from auditkit.subjects.output_checks import row_count
from auditkit.subjects.saved import make_predictions_subject as make_predictions_subject
from auditkit.subjects.tasks import known_task, positive_of, task_of


def make_subject(
    model: Any,
    X: Any,
    y: Any,
    *,
    sensitive: Any = None,
    train: Any = None,
    weights: Any = None,
    clusters: Any = None,
    task: str | None = None,
    positive: Any = None,
    schema: Any = None,
    constraints: Sequence[str] = (),
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
        constraints: Linear rules that every row of a table keeps, e.g. ``["years_employed <= age - 16"]``.
        recipe: How to train the model afresh.
        tokenizer: Texts -> token ids, for a torch module on texts.
        device: ``auto``, ``cpu`` or ``cuda``.
        name: The model's name on the card.
        modality: ``tabular``, ``image``, ``text`` or ``sequence`` where it cannot be told.

    Raises:
        UsageError: AK200 to AK225, one for each way in which these do not fit together.
        AuditkitError: AK210 to AK214 when the model fails on the first rows.
    """
    wanted = known_task(task)
    rows = plain_inputs(X)
    index = common_index(rows, y, sensitive, weights, clusters)
    labels = label_column(y, index, row_count(rows), where="y")
    named = column_names(sensitive, rows)
    adapted = adapt_model(model, _without(rows, named, model), labels, task=wanted, tokenizer=tokenizer, device=device)
    found = task_of(adapted, wanted)
    classes = tuple(adapted.classes)
    kind = infer_modality(rows, modality, token_model=takes_tokens(adapted))

    def encode(values: Any) -> npt.NDArray[Any]:
        if found == "regression":
            return regression_target(values, where="y")
        return encode_labels(values, classes, where="y")

    def split(part: Any, target: Any, **columns: Any) -> Dataset:
        columns["sensitive"] = {name: part[name] for name in named} if named else columns.get("sensitive")
        inputs = _ordered(_without(part, named, adapted), adapted)
        return make_dataset(inputs, target, encode, modality=kind, **columns)

    test = split(rows, y, sensitive=sensitive, weights=weights, clusters=clusters)
    training = None
    if train is not None:
        train_rows, train_y, train_sensitive = _train_parts(train, named)
        training = split(train_rows, train_y, sensitive=train_sensitive)
        same_columns(test.inputs, training.inputs)
    probe(adapted, test)
    rules = make_schema([part.inputs for part in (training, test) if part is not None], kind, schema, constraints)
    return Subject(
        name=str(name),
        model=adapted,
        test=finished(test, rules, classes),
        task=found,
        train=None if training is None else finished(training, rules, classes),
        positive=positive_of(classes, positive, found),
        recipe=_completed(recipe, adapted),
        tokenizer=tokenizer,
    )


def _train_parts(train: Any, named: tuple[str, ...]) -> tuple[Any, Any, Any]:
    if not isinstance(train, tuple | list) or len(train) not in (2, 3):
        raise UsageError("AK244", "train= is not a pair", where="train", fix="pass train=(X_train, y_train)")
    rows = plain_inputs(train[0], where="train")
    lacking = [name for name in named if name not in getattr(rows, "columns", ())]
    if lacking:
        raise UsageError("AK244", f"the training inputs have no column {lacking[0]!r}", where="train")
    return rows, train[1], (train[2] if len(train) == 3 else None)


def _without(rows: Any, named: tuple[str, ...], model: Any) -> Any:
    """``rows`` without the sensitive columns that the model was not fitted on."""
    takes = getattr(model, "feature_names", None)
    takes = getattr(model, "feature_names_in_", None) if takes is None else takes
    if takes is None or not named:
        return rows
    seen = {str(name) for name in takes}
    return rows[[name for name in rows.columns if str(name) in seen or name not in named]]


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
