"""How gaps between groups are named: the name of the metric, and what of it is compared."""

from __future__ import annotations

from typing import Literal

GapKind = Literal["difference", "ratio"]
KINDS: tuple[GapKind, ...] = ("difference", "ratio")


def gap_names(metric: str) -> tuple[str, ...]:
    """What the gaps of a ``metric`` are called.

    >>> gap_names("fairness.f1")
    ('fairness.f1.difference', 'fairness.f1.ratio')
    """
    return tuple(f"{metric}.{kind}" for kind in KINDS)


def metric_and_kind(name: str) -> tuple[str, GapKind | None]:
    """The metric that a measurement's ``name`` is of, and what of it is compared: ``None`` for the metric itself.

    >>> metric_and_kind("fairness.f1.ratio"), metric_and_kind("fairness.f1")
    (('fairness.f1', 'ratio'), ('fairness.f1', None))
    """
    metric, _, ending = name.rpartition(".")
    return next(((metric, kind) for kind in KINDS if kind == ending), (name, None))
