"""Mappings in the order of their keys, as canonical JSON has them: what is shown must not hang on how it was filled."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from auditkit.core.evidence import DataFacts, Evidence, Outcome


def in_order(evidence: Evidence) -> Evidence:
    """``evidence`` with every mapping sorted, so that it reads as it does after writing and reading.

    >>> list(_sorted({"b": {"d": 1, "c": 2}, "a": 0})), list(_sorted({"b": {"d": 1, "c": 2}})["b"])
    (['a', 'b'], ['c', 'd'])
    """
    subject = evidence.subject
    subject = dataclasses.replace(
        subject,
        test=_facts(subject.test),
        train=None if subject.train is None else _facts(subject.train),
        versions=_sorted(subject.versions),
    )
    return dataclasses.replace(
        evidence,
        subject=subject,
        outcomes=tuple(map(_outcome, evidence.outcomes)),
        policy=_sorted(evidence.policy),
        card=_sorted(evidence.card),
    )


def _facts(facts: DataFacts) -> DataFacts:
    return dataclasses.replace(facts, sensitive=_sorted(facts.sensitive), label_counts=_sorted(facts.label_counts))


def _outcome(outcome: Outcome) -> Outcome:
    measurements = tuple(
        dataclasses.replace(m, slice=_sorted(m.slice), params=_sorted(m.params))
        if len(m.slice) > 1 or len(m.params) > 1
        else m
        for m in outcome.measurements
    )
    return dataclasses.replace(outcome, measurements=measurements, params=_sorted(outcome.params))


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, list | tuple):
        return type(value)(map(_sorted, value))
    return value
