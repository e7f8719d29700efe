"""The plan: which analyzers run, with which checked parameters, under which seed and budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from auditkit.core.analyzer import Analyzer, Params
from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.registry import discover, load, nearest, select


@dataclass(frozen=True, kw_only=True)
class Step:
    """One analyzer with its parameters.

    Attributes:
        fault: Why it could not even be loaded.
        asked: Whether it was named, rather than run because it runs by default.
    """

    name: str
    params: Params = field(default_factory=Params)
    analyzer: Analyzer | None = None
    fault: AuditkitError | None = None
    asked: bool = True


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run. ``reduced`` says in a sentence when the plan is smaller than usual."""

    steps: tuple[Step, ...]
    seed: int = 0
    deadline_seconds: float | None = None
    reduced: str | None = None


def make_plan(
    wanted: Iterable[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    seed: int = 0,
    deadline_seconds: float | None = None,
    reduced: str | None = None,
) -> Plan:
    """A checked plan.

    Args:
        wanted: Analyzer names or families; ``None`` for all that run by default. A family stands for those of its
            analyzers that run by default or have settings: those that are off by default are asked for by name.
        settings: Analyzer name -> its parameters, as in ``[analyzer."explain.shap"]``.
        seed: Seed of the run, ``>= 0``.
        deadline_seconds: Wall-clock budget of the run.
        reduced: A sentence when this plan is a small version of a larger one.

    Raises:
        UsageError: AK121 unknown analyzer, AK123 wrong parameter (all of them at once), AK124 bad seed.
    """
    if seed < 0:
        raise UsageError("AK124", f"the seed must be 0 or more, got {seed}", fix="set [run] seed = 0")
    settings = settings or {}
    points = discover()
    words = None if wanted is None else tuple(wanted)
    names = tuple(points) if words is None else select(words, points)
    unknown = [name for name in settings if name not in points]
    if unknown:
        hints = "; ".join(f"{name!r}: {nearest(name, points) or 'see `auditkit analyzers`'}" for name in unknown)
        raise UsageError("AK121", f"settings for analyzers that do not exist: {', '.join(unknown)}", fix=hints)
    steps = []
    faults: list[str] = []
    for name in names:
        asked = words is not None or name in settings
        try:
            analyzer = load(name, points)
        except AuditkitError as error:
            steps.append(Step(name=name, fault=error, asked=asked))
            continue
        if not (analyzer.default or name in settings or name in (words or ())):
            continue
        try:
            params = analyzer.params.model_validate(dict(settings.get(name, {})))
        except ValidationError as error:
            faults += [_fault(name, analyzer.params, item) for item in error.errors()]
            continue
        steps.append(Step(name=name, params=params, analyzer=analyzer, asked=asked))
    if faults:
        raise UsageError(
            "AK123", "analyzer settings are wrong: " + "; ".join(faults), fix="see `auditkit analyzers NAME`"
        )
    return Plan(steps=tuple(steps), seed=seed, deadline_seconds=deadline_seconds, reduced=reduced)


def _fault(name: str, params: type[Params], item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        hint = nearest(key, params.model_fields)
        return f'[analyzer."{name}"] has no key {key!r}' + (f", {hint}" if hint else "")
    return f'[analyzer."{name}"] {key}: {item["msg"]}'
