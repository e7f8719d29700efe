"""The nearest word, for messages; the registry that looks it up is loaded only when something is misspelt."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """``did you mean 'x'?`` for the closest choice, or ``None``.

    >>> nearest("selecton_rate", ["selection_rate", "accuracy"])
    "did you mean 'selection_rate'?"
    """
    from auditkit.core.registry import nearest as find

    return find(word, choices)
