"""Profiles of law and practice: dated data that add rules to a policy and tables to the evidence.

A profile never says that anything is compliant. It has a date, a status and a source, and warns when it is old.
"""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Evidence, Outcome, Table
from auditkit.policy.hints import nearest
from auditkit.policy.profile_tables import CannotTabulate, adverse_impact, impact_ratios, section_map

FOLDER = Path(__file__).parents[1] / "profiles"
OLD_DAYS = 180


class Section(BaseModel):
    """One section of a text, what it asks for, the evidence for it, and what lies outside any audit."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    id: str
    asks: str
    evidence: tuple[str, ...] = ()
    outside: str = ""


class Profile(BaseModel):
    """A profile as its file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str
    title: str
    status: str
    as_of: datetime.date
    source: str
    note: str
    tables: tuple[Literal["adverse-impact", "impact-ratio", "map"], ...]
    analyzers: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = {}
    smallest_share: float = Field(default=0.0, ge=0.0, lt=1.0)
    smallest_share_reason: str = ""
    rule: tuple[Mapping[str, Any], ...] = ()
    section: tuple[Section, ...] = ()


def profile_names() -> tuple[str, ...]:
    """Every profile there is."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def load_profile(name: str) -> Profile:
    """The profile called ``name``.

    Raises:
        UsageError: AK423 when there is none.
    """
    if name not in profile_names():
        hint = nearest(name, profile_names())
        raise UsageError(
            "AK423",
            f"there is no profile {name!r}",
            why=f"there are {', '.join(profile_names())}",
            fix=hint or "name one of these",
        )
    return Profile.model_validate(tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8")))


def old_profile(profile: Profile, today: datetime.date) -> str | None:
    """The warning for a profile that was written more than 180 days before ``today``, or ``None``."""
    days = (today - profile.as_of).days
    if days <= OLD_DAYS:
        return None
    return (
        f"profile {profile.name} states the law or practice as of {profile.as_of}, {days} days ago: "
        "look up what changed since, or upgrade auditkit"
    )


def with_rules(policy: Mapping[str, Any] | None, profiles: Sequence[Profile]) -> Mapping[str, Any] | None:
    """``policy`` with the rules of the profiles after its own; a rule whose id is there already is left as it is."""
    own = list((policy or {}).get("rule") or ())
    ids = {rule.get("id") for rule in own if isinstance(rule, Mapping)}
    added = [dict(rule) for profile in profiles for rule in profile.rule if rule.get("id") not in ids]
    return {**(policy or {}), "rule": [*own, *added]} if added else policy


def with_tables(evidence: Evidence, profiles: Iterable[Profile], today: datetime.date) -> Evidence:
    """``evidence`` with one outcome a profile: its tables, or the reason why they cannot be made."""
    added = tuple(_outcome(profile, evidence, today) for profile in profiles)
    return replace(evidence, outcomes=(*evidence.outcomes, *added))


def _outcome(profile: Profile, evidence: Evidence, today: datetime.date) -> Outcome:
    warning = old_profile(profile, today)
    about = f"As of {profile.as_of}; {profile.status}."
    blank = Outcome(
        analyzer=f"profile.{profile.name}",
        version=profile.as_of.isoformat(),
        status="failed",
        reason="not made",
        title=profile.title,
        reference=profile.source,
        notes=tuple(filter(None, (about, profile.note, warning))),
    )
    try:
        tables = [table for kind in profile.tables for table in _tables(kind, profile, evidence)]
    except CannotTabulate as missing:
        return replace(blank, reason=f"the tables of profile {profile.name} cannot be made: {missing}")
    return replace(blank, status="measured", reason=None, artifacts=tuple(tables))


def _tables(kind: str, profile: Profile, evidence: Evidence) -> list[Table]:
    share = (profile.smallest_share, profile.smallest_share_reason)
    if kind == "adverse-impact":
        return adverse_impact(evidence, profile.name, share)
    if kind == "impact-ratio":
        return impact_ratios(evidence, profile.name, profile.columns, share)
    return [section_map(evidence, profile.name, [(s.id, s.asks, s.evidence, s.outside) for s in profile.section])]
