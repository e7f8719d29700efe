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
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from auditkit.core.compact import SCHEMA as SHARED_SCHEMA
from auditkit.core.compact import fold
from auditkit.core.cut import Texts, without_measurements
from auditkit.core.errors import EvidenceError
from auditkit.core.evidence import SCHEMA_ID, Evidence, Measurement, Outcome
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


def _digest_of_text(text: bytes, document: Mapping[str, Any]) -> str | None:
    """The content digest of the canonical ``text`` of ``document``; ``None`` if it is not canonical.

    Nothing is written anew, which is a fifth of the time that it takes to judge 100,000 measurements.
    """
    members = [f'"{key}":{canonical_json(document[key])},'.encode("ascii") for key in _OUTSIDE if key in document]
    if any(text.count(member) != 1 for member in members):
        return None
    content, view, place = hashlib.sha256(), memoryview(text), 0
    for start, length in sorted((text.index(member), len(member)) for member in members):
        content.update(view[place:start])
        place = start + length
    content.update(view[place : len(text) - text.endswith(b"\n")])
    return "sha256:" + content.hexdigest()


def _meanwhile(work: Callable[[], str | None]) -> Callable[[], str | None]:
    """Start ``work`` in a thread, and return what waits for its result, ``None`` if it failed."""
    found: list[str | None] = []

    def run() -> None:
        with contextlib.suppress(ValueError, TypeError):
            found.append(work())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait() -> str | None:
        thread.join()
        return found[0] if found else None

    return wait


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

    Measurements stay unread until they are asked for: to parse and build 100,000 is most of what a gate on them takes.
    """
    try:
        raw = text.encode("ascii") if isinstance(text, str) else text
        with _collector_paused():
            cut = without_measurements(raw)
            if cut is None:
                return None
            document, texts = cut
            digest = _meanwhile(functools.partial(_digest_of_text, raw, document))
            frame = {"subject": document["subject"], "plan": document["plan"]}
            outcomes = zip(document["outcomes"], texts, strict=True)
            unread = [_unread(outcome, part, frame, where) for outcome, part in outcomes]
            evidence: Evidence = _adapter(Evidence).validate_python(document)
        if evidence.schema != SCHEMA_ID or not evidence.digest or evidence.digest != digest():
            return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return dataclasses.replace(
        evidence,
        outcomes=tuple(
            dataclasses.replace(outcome, measurements=part)
            for outcome, part in zip(evidence.outcomes, unread, strict=True)
        ),
    )


def _unread(outcome: dict[str, Any], texts: Texts, frame: dict[str, Any], where: str) -> Unread:
    """The measurements of an ``outcome`` as they were written; what they share is taken out of it.

    They are read later as part of evidence with the same ``frame``: its reader is there, and one for outcomes alone
    would take a twentieth of a gate's time to make.
    """
    shared = outcome.pop("quantities", {})
    head: dict[str, Any] = {key: outcome[key] for key in ("analyzer", "version", "status", "reason") if key in outcome}
    if not (shared is None or isinstance(shared, dict)):
        raise TypeError("not as this release writes it")

    def build(read: Callable[[], list[dict[str, Any]]]) -> Sequence[Measurement]:
        try:
            with _collector_paused():
                parts = read()
                names = {part["name"] for part in parts}
                quantities = {name: shared[name] for name in names if name in shared} if shared else {}
                alone = {**frame, "outcomes": [{**head, "measurements": parts, "quantities": quantities}]}
                evidence: Evidence = _adapter(Evidence).validate_python(alone)
                return evidence.outcomes[0].measurements
        except (ValueError, TypeError, KeyError) as error:
            raise _not_valid(error, where) from error

    return Unread(texts, build)


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
