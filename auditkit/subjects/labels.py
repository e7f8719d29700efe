"""Labels: every class has a name (a string) and a code (its place in the model's score columns)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from auditkit.core.errors import UsageError
from auditkit.core.registry import nearest
from auditkit.core.subject import IntArray
from auditkit.stats.distinct import distinct

# Pairs of names whose second member is the positive class beyond doubt (compared in lower case).
ORDERED_PAIRS = frozenset(
    {
        ("0", "1"),
        ("-1", "1"),
        ("false", "true"),
        ("f", "t"),
        ("no", "yes"),
        ("n", "y"),
        ("negative", "positive"),
        ("neg", "pos"),
    }
)
_BOOLEAN_ALIAS = {"False": "0", "True": "1", "0": "False", "1": "True"}


def label_name(value: Any) -> str:
    """The name of one label or group: whole floats read as integers, so that 1, 1.0 and "1" agree.

    >>> [label_name(value) for value in (1, 1.0, True, 0.5, "yes")]
    ['1', '1', 'True', '0.5', 'yes']
    """
    if isinstance(value, bool | np.bool_):
        return "True" if value else "False"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        return str(int(number)) if number.is_integer() else repr(number)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def class_names(labels: Sequence[Any]) -> tuple[str, ...]:
    """Names of ``labels`` in order.

    Raises:
        UsageError: AK217 fewer than two, or two labels of one name.
    """
    names = tuple(label_name(label) for label in labels)
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UsageError("AK217", f"two classes have the same name: {', '.join(twice)}", fix="rename one of them")
    if len(names) < 2:
        raise UsageError(
            "AK217",
            f"the model knows {len(names)} class{'' if len(names) == 1 else 'es'}; at least two are needed",
            fix="train the model on data with both classes",
        )
    return names


def encode_labels(values: Any, classes: Sequence[str], *, where: str) -> IntArray:
    """Codes ``(n,)`` of labels: the index of each in ``classes``.

    ``False``/``True`` and ``0``/``1`` stand for one another where the classes are of the other kind.

    Raises:
        UsageError: AK203 missing labels, AK204 labels that are not among the classes.
    """
    codes, uniques = distinct(values)
    n_missing = int((codes < 0).sum())
    if n_missing:
        what = "decisions" if where == "y_pred" else "labels"
        raise UsageError(
            "AK203",
            f"{n_missing} of {len(codes)} {what} are missing",
            where=where,
            why="a row without one counts neither as right nor as wrong",
            fix=f"drop the rows without a {what[:-1]}",
        )
    index = {name: code for code, name in enumerate(classes)}
    names = [label_name(value) for value in uniques]
    if set(classes) in ({"0", "1"}, {"False", "True"}):
        names = [name if name in index else _BOOLEAN_ALIAS.get(name, name) for name in names]
    unknown = [name for name in names if name not in index]
    if unknown:
        shown = ", ".join(repr(name) for name in unknown[:5]) + (" ..." if len(unknown) > 5 else "")
        raise UsageError(
            "AK204",
            f"labels that the model does not know: {shown}",
            where=where,
            why=f"its classes are {', '.join(map(repr, classes[:20]))}",
            fix=nearest(unknown[0], classes) or "give labels of the model's classes, or wrap the model with classes=",
        )
    table = np.array([index[name] for name in names], dtype=np.int64)
    return np.asarray(table[codes] if len(codes) else [], dtype=np.int64)


def positive_code(classes: Sequence[str], positive: Any, *, where: str = "positive") -> int:
    """Code of the positive class of a binary task.

    With ``positive=None`` it is the larger of two numbers, ``True``, or the second of a pair such as
    no/yes; any other pair of strings must be named.

    Raises:
        UsageError: AK209.

    >>> positive_code(("0", "1"), None), positive_code(("yes", "no"), None), positive_code(("bad", "good"), "bad")
    (1, 0, 0)
    """
    if positive is not None:
        name = label_name(positive)
        if name not in classes and set(classes) in ({"0", "1"}, {"False", "True"}):
            name = _BOOLEAN_ALIAS.get(name, name)
        if name in classes:
            return tuple(classes).index(name)
        raise UsageError(
            "AK209",
            f"the positive class {name!r} is not among the classes {', '.join(map(repr, classes))}",
            where=where,
            fix=nearest(name, classes) or "give one of the classes",
        )
    numbers = [_number(name) for name in classes]
    if all(number is not None for number in numbers):
        return max(range(len(classes)), key=lambda code: numbers[code] or 0.0)
    lowered = tuple(name.strip().lower() for name in classes)
    if lowered in ORDERED_PAIRS:
        return 1
    if lowered[::-1] in ORDERED_PAIRS:
        return 0
    raise UsageError(
        "AK209",
        f"which of {classes[0]!r} and {classes[1]!r} is the positive class cannot be told",
        where=where,
        why="selection and error rates count the positive class, so it is not guessed",
        fix=f"pass positive={classes[1]!r} or positive={classes[0]!r}",
    )


def _number(name: str) -> float | None:
    try:
        return float(name)
    except ValueError:
        return None
