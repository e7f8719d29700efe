"""The policy: groups, defaults, rules and waivers, read from plain data with every fault at once."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from auditkit.core.errors import PolicyError
from auditkit.core.evidence import Scalar
from auditkit.core.toml_lines import line_of
from auditkit.core.verdict import Level
from auditkit.policy.hints import nearest

Compare = Literal["value", "difference", "ratio"]
Path = tuple[str | int, ...]

POLICY_SECTIONS = ("groups", "defaults", "rule", "waiver", "baseline")
# Sections of the same file that other parts of auditkit read.
OTHER_SECTIONS = ("version", "model", "data", "training", "run", "analyzer", "card", "profile")
MAX_WAIVER_DAYS = 180


def _names(value: object) -> object:
    """One name may stand for a list of one."""
    return [value] if isinstance(value, str) else value


def _date(value: object) -> object:
    if isinstance(value, datetime.datetime) or not isinstance(value, str):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except ValueError as error:
        raise ValueError(f"{value!r} is not a date such as 2027-01-31") from error


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]
Date = Annotated[datetime.date, BeforeValidator(_date)]


class _Record(BaseModel):
    # Built once, inside Policy, and not for each record by itself: the gate starts faster.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False, defer_build=True)


class Groups(_Record):
    """``[groups]``: what rules range over when they do not say.

    Attributes:
        by: Sensitive columns; empty for all of them.
        intersections: Largest number of columns crossed for rules without ``over``.
        missing: Whether rows without a sensitive value are a group in comparisons, or left out of them.
        reference: Default of the rules' ``reference``.
    """

    by: Names = ()
    intersections: int = Field(default=1, ge=1, le=4)
    missing: Literal["group", "exclude"] = "group"
    reference: str = "pairwise"


class Defaults(_Record):
    """``[defaults]``: what rules use when they do not say."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    inconclusive: Literal["fail", "warn"] = "fail"
    decide: Literal["interval", "point"] = "interval"
    small: Literal["inconclusive", "exclude"] = "inconclusive"
    min_n: int = Field(default=0, ge=0)


class Rule(_Record):
    """One ``[[rule]]``; keys that are ``None`` take their default from ``[defaults]`` or ``[groups]``."""

    id: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    compare: Compare = "value"
    over: Names = ()
    where: Mapping[str, str] = {}
    params: Mapping[str, Scalar] = {}
    reference: str | None = None
    min: float | None = None
    max: float | None = None
    decide: Literal["interval", "point"] | None = None
    confidence: float | None = Field(default=None, gt=0.5, lt=1.0)
    small: Literal["inconclusive", "exclude"] | None = None
    min_n: int | None = Field(default=None, ge=0)
    level: Level = "error"
    optional: bool = False
    baseline: str | None = None
    max_increase: float | None = Field(default=None, ge=0)
    reason: str = ""

    @field_validator("min", "max")
    @classmethod
    def _finite(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError("a limit must be a finite number")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Rule:
        for fault in _rule_faults(self):
            raise ValueError(fault)
        return self


class Waiver(_Record):
    """One ``[[waiver]]``: a named person's dated decision to accept a rule's failures.

    ``groups`` narrows it to comparisons in which one of these groups takes part, written ``column=group``.
    """

    rule: str
    owner: str = Field(min_length=1)
    reason: str = Field(min_length=1)
    ticket: str = Field(min_length=1)
    expires: Date
    groups: Names = ()


class Policy(_Record):
    """A checked policy.

    Attributes:
        baseline: The documents of the baselines that rules name; filled in from their files, not written by hand.
        rule_lines: The lines of its rules in the file, where known.
    """

    groups: Groups = Groups()
    defaults: Defaults = Defaults()
    rule: tuple[Rule, ...] = ()
    waiver: tuple[Waiver, ...] = ()
    baseline: Mapping[str, Mapping[str, Any]] = {}
    rule_lines: tuple[int | None, ...] = Field(default=(), exclude=True)
    where: str = Field(default="policy", exclude=True)


def parse_policy(
    document: Mapping[str, Any], *, text: str | None = None, where: str = "policy", measured: Collection[str] = ()
) -> Policy:
    """A checked policy from plain data.

    Args:
        document: The whole configuration or its policy part; ``[model]``, ``[data]`` ... are passed over.
        text: The TOML text, for line numbers.
        where: Name of the file, for errors.
        measured: Names in the evidence that is to be judged: a rule may name them whatever is installed.

    Raises:
        PolicyError: AK410, listing every fault with its line and, for unknown keys and metrics, the nearest one.
    """
    from auditkit.policy.metric_names import unknown_metrics

    locate = _locator(text, where)
    faults = [
        locate(f"unknown section or key [{key}]{_hint(key, (*POLICY_SECTIONS, *OTHER_SECTIONS))}", (key,))
        for key in document
        if key not in POLICY_SECTIONS and key not in OTHER_SECTIONS
    ]
    if document.get("version", 1) != 1:
        faults.append(locate("this release reads version = 1", ("version",)))
    part = {key: document[key] for key in POLICY_SECTIONS if key in document}
    policy = Policy()
    try:
        policy = Policy.model_validate(part)
    except ValidationError as error:
        faults += [locate(_sentence(item), _path(item)) for item in error.errors()]
    faults += [locate(sentence, path) for sentence, path in _duplicates(part.get("rule", ()))]
    unknown = unknown_metrics(policy, measured)
    faults += [locate(f"rule[{index}].metric: {told}", ("rule", index, "metric")) for index, told in unknown]
    if faults:
        raise PolicyError(
            "AK410",
            f"the policy has {len(faults)} fault" + ("s" if len(faults) > 1 else ""),
            where=where,
            why="\n    ".join(faults),
            fix="mend the lines named; a rule's keys are " + ", ".join(Rule.model_fields),
        )
    lines = tuple(line_of(text, ("rule", index)) if text else None for index in range(len(policy.rule)))
    return policy.model_copy(update={"rule_lines": lines, "where": where})


def _rule_faults(rule: Rule) -> Iterable[str]:
    """What makes a rule meaningless although each key is valid by itself."""
    if rule.baseline is not None or rule.max_increase is not None:
        if rule.baseline is None or rule.max_increase is None:
            yield "baseline and max_increase go together"
        if rule.min is not None or rule.max is not None:
            yield "a rule with a baseline is limited by max_increase; give min or max a rule of their own"
    elif rule.min is None and rule.max is None:
        yield "a rule needs a limit: min or max"
    if rule.min is not None and rule.max is not None and rule.min > rule.max:
        yield f"min {rule.min} is above max {rule.max}: no value could pass"
    yield from _disparity_faults(rule)
    if rule.small == "exclude" and rule.min_n is not None and rule.min_n < 1:
        yield 'small = "exclude" needs min_n of 1 or more'
    if set(rule.over) & set(rule.where):
        yield "a column cannot be in both over and where"
    if len(set(rule.over)) < len(rule.over):
        yield "a column is named twice in over"


def _disparity_faults(rule: Rule) -> Iterable[str]:
    if rule.compare == "value":
        if rule.reference is not None:
            yield 'reference belongs to compare = "difference" or "ratio"'
        return
    if rule.compare == "difference":
        if rule.min is not None:
            yield "a difference is limited by max; min would demand that groups differ"
        if rule.max is not None and rule.max < 0:
            yield "a difference is never below 0: max must be 0 or more"
        return
    if rule.max is not None:
        yield "a ratio is limited by min; max would demand that groups differ"
    if rule.min is not None and not 0.0 < rule.min <= 1.0:
        yield "a ratio lies between 0 and 1: min must be above 0 and at most 1"


def _duplicates(rules: object) -> Iterable[tuple[str, Path]]:
    seen: set[str] = set()
    for index, rule in enumerate(rules if isinstance(rules, list | tuple) else ()):
        name = rule.get("id") if isinstance(rule, Mapping) else None
        if isinstance(name, str):
            if name in seen:
                yield f"rule id {name!r} is used twice", ("rule", index, "id")
            seen.add(name)


_KEYS: Mapping[str, tuple[str, ...]] = {
    "groups": tuple(Groups.model_fields),
    "defaults": tuple(Defaults.model_fields),
    "rule": tuple(Rule.model_fields),
    "waiver": tuple(Waiver.model_fields),
}


def _path(fault: Any) -> Path:
    return tuple(fault["loc"])


def _sentence(fault: Any) -> str:
    path = _path(fault)
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    if fault["type"] == "extra_forbidden":
        return f"{shown}: unknown key {str(path[-1])!r}{_hint(str(path[-1]), _KEYS.get(str(path[0]), ()))}"
    if fault["type"] == "missing":
        return f"{shown}: this key is required"
    message = str(fault["msg"]).removeprefix("Value error, ")
    message = message.replace("a valid dictionary", 'a table such as { name = "value" }').replace(
        "a valid tuple", "a list"
    )
    given = fault.get("input")
    told = f", got {given!r}"[:80] if isinstance(given, str | int | float | bool) else ""
    return f"{shown}: {message}{told}"


def _hint(word: str, choices: Iterable[str]) -> str:
    found = nearest(word, choices)
    return f", {found}" if found else ""


def _locator(text: str | None, where: str) -> Callable[[str, Path], str]:
    def locate(sentence: str, path: Path) -> str:
        line = line_of(text, path) if text else None
        return f"{where}:{line}: {sentence}" if line else f"{where}: {sentence}"

    return locate
