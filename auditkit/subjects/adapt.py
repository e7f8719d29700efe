"""The user's model behind the ``Model`` face, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.subject import Dataset, Model, Task, take_rows
from auditkit.subjects.callable import CallableModel, guess_output
from auditkit.subjects.output_checks import checked_scores, model_raised, row_count
from auditkit.subjects.tasks import looks_continuous, seen_labels

PROBE_ROWS = 64


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
    except (Exception, SystemExit) as error:
        model_raised(error, first, where=model.kind)
    if decisions.shape != (n,):
        raise AuditkitError(
            "AK211", f"predict returned shape {decisions.shape} where {(n,)} was expected", where=model.kind
        )
    if scores is not None:
        checked_scores(scores, n, max(len(model.classes), 1), space=str(model.score_space), where=model.kind)


def takes_tokens(model: Model) -> bool:
    """Whether the model is a torch module with an embedding layer."""
    module = getattr(model, "module", None)
    if module is None or not _is_torch_module(module):
        return False
    import torch

    from auditkit.subjects.torch_state import has_layer

    return has_layer(module, torch.nn.Embedding, torch.nn.EmbeddingBag)


def _is_torch_module(model: Any) -> bool:
    return any(kind.__module__.startswith("torch.") and kind.__name__ == "Module" for kind in type(model).__mro__)


def _callable_model(function: Callable[[Any], Any], inputs: Any, y: Any, task: Task | None) -> CallableModel:
    if task == "regression" or (task is None and looks_continuous(y)):
        return CallableModel(function, task="regression")
    own = getattr(function, "classes", None)
    classes = seen_labels(y) if own is None else list(own)
    first = take_rows(inputs, np.arange(min(PROBE_ROWS, row_count(inputs)), dtype=np.int64))
    try:
        raw = function(first)
    except (Exception, SystemExit) as error:
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
