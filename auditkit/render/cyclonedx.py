"""Evidence and verdict as a CycloneDX ML-BOM: a model card in the bill of materials, the verdict as declarations."""

from __future__ import annotations

import json
import uuid
from typing import Any

from auditkit import __version__
from auditkit.core.evidence import DataFacts, Evidence, Measurement
from auditkit.core.verdict import RuleResult, Verdict
from auditkit.render.shared import audit_date, card_text, known, metric_words, shared_copy, slice_words
from auditkit.render.text import clean

SPECS = ("1.6", "1.7")
_MODEL, _ASSESSOR, _EVIDENCE, _POLICY = "model", "assessor", "evidence", "policy"
_TASKS = {"binary": "binary classification", "multiclass": "multiclass classification", "regression": "regression"}


def render_cyclonedx(evidence: Evidence, verdict: Verdict | None = None, spec: str = "1.6") -> str:
    """The bill of materials as JSON.

    The model is the component described; its ``modelCard`` holds every measurement that has a value and can be relied
    upon. The policy's rules are the requirements of a standard, the verdict on each is a claim: conformance 1 for a
    passed rule and 0 for a failed one. A rule that could not be settled, that is in error, or whose failure is waived
    has no score and says so.

    Args:
        evidence: The evidence, complete or redacted; only what its shared copy holds is written.
        verdict: What a policy says about it, if there is one.
        spec: CycloneDX version, one of :data:`SPECS`.

    Source: ECMA-424, CycloneDX 1.6 and 1.7: modelCard, declarations, definitions.
    """
    shared, judged = shared_copy(evidence, verdict)
    date = audit_date(shared)
    bom: dict[str, Any] = {
        "$schema": f"http://cyclonedx.org/schema/bom-{spec}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": spec,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, 'auditkit:' + shared.digest)}",
        "version": 1,
        "metadata": {
            **({"timestamp": f"{date}T00:00:00Z"} if date else {}),
            "tools": {"components": [{"type": "application", "name": "auditkit", "version": __version__}]},
            "component": _model(shared, judged),
            "properties": [
                {"name": "auditkit:evidence", "value": clean(shared.digest)},
                {"name": "auditkit:schema", "value": clean(shared.schema)},
                {"name": "auditkit:seed", "value": str(shared.plan.seed)},
            ],
        },
        "components": [_data(facts, ref, title) for ref, title, facts in _splits(shared)],
    }
    if judged is not None and judged.results:
        bom["declarations"] = _declarations(shared, judged)
        bom["definitions"] = {"standards": [_standard(judged)]}
    return json.dumps(bom, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _splits(evidence: Evidence) -> list[tuple[str, str, DataFacts]]:
    found = [("data-test", "Evaluation data", evidence.subject.test)]
    if evidence.subject.train is not None:
        found.append(("data-train", "Training data", evidence.subject.train))
    return found


def _hashes(fingerprint: str | None) -> dict[str, Any]:
    """``hashes`` of a ``sha256:`` fingerprint."""
    kind, _, digest = (fingerprint or "").partition(":")
    if kind != "sha256" or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        return {}
    return {"hashes": [{"alg": "SHA-256", "content": digest}]}


def _model(evidence: Evidence, verdict: Verdict | None) -> dict[str, Any]:
    subject = evidence.subject
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": card_text(evidence, "title") or clean(subject.name) or "model",
        **_hashes(subject.model_fingerprint),
    }
    if card_text(evidence, "summary"):
        component["description"] = card_text(evidence, "summary")
    if card_text(evidence, "license"):
        component["licenses"] = [{"license": {"name": card_text(evidence, "license")}}]
    component["modelCard"] = {
        "bom-ref": "model-card",
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": _TASKS.get(subject.task, clean(subject.task)),
            "modelArchitecture": clean(subject.model_kind),
            "datasets": [{"ref": ref} for ref, _, _ in _splits(evidence)],
            "inputs": [{"format": f"{clean(f.name)}: {clean(f.kind)}"} for f in subject.test.features]
            or [{"format": clean(subject.test.modality)}],
            "outputs": [{"format": clean(subject.score_space or "label")}],
        },
        "quantitativeAnalysis": {"performanceMetrics": [_metric(m) for m in known(evidence)]},
        "considerations": _considerations(evidence, verdict),
    }
    return component


def _metric(measurement: Measurement) -> dict[str, Any]:
    told: dict[str, Any] = {"type": metric_words(measurement), "value": repr(float(measurement.value or 0.0))}
    where = slice_words(measurement)
    if where:
        told["slice"] = where
    if measurement.interval is not None:
        told["confidenceInterval"] = {
            "lowerBound": repr(float(measurement.interval.low)),
            "upperBound": repr(float(measurement.interval.high)),
        }
    return told


def _considerations(evidence: Evidence, verdict: Verdict | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, keys in (("useCases", ("intended_use",)), ("technicalLimitations", ("limitations", "out_of_scope"))):
        texts = [text for text in (card_text(evidence, key) for key in keys) if text]
        if texts:
            found[name] = texts
    ethics = card_text(evidence, "ethical_considerations")
    if ethics:
        found["ethicalConsiderations"] = [{"name": ethics}]
    risks = [_risk(r) for r in verdict.results if _concerns_groups(r)] if verdict else []
    if risks:
        found["fairnessAssessments"] = risks
    return found


def _concerns_groups(result: RuleResult) -> bool:
    return result.metric.startswith("fairness.") and result.state != "pass"


def _risk(result: RuleResult) -> dict[str, str]:
    told = {
        "groupAtRisk": "; ".join(clean(c.label) for c in result.comparisons if c.state != "pass") or clean(result.id),
        "harms": clean(f"{result.id}, {result.state}: {result.message}"),
    }
    if result.waiver is not None:
        told["mitigationStrategy"] = clean(f"waived until {result.waiver.expires}: {result.waiver.reason}")
    return told


def _data(facts: DataFacts, ref: str, title: str) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "dataset", "name": title, "description": f"{facts.n_rows:,} rows"}
    if facts.sensitive:
        content["sensitiveData"] = [clean(column) for column in facts.sensitive]
    return {"type": "data", "bom-ref": ref, "name": title, **_hashes(facts.fingerprint), "data": [content]}


def _declarations(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    owner = card_text(evidence, "owner") or "the model's owner"
    return {
        "assessors": [{"bom-ref": _ASSESSOR, "thirdParty": False, "organization": {"name": owner}}],
        "attestations": [
            {
                "summary": clean(verdict.summary),
                "assessor": _ASSESSOR,
                "map": [_attested(result, position) for position, result in enumerate(verdict.results)],
            }
        ],
        "claims": [_claim(result, position) for position, result in enumerate(verdict.results)],
        "evidence": [
            {
                "bom-ref": _EVIDENCE,
                "propertyName": "auditkit:evidence",
                "description": f"Measurements by auditkit {__version__}, shared copy {clean(evidence.digest)}",
            }
        ],
    }


def _attested(result: RuleResult, position: int) -> dict[str, Any]:
    side = {"pass": "claims", "fail": "counterClaims"}.get(result.state)
    conformance: dict[str, Any] = {"rationale": clean(f"{result.state}: {result.message}")}
    if side:
        conformance["score"] = 1 if result.state == "pass" else 0
    told: dict[str, Any] = {"requirement": f"rule-{position}", "conformance": conformance}
    if side:
        told[side] = [f"claim-{position}"]
        told["confidence"] = {"score": result.confidence, "rationale": _confidence(result)}
    return told


def _confidence(result: RuleResult) -> str:
    if result.decide == "point":
        return "decided on the point estimate; this is not a probability that the rule holds"
    return "two-sided confidence of the intervals decided on; this is not a probability that the rule holds"


def _claim(result: RuleResult, position: int) -> dict[str, Any]:
    against = result.state in ("fail", "waived")
    return {
        "bom-ref": f"claim-{position}",
        "target": _MODEL,
        "predicate": _requirement(result),
        "reasoning": clean(f"{result.state}: {result.message}"),
        "counterEvidence" if against else "evidence": [_EVIDENCE],
    }


def _requirement(result: RuleResult) -> str:
    return clean(f"{result.compare} of {result.metric} {result.limit}" if result.metric else result.id)


def _standard(verdict: Verdict) -> dict[str, Any]:
    return {
        "bom-ref": _POLICY,
        "name": clean(verdict.policy) or "audit policy",
        "requirements": [
            {
                "bom-ref": f"rule-{position}",
                "identifier": clean(result.id),
                "text": _requirement(result),
                **({"descriptions": [clean(result.reason)]} if result.reason else {}),
            }
            for position, result in enumerate(verdict.results)
        ],
    }
