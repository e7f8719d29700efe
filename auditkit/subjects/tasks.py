"""The task of a subject and its classes, read off labels and model."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from auditkit.core.errors import UsageError
from auditkit.core.registry import nearest
from auditkit.core.subject import Model, Task
from auditkit.stats.distinct import distinct
from auditkit.subjects.labels import label_name, positive_code

TASKS: tuple[str, ...] = get_args(Task)


def known_task(task: str | None) -> Task | None:
    """``task`` when it is one.

    Raises:
        UsageError: AK216.
    """
    if task is not None and task not in TASKS:
        raise UsageError("AK216", f"there is no task {task!r}", fix=nearest(str(task), TASKS) or ", ".join(TASKS))
    found: Task | None = task  # type: ignore[assignment]
    return found


def task_of(model: Model, task: Task | None) -> Task:
    """The task that the model's classes say, or ``task`` where that agrees.

    Raises:
        UsageError: AK216 they differ.
    """
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


def positive_of(classes: tuple[str, ...], positive: Any, task: Task) -> int | None:
    """Code of the positive class of a binary task, else ``None``.

    Raises:
        UsageError: AK209.
    """
    if task == "binary":
        return positive_code(classes, positive)
    if positive is not None:
        raise UsageError("AK209", f"positive= is for binary tasks; this one is {task}", fix="leave positive= out")
    return None


def seen_labels(*columns: Any) -> list[Any]:
    """The distinct labels that occur, numbers by size, strings by alphabet."""
    seen: dict[str, Any] = {}
    for column in columns:
        if column is None:
            continue
        for value in distinct(column)[1]:
            seen.setdefault(label_name(value), value.item() if hasattr(value, "item") else value)
    labels = list(seen.values())
    try:
        return sorted(labels)
    except TypeError:
        return sorted(labels, key=label_name)


def looks_continuous(y: Any) -> bool:
    """Whether labels are floats that no one would call classes: fractions, or more than 20 distinct values."""
    values = np.asarray(y)
    if values.dtype.kind != "f":
        return False
    finite = values[np.isfinite(values)]
    return bool((finite != np.floor(finite)).any()) or len(np.unique(finite)) > 20
