"""Analyzers that were asked for and gave nothing, those with one reason together."""

from __future__ import annotations

from collections.abc import Sequence


def with_one_reason(unmeasured: Sequence[str]) -> tuple[str, ...]:
    """``unmeasured`` as a verdict has it, one entry for each reason: a model that crashes fails everything at once.

    >>> with_one_reason(("fairness.groups failed: no memory", "performance failed: no memory", "x.y skipped: no z"))
    ('fairness.groups and performance failed: no memory', 'x.y skipped: no z')
    """
    names: dict[str, list[str]] = {}
    for told in unmeasured:
        name, _, why = told.partition(" ")
        names.setdefault(why, []).append(name)
    return tuple(f"{_listed(each)} {why}".strip() for why, each in names.items())


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
