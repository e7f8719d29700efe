"""Policies in TOML files: an audit.toml, a policy of its own, or ``[tool.auditkit]`` in pyproject.toml."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.core.errors import PolicyError
from auditkit.core.evidence import Evidence
from auditkit.core.toml_file import UnreadableTomlError, read_toml
from auditkit.policy.model import POLICY_SECTIONS, Policy, parse_policy

if TYPE_CHECKING:
    from auditkit.core.rows import RowsRecord


def load_policy(path: Path, measured: Collection[str] = ()) -> Policy:
    """The checked policy in the TOML file ``path``; ``measured`` as in :func:`parse_policy`.

    Raises:
        PolicyError: AK410 faults, AK412 unreadable or not TOML, AK413 no policy in it.
    """
    document, text = read_policy_file(path)
    return parse_policy(document, text=text, where=path.name, measured=measured)


def read_policy_file(path: Path) -> tuple[Mapping[str, Any], str]:
    """The tables of auditkit in the TOML file ``path``, and its text for line numbers.

    From pyproject.toml the tables under ``[tool.auditkit]`` are taken, and the prefix of their headers is cut
    out of the text, so that lines are found under the same names.

    Raises:
        PolicyError: AK412 unreadable or not TOML, AK413 no policy in it.
    """
    try:
        found = read_toml(path)
    except UnreadableTomlError as error:
        raise PolicyError(
            "AK412",
            "the policy cannot be read as TOML",
            where=str(path),
            why=error.why,
            fix="mend the file, or its path",
        ) from error
    document = found.document
    if document is None:
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
    return with_baselines(document, path.parent), found.own_text


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


def with_pairs(policy: Policy, folder: Path, evidence: Evidence, evidence_folder: Path) -> Policy:
    """``policy`` with the joint cells of its baselines and ``evidence`` where both kept a record of the same rows.

    Args:
        policy: Read from a file in ``folder``, its baselines with it.
        folder: Where the records of the baselines' rows are: ``release.rows.npz`` beside ``release.json``.
        evidence: What is judged.
        evidence_folder: Where ``rows.npz`` of the evidence is.

    Raises:
        EvidenceError: AK256 when a record cannot be read.
    """
    from auditkit.core.rows import ROWS_FILE, read_rows

    path = evidence_folder / ROWS_FILE
    if not policy.baseline or not any(same_rows(document, evidence) for document in policy.baseline.values()):
        return policy
    record = read_rows(path) if path.is_file() else None
    return policy.model_copy(update={"baseline": paired_baselines(policy.baseline, folder, evidence, record)})


def same_rows(document: Mapping[str, Any], evidence: Evidence) -> bool:
    """Whether a baseline's document says that it is of the rows of ``evidence``."""
    try:
        found = document["evidence"]["subject"]["test"]["fingerprint"]
    except (KeyError, TypeError):
        return False
    return bool(found == evidence.subject.test.fingerprint)


def paired_baselines(
    baselines: Mapping[str, Mapping[str, Any]], folder: Path, evidence: Evidence, record: RowsRecord | None
) -> dict[str, Mapping[str, Any]]:
    """The documents of ``baselines`` with their joint cells with ``evidence``, or the reason why there are none.

    Raises:
        EvidenceError: AK256 when a baseline's record of rows cannot be read.
        PolicyError: AK418 when a baseline is damaged.
    """
    from auditkit.core.rows import read_rows
    from auditkit.policy.baseline import read_baseline
    from auditkit.policy.pairs import Pairs, pair_up, pairs_document

    found: dict[str, Mapping[str, Any]] = {}
    for name, document in baselines.items():
        found[name] = document
        if not same_rows(document, evidence):
            continue
        place = _place(name, folder)
        path = None if place is None else rows_path(place)
        if path is None or not path.is_file():
            pairs = Pairs(reason="the rows are the same, but no record of them was kept beside the baseline")
        elif record is None:
            pairs = Pairs(reason="the rows are the same, but this audit kept no record ([run] keep_rows = true)")
        else:
            pairs = pair_up(read_baseline(document, where=name).evidence, read_rows(path), evidence, record)
        found[name] = {**document, "pairs": pairs_document(pairs)}
    return found


def rows_path(baseline: Path) -> Path:
    """Where the record of a baseline's rows lies: ``release.rows.npz`` beside ``release.json``."""
    return baseline.with_name(f"{baseline.name.removesuffix('.json')}.rows.npz")


def _place(name: str, folder: Path) -> Path | None:
    """The file of the baseline ``name``."""
    places = [folder / name, folder / f"{name}.json", folder / "baselines" / f"{name}.json"]
    return next((place for place in places if place.is_file()), None)


def _baseline_document(name: str, folder: Path) -> Mapping[str, Any]:
    from auditkit.policy.baseline import read_baseline

    found = _place(name, folder)
    try:
        if found is None:
            raise FileNotFoundError(None, "there is no such file")
        document = json.loads(found.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        why = (error.strerror or "") if isinstance(error, OSError) else str(error)
        raise PolicyError(
            "AK417",
            f"the baseline {name!r} cannot be read",
            where=str(found or folder / name),
            why=why,
            fix=f'auditkit baseline accept EVIDENCE --out {name} --reason "..."',
        ) from error
    read_baseline(document, where=found.name)
    checked: Mapping[str, Any] = document
    return checked
