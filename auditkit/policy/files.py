"""Policies in TOML files: an audit.toml, a policy of its own, or ``[tool.auditkit]`` in pyproject.toml."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditkit.core.errors import PolicyError
from auditkit.policy.model import POLICY_SECTIONS, Policy, parse_policy

_TABLE_PREFIX = re.compile(r"(?m)^(\s*\[\[?\s*)tool\s*\.\s*auditkit\s*\.\s*")


def load_policy(path: Path) -> Policy:
    """The checked policy in the TOML file ``path``.

    Raises:
        PolicyError: AK410 faults, AK412 unreadable or not TOML, AK413 no policy in it.
    """
    document, text = read_policy_file(path)
    return parse_policy(document, text=text, where=path.name)


def read_policy_file(path: Path) -> tuple[Mapping[str, Any], str]:
    """The tables of auditkit in the TOML file ``path``, and its text for line numbers.

    From pyproject.toml the tables under ``[tool.auditkit]`` are taken, and the prefix of their headers is cut
    out of the text, so that lines are found under the same names.

    Raises:
        PolicyError: AK412 unreadable or not TOML, AK413 no policy in it.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        document: Mapping[str, Any] = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        why = (error.strerror or "") if isinstance(error, OSError) else str(error)
        raise PolicyError(
            "AK412", "the policy cannot be read as TOML", where=str(path), why=why, fix="mend the file, or its path"
        ) from error
    tool = document.get("tool")
    if isinstance(tool, Mapping) and isinstance(tool.get("auditkit"), Mapping):
        document, text = tool["auditkit"], _TABLE_PREFIX.sub(r"\1", text)
    elif path.name == "pyproject.toml":
        raise PolicyError(
            "AK413", "pyproject.toml has no [tool.auditkit]", where=str(path), fix="add [[tool.auditkit.rule]] tables"
        )
    if not any(section in document for section in POLICY_SECTIONS):
        raise PolicyError(
            "AK413",
            "this file holds no policy: no [[rule]], [groups], [defaults] or [[waiver]]",
            where=str(path),
            fix="add [[rule]] tables; `auditkit init` writes some to start from",
        )
    return with_baselines(document, path.parent), text


def with_baselines(document: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """``document`` with the baselines that its rules name read from their files under ``folder``.

    ``baseline = "release"`` is the file ``release``, ``release.json`` or ``baselines/release.json``, whichever is found
    first. So the policy, and the evidence it is embedded in, judge alike wherever they are read.

    Raises:
        PolicyError: AK417 when there is no such file, or it is not JSON; AK418 when it is not a baseline.
    """
    rules = document.get("rule")
    names = [rule.get("baseline") for rule in rules if isinstance(rule, Mapping)] if isinstance(rules, list) else []
    given = document.get("baseline")
    known = dict(given) if isinstance(given, Mapping) else {}
    missing = [name for name in dict.fromkeys(names) if isinstance(name, str) and name not in known]
    if not missing:
        return document
    return {**document, "baseline": {**known, **{name: _baseline_document(name, folder) for name in missing}}}


def _baseline_document(name: str, folder: Path) -> Mapping[str, Any]:
    from auditkit.policy.baseline import read_baseline

    places = [folder / name, folder / f"{name}.json", folder / "baselines" / f"{name}.json"]
    found = next((place for place in places if place.is_file()), None)
    try:
        if found is None:
            raise FileNotFoundError(None, "there is no such file")
        document = json.loads(found.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        why = (error.strerror or "") if isinstance(error, OSError) else str(error)
        raise PolicyError(
            "AK417",
            f"the baseline {name!r} cannot be read",
            where=str(found or places[0]),
            why=why,
            fix=f'auditkit baseline accept EVIDENCE --out {name} --reason "..."',
        ) from error
    read_baseline(document, where=found.name)
    checked: Mapping[str, Any] = document
    return checked
