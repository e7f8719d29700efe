"""Evidence as a Hugging Face model card: ``model-index`` in the front matter, the Markdown card below it."""

from __future__ import annotations

import json
import re
from typing import Any

from auditkit.core.evidence import Evidence, Measurement
from auditkit.core.verdict import Verdict
from auditkit.render.markdown import render_markdown
from auditkit.render.shared import card_text, known, metric_words, shared_copy, slice_words
from auditkit.render.text import clean

_TASKS = {
    ("tabular", "regression"): "tabular-regression",
    ("tabular", "classification"): "tabular-classification",
    ("image", "classification"): "image-classification",
    ("text", "classification"): "text-classification",
}
_HEADLINES = frozenset({"performance", "fairness", "robustness", "privacy"})
_LIBRARIES = {"scikit-learn": "sklearn", "torch": "pytorch"}


def render_huggingface(evidence: Evidence, verdict: Verdict | None = None) -> str:
    """A ``README.md`` for the Hub.

    ``model-index`` holds performance, fairness, robustness and privacy on all rows, and every disparity, with interval
    and n as ``args``; numbers by group, and those of the other families, stand in the text. The front matter is
    written as JSON, which every YAML reader takes.

    Args:
        evidence: The evidence, complete or redacted; only what its shared copy holds is written.
        verdict: What a policy says about it, if there is one.

    Source: Hugging Face Hub documentation, Model cards, metadata specification.
    """
    shared, _ = shared_copy(evidence, verdict)
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in _front(shared, verdict).items()]
    return "\n".join(["---", *lines, "---", "", render_markdown(shared, verdict)])


def _front(evidence: Evidence, verdict: Verdict | None) -> dict[str, Any]:
    subject = evidence.subject
    task = _task(evidence)
    front: dict[str, Any] = {"tags": ["auditkit", "model-audit", *([f"audit-{verdict.state}"] if verdict else [])]}
    if task:
        front["pipeline_tag"] = task
    library = next((tag for package, tag in _LIBRARIES.items() if package in subject.versions), None)
    if library:
        front["library_name"] = library
    license_name = card_text(evidence, "license")
    if license_name:
        front |= {"license": "other", "license_name": _slug(license_name)}
    name = card_text(evidence, "title") or clean(subject.name) or "model"
    headline = [m for m in known(evidence) if not m.slice and m.family in _HEADLINES]
    if headline:
        result = {
            "task": {"type": task or "other", "name": subject.task},
            "dataset": {"type": "private-test-set", "name": f"Evaluation data, {subject.test.n_rows:,} rows"},
            "metrics": [_metric(m) for m in headline],
        }
        front["model-index"] = [{"name": name, "results": [result]}]
    return front


def _task(evidence: Evidence) -> str | None:
    kind = "regression" if evidence.subject.task == "regression" else "classification"
    return _TASKS.get((evidence.subject.test.modality, kind))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-") or "other"


def _metric(measurement: Measurement) -> dict[str, Any]:
    words = metric_words(measurement)
    where = slice_words(measurement)
    args: dict[str, Any] = {clean(key): value for key, value in sorted(measurement.params.items())}
    if measurement.over:
        args["over"] = [clean(column) for column in measurement.over]
    if measurement.interval is not None:
        args |= {
            "low": measurement.interval.low,
            "high": measurement.interval.high,
            "level": measurement.interval.level,
        }
    if measurement.n is not None:
        args["n"] = measurement.n
    return {
        "type": clean(measurement.name),
        "name": f"{words}, {where}" if where else words,
        "value": measurement.value,
        **({"args": _plain(args)} if args else {}),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return clean(value) if isinstance(value, str) else value
