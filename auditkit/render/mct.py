"""Evidence as the JSON of Google's model-card-toolkit, schema v0.0.2."""

from __future__ import annotations

import json
from typing import Any

from auditkit.core.evidence import DataFacts, Evidence, Measurement
from auditkit.core.verdict import Verdict
from auditkit.render.shared import audit_date, card_text, known, metric_words, shared_copy, slice_words
from auditkit.render.text import clean


def render_mct(evidence: Evidence, verdict: Verdict | None = None) -> str:
    """The card as JSON that model-card-toolkit reads.

    Its metrics have no place for a missing value, so that only numbers that exist and can be relied upon are written;
    values and bounds are strings, as its schema wants them. The verdict stands among the limitations.

    Args:
        evidence: The evidence, complete or redacted; only what its shared copy holds is written.
        verdict: What a policy says about it, if there is one.

    Source: model_card_toolkit/schema/v0.0.2/model_card.schema.json.
    """
    shared, judged = shared_copy(evidence, verdict)
    subject = shared.subject
    details: dict[str, Any] = {"name": card_text(shared, "title") or clean(subject.name)}
    _add(details, "overview", card_text(shared, "summary"))
    owner, contact = card_text(shared, "owner"), card_text(shared, "contact")
    if owner or contact:
        details["owners"] = [{key: text for key, text in (("name", owner), ("contact", contact)) if text}]
    version: dict[str, str] = {}
    _add(version, "name", card_text(shared, "version"))
    _add(version, "date", audit_date(shared))
    if version:
        details["version"] = version
    if card_text(shared, "license"):
        details["licenses"] = [{"custom_text": card_text(shared, "license")}]
    details["documentation"] = f"Evidence {clean(shared.digest)}"
    data = [_data("Evaluation data", subject.test)]
    if subject.train is not None:
        data.append(_data("Training data", subject.train))
    document = {
        "schema_version": "0.0.2",
        "model_details": details,
        "model_parameters": {
            "model_architecture": clean(subject.model_kind),
            "data": data,
            "input_format": clean(subject.test.modality),
            "input_format_map": [{"key": clean(f.name), "value": clean(f.kind)} for f in subject.test.features],
            "output_format": clean(subject.score_space or "label"),
        },
        "quantitative_analysis": {"performance_metrics": [_metric(m) for m in known(shared)]},
        "considerations": _considerations(shared, judged),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _add(target: dict[str, Any], key: str, text: str) -> None:
    if text:
        target[key] = text


def _data(name: str, facts: DataFacts) -> dict[str, Any]:
    found: dict[str, Any] = {"name": f"{name}, {facts.n_rows:,} rows"}
    if facts.sensitive:
        found["sensitive"] = {"sensitive_data": [clean(column) for column in facts.sensitive]}
    return found


def _metric(measurement: Measurement) -> dict[str, Any]:
    told: dict[str, Any] = {"type": metric_words(measurement), "value": repr(float(measurement.value or 0.0))}
    _add(told, "slice", slice_words(measurement))
    if measurement.interval is not None:
        told["confidence_interval"] = {
            "lower_bound": repr(float(measurement.interval.low)),
            "upper_bound": repr(float(measurement.interval.high)),
        }
    return told


def _considerations(evidence: Evidence, verdict: Verdict | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, key in (("use_cases", "intended_use"), ("limitations", "limitations"), ("tradeoffs", "recommendations")):
        if card_text(evidence, key):
            found[name] = [{"description": card_text(evidence, key)}]
    limits = found.setdefault("limitations", [])
    if card_text(evidence, "out_of_scope"):
        limits.append({"description": card_text(evidence, "out_of_scope")})
    if verdict is not None:
        limits.append({"description": clean(f"Audit verdict: {verdict.state}. {verdict.summary}")})
    limits += [{"description": clean(f"Not measured: {o.analyzer}: {o.reason}")} for o in evidence.unmeasured()]
    if card_text(evidence, "ethical_considerations"):
        found["ethical_considerations"] = [{"name": card_text(evidence, "ethical_considerations")}]
    return {key: value for key, value in found.items() if value}
