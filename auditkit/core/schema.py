"""Reading, writing and checking evidence: canonical JSON, digests, published JSON Schema."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from auditkit.core.compact import SCHEMA as SHARED_SCHEMA
from auditkit.core.compact import fold
from auditkit.core.errors import EvidenceError
from auditkit.core.evidence import SCHEMA_ID, Evidence, Measurement, Outcome, RunFacts
from auditkit.core.packed import packed, unpacked
from auditkit.core.unread import Unread
from auditkit.core.verdict import Verdict

# Readers of older schemas: schema id -> function that turns its document into the next newer one.
MIGRATIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}


# Members of the document that are no content: the digest leaves them out.
_OUTSIDE = frozenset({"run", "digest"})


@functools.cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def canonical_json(document: object) -> str:
    """JSON with sorted keys, no spaces, ASCII only, and NaN or infinity refused."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_of(document: object) -> str:
    """``sha256:<hex>`` of the canonical JSON of ``document``."""
    return _sha256(canonical_json(document))


def _sha256(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def to_document(evidence: Evidence) -> dict[str, Any]:
    """The evidence as plain JSON data; fields at their default are left out."""
    read = tuple(
        dataclasses.replace(outcome, measurements=tuple(outcome.measurements)) for outcome in evidence.outcomes
    )
    document: dict[str, Any] = _adapter(Evidence).dump_python(
        dataclasses.replace(evidence, outcomes=read), mode="json", exclude_defaults=True
    )
    document["schema"] = evidence.schema
    for outcome, part in zip(evidence.outcomes, document["outcomes"], strict=True):
        _finish(outcome, part)
    return document


def _finish(outcome: Outcome, document: dict[str, Any]) -> None:
    """Write each artifact's ``kind`` (it tells readers its type, although it is a default); fold what is shared."""
    for artifact, part in zip(outcome.artifacts, document.get("artifacts", ()), strict=True):
        part["kind"] = artifact.kind
    fold(document)


def digest_of(evidence: Evidence) -> str:
    """The content digest: times, machine facts and the digest field itself left out."""
    return _content_digest(to_document(evidence))


def _content_digest(document: Mapping[str, Any]) -> str:
    return sha256_of({key: part for key, part in document.items() if key not in _OUTSIDE})


def _digest_of_text(text: bytes, evidence: Evidence) -> str | None:
    """The content digest of ``evidence`` from the canonical ``text`` that it was read from, ``None`` if it is not.

    Nothing is written anew, which is a fifth of the time that it takes to judge 100,000 measurements.
    """
    content = text.removesuffix(b"\n")
    outside: dict[str, Any] = {"digest": evidence.digest}
    if evidence.run != RunFacts():
        outside["run"] = _adapter(RunFacts).dump_python(evidence.run, mode="json", exclude_defaults=True)
    for key, part in outside.items():
        member = f'"{key}":{canonical_json(part)},'.encode("ascii")
        if content.count(member) != 1:
            return None
        content = content.replace(member, b"")
    return "sha256:" + hashlib.sha256(content).hexdigest()


def seal(evidence: Evidence) -> Evidence:
    """The same evidence with its ``digest`` filled in."""
    return dataclasses.replace(evidence, digest=digest_of(evidence))


def dumps(evidence: Evidence) -> str:
    """Canonical JSON of sealed evidence, ending in a newline."""
    document = to_document(evidence)
    members = {key: f'"{key}":{canonical_json(part)}' for key, part in document.items() if key != "digest"}
    content = _object(text for key, text in sorted(members.items()) if key not in _OUTSIDE)
    members["digest"] = f'"digest":{canonical_json(_sha256(content))}'
    return _object(text for _, text in sorted(members.items())) + "\n"


def _object(members: Iterable[str]) -> str:
    """Members as :func:`canonical_json` would write them together, in their order."""
    return "{" + ",".join(members) + "}"


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """One outcome as plain JSON data (used by checkpoints)."""
    document: dict[str, Any] = _adapter(Outcome).dump_python(outcome, mode="json", exclude_defaults=True)
    _finish(outcome, document)
    return document


def outcome_from(document: object) -> Outcome:
    """The inverse of :func:`outcome_document`."""
    outcome: Outcome = _adapter(Outcome).validate_python(document)
    return outcome


def verdict_json(verdict: Verdict) -> str:
    """A verdict as canonical JSON."""
    return canonical_json(_verdict_document(verdict))


def _verdict_document(verdict: Verdict) -> dict[str, Any]:
    document: dict[str, Any] = _adapter(Verdict).dump_python(verdict, mode="json", exclude_defaults=True)
    return document


def packed_json(record: Evidence | Verdict) -> str:
    """Canonical JSON of a record, packed to two thirds; :func:`loads` and :func:`verdict_from` read it."""
    document = to_document(record) if isinstance(record, Evidence) else _verdict_document(record)
    return canonical_json(packed(document))


def verdict_from(text: str, *, where: str = "verdict") -> Verdict:
    """The inverse of :func:`verdict_json`, packed or not.

    Raises:
        EvidenceError: AK270 it is not a verdict.
    """
    try:
        verdict: Verdict = _adapter(Verdict).validate_python(unpacked(json.loads(text)))
    except (ValidationError, ValueError, RecursionError) as error:
        raise EvidenceError(
            "AK270",
            "the verdict in the card does not follow its schema",
            where=where,
            why=_first_lines(error),
            fix="render the card again from its evidence",
        ) from error
    return verdict


def loads(text: str | bytes, *, where: str = "evidence") -> Evidence:
    """Read evidence, migrating older schemas and refusing newer or damaged ones.

    Args:
        text: The JSON text, packed as in a card or not.
        where: Name shown in errors.

    Raises:
        EvidenceError: AK110 not JSON, AK111 no or unknown schema, AK112 not valid, AK113 digest differs, AK115 wrongly
            packed.
    """
    evidence = _as_written(text, where)
    if evidence is not None:
        return evidence
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise EvidenceError(
            "AK110",
            "this is not an evidence file: it is not valid JSON",
            where=where,
            why=str(error),
            fix="give the evidence.json that `auditkit run` wrote",
        ) from error
    try:
        document = unpacked(document)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(
            "AK115",
            "the copy of the evidence is JSON, but not as a card packs it",
            where=where,
            why=str(error),
            fix="render the card again from its evidence.json, or verify that",
        ) from error
    return from_document(document, where=where)


def _as_written(text: str | bytes, where: str) -> Evidence | None:
    """The evidence of a file just as :func:`dumps` wrote it; ``None`` if there is any doubt about it.

    Measurements stay unread until they are asked for: to build 100,000 would be half of what it takes to judge them.
    """
    try:
        raw = text.encode() if isinstance(text, str) else text
        with _collector_paused():
            document: dict[str, Any] = from_json(raw, allow_inf_nan=False, cache_strings="keys")
            frame = {"subject": document["subject"], "plan": document["plan"]}
            unread = [_unread(outcome, frame, where) for outcome in document["outcomes"]]
            evidence: Evidence = _adapter(Evidence).validate_python(document)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    known = evidence.schema == SCHEMA_ID and evidence.digest
    if not known or evidence.digest != _digest_of_text(raw, evidence):
        return None
    outcomes = zip(evidence.outcomes, unread, strict=True)
    return dataclasses.replace(
        evidence, outcomes=tuple(dataclasses.replace(outcome, measurements=part) for outcome, part in outcomes)
    )


def _unread(outcome: dict[str, Any], frame: dict[str, Any], where: str) -> Unread:
    """The measurements of an ``outcome`` as plain data, which they are taken out of with what they share.

    They are read later as part of evidence with the same ``frame``: its reader is there, and one for outcomes alone
    would take a twentieth of a gate's time to make.
    """
    written, shared = outcome.pop("measurements", []), outcome.pop("quantities", {})
    head: dict[str, Any] = {key: outcome[key] for key in ("analyzer", "version", "status", "reason") if key in outcome}

    if not isinstance(written, list) or not (shared is None or isinstance(shared, dict)):
        raise TypeError("not as this release writes it")

    def build(parts: list[dict[str, Any]]) -> Sequence[Measurement]:
        names = {part["name"] for part in parts}
        quantities = {name: shared[name] for name in names if name in shared} if shared else {}
        try:
            with _collector_paused():
                alone = {**frame, "outcomes": [{**head, "measurements": parts, "quantities": quantities}]}
                evidence: Evidence = _adapter(Evidence).validate_python(alone)
                return evidence.outcomes[0].measurements
        except (ValueError, TypeError) as error:
            raise _not_valid(error, where) from error

    return Unread(written, build)


def _not_valid(error: Exception, where: str) -> EvidenceError:
    return EvidenceError("AK112", "the evidence does not follow its schema", where=where, why=_first_lines(error))


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """No search for reference cycles meanwhile: records have none, and 100,000 new ones would be searched many times.

    It is a quarter of the time that reading them takes.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def from_document(document: object, *, where: str = "evidence") -> Evidence:
    """Evidence from plain JSON data; see :func:`loads`."""
    if not isinstance(document, dict) or not isinstance(document.get("schema"), str):
        raise EvidenceError(
            "AK111",
            "this JSON is not auditkit evidence: it has no schema id",
            where=where,
            fix="give the evidence.json that `auditkit run` wrote",
        )
    while document["schema"] in MIGRATIONS:
        document = MIGRATIONS[document["schema"]](document)
    if document["schema"] != SCHEMA_ID:
        raise EvidenceError(
            "AK111",
            f"schema {document['schema'][:80]!r} is not one that this release reads",
            where=where,
            why=f"this release reads {SCHEMA_ID} and older",
            fix="pip install --upgrade auditkit",
        )
    try:
        evidence: Evidence = _adapter(Evidence).validate_python(document)
    except (ValidationError, ValueError, TypeError) as error:
        raise _not_valid(error, where) from error
    if evidence.digest and evidence.digest != digest_of(evidence):
        raise EvidenceError(
            "AK113",
            "the evidence does not match its own digest",
            where=where,
            why="it was edited or damaged after it was written",
            fix="run the audit again, or restore the file",
        )
    return evidence


def evidence_schema() -> dict[str, Any]:
    """The JSON Schema of the evidence document."""
    schema = _adapter(Evidence).json_schema(mode="validation")
    schema["$defs"]["Outcome"]["properties"]["quantities"] = SHARED_SCHEMA
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$id": SCHEMA_ID, "title": SCHEMA_ID}


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8, LF) so that a reader sees the old file or the whole new one, never a part."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Atomic write: a temporary file in the same folder, flushed to the disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def plain(value: object) -> Any:
    """``value`` with mappings as dicts and sequences as lists, for comparison with parsed JSON."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not allowed in evidence")


def _first_lines(error: Exception, limit: int = 6) -> str:
    if isinstance(error, ValidationError):
        faults = [f"{'.'.join(str(p) for p in fault['loc'])}: {fault['msg']}" for fault in error.errors()[:limit]]
        return "; ".join(faults)
    return str(error)
